"""Which weights a run directory keeps, and which of them are whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from almining.digests import digest_file

KEPT = 2  # finished ones, and unfinished ones


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that were saved.

    Args:
        path: the file.
        cycle: of the run.
        step: how many steps of the cycle's training they have seen.
        done: whether that was all of them.
        tag: what the run calls them.
    """

    path: Path
    cycle: int
    step: int
    done: bool
    tag: str


def new_name(listed: Mapping[str, Any], cycle: int, step: int) -> str:
    """Return a file name that no listed weights have, so that none is written over.

    >>> new_name({"cycle-003-step-000150.safetensors": {}}, 3, 150)
    'cycle-003-step-000150-2.safetensors'
    """
    stem = f"cycle-{cycle:03d}-step-{step:06d}"
    names = (f"{stem}{f'-{number}' if number > 1 else ''}.safetensors" for number in count(1))
    return next(name for name in names if name not in listed)


def kept(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return those that stay: the last two finished and unfinished ones, in the order saved.

    All of a cycle go when a finished one of it follows: no other is what the cycle ended with.
    """
    stay: dict[str, Any] = {}
    finished: set[int] = set()
    left = {True: KEPT, False: KEPT}
    for name, entry in reversed([*listed.items()]):
        cycle, done = entry["cycle"], entry["done"]
        if left[done] and cycle not in finished:
            stay[name] = entry
            left[done] -= 1
        finished |= {cycle} if done else set()
    return dict(reversed(stay.items()))


def fault(path: Path, entry: Mapping[str, Any]) -> str:
    """Return what is wrong with a file of weights, "" when it is what was saved."""
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"it has {size:,} bytes instead of {entry['bytes']:,}"
        return "" if digest_file(path) == entry["sha256"] else "its checksum is wrong"
    except OSError as error:
        return str(error)


def latest(listed: Mapping[str, Any], cycle: int, done: bool | None) -> list[str]:
    """Return the names of a cycle's weights, most steps first, of equal ones the last saved."""
    names = [
        name
        for name in reversed([*listed])
        if listed[name]["cycle"] == cycle and done in (None, listed[name]["done"])
    ]
    return sorted(names, key=lambda name: -listed[name]["step"])
