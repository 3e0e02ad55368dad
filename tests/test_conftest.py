"""The test environment is what `conftest` promises, in every worker and every kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.conftest import ENVIRONMENT


def test_the_environment_reaches_this_process_before_torch() -> None:
    assert {name for name in ENVIRONMENT if not os.environ.get(name)} == set()
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])


def test_missing_real_data_skips_and_is_announced(tmp_path: Path, repo: Path) -> None:
    (tmp_path / "conftest.py").write_text((repo / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            def test_real(real_data): assert real_data.name == "images"
        """)
    )
    (tmp_path / "bench_it.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "images").mkdir()

    def run(data: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "--doctest-modules"]
        for plugin in ("xdist", "cacheprovider", "hypothesispytest", "nbval", "benchmark", "anyio"):
            command += ["-p", f"no:{plugin}"]
        environment = os.environ | {"ALMINING_TEST_DATA": data, "CI": "true"}
        return subprocess.run(
            [*command, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    without = run("")
    assert without.returncode == 0, without.stdout
    assert "WARNING: 1 test skipped; ALMINING_TEST_DATA is not set" in without.stdout
    there = run(str(tmp_path / "images"))
    assert there.returncode == 0, there.stdout
    assert "WARNING" not in there.stdout
    wrong = run(str(tmp_path / "nowhere"))
    assert wrong.returncode == 1, wrong.stdout
    assert "is no folder" in wrong.stdout


@pytest.mark.gpu
def test_a_gpu_test_runs_only_with_a_gpu() -> None:
    assert torch.cuda.is_available()
