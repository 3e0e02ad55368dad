"""The review page without a browser: its own tests under Node, and its fold beside Python's."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from almining.review.state import fold
from tests.review import logs

LOGS = 400
SCRIPT = """
import { readFileSync } from "node:fs";
const { fold } = await import(process.argv[1]);
const logs = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(logs.map(fold)));
"""


@pytest.fixture(scope="module")
def node() -> str:
    """The program that runs the page's module, Playwright's if need be; skips without either."""
    playwright = importlib.util.find_spec("playwright")
    driver = Path(str(playwright and playwright.origin)).parent / "driver" / "node"
    found = shutil.which("node") or (driver if driver.is_file() else None)
    if found is None:
        pytest.skip("node is missing: the review page (almining/review/page.mjs) is NOT tested")
    return str(found)


@pytest.fixture
def page(repo: Path) -> Path:
    return repo / "almining" / "review" / "page.mjs"


def test_the_parts_of_the_page(node: str, repo: Path) -> None:
    tests = repo / "tests" / "review" / "page.test.mjs"
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout, "node ran no test"


def test_page_and_kernel_fold_alike(node: str, page: Path) -> None:
    made = [logs.log(seed, seed % 60) for seed in range(LOGS)]
    ours = [fold(log).plain() for log in made]
    theirs = _folded(node, page, made)
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


def _folded(node: str, page: Path, made: list[list[dict[str, Any]]]) -> Any:
    command = [node, "--input-type=module", "--eval", SCRIPT, page.as_uri()]
    given = json.dumps(made)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
