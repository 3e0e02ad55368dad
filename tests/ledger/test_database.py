from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from almining.ledger import Ledger, LedgerError, database, open_ledger

TABLES = {
    "requests": ("place = 9", "('001/a', 9, 9, 'c', 'tag', '{}')"),
    "answers": ("seconds = 9", "(1, 'new', '', '001/a', 1, 'a', 'tag', '', 'x', 1, '', '')"),
    "cycles": ("row = '9'", "(1, '9', '{}', '[]')"),
    "used": ("place = 9", "('x', 1, 9)"),
    "events": ("text = '9'", "(1, '', '', '9')"),
}


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    ledger.add_answer({"request_id": "001/a", "by": "Ada", "seconds": 1.0}, id="x")
    ledger.close_cycle(1, {}, used=["x"], mined={}, set_aside=[])
    ledger.note("a", "b")
    return ledger


def content(folder: Path) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as other:
        return {name: other.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}


@pytest.mark.parametrize("table", TABLES)
def test_nothing_written_is_ever_changed(full: Ledger, table: str) -> None:
    before = content(full.folder)
    change, values = TABLES[table]
    statements = [
        f"UPDATE {table} SET {change}",
        f"UPDATE OR REPLACE {table} SET {change}",
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} VALUES {values}",
        f"INSERT INTO {table} VALUES {values} ON CONFLICT DO UPDATE SET {change}",
    ]
    with closing(sqlite3.connect(full.folder / "ledger.sqlite")) as other:
        for statement in statements:
            with pytest.raises(sqlite3.IntegrityError, match=f"{table} are only added"):
                other.execute(statement)
    assert content(full.folder) == before
    assert all(before.values())


def test_a_request_is_not_replaced_by_one_in_its_place(full: Ledger) -> None:
    with (
        closing(sqlite3.connect(full.folder / "ledger.sqlite")) as other,
        pytest.raises(sqlite3.IntegrityError, match="requests are only added"),
    ):
        other.execute("INSERT OR REPLACE INTO requests VALUES ('new', 1, 0, 'c', 'tag', '{}')")


def test_a_commit_is_on_the_disk_without_shared_memory(ledger: Ledger) -> None:
    def pragma(name: str) -> object:
        return ledger._database.connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert [pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == [
        "truncate",
        2,
        1,
    ]
    assert {path.name for path in ledger.folder.iterdir()} == {
        "ledger.sqlite",
        "ledger.sqlite-journal",
        "lock",
        "manifest.json",
        "weights",
    }


def test_a_newer_format_is_refused(ledger: Ledger) -> None:
    ledger.close()
    with closing(sqlite3.connect(ledger.folder / "ledger.sqlite")) as other:
        other.execute("PRAGMA user_version = 3")
    with pytest.raises(LedgerError, match=r"sqlite has format 3, this version knows 2; update al"):
        open_ledger(ledger.folder)


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("a,b,c\n" * 1000)
    held = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(LedgerError, match=r"ledger.sqlite: file is not a database; .*put a copy"):
        open_ledger(tmp_path)
    assert path.read_text() == "a,b,c\n" * 1000
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE songs (name)")
    with pytest.raises(LedgerError, match=r"ledger.sqlite is no ledger; choose another run"):
        open_ledger(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(LedgerError, match=r"unable to open database file; it cannot be opened"):
        open_ledger(tmp_path)
    path.rmdir()
    assert len(list(Path("/proc/self/fd").iterdir())) == held  # no lock, no file left open
    open_ledger(tmp_path).close()


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_file_is_refused_when_it_is_opened(ledger: Ledger, damage: str) -> None:
    for number in range(20):
        ledger.add_answer({"request_id": "001/a", "by": "Ada" * 999, "seconds": number})
    ledger.close()
    path = ledger.folder / "ledger.sqlite"
    whole = path.read_bytes()
    if damage == "flipped":  # the first bytes of later pages, which opening does not need
        torn = bytearray(whole)
        for start in range(len(whole) // 8192 * 4096, len(whole), 4096):
            torn[start : start + 8] = b"\xff" * 8
        path.write_bytes(torn)
    else:
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LedgerError, match=r"ledger.sqlite: .*; it is damaged: put a copy back"):
        open_ledger(ledger.folder)
    path.write_bytes(whole)
    with open_ledger(ledger.folder) as again:
        assert len(again.answers()) == 20


def test_another_program_that_holds_the_file_is_named(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()
    monkeypatch.setattr(database, "WAIT_S", 0.01)
    answer = {"request_id": "001/a", "by": "Ada", "seconds": 1.0}
    with open_ledger(ledger.folder) as again:
        with closing(sqlite3.connect(ledger.folder / "ledger.sqlite")) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LedgerError, match="another program is using it: close that and"):
                again.add_answer(answer, id="x")
        assert again.add_answer(answer, id="x")


def test_an_interrupted_transaction_leaves_nothing(ledger: Ledger) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        ledger._database.transaction() as connection,
    ):
        connection.execute("INSERT INTO events VALUES (NULL, '', 'a', 'b')")
        raise KeyboardInterrupt
    assert ledger.events() == []
    ledger.note("still", "works")
    assert len(ledger.events()) == 1
