"""How far consistency, and confidence, tell right regions from loose and wrong ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from almining.boxes import iou
from almining.data.pool import Pool
from almining.papers import ssm

TRUSTED = ssm.Config.toy().min_consistency
LOOSE = 0.1  # IoU with an object of its class below which a region is wrong, not loose
VERDICTS = ("trusted", "low", "ambiguous", "undetermined")


class Judged(NamedTuple):
    """Regions of consistency and confidence, and whether they are right.

    Args:
        labels: (n,).
        consistency: (n,) float64.
        confidence: (n,) float64.
        overlap: (n,) the largest IoU with an object of the class, 0 without one.
    """

    labels: torch.Tensor
    consistency: torch.Tensor
    confidence: torch.Tensor
    overlap: torch.Tensor

    @property
    def right(self) -> torch.Tensor:
        """Tell (n,) which overlap an object of their class by half or more."""
        return self.overlap >= 0.5

    @property
    def loose(self) -> torch.Tensor:
        """Tell (n,) which overlap one by less."""
        return (self.overlap >= LOOSE) & ~self.right

    @property
    def wrong(self) -> torch.Tensor:
        """Tell (n,) which hardly touch one."""
        return self.overlap < LOOSE


def judged(seen: Mapping[str, Any], truth: Pool) -> Judged:
    """Return the regions that `ssm.look` found, undetermined ones left out.

    Args:
        seen: by image.
        truth: complete images.
    """
    parts = []
    for image_id, (found, scores) in seen.items():
        target = truth.target(image_id)
        same = found.labels[:, None] == target.labels
        overlap = (iou(found.boxes, target.boxes) * same).double()
        best = torch.cat([overlap, torch.zeros(len(found), 1).double()], dim=1).amax(dim=1)
        known = ~scores.isnan()
        values = (found.labels, scores, found.scores.double(), best)
        parts.append([value[known] for value in values])
    return Judged(*map(torch.cat, zip(*parts, strict=True)))


def counts(seen: Mapping[str, Any], said: Judged) -> dict[str, int]:
    """Return how many regions are right, loose and wrong, trusted, and open to a question.

    Args:
        seen: as in `judged`.
        said: what it returns.
    """
    made = {"regions": len(said.labels), "right": int(said.right.sum())}
    made |= {"loose": int(said.loose.sum()), "wrong": int(said.wrong.sum())}
    verdicts: Counter[str] = Counter()
    for found, scores in seen.values():
        if len(found):
            given = [None if value != value else value for value in scores.tolist()]
            verdicts.update(ssm.verdicts(given, found.probs[:, 1:], min_consistency=TRUSTED))
    return made | {name: verdicts[name] for name in VERDICTS}


def figures(said: Judged) -> dict[str, float]:
    """Return precision of the most trusted at equal numbers, and AUC, by what trusts them.

    As many regions of a class as are trusted by their consistency are taken by their confidence.
    """
    trusted = said.consistency >= TRUSTED
    sure = torch.zeros_like(trusted)
    for label in said.labels.unique().tolist():
        rows = (said.labels == label).nonzero()[:, 0]
        order = rows[said.confidence[rows].argsort(descending=True, stable=True)]
        sure[order[: int(trusted[rows].sum())]] = True
    made = {"precision, consistency": share(said.right[trusted])}
    made["precision, confidence"] = share(said.right[sure])
    for name, values in (("consistency", said.consistency), ("confidence", said.confidence)):
        made[f"AUC, {name}"] = auc(values[said.right], values[~said.right])
        for kind, chosen in (("wrong", said.wrong), ("loose", said.loose)):
            made[f"AUC, {name}, {kind}"] = auc(values[said.right], values[chosen])
    return made


def share(flags: torch.Tensor) -> float:
    """Return the share that is true, 0 without any."""
    return float(flags.double().mean()) if len(flags) else 0.0


def auc(high: torch.Tensor, low: torch.Tensor) -> float:
    """Return how often a value of the first is above one of the second, ties by half.

    0.5, which is chance, where one of them has no value.

    >>> auc(torch.tensor([0.9, 0.5]), torch.tensor([0.5]))
    0.75
    """
    if not len(high) or not len(low):
        return 0.5
    apart = high[:, None] - low
    return float(((apart > 0).double() + 0.5 * (apart == 0).double()).mean())
