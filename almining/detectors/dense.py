"""A detector that gives every pixel a probability, per default box: five maps of the whole image.

`dense` returns the maps, `detect` the boxes at their local maxima. The network is in
`detectors.dense_parts`; targets and boxes are in `detectors.dense_boxes`. Left out: box regression,
as in the paper, and anything about active learning.

Source: Divergence (Aghdam et al., ICCV 2019) §3, §4 "Implementation details".
Differs: batch normalisation with running statistics (the authors' code normalises each batch by
itself, so an image's maps depend on its neighbours); evaluated twice, the probabilities of an image
and its mirror image are averaged, where the code averages scores and joins boxes; several classes
are one-vs-rest, which the paper leaves to the future; the loss is the mean over the pixels chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from almining.detectors.base import (
    Detector,
    check_batch,
    check_finite,
    device_of,
    mode,
    pool_levels,
)
from almining.detectors.dense_boxes import PAPER, assign, choose, decode, scaled
from almining.detectors.dense_parts import LAYOUTS, MAPS, Layout, Network, drop_channels
from almining.records import Detections, Target
from almining.rng import forked

SMALLEST = 4  # cells that an image is padded to: batch norms need something to go by
LEAST = 100  # positive pixels that a batch with fewer counts as, when negatives are drawn
Size = tuple[int, int]


class Dense(Detector):
    """A per-pixel detector with `dense` and `embed`; the function `dense` makes one.

    Args:
        classes: the names of classes 1...C.
        layout: how wide and how deep the network is.
        boxes: five default boxes (height, width), the largest first, for images 480 pixels high;
            they grow with the image.
        negatives: negative pixels in the loss for each positive one.
        dropout: share of channels dropped before the logits in training.
        mirrored: whether `dense` and `detect` look at an image and its mirror image.
        min_score: what a detection has to exceed.
        nms_iou: of two detections of a class that overlap more, the better one stays.
        most: detections per image.
    """

    def __init__(
        self,
        classes: Sequence[str],
        layout: Layout,
        *,
        boxes: Sequence[Sequence[float]] = PAPER,
        negatives: float = 15.0,
        dropout: float = 0.1,
        mirrored: bool = False,
        min_score: float = 0.05,
        nms_iou: float = 0.4,
        most: int = 100,
    ) -> None:
        """Make the network."""
        super().__init__(classes)
        self.boxes = _check_sizes(boxes)
        if not negatives > 0:
            raise ValueError(f"negatives = {negatives}: a number above 0 is needed; 15 is usual")
        _check_rate(dropout)
        self.negatives, self.dropout, self.mirrored = negatives, dropout, mirrored
        self.min_score, self.nms_iou, self.most = min_score, nms_iou, most
        self.network = Network(layout, len(self.classes), prior=1 / (1 + negatives))

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss `logistic`: Eq. 7 over the positive pixels and 15 negatives for each.

        Those are drawn from the whole batch; with fewer than 100 positive pixels there are as many
        as with 100. What is not boxed is background only where a target is complete.
        """
        check_batch(images, targets, classes=self.classes)
        classes, device = len(self.classes), device_of(self)
        logits, labels = [], []
        with mode(self, True):
            for places, x in _by_size(images, device):
                size = _size(x)
                features = [
                    drop_channels(one, self.dropout, generator) for one in self._features(x)
                ]
                logits.append(self._logits(features, size).flatten())
                sizes = scaled(self.boxes, size[0])
                known = [assign(targets[place], sizes, size, classes) for place in places]
                labels.append(torch.stack(known).flatten().to(device))
        scores, truth = torch.cat(logits), torch.cat(labels)
        chosen = choose(truth, self.negatives, LEAST, generator)
        if not len(chosen):  # nothing is known of any pixel
            return {"logistic": scores.sum() * 0}
        loss = functional.binary_cross_entropy_with_logits(scores[chosen], truth[chosen].float())
        return {"logistic": loss}

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], *, mirrored: bool | None = None) -> list[Detections]:
        """Return detections with `probs` (n, C + 1), best first: one-vs-rest, column 0 is 1 - max.

        Args:
            images: b tensors (3, h, w), which may differ in size.
            mirrored: whether to look at the mirror image, too; by default as the detector was made.
        """
        return [
            decode(
                maps.view(MAPS, len(self.classes), *maps.shape[1:]),
                scaled(self.boxes, maps.shape[1]),
                min_score=self.min_score,
                nms_iou=self.nms_iou,
                most=self.most,
            )
            for maps in self.dense(images, mirrored=mirrored)
        ]

    @torch.no_grad()
    def dense(
        self,
        images: Sequence[Tensor],
        *,
        mirrored: bool | None = None,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Return the probabilities (5 x C, h, w) of each image, on the detector's device.

        Row k x C + c is of default box k, the largest first, and class c + 1.

        Args:
            images: b tensors (3, h, w), which may differ in size.
            mirrored: whether to average with what the mirror image gives; by default as the
                detector was made.
            dropout: share of channels to drop before the logits, for one pass of Monte Carlo
                dropout; `passes` makes many of them cheaply.
            generator: draws what is dropped; needed where `dropout` is above 0.
        """
        return next(self.passes(images, 1, dropout=dropout, generator=generator, mirrored=mirrored))

    @torch.no_grad()
    def passes(
        self,
        images: Sequence[Tensor],
        count: int,
        *,
        dropout: float,
        generator: torch.Generator | None = None,
        mirrored: bool | None = None,
    ) -> Iterator[list[Tensor]]:
        """Yield `count` times what `dense` returns, each time with other channels dropped.

        Only what is above the dropout is computed again.

        Source: Monte Carlo dropout, Divergence §4: T = 30 passes, 10% or 50% dropped; before each
        layer of logits, as in the authors' code.
        """
        check_batch(images)
        _check_rate(dropout)
        if dropout and generator is None:
            raise ValueError(f"dropout = {dropout} draws at random; give a generator")
        twice = self.mirrored if mirrored is None else mirrored
        with mode(self, False):
            groups = [
                (places, _size(x), [self._features(one) for one in _views(x, twice)])
                for places, x in _by_size(images, device_of(self))
            ]
        for _ in range(count):
            found: list[Tensor] = [torch.empty(0)] * len(images)
            for places, size, views in groups:
                maps = [self._maps(features, size, dropout, generator) for features in views]
                mean = (maps[0] + maps[1].flip(3)) / 2 if twice else maps[0]
                for place, one in zip(places, mean, strict=True):
                    found[place] = one
            yield found

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return one vector per image: the means of the five decoder maps, joined."""
        check_batch(images)
        channels = MAPS * self.network.logits.in_channels
        found = torch.zeros(len(images), channels, device=device_of(self))
        with mode(self, False):
            for places, x in _by_size(images, device_of(self)):
                padded = self._padded(_size(x))
                found[places] = pool_levels(self._features(x), [_size(x)] * len(x), padded)
        return found

    def _padded(self, size: Size) -> Size:
        stride = self.network.stride
        height, width = (max(SMALLEST, -(-side // stride)) * stride for side in size)
        return height, width

    def _features(self, x: Tensor) -> list[Tensor]:
        """Return five feature maps of images (b, 3, h, w), padded with grey at bottom and right."""
        height, width = self._padded(_size(x))
        padding = (0, width - x.shape[3], 0, height - x.shape[2])
        found: list[Tensor] = self.network(functional.pad((x - 0.5) / 0.25, padding))
        return found

    def _logits(self, features: Iterable[Tensor], size: Size) -> Tensor:
        """Return logits (b, 5 x C, h, w): upsampled to the padded images and cut to `size`."""
        logits = self.network.classify(features, self._padded(size))[:, :, : size[0], : size[1]]
        check_finite(logits, "logits")
        return logits

    def _maps(
        self,
        features: Iterable[Tensor],
        size: Size,
        dropout: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        if generator is not None:
            features = [drop_channels(one, dropout, generator) for one in features]
        return self._logits(features, size).sigmoid()


def _size(x: Tensor) -> Size:
    return x.shape[2], x.shape[3]


def _views(x: Tensor, twice: bool) -> list[Tensor]:
    return [x, x.flip(3)] if twice else [x]


def _by_size(images: Sequence[Tensor], device: torch.device) -> Iterator[tuple[list[int], Tensor]]:
    """Yield images of one size at a time, stacked, with where they come in the batch.

    So an image's maps do not depend on its neighbours.
    """
    groups: dict[Size, list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault((image.shape[1], image.shape[2]), []).append(place)
    for places in groups.values():
        yield places, torch.stack([images[place] for place in places]).to(device)


def _check_sizes(boxes: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    if len(boxes) != MAPS or any(len(one) != 2 or not min(one) > 0 for one in boxes):
        raise ValueError(
            f"boxes = {boxes!r}: {MAPS} default boxes (height, width) in pixels above 0 are "
            "needed, one for each map"
        )
    return tuple((float(height), float(width)) for height, width in boxes)


def _check_rate(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout = {dropout}: a share of channels, 0 to below 1, is needed")


def dense(classes: Sequence[str], *, size: str = "tiny", seed: int = 0, **options: object) -> Dense:
    """Return an untrained per-pixel detector.

    Args:
        classes: the names of classes 1...C.
        size: `"tiny"` and `"small"` for pictures of some 128 pixels, `"paper"` for 480 and more.
        seed: of the initial weights.
        options: passed on to `Dense`, such as `boxes` or `mirrored`.

    >>> maps = dense(["pedestrian"]).dense([torch.zeros(3, 64, 96)])
    >>> maps[0].shape
    torch.Size([5, 64, 96])
    """
    if size not in LAYOUTS:
        raise ValueError(f"size = {size!r} is not known; use one of {', '.join(LAYOUTS)}")
    with forked(seed, torch.device("cpu")):
        return Dense(classes, LAYOUTS[size], **options)  # type: ignore[arg-type]
