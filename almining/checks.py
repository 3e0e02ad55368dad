"""Checks shared by the records and by what makes pools.

Each raises a `ValueError` that names the field, the row, the value and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import torch
from torch import Tensor

HUMAN = "human"
MINED = "mined"


def check_whole(
    value: object, name: str, low: int, high: float = float("inf"), remedy: str = ""
) -> int:
    """Return a whole number from `low` to `high`; `remedy` ends the message of what is none.

    Args:
        value: what is to be checked; numpy's integers count, booleans do not.
        name: how the message calls it.
        low: the least.
        high: the greatest.
        remedy: what follows "must be a whole number of at least ...".

    >>> check_whole(3, "images", 0)
    3
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} = {value!r} must be a whole number of at least {low}{remedy}")
    return int(value)  # type: ignore[call-overload]


def check_boxes(boxes: object, name: str) -> None:
    """Raise unless `boxes` is a well-formed (n, 4) float32 tensor; the first bad row is named.

    Args:
        boxes: what is to be checked.
        name: how the message calls it, such as `"Target.boxes"`.
    """
    if not isinstance(boxes, Tensor):
        raise ValueError(
            f"{name} must be a float32 tensor (n, 4), got {type(boxes).__name__}; "
            "use torch.tensor(...)"
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name} must have shape (n, 4), got {tuple(boxes.shape)}; "
            "no boxes are torch.zeros(0, 4)"
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
            f"{name}[{row}] = {boxes[row].tolist()}: {why}; boxes are x1 y1 x2 y2 in pixels, "
            "so convert other formats (x y w h, for one) and drop broken boxes first"
        )


def check_image(image: object, name: str) -> None:
    """Raise unless `image` is float32 (3, h, w) with h, w > 0.

    The values are not looked at: the pool's tests do that.

    Args:
        image: what is to be checked.
        name: how the message calls it, such as `"images[2]"` or an image id.
    """
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        shown = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"{name} must be a float32 tensor (3, h, w), got {shown}; "
            "repeat one-channel images three times"
        )
    if image.dtype != torch.float32:
        raise ValueError(
            f"{name} must be float32 in [0, 1], got {image.dtype}; divide uint8 images by 255"
        )


def check_vector(values: object, n: int, dtype: torch.dtype, name: str) -> None:
    """Raise unless `values` is a tensor (n,) of this dtype.

    Args:
        values: what is to be checked.
        n: the number of boxes.
        dtype: what the tensor must hold.
        name: how the message calls it.
    """
    if not isinstance(values, Tensor):
        raise ValueError(
            f"{name} must be a {dtype} tensor ({n},), got {type(values).__name__}; "
            "use torch.tensor(...)"
        )
    if tuple(values.shape) != (n,):
        raise ValueError(f"{name} must have shape ({n},), one per box, got {tuple(values.shape)}")
    if values.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}, got {values.dtype}; convert with .to({dtype})")


def check_labels(labels: object, n: int, name: str) -> None:
    """Raise unless `labels` is an int64 tensor (n,) of class numbers, 1 and up.

    Args:
        labels: what is to be checked.
        n: the number of boxes.
        name: how the message calls it.
    """
    check_vector(labels, n, torch.int64, name)
    if isinstance(labels, Tensor) and n and int(labels.min()) < 1:
        row = int((labels < 1).nonzero()[0])
        raise ValueError(
            f"{name}[{row}] = {int(labels[row])}: labels are 1...C, 0 is background; "
            "drop or renumber it"
        )


def check_matrix(values: object, n: int, name: str) -> None:
    """Raise unless `values` is a finite floating tensor (n, d).

    Args:
        values: what is to be checked.
        n: the number of boxes.
        name: how the message calls it.
    """
    if (
        not isinstance(values, Tensor)
        or values.ndim != 2
        or values.shape[0] != n
        or not values.is_floating_point()
    ):
        shown = (
            f"{values.dtype} {tuple(values.shape)}"
            if isinstance(values, Tensor)
            else type(values).__name__
        )
        raise ValueError(f"{name} must be a floating tensor ({n}, d), one row per box, got {shown}")
    finite = values.isfinite().all(dim=1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"{name}[{row}] is not finite; find where the detector produced it, "
            "nothing is replaced here"
        )


def check_probs(probs: Tensor, labels: Tensor) -> None:
    """Raise unless `Detections.probs` are probabilities with a column for every label.

    Args:
        probs: a finite matrix (n, C + 1).
        labels: (n,), class numbers.
    """
    if not len(probs):
        return
    low, high = float(probs.min()), float(probs.max())
    if low < -1e-5 or high > 1 + 1e-5:
        raise ValueError(
            f"Detections.probs span [{low:g}, {high:g}]; probabilities are needed, not logits"
        )
    if int(labels.max()) >= probs.shape[1]:
        raise ValueError(
            f"Detections.labels reach {int(labels.max())} but probs have {probs.shape[1]} columns, "
            "background included; give C + 1 columns"
        )


def check_text(value: object, name: str) -> None:
    """Raise unless `value` is a string that is not empty.

    Args:
        value: what is to be checked.
        name: how the message calls it.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} = {value!r}: a non-empty string is needed")


def check_choice(value: object, known: tuple[str, ...], name: str) -> None:
    """Raise unless `value` is one of the known strings.

    Args:
        value: what is to be checked.
        known: what it may be.
        name: how the message calls it.
    """
    if value not in known:
        raise ValueError(f"{name} = {value!r}: use one of {', '.join(known)}")


def check_class(value: object, name: str) -> None:
    """Raise unless `value` is a class number, 1 and up.

    Args:
        value: what is to be checked.
        name: how the message calls it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} = {value!r}: class numbers are whole, 1...C, 0 is background")


def check_one_box(box: object, name: str) -> None:
    """Raise unless `box` is one well-formed box, a float32 tensor (4,).

    Args:
        box: what is to be checked.
        name: how the message calls it.
    """
    if not isinstance(box, Tensor) or tuple(box.shape) != (4,):
        shown = tuple(box.shape) if isinstance(box, Tensor) else type(box).__name__
        raise ValueError(f"{name} must be one float32 box (4,), got {shown}")
    check_boxes(box[None], name)


def class_set(values: Iterable[int] | None, name: str) -> frozenset[int] | None:
    """Return class numbers as a set, or None as it is; raise when one is below 1.

    Args:
        values: class numbers, or None.
        name: how the message calls them.
    """
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: a set of class numbers is needed, or None")
    found = frozenset(value.item() if isinstance(value, Tensor) else value for value in values)
    for value in found:
        check_class(value, f"{name} holds {value!r}; {name}")
    return found


def origins(origin: Iterable[str] | None, n: int) -> tuple[str, ...]:
    """Return the origin of each of n boxes; all `"human"` by default.

    Args:
        origin: `"human"`, `"mined"` or `"mined:<method>:<cycle>"` for each box, or None.
        n: the number of boxes.
    """
    if origin is None:
        return (HUMAN,) * n
    if isinstance(origin, str):
        raise ValueError(
            f"Target.origin must be {n} strings, one per box, got the single string {origin!r}"
        )
    found = tuple(origin)
    if len(found) != n:
        raise ValueError(f"Target.origin must be {n} strings, one per box, got {len(found)}")
    for row, text in enumerate(found):
        if text not in (HUMAN, MINED) and not (
            isinstance(text, str) and text.startswith(MINED + ":")
        ):
            raise ValueError(
                f"Target.origin[{row}] = {text!r}: use 'human', 'mined' or 'mined:<method>:<cycle>'"
            )
    return found
