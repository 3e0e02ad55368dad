"""Ranking: the highest scores, and uniformly."""

from __future__ import annotations

import pytest
import torch

from almining.select import sample, top_k


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_top_k_by_hand_ties_to_the_lowest() -> None:
    scores = [0.5, 2.0, 0.5, 1.0, 2.0]
    assert top_k(scores, 4) == [1, 4, 3, 0]
    assert top_k(torch.tensor(scores), 9) == [1, 4, 3, 0, 2]
    assert top_k([1] * 100, 3) == [0, 1, 2]


def test_top_k_of_nothing() -> None:
    assert top_k([], 3) == []
    assert top_k([1.0], 0) == []
    assert top_k([7.0], 1) == [0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_top_k_names_a_score_that_is_not_finite(bad: float) -> None:
    with pytest.raises(FloatingPointError, match=r"scores\[1\]"):
        top_k([0.0, bad, 1.0], 1)


def test_top_k_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(ValueError, match="budget = -1"):
        top_k([1.0], -1)
    with pytest.raises(ValueError, match=r"\(n,\).*\(2, 2\)"):
        top_k(torch.zeros(2, 2), 1)


def test_sample_is_uniform_without_repetition() -> None:
    assert sorted(sample(5, 9, generator=seeded())) == [0, 1, 2, 3, 4]
    assert sample(0, 3, generator=seeded()) == sample(3, 0, generator=seeded()) == []
    assert sample(50, 7, generator=seeded(1)) == sample(50, 7, generator=seeded(1))
    generator = seeded()
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[sample(4, 2, generator=generator)] += 1
    assert counts.tolist() == pytest.approx([2000] * 4, abs=140)  # over 4 standard deviations


def test_sample_refuses_a_negative_budget() -> None:
    with pytest.raises(ValueError, match="budget = -2"):
        sample(5, -2, generator=seeded())
