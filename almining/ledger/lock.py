"""One process at a time: a lock the kernel holds for as long as the process lives.

Whether it is held is asked of the kernel alone. The file says who holds it, for people to read: a
process that was killed leaves the file behind, but not the lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from almining.ledger.database import now
from almining.ledger.files import LedgerError


class LockedError(LedgerError):
    """Another process works in the run directory."""


class Lock:
    """The lock of a run directory, from when it is made until `close`.

    Args:
        path: the file to lock; it is made, and stays.

    Raises:
        LockedError: when another process holds it.
        LedgerError: when the file cannot be made, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        """Take it."""
        try:
            import fcntl
        except ImportError as error:
            raise LedgerError(
                "a run directory is locked by flock, which this system lacks; use Linux or macOS"
            ) from error
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise LedgerError(
                f"{path} cannot be written: {error}; choose a run directory that can be"
            ) from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            who = {"host": socket.gethostname(), "pid": os.getpid(), "since": now()}
            text = json.dumps(who | {"program": Path(sys.argv[0]).name}).encode()
            os.pwrite(self.descriptor, text, 0)
            os.ftruncate(self.descriptor, len(text))
        except BlockingIOError:
            holder = self._holder()
            self.close()
            raise LockedError(
                f"{path.parent} is in use by {holder}; wait until it is done, stop it, or choose "
                f"another run directory. Deleting {path.name} does not help: the lock goes when "
                "that process ends"
            ) from None
        except OSError as error:
            self.close()
            raise LedgerError(
                f"{path} cannot be locked: {error}; choose a run directory on a file system with "
                "locks and free space"
            ) from error

    def _holder(self) -> str:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            who = json.loads(os.pread(self.descriptor, 4096, 0))
            return f"process {who['pid']} ({who['program']}) on {who['host']}, since {who['since']}"
        return "another process"

    def close(self) -> None:
        """Let go; in a forked child, only of the copy it has, so that the parent keeps the lock."""
        os.close(self.descriptor)
