"""What `detectors.onestage` is made of: one forward, what its anchors should say, and networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from almining.boxes import area, clip, iou
from almining.detectors.backbones import RESNETS, make_backbone
from almining.records import Target

BETWEEN = -2  # torchvision's mark of anchors that are neither positive nor background
TOWER = 2  # convolutions of a head on the tiny backbone


@dataclass(frozen=True, slots=True, eq=False)
class Anchored:
    """An image's anchors that count in the class loss, and what they should say.

    Args:
        logits: (a, C + 1); column 0 is torchvision's unused one.
        truth: (a, C + 1) of 0 and 1; rows of 0 are background.
        anchors: (a, 4), in the pixels of `boxes`.
        boxes: (n, 4), the target's.
        labels: (n,), the target's.
    """

    logits: Tensor
    truth: Tensor
    anchors: Tensor
    boxes: Tensor
    labels: Tensor

    def focal(self, truth: Tensor | None = None) -> Tensor:
        """Return the focal loss of each anchor and class, (a, C + 1)."""
        loss: Tensor = sigmoid_focal_loss(self.logits, self.truth if truth is None else truth)
        return loss

    def overlap(self) -> Tensor:
        """Return each anchor's largest IoU with a box (a,), 0 without any."""
        if not len(self.boxes):
            return self.anchors.new_zeros(len(self.anchors))
        return iou(self.anchors, self.boxes).amax(dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one forward gave: of b images with a anchors each, level by level."""

    originals: list[tuple[int, int]]  # (height, width)
    sizes: list[tuple[int, int]]  # as resized
    anchors: list[Tensor]  # (a, 4) each
    counts: list[int]  # anchors per level
    outputs: dict[str, Tensor]  # (b, a, ...)
    pyramid: list[Tensor]

    def scale(self, image: int) -> Tensor:
        """Return (4,), what takes boxes of an image to the resized one."""
        (height, width), (tall, wide) = self.originals[image], self.sizes[image]
        x, y = wide / width, tall / height
        return self.anchors[image].new_tensor([x, y, x, y])

    def features(self, image: int, rows: Tensor) -> Tensor:
        """Return what the pyramid holds where anchors lie, (n, channels)."""
        levels = [level[image].flatten(1) for level in self.pyramid]  # (channels, cells)
        cells, first = [], 0
        for level, count in zip(levels, self.counts, strict=True):
            here = torch.arange(first, first + level.shape[1], device=rows.device)
            cells.append(here.repeat_interleave(count // level.shape[1]))
            first += level.shape[1]
        return torch.cat(levels, dim=1).T[torch.cat(cells)[rows]]

    def resized(self, image: int, target: Target) -> dict[str, Tensor]:
        """Return the boxes to learn as torchvision wants them, in the resized image's pixels."""
        boxes = clip(target.boxes.to(self.anchors[image].device), self.originals[image])
        solid = ~target.ignore.to(boxes.device) & (area(boxes) > 0)
        labels = target.labels.to(boxes.device)
        return {"boxes": boxes[solid] * self.scale(image), "labels": labels[solid]}

    def anchored(self, image: int, rows: Tensor, known: dict[str, Tensor]) -> Anchored:
        """Return the anchors that count, given each one's row among the known boxes."""
        logits = self.outputs["cls_logits"][image]
        truth, positive = torch.zeros_like(logits), rows >= 0
        truth[positive, known["labels"][rows[positive]]] = 1.0
        valid = rows != BETWEEN
        return Anchored(logits[valid], truth[valid], self.anchors[image][valid], **known)


class Matches:
    """Stands in for a head whose loss is to be computed: hands back how anchors were matched."""

    @staticmethod
    def compute_loss(*given: Any) -> Any:
        """Return the last of what it is given."""
        return given[-1]


def retinanet_model(backbone: str, outputs: int, **settings: Any) -> RetinaNet:
    """Return torchvision's RetinaNet; on the tiny backbone with what suits 12 to 130 pixels."""
    base, suited = _base(backbone)
    if backbone not in RESNETS:
        head = RetinaNetHead(
            int(base.out_channels), 3, outputs, norm_layer=partial(nn.GroupNorm, 32)
        )
        for tower in (head.classification_head, head.regression_head):
            tower.conv = tower.conv[:TOWER]
        anchors = AnchorGenerator(((16,), (32,), (64,), (112,)), ((0.5, 1.0, 2.0),) * 4)
        suited |= {"head": head, "anchor_generator": anchors}
    return RetinaNet(base, outputs, **(suited | settings))


def fcos_model(backbone: str, outputs: int, **settings: Any) -> FCOS:
    """Return torchvision's FCOS; on the tiny backbone with a point every 4, 8, 16, 32 pixels."""
    base, suited = _base(backbone)
    if backbone not in RESNETS:
        head = FCOSHead(int(base.out_channels), 1, outputs, num_convs=TOWER)
        anchors = AnchorGenerator(((4,), (8,), (16,), (32,)), ((1.0,),) * 4)
        suited |= {"head": head, "anchor_generator": anchors, "score_thresh": 0.1}
    return FCOS(base, outputs, **(suited | settings))


def _base(name: str) -> tuple[Any, dict[str, Any]]:
    if name not in RESNETS:
        colours = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        return make_backbone(name), {**colours, "detections_per_img": 100}
    made = resnet_fpn_backbone(
        backbone_name=name,
        weights=None,
        trainable_layers=5,
        norm_layer=nn.BatchNorm2d,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return made, {}
