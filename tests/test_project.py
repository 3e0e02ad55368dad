"""The rules of the project, read from its files: layers, forbidden calls, size, commands, tools."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "almining"
MAX_LINES = 400

# A module imports only from lower layers. Modules of one group may import each other without a
# cycle: the foundation, drawing, a package, a paper that became a folder.
LAYERS = {
    "lazy": 0,
    "progress": 0,
    "checks": 0,
    "rng": 0,
    "boxes": 0,
    "records": 0,
    "plain": 0,
    "digests": 0,
    "interrupts": 0,
    "launch": 0,
    "ranks": 0,
    "meeting": 0,
    "data": 1,
    "score": 1,
    "select": 1,
    "ledger": 1,
    "evaluate": 2,
    "branches": 2,
    "canvas": 2,
    "claims": 1,
    "curves": 2,
    "draw": 2,
    "heat": 2,
    "nested": 2,
    "pastes": 2,
    "reasons": 2,
    "routes": 2,
    "sheets": 2,
    "label": 2,
    "loader": 2,
    "checkpoints": 3,
    "shards": 3,
    "detectors": 3,
    "review": 3,
    "predict": 4,
    "train": 4,
    "schedule": 3,
    "gradients": 3,
    "recipe": 5,
    "history": 5,
    "fingerprints": 5,
    "journal": 5,
    "cycle": 5,
    "papers": 6,
    "demo": 6,
    "lab": 7,
}
GROUPS = {
    **dict.fromkeys(
        ("branches", "canvas", "curves", "heat", "nested", "pastes", "reasons", "routes", "sheets"),
        "draw",
    ),
    **dict.fromkeys(("recipe", "history", "fingerprints", "journal"), "cycle"),
}
FORBIDDEN_MODULES = {
    "pickle": "safetensors or JSON",
    "dill": "safetensors or JSON",
    "joblib": "safetensors or JSON",
    "shelve": "safetensors or JSON",
    "xml": "defusedxml",
}
FORBIDDEN_CALLS = {
    r"torch\.load": "safetensors.torch.load_file",
    r".*\.cuda": "to(device) of the inputs",
    r".*\.extractall": "almining.data.fetch",
    r"(torch|torch\.random|torch\.cuda|np\.random|numpy\.random|random)\.(manual_)?seed(_all)?": (
        "a torch.Generator, or almining.rng"
    ),
    r"(eval|exec)": "code",
}


def module_name(path: Path, root: Path = PACKAGE) -> str:
    """Return `data.pool` for almining/data/pool.py and `data` for almining/data/__init__.py."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_lazy(tree: ast.Module) -> bool:
    """Whether an `__init__` only attaches parts that load on first use."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
    return not defines and any(ast.unparse(call.func) == "attach" for call in calls)


def live_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out the bodies of `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from live_nodes(other)
        else:
            yield node
            yield from live_nodes(node)


def imports(tree: ast.Module, known: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, module of almining) for every import, with "" for the package itself."""
    for node in live_nodes(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            base = str(node.module)
            names = [f"{base}.{alias.name}" for alias in node.names]
            inside = [name.removeprefix("almining.") for name in names]
            found = [n if i in known else base for n, i in zip(names, inside, strict=True)]
        else:
            continue
        for name in found:
            if name == "almining" or name.startswith("almining."):
                yield node.lineno, name.removeprefix("almining").removeprefix(".")


def group(module: str) -> str:
    """Return what a module may share a layer with: itself, its package, or its paper."""
    parts = module.split(".")
    if LAYERS.get(parts[0]) == 0:
        return "foundation"
    return ".".join(parts[:2]) if parts[0] == "papers" else GROUPS.get(parts[0], parts[0])


def layer_faults(sources: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the imports of modules, given as name to source."""
    faults = []
    edges: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        top = module.split(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                faults.append(f"{module}:{node.lineno} imports relatively; write from almining...")
        if is_lazy(tree):
            continue
        if top not in LAYERS:
            faults.append(f"{module} has no layer; give it one in LAYERS, as DESIGN section 2 does")
            continue
        edges.setdefault(module, set())
        for line, target in imports(tree, set(sources)):
            other = target.split(".")[0]
            if not target:
                faults.append(
                    f"{module}:{line} imports almining itself; import the module it needs"
                )
            elif other not in LAYERS:
                faults.append(f"{module}:{line} imports {target}, which has no layer in LAYERS")
            elif group(target) == group(module):
                if target != module:
                    edges[module].add(target)
            elif LAYERS[other] >= LAYERS[top]:
                faults.append(
                    f"{module}:{line} (layer {LAYERS[top]}) imports {target} "
                    f"(layer {LAYERS[other]}); only lower layers may be imported"
                )
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        faults.append("imports go in a circle: " + " -> ".join(error.args[1]))
    return faults


def forbidden_faults(name: str, source: str) -> list[str]:
    """Return the imports and calls in a source that the project does without."""
    faults = []
    for node in live_nodes(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [str(node.module)]
            borrowed = [f"{node.module}.{alias.name}" for alias in node.names]
            faults += [f"{name}:{node.lineno} {f}" for f in map(forbidden_call, borrowed) if f]
        faults += [
            f"{name}:{node.lineno} imports {module}; use {FORBIDDEN_MODULES[module.split('.')[0]]}"
            for module in found
            if module.split(".")[0] in FORBIDDEN_MODULES
        ]
        if isinstance(node, ast.Call) and (fault := forbidden_call(ast.unparse(node.func))):
            faults.append(f"{name}:{node.lineno} {fault}")
    return faults


def forbidden_call(function: str) -> str:
    """Return why a function, by its full name, is not called here, or ""."""
    for pattern, instead in FORBIDDEN_CALLS.items():
        if re.fullmatch(pattern, function, flags=re.DOTALL):
            return f"calls {function.splitlines()[0]}; use {instead}"
    return ""


def library() -> dict[str, str]:
    """Return name to source for every module of almining except the package itself."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {name: path.read_text() for path in paths if (name := module_name(path))}


def test_modules_import_only_from_lower_layers() -> None:
    assert layer_faults(library()) == []


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"boxes": "from almining.train import fit", "train": ""}, "only lower layers"),
        ({"boxes": "def f():\n    from almining import train", "train": ""}, "only lower layers"),
        ({"boxes": "import almining.train", "train": ""}, "only lower layers"),
        ({"train": "import almining.predict", "predict": ""}, "only lower layers"),
        ({"papers.bib": "from almining.papers import ssm", "papers.ssm": ""}, "only lower layers"),
        ({"papers.bib": "import almining.papers.baselines"}, "only lower layers"),
        ({"cycle": "import almining as al"}, "imports almining itself"),
        ({"cycle": "from almining import load_demo"}, "imports almining itself"),
        ({"data.pool": "from .readers import read_voc"}, "imports relatively"),
        ({"novel": ""}, "novel has no layer"),
        ({"cycle": "from almining import novel"}, "imports almining itself"),
        ({"cycle": "import almining.novel"}, "no layer in LAYERS"),
        (
            {"data.a": "import almining.data.b", "data.b": "from almining.data import a"},
            "imports go in a circle",
        ),
        ({"boxes": "import almining.rng", "rng": "import almining.boxes"}, "go in a circle"),
        (
            {"boxes": "if TYPE_CHECKING:\n    pass\nelse:\n    import almining.train"},
            "only lower layers",
        ),
    ],
)
def test_the_layer_rule_can_fail(sources: dict[str, str], fault: str) -> None:
    assert fault in "\n".join(layer_faults(sources))


@pytest.mark.parametrize(
    "sources",
    [
        {"train": "from almining.boxes import iou\nimport almining.data.pool", "boxes": ""},
        {"boxes": "if TYPE_CHECKING:\n    from almining.train import fit"},
        {"data": "from almining.lazy import attach\nx = attach('data')\nimport almining.lab"},
        {"data.readers": "from almining.data.pool import Pool", "data.pool": ""},
        {"papers.bib.rivals": "from almining.papers.bib import pairs", "papers.bib.pairs": ""},
        {"records": "from almining.checks import check_boxes", "checks": "import torch"},
    ],
)
def test_the_layer_rule_lets_good_imports_pass(sources: dict[str, str]) -> None:
    assert layer_faults(sources) == []


def test_nothing_forbidden_is_imported_or_called() -> None:
    paths = [*PACKAGE.rglob("*.py"), *(REPO / "data_scripts").rglob("*.py")]
    faults = [f for path in paths for f in forbidden_faults(path.name, path.read_text())]
    # rng is the one place that may fork and put back the global generators
    assert [fault for fault in faults if not re.match(r"rng\.py:\d+ calls torch\.", fault)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import xml.etree.ElementTree as ET",
        "from xml.etree import ElementTree",
        "torch.load(path)",
        "from torch import load",
        "model.cuda()",
        "(a +\n b).cuda()",
        "tarfile.open(p).extractall('x')",
        "torch.manual_seed(0)",
        "torch.cuda.manual_seed_all(0)",
        "np.random.seed(0)",
        "from random import seed",
        "eval('1')",
    ],
)
def test_the_forbidden_can_be_found(source: str) -> None:
    assert forbidden_faults("made.py", source)


def test_own_generators_and_eval_mode_are_not_forbidden() -> None:
    good = "torch.Generator().manual_seed(0)\nmodel.eval()\ntorch.cuda.is_available()\nload(path)\n"
    good += "if TYPE_CHECKING:\n    from xml.etree.ElementTree import Element"
    assert forbidden_faults("made.py", good) == []


def test_modules_can_be_read_in_one_sitting() -> None:
    lengths = {name: source.count("\n") for name, source in library().items()}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def fresh(code: str) -> str:
    """Return what `code` prints in a new process."""
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_almining_loads_nothing_heavy() -> None:
    heavy = ["torch", "torchvision", "numpy", "PIL", "matplotlib", "ipywidgets", "pycocotools"]
    heavy += ["cv2", "tqdm", "safetensors", "IPython", "faster_coco_eval", "defusedxml"]
    code = "import sys, almining, almining.data, almining.detectors, almining.papers; "
    assert fresh(code + f"print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_boxes_load_on_first_use_and_bring_only_torch() -> None:
    heavy = ["torchvision", "matplotlib", "ipywidgets", "pycocotools", "cv2"]
    code = "import sys, almining as al; al.boxes.area; "
    assert fresh(code + f"print([m for m in {heavy} if m in sys.modules])") == "[]"


def lazy_packages() -> list[Path]:
    """Return the `__init__` files that attach their parts lazily."""
    paths = sorted(PACKAGE.rglob("__init__.py"))
    return [path for path in paths if is_lazy(ast.parse(path.read_text()))]


@pytest.mark.parametrize("path", lazy_packages(), ids=lambda path: path.parent.name)
def test_what_a_package_offers_is_there_and_typed(path: Path) -> None:
    package = ".".join(("almining", *path.parent.relative_to(PACKAGE).parts))
    code = f"import {package} as p; "
    code += "print([n for n in dir(p) if n[0] != '_' and getattr(p, n) is None])"
    assert fresh(code) == "[]"
    tree = ast.parse(path.read_text())
    live = {id(node) for node in live_nodes(tree)}
    hidden = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and id(n) not in live]
    typed = {(str(n.module), alias.asname) for n in hidden for alias in n.names}
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    offered = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    modules, names = offered.get("modules", []), offered.get("names", {})
    expected = {(package, name) for name in modules} | {(where, n) for n, where in names.items()}
    assert typed == expected
    children = {child.stem for child in path.parent.iterdir()}
    assert set(names) & children == set(), "a module of the same name would take its place"


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    code = "import almining\ntry: almining.boxen\nexcept AttributeError as e: print(e)"
    assert re.match("almining has no 'boxen'; it offers boxes, ", fresh(code))


def tool(*arguments: str) -> None:
    """Run a static checker of this interpreter over the project; fail with what it says."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    tool("ruff", "check", "--output-format=concise", ".")


def test_the_code_is_formatted() -> None:
    tool("ruff", "format", "--check", "--output-format=concise", ".")


def test_mypy_finds_nothing() -> None:
    tool("mypy")


def project_files() -> list[Path]:
    """Return the text files that are, or are about to be, committed; skips without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git clone here: the committed files cannot be listed")
    paths = [REPO / name for name in done.stdout.split("\0") if name]
    binary = {".png", ".jpg", ".safetensors", ".npz"}
    return [path for path in paths if path.suffix not in binary and path.is_file()]


# patterns are written so that they do not match themselves
MACHINE = re.compile(
    r"(?<![\w.$}~*-])/(?:work|farm|root|home|Users)/[\w.]|"
    r"index[-_]url\b|registry *= *\"http|//(?:pypi|files)\.python[h]osted|//download\.pytorc[h]"
)


def test_no_machine_paths_or_package_addresses_are_committed() -> None:
    faults = []
    for path in project_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if path != Path(__file__) and (match := MACHINE.search(line)):
                faults.append(f"{path.relative_to(REPO)}:{number}: {match[0]}")
    assert faults == []


def test_machine_paths_can_be_found() -> None:
    made = [f"open('/{folder}/x')" for folder in ("work", "root", "home", "Users")]
    made += ["--index-" + "url=https://x", "extra-index-" + "url = x"]
    assert [text for text in made if not MACHINE.search(text)] == []
    good = [
        "../shared/data",
        "$HOME/.cache",
        "https://x.org/home/a",
        "a/" + "work/b",
        "/usr/bin/chromium",
    ]
    assert [text for text in good if MACHINE.search(text)] == []


def command(kind: str) -> str:
    """Return the one line of the README's fenced block that is marked `<!-- kind-command -->`."""
    readme = (REPO / "README.md").read_text()
    blocks = re.findall(rf"<!-- {kind}-command -->\n+```\w*\n(.*?)\n```", readme, flags=re.DOTALL)
    assert len(blocks) == 1, f"the README needs one {kind}-command, found {len(blocks)}"
    assert blocks[0].count("\n") == 0, f"the {kind}-command must be a single line"
    return str(blocks[0])


@pytest.mark.parametrize(("kind", "extra"), [("lab", "lab"), ("test", "test")])
def test_a_readme_command_sets_itself_up(kind: str, extra: str) -> None:
    line = command(kind)
    subprocess.run(["bash", "-n", "-c", line], check=True)
    assert "python3 -m venv" in line
    assert f"-e '.[{extra}]'" in line
    assert "${ALMINING_VENV:-.venv}" in line


def test_the_lab_command_opens_a_notebook_that_is_there() -> None:
    (notebook,) = re.findall(r"\S+\.ipynb", command("lab"))
    assert (REPO / notebook).is_file()


def test_ci_runs_the_readme_command_literally() -> None:
    script = REPO / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    done = subprocess.run([str(script), "--print"], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == command("test")


def test_the_readme_links_to_what_is_there() -> None:
    readme = (REPO / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (REPO / link).exists()] == []


def test_the_project_file_says_what_the_package_needs() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {"lab", "proposals", "fast", "test", "all"} <= set(extras)
    assert project["requires-python"] == ">=3.11"
    everything = [*project["dependencies"], *(need for extra in extras.values() for need in extra)]
    ranges = [need for need in everything if not need.startswith("almining[")]
    assert [need for need in ranges if not re.fullmatch(r"[\w-]+>=[\d.]+", need)] == []
    assert {"torch>=2.11", "torchvision>=0.26", "numpy>=2"} <= set(project["dependencies"])
    assert (PACKAGE / "py.typed").is_file()
