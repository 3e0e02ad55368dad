"""Faults that hit what a run writes: a kill halfway, a full disk, a power cut, a network disk."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from almining.data.pool import Pool
from almining.label import Simulated
from almining.label.desk import hand_in, waiting
from almining.ledger import Ledger, LedgerError, open_ledger
from almining.train import plain_step
from tests.fakes import FlatDetector
from tests.faults import Say, ended, fault, kill_this, killed, quoted, refusal
from tests.faults_of_runs import Nobody, answered, many
from tests.ledger import children
from tests.ledger.test_power import Recorder, crashes
from tests.test_cycle import HIDDEN, go, recipe
from tests.test_run_dir import same

ONE: dict[str, Any] = {"cycles": 1, "every_s": 0}
uncut = cache(lambda: go(cycles=1))


@contextmanager
def saving(number: int, around: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """Do the saving of weights of this number inside `around`."""
    real, count = Ledger.save_weights, iter(range(10_000))

    def save(self: Ledger, *args: Any, **named: Any) -> Path:
        call = lambda: real(self, *args, **named)  # noqa: E731
        return around(call) if next(count) == number else call()

    with patch.object(Ledger, "save_weights", save):
        yield


def noting(steps: list[int]) -> Callable[..., Any]:
    """Return a step that keeps the numbers of the steps done."""

    def step(detector: Any, batch: Any, *, generator: torch.Generator) -> Any:
        steps.append(batch.step)
        return plain_step(detector, batch, generator=generator)

    return step


@fault(
    1,
    "kill -9 in a checkpoint write",
    "The process is killed at every place of one saving: halfway through the bytes of the weights "
    "and of the manifest, before and after each fsync and each rename.",
)
def kill_in_a_write(folder: Path) -> str:
    number, done_again = 3, []  # the saving after the fourth of five steps

    def run(where: Path, place: int, say: Say) -> None:
        left = [place]

        def passes() -> None:
            left[0] -= 1
            if left[0] < 0:
                kill_this()

        def around(call: Callable[[], Any]) -> Any:
            with cut_files(passes):
                return call()

        with saving(number, around):
            go(recipe(step=noting([])), run_dir=where, **ONE)
        say(place - left[0])

    _, (places,) = ended(lambda say: run(folder / "all", 10_000, say))
    for place in range(places):
        where, steps = folder / str(place), []
        killed(lambda say, place=place, where=where: run(where, place, say))
        history = go(recipe(step=noting(steps)), run_dir=where, **ONE)
        assert same(history, uncut()), f"killed at place {place}"
        done_again.append(number + 1 - steps[0])
    assert places >= 10 and max(done_again) <= 1, (places, done_again)
    return (
        f"{places} kills, {places} runs that go on to the same picks, metrics and weights, bit for "
        f"bit; steps done again: {max(done_again)} at most. No damaged weights are met."
    )


@contextmanager
def cut_files(passes: Callable[[], None]) -> Iterator[None]:
    """Call `passes` at every place of writing a file where a process may be killed."""
    fsync, replace = os.fsync, os.replace

    def write_bytes(self: Path, data: bytes) -> int:
        with self.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            passes()
            file.write(data[len(data) // 2 :])
        return len(data)

    def cut_fsync(descriptor: int) -> None:
        passes()
        fsync(descriptor)

    def cut_replace(*args: Any, **named: Any) -> None:
        passes()
        replace(*args, **named)
        passes()

    with (
        patch.object(Path, "write_bytes", write_bytes),
        patch.object(os, "fsync", cut_fsync),
        patch.object(os, "replace", cut_replace),
    ):
        yield


class Large(FlatDetector):
    """400 kB of weights, so that they meet a full disk before the answers do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ballast", torch.zeros(100_000))


@fault(
    2,
    "full disk, or one that is read-only",
    "A limit on the size of files (RLIMIT_FSIZE) stops the weights of cycle 2, then an answer; "
    "nothing is free before a saving; the folder is mounted read-only.",
)
def full_disk(folder: Path) -> str:
    run = {"detector": Large(), "run_dir": folder / "run"}
    go(**run, cycles=1)
    before = answered(folder / "run")
    assert len(before) == 3

    def limited(size: int, call: Callable[[], Any], say: Say) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
        say(refusal(LedgerError, call))

    _, (weights,) = ended(lambda say: limited(200_000, lambda: go(**run), say))
    assert "cycle-002-step-000005.safetensors was not written" in weights, weights
    assert "space" in weights and len(answered(folder / "run")) == 6
    with patch.object(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0)):
        room = refusal(LedgerError, lambda: go(**run))
    assert "needs about 40" in room and "0 are free; free some space" in room, room
    assert same(go(**run), go(detector=Large()))

    wide, hidden, start = folder / "wide", *many()
    go(pool=start, oracle=Nobody(), budget=50, run_dir=wide)
    size = (wide / "ledger.sqlite").stat().st_size

    def answer(say: Say) -> None:
        for request in waiting(wide):
            hand_in(wide, Simulated(hidden).ask([request], hidden))
            say(request.id)

    _, said = ended(lambda say: limited(size + 8192, lambda: answer(say), say))
    *acknowledged, answer_text = said
    assert "Nothing was written" in answer_text and "free some space" in answer_text, answer_text
    assert 0 < len(acknowledged) < 50 and answered(wide) == acknowledged
    ended(answer)
    assert sorted(answered(wide)) == sorted(set(answered(wide))) and len(answered(wide)) == 50

    return (
        f"It stops with {quoted(weights, folder)}, {quoted(room, folder)}, "
        f"{quoted(answer_text, folder)} Every answer acknowledged is there. With space again, the "
        f"run goes on to the same end. {read_only(folder / 'run')}"
    )


def read_only(run: Path) -> str:
    code = """
import sys
from tests.test_cycle import go
from almining.ledger import LedgerError
try:
    go(run_dir=sys.argv[1])
except LedgerError as error:
    print(error)
"""
    mount = f"mount --bind {run} {run}; mount -o remount,bind,ro {run}"
    try:
        says = children.inside(mount, code, run)
    except pytest.skip.Exception as why:
        return f"Read-only: not run here ({why})."
    assert "Read-only file system" in says and "choose a run directory that can be" in says, says
    return f"Read-only: {quoted(says.strip(), run.parent)}."


@fault(
    3,
    "power loss",
    "What the system is asked to write during three savings is recorded; every state that a power "
    "cut may leave, with all that was not synced there, gone, halved or zero, is put on the disk, "
    "and the run goes on from it.",
)
def power_loss(folder: Path) -> str:
    counted = 0
    for number in (0, 2, 4):  # the first of a training, one that removes an old one, the last
        root, left = folder / f"run-{number}", {}

        def around(call: Callable[[], Any], root: Path = root, left: dict = left) -> Any:
            left["before"] = {str(p.relative_to(root)): p.read_bytes() for p in files_of(root)}
            with pytest.MonkeyPatch.context() as patched:
                left["calls"] = Recorder(root, patched).calls
                return call()

        with saving(number, around):
            go(run_dir=root, **ONE)
        for state in different(left["before"], left["calls"]):
            counted += 1
            where = folder / f"state-{counted}"
            for name, content in state.items():
                (where / name).parent.mkdir(parents=True, exist_ok=True)
                (where / name).write_bytes(content)
            assert same(go(run_dir=where, **ONE), uncut()), f"state {counted}"
    assert counted > 10
    with open_ledger(root) as ledger:
        pragma = ledger._database.connection.execute("PRAGMA synchronous").fetchone()
    assert pragma == (2,)  # FULL; what SQLite itself writes cannot be recorded here
    return (
        f"{counted} states of the disk; from each the run goes on to the same end, bit for bit, "
        "and no damaged weights are met. Answers are SQLite's to sync; it is set to do so before a "
        "commit returns (`synchronous=FULL`)."
    )


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]


def different(before: dict[str, bytes], calls: list[Any]) -> list[dict[str, bytes]]:
    """Return the states of a disk that a power cut may leave, each once."""
    found: list[dict[str, bytes]] = []
    for _, disk in crashes(before, calls):
        if disk not in found:
            found.append(disk)
    return found


@fault(
    6,
    "SQLite on a network file system",
    "Files are looked at with every answer of a run; then the file system is one without locks "
    "(flock fails with ENOLCK).",
)
def network_file_system(folder: Path) -> str:
    seen: set[str] = set()

    class Looking(Simulated):
        def ask(self, requests: Any, pool: Pool) -> Iterator[Any]:
            for answer in Simulated.ask(self, requests, pool):
                yield answer
                seen.update(path.name for path in (folder / "run").iterdir())

    go(run_dir=folder / "run", oracle=Looking(HIDDEN))
    versions = (folder / "run" / "ledger.sqlite").read_bytes()[18:20]
    assert "ledger.sqlite" in seen and not any(name.endswith(("-wal", "-shm")) for name in seen)
    with closing(sqlite3.connect(folder / "run" / "ledger.sqlite")) as other:
        (mode,) = other.execute("PRAGMA journal_mode").fetchone()
    assert versions == b"\x01\x01" and mode != "wal", (versions, mode)

    def without(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    with patch("fcntl.flock", without):
        says = refusal(LedgerError, lambda: go(run_dir=folder / "other"))
    assert "No locks available" in says and "choose a run directory on a file system" in says
    return (
        "A rollback journal, not WAL; no file of shared memory appears. Without locks: "
        f"{quoted(says, folder)}"
    )
