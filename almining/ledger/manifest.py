"""What a run was begun with, and in what another call differs from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from almining.ledger.files import LedgerError, write_atomically

FORMAT = 1
ABSENT = type("Absent", (), {"__repr__": lambda self: "absent"})()


class Difference(NamedTuple):
    """A value that is not what it was.

    Args:
        key: where it stands, dotted.
        then: what it was.
        now: what it is.
    """

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        """Say it in one line.

        >>> print(Difference("config.pace", 0.9, ABSENT))
        config.pace: 0.9 then, absent now
        """
        then, now = (
            repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)
            for value in (self.then, self.now)
        )
        return f"{self.key}: {then} then, {now} now"


class RunMismatchError(LedgerError):
    """The run directory was begun with something else.

    Args:
        message: what to say.
        differences: all of them.
    """

    def __init__(self, message: str, differences: list[Difference]) -> None:
        """Keep the differences."""
        super().__init__(message)
        self.differences = differences


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest at a path, None where there is none.

    Raises:
        LedgerError: when it is of a newer format, or no manifest.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LedgerError(
            f"{path} cannot be read: {error}; put a copy back, or choose another run directory"
        ) from error
    if not isinstance(found, dict) or not {"format", "run", "weights"} <= set(found):
        raise LedgerError(f"{path} is no manifest of a run; choose another run directory")
    if found["format"] != FORMAT:
        raise LedgerError(
            f"{path} has format {found['format']}, this version knows {FORMAT}; "
            "update almining to go on with this run"
        )
    return found


def write_manifest(path: Path, run: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    text = json.dumps({"format": FORMAT, "run": run, "weights": weights}, indent=1)
    write_atomically(path, text.encode())


def differences(then: Any, now: Any, key: str = "") -> Iterator[Difference]:
    """Yield every difference between two JSON values.

    >>> [str(one) for one in differences({"a": [1, 2], "b": 1}, {"a": [1, 3]})]
    ['a.1: 2 then, 3 now', 'b: 1 then, absent now']
    """
    if isinstance(then, dict) and isinstance(now, dict):
        for name in {**then, **now}:
            yield from differences(
                then.get(name, ABSENT), now.get(name, ABSENT), f"{key}.{name}" if key else name
            )
    elif isinstance(then, list) and isinstance(now, list):
        for place, (one, other) in enumerate(zip_longest(then, now, fillvalue=ABSENT)):
            yield from differences(one, other, f"{key}.{place}" if key else str(place))
    elif ABSENT in (then, now) or json.dumps(then) != json.dumps(now):
        yield Difference(key, then, now)


def check_agrees(
    folder: Path,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    accept: Collection[str],
    optional: Collection[str],
) -> list[Difference]:
    """Return the differences between two runs, all of which are accepted.

    Raises:
        RunMismatchError: when there are others.
        ValueError: when `accept` names what no run has.
    """
    known = {**then, **now}
    if unknown := set(accept) - set(known):
        raise ValueError(f"accept = {sorted(unknown)}: use some of {', '.join(known)}")
    found: list[Difference] = []
    refused: list[str] = []
    for name in known:
        ones = list(differences(then.get(name, ABSENT), now.get(name, ABSENT), name))
        found += ones
        if name not in optional:
            refused += [f"  {one}" for one in ones]
        elif name not in accept:
            why = f": {optional[name]}" if isinstance(optional, Mapping) else ""
            refused += [f"  {one} (accept=({name!r},) goes on nevertheless{why})" for one in ones]
    if refused:
        lines = [f"{folder} was begun with something else:", *refused]
        lines.append("Call again as it was then, or start in a new run directory.")
        raise RunMismatchError("\n".join(lines), found)
    return found
