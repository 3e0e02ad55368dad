"""What a run remembers, so that it goes on where it stopped.

A run is replayed rather than restored: requests, answers and weights are read from the run
directory where they are there, and made and kept where they are not. Without a directory nothing is
kept. In several ranks the first one owns the directory, and the others hear from it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from almining import ranks
from almining.checkpoints import State, read, write
from almining.data.pool import Finding, Pool
from almining.digests import digest_texts
from almining.fingerprints import OPTIONAL, digest_images
from almining.history import Row
from almining.label.desk import answer_of, request_of, row_of
from almining.ledger import Ledger, RunMismatchError, open_ledger
from almining.ledger.files import write_atomically
from almining.plain import from_plain, to_plain
from almining.records import Answer, Request, Target

Result = TypeVar("Result")
IMAGES = "images.json"  # in the run directory: a digest of each image and of what was known of it
SHOWN = 5


def first(call: Callable[[], Result]) -> Result:
    """Return, in every rank, what `call` returns in the first; its error is raised in all of them.

    Args:
        call: called in the first rank only; what it returns must be what `plain` knows.
    """
    me = ranks.current()
    if me.world == 1:
        return call()
    found = ranks.together(lambda: to_plain(call()) if me.rank == 0 else None)
    result: Result = from_plain(ranks.share(found))
    return result


@dataclass(frozen=True, slots=True)
class Closed:
    """A cycle that is through.

    Args:
        row: what was measured.
        pairs: the answers it learned from, each with the request it answers.
        mined: targets that were mined in it, by image id.
        set_aside: the broken images met so far, those of the test pool apart.
        untested: the broken images of the test pool met so far.
    """

    row: Row
    pairs: Sequence[tuple[Request, Answer]]
    mined: Mapping[str, Target]
    set_aside: Sequence[Finding]
    untested: Sequence[Finding]


class Journal:
    """The memory of one run.

    Args:
        ledger: the run directory's; None in all ranks but the first, and where nothing is kept.
        kept: whether there is a run directory.
        every_s: seconds between two savings of the weights in training.
        evidence: whether the requests of answers come with why they were made.
    """

    def __init__(
        self, ledger: Ledger | None, *, kept: bool, every_s: float, evidence: bool = False
    ) -> None:
        """Keep the ledger."""
        self._ledger, self.kept, self.every_s = ledger, kept, every_s
        self._evidence = evidence

    def _read(self, call: Callable[[Ledger], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        ledger = self._ledger
        return first(lambda: call(ledger) if ledger is not None else []) if self.kept else []

    def _write(self, call: Callable[[Ledger], None]) -> None:
        ledger = self._ledger
        if self.kept:
            first(lambda: None if ledger is None else call(ledger))

    def closed(self) -> list[Closed]:
        """Return the cycles that are through, the start first."""
        rows = self._read(lambda ledger: ledger.cycles())
        requests = self._read(lambda ledger: ledger.requests(evidence=self._evidence))
        asked = {row["id"]: row for row in requests}
        answers = self._read(lambda ledger: ledger.answers())
        found = []
        for cycle in rows:
            used = [answer for answer in answers if answer["used"] == cycle["cycle"]]
            pairs = [(request, answer) for _, request, answer in _latest(used, asked)]
            mined = {image_id: from_plain(target) for image_id, target in cycle["mined"].items()}
            aside = [
                [Finding(**one["finding"]) for one in cycle["set_aside"] if one["of"] == name]
                for name in ("pool", "test")
            ]
            found.append(Closed(Row.from_plain(cycle["row"]), pairs, mined, *aside))
        return found

    def close(self, closed: Closed, used: Sequence[str]) -> None:
        """Keep a cycle that is through, in one transaction.

        Args:
            closed: what came of it.
            used: the ids of the answers it learned from.
        """
        aside = [{"of": "pool", "finding": asdict(finding)} for finding in closed.set_aside]
        aside += [{"of": "test", "finding": asdict(finding)} for finding in closed.untested]
        mined = {image_id: to_plain(target) for image_id, target in closed.mined.items()}
        row = closed.row.to_plain()
        more: dict[str, Any] = {"used": list(used), "mined": mined, "set_aside": aside}
        self._write(lambda ledger: ledger.close_cycle(row["cycle"], row, **more))

    def requests(
        self, cycle: int, make: Callable[[], tuple[list[Request], list[Finding]]]
    ) -> tuple[list[Request], list[Finding]]:
        """Return what is asked in a cycle and what was set aside for it; made only once.

        Args:
            cycle: which.
            make: makes both.
        """
        known = self._read(lambda ledger: ledger.requests(cycle))
        if known:
            broken = [Finding(**one) for one in known[0]["set_aside"]]
            return [request_of(row) for row in known], broken
        requests, broken = make()
        if requests:
            rows = [row_of(request) | {"set_aside": []} for request in requests]
            rows[0]["set_aside"] = [asdict(finding) for finding in broken]
            self._write(lambda ledger: ledger.add_requests(cycle, rows))
        return requests, broken

    def unused(self) -> list[tuple[list[str], Request, Answer]]:
        """Return the answers no cycle has learned from: the latest to each request.

        It has the ids and the seconds of all answers to that request.
        """
        if self._ledger is None:
            return []
        rows = [row for row in self._ledger.answers() if row["used"] is None]
        asked = self._ledger.requests(evidence=self._evidence) if rows else []
        return _latest(rows, {row["id"]: row for row in asked})

    def keep(self, answer: Answer) -> str:
        """Keep an answer, which is on disk when this returns; return its id."""
        name = str(uuid.uuid4())
        if self._ledger is not None:
            self._ledger.add_answer(row_of(answer), id=name)
        return name

    def accepted(self) -> list[str]:
        """Return in what the run was allowed to differ from what it began with."""
        events = self._read(lambda ledger: ledger.events())
        return [event["text"] for event in events if event["what"] == "accepted"]

    def note(self, what: str, text: str) -> None:
        """Keep what happened on the way."""
        if self._ledger is not None:
            self._ledger.note(what, text)

    def keeper(self, cycle: int, tag: str) -> Keeper:
        """Return what keeps the weights of a training.

        Args:
            cycle: which.
            tag: says what is trained on what; the weights of another training are not taken.
        """
        return Keeper(self._ledger, cycle, tag, self.every_s)

    def weights(self, cycle: int) -> State | None:
        """Return the weights a cycle ended with; None where they are damaged or gone."""
        return Keeper(self._ledger, cycle, None, self.every_s).load()


class Keeper:
    """Keeps the weights of one training; see `train.fit`."""

    def __init__(self, ledger: Ledger | None, cycle: int, tag: str | None, every_s: float) -> None:
        """Keep where they go."""
        self._ledger, self._cycle, self._tag, self.every_s = ledger, cycle, tag, every_s

    def load(self) -> State | None:
        """Return the latest state that is sound and of this training."""
        path = first(self._latest)
        return None if path is None else read(Path(path))

    def _latest(self) -> str | None:
        if self._ledger is None:
            return None
        for weights in self._ledger.weights(self._cycle, done=True if self._tag is None else None):
            if self._tag in (None, weights.tag):
                return str(weights.path)
        return None

    def save(self, state: State, *, done: bool) -> None:
        """Write a state; it is safe on disk when this returns."""
        if self._ledger is not None:
            self._ledger.save_weights(
                lambda path: write(state, path),
                cycle=self._cycle,
                step=state.step,
                done=done,
                tag=str(self._tag),
                room=sum(tensor.nbytes for tensor in state.tensors.values()),
            )


@contextmanager
def opened(
    folder: str | Path | None,
    describe: Callable[[dict[str, str]], dict[str, Any]],
    pools: Mapping[str, Pool],
    every_s: float,
    accept: Sequence[str],
    evidence: bool = False,
) -> Iterator[Journal]:
    """Open the journal of a run: begin it, or make sure that it is the same run that goes on.

    Args:
        folder: the run directory; None to keep nothing.
        describe: describes the run, given a digest of each pool.
        pools: by name.
        every_s: seconds between two savings of the weights in training.
        accept: the groups of the description that may differ from what the run began with.
        evidence: whether the requests of answers come with why they were made.
    """
    if folder is None:
        yield Journal(None, kept=False, every_s=every_s)
        return
    handle: list[Ledger] = []

    def begin() -> None:
        handle.append(open_ledger(folder))
        _agree(handle[0], describe, pools, accept)

    try:
        first(begin)
        ledger = handle[0] if handle else None
        yield Journal(ledger, kept=True, every_s=every_s, evidence=evidence)
    finally:
        for ledger in handle:
            ledger.close()


def _agree(
    ledger: Ledger,
    describe: Callable[[dict[str, str]], dict[str, Any]],
    pools: Mapping[str, Pool],
    accept: Sequence[str],
) -> None:
    images = {
        f"{name}/{image_id}": digest
        for name, pool in pools.items()
        for image_id, digest in digest_images(pool, ledger.files).items()
    }
    data = {
        name: digest_texts(
            f"{key}:{digest}" for key, digest in images.items() if key.startswith(f"{name}/")
        )
        for name in pools
    }
    run = describe(data)
    path = ledger.folder / IMAGES
    if ledger.manifest is None:
        write_atomically(path, json.dumps(images).encode())
        ledger.begin(run)
        return
    then = images
    with suppress(OSError, ValueError):  # it says which images differ, and decides nothing
        then = json.loads(path.read_bytes())
    changes = _changes(then, images)
    try:
        ledger.agree(run, accept=accept, optional=OPTIONAL)
    except RunMismatchError as error:
        raise RunMismatchError(f"{error}{changes}", error.differences) from None
    if changes:
        write_atomically(path, json.dumps(images).encode())


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which images differ, the first few by name."""
    said = [f"{name} is gone" for name in then if name not in now]
    said += [f"{name} is new" for name in now if name not in then]
    said += [f"{name} has changed" for name in now if then.get(name, now[name]) != now[name]]
    said += ["the same, in another order"] if not said and list(then) != list(now) else []
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    return f"\nImages: {', '.join(said[:SHOWN])}{more}." if said else ""


def _latest(
    rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Mapping[str, Any]]
) -> list[tuple[list[str], Request, Answer]]:
    """Return the last answer to each request, with the ids and the seconds of all of them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["request_id"], []).append(row)
    return [
        (
            [row["id"] for row in given],
            request_of(asked[name]),
            replace(answer_of(given[-1]), seconds=sum(row["seconds"] for row in given)),
        )
        for name, given in found.items()
    ]
