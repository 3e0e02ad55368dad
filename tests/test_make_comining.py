"""The script that makes the one-stage detectors that ship."""

from pathlib import Path

import torch

from almining import demo
from almining.papers.comining import Config
from almining.train import TrainConfig
from data_scripts import make_comining


def test_the_script_makes_both_detectors_from_nothing(tmp_path: Path) -> None:
    plan = make_comining.Plan(icons=8, icon_steps=2, scenes=4, train=TrainConfig(2, batch=2))
    notes = make_comining.make(tmp_path, plan, test=2)
    assert notes["plan"]["scenes"] == 4 and 0 <= notes["AP50"]["AP50"] <= 1
    start, trained = (demo.load(tmp_path / f"retinanet{end}.safetensors") for end in ("_start", ""))
    changed = [
        not torch.equal(one, other)
        for one, other in zip(start.parameters(), trained.parameters(), strict=True)
    ]
    assert any(changed) and not start.training
    buffers = zip(start.buffers(), trained.buffers(), strict=True)
    assert any(not torch.equal(one, other) for one, other in buffers)  # normalisation learns, too


def test_what_ships_is_what_the_script_makes() -> None:
    known = demo.describe("retinanet")["notes"]
    assert known["plan"]["train"]["steps"] == Config.toy().steps
    assert known["AP50"]["AP50"] > 0.35 and known["test_scenes"] == 200
    assert demo.describe("retinanet_start")["notes"]["icon_accuracy"] > 0.9
