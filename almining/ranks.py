"""Several processes at one run: who this one is, and what they tell one another.

Under `torchrun`, `joined(folder)` makes the processes one group; without it, or outside the block,
there is one process and everything here does nothing. Every rank runs the same program on the same
data: `predict` and `train` divide the work, and what one rank learns reaches all, errors too, so
that all of them go on or stop at the same place.

Words travel as JSON, gradients as tensors; nothing is pickled. `launch` starts the ranks from a
notebook.
"""

from __future__ import annotations

import itertools
import json
import os
import pkgutil
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from almining.interrupts import Interrupted
from almining.launch import launch as launch
from almining.meeting import join

Value = TypeVar("Value")
SHARDS, UNSTAGED = "almining-shards", "unstaged"
SEEN_S = 60.0  # a network file system may show what another machine wrote only after a while


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among its equals.

    Args:
        rank: which one, 0 first.
        world: how many there are.
        folder: a folder that all of them see, or None where there is one process.
    """

    rank: int = 0
    world: int = 1
    folder: Path | None = None


_current = Ranks()
_stages: list[tuple[str, Iterator[int]]] = [(UNSTAGED, itertools.count())]


def current() -> Ranks:
    """Return which of the ranks this process is.

    >>> current()
    Ranks(rank=0, world=1, folder=None)
    """
    return _current


@contextmanager
def joined(
    folder: str | os.PathLike[str], *, backend: str | None = None, timeout_s: float = 600.0
) -> Iterator[Ranks]:
    """Be one of the ranks that `torchrun` started, inside the block.

    Without torchrun, or with one rank, there is one process; inside another `joined`, that one
    holds.

    Args:
        folder: for what the ranks show one another; on every machine the same one.
        backend: what carries the tensors of a GPU: `"nccl"` by default where each rank of the
            machine has a GPU of its own, otherwise `"gloo"`, which carries all else.
        timeout_s: how long a rank waits for the others before it gives up; more than what one
            rank does alone may take, such as reading all images once, or an oracle that waits for a
            person.

    Raises:
        FileNotFoundError: on every rank, when one does not see what rank 0 wrote to `folder`.
        TimeoutError: when another rank does not come.
    """
    global _current
    if _current.world > 1:
        yield _current
        return
    world = _started()
    rank = int(os.environ["RANK"]) if world > 1 else 0
    if world > 1:
        join(rank, world, backend=backend, timeout_s=timeout_s)
    before, _current = _current, Ranks(rank, world, Path(folder).resolve())
    try:
        _check_folder()
        yield _current
        remove(SHARDS)
    finally:
        _current = before
        if world > 1:
            dist.destroy_process_group()


def check_joined() -> None:
    """Raise a `RuntimeError` in one of several processes of `torchrun` that have not joined."""
    if _current.world == 1 and _started() > 1:
        raise RuntimeError(
            f"torchrun started {_started()} processes, and each would do all of the work; call "
            "this inside `with almining.ranks.joined(folder):`"
        )


def _started() -> int:
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def _check_folder() -> None:
    """Raise on every rank unless each sees what rank 0 writes."""
    rank, folder = _current.rank, _current.folder
    if _current.world > 1 and folder is not None:
        path = folder / SHARDS / share(f"{os.getpid()}-{time.time_ns()}")
        together(lambda: None if rank else path.mkdir(parents=True))
        together(seen, path)


def seen(path: Path) -> Path:
    """Return a path that another rank has written, once it shows itself here.

    Args:
        path: what is waited for.

    Raises:
        FileNotFoundError: when it does not for a minute.
    """
    end = time.monotonic() + SEEN_S
    while not path.exists():
        if time.monotonic() > end:
            raise FileNotFoundError(
                f"{path}: rank {_current.rank} does not see what another rank wrote; "
                "give a folder that every machine shares"
            )
        time.sleep(0.05)
    return path


def gather(value: Any, error: BaseException | None = None, *, place: str = "") -> list[Any]:
    """Return the value of every rank, by rank, on each of them.

    Every message between the ranks goes this way. An error that one of them brings raises on all,
    whatever the others came to say.

    Args:
        value: anything JSON can hold; in a single process it comes back as it is.
        error: what went wrong on this rank, or None.
        place: where in the program this rank is.

    Raises:
        BaseException: the error of the lowest rank that has one. It keeps its type and content
            where its arguments are text and numbers; any other becomes a RuntimeError that names
            the type.
        RuntimeError: when the ranks are at different places.
        ConnectionError: when another rank is lost, or cannot be waited for any longer.
    """
    if _current.world == 1:
        if error is not None:
            raise error
        return [value]
    told = None if error is None else _told(error)
    sent = json.dumps({"value": value, "error": told, "place": place}).encode()
    sizes = _all(torch.tensor([len(sent)]))
    longest = int(max(sizes))
    padded = torch.frombuffer(bytearray(sent.ljust(longest)), dtype=torch.uint8)
    said = [json.loads(bytes(one.numpy())) for one in _all(padded)]
    for rank, one in enumerate(said):
        if one["error"] is not None:
            raised = error
            if raised is None or (rank != _current.rank and told != one["error"]):
                raised = _rebuilt(rank, **one["error"])
            raise _agreed(raised)
    for rank, one in enumerate(said):
        _check_equal(rank, one["place"], said[0]["place"], "the place in the program")
    return [one["value"] for one in said]


def _agreed(error: BaseException) -> BaseException:
    """Return an error that every rank raises here."""
    error.agreed = True  # type: ignore[attr-defined]
    return error


def _check_equal(rank: int, value: Any, first: Any, name: str) -> None:
    if value != first:
        text = f"{name}: {value!r} on rank {rank}, {first!r} on rank 0; every rank has to run "
        text += "the same program on the same data, weights and seed"
        raise _agreed(RuntimeError(text))


def _all(tensor: Tensor) -> list[Tensor]:
    received = [torch.empty_like(tensor) for _ in range(_current.world)]
    _reach(dist.all_gather, received, tensor)
    return received


def _reach(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except RuntimeError as error:
        raise ConnectionError(
            f"rank {_current.rank} does not reach the others ({error}): one of them was lost, and "
            "its own message says why, or takes longer than `timeout_s` of `ranks.joined`; start "
            "the run again, what it finished is kept"
        ) from error


def _told(error: BaseException) -> dict[str, Any]:
    kind, args = type(error), list(error.args)
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        plain = all(isinstance(one, str | int | float | None) for one in args)
        if not plain or str(pkgutil.resolve_name(name)(*args)) != str(error):
            raise TypeError(f"{name} is more than its arguments")
    except Exception:  # of any kind: what is made here belongs to somebody else
        name, args = "builtins:RuntimeError", [f"{kind.__name__}: {error}"]
    return {"kind": name, "args": args, "notes": list(getattr(error, "__notes__", []))}


def _rebuilt(rank: int, kind: str, args: list[Any], notes: list[str]) -> BaseException:
    made: BaseException = pkgutil.resolve_name(kind)(*args)
    for note in (*notes, f"on rank {rank} of {_current.world}"):
        made.add_note(note)
    return made


def agree(error: BaseException | None) -> None:
    """Raise on every rank when any has an error; see `gather`.

    Args:
        error: what went wrong on this rank, or None.
    """
    gather(None, error)


def together(call: Callable[..., Value], *args: Any) -> Value:
    """Return what `call` returns on this rank, or raise on all what it raised on any.

    Args:
        call: what may fail on some of them.
        *args: its arguments.
    """
    if _current.world == 1:
        return call(*args)
    error: BaseException | None = None
    try:
        made = call(*args)
    except (Exception, Interrupted) as raised:
        if hasattr(raised, "agreed"):  # the others raise it, too
            raise
        error = raised
    gather(None, error, place=getattr(call, "__qualname__", type(call).__name__))
    return made


def share(value: Value) -> Value:
    """Return rank 0's value on every rank.

    Args:
        value: anything JSON can hold; in a single process it comes back as it is.
    """
    shared: Value = gather(value if _current.rank == 0 else None, place="share")[0]
    return shared


def worst(code: int) -> int:
    """Return the largest code of all ranks.

    Args:
        code: how bad it is here.
    """
    return max(gather(code, place="worst"))


def barrier() -> None:
    """Wait until every rank is here."""
    gather(None, place="barrier")


def check_same(value: Any, name: str) -> None:
    """Raise on every rank unless all of them have the same value.

    Args:
        value: anything JSON can hold.
        name: what it is, for the message.

    Raises:
        RuntimeError: naming the first rank that differs from rank 0.
    """
    values = gather(value, place=name)
    for rank, other in enumerate(values):
        _check_equal(rank, other, values[0], name)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every parameter the sum of its gradients over the ranks.

    A parameter that has a gradient on some ranks only counts as zero on the others; one without
    any stays without.

    Args:
        parameters: the same on every rank, in the same order.
    """
    known = list(parameters)
    used = [any(has) for has in zip(*gather([one.grad is not None for one in known]), strict=True)]
    for one, has in zip(known, used, strict=True):
        if has and one.grad is None:
            one.grad = torch.zeros_like(one)
    add_up(one.grad for one in known if one.grad is not None)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Turn each tensor into its sum over the ranks, in place.

    Args:
        tensors: of the same shapes and types on every rank, in the same order.
    """
    _joined(dist.all_reduce, tensors)


def same_buffers(module: Any) -> None:
    """Give every rank the buffers of rank 0.

    Args:
        module: a `torch.nn.Module`; anything without `buffers` is left alone.
    """
    if hasattr(module, "buffers"):
        _joined(lambda flat: dist.broadcast(flat.view(torch.uint8), 0), module.buffers())


def _joined(call: Callable[[Tensor], Any], tensors: Iterable[Tensor]) -> None:
    """Change tensors in place, those of a device and type as one."""
    if _current.world == 1:
        return
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for one in tensors:
        kinds.setdefault((one.device, one.dtype), []).append(one.detach())
    for group in kinds.values():
        flat = torch.cat([one.flatten() for one in group])
        _reach(call, flat)
        for one, value in zip(group, flat.split([one.numel() for one in group]), strict=True):
            one.copy_(value.view_as(one))


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name what is done inside, for what is kept in case a rank is lost.

    When the ranks are started again, whatever a stage of this name had scored is used. It is
    removed when the stage ends.

    Args:
        name: the same on every rank, unlike that of any other stage, and good for a folder.
    """
    _stages.append((name, itertools.count()))
    try:
        yield
        remove(SHARDS, name)
    finally:
        _stages.pop()


def next_call() -> tuple[str, int]:
    """Return the stage this is in, `"unstaged"` outside of any, and how many calls came before."""
    name, calls = _stages[-1]
    return name, next(calls)


def remove(*parts: str) -> None:
    """Remove a folder inside the shared one, once every rank is done with it.

    Args:
        *parts: where it is.
    """
    if _current.folder is not None:
        barrier()
        if _current.rank == 0:
            shutil.rmtree(_current.folder.joinpath(*parts), ignore_errors=True)
