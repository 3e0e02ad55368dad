"""What is true of every committed notebook, read from the files without running them.

Each check takes a notebook and returns its faults, so that made, bad notebooks show that it can
fail. The script that executes notebooks is tested at the end.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from data_scripts.execute_notebooks import WIDGET, main, source_hash

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 1_000_000
MAX_FUNCTION_LINES = 10
HEADINGS = ("## What you will learn", "## Recap", "## Exercises")
ABSOLUTE = re.compile(
    r"(?<![\w.:/~*])/(?:home|root|work|tmp|Users|usr|opt|var|mnt|farm)/\w|\b[A-Z]:\\\w"
)
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")

Notebook = Any
Check = Callable[[Notebook], list[str]]


def cells(notebook: Notebook, kind: str) -> list[tuple[int, Any]]:
    """Return (position, cell) of all cells of a kind."""
    return [(n, cell) for n, cell in enumerate(notebook["cells"]) if cell["cell_type"] == kind]


def outputs(notebook: Notebook) -> Iterator[tuple[int, Any]]:
    """Yield (position of the cell, output)."""
    for number, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            yield number, output


def tree(cell: Any) -> ast.Module:
    """Return the syntax tree of a code cell, magics translated."""
    return ast.parse(TransformerManager().transform_cell(cell["source"]))


def headings(notebook: Notebook) -> list[tuple[int, str]]:
    """Return (position of the cell, line) of all Markdown headings."""
    found = []
    for number, cell in cells(notebook, "markdown"):
        prose = re.sub(r"^```.*?^```", "", cell["source"], flags=re.DOTALL | re.MULTILINE)
        found += [(number, line.strip()) for line in prose.splitlines() if re.match("#+ ", line)]
    return found


def check_format(notebook: Notebook) -> list[str]:
    try:
        nbformat.validate(nbformat.from_dict(notebook))
    except nbformat.ValidationError as error:
        return [str(error).splitlines()[0]]
    return []


def check_metadata(notebook: Notebook) -> list[str]:
    metadata = notebook["metadata"]
    faults = (
        ["metadata.widgets: GitHub may refuse to show the file"] if "widgets" in metadata else []
    )
    kernel = metadata.get("kernelspec", {}).get("name")
    return faults + ([] if kernel == "python3" else [f"kernelspec is {kernel!r}, not 'python3'"])


def check_size(notebook: Notebook) -> list[str]:
    size = len(json.dumps(notebook, ensure_ascii=False).encode())
    return [f"{size} bytes; {MAX_BYTES} is the limit"] if size > MAX_BYTES else []


def check_counts(notebook: Notebook) -> list[str]:
    counts = [
        cell["execution_count"] for _, cell in cells(notebook, "code") if cell["source"].strip()
    ]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts are {counts}"]


def check_outputs(notebook: Notebook) -> list[str]:
    faults = []
    for number, output in outputs(notebook):
        if output["output_type"] == "error":
            faults.append(f"cell {number} stores an error: {output['ename']}")
        if output["output_type"] == "stream" and output["name"] == "stderr":
            faults.append(f"cell {number} stores what went to stderr")
        if WIDGET in output.get("data", {}):
            faults.append(
                f"cell {number} stores a widget view, which needs state that is not there"
            )
    return faults


def check_alt(notebook: Notebook) -> list[str]:
    faults = []
    for number, output in outputs(notebook):
        for mime in output.get("data", {}):
            alt = output["metadata"].get(mime, {}).get("alt", "") if "image/" in mime else "-"
            if not str(alt).strip():
                faults.append(f"cell {number} shows {mime} without metadata {mime}: alt")
            if mime == "image/svg+xml":
                faults.append(f"cell {number} shows an SVG; nbval compares it, use PNG")
    return faults


def check_headings(notebook: Notebook) -> list[str]:
    found = headings(notebook)
    titles = [(number, line) for number, line in found if line.startswith("# ")]
    faults = [] if [n for n, _ in titles] == [0] else [f"one title, in the first cell: {titles}"]
    sections = [line for _, line in found if line in HEADINGS]
    return faults + ([] if tuple(sections) == HEADINGS else [f"has {sections}, needs {HEADINGS}"])


def check_sections(notebook: Notebook) -> list[str]:
    starts = [(number, line) for number, line in headings(notebook) if line.startswith("## ")]
    faults = []
    ends = [number for number, _ in starts[1:]] + [len(notebook["cells"])]
    for (start, line), end in zip(starts, ends, strict=True):
        code = [cell for number, cell in cells(notebook, "code") if start < number < end]
        if code and not any(map(asserts, code)):
            faults.append(f"no cell of {line!r} asserts anything")
    return faults


def asserts(cell: Any) -> bool:
    """Whether a cell asserts something, or nbval compares what it prints."""
    marked = "nbval-check-output" in cell["metadata"].get("tags", [])
    marked |= bool(re.search("^# *NBVAL_CHECK_OUTPUT", cell["source"], flags=re.MULTILINE))
    return marked or any(isinstance(node, ast.Assert) for node in ast.walk(tree(cell)))


def check_functions(notebook: Notebook) -> list[str]:
    return [
        f"cell {number} defines {node.name} in {length} lines; {MAX_FUNCTION_LINES} is the limit"
        for number, cell in cells(notebook, "code")
        for node in ast.walk(tree(cell))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := int(node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def check_installs(notebook: Notebook) -> list[str]:
    magic = re.compile(r"^\s*[%!]\s*(pip|conda)\b", flags=re.MULTILINE)
    return [
        f"cell {n} installs packages"
        for n, c in cells(notebook, "code")
        if magic.search(c["source"])
    ]


def check_paths(notebook: Notebook) -> list[str]:
    faults = []
    texts = [(number, cell["source"]) for number, cell in enumerate(notebook["cells"])]
    for number, output in outputs(notebook):
        texts.append((number, str(output.get("text", ""))))
        data = output.get("data", {})
        texts += [(number, str(data[mime])) for mime in data if mime.startswith("text/")]
    for number, text in texts:
        faults += [f"cell {number} names {m[0]}..." for m in ABSOLUTE.finditer(text)]
        faults += [f"cell {number} shows the address {m[0]}" for m in ADDRESS.finditer(text)]
    return faults


def check_fresh(notebook: Notebook) -> list[str]:
    stored = notebook["metadata"].get("almining", {}).get("source_sha256")
    if stored == source_hash(notebook):
        return []
    return ["the outputs are older than the sources: run data_scripts/execute_notebooks.py"]


CHECKS: list[Check] = [
    check_format,
    check_metadata,
    check_size,
    check_counts,
    check_outputs,
    check_alt,
    check_headings,
    check_sections,
    check_functions,
    check_installs,
    check_paths,
    check_fresh,
]


def link_faults(notebook: Notebook, path: Path) -> list[str]:
    """Return local links that lead nowhere."""
    faults = []
    for number, cell in cells(notebook, "markdown"):
        for link in (a or b for a, b in LINK.findall(cell["source"])):
            target = link.partition("#")[0]
            local = target and not re.match(r"[a-z]+:", link)
            if local and not (path.parent / target).exists():
                faults.append(f"cell {number} links to {link}, which is not there")
    return faults


def neighbour_faults(notebook: Notebook, path: Path, paths: list[Path]) -> list[str]:
    """Return the notebooks before and after this one that it does not link to."""
    place = paths.index(path)
    around = [*paths[max(place - 1, 0) : place], *paths[place + 1 : place + 2]]
    prose = "\n".join(cell["source"] for _, cell in cells(notebook, "markdown"))
    return [f"has no link to {other.name}" for other in around if f"]({other.name})" not in prose]


def read(path: Path) -> Notebook:
    """Return a notebook as it is stored, lines joined, not mended."""
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=nbformat.NO_CONVERT)


def test_there_are_notebooks() -> None:
    assert [path.stem for path in PATHS][:1] == ["00_start_here"]
    assert [path.name for path in PATHS if not re.match(r"\d\d_\w+\.ipynb", path.name)] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path: Path) -> None:
    notebook = read(path)
    faults = [fault for check in CHECKS for fault in check(notebook)]
    faults += link_faults(notebook, path) + neighbour_faults(notebook, path, PATHS)
    assert faults == []
    assert path.read_text(encoding="utf-8").endswith("}\n")


def made() -> Notebook:
    """Return a small notebook that passes every check."""
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    picture = nbformat.v4.new_output(
        "display_data", data={"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": "a curve"}}
    )
    said = nbformat.v4.new_output("stream", name="stdout", text="2\n")
    notebook = nbformat.v4.new_notebook(
        cells=[
            text("# A title"),
            text("## What you will learn\nTo count. [site](https://example.org/home/x)"),
            code("import math", execution_count=1),
            code("%matplotlib inline\nassert math.pi > 3", execution_count=2, outputs=[picture]),
            text("## Recap\nSee [this](#recap).\n```python\n# no heading\n```"),
            text("## Exercises"),
            code("x = 1 + 1\nassert x == 2\nprint(x)", execution_count=3, outputs=[said]),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    notebook.metadata["almining"] = {"source_sha256": source_hash(notebook)}
    return notebook


def test_a_good_notebook_has_no_faults() -> None:
    assert [fault for check in CHECKS for fault in check(made())] == []


def spoil(check: Check, **changes: Any) -> pytest.ParameterSet:
    """Return a case: the check, and what to set in the made notebook, "." written as "__"."""
    return pytest.param(check, changes, id=f"{check.__name__}-{'-'.join(changes)}")


LONG = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        spoil(check_format, cells__2__outputs=None),
        spoil(check_metadata, metadata__widgets={}),
        spoil(check_metadata, metadata__kernelspec__name="almining-dev"),
        spoil(check_size, cells__0__source="#" * MAX_BYTES),
        spoil(check_counts, cells__2__execution_count=2),
        spoil(check_counts, cells__2__execution_count=None),
        spoil(check_outputs, cells__3__outputs__0=nbformat.v4.new_output("error", ename="E")),
        spoil(check_outputs, cells__6__outputs__0__name="stderr"),
        spoil(check_outputs, cells__3__outputs__0__data={WIDGET: {}}),
        spoil(check_alt, cells__3__outputs__0__metadata={}),
        spoil(check_alt, cells__3__outputs__0__metadata={"image/png": {"alt": " "}}),
        spoil(check_alt, cells__3__outputs__0__data={"image/svg+xml": "<svg/>"}),
        spoil(check_headings, cells__0__source="No title"),
        spoil(check_headings, cells__5__source="# Exercises"),
        spoil(check_headings, cells__4__source="## Summary"),
        spoil(check_sections, cells__6__source="print(2)"),
        spoil(check_functions, cells__2__source=LONG),
        spoil(check_installs, cells__2__source="%pip install almining"),
        spoil(check_paths, cells__2__source="open('/" + "tmp/x')"),
        spoil(check_paths, cells__6__outputs__0__text="C:\\data"),
        spoil(check_paths, cells__6__outputs__0__text="<f at 0x7f3529584680>"),
        spoil(check_fresh, cells__0__source="# Another title"),
        spoil(check_fresh, metadata__almining={}),
    ],
)
def test_each_check_finds_its_fault(check: Check, changes: dict[str, Any]) -> None:
    notebook = json.loads(json.dumps(made()))
    for place, value in changes.items():
        *steps, last = (int(step) if step.isdigit() else step for step in place.split("__"))
        inner = notebook
        for step in steps:
            inner = inner[step]
        inner[last] = value
    assert check(notebook)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    notebook = made()
    assert link_faults(notebook, tmp_path / "a.ipynb") == []
    notebook.cells[0].source = '# T [b](b.ipynb#recap) <img src="c.png">'
    assert len(link_faults(notebook, tmp_path / "a.ipynb")) == 2
    (tmp_path / "b.ipynb").touch()
    assert len(link_faults(notebook, tmp_path / "a.ipynb")) == 1


def test_missing_links_to_the_neighbours_are_found() -> None:
    notebook, paths = made(), [Path(f"0{n}_x.ipynb") for n in range(4)]
    assert len(neighbour_faults(notebook, paths[1], paths)) == 2
    assert len(neighbour_faults(notebook, paths[0], paths)) == 1
    notebook.cells[4].source += " [back](00_x.ipynb), [next](02_x.ipynb)"
    assert neighbour_faults(notebook, paths[1], paths) == []


WIDGETS_AND_BARS = """
    import math, os, sys
    import ipywidgets
    from IPython.display import display
    from tqdm.auto import tqdm
    for _ in tqdm(range(3)): pass
    display(ipywidgets.IntSlider(3))
    print("noise", file=sys.stderr)
    print(os.environ["OMP_NUM_THREADS"], os.environ.get("ALMINING_DATA"), os.getcwd() == HERE)
    print(sys.executable == PYTHON)
"""


def test_executing_writes_clean_and_repeatable_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALMINING_DATA", "voc:elsewhere")
    path, other = tmp_path / "made.ipynb", tmp_path / "other.ipynb"
    notebook = made()
    values = f"HERE, PYTHON = {str(tmp_path)!r}, {sys.executable!r}\n"
    notebook.cells[2].source = values + textwrap.dedent(WIDGETS_AND_BARS)
    notebook.cells[2].metadata = {"collapsed": True, "tags": ["keep"]}
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert main([str(path), "--check"]) == 0
    assert path.read_bytes() == before
    assert main([str(path)]) == 0
    done = read(path)
    assert [output.get("text") for output in done.cells[2].outputs] == ["1 None True\nTrue\n"]
    assert done.cells[2].metadata == {"tags": ["keep"]}
    faults = [fault for check in CHECKS if check is not check_paths for fault in check(done)]
    assert faults == []
    shutil.copy(path, other)
    assert main([str(other)]) == 0
    assert other.read_bytes() == path.read_bytes()


def test_a_failing_notebook_is_reported_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = made()
    notebook.cells[2].source = "raise ValueError('told so')"
    path = tmp_path / "bad.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert main([str(path)]) == 1
    assert path.read_bytes() == before
    assert "told so" in capsys.readouterr().err


def test_an_unknown_notebook_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such notebook"):
        main(["99_nowhere"])
