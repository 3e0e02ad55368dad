"""Kill runs and write whether they come to the same end: data_scripts/cut_table.py.

A small run is ended by kill -9 at 20 places, with and without loader workers, and at random
moments, and goes on in a new process; its hashes are compared with those of a run that was never
cut. Answers, weights and runs of the ledger are killed at random, too, by `tests/ledger`. One row
per cut goes to `notebooks/results/resume.json`, a table beside it; what is there is not done again,
so it can be stopped and started. It takes about an hour of one core, in a clone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from almining.ledger.files import write_atomically
from almining.progress import bar

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "notebooks" / "results" / "resume.json"
DETECTORS = {"faster_rcnn": "small Faster R-CNN", "retinanet": "small RetinaNet"}
WORKERS = (0, 2)
RANDOM = 30  # kills at random moments
LEDGER = {  # tests of tests/ledger/test_kills.py: what is killed
    "test_no_acknowledged_answer_is_lost_or_doubled": "a program that writes answers",
    "test_weights_are_whole_after_any_kill": "a program that saves weights",
    "test_a_run_killed_anywhere_comes_to_the_same": "a program that goes through cycles",
}
Row = dict[str, Any]


def todo() -> Iterator[Row]:
    """Yield what there is to do: a row each, without what came of it."""
    for detector in DETECTORS:
        for workers in WORKERS:
            for place, number in importlib.import_module("tests.test_resume").CUTS:
                where = {"place": place, "number": number}
                yield {"kind": "cut", "detector": detector, "workers": workers, **where}
    for number in range(RANDOM):
        detector, workers = [*DETECTORS][number % 2], WORKERS[number // 2 % 2]
        yield {"kind": "random", "detector": detector, "workers": workers, "number": number}
    for test in LEDGER:
        yield {"kind": "ledger", "test": test}


def through(row: Row, folder: Path) -> Row:
    """Return a row with what came of it.

    Args:
        row: of `todo`.
        folder: empty, for the run.
    """
    if row["kind"] == "ledger":
        return row | ledger_kills(row["test"])
    spec = {key: row[key] for key in ("detector", "workers")} | {"run_dir": str(folder)}
    if row["kind"] == "cut":
        if outcome(spec | {"cut": [row["place"], row["number"]]}):
            raise RuntimeError(f"the run never passed {row['place']} {row['number']} times")
    else:
        row = row | killed_at_random(spec, row["number"])
    wanted, _ = uncut(row["detector"])
    found = outcome(spec)
    return row | {"equal": found == wanted, "differs": [k for k in wanted if found[k] != wanted[k]]}


def outcome(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashes a run in a new process ends with, {} where it is cut."""
    found: dict[str, Any] = importlib.import_module("tests.resumable").finished(spec)
    if not found:
        return {}
    manifest = json.loads((Path(spec["run_dir"]) / "manifest.json").read_text())
    last = max(manifest["weights"].values(), key=lambda one: (one["cycle"], one["step"]))
    # the file holds the optimizer's memory and the loss of every step, too
    return found | {"checkpoint": last["sha256"]}


@cache
def uncut(detector: str) -> tuple[dict[str, Any], float]:
    """Return the hashes of a run that is not cut, and how many seconds it writes."""
    with tempfile.TemporaryDirectory() as folder:
        found = outcome({"detector": detector, "run_dir": folder})
        times = [path.stat().st_mtime for path in Path(folder).rglob("*")]
        return found, max(times) - (Path(folder) / "lock").stat().st_mtime


def killed_at_random(spec: Mapping[str, Any], number: int) -> Row:
    """Start a run and kill it at a random moment; say after how long, and what was there."""
    rng, folder = random.Random(number), Path(spec["run_dir"])
    quiet = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | quiet
    command = [sys.executable, "-W", "error", "-m", "tests.resumable", json.dumps(spec)]
    while True:
        after = rng.random() * uncut(spec["detector"])[1]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as run:
            while not (folder / "lock").exists() and run.poll() is None:
                time.sleep(0.005)
            time.sleep(after)
            run.kill()
        if run.returncode == -signal.SIGKILL:
            return {"seconds": round(after, 2), "files": len([*folder.rglob("*")])}
        if run.returncode:
            raise RuntimeError(f"the run ended with {run.returncode}; see above")
        shutil.rmtree(folder)  # it was through before that; another moment


def ledger_kills(test: str) -> Row:
    """Return what a test of the ledger says that kills a program 200 times."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-m", "slow", f"tests/ledger/test_kills.py::{test}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    says = re.search(r"^(\d+) kills,? (.*)$", done.stdout, flags=re.MULTILINE)
    if says is None:
        raise RuntimeError(done.stdout + done.stderr)
    return {"equal": done.returncode == 0, "kills": int(says[1]), "says": says[2]}


def page(rows: Sequence[Row]) -> str:
    """Return the tables.

    Args:
        rows: as `through` returns them.
    """
    runs = [row for row in rows if row["kind"] != "ledger"]
    same = sum(row["equal"] for row in runs)
    lines = [
        "# Runs that were killed",
        "",
        f"Made by `python data_scripts/cut_table.py`: {same} of {len(runs)} runs that were ended by"
        " kill -9 and went on in a new process end with the same hashes of weights, optimizer, "
        "losses, picks, metrics and labels as one that was not cut.",
        "",
        "A run is two cycles of four steps over 12 scenes, on a CPU; every step is saved. It is "
        "killed at 20 places, by itself: in queries, between requests and answers, in steps, in "
        "checkpoint writes, around the closing of a cycle; and at random moments, by its parent.",
        "",
        *_lines("detector", "loader workers", "cut", "runs", "equal", "not equal"),
    ]
    for kind, words in (("cut", "at 20 places"), ("random", "at random")):
        for detector, name in DETECTORS.items():
            for workers in WORKERS:
                key = {"kind": kind, "detector": detector, "workers": workers}
                found = [row["equal"] for row in runs if key.items() <= row.items()]
                cells = (name, workers, words, len(found), sum(found), found.count(False))
                lines += _lines(*cells, head=False)
    for row in runs:
        if not row["equal"]:
            lines += ["", f"Not equal: {json.dumps(row)}"]
    lines += ["", "The ledger alone, whose programs are killed at random, too:", ""]
    lines += _lines("what is killed", "kills", "as it should be", "what came out")
    for row in rows:
        if row["kind"] == "ledger":
            right = "yes" if row["equal"] else "no"
            lines += _lines(LEDGER[row["test"]], row["kills"], right, row["says"], head=False)
    return "\n".join(lines) + "\n"


def _lines(*cells: object, head: bool = True) -> list[str]:
    line = f"| {' | '.join(map(str, cells))} |"
    return [line, "|" + " --- |" * len(cells)] if head else [line]


def main() -> None:
    """Do what is not done yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    rows: list[Row] = json.loads(asked.file.read_text()) if asked.file.exists() else []
    for new in bar(list(todo()), progress=True, name="cuts", unit="run"):
        if not any(new.items() <= row.items() for row in rows):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(through(new, Path(folder)))
            lines = ",\n".join(json.dumps(row) for row in rows)
            write_atomically(asked.file, f"[\n{lines}\n]\n".encode())
            write_atomically(asked.file.with_suffix(".md"), page(rows).encode())
    print(page(rows))


if __name__ == "__main__":
    main()
