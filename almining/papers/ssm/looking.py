"""How consistent regions are: those of a batch, and those of a pool.

The part of SSM (Wang et al., CVPR 2018, §3.2) that asks a detector: in each step of a training,
before a training, and before a person is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.papers.ssm.config import Config
from almining.papers.ssm.contexts import lacking, positives
from almining.papers.ssm.finding import Scored, candidates, foreground, take, taught
from almining.papers.ssm.pasting import cut
from almining.papers.ssm.revisiting import revisit
from almining.papers.ssm.validating import Region, Validation, validate, without_broken
from almining.predict import stream
from almining.records import Detections
from almining.rng import generator as seeded
from almining.score import ROW_SUM_TOLERANCE

Tried = tuple[Detections, Tensor, list[Validation]]  # as Scored, and what came of pasting each


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
    kept: list[Validation] | None = None,
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
        kept: gets what came of each region, in order, where regions are pasted.
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
    made = validate(detector, pool, regions, **how)
    if kept is not None:
        kept += made
    values = [torch.nan if one.consistency is None else one.consistency for one in made]
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
) -> dict[str, Scored]:
    """Return the `candidates` of each image that is not complete, and their `consistencies`.

    Args:
        detector: the present one.
        pool: the images.
        config: what to look into, and how.
        seed: of the validation.
        progress: what to call it.
        ids: which images; all by default.

    A broken image is set aside as by `validate`.

    Raises:
        DataError: when more than 1% of the pool is broken.
    """

    def call(pool: Pool) -> dict[str, Any]:
        wanted = None if ids is None else [image_id for image_id in ids if image_id in pool]
        return _looked(detector, pool, config, wanted, seed=seed, progress=progress, asking=False)

    found = without_broken(call, pool, "looking into images")
    return {image_id: (one, scores) for image_id, (one, scores, _) in found.items()}


def look_to_ask(
    detector: Any, pool: Pool, config: Config, *, seed: int, progress: str
) -> dict[str, Tried]:
    """Return what `look` does and what came of each region, of those that several classes claim.

    Those are claimed by at least `config.min_positive`. Of regions that are validated in another
    way than by pasting, nothing is kept but the consistency.

    Args:
        detector: the present one.
        pool: the images.
        config: what to look into, and how.
        seed: of the validation.
        progress: what to call it.

    Raises:
        ValueError: where the probabilities are a softmax's, by which no region can be claimed so
            often.
        DataError: when more than 1% of the pool is broken.
    """

    def call(pool: Pool) -> dict[str, Any]:
        return _looked(detector, pool, config, None, seed=seed, progress=progress, asking=True)

    found = without_broken(call, pool, "looking into images")
    return {
        i: (one, s, [Validation(*parts) for parts in made]) for i, (one, s, made) in found.items()
    }


def _looked(
    detector: Any,
    pool: Pool,
    config: Config,
    ids: Sequence[str] | None,
    *,
    seed: int,
    progress: str,
    asking: bool,
) -> dict[str, Any]:
    suitable = lacking(pool)

    def call(images: list[Tensor], names: list[str]) -> Iterable[Any]:
        draws = seeded(seed, "look", names[0])
        with torch.no_grad():
            seen = detector.detect(images)
            if asking:
                check_independent(type(detector).__name__, seen, config)
            found = list(map(candidates, seen, map(pool.target, names), [config] * len(names)))
            if asking:
                found = [one.select(_claimed(one, config)) for one in found]
            made: list[Validation] = []
            given: dict[str, Any] = {"generator": draws, "suitable": suitable}
            given["kept"] = made if asking else None
            scores = consistencies(detector, pool, names, images, found, config, **given)
        plain = map(tuple, made)  # so that ranks can hand them on
        return zip(found, scores, [list(islice(plain, len(one))) for one in found], strict=True)

    call.__qualname__ = f"ssm look {config} {seed} {asking}"
    return _streamed(call, detector, pool, ids, progress)


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
