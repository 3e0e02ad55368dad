"""Keepers of a training's state for tests, and a detector in which everything has a state."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from almining.checkpoints import State, read, write
from tests.fakes import FlatDetector


class Killed(Exception):
    """What stands for the end of a process."""


class MemoryKeeper:
    """Keeps every state; is killed when a step is saved, after that or, with `late`, before."""

    def __init__(self, *, killed_at: int | None = None, late: bool = False) -> None:
        self.every_s = 0.0
        self.states: list[State] = []
        self.done: list[bool] = []
        self.killed_at, self.late = killed_at, late

    def load(self) -> State | None:
        return self.states[-1] if self.states else None

    def save(self, state: State, *, done: bool) -> None:
        killed = state.step == self.killed_at
        if killed and self.late:
            raise Killed
        self.states.append(state)
        self.done.append(done)
        if killed:
            raise Killed


class FileKeeper:
    """Keeps the latest state in a file."""

    def __init__(self, path: Path) -> None:
        self.every_s, self.path = 0.0, path

    def load(self) -> State | None:
        return read(self.path) if self.path.exists() else None

    def save(self, state: State, *, done: bool) -> None:
        part = self.path.with_suffix(".part")
        write(state, part)
        part.replace(self.path)


class MoodyDetector(FlatDetector):
    """Drops out at random, keeps running statistics, ties two weights, never uses a third."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.first, self.norm = nn.Linear(1, 8), nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 3)
        self.tied = nn.Linear(8, 3)
        self.unused = nn.Parameter(torch.ones(2))
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=draws)
        self.tied.weight = self.last.weight

    def _logits(self, images: list[Tensor]) -> Tensor:
        means = torch.stack([image.mean() for image in images])[:, None]
        hidden = nn.functional.dropout(self.norm(self.first(means)), 0.5)
        return self.last(hidden) + self.tied(hidden) + self.linear(means)


def same(one: State, other: State) -> bool:
    """Whether two states are equal, bit for bit."""
    return (
        (one.step, one.parts, one.losses) == (other.step, other.parts, other.losses)
        and one.tensors.keys() == other.tensors.keys()
        and all(
            tensor.dtype == other.tensors[name].dtype and torch.equal(tensor, other.tensors[name])
            for name, tensor in one.tensors.items()
        )
    )
