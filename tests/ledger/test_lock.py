from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import children
import pytest

from almining.ledger import LedgerError, LockedError, open_ledger

HOLD = """
import sys, time
from almining.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
ledger.begin({})
print("open", flush=True)
time.sleep(60)
"""
FORK = """
import os, sys, time
from almining.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
child = os.fork()
if child == 0:
    sys.stdout.close()
    os.close(1), os.close(2)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
PROGRAM = """
import subprocess, sys, time
from almining.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
quiet = subprocess.DEVNULL
child = subprocess.Popen(["sleep", "60"], stdout=quiet, stderr=quiet, close_fds=False)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    child = children.started(HOLD, tmp_path)
    try:
        assert child.stdout.readline() == "open\n"
        files = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(LockedError) as caught:
            open_ledger(tmp_path)
        assert len(list(Path("/proc/self/fd").iterdir())) == files
    finally:
        children.killed(child)
    host = socket.gethostname()
    assert f"{tmp_path} is in use by process {child.pid} (-c) on {host}, since 2" in str(
        caught.value
    )
    assert "wait until it is done, stop it, or choose another" in str(caught.value)
    with open_ledger(tmp_path) as ledger:  # the file is still there, the lock is not
        assert ledger.manifest is not None
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("code", [FORK, PROGRAM], ids=["forked", "started"])
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path, code: str) -> None:
    parent = children.started(code, tmp_path)
    orphan = int(parent.stdout.readline())
    try:
        try:
            with pytest.raises(LockedError):
                open_ledger(tmp_path)
        finally:
            children.killed(parent)
        os.kill(orphan, 0)  # it is alive
        open_ledger(tmp_path).close()
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_file_that_names_a_living_process_locks_nothing(tmp_path: Path) -> None:
    for pid in (os.getpid(), 1, os.getppid()):
        who = {"host": socket.gethostname(), "pid": pid, "since": "now", "program": "x"}
        (tmp_path / "lock").write_text(json.dumps(who) + "}" * 1000)
        with open_ledger(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_the_same_number_in_another_container_is_another_process(tmp_path: Path) -> None:
    with open_ledger(tmp_path):
        holder = json.loads((tmp_path / "lock").read_text())
        code = """
import os, sys
from almining.ledger import LockedError, open_ledger
try:
    open_ledger(sys.argv[1])
except LockedError as error:
    print(os.getpid(), error)
"""
        pid, message = children.inside("true", code, tmp_path).split(" ", 1)
        assert pid == "1"  # of its own namespace
        assert f"in use by process {holder['pid']} " in message
        # and the other way round: what stands in the file is of no account to who holds the lock
        (tmp_path / "lock").write_text(json.dumps(holder | {"pid": 1}))
        assert "in use by process 1 " in children.inside("true", code, tmp_path)
        (tmp_path / "lock").write_text("{")
        assert "in use by another process;" in children.inside("true", code, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        LedgerError, match=r"file/run cannot be written: .*; choose a run directory"
    ):
        open_ledger(tmp_path / "file" / "run")
    with pytest.raises(LedgerError, match=r"file cannot be written: .*; choose a run directory"):
        open_ledger(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(LedgerError, match=r"lock cannot be written: .*; choose a run directory"):
        open_ledger(tmp_path)


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    code = """
import sys
from almining.ledger import LedgerError, open_ledger
for folder in sys.argv[1:]:
    try:
        open_ledger(folder)
    except LedgerError as error:
        print(error)
"""
    open_ledger(tmp_path / "old").close()
    mount = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,bind,ro {tmp_path}"
    old, new = children.inside(mount, code, tmp_path / "old", tmp_path / "new").splitlines()
    assert "old/lock cannot be written" in old
    assert "new cannot be written" in new
    for line in (old, new):
        assert "Read-only file system" in line
        assert "choose a run directory that can be" in line


def test_a_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(LedgerError, match="locked by flock, which this system lacks; use Linux"):
        open_ledger(tmp_path)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    held = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(LedgerError, match=r"lock cannot be locked: .*No locks available; choose"):
        open_ledger(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == held
