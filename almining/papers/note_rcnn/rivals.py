"""What NOTE-RCNN is compared with: boxes found by multiple instance learning (its Table 2).

SemiMIL mines with a source detector alone: it proposes regions, and among those of the images
tagged with a class, a linear classifier and the source's objectness pick one of each image, in
turn. A plain Faster R-CNN, or NOTE-RCNN, then learns from them. Notebook:
04_note_rcnn_training_mining.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §4.4, Table 2; SemiMIL: Uijlings et al., CVPR 2018.
Differs: of SemiMIL the course is followed; its hierarchy of classes is left out, and the numbers
below are ours. The classifier is fitted by least squares, which is exact and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from almining.cycle import Recipe
from almining.data.pool import Pool
from almining.detectors.base import device_of, mode
from almining.detectors.note_parts import is_seed
from almining.detectors.rcnn import FasterRCNN, scale_of
from almining.papers.note_rcnn.config import Config
from almining.papers.note_rcnn.recipes import mineable, step
from almining.predict import stream
from almining.records import Detections, Target
from almining.train import TrainConfig

ORIGIN = "mined:semi_mil"
PROPOSALS = 60  # regions of an image, at most
ROUNDS = 6  # of fitting and picking, at most
FOLDS = 3  # an image is not judged by a classifier that learned from it
RIDGE = 0.1


def frcn_semi_mil(config: Config | None = None) -> Recipe:
    """Return a plain Faster R-CNN on boxes mined by SemiMIL; seed images are left out altogether.

    One cycle is all of it; it trains as long as NOTE-RCNN does in all iterations. The detector is
    one of the variant `"naive"` with a source, untrained.

    Source: NOTE-RCNN Table 2, *FRCN+SemiMIL*, 36.9.
    """
    return _semi_mil("frcn_semi_mil", config, "naive", seeds=False)


def frcn_semi_mil_seed(config: Config | None = None) -> Recipe:
    """Return a plain Faster R-CNN on seeds and on boxes mined by SemiMIL.

    Source: NOTE-RCNN Table 2, *FRCN+SemiMIL+Seed*, 38.7.
    """
    return _semi_mil("frcn_semi_mil_seed", config, "naive", seeds=True)


def note_semi_mil_seed(config: Config | None = None) -> Recipe:
    """Return NOTE-RCNN on seeds and on boxes mined by SemiMIL.

    Source: NOTE-RCNN Table 2, *NOTE-RCNN+SemiMIL+Seed*, 39.9.
    """
    return _semi_mil("note_semi_mil_seed", config, None, seeds=True)


def semi_mil(
    found: Mapping[str, Detections],
    known: Mapping[str, Target],
    *,
    generator: torch.Generator,
    rounds: int = ROUNDS,
    folds: int = FOLDS,
) -> dict[str, Target]:
    """Return one box for each tag of each image, where the image has a region at all.

    Begins with the regions of highest objectness, which is then half of what a region is picked
    by; the other half is a linear classifier, which tells picked regions from all those of images
    without the class.

    Args:
        found: by image its regions, with features; the scores are objectness, in [0, 1].
        known: what is known of these images: their tags, and which classes are absent.
        generator: draws which images are judged together.
        rounds: of fitting and picking, at most.
        folds: so many groups of images of a class; each is judged by what the others teach.

    Returns:
        What is known then, never complete; the boxes, of origin `"mined:semi_mil"`, have scores.
    """
    ids = [image_id for image_id, one in found.items() if len(one)]
    rows = _Rows([found[image_id] for image_id in ids])
    picked: dict[str, list[tuple[int, int, float]]] = {image_id: [] for image_id in found}
    for label in sorted({label for image_id in ids for label in known[image_id].tags or ()}):
        inside = [place for place, i in enumerate(ids) if label in (known[i].tags or ())]
        lacking = [place for place, i in enumerate(ids) if known[i].known_absent(label)]
        for place, row, score in _picked(rows, inside, lacking, rounds, folds, generator):
            picked[ids[place]].append((row, label, score))
    return {i: _target(found[i], some, known[i]) for i, some in picked.items()}


def objects(source: FasterRCNN, images: list[Tensor]) -> list[Detections]:
    """Return what a detector proposes in images, scored by how little it is background.

    Args:
        source: knows other classes.
        images: (3, h, w) each, on its device.
    """
    with torch.no_grad(), mode(source, False):
        batch, pyramid, _, _ = source.prepare(images, None)
        *_, proposals = source.propose(batch, pyramid)
        boxes = [
            some[:PROPOSALS] / scale_of(image, size).to(some.device)
            for some, image, size in zip(proposals, images, batch.image_sizes, strict=True)
        ]
        said = source.regions(images, boxes)
    return [
        replace(one, scores=1 - one.probs[:, 0]).to("cpu") for one in said if one.probs is not None
    ]


class _Rows:
    """The regions of several images, one after the other.

    Args:
        found: of each image, at least one.
    """

    def __init__(self, found: list[Detections]) -> None:
        """Join them; features are standardised and get a constant."""
        counts = torch.tensor([len(one) for one in found], dtype=torch.int64)
        self.owner = torch.arange(len(found)).repeat_interleave(counts)
        self.first = counts.cumsum(0) - counts
        features = torch.cat([torch.zeros(0, 0), *(_features(one) for one in found)][bool(found) :])
        features = features.double()
        if len(features):
            spread = features.std(dim=0, correction=0).clamp(min=1e-6)
            features = (features - features.mean(dim=0)) / spread
        self.features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self.objectness = torch.cat([torch.zeros(0), *(one.scores for one in found)]).double()


def _features(one: Detections) -> Tensor:
    if one.features is None:
        raise ValueError("the regions have no features; take a detector whose `regions` gives them")
    return one.features.flatten(1)


def _picked(
    rows: _Rows,
    images: list[int],
    lacking: list[int],
    rounds: int,
    folds: int,
    generator: torch.Generator,
) -> list[tuple[int, int, float]]:
    """Return (image, its region, score) for each of the images, which have a class others lack."""
    outside = rows.features[torch.isin(rows.owner, torch.tensor(lacking))]
    value = rows.objectness
    best = _best(rows, value, images)
    group = torch.randperm(len(images), generator=generator) % min(folds, len(images))
    for _ in range(rounds if len(outside) else 0):
        value = rows.objectness.clone()
        for number in range(int(group.max()) + 1):
            taught = best[group != number] if int(group.max()) else best
            weights = _fitted(rows.features[taught], outside)
            mine = torch.isin(rows.owner, torch.tensor(images)[group == number])
            said = (rows.features[mine] @ weights).clamp(0, 1)
            value[mine] = (said + rows.objectness[mine]) / 2
        before, best = best, _best(rows, value, images)
        if torch.equal(before, best):
            break
    where = zip(images, best.tolist(), strict=True)
    return [(image, row - int(rows.first[image]), float(value[row])) for image, row in where]


def _best(rows: _Rows, value: Tensor, images: list[int]) -> Tensor:
    """Return (len(images),) of each image the row of highest value, the first of equal ones."""
    ends = torch.cat([rows.first[1:], torch.tensor([len(value)])])
    spans = [(int(rows.first[image]), int(ends[image])) for image in images]
    return torch.tensor([start + int(value[start:end].argmax()) for start, end in spans])


def _fitted(inside: Tensor, outside: Tensor) -> Tensor:
    """Return the weights (d,) that make rows of both kinds 1 and 0, each kind counting alike."""
    gram = inside.T @ inside / len(inside) + outside.T @ outside / len(outside)
    gram += RIDGE * torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram, inside.mean(dim=0))
    return weights


def _target(one: Detections, picks: list[tuple[int, int, float]], known: Target) -> Target:
    """Return what is known of an image once regions are picked, (row, label, score) each."""
    rows = torch.tensor([row for row, _, _ in picks], dtype=torch.int64)
    return Target(
        one.boxes[rows],
        torch.tensor([label for _, label, _ in picks], dtype=torch.int64),
        origin=(ORIGIN,) * len(picks),
        scores=torch.tensor([score for _, _, score in picks]).float(),
        tags=known.tags,
        absent=known.absent,
        negatives=known.negatives,
        complete=False,
    )


def _semi_mil(name: str, config: Config | None, variant: str | None, *, seeds: bool) -> Recipe:
    config = Config.toy() if config is None else config
    if variant is not None:
        config = replace(config, variant=variant, distill="never")
    longer = replace(config, epochs=config.epochs * max(1, config.iterations))

    def mine(detector: Any, pool: Pool, *, generator: torch.Generator) -> dict[str, Target]:
        if detector.source is None:
            raise ValueError(
                f"{name} mines with the detector's source, and it has none; make it with "
                "note_rcnn(classes, source=...)"
            )
        tagged = mineable(pool)
        call: Callable[..., Any] = partial(objects, detector.source)
        how: dict[str, Any] = {"device": device_of(detector), "progress": f"{name}: regions"}
        found = dict(stream(call, pool, list(tagged), detector=detector.source, **how))
        return semi_mil(found, tagged, generator=generator)

    def schedule(pool: Pool) -> TrainConfig:
        return longer.schedule_for(pool.subset(trains_on(pool)))

    def trains_on(pool: Pool) -> list[str]:
        some = config.trains_on(pool)
        return some if seeds else [i for i in some if not is_seed(pool.target(i))]

    return Recipe(
        name,
        config,
        train=schedule,
        needs=("parts",),
        restart="continue",
        trains_on=trains_on,
        mine=mine,
        step=partial(step, config=config),
    )


ALL: tuple[Callable[[Config | None], Recipe], ...] = (
    frcn_semi_mil,
    frcn_semi_mil_seed,
    note_semi_mil_seed,
)
