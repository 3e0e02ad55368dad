"""What a review reads from a run directory and writes to it.

The directory is open only while something is read or written, so that a run, or a second notebook,
may use it in between; what others wrote is seen the next time.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from almining.label.desk import opened, request_of
from almining.ledger import Ledger
from almining.records import Request

SESSION = "review"  # what the ledger's note is called that names the session


@dataclass(slots=True)
class Batch:
    """The requests of the cycle a run waits in, and what was done to them.

    Args:
        session: names this review among all others, in the storage of a browser.
        cycle: of the run.
        classes: the names of classes 1...C.
        requests: by id, in the order they were made, answered ones too.
        events: all of the run's, in the order they were written, each with its "number".
        handed_in: the seconds of the answers handed in, by request id.
        names: the ids under which they were handed in.
    """

    session: str
    cycle: int
    classes: tuple[str, ...]
    requests: dict[str, Request]
    events: list[dict[str, Any]] = field(default_factory=list)
    handed_in: dict[str, float] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def read(run_dir: str | Path, before: Batch | None = None) -> Batch:
    """Return what a run waits for and what was done so far.

    Args:
        run_dir: the run directory.
        before: what was read the last time; only what came since is read, where that is enough.

    Raises:
        FileNotFoundError: when there is no run in that folder.
        LockedError: while another process has the run directory open.
    """
    with opened(run_dir) as ledger:
        return _read(ledger, before)


def write(
    run_dir: str | Path, events: Sequence[Mapping[str, Any]], before: Batch | None = None
) -> Batch:
    """Write events down; they are on the disk when this returns.

    Args:
        run_dir: the run directory.
        events: which `check_event` let pass; all of them or none are written.
        before: see `read`.

    Returns:
        What was done so far, with them.

    Raises:
        LedgerError: when the disk does not take them, or an id belongs to another event.
    """
    with opened(run_dir) as ledger:
        ledger.add_reviewed(events)
        return _read(ledger, before)


def _read(ledger: Ledger, before: Batch | None) -> Batch:
    cycle = max((row["cycle"] for row in ledger.cycles()), default=0) + 1
    if before is None or (before.cycle, bool(before.requests)) != (cycle, True):
        classes = ((ledger.manifest or {}).get("run") or {}).get("classes", [])
        requests = {row["id"]: request_of(row) for row in ledger.requests(cycle)}
        batch = Batch(_session(ledger), cycle, tuple(classes), requests)
    else:
        batch = before
    seen = batch.events[-1]["number"] if batch.events else 0
    batch.events += ledger.reviewed(seen)
    batch.handed_in, batch.names = {}, set()
    for row in ledger.answers(cycle):
        batch.handed_in[row["request_id"]] = (
            batch.handed_in.get(row["request_id"], 0.0) + row["seconds"]
        )
        batch.names.add(row["id"])
    return batch


def _session(ledger: Ledger) -> str:
    """Return the name of this run's review; made once, so that a new run has another."""
    for event in ledger.events():
        if event["what"] == SESSION:
            return str(event["text"])
    name = str(uuid.uuid4())
    ledger.note(SESSION, name)
    return name
