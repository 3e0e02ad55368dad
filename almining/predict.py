"""Streamed scoring: a detector over a pool, batch by batch.

Images are dropped as soon as they are scored. A broken one is set aside and scoring goes on without
it, until more than one in a hundred is broken. In several ranks the batches are those of a single
process, each scored by one rank and yielded by all, in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from torch import Tensor

from almining import interrupts, ranks
from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.data.quarantine import CURRENT, Quarantine
from almining.detectors.base import device_of, embed
from almining.digests import digest_tensors, digest_texts
from almining.loader import ahead
from almining.plain import to_plain
from almining.progress import bar
from almining.records import Detections
from almining.shards import Shards

Result = TypeVar("Result")
BATCH = 16
AHEAD = 4  # batches a rank scores before the others hear of it


def stream(
    call: Callable[..., Iterable[Result]],
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    beside: Mapping[str, Any] | None = None,
    device: Any = "cpu",
    batch: int = BATCH,
    workers: int = 0,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
    detector: Any = None,
) -> Iterator[tuple[str, Result]]:
    """Yield `(image_id, result)` for each sound image, in order, loading one batch at a time.

    In several ranks, all of them have to call this alike and go through what it yields. A result
    has to be something that `plain` can hold, and its tensors come on the CPU.

    Args:
        call: maps a list of images (3, h, w) on `device` to one result each.
        pool: where the images come from.
        ids: which images; all by default.
        beside: by id, what `call` gets beside each image, as a second list; nothing by default.
        device: where `call` wants them.
        batch: how many images a call gets; fewer where one is broken.
        workers: how many processes load images ahead of time.
        progress: whether to show a progress bar, or what to call it.
        set_aside: gets the broken images. By default the `Quarantine` whose `with` block this
            runs in; where there is none, a warning names them in the end.
        detector: whose weights `call` depends on. When the ranks are started again, results that
            were there already are used; without it everything is scored anew.

    Raises:
        ValueError: for an unknown id, a batch below 1, or a `call` that returns too few or too
            many results.
        DataError: with every broken image so far, when more than the limit of `set_aside` are
            broken; 1% of `ids` by default.
        FloatingPointError: from `call`, with the ids of the batch added; other errors of `call`
            pass with the ids as a note.
        Interrupted: between two batches, after Ctrl-C inside `interrupts.held()`.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: at least one image has to go at a time")
    wanted = list(pool.ids if ids is None else ids)
    given = CURRENT.get() if set_aside is None else set_aside
    aside = Quarantine() if given is None else given
    aside.ask(wanted)
    parts = [wanted[start : start + batch] for start in range(0, len(wanted), batch)]
    scored = partial(_scored, call, device=device, beside=beside)
    try:
        with bar(total=len(wanted), progress=progress, name="score", unit="image") as shown:
            if ranks.current().world == 1:
                yield from _alone(scored, pool, parts, aside, shown, workers)
            else:
                shards = Shards(_key(call, detector, wanted, batch, beside))
                yield from _shared(scored, pool, parts, aside, shown, workers, shards)
    except GeneratorExit:  # the caller has seen enough
        if given is None:
            aside.warn("scoring")
        raise
    if given is None:
        aside.warn("scoring")


def _alone(
    scored: Callable[[list[tuple[str, Any]]], list[tuple[str, Result]]],
    pool: Pool,
    parts: list[list[str]],
    aside: Quarantine,
    shown: Any,
    workers: int,
) -> Iterator[tuple[str, Result]]:
    with closing(_images(pool, parts, aside, workers)) as loaded:
        for part in parts:
            interrupts.check()
            yield from scored(list(_met(part, loaded, aside)))
            shown.update(len(part))


def _shared(
    scored: Callable[[list[tuple[str, Any]]], list[tuple[str, Result]]],
    pool: Pool,
    parts: list[list[str]],
    aside: Quarantine,
    shown: Any,
    workers: int,
    shards: Shards,
) -> Iterator[tuple[str, Result]]:
    """Score this rank's batches and yield those of all, a few at a time."""
    mine = shards.missing(len(parts))
    step = AHEAD * ranks.current().world

    def score(batches: list[int]) -> None:
        for k in batches:
            interrupts.check()
            found = [(image_id, next(loaded)) for image_id in parts[k]]
            broken = [(i, why.args) for i, why in found if isinstance(why, BrokenImageError)]
            shards.write(k, scored(found), broken)
            shown.update(len(parts[k]))

    with closing(_images(pool, [parts[k] for k in mine], aside, workers)) as loaded:
        for start in range(0, len(parts), step):
            batches = range(start, min(start + step, len(parts)))
            ranks.together(score, [k for k in mine if k in batches])
            for k in batches:
                results, broken = shards.read(k)
                for image_id, args in broken:
                    aside.meet(image_id, BrokenImageError(*args))
                yield from ((i, result) for i, result in results if aside.meet(i, None))
                shown.update(0 if k in mine else len(parts[k]))
    shards.done()


def _key(
    call: Callable[..., Any],
    detector: Any,
    wanted: list[str],
    batch: int,
    beside: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what the results depend on; where the weights are not known, on this start alone."""
    weights = ranks.share(uuid4().hex)
    if hasattr(detector, "state_dict"):
        state = detector.state_dict().items()
        weights = digest_tensors((name, one) for name, one in state if isinstance(one, Tensor))
    name = getattr(call, "__qualname__", type(call).__name__)
    more = "" if beside is None else json.dumps([to_plain(beside[i]) for i in wanted])
    ids = digest_texts([*wanted, more])
    return {"call": name, "batch": batch, "weights": weights, "ids": ids}


def _images(
    pool: Pool, parts: list[list[str]], aside: Quarantine, workers: int
) -> Generator[Tensor | BrokenImageError | None, None, None]:
    """Yield what came of loading each image of these batches."""
    wanted = [image_id for part in parts for image_id in part]
    yield from ahead(aside.loader(pool), wanted, workers=workers)


def _met(
    part: list[str], loaded: Iterator[Tensor | BrokenImageError | None], aside: Quarantine
) -> Iterator[tuple[str, Any]]:
    """Yield the sound images of a batch, each noted before the next one is loaded."""
    for image_id in part:
        image = next(loaded)
        error = image if isinstance(image, BrokenImageError) else None
        if image is not None and aside.meet(image_id, error):
            yield image_id, image


def _scored(
    call: Callable[..., Iterable[Result]],
    loaded: list[tuple[str, Any]],
    *,
    device: Any,
    beside: Mapping[str, Any] | None,
) -> list[tuple[str, Result]]:
    """Return the results of the images of one batch, broken ones left out; no image is left."""
    ids = [image_id for image_id, image in loaded if isinstance(image, Tensor)]
    images = [image.to(device) for _, image in loaded if isinstance(image, Tensor)]
    try:
        more = [] if beside is None else [[beside[image_id] for image_id in ids]]
        results = list(call(images, *more)) if images else []
        if len(results) != len(ids):
            raise ValueError(f"{len(results)} results for {len(ids)} images; one each is needed")
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} (images {', '.join(ids)})") from error
    except Exception as error:
        error.add_note(f"while scoring images {', '.join(ids)}")
        raise
    return list(zip(ids, results, strict=True))


def detect(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    workers: int = 0,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
) -> Iterator[tuple[str, Detections]]:
    """Yield `(image_id, Detections)` for each image of a pool; see `stream`."""
    return stream(
        detector.detect,
        pool,
        ids,
        device=device_of(detector),
        batch=batch,
        workers=workers,
        progress=progress,
        set_aside=set_aside,
        detector=detector,
    )


def regions(
    detector: Any,
    pool: Pool,
    boxes: Mapping[str, Tensor],
    *,
    batch: int = BATCH,
    workers: int = 0,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
) -> Iterator[tuple[str, Detections]]:
    """Yield `(image_id, Detections)` of given boxes (n, 4) of some images; see `stream`."""
    return stream(
        detector.regions,
        pool,
        list(boxes),
        beside=boxes,
        device=device_of(detector),
        batch=batch,
        workers=workers,
        progress=progress,
        set_aside=set_aside,
        detector=detector,
    )


def embeddings(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    workers: int = 0,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield `(image_id, vector (d,))` for each image of a pool, on the CPU; see `stream`."""

    def call(images: list[Tensor]) -> Iterable[Tensor]:
        return embed(detector, images).cpu()

    return stream(
        call,
        pool,
        ids,
        device=device_of(detector),
        batch=batch,
        workers=workers,
        progress=progress,
        set_aside=set_aside,
        detector=detector,
    )
