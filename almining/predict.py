"""Streamed scoring: a detector over a pool, batch by batch.

Images are dropped as soon as they are scored. A broken one is set aside and scoring goes on without
it, until more than one in a hundred is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor

from almining.data.pool import Pool
from almining.data.quarantine import CURRENT, Quarantine
from almining.detectors.base import device_of, embed
from almining.progress import bar
from almining.records import Detections

Result = TypeVar("Result")
BATCH = 16


def stream(
    call: Callable[[list[Tensor]], Iterable[Result]],
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    device: Any = "cpu",
    batch: int = BATCH,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
) -> Iterator[tuple[str, Result]]:
    """Yield `(image_id, result)` for each sound image, in order, loading one batch at a time.

    Args:
        call: maps a list of images (3, h, w) on `device` to one result each.
        pool: where the images come from.
        ids: which images; all by default.
        device: where `call` wants them.
        batch: how many images a call gets; fewer where one is broken.
        progress: whether to show a progress bar, or what to call it.
        set_aside: gets the broken images. By default the `Quarantine` whose `with` block this
            runs in; where there is none, a warning names them in the end.

    Raises:
        ValueError: for an unknown id, a batch below 1, or a `call` that returns too few or too
            many results.
        DataError: with every broken image so far, when more than the limit of `set_aside` are
            broken; 1% of `ids` by default.
        FloatingPointError: from `call`, with the ids of the batch added; other errors of `call`
            pass with the ids as a note.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: at least one image has to go at a time")
    wanted = list(pool.ids if ids is None else ids)
    given = CURRENT.get() if set_aside is None else set_aside
    aside = Quarantine() if given is None else given
    try:
        yield from _scored(call, pool, wanted, device, batch, progress, aside)
    except GeneratorExit:  # the caller has seen enough
        if given is None:
            aside.warn("scoring")
        raise
    if given is None:
        aside.warn("scoring")


def _scored(
    call: Callable[[list[Tensor]], Iterable[Result]],
    pool: Pool,
    wanted: list[str],
    device: Any,
    batch: int,
    progress: bool | str,
    aside: Quarantine,
) -> Iterator[tuple[str, Result]]:
    aside.ask(wanted)
    with bar(total=len(wanted), progress=progress, name="score", unit="image") as shown:
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            yield from _called(call, pool, part, device, aside)
            shown.update(len(part))


def _called(
    call: Callable[[list[Tensor]], Iterable[Result]],
    pool: Pool,
    part: list[str],
    device: Any,
    aside: Quarantine,
) -> list[tuple[str, Result]]:
    """Return the results of one batch; no image of it is left."""
    loaded = [(image_id, aside.load(pool, image_id)) for image_id in part]
    ids = [image_id for image_id, image in loaded if image is not None]
    images = [image.to(device) for _, image in loaded if image is not None]
    try:
        results = list(call(images)) if images else []
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
        progress=progress,
        set_aside=set_aside,
    )


def embeddings(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    progress: bool | str = True,
    set_aside: Quarantine | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield `(image_id, vector (d,))` for each image of a pool, on the CPU; see `stream`."""

    def call(images: list[Tensor]) -> Iterable[Tensor]:
        return embed(detector, images).cpu()

    device = device_of(detector)
    return stream(
        call, pool, ids, device=device, batch=batch, progress=progress, set_aside=set_aside
    )
