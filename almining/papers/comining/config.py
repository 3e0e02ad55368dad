"""Co-mining's numbers and its training: one run over all images that have boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from almining.cycle import boxed
from almining.data.pool import Pool
from almining.papers.comining.cogeneration import check_limits
from almining.papers.comining.views import VIEWS, View
from almining.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Config:
    """How boxes are mined, what the second view is, and how the detector is trained.

    The defaults are the paper's for RetinaNet; of what it leaves open (θ1, θ2, the strength of
    colours, normalisation), the reference code's. That has τ = 0.5 on the extreme set and for FCOS,
    and θ1 = 0.6 for FCOS.

    Args:
        min_score: τ of Algorithm 1.
        nms_iou: θ1.
        match_iou: θ2.
        class_aware: as in `cogenerate`.
        view: what the augmented branch sees, as in `views.look`.
        frozen_norm: batch normalisation stays as it is in the detector that training starts from.
        steps: gradient steps.
        batch: images per step; each is seen twice.
        lr: learning rate.
        optimizer: as in `TrainConfig`.
        schedule: as in `TrainConfig`: the rate is divided by 10 after 60k and after 80k steps.
        warmup: share of the steps in which the rate rises: 1k of 90k.
        weight_decay: as in `TrainConfig`.
        clip: as in `TrainConfig`.
    """

    min_score: float = 0.6
    nms_iou: float = 0.5
    match_iou: float = 0.4
    class_aware: bool = True
    view: View = "colour"
    frozen_norm: bool = True
    steps: int = 90_000
    batch: int = 16
    lr: float = 0.01
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    schedule: Literal["cosine", "exponential", "constant", "stepped"] = "stepped"
    warmup: float = 1 / 90
    weight_decay: float = 1e-4
    clip: float = 10.0

    def __post_init__(self) -> None:
        """Validate."""
        check_limits(self.min_score, self.nms_iou, self.match_iou)
        if not callable(self.view) and self.view not in VIEWS:
            raise ValueError(
                f"view = {self.view!r}: use one of {', '.join(VIEWS)}, or a transform of "
                "torchvision's v2"
            )
        self.training()

    @classmethod
    def toy(cls) -> Config:
        """Return values for 800 scenes of 128 pixels on a CPU, under three minutes.

        The start is a backbone that knows single objects (the demo `retinanet_start`). So short a
        training learns more safely with normalisation that learns, too. It is less sure of itself
        than one of 90k steps, so τ is lower; and it takes one animal for another, so classes
        compete: half of what was mined otherwise was an annotated object under another name.
        In the paper hardly anything passes τ early on; here what does in the first tenth of a
        training is mostly wrong, for classes are learned before boxes are.
        """
        return cls(
            min_score=0.4,
            class_aware=False,
            frozen_norm=False,
            steps=640,
            batch=4,
            lr=1e-3,
            optimizer="adamw",
            schedule="cosine",
            warmup=0.1,
        )

    def training(self) -> TrainConfig:
        """Return the schedule."""
        return TrainConfig.of(self)

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: those that have boxes or are complete."""
        return boxed(pool)
