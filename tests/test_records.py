import dataclasses

import pytest
import torch

from almining.checks import check_image
from almining.records import Answer, Detections, Evidence, Request, Target
from tests.fakes import boxes, labels, target

BOX = (1.0, 2, 5, 8)
EMPTY = boxes(), labels()


def test_defaults_are_filled() -> None:
    known = target(BOX, BOX)
    assert known.origin == ("human", "human")
    assert known.ignore.tolist() == [False, False]
    assert known.scores.isnan().all()
    assert known.negatives.shape == (0, 4)
    assert known.complete and known.tags is None and known.absent is None


def test_three_states_are_not_confused() -> None:
    unlabelled, empty, sparse = Target.unknown(), Target(*EMPTY), target(BOX, complete=False)
    tagged = Target.unknown({1, 2})
    assert [one.state for one in (unlabelled, empty, sparse, tagged)] == [
        "unlabelled",
        "complete",
        "sparse",
        "tagged",
    ]
    assert [one.present for one in (unlabelled, empty, sparse, tagged)] == [
        None,
        frozenset(),
        None,
        {1, 2},
    ]
    assert [one.known_absent(3) for one in (unlabelled, empty, sparse, tagged)] == [
        False,
        True,
        False,
        True,
    ]


def test_absent_overrides_the_untagged() -> None:
    known = Target(*EMPTY, tags={1}, absent={3}, complete=False)
    assert known.known_absent(3) and not known.known_absent(2)


def test_an_ignored_box_counts_as_present() -> None:
    known = target(BOX, ignore=torch.tensor([True]))
    assert known.present == {1} and not known.known_absent(1)


@pytest.mark.parametrize("record", [Target(*EMPTY), Detections(*EMPTY, torch.zeros(0))])
def test_no_truth_value(record: object) -> None:
    with pytest.raises(TypeError, match="no truth value"):
        bool(record)
    assert len(record) == 0  # type: ignore[arg-type]


def test_frozen_and_without_equality() -> None:
    known = target(BOX)
    with pytest.raises(dataclasses.FrozenInstanceError):
        known.complete = False  # type: ignore[misc]
    assert known != target(BOX)


def test_select_and_to_keep_everything_in_step() -> None:
    known = Target(
        boxes(BOX, (0, 0, 2, 2)),
        labels(1, 2),
        ignore=torch.tensor([False, True]),
        origin=("human", "mined:bib:3"),
        scores=torch.tensor([torch.nan, 0.75]),
        complete=False,
        tags={1, 2},
        negatives=boxes((0, 0, 1, 1)),
    )
    second = known.to("cpu").select(torch.tensor([False, True]))
    assert second.labels.tolist() == [2] and second.origin == ("mined:bib:3",)
    assert second.scores.tolist() == [0.75] and second.ignore.tolist() == [True]
    assert len(second.negatives) == 1 and second.tags == {1, 2}


def test_a_complete_target_that_loses_a_box_is_no_longer_complete() -> None:
    known = target(BOX, BOX)
    assert known.select(torch.tensor([True, True])).complete
    assert not known.select(torch.tensor([True, False])).complete
    assert known.select(torch.tensor([1, 0])).complete  # another order
    assert not known.select(torch.tensor([0, 0])).complete  # one lost, one twice


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Target(boxes((5, 0, 1, 1)), labels(1)), r"Target.boxes\[0\].*x2 >= x1"),
        (lambda: Target(boxes(BOX), labels()), r"Target.labels must have shape \(1,\).*got \(0,\)"),
        (lambda: Target(boxes(BOX), labels(0)), r"Target.labels\[0\] = 0.*1...C"),
        (
            lambda: Target(boxes(BOX), torch.tensor([1.0])),
            "Target.labels must be torch.int64, got torch.float32",
        ),
        (lambda: Target(boxes(BOX), [1]), "Target.labels.*got list"),
        (lambda: target(BOX, ignore=torch.tensor([1])), "Target.ignore must be torch.bool"),
        (lambda: target(BOX, origin=("robot",)), r"Target.origin\[0\] = 'robot'.*mined"),
        (lambda: target(BOX, origin="human"), "single string 'human'"),
        (lambda: target(BOX, origin=("human", "mined")), "1 strings.*got 2"),
        (
            lambda: target(BOX, scores=torch.tensor([[1.0]])),
            r"Target.scores must have shape \(1,\)",
        ),
        (lambda: target(BOX, negatives=torch.zeros(1, 3)), r"Target.negatives.*\(1, 3\)"),
        (
            lambda: target(BOX, tags={0}, complete=False),
            r"Target.tags = 0: class numbers are whole, 1...C",
        ),
        (
            lambda: target(BOX, tags={1, 2}),
            r"tags = \[1, 2\] but a complete.*classes \[1\].*complete=False",
        ),
        (lambda: target(BOX, absent={1}, complete=False), r"absent names \[1\].*present"),
        (lambda: target(BOX, complete=None), "Target.complete must be True or False, got None"),
        (
            lambda: Detections(boxes(BOX), labels(1), torch.tensor([float("nan")])),
            r"scores\[0\] = nan",
        ),
        (
            lambda: Detections(
                boxes(BOX), labels(1), torch.ones(1), probs=torch.tensor([[3.0, -2.0]])
            ),
            r"probs span \[-2, 3\].*not logits",
        ),
        (
            lambda: Detections(boxes(BOX), labels(2), torch.ones(1), probs=torch.ones(1, 2)),
            "reach 2.*2 columns",
        ),
        (
            lambda: Detections(boxes(BOX), labels(1), torch.ones(1), features=torch.ones(2, 3)),
            r"features.*\(1, d\)",
        ),
        (
            lambda: Detections(
                boxes(BOX), labels(1), torch.ones(1), features=torch.tensor([[torch.inf]])
            ),
            r"features\[0\] is not finite",
        ),
        (lambda: Request("", "i", "complete"), "Request.id = ''"),
        (lambda: Request("r", "i", "guess"), "Request.kind of 'i' = 'guess'.*complete, verify"),
        (lambda: Request("r", "i", "region"), "Request.box of 'i' is None"),
        (
            lambda: Request("r", "i", "verify", box=torch.tensor(BOX)),
            "Request.label of 'i', verify = None",
        ),
        (
            lambda: Request("r", "i", "region", box=torch.tensor([5.0, 0, 1, 1])),
            "Request.box of 'i'.*x2 >= x1",
        ),
        (lambda: Answer("r", by="me", seconds=1), "'r' is empty"),
        (
            lambda: Answer("r", verdict="maybe", by="me", seconds=1),
            "Answer.verdict to 'r' = 'maybe'",
        ),
        (lambda: Answer("r", verdict="skip", by="me", seconds=-1), "seconds = -1"),
        (lambda: Answer("r", verdict="skip", by="me", seconds=float("nan")), "seconds = nan"),
        (lambda: Evidence("e", {"a": [1]}, "t"), r"data\['a'\] is a list"),
        (lambda: Evidence("e", None, "t"), "data must be a mapping, got NoneType"),
        (lambda: Target.unknown({1.7}), "Target.tags = 1.7: class numbers are whole"),
        (lambda: Target.unknown("12"), "Target.tags = '12': a set of class numbers"),
        (lambda: Target.unknown(3), "Target.tags = 3: a set of class numbers"),
        (lambda: target(BOX, scores=torch.tensor([torch.inf])), "Target.scores hold an infinite"),
        (lambda: Request("r", "i", "complete", label=-1), "Request.label of 'i', complete = -1"),
        (lambda: Request("r", "i", "complete", score="x"), "Request.score of 'i' = 'x'"),
        (lambda: Request("r", "i", "region", box=torch.zeros(1, 4)), r"one .*\(4,\), got \(1, 4\)"),
        (lambda: Answer("", verdict="skip", by="me", seconds=1), "Answer.request_id = ''"),
        (lambda: Answer("r", verdict="skip", by=None, seconds=1), "Answer.by to 'r' = None"),
        (
            lambda: Answer("r", target={}, by="me", seconds=1),
            "Answer.target to 'r' must be a Target",
        ),
    ],
)
def test_rejected(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_nan_score_is_never_ranked() -> None:
    with pytest.raises(FloatingPointError, match="score of 'i' is NaN"):
        Request("r", "i", "complete", score=float("nan"))


def test_one_vs_rest_rows_need_not_sum_to_one() -> None:
    found = Detections(boxes(BOX), labels(1), torch.ones(1), probs=torch.tensor([[0.1, 0.9, 0.8]]))
    assert found.select(torch.tensor([0])).probs is not None and len(found.to("cpu")) == 1


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 4, 4), torch.zeros(3, 4), torch.zeros(3, 0, 4), "image"]
)
def test_images_rejected(bad: object) -> None:
    with pytest.raises(ValueError, match=r"x must be a float32 tensor \(3, h, w\)"):
        check_image(bad, "x")
    with pytest.raises(ValueError, match="uint8"):
        check_image(torch.zeros(3, 4, 4, dtype=torch.uint8), "x")


def test_short_reprs() -> None:
    assert repr(target(BOX, label=2)) == "Target(1 box, classes 2, complete)"
    assert repr(Target.unknown({1})) == "Target(0 boxes, tagged)"
    assert "0x" not in repr(Request("r", "i", "complete", score=0.5)) + repr(
        Answer("r", target=target(BOX), by="me", seconds=2)
    )
