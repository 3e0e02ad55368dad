"""NOTE-RCNN: Faster R-CNN with heads that know which boxes to believe.

A *seed* image is complete, drawn by a person; any other is a *mined* one, of which some boxes were
inferred. Which loss learns from which images, and reaches which part beside its own head:

| loss        | head      | seed image        | mined image     | and behind the head    |
|-------------|-----------|-------------------|-----------------|------------------------|
| `rpn_cls`   | rpn-cls   | all anchors       | nothing         | rpn, features          |
| `rpn_reg`   | rpn-reg   | anchors at boxes  | nothing         | rpn, features          |
| `rpn_cls_a` | rpn-cls-a | all anchors       | all anchors     | rpn, features          |
| `cls`       | det-cls   | all regions       | nothing         | box-features, features |
| `reg`       | det-reg   | regions at boxes  | nothing         | box-features, features |
| `cls_a`     | det-cls-a | all regions       | those at boxes  | box-features, features |
| `distill`   | det-cls-s | all regions       | all regions     | box-features, features |

The simpler variants leave heads out: without rpn-cls-a the RPN learns from both kinds of images,
without det-cls-a (naive) so does everything, and det-a has det-cls-a learn background of mined
images, too. Where there are two heads, their mean probability proposes and detects. The losses are
in `detectors.note_parts`; mining and training in turn is `papers.note_rcnn`.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §3.3, Figure 3, §4.3.
Differs: any backbone stands for the paper's Inception-ResNet-V2. Losses are means over the images
of a batch, of which the paper has one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from almining.checks import check_choice
from almining.detectors.base import (
    Detector,
    check_asked,
    check_batch,
    check_finite,
    device_of,
    mode,
)
from almining.detectors.note_parts import (
    VARIANTS,
    BoxPredictor,
    Rows,
    RPNHead,
    agreed_scores,
    class_loss,
    distillation_loss,
    is_seed,
    mixed_head_loss,
    objectness_loss,
    step_loss,
)
from almining.detectors.rcnn import FasterRCNN, faster_rcnn, scale_of
from almining.records import Detections, Target
from almining.rng import forked

Distill = Literal["proposals", "samples"]
Known = list[dict[str, Tensor]]


class NoteRCNN(Detector):
    """NOTE-RCNN with `regions` and `embed`; `note_rcnn` makes one.

    Args:
        plain: a Faster R-CNN, which is used, not copied; its two heads are replaced.
        variant: which heads there are, one of `VARIANTS`.
        source: teaches det-cls-s what it sees in regions, and never learns; copied. None: there is
            no det-cls-s.

    Raises:
        ValueError: for another variant.
    """

    source: Any
    distilled: Any

    def __init__(
        self,
        plain: FasterRCNN,
        *,
        variant: str = "det-az-rpn-a",
        source: FasterRCNN | None = None,
    ) -> None:
        """Put the second heads beside the first."""
        super().__init__(plain.classes)
        check_choice(variant, tuple(VARIANTS), "variant")
        self.variant, self.plain = variant, plain
        rpn, heads, has = plain.model.rpn, plain.model.roi_heads, VARIANTS[variant]
        rpn.head = RPNHead(rpn.head, mixed=has.rpn_a)
        heads.box_predictor = BoxPredictor(heads.box_predictor, mixed=has.det_a)
        self.source = self.distilled = None
        if source is not None:
            self.source = copy.deepcopy(source).requires_grad_(False)
            width = heads.box_predictor.cls_score.in_features
            self.distilled = nn.Linear(width, len(source.classes) + 1)

    def parts(self) -> dict[str, nn.Module]:
        """Return what has parameters that learn, by the paper's names."""
        rpn, predictor = self.plain.model.rpn.head, self.plain.model.roi_heads.box_predictor
        found = {
            "features": self.plain.model.backbone,
            "rpn": rpn.conv,
            "rpn-cls": rpn.cls_logits,
            "rpn-cls-a": rpn.cls_logits_a,
            "rpn-reg": rpn.bbox_pred,
            "box-features": self.plain.model.roi_heads.box_head,
            "det-cls": predictor.cls_score,
            "det-cls-a": predictor.cls_score_a,
            "det-reg": predictor.bbox_pred,
            "det-cls-s": self.distilled,
        }
        return {name: part for name, part in found.items() if part is not None}

    def losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target],
        *,
        generator: torch.Generator,
        distill: Distill | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of the module's table, of which a variant has some.

        Those that have no row to learn from are zeros that carry a gradient. torchvision's two
        samplers draw from torch's global generator: `train.fit` seeds it around every step.

        Args:
            images: b tensors (3, h, w).
            targets: b targets. On a mined image what is not boxed is background to rpn-cls-a, and
                unknown to det-cls-a.
            generator: unused.
            distill: what to distil on: the `"proposals"` of the RPN (the paper), or the `"samples"`
                that the other heads learn from (faster); None not to.

        Raises:
            ValueError: when distillation is asked for and there is no source detector.
        """
        check_batch(images, targets, classes=self.classes)
        self._check(distill)
        has = VARIANTS[self.variant]
        with mode(self.plain, True):
            batch, pyramid, known, ignored = self.plain.prepare(images, targets)
            rpn, proposals = self._first(batch, pyramid, known, ignored)
            det, rois, features = self._second(batch, pyramid, proposals, known, ignored)
            if distill == "proposals":
                rois, features = proposals, self._features(batch, pyramid, proposals)
        seeds = torch.tensor([is_seed(one) for one in targets], device=det.image.device)
        rpn_seed, det_seed = seeds[rpn.image], seeds[det.image]
        rpn_own = rpn_seed | (not has.rpn_a)  # a head on its own learns from all images
        det_own = det_seed | (not has.det_a)

        losses = {
            "rpn_cls": objectness_loss(rpn.cls, rpn.labels, rpn_own),
            "rpn_reg": step_loss(rpn.reg, rpn.labels, rpn.goals, rpn_own),
            "cls": class_loss(det.cls, det.labels, det_own),
            "reg": step_loss(det.reg, det.labels, det.goals, det_own),
        }
        if rpn.cls_a is not None:
            every = torch.ones_like(rpn_seed)
            losses["rpn_cls_a"] = objectness_loss(rpn.cls_a, rpn.labels, every)
        if det.cls_a is not None:
            losses["cls_a"] = mixed_head_loss(
                det.cls_a, det.labels, det_seed, mask_background=has.masked
            )
        if distill is not None:
            losses["distill"] = self._distillation(images, batch, rois, features)
        return losses

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return detections as `FasterRCNN.detect` does; `probs` are the heads' mean."""
        return self.plain.detect(images)

    @torch.no_grad()
    def regions(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Detections]:
        """Return what the heads agree on of given boxes, as `FasterRCNN.regions` does."""
        return self.plain.regions(images, boxes)

    @torch.no_grad()
    def heads(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """Return what det-cls and det-cls-a each say of given boxes (n, 4), (n, 2, C + 1) an image.

        Raises:
            ValueError: when the variant has no det-cls-a.
        """
        if not VARIANTS[self.variant].det_a:
            raise ValueError(f"variant {self.variant!r} has one head only; make one with det-cls-a")
        check_asked(images, boxes)
        if not images:
            return []
        with mode(self, False):
            batch, pyramid, _, _ = self.plain.prepare(images, None)
            device = device_of(self)
            rois = [
                given.to(device) * scale_of(image, size).to(device)
                for given, image, size in zip(boxes, images, batch.image_sizes, strict=True)
            ]
            features = self._features(batch, pyramid, rois)
            seed, mixed, _ = self.plain.model.roi_heads.box_predictor.each(features)
        for values in (seed, mixed):
            check_finite(values, "what the heads say")
        both = torch.stack([seed.softmax(dim=1), mixed.softmax(dim=1)], dim=1)
        return list(both.split([len(given) for given in boxes]))

    @torch.no_grad()
    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return one vector per image, as `FasterRCNN.embed` does."""
        return self.plain.embed(images)

    def _first(
        self, batch: ImageList, pyramid: dict[str, Tensor], known: Known, ignored: list[Tensor]
    ) -> tuple[Rows, list[Tensor]]:
        """Return the anchors to learn from, and each image's proposals."""
        rpn = self.plain.model.rpn
        one, other, steps = rpn.head.each(list(pyramid.values()))
        said = (agreed_scores(one, other), steps)
        anchors, _, deltas, proposals = self.plain.propose(batch, pyramid, said)
        labels, goals = self.plain.match(anchors, known, ignored)
        found, background = (torch.cat(some) for some in rpn.fg_bg_sampler(labels))
        rows = torch.cat([found.nonzero()[:, 0], background.nonzero()[:, 0]])
        flat = concat_box_prediction_layers
        rows_of = Rows(
            flat(one, steps)[0].flatten()[rows],
            None if other is None else flat(other, steps)[0].flatten()[rows],
            deltas[rows][:, None],
            torch.cat(labels)[rows].long(),
            torch.cat(goals)[rows],
            _images(anchors)[rows],
        )
        return rows_of, proposals

    def _second(
        self,
        batch: ImageList,
        pyramid: dict[str, Tensor],
        proposals: list[Tensor],
        known: Known,
        ignored: list[Tensor],
    ) -> tuple[Rows, list[Tensor], Tensor]:
        """Return the regions to learn from, their boxes by image, and their features (n, d)."""
        rois, labels, goals = self.plain.sample(proposals, known, ignored)
        features = self._features(batch, pyramid, rois)
        logits, mixed, steps = self.plain.model.roi_heads.box_predictor.each(features)
        for values in (logits, steps, *(() if mixed is None else (mixed,))):
            check_finite(values, "what the heads say")
        steps = steps.reshape(*logits.shape, 4)
        rows = Rows(logits, mixed, steps, torch.cat(labels), torch.cat(goals), _images(rois))
        return rows, rois, features

    def _features(self, batch: ImageList, pyramid: dict[str, Tensor], rois: list[Tensor]) -> Tensor:
        heads = self.plain.model.roi_heads
        features: Tensor = heads.box_head(heads.box_roi_pool(pyramid, rois, batch.image_sizes))
        return features

    def _distillation(
        self, images: Sequence[Tensor], batch: ImageList, rois: list[Tensor], features: Tensor
    ) -> Tensor:
        """Return the loss of det-cls-s against what the source detector says of regions."""
        boxes = [
            some / scale_of(image, size).to(some.device)
            for some, image, size in zip(rois, images, batch.image_sizes, strict=True)
        ]
        said = self.source.regions([image.to(features.device) for image in images], boxes)
        return distillation_loss(self.distilled(features), torch.cat([one.probs for one in said]))

    def _check(self, distill: str | None) -> None:
        if distill is None:
            return
        check_choice(distill, ("proposals", "samples"), "distill")
        if self.source is None:
            raise ValueError(
                f"distill = {distill!r}, but there is no source detector to learn from; make the "
                "detector with note_rcnn(classes, source=...), or pass distill=None"
            )


def _images(by_image: list[Tensor]) -> Tensor:
    """Return of each row of a joined list the position of its image."""
    counts = torch.tensor([len(some) for some in by_image], device=by_image[0].device)
    return torch.arange(len(by_image), device=counts.device).repeat_interleave(counts)


def note_rcnn(
    classes: Sequence[str],
    *,
    source: FasterRCNN | None = None,
    variant: str = "det-az-rpn-a",
    seed: int = 0,
    **options: Any,
) -> NoteRCNN:
    """Return a NOTE-RCNN that has not learned its classes yet.

    Args:
        classes: the names of classes 1...C; the source's may be among them.
        source: starts features, RPN and box features, rpn-cls-a as rpn-cls, and teaches det-cls-s;
            it stays as it is, and what is frozen in it is frozen here. None: everything is random,
            and there is no det-cls-s.
        variant: `"naive"`, `"det-a"`, `"det-az"` or `"det-az-rpn-a"`.
        seed: of the initial weights.
        options: without a source, those of `faster_rcnn`; with one they are the source's.

    Raises:
        ValueError: for another variant, or options beside a source.

    >>> detector = note_rcnn(["cat", "dog"], variant="det-az")
    >>> [name for name in detector.parts() if name.endswith("-a")]
    ['det-cls-a']

    Source: NOTE-RCNN §3.2, detector initialisation.
    """
    check_choice(variant, tuple(VARIANTS), "variant")
    if source is not None and options:
        raise ValueError(
            f"options {', '.join(options)} beside a source detector, which has its own; "
            "leave them out, or make the source with them"
        )
    with forked(seed, torch.device("cpu")):
        if source is None:
            return NoteRCNN(faster_rcnn(classes, seed=seed, **options), variant=variant)
        device = next(source.parameters()).device
        model = copy.deepcopy(source.model)
        heads = model.roi_heads
        width = heads.box_predictor.cls_score.in_features
        heads.box_predictor = FastRCNNPredictor(width, len(classes) + 1)
        made = NoteRCNN(FasterRCNN(model, classes), variant=variant, source=source)
        head = made.plain.model.rpn.head
        if head.cls_logits_a is not None:
            head.cls_logits_a.load_state_dict(head.cls_logits.state_dict())
    return made.to(device)
