"""Every fault of the catalogue is caused for real, and comes to what it should."""

import json
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_scripts import cut_table, fault_table
from tests.faults import (
    AS_WANTED,
    NOT_RUN,
    WRONG,
    Fault,
    NotRun,
    Outcome,
    ended,
    judge,
    killed,
    refusal,
    rows,
)

ROWS = rows()
Measure = Callable[[Fault], Outcome]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Cause a fault, once."""
    known: dict[int, Outcome] = {}

    def measure(row: Fault) -> Outcome:
        if row.number not in known:
            known[row.number] = judge(row, tmp_path_factory.mktemp(f"fault-{row.number}-"))
        return known[row.number]

    return measure


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=str(row), marks=[pytest.mark.gpu] if row.needs == "gpu" else [])
        for row in ROWS
    ],
)
def test_fault(row: Fault, measured: Measure) -> None:
    outcome = measured(row)
    if outcome.state == NOT_RUN:
        pytest.skip(outcome.says)
    assert outcome.state == AS_WANTED, outcome.says


def test_the_rows_are_those_of_the_catalogue() -> None:
    assert [row.number for row in ROWS] == list(range(1, 19))
    assert len({row.name for row in ROWS}) == 18


def test_the_committed_table_is_what_is_measured(measured: Measure) -> None:
    page = fault_table.FILE.read_text(encoding="utf-8")
    found = [(row, measured(row)) for row in ROWS]
    assert stable(page.splitlines()[0]) == stable(fault_table.table(found).splitlines()[0])
    for line, (row, outcome) in zip(page.splitlines()[-18:], found, strict=True):
        here = fault_table.table([(row, outcome)]).splitlines()[-1]
        if NOT_RUN not in line and outcome.state != NOT_RUN:
            assert stable(line) == stable(here)


def stable(line: str) -> str:
    """Return a line without messages and figures, which depend on versions and machines."""
    return re.sub(r"`[^`]*`|Read-only: .*|\d[\d.e+-]*", "", line)


# what judges them


def made(cause: Callable[[Path], str]) -> Fault:
    return replace(ROWS[0], cause=cause)


def warns(folder: Path) -> str:
    warnings.warn("half of it is gone", stacklevel=1)
    return "well"


def fails(folder: Path) -> str:
    raise ValueError(f"{folder}/a | b is `gone`\n  of process 12 (x)")


def cannot(folder: Path) -> str:
    raise NotRun("no GPU")


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (lambda folder: "well", Outcome(AS_WANTED, "well")),
        (warns, Outcome(WRONG, "UserWarning: half of it is gone")),
        (fails, Outcome(WRONG, "ValueError: a | b is 'gone' of process N")),
        (cannot, Outcome(NOT_RUN, "no GPU")),
        (lambda folder: pytest.skip("no unshare here"), Outcome(NOT_RUN, "no unshare here")),
    ],
)
def test_the_judge(cause: Callable[[Path], str], outcome: Outcome, tmp_path: Path) -> None:
    assert judge(made(cause), tmp_path) == outcome


def test_a_process_that_should_be_killed_has_to_be() -> None:
    assert ended(lambda say: say(7)) == (0, [7])
    with pytest.raises(AssertionError, match="ended with 0 instead of being killed"):
        killed(lambda say: say(7))
    with pytest.raises(AssertionError, match="there was no KeyError"):
        refusal(KeyError, lambda: None)


def test_the_table_says_what_is_not_as_wanted() -> None:
    outcomes = [Outcome(AS_WANTED, "a | b"), Outcome(WRONG, "AssertionError"), Outcome(NOT_RUN, "")]
    page = fault_table.table(list(zip(ROWS[:3], outcomes, strict=True))).splitlines()
    assert "of 3 faults" in page[0] and "1 end as they should, 1 do not, 1 were not" in page[0]
    assert page[-3].endswith(" | as wanted | a \\| b |")
    assert page[-2].endswith(" | wrong | AssertionError |")


def test_the_script_causes_faults(measured: Measure) -> None:
    (row,) = (one for one in ROWS if one.number == 18)
    assert fault_table.measure([row]) == [(row, measured(row))]


# the table of runs that were killed


def test_the_table_of_cuts_can_be_stopped_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict] = []

    def outcome(spec: dict) -> dict:
        asked.append(spec)
        if len(asked) == 4:
            raise KeyboardInterrupt
        unlike = spec["detector"] == "retinanet" and spec["workers"] == 2
        return {} if "cut" in spec else {"rows": 1, "weights": 7 + unlike}

    def ledger_kills(test: str) -> dict:
        return {"equal": "weights" not in test, "kills": 200, "says": "lost 0, doubled 0"}

    monkeypatch.setattr(cut_table, "uncut", lambda detector: ({"rows": 1, "weights": 7}, 1.0))
    monkeypatch.setattr(cut_table, "outcome", outcome)
    monkeypatch.setattr(cut_table, "killed_at_random", lambda spec, number: {"seconds": number})
    monkeypatch.setattr(cut_table, "ledger_kills", ledger_kills)
    file = tmp_path / "resume.json"
    monkeypatch.setattr(sys, "argv", ["cut_table", "--file", str(file)])
    with pytest.raises(KeyboardInterrupt):
        cut_table.main()
    (first,) = json.loads(file.read_text())
    where = {"detector": "faster_rcnn", "workers": 0, "place": "query", "number": 0}
    assert first == {"kind": "cut", **where, "equal": True, "differs": []}
    assert "1 of 1 runs" in (tmp_path / "resume.md").read_text()
    cut_table.main()
    assert len(asked) == 1 + 80 * 2 + 30 + 1  # the one stopped is done again
    assert len(json.loads(file.read_text())) == 80 + 30 + 3
    page = (tmp_path / "resume.md").read_text()
    assert "83 of 110 runs" in page
    assert "| small Faster R-CNN | 2 | at 20 places | 20 | 20 | 0 |" in page
    assert "| small RetinaNet | 2 | at 20 places | 20 | 0 | 20 |" in page
    assert "| small RetinaNet | 2 | at random | 7 | 0 | 7 |" in page
    assert page.count("Not equal: ") == 27 and page.count('"differs": ["weights"]') == 27
    assert "| a program that writes answers | 200 | yes | lost 0, doubled 0 |" in page
    assert "| a program that saves weights | 200 | no |" in page
    asked.clear()
    cut_table.main()
    assert asked == []


@pytest.mark.slow
def test_a_run_killed_at_random_is_killed_in_its_work(tmp_path: Path) -> None:
    row = {"kind": "random", "detector": "retinanet", "workers": 0, "number": 3}
    found = cut_table.through(row, tmp_path)
    assert found["equal"] and found["files"] > 0 and found["differs"] == []
    assert "checkpoint" in cut_table.uncut("retinanet")[0]
    assert cut_table.uncut("retinanet")[1] > found["seconds"]


def test_the_committed_table_of_cuts_has_every_row() -> None:
    rows = json.loads(cut_table.FILE.read_text())
    for new, row in zip(cut_table.todo(), rows, strict=True):
        assert new.items() <= row.items()
    assert cut_table.FILE.with_suffix(".md").read_text() == cut_table.page(rows)
    assert all(row["equal"] for row in rows)
