"""The per-pixel detector that ships, and the script that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from almining import demo
from almining.detectors.base import offers
from almining.detectors.dense import Dense
from almining.lab import TEST_SEED
from almining.train import TrainConfig
from data_scripts import make_dense

SMALL = make_dense.Plan(stills=3, train=TrainConfig(steps=1, batch=2))


def test_what_ships_is_good_by_day_and_weaker_at_dusk() -> None:
    known = demo.describe("dense")
    day, dusk = known["notes"], known["notes"]["dusk"]
    assert day["test_frames"] == 600 and day["plan"]["options"] == known["options"]
    assert day["AP50"]["AP50"] >= 0.6 and dusk["AP50"]["AP50"] <= 0.7 * day["AP50"]["AP50"]
    assert day["missed"]["MR@1"] <= 0.25 and dusk["missed"]["MR@1"] >= 1.5 * day["missed"]["MR@1"]


def test_it_finds_what_its_header_says() -> None:
    detector, noted = demo.load_demo("dense"), demo.describe("dense")["notes"]
    assert isinstance(detector, Dense) and offers(detector, "dense") and not detector.training
    found = make_dense.measure(detector, "day", 20)
    assert found["AP50"]["AP50"] == pytest.approx(noted["AP50"]["AP50"], abs=0.12)


def test_the_script_makes_a_detector(tmp_path: Path) -> None:
    notes = make_dense.make(tmp_path, SMALL, films=2)
    assert notes["test_frames"] == 20 and set(notes["dusk"]) == {"AP50", "missed"}
    again = demo.load(tmp_path / "dense.safetensors")
    assert again.classes == ("pedestrian",) and again.boxes == make_dense.BOXES


def test_nothing_measured_on_was_trained_on() -> None:
    assert make_dense.SEED >= 1_000_000 > TEST_SEED >= 900_000
