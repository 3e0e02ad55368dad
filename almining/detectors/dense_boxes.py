"""What a pixel of a map stands for: the default box centred on it. Targets, and boxes from maps.

Map k of an image says at each pixel how probable an object is that fits default box k, centred
there. All overlaps are of what lies inside the image. Boxes are `(height, width)` of an image 480
pixels high, and grow with the height of the image. Left out: regression; the paper has none.

Source: Divergence (Aghdam et al., ICCV 2019) §3, §4 Eq. 7.
Differs: the paper only says that an object "fits properly"; its code takes small rectangles around
an object's centre, on maps whose box overlaps it by 0.7, or most. Here a pixel is positive where
its box overlaps an object by at least 0.7 of the best any pixel of any map reaches, and neither
positive nor negative from 0.4 of it on, so that objects no box fits well count, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from almining.boxes import area, clip
from almining.records import Detections, Target

PAPER = ((270.0, 160.0), (225.0, 130.0), (145.0, 80.0), (80.0, 50.0), (55.0, 31.0))
HEIGHT = 480.0  # of the images those sizes are for
POSITIVE, NEGATIVE = 0.7, 0.4  # shares of an object's best overlap
CANDIDATES = 400  # local maxima of an image that go into non-maximum suppression


def scaled(sizes: Sequence[tuple[float, float]], height: int) -> list[tuple[float, float]]:
    """Return the default boxes (height, width) in an image so many pixels high."""
    return [(h * height / HEIGHT, w * height / HEIGHT) for h, w in sizes]


def overlaps(box: Tensor, sizes: Sequence[tuple[float, float]], size: tuple[int, int]) -> Tensor:
    """Return the IoU (k, h, w) of one box (4,) with each default box at each pixel's centre.

    Of all boxes, what lies inside the image counts; 0 for a box without area there.

    Args:
        box: xyxy.
        sizes: k default boxes (height, width) in this image.
        size: (h, w) of the image.
    """
    x1, y1, x2, y2 = clip(box[None], size)[0].tolist()
    found = box.new_zeros(len(sizes), *size)
    if x2 <= x1 or y2 <= y1:
        return found
    for k, default in enumerate(sizes):
        rows = _along(y1, y2, default[0], size[0], box.device)
        columns = _along(x1, x2, default[1], size[1], box.device)
        shared = rows[0][:, None] * columns[0]
        union = rows[1][:, None] * columns[1] + (x2 - x1) * (y2 - y1) - shared
        found[k] = shared / union
    return found


def _along(
    low: float, high: float, length: float, n: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what an interval shares with the default one at each of n pixels, and its length."""
    centre = torch.arange(n, device=device) + 0.5
    begin, end = (centre - length / 2).clamp(min=0), (centre + length / 2).clamp(max=n)
    return (end.clamp(max=high) - begin.clamp(min=low)).clamp(min=0), end - begin


def assign(
    target: Target, sizes: Sequence[tuple[float, float]], size: tuple[int, int], classes: int
) -> Tensor:
    """Return what each pixel of each map is: 1 positive, 0 negative, -1 neither; int8 (k, C, h, w).

    A complete target's pixels are negative but for what is near a box; where a target is not
    complete, only classes known to be absent and the boxes of `negatives` are. Inside an ignored
    box and near it, pixels are neither, for its class. A pixel near several boxes is positive if it
    is for one.

    Args:
        target: of one image.
        sizes: k default boxes (height, width) in this image.
        size: (h, w) of the image.
        classes: how many there are.
    """
    device = target.boxes.device
    found = torch.full((len(sizes), classes, *size), -1, dtype=torch.int8, device=device)
    for label in range(1, classes + 1):
        if target.complete or target.known_absent(label):
            found[:, label - 1] = 0
    for box in target.negatives:
        near = overlaps(box, sizes, size)
        found[(near >= POSITIVE * near.amax()).logical_and(near > 0)[:, None].expand_as(found)] = 0
    positive = torch.zeros_like(found, dtype=torch.bool)
    for box, label, ignore in zip(
        target.boxes, target.labels.tolist(), target.ignore.tolist(), strict=True
    ):
        near = overlaps(box, sizes, size)
        best = float(near.amax())
        if best == 0:
            continue
        found[:, label - 1][near >= NEGATIVE * best] = -1
        if ignore:
            x1, y1, x2, y2 = clip(box[None], size)[0].round().int().tolist()
            found[:, label - 1, y1:y2, x1:x2] = -1
        else:
            positive[:, label - 1] |= near >= POSITIVE * best
    found[positive] = 1
    return found


def choose(labels: Tensor, ratio: float, least: int, generator: torch.Generator) -> Tensor:
    """Return the places in `labels` (n,) that the loss looks at: all positives, drawn negatives.

    Args:
        labels: 1, 0 and -1, of a whole batch.
        ratio: negatives for each positive.
        least: as how many positives fewer count, so that a batch without any teaches, too.
        generator: draws the negatives, without repetition; where there are too few, all are taken.
    """
    positive = (labels == 1).nonzero()[:, 0]
    negative = (labels == 0).nonzero()[:, 0]
    wanted = min(len(negative), round(ratio * max(len(positive), least)))
    if wanted < len(negative):
        negative = negative[_distinct(wanted, len(negative), generator).to(negative.device)]
    return torch.cat([positive, negative])


def _distinct(wanted: int, n: int, generator: torch.Generator) -> Tensor:
    """Return `wanted` different numbers below n."""
    if 2 * wanted > n:
        return torch.randperm(n, generator=generator)[:wanted]
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < wanted:
        more = torch.randint(n, (wanted - len(found),), generator=generator)
        found = torch.cat([found, more]).unique()
    return found


def decode(
    probs: Tensor,
    sizes: Sequence[tuple[float, float]],
    *,
    min_score: float,
    nms_iou: float,
    most: int,
) -> Detections:
    """Return the boxes of an image's maps: local maxima, then non-maximum suppression per class.

    Args:
        probs: (k, C, h, w).
        sizes: k default boxes (height, width) in this image.
        min_score: what a maximum has to exceed.
        nms_iou: of two boxes of a class that overlap more, the better one stays.
        most: detections to keep.
    """
    height, width = probs.shape[2:]
    flat = probs.reshape(1, -1, height, width)
    peak = (functional.max_pool2d(flat, 3, stride=1, padding=1) == flat) & (flat > min_score)
    k, label, y, x = peak.view_as(probs).nonzero().unbind(dim=1)
    scores = probs[k, label, y, x]
    order = scores.argsort(descending=True, stable=True)[:CANDIDATES]
    k, label, y, x, scores = (one[order] for one in (k, label, y, x, scores))
    half = probs.new_tensor(sizes)[k] / 2  # (n, 2): height, width
    centre = torch.stack([x, y], dim=1) + 0.5
    boxes = clip(torch.cat([centre - half.flip(1), centre + half.flip(1)], dim=1), (height, width))
    kept = batched_nms(boxes, scores, label, nms_iou)
    kept = kept[area(boxes[kept]) > 0][:most]
    each = probs[k[kept], :, y[kept], x[kept]]  # (n, C)
    rows = torch.cat([1 - each.amax(dim=1, keepdim=True), each], dim=1)
    return Detections(boxes[kept], label[kept] + 1, scores[kept], probs=rows)
