"""What a region is worth, how far it is trusted and what it is taken for: Eq. 3 to 7 of SSM.

Pure functions, in the order of the equations. A region is pasted into images without its class;
how often the detector says the same there is its consistency, and a classifier learns from it
where its loss is below that. (SSM, Wang et al., CVPR 2018, §3.) Pasting is `papers.ssm.pasting`,
and which images are pasted into `papers.ssm.contexts`. Notebook: 01_ssm_paste_validation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from almining.boxes import iou
from almining.checks import check_boxes, check_choice, check_class, check_labels, check_whole
from almining.records import Detections

Average = Literal["matched", "all", "best"]
AVERAGES = ("matched", "all", "best")


def class_losses(probs: Tensor, positive: Tensor) -> Tensor:
    """Return the loss of each region with each classifier, (n, C); infinite for a sure mistake.

    Args:
        probs: φ (n, C), without background.
        positive: (n, C) bool, y = 1.

    Raises:
        ValueError: naming the argument, its shape or its value.

    >>> class_losses(torch.tensor([[0.0, 1.0]]), torch.tensor([[False, False]])).tolist()
    [[0.0, inf]]

    Source: SSM §3.1, below Eq. 1.
    """
    check_phi(probs)
    _check_like(positive, probs, "positive")
    return 0 - torch.where(positive, probs.log(), (-probs).log1p())


def self_paced_weights(losses: Tensor, consistency: Tensor, *, pace: float = 0.9) -> Tensor:
    """Tell which classifiers learn from which regions, (n, C) bool: loss <= pace * consistency.

    Args:
        losses: (n, C) of `class_losses`; an infinite one is never low enough.
        consistency: (n, C), or (n,) for all classes alike, of regions that have one.
        pace: λ.

    Raises:
        ValueError: naming the argument and its shape or value.
        FloatingPointError: for values that are not numbers.

    >>> self_paced_weights(torch.tensor([[0.1, 0.8]]), torch.tensor([0.5])).tolist()
    [[True, False]]

    Source: SSM §3.1, Eq. 3 and 4.
    Differs: the reference code compares the sum of the losses with a number that grows, and never
    uses these weights.
    """
    _check_matrix(losses, "losses")
    if consistency.shape not in (losses.shape, losses.shape[:1]):
        raise ValueError(
            f"consistency has shape {tuple(consistency.shape)}, the losses {tuple(losses.shape)}; "
            "give as many, or one for each row"
        )
    if bool(losses.isnan().any()) or not bool(consistency.isfinite().all()):
        raise FloatingPointError(
            "losses or consistency are not numbers; a region without a validation image has no "
            "consistency: leave it out"
        )
    if not 0 < pace < math.inf:
        raise ValueError(f"pace = {pace!r}: a finite number above 0 is needed")
    limit = consistency if consistency.ndim == 2 else consistency[:, None]
    return losses <= pace * limit


def image_terms(
    per_image: Sequence[Detections],
    pasted: Tensor,
    label: int,
    *,
    min_iou: float = 0.5,
    average: Average = "matched",
) -> tuple[Tensor, Tensor]:
    """Return what each validation image says of a region: Eq. 5 without λ, and whether it is found.

    Args:
        per_image: what was detected in each of m images, with `probs`.
        pasted: (m, 4) where the region lies in each.
        label: the class in question.
        min_iou: γ: a detection of at least this overlap is of the region.
        average: `"matched"`, over the detections of the region; `"all"`, their sum divided by
            the number of all detections; `"best"`, the largest of the region's.

    Returns:
        (m,) float64, 0 where nothing overlaps enough, and (m,) bool, whether something does.

    Raises:
        ValueError: naming the argument and its value.
    """
    check_boxes(pasted, "pasted")
    check_class(label, "label")
    check_choice(average, AVERAGES, "average")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou = {min_iou!r}: an overlap above 0 and at most 1 is needed")
    if len(per_image) != len(pasted):
        raise ValueError(
            f"{len(per_image)} images but {len(pasted)} pasted boxes; one of each is needed"
        )
    terms = torch.zeros(len(pasted), dtype=torch.float64)
    matched = torch.zeros(len(pasted), dtype=torch.bool)
    for i, (found, box) in enumerate(zip(per_image, pasted, strict=True)):
        if not len(found):
            continue
        if found.probs is None or label >= found.probs.shape[1]:
            columns = "None" if found.probs is None else f"{found.probs.shape[1]} columns"
            raise ValueError(
                f"per_image[{i}].probs are {columns}, but class {label} is asked for; give "
                "Detections(..., probs=...) of C + 1 columns"
            )
        near = iou(found.boxes.double(), box[None].to(found.boxes).double())[:, 0] >= min_iou
        values = found.probs[near, label].double()
        matched[i] = bool(len(values))
        if len(values):
            total = values.max() if average == "best" else values.sum()
            terms[i] = total / {"matched": len(values), "all": len(found), "best": 1}[average]
    return terms, matched


def consistency(
    per_image: Sequence[Detections],
    pasted: Tensor,
    label: int,
    *,
    min_iou: float = 0.5,
    average: Average = "matched",
    failures_as_zero: bool = True,
) -> float:
    """Return how far a detector finds a pasted region to be what it was, in [0, 1].

    The mean of `image_terms` over the images.

    Args:
        per_image: what was detected in each of m validation images, with `probs`.
        pasted: (m, 4) where the region lies in each.
        label: its class, j*.
        min_iou: γ.
        average: `"matched"`, `"all"` (Eq. 5 to the letter) or `"best"`; see `image_terms`.
        failures_as_zero: an image in which nothing overlaps enough counts, with 0; if False the
            mean is over the other images, and 0 without one.

    Raises:
        ValueError: without an image: then a region is undetermined, which is not 0.

    >>> found = Detections(
    ...     torch.tensor([[0.0, 0, 8, 8]]),
    ...     torch.tensor([1]),
    ...     torch.tensor([0.75]),
    ...     probs=torch.tensor([[0.25, 0.75]]),
    ... )
    >>> consistency([found, found], torch.tensor([[0.0, 0, 8, 9], [20, 20, 28, 28]]), 1)
    0.375

    Source: SSM §3.1 and 3.2, Eq. 5 without λ, which is `pace`, and Eq. 6.
    Differs: Eq. 6 drops the indicator of Eq. 5, against Fig. 2; it is kept. Eq. 5 divides by all
    proposals, of which few overlap; by default only those do. The reference code takes the one
    most probable box and the mean over the images in which it overlaps.
    """
    if not len(per_image):
        raise ValueError(
            "no validation image: the region is undetermined, and has no consistency; leave it out"
        )
    terms, matched = image_terms(per_image, pasted, label, min_iou=min_iou, average=average)
    return mean_term(terms, matched, failures_as_zero=failures_as_zero)


def mean_term(terms: Tensor, matched: Tensor, *, failures_as_zero: bool = True) -> float:
    """Return the mean of `image_terms` over at least one image; see `consistency`."""
    count = len(terms) if failures_as_zero else max(1, int(matched.sum()))
    return float(terms.sum() / count)


def rank_consistent(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the positions of the `k` most consistent regions of each class, zeros left out.

    Args:
        scores: s (n,), 0 or more.
        labels: (n,) int64, the class of each.
        k: the most of a class.

    Returns:
        int64 (h,), class by class, each from the highest; ties go to the lowest position.

    Raises:
        ValueError: naming the argument and its value.
        FloatingPointError: for scores that are not finite.

    >>> rank_consistent(torch.tensor([0.2, 0.9, 0.0, 0.5]), torch.tensor([1, 2, 2, 1]), 1).tolist()
    [3, 1]

    Source: SSM §3.2, above Eq. 7: the set H.
    """
    if not isinstance(scores, Tensor) or scores.ndim != 1 or not scores.is_floating_point():
        raise ValueError("scores must be a floating tensor (n,)")
    check_labels(labels, len(scores), "labels")
    check_whole(k, "k", 0)
    if not bool(scores.isfinite().all()):
        raise FloatingPointError("scores are not finite; leave undetermined regions out")
    if bool((scores < 0).any()):
        raise ValueError(f"scores reach {float(scores.min()):g}; a consistency is not below 0")
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > 0]
    order = order[labels[order].argsort(stable=True)]
    counts = labels[order].unique_consecutive(return_counts=True)[1]
    start = (counts.cumsum(0) - counts).repeat_interleave(counts)  # of each one's class
    return order[torch.arange(len(order), device=order.device) - start < k]


def pseudo_labels(probs: Tensor, weights: Tensor) -> Tensor:
    """Return what each region is taken for, (n,) int64: 1...C, 0 (no class), or -1 (undecided).

    The cheapest of C + 1 assignments, one class positive or none: the sum over the classifiers of
    weight times loss, in which a weight of 0 silences even an infinite loss. Ties go to the lowest
    label. Undecided, and no part of the loss, is a region without a weight, or whose most probable
    class has none.

    Args:
        probs: φ (n, C), without background.
        weights: v (n, C), bool or numbers of 0 or more.

    Raises:
        ValueError: naming the argument, its shape or its value.

    >>> probs = torch.tensor([[0.9, 0.2], [0.3, 0.1], [0.9, 0.2]])
    >>> pseudo_labels(probs, torch.tensor([[True, True], [True, False], [False, True]])).tolist()
    [1, 0, -1]

    Source: SSM §3.2, Eq. 7.
    Differs: the paper leaves open what becomes of a region that its own class gives no weight; it
    could only be taken for background, or for a class that is less probable.
    """
    check_phi(probs)
    _check_like(weights, probs, "weights")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("weights must be finite and not below 0")
    exact, v = probs.double().clamp(0, 1), weights.double()
    yes, no = -exact.log(), -(-exact).log1p()
    # what class j being positive adds to the cost of none being so, but for infinite losses ...
    more = v * (yes.nan_to_num(posinf=0.0) - no.nan_to_num(posinf=0.0))
    # ... of which each assignment has so many
    sure = (v > 0) & no.isinf()
    endless = sure.sum(dim=1, keepdim=True) - sure.long() + ((v > 0) & yes.isinf()).long()
    costs = torch.cat([torch.zeros_like(more[:, :1]), more], dim=1)
    endless = torch.cat([sure.sum(dim=1, keepdim=True), endless], dim=1) > 0
    costs[endless] = math.inf
    best = costs.argmin(dim=1)
    own = v.gather(1, exact.argmax(dim=1, keepdim=True))[:, 0] > 0
    return best.where(own, torch.full_like(best, -1))


def _check_matrix(values: object, name: str) -> None:
    if not isinstance(values, Tensor) or values.ndim != 2 or not values.is_floating_point():
        shown = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a floating tensor (n, C), got {shown}")


def check_phi(probs: Tensor) -> None:
    """Raise a `ValueError` unless these are probabilities (n, C) of at least one class."""
    _check_matrix(probs, "probs")
    if not probs.shape[1]:
        raise ValueError("probs have no column; at least one class is needed, without background")
    low, high = (float(one) for one in probs.aminmax()) if len(probs) else (0.0, 1.0)
    if not (low >= -1e-5 and high <= 1 + 1e-5):
        raise ValueError(f"probs span [{low:g}, {high:g}]; probabilities are needed, not logits")


def _check_like(values: Tensor, probs: Tensor, name: str) -> None:
    if not isinstance(values, Tensor) or values.shape != probs.shape:
        shown = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must have the shape of probs, {tuple(probs.shape)}, got {shown}")
