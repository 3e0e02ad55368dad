"""Arithmetic on boxes: `x1 y1 x2 y2` in absolute pixels, width = x2 - x1.

Empty and degenerate boxes are defined: a box without area overlaps nothing and is contained in
nothing, so no function here divides zero by zero. Formats other than xyxy live in `data.readers`,
`data.writers` and `evaluate`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Return the areas (n,) in square pixels of boxes (n, 4); 0 for a degenerate one.

    >>> area(torch.tensor([[0.0, 0, 2, 3], [1, 1, 1, 5]])).tolist()
    [6.0, 0.0]
    """
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Return the areas (n, m) shared by each box of `a` (n, 4) and each of `b` (m, 4)."""
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])  # (n, m, 2)
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (bottom_right - top_left).clamp(min=0).prod(dim=2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union (n, m) of `a` (n, 4) and `b` (m, 4); 0 where an area is 0.

    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1], [5, 5, 5, 9]])).tolist()
    [[0.5, 0.0]]
    """
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return torch.where(
        shared > 0,
        shared / union.where(union > 0, torch.ones_like(union)),
        torch.zeros_like(shared),
    )


def containment(inner: Tensor, outer: Tensor) -> Tensor:
    """Return the share (n, m) of each inner box (n, 4) that lies inside each outer box (m, 4).

    |inner ∩ outer| / |inner|, and 0 where |inner| is 0.

    >>> containment(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 9, 9]])).tolist()
    [[0.5]]
    """
    shared = intersection(inner, outer)
    size = area(inner)[:, None].expand_as(shared)
    return torch.where(
        shared > 0, shared / size.where(size > 0, torch.ones_like(size)), torch.zeros_like(shared)
    )


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes (n, 4) cut to an image of `size` (height, width).

    A box outside the image keeps no area.

    >>> clip(torch.tensor([[-5.0, 2, 8, 20]]), (10, 6)).tolist()
    [[0.0, 2.0, 6.0, 10.0]]
    """
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limit)


def flip(boxes: Tensor, width: float) -> Tensor:
    """Return boxes (n, 4) mirrored left to right in an image of the given width.

    >>> flip(torch.tensor([[1.0, 2, 3, 4]]), 10).tolist()
    [[7.0, 2.0, 9.0, 4.0]]
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def judge(boxes: Tensor, truth: Tensor, alike: Tensor | None = None) -> list[str]:
    """Say of each box (n, 4) what it is to the true ones (m, 4).

    `"right"`: IoU of at least 0.5 with one; `"group"`: it holds 60% of two or more; `"part"`: 80%
    of it lies in one; `"other"`.

    Args:
        boxes: what was detected.
        truth: what is there.
        alike: (n, m) bool, which may be compared, such as those of one class; all by default.

    >>> truth = torch.tensor([[0.0, 0, 9, 9], [10, 0, 19, 9]])
    >>> judge(torch.tensor([[0.0, 0, 9, 8], [0, 0, 2, 9], [0, 0, 19, 9], [9, 9, 30, 30]]), truth)
    ['right', 'part', 'group', 'other']
    """
    if not len(truth):
        return ["other"] * len(boxes)
    same = torch.ones_like(intersection(boxes, truth)) if alike is None else alike.float()
    right = (iou(boxes, truth) * same).amax(dim=1) >= 0.5
    group = ((containment(truth, boxes).T * same) >= 0.6).sum(dim=1) >= 2
    part = (containment(boxes, truth) * same).amax(dim=1) >= 0.8
    rows = zip(right.tolist(), group.tolist(), part.tolist(), strict=True)
    return ["right" if r else "group" if g else "part" if p else "other" for r, g, p in rows]
