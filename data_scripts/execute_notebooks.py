"""Run the notebooks from top to bottom and write them back with clean outputs.

    python data_scripts/execute_notebooks.py                  # all of notebooks/
    python data_scripts/execute_notebooks.py 00_start_here    # one
    python data_scripts/execute_notebooks.py --check          # run only; nothing is written

Every committed output comes from here: the kernel is this interpreter, the data the toy world, the
device the CPU. Widget state, timings and progress bars are left out, and a hash of the sources goes
in, by which a test sees outputs that are older than the code above them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 180  # seconds
ENVIRONMENT = {
    "ALMINING_DEVICE": "cpu",
    "ALMINING_SCALE": "small",
    "JUPYTER_PLATFORM_DIRS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
}


def source_hash(notebook: Any) -> str:
    """Return the SHA-256 of the cells' types and sources, in order; outputs do not count."""
    cells = [[cell["cell_type"], cell["source"]] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()


def execute(notebook: Any, folder: Path) -> None:
    """Run every cell of `notebook` in place, in a fresh kernel of this interpreter.

    Args:
        notebook: a version 4 notebook.
        folder: where the kernel starts.

    Raises:
        CellExecutionError: when a cell raises.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    native = KernelSpecManager(kernel_dirs=[])  # no installed kernel: python3 is this interpreter
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=native)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_TIMEOUT,
        store_widget_state=False,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    kept = {name: value for name, value in os.environ.items() if name != "ALMINING_DATA"}
    client.execute(cleanup_kc=True, env=kept | ENVIRONMENT)  # also ends the kernel


def clean(notebook: Any) -> None:
    """Take out of `notebook`, in place, what differs between runs or does not render elsewhere."""
    notebook["metadata"] = nbformat.from_dict(
        {
            "almining": {"source_sha256": source_hash(notebook)},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook["cells"]:
        cell["metadata"] = nbformat.from_dict(
            {
                name: cell["metadata"][name]
                for name in ("jupyter", "tags")
                if name in cell["metadata"]
            }
        )
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if _worth_keeping(output)]


def _worth_keeping(output: Any) -> bool:
    if output["output_type"] == "stream":
        return bool(output["name"] == "stdout")  # progress bars and warnings go to stderr
    data = output.get("data", {})
    if WIDGET not in data:
        return True
    del data[WIDGET]  # needs the state we do not store
    return bool(set(data) - {"text/plain"})


def find(names: Iterable[str]) -> list[Path]:
    """Return the paths of the named notebooks; all of them in order when none is named."""
    paths = [
        Path(name) if name.endswith(".ipynb") else NOTEBOOKS / f"{name}.ipynb" for name in names
    ] or sorted(NOTEBOOKS.glob("*.ipynb"))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        known = ", ".join(path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb")))
        raise SystemExit(f"no such notebook: {', '.join(missing)}; {NOTEBOOKS.name}/ has {known}")
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Execute the notebooks; return 1 when one of them failed, else 0."""
    parser = argparse.ArgumentParser(description="Run the notebooks and write clean outputs.")
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb, or paths; default all")
    parser.add_argument("--check", action="store_true", help="run only, write nothing")
    options = parser.parse_args(arguments)
    failed = 0
    for path in find(options.names):
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        try:
            execute(notebook, path.parent)
        except CellExecutionError as error:
            failed = 1
            print(f"{path.name}: FAILED\n{error}", file=sys.stderr)
            continue
        print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
        if not options.check:
            clean(notebook)
            nbformat.write(notebook, path)  # validates, sorts keys
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
