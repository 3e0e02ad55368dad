import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from almining.boxes import area, clip, containment, flip, intersection, iou, judge
from almining.checks import check_boxes
from tests import oracles
from tests.fakes import boxes

A = boxes((0, 0, 10, 10), (5, 5, 15, 15), (3, 3, 3, 9))
numbers = st.integers(0, 12)
box_lists = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=5).map(
    lambda rows: boxes(*[(x, y, x + w, y + h) for x, y, w, h in rows])
)


def test_hand_computed() -> None:
    assert area(A).tolist() == [100, 100, 0]
    assert intersection(A[:1], A).tolist() == [[100, 25, 0]]
    assert iou(A[:1], A)[0].tolist() == pytest.approx([1, 25 / 175, 0])
    assert containment(A[1:2], A)[0].tolist() == [0.25, 1, 0]
    assert containment(A[2:], A)[0].tolist() == [0, 0, 0]


@given(box_lists, box_lists)
def test_agrees_with_loops(a: torch.Tensor, b: torch.Tensor) -> None:
    for ours, loops in ((iou, oracles.box_iou), (containment, oracles.containment)):
        found = ours(a, b)
        assert found.shape == (len(a), len(b))
        for i, one in enumerate(a.tolist()):
            for j, other in enumerate(b.tolist()):
                assert float(found[i, j]) == pytest.approx(loops(one, other))


@given(box_lists, box_lists)
def test_invariances(a: torch.Tensor, b: torch.Tensor) -> None:
    assert torch.equal(iou(a, b), iou(b, a).T)
    assert torch.equal(iou(a * 4, b * 4), iou(a, b))
    assert torch.equal(iou(flip(a, 50), flip(b, 50)), iou(a, b))
    assert torch.equal(flip(flip(a, 50), 50), a)


def test_empty_and_degenerate_never_divide_by_zero() -> None:
    nothing = torch.zeros(0, 4)
    assert iou(nothing, A).shape == (0, 3)
    assert containment(A, nothing).shape == (3, 0)
    point = boxes((4, 4, 4, 4))
    assert iou(point, point).tolist() == [[0.0]]


def test_clip_keeps_height_and_width_apart() -> None:
    assert clip(boxes((-3, -3, 99, 99)), (10, 20)).tolist() == [[0, 0, 20, 10]]
    assert float(area(clip(boxes((30, 0, 40, 5)), (10, 20)))) == 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([[0, 0, 1, 1]], "got list"),
        (torch.zeros(4), r"shape \(n, 4\), got \(4,\)"),
        (torch.zeros(2, 5), r"got \(2, 5\)"),
        (torch.zeros(2, 4, dtype=torch.float64), "float32, got torch.float64"),
        (boxes((0, 0, 1, 1), (5, 0, 2, 1)), r"\[1\] = \[5.0, 0.0, 2.0, 1.0\].*x2 >= x1"),
        (boxes((0, float("nan"), 1, 1)), r"\[0\].*finite"),
        (boxes((0, 0, float("inf"), 1)), r"\[0\].*finite"),
    ],
)
def test_rejected(bad: object, says: str) -> None:
    with pytest.raises(ValueError, match=f"thing.*{says}"):
        check_boxes(bad, "thing")


def test_each_box_is_judged_by_those_alike() -> None:
    truth = boxes((0, 0, 10, 10), (11, 0, 21, 10))
    found = boxes((0, 0, 10, 5), (0, 0, 10, 4), (3, 0, 18, 10), (5, 0, 16, 10))
    assert judge(found, truth) == ["right", "part", "group", "other"]
    alike = torch.tensor([[True, False], [False, True], [True, False], [True, True]])
    assert judge(found, truth, alike) == ["right", "other", "other", "other"]
    assert judge(found, boxes()) == ["other"] * 4 and judge(boxes(), truth) == []
