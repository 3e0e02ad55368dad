"""What `detectors.rcnn` is made of: boxes in a resized batch, who is left out, the tiny network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign

from almining.boxes import area, clip, containment
from almining.records import Target

# share of an anchor or proposal inside an ignored box from which on it is no background
IGNORED = 0.5
FAR = 1e6  # pixels: a box that holds every anchor
# each image's anchors, all scores (a, 1) and steps (a, 4), each image's proposals
Proposed = tuple[list[Tensor], Tensor, Tensor, list[Tensor]]


def resized(
    images: Sequence[Tensor], batch: ImageList, targets: Sequence[Target]
) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """Return each image's boxes to learn, and those to ignore, in the resized batch's pixels."""
    known, ignored = [], []
    for image, size, target in zip(images, batch.image_sizes, targets, strict=False):
        original = (image.shape[1], image.shape[2])
        boxes = clip(target.boxes.to(batch.tensors.device), original)
        boxes = resize_boxes(boxes, original, size)
        labels, ignore = target.labels.to(boxes.device), target.ignore.to(boxes.device)
        solid = ~ignore & (area(boxes) > 0)
        known.append({"boxes": boxes[solid], "labels": labels[solid]})
        ignored.append(boxes[ignore])
    return known, ignored


def part_of(proposed: Proposed, part: slice, images: int) -> Proposed:
    """Return what was proposed for some of the images."""
    anchors, scores, deltas, proposals = proposed
    some = (one.unflatten(0, (images, -1))[part].flatten(0, 1) for one in (scores, deltas))
    return anchors[part], *some, proposals[part]


def leave_out(labels: Tensor, boxes: Tensor, ignored: Tensor) -> None:
    """Take boxes (n, 4) that lie mostly in an ignored one out of the background, in `labels`."""
    if len(ignored) and len(boxes):
        inside = containment(boxes, ignored).amax(dim=1) >= IGNORED
        labels[inside & (labels == 0)] = -1  # torchvision's samplers pass over -1


def tiny_settings(
    backbone: nn.Module, outputs: int, *, width: int = 256, pool: int = 5
) -> dict[str, Any]:
    """Return what suits objects of 12 to 130 pixels and a CPU."""
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    return {
        "rpn_anchor_generator": AnchorGenerator(
            ((16,), (32,), (64,), (112,)), ((0.5, 1.0, 2.0),) * 4
        ),
        "rpn_pre_nms_top_n_train": 400,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_train": 200,
        "rpn_post_nms_top_n_test": 100,
        "rpn_batch_size_per_image": 64,
        "box_roi_pool": MultiScaleRoIAlign(
            ["0", "1", "2"], pool, sampling_ratio=1, canonical_scale=64, canonical_level=3
        ),
        "box_head": TwoMLPHead(channels * pool**2, width),
        "box_predictor": FastRCNNPredictor(width, outputs),
        "box_batch_size_per_image": 64,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
