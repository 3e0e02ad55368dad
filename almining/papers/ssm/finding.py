"""Which regions of an image are looked into, how consistent each is, and what it is taken for.

The part of SSM (Wang et al., CVPR 2018, §3.2) that goes over images: of a batch, in each step of a
training, or of a pool, before a training and before a person is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from almining.boxes import area, iou
from almining.checks import HUMAN
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.papers.ssm.config import Config
from almining.papers.ssm.contexts import lacking, positives
from almining.papers.ssm.equations import (
    class_losses,
    pseudo_labels,
    rank_consistent,
    self_paced_weights,
)
from almining.papers.ssm.pasting import cut
from almining.papers.ssm.revisiting import revisit
from almining.papers.ssm.validating import Region, validate, without_broken
from almining.predict import stream
from almining.records import Detections, Target
from almining.rng import generator as seeded
from almining.score import ROW_SUM_TOLERANCE

SAME = 0.5  # IoU from which on two boxes are one region
ORIGIN = "mined:ssm"
Scored = tuple[Detections, Tensor]  # regions of an image, and their consistencies (n,)


class Rest(NamedTuple):
    """Regions that others are ranked among.

    Args:
        owners: (r,) int64, which image each is of, by its position in the pool.
        labels: (r,) int64.
        scores: (r,) float64, their consistencies.
    """

    owners: Tensor
    labels: Tensor
    scores: Tensor


def candidates(found: Detections, target: Target, config: Config) -> Detections:
    """Return the regions of an image that are worth a look, on the CPU, the surest first.

    Detections that score above `config.min_score`, each under its most probable class, one where
    several overlap (IoU >= 0.5). Left out is what a person drew or ruled out (IoU >= 0.5), and what
    would be of a class known to be absent.

    Args:
        found: what a detector says of the image, with `probs`.
        target: what is known of it.
        config: `min_score` is followed.

    Source: the reference code of SSM: score >= 0.5 and NMS, there 0.3, class by class. Here it is
    over all classes: a region that two of them claim is one region.
    """
    found = found.to("cpu")
    target = target.to("cpu")
    if not len(found):
        return found
    if found.probs is None:
        raise ValueError(
            "the detections have probs = None, and SSM asks for the probability of each class; use "
            "a detector that gives Detections(..., probs=...)"
        )
    drawn = torch.tensor([name == HUMAN for name in target.origin], dtype=torch.bool)
    known = torch.cat([target.boxes[drawn], target.negatives])
    keep = found.probs[:, 1:].argmax(dim=1) + 1 == found.labels
    keep &= (found.scores > config.min_score) & (area(found.boxes) > 0)
    keep &= ~(iou(found.boxes, known) >= SAME).any(dim=1)
    absent = [target.known_absent(label) for label in found.labels.tolist()]
    some = found.select(keep & ~torch.tensor(absent))
    return some.select(nms(some.boxes, some.scores, SAME))


def consistencies(
    detector: Any,
    pool: Pool,
    ids: Sequence[str],
    images: Sequence[Tensor],
    found: Sequence[Detections],
    config: Config,
    *,
    generator: torch.Generator,
    suitable: Mapping[int, Sequence[str]],
) -> list[Tensor]:
    """Return the consistency of each region, (n,) float64 for each image; NaN is undetermined.

    Args:
        detector: the present one.
        pool: the images that are pasted into.
        ids: of b images, which need not look as they do in the pool.
        images: (3, h, w) each.
        found: the regions of each.
        config: how to validate.
        generator: draws.
        suitable: `lacking(pool)`.
    """
    if config.validation == "confidence":
        return [one.scores.double() for one in found]
    how: dict[str, Any] = {"generator": generator, "min_iou": config.min_iou}
    how |= {"average": config.average, "failures_as_zero": config.failures_as_zero}
    if config.validation != "paste":
        how |= {"how": config.validation, "copies": config.images}
        return revisit(detector, images, found, **how)
    regions, crops = [], []
    for image_id, image, one in zip(ids, images, found, strict=True):
        shown = image.cpu() if len(one) else image
        for box, label in zip(one.boxes, one.labels.tolist(), strict=True):
            regions.append(Region(image_id, box, label))
            crops.append(cut(shown, box))
    how |= {"way": config.way, "images": config.images, "suitable": suitable}
    how |= {"crops": crops, "max_fraction": config.max_fraction}
    how["edge"] = config.edge
    made = [one.consistency for one in validate(detector, pool, regions, **how)]
    values = [torch.nan if value is None else value for value in made]
    return list(torch.tensor(values, dtype=torch.float64).split([len(one) for one in found]))


def find(
    detector: Any,
    pool: Pool,
    config: Config,
    *,
    progress: str,
    ids: Sequence[str] | None = None,
) -> dict[str, Detections]:
    """Return the `candidates` of each image that is not complete, whatever their consistency."""

    def call(images: list[Tensor], names: list[str]) -> Iterable[Detections]:
        with torch.no_grad():
            found = detector.detect(images)
        return map(candidates, found, map(pool.target, names), [config] * len(names))

    call.__qualname__ = f"ssm find {config.min_score}"
    return _streamed(call, detector, pool, ids, progress)


def look(
    detector: Any,
    pool: Pool,
    config: Config,
    *,
    seed: int,
    progress: str,
    ids: Sequence[str] | None = None,
    asking: bool = False,
) -> dict[str, Scored]:
    """Return the `candidates` of each image that is not complete, and their `consistencies`.

    Args:
        detector: the present one.
        pool: the images.
        config: what to look into, and how.
        seed: of the validation.
        progress: what to call it.
        ids: which images; all by default.
        asking: only regions that at least `config.min_positive` classes claim.

    A broken image is set aside as by `validate`.

    Raises:
        ValueError: where one asks and the probabilities are a softmax's, by which no region can be
            claimed so often.
        DataError: when more than 1% of the pool is broken.
    """
    given: dict[str, Any] = {"seed": seed, "progress": progress, "asking": asking}

    def call(pool: Pool) -> dict[str, Scored]:
        wanted = None if ids is None else [image_id for image_id in ids if image_id in pool]
        return _looked(detector, pool, config, ids=wanted, **given)

    return without_broken(call, pool, "looking into images")


def _looked(
    detector: Any,
    pool: Pool,
    config: Config,
    *,
    seed: int,
    progress: str,
    ids: Sequence[str] | None,
    asking: bool,
) -> dict[str, Scored]:
    suitable = lacking(pool)

    def call(images: list[Tensor], names: list[str]) -> Iterable[Scored]:
        draws = seeded(seed, "look", names[0])
        with torch.no_grad():
            seen = detector.detect(images)
            if asking:
                check_independent(type(detector).__name__, seen, config)
            found = list(map(candidates, seen, map(pool.target, names), [config] * len(names)))
            if asking:
                found = [one.select(_claimed(one, config)) for one in found]
            scores = consistencies(
                detector, pool, names, images, found, config, generator=draws, suitable=suitable
            )
        return zip(found, scores, strict=True)

    call.__qualname__ = f"ssm look {config} {seed} {asking}"
    return _streamed(call, detector, pool, ids, progress)


def take(
    found: Sequence[Detections],
    scores: Sequence[Tensor],
    config: Config,
    rest: Rest | None = None,
) -> list[Tensor]:
    """Return what each region is taken for, (n,) int64 for each image: as `pseudo_labels`.

    -1, too, what is undetermined, or not among the most consistent of its class.

    Args:
        found: the regions of each image.
        scores: their consistencies, NaN where undetermined.
        config: λ and k are followed.
        rest: regions of other images, among which these are ranked.

    Source: SSM §3.2, Eq. 4 and 7.
    Differs: of Eq. 5 only the value for the predicted class, s of Eq. 6, is compared with the loss
    of each classifier, where f may be read as one for each class.
    """
    score, label = torch.cat([*scores]), torch.cat([one.labels for one in found])
    said = torch.full_like(label, -1)
    rows = (~score.isnan()).nonzero()[:, 0]
    first = 0 if rest is None else len(rest.labels)
    both = (score[rows], label[rows])
    if rest is not None:
        both = (torch.cat([rest.scores, both[0]]), torch.cat([rest.labels, both[1]]))
    top = rank_consistent(*both, config.per_class)
    top = rows[top[top >= first] - first]
    if len(top):
        probs = torch.cat([foreground(one) for one in found if len(one)])[top]
        losses = class_losses(probs, probs > config.positive_at)
        weights = self_paced_weights(losses, score[top], pace=config.pace)
        said[top] = pseudo_labels(probs, weights)
    return list(said.split([len(one) for one in found]))


def taught(target: Target, found: Detections, said: Tensor, scores: Tensor) -> Target:
    """Return what is known of an image with pseudo-labels beside it; it is not complete.

    Args:
        target: what is known.
        found: regions.
        said: what each is taken for: a class, 0 for none of them, -1 for undecided.
        scores: their consistencies.
    """
    device, some = target.boxes.device, said > 0
    boxes = found.boxes.to(device)
    count = int(some.sum())
    return Target(
        torch.cat([target.boxes, boxes[some.to(device)]]),
        torch.cat([target.labels, said[some].to(device)]),
        ignore=torch.cat([target.ignore, target.ignore.new_zeros(count)]),
        origin=(*target.origin, *[ORIGIN] * count),
        scores=torch.cat([target.scores, scores[some].float().to(device)]),
        tags=target.tags,
        absent=target.absent,
        negatives=torch.cat([target.negatives, boxes[(said == 0).to(device)]]),
        complete=False,
    )


def pseudo_labelled(detector: Any, pool: Pool, config: Config, *, seed: int) -> Pool:
    """Return the pool as one mini-batch over all of it would be taught: with pseudo-labels.

    Nothing trains on them; they are for counting, and `evaluate.mined` says how many are right.
    Their origin is `"mined:ssm"`, their scores are the consistencies.

    Args:
        detector: any that SSM's recipe takes.
        pool: the images.
        config: what is trusted.
        seed: of the validation.
    """
    looked = look(detector, pool, config, seed=seed, progress="ssm: pseudo-labels")
    ids, found = list(looked), [one for one, _ in looked.values()]
    scores = [one for _, one in looked.values()]
    said = take(found, scores, config) if ids else []
    known = map(taught, map(pool.target, ids), found, said, scores)
    new = {i: one for i, one in zip(ids, known, strict=True) if len(one) > len(pool.target(i))}
    return pool.updated(new, cycle=pool.cycle)


def ranked_among(looked: Mapping[str, Scored], pool: Pool) -> Rest:
    """Return the regions that `look` found, undetermined ones left out."""
    places = {image_id: place for place, image_id in enumerate(pool.ids)}
    none = torch.zeros(0, dtype=torch.int64)
    labels = torch.cat([none, *(one.labels for one, _ in looked.values())])
    scores = torch.cat([none.double(), *(score for _, score in looked.values())])
    owners = [torch.full_like(one.labels, places[i]) for i, (one, _) in looked.items()]
    known = ~scores.isnan()
    return Rest(torch.cat([none, *owners])[known], labels[known], scores[known])


def foreground(found: Detections) -> Tensor:
    """Return φ (n, C) of regions, without background."""
    assert found.probs is not None  # `candidates` saw to it
    return found.probs[:, 1:]


def check_independent(name: str, found: Sequence[Detections], config: Config) -> None:
    """Raise a `ValueError` for a softmax under which no region is ever claimed often enough.

    Args:
        name: of the detector.
        found: what it says of some images. A softmax is known by rows that sum to 1 though more
            than one class has a part in them.
        config: `positive_at` and `min_positive` are followed.
    """
    given = [one.probs.double().cpu() for one in found if one.probs is not None and len(one)]
    if not given or config.positive_at * config.min_positive < 1:
        return
    probs = torch.cat(given)
    others = probs[:, 1:].sum(dim=1) - probs[:, 1:].amax(dim=1)
    sums_to_one = bool(((probs.sum(dim=1) - 1).abs() <= ROW_SUM_TOLERANCE).all())
    if sums_to_one and bool((others > 2 * ROW_SUM_TOLERANCE).any()):
        raise ValueError(
            f"the class probabilities of {name} sum to 1, as a softmax's do: no region is ever "
            f"above positive_at = {config.positive_at:g} for {config.min_positive} classes, so no "
            "one would be asked. Use one-vs-rest heads (almining.detectors.sigmoid), set "
            f"Config(positive_at=...) below {1 / config.min_positive:.3g}, or ask no one: "
            "Config(only='ssm')"
        )


def _claimed(found: Detections, config: Config) -> Tensor:
    if not len(found):
        return torch.zeros(0, dtype=torch.bool)
    return positives(foreground(found), positive_at=config.positive_at) >= config.min_positive


def _streamed(
    call: Callable[..., Iterable[Any]],
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None,
    progress: str,
) -> dict[str, Any]:
    given = dict.fromkeys(pool.ids if ids is None else ids)
    wanted = [image_id for image_id in given if not pool.target(image_id).complete]
    return dict(
        stream(
            call,
            pool,
            wanted,
            beside={image_id: image_id for image_id in wanted},
            device=device_of(detector),
            progress=progress,
            detector=detector,
        )
    )
