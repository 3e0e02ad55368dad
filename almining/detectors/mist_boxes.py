"""What MIST learns from: multiple instances, pseudo-boxes, refinement, sampling of proposals.

Pure functions of the scores of R proposals in one image, in the order of the equations, and the
`Rules` that name their options. The detector that puts them together is `detectors.weak`.

Source: MIST (Ren et al., CVPR 2020) as BiB (Vo et al., ECCV 2022) describes it: §3.4 (Eq. 2, 3) and
appendix §3.1 (Eq. 5, 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder

from almining.boxes import area, containment, iou
from almining.checks import check_whole
from almining.records import Target

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
EDGE = 1e-6  # keeps the logarithms of Eq. 5 finite
IGNORED = 0.5  # share of a proposal inside an ignored box from which on it is no background


@dataclass(frozen=True, slots=True)
class Rules:
    """How pseudo-boxes, samples and detections are made.

    Args:
        share: of the best-scored proposals, those that can become pseudo-boxes.
        max_iou: pseudo-boxes of one class overlap less; 0.3 in BiB's appendix, 0.2 in MIST's code.
        kept_only: compare a box with those kept only, as NMS does, not with all better-scored.
        first_weight: of the first refinement head's loss; 1 in Eq. 3, 3 in MIST's code.
        train_proposals: the most proposals of an image a training step looks at, drawn anew each
            time; None takes all.
        strong_proposals: of those, the most that refinement learns from where true boxes are
            known; None takes all, and those of an IoU of at least 0.5 are positive.
        positives: the largest share of them that are positive.
        hardest: difficulty-aware sampling: the negatives most like objects; False draws them.
        min_score: a detection scores more.
        nms: IoU above which a detection of the same class is dropped.
        most: the most detections of an image.
    """

    share: float = 0.15
    max_iou: float = 0.3
    kept_only: bool = False
    first_weight: float = 1.0
    train_proposals: int | None = None
    strong_proposals: int | None = 512
    positives: float = 0.25
    hardest: bool = True
    min_score: float = 0.001
    nms: float = 0.3
    most: int = 100

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("share", "max_iou", "positives", "nms"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: a number above 0 and at most 1 is needed"
                )
        for name in ("train_proposals", "strong_proposals", "most"):
            if name == "most" or getattr(self, name) is not None:
                check_whole(getattr(self, name), name, 1)
        if not 0 <= self.min_score < 1:
            raise ValueError(f"min_score = {self.min_score!r}: 0 or more, below 1, is needed")
        if not 0 < self.first_weight < float("inf"):
            raise ValueError(f"first_weight = {self.first_weight!r}: a number above 0 is needed")


class Goal(NamedTuple):
    """What the refinement heads learn to find in one image.

    Args:
        boxes: (n, 4) pseudo-boxes, or true ones.
        labels: (n,) int64, 1...C.
        weights: (n,) how much each counts: a pseudo-box its score, a true one 1.
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor


class Assigned(NamedTuple):
    """What each of R proposals is to become.

    Args:
        labels: (R,) int64, 0 background.
        boxes: (R, 4), the box a proposal is to be regressed to; of no meaning where the label is 0.
        weights: (R,).
    """

    labels: Tensor
    boxes: Tensor
    weights: Tensor


def region_scores(classify: Tensor, detect: Tensor) -> Tensor:
    """Return s (R, C): how likely each region is an object of each class, s = s_c * s_d of Eq. 6.

    Args:
        classify: (R, C) logits; s_c is their softmax over the classes.
        detect: (R, C) logits; s_d is their softmax over the regions.

    >>> region_scores(torch.zeros(4, 2), torch.zeros(4, 2)).sum(dim=0).tolist()
    [0.5, 0.5]
    """
    return classify.softmax(dim=1) * detect.softmax(dim=0)


def tag_loss(scores: Tensor, target: Target) -> Tensor:
    """Return L_MIL of Eq. 5, of an image whose classes have the probabilities phi of Eq. 6.

    A class of which it is not known whether it is present stays out of the mean; where that is so
    of all, or there is no region, the loss is a zero that carries a gradient.

    Args:
        scores: s (R, C).
        target: what is known of the image.
    """
    phi = scores.sum(dim=0).clamp(EDGE, 1 - EDGE)  # Eq. 6
    present, labels = shown_classes(target), range(1, scores.shape[1] + 1)
    wanted = phi.new_tensor([label in present for label in labels])
    absent = phi.new_tensor([target.known_absent(label) for label in labels])
    known = (wanted + absent) * bool(len(scores))
    terms = functional.binary_cross_entropy(phi, wanted, reduction="none")
    return (terms * known).sum() / known.sum().clamp(min=1)  # Eq. 5


def check_tags(targets: Sequence[Target], classes: int) -> None:
    """Raise a `ValueError` when a tag names none of the classes 1...`classes`."""
    for position, target in enumerate(targets):
        if max(target.tags or (), default=0) > classes:
            raise ValueError(
                f"targets[{position}].tags = {sorted(target.tags or ())}, but the detector knows "
                f"{classes} classes; tags are 1...{classes}"
            )


def shown_classes(target: Target) -> frozenset[int]:
    """Return the classes that tags or boxes show to be present, whatever else is known."""
    return (target.tags or frozenset()) | frozenset(target.labels.tolist())


@torch.no_grad()
def pseudo_boxes(
    boxes: Tensor,
    scores: Tensor,
    present: frozenset[int],
    *,
    share: float = 0.15,
    max_iou: float = 0.3,
    kept_only: bool = False,
) -> Goal:
    """Return the boxes the next head takes for true, with their scores as weights.

    For each class present: of the best-scored `share` of all regions, those whose IoU with every
    better-scored one is below `max_iou`. The best is always among them, so each class present has
    one whenever there is a region, however low its score.

    Args:
        boxes: (R, 4) regions.
        scores: (R, C) of the head before: s for the first, then softmax without background.
        present: the classes known to be present.
        share: of the regions looked at; at least one is.
        max_iou: from which overlap on a box is dropped.
        kept_only: compare with better-scored boxes that were kept themselves, as NMS does.

    Returns:
        Boxes class by class, best first; ties go to the lowest row.

    >>> regions = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
    >>> found = pseudo_boxes(regions, torch.tensor([[0.9], [0.8], [0.7]]), frozenset({1}), share=1)
    >>> found.boxes.tolist()
    [[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]]

    Source: BiB appendix §3.1.
    Differs: MIST's code has 0.2 for `max_iou`. 15% of fewer than seven regions is none; here one.
    """
    count = min(len(boxes), max(1, math.floor(share * len(boxes))))
    rows, labels = [], []
    for number in sorted(present):
        best = scores[:, number - 1].argsort(descending=True, stable=True)[:count]
        near = iou(boxes[best], boxes[best]) >= max_iou
        kept = _suppress(near) if kept_only else ~near.tril(diagonal=-1).any(dim=1)
        rows.append(best[kept])
        labels.append(torch.full_like(rows[-1], number))
    none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    row, label = torch.cat([none, *rows]), torch.cat([none, *labels])
    return Goal(boxes[row], label, scores[row, label - 1])


def _suppress(near: Tensor) -> Tensor:
    kept = torch.ones(len(near), dtype=torch.bool, device=near.device)
    for row in range(1, len(near)):
        kept[row] = not bool((near[row, :row] & kept[:row]).any())
    return kept


def true_boxes(target: Target, device: torch.device) -> Goal:
    """Return a complete image's boxes, ignored ones and those without area left out (§3.4)."""
    solid = ~target.ignore & (area(target.boxes) > 0)
    boxes, labels = target.boxes[solid].to(device), target.labels[solid].to(device)
    return Goal(boxes, labels, torch.ones(len(boxes), device=device))


@torch.no_grad()
def assign(boxes: Tensor, goal: Goal, *, min_iou: float = 0.5) -> Assigned:
    """Return what each region is to become: what it overlaps most, or background below `min_iou`.

    A region weighs as much as the box it overlaps most, background too; where there is no box at
    all every region is background and weighs 1.

    Args:
        boxes: (R, 4) regions.
        goal: the boxes to find.
        min_iou: the least overlap of a region that is an object.

    >>> goal = Goal(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([2]), torch.tensor([0.5]))
    >>> assign(torch.tensor([[0.0, 0, 4, 3], [3, 3, 9, 9]]), goal).labels.tolist()
    [2, 0]
    """
    if not len(goal.boxes):
        labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return Assigned(labels, boxes, torch.ones_like(boxes[:, 0]))
    overlap, match = iou(boxes, goal.boxes).max(dim=1)
    labels = goal.labels[match].where(overlap >= min_iou, torch.zeros_like(match))
    return Assigned(labels, goal.boxes[match], goal.weights[match])


def refinement_losses(
    logits: Tensor, deltas: Tensor, boxes: Tensor, wanted: Assigned
) -> tuple[Tensor, Tensor]:
    """Return L_cls and L_reg of Eq. 2, weighted, each divided by the number of regions.

    Args:
        logits: (R, C + 1).
        deltas: (R, C, 4), the regression of each class.
        boxes: (R, 4) regions.
        wanted: what each is to become.

    Returns:
        Two scalars; zeros that carry a gradient where there is no region.
    """
    regions = max(1, len(boxes))
    found = functional.cross_entropy(logits, wanted.labels, reduction="none")
    rows = wanted.labels.nonzero()[:, 0]
    steps = CODER.encode_single(wanted.boxes[rows], boxes[rows])
    misses = functional.smooth_l1_loss(
        deltas[rows, wanted.labels[rows] - 1], steps, reduction="none"
    )
    return (
        (found * wanted.weights).sum() / regions,
        (misses.sum(dim=1) * wanted.weights[rows]).sum() / regions,
    )


def weak(boxes: Tensor, scores: Tensor, target: Target, rules: Rules) -> Assigned:
    """Return what each of (R, 4) regions is to become where true boxes are not known.

    Where no class is shown to be present, all is background if all classes are known to be absent,
    and nothing counts if not.

    Args:
        boxes: (R, 4) regions.
        scores: (R, C) of the head before.
        target: what is known of the image.
        rules: `share`, `max_iou` and `kept_only` are followed.
    """
    shown = shown_classes(target)
    limits: dict[str, Any] = {"share": rules.share, "max_iou": rules.max_iou}
    goal = pseudo_boxes(boxes, scores, shown, kept_only=rules.kept_only, **limits)
    wanted, labels = assign(boxes, goal), range(1, scores.shape[1] + 1)
    if shown or all(target.known_absent(label) for label in labels):
        return wanted
    return wanted._replace(weights=torch.zeros_like(wanted.weights))


def strong(
    boxes: Tensor, logits: Tensor, target: Target, rules: Rules, *, generator: torch.Generator
) -> tuple[Any, Assigned]:
    """Return the regions a complete image's true boxes are learned from, and what each becomes.

    Args:
        boxes: (R, 4) regions.
        logits: (K, R, C + 1) of the refinement heads.
        target: a complete image's.
        rules: `strong_proposals`, `positives` and `hardest` are followed.
        generator: draws.

    Returns:
        Rows of the regions, all or some, and one assignment for each of them.
    """
    goal, ignored = true_boxes(target, boxes.device), target.boxes[target.ignore].to(boxes.device)
    if rules.strong_proposals is None:
        wanted = assign(boxes, goal)
        counts = (wanted.labels > 0) | ~mostly_inside(boxes, ignored)
        return slice(None), wanted._replace(weights=wanted.weights * counts)
    hardness = None
    if rules.hardest:  # the mean of the heads' logits, then softmax; background left out
        hardness = logits.detach().mean(dim=0).softmax(dim=1)[:, 1:].amax(dim=1)
    limits: dict[str, Any] = {"count": rules.strong_proposals, "share": rules.positives}
    rows = sample(boxes, goal.boxes, ignored, hardness, generator=generator, **limits)
    return rows, assign(boxes[rows], goal)


@torch.no_grad()
def sample(
    boxes: Tensor,
    truth: Tensor,
    ignored: Tensor,
    hardness: Tensor | None,
    *,
    count: int = 512,
    share: float = 0.25,
    generator: torch.Generator,
) -> Tensor:
    """Return the rows of the regions that a head learns from in an image with true boxes.

    Positives (IoU above 0.5 with a true box) are drawn at random; negatives (at most 0.3 with all)
    are the hardest, or random. Where there are too few positives, negatives take their place.

    Args:
        boxes: (R, 4) regions.
        truth: (n, 4) true boxes.
        ignored: (k, 4) boxes in which nothing is background.
        hardness: (R,) how much each looks like an object, or None to draw negatives at random.
        count: the most rows.
        share: the largest share of positives.
        generator: draws.

    Returns:
        (m,) int64, positives first.

    Source: difficulty-aware proposal sampling, BiB §3.4.
    """
    overlap = iou(boxes, truth).amax(dim=1) if len(truth) else torch.zeros_like(boxes[:, 0])
    negative = (overlap <= 0.3) & ~mostly_inside(boxes, ignored)
    positives = _drawn((overlap > 0.5).nonzero()[:, 0], generator)[: int(share * count)]
    negatives = negative.nonzero()[:, 0]
    if hardness is None:
        negatives = _drawn(negatives, generator)
    else:
        negatives = negatives[hardness[negatives].argsort(descending=True, stable=True)]
    return torch.cat([positives, negatives[: count - len(positives)]])


def mostly_inside(boxes: Tensor, ignored: Tensor) -> Tensor:
    """Tell (R,) which regions lie mostly in an ignored box, and so are never background."""
    if not len(ignored):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return containment(boxes, ignored).amax(dim=1) >= IGNORED


def _drawn(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
