"""The runs behind claims, kept as they end, and what the script for BiB makes of them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from almining.data.pool import Pool
from almining.records import Detections
from data_scripts import claims_bib, measure
from tests.fakes import boxes, labels, target


def run(arm: str, seed: int, *, factor: float = 1.0) -> dict[str, Any]:
    return {"figure": factor * (len(arm) + seed)}


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    file, called = tmp_path / "made" / "x.json", []

    def watched(arm: str, seed: int, **options: Any) -> dict[str, Any]:
        called.append((arm, seed))
        if seed == 2:
            raise KeyboardInterrupt
        return run(arm, seed, **options)

    with pytest.raises(KeyboardInterrupt):
        measure.measure(watched, [("a", 0), ("bb", 1), ("a", 2), ("a", 3)], file, factor=2.0)
    assert [one["seed"] for one in json.loads(file.read_text())["runs"]] == [0, 1]
    found = measure.measure(run, [("a", 0), ("bb", 1), ("a", 3)], file, factor=2.0)
    assert [(one["arm"], one["seed"], one["figure"]) for one in found] == [
        ("a", 0, 2.0),
        ("a", 3, 8.0),
        ("bb", 1, 6.0),
    ]
    assert called == [("a", 0), ("bb", 1), ("a", 2)] and not list(tmp_path.rglob("*.part"))
    with pytest.raises(SystemExit, match=r"x.json was measured with .*2.0.*not .*3.0"):
        measure.measure(run, [("a", 0)], file, factor=3.0)


def test_processes_give_the_same(tmp_path: Path) -> None:
    jobs = [("a", 0), ("bb", 1), ("c", 2)]
    one, two = (
        measure.measure(run, jobs, tmp_path / f"{n}.json", processes=n, factor=1.0) for n in (1, 2)
    )
    assert [r["figure"] for r in one] == [r["figure"] for r in two] == [1.0, 3.0, 3.0]


def test_after_an_error_no_other_run_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released, called = Event(), []

    class Pool(ThreadPoolExecutor):
        def __init__(self, processes: int, **options: Any) -> None:
            super().__init__(1)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            released.set()
            super().shutdown()

    def fails(arm: str, seed: int) -> dict[str, Any]:
        called.append(seed)
        if not seed:
            raise ValueError("no memory left")
        released.wait()
        return {}

    monkeypatch.setattr(measure, "ProcessPoolExecutor", Pool)
    with pytest.raises(ValueError, match="no memory left"):
        measure.measure(fails, [("a", n) for n in range(5)], tmp_path / "x.json", processes=2)
    assert len(called) <= 2


def test_a_claim_is_not_run_until_both_arms_are() -> None:
    def one(arm: str, seed: int) -> dict[str, Any]:
        return {"arm": arm, "seed": seed, "minutes": 1.0, "figure": seed + (arm == "b"), "other": 0}

    def row(runs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return measure.compare(
            "b beats a", "+1", ("b", "a"), runs, lambda r: r["figure"], "do", **more
        )

    assert row([one("a", 0), one("b", 1)])["verdict"] == "not run"
    both = row([one(arm, seed) for arm in "ab" for seed in (0, 1)])
    assert both["verdict"] == "holds" and both["mean"] == 1.0 and both["minutes"] == 4.0
    within = row([one("b", 3), one("b", 5)], other=lambda r: r["other"])
    assert within["values"] == {"b": [4, 6], "a": [0, 0]} and within["verdict"] == "unresolved"


def test_right_one_to_one_and_right_by_any_overlap() -> None:
    truth = target((0, 0, 10, 10), (40, 40, 50, 50), label=1)
    found = Detections(
        boxes((0, 0, 10, 9), (0, 0, 10, 10), (40, 40, 50, 50), (40, 40, 50, 50), (80, 0, 90, 9)),
        labels(1, 1, 1, 2, 1),
        torch.tensor([0.6, 0.9, 0.5, 0.8, 0.7]),
    )
    assert claims_bib.matched(found, truth).tolist() == [False, True, True, False, False]
    assert claims_bib.overlapping(found, truth).tolist() == [True, True, True, False, False]
    nothing = found.select(labels())
    assert not len(claims_bib.matched(nothing, truth)) and not len(
        claims_bib.overlapping(nothing, truth)
    )


def test_wrong_shares_by_hand() -> None:
    truth = target((0, 0, 40, 40), (60, 60, 70, 70), label=1)
    asked = boxes((0, 0, 40, 40), (5, 5, 20, 20), (60, 60, 70, 70))
    found = Detections(asked, labels(1, 1, 1), torch.tensor([0.9, 0.8, 0.7]))
    pool = Pool(("thing",), {"a": truth}, {})
    shares = claims_bib.wrong_shares({"a": found}, pool, claims_bib.overlapping, seed=0)
    # the small box lies in the first object, and is wrong; first and last are a control, both right
    assert shares == {"pairs": 1.0, "control": 0.0, "number": 1, "others": 1}


def test_all_claims_stand_there_from_the_start() -> None:
    first = {name: {"pairs": 0.99, "control": 0.9} for name in ("one to one", "any overlap")}
    runs: list[dict[str, Any]] = [
        {"arm": claims_bib.START, "seed": seed, "minutes": 1.0, **first} for seed in range(3)
    ]
    rows = claims_bib.claims(runs, "do")
    assert [row["verdict"] for row in rows[:4]] == ["holds"] * 4
    assert {row["verdict"] for row in rows[4:]} == {"not run"}
    assert sorted({row["claim"][:3] for row in rows}) == [f"({letter})" for letter in "abcdefgh"]
    named = {arm for row in rows[5:] for arm in row["arms"]}
    assert named <= set(claims_bib.ARMS)
    measured = {"AP50": 0.5, "pairs, ratio 3": 9.0}
    more = [{"boxes": 9, "metrics": measured} for _ in range(claims_bib.CYCLES + 1)]
    runs += [{"arm": arm, "seed": 0, "minutes": 1.0, "rows": more} for arm in claims_bib.ARMS]
    assert {row["verdict"] for row in claims_bib.claims(runs, "do")[4:]} == {"unresolved"}


def test_every_strategy_is_there_for_crowded_scenes_too() -> None:
    dense = {arm.removesuffix(", dense") for arm in claims_bib.ARMS if arm.endswith(", dense")}
    assert len(dense) == 20 and dense == {a for a in claims_bib.ARMS if not a.endswith("dense")}
    _, changes = claims_bib.ARMS["bib, plain sampling, dense"]
    assert changes == {"hardest": False, "density": "coco"}


def test_the_start_is_the_toy_worlds_whatever_data_a_reader_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALMINING_DATA", "voc:/nowhere")
    monkeypatch.chdir(tmp_path)  # proposals are kept below
    monkeypatch.setattr(claims_bib, "IMAGES", 4)
    monkeypatch.setattr(claims_bib, "TEST", 1)
    found = claims_bib.one_run(claims_bib.START, 0, device="cpu")
    assert found["counts"]["pairs, ratio 3"] == found["one to one"]["number"] > 0
    assert found["counts"]["pairs, ratio 4"] <= found["counts"]["pairs, ratio 3"]
    assert found["counts"]["pairs, ratio 3 before NMS"] > found["counts"]["pairs, ratio 3"]


def test_equal_boxes_are_read_off_the_line_of_random() -> None:
    def rows(*points: tuple[int, float]) -> list[dict[str, Any]]:
        return [{"boxes": drawn, "metrics": {"AP50": value}} for drawn, value in points]

    runs = [
        {"arm": "u_random", "seed": 4, "minutes": 1, "rows": rows((0, 0.5), (10, 0.6), (20, 0.8))},
        {"arm": "bib", "seed": 4, "minutes": 2, "rows": rows((0, 0.5), (15, 0.8), (30, 0.9))},
        {"arm": "bib", "seed": 5, "minutes": 2, "rows": rows((0, 0.5), (15, 0.8))},
    ]
    (found,) = claims_bib.at_equal_boxes(runs)
    assert found == {"seed": 4, "minutes": 3, "bib": 0.8, "u_random": pytest.approx(0.7)}
