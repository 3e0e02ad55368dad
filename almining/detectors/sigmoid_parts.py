"""What the one-vs-rest detectors are made of, and which regions they learn from.

AlexNet, and the heads of Fast R-CNN and of R-FCN. `detectors.sigmoid` puts them together.

Source: AlexNet (Krizhevsky et al., NeurIPS 2012); Fast R-CNN (Girshick, ICCV 2015); R-FCN (Dai et
al., NeurIPS 2016) §3.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import alexnet
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, PSRoIAlign, roi_align

from almining.boxes import area, iou
from almining.checks import check_whole
from almining.detectors.mist_boxes import Assigned, assign, mostly_inside, true_boxes
from almining.detectors.mist_parts import IMAGENET, Parts, make_parts
from almining.records import Target

SAME = 0.5  # IoU from which on a proposal is of a box


@dataclass(frozen=True, slots=True)
class Rules:
    """How samples and detections are made.

    Args:
        samples: the most proposals of an image that a training step learns from.
        positives: the largest share of them that are of an object.
        positive_weight: what a region of a class weighs in the loss of its classifier, where any
            other weighs 1. Of the regions each classifier sees few are its own; the more they
            weigh, the likelier it claims one, and the oftener several do.
        min_score: a detection scores more.
        nms: IoU above which a detection of the same class is dropped.
        most: the most detections of an image.
    """

    samples: int = 64
    positives: float = 0.25
    positive_weight: float = 1.0
    min_score: float = 0.05
    nms: float = 0.3
    most: int = 100

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("samples", "most"):
            check_whole(getattr(self, name), name, 1)
        for name in ("positives", "nms"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: a number above 0 and at most 1 is needed"
                )
        if not 0 < self.positive_weight < math.inf:
            raise ValueError(
                f"positive_weight = {self.positive_weight!r}: a finite number above 0 is needed"
            )
        if not 0 <= self.min_score < 1:
            raise ValueError(f"min_score = {self.min_score!r}: 0 or more, below 1, is needed")


class AlexNet(nn.Module):
    """The convolutions of AlexNet, at stride 16: torchvision's, without the last pooling."""

    out_channels = 256

    def __init__(self) -> None:
        """Make the layers, numbered as torchvision's, so its weights fit."""
        super().__init__()
        self.features = alexnet(weights=None).features[:-1]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images (b, 3, h, w) to level `"0"`: (b, 256, about h / 16, about w / 16)."""
        return OrderedDict([("0", self.features(x))])


def region_parts(name: str, width: int | None) -> Parts:
    """Return untrained parts, as `make_parts` does, of `"alexnet"`, too."""
    if name != "alexnet":
        return make_parts(name, width)
    network = AlexNet()
    head = TwoMLPHead(network.out_channels * 6**2, width or 4096)
    pool = MultiScaleRoIAlign(["0"], 6, sampling_ratio=2)
    return Parts(network, pool, head, IMAGENET, 600)


class PooledHead(nn.Module):
    """Fast R-CNN's head: two fully connected layers over a pooled region.

    Args:
        pool: pools regions from the levels.
        layers: the two layers.
        classes: C.
        prior: probability of an object, before anything is learned.
    """

    def __init__(self, pool: MultiScaleRoIAlign, layers: Any, classes: int, prior: float) -> None:
        """Make the two linear layers on top, with small weights."""
        super().__init__()
        self.pool, self.layers = pool, layers
        width = layers.fc7.out_features
        self.classify, self.regress = nn.Linear(width, classes), nn.Linear(width, 4 * classes)
        _start(self.classify, self.regress, prior)

    def forward(
        self, levels: dict[str, Tensor], boxes: list[Tensor], batch: ImageList
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (R, C), regressions (R, C, 4) and features (R, d) of the boxes."""
        x = self.layers(self.pool(levels, boxes, batch.image_sizes))
        return self.classify(x), self.regress(x).unflatten(1, (-1, 4)), x


class VotingHead(nn.Module):
    """R-FCN's head: each part of a region looks at score maps of its own, and the parts vote.

    Args:
        level: which level of the backbone the maps are made from.
        channels: of that level.
        classes: C.
        prior: probability of an object, before anything is learned.
        parts: k; a region has k x k of them.
    """

    def __init__(
        self, level: str, channels: int, classes: int, prior: float, *, parts: int = 3
    ) -> None:
        """Make the maps."""
        super().__init__()
        self.level, self.parts = level, parts
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.classify = nn.Conv2d(channels, classes * parts**2, 1)
        self.regress = nn.Conv2d(channels, 4 * parts**2, 1)
        _start(self.classify, self.regress, prior)

    def forward(
        self, levels: dict[str, Tensor], boxes: list[Tensor], batch: ImageList
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (R, C), regressions (R, C, 4), alike for all classes, and features."""
        x = self.reduce(levels[self.level]).relu()
        scale = 2.0 ** round(math.log2(x.shape[2] / batch.tensors.shape[2]))
        vote = PSRoIAlign(self.parts, scale, sampling_ratio=2)
        logits = vote(self.classify(x), boxes).mean(dim=(2, 3))
        deltas = vote(self.regress(x), boxes).mean(dim=(2, 3))
        features = roi_align(x, boxes, 1, scale, sampling_ratio=2, aligned=True).flatten(1)
        return logits, deltas[:, None].expand(-1, logits.shape[1], 4), features


def _start(classify: Any, regress: Any, prior: float) -> None:
    for layer, spread in ((classify, 0.01), (regress, 0.001)):
        nn.init.normal_(layer.weight, std=spread)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(classify.bias, math.log(prior / (1 - prior)))


@torch.no_grad()
def samples(
    boxes: Tensor, target: Target, rules: Rules, *, generator: torch.Generator
) -> tuple[Tensor, Assigned]:
    """Return what a training step learns from in one image, and what each of it is to become.

    Positives (IoU of at least 0.5 with a box) are drawn first, then negatives. The image's own
    boxes are among the candidates, and the boxes that a person said hold no object are always in.

    Args:
        boxes: (R, 4) proposals.
        target: what is known of the image. Complete: all other proposals are negatives, but for
            those mostly inside an ignored box. Not complete: those at its `negatives` are, and
            nothing else.
        rules: `samples` and `positives` are followed.
        generator: draws.
    """
    goal, refuted = true_boxes(target, boxes.device), target.negatives.to(boxes.device)
    refuted = refuted[area(refuted) > 0]
    boxes = torch.cat([boxes, goal.boxes, refuted])
    wanted = assign(boxes, goal, min_iou=SAME)
    negative = torch.zeros_like(wanted.labels, dtype=torch.bool)
    if len(refuted):
        negative = iou(boxes, refuted).amax(dim=1) >= SAME
    if target.complete:
        negative |= ~mostly_inside(boxes, target.boxes[target.ignore].to(boxes.device))
    negative &= wanted.labels == 0
    first = len(boxes) - len(refuted)  # of those that a person named
    named = negative[first:].nonzero()[:, 0] + first
    positives = _drawn(wanted.labels > 0, generator)[: int(rules.samples * rules.positives)]
    negative[first:] = False
    others = _drawn(negative, generator)[: max(0, rules.samples - len(positives) - len(named))]
    rows = torch.cat([positives, named, others])
    return boxes[rows], Assigned(*(values[rows] for values in wanted))


def _drawn(mask: Tensor, generator: torch.Generator) -> Tensor:
    rows = mask.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
