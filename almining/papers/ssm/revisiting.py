"""Validation in a region's own image: mirrored, rescaled, or both. The rivals of SSM's Figure 4.

A region is looked for in changed copies of the image it is from, as `validate` looks for it in
other images, and its consistency is made of what is found there in the same way.

Source: SSM (Wang et al., CVPR 2018) §4.2.
Differs: the paper says that images are rescaled to 50% to 200%. Here the factor is drawn evenly on
a logarithmic scale, and the copy has the size of the image, padded with its mean colour, or a
window of it: detectors bring all images to one size, and would undo the change. A copy that does
not show a region says nothing of it. *Flip & Rescale*, their "fusion", does both to each copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from almining.boxes import containment, flip
from almining.checks import check_choice, check_whole
from almining.data.proposals import forgetting
from almining.papers.ssm.equations import Average, image_terms, mean_term
from almining.records import Detections

HOW = ("flip", "rescale", "flip_rescale")
SHOWN = 0.9  # share of a region that a copy has to show
FACTOR = 2.0  # the largest; 1 / FACTOR is the smallest


class Copy(NamedTuple):
    """A changed copy of an image.

    Args:
        image: (3, h, w).
        boxes: (n, 4) where the regions are in it.
        shown: (n,) bool, whether they are in it.
    """

    image: Tensor
    boxes: Tensor
    shown: Tensor


def revisit(
    detector: Any,
    images: Sequence[Tensor],
    found: Sequence[Detections],
    *,
    generator: torch.Generator,
    how: str = "flip",
    copies: int = 5,
    min_iou: float = 0.5,
    average: Average = "matched",
    failures_as_zero: bool = True,
) -> list[Tensor]:
    """Return the consistency of each region in changed copies of its own image, (n,) float64.

    NaN where no copy shows the region: it is undetermined.

    Args:
        detector: has `detect`, with `probs`.
        images: b images (3, h, w).
        found: the regions of each.
        generator: draws.
        how: `"flip"`, of which there is one copy; `"rescale"`; `"flip_rescale"`.
        copies: how many there are of an image, N.
        min_iou: γ.
        average: see `image_terms`.
        failures_as_zero: see `consistency`.

    Raises:
        ValueError: naming the argument and its value.
    """
    check_choice(how, HOW, "how")
    check_whole(copies, "copies", 1)
    values = []
    for image, regions in zip(images, found, strict=True):
        value = torch.full((len(regions),), torch.nan, dtype=torch.float64)
        values.append(value)
        if not len(regions):
            continue
        count = 1 if how == "flip" else copies
        made = [_copied(image, regions.boxes.cpu(), how, generator) for _ in range(count)]
        with forgetting():
            seen = [one.to("cpu") for one in detector.detect([copy.image for copy in made])]
        for row, label in enumerate(regions.labels.tolist()):
            some = [
                (one, copy.boxes[row])
                for one, copy in zip(seen, made, strict=True)
                if copy.shown[row]
            ]
            if some:
                boxes = torch.stack([box for _, box in some])
                said = image_terms(
                    [one for one, _ in some], boxes, label, min_iou=min_iou, average=average
                )
                value[row] = mean_term(*said, failures_as_zero=failures_as_zero)
    return values


def _copied(image: Tensor, boxes: Tensor, how: str, generator: torch.Generator) -> Copy:
    if how != "flip":
        image, boxes = _rescaled(image, boxes, generator)
    height, width = image.shape[1:]
    if how != "rescale":
        image, boxes = image.flip(2), flip(boxes, width)
    whole = torch.tensor([[0.0, 0, width, height]])
    return Copy(image, boxes, containment(boxes, whole)[:, 0] >= SHOWN)


def _rescaled(image: Tensor, boxes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a copy of the same size with all in it larger or smaller, and the boxes there."""
    factor = FACTOR ** (2 * float(torch.rand((), generator=generator)) - 1)
    size = image.shape[1:]
    sides = [max(1, round(side * factor)) for side in size]
    scaled = interpolate(image[None], sides, mode="bilinear", antialias=True)[0].clamp(0, 1)
    spare = [abs(a - b) for a, b in zip(size, sides, strict=True)]
    top, left = (int(torch.randint(one + 1, (), generator=generator)) for one in spare)
    scale = boxes.new_tensor([sides[1] / size[1], sides[0] / size[0]] * 2)
    place = boxes.new_tensor([left, top] * 2)
    if factor > 1:
        window = scaled[:, top : top + size[0], left : left + size[1]]
        return window.contiguous(), boxes * scale - place
    canvas = image.mean(dim=(1, 2), keepdim=True).expand_as(image).clone()
    canvas[:, top : top + sides[0], left : left + sides[1]] = scaled
    return canvas, boxes * scale + place
