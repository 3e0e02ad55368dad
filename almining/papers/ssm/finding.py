"""Which regions of an image are looked into, and what each is taken for.

The part of SSM (Wang et al., CVPR 2018, §3.2) that goes over the regions of a batch; `looking` goes
over pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from almining.boxes import area, iou
from almining.checks import HUMAN
from almining.data.pool import Pool
from almining.papers.ssm.config import Config
from almining.papers.ssm.equations import (
    class_losses,
    pseudo_labels,
    rank_consistent,
    self_paced_weights,
)
from almining.records import Detections, Target

SAME = 0.5  # IoU from which on two boxes are one region
ORIGIN = "mined:ssm"
Scored = tuple[Detections, Tensor]  # regions of an image, and their consistencies (n,)


class Rest(NamedTuple):
    """Regions that others are ranked among.

    Args:
        owners: (r,) int64, which image each is of, by its position in the pool.
        labels: (r,) int64.
        scores: (r,) float64, their consistencies.
    """

    owners: Tensor
    labels: Tensor
    scores: Tensor


def candidates(found: Detections, target: Target, config: Config) -> Detections:
    """Return the regions of an image that are worth a look, on the CPU, the surest first.

    Detections that score above `config.min_score`, each under its most probable class, one where
    several overlap (IoU >= 0.5). Left out is what a person drew or ruled out (IoU >= 0.5), and what
    would be of a class known to be absent.

    Args:
        found: what a detector says of the image, with `probs`.
        target: what is known of it.
        config: `min_score` is followed.

    Source: the reference code of SSM: score >= 0.5 and NMS, there 0.3, class by class. Here it is
    over all classes: a region that two of them claim is one region.
    """
    found = found.to("cpu")
    target = target.to("cpu")
    if not len(found):
        return found
    if found.probs is None:
        raise ValueError(
            "the detections have probs = None, and SSM asks for the probability of each class; use "
            "a detector that gives Detections(..., probs=...)"
        )
    drawn = torch.tensor([name == HUMAN for name in target.origin], dtype=torch.bool)
    known = torch.cat([target.boxes[drawn], target.negatives])
    keep = found.probs[:, 1:].argmax(dim=1) + 1 == found.labels
    keep &= (found.scores > config.min_score) & (area(found.boxes) > 0)
    keep &= ~(iou(found.boxes, known) >= SAME).any(dim=1)
    absent = [target.known_absent(label) for label in found.labels.tolist()]
    some = found.select(keep & ~torch.tensor(absent))
    return some.select(nms(some.boxes, some.scores, SAME))


def take(
    found: Sequence[Detections],
    scores: Sequence[Tensor],
    config: Config,
    rest: Rest | None = None,
) -> list[Tensor]:
    """Return what each region is taken for, (n,) int64 for each image: as `pseudo_labels`.

    -1, too, what is undetermined, or not among the most consistent of its class.

    Args:
        found: the regions of each image.
        scores: their consistencies, NaN where undetermined.
        config: λ and k are followed.
        rest: regions of other images, among which these are ranked.

    Source: SSM §3.2, Eq. 4 and 7.
    Differs: of Eq. 5 only the value for the predicted class, s of Eq. 6, is compared with the loss
    of each classifier, where f may be read as one for each class.
    """
    score, label = torch.cat([*scores]), torch.cat([one.labels for one in found])
    said = torch.full_like(label, -1)
    rows = (~score.isnan()).nonzero()[:, 0]
    first = 0 if rest is None else len(rest.labels)
    both = (score[rows], label[rows])
    if rest is not None:
        both = (torch.cat([rest.scores, both[0]]), torch.cat([rest.labels, both[1]]))
    top = rank_consistent(*both, config.per_class)
    top = rows[top[top >= first] - first]
    if len(top):
        probs = torch.cat([foreground(one) for one in found if len(one)])[top]
        losses = class_losses(probs, probs > config.positive_at)
        weights = self_paced_weights(losses, score[top], pace=config.pace)
        said[top] = pseudo_labels(probs, weights)
    return list(said.split([len(one) for one in found]))


def taught(target: Target, found: Detections, said: Tensor, scores: Tensor) -> Target:
    """Return what is known of an image with pseudo-labels beside it; it is not complete.

    Args:
        target: what is known.
        found: regions.
        said: what each is taken for: a class, 0 for none of them, -1 for undecided.
        scores: their consistencies.
    """
    device, some = target.boxes.device, said > 0
    boxes = found.boxes.to(device)
    count = int(some.sum())
    return Target(
        torch.cat([target.boxes, boxes[some.to(device)]]),
        torch.cat([target.labels, said[some].to(device)]),
        ignore=torch.cat([target.ignore, target.ignore.new_zeros(count)]),
        origin=(*target.origin, *[ORIGIN] * count),
        scores=torch.cat([target.scores, scores[some].float().to(device)]),
        tags=target.tags,
        absent=target.absent,
        negatives=torch.cat([target.negatives, boxes[(said == 0).to(device)]]),
        complete=False,
    )


def ranked_among(looked: Mapping[str, Scored], pool: Pool) -> Rest:
    """Return the regions that `look` found, undetermined ones left out."""
    places = {image_id: place for place, image_id in enumerate(pool.ids)}
    none = torch.zeros(0, dtype=torch.int64)
    labels = torch.cat([none, *(one.labels for one, _ in looked.values())])
    scores = torch.cat([none.double(), *(score for _, score in looked.values())])
    owners = [torch.full_like(one.labels, places[i]) for i, (one, _) in looked.items()]
    known = ~scores.isnan()
    return Rest(torch.cat([none, *owners])[known], labels[known], scores[known])


def foreground(found: Detections) -> Tensor:
    """Return φ (n, C) of regions, without background."""
    assert found.probs is not None  # `candidates` saw to it
    return found.probs[:, 1:]
