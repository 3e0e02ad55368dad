"""Processes of their own for the tests of the ledger: to lock against, to kill, to starve."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPO)}


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program; what it prints can be read while it runs."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(code: str, *arguments: object) -> str:
    """Return what a program prints; it must end well."""
    child = started(code, *arguments)
    printed = ended(child)
    assert child.returncode == 0, printed
    return printed


def ended(child: subprocess.Popen[str]) -> str:
    """Return what a program printed since it was last asked; waits for its end, which is due."""
    late = threading.Timer(60, child.kill)
    late.start()
    with child:
        printed = child.stdout.read()
    late.cancel()
    return printed


def killed(child: subprocess.Popen[str]) -> list[str]:
    """Kill -9 a program and return the lines it had printed in full."""
    child.kill()
    printed = ended(child)
    assert child.returncode == -signal.SIGKILL, printed
    return printed.split("\n")[:-1]


def inside(mount: str, code: str, *arguments: object) -> str:
    """Return what a program prints that has file systems of its own; skips where that is refused.

    Args:
        mount: shell commands that make them.
        code: the program.
        arguments: what it is given.
    """
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-ec"]
    allowed = subprocess.run([*alone, mount], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no file systems of one's own here: {allowed.stderr}")
    command = [*alone, f'{mount}; exec "$0" -c "$@"', sys.executable, code, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
