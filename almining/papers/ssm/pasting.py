"""Cutting a region out of its image and pasting it into another one, alone or beside others.

Where a crop lies is drawn anew each time, over all places where it fits. The seam stays as hard as
in the reference code of SSM (Wang et al., CVPR 2018, §3.1) unless one asks what it does: `edge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from almining.checks import check_choice, check_image, check_one_box

Taken = tuple[int, int, int, int]  # left, top, right, bottom

Edge = Literal["hard", "feather", "poisson"]
EDGES: tuple[Edge, ...] = ("hard", "feather", "poisson")
GAP = 4  # pixels between two crops in one image, at least
FEATHER = 4  # pixels over which a crop fades in


class Canvas(NamedTuple):
    """An image that crops were pasted into.

    Args:
        image: (3, h, w).
        rows: which crops.
        boxes: (p, 4) where each of them lies.
    """

    image: Tensor
    rows: list[int]
    boxes: Tensor


def cut(image: Tensor, box: Tensor) -> Tensor:
    """Return the pixels (3, h, w) of an image that a box touches; h or w is 0 where it has no area.

    Args:
        image: (3, H, W).
        box: (4,); what is outside the image is left out.

    >>> cut(torch.zeros(3, 20, 20), torch.tensor([-3.0, 0.5, 4.2, 3.0])).shape
    torch.Size([3, 3, 5])
    """
    check_image(image, "image")
    check_one_box(box, "box")
    x1, y1, x2, y2 = box.tolist()
    if x2 <= x1 or y2 <= y1:
        return image[:, :0, :0]
    top, left = max(0, math.floor(y1)), max(0, math.floor(x1))
    return image[:, top : max(0, math.ceil(y2)), left : max(0, math.ceil(x2))]


def paste(
    crop: Tensor,
    context: Tensor,
    *,
    generator: torch.Generator,
    max_fraction: float = 0.6,
    edge: Edge = "hard",
) -> tuple[Tensor, Tensor]:
    """Return an image with a crop somewhere in it, and the box the crop fills.

    A crop of which a side is above `max_fraction` of the image's is reduced until both fit, its
    shape kept, to no less than one pixel.

    Args:
        crop: (3, h, w).
        context: (3, H, W), left as it is.
        generator: draws the place.
        max_fraction: above 0, at most 1.
        edge: `"hard"`; `"feather"`: the crop fades in over four pixels from its border; or
            `"poisson"`: it keeps its gradients and takes its border's colours from the image.

    Returns:
        (3, H, W) and (4,): the crop lies whole inside.

    Raises:
        ValueError: naming the argument, its shape or its value.

    >>> draws = torch.Generator().manual_seed(0)
    >>> image, box = paste(torch.ones(3, 20, 10), torch.zeros(3, 10, 10), generator=draws)
    >>> (box[2:] - box[:2]).tolist(), float(image.sum()) / 3
    ([3.0, 6.0], 18.0)

    Source: SSM §3.1: "randomly pasted into a certain annotated image".
    Differs: the paper does not say how large. The reference code stretches a crop to 0.6 of the
    image's width and height where it is above that (and, probably by mistake, where it is below
    0.2), and skips an image that is smaller than the crop. `"poisson"` is the seamless cloning of
    Pérez et al. (SIGGRAPH 2003), solved exactly; at the border of the image it matches nothing.
    """
    options: dict[str, Any] = {"max_fraction": max_fraction, "edge": edge}
    (canvas,) = paste_all([crop], context, generator=generator, **options)
    return canvas.image, canvas.boxes[0]


def paste_all(
    crops: Sequence[Tensor],
    context: Tensor,
    *,
    generator: torch.Generator,
    max_fraction: float = 0.6,
    gap: int = GAP,
    edge: Edge = "hard",
) -> list[Canvas]:
    """Return copies of an image, few of them, in one of which each crop lies, apart from others.

    The largest goes first; each goes into the first copy where there is a free place.

    Args:
        crops: n of (3, h, w), each pasted as by `paste`.
        context: (3, H, W).
        generator: draws the places.
        max_fraction: as in `paste`.
        gap: pixels between two crops, at least.
        edge: as in `paste`.
    """
    check_image(context, "context")
    check_choice(edge, EDGES, "edge")
    if not 0 < max_fraction <= 1:
        raise ValueError(f"max_fraction = {max_fraction!r}: above 0 and at most 1 is needed")
    for crop in crops:
        check_image(crop, "crop")
    fitting = [_fit(crop.to(context.device), context, max_fraction) for crop in crops]
    copies: list[tuple[Tensor, list[int], list[Taken]]] = []
    for row in sorted(range(len(crops)), key=lambda row: -fitting[row].numel()):
        height, width = fitting[row].shape[1:]
        places = ((one, _place((height, width), context, one[2], gap, generator)) for one in copies)
        copy, place = next((one for one in places if one[1] is not None), (None, None))
        if copy is None or place is None:
            copy = context.clone(), [], []
            copies.append(copy)
            place = _place((height, width), context, [], gap, generator)
        assert place is not None  # an empty copy has one
        (image, rows, taken), (top, left) = copy, place
        _put(image, fitting[row], context, (top, left), edge)
        rows.append(row)
        taken.append((left, top, left + width, top + height))
    return [
        Canvas(image, rows, torch.tensor(taken, dtype=torch.float32, device=context.device))
        for image, rows, taken in copies
    ]


def paste_at(
    crop: Tensor, context: Tensor, box: Tensor, *, max_fraction: float = 0.6, edge: Edge = "hard"
) -> Tensor:
    """Return an image with a crop where `paste` or `paste_all` once laid it, and nothing else.

    Args:
        crop: (3, h, w), as it was given to them.
        context: (3, H, W), left as it is.
        box: (4,) where it lay.
        max_fraction: as in `paste`.
        edge: as in `paste`.
    """
    left, top = (int(side) for side in box[:2].tolist())
    image, fitting = context.clone(), _fit(crop.to(context.device), context, max_fraction)
    _put(image, fitting, context, (top, left), edge)
    return image


def _put(image: Tensor, crop: Tensor, context: Tensor, place: tuple[int, int], edge: str) -> None:
    """Write a crop that fits into a copy of an image."""
    (top, left), (height, width) = place, crop.shape[1:]
    part = (slice(None), slice(top, top + height), slice(left, left + width))
    image[part] = _blended(crop, context, place, edge)


def _blended(crop: Tensor, context: Tensor, place: tuple[int, int], edge: str) -> Tensor:
    """Return what stands in the image where the crop is pasted."""
    (top, left), (height, width) = place, crop.shape[1:]
    if edge == "hard":
        return crop
    if edge == "feather":
        down, across = (
            torch.minimum(torch.arange(side), torch.arange(side).flip(0)) for side in crop.shape[1:]
        )
        inside = torch.minimum(down[:, None], across).to(crop) + 1
        share = (inside / (FEATHER + 1)).clamp(max=1)
        return crop * share + context[:, top : top + height, left : left + width] * (1 - share)
    pull = torch.zeros_like(crop)  # by the pixels around the crop, where the image has some
    columns, rows = slice(left, left + width), slice(top, top + height)
    if top:
        pull[:, 0] += context[:, top - 1, columns] - crop[:, 0]
    if top + height < context.shape[1]:
        pull[:, -1] += context[:, top + height, columns] - crop[:, -1]
    if left:
        pull[:, :, 0] += context[:, rows, left - 1] - crop[:, :, 0]
    if left + width < context.shape[2]:
        pull[:, :, -1] += context[:, rows, left + width] - crop[:, :, -1]
    return (crop + _membrane(pull)).clamp(0, 1)


def _membrane(pull: Tensor) -> Tensor:
    """Return the field (3, h, w) of which four times each value less its neighbours is `pull`.

    Around it lie zeros. In the sines of its sides the equation falls apart into single numbers.
    """
    waves, speeds = [], []
    for side in pull.shape[1:]:
        k = torch.arange(1, side + 1, dtype=torch.float64, device=pull.device) * math.pi
        steps = torch.arange(1, side + 1, dtype=torch.float64, device=pull.device)
        waves.append((k[:, None] * steps / (side + 1)).sin() * math.sqrt(2 / (side + 1)))
        speeds.append(2 - 2 * (k / (side + 1)).cos())
    (down, across), (rows, columns) = waves, speeds
    field = down @ ((down @ pull.double() @ across) / (rows[:, None] + columns)) @ across
    return field.to(pull)


def _fit(crop: Tensor, context: Tensor, max_fraction: float) -> Tensor:
    """Return the crop, reduced where a side is above `max_fraction` of the image's."""
    sides, limits = crop.shape[1:], [max_fraction * side for side in context.shape[1:]]
    scale = min(limit / side for limit, side in zip(limits, sides, strict=True))
    if scale >= 1:
        return crop
    smaller = [max(1, math.floor(side * scale + 1e-6)) for side in sides]
    return interpolate(crop[None], smaller, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _place(
    size: tuple[int, int],
    context: Tensor,
    taken: list[Taken],
    gap: int,
    generator: torch.Generator,
) -> tuple[int, int] | None:
    """Draw top and left, each free place as likely; None without one."""
    free = torch.ones([c - s + 1 for c, s in zip(context.shape[1:], size, strict=True)]).bool()
    for left, top, right, bottom in taken:
        rows = slice(max(0, top - gap - size[0] + 1), bottom + gap)
        free[rows, max(0, left - gap - size[1] + 1) : right + gap] = False
    places = free.flatten().nonzero()[:, 0]
    if not len(places):
        return None
    drawn = int(places[torch.randint(len(places), (), generator=generator)])
    return divmod(drawn, free.shape[1])
