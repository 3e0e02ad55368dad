"""Write the table of bad inputs and what reading them comes to: data_scripts/defect_table.py.

The data sets are those of `tests/data/defects_rows.py`, so this runs in a clone, with PyAV there.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "notebooks" / "results" / "defects.md"
HEADS = ("#", "defect", "format", "verdict wanted", "verdict given", "message")
CLEAN_HEADS = ("clean data set", "format", "findings")


def measure(rows: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return each row with what reading it came to."""
    judge = importlib.import_module("tests.data.defects").judge
    pairs = []
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            pairs.append((row, judge(row, Path(folder))))
    return pairs


def table(defects: Sequence[tuple[Any, Any]], clean: Sequence[tuple[Any, Any]]) -> str:
    """Return the page.

    Args:
        defects: rows with a defect, each with its outcome.
        clean: clean data sets, each with its outcome.
    """
    as_wanted = sum(row.wanted == outcome.given for row, outcome in defects if _right(outcome))
    silent = sum(outcome.given == "N" and _right(outcome) for _, outcome in clean)
    lines = [
        "Made by `python data_scripts/defect_table.py` from `tests/data/defects_rows.py`: "
        f"{as_wanted} of {len(defects)} data sets with one defect come to the verdict wanted, "
        f"{silent} of {len(clean)} clean ones to no finding and no warning.",
        "",
        "E: an error that names file, record, field, value and remedy. R: repaired, with a finding."
        " Q: set aside, with a finding. warn: read as it stands, with a finding. N: valid, read "
        "without a word. What is read is checked too. An image whose fault shows only when it is "
        "decoded is E where it is loaded by itself and Q where many are scored.",
        "",
        *_header(HEADS),
        *(_line(row.number, row.name, row.format, row.wanted, *_given(o)) for row, o in defects),
        "",
        *_header(CLEAN_HEADS),
        *(_line(row.name, row.format, 0 if _right(o) else _given(o)[0]) for row, o in clean),
    ]
    return "\n".join(lines) + "\n"


def _right(outcome: Any) -> bool:
    return not outcome.problems


def _given(outcome: Any) -> tuple[str, str]:
    problems = f", but {'; '.join(outcome.problems)}" if outcome.problems else ""
    return outcome.given + problems, f"`{outcome.message}`" if outcome.message else ""


def _header(names: Sequence[str]) -> tuple[str, str]:
    return _line(*names), _line(*("---" for _ in names))


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Measure every row and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    rows = importlib.import_module("tests.data.defects_rows")
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    page = table(measure(rows.ROWS), measure(rows.CLEAN))
    asked.file.write_text(page, encoding="utf-8")
    print(page.splitlines()[0])


if __name__ == "__main__":
    main()
