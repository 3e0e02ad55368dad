"""A review that is disturbed: by threads, a second kernel, a stop between any two steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining import cycle
from almining.data.pool import Pool
from almining.label import hand_in
from almining.label.desk import row_of
from almining.ledger import Ledger, LedgerError, open_ledger
from almining.records import Answer, Detections, Request, Target
from almining.review import Reviewer, store
from almining.review.events import event
from tests.fakes import FlatDetector, FlatImages
from tests.review.test_reviewer import HIDDEN, RECIPE, run, unlabelled

KINDS = ("complete", "complete", "complete", "tag", "tag", "tag")


class Stopped(BaseException):
    """The process is gone."""


def begin(folder: Path, requests: list[Request] | None = None) -> Reviewer:
    """Return a reviewer of a run that waits for these, by default for six of two kinds."""
    asked = requests or [Request(f"001/{n}", f"flat-{n}", KINDS[n]) for n in range(6)]  # type: ignore[arg-type]
    with open_ledger(folder) as ledger:
        ledger.begin({"classes": ["dark", "light"]})
        ledger.close_cycle(0, {}, used=[], mined={}, set_aside=[])
        ledger.add_requests(1, [row_of(one) | {"set_aside": []} for one in asked])
    return Reviewer(open_pool(), run_dir=folder)


def open_pool() -> Pool:
    return Pool(HIDDEN.classes, {i: Target.unknown() for i in HIDDEN.ids}, FlatImages())


def answers(run_dir: Path) -> list[dict[str, Any]]:
    with open_ledger(run_dir) as ledger:
        return ledger.answers()


def in_use(run_dir: Path) -> bool:
    """Return whether another process finds it locked."""
    text = "from almining.ledger import LockedError, open_ledger\n"
    text += f"try:\n open_ledger({str(run_dir)!r})\nexcept LockedError:\n print('in use')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return done.stdout == "in use\n"


def test_threads_neither_lose_nor_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    review = begin(tmp_path / "run")
    names = list(review.batch.requests)
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(review.widget, "send", lambda content, _=None: said.append(content))

    def deeds(who: str) -> list[dict[str, Any]]:
        looks = [event(names[n % 6], "look", id=f"{who}{n}", seconds=1.0) for n in range(18)]
        return looks + [event(name, "skip", id=f"{who}:{name}", seconds=0.5) for name in names]

    def page(who: str) -> None:
        for one in deeds(who):
            review.widget._handle_custom_msg({"type": "events", "events": [one]}, [])

    def other_reviewer() -> None:
        other = Reviewer(HIDDEN, run_dir=review.run_dir)
        for one in deeds("b"):
            assert other.take([one]).refused == {}
            other.commit(partial=True)

    def cell() -> None:
        for name in names * 6:
            review.open(name)
            review.commit(partial=True)
            assert set(review.handed_in) <= set(names)
            assert all(item.seconds >= 0 for item in review.state.items.values())

    every = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with open_ledger(review.run_dir), ThreadPoolExecutor() as pool:  # a run is under way
            jobs = [pool.submit(page, "a"), pool.submit(page, "a"), pool.submit(other_reviewer)]
            for job in [*jobs, pool.submit(cell)]:
                job.result()
    finally:
        sys.setswitchinterval(every)
    review.take([event(name, "skip", seconds=0.25) for name in names])
    review.commit()
    assert [one for one in said if one["type"] in ("error", "busy")] == []
    log = Reviewer(HIDDEN, run_dir=review.run_dir).batch.events
    assert set(Counter(one["id"] for one in log).values()) == {1}
    assert len(log) == 2 * 24 + 6 + 6
    told = {e["id"] for one in said if one["type"] in ("saved", "batch") for e in one["events"]}
    assert told == {one["id"] for one in log}
    given: Counter[str] = Counter()
    for row in answers(review.run_dir):
        given[row["request_id"]] += row["seconds"]
    assert given == dict.fromkeys(names, 7.25)
    assert review.handed_in == names


def test_a_batch_that_was_read_does_not_change(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    before = review.batch
    review.take([event("001/0", "skip")])
    review.commit(partial=True)
    assert (before.events, before.handed_in, set(before.names)) == ([], {}, set())
    assert before.state.items == {}


def test_the_other_kernel_looked_first(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    other = Reviewer(open_pool(), run_dir=review.run_dir, detector=FlatDetector())
    for one in (review, other):
        one.refresh()
    review.open("001/0")
    size = other.open("001/0")[0]["size"]  # would begin otherwise: with what a detector says
    assert (size, other.state.item("001/0").boxes) == ([16, 24], {})
    other.open("001/1")
    assert len(other.state.item("001/1").boxes) == 1


def test_the_same_event_from_two_kernels(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    other = Reviewer(open_pool(), run_dir=review.run_dir)
    other.refresh()
    mine = event("001/0", "skip", id="1")
    assert review.take([mine, mine]).ids == other.take([mine]).ids == ["1"]
    assert review.take([mine | {"seconds": 0}]).ids == ["1"]  # the same number
    review.take([event("001/1", "skip", id="2")])
    saved = other.take([event("001/2", "skip", id="2"), event("001/3", "skip", id="3")])
    assert "another event has the id '2'" in saved.refused["2"]
    assert saved.ids == ["3"]
    assert [one["id"] for one in other.batch.events] == ["1", "2", "3"]


@pytest.mark.parametrize("do", ["take", "open", "commit"])
def test_nobody_else_writes_between_what_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    review = begin(tmp_path / "run")
    review.take([event("001/0", "skip")])
    read, found = store.read, []

    def watched(*given: Any) -> store.Batch:
        batch = read(*given)
        found.append(in_use(review.run_dir))
        return batch

    monkeypatch.setattr(store, "read", watched)
    if do == "take":
        review.take([event("001/1", "skip")])
    else:
        review.open("001/1") if do == "open" else review.commit(partial=True)
    assert found[0]
    assert not in_use(review.run_dir)


@pytest.mark.parametrize("after", range(4))
def test_a_stop_while_answers_are_handed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    review = begin(tmp_path / "run")
    review.take([event(name, "skip", seconds=2.0) for name in list(review.batch.requests)[:3]])
    add, count = Ledger.add_answer, iter(range(9))

    def stops(*given: Any, **options: Any) -> bool:
        if next(count) == after:
            raise Stopped
        return add(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_answer", stops)
        if after < 3:
            with pytest.raises(Stopped):
                review.commit(partial=True)
        else:
            assert review.commit(partial=True) == 3
    again = Reviewer(open_pool(), run_dir=review.run_dir)
    assert again.commit(partial=True) == 3 - after
    assert [row["seconds"] for row in answers(review.run_dir)] == [2.0] * 3
    assert len(again.handed_in) == 3


@pytest.mark.parametrize("written", [False, True])
def test_a_stop_before_the_page_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    review = begin(tmp_path / "run")
    events = [event("001/0", "look", seconds=1.0), event("001/0", "skip", seconds=1.0)]
    add = Ledger.add_reviewed

    def stops(ledger: Ledger, given: Any) -> list[str]:
        if written:
            add(ledger, given)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_reviewed", stops)
        with pytest.raises(Stopped):
            review.take(events)
    for one in (review, Reviewer(open_pool(), run_dir=review.run_dir)):
        assert one.take(events).ids == [event["id"] for event in events]
        assert (len(one.batch.events), one.state.item("001/0").seconds) == (2, 2.0)


def test_time_of_others_is_not_taken_from_mine(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    hand_in(review.run_dir, Answer("001/0", verdict="skip", by="ann", seconds=100.0))
    review.take([event("001/0", "skip", seconds=20.0)])
    assert review.commit(partial=True) == 1
    assert [row["seconds"] for row in answers(review.run_dir)] == [100.0, 20.0]


def test_two_cells_hand_in_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = begin(tmp_path / "run")
    review.take([event("001/0", "skip", seconds=1.0)])
    counts: list[int] = []
    second = threading.Thread(target=lambda: counts.append(review.commit(partial=True)))

    def busy(*given: Any, **options: Any) -> int:
        if not counts and not second.is_alive():
            second.start()
            second.join(0.2)
            assert second.is_alive()  # it waits
        return hand_in(*given, **options)

    monkeypatch.setattr("almining.review.reviewer.hand_in", busy)
    counts.append(review.commit(partial=True))
    second.join()
    assert sorted(counts) == [0, 1]


def test_to_look_changes_no_answer(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    review.take([event("001/0", "skip", seconds=1.0)])
    assert review.commit(partial=True) == 1
    review.take([event("001/0", "look", seconds=1.0)])
    review.open("001/0")
    assert review.handed_in == ["001/0"]
    assert review.commit(partial=True) == 0


def test_what_was_saved_is_acknowledged_after_its_cycle(tmp_path: Path) -> None:
    pool = unlabelled(HIDDEN, keep=2, seed=0)
    review = Reviewer(pool, run_dir=tmp_path / "run")
    run(pool, review.run_dir, review)
    review.play(HIDDEN)
    name = next(iter(review.batch.requests))
    seen = event(name, "look", seconds=1.0)
    review.take([seen])
    review.commit()
    run(pool, review.run_dir, review, cycles=2)
    assert review.take([seen]).ids == [seen["id"]]
    assert review.state.undo is None  # nothing of the cycle before is taken back
    assert review.take([event(name, "undo", of=seen["id"])]).ids == []


@pytest.mark.parametrize("unit", ["seconds", "boxes"])
def test_what_is_finished_when_the_budget_ends_the_cycle_counts_in_the_next(
    tmp_path: Path, unit: cycle.Unit
) -> None:
    pool = unlabelled(HIDDEN, keep=2, seed=0)
    review = Reviewer(pool, run_dir=tmp_path / "run")

    def go(cycles: int) -> cycle.History:
        given: dict[str, Any] = {"budget": 1, "unit": unit, "seed": 0, "progress": False}
        given |= {"oracle": review, "run_dir": review.run_dir, "cycles": cycles}
        return cycle.run(RECIPE, FlatDetector(), pool, **given)

    go(1)
    review.play(HIDDEN, most=1)
    review.commit(partial=True)
    review.play(HIDDEN, most=2)  # while the run goes on, as it were
    first, second, third, *_ = review.batch.requests.values()
    assert not go(1).pending
    history = go(2)
    assert (history.rows[1].picked, history.pool.target(second.image_id).complete) == (
        (first.image_id,), False,
    )  # fmt: skip
    assert review.state.items == {}
    assert (review.commit(partial=True), review.commit(partial=True)) == (2, 0)
    history = go(2)
    assert all(history.pool.target(one.image_id).complete for one in (second, third))


def test_a_changed_answer_is_not_handed_in_after_its_cycle(tmp_path: Path) -> None:
    pool = unlabelled(HIDDEN, keep=2, seed=0)
    review = Reviewer(pool, run_dir=tmp_path / "run")
    run(pool, review.run_dir, review)
    review.play(HIDDEN)
    review.commit()
    review.take([event(next(iter(review.batch.requests)), "skip", seconds=1.0)])
    run(pool, review.run_dir, review, cycles=2)
    assert review.commit(partial=True) == 0


def test_images_that_the_run_set_aside_do_not_hold_it_up(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    left = open_pool().subset([f"flat-{n}" for n in (0, 1, 2, 4, 5)])
    list(review.ask([], left))
    assert review.play(HIDDEN) == review.commit() == 5
    assert "flat-3" not in review.reviewed()
    review.write_label_studio(tmp_path / "tasks.json", progress=False)
    with pytest.raises(ValueError, match="no image 'flat-3' in this pool"):
        review.open("001/3")


def test_a_pool_of_other_images_is_refused(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    other = Reviewer(open_pool().subset(["flat-7"]), run_dir=review.run_dir)
    with pytest.raises(ValueError, match="asks about image 'flat-0', which is not in this pool"):
        other.refresh()


def test_a_run_begun_anew_in_its_place_is_another(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    review.take([event("001/0", "skip", id=str(n)) for n in range(3)])
    before = review.batch
    shutil.rmtree(review.run_dir)
    begin(review.run_dir).take([event("001/1", "skip", id="new")])
    review.refresh()
    assert [one["id"] for one in review.batch.events] == ["new"]
    assert review.batch.session != before.session


def test_an_image_with_a_long_name_is_answered(tmp_path: Path) -> None:
    name = "flåt/" * 60 + "0"
    review = begin(tmp_path / "run", [Request(f"001/{name}", name, "tag")])
    review._pool = Pool(HIDDEN.classes, {name: Target.unknown()}, FlatImages())
    assert review.take([event(f"001/{name}", "finish")]).refused == {}
    assert review.commit() == 1


def test_nothing_is_drawn_or_folded_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = begin(tmp_path / "run")
    folded: list[int] = []
    fold = store.fold
    monkeypatch.setattr(store, "fold", lambda events: folded.append(1) or fold(events))
    monkeypatch.setattr("almining.review.reviewer.shown", lambda *_: pytest.fail("for nobody"))
    assert review.play(HIDDEN, most=3) == 3
    assert len(folded) == 4
    assert repr(review) == "Reviewer(6 requests, 3 reviewed, cycle 1)"
    assert (len(folded), review.state) == (5, review.state)


def test_regions_of_one_image_leave_together(tmp_path: Path) -> None:
    import json

    boxes = [torch.tensor([2.0, 2, 9, 9]), torch.tensor([12.0, 2, 19, 9])]
    asked = [Request(f"001/{n}", "flat-0", "region", box=box) for n, box in enumerate(boxes)]
    review = begin(tmp_path / "run", asked)
    review.write_label_studio(tmp_path / "tasks.json", progress=False)
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert len(task["predictions"][0]["result"]) == 2


class Strange(FlatDetector):
    """A detector of more classes than there are."""

    def detect(self, images: Any) -> list[Detections]:
        found = super().detect(images)
        return [replace(one, labels=one.labels + 7, probs=None) for one in found]


def test_a_detector_of_other_classes_is_refused(tmp_path: Path) -> None:
    review = begin(tmp_path / "run")
    review.detector = Strange()
    with pytest.raises(ValueError, match=r"finds class \d, but the pool has 2 classes; give the"):
        review.open("001/0")
    assert review.batch.events == []


def test_a_run_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(FileNotFoundError, match="holds no run; name the folder given to cycle"):
        Reviewer(HIDDEN, run_dir=tmp_path / "file").commit()
    review = begin(tmp_path / "run")
    (review.run_dir / "ledger.sqlite").write_bytes(b"not a ledger at all" * 99)
    with pytest.raises(LedgerError, match="put a copy back"):
        review.take([event("001/0", "skip")])
    assert "put a copy back" in repr(review)
