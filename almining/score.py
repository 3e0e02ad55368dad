"""How uncertain a detector is of an image: the entropy of its class probabilities.

BiB appendix §3.2, Eq. 8 and 9. A higher score means: more worth labelling. Scores that need more
than one image's detections (losses, consistency, divergence) live with the papers they come from.
Notebook: 00_start_here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from almining.records import Detections

ROW_SUM_TOLERANCE = 1e-3


def binary_entropy(p: Tensor) -> Tensor:
    """Return -p log p - (1 - p) log(1 - p), natural log, shaped like `p`; 0 at p in {0, 1}.

    >>> [round(value, 4) for value in binary_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist()]
    [0.0, 0.6931, 0.0]

    Source: Divergence (Aghdam et al., ICCV 2019) §3.1, Eq. 3.
    """
    p = p.clamp(0, 1)
    return 0 - torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)


def box_entropies(detections: Detections) -> Tensor:
    """Return the entropy of each box's class probabilities, (n,) float32, natural log, >= 0.

    Args:
        detections: with `probs` (n, C + 1), column 0 background. When every row sums to 1 (to 1e-3)
            the head is a softmax and the entropy is over the whole row; otherwise it is one-vs-rest
            and the binary entropies of columns 1...C are summed.

    Raises:
        ValueError: when the detections carry no probabilities.

    >>> probs = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    >>> labels, scores = torch.tensor([1, 1]), torch.tensor([0.5, 1.0])
    >>> found = Detections(torch.zeros(2, 4), labels, scores, probs=probs)
    >>> [round(value, 4) for value in box_entropies(found).tolist()]
    [0.6931, 0.0]

    Source: BiB (Vo et al., ECCV 2022) appendix §3.2, the inner sum of Eq. 8 and 9.
    Differs: the paper has softmax heads only. The kind of head is told from all rows of the image
    together, so that one row which sums to 1 by chance is not treated apart from its neighbours.
    """
    if not len(detections):
        return detections.scores.new_zeros(0)
    if detections.probs is None:
        raise ValueError(
            f"the {len(detections)} detections have probs = None, and entropy needs class "
            "probabilities (n, C + 1): the box detectors in almining.detectors (rcnn, onestage, "
            "weak) give them; a detector of your own has to pass Detections(..., probs=...)"
        )
    probs = detections.probs.double().clamp(0, 1)  # (n, C + 1)
    rounding = 4 * torch.finfo(detections.probs.dtype).eps  # bfloat16 rows miss 1 by a per cent
    tolerance = max(ROW_SUM_TOLERANCE, rounding)
    softmax = bool(((probs.sum(dim=1) - 1).abs() <= tolerance).all())
    per_class = -torch.xlogy(probs, probs) if softmax else binary_entropy(probs[:, 1:])
    return per_class.sum(dim=1).clamp(min=0).float()


def entropy(detections: Detections, *, reduce: Literal["max", "sum"] = "max") -> float:
    """Return how uncertain a detector is of one image; 0 without detections.

    Args:
        detections: what it found there, with `probs`.
        reduce: `"max"`, the most uncertain box (Eq. 8), or `"sum"`, all boxes together (Eq. 9).

    Raises:
        ValueError: when the detections carry no probabilities, or `reduce` is something else.

    >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> labels, scores = torch.tensor([1, 1]), torch.tensor([0.5, 0.5])
    >>> found = Detections(torch.zeros(2, 4), labels, scores, probs=probs)
    >>> round(entropy(found), 4), round(entropy(found, reduce="sum"), 4)
    (0.6931, 1.3863)

    Source: BiB (Vo et al., ECCV 2022) appendix §3.2, Eq. 8 (max) and Eq. 9 (sum).
    """
    if reduce not in ("max", "sum"):
        raise ValueError(f"reduce = {reduce!r}: use 'max' (Eq. 8) or 'sum' (Eq. 9)")
    each = box_entropies(detections)
    if not len(each):
        return 0.0
    return float(each.max() if reduce == "max" else each.double().sum())
