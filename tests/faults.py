"""The kinds of fault a long run meets, how one is caused for real, and what is made of the outcome.

The rows are in `faults_of_files.py`, `faults_of_runs.py` and `faults_of_training.py`.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

Say = Callable[[Any], None]
AS_WANTED, WRONG, NOT_RUN = "as wanted", "wrong", "not run"


class NotRun(Exception):
    """The fault cannot be caused here, and why."""


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Args:
        number: in the catalogue.
        name: the fault.
        done: what is done.
        cause: causes it in an empty folder; says what came out, and raises when that is wrong.
        needs: "gpu", or nothing.
    """

    number: int
    name: str
    done: str
    cause: Callable[[Path], str]
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.number}-{self.name.replace(' ', '-')}"


@dataclass(frozen=True)
class Outcome:
    """What came out of a fault, and whether it is as wanted."""

    state: str
    says: str


_rows: dict[int, Fault] = {}


def fault(
    number: int, name: str, done: str, **more: Any
) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Make a row of the function below; see `Fault`."""

    def decorate(cause: Callable[[Path], str]) -> Callable[[Path], str]:
        _rows[number] = Fault(number, name, done, cause, **more)
        return cause

    return decorate


def rows() -> list[Fault]:
    """Return all rows, by number."""
    for module in ("files", "runs", "training"):
        importlib.import_module(f"tests.faults_of_{module}")
    return [_rows[number] for number in sorted(_rows)]


def judge(row: Fault, folder: Path) -> Outcome:
    """Cause a fault; a warning that its function does not expect is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return Outcome(AS_WANTED, row.cause(folder))
        except (NotRun, pytest.skip.Exception) as why:
            return Outcome(NOT_RUN, str(why))
        except Exception as error:
            return Outcome(WRONG, f"{type(error).__name__}: {brief(str(error), folder)}")


# processes of their own


def started(call: Callable[[Say], Any]) -> tuple[Any, Connection]:
    """Fork a process that makes a call; what it says in there can be heard here."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        ours.close()
        call(theirs.send)

    process = context.Process(target=work)
    with warnings.catch_warnings():  # of other threads, which the child does without
        warnings.filterwarnings("ignore", "(?s).*multi-threaded.*fork", DeprecationWarning)
        process.start()
    theirs.close()
    return process, ours


def heard(pipe: Connection) -> Iterator[Any]:
    """Yield what a process says until it ends."""
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def ended(call: Callable[[Say], Any]) -> tuple[int, list[Any]]:
    """Return how a process that makes a call ended, -9 when it was killed, and what it said."""
    process, pipe = started(call)
    said = list(heard(pipe))
    process.join()
    return process.exitcode, said


def kill_this() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(call: Callable[[Say], Any]) -> list[Any]:
    """Return what a process said that makes a call and kills itself meanwhile, as it has to."""
    code, said = ended(call)
    assert code == -signal.SIGKILL, f"the process ended with {code} instead of being killed"
    return said


# words


def refusal(kind: type[BaseException], call: Callable[[], Any]) -> str:
    """Return the message of the error that a call has to raise."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"there was no {kind.__name__}")


@contextmanager
def told() -> Iterator[list[str]]:
    """Give a list that holds the warnings of the block once it is through."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
        said += [str(one.message) for one in caught]


def brief(text: str, folder: Path) -> str:
    """Return a message without what is another each time, as one piece of code in Markdown."""
    for found, instead in (
        (re.escape(str(folder.resolve())) + "/?", ""),
        (re.escape(socket.gethostname()), "HOST"),
        (r"\b(process|worker) \d+( \([^)]*\))?", r"\1 N"),
        (r"\d{4}-\d\d-\d\dT[\d:.+]+", "TIME"),
        (r"\s*\n\s*", " "),
    ):
        text = re.sub(found, instead, text)
    return text.replace("`", "'")


def quoted(text: str, folder: Path) -> str:
    return f"`{brief(text, folder)}`"
