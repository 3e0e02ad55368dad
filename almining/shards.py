"""What each rank made of its share of a pool, on disk for the others.

One file per batch, in the folder all ranks see, whole or not there: when a rank is lost and all are
started again, the batches that are there are read instead of made. The folder's name holds a digest
of what the results depend on, so that nothing of another call, pool or detector is taken for this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from almining import ranks
from almining.digests import digest_texts
from almining.ledger.files import make_folder, write_atomically
from almining.plain import from_plain, to_plain

TEXT = "text"


class Shards:
    """The batches of one call, each written by one rank and read by all.

    Args:
        key: what the results depend on, something JSON can hold; the same on every rank.

    Raises:
        RuntimeError: when it is not.
    """

    def __init__(self, key: Any) -> None:
        """Find the folder, and what is there already."""
        me = ranks.current()
        if me.folder is None:
            raise ValueError("there is one process; shards are for `ranks.joined`")
        stage, number = ranks.next_call()
        ranks.check_same([stage, number, key], "what is to be scored")
        text = json.dumps(key, sort_keys=True)
        self._parts = (ranks.SHARDS, stage, f"{number:04d}-{digest_texts([text])[:16]}")
        self._staged = stage != ranks.UNSTAGED
        self._folder = me.folder.joinpath(*self._parts)
        make_folder(self._folder)
        self._there = {path.name for path in self._folder.glob("*.safetensors")}

    def missing(self, n: int) -> list[int]:
        """Return which of n batches this rank has to make: every world-th, but for those there.

        Args:
            n: how many batches the call has.
        """
        me = ranks.current()
        return [k for k in range(me.rank, n, me.world) if self._name(k) not in self._there]

    def write(self, k: int, results: Sequence[Any], broken: Sequence[Any]) -> None:
        """Write a batch; it is on disk when this returns.

        Args:
            k: which batch.
            results: what `plain` can hold.
            broken: the same.

        Raises:
            ValueError: for a result that `plain` cannot hold.
        """
        tensors: dict[str, Tensor] = {}
        text = json.dumps(to_plain({"results": list(results), "broken": list(broken)}, tensors))
        tensors[TEXT] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        content = save(tensors)
        write_atomically(self._folder / self._name(k), content, room=len(content))

    def read(self, k: int) -> tuple[list[Any], list[Any]]:
        """Return the results and the broken images of a batch, tensors on the CPU.

        Args:
            k: which batch.
        """
        tensors = load(ranks.seen(self._folder / self._name(k)).read_bytes())
        found = from_plain(json.loads(bytes(tensors.pop(TEXT).numpy())), tensors)
        return found["results"], found["broken"]

    def done(self) -> None:
        """Remove the batches, unless they belong to a stage: then they go when that ends."""
        if not self._staged:
            ranks.remove(*self._parts)

    def _name(self, k: int) -> str:
        return f"{k:06d}.safetensors"
