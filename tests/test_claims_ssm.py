"""What the claims of SSM are made of, and each arm once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining.data.pool import Pool
from almining.data.proposals import Grid
from almining.papers import ssm
from almining.records import Detections
from data_scripts import claims_ssm, make_ssm
from data_scripts.ssm_figures import Judged, auc, counts, figures, judged
from tests.fakes import boxes, labels, target


def test_regions_are_judged_by_their_overlap() -> None:
    truth = Pool(("a", "b"), {"x": target((0, 0, 10, 10)), "y": target((0, 0, 10, 10))}, {})
    phi = torch.tensor([[0.9, 0.8], [0.9, 0.8], [0.7, 0.1], [0.1, 0.6], [0.9, 0.1]])
    found = Detections(
        boxes((0, 0, 10, 10), (0, 0, 10, 4), (50, 0, 60, 10), (0, 0, 10, 10), (0, 0, 9, 10)),
        labels(1, 1, 1, 2, 1),
        torch.tensor([0.9, 0.9, 0.7, 0.6, 0.9]),
        probs=torch.cat([torch.zeros(5, 1), phi], dim=1),
    )
    scores = torch.tensor([0.8, 0.2, 0.6, 0.1, torch.nan], dtype=torch.float64)
    nothing = found.select(labels())
    seen = {"x": (found, scores), "y": (nothing, scores[:0])}
    said = judged(seen, truth)
    assert said.overlap.tolist() == pytest.approx([1.0, 0.4, 0.0, 0.0])
    assert said.right.tolist() == [True, False, False, False]
    assert counts(seen, said) == {
        **{"regions": 4, "right": 1, "loose": 1, "wrong": 2},
        **{"trusted": 2, "low": 1, "ambiguous": 1, "undetermined": 1},
    }


def test_equally_many_of_each_class_are_trusted_by_confidence() -> None:
    said = Judged(
        labels(1, 1, 1, 2, 2),
        torch.tensor([0.9, 0.6, 0.1, 0.2, 0.7]).double(),
        torch.tensor([0.5, 0.6, 0.9, 0.9, 0.8]).double(),
        torch.tensor([1.0, 0.3, 0.0, 0.7, 0.0]).double(),
    )
    found = figures(said)
    assert found["precision, consistency"] == pytest.approx(1 / 3)  # rows 0, 1 and 4
    assert found["precision, confidence"] == pytest.approx(1 / 3)  # rows 1, 2 and 3
    assert found["AUC, consistency"] == pytest.approx(4 / 6)
    assert found["AUC, consistency, loose"] == 0.5 and found["AUC, confidence, wrong"] == 0.375
    assert auc(torch.tensor([0.5, 0.9]), torch.tensor([0.5])) == 0.75
    assert auc(torch.zeros(0), torch.ones(2)) == 0.5


def run(arm: str, seed: int, *points: float, boxes: tuple[int, ...] = ()) -> dict[str, Any]:
    given = boxes or (10,) * len(points)
    rows = [{"metrics": {"AP50": p}, "boxes": b} for p, b in zip(points, given, strict=True)]
    return {"arm": arm, "seed": seed, "minutes": 1.0, "rows": rows, "boxes": 100}


def test_figures_of_runs_by_hand() -> None:
    one = run("x", 0, 0.4, 0.6, 0.5)
    assert claims_ssm.ap(one) == pytest.approx(0.55) and claims_ssm.ap(one, -1) == 0.5
    assert claims_ssm.fall(one) == pytest.approx(-0.1)
    long = run("ssm, long", 0, 0.3, 0.5, 0.7, boxes=(5, 30, 60))
    full = run("all labelled", 0, 0.3, 0.5)
    found = claims_ssm.needed([long, full, run("ssm, long", 1, 0.9), run("ssm", 0, 0.9)])
    assert [row["needed"] for row in found] == [0.3]
    never = claims_ssm.needed([run("ssm, long", 0, 0.1), full])
    assert [row["needed"] for row in never] == [1.0]
    apart = claims_ssm.scattered([run("x", 0, 0.2), run("x", 1, 0.6), run("y", 0, 0.1)], ("x",))
    assert [row["apart"] for row in apart] == pytest.approx([0.2, 0.2])


def test_all_claims_stand_there_from_the_start() -> None:
    ways = {
        "precision, consistency": 0.8,
        "precision, confidence": 0.7,
        **{f"AUC, consistency{kind}": 0.8 for kind in ("", ", wrong", ", loose")},
        **{f"AUC, confidence{kind}": 0.7 for kind in ("", ", wrong", ", loose")},
    }
    looks = [
        {"arm": arm, "seed": seed, "minutes": 1.0, "ways": dict.fromkeys(claims_ssm.WAYS, ways)}
        for seed in range(3)
        for arm in claims_ssm.LOOKS
    ]
    pairs = [run(arm, seed, 0.4, 0.5) for seed in range(3) for arm in ("ssm_only", "spl")]
    rows = claims_ssm.claims([*looks, *pairs], "do")
    said = {row["claim"]: row["verdict"] for row in rows}
    assert len(said) == len(rows)
    assert [row["verdict"] for row in rows if row["claim"].startswith("(e)")].count("holds") == 8
    assert {row["verdict"] for row in rows if row["claim"][:3] in ("(b)", "(d)")} == {"not run"}
    arms = {arm for row in rows for arm in row["arms"]}
    assert set(claims_ssm.ARMS) - {"all labelled"} <= arms  # no arm is run for nothing
    assert set(claims_ssm.HEADLINES) <= {*claims_ssm.LOOKS, *claims_ssm.ARMS}


def test_each_arm_of_the_headlines_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # proposals are kept below
    toy = replace(ssm.Config.toy(), steps=1, images=1)
    plan = make_ssm.Plan(scenes=2, train=replace(toy.training(), steps=1))
    small = {"IMAGES": 4, "LOOKED": 3, "TEST": 2, "CYCLES": 1, "LABELLED": 3, "TOY": toy}
    for name, value in small.items():
        monkeypatch.setattr(claims_ssm, name, value)
    monkeypatch.setattr(claims_ssm, "Plan", lambda: plan)
    shipped = claims_ssm.shipped

    def quick(device: str) -> Any:
        detector = shipped(device)
        detector.proposer = Grid(sizes=(0.3, 0.6))
        return detector

    monkeypatch.setattr(claims_ssm, "shipped", quick)
    runs = []
    for arm in ("look", "look, context_bias 1", "ssm_only", "labelled only", "ssm"):
        runs.append(
            {"arm": arm, "seed": 0, "minutes": 0.1} | claims_ssm.one_run(arm, 0, device="cpu")
        )
    make, weak = claims_ssm.ARMS["random_regions, from 5%"]
    monkeypatch.setitem(claims_ssm.ARMS, "random, weak", (make, weak | {"labelled": 2}))
    claims_ssm.one_run("random, weak", 0, device="cpu")
    assert runs[0]["counts"]["single"]["regions"] == runs[0]["counts"]["packed_regions"]["regions"]
    assert runs[2]["steps"] == 1 and runs[3]["pseudo"] == 0 and len(runs[2]["rows"]) == 2
    assert claims_ssm.claims(runs, "do")
