"""Co-mining as a recipe: two views of each batch supervise each other.

Both views go through the detector in one forward. What it finds in each becomes, after
co-generation, labels for the other (Eq. 1); the two losses are added (Eq. 2). Afterwards one branch
detects, and costs nothing extra. The detector has to offer `losses_from`, as `detectors.onestage`
and `detectors.rcnn` do, there for the RPN and the box head. No one is asked, as in the paper, but
where a query such as `doubts` is given. Notebook: 03_comining_cogeneration.

Source: Co-mining (Wang et al., AAAI 2021) §3, Algorithm 1.
Differs: both views share one batch, so batch normalisation that is not frozen sees both at once.
The score is the detector's: for FCOS the root of probability times centerness, where the reference
code compares the probability with τ. Where nothing is mined, what was known stays as it is: a
complete image stays complete, and one of which nothing is known teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from almining.cycle import Query, Recipe
from almining.papers.comining.cogeneration import cogenerate_many
from almining.papers.comining.config import Config
from almining.papers.comining.views import look, moved
from almining.records import Detections, Target
from almining.train import Batch, Step

Watch = Callable[[Batch, list[Tensor], list[Target], list[Target]], None]


def recipe(
    config: Config | None = None, *, watch: Watch | None = None, query: Query | None = None
) -> Recipe:
    """Return Co-mining: one cycle of `cycle.run` is the whole of it.

    Args:
        config: `Config.toy()` by default.
        watch: called in every step with the batch, the images of the second view, C_o (what taught
            the batch's own images) and C_a (what taught the second view, in its pixels).
        query: asks a person before each training, such as `doubts`; the first cycle trains where it
            asks nothing. None: no one is asked.

    Source: Co-mining §3, Algorithm 1.
    Differs: the paper asks nobody.
    """
    config = Config.toy() if config is None else config
    name = "comining" if query is None else "comining_asking"
    made = make_recipe(name, config, partial(step, config=config, watch=watch))
    return replace(made, query=query, alone=query is not None)


def make_recipe(name: str, config: Config, step: Step) -> Recipe:
    """Return a recipe that trains as Co-mining does, with another step."""
    return Recipe(
        name,
        config,
        train=config.training(),
        needs=("losses_from",),
        restart="start",
        trains_on=config.trains_on,
        step=step,
    )


def step(
    detector: Any,
    batch: Batch,
    *,
    generator: torch.Generator,
    config: Config,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Return the loss of Eq. 2: that of the images against C_o and of their views against C_a.

    Args:
        detector: offers `losses_from`.
        batch: sparse or complete images; of others only what is mined teaches.
        generator: draws the second views.
        config: how to mine.
        watch: as in `recipe`.
    """
    views = [look(config.view, image, generator=generator) for image in batch.images]
    known = [view.target(target) for view, target in zip(views, batch.targets, strict=True)]
    shown = [view.image for view in views]

    def teach(found: list[Detections]) -> list[Target]:
        own, other = found[: len(views)], found[len(views) :]
        pairs = list(zip(views, own, other, strict=True))
        for_own = taught([moved(a, view.back) for view, _, a in pairs], batch.targets, config)
        for_other = taught([moved(o, view.there) for view, o, _ in pairs], known, config)
        if watch is not None:
            watch(batch, shown, for_own, for_other)
        return [*for_own, *for_other]

    return losses_from(detector, [*batch.images, *shown], teach, generator, config, views=2)


def taught(found: Sequence[Detections], known: Sequence[Target], config: Config) -> list[Target]:
    """Return known boxes with what is mined beside them; as they are where nothing is."""
    mined = cogenerate_many(
        found,
        known,
        min_score=config.min_score,
        nms_iou=config.nms_iou,
        match_iou=config.match_iou,
        class_aware=config.class_aware,
    )
    return [
        more if len(more) > len(target) else target
        for more, target in zip(mined, known, strict=True)
    ]


def losses_from(
    detector: Any,
    images: Sequence[Tensor],
    teach: Callable[[list[Detections]], Sequence[Target]],
    generator: torch.Generator,
    config: Config,
    **more: Any,
) -> dict[str, Tensor]:
    """Return a detector's losses against targets made from what it finds, as `config` says."""
    losses: dict[str, Tensor] = detector.losses_from(
        images,
        teach,
        generator=generator,
        min_score=config.min_score,
        frozen_norm=config.frozen_norm,
        **more,
    )
    return losses
