"""Region detectors with one-vs-rest heads: Fast R-CNN and R-FCN on proposals that are given.

Each class has a yes-or-no classifier of its own, so a region may be claimed by two classes, which
SSM asks people about, or by none. They learn from what is known: in an image that is not complete
only proposals at its boxes, and at those of which a person said that they hold no object, count.
Left out: a network that proposes; any callable with an image does, one that has learned, too.

Source: Fast R-CNN (Girshick, ICCV 2015); R-FCN (Dai et al., NeurIPS 2016); the loss is that of SSM
(Wang et al., CVPR 2018), Eq. 1 and 8.
Differs: regions are aligned, not quantised. R-FCN has proposals given and draws its samples, where
its authors learn the one and take the hardest for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from almining.checks import check_whole
from almining.data.proposals import Proposer
from almining.detectors.base import (
    Detector,
    check_asked,
    check_batch,
    check_finite,
    device_of,
    judged,
    mode,
)
from almining.detectors.mist_boxes import CODER
from almining.detectors.proposed import decode, propose, proposer_of
from almining.detectors.sigmoid_parts import (
    PooledHead,
    Rules,
    VotingHead,
    region_parts,
    samples,
)
from almining.records import Detections, Target
from almining.rng import forked


class SigmoidRCNN(Detector):
    """A detector that judges given proposals, with `regions`; `fast_rcnn` and `rfcn` make one.

    Args:
        classes: the names of classes 1...C.
        proposer: gives the boxes (n, 4) of an image.
        transform: resizes and batches images.
        backbone: maps images to named levels.
        head: maps levels and boxes to logits, regressions and features.
        rules: how samples and detections are made.
    """

    def __init__(
        self,
        classes: Sequence[str],
        proposer: Proposer,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        head: PooledHead | VotingHead,
        rules: Rules,
    ) -> None:
        """Keep the parts."""
        super().__init__(classes)
        self.proposer, self.transform, self.rules = proposer, transform, rules
        self.backbone, self.head = backbone, head

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return `cls` and `reg`, each divided by the number of samples of all images.

        An image's boxes, and its `negatives`, are samples themselves. Where it is complete a
        proposal at no box is background; where it is not, only one at a negative is. Without a
        sample the losses are zeros that carry a gradient.
        """
        check_batch(images, targets, classes=self.classes)
        proposals = propose(self.proposer, images, device_of(self))
        pairs = zip(proposals, targets, strict=True)
        drawn = [samples(some, target, self.rules, generator=generator) for some, target in pairs]
        boxes = [some for some, _ in drawn]
        with mode(self, True):
            logits, deltas, _ = self._look(images, boxes)
        labels, goals = (
            torch.cat(values)
            for values in zip(*((a.labels, a.boxes) for _, a in drawn), strict=True)
        )
        wanted = functional.one_hot(labels, len(self.classes) + 1)[:, 1:].to(logits.dtype)
        weight = logits.new_tensor(self.rules.positive_weight)
        cls = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=weight, reduction="sum"
        )
        rows = labels.nonzero()[:, 0]
        steps = CODER.encode_single(goals[rows], torch.cat(boxes)[rows])
        reg = functional.smooth_l1_loss(deltas[rows, labels[rows] - 1], steps, reduction="sum")
        count = max(1, len(labels))
        return {"cls": cls / count, "reg": (reg + deltas.sum() * 0) / count}

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return detections with `probs` (n, C + 1) and `features` (n, d), best first.

        Both belong to the proposal a box was regressed from, so several detections may share a row.
        Column 0 of `probs` is 1 - max, the others are independent.
        """
        check_batch(images)
        boxes = propose(self.proposer, images, device_of(self))
        found = []
        for image, given, (probs, deltas, features) in zip(
            images, boxes, self._judge(images, boxes), strict=True
        ):
            found.append(decode(image, given, probs, deltas, features, self.rules))
        return found

    @torch.no_grad()
    def regions(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Detections]:
        """Return class probabilities and features of given boxes (n, 4) of each image.

        The boxes stay as they are, in their order; the label is the most probable class and the
        score its probability.
        """
        check_asked(images, boxes)
        asked = [given.to(device_of(self)) for given in boxes]
        each = zip(asked, self._judge(images, asked), strict=True)
        return [judged(given, probs, features) for given, (probs, _, features) in each]

    def _look(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the head's logits, regressions and features of all boxes, one after another."""
        device = device_of(self)
        with mode(self.transform, False):  # or it draws a size, from the global generator
            batch, _ = self.transform([image.to(device) for image in images])
        scaled = [
            given * given.new_tensor([size[1] / image.shape[2], size[0] / image.shape[1]] * 2)
            for given, image, size in zip(boxes, images, batch.image_sizes, strict=True)
        ]
        said: tuple[Tensor, Tensor, Tensor] = self.head(self.backbone(batch.tensors), scaled, batch)
        for values in said:  # NaN is above no threshold: it would look empty
            check_finite(values, "what the head says")
        return said

    def _judge(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return probabilities (n, C + 1), regressions and features of each image's boxes."""
        if not images:
            return []
        with mode(self, False):
            logits, deltas, features = self._look(images, boxes)
        classes = logits.sigmoid()
        probs = torch.cat([1 - classes.amax(dim=1, keepdim=True), classes], dim=1)
        counts = [len(given) for given in boxes]
        parts = (values.split(counts) for values in (probs, deltas, features))
        return list(zip(*parts, strict=True))


def fast_rcnn(classes: Sequence[str], **options: Any) -> SigmoidRCNN:
    """Return an untrained Fast R-CNN with one-vs-rest heads.

    Args:
        classes: the names of classes 1...C.
        options: any of those of `rfcn`, and `width` of the two fully connected layers.

    >>> detector = fast_rcnn(["cat", "dog"], proposer="grid")
    >>> found = detector.regions([torch.zeros(3, 64, 96)], [torch.ones(2, 4)])[0]
    >>> found.probs.shape, round(float(found.probs[0, 1]), 1)
    (torch.Size([2, 3]), 0.1)
    """
    return _make(classes, False, **options)


def rfcn(classes: Sequence[str], **options: Any) -> SigmoidRCNN:
    """Return an untrained R-FCN with one-vs-rest heads.

    Args:
        classes: the names of classes 1...C.
        options: `proposer` gives the boxes (n, 4) of an image: `"segments"` (the default),
            `"grid"`, `"selective_search"` (needs OpenCV) or anything callable with an image;
            `backbone` is `"tiny"` (the default), `"alexnet"`, `"vgg16"` or one of torchvision's
            ResNets with a feature pyramid; `prior` is the probability of an object before anything
            is learned, 0.1; `size` is the shorter side an image is resized to and `max_size` the
            longest a side may become, in pixels; `seed` is of the initial weights; and any of
            `Rules`.

    Raises:
        ValueError: naming the argument and its value.
    """
    return _make(classes, True, **options)


def _make(
    classes: Sequence[str],
    voting: bool,
    *,
    proposer: Proposer | str = "segments",
    backbone: str = "tiny",
    prior: float = 0.1,
    width: int | None = None,
    size: int | None = None,
    max_size: int = 1333,
    seed: int = 0,
    **rules: Any,
) -> SigmoidRCNN:
    proposer = proposer_of(proposer)
    if not 0 < prior < 1:
        raise ValueError(f"prior = {prior!r}: a probability above 0 and below 1 is needed")
    with forked(seed, torch.device("cpu")):
        parts = region_parts(backbone, width)
        if voting:
            level = "2" if backbone.startswith("resnet") else "0"  # at stride 16 of a photograph
            head: Any = VotingHead(level, parts.backbone.out_channels, len(classes), prior)
        else:
            head = PooledHead(parts.pool, parts.head, len(classes), prior)
    side = parts.size if size is None else check_whole(size, "size", 1)
    resize = GeneralizedRCNNTransform(side, max_size, *(list(one) for one in parts.colours))
    return SigmoidRCNN(classes, proposer, resize, parts.backbone, head, Rules(**rules))
