"""MIST: a detector trained from image tags, and from true boxes where there are some.

Each image's proposals are pooled from one feature map and go through two fully connected layers.
A multiple-instance head learns the tags; K refinement heads learn from boxes that the head before
them makes up, or from true boxes where an image is complete. The equations are in
`detectors.mist_boxes`. Left out: drawing weak and strong images 1:1, which is the recipe's
(`train.fit` takes ids that repeat).

Source: MIST (Ren et al., CVPR 2020) as BiB (Vo et al., ECCV 2022) uses it: §3.4, appendix §3.1.
Differs: regions are aligned (RoIAlign), not quantised; heads start with `prior`, so a head that
knows nothing teaches the next one nothing; Eq. 5 is over C classes and all proposals of an image,
where MIST's code adds background, and BiB's takes those sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from almining.checks import check_whole
from almining.data.proposals import Proposer
from almining.detectors import mist_boxes
from almining.detectors.base import (
    Detector,
    check_asked,
    check_batch,
    check_finite,
    device_of,
    judged,
    mode,
    pool_levels,
)
from almining.detectors.mist_boxes import Rules
from almining.detectors.mist_parts import (
    ConcreteDropBlock,
    Parts,
    RefinementHead,
    Seen,
    load_imagenet,
    make_parts,
)
from almining.detectors.proposed import decode, propose, proposer_of
from almining.records import Detections, Target
from almining.rng import forked


class Mist(Detector):
    """A weakly supervised detector with `regions` and `embed`; `mist` makes one.

    Args:
        classes: the names of classes 1...C.
        proposer: gives the boxes (n, 4) of an image.
        parts: backbone, pooling and fully connected layers.
        rules: how pseudo-boxes, samples and detections are made.
        heads: K, how many times boxes are refined.
        dropout: share of each of the two fully connected layers hidden while training.
        prior: probability of an object, as the heads see it before they learn.
        frozen_norm: the backbone's batch normalisation stays as it is while training.
        drop_block: hides places of pooled regions while training, or None.
        max_size: the longest a side of an image may become when it is resized, in pixels.
    """

    mean: Tensor
    std: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        proposer: Proposer,
        parts: Parts,
        rules: Rules,
        *,
        heads: int = 3,
        dropout: tuple[float, float] = (0.5, 0.5),
        prior: float = 0.01,
        frozen_norm: bool = False,
        drop_block: ConcreteDropBlock | None = None,
        max_size: int = 2000,
    ) -> None:
        """Keep the parts and make the heads."""
        super().__init__(classes)
        if len(self.classes) == 1:
            raise ValueError(
                f"classes = {list(classes)} is one class: Eq. 6 compares classes, so at least two "
                "are needed, or a tag teaches nothing; add one that is always absent"
            )
        self.proposer, self.rules, self.dropout = proposer, rules, dropout
        self.size, self.max_size = parts.size, max_size
        self.backbone, self.pool, self.head = parts.backbone, parts.pool, parts.head
        self.drop_block, self.frozen_norm = drop_block, frozen_norm
        width, count = parts.head.fc7.out_features, len(self.classes)
        self.classify, self.compare = nn.Linear(width, count), nn.Linear(width, count)
        self.refine = nn.ModuleList(RefinementHead(width, count, prior=prior) for _ in range(heads))
        for name, values in zip(("mean", "std"), parts.colours, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target],
        *,
        generator: torch.Generator,
        training: bool = True,
    ) -> dict[str, Tensor]:
        """Return `mil`, and `cls1`, `reg1` ... `clsK`, `regK`: Eq. 3, means over the images.

        A complete image's true boxes replace the pseudo-boxes (§3.4). Of any other image its tags
        count, and the classes of its boxes. A class of which nothing is known adds nothing, nor
        does an image without proposals: a zero that carries a gradient.

        Args:
            images: b tensors (3, h, w).
            targets: b targets.
            generator: draws proposals and what drop-block hides; dropout draws from torch's global
                one, which `train.fit` seeds around every step.
            training: False for the losses as in evaluation, over all proposals: a strategy that
                ranks by them must not change the detector, nor, by tags alone, depend on chance.
        """
        check_batch(images, targets, classes=self.classes)
        mist_boxes.check_tags(targets, len(self.classes))
        boxes = propose(self.proposer, images, device_of(self))
        if training:
            boxes = [self._some(found, generator) for found in boxes]
        with mode(self, training):
            seen = self._look(images, boxes, self.size, generator if training else None)
        totals: dict[str, Tensor] = {}
        for one, given, target in zip(seen, boxes, targets, strict=True):
            for name, value in self._image_losses(one, given, target, generator).items():
                totals[name] = totals.get(name, 0.0) + value / len(images)
        return totals

    @torch.no_grad()
    def detect(
        self, images: Sequence[Tensor], *, sizes: Sequence[int] | None = None
    ) -> list[Detections]:
        """Return detections with `probs` (n, C + 1) and `features` (n, d), best first.

        Scores and boxes are the means over the K heads. Both belong to the proposal a box was
        regressed from, so several detections may share a row.

        Args:
            images: b tensors (3, h, w).
            sizes: look at each image with its shorter side resized to each of these, in pixels, and
                average; once at the detector's own `size` by default.
        """
        check_batch(images)
        looks = [
            check_whole(side, "sizes", 1) for side in ((self.size,) if sizes is None else sizes)
        ]
        if not looks:
            raise ValueError("sizes is empty; give at least one, in pixels, or None")
        boxes = propose(self.proposer, images, device_of(self))
        with mode(self, False):
            seen = [self._look(images, boxes, side, None) for side in looks]
        found = []
        for image, given, *by_size in zip(images, boxes, *seen, strict=True):
            probs, deltas, features = (
                torch.stack(values).mean(dim=0)
                for values in zip(*(one.averaged() for one in by_size), strict=True)
            )
            found.append(decode(image, given, probs, deltas, features, self.rules))
        return found

    @torch.no_grad()
    def regions(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Detections]:
        """Return class probabilities and features of given boxes (n, 4) of each image.

        The boxes stay as they are, in their order; the label is the most probable
        foreground class and the score its probability.
        """
        check_asked(images, boxes)
        asked = [given.to(device_of(self)) for given in boxes]
        with mode(self, False):
            seen = self._look(images, asked, self.size, None)
        found = []
        for given, one in zip(asked, seen, strict=True):
            probs, _, features = one.averaged()
            found.append(judged(given, probs, features))
        return found

    @torch.no_grad()
    def standardise(self, images: Iterable[Tensor]) -> None:
        """Let the heads see each feature with mean 0 and deviation 1 over these images' proposals.

        Once, before training: heads on a backbone that knows something learn faster so. `features`
        stay as they are. Images may come one by one.
        """
        device = device_of(self)
        found = (
            self.regions([image], propose(self.proposer, [image], device))[0] for image in images
        )
        rows = torch.cat([one.features for one in found if one.features is not None])
        self.center, self.spread = rows.mean(dim=0), rows.std(dim=0) + 1e-3

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return one vector per image: its levels' means, joined, (b, levels x channels)."""
        check_batch(images)
        vectors = []
        with mode(self, False):
            for image in images:
                batch = self._resized(image, self.size)[None]
                height, width = batch.shape[2:]
                levels = self.backbone(batch).values()
                vectors.append(pool_levels(levels, [(height, width)], (height, width)))
        return torch.cat(vectors) if vectors else self.mean.new_zeros(0, 0)

    def _some(self, boxes: Tensor, generator: torch.Generator) -> Tensor:
        most = self.rules.train_proposals
        if most is None or len(boxes) <= most:
            return boxes
        return boxes[torch.randperm(len(boxes), generator=generator)[:most].to(boxes.device)]

    def _resized(self, image: Tensor, size: int) -> Tensor:
        height, width = image.shape[1:]
        scale = min(size / min(height, width), self.max_size / max(height, width))
        image = (image.to(self.mean.device) - self.mean) / self.std
        if scale == 1:
            return image
        sides = [max(1, round(side * scale)) for side in (height, width)]
        return functional.interpolate(image[None], sides, mode="bilinear")[0]

    def _look(
        self,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        size: int,
        generator: torch.Generator | None,
    ) -> list[Seen]:
        """Return what the network says of each image's boxes; images of one size go together."""
        resized = [self._resized(image, size) for image in images]
        if len({image.shape for image in resized}) > 1:  # one by one: no image sees padding
            return [
                self._look([image], [given], size, generator)[0]
                for image, given in zip(images, boxes, strict=True)
            ]
        if not images:
            return []
        sides = tuple(resized[0].shape[1:])
        scaled = [
            given * given.new_tensor([sides[1] / image.shape[2], sides[0] / image.shape[1]] * 2)
            for given, image in zip(boxes, images, strict=True)
        ]
        with mode(self.backbone, self.training and not self.frozen_norm):
            levels = self.backbone(torch.stack(resized))
        pooled = self.pool(levels, scaled, [sides] * len(images))
        if self.drop_block is not None and generator is not None:
            pooled = self.drop_block(pooled, generator=generator)
        return self._heads(pooled, [len(given) for given in boxes])

    def _heads(self, pooled: Tensor, counts: list[int]) -> list[Seen]:
        x = self.head.fc6(pooled.flatten(start_dim=1)).relu()
        x = self.head.fc7(functional.dropout(x, self.dropout[0], self.training)).relu()
        y = (x - self.center) / self.spread
        y = functional.dropout(y, self.dropout[1], self.training)
        logits, deltas = zip(*(head(y) for head in self.refine), strict=True)
        values = [self.classify(y), self.compare(y), torch.stack(logits), torch.stack(deltas), x]
        for value in values:  # NaN is above no threshold: it would look empty
            check_finite(value, "what the heads say")
        dims = (0, 0, 1, 1, 0)
        parts = [value.split(counts, dim) for value, dim in zip(values, dims, strict=True)]
        return [Seen(*one) for one in zip(*parts, strict=True)]

    def _image_losses(
        self, seen: Seen, boxes: Tensor, target: Target, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the terms of Eq. 3 for one image."""
        rules, scores = self.rules, mist_boxes.region_scores(seen.classify, seen.detect)
        losses = {"mil": mist_boxes.tag_loss(scores, target)}
        rows: Any = slice(None)
        if target.complete:
            rows, wanted = mist_boxes.strong(boxes, seen.logits, target, rules, generator=generator)
        for number, (logits, deltas) in enumerate(zip(seen.logits, seen.deltas, strict=True), 1):
            if not target.complete:
                wanted = mist_boxes.weak(boxes, scores, target, rules)
            cls, reg = mist_boxes.refinement_losses(logits[rows], deltas[rows], boxes[rows], wanted)
            weight = 1.0 if number > 1 or target.complete else rules.first_weight
            losses[f"cls{number}"], losses[f"reg{number}"] = cls * weight, reg * weight
            scores = logits.softmax(dim=1)[:, 1:]  # the source of the next head
        return losses


def mist(
    classes: Sequence[str],
    *,
    proposer: Proposer | str = "grid",
    backbone: str = "tiny",
    imagenet: bool = False,
    heads: int = 3,
    dropout: tuple[float, float] = (0.5, 0.5),
    prior: float = 0.01,
    frozen_norm: bool = False,
    drop_block: bool = False,
    width: int | None = None,
    size: int | None = None,
    max_size: int = 2000,
    seed: int = 0,
    **rules: Any,
) -> Mist:
    """Return an untrained MIST.

    Args:
        classes: the names of classes 1...C.
        proposer: gives the boxes (n, 4) of an image: `"grid"`, `"segments"`, `"selective_search"`
            (needs OpenCV) or anything callable with an image.
        backbone: `"tiny"`, `"vgg16"` or one of torchvision's ResNets with a feature pyramid.
        imagenet: start VGG16 from torchvision's ImageNet weights, downloaded when not there.
        heads: K, how many times boxes are refined.
        dropout: share of each of the two fully connected layers hidden while training.
        prior: probability of an object, as the heads see it before they learn.
        frozen_norm: the backbone's batch normalisation stays as it is while training.
        drop_block: use Concrete Drop Block while training.
        width: of the two layers; 256 for the tiny backbone, 4096 for VGG16, 1024 otherwise.
        size: the shorter side an image is resized to, in pixels; 128 for the tiny backbone, 800
            otherwise.
        max_size: the longest a side may become.
        seed: of the initial weights.
        rules: any of `Rules`.

    Raises:
        ValueError: naming the argument and its value.

    >>> from almining.data.proposals import Grid
    >>> detector = mist(["cat", "dog"], proposer=Grid(sizes=(0.5,)))
    >>> [len(detector.regions([torch.zeros(3, 64, 96)], [torch.ones(2, 4)])[0]), detector.classes]
    [2, ('cat', 'dog')]
    """
    check_whole(heads, "heads", 1)
    if len(dropout) != 2 or not all(0 <= share < 1 for share in dropout):
        raise ValueError(f"dropout = {dropout!r}: two numbers of 0 or more, below 1, are needed")
    if not 0 < prior < 1:
        raise ValueError(f"prior = {prior!r}: a probability above 0 and below 1 is needed")
    if imagenet and backbone != "vgg16":
        raise ValueError(f"imagenet = True needs backbone = 'vgg16', not {backbone!r}")
    with forked(seed, torch.device("cpu")):
        parts = make_parts(backbone, width)
        if imagenet:
            load_imagenet(parts.backbone, parts.head)
        return Mist(
            classes,
            proposer_of(proposer),
            parts if size is None else parts._replace(size=check_whole(size, "size", 1)),
            Rules(**rules),
            heads=heads,
            dropout=dropout,
            prior=prior,
            frozen_norm=frozen_norm,
            drop_block=ConcreteDropBlock(parts.backbone.out_channels) if drop_block else None,
            max_size=check_whole(max_size, "max_size", 1),
        )
