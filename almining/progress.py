"""Progress bars.

A caller turns them off with `progress=False`, the environment with `TQDM_DISABLE=1`. Of several
ranks only the first shows any; started by `ranks.launch`, it shows them in the process that did,
through a file that the environment names.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm

FILE = "ALMINING_PROGRESS"
OFTEN_S = 0.3
_quiet: ContextVar[bool] = ContextVar("almining.progress", default=False)


@contextmanager
def quiet(hide: bool = True) -> Iterator[None]:
    """Hide every bar inside the block, those of functions called from it, too.

    Args:
        hide: whether to do so.
    """
    token = _quiet.set(hide or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(token)


def bar(
    items: Iterable[Any] | None = None,
    *,
    progress: bool | str,
    name: str,
    unit: str,
    total: int | None = None,
) -> Any:
    """Return a progress bar over `items`, or one to be updated by hand.

    Args:
        items: what to go through; None to call `update` instead.
        progress: whether to show it, or what to call it instead of `name`.
        name: what is going on.
        unit: what is counted.
        total: how many, where `items` does not say.
    """
    # where `disable` is given, it overrules the environment
    shown = progress and not _quiet.get() and os.environ.get("RANK", "0") == "0"
    options: dict[str, Any] = {} if shown else {"disable": True}
    kind = tqdm
    if shown and FILE in os.environ:
        kind, options = _Written, {"file": io.StringIO(), "mininterval": OFTEN_S}
    title = progress if isinstance(progress, str) else name
    return kind(items, desc=title, unit=unit, total=total, leave=False, **options)


class _Written(plain_tqdm):
    """A bar that is written to a file for another process to show."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Replace the file."""
        fields = ("desc", "unit", "n", "total", "postfix")
        path = Path(os.environ[FILE])
        part = path.with_suffix(".part")
        part.write_text(json.dumps({name: getattr(self, name) for name in fields}))
        part.replace(path)


class Mirror:
    """The bar of another process, shown by this one.

    Args:
        path: the file that the other process writes.
        progress: whether to show it, or what to put before its name.
    """

    def __init__(self, path: Path, *, progress: bool | str) -> None:
        """Show nothing yet."""
        self._path, self._name = path, progress if isinstance(progress, str) else ""
        self._bar = bar(progress=progress, name="start", unit="it")
        self._shown: tuple[str, int | None] | None = None

    def __enter__(self) -> Mirror:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.close()

    def update(self) -> None:
        """Show what the other process wrote last."""
        if self._bar.disable or not self._path.exists():
            return
        state = json.loads(self._path.read_text())
        name = state["desc"].removesuffix(": ")
        name = f"{self._name}: {name}" if self._name else name
        if (name, state["total"]) != self._shown:
            self._shown = (name, state["total"])
            self._bar.unit = state["unit"]
            self._bar.reset(state["total"])
            self._bar.set_description(name, refresh=False)
        self._bar.n = state["n"]
        self._bar.set_postfix_str(state["postfix"] or "", refresh=False)
        self._bar.refresh()
