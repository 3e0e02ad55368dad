"""The reviewer without a browser: its events come to what someone who knows the truth answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from almining.boxes import clip, iou
from almining.data.pool import Pool
from almining.data.scenes import make_scenes
from almining.label import Prices, Simulated, check_answer
from almining.records import Answer, Request, Target
from almining.review.events import check_event, event
from almining.review.scripted import scripted
from almining.review.state import Item, answer_of, fold
from tests.fakes import boxes, labels

SIZE = [100, 100]
BOX, OTHER = [10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]
NEAR = [10.0, 10.0, 50.0, 40.0]  # IoU 0.75 with BOX
ROUGH = [10.0, 10.0, 50.0, 30.0]  # IoU 0.5 with BOX
OFF = [10.0, 10.0, 50.0, 29.0]  # less
WHOLE = Request("q", "im-0", "complete")


def box(key: str, at: list[float], label: int = 1, **more: Any) -> dict[str, Any]:
    return {"key": key, "box": at, "label": label, "ignore": False, "score": None, **more}


def begun(request: Request, known: Any = (), proposed: Any = (), size: Any = SIZE) -> dict:
    given = {"size": list(size), "known": list(known), "proposed": list(proposed)}
    return event(request.id, "start", id=f"start:{request.id}", **given)


def truth_of(*rows: Any, label: Any = None, ignore: Any = None) -> Target:
    flags = None if ignore is None else torch.tensor(ignore)
    return Target(boxes(*rows), labels(*(label or [1] * len(rows))), ignore=flags)


def played(log: list, request: Request, truth: Target, **options: Any) -> tuple[list, Item]:
    """What is added to a log, and what it all comes to."""
    item = fold(log).item(request.id)
    new = list(scripted(request, item, truth, **{"classes": 3, **options}))
    return new, fold([*log, *new]).item(request.id)


def did(new: list) -> list[tuple]:
    """What was done, without ids, keys of new boxes and seconds."""
    beside = ("id", "request", "do", "seconds")
    return [
        (one["do"], {k: v for k, v in one.items() if k not in beside and v != f"d:{one['id']}"})
        for one in new
    ]


def contents(target: Target) -> list[tuple]:
    rows = zip(target.boxes.tolist(), target.labels.tolist(), target.ignore.tolist(), strict=True)
    return sorted((tuple(at), label, ignore) for at, label, ignore in rows)


# by hand


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        (box("p", NEAR), [("accept", {"key": "p"})]),
        (box("p", NEAR, 2), [("change", {"key": "p", "label": 1})]),
        (box("p", ROUGH), [("change", {"key": "p", "box": BOX})]),
        (box("p", ROUGH, 2), [("change", {"key": "p", "label": 1, "box": BOX})]),
        (box("p", NEAR, ignore=True), [("change", {"key": "p", "ignore": False})]),
        (
            box("p", OFF),
            [("reject", {"key": "p"}), ("add", {"box": BOX, "label": 1, "ignore": False})],
        ),
    ],
)
def test_a_predicted_box_by_hand(proposed: dict, expected: list) -> None:
    new, item = played([begun(WHOLE, proposed=[proposed])], WHOLE, truth_of(BOX))
    assert did(new) == [*expected, ("finish", {})]
    assert [(one.label, one.ignore) for one in item.given] == [(1, False)]
    assert item.seconds == pytest.approx(25.5) and item.status == "finished"


def test_each_true_box_once_the_best_first() -> None:
    found = [box("far", ROUGH), box("other", BOX, 2), box("near", NEAR), box("far-2", ROUGH)]
    new, item = played([begun(WHOLE, proposed=found)], WHOLE, truth_of(BOX))
    done = {fields["key"]: do for do, fields in did(new) if fields}
    assert done == {"far": "reject", "other": "reject", "near": "accept", "far-2": "reject"}
    two = truth_of(BOX, NEAR, label=[2, 1])
    new, item = played([begun(WHOLE, proposed=found)], WHOLE, two)
    assert {one.key: one.label for one in item.given} == {"other": 2, "near": 1}


def test_a_box_goes_with_one_true_box() -> None:
    start = begun(WHOLE, proposed=[box("p", BOX)])
    new, _ = played([start], WHOLE, truth_of(NEAR, BOX))
    left = {"box": NEAR, "label": 1, "ignore": False}
    assert did(new) == [("accept", {"key": "p"}), ("add", left), ("finish", {})]


def test_good_enough_is_what_one_says() -> None:
    start = begun(WHOLE, proposed=[box("p", ROUGH)])
    for enough, do in ((0.5, "accept"), (0.51, "change")):  # the boundary included
        new, _ = played([start], WHOLE, truth_of(BOX), accept_at=enough)
        assert [one["do"] for one in new] == [do, "finish"]


def test_what_was_rejected_by_mistake_is_accepted() -> None:
    log = [begun(WHOLE, proposed=[box("p", NEAR)]), event("q", "reject", key="p")]
    new, _ = played(log, WHOLE, truth_of(BOX))
    assert did(new) == [("accept", {"key": "p"}), ("finish", {})]


def test_a_person_s_boxes_stay_where_they_are_right() -> None:
    known = [box("right", NEAR), box("wrong", OTHER, 2), box("unclear", OTHER)]
    truth = truth_of(BOX, OTHER, ignore=[False, True])
    new, item = played([begun(WHOLE, known, [box("p", BOX)])], WHOLE, truth)
    assert did(new) == [
        ("remove", {"key": "wrong"}),
        ("remove", {"key": "unclear"}),  # it is to be ignored
        ("reject", {"key": "p"}),  # there is one
        ("add", {"box": OTHER, "label": 1, "ignore": True}),
        ("finish", {}),
    ]
    assert [one.status for one in item.given] == ["known", "drawn"]


def test_an_empty_image_is_looked_through() -> None:
    new, item = played([begun(WHOLE)], WHOLE, truth_of())
    assert did(new) == [("finish", {})] and item.seconds == Prices().look
    given = answer_of(WHOLE, item, by="me").target
    assert given is not None and given.complete and len(given) == 0


def test_the_true_box_of_a_region() -> None:
    region = Request("q", "im-0", "region", box=torch.tensor(ROUGH))
    start = begun(region, proposed=[box("r", ROUGH, 2)])
    truth = truth_of(BOX, OTHER, BOX, label=[1, 1, 3], ignore=[False, False, True])
    new, _ = played([start], region, truth)
    assert did(new) == [("change", {"key": "r", "label": 1, "box": BOX}), ("finish", {})]
    close = begun(region, proposed=[box("r", NEAR)])
    new, _ = played([close], region, truth)
    assert did(new) == [("change", {"key": "r", "box": BOX}), ("finish", {})]  # its very place
    new, item = played([start], region, truth_of(OTHER))
    assert did(new) == [("reject", {"key": "r"}), ("finish", {})]
    assert item.seconds == pytest.approx(Prices().verify)


def test_tags_and_verdicts() -> None:
    tag, verify = (
        Request("q", "im-0", "tag"),
        Request("q", "im-0", "verify", box=torch.tensor(NEAR), label=1),
    )
    truth = truth_of(BOX, OTHER, label=[3, 1])
    new, item = played([begun(tag), event("q", "tag", label=2, present=True)], tag, truth)
    assert [fields["label"] for _, fields in did(new) if fields] == [1, 2, 3]
    assert item.tags == {1, 3} and item.seconds == pytest.approx(3.0)
    for truth, verdict in ((truth_of(BOX), "accept"), (truth_of(OTHER), "reject")):
        new, item = played([begun(verify)], verify, truth)
        assert did(new) == [("verdict", {"verdict": verdict})] and item.verdict == verdict


# against the simulated person


def scenes() -> Pool:
    """Scenes of which every fifth box is to be ignored."""
    pool = make_scenes(24, seed=31, density="coco", size=96)
    changed = {}
    for number, image_id in enumerate(pool.ids):
        target = pool.target(image_id)
        ignore = (torch.arange(len(target)) + number) % 5 == 0
        changed[image_id] = replace(target, ignore=ignore)
    return pool.updated(changed, cycle=0)


def moved(rows: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Boxes that are a little off, within the image; IoU from about 0.3 to 1."""
    sides = (rows[:, 2:] - rows[:, :2]).repeat(1, 2)
    scale = 0.25 * torch.rand(len(rows), 1, generator=draws)
    off = scale * sides * (torch.rand(rows.shape, generator=draws) * 2 - 1)
    return clip(rows + off, (96, 96))


def made_up(truth: Target, draws: torch.Generator, name: str) -> list[dict[str, Any]]:
    """Predicted boxes: off, doubled, of other classes, and some of nothing."""
    junk = torch.rand(3, 2, generator=draws) * 60
    rows = torch.cat([truth.boxes, truth.boxes, torch.cat([junk, junk + 20], dim=1)])
    numbers = torch.cat([truth.labels, truth.labels, labels(1, 2, 3)])
    keep = torch.rand(len(rows), generator=draws) < 0.7
    other = torch.rand(len(rows), generator=draws) < 0.3
    numbers = torch.where(other, numbers % 3 + 1, numbers)
    found = zip(moved(rows, draws)[keep].tolist(), numbers[keep].tolist(), strict=True)
    return [box(f"{name}{i}", at, label, score=0.5) for i, (at, label) in enumerate(found)]


def cases(kind: str, pool: Pool) -> list[tuple[Request, dict, Target]]:
    made = []
    for number, image_id in enumerate(pool.ids):
        draws = torch.Generator().manual_seed(number)
        truth = pool.target(image_id)
        found = made_up(truth, draws, "p")
        given: dict[str, Any] = {}
        if kind in ("verify", "region") and found:
            given = {"box": torch.tensor(found[0]["box"])}
        elif kind in ("verify", "region"):
            continue
        if kind == "verify":
            given["label"] = found[0]["label"]
        request = Request(f"q-{number}", image_id, kind, **given)
        known: list[dict[str, Any]] = []
        if kind == "complete":
            right = [
                box(f"k{i}", truth.boxes[i].tolist(), int(truth.labels[i]))
                for i in range(0, len(truth), 3)
            ]
            known = right + made_up(truth, draws, "wrong")[:2]
        proposed = {"complete": found, "region": found[:1]}.get(kind, [])
        made.append((request, begun(request, known, proposed, (96, 96)), truth))
    return made


def answers(pool: Pool, request: Request, item: Item) -> tuple[Answer, Answer]:
    (simulated,) = Simulated(pool).ask([request], pool)
    given = answer_of(request, item, by="scripted")
    check_answer(request, given)
    assert given.seconds == pytest.approx(simulated.seconds)
    return given, simulated


@pytest.mark.parametrize("kind", ["complete", "verify", "region", "tag"])
def test_it_answers_as_the_simulated_person_does(kind: str) -> None:
    pool, seen = scenes(), set()
    for request, start, truth in cases(kind, pool):
        given = {"classes": len(pool.classes), "accept_at": 1}
        new, item = played([start], request, truth, **given)
        for one in new:
            check_event(one, {request.id: request}, pool.classes, {request.id: start["size"]})
        answer, simulated = answers(pool, request, item)
        assert answer.verdict == simulated.verdict and item.undecided == 0
        if answer.target is not None and simulated.target is not None:
            wanted = simulated.target
            assert contents(answer.target) == contents(wanted)
            assert (answer.target.tags, answer.target.complete) == (wanted.tags, wanted.complete)
        seen |= {one["do"] for one in new}
    assert (
        seen
        == {
            "complete": {"change", "reject", "remove", "add", "finish"},
            "verify": {"verdict"},
            "region": {"change", "reject", "finish"},
            "tag": {"tag", "finish"},
        }[kind]
    )


def test_predicted_boxes_that_are_good_enough_stay_as_they_are() -> None:
    pool, accepted = scenes(), 0
    for request, start, truth in cases("complete", pool):
        new, item = played([start], request, truth, classes=len(pool.classes))
        answer, simulated = answers(pool, request, item)
        assert answer.target is not None and simulated.target is not None
        given, wanted = answer.target, simulated.target
        assert len(given) == len(wanted) and item.undecided == 0
        fits = (iou(given.boxes, wanted.boxes) >= 0.7) & (given.labels[:, None] == wanted.labels)
        fits &= given.ignore[:, None] == wanted.ignore
        assert bool(fits.any(dim=0).all()) and bool(fits.any(dim=1).all())
        accepted += sum(one["do"] == "accept" for one in new)
    assert accepted > 10


def test_the_order_of_the_boxes_does_not_matter() -> None:
    for request, start, truth in cases("complete", scenes()):
        seen = []
        for way in (1, -1):
            turned = start | {name: start[name][::way] for name in ("known", "proposed")}
            _, item = played([turned], request, truth, classes=20)
            seen.append({(one.key[0], *one.box, one.label, one.ignore) for one in item.given})
        assert seen[0] == seen[1]


# once more


def test_playing_twice_changes_nothing() -> None:
    for request, start, truth in cases("complete", scenes()):
        new, item = played([start], request, truth)
        again, _ = played([start], request, truth)
        assert again == new and len({one["id"] for one in new}) == len(new)
        assert fold([start, *new, *again]).plain() == fold([start, *new]).plain()
        assert list(scripted(request, item, truth, classes=3)) == []
        skipped = fold([start, event(request.id, "skip")]).item(request.id)
        assert list(scripted(request, skipped, truth, classes=3)) == []


def test_where_some_is_done_the_rest_follows() -> None:
    for request, start, truth in cases("complete", scenes())[:8]:
        new, whole = played([start], request, truth)
        for count in range(len(new)):
            log = [start, *new[:count]]
            rest, item = played(log, request, truth)
            assert did(rest) == did(new[count:])
            assert item.seconds == pytest.approx(whole.seconds)


def test_what_was_taken_back_is_done_again() -> None:
    request, start, truth = cases("complete", scenes())[0]
    new, whole = played([start], request, truth)
    for count in (1, 2, len(new)):
        back = [event(request.id, "undo", of=one["id"]) for one in new[::-1][:count]]
        rest, item = played([start, *new, *back], request, truth)
        assert did(rest) == did(new[-count:]) and item.status == "finished"
        assert len(item.given) == len(whole.given)


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        (Target.unknown(), {}, r"'im-0' is unlabelled, not complete"),
        (truth_of(BOX), {"accept_at": 0.4}, r"accept_at = 0.4: a number from 0.5 to 1"),
        (truth_of(BOX), {"accept_at": 1.1}, r"accept_at = 1.1"),
    ],
)
def test_what_cannot_be_played(truth: Target, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scripted(WHOLE, Item(), truth, classes=3, **options)
