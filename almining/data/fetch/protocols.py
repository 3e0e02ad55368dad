"""The papers' protocols by name: what a paper starts with, made of a set that is fully labelled.

Each is a regime of `data.regimes` with the paper's numbers; `cut` writes its COCO file beside that
of the split. Notebooks: those of the five papers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from almining.data.fetch.coco import VOC_NAMES
from almining.data.fetch.download import FetchError, full_disk_said
from almining.data.fetch.prepare import pool_of
from almining.data.fetch.sets import IMAGES
from almining.data.pool import Pool
from almining.data.regimes import (
    Level,
    seeds_and_tags,
    source_target,
    sparse,
    tags_only,
    unlabelled,
)
from almining.data.writers import write_coco

Protocol = Callable[[Pool, int], Pool]
NOTE_SEEDS = (12, 33, 55, 76, 96)  # images per class, §4.2
ILSVRC_SOURCES = 100  # the first classes in alphabetical order, §4.2
ILSVRC_SEEDS = 15  # the paper: 10 to 20 images per class


def _sparse(level: Level, pool: Pool, seed: int) -> Pool:
    return sparse(pool, level, seed=seed)


def _share(share: float, pool: Pool, seed: int) -> Pool:
    return unlabelled(pool, keep=round(share * len(pool)), seed=seed)


def _tags(pool: Pool, seed: int) -> Pool:
    return tags_only(pool)


def _voc_side(side: int, pool: Pool, seed: int) -> Pool:
    return source_target(pool, VOC_NAMES)[side]


def _seeds(per_class: int, pool: Pool, seed: int) -> Pool:
    return seeds_and_tags(_voc_side(1, pool, seed), per_class, seed=seed)


def _alphabet_side(side: int, pool: Pool, seed: int) -> Pool:
    return source_target(pool, sorted(pool.classes)[:ILSVRC_SOURCES])[side]


def _ilsvrc_seeds(pool: Pool, seed: int) -> Pool:
    return seeds_and_tags(_alphabet_side(1, pool, seed), ILSVRC_SEEDS, seed=seed)


# name: what it is for, what makes it
PROTOCOLS: dict[str, tuple[str, Protocol]] = {
    **{
        f"sparse-{level}": (f"Co-mining §4.1, the {level} set", partial(_sparse, level))
        for level in get_args(Level)
        if level != "full"
    },
    "tags": ("BiB §4.1, what training starts from", _tags),
    **{
        f"labelled-{share}%": (f"SSM §4, {share}% labelled", partial(_share, share / 100))
        for share in (5, 10)
    },
    "voc-classes": ("NOTE-RCNN §4.2, source classes of COCO", partial(_voc_side, 0)),
    "other-classes": ("NOTE-RCNN §4.2, target classes of COCO", partial(_voc_side, 1)),
    **{
        f"seeds-{n}": (f"NOTE-RCNN §4.2, {n} seed images per target class", partial(_seeds, n))
        for n in NOTE_SEEDS
    },
    "first-100": ("NOTE-RCNN §4.2, source classes of ILSVRC", partial(_alphabet_side, 0)),
    "last-100": ("NOTE-RCNN §4.2, target classes of ILSVRC", partial(_alphabet_side, 1)),
    "last-100-seeds": ("NOTE-RCNN §4.2, 15 seed images per target class", _ilsvrc_seeds),
}


def protocol(name: str, pool: Pool, *, seed: int) -> Pool:
    """Return a pool as a paper's protocol starts with it.

    Args:
        name: one of `PROTOCOLS`.
        pool: of complete images.
        seed: decides what is hidden, where anything is drawn.

    Raises:
        ValueError: for an unknown name, or a pool that the protocol cannot be made from.

    >>> from almining.data.scenes import make_scenes
    >>> protocol("labelled-10%", make_scenes(20, seed=0), seed=0)
    Pool(20: 2 complete, 18 unlabelled)
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol = {name!r}: give one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name][1](pool, seed)


def cut(
    root: str | os.PathLike[str], split: str, name: str, *, seed: int, progress: bool = True
) -> Path:
    """Return the COCO file of a split under a protocol; written unless it is there.

    Args:
        root: the folder of the set, prepared.
        split: the name of one of its splits.
        name: one of `PROTOCOLS`.
        seed: decides what is hidden.
        progress: whether to show a bar.

    Raises:
        FetchError: when the split is not there, or the protocol cannot be made from it.
    """
    path = Path(root).resolve() / f"{split}_{name}_seed{seed}.json"
    if path.is_file():
        return path
    try:
        made = protocol(name, pool_of(root, split), seed=seed)
    except ValueError as error:
        raise FetchError(f"{split} under {name}: {error}") from error
    with full_disk_said(str(path)):
        write_coco(made, path, images=path.parent / IMAGES, progress=progress)
    return path
