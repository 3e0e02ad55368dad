"""Ctrl-C that waits for a step to be finished and saved.

Inside `held()` a first Ctrl-C is only noted, and whoever does the work asks for it where it can
stop; a second one stops at once. Other signals are left alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, noticed after the step was finished and saved."""


class _Noted:
    """Whether Ctrl-C is held back in this process, and whether it was pressed."""

    holding = False
    asked = False


def asked() -> bool:
    """Tell whether Ctrl-C was pressed inside `held()`."""
    return _Noted.asked


def check() -> None:
    """Raise `Interrupted` when Ctrl-C was pressed inside `held()`."""
    if _Noted.asked:
        raise Interrupted("stopped by Ctrl-C; what was finished is kept")


@contextmanager
def held() -> Iterator[None]:
    """Hold a first Ctrl-C back inside the block; a second one raises `KeyboardInterrupt` at once.

    A block that comes to its end without having asked raises `Interrupted` there. Does nothing
    inside another such block, outside the main thread, where Python cannot handle signals, and
    where Ctrl-C is ignored.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if _Noted.holding or not main or before in (None, signal.SIG_IGN):
        yield
        return
    _Noted.holding, _Noted.asked = True, False
    signal.signal(signal.SIGINT, _note)
    try:
        yield
        check()
    finally:
        signal.signal(signal.SIGINT, before)
        _Noted.holding = _Noted.asked = False


def _note(number: int, frame: object) -> None:
    if _Noted.asked:
        raise KeyboardInterrupt
    _Noted.asked = True
