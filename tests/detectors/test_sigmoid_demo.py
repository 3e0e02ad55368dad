"""The one-vs-rest detector that ships, and the script that makes it."""

from __future__ import annotations

from pathlib import Path

import torch

from almining import demo, evaluate
from almining.data.proposals import cached
from almining.data.regimes import unlabelled
from almining.data.scenes import CLASSES, make_scenes
from almining.data.segments import Segments
from almining.detectors.sigmoid import SigmoidRCNN
from almining.lab import TEST_SEED
from almining.papers import ssm
from almining.predict import detect
from almining.train import TrainConfig
from data_scripts import make_ssm
from data_scripts.ssm_figures import VERDICTS, counts, judged


def test_what_ships_is_a_start_whose_regions_split() -> None:
    known = demo.describe("fast_rcnn")
    measured, found = known["notes"]["AP50"], known["notes"]["counts"]
    assert known["notes"]["test_scenes"] == 200 and 0.35 <= measured["AP50"] <= 0.5
    assert min(measured.values()) > 0.1  # no class is at zero
    shares = {name: found[name] / found["regions"] for name in ("trusted", "low", "ambiguous")}
    assert min(shares.values()) > 0.05 and found["regions"] > 300
    assert found["of these not trusted"] > 0.5 * found["sure, not right"] > 0
    assert known["options"]["proposer"] == "segments"  # nothing to install


def test_it_finds_objects_and_two_classes_claim_a_region(tmp_path: Path) -> None:
    detector, test = demo.load_demo("fast_rcnn"), make_scenes(18, seed=TEST_SEED)
    assert isinstance(detector, SigmoidRCNN) and detector.proposer == Segments()
    detector.proposer = cached(detector.proposer, tmp_path)
    found = dict(detect(detector, test, progress=False))
    assert evaluate.voc(found, test)["AP50"] > 0.2  # so few scenes tell little
    pool = unlabelled(test, keep=6, seed=0)
    seen = ssm.look(detector, pool, ssm.Config.toy(), seed=0, progress="")
    some = counts(seen, judged(seen, test))
    assert min(some["trusted"], some["low"], some["ambiguous"]) > 0


def test_the_script_goes_on_from_the_start(tmp_path: Path) -> None:
    plan = make_ssm.Plan(scenes=3, train=TrainConfig(steps=1, batch=2))
    notes = make_ssm.make(tmp_path, plan, test=3)
    assert set(VERDICTS) < set(notes["counts"]) and notes["start"] == make_ssm.START
    made = demo.load(tmp_path / "fast_rcnn.safetensors")
    assert made.classes == CLASSES and made.rules.positive_weight == 5.0
    begun = make_ssm.begin(plan).state_dict()
    known = demo.load_demo(make_ssm.START).model
    taken = {f"backbone.{name}": one for name, one in known.backbone.state_dict().items()}
    heads = known.roi_heads.box_head.state_dict()
    taken |= {f"head.layers.{name}": one for name, one in heads.items()}
    assert all(torch.equal(begun[name], one) for name, one in taken.items())
    assert set(begun) - set(taken) == {
        f"head.{layer}.{part}" for layer in ("classify", "regress") for part in ("weight", "bias")
    }
