"""What NOTE-RCNN adds to Faster R-CNN: second heads, their consensus, and losses by row.

A row is an anchor or a region to learn from. Each loss is told which rows count and is divided by
all of them: a row that does not count adds 0 and sends nothing back. `detectors.note` says which
rows count for which loss.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §3.3, Eq. 1 to 3.
Differs: where the paper prints -p* log p, Eq. 1's losses have the term of the negatives, too; Eq. 3
has the source's background among its classes, and temperature 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from almining.checks import HUMAN
from almining.records import Target

BETA = 1 / 9  # where smooth L1 goes from square to straight, as in torchvision's two stages


@dataclass(frozen=True, slots=True)
class Variant:
    """Which heads there are, and what the mixed one of the box predictor counts.

    Args:
        det_a: det-cls-a stands beside det-cls, which then learns, as det-reg, from seeds only.
        masked: on mined images det-cls-a does not learn background (Eq. 2).
        rpn_a: rpn-cls-a stands beside rpn-cls, which then learns, as rpn-reg, from seeds only.
    """

    det_a: bool
    masked: bool
    rpn_a: bool


VARIANTS = {  # §4.3
    "naive": Variant(det_a=False, masked=False, rpn_a=False),
    "det-a": Variant(det_a=True, masked=False, rpn_a=False),
    "det-az": Variant(det_a=True, masked=True, rpn_a=False),
    "det-az-rpn-a": Variant(det_a=True, masked=True, rpn_a=True),
}


class Rows(NamedTuple):
    """What one stage says of the rows it learns from, and what is true of them.

    Args:
        cls: (n,) scores or (n, C + 1) logits of the head for seeds.
        cls_a: those of the mixed head; None where there is none.
        reg: (n, k, 4) steps to boxes, k = 1 or C + 1.
        labels: (n,) int64, 0 for background.
        goals: (n, 4) true steps.
        image: (n,) the position of a row's image in the batch.
    """

    cls: Tensor
    cls_a: Tensor | None
    reg: Tensor
    labels: Tensor
    goals: Tensor
    image: Tensor


class RPNHead(nn.Module):
    """An RPN's head: conv, rpn-cls, rpn-reg and perhaps rpn-cls-a; says what the two agree on.

    Args:
        plain: torchvision's, whose layers are used, not copied.
        mixed: whether there is rpn-cls-a.
    """

    def __init__(self, plain: Any, *, mixed: bool) -> None:
        """Take the layers, and make the mixed head."""
        super().__init__()
        self.conv, self.cls_logits, self.bbox_pred = plain.conv, plain.cls_logits, plain.bbox_pred
        self.cls_logits_a: nn.Module | None = None
        if mixed:
            self.cls_logits_a = nn.Conv2d(
                plain.cls_logits.in_channels, plain.cls_logits.out_channels, 1
            )
            nn.init.normal_(self.cls_logits_a.weight, std=0.01)
            nn.init.zeros_(self.cls_logits_a.bias)  # type: ignore[arg-type]

    def each(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None, list[Tensor]]:
        """Return what rpn-cls, rpn-cls-a and rpn-reg say of every level."""
        seen = [self.conv(level) for level in levels]
        mixed = None if self.cls_logits_a is None else [self.cls_logits_a(one) for one in seen]
        return (
            [self.cls_logits(one) for one in seen],
            mixed,
            [self.bbox_pred(one) for one in seen],
        )

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the scores on which the heads agree and the steps, level by level."""
        scores, mixed, steps = self.each(levels)
        return agreed_scores(scores, mixed), steps


class BoxPredictor(nn.Module):
    """A box predictor: det-cls, det-reg and perhaps det-cls-a; says what the two agree on.

    Args:
        plain: torchvision's, whose layers are used, not copied.
        mixed: whether there is det-cls-a.
    """

    def __init__(self, plain: Any, *, mixed: bool) -> None:
        """Take the layers, and make the mixed head."""
        super().__init__()
        self.cls_score, self.bbox_pred = plain.cls_score, plain.bbox_pred
        self.cls_score_a: nn.Module | None = None
        if mixed:
            self.cls_score_a = nn.Linear(plain.cls_score.in_features, plain.cls_score.out_features)

    def each(self, features: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return what det-cls, det-cls-a and det-reg say of features (n, d)."""
        mixed = None if self.cls_score_a is None else self.cls_score_a(features)
        return self.cls_score(features), mixed, self.bbox_pred(features)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, C + 1) on which the heads agree, and steps (n, 4 (C + 1))."""
        logits, mixed, steps = self.each(features)
        return agreed_logits(logits, mixed), steps


def agreed_scores(one: list[Tensor], other: list[Tensor] | None) -> list[Tensor]:
    """Return scores of which the sigmoid is the mean of two sigmoids, level by level."""
    if other is None:
        return one
    found = []
    for a, b in zip(one, other, strict=True):
        yes_a, yes_b = functional.logsigmoid(a), functional.logsigmoid(b)
        found.append(torch.logaddexp(yes_a, yes_b) - torch.logaddexp(yes_a - a, yes_b - b))
    return found


def agreed_logits(one: Tensor, other: Tensor | None) -> Tensor:
    """Return logits of which the softmax is the mean of two softmaxes."""
    if other is None:
        return one
    return torch.logaddexp(one.log_softmax(dim=1), other.log_softmax(dim=1))


def is_seed(target: Target) -> bool:
    """Tell whether every box of an image is known, and a person drew them all."""
    return target.complete and all(origin == HUMAN for origin in target.origin)


def class_loss(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return the cross-entropy of the rows that count, divided by all rows.

    Args:
        logits: (n, C + 1).
        labels: (n,), 0 for background.
        counts: (n,) bool.
    """
    found = functional.cross_entropy(logits[counts], labels[counts], reduction="sum")
    return found / max(1, len(labels))


def mixed_head_loss(
    logits: Tensor, labels: Tensor, from_seed: Tensor, *, mask_background: bool = True
) -> Tensor:
    """Return the loss of det-cls-a: background of mined images counts 0.

    Args:
        logits: (n, C + 1), of the rows of seed and mined images.
        labels: (n,) int64, 0 for background.
        from_seed: (n,) bool, whether a row's image is a seed.
        mask_background: False to let background of mined images count, as in Det-A.

    Returns:
        A scalar: the sum over the rows that count, divided by all rows; 0 when there are none.

    Raises:
        ValueError: when the arguments' shapes or types do not fit.

    >>> logits, labels = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    >>> from_seed = torch.tensor([True, True, False, False])
    >>> round(float(mixed_head_loss(logits, labels, from_seed)), 3)  # 3 of 4 rows, each ln 2
    0.52

    Source: NOTE-RCNN §3.3.2, Eq. 2.
    """
    n = len(logits)
    if logits.ndim != 2 or labels.shape != (n,) or from_seed.shape != (n,):
        shapes = [tuple(one.shape) for one in (logits, labels, from_seed)]
        raise ValueError(
            f"logits, labels and from_seed are {shapes}; give (n, C + 1), (n,) and (n,)"
        )
    if from_seed.dtype != torch.bool:
        raise ValueError(f"from_seed is {from_seed.dtype}; give bool, True for rows of seed images")
    counts = from_seed | (labels > 0) if mask_background else torch.ones_like(from_seed)
    return class_loss(logits, labels, counts)


def objectness_loss(scores: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return the binary cross-entropy of the rows that count, divided by all rows.

    Args:
        scores: (n,).
        labels: (n,), 1 for an object.
        counts: (n,) bool.
    """
    found = functional.binary_cross_entropy_with_logits(
        scores[counts], labels[counts].to(scores.dtype), reduction="sum"
    )
    return found / max(1, len(labels))


def step_loss(steps: Tensor, labels: Tensor, goals: Tensor, counts: Tensor) -> Tensor:
    """Return the smooth L1 loss of the objects among the rows that count, divided by all rows.

    Args:
        steps: (n, k, 4); k = 1, or one for each class and background.
        labels: (n,), 0 for background.
        goals: (n, 4).
        counts: (n,) bool.
    """
    rows = (counts & (labels > 0)).nonzero()[:, 0]
    own = labels[rows] if steps.shape[1] > 1 else labels[rows] * 0
    found = functional.smooth_l1_loss(steps[rows, own], goals[rows], beta=BETA, reduction="sum")
    return found / max(1, len(labels))


def distillation_loss(logits: Tensor, probs: Tensor) -> Tensor:
    """Return the mean cross-entropy of det-cls-s against what the source detector says.

    Args:
        logits: (n, S + 1), over background and the source's S classes.
        probs: (n, S + 1), the source detector's.

    Source: NOTE-RCNN §3.3.4, Eq. 3.
    """
    return -(probs * logits.log_softmax(dim=1)).sum() / max(1, len(logits))
