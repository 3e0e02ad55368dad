"""What the tables of a run directory are asked and told; each function is one transaction.

Rows go in and come out as plain dicts of JSON values. To write again what is written changes
nothing, to write something else in its place is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from almining.digests import digest_file
from almining.ledger.database import Database, now
from almining.ledger.files import LedgerError
from almining.ledger.manifest import differences
from almining.progress import bar

ANSWER = ("request_id", "by", "seconds", "verdict", "target")
ANSWERS = (
    "SELECT answers.id, at, request_id, answers.cycle, image_id, kind, box, by, seconds, verdict,"
    " target, used.cycle AS used FROM answers LEFT JOIN used USING (id)"
)
BATCH = 500  # files hashed between two commits
SHOWN = 5  # differences


def add_requests(database: Database, cycle: int, requests: Iterable[Mapping[str, Any]]) -> None:
    """Write what a cycle asks."""
    new = [*requests]
    with database.transaction() as connection:
        if old := read_requests(database, cycle, evidence=True):
            return _check_same(database, f"the requests of cycle {cycle}", old, new)
        connection.executemany(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?)",
            [
                (one["id"], cycle, place, one["image_id"], one["kind"], json.dumps(one))
                for place, one in enumerate(new)
            ],
        )


def read_requests(database: Database, cycle: int | None, evidence: bool) -> list[dict[str, Any]]:
    """Return the requests of a cycle, or all, with their evidence or without."""
    which, values = ("", ()) if cycle is None else ("WHERE cycle = ?", (cycle,))
    content = "content" if evidence else "json_remove(content, '$.evidence')"
    query = f"SELECT {content} AS content FROM requests {which} ORDER BY cycle, place"
    return [json.loads(row["content"]) for row in database.rows(query, *values)]


def add_answer(database: Database, answer: Mapping[str, Any], name: str) -> bool:
    """Write an answer under a name; False when it has been written before."""
    unknown = sorted(set(answer) - set(ANSWER))
    if unknown:
        raise LedgerError(f"an answer has no {', '.join(unknown)}; it has {', '.join(ANSWER)}")
    new = {key: answer.get(key) for key in ANSWER}
    if isinstance(new["seconds"], int):
        new["seconds"] = float(new["seconds"])  # as the table gives it back
    with database.transaction() as connection:
        for old in _answers(f"{ANSWERS} WHERE answers.id = ?", database, name):
            _check_same(database, f"answer {name}", {key: old[key] for key in ANSWER}, new)
            return False
        asked = database.rows("SELECT * FROM requests WHERE id = ?", new["request_id"])
        if not asked:
            raise LedgerError(
                f"answer {name} is to {new['request_id']!r}, which was never asked in "
                f"{database.path}; add the request first"
            )
        box = json.loads(asked[0]["content"]).get("box")
        connection.execute(
            "INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(name, now(), new["request_id"]),
                *(asked[0][key] for key in ("cycle", "image_id", "kind")),
                *(json.dumps(box), new["by"], new["seconds"]),
                *(new["verdict"], json.dumps(new["target"])),
            ),
        )
    return True


def read_answers(database: Database, cycle: int | None) -> list[dict[str, Any]]:
    """Return the answers to the requests of a cycle, or all."""
    which, values = ("", ()) if cycle is None else ("WHERE answers.cycle = ?", (cycle,))
    return _answers(f"{ANSWERS} {which} ORDER BY number", database, *values)


def read_answered(database: Database, cycle: int | None) -> list[dict[str, Any]]:
    """Return which requests were answered, under which ids and in how many seconds."""
    which, values = ("", ()) if cycle is None else ("WHERE cycle = ?", (cycle,))
    query = f"SELECT id, request_id, seconds FROM answers {which} ORDER BY number"
    return database.rows(query, *values)


def _answers(query: str, database: Database, *values: Any) -> list[dict[str, Any]]:
    rows = database.rows(query, *values)
    return [row | {key: json.loads(row[key]) for key in ("box", "target")} for row in rows]


def add_reviewed(database: Database, events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write what was done in a review; return the ids that are new."""
    new: list[str] = []
    with database.transaction() as connection:
        for event in events:
            known = database.rows("SELECT content FROM reviewed WHERE id = ?", event["id"])
            for old in known:
                _check_same(database, f"event {event['id']}", json.loads(old["content"]), event)
            if not known:
                row = (event["id"], now(), event["request"], json.dumps(event))
                connection.execute("INSERT INTO reviewed VALUES (NULL, ?, ?, ?, ?)", row)
                new.append(event["id"])
    return new


def read_reviewed(database: Database, after: int) -> list[dict[str, Any]]:
    """Return what was done in reviews since the event of a number."""
    query = "SELECT number, content FROM reviewed WHERE number > ? ORDER BY number"
    found = database.rows(query, after)
    return [json.loads(row["content"]) | {"number": row["number"]} for row in found]


def close_cycle(database: Database, **new: Any) -> None:
    """Write what came of a cycle: cycle, row, used, mined, set_aside."""
    cycle = new["cycle"]
    with database.transaction() as connection:
        for old in read_cycles(database, cycle):
            return _check_same(database, f"cycle {cycle}", old, new)
        texts = (json.dumps(new[key]) for key in ("row", "mined", "set_aside"))
        connection.execute("INSERT INTO cycles VALUES (?, ?, ?, ?)", (cycle, *texts))
        connection.executemany(
            "INSERT INTO used VALUES (?, ?, ?)",
            [(answer, cycle, place) for place, answer in enumerate(new["used"])],
        )


def read_cycles(database: Database, cycle: int | None = None) -> list[dict[str, Any]]:
    """Return a closed cycle, if it is one, or all."""
    which, values = ("", ()) if cycle is None else ("WHERE cycle = ?", (cycle,))
    rows = database.rows(f"SELECT * FROM cycles {which} ORDER BY cycle", *values)
    for row in rows:
        row |= {key: json.loads(row[key]) for key in ("row", "mined", "set_aside")}
        query = "SELECT id FROM used WHERE cycle = ? ORDER BY place"
        row["used"] = [one["id"] for one in database.rows(query, row["cycle"])]
    return rows


def open_cycle(database: Database) -> int:
    """Return the cycle after the last one that is closed."""
    (row,) = database.rows("SELECT coalesce(max(cycle), 0) + 1 AS cycle FROM cycles")
    return int(row["cycle"])


def _check_same(database: Database, what: str, old: Any, new: Any) -> None:
    text = json.dumps(new, sort_keys=True)
    if json.dumps(old, sort_keys=True) != text:
        found = list(differences(old, json.loads(text)))
        shown = "; ".join(str(one)[:200] for one in found[:SHOWN])
        raise LedgerError(
            f"{database.path}: {what} was written before with something else: {shown}"
            f"{f' and {len(found) - SHOWN} more' if len(found) > SHOWN else ''}; it stays as it was"
        )


def hash_files(
    database: Database, pairs: Iterable[tuple[str, Path]], progress: bool | str
) -> dict[str, str]:
    """Return the SHA-256 of files by name, remembered for those that did not change."""
    rows = database.rows("SELECT * FROM files")
    known = {row["name"]: (row["size"], row["mtime_ns"], row["sha256"]) for row in rows}
    found: dict[str, str] = {}
    fresh: list[tuple[str, int, int, str]] = []

    def remember() -> None:
        with database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", fresh)
        fresh.clear()

    for name, path in bar(pairs, progress=progress, name="hash files", unit="file"):
        try:
            state = path.stat()
            *before, digest = known.get(name, (None, None, ""))
            if before != [state.st_size, state.st_mtime_ns]:
                digest = digest_file(path)
                fresh.append((name, state.st_size, state.st_mtime_ns, digest))
        except OSError as error:
            raise LedgerError(f"{name}: {error}; put the file back") from error
        found[name] = digest
        if len(fresh) == BATCH:
            remember()
    if fresh:
        remember()
    return found
