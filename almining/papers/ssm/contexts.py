"""Which images a region may be pasted into, and what its consistency then says of it.

Around Eq. 5 and 6 of SSM (Wang et al., CVPR 2018, §3.1 and 3.2): validation images lack the class
of the region for certain, and a region is trusted, asked about, left, or undetermined.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from almining.checks import check_whole
from almining.data.pool import Pool
from almining.papers.ssm.equations import check_phi

Verdict = Literal["undetermined", "trusted", "low", "ambiguous"]


def lacking(pool: Pool) -> dict[int, list[str]]:
    """Return, by class, the images in which it is known to be absent.

    Those that are complete, or tagged, without it; a box to be ignored is there. An image of which
    nothing or only some boxes are known is in none.

    Source: SSM §3.1, I without j-th category objects.
    Differs: the paper takes annotated images only; here a tag is enough.
    """
    return {
        label: [i for i in pool.ids if pool.target(i).known_absent(label)]
        for label in range(1, len(pool.classes) + 1)
    }


def draw_contexts(
    suitable: Sequence[str],
    count: int = 5,
    *,
    without: Collection[str] = (),
    generator: torch.Generator,
) -> list[str]:
    """Return at most `count` validation images, each as likely; none where none is suitable.

    Args:
        suitable: ids, as `lacking` gives them for one class.
        count: N.
        without: images that are not taken: those the regions are from.
        generator: draws.

    Source: SSM §3.2, "randomly pick out at most N annotated images", N = 5.
    Differs: the reference code takes the first ones that are suitable, always the same.
    """
    check_whole(count, "count", 1)
    order = torch.randperm(len(suitable), generator=generator).tolist()
    wanted = (suitable[i] for i in order if suitable[i] not in without)
    return [image_id for _, image_id in zip(range(count), wanted, strict=False)]


def positives(probs: Tensor, *, positive_at: float = 0.5) -> Tensor:
    """Return of how many classes each region is predicted to be, (n,) int64: φ > `positive_at`.

    Args:
        probs: φ (n, C), without background. Those of a softmax sum to 1 at most, so above 0.5 there
            is never more than one.
        positive_at: below 1.

    Raises:
        ValueError: naming the argument and its value.
    """
    check_phi(probs)
    if not 0 <= positive_at < 1:
        raise ValueError(f"positive_at = {positive_at!r}: 0 or more, below 1, is needed")
    return (probs > positive_at).sum(dim=1)


def verdicts(
    consistencies: Sequence[float | None],
    probs: Tensor,
    *,
    min_consistency: float = 0.5,
    positive_at: float = 0.5,
    min_positive: int = 2,
) -> list[Verdict]:
    """Say of each region what is to become of it.

    `"undetermined"`: there was no image to paste it into, so nothing is known. `"trusted"`: its
    consistency is at least `min_consistency`. `"ambiguous"`: it is lower, and several classes claim
    the region; a person may be asked. `"low"`: it is lower, and it is left alone.

    Args:
        consistencies: one of each of n regions; None where it is undetermined.
        probs: φ (n, C), without background, of the regions in their own images.
        min_consistency: the paper has none, and takes the k highest of a class; see
            `rank_consistent`.
        positive_at: see `positives`.
        min_positive: how many classes have to claim an ambiguous region.

    Raises:
        ValueError: naming the argument and its value.
        FloatingPointError: for a consistency that is not a number.

    >>> probs = torch.tensor([[0.9, 0.8], [0.9, 0.8], [0.9, 0.1], [0.9, 0.8]])
    >>> verdicts([0.7, 0.1, 0.1, None], probs)
    ['trusted', 'ambiguous', 'low', 'undetermined']

    Source: SSM §3.2, "Low-consistency Sample Annotating".
    Differs: the paper says *more than two* positive labels; two is what an ambiguity takes. What a
    "quite small" consistency is, it leaves open.
    """
    if len(consistencies) != len(probs):
        raise ValueError(
            f"{len(consistencies)} consistencies for probs {tuple(probs.shape)}; give one a row"
        )
    if not 0 < min_consistency <= 1:
        raise ValueError(f"min_consistency = {min_consistency!r}: above 0, at most 1, is needed")
    check_whole(min_positive, "min_positive", 1)
    if any(value is not None and value != value for value in consistencies):
        raise FloatingPointError("a consistency is NaN; None says that a region is undetermined")
    claimed = positives(probs, positive_at=positive_at) >= min_positive
    low: tuple[Verdict, Verdict] = ("low", "ambiguous")
    return [
        "undetermined" if value is None else "trusted" if value >= min_consistency else low[several]
        for value, several in zip(consistencies, claimed.tolist(), strict=True)
    ]
