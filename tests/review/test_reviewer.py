"""A reviewer between a run and a page: what is asked, shown, taken, handed in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining import cycle, data, draw
from almining.data.pool import Pool
from almining.data.regimes import unlabelled
from almining.label import FromFile, Simulated, waiting
from almining.ledger import LockedError, open_ledger
from almining.papers import baselines
from almining.plain import to_plain
from almining.records import Request
from almining.review import Reviewer
from almining.review.events import event
from almining.train import TrainConfig
from tests.fakes import FlatDetector, flat_pool

HIDDEN = flat_pool(8)
RECIPE = replace(baselines.entropy_max(), train=TrainConfig(steps=2, lr=0.1, batch=2))


@pytest.fixture
def pool() -> Pool:
    return unlabelled(HIDDEN, keep=2, seed=0)


def run(pool: Pool, folder: Path | None, oracle: Any, cycles: int = 1) -> cycle.History:
    given: dict[str, Any] = {"budget": 3, "cycles": cycles, "seed": 0, "progress": False}
    return cycle.run(RECIPE, FlatDetector(), pool, oracle=oracle, run_dir=folder, **given)


@pytest.fixture
def review(pool: Pool, tmp_path: Path) -> Reviewer:
    reviewer = Reviewer(pool, run_dir=tmp_path / "run", detector=FlatDetector())
    assert len(run(pool, tmp_path / "run", reviewer).pending) == 3
    return reviewer


def first(review: Reviewer) -> str:
    return next(iter(review.batch.requests))


def test_a_run_waits_for_a_person_and_goes_on(pool: Pool, review: Reviewer) -> None:
    assert repr(review) == "Reviewer(3 requests, 0 reviewed, cycle 1)"
    assert review.play(HIDDEN) == 3
    assert run(pool, review.run_dir, review).pending  # nothing was handed in yet
    assert (review.commit(), review.commit()) == (3, 0)
    history = run(pool, review.run_dir, review)
    assert (len(history.pending), len(history.rows), history.rows[1].images) == (0, 2, 5)
    simulated = run(pool, None, Simulated(HIDDEN))
    assert history.rows[1].picked == simulated.rows[1].picked
    for image_id in history.rows[1].picked:
        ours, theirs = history.pool.target(image_id), simulated.pool.target(image_id)
        assert (ours.boxes.tolist(), ours.state) == (theirs.boxes.tolist(), "complete")
    assert history.rows[1].seconds == pytest.approx(simulated.rows[1].seconds)


def test_it_goes_on_in_another_kernel(pool: Pool, review: Reviewer) -> None:
    review.play(HIDDEN, most=1)
    text = f"""
from tests.review.test_reviewer import HIDDEN, Reviewer, run, unlabelled
pool = unlabelled(HIDDEN, keep=2, seed=0)
review = Reviewer(pool, run_dir={str(review.run_dir)!r})
print(review)
review.play(HIDDEN)
review.commit()
print(run(pool, review.run_dir, review))
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False
    )
    assert "Reviewer(3 requests, 1 reviewed, cycle 1)" in done.stdout, done.stderr
    assert not run(pool, review.run_dir, review).pending


def test_the_next_cycle_brings_its_own_requests(pool: Pool, review: Reviewer) -> None:
    before = list(review.batch.requests)
    review.play(HIDDEN)
    review.commit()
    assert len(run(pool, review.run_dir, review, cycles=2).pending) == 3
    assert repr(review) == "Reviewer(3 requests, 0 reviewed, cycle 2)"
    assert not set(before) & set(review.batch.requests)
    assert review.state.items == {}
    late = review.take([event(before[0], "skip")])
    assert "or its cycle is over" in next(iter(late.refused.values()))


def test_a_batch_is_handed_in_whole_unless_told(review: Reviewer) -> None:
    review.play(HIDDEN, most=1)
    with pytest.raises(ValueError, match=r"2 of 3 requests are not reviewed yet, about 'flat-"):
        review.commit()
    assert len(waiting(review.run_dir)) == 3
    assert review.commit(partial=True) == 1
    assert len(waiting(review.run_dir)) == 2
    assert list(review.batch.handed_in) == [first(review)]


def test_a_changed_answer_is_handed_in_again_with_the_time_since(review: Reviewer) -> None:
    name = first(review)
    review.play(HIDDEN)
    review.commit()
    spent = review.state.item(name).seconds
    with open_ledger(review.run_dir) as ledger:
        assert sum(row["seconds"] for row in ledger.answers()) > spent
    more = [event(name, "skip", seconds=4.0), event(name, "look", seconds=1.0)]
    review.take(more)
    assert (review.commit(), review.commit()) == (1, 0)
    review.take([event(name, "undo", of=more[0]["id"])])
    assert (review.commit(), review.commit()) == (1, 0)  # back to what it was, and said again
    with open_ledger(review.run_dir) as ledger:
        mine = [row for row in ledger.answers() if row["request_id"] == name]
    assert [row["verdict"] for row in mine] == [None, "skip", None]
    assert [row["seconds"] for row in mine] == pytest.approx([spent, 5.0, 0.0])
    review.take([event(name, "reopen")])
    with pytest.raises(ValueError, match="1 of 3 requests are not reviewed"):
        review.commit()
    assert review.commit(partial=True) == 0


def test_answers_of_others_count_as_reviewed(review: Reviewer) -> None:
    from almining.label import hand_in
    from almining.records import Answer

    name = first(review)
    hand_in(review.run_dir, Answer(name, verdict="skip", by="ann", seconds=1.0))
    review.take([event(one, "skip") for one in list(review.batch.requests)[1:]])
    assert review.commit() == 2
    assert not waiting(review.run_dir)
    assert set(review.handed_in) == set(review.batch.requests)


def test_what_is_predicted_is_shown_to_start_from(review: Reviewer) -> None:
    review.open(first(review))
    item = review.state.item(first(review))
    assert [(box.key, box.status, box.box) for box in item.boxes.values()] == [
        ("p0", "proposed", [2, 2, 10, 12])
    ]
    assert (item.undecided, item.size) == (1, [16, 24])
    before = list(review.batch.events)
    review.open(first(review))
    assert review.batch.events == before  # once only


@pytest.mark.parametrize("options", [{"min_score": 0.9}, {"most": 0}, {"detector": None}])
def test_predictions_may_be_left_out(pool: Pool, review: Reviewer, options: dict[str, Any]) -> None:
    given = {"run_dir": review.run_dir, "detector": FlatDetector(), **options}
    other = Reviewer(pool, **given)
    other.open(first(review))
    assert other.state.item(first(review)).boxes == {}


def test_events_that_do_not_fit_are_refused_and_the_others_kept(review: Reviewer) -> None:
    name = first(review)
    good, bad = event(name, "skip"), event(name, "accept")
    saved = review.take([bad, good, 3])
    assert saved.ids == [good["id"]]
    assert saved.refused == {
        bad["id"]: "accept has no 'key'; it needs key",
        "None": "an event is an object, got int",
    }
    assert review.take([good]).ids == [good["id"]]  # said again, written once
    assert sum(one["id"] == good["id"] for one in review.batch.events) == 1
    saved = review.take([{**good, "seconds": 9.0}])
    assert "another event has the id" in saved.refused[good["id"]]


def test_two_reviewers_of_one_run_see_each_other(pool: Pool, review: Reviewer) -> None:
    other = Reviewer(pool, run_dir=review.run_dir)
    name = first(review)
    other.refresh()
    review.take([event(name, "skip", id="mine")])
    other.take([event(name, "look", seconds=1.0)])
    assert other.state.item(name).status == "skipped"
    review.refresh()
    assert review.state.plain() == other.state.plain()


def test_nothing_is_written_while_another_process_has_the_run(review: Reviewer) -> None:
    program = (
        "import sys\nfrom almining.ledger import open_ledger\n"
        f"with open_ledger({str(review.run_dir)!r}):\n"
        "    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LockedError, match="is in use by process"):
            review.take([event(first(review), "skip")])
        assert "in use" in repr(review)
        other.stdin.close()
    assert review.take([event(first(review), "skip")]).refused == {}


def test_a_reviewer_may_come_before_the_run(pool: Pool, tmp_path: Path) -> None:
    review = Reviewer(pool, run_dir=tmp_path / "none")
    assert repr(review).endswith("none': no run yet)")
    with pytest.raises(FileNotFoundError, match="holds no run; name the folder given to cycle"):
        review.commit()


def test_requests_of_another_run_are_refused(pool: Pool, review: Reviewer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not in .*call cycle.run with the same run_dir"):
        list(review.ask([Request("other", "flat-0", "complete")], pool))
    with pytest.raises(ValueError, match=r"call cycle.run with the same run_dir"):
        run(pool, None, Reviewer(pool, run_dir=tmp_path / "none"))


def test_a_pool_of_other_classes_is_refused(review: Reviewer) -> None:
    other = Reviewer(flat_pool(3, classes=("red", "blue")), run_dir=review.run_dir)
    with pytest.raises(ValueError, match="has the classes dark, light, the pool red, blue"):
        other.refresh()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_score": 2}, "min_score = 2: a number from 0 to 1"),
        ({"most": -1}, "most = -1: a whole number >= 0"),
        ({"by": ""}, "by = '': the name of who answers"),
    ],
)
def test_bad_arguments_are_refused(pool: Pool, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reviewer(pool, run_dir="run", **options)


def test_the_batch_leaves_as_coco(review: Reviewer, tmp_path: Path) -> None:
    review.play(HIDDEN, most=2)
    done = list(review.batch.requests.values())[:2]
    assert review.write_coco(tmp_path / "reviewed.json", images=tmp_path, copy=True) == ()
    back = data.read_coco(tmp_path / "reviewed.json", tmp_path)
    for request in done:
        assert to_plain(back.target(request.image_id)) == to_plain(HIDDEN.target(request.image_id))
    assert sum(back.target(i).complete for i in back.ids) == 2


def test_those_who_label_elsewhere_answer_by_file(
    pool: Pool, review: Reviewer, tmp_path: Path
) -> None:
    import json

    review.play(HIDDEN, most=1)
    review.write_label_studio(tmp_path / "tasks.json", progress=False)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [len(task["annotations"]) for task in tasks] == [1, 0, 0]
    assert all(task["predictions"] for task in tasks[1:])
    for task in tasks[1:]:  # what a person does there: takes the prediction over
        found = task["predictions"][0]["result"]
        task["annotations"] = [{"result": found, "lead_time": 12.5}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    oracle = FromFile.from_label_studio(tmp_path / "export.json")
    history = run(pool, review.run_dir, oracle)
    assert not history.pending
    assert history.rows[1].images == 5


def test_a_figure_stands_beside_the_page(review: Reviewer) -> None:
    assert draw.png(review.figure()).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="request 'x' is not under review"):
        review.figure("x")


def test_an_image_that_cannot_be_loaded_is_named(pool: Pool, review: Reviewer) -> None:
    class Gone:
        def load(self, image_id: str) -> torch.Tensor:
            raise ValueError(f"image {image_id!r} is gone")

    broken = Pool(pool.classes, {i: pool.target(i) for i in pool.ids}, Gone())
    with pytest.raises(ValueError, match="is gone"):
        Reviewer(broken, run_dir=review.run_dir).open(first(review))
    with pytest.raises(ValueError, match="request 'x' is not under review"):
        review.open("x")


def test_nothing_waits(tmp_path: Path) -> None:
    pool = unlabelled(HIDDEN, keep=2, seed=0)
    review = Reviewer(pool, run_dir=tmp_path / "run")
    run(pool, review.run_dir, Simulated(HIDDEN))
    assert repr(review) == "Reviewer(0 requests, 0 reviewed, cycle 2)"
    assert (review.play(HIDDEN), review.commit(), review.handed_in) == (0, 0, [])
    assert (waiting(review.run_dir), len(review.reviewed())) == ([], 0)
    with pytest.raises(ValueError, match="the pool has no image"):
        review.write_coco(tmp_path / "none.json", images=tmp_path)
