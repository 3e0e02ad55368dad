"""SSM as a recipe: trust what stays the same elsewhere, ask about what several classes claim.

Algorithm 1. In every step of a training the regions of the batch are validated, ranked and
pseudo-labelled, and the detector learns from labelled and pseudo-labelled ones together (Eq. 1 and
8); the labels are thrown away. Between trainings a person is asked about regions, not images: some
that were not found again and that two classes or more claim. It ends when there are none.
Notebook: 01_ssm_paste_validation.

Source: SSM (Wang et al., CVPR 2018) §3, Algorithm 1.
Differs: a cycle asks first and trains then; only where there is nothing to ask at the start it
trains all the same, as Algorithm 1 does before it asks. What a mini-batch is ranked among, the
paper leaves open: here among the regions of all images that are not complete, those of the batch as
they are now, those of the others as they were when the training began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from almining.cycle import History, Query, Recipe
from almining.data.pool import Pool
from almining.papers.ssm.config import Config
from almining.papers.ssm.contexts import lacking, verdicts
from almining.papers.ssm.finding import (
    Rest,
    candidates,
    foreground,
    ranked_among,
    take,
    taught,
)
from almining.papers.ssm.looking import Tried, consistencies, look, look_to_ask, pseudo_labelled
from almining.papers.ssm.showing import pastes
from almining.papers.ssm.validating import WAYS, Region
from almining.records import Detections, Evidence, Request, Target
from almining.rng import draw_seed
from almining.select import sample
from almining.train import Batch

KIND = "consistency"  # of evidence
Watch = Callable[[Batch, list[Target]], None]


def recipe(config: Config | None = None, *, watch: Watch | None = None) -> Recipe:
    """Return SSM.

    Needs a detector that gives `probs`; with a softmax, see `Config.positive_at`. `budget` goes by
    regions: give z again, and `unit="boxes"`. A region that turns out to hold no object costs none.

    Args:
        config: `Config.toy()` by default. `only` leaves out one half of it.
        watch: called in every step with the batch and what it was taught.

    Raises:
        ValueError: from the first query, before any training, for a softmax whose regions can never
            be ambiguous.

    Source: SSM §3.2, Algorithm 1; Table 1 c and d for `only`.
    Differs: the paper's *AL* alone asks about regions of low confidence; here, as in the whole,
    about those of low consistency that several classes claim.
    """
    config = Config.toy() if config is None else config
    name = "ssm" if config.only is None else f"{config.only}_only"
    query = None if config.only == "ssm" else _ambiguous(name, config)
    return make_recipe(name, config, query, watch=watch)


def make_recipe(
    name: str,
    config: Config,
    query: Query | None,
    *,
    needs: Sequence[str] = (),
    watch: Watch | None = None,
) -> Recipe:
    """Return a recipe that asks by `query` and trains as SSM does."""
    way = WAYS[config.way] if isinstance(config.way, str) else config.way
    pasted = config.validation == "paste" and way.head
    return Recipe(
        name,
        config,
        train=config.schedule_for,
        needs=("probs", *needs, *(["regions"] if pasted else [])),
        restart="continue",
        trains_on=config.trains_on,
        query=query,
        step=Step(config, watch),
        alone=config.only is None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The loss of a batch in which regions are pseudo-labelled for this once.

    What is known of an image that is not complete is all it teaches: its boxes, those a person
    ruled out, and the pseudo-labels; the rest of it is neither object nor background.

    Args:
        config: how regions are found, validated, ranked and taken.
        watch: as in `recipe`.
        suitable: `lacking(pool)`; None: found anew in each step.
        rest: what a batch is ranked among; None: among itself.
    """

    config: Config
    watch: Watch | None = None
    suitable: Mapping[int, Sequence[str]] | None = None
    rest: Rest | None = None

    def begin(
        self, detector: Any, pool: Pool, *, ids: Sequence[str], generator: torch.Generator
    ) -> Step:
        """Return the step of one training: one that ranks among all images it trains on.

        Args:
            detector: the one that training starts from.
            pool: what is known.
            ids: the images to train on.
            generator: draws.
        """
        if self.config.only == "al":
            return self
        looked = look(
            detector,
            pool,
            self.config,
            seed=draw_seed(generator),
            ids=ids,
            progress="ssm: validate",
        )
        return replace(self, suitable=lacking(pool), rest=ranked_among(looked, pool))

    def __call__(
        self, detector: Any, batch: Batch, *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the detector's losses against what is known and what is pseudo-labelled."""
        targets = list(batch.targets)
        if self.config.only != "al":
            for row, target in self._labelled(detector, batch, generator):
                targets[row] = target
        if self.watch is not None:
            self.watch(batch, list(targets))
        rows = [i for i, one in enumerate(targets) if _teaches(one)] or [0]
        images = [batch.images[i] for i in rows]
        masked = [_masked(targets[i], image) for i, image in zip(rows, images, strict=True)]
        losses: dict[str, Tensor] = detector.losses(images, masked, generator=generator)
        return losses

    def _labelled(
        self, detector: Any, batch: Batch, generator: torch.Generator
    ) -> list[tuple[int, Target]]:
        """Return the targets of the images of a batch that are not complete, by position."""
        rows = [i for i, target in enumerate(batch.targets) if not target.complete]
        if not rows:
            return []
        images, ids = [batch.images[i] for i in rows], [batch.ids[i] for i in rows]
        known = [batch.targets[i] for i in rows]
        suitable = lacking(batch.pool) if self.suitable is None else self.suitable
        with torch.no_grad():
            seen = detector.detect(images)
            found = [candidates(*pair, self.config) for pair in zip(seen, known, strict=True)]
            scores = consistencies(
                detector,
                batch.pool,
                ids,
                images,
                found,
                self.config,
                generator=generator,
                suitable=suitable,
            )
        said = take(found, scores, self.config, self._others(batch.pool, ids))
        return list(zip(rows, map(taught, known, found, said, scores), strict=True))

    def _others(self, pool: Pool, ids: Sequence[str]) -> Rest | None:
        """Return what the batch is ranked among: the regions of the other images."""
        if self.rest is None:
            return None
        mine = torch.tensor([pool.ids.index(image_id) for image_id in set(ids)])
        return Rest(*(values[~torch.isin(self.rest.owners, mine)] for values in self.rest))


def books(
    history: History, config: Config | None = None, *, seed: int = 0
) -> dict[str, list[float]]:
    """Return a run's cost and yield as the paper counts them, in % of the boxes known at the start.

    Args:
        history: what came of a run of SSM or of a rival.
        config: what is trusted in the end; `Config.toy()` by default.
        seed: of the validation.

    Returns:
        `annotated`, the boxes that people gave since, by cycle; `pseudo`, of the last cycle only,
        the boxes that are mined, and those that would be pseudo-labelled now unless
        `config.only` is `"al"`. Empty when nothing was known at the start.

    Source: SSM §4, the keys *annotated* and *pseudo* of Table 1.
    Differs: the paper adds up what is pseudo-labelled through the training; `watch` can count that.
    """
    config = Config.toy() if config is None else config
    start = history.rows[0].boxes if history.rows else 0
    if not start:
        return {}
    pool = history.pool
    if config.only != "al":
        pool = pseudo_labelled(history.detector, pool, config, seed=seed)
    origins = [name for i in pool.ids for name in pool.target(i).origin]
    mined = sum(name.startswith("mined") for name in origins)
    annotated = [100 * (row.boxes - start) / start for row in history.rows]
    return {"annotated": annotated, "pseudo": [100 * mined / start]}


def request(
    image_id: str, row: int, box: Tensor, evidence: Evidence, score: float | None = None
) -> Request:
    """Return a request for what is in a region; `row` tells those of one image apart."""
    return Request(
        f"region:{image_id}:{row}", image_id, "region", box=box, score=score, evidence=evidence
    )


def described(found: Detections, row: int, classes: Sequence[str], config: Config) -> str:
    """Return in words which classes claim a region, the most probable one first."""
    probs = foreground(found)[row]
    order = probs.argsort(descending=True, stable=True).tolist()
    claims = [j for j in order if probs[j] > config.positive_at] or order[:1]
    return " and ".join(f"{classes[j]} {float(probs[j]):.2f}" for j in claims)


def _ambiguous(name: str, config: Config) -> Query:
    """Return the query: regions of low consistency that several classes claim, at random."""

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        if len(pool.classes) < config.min_positive:
            raise ValueError(
                f"the pool has {len(pool.classes)} class, so no region is ever claimed by "
                f"{config.min_positive}; set Config(min_positive=1), or ask no one: "
                "Config(only='ssm')"
            )
        seed = draw_seed(generator)
        looked = look_to_ask(detector, pool, config, seed=seed, progress=f"{name}: ask")
        low = [
            (image_id, row)
            for image_id, (found, scores, _) in looked.items()
            for row in _low(found, scores, config)
        ]
        drawn = sample(len(low), min(budget, config.per_cycle), generator=generator)
        return [_asked(*low[i], looked[low[i][0]], pool, config) for i in drawn]

    return query


def _low(found: Detections, scores: Tensor, config: Config) -> list[int]:
    """Return the rows of regions that are ambiguous."""
    if not len(found):
        return []
    given = [None if value != value else value for value in scores.tolist()]
    said = verdicts(
        given,
        foreground(found),
        min_consistency=config.min_consistency,
        positive_at=config.positive_at,
        min_positive=config.min_positive,
    )
    return [row for row, one in enumerate(said) if one == "ambiguous"]


def _asked(
    image_id: str,
    row: int,
    looked: Tried,
    pool: Pool,
    config: Config,
) -> Request:
    found, scores, made = looked
    value, label = float(scores[row]), int(found.labels[row])
    named = pool.classes[label - 1]
    text = f"{described(found, row, pool.classes, config)}; consistency as {named} {value:.2f}"
    one = found.select(torch.tensor([row]))
    data: dict[str, Any] = {"boxes": one.boxes, "labels": one.labels, "probs": foreground(one)}
    if made:
        data |= pastes(pool, Region(image_id, found.boxes[row], label), made[row], config)
    why = Evidence(KIND, data | {"consistency": value}, text)
    return request(image_id, row, found.boxes[row], why)


def _teaches(target: Target) -> bool:
    return target.complete or bool((~target.ignore).any()) or len(target.negatives) > 0


def _masked(target: Target, image: Tensor) -> Target:
    """Return a target under which nothing else in an image that is not complete is background."""
    if target.complete:
        return target
    height, width = image.shape[1:]
    whole = target.boxes.new_tensor([[0, 0, width, height]])
    return Target(
        torch.cat([target.boxes, whole]),
        torch.cat([target.labels, target.labels.new_ones(1)]),
        ignore=torch.cat([target.ignore, target.ignore.new_ones(1)]),
        negatives=target.negatives,
        complete=False,
    )
