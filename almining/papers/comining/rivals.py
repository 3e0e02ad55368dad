"""What Co-mining is compared with: Tables 1, 2, 5 and 6 of the paper.

All of them train as Co-mining does (`Config`), on the same images; only the step differs, and for
pseudo-labels what is mined before. None looks at images that have no boxes.

Source: Co-mining (Wang et al., AAAI 2021) §4. Notebook: 03_comining_cogeneration.
Differs: soft sampling and part-aware sampling are made for the regions of Faster R-CNN; anchors
stand for them here. Their values (0.25, 50, 20 of the first, the shares of the second) are from
memory and were not checked against their papers; Co-mining's paper gives none. Open Images says
which class is part of which, and which of an image's classes were checked; here parts are counted
and no class counts as checked.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from almining.boxes import containment
from almining.cycle import Recipe
from almining.data.pool import Pool
from almining.papers.comining.config import Config
from almining.papers.comining.recipes import losses_from, make_recipe, taught
from almining.papers.comining.views import look
from almining.predict import detect
from almining.records import Target
from almining.rng import draw_seed
from almining.train import Batch, fit

if TYPE_CHECKING:
    from almining.detectors.onestage import Classify
    from almining.detectors.onestage_parts import Anchored

ALPHA = 0.25  # the weight of a positive in the focal loss
INSIDE = 0.9  # share of a box that lies in the subject's


def original(config: Config | None = None) -> Recipe:
    """Return plain training on the images as they are; `config` is `Config.toy()` by default.

    Source: Co-mining Table 1, *Original*; the baseline of Tables 2 and 6.
    """
    config = Config.toy() if config is None else config
    return make_recipe("original", config, partial(plain_step, config=config))


def augmented(config: Config | None = None) -> Recipe:
    """Return plain training on the second view alone.

    Source: Co-mining Table 1, *Augmented*.
    """
    config = Config.toy() if config is None else config
    return make_recipe("augmented", config, partial(joint_step, config=config, both=False))


def joint(config: Config | None = None) -> Recipe:
    """Return training on both views, each with the annotated boxes: no co-generation.

    Source: Co-mining Table 1, *Joint*; Table 2, only the siamese network.
    """
    config = Config.toy() if config is None else config
    return make_recipe("joint", config, partial(joint_step, config=config, both=True))


def cogeneration(config: Config | None = None) -> Recipe:
    """Return training on the images as they are, with what the detector mines for itself.

    Source: Co-mining Table 2, only co-generation.
    """
    config = Config.toy() if config is None else config
    return make_recipe("cogeneration", config, partial(own_step, config=config))


def soft_sampling(
    config: Config | None = None, *, low: float = 0.25, shift: float = 50.0, rate: float = 20.0
) -> Recipe:
    """Return training in which background far from every annotated box weighs little.

    Its weight is a + (1 - a) exp(-b exp(-c o)), o being the largest IoU with an annotated box.

    Args:
        config: how to train.
        low: a, the weight of what overlaps nothing.
        shift: b.
        rate: c.

    Source: Soft Sampling (Wu et al., BMVC 2019).
    """
    config = Config.toy() if config is None else config
    classify = partial(soft_loss, low=low, shift=shift, rate=rate)
    step = partial(plain_step, config=config, classify=classify)
    return make_recipe("soft_sampling", config, step)


def background_recalibration(
    config: Config | None = None, *, confusion: float = 0.5, far: float = 0.1, weight: float = 0.1
) -> Recipe:
    """Return training in which background that looks like an object is taken for one.

    Args:
        config: how to train.
        confusion: t; where the probability of background is lower, the focal loss is mirrored.
        far: only background that overlaps every annotated box by less is recalibrated.
        weight: of that background, mirrored or not.

    Source: Background Recalibration Loss (Zhang et al., ICASSP 2020); the values are those of its
    authors' code for half of COCO's boxes.
    """
    config = Config.toy() if config is None else config
    classify = partial(recalibrated_loss, confusion=confusion, far=far, weight=weight)
    step = partial(plain_step, config=config, classify=classify)
    return make_recipe("background_recalibration", config, step)


def part_aware(
    config: Config | None = None,
    *,
    parts: Mapping[int, Collection[int]] | None = None,
    min_share: float = 0.5,
) -> Recipe:
    """Return training in which parts inside their subject are never background.

    Args:
        config: how to train.
        parts: of each subject class the classes of its parts; counted from the boxes by default.
        min_share: as in `find_parts`.

    Source: part-aware sampling (Niitani et al., CVPR 2019).
    """
    config = Config.toy() if config is None else config
    step = partial(part_step, config=config, parts=parts, min_share=min_share)
    return make_recipe("part_aware", config, step)


def pseudo_labels(config: Config | None = None) -> Recipe:
    """Return training twice: what the first detector finds is labelled for the second.

    Source: Co-mining Table 6, *Pseudo label*, after Niitani et al., CVPR 2019.
    """
    config = Config.toy() if config is None else config
    made = make_recipe("pseudo_labels", config, partial(plain_step, config=config))

    def mine(detector: Any, pool: Pool, *, generator: torch.Generator) -> dict[str, Target]:
        ids, first = config.trains_on(pool), copy.deepcopy(detector)
        seed = draw_seed(generator)
        fit(first, pool, config.training(), ids=ids, step=made.step, seed=seed, progress=made.name)
        mined = {}
        for image_id, found in detect(first, pool, ids, progress=made.name):
            known = pool.target(image_id).to(found.boxes.device)
            (new,) = taught([found], [known], config)
            if new is not known:
                mined[image_id] = new.to("cpu")
        return mined

    return Recipe(
        made.name,
        config,
        train=made.train,
        needs=made.needs,
        restart="start",
        trains_on=config.trains_on,
        mine=mine,
        step=made.step,
    )


def plain_step(
    detector: Any,
    batch: Batch,
    *,
    generator: torch.Generator,
    config: Config,
    classify: Classify | None = None,
) -> dict[str, Tensor]:
    """Return the losses of the images as they are, against what is annotated."""
    return losses_from(
        detector, batch.images, lambda _: batch.targets, generator, config, classify=classify
    )


def joint_step(
    detector: Any, batch: Batch, *, generator: torch.Generator, config: Config, both: bool
) -> dict[str, Tensor]:
    """Return the losses of the second view, or of both, against what is annotated."""
    views = [look(config.view, image, generator=generator) for image in batch.images]
    images = [view.image for view in views]
    targets = [view.target(target) for view, target in zip(views, batch.targets, strict=True)]
    if both:
        images, targets = [*batch.images, *images], [*batch.targets, *targets]
    return losses_from(detector, images, lambda _: targets, generator, config, views=1 + both)


def own_step(
    detector: Any, batch: Batch, *, generator: torch.Generator, config: Config
) -> dict[str, Tensor]:
    """Return the losses of the images against what is annotated and what they mine themselves."""
    return losses_from(
        detector,
        batch.images,
        lambda found: taught(found, batch.targets, config),
        generator,
        config,
    )


def part_step(
    detector: Any,
    batch: Batch,
    *,
    generator: torch.Generator,
    config: Config,
    parts: Mapping[int, Collection[int]] | None,
    min_share: float,
) -> dict[str, Tensor]:
    """Return the losses of the images; see `part_aware`."""
    known = find_parts(batch.pool, min_share=min_share) if parts is None else parts
    classify = partial(part_loss, parts=known)
    return plain_step(detector, batch, generator=generator, config=config, classify=classify)


def soft_loss(given: Anchored, *, low: float, shift: float, rate: float) -> Tensor:
    """Return focal losses (a, C + 1), background weighed by its overlap with annotated boxes."""
    weight = low + (1 - low) * (-shift * (-rate * given.overlap()).exp()).exp()
    positive = given.truth.any(dim=1)
    return given.focal() * torch.where(positive, 1.0, weight)[:, None]


def recalibrated_loss(given: Anchored, *, confusion: float, far: float, weight: float) -> Tensor:
    """Return focal losses (a, C + 1); those of improbable background far from boxes mirrored.

    Mirrored is a positive's loss with the weight 1 - α of background.
    """
    alone = ~given.truth.any(dim=1, keepdim=True) & (given.overlap() < far)[:, None]
    mirrored = alone & (given.logits.detach().sigmoid() > 1 - confusion)
    loss = given.focal(torch.where(mirrored, 1.0, given.truth))
    return loss * torch.where(mirrored, (1 - ALPHA) / ALPHA, 1.0) * torch.where(alone, weight, 1.0)


def part_loss(given: Anchored, *, parts: Mapping[int, Collection[int]]) -> Tensor:
    """Return focal losses (a, C + 1); 0 for parts in the boxes of their subjects."""
    counts = torch.ones_like(given.truth)
    for subject, of in parts.items():
        boxes = given.boxes[given.labels == subject]
        if len(boxes) and of:
            inside = containment(given.anchors, boxes).amax(dim=1) >= INSIDE
            for part in of:
                counts[inside, part] = 0.0
    return given.focal() * torch.where(given.truth > 0, 1.0, counts)


@lru_cache(maxsize=2)
def find_parts(pool: Pool, *, min_share: float = 0.5) -> dict[int, set[int]]:
    """Return of each subject class the classes of its parts, counted from a pool's boxes.

    A class is a part of another where, in images that have boxes of both, at least `min_share` of
    its boxes lie (>= 90% of them) in one of the other.
    """
    inside: Counter[tuple[int, int]] = Counter()
    total: Counter[tuple[int, int]] = Counter()
    for image_id in pool.ids:
        target = pool.target(image_id)
        labels = target.labels.tolist()
        covered = containment(target.boxes, target.boxes) >= INSIDE
        for part, row in zip(labels, covered, strict=True):
            for subject in set(labels) - {part}:
                total[subject, part] += 1
                inside[subject, part] += bool(row[target.labels == subject].any())
    found: dict[int, set[int]] = {}
    for (subject, part), n in total.items():
        if inside[subject, part] >= min_share * n:
            found.setdefault(subject, set()).add(part)
    return found
