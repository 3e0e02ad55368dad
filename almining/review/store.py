"""What a review reads from a run directory and writes to it.

The directory is open only while something is read or written, so that a run, or a second notebook,
may use it in between; what others wrote is seen the next time.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from almining.label.desk import opened, request_of
from almining.ledger import Ledger
from almining.records import Request
from almining.review.state import Review, fold

SESSION = "review"  # what the ledger's note is called that names the session
OURS = "review:"  # what the ids of answers begin with that a review hands in
SILENT = ("start", "look")  # events that change no answer


@dataclass(frozen=True, eq=False)
class Batch:
    """The requests of the cycle a run waits in, and what was done to them; it does not change.

    Args:
        session: names this review among all others, in the storage of a browser.
        cycle: of the run.
        classes: the names of classes 1...C.
        requests: by id, in the order they were made, answered ones too.
        events: all of the run's, in the order they were written, each with its "number".
        handed_in: the seconds of the answers that this review handed in, by request id; 0 where
            others answered.
        names: the ids under which answers were handed in.
    """

    session: str
    cycle: int
    classes: tuple[str, ...]
    requests: dict[str, Request]
    events: list[dict[str, Any]] = field(default_factory=list)
    handed_in: dict[str, float] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    @property
    def number(self) -> int:
        """The number of the last event."""
        return int(self.events[-1]["number"]) if self.events else 0

    @cached_property
    def state(self) -> Review:
        """What was done to the requests comes to."""
        return fold(event for event in self.events if event["request"] in self.requests)

    @cached_property
    def sizes(self) -> dict[str, list[int]]:
        """The (height, width) of the images looked at, by request id."""
        return {one["request"]: one["size"] for one in self.events if one["do"] == "start"}

    @cached_property
    def answers(self) -> dict[str, str]:
        """The name of the answer to each request something was done to: its last event gives it."""
        last = {one["request"]: one["id"] for one in self.events if one["do"] not in SILENT}
        return {request: f"{OURS}{event}" for request, event in last.items()}


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
        cycle, session = ledger.open_cycle, _session(ledger)
        batch = before
        if batch is None or not batch.requests or (batch.cycle, batch.session) != (cycle, session):
            classes = ((ledger.manifest or {}).get("run") or {}).get("classes", [])
            requests = {row["id"]: request_of(row) for row in ledger.requests(cycle)}
            batch = Batch(session, cycle, tuple(classes), requests)
        return _with(batch, ledger.reviewed(batch.number), ledger.answered(cycle))


def read_late(run_dir: str | Path, batch: Batch) -> Batch:
    """Return the requests of cycles that are over that something was done to, as a batch.

    Args:
        run_dir: the run directory.
        batch: what it waits for.
    """
    late = {event["request"] for event in batch.events} - set(batch.requests)
    with opened(run_dir) as ledger:
        rows = ledger.requests(evidence=False) if late else []
        requests = {row["id"]: request_of(row) for row in rows if row["id"] in late}
        return _with(replace(batch, requests=requests), [], ledger.answered() if late else [])


def write(
    run_dir: str | Path, events: Sequence[Mapping[str, Any]], before: Batch | None = None
) -> Batch:
    """Write events down; they are on the disk when this returns.

    Args:
        run_dir: the run directory.
        events: which `check_event` let pass; all of them or none are written.
        before: what was read last, while the run directory was held open.

    Returns:
        What was done so far, with them.

    Raises:
        LedgerError: when the disk does not take them, or an id belongs to another event.
    """
    with opened(run_dir) as ledger:
        batch = before or read(run_dir)
        ledger.add_reviewed(events)
        return replace(batch, events=[*batch.events, *ledger.reviewed(batch.number)])


def _with(batch: Batch, events: list[dict[str, Any]], answers: list[dict[str, Any]]) -> Batch:
    """Return a batch with more events, and with these answers in place of the old ones."""
    handed_in: dict[str, float] = {}
    for row in answers:
        ours = row["seconds"] if row["id"].startswith(OURS) else 0.0
        handed_in[row["request_id"]] = handed_in.get(row["request_id"], 0.0) + ours
    names = frozenset(row["id"] for row in answers)
    return replace(batch, events=[*batch.events, *events], handed_in=handed_in, names=names)


def _session(ledger: Ledger) -> str:
    """Return the name of this run's review; made once, so that a new run has another."""
    while True:
        for event in ledger.events():
            if event["what"] == SESSION:
                return str(event["text"])
        ledger.note(SESSION, str(uuid.uuid4()))
