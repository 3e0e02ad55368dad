"""Cause the faults a long run meets and write what came out: data_scripts/fault_table.py.

They are those of `tests/faults_of_*.py`, each caused for real, so this runs in a clone.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from almining.progress import bar

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "notebooks" / "results" / "faults.md"
HEADS = ("#", "fault", "what is done", "verdict", "what comes out")


def measure(rows: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return each row with what came out of it."""
    judge = importlib.import_module("tests.faults").judge
    pairs = []
    for row in bar(list(rows), progress=True, name="faults", unit="fault"):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append((row, judge(row, Path(folder))))
    return pairs


def table(rows: Sequence[tuple[Any, Any]]) -> str:
    """Return the page.

    Args:
        rows: the faults, each with its outcome.
    """
    states = Counter(outcome.state for _, outcome in rows)
    lines = [
        "Made by `python data_scripts/fault_table.py` from `tests/faults_of_*.py`: of "
        f"{len(rows)} faults, caused for real, {states['as wanted']} end as they should, "
        f"{states['wrong']} do not, {states['not run']} were not caused.",
        "",
        "`HOST`, `TIME` and `N` stand for the name of a machine, a time and the number of a "
        "process. Runs are small: two cycles of five steps, images of one colour.",
        "",
        _line(*HEADS),
        _line(*("---" for _ in HEADS)),
        *(_line(row.number, row.name, row.done, one.state, one.says) for row, one in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Cause every fault and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    page = table(measure(importlib.import_module("tests.faults").rows()))
    asked.file.write_text(page, encoding="utf-8")
    print(page.splitlines()[0])


if __name__ == "__main__":
    main()
