"""Runs with a run directory that meet what nobody planned for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from almining import cycle
from almining.label import Simulated
from almining.label.desk import hand_in
from almining.ledger import LedgerError, RunMismatchError
from almining.records import Answer, Request
from almining.train import TrainConfig, plain_step
from tests.fakes import FlatDetector, target
from tests.test_cycle import HIDDEN, START, go, recipe
from tests.test_run_dir import ledger_rows, same


def test_half_a_training_is_not_taken_up_with_another_config(tmp_path: Path) -> None:
    def stops(detector, batch, *, generator):
        if batch.step == 3:
            raise RuntimeError("stop")
        return plain_step(detector, batch, generator=generator)

    with pytest.raises(RuntimeError, match="stop"):
        go(recipe(step=stops), run_dir=tmp_path, every_s=0)
    steps: list[int] = []

    def stops(detector, batch, *, generator):  # the same by name
        steps.append(batch.step)
        return plain_step(detector, batch, generator=generator)

    go(recipe(step=stops, config=1), run_dir=tmp_path, accept="config", cycles=1)
    assert steps == [0, 1, 2, 3, 4]


def test_weights_of_an_earlier_training_of_the_cycle_are_not_taken(tmp_path: Path) -> None:
    """A correction comes after a longer training, before its cycle is closed."""

    fails: list[bool] = []

    def metrics(found, pool):
        if fails:
            raise RuntimeError("stop")
        return {}

    def schedule(pool):
        return TrainConfig(steps=len(cycle.labelled(pool)), batch=4, lr=0.2)

    ask = {"run_dir": tmp_path, "oracle": None, "cycles": 1, "metrics": metrics}
    chosen = recipe(train=schedule)
    pending = go(chosen, **ask).pending
    hand_in(tmp_path, list(Simulated(HIDDEN).ask(pending, HIDDEN)))
    fails.append(True)
    with pytest.raises(RuntimeError, match="stop"):
        go(chosen, **ask)
    fails.clear()
    hand_in(tmp_path, Answer(pending[0].id, verdict="skip", by="me", seconds=1.0))
    assert same(go(chosen, **ask), go(chosen, **ask))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(0.25)])
def test_metrics_of_any_kind_are_kept(tmp_path: Path, value) -> None:
    ask = {"metrics": lambda found, pool: {"m": value}, "run_dir": tmp_path, "cycles": 1}
    one = go(**ask)
    assert isinstance(one.rows[1].metrics["m"], float)
    assert same(one, go(**ask))
    json.loads(one.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (target((1, 1, 9, 9), label=3), "class 3, but the run has 2"),
        (target(complete=False), "holds no object, but a person drew"),
    ],
)
def test_an_answer_that_cannot_be_learned_is_not_kept(tmp_path: Path, second, says: str) -> None:
    """One of a class that there is not, and one that contradicts the answer before."""

    def query(detector, pool, budget, *, generator):
        image_id = next(i for i in pool.ids if pool.target(i).state == "tagged")
        box = torch.tensor([2.0, 2, 10, 12])
        return [Request(name, image_id, "region", box=box) for name in "ab"]

    class Wrong:
        def ask(self, requests, pool):
            drawn = target((2, 2, 10, 12), complete=False)
            for request, found in zip(requests, (drawn, second), strict=True):
                yield Answer(request.id, target=found, by="me", seconds=1.0)

    chosen = recipe(query=query, trains_on=cycle.boxed)
    with pytest.raises(ValueError, match=says):
        go(chosen, run_dir=tmp_path, oracle=Wrong(), cycles=1)
    assert len(ledger_rows(tmp_path)) == 1
    assert len(go(chosen, run_dir=tmp_path, cycles=1).rows) == 2


@pytest.mark.parametrize("value", [0.5, {"m": None}, {"m": "high"}])
def test_metrics_that_are_no_numbers_are_refused(value) -> None:
    with pytest.raises(ValueError, match=r"the metrics of cycle 0 are .*; .* numbers by name"):
        go(metrics=lambda found, pool: value)


@pytest.mark.parametrize("content", [None, b""])
def test_a_run_whose_answers_are_gone_is_not_begun_anew(tmp_path: Path, content) -> None:
    go(run_dir=tmp_path, cycles=1)
    path = tmp_path / "ledger.sqlite"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"holds a run, but its ledger.sqlite is gone; put it"):
        go(run_dir=tmp_path, cycles=1)


def test_a_damaged_list_of_images_stops_nothing(tmp_path: Path) -> None:
    one = go(run_dir=tmp_path, cycles=1)
    (tmp_path / "images.json").write_text("{")
    assert same(one, go(run_dir=tmp_path, cycles=1))


def test_a_detector_without_state_is_refused(tmp_path: Path) -> None:
    class Stateless:
        def __init__(self):
            self.inner = FlatDetector()
            self.classes, self.parameters = self.inner.classes, self.inner.parameters
            self.losses, self.detect = self.inner.losses, self.inner.detect

    with pytest.raises(ValueError, match="Stateless has no state_dict, so its weights cannot"):
        go(detector=Stateless(), run_dir=tmp_path)


def test_fewer_cycles_than_are_through_take_nothing_back(tmp_path: Path) -> None:
    assert same(go(run_dir=tmp_path), go(run_dir=tmp_path, cycles=1))


def test_the_same_images_in_another_order_are_refused(tmp_path: Path) -> None:
    go(run_dir=tmp_path, cycles=0)
    with pytest.raises(RunMismatchError, match="Images: the same, in another order"):
        go(run_dir=tmp_path, pool=START.subset(START.ids[::-1]))


def test_lost_weights_are_told_once_and_what_was_accepted_since(tmp_path: Path) -> None:
    go(run_dir=tmp_path)
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    with pytest.warns() as told:
        go(recipe(config=1), run_dir=tmp_path, accept="config")
    said = [str(one.message) for one in told]
    assert [text.count("is not used") for text in said] == [1, 1, 0]
    assert "no weights left of cycle 1, 2: trained again" in said[2]
    assert "config: null then, 1 now" in said[2]


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for run_dir in (tmp_path / "run", tmp_path / "run" / "one"):
        with pytest.raises(LedgerError, match=r"run is a file, not a folder; choose a run dir"):
            go(run_dir=run_dir)
