"""The weakly supervised detector that ships, and the script that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from almining import demo, evaluate
from almining.data.pool import Pool
from almining.data.scenes import CLASSES, make_scenes
from almining.data.segments import Segments
from almining.detectors.weak import Mist
from almining.lab import TEST_SEED
from almining.predict import detect
from almining.records import Detections
from almining.train import TrainConfig
from data_scripts import make_mist
from tests.fakes import boxes, labels, target

QUICK = TrainConfig(steps=1, batch=2)
SMALL = make_mist.Plan(icons=6, empties=4, crops=QUICK, scenes=3, heads=QUICK, whole=QUICK)


def test_what_ships_reaches_what_was_asked_of_it() -> None:
    known = demo.describe("mist")
    measured, failed = known["notes"]["AP50"], known["notes"]["failures"]
    assert known["notes"]["test_scenes"] == 200 and measured["AP50"] >= 0.30
    assert min(measured.values()) > 0.1  # no class is at zero
    assert failed["part"] > 0 < failed["group"]  # the paper's two kinds
    assert known["options"]["proposer"] == "segments"  # nothing to install


def test_it_finds_what_its_header_says() -> None:
    detector, test = demo.load_demo("mist"), make_scenes(50, seed=TEST_SEED)
    assert isinstance(detector, Mist) and detector.proposer == Segments()
    found = dict(detect(detector, test, progress=False))
    noted = demo.describe("mist")["notes"]
    assert evaluate.voc(found, test)["AP50"] == pytest.approx(noted["AP50"]["AP50"], abs=0.08)
    kinds = make_mist.failures(found, test)
    assert kinds["part"] > kinds["group"] > 0 and kinds["right"] > 0


def test_failures_by_hand() -> None:
    pair = target((0, 0, 20, 20), (22, 0, 42, 20), label=1)
    truth = Pool(CLASSES, {"a": pair}, {})
    asked = boxes((0, 0, 20, 18), (5, 5, 12, 12), (0, 0, 42, 20), (60, 60, 70, 70), (5, 5, 12, 12))
    found = Detections(asked, labels(1, 1, 1, 1, 2), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]))
    each = {"right": 1, "part": 1, "group": 1, "other": 1}  # class 2 is not in the image
    assert make_mist.failures({"a": found}, truth) == each
    unsure = Detections(asked[:1], labels(1), torch.tensor([0.05]))
    assert sum(make_mist.failures({"a": unsure}, truth).values()) == 0


def test_the_script_makes_a_detector_from_tags_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = make_mist.fit

    def watched(detector: Mist, pool: Pool, *rest: object, **options: object) -> None:
        seen.extend(pool.target(image_id) for image_id in pool.ids)
        fit(detector, pool, *rest, **options)

    monkeypatch.setattr(make_mist, "fit", watched)
    notes = make_mist.make(tmp_path, SMALL, test=2)
    assert len(seen) == 6 and {one.state for one in seen} == {"tagged"}
    assert set(notes["failures"]) == set(make_mist.KINDS)
    made = demo.load(tmp_path / "mist.safetensors")
    assert (
        made.classes == CLASSES
        and made.frozen_norm
        and not torch.equal(made.center, torch.zeros_like(made.center))
    )


def test_empty_crops_differ_and_middles_stay_inside() -> None:
    a, again, b = (make_mist.draw_empty(index) for index in (1, 1, 2))
    assert a.shape == (64, 64, 3) and (a == again).all() and (a != b).any()
    found = make_mist.middles(40, 200, torch.Generator().manual_seed(0))
    assert (found >= 0).all() and (found <= 40).all()
    shares = (found[:, 2:] - found[:, :2]).prod(dim=1).sqrt() / 40
    assert 0.55 < float(shares.min()) < float(shares.max()) <= 1
