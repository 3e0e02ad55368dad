"""The mechanisms of MIST: on tiny numbers, against loops, under permutation, on bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.detectors.mist_boxes import (
    Assigned,
    Goal,
    Rules,
    assign,
    mostly_inside,
    pseudo_boxes,
    refinement_losses,
    region_scores,
    sample,
    shown_classes,
    tag_loss,
    true_boxes,
)
from almining.records import Target
from almining.rng import generator
from tests import oracles
from tests.fakes import boxes, labels, target

NONE = torch.zeros(0, 4)


def tagged(*classes: int) -> Target:
    return Target.unknown(tags=classes)


def random_boxes(n: int, seed: int) -> Tensor:
    values = torch.rand(n, 4, generator=generator(seed)) * 60
    return torch.cat([values[:, :2], values[:, :2] + 4 + values[:, 2:] / 2], dim=1)


def test_scores_of_two_regions_by_hand() -> None:
    ln3 = math.log(3)
    classify = torch.tensor([[ln3, 0.0], [0.0, 0.0]])  # s_c: 3/4 1/4, then 1/2 1/2
    detect = torch.tensor([[0.0, ln3], [0.0, 0.0]])  # s_d: columns 1/2 1/2 and 3/4 1/4
    expected = torch.tensor([[3 / 8, 3 / 16], [1 / 4, 1 / 8]])
    assert torch.allclose(region_scores(classify, detect), expected)
    phi = (5 / 8, 5 / 16)
    by_hand = -(math.log(phi[0]) + math.log(1 - phi[1])) / 2  # Eq. 5, q = (1, 0)
    assert float(tag_loss(expected, tagged(1))) == pytest.approx(by_hand)


def test_scores_agree_with_the_loop_and_sum_to_at_most_one() -> None:
    classify, detect = torch.randn(2, 11, 3, generator=generator(0)) * 3
    found = region_scores(classify, detect)
    expected = oracles.region_scores(classify.tolist(), detect.tolist())
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    assert (found.sum(dim=0) <= 1).all()


def test_classes_of_which_nothing_is_known_stay_out_of_the_mean() -> None:
    scores = torch.tensor([[0.2, 0.5, 0.9]])
    sparse = target((0, 0, 9, 9), label=1, complete=False)
    assert float(tag_loss(scores, sparse)) == pytest.approx(-math.log(0.2))
    partly = Target(NONE, labels(), tags={2}, absent={3}, complete=False)
    by_hand = -(math.log(0.5) + math.log(0.1)) / 2
    assert float(tag_loss(scores, partly)) == pytest.approx(by_hand, rel=1e-5)
    empty = Target(NONE, labels())
    by_hand = -sum(math.log(1 - p) for p in (0.2, 0.5, 0.9)) / 3
    assert float(tag_loss(scores, empty)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("regions", [0, 3])
def test_nothing_known_or_nothing_proposed_is_a_zero_with_a_gradient(regions: int) -> None:
    logits = torch.zeros(regions, 2, requires_grad=True)
    loss = tag_loss(region_scores(logits, logits), tagged(1) if not regions else Target.unknown())
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_probabilities_at_the_edge_stay_finite() -> None:
    scores = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = tag_loss(scores, tagged(2))
    loss.backward()
    assert loss.isfinite() and scores.grad is not None and scores.grad.isfinite().all()


def test_pseudo_boxes_compare_with_all_better_scored_ones_unless_asked_otherwise() -> None:
    # a and b overlap by 1/2, b and c by 1/3, a and c not: c falls with b, though b itself fell
    chain = boxes((0, 0, 3, 3), (0, 1, 3, 4), (0, 2.5, 3, 5.5))
    overlaps = iou(chain, chain)
    assert overlaps[0, 1] == 0.5 and overlaps[1, 2] == pytest.approx(1 / 3)
    assert overlaps[0, 2] == pytest.approx(1 / 11)
    scores = torch.tensor([[0.9], [0.8], [0.7]])
    here = frozenset({1})
    assert pseudo_boxes(chain, scores, here, share=1).weights.tolist() == pytest.approx([0.9])
    by_nms = pseudo_boxes(chain, scores, here, share=1, kept_only=True)
    assert by_nms.weights.tolist() == pytest.approx([0.9, 0.7])
    loose = pseudo_boxes(chain, scores, here, share=1, max_iou=0.4)
    assert loose.weights.tolist() == pytest.approx([0.9, 0.7])


def test_an_overlap_of_exactly_the_limit_is_dropped() -> None:
    halves = boxes((0, 0, 3, 3), (0, 1, 3, 4))
    scores = torch.tensor([[0.9], [0.8]])
    kept = [
        len(pseudo_boxes(halves, scores, frozenset({1}), share=1, max_iou=limit).boxes)
        for limit in (0.5, 0.51)
    ]
    assert kept == [1, 2]


@pytest.mark.parametrize("kept_only", [False, True])
def test_pseudo_boxes_agree_with_the_loop(kept_only: bool) -> None:
    for seed in range(5):
        regions = random_boxes(90, seed)
        scores = torch.rand(90, 3, generator=generator(seed, "scores"))
        ways = {"share": 0.4, "max_iou": 0.2, "kept_only": kept_only}
        found = pseudo_boxes(regions, scores, frozenset({1, 3}), **ways)
        rows = {
            label: oracles.pseudo_box_rows(regions.tolist(), scores[:, label - 1].tolist(), **ways)
            for label in (1, 3)
        }
        assert torch.equal(found.boxes, regions[rows[1] + rows[3]])
        assert found.labels.tolist() == [1] * len(rows[1]) + [3] * len(rows[3])
        expected = torch.cat([scores[rows[1], 0], scores[rows[3], 2]])
        assert torch.equal(found.weights, expected)


def test_the_order_of_proposals_does_not_matter() -> None:
    regions, order = random_boxes(80, 1), torch.randperm(80, generator=generator(2))
    scores = torch.rand(80, 2, generator=generator(3))
    here = frozenset({1, 2})
    a = pseudo_boxes(regions, scores, here)
    b = pseudo_boxes(regions[order], scores[order], here)
    assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize(("n", "looked_at"), [(1, 1), (2, 1), (6, 1), (7, 1), (13, 1), (14, 2)])
def test_of_few_regions_one_is_taken(n: int, looked_at: int) -> None:
    apart = torch.arange(n)[:, None] * 10.0 + torch.tensor([[0.0, 0, 5, 5]])
    scores = torch.arange(n).float()[:, None] / 100
    found = pseudo_boxes(apart, scores, frozenset({1}))
    assert len(found.boxes) == looked_at
    assert torch.equal(found.boxes[0], apart[-1])


def test_no_region_no_tag_equal_scores_duplicates() -> None:
    assert len(pseudo_boxes(NONE, torch.zeros(0, 2), frozenset({1, 2})).boxes) == 0
    regions = boxes((0, 0, 9, 9), (0, 0, 9, 9), (20, 20, 29, 29))
    assert len(pseudo_boxes(regions, torch.ones(3, 2), frozenset()).boxes) == 0
    found = pseudo_boxes(regions, torch.zeros(3, 1), frozenset({1}), share=1)
    assert found.boxes.tolist() == [[0, 0, 9, 9], [20, 20, 29, 29]]  # the first of equals
    assert found.weights.tolist() == [0, 0]


def test_regions_become_what_they_overlap_most() -> None:
    goal = Goal(boxes((0, 0, 4, 4), (10, 0, 14, 4)), labels(2, 1), torch.tensor([0.9, 0.4]))
    asked = boxes((0, 0, 4, 3), (10, 0, 14, 2), (0, 0, 4, 1), (13, 0, 15, 4), (90, 90, 95, 95))
    found = assign(asked, goal)
    assert found.labels.tolist() == [2, 1, 0, 0, 0]  # an IoU of exactly 0.5 is enough
    # background weighs as much as the box it overlaps most; far from all, as the first
    assert found.weights.tolist() == pytest.approx([0.9, 0.4, 0.9, 0.4, 0.9])
    assert torch.equal(found.boxes[:2], goal.boxes)


def test_without_boxes_all_is_background() -> None:
    nothing = Goal(NONE, labels(), torch.zeros(0))
    found = assign(boxes((0, 0, 4, 4), (1, 1, 2, 2)), nothing)
    assert found.labels.tolist() == [0, 0] and found.weights.tolist() == [1, 1]
    assert assign(NONE, nothing).labels.tolist() == []


def test_refinement_losses_by_hand() -> None:
    regions = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    goal = Assigned(labels(2, 0), boxes((0, 0, 10, 10), (0, 0, 1, 1)), torch.tensor([0.5, 0.25]))
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [0.0, 0.0, 0.0]])
    deltas = torch.zeros(2, 2, 4)
    deltas[0, 1] = torch.tensor([0.5, 2.0, 0.0, 0.0])  # of class 2; smooth L1: 1/8 and 3/2
    deltas[0, 0] = deltas[1] = 9.0  # of another class, and of background: no matter
    cls, reg = refinement_losses(logits, deltas, regions, goal)
    assert float(cls) == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(3)) / 2)
    assert float(reg) == pytest.approx(0.5 * (1 / 8 + 3 / 2) / 2)


def test_refinement_losses_without_regions_carry_a_gradient() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    deltas = torch.zeros(0, 2, 4, requires_grad=True)
    nothing = Assigned(labels(), NONE, torch.zeros(0))
    cls, reg = refinement_losses(logits, deltas, NONE, nothing)
    (cls + reg).backward()
    assert float((cls + reg).detach()) == 0 and logits.grad is not None


def test_samples_the_negatives_most_like_objects() -> None:
    truth = boxes((0, 0, 10, 10))
    regions = boxes((0, 0, 10, 9), (0, 0, 10, 4), *[(20 + i, 40, 30 + i, 50) for i in range(8)])
    hardness = torch.tensor([0, 9, 3, 1, 7, 2, 6, 4, 5, 8.0])
    ways = {"count": 4, "generator": generator(0)}
    assert sample(regions, truth, NONE, hardness, **ways).tolist() == [0, 9, 4, 6]
    plain = {
        tuple(sample(regions, truth, NONE, None, count=4, generator=generator(seed)).tolist())
        for seed in range(20)
    }
    assert len(plain) > 5  # drawn
    assert all(rows[0] == 0 and 1 not in rows and len(set(rows)) == 4 for rows in plain)


def test_a_quarter_is_positive_at_most_and_negatives_fill_up() -> None:
    truth = boxes((0, 0, 10, 10))
    regions = boxes(*[(0, 0, 10, 10)] * 30, *[(20, 20, 30, 30)] * 30)
    rows = sample(regions, truth, NONE, None, count=20, generator=generator(0))
    assert (rows < 30).sum() == 5 and (rows >= 30).sum() == 15
    few = sample(regions[29:], truth, NONE, None, count=20, generator=generator(0))
    assert (few == 0).sum() == 1 and len(few) == 20


def test_sampling_at_the_edges() -> None:
    truth = boxes((0, 0, 10, 10))
    draw = generator(0)
    assert sample(NONE, truth, NONE, None, generator=draw).tolist() == []
    half, third = boxes((0, 0, 10, 5)), boxes((0, 0, 10, 3))
    assert sample(half, truth, NONE, None, generator=draw).tolist() == []  # neither
    assert sample(third, truth, NONE, None, generator=draw).tolist() == [0]  # IoU of 0.3: negative
    assert sample(half, NONE, NONE, None, generator=draw).tolist() == [0]  # an empty image
    crowd = boxes((0, 0, 10, 6))
    assert sample(third, NONE, crowd, None, generator=draw).tolist() == []
    assert mostly_inside(boxes((0, 0, 10, 12), (0, 0, 10, 13)), crowd).tolist() == [True, False]


def test_true_boxes_leave_out_ignored_ones_and_those_without_area() -> None:
    three = target((0, 0, 9, 9), (5, 5, 5, 9), (1, 1, 3, 3), ignore=torch.tensor([0, 0, 1]) > 0)
    found = true_boxes(three, torch.device("cpu"))
    assert found.boxes.tolist() == [[0, 0, 9, 9]] and found.weights.tolist() == [1]


def test_classes_shown_by_tags_and_by_boxes() -> None:
    assert shown_classes(target((0, 0, 9, 9), label=3, complete=False)) == {3}
    assert shown_classes(target((0, 0, 9, 9), label=3, tags={1, 3}, complete=False)) == {1, 3}
    assert shown_classes(Target.unknown()) == shown_classes(tagged()) == frozenset()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"share": 0.0}, "share = 0.0: a number above 0 and at most 1"),
        ({"max_iou": 1.5}, "max_iou = 1.5"),
        ({"nms": math.nan}, "nms = nan"),
        ({"strong_proposals": 0}, "strong_proposals = 0 must be a whole number of at least 1"),
        ({"most": None}, "most = None must be a whole number"),
        ({"min_score": 1.0}, "min_score = 1.0: 0 or more, below 1"),
        ({"first_weight": -1.0}, "first_weight = -1.0"),
    ],
)
def test_rules_rejected(rule: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rules(**rule)
