import math

import numpy as np
import pytest
import torch

from almining import evaluate
from almining.data.pool import Pool
from almining.papers.note_rcnn import audit, precision_curve
from almining.records import Target
from almining.rng import generator
from tests import oracles
from tests.fakes import boxes, labels

CLASSES = ("cat", "dog")
KINDS = ("wrong_class", "inaccurate", "false_positive")
CAT, DOG = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)


def pool(**targets: Target) -> Pool:
    return Pool(CLASSES, targets, {})


def mined(*rows: tuple[tuple, int, float]) -> Target:
    return Target(
        boxes(*(box for box, _, _ in rows)),
        labels(*(label for _, label, _ in rows)),
        origin=["mined"] * len(rows),
        scores=torch.tensor([score for _, _, score in rows]),
        complete=False,
    )


TRUE = Target(boxes(CAT, DOG), labels(1, 2))


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        (CAT, 1, "right"),
        ((0, 0, 10, 5), 1, "right"),  # IoU 0.5
        ((0, 0, 10, 4.9), 1, "inaccurate"),
        ((0, 0, 10, 1), 1, "inaccurate"),  # IoU 0.1
        ((0, 0, 10, 0.9), 1, "false_positive"),
        (DOG, 1, "wrong_class"),
        ((20, 0, 30, 4.9), 1, "false_positive"),  # half a dog is no cat
        ((50, 50, 60, 60), 1, "false_positive"),
        ((0, 0, 10, 4.9), 2, "false_positive"),
    ],
)
def test_the_kinds_by_hand(box, label: int, kind: str) -> None:
    figures = audit(pool(a=mined((box, label, 0.9))), pool(a=TRUE))
    kinds = {name: figures[name] for name in ("right", *KINDS)}
    assert kinds == {**dict.fromkeys(kinds, 0), kind: 1}
    own, other = CLASSES[label - 1], CLASSES[2 - label]
    assert figures[f"{kind}/{own}"] == 1 and figures[f"{kind}/{other}"] == 0
    assert figures["missed"] == 2 - (kind == "right")
    assert figures[f"missed/{own}"] == 1 - (kind == "right") and figures[f"missed/{other}"] == 1


def test_wrong_class_goes_before_an_inaccurate_boundary() -> None:
    both = Target(boxes((0, 0, 10, 10), (0, 0, 10, 3)), labels(1, 2))
    figures = audit(pool(a=mined(((0, 0, 10, 9), 2, 0.9))), pool(a=both))
    assert (figures["wrong_class"], figures["inaccurate"]) == (1, 0)


def test_a_persons_boxes_and_ignored_ones_are_not_judged() -> None:
    crowd = Target(boxes(CAT, DOG), labels(1, 2), ignore=torch.tensor([True, False]))
    figures = audit(pool(a=mined((CAT, 1, 0.9), (CAT, 2, 0.9))), pool(a=crowd))
    assert (figures["mined"], figures["right"], figures["missed"]) == (2, 0, 1)
    assert figures["false_positive"] == 1  # a crowd of cats is no dog, and no object either
    drawn = Target(
        boxes(CAT, CAT),
        labels(1, 1),
        origin=["mined", "human"],
        scores=torch.tensor([0.9, math.nan]),
        complete=False,
    )
    figures = audit(pool(a=drawn, b=TRUE), pool(a=TRUE, b=TRUE))
    assert (figures["mined"], figures["right"], figures["false_positive"]) == (1, 0, 1)
    assert (figures["missed"], figures["missed/cat"], figures["missed/dog"]) == (1, 0, 1)


def test_nothing_mined_misses_everything() -> None:
    figures = audit(pool(a=Target.unknown({1})), pool(a=TRUE))
    assert math.isnan(figures["precision"]) and figures["recall"] == 0 and figures["missed"] == 2
    nothing = audit(pool(), pool())
    assert nothing["mined"] == nothing["missed"] == 0
    assert [len(values) for values in precision_curve(pool(), pool())] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_as_loops_say(seed: int) -> None:
    draws = generator(seed, "audit")
    known, truth, wanted = {}, {}, dict.fromkeys(("right", *KINDS, "missed"), 0)
    for image in "abcdefgh":
        corners = torch.randint(0, 9, (12, 2), generator=draws).float()
        sides = torch.randint(4, 12, (12, 2), generator=draws).float()
        some = torch.cat([corners, corners + sides], dim=1)
        of = torch.randint(1, 3, (12,), generator=draws)
        scores = torch.rand(12, generator=draws)
        rows = list(zip(some.tolist(), of.tolist(), scores.tolist(), strict=True))
        known[image] = mined(*rows[:6])
        truth[image] = Target(some[6:], of[6:])
        kinds, missed = oracles.faults_of_mined(rows[:6], [row[:2] for row in rows[6:]])
        wanted["missed"] += missed
        for kind in kinds:
            wanted[kind] += 1
    figures = audit(pool(**known), pool(**truth))
    assert {name: figures[name] for name in wanted} == wanted
    assert wanted["right"] and wanted["wrong_class"] and wanted["inaccurate"]
    plain = evaluate.mined(pool(**known), pool(**truth))
    assert {name: figures[name] for name in plain} == plain
    assert figures["precision"] == wanted["right"] / 48
    for name in wanted:
        assert figures[name] == sum(figures[f"{name}/{one}"] for one in CLASSES)
    scores, counts, precision = precision_curve(pool(**known), pool(**truth))
    assert counts[-1] == 48 and precision[-1] == figures["precision"]
    assert (np.diff(scores) < 0).all() and (np.diff(counts) == 1).all()
    for score, count, share in list(zip(scores, counts, precision, strict=True))[::5]:
        kept = {name: one.select(one.scores >= score) for name, one in known.items()}
        part = evaluate.mined(pool(**kept), pool(**truth))
        assert (part["mined"], part["precision"]) == (count, share)


def test_equal_scores_go_together() -> None:
    one = mined((CAT, 1, 0.9), (DOG, 1, 0.9), (DOG, 2, 0.5))
    scores, counts, precision = precision_curve(pool(a=one), pool(a=TRUE))
    assert scores.tolist() == pytest.approx([0.9, 0.5]) and counts.tolist() == [2, 3]
    assert precision.tolist() == pytest.approx([1 / 2, 2 / 3])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="not complete"):
        audit(pool(a=TRUE), pool(a=Target.unknown()))
    with pytest.raises(ValueError, match="min_iou = 0"):
        audit(pool(a=TRUE), pool(a=TRUE), min_iou=0)
    with pytest.raises(ValueError, match="no image 'a'"):
        audit(pool(a=TRUE), pool(b=TRUE))
