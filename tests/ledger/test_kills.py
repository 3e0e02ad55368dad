"""Kill -9 at any moment, and a full disk: what was acknowledged is there, once.

A few kills by default, 200 of each with -m slow; -s prints what came of them.
"""

from __future__ import annotations

import random
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import children
import pytest

from almining.ledger import Ledger, open_ledger

KILLS = [pytest.param(10, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]
REQUESTS = [{"id": "001/a", "image_id": "a", "kind": "complete"}]

ANSWERS = """
import sys
from almining.ledger import open_ledger
number = int(sys.argv[2])
with open_ledger(sys.argv[1]) as ledger:
    while True:
        answer = {"request_id": "001/a", "by": "x", "seconds": number, "target": [number] * 50}
        print(number, ledger.add_answer(answer, id=f"answer {number}"), flush=True)
        number += 1
"""

WEIGHTS = """
import sys
from hashlib import sha256
from almining.ledger import open_ledger
step = int(sys.argv[2])
with open_ledger(sys.argv[1]) as ledger:
    while True:
        content = sha256(str(step).encode()).digest() * 20_000
        ledger.save_weights(
            lambda path: path.write_bytes(content), cycle=1, step=step, done=step % 5 == 0, tag=""
        )
        print(step, flush=True)
        step += 1
"""

RUN = """
import sys
from pathlib import Path
from almining.ledger import open_ledger
CYCLES, ASKED = 2, 3
with open_ledger(sys.argv[1]) as ledger:
    print("open", flush=True)
    if ledger.manifest is None:
        ledger.begin({"seed": 0})
    ledger.agree({"seed": 0})
    for cycle in range(len(ledger.cycles()) + 1, CYCLES + 1):
        asked = [{"id": f"{cycle}/{n}", "image_id": f"{n}", "kind": "tag"} for n in range(ASKED)]
        ledger.add_requests(cycle, asked)
        for number, request in enumerate(asked):
            answer = {"request_id": request["id"], "by": "x", "seconds": cycle + number / 10}
            ledger.add_answer(answer, id=request["id"])
        if not list(ledger.weights(cycle, done=True)):
            for step in (1, 2, 3):
                write = lambda path: path.write_bytes(b"%d/%d" % (cycle, step) * 10_000)
                ledger.save_weights(write, cycle=cycle, step=step, done=step == 3, tag="")
        used = [row["id"] for row in ledger.answers(cycle)]
        row = {"seconds": sum(row["seconds"] for row in ledger.answers())}
        ledger.close_cycle(cycle, row, used=used, mined={"a": cycle}, set_aside=[])
    print("done", flush=True)
"""


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    with open_ledger(tmp_path) as ledger:
        ledger.begin({})
        ledger.add_requests(1, REQUESTS)
    return tmp_path


def killed_soon(child: subprocess.Popen[str], rng: random.Random, longest: float) -> list[str]:
    """Kill a child at a random moment: every fifth while it starts, others when it is at work."""
    first = "" if rng.random() < 0.2 else child.stdout.readline()
    time.sleep(rng.random() * longest)
    return first.splitlines() + children.killed(child)


@pytest.mark.parametrize("kills", KILLS)
def test_no_acknowledged_answer_is_lost_or_doubled(begun: Path, kills: int) -> None:
    rng = random.Random(kills)
    acknowledged: list[int] = []
    found_there = lost = doubled = 0
    for _ in range(kills):
        due = len(acknowledged) + 1
        lines = killed_soon(children.started(ANSWERS, begun, due), rng, 0.1)
        for line in lines:
            number, fresh = line.split()
            acknowledged.append(int(number))
            found_there += fresh == "False"
        with open_ledger(begun) as ledger:
            there = [row["id"] for row in ledger.answers()]
        doubled += len(there) - len(set(there))
        lost += len({f"answer {number}" for number in acknowledged} - set(there))
        assert len(there) - len(acknowledged) in (0, 1)  # one may not have been told of
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    assert len(acknowledged) >= kills / 2
    print(
        f"\n{kills} kills, {len(acknowledged)} answers acknowledged, {found_there} sent again that "
        f"were there; lost {lost}, doubled {doubled}"
    )
    assert (lost, doubled) == (0, 0)
    with open_ledger(begun) as ledger:
        rows = ledger.answers()
    assert [row["seconds"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["target"] == [int(row["seconds"])] * 50 for row in rows)


def whole(ledger: Ledger) -> None:
    """Check that every file the manifest lists is what was saved."""
    for name, entry in ledger.manifest["weights"].items():
        content = (ledger.folder / "weights" / name).read_bytes()
        assert sha256(content).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("kills", KILLS)
def test_weights_are_whole_after_any_kill(begun: Path, kills: int) -> None:
    rng = random.Random(kills)
    last = 0
    left = 0
    for _ in range(kills):
        lines = killed_soon(children.started(WEIGHTS, begun, last + 1), rng, 0.05)
        last = int(lines[-1]) if lines else last
        left += len(list(begun.rglob("*.part")))
        with open_ledger(begun) as ledger:
            assert list(begun.rglob("*.part")) == []
            whole(ledger)
            steps = [one.step for one in ledger.weights(1)]  # warns of a damaged one: an error
        assert steps[0] - last in (0, 1) if last else steps in ([], [1])
    assert last >= kills / 2
    print(f"\n{kills} kills, {last} weights saved, {left} half-written files; damaged 0, lost 0")


@pytest.mark.parametrize("kills", KILLS)
def test_a_run_killed_anywhere_comes_to_the_same(tmp_path: Path, kills: int) -> None:
    def outcome(folder: Path) -> list[object]:
        with open_ledger(folder) as ledger:
            whole(ledger)
            answers = [row | {"at": ""} for row in ledger.answers()]
            weights = [one.path.read_bytes() for cycle in (1, 2) for one in ledger.weights(cycle)]
            return [ledger.requests(), answers, ledger.cycles(), weights]

    straight = children.started(RUN, tmp_path / "straight")
    straight.stdout.readline()
    begun = time.perf_counter()
    assert children.ended(straight) == "done\n"
    longest = time.perf_counter() - begun
    expected = outcome(tmp_path / "straight")
    rng = random.Random(kills)
    seen = done = 0
    while seen < kills:
        folder = tmp_path / f"run {done}"
        while True:
            child = children.started(RUN, folder)
            child.stdout.readline()
            time.sleep(rng.random() * longest / 2)
            child.kill()
            printed = children.ended(child)
            if printed == "done\n":
                break
            assert printed == ""
            seen += 1
        assert outcome(folder) == expected
        done += 1
    print(f"\n{seen} kills in {done} runs; all came to the same")


STARVED = """
import resource, sys
from almining.ledger import LedgerError, open_ledger
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
with open_ledger(sys.argv[1]) as ledger:
    def save(step, content):
        write = lambda path: path.write_bytes(content)
        return ledger.save_weights(write, cycle=1, step=step, done=True, tag="")
    saved = save(1, b"w")
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, most))
    number = 0
    try:
        while number < 1000:
            answer = {"request_id": "001/a", "by": "x", "seconds": number, "target": "t" * 20_000}
            ledger.add_answer(answer, id=str(number))
            number += 1
    except LedgerError as error:
        print("answers:", error)
    print("acknowledged:", number)
    try:
        save(2, b"n" * 2_000_000)
    except LedgerError as error:
        print("weights:", error)
    assert [one.path for one in ledger.weights(1)] == [saved]
    assert [*saved.parent.iterdir()] == [saved]
    assert len(ledger.answers()) == number
    if sys.argv[2] == "limit":  # space again: the same handle goes on
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert ledger.add_answer(answer, id=str(number))
        number += 1
    print("in the end:", len(ledger.answers()) - number)
with open_ledger(sys.argv[1]) as ledger:
    assert [row["id"] for row in ledger.answers()] == [str(one) for one in range(number)]
"""


def check_starved(printed: str, folder: Path, errors: tuple[str, str]) -> None:
    answers, acknowledged, weights, end = printed.splitlines()
    assert answers.startswith(f"answers: {folder / 'ledger.sqlite'}: {errors[0]}")
    assert "free some space" in answers
    assert "Nothing was written" in answers
    assert 0 < int(acknowledged.removeprefix("acknowledged: ")) < 1000
    assert weights.startswith(
        f"weights: {folder}/weights/cycle-001-step-000002.safetensors was not"
    )
    assert errors[1] in weights
    assert "see that its disk has space" in weights
    assert "What was there before is kept" in weights
    assert end == "in the end: 0"


def test_nothing_is_acknowledged_beyond_the_size_a_file_may_have(begun: Path) -> None:
    printed = children.run(STARVED, begun, "limit")
    check_starved(printed, begun, ("disk I/O error", "File too large"))


def test_nothing_is_acknowledged_on_a_full_disk(tmp_path: Path) -> None:
    begin = """
import sys
from almining.ledger import open_ledger
with open_ledger(sys.argv[1]) as ledger:
    ledger.begin({})
    ledger.add_requests(1, [{"id": "001/a", "image_id": "a", "kind": "complete"}])
"""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    printed = children.inside(mount, begin + STARVED, tmp_path, "disk")
    check_starved(printed, tmp_path, ("database or disk is full", "No space left"))


SAFETENSORS = """
import resource, sys
import numpy as np
from safetensors.numpy import save_file
from almining.ledger import LedgerError, open_ledger
with open_ledger(sys.argv[1]) as ledger:
    def save(size):
        write = lambda path: save_file({"w": np.zeros(size, "float32")}, path)
        return ledger.save_weights(write, cycle=1, step=size, done=False, tag="")
    old = save(1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        save(1_000_000)
    except LedgerError as error:
        print(error)
    assert [one.path for one in ledger.weights(1)] == [old]
    assert [*old.parent.iterdir()] == [old]
"""


def test_a_full_disk_under_safetensors_keeps_the_old_ones(begun: Path) -> None:
    printed = children.run(SAFETENSORS, begun)
    assert "cycle-001-step-1000000.safetensors was not written: " in printed
    assert "File too large" in printed
    assert "see that its disk has space and may be written" in printed
