"""Any torchvision detector in one line: `wrap(model, classes)`.

A Faster R-CNN becomes the library's own, with `regions`, probabilities and features. Everything
else (RetinaNet, FCOS, SSD) gives boxes, labels and scores only: enough for training, evaluation,
random and core-set selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN

from almining.boxes import area, clip
from almining.detectors.base import (
    Detector,
    check_batch,
    check_finite,
    device_of,
    mode,
    pool_levels,
)
from almining.detectors.rcnn import FasterRCNN
from almining.records import Detections, Target


class Wrapped(Detector):
    """A torchvision detector that is called as a whole.

    Args:
        model: takes a list of images and, in training, dictionaries with `boxes` and `labels`.
        classes: the names of classes 1...C; the model must use the same numbers.
        ignored: what to do with ignored boxes in training, which such a model cannot leave out of
            its loss: `"error"`, or `"background"` to train on them as background.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        *,
        ignored: Literal["error", "background"] = "error",
    ) -> None:
        """Keep the model."""
        super().__init__(classes)
        self.model = model
        self.ignored = ignored

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the model's own losses.

        Raises:
            ValueError: when a target has an ignored box and `ignored` is `"error"`.
        """
        check_batch(images, targets, classes=self.classes)
        device = device_of(self)
        given = []
        for position, target in enumerate(targets):
            if bool(target.ignore.any()) and self.ignored == "error":
                raise ValueError(
                    f"targets[{position}] has {int(target.ignore.sum())} ignored boxes, and "
                    f"{type(self.model).__name__} cannot leave them out of its loss; "
                    'pass ignored="background" to wrap(), or use a Faster R-CNN'
                )
            solid = ~target.ignore & (area(target.boxes) > 0)
            given.append(
                {"boxes": target.boxes[solid].to(device), "labels": target.labels[solid].to(device)}
            )
        with mode(self, True):
            losses: dict[str, Tensor] = self.model([image.to(device) for image in images], given)
        return losses

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return boxes, labels and scores, best first.

        Raises:
            ValueError: when the model finds a class that has no name.
        """
        check_batch(images)
        if not images:
            return []
        for name, parameter in self.model.named_parameters():
            check_finite(parameter, f"the values of {name}")  # its results would look empty
        device = device_of(self)
        with mode(self, False):
            results = self.model([image.to(device) for image in images])
        found = []
        for image, result in zip(images, results, strict=True):
            labels = result["labels"]
            if len(labels) and int(labels.max()) > len(self.classes):
                raise ValueError(
                    f"{type(self.model).__name__} found class {int(labels.max())}, but classes are "
                    f"numbered 1...{len(self.classes)}; "
                    "give wrap() all the model's classes, in its order"
                )
            order = result["scores"].argsort(descending=True, stable=True)
            order = order[labels[order] > 0]  # one-vs-rest heads have an output for background, too
            boxes = clip(result["boxes"], (image.shape[1], image.shape[2]))
            found.append(Detections(boxes[order], labels[order], result["scores"][order]))
        return found

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return the mean of each level of the model's backbone, joined, (b, d).

        Raises:
            ValueError: when the model has no `backbone`.
        """
        check_batch(images)
        transform = getattr(self.model, "transform", None)
        backbone = getattr(self.model, "backbone", None)
        if transform is None or backbone is None:
            raise ValueError(
                f"{type(self.model).__name__} has no transform and backbone, "
                "so it gives no image features; subclass Detector and add embed(images)"
            )
        with mode(self, False):
            batch, _ = transform([image.to(device_of(self)) for image in images])
            levels = backbone(batch.tensors)
        if isinstance(levels, Tensor):
            levels = {"0": levels}
        return pool_levels(levels.values(), batch.image_sizes, batch.tensors.shape[2:])


def wrap(
    model: nn.Module, classes: Sequence[str], *, ignored: Literal["error", "background"] = "error"
) -> FasterRCNN | Wrapped:
    """Return a detector of the library around any torchvision detector.

    Args:
        model: a torchvision detection model; it is used, not copied.
        classes: the names of classes 1...C.
        ignored: see `Wrapped`; a Faster R-CNN leaves ignored boxes out properly and needs no
            choice.

    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as mobile
    >>> wrap(mobile(weights=None, weights_backbone=None, num_classes=3), ["cat", "dog"]).classes
    ('cat', 'dog')
    """
    if isinstance(model, TorchvisionFasterRCNN):
        return FasterRCNN(model, classes)
    return Wrapped(model, classes, ignored=ignored)
