"""Greedy k-center, the fast one against the full matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from almining.select import core_set, farthest
from tests.oracles import core_set_full


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed))


def test_core_set_by_hand() -> None:
    line = torch.tensor([[0.0], [1], [5], [9], [6]])
    assert core_set(line, 3, labelled=[0], generator=seeded()) == [3, 2, 1]
    # weighted: 3 * 5 at position 2 beats 1 * 9; then 9 is 4 away and weighs 1, 1 is 1 away
    weights = torch.tensor([1.0, 1, 3, 1, 1])
    assert core_set(line, 2, labelled=[0], weights=weights, generator=seeded()) == [2, 3]


def test_core_set_first_pick_is_random_and_only_then() -> None:
    line = torch.arange(5.0)[:, None]
    firsts = {core_set(line, 1, generator=seeded(seed))[0] for seed in range(60)}
    assert firsts == {0, 1, 2, 3, 4}
    seeds = {tuple(core_set(line, 4, labelled=[2], generator=seeded(s))) for s in range(5)}
    assert len(seeds) == 1


@pytest.mark.parametrize("seed", range(60))
def test_core_set_agrees_with_the_full_matrix(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = seeded(seed)
    n, d = (int(torch.randint(low, 30, (), generator=generator)) for low in (3, 1))
    features = {
        0: torch.randn(n, d, generator=generator),
        1: torch.randint(0, 4, (n, d), generator=generator).float(),
        2: torch.randn(n // 3, d, generator=generator).repeat(3, 1),  # duplicates
        3: torch.randn(n, d, generator=generator) + 1000,  # far from the origin
        4: torch.eye(n),  # every distance the same
        5: torch.randint(0, 3, (n, d), generator=generator).float() * 0.1,
    }[seed % 6]
    n = len(features)
    monkeypatch.setattr(farthest, "LEADERS", 1 + seed % 7)
    monkeypatch.setattr(farthest, "BLOCK", 1 + seed % 11)
    weights = None if seed % 4 else torch.randint(0, 3, (n,), generator=generator).float()
    labelled = torch.randperm(n, generator=generator)[: seed % 3].tolist()
    picks = core_set(features, n, labelled=labelled, weights=weights, generator=seeded(seed))
    assert picks == core_set_full(features, n, labelled, weights, picks[0])
    assert sorted([*picks, *labelled]) == list(range(n))


def test_core_set_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = random(2000, 16)
    whole = core_set(features, 200, generator=seeded())
    for leaders, block in ((1, 64), (17, 300), (2000, 4096)):
        monkeypatch.setattr(farthest, "LEADERS", leaders)
        monkeypatch.setattr(farthest, "BLOCK", block)
        assert core_set(features, 200, generator=seeded()) == whole


def test_core_set_is_invariant_to_scale_shift_and_order() -> None:
    features = random(120, 8)
    picks = core_set(features, 30, labelled=[4], generator=seeded())
    assert core_set(features * 8, 30, labelled=[4], generator=seeded()) == picks
    assert core_set(features.double(), 30, labelled=[4], generator=seeded()) == picks
    assert core_set(features + 4, 30, labelled=[4], generator=seeded()) == picks
    order = torch.randperm(120, generator=seeded(1))
    start = int((order == 4).nonzero())
    moved = core_set(features[order], 30, labelled=[start], generator=seeded())
    assert order[moved].tolist() == picks


def test_core_set_takes_duplicates_last_and_in_order() -> None:
    features = torch.cat([random(6, 64), random(6, 64), random(2, 64, seed=1)])
    picks = core_set(features, 14, labelled=[0], generator=seeded())
    assert picks[-6:] == sorted(picks[-6:])
    for pick in picks[-6:]:
        assert (features == features[pick]).all(dim=1).sum() == 2


def test_core_set_of_nothing_one_and_too_few() -> None:
    assert core_set(torch.zeros(0, 3), 2, generator=seeded()) == []
    assert core_set(torch.zeros(1, 3), 2, generator=seeded()) == [0]
    assert core_set(torch.zeros(1, 3), 2, labelled=[0], generator=seeded()) == []
    assert core_set(random(4, 2), 0, generator=seeded()) == []
    assert sorted(core_set(random(4, 2), 9, labelled=[1, 1], generator=seeded())) == [0, 2, 3]
    assert core_set(torch.ones(4, 2), 9, labelled=[1], generator=seeded()) == [0, 2, 3]


def test_core_set_takes_half_precision_and_leaves_the_features_alone() -> None:
    features = random(50, 4).half()
    before = features.clone()
    picks = core_set(features, 9, labelled=[0], generator=seeded())
    assert picks == core_set(features.float(), 9, labelled=[0], generator=seeded())
    assert torch.equal(features, before)


def test_core_set_refuses_what_is_wrong() -> None:
    features = random(4, 2)
    with pytest.raises(ValueError, match=r"features.*\(n, d\).*\(4,\)"):
        core_set(features[:, 0], 1, generator=seeded())
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\)"):
        core_set(features, 1, weights=torch.ones(3), generator=seeded())
    with pytest.raises(ValueError, match=r"weights\[2\] = -1"):
        core_set(features, 1, weights=[1.0, 1, -1, 1], generator=seeded())
    with pytest.raises(ValueError, match=r"labelled holds 4.*0\.\.\.3"):
        core_set(features, 1, labelled=[4], generator=seeded())
    with pytest.raises(ValueError, match="budget = -1"):
        core_set(features, -1, generator=seeded())
    with pytest.raises(FloatingPointError, match=r"weights\[1\]"):
        core_set(features, 1, weights=[1.0, float("inf"), 1, 1], generator=seeded())
    features[3, 1] = float("nan")
    with pytest.raises(FloatingPointError, match=r"features\[3\]"):
        core_set(features, 1, generator=seeded())
