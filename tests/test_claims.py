import json
from pathlib import Path

import pytest

from almining.claims import claim, table, verdict

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
