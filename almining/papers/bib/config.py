"""BiB's numbers and its training: weak and strong images together, as many of each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from almining.checks import check_whole
from almining.cycle import labelled
from almining.data.pool import Pool
from almining.papers.bib.pairs import check_thresholds
from almining.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Config:
    """What makes a pair, how images are drawn by them, and how the detector is trained.

    The defaults are the paper's for VOC07 (§4.1). Of `min_score` and `tagged_only` it says nothing:
    those are the reference code's; nor of `optimizer`, `schedule`, `weight_decay` and `clip`.

    Args:
        min_ratio: μ of Eq. 1.
        min_containment: δ of Eq. 1.
        min_score: only detections that score above it form pairs.
        tagged_only: only detections of an image's tags do, where its tags are known.
        power: pairs are drawn by distance to this power; the reference code has 2.
        local_trials: draws of which the best is taken; the reference code has 2 + int(ln k) of
            them, k being the images chosen by the end of the cycle.
        keep_pairs: pairs of images asked for in earlier cycles count as seen.
        steps_per_image: gradient steps per labelled image: 300 for every 50; on COCO 1200 for
            every 160.
        batch: images per step, on average half of them labelled, half tagged.
        lr: learning rate.
        optimizer: `"sgd"` or `"adamw"`.
        schedule: `"constant"` or `"cosine"`.
        weight_decay: as in `TrainConfig`.
        clip: as in `TrainConfig`.
    """

    min_ratio: float = 3.0
    min_containment: float = 0.8
    min_score: float = 0.1
    tagged_only: bool = True
    power: float = 1.0
    local_trials: int = 1
    keep_pairs: bool = True
    steps_per_image: float = 300 / 50
    batch: int = 8
    lr: float = 4e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 1e-4
    clip: float = 10.0

    def __post_init__(self) -> None:
        """Validate."""
        check_thresholds(self.min_ratio, self.min_containment, self.min_score)
        check_whole(self.local_trials, "local_trials", 1)
        check_whole(self.batch, "batch", 1)
        self._training(0)
        for name in ("power", "steps_per_image"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: a finite number above 0 is needed"
                )

    @classmethod
    def toy(cls) -> Config:
        """Return values for 240 scenes of 128 pixels, measured on a CPU."""
        return cls(
            batch=4, lr=3e-4, optimizer="adamw", schedule="cosine", weight_decay=1e-2, clip=5.0
        )

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return a schedule that is as long as there are images labelled (§4.1)."""
        return self._training(round(self.steps_per_image * len(labelled(pool))))

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: `weak_and_strong`."""
        return weak_and_strong(pool)

    def _training(self, steps: int) -> TrainConfig:
        return TrainConfig.of(self, steps=steps)


def weak_and_strong(pool: Pool) -> list[str]:
    """Return complete images and images of which tags or some boxes are known, as often as each.

    The fewer ones repeat. Where there is nothing of a kind, the other is all.

    Source: BiB §4.1: images are drawn so that weak and strong ones are asymptotically as many.
    """
    strong = labelled(pool)
    weak = [i for i in pool.ids if pool.target(i).state in ("tagged", "sparse")]
    most = max(len(strong), len(weak))
    return [*islice(cycle(strong), most), *islice(cycle(weak), most)]
