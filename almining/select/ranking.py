"""Which images to ask for by one number each, or by none: the highest scores, or uniformly.

Positions go in and positions come out, in the order taken; the caller maps them to image ids. Ties
go to the lowest position everywhere, so a selection is a function of its inputs and its generator.
Diversity is left out: `farthest` and `groups` are about it. (BiB appendix §3.2.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def top_k(scores: Tensor | Sequence[float], budget: int) -> list[int]:
    """Return the positions of the `budget` highest scores, best first; all when there are fewer.

    Args:
        scores: (n,) numbers, higher is more worth labelling.
        budget: how many to take.

    Raises:
        ValueError: for a negative budget or scores that are not (n,).
        FloatingPointError: naming the first position whose score is not finite.

    >>> top_k([0.5, 2.0, 0.5, 1.0], 3)
    [1, 3, 0]
    """
    check_budget(budget)
    values = (
        scores.detach()
        if isinstance(scores, Tensor)
        else torch.tensor(list(scores), dtype=torch.float64)
    )
    if values.ndim != 1:
        raise ValueError(f"scores must have shape (n,), one per image, got {tuple(values.shape)}")
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        row = int(bad[0])
        raise FloatingPointError(
            f"scores[{row}] = {float(values[row])}: a score that is not finite cannot be ranked"
        )
    order: list[int] = values.argsort(descending=True, stable=True)[:budget].tolist()
    return order


def sample(n: int, budget: int, *, generator: torch.Generator) -> list[int]:
    """Return `budget` of the positions 0...n - 1, drawn uniformly, each once; at most all.

    >>> sorted(sample(3, 5, generator=torch.Generator()))
    [0, 1, 2]

    Source: BiB (Vo et al., ECCV 2022) appendix §3.2, u-random.
    """
    check_budget(budget)
    if n < 0:
        raise ValueError(f"n = {n}: the number of images cannot be negative")
    order = torch.randperm(n, generator=generator, device=generator.device)
    drawn: list[int] = order[:budget].tolist()
    return drawn


def check_budget(budget: int) -> None:
    """Raise when the number of images to take is negative."""
    if budget < 0:
        raise ValueError(f"budget = {budget}: the number to take cannot be negative")
