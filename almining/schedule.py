"""How long and how to train, at what rate, and on which images at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from almining.rng import generator

OPTIMIZERS = ("sgd", "rmsprop", "adamw")
SCHEDULES = ("cosine", "exponential", "constant", "stepped")
DROPS = (2 / 3, 8 / 9)  # of the steps: 60k and 80k of 90k, what detectors are mostly trained by


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How long and how to train.

    Args:
        steps: gradient steps.
        batch: images per step.
        lr: peak learning rate.
        optimizer: `"sgd"` (momentum 0.9), `"rmsprop"` (decay 0.9) or `"adamw"`.
        weight_decay: L2 of SGD and RMSProp, decoupled decay of AdamW.
        schedule: `"cosine"`: linear warm-up, then a half cosine down to zero; `"exponential"`:
            warm-up, then by equal factors down to a tenth; `"constant"`: warm-up, then flat;
            `"stepped"`: the same, but a tenth after 2/3 of the steps, a hundredth after 8/9.
        warmup: share of the steps in which the rate rises linearly.
        clip: largest gradient norm; larger ones are scaled down to it.
        flip: mirror an image left to right half of the time.
    """

    steps: int
    batch: int = 8
    lr: float = 1e-3
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "adamw"
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "exponential", "constant", "stepped"] = "cosine"
    warmup: float = 0.1
    clip: float = 10.0
    flip: bool = True

    def __post_init__(self) -> None:
        """Validate."""
        for name, low in (("steps", 0), ("batch", 1)):
            if getattr(self, name) < low:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)}: at least {low} is needed"
                )
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)}: a number above 0 is needed"
                )
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                f"TrainConfig.warmup = {self.warmup}: a share of the steps, 0 to 1, is needed"
            )
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)!r}: use one of {', '.join(known)}"
                )

    @classmethod
    def of(cls, config: Any, **more: Any) -> TrainConfig:
        """Return the schedule that a paper's config describes.

        Args:
            config: a dataclass; its fields that are called as those here are taken.
            more: fields it does not have.

        >>> TrainConfig.of(TrainConfig(steps=10, lr=0.5), steps=20).lr
        0.5
        """
        own = {field.name for field in fields(cls)}
        shared = {f.name: getattr(config, f.name) for f in fields(config) if f.name in own}
        return cls(**shared | more)

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ... as a share of `lr`.

        >>> [round(TrainConfig(steps=10).rate(step), 2) for step in (0, 1, 9)]
        [1.0, 0.97, 0.0]
        """
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "stepped":
            return 0.1 ** sum(step >= share * self.steps for share in DROPS)
        share = (step + 1 - rising) / max(1, self.steps - rising)
        if self.schedule == "exponential":
            return 0.1**share
        return 0.5 * (1 + math.cos(math.pi * share))


def order(ids: Sequence[str], *, seed: int, batch: int, step: int) -> list[tuple[int, str]]:
    """Return the (epoch, image id) pairs of one step.

    Epochs are random permutations laid end to end. A function of its arguments alone, so
    any step can be repeated without those before it.

    >>> [image_id for _, image_id in order(["a"], seed=0, batch=2, step=5)]
    ['a', 'a']
    """
    places = (divmod(place, len(ids)) for place in range(step * batch, (step + 1) * batch))
    return [(epoch, ids[int(_shuffled(len(ids), seed, epoch)[place])]) for epoch, place in places]


@lru_cache(maxsize=4)
def _shuffled(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "order", epoch))
