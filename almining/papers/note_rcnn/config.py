"""NOTE-RCNN's numbers and its training: on seeds at first, then on seeds and mined images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from almining.checks import check_choice, check_whole
from almining.cycle import boxed
from almining.data.pool import Pool
from almining.detectors.note import Distill
from almining.detectors.note_parts import VARIANTS
from almining.papers.note_rcnn.mining import check_min_score
from almining.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Config:
    """Which heads there are, how boxes are mined, and how the detector is trained.

    The defaults are the paper's (§4.1).

    Args:
        variant: `"naive"`, `"det-a"`, `"det-az"` or `"det-az-rpn-a"` (§4.3).
        distill: `"always"`, `"never"`, or `"half"`: up to iteration `distill_until` (§4.4).
        distill_until: the last iteration in which half-distill distils.
        distill_on: as in `NoteRCNN.losses`.
        min_score: θ_b.
        every_box: mine every box above θ_b, as the third-party code does; not the best only.
        iterations: how often to mine and train: the `cycles` of `cycle.run`.
        first_epochs: how often training on the seeds alone sees each of them.
        epochs: how often every other training sees each seed and each mined image.
        batch: images per step.
        lr: learning rate.
        optimizer: as in `TrainConfig`.
        schedule: as in `TrainConfig`, anew in each iteration.
        weight_decay: as in `TrainConfig`.
        clip: as in `TrainConfig`.
    """

    variant: str = "det-az-rpn-a"
    distill: Literal["always", "half", "never"] = "always"
    distill_until: int = 4
    distill_on: Distill = "proposals"
    min_score: float = 0.99
    every_box: bool = False
    iterations: int = 8
    first_epochs: float = 20
    epochs: float = 20
    batch: int = 1
    lr: float = 3e-4
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    schedule: Literal["cosine", "exponential", "constant"] = "constant"
    weight_decay: float = 1e-4
    clip: float = 10.0

    def __post_init__(self) -> None:
        """Validate."""
        check_choice(self.variant, tuple(VARIANTS), "variant")
        check_choice(self.distill, ("always", "half", "never"), "distill")
        check_choice(self.distill_on, ("proposals", "samples"), "distill_on")
        check_min_score(self.min_score)
        for name, low in (("distill_until", 0), ("iterations", 0), ("batch", 1)):
            check_whole(getattr(self, name), name, low)
        for name in ("first_epochs", "epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: a finite number above 0 is needed"
                )
        self._training(1, 1)

    @classmethod
    def toy(cls) -> Config:
        """Return values for some 240 scenes of 128 pixels, 12 seeds a class, on a CPU.

        A short training is less sure of itself than a long one: at this θ_b T⁰ mined 66 boxes in
        126 tagged scenes, 89% of them right, as many as the paper's (one seed); at 0.9 it mined 22.
        """
        return cls(
            distill_until=2,
            distill_on="samples",
            min_score=0.7,
            iterations=4,
            first_epochs=16,
            epochs=3,
            batch=4,
            lr=2e-3,
            optimizer="adamw",
            schedule="cosine",
        )

    def distils(self, iteration: int) -> Distill | None:
        """Return what an iteration distils on, None for nothing; 0 is training on the seeds."""
        often = {"always": True, "half": iteration <= self.distill_until, "never": False}
        return self.distill_on if often[self.distill] else None

    def first_schedule(self, seeds: int) -> TrainConfig:
        """Return the schedule of the training on that many seeds alone."""
        return self._training(self.first_epochs, seeds)

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return the schedule of an iteration, which is as long as there are images with boxes."""
        return self._training(self.epochs, len(boxed(pool)))

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: seeds and mined ones."""
        return boxed(pool)

    def _training(self, epochs: float, images: int) -> TrainConfig:
        return TrainConfig.of(self, steps=math.ceil(epochs * images / self.batch))
