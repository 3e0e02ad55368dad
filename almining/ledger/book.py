"""The ledger of a run: what was asked, what was answered, what came of it, and its weights.

When a method that writes has returned, what it wrote is on the disk, and neither a kill nor a power
cut takes it away. What is written once is never changed; to write it again, as a run does that
continues, changes nothing. Rows are plain dicts of JSON values.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from almining.ledger import rows
from almining.ledger.database import GUARD, Database, now
from almining.ledger.files import PART, LedgerError, make_folder, write_atomically
from almining.ledger.lock import Lock
from almining.ledger.manifest import check_agrees, read_manifest, write_manifest
from almining.ledger.weights import Weights, fault, kept, latest, new_name

_opened: dict[Path, Ledger] = {}
_inherited: list[Any] = []  # what a forked child must neither use nor close


def open_ledger(folder: str | Path) -> Ledger:
    """Open the run directory `folder`, which is made where there is none.

    There is one handle per process and folder: whoever opens it again gets the same one, and it is
    closed when each has called `close`.

    Raises:
        LockedError: when another process has it open.
        LedgerError: when it cannot be written, is damaged, or is of a newer format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_ledger(folder) as ledger:
    ...     ledger.add_requests(1, [{"id": "001/a", "image_id": "a", "kind": "complete"}])
    ...     ledger.add_answer({"request_id": "001/a", "by": "me", "seconds": 7.0})
    ...     len(ledger.answers(1))
    True
    1
    """
    path = Path(folder).resolve()
    with GUARD:
        ledger = _opened.get(path) or Ledger(path)
        ledger._users += 1
        _opened[path] = ledger
        return ledger


class Ledger:
    """A run directory, open; `open_ledger` gives one, and `with` closes it.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        """Open it."""
        self.folder = folder
        self._users = 0
        self._shut = ""
        self._damaged: set[str] = set()  # weights that were warned of
        try:
            make_folder(folder / "weights")
            self._lock = Lock(folder / "lock")
            try:
                for part in (*folder.glob(f"*{PART}"), *folder.glob(f"weights/*{PART}")):
                    part.unlink()
                path = folder / "ledger.sqlite"
                if read_manifest(folder / "manifest.json") and not (
                    path.is_file() and path.stat().st_size
                ):
                    raise LedgerError(
                        f"{folder} holds a run, but its {path.name} is gone; put it back, or start "
                        "in a new run directory"
                    )
                self._database = Database(path)
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise LedgerError(
                f"{folder} cannot be written: {error}; choose a run directory that can be"
            ) from error

    def __repr__(self) -> str:
        """Say where it is."""
        return f"Ledger({str(self.folder)!r}{', closed' if self._shut else ''})"

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it for one of those who opened it; the last one lets go of the lock."""
        with GUARD:
            self._users -= 1
            if self._users > 0 or self._shut:
                return
            self._shut = "it was closed; open it again"
            _opened.pop(self.folder, None)
            self._database.close()
            self._lock.close()

    def _leave(self) -> None:
        """Let go of it in a forked child."""
        self._shut = (
            "this is a forked child of the process that opened it, such as a loader worker; "
            "use the ledger in the parent only"
        )
        _inherited.append(self._database)
        self._lock.close()

    def _open(self) -> Database:
        if self._shut:
            raise LedgerError(f"{self.folder} cannot be used: {self._shut}")
        return self._database

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The run as it was begun, and the weights saved; None before `begin`."""
        self._open()
        return read_manifest(self.folder / "manifest.json")

    def _begun(self) -> dict[str, Any]:
        found = self.manifest
        if found is None:
            raise LedgerError(f"{self.folder} has no run yet; call begin first")
        return found

    def begin(self, run: Mapping[str, Any]) -> None:
        """Write what a new run begins with.

        Args:
            run: JSON values; `agree` compares them, and may be told to accept a top-level key.
        """
        with GUARD:
            if self.manifest is not None:
                raise LedgerError(f"{self.folder} has a run already; call agree to go on with it")
            if self._open().rows("SELECT 1 FROM requests UNION SELECT 1 FROM cycles"):
                raise LedgerError(
                    f"{self.folder} holds a run, but its manifest.json is gone; put it back, or "
                    "start in a new run directory"
                )
            write_manifest(self.folder / "manifest.json", run, {})

    def agree(
        self,
        run: Mapping[str, Any],
        *,
        accept: Collection[str] = (),
        optional: Collection[str] = (),
    ) -> None:
        """Check that the run was begun with the same; what is accepted takes its place.

        Args:
            run: as `begin` takes it.
            accept: the top-level keys that may differ, now and from now on.
            optional: those for which that is safe; a mapping says what comes of it.

        Raises:
            RunMismatchError: when it differs; the message tells every difference.
        """
        with GUARD:
            found, new = self._begun(), json.loads(json.dumps(run))
            accepted = check_agrees(self.folder, found["run"], new, accept, optional)
            for one in accepted:
                self.note("accepted", str(one))
            if accepted:
                write_manifest(self.folder / "manifest.json", new, found["weights"])

    def add_requests(self, cycle: int, requests: Iterable[Mapping[str, Any]]) -> None:
        """Write what a cycle asks, all of it or nothing.

        Args:
            cycle: of the run.
            requests: JSON values, with at least "id", "image_id" and "kind".

        Raises:
            LedgerError: when the cycle has asked for something else already.
        """
        rows.add_requests(self._open(), cycle, requests)

    def requests(self, cycle: int | None = None, *, evidence: bool = True) -> list[dict[str, Any]]:
        """Return the requests of a cycle, or of all, in order.

        Args:
            cycle: of the run.
            evidence: whether with their "evidence", which may be large.
        """
        return rows.read_requests(self._open(), cycle, evidence)

    def add_answer(self, answer: Mapping[str, Any], *, id: str | None = None) -> bool:
        """Write an answer; when this returns it is on the disk.

        Args:
            answer: "request_id", "by", "seconds", and "verdict" or "target" where there is one.
            id: tells it from any other; whoever is not sure whether it was written may add it again
                under the same id.

        Returns:
            Whether it is new; False when it has been here under this id.

        Raises:
            LedgerError: when the request is unknown, or the id belongs to another answer.
        """
        return rows.add_answer(self._open(), answer, str(uuid.uuid4()) if id is None else id)

    def answers(self, cycle: int | None = None) -> list[dict[str, Any]]:
        """Return the answers to the requests of a cycle, or to all, in the order they came.

        Each tells its "id", when it came ("at"), the "cycle", "image_id", "kind" and "box" of its
        request, and the cycle it was "used" in, None for none yet.
        """
        return rows.read_answers(self._open(), cycle)

    def answered(self, cycle: int | None = None) -> list[dict[str, Any]]:
        """Return "id", "request_id" and "seconds" of the same answers, which is quick to read."""
        return rows.read_answered(self._open(), cycle)

    def add_reviewed(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Write what was done in a review, all of it or nothing; then it is on the disk.

        Args:
            events: JSON values, with at least "id" and "request", a request's id. One whose id was
                written before changes nothing.

        Returns:
            The ids that are new.

        Raises:
            LedgerError: when a request is unknown, or an id belongs to another event.
        """
        return rows.add_reviewed(self._open(), events)

    def reviewed(self, after: int = 0) -> list[dict[str, Any]]:
        """Return what was done in reviews, in order, each with its "number".

        Args:
            after: only what came after the event of this number.
        """
        return rows.read_reviewed(self._open(), after)

    def close_cycle(
        self,
        cycle: int,
        row: Mapping[str, Any],
        *,
        used: Iterable[str],
        mined: Mapping[str, Any],
        set_aside: Iterable[Mapping[str, Any]],
    ) -> None:
        """Write what came of a cycle, all of it or nothing; closed again, it must be the same.

        Args:
            cycle: of the run.
            row: what was counted and measured.
            used: ids of the answers that were learned from, in order.
            mined: image id to target.
            set_aside: the broken images met.

        Raises:
            LedgerError: when it was closed before with something else.
        """
        new = {
            "cycle": cycle,
            "row": row,
            "used": [*used],
            "mined": mined,
            "set_aside": [*set_aside],
        }
        rows.close_cycle(self._open(), **new)

    def cycles(self) -> list[dict[str, Any]]:
        """Return the closed cycles in order: "cycle", "row", "used", "mined", "set_aside"."""
        return rows.read_cycles(self._open())

    @property
    def open_cycle(self) -> int:
        """The cycle after the last one that is closed; 1 when none is."""
        return rows.open_cycle(self._open())

    def note(self, what: str, text: str) -> None:
        """Write down something that happened, such as a fault the run survived."""
        with self._open().transaction() as connection:
            connection.execute("INSERT INTO events VALUES (NULL, ?, ?, ?)", (now(), what, text))

    def events(self) -> list[dict[str, Any]]:
        """Return what was noted, in order: "at", "what", "text"."""
        return self._open().rows("SELECT at, what, text FROM events ORDER BY number")

    def files(
        self, pairs: Iterable[tuple[str, Path]], *, progress: bool | str = True
    ) -> dict[str, str]:
        """Return the SHA-256 of files by name.

        Only those are read whose size or time of change is not what it was the last time.

        Args:
            pairs: name and path.
            progress: whether to show a progress bar.
        """
        return rows.hash_files(self._open(), pairs, progress)

    def save_weights(
        self,
        write: Callable[[Path], object],
        *,
        cycle: int,
        step: int,
        done: bool,
        tag: str,
        room: int = 0,
    ) -> Path:
        """Save weights; when this returns they are on the disk and in the manifest.

        The last two finished and the last two unfinished ones are kept; all of a cycle go when a
        finished one of it is saved, and those that `weights` found damaged.

        Args:
            write: writes them to the path it is given.
            cycle: of the run.
            step: how many steps of the cycle's training they have seen.
            done: whether that was all of them.
            tag: what to call them.
            room: how many bytes they need, where that is known; the largest so far otherwise.

        Raises:
            LedgerError: when they cannot be written; those saved before are kept.
        """
        listed = self._begun()["weights"]
        path = self.folder / "weights" / new_name(listed, cycle, step)
        room = max([room, *(entry["bytes"] for entry in listed.values())])
        digest = write_atomically(path, write, room=room)
        entry = {"cycle": cycle, "step": step, "done": done, "tag": tag}
        with GUARD:
            found = self._begun()
            sound = {k: v for k, v in found["weights"].items() if k not in self._damaged}
            entry |= {"bytes": path.stat().st_size, "sha256": digest}
            stay = kept(sound | {path.name: entry})
            write_manifest(self.folder / "manifest.json", found["run"], stay)
        self._damaged.clear()
        for other in path.parent.glob("cycle-*.safetensors"):
            if other.name not in stay:
                other.unlink(missing_ok=True)
        return path

    def weights(self, cycle: int, *, done: bool | None = None) -> Iterator[Weights]:
        """Yield the weights saved in a cycle that are still what was saved, most steps first.

        One that is damaged is left out, with a warning the first time.

        Args:
            cycle: of the run.
            done: only finished ones, or only unfinished ones.
        """
        listed = (self.manifest or {"weights": {}})["weights"]
        for name in latest(listed, cycle, done):
            entry, path = listed[name], self.folder / "weights" / name
            if name in self._damaged:
                continue
            if wrong := fault(path, entry):
                self._damaged.add(name)
                text = f"{path} is not used: {wrong}; put a copy back, or the run does without it"
                self.note("weights", text)
                warnings.warn(text, stacklevel=2)
                continue
            yield Weights(path, cycle, entry["step"], entry["done"], entry["tag"])


def _after_fork_in_child() -> None:
    for ledger in _opened.values():
        ledger._leave()
    _opened.clear()
    GUARD.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GUARD.acquire,
        after_in_parent=GUARD.release,
        after_in_child=_after_fork_in_child,
    )
