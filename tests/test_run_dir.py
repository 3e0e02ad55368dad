"""Runs with a run directory: they go on to the same end, and another run is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from almining import cycle, progress
from almining.data import regimes
from almining.label import Simulated
from almining.label.desk import hand_in, waiting
from almining.ledger import RunMismatchError, open_ledger
from almining.papers import baselines
from almining.records import Answer, Evidence
from almining.train import TrainConfig, plain_step
from tests.fakes import FlatDetector, target
from tests.test_cycle import (
    HIDDEN,
    SET_ASIDE,
    START,
    TEST,
    TRAIN,
    broken_run,
    first,
    go,
    gone,
    recipe,
    weights,
)


def same(one: cycle.History, other: cycle.History) -> bool:
    """Whether picks, metrics, weights and what is known are the same, bit for bit."""
    known = [
        [(list(h.pool.ids), [h.pool.since(i) for i in h.pool.ids], repr(h.pool.findings))]
        + [repr(h.pool.target(i)) for i in h.pool.ids]
        for h in (one, other)
    ]
    return (
        one.to_json() == other.to_json()
        and torch.equal(weights(one.detector), weights(other.detector))
        and known[0] == known[1]
    )


def test_a_run_directory_changes_nothing(tmp_path: Path) -> None:
    assert same(go(), go(run_dir=tmp_path / "run"))


def test_the_same_call_again_returns_the_same_without_work(tmp_path: Path) -> None:
    class Nobody:
        def ask(self, requests, pool):
            raise RuntimeError("asked again")

    def never(detector, batch, *, generator):
        raise RuntimeError("trained again")

    one = go(run_dir=tmp_path)
    again = go(recipe(), run_dir=tmp_path, oracle=Nobody())
    assert same(one, again)


def test_more_cycles_go_on(tmp_path: Path) -> None:
    go(run_dir=tmp_path, cycles=1)
    assert same(go(run_dir=tmp_path, cycles=3), go(cycles=3))


def test_a_run_that_waits_goes_on_in_another_call(tmp_path: Path) -> None:
    class Slow:
        """Answers one request a call."""

        def ask(self, requests, pool):
            yield from Simulated(HIDDEN).ask(requests[:1], pool)

    for waits in (2, 1):
        history = go(run_dir=tmp_path, oracle=Slow(), cycles=1)
        assert len(history.pending) == waits and len(history.rows) == 1
    assert same(go(run_dir=tmp_path, oracle=Slow(), cycles=1), go(cycles=1))


def test_answers_may_come_from_another_program_meanwhile(tmp_path: Path) -> None:
    class Nobody:
        def ask(self, requests, pool):
            return iter(())

    pending = go(run_dir=tmp_path, oracle=Nobody(), cycles=1).pending
    assert [request.id for request in waiting(tmp_path)] == [request.id for request in pending]
    answers = list(Simulated(HIDDEN).ask(pending, HIDDEN))
    assert hand_in(tmp_path, answers[:2]) == 2
    assert len(go(run_dir=tmp_path, oracle=Nobody(), cycles=1).pending) == 1
    assert hand_in(tmp_path, answers[2:]) == 1
    assert same(go(run_dir=tmp_path, oracle=Nobody(), cycles=1), go(cycles=1))


def test_a_late_correction_is_learned_in_the_next_cycle(tmp_path: Path) -> None:
    one = go(run_dir=tmp_path, cycles=1)
    image_id = one.rows[1].picked[0]
    found = HIDDEN.target(image_id)
    assert one.pool.target(image_id).labels.tolist() == found.labels.tolist()
    right = target((1, 1, 9, 9), label=3 - int(found.labels[0]))
    with open_ledger(tmp_path) as ledger:
        name = ledger.requests(1)[0]["id"]
    hand_in(tmp_path, [Answer(name, target=right, by="me", seconds=5.0)])
    two = go(run_dir=tmp_path, cycles=2)
    assert two.pool.target(image_id).boxes.tolist() == [[1, 1, 9, 9]]
    assert two.pool.since(image_id) == 2 and image_id not in two.rows[2].picked
    assert two.rows[2].seconds == go(cycles=2).rows[2].seconds + 5.0
    assert same(two, go(run_dir=tmp_path, cycles=2))  # not learned twice


def test_answers_over_the_budget_are_kept_for_the_next_cycle(tmp_path: Path) -> None:
    class Nobody:
        def ask(self, requests, pool):
            return iter(())

    ask = {"run_dir": tmp_path, "oracle": Nobody(), "unit": "boxes", "budget": 2}
    pending = go(**ask, cycles=1).pending
    hand_in(tmp_path, list(Simulated(HIDDEN).ask(pending[:3], HIDDEN)))
    one = go(**ask, cycles=1)
    assert len(one.rows[1].picked) == 2
    two = go(**ask, cycles=2)
    assert two.pending and two.pool.target(pending[2].image_id).complete
    assert pending[2].image_id not in [one.image_id for one in two.pending]  # not asked twice
    assert pending[2].image_id not in [one.image_id for one in two.pending]  # nobody asks twice
    assert sum(row["used"] is None for row in ledger_rows(tmp_path)) == 1  # till the cycle closes


def ledger_rows(folder: Path) -> list[dict]:
    with open_ledger(folder) as ledger:
        return ledger.answers()


def test_what_was_asked_before_is_known_with_its_reasons_after_a_restart(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []

    def look_back(detector, pool, budget, *, generator, asked=()):
        known = [one.image_id for one in asked if pool.target(one.image_id).complete]
        assert len(known) == len(asked)  # late answers are in the pool, and their requests here
        seen.append({one.image_id: float(one.evidence.data["at"]) for one in asked})
        found = first(detector, pool, budget, generator=generator)
        at = {"at": torch.tensor(float(len(asked)))}
        return [replace(one, evidence=Evidence("at", at, "why")) for one in found]

    class Nobody:
        def ask(self, requests, pool):
            return iter(())

    chosen = recipe(query=look_back)
    whole = go(chosen, cycles=3)
    expected = list(seen)
    assert [len(asked) for asked in expected] == [0, 3, 6]
    for cycles in (1, 2, 3):
        seen.clear()
        history = go(chosen, run_dir=tmp_path / "cycles", cycles=cycles)
        assert seen == [expected[cycles - 1]]
    assert same(history, whole)

    seen.clear()
    ask = {"run_dir": tmp_path / "late", "oracle": Nobody(), "unit": "boxes", "budget": 2}
    pending = go(chosen, **ask, cycles=1).pending
    hand_in(tmp_path / "late", list(Simulated(HIDDEN).ask(pending[:3], HIDDEN)))
    go(chosen, **ask, cycles=2)  # two are learned from in the first cycle, one waits for the next
    assert list(seen[1]) == [one.image_id for one in pending[:3]]


def test_an_answer_that_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    class Wrong:
        def ask(self, requests, pool):
            yield from Simulated(HIDDEN).ask(requests[:1], pool)
            yield Answer(requests[1].id, verdict="accept", by="me", seconds=1.0)

    with pytest.raises(ValueError, match="answered by a target or by skip"):
        go(run_dir=tmp_path, oracle=Wrong())
    assert len(ledger_rows(tmp_path)) == 1
    assert same(go(run_dir=tmp_path), go())


@pytest.mark.parametrize("restart", ["start", "continue"])
def test_lost_weights_are_trained_again_from_the_same_answers(tmp_path: Path, restart) -> None:
    chosen = recipe(restart=restart)
    go(chosen, run_dir=tmp_path, cycles=2)
    for path in (tmp_path / "weights").iterdir():
        path.write_bytes(path.read_bytes()[:-1])

    class Nobody:
        def ask(self, requests, pool):
            raise RuntimeError("asked again")

    with pytest.warns() as told:
        again = go(chosen, run_dir=tmp_path, cycles=2, oracle=Nobody())
    assert any("trained again, from the answers" in str(one.message) for one in told)
    assert same(again, go(chosen, cycles=2))
    assert same(go(chosen, run_dir=tmp_path, cycles=3), go(chosen, cycles=3))


@pytest.mark.parametrize(
    ("changes", "says", "accept"),
    [
        ({"seed": 1}, r"seed: 0 then, 1 now", None),
        ({"chosen": recipe(name="other")}, r'recipe.name: "first" then, "other" now', None),
        ({"detector": FlatDetector(), "bias": 1.0}, "start.sha256", None),
        ({"budget": 4}, r"budget.per_cycle: 3 then, 4 now", "budget"),
        ({"chosen": recipe(train=TrainConfig(steps=6))}, r"train.steps: 5 then, 6 now", "train"),
        ({"pool": START.subset(START.ids[:-1])}, "data.pool", "data"),
        ({"test": TEST.subset(TEST.ids[:-1])}, "data.test", "data"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, changes, says: str, accept: str | None) -> None:
    first = go(run_dir=tmp_path, cycles=1)
    changes = dict(changes)
    if "bias" in changes:
        torch.nn.init.constant_(changes["detector"].linear.bias, changes.pop("bias"))
    chosen = changes.pop("chosen", None)
    with pytest.raises(RunMismatchError, match=says) as refused:
        go(chosen, **changes, run_dir=tmp_path)
    assert same(go(run_dir=tmp_path, cycles=1), first)  # nothing has changed
    if accept is None:
        assert "start in a new run directory" in str(refused.value)
        with pytest.raises(RunMismatchError):
            go(chosen, **changes, run_dir=tmp_path, accept=("seed", "recipe", "start"))
    else:
        assert f"accept=({accept!r},)" in str(refused.value)
        history = go(chosen, **changes, run_dir=tmp_path, accept=accept)
        assert len(history.rows) == 3 and history.rows[:2] == first.rows
        go(chosen, **changes, run_dir=tmp_path)  # accepted once and for all


def test_another_order_of_classes_is_refused(tmp_path: Path) -> None:
    go(run_dir=tmp_path, cycles=1)
    turned = HIDDEN.relabelled(HIDDEN.classes[::-1], {i: HIDDEN.target(i) for i in HIDDEN.ids})
    start = regimes.unlabelled(turned, keep=4, seed=0, tags=True)
    test = TEST.relabelled(HIDDEN.classes[::-1], {i: TEST.target(i) for i in TEST.ids})
    ask = {"oracle": Simulated(turned), "test": test, "run_dir": tmp_path}
    with pytest.raises(RunMismatchError, match=r'classes.0: "dark" then, "light" now'):
        go(pool=start, detector=FlatDetector(turned.classes), **ask)


def test_processes_that_have_not_joined_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"started 2 processes.*almining\.ranks\.joined"):
        go()


def test_nobody_answers(tmp_path: Path) -> None:
    pending = go(run_dir=tmp_path, oracle=None, cycles=1).pending
    hand_in(tmp_path, next(Simulated(HIDDEN).ask(pending, HIDDEN)))
    assert len(go(run_dir=tmp_path, oracle=None, cycles=1).pending) == 2


def test_progress_can_be_hidden_altogether(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "tqdm", partial(progress.tqdm, disable=False))
    chosen = replace(baselines.entropy_max(), train=TRAIN)
    go(chosen, progress=False)
    assert capsys.readouterr().err == ""
    go(chosen, progress=True)
    assert "entropy_max: score" in capsys.readouterr().err


def test_a_changed_image_file_is_named(tmp_path: Path) -> None:
    pool, path = photographs(tmp_path / "images")
    ask = {"pool": pool, "oracle": Simulated(pool), "test": None, "cycles": 1}
    go(run_dir=tmp_path / "run", **ask)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(RunMismatchError, match=r"Images: pool/two has changed."):
        go(run_dir=tmp_path / "run", **ask)
    go(run_dir=tmp_path / "run", accept=("data",), **ask)
    fewer = pool.subset(i for i in pool.ids if i != "three")
    with pytest.raises(RunMismatchError, match=r"Images: pool/three is gone."):
        go(run_dir=tmp_path / "run", **ask | {"pool": fewer})
    assert len(go(run_dir=tmp_path / "run", accept=("data",), **ask | {"pool": fewer}).pool) == 3


def photographs(folder: Path):
    from PIL import Image

    from almining.data import read_folder

    folder.mkdir()
    for number, name in enumerate(("one", "two", "three", "four")):
        Image.new("RGB", (24, 16), (60 * number,) * 3).save(folder / f"{name}.png")
    files = read_folder(folder)
    known = {i: target((2, 2, 10, 12), label=1) for i in files.ids}
    return files.relabelled(("dark", "light"), known), folder / "two.png"


def test_a_loss_that_is_not_finite_goes_back_once(tmp_path: Path) -> None:
    def planted(times: int):
        left = [times]

        def step(detector, batch, *, generator):
            losses = plain_step(detector, batch, generator=generator)
            if batch.step == 3 and left[0]:
                left[0] -= 1
                losses["cls"] = losses["cls"] * float("nan")
            return losses

        return recipe(step=step)

    with pytest.warns(UserWarning, match="gone back, once"):
        history = go(planted(1), run_dir=tmp_path / "one", every_s=0)
    assert same(history, go())
    with pytest.warns(UserWarning), pytest.raises(FloatingPointError, match="flat-"):
        go(planted(2), run_dir=tmp_path / "two", every_s=0)
    with open_ledger(tmp_path / "two") as ledger:
        assert [event["what"] for event in ledger.events()] == ["not finite"]
        assert all(one.step == 3 for one in list(ledger.weights(1))[:1])
    with pytest.raises(FloatingPointError):
        go(planted(1))  # without a run directory there is nothing to go back to


def test_ctrl_c_finishes_the_step_and_returns_what_is_there(tmp_path: Path) -> None:
    import signal

    def step(detector, batch, *, generator):
        if batch.step == 2 and armed:
            armed.clear()
            signal.raise_signal(signal.SIGINT)
        return plain_step(detector, batch, generator=generator)

    armed = [True]
    chosen = recipe(step=step)
    history = go(chosen, run_dir=tmp_path)
    assert history.interrupted and "cycle 1" in history.interrupted
    assert len(history.rows) == 1 and "interrupted in cycle 1" in repr(history)
    with open_ledger(tmp_path) as ledger:
        assert next(ledger.weights(1)).step == 3
    assert same(go(chosen, run_dir=tmp_path), go())
    armed.append(True)
    assert len(go(chosen).rows) == 1  # without a run directory too


@pytest.mark.filterwarnings(SET_ASIDE)
def test_broken_images_stay_aside_though_they_are_not_met_again(tmp_path: Path) -> None:
    class Never:
        def ask(self, requests, pool):
            return iter(())

    chosen = replace(baselines.entropy_max(), train=TRAIN)
    broken_run(chosen, 100, run_dir=tmp_path, oracle=Never())
    on, images = broken_run(chosen, 100, run_dir=tmp_path, cycles=1)
    assert set(gone(on)) == images.bad
    through, _ = broken_run(chosen, 100, cycles=1)
    assert same(on, through)
    again, images = broken_run(chosen, 100, run_dir=tmp_path, cycles=1)
    assert same(again, through) and set(gone(again)) == images.bad


def test_the_time_of_an_answer_that_was_corrected_counts(tmp_path: Path) -> None:
    pending = go(run_dir=tmp_path, oracle=None, cycles=1).pending
    answers = list(Simulated(HIDDEN).ask(pending, HIDDEN))
    hand_in(tmp_path, [Answer(pending[0].id, verdict="skip", by="me", seconds=2.0), *answers])
    history = go(run_dir=tmp_path, oracle=None, cycles=1)
    assert history.rows[1].seconds == sum(answer.seconds for answer in answers) + 2.0
    assert same(history, go(run_dir=tmp_path, oracle=None, cycles=1))
