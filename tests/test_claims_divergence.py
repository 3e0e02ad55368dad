"""What the script for Divergence counts, and the rows it makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from almining import demo
from almining.data.street import make_street
from almining.records import Detections
from data_scripts import claims_divergence as script
from tests.fakes import boxes, labels, target


def test_auc_by_hand() -> None:
    wrong = torch.tensor([True, False, True, False])
    assert script.auc(torch.tensor([4.0, 3.0, 2.0, 1.0]), wrong) == 0.75
    assert script.auc(torch.tensor([1.0, 1.0, 1.0, 1.0]), wrong) == 0.5
    assert script.auc(torch.tensor([1.0, 3.0, 2.0, 4.0]), wrong) == 0.0


@pytest.mark.parametrize(
    ("rows", "scores", "wrong"),
    [
        ([(0, 0, 10, 20)], [0.9], False),
        ([(0, 0, 10, 20)], [0.4], True),  # missed: not sure enough
        ([(0, 0, 10, 20), (30, 0, 40, 20)], [0.9, 0.8], True),  # a false one
        ([(0, 0, 10, 20), (60, 0, 70, 20)], [0.9, 0.8], False),  # excused: in an ignored box
        ([(0, 0, 10, 20), (0, 0, 10, 19)], [0.9, 0.8], True),  # one of two is too many
        ([], [], True),
    ],
)
def test_errors_by_hand(rows: Any, scores: list[float], wrong: bool) -> None:
    truth = target((0, 0, 10, 20), (58, 0, 75, 30), ignore=torch.tensor([False, True]))
    found = Detections(boxes(*rows), labels(*[1] * len(rows)), torch.tensor(scores))
    assert script.is_wrong(found, truth) is wrong


def test_looking_counts_frames_and_errors() -> None:
    found = script.looked(demo.load_demo("dense"), make_street(2, 3, seed=8, domain="dusk"))
    assert found["frames"]["all"] == 6
    for name in ("frames", "wrong"):
        assert found[name]["with"] + found[name]["without"] == found[name]["all"]


def test_all_claims_stand_there_from_the_start() -> None:
    rows = script.claims([], "do")
    assert {row["verdict"] for row in rows} == {"not run"}
    assert {row["claim"].split(")")[0] for row in rows} == {
        "(a",
        "(b",
        "(c",
        "(d",
        "(e",
        "(e2",
        "(f",
    }
    assert {arm for row in rows if row["claim"][1] != "f" for arm in row["arms"]} <= set(
        script.ARMS
    )
    metrics = {"AP50": 0.5, "MR@1": 0.3, "LAMR": 0.4}
    each = {"divergence": 0.7, "entropy": 0.6, "persons": 0.5}
    auc = {"all": each, "with": each, "without": None}
    runs: list[dict[str, Any]] = [
        {
            "arm": arm,
            "seed": seed,
            "minutes": 1.0,
            "rows": [{"boxes": 3, "metrics": metrics}] * 5,
            "auc": auc,
        }
        for arm in script.ARMS
        for seed in (0, 1)
    ]
    made = script.claims(runs, "do")
    verdicts = {row["claim"]: row["verdict"] for row in made}
    told = [row for row in made if row["claim"].startswith("(f)")]
    assert {row["verdict"] for row in told if "without" in row["claim"]} == {"not run"}
    assert {row["verdict"] for row in told if "without" not in row["claim"]} == {"holds"}
    assert [verdicts[row["claim"]] for row in made[:2]] == ["holds", "unresolved"]  # equal: within
