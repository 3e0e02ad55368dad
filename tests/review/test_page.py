"""The review page without a browser: its own tests under Node, and its fold beside Python's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from almining.review.state import fold

LOGS = 400
SCRIPT = """
import { readFileSync } from "node:fs";
const { fold } = await import(process.argv[1]);
const logs = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(logs.map(fold)));
"""
JUDGED = ("accept", "reject", "remove")
BARE = ("finish", "skip", "reopen", "look")


@pytest.fixture(scope="module")
def node() -> str:
    """The program that runs the page's module; skips without it, except in CI."""
    found = shutil.which("node")
    if found is None:
        message = "node is missing: the review page (almining/review/page.mjs) is NOT tested"
        if os.environ.get("CI"):
            pytest.fail(message + "; CI needs it (see .ci/run)")
        pytest.skip(message)
    return found


@pytest.fixture
def page(repo: Path) -> Path:
    return repo / "almining" / "review" / "page.mjs"


def test_the_parts_of_the_page(node: str, repo: Path) -> None:
    tests = repo / "tests" / "review" / "page.test.mjs"
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout, "node ran no test"


def test_page_and_kernel_fold_alike(node: str, page: Path) -> None:
    logs = [_log(np.random.default_rng(seed)) for seed in range(LOGS)]
    ours = [fold(log).plain() for log in logs]
    theirs = _folded(node, page, logs)
    for seed, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert json.loads(json.dumps(mine)) == other, f"seed {seed}"
    items = [item for mine in ours for item in mine["requests"].values()]
    statuses = {box["status"] for item in items for box in item["boxes"]}
    assert statuses == {"known", "proposed", "accepted", "rejected", "drawn"}
    assert {item["status"] for item in items} == {"open", "finished", "skipped"}
    assert {item["verdict"] for item in items} == {None, "accept", "reject"}
    assert any(mine["redo"] for mine in ours) and any(not mine["undo"] for mine in ours)


def test_the_page_needs_nothing_else(page: Path) -> None:
    """One module without imports or addresses: it runs where there is no network."""
    text = page.read_text(encoding="utf-8") + page.with_suffix(".css").read_text(encoding="utf-8")
    for word in ("import ", "import(", "http:", "https:", "@import", "url(", "eval("):
        assert word not in text, word
    assert text.count("innerHTML") == 1  # the constant frame


def _folded(node: str, page: Path, logs: list[list[dict[str, Any]]]) -> Any:
    command = [node, "--input-type=module", "--eval", SCRIPT, page.as_uri()]
    given = json.dumps(logs)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _log(random: np.random.Generator) -> list[dict[str, Any]]:
    """Return a log of few ids, keys and requests, so that they meet; some events come twice."""
    log: list[dict[str, Any]] = []
    for place in range(int(random.integers(0, 60))):
        if log and random.random() < 0.05:
            log.append(log[random.integers(len(log))] | {"seconds": 99.0})
        else:
            log.append(_event(random, f"e{place}", [event["id"] for event in log]))
    return log


def _event(random: np.random.Generator, name: str, before: list[str]) -> dict[str, Any]:
    does = ["start", "add", "change", "verdict", "tag", "undo", "undo", "redo", "redo"]
    do = str(random.choice([*does, *JUDGED, *BARE]))
    request, seconds = f"q{random.integers(3)}", float(random.integers(40)) / 4
    event: dict[str, Any] = {"id": name, "request": request, "do": do, "seconds": seconds}
    if do == "start":
        boxes = [_box(random) | {"score": _score(random)} for _ in range(random.integers(5))]
        size = [int(side) for side in random.integers(1, 99, 2)]
        return event | {"size": size, "known": boxes[:2], "proposed": boxes[2:]}
    if do == "add":
        return event | _box(random)
    if do == "change":
        change = _box(random)
        left = {"box", "label", "ignore"} & {name for name in change if random.random() < 0.5}
        return event | {name: value for name, value in change.items() if name not in left}
    if do == "verdict":
        return event | {"verdict": str(random.choice(["accept", "reject"]))}
    if do == "tag":
        return event | {
            "label": int(random.integers(1, 13)),
            "present": bool(random.random() < 0.7),
        }
    if do in ("undo", "redo"):
        return event | {"of": str(random.choice(["none", *before[-8:]]))}
    return event | ({"key": _key(random)} if do in JUDGED else {})


def _box(random: np.random.Generator) -> dict[str, Any]:
    corners = [float(side) for side in random.integers(0, 400, 4) / 4]
    label, ignore = int(random.integers(1, 4)), bool(random.random() < 0.3)
    return {"key": _key(random), "box": corners, "label": label, "ignore": ignore}


def _key(random: np.random.Generator) -> str:
    return f"b{random.integers(6)}"


def _score(random: np.random.Generator) -> float | None:
    return None if random.random() < 0.3 else float(random.random())
