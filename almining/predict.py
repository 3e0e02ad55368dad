"""Streamed scoring: a detector over a pool, batch by batch.

Images are dropped as soon as they are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor

from almining.data.pool import Pool
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
) -> Iterator[tuple[str, Result]]:
    """Yield `(image_id, result)` for each image, in order, loading one batch at a time.

    Args:
        call: maps a list of images (3, h, w) on `device` to one result each.
        pool: where the images come from.
        ids: which images; all by default.
        device: where `call` wants them.
        batch: how many images a call gets.
        progress: whether to show a progress bar, or what to call it.

    Raises:
        ValueError: for an unknown id or a batch below 1.
        FloatingPointError: from `call`, with the ids of the batch added; other errors of `call`
            pass with the ids as a note.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: at least one image has to go at a time")
    wanted = list(pool.ids if ids is None else ids)
    with bar(total=len(wanted), progress=progress, name="score", unit="image") as shown:
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            images = [pool.image(image_id).to(device) for image_id in part]
            try:
                results = list(call(images))
            except FloatingPointError as error:
                raise FloatingPointError(f"{error} (images {', '.join(part)})") from error
            except Exception as error:
                error.add_note(f"while scoring images {', '.join(part)}")
                raise
            yield from zip(part, results, strict=True)
            shown.update(len(part))


def detect(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    progress: bool | str = True,
) -> Iterator[tuple[str, Detections]]:
    """Yield `(image_id, Detections)` for each image of a pool; see `stream`."""
    return stream(
        detector.detect, pool, ids, device=device_of(detector), batch=batch, progress=progress
    )


def embeddings(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    progress: bool | str = True,
) -> Iterator[tuple[str, Tensor]]:
    """Yield `(image_id, vector (d,))` for each image of a pool, on the CPU; see `stream`."""

    def call(images: list[Tensor]) -> Iterable[Tensor]:
        return embed(detector, images).cpu()

    return stream(call, pool, ids, device=device_of(detector), batch=batch, progress=progress)
