"""The instruments that measure the toy world's failures: right on cases worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from almining.data.scenes import CLASSES
from almining.detectors.rcnn import faster_rcnn
from almining.records import Target
from data_scripts import toy_failures
from data_scripts.toy_failures import Seen, judge, learn_tags
from tests.fakes import boxes, labels


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0, 0, 10, 10), "right"),
        ((0, 0, 10, 5), "right"),  # IoU of exactly one half
        ((0, 0, 10, 4), "part"),
        ((0, 0, 21, 10), "group"),  # IoU 10 / 21 with either, and both lie in it
        ((5, 0, 16, 10), "other"),  # half of the one and half of the other
        ((40, 40, 50, 50), "other"),
    ],
)
def test_what_a_box_is_to_its_objects(box: tuple[float, float, float, float], wanted: str) -> None:
    assert judge(boxes(box), boxes((0, 0, 10, 10), (11, 0, 21, 10))) == wanted


def test_average_precision_by_hand() -> None:
    scores, wanted = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert float(toy_failures._ap(scores, wanted)) == pytest.approx((1 + 2 / 3) / 2)
    assert float(toy_failures._ap(scores, torch.zeros(4))) == 0


def test_tags_alone_teach_which_region_is_which() -> None:
    random = torch.Generator().manual_seed(0)
    seen = []
    for i in range(40):
        label = 1 + i % 2
        features = torch.randn(6, 4, generator=random)
        features[i % 6, label] += 6  # one region of six shows the object
        seen.append(Seen(torch.zeros(6, 4), features, Target(boxes((0, 0, 9, 9)), labels(label))))
    score = learn_tags(seen, seed=0, epochs=120)
    for i, one in enumerate(seen):
        assert int(score(one.features)[:, i % 2].argmax()) == i % 6


def test_each_instrument_runs_and_each_claim_is_paired_by_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    untrained = faster_rcnn(CLASSES, seed=0).eval()
    monkeypatch.setattr(toy_failures, "backbone", lambda: untrained)
    for name, value in (("TRAIN", 4), ("TEST", 2)):
        monkeypatch.setattr(toy_failures, name, value)
    claims = [one for one in toy_failures.CLAIMS if one[3] != toy_failures.APART][:4]
    monkeypatch.setattr(toy_failures, "CLAIMS", claims)
    file = tmp_path / "toy_failures.json"
    monkeypatch.setattr(sys, "argv", ["toy_failures", "--file", str(file), "--seeds", "0"])
    toy_failures.main()
    found = json.loads(file.read_text())
    assert len(found["runs"]) == len(toy_failures.settings())
    said = [f"{text} ({instrument}: {reads})" for text, instrument, reads, _, _ in claims]
    assert [row["claim"] for row in found["claims"]] == said
    for run in found["runs"]:
        assert all(0 <= value <= 1 for value in run["values"].values())
        if run["instrument"] == "tags":
            kinds = [run["values"][kind] for kind in ("right", "part", "group", "other")]
            assert sum(kinds) == pytest.approx(1)
    assert f"| {said[0]} | no figure |" in capsys.readouterr().out
    assert said[-1] in file.with_suffix(".md").read_text()
    toy_failures.main()  # nothing is measured twice
    assert json.loads(file.read_text())["runs"] == found["runs"]
