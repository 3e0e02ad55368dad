"""The SQLite file of a run directory: its tables and its transactions.

A commit is on the disk when it returns (`synchronous=FULL`); the journal is truncated rather than
deleted, which is as safe and needs neither shared memory nor a sync of the folder. What was written
about requests, answers and cycles is never changed: triggers refuse it, whoever asks.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from almining.ledger.files import LedgerError

FORMAT = 2
GUARD = threading.RLock()  # of every database of the process: held over a fork, so none is halfway
WAIT_S = 10.0  # for another program that is reading the file
APPENDED = {  # table: its columns; what stands in one is never changed
    "requests": "id TEXT PRIMARY KEY NOT NULL, cycle INTEGER NOT NULL, place INTEGER NOT NULL,"
    " image_id TEXT NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL, UNIQUE (cycle, place)",
    "answers": "number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,"
    " request_id TEXT NOT NULL REFERENCES requests (id), cycle INTEGER NOT NULL,"
    " image_id TEXT NOT NULL, kind TEXT NOT NULL, box TEXT NOT NULL, by TEXT NOT NULL,"
    " seconds REAL NOT NULL, verdict TEXT, target TEXT NOT NULL",
    "cycles": "cycle INTEGER PRIMARY KEY, row TEXT NOT NULL, mined TEXT NOT NULL,"
    " set_aside TEXT NOT NULL",
    "used": "id TEXT PRIMARY KEY NOT NULL REFERENCES answers (id),"
    " cycle INTEGER NOT NULL REFERENCES cycles (cycle), place INTEGER NOT NULL",
    "events": "number INTEGER PRIMARY KEY, at TEXT NOT NULL, what TEXT NOT NULL,"
    " text TEXT NOT NULL",
    "reviewed": "number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,"
    " request_id TEXT NOT NULL REFERENCES requests (id), content TEXT NOT NULL",
}
SAME = {  # INSERT OR REPLACE would take an old row away, and no DELETE trigger would hear of it
    "requests": "id = NEW.id OR (cycle, place) = (NEW.cycle, NEW.place)",
    "answers": "id = NEW.id OR number = NEW.number",
    "cycles": "cycle = NEW.cycle",
    "used": "id = NEW.id",
    "events": "number = NEW.number",
    "reviewed": "id = NEW.id OR number = NEW.number",
}
SINCE = {1: ("reviewed",)}  # the tables that a file of an older format lacks
FILES = "name TEXT PRIMARY KEY NOT NULL, size INTEGER, mtime_ns INTEGER, sha256 TEXT"
REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space and call again",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: free some space, see that it is"
    " still there and well, and call again",
    sqlite3.SQLITE_READONLY: "it may not be written: change that, or choose another run directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: see that it is a file that may be written",
    sqlite3.SQLITE_BUSY: "another program is using it: close that and call again",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put a copy back, try `sqlite3 FILE .recover`, or choose"
    " another run directory",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file: put a copy back, or choose another run directory",
}


def now() -> str:
    """Return the time of the clock, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Database:
    """A connection that any thread of the process may use.

    Args:
        path: the file; made when there is none.

    Raises:
        LedgerError: when it is damaged, of a newer format, or something else.
    """

    def __init__(self, path: Path) -> None:
        """Open it."""
        self.path = path
        with self._explained():
            self.connection = sqlite3.connect(
                path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        with self._explained():
            for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL", "foreign_keys=ON"):
                self.connection.execute(f"PRAGMA {pragma}")
            (sound,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if sound != "ok":
            found = sound.splitlines()[-1]  # below a headline
            raise LedgerError(f"{self.path}: {found}; {REMEDIES[sqlite3.SQLITE_CORRUPT]}")
        if version > FORMAT:
            raise LedgerError(
                f"{self.path} has format {version}, this version knows {FORMAT}; "
                "update almining to go on with this run"
            )
        if version == 0 and tables:
            raise LedgerError(f"{self.path} is no ledger; choose another run directory")
        if version < FORMAT:
            with self.transaction() as connection:
                for statement in _schema(SINCE.get(version)):
                    connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of it or nothing; it is on the disk when this returns."""
        with GUARD, self._explained():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self.connection.in_transaction:
                        self.connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Return what a query finds, as dicts."""
        with GUARD, self._explained():
            cursor = self.connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None) or 0
            remedy = REMEDIES.get(code & 0xFF, "that does not fit what is in it")
            raise LedgerError(f"{self.path}: {error}; {remedy}. Nothing was written") from error
        except UnicodeEncodeError as error:
            raise LedgerError(f"{self.path}: {error}; rename that. Nothing was written") from error

    def close(self) -> None:
        """Close the file."""
        with GUARD:
            self.connection.close()


def _schema(only: Collection[str] | None = None) -> Iterator[str]:
    """Yield the statements that make the tables, or only some of them."""
    strict = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    for table, columns in (APPENDED | {"files": FILES}).items():
        if only is None or table in only:
            yield f"CREATE TABLE {table} ({columns}) {strict}"
    for table, same in SAME.items():
        if only is not None and table not in only:
            continue
        refused = f"BEGIN SELECT RAISE(ABORT, '{table} are only added, never changed'); END"
        for what in ("UPDATE", "DELETE"):
            yield f"CREATE TRIGGER {table}_{what} BEFORE {what} ON {table} {refused}"
        yield (
            f"CREATE TRIGGER {table}_REPLACE BEFORE INSERT ON {table}"
            f" WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) {refused}"
        )
    yield f"PRAGMA user_version={FORMAT}"
