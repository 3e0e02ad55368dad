"""Files that are whole or not there: written beside, synced, renamed, and the folder synced.

A power cut may drop whatever was not synced, in any order. So the content is on the disk before the
name points to it, and the name is on the disk before the caller hears that it was written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from almining.digests import digest_file

PART = ".part"


class LedgerError(RuntimeError):
    """The run directory cannot do what was asked; what was there before is still there."""


def write_atomically(
    path: Path, content: bytes | Callable[[Path], object], *, room: int = 0
) -> str:
    """Write a file that a reader finds whole, as it was before or as it is now, never in between.

    Args:
        path: where to.
        content: its bytes, or a function that writes them to the path it is given.
        room: how many bytes must be free before anything is written.

    Returns:
        The SHA-256 of what was written, in hexadecimal; it is on the disk by then.

    Raises:
        LedgerError: when it cannot be written; the file that was there is kept.
    """
    part = path.with_name(path.name + PART)
    try:
        free = shutil.disk_usage(path.parent).free
        if free < room:
            raise LedgerError(
                f"{path} was not written: it needs about {room:,} bytes, {free:,} are free; "
                "free some space and call again. What was there before is kept"
            )
        if isinstance(content, bytes):
            part.write_bytes(content)
        else:
            content(part)
        sync(part)
        digest = digest_file(part)
        part.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise LedgerError(
            f"{path} was not written: {error}; see that its disk has space and may be written, "
            "then call again. What was there before is kept"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return digest


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each named on the disk by the one above."""
    if path.is_file():
        raise NotADirectoryError(f"{path} is a file, not a folder")
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
