"""Entropy: BiB's Eq. 8 and 9 by hand, against a loop, and for one-vs-rest heads."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining.records import Detections
from almining.score import binary_entropy, box_entropies, entropy
from tests.oracles import entropy_loop


def detections(probs: list[list[float]]) -> Detections:
    n = len(probs)
    values = torch.tensor(probs) if n else torch.zeros(0, 3)
    return Detections(
        torch.tensor([[0.0, 0, 9, 9]]).repeat(n, 1),
        torch.ones(n, dtype=torch.int64),
        torch.full((n,), 0.5),
        probs=values,
    )


def test_by_hand() -> None:
    found = detections([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    first, last = 1.5 * math.log(2), math.log(2)
    assert box_entropies(found).tolist() == pytest.approx([first, 0.0, last])
    assert entropy(found) == pytest.approx(first)
    assert entropy(found, reduce="max") == pytest.approx(first)
    assert entropy(found, reduce="sum") == pytest.approx(first + last)


def test_one_vs_rest_sums_binary_entropies_of_the_classes() -> None:
    found = detections([[0.1, 0.9, 0.5]])  # sums to 1.5
    by_hand = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) + math.log(2)
    assert entropy(found) == pytest.approx(by_hand, abs=1e-6)


def test_one_row_that_sums_to_one_by_chance_does_not_change_the_head() -> None:
    found = detections([[0.1, 0.9, 0.5], [0.4, 0.6, 0.0]])
    assert float(box_entropies(found)[1]) == pytest.approx(float(binary_entropy(torch.tensor(0.6))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_softmax_rows_are_softmax_rows(dtype: torch.dtype) -> None:
    exact = torch.randn(20, 9, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    sums = []
    for probs in (exact, exact.to(dtype)):
        found = Detections(torch.zeros(20, 4), torch.ones(20).long(), torch.ones(20), probs=probs)
        sums.append(entropy(found, reduce="sum"))
    assert sums[1] == pytest.approx(sums[0], rel=0.02)


def test_rows_within_a_thousandth_of_one_are_softmax_rows() -> None:
    assert entropy(detections([[0.5, 0.5, 0.0005]])) == pytest.approx(0.6969, abs=1e-3)
    assert entropy(detections([[0.5, 0.5, 0.002]])) == pytest.approx(0.7076, abs=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=6),
    st.booleans(),
)
def test_agrees_with_the_loop(rows: list[list[float]], softmax: bool) -> None:
    if softmax:
        rows = [(torch.tensor(row) + 1e-3).div(sum(row) + 4e-3).tolist() for row in rows]
    found = detections(rows)
    assert found.probs is not None
    slow = entropy_loop(found.probs.double().tolist())
    assert box_entropies(found).tolist() == pytest.approx(slow, abs=1e-5)
    assert entropy(found, reduce="max") == pytest.approx(max(slow), abs=1e-5)
    assert entropy(found, reduce="sum") == pytest.approx(sum(slow), abs=1e-5)


def test_no_detection_scores_nothing() -> None:
    assert entropy(detections([])) == 0.0
    assert entropy(detections([]), reduce="sum") == 0.0
    assert box_entropies(detections([])).shape == (0,)


def test_order_of_boxes_and_classes_does_not_matter() -> None:
    probs = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    shuffled = probs.flip(0)[:, [3, 1, 4, 0, 2]]
    for reduce in ("max", "sum"):
        one = entropy(detections(probs.tolist()), reduce=reduce)
        assert entropy(detections(shuffled.tolist()), reduce=reduce) == pytest.approx(one)


def test_certainty_is_zero_and_uniform_is_most() -> None:
    assert entropy(detections([[1.0, 0.0, 0.0]])) == 0.0
    assert entropy(detections([[1 / 3, 1 / 3, 1 / 3]])) == pytest.approx(math.log(3))
    assert binary_entropy(torch.tensor([0.0, 1.0])).tolist() == [0.0, 0.0]


def test_without_probs_it_says_who_gives_them() -> None:
    found = Detections(torch.zeros(2, 4), torch.ones(2, dtype=torch.int64), torch.zeros(2))
    with pytest.raises(ValueError, match=r"probs = None.*almining\.detectors"):
        entropy(found)


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduce = 'mean'"):
        entropy(detections([[1.0, 0.0]]), reduce="mean")  # type: ignore[arg-type]
