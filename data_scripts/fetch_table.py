"""Try every script that fetches a set in every case and write what came out.

The cases are those of `tests/data/fetch_cases.py`: a server on loopback serves small archives in
the layout of the real ones, so this runs in a clone, without a network.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from almining.progress import bar, quiet

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "notebooks" / "results" / "fetch.md"
Judge = Callable[[Any, str, Path], str]


def table(scripts: Iterable[Any], cases: Mapping[str, Judge]) -> str:
    """Return the page.

    Args:
        scripts: to be tried.
        cases: what tries a script, by name.
    """
    rows, wrong = [], 0
    scripts = list(scripts)
    for script in bar(scripts, progress=True, name="scripts", unit="script"):
        cells = [f"`{script.name}.py{f' {script.key}' * (len(script.sets) > 1)}`"]
        for name, judge in cases.items():
            with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), quiet():
                try:
                    said = f"as wanted: {judge(script, name, Path(folder).resolve())}"
                except Exception as error:
                    said, wrong = f"WRONG: {error}", wrong + 1
            cells.append(said)
        rows.append(_line(*cells))
    count = len(scripts) * len(cases)
    head = (
        "Made by `python data_scripts/fetch_table.py` from `tests/data/fetch_cases.py`: of "
        f"{count} cases {count - wrong} end as they should, {wrong} do not. No case uses the "
        "network: a server on loopback serves small archives in the layout of the real ones."
    )
    what = [
        "- fresh: nothing is there.",
        "- interrupted: stopped before a rename, one later each time, with connections that end "
        "halfway, until it ends.",
        "- repeated: run twice, then with the archives removed.",
        "- corrupted: each file in turn has a wrong byte, or is cut short where it is fetched by "
        "hand.",
        "- hostile: each archive in turn holds `../../evil`.",
        "- disk full: no room is reported, then writing fails three times.",
    ]
    lines = ["# Data sets fetched", "", head, "", *what, ""]
    lines += [_line("script", *cases), _line(*("---" for _ in ("script", *cases))), *rows]
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Try all of them and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    made = importlib.import_module("tests.data.fetch_cases")
    page = table(made.SCRIPTS, dict.fromkeys(made.CASES, made.judge))
    asked.file.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
