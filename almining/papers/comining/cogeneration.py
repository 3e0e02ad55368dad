"""Co-generation: what a detector finds becomes labels beside those a person gave, in three steps.

Boxes with enough score (step 1), the best of each heap (step 2), without those that stand for an
annotated box (step 3). Algorithm 1, lines 5 to 13; the swap of Eq. 1 is in `recipes`.

Source: Co-mining (Wang et al., AAAI 2021) §3.4. Notebook: 03_comining_cogeneration.
Differs: θ1 and θ2, and that classes are kept apart, are the reference code's. It keeps boxes that
score above τ, where Algorithm 1 drops those below: so do we.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from almining.boxes import area, iou
from almining.records import Detections, Target

WINDOW = 128  # groups that begin within so many boxes go through suppression together


def cogenerate(
    detections: Detections,
    annotated: Target,
    *,
    min_score: float = 0.6,
    nms_iou: float = 0.5,
    match_iou: float = 0.4,
    class_aware: bool = True,
) -> Target:
    """Return the annotated boxes and, after them, those mined from detections, best first.

    What is known beside boxes stays, but the result is never complete; a class known to be absent
    is not mined, nor is a box without area. No gradient goes through.

    Args:
        detections: of one image, in any order.
        annotated: what is known of it; ignored boxes count in step 3.
        min_score: τ; less is dropped.
        nms_iou: θ1; what overlaps a better box by more is dropped.
        match_iou: θ2; what overlaps an annotated box by more is dropped.
        class_aware: boxes of different classes do not compete in steps 2 and 3.

    >>> found = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), torch.tensor([0.7]))
    >>> cogenerate(found, Target.unknown()).origin
    ('mined',)
    """
    limits = {"min_score": min_score, "nms_iou": nms_iou, "match_iou": match_iou}
    return cogenerate_many([detections], [annotated], **limits, class_aware=class_aware)[0]


def cogenerate_many(
    detections: Sequence[Detections],
    annotated: Sequence[Target],
    *,
    min_score: float = 0.6,
    nms_iou: float = 0.5,
    match_iou: float = 0.4,
    class_aware: bool = True,
) -> list[Target]:
    """Return what `cogenerate` does for each of several images, all at once."""
    check_limits(min_score, nms_iou, match_iou)
    if len(detections) != len(annotated):
        raise ValueError(
            f"detections of {len(detections)} images but {len(annotated)} targets; "
            "give one target for each image"
        )
    if not detections:
        return []
    best = _suppressed(detections, annotated, min_score, nms_iou, class_aware)
    mined = []
    for rows, found, known in zip(best, detections, annotated, strict=True):
        boxes, labels = found.boxes.detach()[rows], found.labels[rows]
        if len(rows) and len(known):
            same = iou(boxes, known.boxes) > match_iou
            if class_aware:
                same &= labels[:, None] == known.labels
            rows = rows[~same.any(dim=1)]
        mined.append(_joined(known, found, rows))
    return mined


def check_limits(min_score: float, nms_iou: float, match_iou: float) -> None:
    """Raise a `ValueError` unless the thresholds τ, θ1 and θ2 make sense."""
    for name, value in (("min_score", min_score), ("nms_iou", nms_iou), ("match_iou", match_iou)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value!r}: a number from 0 to 1 is needed")


def _suppressed(
    detections: Sequence[Detections],
    annotated: Sequence[Target],
    min_score: float,
    nms_iou: float,
    class_aware: bool,
) -> list[Tensor]:
    """Return the rows that steps 1 and 2 leave of each image, best first."""
    counts = [len(found) for found in detections]
    boxes = torch.cat([found.boxes for found in detections]).detach().double()
    scores = torch.cat([found.scores for found in detections]).detach()
    labels = torch.cat([found.labels for found in detections])
    image = torch.repeat_interleave(torch.tensor(counts, device=boxes.device))
    wanted = (scores >= min_score) & (area(boxes) > 0)
    for number, known in enumerate(annotated):
        if not known.complete and (known.tags is not None or known.absent is not None):
            for label in set(detections[number].labels.tolist()):
                if known.known_absent(label):
                    wanted &= (image != number) | (labels != label)
    rows = wanted.nonzero()[:, 0]
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    rows = rows[image[rows].argsort(stable=True)]
    boxes, image = boxes[rows], image[rows]
    if not len(rows):
        return [rows] * len(counts)
    groups = image * (int(labels.max()) + 1) + labels[rows] if class_aware else image
    kept = _apart(boxes, scores[rows].double(), groups, nms_iou).sort().values
    starts = torch.tensor([0, *counts[:-1]], device=rows.device).cumsum(dim=0)
    shares = torch.bincount(image[kept], minlength=len(counts)).tolist()
    return list((rows[kept] - starts[image[kept]]).split(shares))


def _apart(boxes: Tensor, scores: Tensor, groups: Tensor, nms_iou: float) -> Tensor:
    """Return the rows that suppression within each group leaves.

    Groups are kept apart by coordinates, exactly in float64 as shifts are whole numbers. On a CPU,
    where suppression takes the square of its boxes, a few groups go at a time.
    """
    boxes = boxes - boxes.min().floor()
    boxes = boxes + (groups * (boxes.max().ceil() + 1))[:, None]
    order = groups.argsort(stable=True)
    sizes = groups[order].unique_consecutive(return_counts=True)[1]
    window = len(boxes) if boxes.is_cuda else WINDOW
    shares = torch.bincount((sizes.cumsum(dim=0) - sizes) // window, weights=sizes.double())
    kept = []
    for some in order.split([int(share) for share in shares.tolist() if share]):
        kept.append(some[nms(boxes[some], scores[some], nms_iou)])
    return torch.cat(kept)


def _joined(known: Target, found: Detections, rows: Tensor) -> Target:
    scores = found.scores.detach()[rows]
    return Target(
        torch.cat([known.boxes, found.boxes.detach()[rows]]),
        torch.cat([known.labels, found.labels[rows]]),
        ignore=torch.cat([known.ignore, torch.zeros_like(scores, dtype=torch.bool)]),
        origin=(*known.origin, *("mined",) * len(rows)),
        scores=torch.cat([known.scores, scores]),
        tags=None if known.complete else known.tags,
        absent=None if known.complete else known.absent,
        negatives=known.negatives,
        complete=False,
    )
