"""What the script for Divergence counts, and the rows it makes of it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining import demo
from almining.data.pool import Pool
from almining.data.street import CLASSES, make_street
from almining.detectors.dense import dense
from almining.records import Detections
from data_scripts import claims_divergence as script
from data_scripts.make_dense import Plan
from data_scripts.measure import measure
from tests.fakes import boxes, labels, target


def test_auc_by_hand() -> None:
    wrong = torch.tensor([True, False, True, False])
    assert script.auc(torch.tensor([4.0, 3.0, 2.0, 1.0]), wrong) == 0.75
    assert script.auc(torch.tensor([1.0, 1.0, 1.0, 1.0]), wrong) == 0.5
    assert script.auc(torch.tensor([1.0, 3.0, 2.0, 4.0]), wrong) == 0.0


@pytest.mark.parametrize(
    ("rows", "scores", "wrong"),
    [
        ([(0, 0, 10, 20)], [0.9], (False, False)),
        ([(0, 0, 10, 20)], [0.4], (True, False)),  # missed: not sure enough
        ([(0, 0, 10, 20), (30, 0, 40, 20)], [0.9, 0.8], (False, True)),
        ([(30, 0, 40, 20)], [0.9], (True, True)),
        ([(0, 0, 10, 20), (60, 0, 70, 20)], [0.9, 0.8], (False, False)),  # in an ignored box
        ([(0, 0, 10, 20), (0, 0, 10, 19)], [0.9, 0.8], (False, True)),  # one of two is too many
        ([], [], (True, False)),
    ],
)
def test_errors_by_hand(rows: Any, scores: list[float], wrong: tuple[bool, bool]) -> None:
    truth = target((0, 0, 10, 20), (58, 0, 75, 30), ignore=torch.tensor([False, True]))
    found = Detections(boxes(*rows), labels(*[1] * len(rows)), torch.tensor(scores))
    assert script.errors_of(found, truth) == wrong


def test_looking_counts_frames_and_errors() -> None:
    found = script.looked(demo.load_demo("dense"), make_street(2, 3, seed=8, domain="dusk"))
    assert found["frames"]["all"] == 6
    for name in ("frames", "wrong"):
        assert found[name]["with"] + found[name]["without"] == found[name]["all"]
    assert found["frames"]["one"] <= found["frames"]["with"]
    for name in ("auc", "auc_missed", "auc_false"):
        assert set(found[name]) == set(found["frames"])
    assert found["auc_missed"]["without"] is None  # there is nothing to be missed


def test_all_claims_stand_there_from_the_start() -> None:
    rows = script.claims([], "do")
    assert {row["verdict"] for row in rows} == {"not run"}
    assert len({row["claim"] for row in rows}) == len(rows)
    assert {row["claim"].split(")")[0] for row in rows} == {
        "(a",
        "(b",
        "(c",
        "(d",
        "(e",
        "(e2",
        "(f",
    }
    assert {arm for row in rows if row["claim"][1] != "f" for arm in row["arms"]} == set(
        script.ARMS
    ) - {script.START}


# share missed after each cycle, and boxes in the end, were all as the paper says
AS_IN_THE_PAPER = {
    "guided_random": ((0.5, 0.4, 0.4, 0.3, 0.3), 27),
    "divergence": ((0.5, 0.4, 0.3, 0.2, 0.2), 57),
    "entropy": ((0.5, 0.5, 0.4, 0.4, 0.4), 52),
    "mc_dropout, 50%": ((0.5, 0.4, 0.3, 0.25, 0.25), 37),
    "mc_dropout, 10%": ((0.5, 0.4, 0.3, 0.25, 0.25), 37),
    "mean_pooled": ((0.5, 0.4, 0.4, 0.3, 0.3), 30),
    "unsmoothed": ((0.5, 0.4, 0.3, 0.2, 0.2), 57),
    "unruled": ((0.5, 0.4, 0.4, 0.3, 0.3), 57),
    "divergence, large b": ((0.5, 0.4, 0.35), 57),
}
STILLS = {
    "guided_random": ((0.5, 0.3, 0.3, 0.3, 0.3), 27),
    "divergence": ((0.5, 0.4, 0.3, 0.28, 0.28), 57),
}
AS_IN_THE_PAPER |= {
    f"{arm}, stills, {size}": told for arm, told in STILLS.items() for size in ("tiny", "small")
}


def told_by(figures: dict[str, tuple[tuple[float, ...], int]]) -> list[dict[str, Any]]:
    """Rows made of runs that went like this."""
    each = {"divergence": 0.7, "entropy": 0.6, "persons": 0.5}
    auc = {"all": each, "with": each, "one": each, "without": None}
    runs: list[dict[str, Any]] = [
        {
            "arm": arm,
            "seed": seed,
            "minutes": 1.0,
            "rows": [{"boxes": boxes, "metrics": {"MR@1": one, "LAMR": one}} for one in missed],
            "auc": auc,
            "auc_missed": auc,
        }
        for arm, (missed, boxes) in (figures | {script.START: ((), 0)}).items()
        for seed in (0, 1)
    ]
    return script.claims(runs, "do")


def test_all_claims_hold_where_all_is_as_in_the_paper() -> None:
    assert set(AS_IN_THE_PAPER) | {script.START} == set(script.ARMS)
    made = told_by(AS_IN_THE_PAPER)
    absent = [row for row in made if ": without" in row["claim"] or "a false" in row["claim"]]
    assert len(absent) == 8 and {row["verdict"] for row in absent} == {"not run"}
    assert {row["verdict"] for row in made if row not in absent} == {"holds"}


def test_claims_fail_where_divergence_and_random_change_places() -> None:
    names = {"divergence": "guided_random", "guided_random": "divergence"}
    turned = {
        names.get(arm, arm) + "".join(rest): told
        for (arm, *rest), told in (
            (name.replace(", stills", "|, stills").split("|"), told)
            for name, told in AS_IN_THE_PAPER.items()
        )
    }
    verdicts = {row["claim"]: row["verdict"] for row in told_by(turned)}
    failed = {claim.split(")")[0] for claim, verdict in verdicts.items() if verdict == "fails"}
    assert failed == {"(a", "(b", "(c", "(d", "(e2"}


def test_a_large_step_labels_a_few_frames_more_in_few_cycles() -> None:
    usual, large = script.ARMS["divergence"], script.ARMS["divergence, large b"]
    ratio = large.per_cycle * large.cycles / (usual.per_cycle * usual.cycles)
    assert large.cycles < usual.cycles and 1 < ratio < 1.1


@pytest.mark.parametrize(
    "arm",
    [
        "guided_random",
        "divergence, stills, small",
        *(
            pytest.param(arm, marks=pytest.mark.slow)
            for arm in script.ARMS
            if arm not in ("guided_random", "divergence, stills, small", script.START)
        ),
    ],
)
def test_arms_run(arm: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where a start of another size is kept
    for name, value in {"VIDEOS": 1, "LENGTH": 3, "TEST": 1, "FRAMES": 1}.items():
        monkeypatch.setattr(script, name, value)
    for name in ("TOY", "NAIVE"):
        monkeypatch.setattr(script, name, replace(getattr(script, name), epochs=1))
    trained: list[str] = []

    def untrained(plan: Plan) -> Any:
        trained.append(plan.options["size"])
        return dense(CLASSES, **plan.options)

    monkeypatch.setattr(script, "train", untrained)
    monkeypatch.setitem(script.ARMS, arm, script.ARMS[arm]._replace(per_cycle=1, cycles=1))
    run = script.one_run(arm, 0, device="cpu")
    assert [row["images"] for row in run["rows"]] == [0, 1]
    assert ("auc" in run) == (arm == "guided_random")
    assert script.found_rate(run, -1) == 1 - run["rows"][1]["metrics"]["MR@1"]
    assert trained == ["small"] * arm.endswith("small")
    if trained:
        script.start("small", "cpu")
        assert trained == ["small"]  # made once
        assert [path.name for path in (tmp_path / "_runs").iterdir()] == ["dense-small.safetensors"]
    json.dumps(run, allow_nan=False)


def test_a_run_that_was_interrupted_is_not_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(detector: Any, pool: Pool, budget: int, *, generator: torch.Generator) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return []

    recipe = replace(script.RIVALS.guided_random(script.TOY), query=stopped)
    monkeypatch.setitem(script.ARMS, "divergence", script.Arm(lambda: recipe))
    for name, value in {"VIDEOS": 1, "LENGTH": 3, "TEST": 1, "FRAMES": 1}.items():
        monkeypatch.setattr(script, name, value)
    with pytest.raises(KeyboardInterrupt, match="cycle"):
        measure(script.one_run, [("divergence", 0)], tmp_path / "x.json", device="cpu")
    assert not (tmp_path / "x.json").exists()
