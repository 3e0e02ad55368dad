"""NOTE-RCNN as a recipe: boxes are mined by tags, anew in every iteration.

`initialise` makes T⁰ from a source detector and the seeds. In iteration t of `cycle.run` T^(t-1)
mines B^t in the tagged images, what it mined before being forgotten, and T^t goes on from T^(t-1)
on seeds and B^t. The detector is `detectors.note`. No one is asked, as in the paper, but where a
query such as `doubts` is given. Notebook: 04_note_rcnn_training_mining.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §3.2 and §4.4, half-distill.
Differs: images that hold a person's boxes without being complete, which the paper has not, are not
mined; they are trained on as mined ones are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from almining.checks import HUMAN
from almining.cycle import Query, Recipe
from almining.data.pool import Pool
from almining.detectors.note import NoteRCNN, note_rcnn
from almining.detectors.note_parts import is_seed
from almining.detectors.rcnn import FasterRCNN
from almining.papers.note_rcnn.config import Config
from almining.papers.note_rcnn.mining import mine_boxes
from almining.predict import detect
from almining.records import Target
from almining.rng import derive
from almining.train import Batch, fit

Watch = Callable[[int, dict[str, Target]], None]


def initialise(
    pool: Pool,
    source: FasterRCNN,
    config: Config | None = None,
    *,
    seed: int,
    progress: bool | str = "note_rcnn 0: train",
) -> NoteRCNN:
    """Return T⁰: made from a source detector and trained on the seed images of a pool.

    Args:
        pool: seed images and others.
        source: S, a detector of the source classes; the pool's may be among them.
        config: `Config.toy()` by default.
        seed: of new heads, order and samples.
        progress: whether to show a progress bar, or what to call it.

    Raises:
        ValueError: when no image is a seed. Of classes without a seed a warning tells: they are
            not found, hence not mined.

    Source: NOTE-RCNN §3.2, detector initialisation.
    """
    config = Config.toy() if config is None else config
    seeds = [image_id for image_id in pool.ids if is_seed(pool.target(image_id))]
    if not seeds:
        raise ValueError(
            f"{pool!r} has no seed image, complete and drawn by a person, to begin with; "
            "see data.regimes.seeds_and_tags"
        )
    shown = [pool.target(image_id) for image_id in seeds]
    held = {label for one in shown for label in one.labels[~one.ignore].tolist()}
    bare = [name for label, name in enumerate(pool.classes, start=1) if label not in held]
    if bare:
        text = f"no seed image holds {', '.join(bare)}: of these no box is found, nor mined"
        warnings.warn(text, stacklevel=2)
    detector = note_rcnn(
        pool.classes, source=source, variant=config.variant, seed=derive(seed, "heads")
    )
    fit(
        detector,
        pool,
        config.first_schedule(len(seeds)),
        ids=seeds,
        step=partial(step, config=config, iteration=0),
        seed=derive(seed, "seeds"),
        progress=progress,
    )
    return detector


def recipe(
    config: Config | None = None, *, watch: Watch | None = None, query: Query | None = None
) -> Recipe:
    """Return NOTE-RCNN; a cycle of `cycle.run` is an iteration, and T⁰ what it begins with.

    Iterations go by the cycles of the pool: one that went through a run before goes on counting.

    Args:
        config: `Config.toy()` by default.
        watch: called after mining with the iteration and what is now known of each tagged image;
            not for iterations that a run directory holds already.
        query: asks a person in every iteration, before mining, such as `doubts`; iteration 1 goes
            on where it asks nothing. None: no one is asked.

    Source: NOTE-RCNN §3.2.
    Differs: the paper asks nobody.
    """
    config = Config.toy() if config is None else config

    def mine(detector: Any, pool: Pool, *, generator: torch.Generator) -> dict[str, Target]:
        check_variant(detector, config)
        iteration = pool.cycle + 1
        found = mine_pool(detector, pool, config, iteration)
        if watch is not None:
            watch(iteration, found)
        return found

    return Recipe(
        "note_rcnn" if query is None else "note_rcnn_asking",
        config,
        train=config.schedule_for,
        needs=("parts",),
        restart="continue",
        trains_on=config.trains_on,
        query=query,
        mine=mine,
        step=partial(step, config=config),
        alone=query is not None,
    )


def mine_pool(detector: Any, pool: Pool, config: Config, iteration: int) -> dict[str, Target]:
    """Return what is known of every tagged image once a detector has mined it.

    Boxes mined before are forgotten: an image in which nothing is mined now is tagged only.

    Args:
        detector: T^(t-1).
        pool: the images.
        config: `min_score` and `every_box` are followed.
        iteration: t, for the boxes' origin.
    """
    tagged, mined = mineable(pool), {}
    how: dict[str, Any] = {"min_score": config.min_score, "every": config.every_box}
    how["origin"] = f"mined:note_rcnn:{iteration}"
    title = f"note_rcnn {iteration}: mine"
    for image_id, found in detect(detector, pool, list(tagged), progress=title):
        target = tagged[image_id]
        new = mine_boxes(found, target.tags or (), **how).to("cpu")
        mined[image_id] = replace(new, absent=target.absent, negatives=target.negatives.to("cpu"))
    return mined


def mineable(pool: Pool) -> dict[str, Target]:
    """Return what is known of the images in which boxes are mined: tagged, and of no person's."""
    known = {image_id: pool.target(image_id) for image_id in pool.ids}
    return {
        image_id: target
        for image_id, target in known.items()
        if not target.complete and target.tags is not None and HUMAN not in target.origin
    }


def step(
    detector: Any,
    batch: Batch,
    *,
    generator: torch.Generator,
    config: Config,
    iteration: int | None = None,
) -> dict[str, Tensor]:
    """Return the losses of seed and mined images; see `detectors.note`.

    Args:
        detector: a `NoteRCNN` of the config's variant.
        batch: seeds and mined images.
        generator: handed on.
        config: says when to distil, and on what.
        iteration: which one this is; the pool's cycle by default.
    """
    check_variant(detector, config)
    now = batch.pool.cycle if iteration is None else iteration
    losses: dict[str, Tensor] = detector.losses(
        batch.images, batch.targets, generator=generator, distill=config.distils(now)
    )
    return losses


def check_variant(detector: Any, config: Config) -> None:
    """Raise a `ValueError` unless a detector has the heads a config wants."""
    if detector.variant != config.variant:
        raise ValueError(
            f"the detector has the heads of variant {detector.variant!r}, the config wants "
            f"{config.variant!r}; make it with initialise(pool, source, config, seed=...)"
        )
