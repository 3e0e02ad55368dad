"""Results computed ahead of time in worker processes, in order, whatever becomes of a worker.

Workers are forked, so that what they call may be defined anywhere, a notebook included, and nothing
of it has to be copied. Each has a pipe of its own; tensors come through shared memory.
torch's `DataLoader` is not used: its workers share a queue, which one that is killed can leave
locked, and its signal handler raises in the middle of whatever the main process is doing.

Left out: random order and joining into batches, which are the caller's.
"""

from __future__ import annotations

import math
import os
import reprlib
import signal
import socket
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch
from torch import multiprocessing

from almining.checks import check_whole

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2  # items a worker is given before the first of them is taken
PATIENCE_S = 5.0  # how long a worker may take to leave before it is killed


class _LostError(Exception):
    """A worker died, does not answer, or cannot be had."""


def ahead(
    call: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 0,
    timeout_s: float = 120.0,
) -> Generator[Result, None, None]:
    """Yield `call(item)` for each item, in order.

    A worker that dies, hangs or cannot be started is warned of. All of them are then started anew
    at the item that is due; the second time, the rest is computed in this process. Results are the
    same for any number of workers, as long as `call` is a function of the item alone. Where it
    raises in a worker, it is called once more in this process, whose error is the one to be seen.

    Args:
        call: what to do with an item; in workers it must not touch a GPU.
        items: what to go through.
        workers: how many processes; 0 computes here, each item when it is asked for.
        timeout_s: how long to wait for a result until a worker counts as hanging.

    Raises:
        ValueError: for a negative number of workers, or a timeout that is not above 0.

    >>> list(ahead(str, range(3)))
    ['0', '1', '2']
    """
    check_whole(workers, "workers", 0)
    if not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s = {timeout_s!r}: a number of seconds above 0 is needed")
    known = items if isinstance(items, Sequence) else list(items)
    return _ahead(call, known, workers, timeout_s)


def _ahead(
    call: Callable[[Item], Result], items: Sequence[Item], workers: int, timeout_s: float
) -> Generator[Result, None, None]:
    due = 0
    for left in (1, 0) if workers else ():
        try:
            for result in _from_workers(call, items, due, workers, timeout_s):
                due += 1
                yield result
            return
        except _LostError as lost:
            then = f"{workers} new workers load" if left else "this process loads"
            warnings.warn(f"{lost}; {then} from there on, nothing is lost", stacklevel=3)
    for item in items[due:]:
        yield call(item)


def _from_workers(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    due: int,
    workers: int,
    timeout_s: float,
) -> Iterator[Result]:
    """Yield the results from item `due` on; worker number `place % workers` gets the item there."""
    workers = min(workers, len(items) - due)
    crew: list[_Worker] = []
    patience = PATIENCE_S
    try:
        for _ in range(workers):
            try:
                crew.append(_Worker(call, items, [other.pipe for other in crew]))
            except OSError as error:  # too little memory, too many open files
                raise _LostError(f"a loader worker cannot be started: {error}") from None
        for place in range(due, min(due + AHEAD * workers, len(items))):
            crew[place % workers].ask(place)
        for place in range(due, len(items)):
            done, result = crew[place % workers].answer(place, timeout_s)
            if place + AHEAD * workers < len(items):
                crew[place % workers].ask(place + AHEAD * workers)
            yield result if done else call(items[place])
    except _LostError:
        patience = 0.0
        raise
    finally:
        for worker in crew:
            worker.dismiss()
        for worker in crew:
            worker.leave(patience)


class _Worker:
    """A forked process that computes the items it is asked for, one after the other."""

    def __init__(
        self, call: Callable[[Any], Any], items: Sequence[Any], others: list[Connection]
    ) -> None:
        """Start it; `others` are this process's ends of the pipes of those started before."""
        context = multiprocessing.get_context("fork")
        self.items = items
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(call, items, theirs, [*others, self.pipe]), daemon=True
        )
        with warnings.catch_warnings():  # of other threads, which a worker does without
            warnings.filterwarnings("ignore", "(?s).*multi-threaded.*fork", DeprecationWarning)
            self.process.start()
        theirs.close()

    def ask(self, place: int) -> None:
        """Give it the place of an item."""
        try:
            self.pipe.send(place)
        except OSError:
            raise self._lost(place) from None

    def answer(self, place: int, timeout_s: float) -> tuple[bool, Any]:
        """Return whether the item at this place, the next, was computed, and the result."""
        ready = wait([self.pipe, self.process.sentinel], timeout_s)
        if self.pipe not in ready:
            raise self._lost(place, "" if ready else f"gave no result for {timeout_s:g} s")
        try:
            answer: tuple[bool, Any] = self.pipe.recv()
        except Exception:  # the message ends early, or what it points to went with the worker
            raise self._lost(place) from None
        return answer

    def dismiss(self) -> None:
        """Tell it to leave, though workers started later hold copies of this end of its pipe."""
        with suppress(OSError), socket.socket(fileno=os.dup(self.pipe.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        self.pipe.close()

    def leave(self, patience: float) -> None:
        """Wait for its end; kill it where that takes too long."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.process.close()

    def _lost(self, place: int, why: str = "") -> _LostError:
        if not why:
            self.process.join(PATIENCE_S)
            code = self.process.exitcode
            why = "sent what cannot be read" if code is None else f"died with exit code {code}"
        item = reprlib.repr(self.items[place])
        return _LostError(f"loader worker {self.process.pid} {why} while item {item} was due")


def _work(
    call: Callable[[Any], Any], items: Sequence[Any], pipe: Connection, others: list[Connection]
) -> None:
    """Answer until the other end is closed, by will or because its process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    torch.set_num_threads(1)
    for other in others:
        other.close()
    with suppress(EOFError, OSError):
        while True:
            place = pipe.recv()
            try:
                pipe.send((True, call(items[place])))
            except Exception:
                pipe.send((False, None))
