"""SSM's numbers, its switches and its training: ever on, over all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from almining.checks import check_choice, check_whole
from almining.data.pool import Pool
from almining.papers.ssm.equations import AVERAGES, Average
from almining.papers.ssm.pasting import EDGES, Edge
from almining.papers.ssm.validating import WAYS, Way
from almining.train import TrainConfig

Validation = Literal["paste", "flip", "rescale", "flip_rescale", "confidence"]
VALIDATIONS = ("paste", "flip", "rescale", "flip_rescale", "confidence")


@dataclass(frozen=True, slots=True)
class Config:
    """What is validated and how, what is trusted, what is asked, and how the detector is trained.

    The defaults are the paper's {λ, k, N, γ, z} = {0.9, 500, 5, 0.5, 100} (§4). Of what it leaves
    open `min_score` and `steps` are the reference code's, the training R-FCN's for VOC.

    Args:
        pace: λ of Eq. 5.
        per_class: k, the most regions of a class that are trusted at a time.
        images: N, into how many images a region is pasted at most.
        min_iou: γ of Eq. 5.
        per_cycle: z, regions that a person is asked about per cycle, at most.
        only: `"ssm"`, no one is asked; `"al"`, nothing is pseudo-labelled (Table 1 c, d); None,
            both are done.
        validation: `"paste"`, into images without the class; the rivals of Fig. 4, `"flip"`,
            `"rescale"` and `"flip_rescale"`, look at the region's own image again; `"confidence"`,
            at nothing: the consistency is the region's own probability (SPL).
        way: how pastes are looked at, see `validate`; `"single"` is the paper's.
        average: see `consistency`.
        failures_as_zero: see `consistency`.
        max_fraction: see `paste`.
        edge: see `paste`.
        min_score: only what is detected with more is a region that is validated.
        positive_at: a region is predicted to be of each class that is above it. With a softmax it
            has to be below 1 / `min_positive` for anyone to be asked.
        min_positive: so many classes have to claim a region for it to be asked about.
        min_consistency: what is below it is of low consistency.
        steps: T, gradient steps per training.
        batch: images per step.
        lr: learning rate.
        optimizer: as in `TrainConfig`.
        schedule: as in `TrainConfig`.
        weight_decay: as in `TrainConfig`.

    Differs: the paper says *more than two* positive labels where `min_positive` is 2.
    """

    pace: float = 0.9
    per_class: int = 500
    images: int = 5
    min_iou: float = 0.5
    per_cycle: int = 100
    only: Literal["ssm", "al"] | None = None
    validation: Validation = "paste"
    way: str | Way = "single"
    average: Average = "matched"
    failures_as_zero: bool = True
    max_fraction: float = 0.6
    edge: Edge = "hard"
    min_score: float = 0.5
    positive_at: float = 0.5
    min_positive: int = 2
    min_consistency: float = 0.5
    steps: int = 15_000
    batch: int = 4
    lr: float = 1e-3
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    schedule: Literal["cosine", "exponential", "constant"] = "constant"
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("per_class", "images", "per_cycle", "min_positive"):
            check_whole(getattr(self, name), name, 1)
        if self.only not in (None, "ssm", "al"):
            raise ValueError(f"only = {self.only!r}: use 'ssm', 'al', or None for both")
        check_choice(self.validation, VALIDATIONS, "validation")
        if isinstance(self.way, str):
            check_choice(self.way, tuple(WAYS), "way")
        check_choice(self.average, AVERAGES, "average")
        check_choice(self.edge, EDGES, "edge")
        for name in ("pace", "min_iou", "max_fraction", "min_consistency"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: a number above 0, at most 1, is needed"
                )
        for name in ("min_score", "positive_at"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}: 0 or more, below 1, is needed")
        self.training()

    @classmethod
    def toy(cls) -> Config:
        """Return values for 240 scenes of 128 pixels on a CPU, a third of them labelled.

        k is small: in single trials on other seeds AP50 was lower with a larger one, whether it is
        SSM that ranks or SPL.
        """
        return cls(
            per_class=3,
            per_cycle=20,
            way="packed_regions",
            steps=120,
            lr=2e-4,
            optimizer="adamw",
            schedule="cosine",
            weight_decay=1e-2,
        )

    def training(self) -> TrainConfig:
        """Return the schedule of one training."""
        return TrainConfig.of(self)

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return the schedule: `training`, whatever is labelled."""
        return self.training()

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: all; where nothing is pseudo-labelled, `informed`."""
        return informed(pool) if self.only == "al" else list(pool.ids)


def informed(pool: Pool) -> list[str]:
    """Return the images that teach a region's class: complete, or with a box, or a box ruled out.

    Partially labelled ones are among them.
    """
    known = ((image_id, pool.target(image_id)) for image_id in pool.ids)
    return [i for i, one in known if one.complete or len(one) or len(one.negatives)]
