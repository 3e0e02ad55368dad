"""Faults that hit a run: a restart, a crash, a second process, or something that has changed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import torch

from almining.cycle import History
from almining.data import regimes
from almining.data.fetch import download as downloading
from almining.data.fetch.download import FetchError, download
from almining.data.pool import Pool
from almining.label import Simulated
from almining.label.desk import hand_in, waiting
from almining.ledger import LockedError, RunMismatchError, open_ledger
from tests import resumable
from tests.data.serving import RULES, serving
from tests.fakes import FlatDetector, FlatImages, flat_pool
from tests.faults import (
    Say,
    ended,
    fault,
    heard,
    kill_this,
    killed,
    quoted,
    refusal,
    started,
)
from tests.test_cycle import HIDDEN, START, TEST, go, recipe
from tests.test_run_dir import photographs, same


class Nobody:
    """Answers nothing."""

    def ask(self, requests: Any, pool: Pool) -> Iterator[Any]:
        return iter(())


def answered(folder: Path) -> list[str]:
    """Return the ids of the requests that were answered, in the order the answers came."""
    with open_ledger(folder) as ledger:
        return [row["request_id"] for row in ledger.answers()]


def many() -> tuple[Pool, Pool]:
    """Return a pool of 60 and what is known of it at the start."""
    hidden = flat_pool(60)
    return hidden, regimes.unlabelled(hidden, keep=4, seed=0, tags=True)


@fault(
    4,
    "kernel restart while a person labels",
    "The process that hands in 50 answers, one by one, is killed 10 times at random; each time a "
    "new one asks what is waiting and goes on.",
)
def restart_while_labelling(folder: Path) -> str:
    hidden, start = many()
    ask = {"pool": start, "budget": 50, "cycles": 1, "run_dir": folder}
    asked = [request.id for request in go(**ask, oracle=Nobody()).pending]
    rng, acknowledged, kills = random.Random(4), [], 0

    def review(say: Say) -> None:
        for request in waiting(folder):
            hand_in(folder, Simulated(hidden).ask([request], hidden), ids=[request.id])
            say(request.id)

    while len(acknowledged) < 50 and waiting(folder):
        process, pipe = started(review)
        patience = rng.randint(1, 2) if kills < 10 else 50
        for name in heard(pipe):
            acknowledged.append(name)
            patience -= 1
            if not patience:
                time.sleep(rng.random() * 0.005)  # somewhere in the next answer
                process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        found, left = answered(folder), [request.id for request in waiting(folder)]
        assert set(acknowledged) <= set(found) and len(found) - len(acknowledged) <= kills
        assert left == [name for name in asked if name not in found]
    found = answered(folder)
    assert kills == 10 and sorted(found) == sorted(asked), (kills, len(found))
    assert same(go(**ask, oracle=Nobody()), go(**ask | {"run_dir": None}, oracle=Simulated(hidden)))
    return (
        f"{kills} kills; of {len(asked)} answers, {len({*acknowledged} - {*found})} are lost, "
        f"{len(found) - len({*found})} doubled. `waiting` names just those that are left, and the "
        "run ends as one without a restart."
    )


@fault(
    5,
    "crash between the labels and the closing of their cycle",
    "The process is killed when cycle 1 is trained and about to be closed, and another one when "
    "the transaction is through but nobody has heard of it.",
)
def crash_before_closing(folder: Path) -> str:
    def run(where: str, **cut: Any) -> Callable[[Say], None]:
        spec = {"run_dir": str(folder / where), **cut}
        return lambda say: say(resumable.main(spec))

    _, (whole,) = ended(run("whole"))
    for place, closed in (("close", [0]), ("closed", [0, 1])):
        killed(run(place, cut=[place, 1]))
        with open_ledger(folder / place) as ledger:
            assert [cycle["cycle"] for cycle in ledger.cycles()] == closed
            assert len(ledger.answers()) == 3
        _, (found,) = ended(run(place))
        assert found == whole, place
        with open_ledger(folder / place) as ledger:
            used = [row["used"] for row in ledger.answers()]
            assert used == [1, 1, 1, 2, 2, 2] and len(ledger.cycles()) == 3
    return (
        "All 3 answers are there, the cycle is closed whole or not at all; the run goes on to the "
        "same end, asks nothing again and uses each answer once."
    )


@fault(
    14,
    "config changed on resume",
    "A run of one cycle goes on with another config, then with another seed.",
)
def config_changed(folder: Path) -> str:
    def run(pace: float, **more: Any) -> History:
        chosen = recipe(config={"pace": pace, "steps": 5})
        return go(chosen, run_dir=folder / "run", **more)

    one = run(0.9, cycles=1)
    says = refusal(RunMismatchError, lambda: run(0.8))
    assert "config.pace: 0.9 then, 0.8 now (accept=('config',) goes on nevertheless" in says, says
    assert "steps" not in says
    seed = refusal(RunMismatchError, lambda: run(0.9, seed=1, accept=("seed",)))
    assert "seed: 0 then, 1 now" in seed and "accept=" not in seed, seed
    assert same(run(0.9, cycles=1), one)
    history = run(0.8, accept=("config",))
    with open_ledger(folder / "run") as ledger:
        (event,) = ledger.events()
    assert event["text"] == "config.pace: 0.9 then, 0.8 now" and len(history.rows) == 3
    return (
        f"{quoted(says, folder)} The seed cannot be accepted. With `accept=('config',)` it goes on,"
        " and the run directory tells so."
    )


@fault(
    15,
    "order of the classes changed",
    "A run of one cycle goes on with pools and a detector whose two classes are the other way "
    "round.",
)
def classes_turned(folder: Path) -> str:
    one = go(run_dir=folder / "run", cycles=1)
    turned = HIDDEN.relabelled(HIDDEN.classes[::-1], {i: HIDDEN.target(i) for i in HIDDEN.ids})
    test = TEST.relabelled(HIDDEN.classes[::-1], {i: TEST.target(i) for i in TEST.ids})
    ask = {
        "pool": regimes.unlabelled(turned, keep=4, seed=0, tags=True),
        "oracle": Simulated(turned),
        "test": test,
        "run_dir": folder / "run",
    }
    says = refusal(RunMismatchError, lambda: go(**ask, detector=FlatDetector(turned.classes)))
    assert 'classes.0: "dark" then, "light" now' in says and "('classes',)" not in says, says
    mixed = refusal(ValueError, lambda: go(**ask))  # the detector's are bound by name, too
    assert "['light', 'dark']" in mixed or "('light', 'dark')" in mixed, mixed
    assert same(go(run_dir=folder / "run", cycles=1), one)
    return f"{quoted(says, folder)} The run is as it was."


@fault(
    16,
    "data changed under the run",
    "Between two calls one image file of the pool is written anew, as large as it was.",
)
def data_changed(folder: Path) -> str:
    pool, path = photographs(folder / "images")
    ask = {"pool": pool, "oracle": Simulated(pool), "test": None, "cycles": 1}
    one = go(run_dir=folder / "run", **ask)
    was = path.read_bytes()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    says = refusal(RunMismatchError, lambda: go(run_dir=folder / "run", **ask))
    assert "pool/two" in says and "pool/one" not in says, says
    path.write_bytes(was)
    assert same(go(run_dir=folder / "run", **ask), one)
    return f"{quoted(says, folder)} With the old file back it goes on."


@fault(
    17,
    "two processes at one run",
    "A second process calls while the first waits for an answer, which is then killed; the first "
    "is killed while its loader worker hangs on; the lock file names a process that lives.",
)
def two_processes(folder: Path) -> str:
    class Waits:
        def __init__(self, say: Say) -> None:
            self.say = say

        def ask(self, requests: Any, pool: Pool) -> Iterator[Any]:
            self.say(os.getpid())
            time.sleep(60)
            yield from ()

    process, pipe = started(lambda say: go(run_dir=folder / "run", oracle=Waits(say)))
    pid = pipe.recv()
    says = refusal(LockedError, lambda: go(run_dir=folder / "run"))
    assert f"in use by process {pid} " in says, says
    process.kill()
    process.join()
    assert same(go(run_dir=folder / "run"), go())

    stuck = folder / "stuck"
    images = Stuck(stuck)
    pool = Pool(START.classes, {i: START.target(i) for i in START.ids}, images)

    def load(say: Say) -> None:
        images.loads_in = os.getpid()
        go(pool=pool, run_dir=stuck / "run", workers=1)

    stuck.mkdir()
    process, _ = started(load)
    orphan = int(waited_for(stuck / "worker"))
    try:
        process.kill()
        process.join()
        os.kill(orphan, 0)  # it lives
        assert same(go(run_dir=stuck / "run"), go())
    finally:
        os.kill(orphan, signal.SIGKILL)

    who = {"host": "here", "pid": os.getpid(), "since": "now", "program": "jupyter"}
    (folder / "run" / "lock").write_text(json.dumps(who))
    assert same(go(run_dir=folder / "run"), go())
    return (
        f"{quoted(says, folder)} After the kill the run goes on at once; so it does while the "
        "worker lives, and with a lock file that names this very process."
    )


class Stuck(FlatImages):
    """Images that never load in a worker of process `loads_in`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.loads_in = folder, 0

    def load(self, image_id: str) -> torch.Tensor:
        if self.loads_in not in (0, os.getpid()):
            (self.folder / "part").write_text(str(os.getpid()))
            (self.folder / "part").replace(self.folder / "worker")
            time.sleep(60)
        return super().load(image_id)


def waited_for(path: Path) -> str:
    """Return what another process writes, once it is there."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)
    return path.read_text()


@fault(
    18,
    "interrupted download",
    "A server on loopback sends half of a file of 4 MB and ends the connection; in other tries the "
    "process is killed halfway. What it left is then half of what the server had there before, "
    "for a server that heeds If-Range and for one that does not, or half of another file.",
)
def interrupted_download(folder: Path) -> str:
    content, other = (random.Random(seed).randbytes(1 << 22) for seed in (0, 1))
    half, sha = len(content) // 2, hashlib.sha256(content).hexdigest()

    def fetch(name: str) -> list[str | None]:
        site.asked.clear()
        path = download(site.url("/a"), folder / name, rules=RULES, sha256=sha, progress=False)
        assert path.read_bytes() == content, f"{name} is another file"
        return [asked for _, asked in site.asked]

    def cut_short(name: str) -> Path:
        def call(say: Say) -> None:
            shown = MagicMock(n=0, update=lambda done: done < 2 or kill_this())
            with patch.object(downloading, "bar", return_value=shown):
                fetch(name)

        killed(call)
        part = folder / f"{name}.part"
        assert part.stat().st_size == half and not (folder / name).exists()
        return part

    with serving(files={"/a": content}, cut={"/a": half}) as site:
        rest = f"bytes={half}-"
        assert fetch("cut") == [None, rest]
        cut_short("killed")
        site.cut["/a"] = half  # so that no more than the other half can come
        assert fetch("killed") == [rest]
        for site.strict in (True, False):
            name, site.files["/a"] = f"before-{site.strict}", other
            cut_short(name)
            site.files["/a"] = content
            if not site.strict:
                says = refusal(FetchError, lambda: fetch("before-False"))
            assert fetch(name) == [rest if site.strict else None]
        cut_short("mixed").write_bytes(other[:half])
        mixed = refusal(FetchError, lambda: fetch("mixed"))
        assert not list(folder.glob("mixed*"))
        assert fetch("mixed") == [None]
    assert "sends something else" in says and f"not {sha}, the one published" in mixed
    return (
        "After the cut the same call goes on, after the kill the next one: both ask for the other "
        f"half alone (`Range: {rest}`), and the file has the SHA-256 published. Half of what was "
        "there before is not taken: it is begun anew, at once or, by a server that does not heed "
        "If-Range, in the next call. What half of another file makes is refused and removed, for "
        "its SHA-256."
    )
