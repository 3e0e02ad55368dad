import json
from pathlib import Path

import pytest

from almining.claims import claim, not_run, table, verdict

VALUES = {"a": {0: 0.5, 1: 0.7, 2: 0.6}, "b": {0: 0.4, 1: 0.5, 7: 0.9}}


def row(**changes):
    made = {"paper": "+2.1", "arms": ("a", "b"), "values": VALUES, "command": "run", "minutes": 2.0}
    return claim("a beats b", **(made | changes))


def test_only_seeds_both_arms_have_are_paired() -> None:
    made = row()
    assert made["seeds"] == [0, 1] and made["values"] == {"a": [0.5, 0.7], "b": [0.4, 0.5]}
    assert made["mean"] == pytest.approx(0.15)
    # two differences, 0.1 and 0.2: 0.15 -+ 12.706 * 0.0707 / sqrt(2)
    assert made["low"] == pytest.approx(0.15 - 0.6353) and made["verdict"] == "unresolved"


def test_the_verdict_follows_from_the_interval_alone() -> None:
    even = {"a": {0: 0.5, 1: 0.5}, "b": {0: 0.4, 1: 0.4}}
    assert row(values=even)["verdict"] == "holds"
    assert row(values=even, arms=("b", "a"))["verdict"] == "fails"
    assert verdict(0.0, 0.1) == "unresolved"


def test_as_good_as_equal_has_a_margin() -> None:
    assert verdict(-0.01, 0.02, within=0.021) == "holds"
    assert verdict(-0.01, 0.02, within=0.02) == "unresolved"
    assert verdict(0.03, 0.05, within=0.02) == verdict(-0.05, -0.03, within=0.02) == "fails"
    assert verdict(float("nan"), float("nan"), within=1.0) == "unresolved"
    even = {"a": {0: 0.5, 1: 0.51}, "b": {0: 0.5, 1: 0.51}}
    assert row(values=even, within=0.01)["verdict"] == "holds"
    assert row(values=even)["verdict"] == "unresolved"


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    made = not_run("a beats b", paper="+1", arms=("a", "b"), command="run")
    file.write_text(json.dumps({"claims": [made]}))
    assert table(file).splitlines()[2] == "| a beats b | +1 |  | 0 | not run |"


def test_one_seed_proves_nothing_and_is_json(tmp_path: Path) -> None:
    made = row(values={"a": {0: 1.0}, "b": {0: 0.0}})
    assert made["verdict"] == "unresolved" and made["low"] is None
    file = tmp_path / "x.json"
    skipped = row() | {"verdict": "not run", "claim": "c"}
    file.write_text(json.dumps({"claims": [row(), made, skipped]}, allow_nan=False))
    lines = table(file).splitlines()
    assert len(lines) == 5 and "+0.150 [-0.485, +0.785]; a 0.600, b 0.450 | 2 |" in lines[2]
    assert "| +1.000; a 1.000, b 0.000 | 1 | unresolved |" in lines[3]
    assert lines[4].endswith("| +2.1 |  | 2 | not run |")


def test_rejected() -> None:
    with pytest.raises(ValueError, match="'a beats b': a and b have no seed in common"):
        row(values={"a": {0: 1.0}, "b": {1: 1.0}})
