"""What the script for Co-mining runs, and the rows it makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining.detectors.onestage import FCOS, RetinaNet
from data_scripts import claims_comining as script
from data_scripts.measure import measure


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "IMAGES", 4)
    monkeypatch.setattr(script, "TEST", 2)
    monkeypatch.setattr(script, "TOY", replace(script.TOY, steps=2, batch=2))


def test_all_claims_stand_there_from_the_start() -> None:
    rows = script.claims([], "do")
    assert {row["verdict"] for row in rows} == {"not run"}
    hurts, helps = (f"(a) retinanet, {n}: augmentation alone" for n in ("full", "hard"))
    arms = {row["claim"]: row["arms"] for row in rows}
    assert arms[f"{hurts} hurts"] == ["original, full", "augmented, full"]
    assert arms[f"{helps} helps"] == ["augmented, hard", "original, hard"]
    letters = [f"({letter})" for letter in ("a", "b", "c", "d", "e", "e2", "f")]
    assert sorted({row["claim"].split()[0] for row in rows}) == sorted(letters)
    assert len({row["claim"] for row in rows}) == len(rows)
    named = {arm for row in rows if not row["claim"].startswith("(f)") for arm in row["arms"]}
    assert named == set(script.ARMS)  # nothing is run for no claim
    spans = [{"progress": 0.1, "mined": 3.0, "precision": None, "recall": 0.5}] * script.TENTHS
    measured = {"minutes": 1.0, "seed": 0, "AP50": 0.5, "mined": spans}
    runs: list[dict[str, Any]] = [{"arm": arm} | measured for arm in script.ARMS]
    assert {row["verdict"] for row in script.claims(runs, "do")} == {"unresolved"}


def test_a_claim_is_the_difference_it_says() -> None:
    def run(arm: str, seed: int, value: float, recall: float = 0.0) -> dict[str, Any]:
        spans = [{"mined": 1.0, "precision": 0.75, "recall": recall + n} for n in range(10)]
        return {"arm": arm, "seed": seed, "minutes": 1.0, "AP50": value, "mined": spans}

    runs = [run("comining, hard", seed, 0.5 + seed) for seed in range(2)]
    runs += [run("original, hard", seed, 0.4 + seed) for seed in range(2)]
    rows = {row["claim"]: row for row in script.claims(runs, "do") if row["seeds"]}
    row = rows["(a) retinanet, hard: Co-mining is above original"]
    assert row["mean"] == pytest.approx(0.1) and row["verdict"] == "holds"
    assert row["paper"] == "+0.014 AP"
    half, _, rises = [row for claim, row in rows.items() if claim.startswith("(f) hard")]
    assert half["mean"] == 0.25 and rises["mean"] == 5.0  # the last tenth, and the fifth


def test_arms_are_what_they_are_called() -> None:
    assert script.HEADLINES == [
        f"{name}, {level}"
        for level in ("extreme", "hard")
        for name in ("original", "augmented", "joint", "comining")
    ]
    made = script.ARMS[f"comining, min_score {script.TAUS[1]}, hard"]
    assert made["changes"] == {"min_score": script.TAUS[1]} and made["level"] == "hard"
    assert isinstance(script.start("retinanet"), RetinaNet)
    other = script.start("fcos")
    assert isinstance(other, FCOS) and not other.training
    weights = script.start("retinanet").model.backbone.state_dict()
    assert all(value.equal(weights[k]) for k, value in other.model.backbone.state_dict().items())


@pytest.mark.parametrize("arm", ["comining, view blur, hard", "original, extreme, fcos"])
def test_a_run_is_one_training(arm: str) -> None:
    found = script.one_run(arm, 3, device="cpu")
    assert 0 <= found["AP50"] <= 1 and "diverged" not in found
    assert ("mined" in found) == arm.startswith("comining")
    json.dumps(found, allow_nan=False)
    if "mined" in found:
        assert [row["progress"] for row in found["mined"]][-1] == 1.0


def test_a_training_that_diverges_is_kept_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = script.start("retinanet")
    with torch.no_grad():
        broken.model.head.classification_head.cls_logits.bias += torch.inf
    monkeypatch.setattr(script, "start", lambda kind: broken)
    jobs = [("comining, hard", 0), ("original, hard", 0)]
    runs = measure(script.one_run, jobs, tmp_path / "x.json", device="cpu")
    assert [run["AP50"] for run in runs] == [0.0, 0.0] and len(runs[0]["mined"]) == script.TENTHS
    assert all("not finite" in run["diverged"] and "scene" in run["diverged"] for run in runs)
    assert [row["seeds"] for row in script.claims(runs, "do")].count([0]) > 1
