"""How the processes that `torchrun` started find one another; see `ranks`, which calls this.

`torchrun` keeps its key-value store while it starts lost ranks again, and what those before them
wrote is still there. So the ranks first agree on a name that no earlier start had, each proving
that it hears a living one, and only then exchange addresses under that name.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

POLL_S = 0.02


def join(rank: int, world: int, *, backend: str | None, timeout_s: float) -> None:
    """Make this process one of torch's default process group.

    Args:
        rank: which of them.
        world: how many there are.
        backend: what carries the tensors of a GPU; see `ranks.joined`.
        timeout_s: how long to wait for the others, now and later.

    Raises:
        TimeoutError: when another rank does not come.
    """
    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % gpus)
    if backend is None:
        backend = "nccl" if gpus >= here and dist.is_nccl_available() else "gloo"
    patience = timedelta(seconds=timeout_s)
    store, _, _ = next(rendezvous("env://", rank, world, timeout=patience))
    dist.init_process_group(
        "gloo" if backend == "gloo" else f"cpu:gloo,cuda:{backend}",
        store=PrefixStore(start_name(store, rank, world, timeout_s), store),
        rank=rank,
        world_size=world,
        timeout=patience,
    )


def start_name(store: Store, rank: int, world: int, timeout_s: float) -> str:
    """Return a name that is the same on every rank and was never used before.

    Rank 0 makes it up and answers each greeting it finds with it. A greeting may be a dead rank's,
    so rank 0 goes on until each rank has repeated the name, and the others listen until the
    greeting that is answered is their own.

    Args:
        store: what the ranks share; it may hold what earlier starts wrote.
        rank: which this is.
        world: how many there are.
        timeout_s: how long to wait for the others.

    Raises:
        TimeoutError: when one of them does not come.
    """
    mine = uuid4().hex
    waiting = set(range(1, world)) if rank == 0 else {rank}
    if rank:
        store.set(f"hello/{rank}", mine)
    end = time.monotonic() + timeout_s
    while waiting:
        for other in list(waiting):
            if rank == 0:
                hello = _said(store, f"hello/{other}")
                store.set(f"welcome/{other}", f"{hello} {mine}")
                heard = _said(store, f"heard/{other}") == mine
            else:
                answered, _, name = _said(store, f"welcome/{rank}").partition(" ")
                if heard := answered == mine:
                    store.set(f"heard/{rank}", name)
                    mine = name
            waiting -= {other} if heard else set()
        if time.monotonic() > end:
            raise TimeoutError(
                f"rank {rank} of {world} waited {timeout_s:g} s for "
                f"{f'ranks {sorted(waiting)}' if rank == 0 else 'rank 0'}; see what became of them"
            )
        time.sleep(POLL_S)
    return mine


def _said(store: Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""
