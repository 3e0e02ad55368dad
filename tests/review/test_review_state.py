from __future__ import annotations

from typing import Any

import pytest
import torch

from almining.records import Request
from almining.review.events import event
from almining.review.state import BESIDE, Item, Review, answer_of, fold
from tests.review import logs

SEEDS = range(60)
START_BOX = torch.tensor([0.0, 0, 9, 9])
START = event(
    "q",
    "start",
    id="start:q",
    size=[50, 100],
    known=[{"key": "k0", "box": [0, 0, 9, 9], "label": 1, "ignore": True, "score": None}],
    proposed=[
        {"key": "p0", "box": [10, 10, 30, 30], "label": 2, "ignore": False, "score": 0.75},
        {"key": "p1", "box": [40, 10, 60, 30], "label": 1, "ignore": False, "score": 0.5},
    ],
)


def did(do: str, id: str, **fields: Any) -> dict[str, Any]:
    return event("q", do, id=id, **fields)


def boxes(review: Review) -> dict[str, str]:
    return {key: box.status for key, box in review.item("q").boxes.items()}


def test_a_review_by_hand() -> None:
    log = [
        START,
        did("accept", "1", key="p0", seconds=2.0),
        did("reject", "2", key="p1", seconds=1.0),
        did("add", "3", key="d0", box=[1, 2, 3, 4.5], label=2, ignore=False),
        did("change", "4", key="d0", label=1),
        did("remove", "5", key="k0"),
        did("finish", "6", seconds=0.5),
    ]
    review = fold(log)
    item = review.item("q")
    assert boxes(review) == {"p0": "accepted", "p1": "rejected", "d0": "drawn"}
    assert (item.status, item.seconds, item.size, item.undecided) == ("finished", 3.5, [50, 100], 0)
    assert (review.undo, review.redo) == ("6", None)
    answer = answer_of(Request("q", "a", "complete"), item, by="me")
    assert answer.target is not None and answer.target.complete
    assert answer.target.boxes.tolist() == [[10, 10, 30, 30], [1, 2, 3, 4.5]]
    assert answer.target.labels.tolist() == [2, 1]
    assert (answer.by, answer.seconds) == ("me", 3.5)


def test_undo_and_redo_go_back_and_forth_without_limit() -> None:
    log = [START, *(did("change", str(n), key="k0", label=n) for n in range(1, 31))]
    undone = [did("undo", f"u{n}", of=str(n)) for n in range(30, 0, -1)]
    redone = [did("redo", f"r{n}", of=str(n)) for n in range(1, 31)]
    assert fold(log + undone).item("q").boxes["k0"].label == 1
    assert fold(log + undone).undo is None
    assert fold(log + undone[:-3]).item("q").boxes["k0"].label == 3
    assert fold(log + undone + redone).item("q").boxes["k0"].label == 30
    assert fold(log + undone + redone).redo is None


def test_an_action_ends_what_could_be_brought_back() -> None:
    log = [START, did("accept", "1", key="p0"), did("undo", "2", of="1")]
    assert fold(log).redo == "1"
    log += [did("reject", "3", key="p1"), did("redo", "4", of="1")]
    assert (fold(log).redo, boxes(fold(log))["p0"]) == (None, "proposed")


def test_what_depended_on_something_undone_does_nothing() -> None:
    drawn = did("add", "1", key="d", box=[0, 0, 5, 5], label=1)
    log = [START, drawn, did("change", "2", key="d", label=2), did("undo", "3", of="1")]
    assert "d" not in boxes(fold(log))
    assert fold([*log, did("redo", "4", of="1")]).item("q").boxes["d"].label == 2


@pytest.mark.parametrize(
    "edit",
    [
        did("add", "x", key="d", box=[0, 0, 5, 5], label=1),
        did("accept", "x", key="p0"),
        did("reject", "x", key="p0"),
        did("change", "x", key="p0", label=1),
        did("remove", "x", key="k0"),
        did("tag", "x", label=1, present=True),
    ],
)
def test_an_edit_opens_a_request_again(edit: dict[str, Any]) -> None:
    log = [START, did("finish", "1"), edit]
    assert fold(log).item("q").status == "open"
    assert fold([*log, did("undo", "2", of="x")]).item("q").status == "finished"


def test_a_predicted_box_that_is_changed_is_accepted() -> None:
    log = [START, did("reject", "1", key="p0"), did("change", "2", key="p0", box=[0, 0, 2, 2])]
    assert boxes(fold(log))["p0"] == "accepted"
    assert boxes(fold([*log, did("remove", "3", key="p0")]))["p0"] == "rejected"


def test_a_second_beginning_only_adds() -> None:
    (first, *_) = START["proposed"]
    more = [first | {"label": 1}, first | {"key": "p2"}]
    second = START | {"id": "start again", "size": [9, 9], "known": [], "proposed": more}
    item = fold([START, did("reject", "1", key="p0"), second]).item("q")
    assert [(box.key, box.status) for box in item.boxes.values()] == [
        ("k0", "known"), ("p0", "rejected"), ("p1", "proposed"), ("p2", "proposed"),
    ]  # fmt: skip
    assert (item.size, item.boxes["p0"].label) == ([50, 100], 2)


def test_what_is_opened_again_has_no_verdict() -> None:
    log = [did("verdict", "1", verdict="accept"), did("reopen", "2")]
    item = fold(log).item("q")
    assert (item.status, item.verdict) == ("open", None)
    item = fold([*log, did("undo", "3", of="2")]).item("q")
    assert (item.status, item.verdict) == ("finished", "accept")


def test_boxes_of_ones_own_are_not_judged() -> None:
    log = [START, did("reject", "1", key="k0"), did("accept", "2", key="gone")]
    assert boxes(fold(log)) == boxes(fold([START]))


@pytest.mark.parametrize("seed", SEEDS)
def test_to_undo_is_as_if_it_had_not_been(seed: int) -> None:
    log = logs.log(seed)
    review = fold(log)
    if review.undo is None:
        return
    last = next(one for one in log if one["id"] == review.undo)
    undo = {"id": "undo", "request": last["request"], "do": "undo", "seconds": 0, "of": last["id"]}
    without = [one for one in log if one["id"] != last["id"]]
    assert timeless(fold([*log, undo])) == timeless(fold(without))
    redo = {**undo, "id": "redo", "do": "redo"}
    assert fold([*log, undo, redo]).plain() == review.plain()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_twice_counts_once(seed: int) -> None:
    log = logs.log(seed)
    twice = [one for event in log for one in (event, event)]
    assert fold(twice).plain() == fold(log).plain() == fold(log + log).plain()


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_do_not_touch_each_other(seed: int) -> None:
    log = [one for one in logs.log(seed) if one["do"] not in ("undo", "redo")]
    for name in "qr":
        mine = [one for one in log if one["request"] == name]
        unique = {one["id"]: one["request"] for one in reversed(log)}
        mine = [one for one in mine if unique[one["id"]] == name]
        assert fold(mine).item(name) == fold(log).item(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_seconds_add_up_whatever_is_undone(seed: int) -> None:
    log = logs.log(seed)
    first = {one["id"]: one["seconds"] for one in reversed(log)}
    spent = sum(item.seconds for item in fold(log).items.values())
    assert spent == pytest.approx(sum(first.values()))


def timeless(review: Review) -> dict[str, Any]:
    """A review without seconds, without what redo would do, and without untouched requests."""
    items = {name: item | {"seconds": 0} for name, item in review.plain()["requests"].items()}
    untouched = Review({"": Item()}).plain()["requests"][""]
    return {name: item for name, item in items.items() if item != untouched} | {"": review.undo}


def test_no_event_and_one_event() -> None:
    assert fold([]).plain() == {"requests": {}, "undo": None, "redo": None}
    assert fold([]).item("q") == Item()
    assert fold([did("look", "1", seconds=3.0)]).item("q").seconds == 3.0
    assert all(fold([did(do, "1", of="0")]).undo is None for do in BESIDE if do != "start")


def test_answers_by_kind() -> None:
    q = {"image_id": "a", "box": START_BOX, "label": 1}
    verify = Request("q", kind="verify", **q)
    said = fold([did("verdict", "1", verdict="reject")]).item("q")
    assert (answer_of(verify, said, by="me").verdict, said.status) == ("reject", "finished")
    region = Request("q", kind="region", **q)
    nothing = fold([START, did("remove", "0", key="k0"), did("finish", "1")]).item("q")
    target = answer_of(region, nothing, by="me").target
    assert target is not None and (len(target), target.complete) == (0, False)
    tags = [did("tag", str(n), label=n, present=True) for n in (3, 1)]
    tagged = fold([*tags, did("tag", "2", label=3, present=False), did("finish", "f")]).item("q")
    target = answer_of(Request("q", "a", "tag"), tagged, by="me").target
    assert target is not None and target.tags == {1}
    skipped = fold([START, did("skip", "1")]).item("q")
    assert answer_of(region, skipped, by="me").verdict == "skip"


def test_what_is_ignored_stays_ignored() -> None:
    item = fold([START, did("finish", "1")]).item("q")
    target = answer_of(Request("q", "a", "complete"), item, by="me").target
    assert target is not None
    assert (target.ignore.tolist(), item.undecided) == ([True], 2)


def test_an_open_request_has_no_answer() -> None:
    with pytest.raises(ValueError, match=r"'q' about image 'a' is still open; finish it or skip"):
        answer_of(Request("q", "a", "complete"), Item(), by="me")
