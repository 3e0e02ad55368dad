"""Where people hand in answers: what a run waits for, and their answers to it.

A run directory outlives the program that asks. `waiting` says what is asked of a person, `hand_in`
writes answers down; both may be called by the program that runs the cycles, while it runs them, and
by another one after it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from almining.label.merging import check_answer
from almining.ledger import Ledger, open_ledger
from almining.plain import MARK, from_plain, to_plain
from almining.records import Answer, Request


def waiting(run_dir: str | Path) -> list[Request]:
    """Return the requests of a run that no one has answered yet, in the order they were made.

    Args:
        run_dir: the run directory given to `cycle.run`.

    Raises:
        FileNotFoundError: when there is no run in that folder.
        LockedError: while another process has the run directory open.
    """
    with opened(run_dir) as ledger:
        return [request_of(row) for row in _waiting(ledger)]


def hand_in(
    run_dir: str | Path,
    answers: Answer | Iterable[Answer],
    *,
    ids: Sequence[str] | None = None,
) -> int:
    """Write answers down; they are on disk when this returns, and the run takes them up.

    All of them are looked at first: where one does not fit, none is written. Of several answers to
    a request the last one counts. One that comes after its cycle has ended counts in the next.

    Args:
        run_dir: the run directory given to `cycle.run`.
        answers: one or any number of them, to requests of the run.
        ids: a name for each answer, unique and always the same, so that handing it in once more
            changes nothing. Default: each is taken for a new one.

    Returns:
        How many were new.

    Raises:
        ValueError: when an answer is to no request of the run, does not fit its kind, or has a
            class the run does not.
        FileNotFoundError: when there is no run in that folder.
        LockedError: while another process has the run directory open.
        LedgerError: when the disk does not take an answer; those before it are written.
    """
    given = [answers] if isinstance(answers, Answer) else list(answers)
    if ids is not None and len(ids) != len(given):
        raise ValueError(f"{len(given)} answers with {len(ids)} ids; give one id for each answer")
    with opened(run_dir) as ledger:
        asked = {row["id"]: request_of(row) for row in ledger.requests(evidence=False)}
        classes = ((ledger.manifest or {}).get("run") or {}).get("classes", [])
        for answer in given:
            request = asked.get(answer.request_id)
            if request is None:
                some = ", ".join(repr(row["id"]) for row in _waiting(ledger)[:5])
                raise ValueError(
                    f"answer to {answer.request_id!r}, which this run never asked; it waits for "
                    f"{some or 'nothing'}"
                )
            check_answer(request, answer)
            check_classes(answer, classes)
        names = [None] * len(given) if ids is None else ids
        return sum(
            ledger.add_answer(row_of(answer), id=name)
            for answer, name in zip(given, names, strict=True)
        )


def opened(run_dir: str | Path) -> Ledger:
    """Open the run directory of a run; `with` closes it.

    Raises:
        FileNotFoundError: when there is no run in that folder.
        LockedError: while another process has it open.
    """
    if not (Path(run_dir) / "manifest.json").is_file():
        raise FileNotFoundError(
            f"{run_dir} holds no run; name the folder given to cycle.run as run_dir"
        )
    return open_ledger(run_dir)


def _waiting(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the requests of the cycle that is not closed yet to which there is no answer."""
    answered = {row["request_id"] for row in ledger.answered(ledger.open_cycle)}
    return [row for row in ledger.requests(ledger.open_cycle) if row["id"] not in answered]


def check_classes(answer: Answer, classes: Sequence[str]) -> None:
    """Raise a `ValueError` when an answer names a class that there is not.

    Args:
        answer: what a person said.
        classes: the names of classes 1...C.
    """
    target = answer.target
    given = set() if target is None else {*target.labels.tolist(), *(target.tags or ())}
    if classes and given and max(given) > len(classes):
        raise ValueError(
            f"answer to {answer.request_id!r}: class {max(given)}, but the run has {len(classes)} "
            f"({', '.join(classes)}); correct the class"
        )


def row_of(record: Request | Answer) -> dict[str, Any]:
    """Return a request or an answer as the ledger keeps it."""
    return {key: value for key, value in to_plain(record).items() if key != MARK}


def request_of(row: Mapping[str, Any]) -> Request:
    """Return the request of a row of the ledger; what else stands in the row is left out."""
    return _record(row, "request", Request)


def answer_of(row: Mapping[str, Any]) -> Answer:
    """Return the answer of a row of the ledger; what else stands in the row is left out."""
    return _record(row, "answer", Answer)


def _record(row: Mapping[str, Any], mark: str, kind: type) -> Any:
    names = [one.name for one in fields(kind)]
    parts = {name: row[name] for name in names if name in row}
    return from_plain({MARK: mark, **parts})
