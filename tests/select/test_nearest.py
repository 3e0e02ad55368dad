"""Distances to a growing set of centres: exact after a refresh, never too small before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from almining.select import nearest
from almining.select.nearest import Nearest


def random(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def brute(rows: Tensor, centres: Tensor) -> Tensor:
    rows = rows.double()
    return (rows[:, None] - rows[centres]).square().sum(dim=2).amin(dim=1)


def data(kind: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return features, pairs, and the rows they mean."""
    boxes = random(30, 6)
    if kind == "far":
        boxes += 1000
    if kind == "integers":
        boxes = (boxes * 10).round() + 3
    if kind == "twins":
        boxes[20:] = boxes[:10] + 1e-4 * random(10, 6, seed=1)
    if kind == "odd":
        return boxes[:, :5], None, boxes[:, :5]
    if kind == "pairs":
        pairs = torch.randint(30, (25, 2), generator=torch.Generator().manual_seed(1))
        return boxes, pairs, boxes[pairs].flatten(1)
    return boxes, None, boxes


KINDS = ["plain", "far", "integers", "twins", "odd", "pairs"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("small", [False, True])
def test_bounds_hold_and_are_exact_once_refreshed(
    kind: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(nearest, "FIRST", 1)
        monkeypatch.setattr(nearest, "BLOCK", 7)
        monkeypatch.setattr(nearest, "TABLE", 5)
    features, pairs, rows = data(kind)
    search = Nearest(features, pairs)
    search.begin(torch.tensor([3, 1, 8]), lazily=True)
    centres = [3, 1, 8]
    for new in ([2], [9, 0, 4], [11, 10]):
        search.add(torch.tensor(new))
        centres += new
        truth = brute(rows, torch.tensor(centres))
        assert (search.bound >= truth * (1 - 1e-5)).all()
        some = torch.tensor([12, 15, 2, 19])
        search.refresh(some)
        assert search.bound[some].tolist() == pytest.approx(truth[some].tolist(), rel=1e-5)
        assert search.seen[[12, 15, 19]].tolist() == [len(centres)] * 3  # and not again
    search.refresh(torch.arange(len(rows)))
    assert search.bound.tolist() == pytest.approx(truth.tolist(), rel=1e-5, abs=0)
    assert search.live.logical_not().nonzero()[:, 0].tolist() == sorted(centres)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0, 2**28])
def test_distances_of_groups_are_exact(
    kind: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "KEPT", kept)
    features, pairs, rows = data(kind)
    search = Nearest(features, pairs)
    search.begin(torch.tensor([5]), lazily=False)
    groups = [torch.tensor([0, 1, 2]), torch.tensor([7]), torch.tensor([9, 8, 4, 3])]
    for table in (2**26, 70, 1):  # all at once, some, row by row
        monkeypatch.setattr(nearest, "TABLE", table)
        found = search.distances(groups)
        for one, group in zip(found, groups, strict=True):
            truth = brute(rows, torch.tensor([5, *group.tolist()]))
            assert one.tolist() == pytest.approx(truth.tolist(), rel=1e-5, abs=0)


def test_equal_rows_are_exactly_at_0_and_integers_are_exact() -> None:
    rows = torch.cat([random(9, 40) + 7, (random(9, 40) + 7)])
    search = Nearest(rows, None)
    search.begin(torch.arange(9), lazily=True)
    search.refresh(torch.arange(18))
    assert search.bound.tolist() == [0.0] * 18
    whole = torch.randint(-9, 9, (20, 7), generator=torch.Generator().manual_seed(0)).float()
    search = Nearest(whole, None)
    search.begin(torch.tensor([4]), lazily=True)
    assert search.bound.tolist() == brute(whole, torch.tensor([4])).round().tolist()


def test_halves_that_several_centres_share_are_held_once() -> None:
    small, large = random(4, 8), random(2, 8, seed=1)
    i, j = torch.arange(4).repeat_interleave(2), torch.arange(2).repeat(4)
    rows = torch.cat([small[i], large[j]], dim=1)
    search = Nearest(torch.cat([rows, random(5, 16)]), None)
    search.begin(torch.arange(8), lazily=True)
    assert [side.filled for side in search.sides] == [4, 2]


def test_half_precision_is_computed_in_single() -> None:
    rows = (random(40, 300) * 30).half()
    search = Nearest(rows, None)
    search.begin(torch.arange(4), lazily=False)
    truth = brute(rows, torch.arange(4))
    assert search.bound.tolist() == pytest.approx(truth.tolist(), rel=1e-5)
