"""RetinaNet and FCOS on torchvision's parts, with targets that may come from the same forward.

torchvision's own forward takes targets before it has looked, drops class probabilities, and knows
no boxes that are neither positive nor negative. Here looking, decoding and the losses are apart, so
that what one forward finds can teach it (`losses_from`), and probabilities and features come with
every detection. Backbone, heads, anchors, matching and box losses stay torchvision's, so any of its
models can be taken as it is, weights included.

Whatever is not boxed in an image with boxes counts as background, though the image be sparse: what
repairs that is a paper's, such as Co-mining. An image of which nothing is known, or only tags,
teaches nothing.

Source: RetinaNet (Lin et al., ICCV 2017), FCOS (Tian et al., ICCV 2019).
Differs: anchors lying mostly (>= 50%) in an ignored box are never background; true boxes are cut to
the image, and what keeps no area is left out. As in torchvision, RetinaNet's losses are shared by
the positives of each image, FCOS's by those of the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FCOS as TorchvisionFCOS
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.ops import batched_nms

from almining.boxes import clip, containment
from almining.detectors.base import (
    Detector,
    Teach,
    check_batch,
    check_finite,
    device_of,
    learning,
    mode,
    pool_levels,
    spans,
)
from almining.detectors.onestage_parts import (
    BETWEEN,
    Anchored,
    Matches,
    Seen,
    fcos_model,
    retinanet_model,
)
from almining.detectors.rcnn_parts import IGNORED
from almining.records import Detections, Target
from almining.rng import forked

Classify = Callable[[Anchored], Tensor]
OUTPUTS = {
    "cls_logits": "class logits",
    "bbox_regression": "box regressions",
    "bbox_ctrness": "centerness logits",
}


class OneStage(Detector):
    """A detector with one-vs-rest class probabilities, `losses_from` and `embed`.

    Args:
        model: a torchvision model with C + 1 outputs; it is used, not copied.
        classes: the names of classes 1...C.

    Raises:
        ValueError: when the model's outputs do not match the classes.
    """

    def __init__(self, model: Any, classes: Sequence[str]) -> None:
        """Check that the model's outputs fit the classes."""
        super().__init__(classes)
        outputs = model.head.classification_head.num_classes
        if outputs != len(self.classes) + 1:
            raise ValueError(
                f"the model has {outputs} outputs, but {len(self.classes)} classes and background "
                f"need {len(self.classes) + 1}; make it with num_classes={len(self.classes) + 1}"
            )
        self.model = model

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses `cls` and `reg`, and FCOS's `ctr`.

        torchvision's resizing draws from torch's global generator: `train.fit` seeds it around
        every step.
        """
        check_batch(images, targets, classes=self.classes)
        with mode(self, True):
            return self._losses(self._look(images), targets, spans(images, 1), Anchored.focal)

    def losses_from(
        self,
        images: Sequence[Tensor],
        teach: Teach,
        *,
        generator: torch.Generator,
        min_score: float = 0.0,
        views: int = 1,
        frozen_norm: bool = False,
        classify: Classify | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses against targets that are made from what the same forward finds.

        Args:
            images: b tensors (3, h, w), view by view: the first b / views are the first view's.
            teach: makes a target for each image from b `Detections`, the boxes that score at least
                `min_score` before any suppression; they carry no gradient.
            generator: not needed; see `losses`.
            min_score: see `teach`.
            views: how many losses are added up, each over its own images.
            frozen_norm: batch normalisation stays as it is, as in evaluation.
            classify: the class loss of each anchor and class, (a, C + 1); focal by default.
        """
        parts = spans(images, views)
        with learning(self, frozen_norm=frozen_norm):
            seen = self._look(images)
            with torch.no_grad():
                found = [self._found(seen, image, min_score)[0] for image in range(len(images))]
            targets = teach(found)
            check_batch(images, targets, classes=self.classes)
            return self._losses(seen, targets, parts, classify or Anchored.focal)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return detections with `probs` (n, C + 1) and `features` (n, d), best first.

        Both belong to the anchor a box was regressed from, so several detections may share a row.
        Probabilities are one-vs-rest; FCOS's score is the root of probability times centerness.
        """
        check_batch(images)
        if not images:
            return []
        with mode(self, False):
            seen = self._look(images)
        return [self._detected(seen, image) for image in range(len(images))]

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return one vector per image: its levels' means, joined, (b, levels x channels)."""
        check_batch(images)
        with mode(self, False):
            batch, _ = self.model.transform([image.to(device_of(self)) for image in images])
            levels = self.model.backbone(batch.tensors).values()
        return pool_levels(levels, batch.image_sizes, batch.tensors.shape[2:])

    def _look(self, images: Sequence[Tensor]) -> Seen:
        device = device_of(self)
        batch, _ = self.model.transform([image.to(device) for image in images])
        pyramid = list(self.model.backbone(batch.tensors).values())
        outputs = self.model.head(pyramid)
        for name, values in outputs.items():
            check_finite(values, OUTPUTS[name])  # NaN would look empty
        anchors = self.model.anchor_generator(batch, pyramid)
        each = self.model.anchor_generator.num_anchors_per_location()
        cells = (level.shape[2] * level.shape[3] for level in pyramid)
        counts = [n * cell for n, cell in zip(each, cells, strict=True)]
        originals = [(image.shape[1], image.shape[2]) for image in images]
        return Seen(originals, batch.image_sizes, anchors, counts, outputs, pyramid)

    def _found(self, seen: Seen, image: int, min_score: float) -> tuple[Detections, Tensor]:
        """Return the boxes with enough score, the best of each level, and their anchors' rows."""
        scores = self._scores(seen, image)  # (a, C)
        kept, first = [], 0
        for level in scores.split(seen.counts):
            values = level.flatten()
            places = (values >= min_score).nonzero()[:, 0]
            if len(places) > self.model.topk_candidates:
                places = places[values[places].topk(self.model.topk_candidates).indices]
            kept.append(places + first)
            first += level.numel()
        places = torch.cat(kept)
        places = places[scores.flatten()[places].argsort(descending=True, stable=True)]
        rows, labels = places // scores.shape[1], places % scores.shape[1] + 1
        deltas = seen.outputs["bbox_regression"][image][rows]
        boxes = clip(self._decoded(deltas, seen.anchors[image][rows]), seen.sizes[image])
        boxes = clip(boxes / seen.scale(image), seen.originals[image])
        return Detections(boxes, labels, scores.flatten()[places]), rows

    def _detected(self, seen: Seen, image: int) -> Detections:
        found, rows = self._found(seen, image, self.model.score_thresh)
        kept = batched_nms(found.boxes, found.scores, found.labels, self.model.nms_thresh)
        found, rows = found.select(kept := kept[: self.model.detections_per_img]), rows[kept]
        probs = seen.outputs["cls_logits"][image][rows].sigmoid()
        probs[:, 0] = 1 - probs[:, 1:].amax(dim=1)
        features = seen.features(image, rows)
        return Detections(found.boxes, found.labels, found.scores, probs=probs, features=features)

    def _losses(
        self, seen: Seen, targets: Sequence[Target], parts: Sequence[slice], classify: Classify
    ) -> dict[str, Tensor]:
        known = [seen.resized(image, target) for image, target in enumerate(targets)]
        matched = self._matched(seen, known)
        sums = []
        for image, target in enumerate(targets):
            rows = matched[image].clone()
            ignored = target.boxes[target.ignore].to(rows.device) * seen.scale(image)
            if len(ignored):
                inside = containment(seen.anchors[image], ignored).amax(dim=1) >= IGNORED
                rows[inside & (rows < 0)] = BETWEEN
            value = classify(seen.anchored(image, rows, known[image])).sum()
            taught = target.complete or len(target) > 0
            sums.append(value if taught else value * 0)
        totals: dict[str, Tensor] = {}
        for part in parts:
            outputs = {name: values[part] for name, values in seen.outputs.items()}
            given = (known[part], outputs, seen.anchors[part], matched[part])
            for name, value in self._combined(torch.stack(sums[part]), *given).items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    @abstractmethod
    def _scores(self, seen: Seen, image: int) -> Tensor:
        """Return the scores (a, C) of an image's anchors."""

    @abstractmethod
    def _decoded(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return boxes (n, 4)."""

    @abstractmethod
    def _matched(self, seen: Seen, known: list[dict[str, Tensor]]) -> list[Tensor]:
        """Return each anchor's row among the known boxes; below 0 for none."""

    @abstractmethod
    def _combined(
        self,
        sums: Tensor,
        known: list[dict[str, Tensor]],
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses of a batch whose images' class losses add up to `sums` (b,)."""


class RetinaNet(OneStage):
    """RetinaNet: focal loss over anchors; `retinanet` makes one."""

    def _scores(self, seen: Seen, image: int) -> Tensor:
        return seen.outputs["cls_logits"][image][:, 1:].sigmoid()

    def _decoded(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.model.box_coder.decode_single(deltas, anchors)
        return boxes

    def _matched(self, seen: Seen, known: list[dict[str, Tensor]]) -> list[Tensor]:
        rules = SimpleNamespace(proposal_matcher=self.model.proposal_matcher, head=Matches)
        return TorchvisionRetinaNet.compute_loss(rules, known, {}, seen.anchors)

    def _combined(
        self,
        sums: Tensor,
        known: list[dict[str, Tensor]],
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched: list[Tensor],
    ) -> dict[str, Tensor]:
        positives = torch.stack([(rows >= 0).sum() for rows in matched]).clamp(min=1)
        regression = self.model.head.regression_head
        reg = regression.compute_loss(known, outputs, anchors, matched)
        return {"cls": (sums / positives).mean(), "reg": reg}


class FCOS(OneStage):
    """FCOS: one point per place, with centerness; `fcos` makes one."""

    def _scores(self, seen: Seen, image: int) -> Tensor:
        centerness = seen.outputs["bbox_ctrness"][image].sigmoid()
        return (seen.outputs["cls_logits"][image][:, 1:].sigmoid() * centerness).sqrt()

    def _decoded(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.model.box_coder.decode(deltas, anchors)
        return boxes

    def _matched(self, seen: Seen, known: list[dict[str, Tensor]]) -> list[Tensor]:
        radius = self.model.center_sampling_radius
        rules = SimpleNamespace(center_sampling_radius=radius, head=Matches)
        return TorchvisionFCOS.compute_loss(rules, known, {}, seen.anchors, seen.counts)

    def _combined(
        self,
        sums: Tensor,
        known: list[dict[str, Tensor]],
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched: list[Tensor],
    ) -> dict[str, Tensor]:
        here = [rows >= 0 for rows in matched]
        rows = [row[kept] for row, kept in zip(matched, here, strict=True)]
        fields = {
            name: torch.cat([one[name][row] for one, row in zip(known, rows, strict=True)])
            for name in ("boxes", "labels")
        }
        # torchvision's loss of all positives as one image
        some = {name: values[torch.stack(here)][None] for name, values in outputs.items()}
        points = torch.cat([one[kept] for one, kept in zip(anchors, here, strict=True)])
        own = torch.arange(len(points), device=points.device)
        found = self.model.head.compute_loss([fields], some, [points], [own])
        cls = sums.sum() / max(1, len(points))
        return {"cls": cls, "reg": found["bbox_regression"], "ctr": found["bbox_ctrness"]}


def retinanet(
    classes: Sequence[str],
    *,
    backbone: str = "tiny",
    min_size: int = 128,
    max_size: int = 1333,
    seed: int = 0,
    **options: Any,
) -> RetinaNet:
    """Return an untrained RetinaNet.

    Args:
        classes: the names of classes 1...C.
        backbone: `"tiny"`, or one of torchvision's ResNets, with pyramid levels 3 to 7.
        min_size: the shorter side an image is resized to, in pixels.
        max_size: the longest a side may become.
        seed: of the initial weights.
        options: passed on to torchvision's `RetinaNet`, over what is set here.

    >>> detector = retinanet(["cat", "dog"])
    >>> [len(detector.detect([torch.zeros(3, 96, 128)])), detector.classes]
    [1, ('cat', 'dog')]
    """
    sides = {"min_size": min_size, "max_size": max_size}
    with forked(seed, torch.device("cpu")):
        model = retinanet_model(backbone, len(classes) + 1, **(sides | options))
    return RetinaNet(model, classes)


def fcos(
    classes: Sequence[str],
    *,
    backbone: str = "tiny",
    min_size: int = 128,
    max_size: int = 1333,
    seed: int = 0,
    **options: Any,
) -> FCOS:
    """Return an untrained FCOS, with centerness; the arguments are `retinanet`'s.

    >>> fcos(["cat", "dog"]).embed([torch.zeros(3, 96, 128)]).shape
    torch.Size([1, 256])
    """
    sides = {"min_size": min_size, "max_size": max_size}
    with forked(seed, torch.device("cpu")):
        model = fcos_model(backbone, len(classes) + 1, **(sides | options))
    return FCOS(model, classes)
