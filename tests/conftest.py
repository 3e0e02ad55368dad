"""What every test stands on: one thread, no display, no progress bars, and the real images if any.

The environment is set before torch is imported: pytest loads this file at start because `testpaths`
names its folder, and xdist's workers and the notebooks' kernels inherit it.
"""

from __future__ import annotations

import os

ENVIRONMENT = {
    "JUPYTER_PLATFORM_DIRS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TQDM_DISABLE": "1",
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

REPO = Path(__file__).resolve().parents[1]
NO_DATA = (
    "ALMINING_TEST_DATA is not set: point it at the folder with bccd/, coco128/ and voc2007_subset/"
    " to test on real images"
)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the clone."""
    return REPO


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; skips where there is none."""
    if not os.environ.get("ALMINING_TEST_DATA"):
        pytest.skip(NO_DATA)
    folder = Path(os.environ["ALMINING_TEST_DATA"])
    if not folder.is_dir():
        pytest.fail(f"ALMINING_TEST_DATA = {folder} is no folder")
    return folder


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave benchmarks out (doctest would import them) unless one is named."""
    named = any(Path(name).name.startswith("bench") for name in config.invocation_params.args)
    return True if collection_path.name.startswith("bench_") and not named else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked gpu where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how much was not tested for want of real images."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_DATA in str(report.longrepr) for report in skipped)
    if count:
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.section("not tested on real images", sep="!", red=True, bold=True)
        terminalreporter.line(f"WARNING: {tests} skipped; {NO_DATA}", red=True, bold=True)
