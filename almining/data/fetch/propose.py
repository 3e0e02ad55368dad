"""Region proposals of a whole set, in several processes; what is on the disk is not searched again.

The files are those of `data.proposals.cached`, one an image, so whoever asks the same proposer
about the same image finds them.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.data.proposals import Cached, Proposer, cached
from almining.progress import bar

CHUNK = 8  # images a process takes at a time


@dataclass(frozen=True, slots=True)
class Proposed:
    """What came of it.

    Args:
        images: with proposals.
        boxes: in all.
        searched: images that were not on the disk before.
        broken: what was wrong with images that could not be read.
    """

    images: int
    boxes: int
    searched: int
    broken: tuple[str, ...]


_held: dict[str, tuple[Pool, Cached]] = {}  # of a worker


def propose(
    pool: Pool,
    proposer: Proposer,
    folder: str | os.PathLike[str],
    *,
    processes: int = 1,
    progress: bool | str = True,
) -> Proposed:
    """Return how many proposals a pool's images have; search where there are none yet.

    Interrupted, the next call goes on. An image that cannot be read is left out and named.

    Args:
        pool: the images.
        proposer: asked about each.
        folder: where proposals are kept.
        processes: at a time, with one thread each.
        progress: whether to show a bar.

    Raises:
        ValueError: for no process.

    >>> from almining.data.proposals import Grid
    >>> from almining.data.scenes import make_scenes
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     propose(make_scenes(2, seed=0), Grid(), folder, progress=False)
    Proposed(images=2, boxes=2396, searched=2, broken=())
    """
    if processes < 1:
        raise ValueError(f"processes = {processes}: at least one is needed")
    known = cached(proposer, os.fspath(folder))
    rows = []
    shown = bar(progress=progress, name="proposing", unit="image", total=len(pool))
    with shown:
        if processes == 1:
            for image_id in pool.ids:
                rows.append(_one(pool, known, image_id))
                shown.update()
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, _start, (pool, known)) as executor:
                for row in executor.map(_of_worker, pool.ids, chunksize=CHUNK):
                    rows.append(row)
                    shown.update()
    good = [row for row in rows if not row[2]]
    return Proposed(
        images=len(good),
        boxes=sum(row[0] for row in good),
        searched=sum(row[1] for row in good),
        broken=tuple(row[2] for row in rows if row[2]),
    )


def _one(pool: Pool, known: Cached, image_id: str) -> tuple[int, bool, str]:
    """Return the number of boxes, whether they were searched, and what is wrong with the image."""
    try:
        image = pool.image(image_id)
    except BrokenImageError as error:
        return 0, False, str(error)
    there = known.path(image).exists()
    return len(known(image)), not there, ""


def _start(pool: Pool, known: Cached) -> None:
    torch.set_num_threads(1)
    _held["work"] = (pool, known)


def _of_worker(image_id: str) -> tuple[int, bool, str]:
    return _one(*_held["work"], image_id)
