"""Faster R-CNN on torchvision's parts, run stage by stage.

The stages are: propose, assign, sample, pool, predict, decode. torchvision's own forward
hides them and drops what active learning needs: class probabilities and features of every
detection, given regions, and boxes that are neither positive nor negative. The parts (RPN, RoI
heads, transform) stay torchvision's, so any of its Faster R-CNN models can be taken as it is,
weights included.

Source: Faster R-CNN (Ren et al., NeurIPS 2015); feature pyramid (Lin et al., CVPR 2017).
Differs: anchors and proposals lying mostly (>= 50%) in an ignored box are never sampled as
background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import batched_nms

from almining.boxes import clip
from almining.detectors.backbones import make_backbone
from almining.detectors.base import (
    Detector,
    Teach,
    check_asked,
    check_batch,
    check_finite,
    device_of,
    judged,
    learning,
    mode,
    pool_levels,
    spans,
)
from almining.detectors.rcnn_parts import (
    FAR,
    Proposed,
    leave_out,
    part_of,
    resized,
    tiny_settings,
)
from almining.records import Detections, Target
from almining.rng import forked


class FasterRCNN(Detector):
    """Faster R-CNN with `regions` and `embed`.

    Args:
        model: a torchvision Faster R-CNN with C + 1 outputs; it is used, not copied.
        classes: the names of classes 1...C.

    Raises:
        ValueError: when the model's outputs do not match the classes.
    """

    def __init__(self, model: TorchvisionFasterRCNN, classes: Sequence[str]) -> None:
        """Check that the model's outputs fit the classes."""
        super().__init__(classes)
        outputs = model.roi_heads.box_predictor.cls_score.out_features
        if outputs != len(self.classes) + 1:
            raise ValueError(
                f"the model has {outputs} outputs, but {len(self.classes)} classes and background "
                f"need {len(self.classes) + 1}; make it with num_classes={len(self.classes) + 1}"
            )
        self.model = model

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Target], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the four losses `rpn_cls`, `rpn_reg`, `cls` and `reg`.

        Boxes are cut to the image, and what keeps no area is left out. torchvision's two samplers
        draw from torch's global generator: `train.fit` seeds it around every step.
        """
        check_batch(images, targets, classes=self.classes)
        with mode(self, True):
            batch, pyramid, known, ignored = self.prepare(images, targets)
            proposed = self.propose(batch, pyramid)
            return self._losses(pyramid, batch.image_sizes, proposed, known, ignored)

    def losses_from(
        self,
        images: Sequence[Tensor],
        teach: Teach,
        *,
        generator: torch.Generator,
        min_score: float = 0.0,
        views: int = 1,
        frozen_norm: bool = False,
        classify: None = None,
    ) -> dict[str, Tensor]:
        """Return the losses against targets that are made from what the same forward finds.

        RPN and box head learn from the same targets. The arguments are those of
        `onestage.OneStage.losses_from`; an image of which nothing is known teaches nothing.
        """
        if classify is not None:
            raise ValueError("Faster R-CNN has no loss per anchor and class: leave classify out")
        parts = spans(images, views)
        with learning(self, frozen_norm=frozen_norm):
            batch, pyramid, _, _ = self.prepare(images, None)
            proposed = self.propose(batch, pyramid)
            with torch.no_grad():
                heads = self._heads(pyramid, proposed[-1], batch.image_sizes)
                found = self._decode(images, batch, proposed[-1], *heads, min_score=min_score)
            targets = teach(found)
            check_batch(images, targets, classes=self.classes)
            known, ignored = resized(images, batch, targets)
            for place, target in enumerate(targets):
                if not target.complete and not len(target):
                    ignored[place] = ignored[place].new_tensor([[-FAR, -FAR, FAR, FAR]])
            totals: dict[str, Tensor] = {}
            for part in parts:
                some = {name: level[part] for name, level in pyramid.items()}
                own = part_of(proposed, part, len(images))
                given = (some, batch.image_sizes[part], own, known[part], ignored[part])
                for name, value in self._losses(*given).items():
                    totals[name] = totals.get(name, 0.0) + value
        return totals

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return detections with `probs` (n, C + 1) and `features` (n, d), best first.

        Both belong to the proposal a box was regressed from, so several detections may share a row.
        """
        check_batch(images)
        if not images:
            return []
        with mode(self, False):
            batch, pyramid, _, _ = self.prepare(images, None)
            *_, proposals = self.propose(batch, pyramid)
            logits, deltas, features = self._heads(pyramid, proposals, batch.image_sizes)
            return self._decode(images, batch, proposals, logits, deltas, features)

    @torch.no_grad()
    def regions(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Detections]:
        """Return class probabilities and features of given boxes (n, 4) of each image.

        The boxes stay as they are, in their order; the label is the most probable
        foreground class and the score its probability.
        """
        check_asked(images, boxes)
        if not images:
            return []
        with mode(self, False):
            batch, pyramid, _, _ = self.prepare(images, None)
            scaled = [
                given.to(batch.tensors.device) * scale_of(image, size).to(batch.tensors.device)
                for given, image, size in zip(boxes, images, batch.image_sizes, strict=True)
            ]
            logits, _, features = self._heads(pyramid, scaled, batch.image_sizes)
        counts = [len(given) for given in boxes]
        probs = logits.softmax(dim=1)
        each = zip(boxes, probs.split(counts), features.split(counts), strict=True)
        return [judged(given.to(p.device), p, f) for given, p, f in each]

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return one vector per image: its pyramid levels' means, joined, (b, levels x channels).

        Differs: BiB's appendix does not say which layer gives an image's features.
        """
        check_batch(images)
        with mode(self, False):
            batch, pyramid, _, _ = self.prepare(images, None)
        return pool_levels(pyramid.values(), batch.image_sizes, batch.tensors.shape[2:])

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None
    ) -> tuple[ImageList, dict[str, Tensor], list[dict[str, Tensor]], list[Tensor]]:
        """Return the resized batch, its pyramid, and each image's true and ignored boxes in it."""
        device = device_of(self)
        batch, _ = self.model.transform([image.to(device) for image in images])
        pyramid = self.model.backbone(batch.tensors)
        return batch, pyramid, *resized(images, batch, targets or [])

    def propose(
        self,
        batch: ImageList,
        pyramid: dict[str, Tensor],
        said: tuple[list[Tensor], list[Tensor]] | None = None,
    ) -> Proposed:
        """Return each image's anchors, all scores (a, 1) and steps (a, 4), each image's proposals.

        Args:
            batch: the resized images.
            pyramid: their levels.
            said: scores and steps of each level; what the RPN's head says of it by default.
        """
        rpn = self.model.rpn
        levels = list(pyramid.values())
        by_level, deltas_by_level = rpn.head(levels) if said is None else said
        anchors = rpn.anchor_generator(batch, levels)
        counts = [scores[0].numel() for scores in by_level]
        scores, deltas = concat_box_prediction_layers(by_level, deltas_by_level)
        check_finite(scores, "the RPN's scores")
        check_finite(deltas, "the RPN's regressions")
        boxes = rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        proposals, _ = rpn.filter_proposals(boxes, scores, batch.image_sizes, counts)
        return anchors, scores, deltas, proposals

    def match(
        self, anchors: list[Tensor], known: list[dict[str, Tensor]], ignored: list[Tensor]
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Return each image's labels (a,) of its anchors, -1 for none, and steps to their boxes."""
        rpn = self.model.rpn
        labels, matched = rpn.assign_targets_to_anchors(anchors, known)
        for label, anchor, ignore in zip(labels, anchors, ignored, strict=True):
            leave_out(label, anchor, ignore)
        return labels, rpn.box_coder.encode(matched, anchors)

    def _losses(
        self,
        pyramid: dict[str, Tensor],
        sizes: list[tuple[int, int]],
        proposed: Proposed,
        known: list[dict[str, Tensor]],
        ignored: list[Tensor],
    ) -> dict[str, Tensor]:
        anchors, scores, deltas, proposals = proposed
        rpn_cls, rpn_reg = self._rpn_losses(scores, deltas, *self.match(anchors, known, ignored))
        rois, labels, regression = self.sample(proposals, known, ignored)
        logits, boxes, _ = self._heads(pyramid, rois, sizes)
        if len(logits):
            cls, reg = fastrcnn_loss(logits, boxes, labels, regression)
        else:  # every proposal lies in an ignored box
            cls, reg = logits.sum(), boxes.sum()
        return {"rpn_cls": rpn_cls, "rpn_reg": rpn_reg, "cls": cls, "reg": reg}

    def _rpn_losses(
        self, scores: Tensor, deltas: Tensor, labels: list[Tensor], steps: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        if all(bool((label < 0).all()) for label in labels):  # every anchor lies in an ignored box
            return scores.sum() * 0, deltas.sum() * 0
        cls, reg = self.model.rpn.compute_loss(scores, deltas, labels, steps)
        return cls, reg

    def sample(
        self, proposals: list[Tensor], known: list[dict[str, Tensor]], ignored: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, ...]]:
        """Return each image's regions to learn from, their labels, and steps to their boxes."""
        heads = self.model.roi_heads
        truth = [target["boxes"] for target in known]
        proposals = heads.add_gt_proposals(proposals, truth)
        matches, labels = heads.assign_targets_to_proposals(
            proposals, truth, [target["labels"] for target in known]
        )
        for label, proposal, ignore in zip(labels, proposals, ignored, strict=True):
            leave_out(label, proposal, ignore)
        kept = heads.subsample(labels)
        rois = [proposal[keep] for proposal, keep in zip(proposals, kept, strict=True)]
        matched = [
            boxes[match[keep]] if len(boxes) else boxes.new_zeros(len(keep), 4)
            for boxes, match, keep in zip(truth, matches, kept, strict=True)
        ]
        labels = [label[keep] for label, keep in zip(labels, kept, strict=True)]
        return rois, labels, heads.box_coder.encode(matched, rois)

    def _heads(
        self, pyramid: dict[str, Tensor], rois: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.model.roi_heads
        features = heads.box_head(heads.box_roi_pool(pyramid, rois, sizes))
        logits, deltas = heads.box_predictor(features)
        check_finite(logits, "class logits")  # NaN is above no threshold: it would look empty
        check_finite(deltas, "box regressions")
        return logits, deltas, features

    def _decode(
        self,
        images: Sequence[Tensor],
        batch: ImageList,
        proposals: list[Tensor],
        logits: Tensor,
        deltas: Tensor,
        features: Tensor,
        *,
        min_score: float | None = None,
    ) -> list[Detections]:
        """Return the detections; with `min_score`, all that score as much, before suppression."""
        heads = self.model.roi_heads
        counts = [len(boxes) for boxes in proposals]
        probs = logits.softmax(dim=1).split(counts)
        # reshaped because torchvision returns another shape when there is no proposal at all
        decoded = heads.box_coder.decode(deltas, proposals).reshape(*logits.shape, 4)
        boxes = decoded.split(counts)  # (r, C + 1, 4) each
        found = []
        for image, size, p, b, f in zip(
            images, batch.image_sizes, probs, boxes, features.split(counts), strict=True
        ):
            sure = p[:, 1:] > heads.score_thresh if min_score is None else p[:, 1:] >= min_score
            rows, columns = sure.nonzero(as_tuple=True)
            candidates = clip(b[rows, columns + 1], size)
            wide = (candidates[:, 2:] - candidates[:, :2] > 1e-2).all(dim=1)
            rows, labels, candidates = rows[wide], columns[wide] + 1, candidates[wide]
            scores = p[rows, labels]
            kept = scores.argsort(descending=True, stable=True)
            if min_score is None:
                kept = batched_nms(candidates, scores, labels, heads.nms_thresh)
                kept = kept[: heads.detections_per_img]
            unscaled = candidates[kept] / scale_of(image, size).to(p.device)
            original = clip(unscaled, (image.shape[1], image.shape[2]))
            from_rows = {"probs": p[rows[kept]], "features": f[rows[kept]]}
            found.append(Detections(original, labels[kept], scores[kept], **from_rows))
        return found


def scale_of(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what takes boxes of an image to a batch that holds it at this (height, width)."""
    x, y = size[1] / image.shape[2], size[0] / image.shape[1]
    return torch.tensor([x, y, x, y], device=image.device)


def faster_rcnn(
    classes: Sequence[str],
    *,
    backbone: str = "tiny",
    min_size: int = 128,
    max_size: int = 1333,
    seed: int = 0,
    **options: Any,
) -> FasterRCNN:
    """Return an untrained Faster R-CNN.

    Args:
        classes: the names of classes 1...C.
        backbone: `"tiny"`, or one of torchvision's ResNets with a feature pyramid.
        min_size: the shorter side an image is resized to, in pixels.
        max_size: the longest a side may become.
        seed: of the initial weights.
        options: passed on to torchvision's `FasterRCNN`, over what is set here.

    >>> detector = faster_rcnn(["cat", "dog"])
    >>> [len(detector.detect([torch.zeros(3, 96, 128)])), detector.classes]
    [1, ('cat', 'dog')]
    """
    with forked(seed, torch.device("cpu")):
        base = make_backbone(backbone)
        settings: dict[str, Any] = {"min_size": min_size, "max_size": max_size}
        if backbone == "tiny":
            settings |= tiny_settings(base, len(classes) + 1)
        else:
            settings |= {"num_classes": len(classes) + 1}
        return FasterRCNN(TorchvisionFasterRCNN(base, **(settings | options)), classes)


def reuse(detector: FasterRCNN, trained: FasterRCNN) -> FasterRCNN:
    """Return `detector` with the backbone, and RPN and box head that fit, of `trained`.

    It is changed in place; weights are copied where shapes agree. The class predictor stays as it
    is: classes differ.
    """
    state = detector.model.state_dict()
    taken = {
        name: value
        for name, value in trained.model.state_dict().items()
        if name in state and state[name].shape == value.shape and "box_predictor" not in name
    }
    detector.model.load_state_dict(state | taken)
    return detector
