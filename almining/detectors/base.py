"""What the library asks of a detector, and how it finds out what a detector offers.

A detector turns images into `Detections` and, with targets, into a dictionary of named losses. Some
offer more: `regions` (class probabilities and features of given boxes), `dense` (a probability per
pixel) and `embed` (one vector per image). A user's own detector is any class with `losses`,
`detect`, `classes` and `parameters`; it need not inherit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from almining.checks import check_boxes, check_image
from almining.records import Detections, Target

Teach = Callable[[list[Detections]], Sequence[Target]]  # what is found becomes what is taught


class Detector(nn.Module, ABC):
    """A detector of C classes.

    Args:
        classes: the names of classes 1...C, in order.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Keep the class names."""
        super().__init__()
        if isinstance(classes, str):
            raise ValueError(f"classes = {classes!r}: a list of names is needed, not a string")
        if not classes:
            raise ValueError("a detector needs at least one class; classes is empty")
        self.classes = tuple(classes)

    @abstractmethod
    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return named losses, each a scalar that carries a gradient; their sum is minimised.

        Args:
            images: b tensors (3, h, w), which may differ in size.
            targets: b targets. What is not boxed counts as background, whatever `complete` says; a
                `step` that knows better masks it.
            generator: for whatever the detector draws at random.
        """

    @abstractmethod
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return what is found in each image, best first.

        No gradient, and as in evaluation whatever the mode.
        """


def device_of(detector: Any) -> torch.device:
    """Return the device a detector's parameters are on.

    Raises:
        ValueError: when the detector has no parameters.
    """
    for parameter in detector.parameters():
        return parameter.device
    raise ValueError(
        f"{type(detector).__name__} has no parameters, "
        "so there is nothing to train and no device to go to"
    )


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a module in training or evaluation mode inside the block; each part's own comes back."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


def check_batch(
    images: Sequence[Tensor],
    targets: Sequence[Target] | None = None,
    *,
    classes: Sequence[str] = (),
) -> None:
    """Raise a `ValueError` unless `images` are finite images, each with a target that fits.

    Args:
        images: b tensors (3, h, w).
        targets: b targets, or None; with targets there must be an image.
        classes: the detector's classes, which labels must not exceed.
    """
    for position, image in enumerate(images):
        check_image(image, f"images[{position}]")
        if not bool(image.isfinite().all()):
            raise ValueError(f"images[{position}] is not finite; look at where it was made")
    if targets is None:
        return
    if len(targets) != len(images) or not images:
        raise ValueError(
            f"{len(images)} images but {len(targets)} targets; give one target for each image, "
            "and at least one"
        )
    for position, target in enumerate(targets):
        high = max(target.labels.tolist(), default=0)
        if high > len(classes):
            raise ValueError(
                f"targets[{position}].labels reach {high}, but the detector knows "
                f"{len(classes)} classes; labels are 1...{len(classes)}"
            )


@contextmanager
def learning(module: nn.Module, *, frozen_norm: bool) -> Iterator[None]:
    """Put a module in training mode inside the block, batch normalisation only if not frozen."""
    with mode(module, True):
        for norm in (one for one in module.modules() if isinstance(one, _BatchNorm)):
            norm.train(not frozen_norm)
        yield


def spans(images: Sequence[Tensor], views: int) -> list[slice]:
    """Return where each view's images lie in a batch that holds view after view.

    Raises:
        ValueError: unless there are as many of each, at least one.
    """
    check_batch(images)
    if not images or views < 1 or len(images) % views:
        raise ValueError(
            f"{len(images)} images in {views} views: give as many of each view, at least one"
        )
    each = len(images) // views
    return [slice(first, first + each) for first in range(0, len(images), each)]


def check_asked(images: Sequence[Tensor], boxes: Sequence[Tensor]) -> None:
    """Raise a `ValueError` unless there are boxes (n, 4) for each image (3, h, w)."""
    check_batch(images)
    if len(boxes) != len(images):
        raise ValueError(
            f"{len(images)} images but boxes for {len(boxes)}; give one (n, 4) tensor for each "
            "image"
        )
    for position, given in enumerate(boxes):
        check_boxes(given, f"boxes[{position}]")


def judged(boxes: Tensor, probs: Tensor, features: Tensor) -> Detections:
    """Return what `regions` says of boxes (n, 4): each its most probable class, background aside.

    Args:
        boxes: as they were given.
        probs: (n, C + 1).
        features: (n, d).
    """
    scores, labels = probs[:, 1:].max(dim=1)
    return Detections(boxes, labels + 1, scores, probs=probs, features=features)


def check_finite(values: Tensor, name: str) -> None:
    """Raise a `FloatingPointError` unless all values are finite.

    Args:
        values: any tensor.
        name: how the message calls them.
    """
    if not bool(values.isfinite().all()):
        raise FloatingPointError(f"{name} are not finite; the weights have diverged")


def embed(detector: Any, images: Sequence[Tensor]) -> Tensor:
    """Return one feature vector per image, (b, d).

    A detector's own `embed` where it has one; otherwise the region features of the box that covers
    the image.

    Raises:
        ValueError: when the detector offers neither.
    """
    if hasattr(detector, "embed"):
        vectors: Tensor = detector.embed(images)
        return vectors
    if not hasattr(detector, "regions"):
        raise ValueError(
            f"{type(detector).__name__} offers neither embed(images) nor regions(images, boxes), "
            "and a strategy needs image features; add one of the two methods"
        )
    whole = [image.new_tensor([[0, 0, image.shape[2], image.shape[1]]]) for image in images]
    return torch.cat([found.features for found in detector.regions(images, whole)])


def pool_levels(
    levels: Iterable[Tensor], sizes: Sequence[tuple[int, int]], padded: Sequence[int]
) -> Tensor:
    """Return the mean of each level over each image's own part of a padded batch.

    The levels' means are joined: (b, levels x channels).

    Args:
        levels: feature maps (b, channels, rows, columns).
        sizes: (height, width) of each image inside the batch.
        padded: (height, width) of the batch.
    """
    vectors = []
    for level in levels:
        check_finite(level, "image features")
        rows = [max(1, round(height / padded[0] * level.shape[2])) for height, _ in sizes]
        columns = [max(1, round(width / padded[1] * level.shape[3])) for _, width in sizes]
        parts = zip(level, rows, columns, strict=True)
        vectors.append(
            torch.stack([one[:, :row, :column].mean(dim=(1, 2)) for one, row, column in parts])
        )
    return torch.cat(vectors, dim=1)


def offers(detector: Any, need: str) -> bool:
    """Tell whether a detector has the method `need`; `"embed"` is met by `regions`, too."""
    return callable(getattr(detector, need, None)) or (
        need == "embed" and offers(detector, "regions")
    )
