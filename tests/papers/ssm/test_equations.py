"""SSM's equations: by hand, against loops, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from almining.papers.ssm import (
    class_losses,
    consistency,
    image_terms,
    pseudo_labels,
    rank_consistent,
    self_paced_weights,
)
from almining.records import Detections
from almining.rng import generator
from tests.oracles import cheapest_label, most_consistent, pasted_consistency


def seen(*rows: tuple[list[float], list[float]]) -> Detections:
    """Detections from (box, probabilities of background and the classes)."""
    if not rows:
        none = torch.zeros(0, 4)
        return Detections(none, none[:, 0].long(), none[:, 0], probs=none)
    probs = torch.tensor([p for _, p in rows], dtype=torch.float32)
    boxes = torch.tensor([b for b, _ in rows], dtype=torch.float32)
    scores, labels = probs[:, 1:].max(dim=1)
    return Detections(boxes, labels + 1, scores, probs=probs)


HERE = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU of 0.5 with it
LESS = [0.0, 0.0, 10.0, 4.9]
AWAY = [20.0, 20.0, 30.0, 30.0]
PLACES = torch.tensor([HERE, HERE])


# Eq. 3, 4


def test_a_loss_is_the_log_of_what_should_be_sure() -> None:
    probs = torch.tensor([[0.5, 0.25], [1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[True, False], [True, False], [True, False]])
    expected = [[math.log(2), math.log(4 / 3)], [0.0, 0.0], [math.inf, math.inf]]
    assert [pytest.approx(row) for row in expected] == class_losses(probs, positive).tolist()
    assert class_losses(torch.zeros(0, 3), torch.zeros(0, 3).bool()).shape == (0, 3)


def test_a_classifier_learns_where_its_loss_is_low_enough() -> None:
    losses = torch.tensor([[0.45, 0.4501], [0.0, math.inf], [0.0, 0.1]])
    found = self_paced_weights(losses, torch.tensor([0.5, 1.0, 0.0]))
    assert found.dtype == torch.bool
    assert found.tolist() == [[True, False], [True, False], [True, False]]  # 0 <= 0.9 * 0
    each = torch.tensor([[0.5, 1.0], [0.1, 1.0], [0.0, 0.2]])
    assert self_paced_weights(losses, each).tolist() == [[True, True], [True, False], [True, True]]
    assert self_paced_weights(losses, each, pace=0.5).tolist()[0] == [False, True]
    assert self_paced_weights(torch.zeros(0, 2), torch.zeros(0)).shape == (0, 2)


def test_as_many_consistencies_as_classes_are_still_one_for_each_row() -> None:
    losses = torch.tensor([[0.1, 0.6], [0.1, 0.6]])
    rows = self_paced_weights(losses, torch.tensor([1.0, 0.2]))
    assert rows.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    "losses, trust, options, message",
    [
        (torch.zeros(3), torch.zeros(3), {}, r"losses must be a floating tensor \(n, C\)"),
        (torch.zeros(3, 2), torch.zeros(2), {}, r"shape \(2,\), the losses \(3, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 1), {}, r"shape \(3, 1\)"),
        (torch.zeros(1, 2), torch.zeros(1), {"pace": 0.0}, "pace = 0.0"),
        (torch.zeros(1, 2), torch.zeros(1), {"pace": math.nan}, "pace = nan"),
    ],
)
def test_weights_refuse(losses: Tensor, trust: Tensor, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        self_paced_weights(losses, trust, **options)


@pytest.mark.parametrize("trust", [math.nan, math.inf])
def test_a_region_without_a_consistency_has_no_weights(trust: float) -> None:
    with pytest.raises(FloatingPointError, match="without a validation image"):
        self_paced_weights(torch.zeros(1, 2), torch.tensor([trust]))
    with pytest.raises(FloatingPointError):
        self_paced_weights(torch.tensor([[math.nan]]), torch.ones(1))


# Eq. 5, 6


def test_the_detections_of_the_region_are_averaged_then_the_images() -> None:
    first = seen((HERE, [0.1, 0.8, 0.2]), (HALF, [0.5, 0.4, 0.1]), (AWAY, [0.0, 1.0, 0.0]))
    second = seen((LESS, [0.1, 0.9, 0.0]))
    assert consistency([first, second], PLACES, 1) == pytest.approx((0.8 + 0.4) / 2 / 2)
    assert consistency([first, second], PLACES, 2) == pytest.approx((0.2 + 0.1) / 2 / 2)
    assert consistency([first], PLACES[:1], 1, average="all") == pytest.approx(1.2 / 3)
    assert consistency([first], PLACES[:1], 1, average="best") == pytest.approx(0.8)
    found = consistency([first, second], PLACES, 1, failures_as_zero=False)
    assert found == pytest.approx(0.6)
    assert consistency([second], PLACES[:1], 1, failures_as_zero=False) == 0.0
    assert consistency([second], PLACES[:1], 1, min_iou=0.49) == pytest.approx(0.9)
    terms, matched = image_terms([first, second], PLACES, 1)
    assert terms.tolist() == pytest.approx([0.6, 0.0]) and matched.tolist() == [True, False]


def test_an_empty_image_is_a_failure_and_no_image_is_nothing() -> None:
    assert consistency([seen()], PLACES[:1], 1) == 0.0
    right = seen((HERE, [0.0, 1.0, 0.0]))
    assert consistency([seen(), right], PLACES, 1) == 0.5
    assert consistency([seen(), right], PLACES, 1, failures_as_zero=False) == 1.0
    with pytest.raises(ValueError, match="undetermined"):
        consistency([], torch.zeros(0, 4), 1)


def test_found_and_sure_that_it_is_something_else_is_not_a_failure() -> None:
    wrong, right = seen((HERE, [1.0, 0.0, 0.0])), seen((HERE, [0.2, 0.8, 0.0]))
    for failures_as_zero in (True, False):
        found = consistency([wrong, right], PLACES, 1, failures_as_zero=failures_as_zero)
        assert found == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(20))
def test_consistency_is_that_of_the_loop(seed: int) -> None:
    draws = generator(seed, "consistency")
    images, places, plain = [], [], []
    for _ in range(1 + seed % 5):
        corners = (torch.rand(6, 2, 2, generator=draws) * 8).round().sort(dim=1).values
        probs = torch.rand(6, 4, generator=draws)
        count = int(torch.randint(6, (), generator=draws))
        rows = [(b, p) for b, p in zip(corners.flatten(1).tolist(), probs.tolist(), strict=True)]
        images.append(seen(*rows[:count]))
        plain.append(rows[:count])
        places.append(rows[5][0])
    options: dict[str, Any] = {
        "min_iou": (0.5, 0.2)[seed % 2],
        "average": ("matched", "all", "best")[seed % 3],
        "failures_as_zero": seed % 4 < 2,
    }
    slow = pasted_consistency(plain, places, 2, **options)
    assert consistency(images, torch.tensor(places), 2, **options) == pytest.approx(slow, abs=1e-7)


def test_order_place_and_scale_change_nothing() -> None:
    a = seen((HERE, [0.1, 0.8, 0.2]), (HALF, [0.5, 0.4, 0.1]))
    b = seen((AWAY, [0.2, 0.7, 0.1]))
    boxes = torch.tensor([HERE, AWAY])
    whole = consistency([a, b], boxes, 1)
    assert consistency([b, a], boxes.flip(0), 1) == pytest.approx(whole)
    assert consistency([a.select(torch.tensor([1, 0])), b], boxes, 1) == pytest.approx(whole)
    moved = [Detections(o.boxes * 4 + 8, o.labels, o.scores, probs=o.probs) for o in (a, b)]
    assert consistency(moved, boxes * 4 + 8, 1) == pytest.approx(whole)
    assert consistency([a, b] * 3, boxes.repeat(3, 1), 1) == pytest.approx(whole)


def test_consistency_refuses() -> None:
    found = seen((HERE, [0.1, 0.8, 0.1]))
    bare = Detections(found.boxes, found.labels, found.scores)
    for images, options, message in (
        ([found], {}, "1 images but 2 pasted boxes"),
        ([found, bare], {}, r"per_image\[1\].probs are None"),
        ([found, found], {"label": 3}, "are 3 columns, but class 3"),
        ([found, found], {"label": 0}, "label = 0"),
        ([found, found], {"min_iou": 0.0}, "min_iou = 0.0"),
        ([found, found], {"average": "mean"}, "use one of matched, all, best"),
    ):
        with pytest.raises(ValueError, match=message):
            consistency(images, PLACES, **({"label": 1} | options))  # type: ignore[arg-type]


# H


def test_the_best_of_each_class_and_no_zero() -> None:
    scores = torch.tensor([0.5, 0.9, 0.5, 0.0, 0.7, 0.5])
    labels = torch.tensor([2, 1, 2, 1, 2, 2])
    assert rank_consistent(scores, labels, 2).tolist() == [1, 4, 0]
    assert rank_consistent(scores, labels, 9).tolist() == [1, 4, 0, 2, 5]
    assert rank_consistent(scores, labels, 0).tolist() == []
    none = rank_consistent(torch.zeros(0), torch.zeros(0).long(), 3)
    assert none.dtype == torch.int64 and none.shape == (0,)
    assert rank_consistent(torch.zeros(4), torch.ones(4).long(), 3).tolist() == []


@pytest.mark.parametrize("seed", range(10))
def test_ranks_are_those_of_the_loop(seed: int) -> None:
    draws = generator(seed, "rank")
    scores = (torch.rand(60, generator=draws) * 8).round() / 8  # with ties and zeros
    labels = torch.randint(1, 6, (60,), generator=draws)
    expected = most_consistent(scores.tolist(), labels.tolist(), seed)
    assert rank_consistent(scores, labels, seed).tolist() == expected


def test_ranking_refuses() -> None:
    one = torch.ones(1).long()
    with pytest.raises(ValueError, match="scores must be a floating tensor"):
        rank_consistent(one, one, 1)
    with pytest.raises(ValueError, match=r"labels\[0\] = 0"):
        rank_consistent(torch.ones(1), one * 0, 1)
    with pytest.raises(ValueError, match="k = -1"):
        rank_consistent(torch.ones(1), one, -1)
    with pytest.raises(ValueError, match="a consistency is not below 0"):
        rank_consistent(torch.tensor([-0.5]), one, 1)
    with pytest.raises(FloatingPointError, match="undetermined"):
        rank_consistent(torch.tensor([math.nan]), one, 1)


# Eq. 7


def test_the_cheapest_assignment_by_hand() -> None:
    every = torch.ones(1, 3).bool()

    def label(*p: float, weights: Tensor = every) -> int:
        return int(pseudo_labels(torch.tensor([p]), weights)[0])

    assert label(0.1, 0.8, 0.3) == 2
    assert label(0.1, 0.4, 0.3) == 0  # each classifier says no
    assert label(0.6, 0.9, 0.7) == 2  # at most one is positive
    assert label(0.5, 0.4, 0.5) == 0  # as cheap as none
    assert label(0.8, 0.1, 0.8) == 1  # the lower of two alike
    assert label(0.1, 0.8, 0.3, weights=torch.zeros(1, 3).bool()) == -1
    assert label(0.1, 0.8, 0.7, weights=torch.tensor([[True, False, True]])) == -1
    assert label(0.1, 0.8, 0.7, weights=torch.tensor([[False, True, False]])) == 2
    assert label(0.1, 0.2, 0.1, weights=torch.tensor([[False, True, False]])) == 0
    assert label(0.7, 0.75, 0.1, weights=torch.tensor([[2.0, 0.5, 1.0]])) == 1


def test_certain_probabilities() -> None:
    def label(*p: float, weights: list[int]) -> int:
        return int(pseudo_labels(torch.tensor([p]), torch.tensor([weights]))[0])

    assert label(1.0, 0.0, weights=[1, 1]) == 1
    assert label(0.0, 0.0, weights=[1, 1]) == 0
    assert label(0.9, 1.0, weights=[1, 1]) == 2  # anything else costs without end
    assert label(1.0, 1.0, weights=[1, 1]) == 0  # each of the three costs without end
    assert label(1.0, 1.0, weights=[1, 0]) == 1  # 0 * inf = 0
    assert label(1.0, 1.0, weights=[0, 1]) == -1  # the first is the most probable
    assert label(0.3, 0.0, weights=[1, 0]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_those_of_the_loop(seed: int) -> None:
    draws = generator(seed, "labels")
    classes = 1 + seed % 5
    probs = torch.rand(40, classes, generator=draws)
    if seed % 2:
        probs = (probs * 4).round() / 4  # ties, and certainties
    weights = torch.rand(40, classes, generator=draws) < 0.7
    found = pseudo_labels(probs, weights).tolist()
    rows = zip(probs.double().tolist(), weights.tolist(), strict=True)
    assert found == [cheapest_label(p, w) for p, w in rows]
    assert len(set(found)) > 2


def test_labels_follow_the_order_of_rows_and_of_classes() -> None:
    draws = generator(0, "labels")
    probs, weights = torch.rand(50, 4, generator=draws), torch.rand(50, 4, generator=draws) < 0.8
    found, order = pseudo_labels(probs, weights), torch.randperm(50, generator=draws)
    assert torch.equal(pseudo_labels(probs[order], weights[order]), found[order])
    turned = pseudo_labels(probs.flip(1), weights.flip(1))
    assert torch.equal(torch.where(turned > 0, 5 - turned, turned), found)
    assert pseudo_labels(torch.zeros(0, 4), torch.zeros(0, 4)).tolist() == []


def test_labels_refuse() -> None:
    half = torch.full((1, 2), 0.5)
    for probs, weights, message in (
        (half * 4, half, r"probs span \[2, 2\]"),
        (half * math.nan, half, r"probs span \[nan, nan\]"),
        (torch.zeros(1, 0), torch.zeros(1, 0), "no column"),
        (half[0], half[0], r"probs must be a floating tensor \(n, C\)"),
        (half, torch.ones(1, 3), r"weights must have the shape of probs, \(1, 2\), got \(1, 3\)"),
        (half, -half, "weights must be finite and not below 0"),
        (half, half * math.inf, "weights must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            pseudo_labels(probs, weights)
