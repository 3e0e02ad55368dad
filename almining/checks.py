"""Checks shared by the records: each raises a `ValueError` that names the field, the row, the value and what to do."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

HUMAN = "human"
MINED = "mined"


def check_boxes(boxes: object, name: str) -> None:
    """Raise a `ValueError` that names the first bad row unless `boxes` is a well-formed (n, 4) float32 tensor.

    Args:
        boxes: what is to be checked.
        name: how the message calls it, such as `"Target.boxes"`.
    """
    if not isinstance(boxes, Tensor):
        raise ValueError(f"{name} must be a float32 tensor (n, 4), got {type(boxes).__name__}; use torch.tensor(...)")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name} must have shape (n, 4), got {tuple(boxes.shape)}; no boxes are torch.zeros(0, 4)"
        )
    if boxes.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, got {boxes.dtype}; call .float()")
    if not len(boxes):
        return
    finite = boxes.isfinite().all(dim=1)
    ordered = (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])
    good = finite & ordered
    if not bool(good.all()):
        row = int((~good).nonzero()[0])
        why = "x2 >= x1 and y2 >= y1 are required" if finite[row] else "coordinates must be finite"
        raise ValueError(
            f"{name}[{row}] = {boxes[row].tolist()}: {why}; boxes are x1 y1 x2 y2 in pixels, so convert other formats "
            "(x y w h, for one) and drop broken boxes first"
        )


def check_image(image: object, name: str) -> None:
    """Raise a `ValueError` unless `image` is float32 (3, h, w) with h, w > 0; values are looked at by the pool's tests.

    Args:
        image: what is to be checked.
        name: how the message calls it, such as `"images[2]"` or an image id.
    """
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        shown = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"{name} must be a float32 tensor (3, h, w), got {shown}; repeat one-channel images three times")
    if image.dtype != torch.float32:
        raise ValueError(f"{name} must be float32 in [0, 1], got {image.dtype}; divide uint8 images by 255")


def check_vector(values: object, n: int, dtype: torch.dtype, name: str) -> None:
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a {dtype} tensor ({n},), got {type(values).__name__}; use torch.tensor(...)")
    if tuple(values.shape) != (n,):
        raise ValueError(f"{name} must have shape ({n},), one per box, got {tuple(values.shape)}")
    if values.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}, got {values.dtype}; convert with .to({dtype})")


def check_labels(labels: object, n: int, name: str) -> None:
    check_vector(labels, n, torch.int64, name)
    if isinstance(labels, Tensor) and n and int(labels.min()) < 1:
        row = int((labels < 1).nonzero()[0])
        raise ValueError(f"{name}[{row}] = {int(labels[row])}: labels are 1...C, 0 is background; drop or renumber it")


def check_matrix(values: object, n: int, name: str) -> None:
    if not isinstance(values, Tensor) or values.ndim != 2 or values.shape[0] != n or not values.is_floating_point():
        shown = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a floating tensor ({n}, d), one row per box, got {shown}")
    finite = values.isfinite().all(dim=1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name}[{row}] is not finite; find where the detector produced it, nothing is replaced here")


def class_set(values: Iterable[int] | None, name: str) -> frozenset[int] | None:
    if values is None:
        return None
    found = frozenset(int(value) for value in values)
    if found and min(found) < 1:
        raise ValueError(f"{name} = {sorted(found)}: class numbers are 1...C, 0 is background")
    return found


def origins(origin: Iterable[str] | None, n: int) -> tuple[str, ...]:
    if origin is None:
        return (HUMAN,) * n
    if isinstance(origin, str):
        raise ValueError(f"Target.origin must be {n} strings, one per box, got the single string {origin!r}")
    found = tuple(origin)
    if len(found) != n:
        raise ValueError(f"Target.origin must be {n} strings, one per box, got {len(found)}")
    for row, text in enumerate(found):
        if text not in (HUMAN, MINED) and not (isinstance(text, str) and text.startswith(MINED + ":")):
            raise ValueError(
                f"Target.origin[{row}] = {text!r}: use 'human', 'mined' or 'mined:<method>:<cycle>'"
            )
    return found
