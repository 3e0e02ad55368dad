"""What the ledger costs: against a bare INSERT, a bare save of weights, and per cycle.

Wall time, medians, the two sides in turn in the same run and on the same disk: syncing is most of
it, and how long that takes is the disk's. pytest -n 0 --benchmark-enable -s
tests/bench/bench_ledger.py; BENCH_FOLDER puts the files on another disk.
"""

import itertools
import json
import os
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from almining.ledger import open_ledger

ROUNDS = 200
PICKED = 100  # answers of a cycle
TARGET = {
    "$": "target",
    "boxes": [[10.5, 20.25, 110.125, 220.0625]] * 7,
    "labels": [1, 2, 3, 4, 5, 6, 7],
    "origin": ["human"] * 7,
    "complete": True,
}
RUN = {
    "recipe": {"name": "bib", "config": {f"field{number}": number / 7 for number in range(30)}},
    "classes": [f"class {number}" for number in range(80)],
    "versions": dict.fromkeys(("python", "torch", "torchvision", "numpy"), "1.2.3"),
    "threads": 1,
    "data": "ab" * 32,
}


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        yield Path(name)


@pytest.fixture
def ledger(folder):
    with open_ledger(folder / "run") as ledger:
        ledger.begin(RUN)
        asked = [
            {"id": f"001/{number}", "image_id": f"image {number}", "kind": "complete"}
            for number in range(PICKED)
        ]
        ledger.add_requests(1, asked)
        yield ledger


def seconds(call, *arguments):
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def compared(benchmark, ours, theirs, rounds, name):
    """Run both in turn and report the medians and their ratio."""
    pairs = []

    def both():
        pairs.append((seconds(ours, len(pairs)), seconds(theirs, len(pairs))))

    benchmark.pedantic(both, rounds=rounds, warmup_rounds=3)
    one, other = (statistics.median(times) * 1000 for times in zip(*pairs[3:], strict=True))
    benchmark.extra_info.update(ours_ms=one, bare_ms=other, ratio=one / other)
    print(f"\n{name}: bare {other:.2f} ms, ledger {one:.2f} ms, {one / other:.2f} x")


def test_add_answer(benchmark, ledger, folder):
    bare = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL", "foreign_keys=ON"):
        bare.execute(f"PRAGMA {pragma}")
    bare.execute("CREATE TABLE answers (id TEXT PRIMARY KEY, content TEXT) STRICT")

    def ours(number):
        answer = {"request_id": f"001/{number % PICKED}", "by": "x", "seconds": 7.0}
        ledger.add_answer(answer | {"target": TARGET})

    def theirs(number):
        bare.execute("INSERT INTO answers VALUES (?, ?)", (str(number), json.dumps(TARGET)))

    compared(benchmark, ours, theirs, ROUNDS, "one answer, 7 boxes")
    bare.close()
    assert len(ledger.answers()) == ROUNDS + 3


def test_save_weights(benchmark, ledger, folder):
    rng = np.random.default_rng(0)
    weights = {str(layer): rng.random((1000, 1000), dtype=np.float32) for layer in range(10)}

    def ours(number):
        ledger.save_weights(
            lambda path: save_file(weights, path), cycle=1, step=number, done=False, tag=""
        )

    def theirs(number):
        path = folder / f"{number % 3}.safetensors"
        path.unlink(missing_ok=True)
        save_file(weights, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    compared(benchmark, ours, theirs, 20, "40 MB of weights")
    assert len(list(ledger.weights(1))) == 2


def test_a_cycle(benchmark, ledger):
    for request in ledger.requests(1):
        answer = {"request_id": request["id"], "by": "x", "seconds": 7.0, "target": TARGET}
        ledger.add_answer(answer, id=request["id"])
    used = [row["id"] for row in ledger.answers()]
    mined = {f"mined {number}": TARGET for number in range(1000)}
    times = {"agree": [], "close_cycle": [], "close_cycle again": [], "answers": [], "cycles": []}

    numbers = itertools.count(1)

    def cycle():
        number = next(numbers)
        row = {"cycle": number, "metrics": {f"ap/{label}": 0.5 for label in range(80)}}
        closed = {"row": row, "used": used if number == 1 else [], "mined": mined, "set_aside": []}
        times["agree"].append(seconds(ledger.agree, RUN))
        for name in ("close_cycle", "close_cycle again"):
            times[name].append(seconds(lambda: ledger.close_cycle(number, **closed)))
        times["answers"].append(seconds(ledger.answers))
        times["cycles"].append(seconds(ledger.cycles))

    benchmark.pedantic(cycle, rounds=20, warmup_rounds=1)
    found = {name: statistics.median(values) * 1000 for name, values in times.items()}
    benchmark.extra_info.update(found)
    print("\none cycle, 100 answers, 1,000 mined targets of 7 boxes, 20 cycles in all:")
    for name, value in found.items():
        print(f"  {name:18} {value:7.2f} ms")
