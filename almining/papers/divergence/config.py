"""Divergence's numbers and its training: from the start anew, on what was labelled since."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from almining.checks import check_choice, check_whole
from almining.cycle import acquired
from almining.data.pool import Pool
from almining.select import smooth
from almining.train import TrainConfig

LOWEST = {"radius": 0, "region": 1, "blocked_now": 0, "blocked_later": 0, "per_cycle": 1}
LOWEST |= {"cycles": 0, "epochs": 1, "batch": 1}


@dataclass(frozen=True, slots=True)
class Config:
    """How frames are scored and kept apart, how many there are, and how the detector is trained.

    The defaults are the paper's (§4), but for `half_window` and `sigma`, which are the reference
    code's, and `batch`, which is open. Images without a video are stills: nothing is smoothed and
    no rule holds among them. To take frames for stills, set `half_window`, `blocked_now` and
    `blocked_later` to 0.

    Args:
        radius: r of Eq. 1; 4 in the reference code.
        region: side of the regions of Eq. 5, in pixels.
        aggregate: `"max"`, the mean of the regions' maxima, or `"mean"`, the mean over all pixels.
        half_window: Δt of Eq. 6, in frames; 0 smooths nothing.
        sigma: of the Gaussian of Eq. 6, in frames.
        blocked_now: Δt1, in frames; 0 for no such rule.
        blocked_later: Δt2, in frames; 0 for no such rule.
        per_cycle: b, frames per cycle: the `budget` that goes with the rest.
        cycles: K, which goes with the rest, too.
        epochs: T, over the frames labelled since the start.
        batch: images per step.
        lr: learning rate.
        optimizer: as in `TrainConfig`.
        schedule: as in `TrainConfig`.
        weight_decay: λ of Eq. 7.
    """

    radius: int = 9
    region: int = 30
    aggregate: Literal["max", "mean"] = "max"
    half_window: int = 5
    sigma: float = 3.0
    blocked_now: int = 15
    blocked_later: int = 2
    per_cycle: int = 500
    cycles: int = 14
    epochs: int = 50
    batch: int = 8
    lr: float = 1e-3
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "rmsprop"
    schedule: Literal["cosine", "exponential", "constant"] = "exponential"
    weight_decay: float = 2e-6

    def __post_init__(self) -> None:
        """Validate all of it: a query that fails after it has scored a film is too late."""
        check_choice(self.aggregate, ("max", "mean"), "aggregate")
        for name, low in LOWEST.items():
            check_whole(getattr(self, name), name, low)
        smooth([], half_window=self.half_window, sigma=self.sigma)
        self._schedule(0)

    @classmethod
    def toy(cls) -> Config:
        """Return values for 480 frames of a toy street, 16 videos of 30, ten frames to a second."""
        return cls(
            radius=3,
            region=8,
            half_window=3,
            sigma=2.0,
            blocked_now=8,
            blocked_later=1,
            per_cycle=16,
            cycles=4,
            epochs=20,
            batch=4,
            lr=3e-4,
        )

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return a schedule of T epochs over the frames labelled since the start."""
        return self._schedule(len(acquired(pool)))

    def _schedule(self, images: int) -> TrainConfig:
        return TrainConfig.of(self, steps=self.epochs * math.ceil(images / self.batch), warmup=0.0)

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: those labelled since the start, X_al."""
        return acquired(pool)
