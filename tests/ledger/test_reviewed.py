"""What was done in a review: written once, in order, never changed, in old files, too."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from almining.ledger import Ledger, LedgerError, open_ledger

REQUEST = {"id": "001/a", "image_id": "a", "kind": "complete"}


def event(name: str, **more) -> dict:
    return {"id": name, "request": "001/a", "do": "skip", **more}


@pytest.fixture
def asked(tmp_path: Path):
    with open_ledger(tmp_path / "run") as ledger:
        ledger.begin({})
        ledger.add_requests(1, [REQUEST])
        yield ledger


def test_events_come_back_in_order_with_their_numbers(asked: Ledger) -> None:
    assert asked.add_reviewed([event("2"), event("1", seconds=0.5)]) == ["2", "1"]
    assert asked.add_reviewed([event("1", seconds=0.5), event("3")]) == ["3"]
    found = asked.reviewed()
    assert [one["id"] for one in found] == ["2", "1", "3"]
    assert found[1] == {**event("1", seconds=0.5), "number": 2}
    assert [one["id"] for one in asked.reviewed(2)] == ["3"]
    assert asked.reviewed(3) == asked.reviewed(7) == []
    assert asked.add_reviewed([]) == []


def test_the_open_cycle_is_the_one_after_the_last_that_is_closed(asked: Ledger) -> None:
    assert asked.open_cycle == 1
    for cycle in (0, 1, 2):
        asked.close_cycle(cycle, {}, used=[], mined={}, set_aside=[])
        assert asked.open_cycle == cycle + 1


def test_who_was_answered_is_quick_to_read(asked: Ledger) -> None:
    asked.add_requests(2, [REQUEST | {"id": "002/a"}])
    for name, request in (("x", "002/a"), ("y", "001/a"), ("z", "001/a")):
        asked.add_answer({"request_id": request, "by": "me", "seconds": 1.5}, id=name)
    for cycle in (None, 1, 2, 3):
        known = [
            {key: row[key] for key in ("id", "request_id", "seconds")}
            for row in asked.answers(cycle)
        ]
        assert asked.answered(cycle) == known
    assert [row["id"] for row in asked.answered(1)] == ["y", "z"]


def test_all_of_them_are_written_or_none(asked: Ledger) -> None:
    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        asked.add_reviewed([event("1"), {**event("2"), "request": "unknown"}])
    asked.add_reviewed([event("1")])
    with pytest.raises(LedgerError, match="event 1 was written before with something else: do: "):
        asked.add_reviewed([event("9"), {**event("1"), "do": "finish"}])
    assert [one["id"] for one in asked.reviewed()] == ["1"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reviewed SET content = ''",
        "DELETE FROM reviewed",
        "INSERT OR REPLACE INTO reviewed VALUES (1, 'x', '', '001/a', '')",
        "INSERT OR REPLACE INTO reviewed VALUES (9, '1', '', '001/a', '')",
    ],
)
def test_what_is_written_stays(asked: Ledger, statement: str) -> None:
    asked.add_reviewed([event("1")])
    path = asked.folder / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.Error, match="only added"):
        other.execute(statement)


def test_a_file_of_the_format_before_is_taken_along(asked: Ledger) -> None:
    folder = asked.folder
    asked.close()
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as old:
        old.execute("DROP TABLE reviewed")
        old.execute("PRAGMA user_version = 1")
    with open_ledger(folder) as ledger:
        assert ledger.requests(1) == [REQUEST]
        assert ledger.add_reviewed([event("1")]) == ["1"]
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (2,)
        with pytest.raises(sqlite3.Error, match="only added"):
            new.execute("DELETE FROM reviewed")
    asked._users += 1  # the fixture closes it once more
