"""The table of disturbed reviews: what is counted, what that comes to, what is committed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from data_scripts import review_table as table

START = {"id": "start:q", "request": "q", "do": "start", "seconds": 0.0, "size": [100, 100]}
START |= {"known": [], "proposed": []}
DRAWN = {"id": "1", "request": "q", "do": "add", "seconds": 1.0}
DRAWN |= {"key": "d", "box": [0, 0, 9, 9], "label": 1, "ignore": False}
DONE = {"id": "2", "request": "q", "do": "finish", "seconds": 1.0}
MADE = {"1": DRAWN, "2": DONE}
PAGE = {"request": "q", "boxes": "1", "status": "finished", "undo": "yes"}
WELL = {"made": 20, "unsaved": 9, "lost": 0, "doubled": 0, "other": 0}
TIMES = {"acknowledged": [40.0, 60.0, 300.0], "turned": [5.0], "frames": [34.0, 35.0]}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Do without a browser; returns what every round counts, two of each disturbance."""
    counts = [dict(WELL) for _ in range(2 * len(table.DISTURBED))]
    given = iter(counts)

    @contextmanager
    def at_work() -> Iterator[tuple[Any, Any]]:
        yield Mock(), Mock(contexts=[])

    def call(one: table.Round, browser: Any) -> dict[str, int]:
        """What is done."""
        return next(given)

    monkeypatch.setattr(table, "_at_work", at_work)
    monkeypatch.setattr(table, "measure", lambda *_: TIMES)
    for claim, (_, deaf) in table.DISTURBED.items():
        monkeypatch.setitem(table.DISTURBED, claim, (call, deaf))
    return counts


@pytest.mark.parametrize(
    ("written", "page", "found"),
    [
        ([START, DRAWN, DONE], {}, (0, 0, 0)),
        ([START, DRAWN], {"status": "open"}, (1, 0, 0)),
        ([START, DRAWN | {"label": 2}, DONE], {}, (1, 1, 0)),  # another one under its id
        ([START, DRAWN, DONE, DONE | {"id": "3"}], {}, (0, 1, 0)),  # under an id nobody made
        ([START, DRAWN, DONE, DONE], {}, (0, 1, 0)),
        ([START, DRAWN, DONE, START | {"id": "4"}], {}, (0, 1, 0)),
        ([START, DRAWN, DONE], {"boxes": "2"}, (0, 0, 1)),
        ([START, DRAWN, DONE], {"status": "open"}, (0, 0, 1)),
        ([START, DRAWN, DONE], {"undo": "no"}, (0, 0, 1)),
    ],
)
def test_what_is_counted(written: list[dict], page: dict[str, str], found: tuple) -> None:
    lost, doubled, other = found
    counts = {"made": 2, "lost": lost, "doubled": doubled, "other": other}
    assert table.tally(MADE, written, PAGE | page) == counts


def test_what_is_unsaved_is_what_the_disk_does_not_have() -> None:
    one = table.Round(Mock(), 0, 0)
    review = Mock(**{"log.return_value": [START, DRAWN]})
    review.data.side_effect = lambda _: one.made.update(MADE)  # heard at the last moment
    one.happens(review)
    assert one.unsaved == 1


def test_kernels_are_restarted_and_interrupted_by_turns() -> None:
    lab = Mock(**{"kernel.return_value": "k"})
    for turn in range(3):
        table.Round(lab, 0, turn).free()
    asked = [call.args[1].rpartition("/")[2] for call in lab.call.call_args_list]
    assert asked == ["restart", "interrupt", "restart"]


def test_only_the_process_that_is_named_is_killed(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in "ab"]
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    first, second = (subprocess.Popen([*command, one], stdin=subprocess.PIPE) for one in names)
    with first, second:
        table._kill(names[0])
        assert first.wait() == -9
        assert second.stdin is not None and second.poll() is None
        second.stdin.close()
        assert second.wait() == 0


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({}, "holds"),
        *(({name: 1}, "fails") for name in ("lost", "doubled", "other")),
        ({"unsaved": 0}, "not tried"),
        ({"unsaved": 0, "lost": 1}, "fails"),
    ],
)
def test_what_the_counts_come_to(
    pages: list[dict[str, int]], wrong: dict[str, int], verdict: str
) -> None:
    pages[3] |= wrong  # the second round of the second disturbance
    rows = list(table.disturbed(2))
    assert [row["claim"] for row in rows] == list(table.DISTURBED)
    assert [row["verdict"] for row in rows] == ["holds", verdict, *["holds"] * (len(rows) - 2)]
    assert {row["done"] for row in rows} == {"What is done. 2 rounds."}
    assert rows[0]["result"] == (
        "40 events, 18 unsaved when it happened, 0 lost, 0 doubled; page and disk differ: 0"
    )
    assert f"{wrong.get('lost', 0)} lost, {wrong.get('doubled', 0)} doubled" in rows[1]["result"]


def test_nothing_done_shows_nothing(pages: list[dict[str, int]]) -> None:
    assert {row["verdict"] for row in table.disturbed(0)} == {"not tried"}


@pytest.mark.usefixtures("pages")
def test_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "review.json"
    monkeypatch.setattr(sys, "argv", ["review_table", "--rounds", "2", "--file", str(file)])
    table.main()
    made = json.loads(file.read_text(encoding="utf-8"))
    assert set(made) == {"rows", "command", "machine", "versions"}
    assert all(list(row) == ["claim", "done", "result", "verdict"] for row in made["rows"])
    waits = made["rows"][-3:]
    assert [row["claim"] for row in waits] == list(table.WAITS)
    assert [row["verdict"] for row in waits] == ["holds", "holds", "fails"]  # by the median
    assert waits[0]["result"] == "median 60 ms, at most 300 ms of 3"
    assert capsys.readouterr().out.count("holds: ") == len(made["rows"]) - 1


def test_the_committed_file_is_of_this_script() -> None:
    if not table.FILE.exists():
        pytest.skip(f"{table.FILE.name} is not there yet: {table.COMMAND}")
    made = json.loads(table.FILE.read_text(encoding="utf-8"))
    done = {claim: call.__doc__ for claim, (call, _) in table.DISTURBED.items()}
    done |= {claim: text for claim, (_, _, text) in table.WAITS.items()}
    assert made["command"] == table.COMMAND
    assert [row["claim"] for row in made["rows"]] == list(done)
    for row in made["rows"]:
        assert row["done"].startswith(done[row["claim"]])
        if row["claim"] in table.DISTURBED:
            made, unsaved, *wrong = map(int, re.findall(r"\d+", row["result"]))
            assert made >= unsaved > 0
            assert row["verdict"] == ("fails" if any(wrong) else "holds")
