"""What the script for NOTE-RCNN makes of its runs, and one run of it, small."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_scripts import claims_note_rcnn as script
from data_scripts.claims_note_rcnn import ARMS, LONG, after, claims, growth, mean, mined


def run(arm: str, seed: int, *, first: float = 0.4, rise: float = 0.01) -> dict[str, Any]:
    rows = [{"AP50": first + rise * t, "images": 9} for t in range(LONG + 1)]
    audits = [
        {"mined": 100 + 10 * t, "precision": 0.9 - rise * t + 0.001 * seed} for t in range(LONG)
    ]
    return {"arm": arm, "seed": seed, "minutes": 1.0, "rows": rows, "mined": audits}


def test_the_figures_by_hand() -> None:
    one = run("note-rcnn", 0)
    assert after(0)(one) == 0.4 and after(-1)(one) == after(LONG)(one) == pytest.approx(0.48)
    assert mean(1, 3)(one) == pytest.approx(0.42) and script.change(one) == pytest.approx(0.01)
    assert mined("precision", 2)(one) == pytest.approx(0.89) and growth(one) == pytest.approx(1.4)
    one["mined"][0] = {"mined": 0, "precision": None}
    assert mined("precision", 1)(one) == 0.0 and growth(one) == 140.0


def test_all_claims_stand_there_from_the_start() -> None:
    rows = claims([], "do")
    assert {row["verdict"] for row in rows} == {"not run"}
    assert sorted({row["claim"][:3] for row in rows}) == [f"({letter})" for letter in "abcdefg"]
    assert len({row["claim"] for row in rows}) == len(rows)
    every = [run(arm, seed) for arm in ARMS for seed in range(3)]
    assert not [row for row in claims(every, "do") if row["verdict"] == "not run"]


def test_verdicts_by_hand() -> None:
    runs = [run("naive", seed, rise=-0.01 - 0.001 * seed) for seed in range(3)]
    runs += [run("note-rcnn", seed, rise=0.01) for seed in range(3)]
    runs += [run("distilled", seed, rise=0.001) for seed in range(3)]
    by_text = {row["claim"]: row for row in claims(runs, "do")}

    def said(part: str) -> str:
        (row,) = [row for text, row in by_text.items() if part in text]
        return row["verdict"]

    assert said("Naive falls at the first") == "holds"
    assert by_text["(a) Naive falls at the first iteration"]["arms"] == [
        "iteration 0",
        "iteration 1",
    ]
    assert said("brings NOTE-RCNN more") == "holds"
    assert said("without distillation precision decays") == "holds"
    assert said("with it precision holds") == "holds"  # by less than CLOSE
    assert said("more precise, iteration 5") == "holds"
    assert said("less precise, iteration 1") == "unresolved"  # nothing differs
    assert said("distilled is above note-rcnn") == "fails"
    assert said("Det-AZ is above Det-A, sparse") == "not run"
    assert json.dumps(list(by_text.values()), allow_nan=False)


def test_what_is_claimed_of_distillation_is_what_table_1_shows() -> None:
    assert all(one.paper[0] == "+" for one in script.of_distillation() if "boxes" in one.text)
    by_text = {one.text: one for one in script.of_distillation()}
    plain, taught = "note-rcnn", "distilled"
    for text, paper, arms in (
        ("less precise, iteration 1", "+0.017", (plain, taught)),
        ("more precise, iteration 2", "+0.037", (taught, plain)),
        ("more, iteration 1", "+1430", (taught, plain)),
        ("fewer, iteration 5", "+18143", (plain, taught)),
    ):
        one = by_text[f"(d) with it boxes are {text}"]
        assert (one.paper, one.arms) == (paper, arms)


def test_the_ladder_is_the_papers_table() -> None:
    assert list(script.LADDER.values()) == sorted(script.LADDER.values())
    assert set(script.LADDER) <= set(ARMS) and set(script.HEADLINES) <= set(ARMS)
    named = {arm for one in script.of_heads() + script.of_distillation() for arm in [one.of]}
    assert named - {None} <= set(ARMS)


@pytest.mark.filterwarnings("ignore:no seed image holds")
@pytest.mark.parametrize("arm", ["FRCN, SemiMIL", "half-distilled, long"])
def test_a_run_small(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "IMAGES", 8)
    monkeypatch.setattr(script, "TEST", 2)
    monkeypatch.setattr(script, "SEEDS", 1)
    quick = {"epochs": 0.1, "first_epochs": 0.5, "batch": 2, "min_score": 0.0}
    monkeypatch.setattr(script, "TOY", script.replace(script.TOY, **quick))
    changes = {} if "rival" in ARMS[arm] else {"iterations": 2}
    monkeypatch.setitem(script.ARMS, arm, ARMS[arm] | changes)
    found = script.one_run(arm, 0, device="cpu")
    rival = "rival" in ARMS[arm]
    assert len(found["rows"]) == 2 if rival else 3
    assert len(found["mined"]) == 0 if rival else 2
    assert all(0 <= row["AP50"] <= 1 for row in found["rows"])
    assert json.dumps(found, allow_nan=False)
