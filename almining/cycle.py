"""The active-learning cycle: ask, merge, mine, train, measure.

It calls a recipe's slots and never names a paper.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from almining import evaluate
from almining.data.pool import Pool
from almining.label import Oracle, merge
from almining.predict import detect
from almining.recipe import Mine as Mine
from almining.recipe import Query as Query
from almining.recipe import Recipe as Recipe
from almining.recipe import acquired as acquired
from almining.recipe import boxed as boxed
from almining.recipe import check_fields, check_methods
from almining.recipe import everything as everything
from almining.recipe import labelled as labelled
from almining.records import Answer, Detections, Request, Target
from almining.rng import derive, generator
from almining.train import TrainConfig, fit

Unit = Literal["images", "boxes", "seconds"]
Metrics = Callable[[Mapping[str, Detections], Pool], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One cycle.

    Args:
        cycle: 0 is the start.
        picked: ids of the images that were answered in it.
        images: images complete so far.
        boxes: boxes a person drew or confirmed so far.
        seconds: what the answers cost so far.
        metrics: by name, on the test pool.
    """

    cycle: int
    picked: tuple[str, ...]
    images: int
    boxes: int
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What came of a run.

    Args:
        name: the recipe's.
        rows: one per cycle, the start first.
        detector: the latest.
        pool: what is known now.
        pending: requests that no one has answered yet; empty when the run is through.
    """

    name: str
    rows: tuple[Row, ...]
    detector: Any
    pool: Pool
    pending: tuple[Request, ...] = ()

    def __repr__(self) -> str:
        """Say in one line how far it came."""
        last = self.rows[-1]
        metrics = ", ".join(
            f"{name} {value:.3f}" for name, value in last.metrics.items() if "/" not in name
        )
        found = f", {metrics}" if metrics else ""
        waiting = f", {len(self.pending)} pending" if self.pending else ""
        where = f"cycle {last.cycle}, {last.images} images"
        return f"History({self.name}: {where}{found}{waiting})"

    def to_json(self) -> str:
        """Return name, rows and the ids of pending requests as JSON, without detector and pool.

        A metric that is not defined, such as the AP of a class without a test box, is null.
        """
        rows = [
            {name: getattr(row, name) for name in Row.__dataclass_fields__} for row in self.rows
        ]
        for row in rows:
            row["metrics"] = {
                key: value if value == value else None for key, value in row["metrics"].items()
            }
        return json.dumps(
            {"name": self.name, "rows": rows, "pending": [request.id for request in self.pending]}
        )


def run(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    *,
    oracle: Oracle,
    budget: int | float,
    cycles: int,
    seed: int,
    unit: Unit = "images",
    test: Pool | None = None,
    metrics: Metrics = evaluate.voc,
    progress: bool = True,
) -> History:
    """Run cycles of a recipe; the detector and the pool given are not changed.

    Args:
        recipe: what to ask, mine and minimise.
        detector: the start, M⁰.
        pool: what is known at the start.
        oracle: answers the requests; while it leaves some unanswered the run returns with
            `History.pending`.
        budget: per cycle, in `unit`. In boxes or seconds the requests are asked in order until it
            is spent: the answer that crosses it still counts.
        cycles: how many at most; fewer when nothing is left to ask.
        seed: of everything random.
        unit: `"images"`, `"boxes"` or `"seconds"`.
        test: complete images to measure on after every cycle.
        metrics: `metrics(detections, test)`; VOC AP50 by default.
        progress: whether to show progress bars.

    Raises:
        ValueError: before any training, when detector, pool and recipe do not fit together.
    """
    _check(recipe, detector, pool, test, budget, cycles, unit)
    current = copy.deepcopy(detector)
    before = pool.cycle  # a pool that has been through a run goes on counting
    rows = [_row(0, (), pool, 0.0, _measure(current, test, metrics, progress))]
    for cycle in range(1, cycles + 1):
        asked, answers, pending = _ask(recipe, current, pool, oracle, budget, unit, seed, cycle)
        if recipe.query is not None and not asked and not pending:
            break
        pool = _learn(pool, asked, answers, before + cycle)
        if pending:
            return History(recipe.name, tuple(rows), current, pool, pending)
        if recipe.mine is not None:
            mined = recipe.mine(current, pool, generator=generator(seed, "mine", cycle))
            pool = pool.updated(mined, cycle=before + cycle)
        current = copy.deepcopy(detector) if recipe.restart == "start" else current
        title = f"{recipe.name} {cycle}/{cycles}: train" if progress else False
        _train(recipe, current, pool, seed=derive(seed, "train", cycle), progress=title)
        picked = tuple(dict.fromkeys(request.image_id for request in asked))
        seconds = rows[-1].seconds + sum(answer.seconds for answer in answers)
        rows.append(_row(cycle, picked, pool, seconds, _measure(current, test, metrics, progress)))
    return History(recipe.name, tuple(rows), current, pool)


def _train(recipe: Recipe, detector: Any, pool: Pool, *, seed: int, progress: bool | str) -> None:
    schedule = recipe.train if isinstance(recipe.train, TrainConfig) else recipe.train(pool)
    chosen = recipe.trains_on(pool)
    fit(detector, pool, schedule, ids=chosen, step=recipe.step, seed=seed, progress=progress)


def _ask(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    oracle: Oracle,
    budget: float,
    unit: Unit,
    seed: int,
    cycle: int,
) -> tuple[list[Request], list[Answer], tuple[Request, ...]]:
    """Return the requests answered, their answers, and those that wait while budget is left."""
    if recipe.query is None:
        return [], [], ()
    most = int(budget) if unit == "images" else len(pool)
    found = recipe.query(detector, pool, most, generator=generator(seed, "query", cycle))
    waiting = {f"{cycle:03d}/{request.id}": request for request in found}
    if len(found) > most:
        raise ValueError(
            f"{recipe.name} made {len(found)} requests for a budget of {most}; "
            "a query returns at most `budget`"
        )
    if len(waiting) != len(found):
        raise ValueError(
            f"{recipe.name} made {len(found)} requests with {len(waiting)} different ids; "
            "make ids unique"
        )
    waiting = {key: replace(request, id=key) for key, request in waiting.items()}
    asked, answers, spent = [], [], 0.0
    for answer in oracle.ask(list(waiting.values()), pool):
        if answer.request_id not in waiting:
            raise ValueError(
                f"the oracle answered {answer.request_id!r}, which is not waiting in cycle {cycle}"
            )
        asked.append(waiting.pop(answer.request_id))
        answers.append(answer)
        spent += _price(answer, unit)
        if unit != "images" and spent >= budget:
            return asked, answers, ()
    return asked, answers, tuple(waiting.values())


def _price(answer: Answer, unit: Unit) -> float:
    if unit == "seconds":
        return answer.seconds
    if unit == "boxes":
        if answer.target is None:
            return float(answer.verdict == "accept")
        return float(len(answer.target))
    return 1.0


def _learn(pool: Pool, asked: Sequence[Request], answers: Sequence[Answer], cycle: int) -> Pool:
    known: dict[str, Target] = {}
    for request, answer in zip(asked, answers, strict=True):
        if answer.verdict != "skip":
            before = known.get(request.image_id, pool.target(request.image_id))
            known[request.image_id] = merge(before, request, answer)
    return pool.updated(known, cycle=cycle)


def _measure(
    detector: Any, test: Pool | None, metrics: Metrics, progress: bool
) -> dict[str, float]:
    if test is None:
        return {}
    found = {
        image_id: one.to("cpu")
        for image_id, one in detect(detector, test, progress="test" if progress else False)
    }
    return metrics(found, test)


def _row(
    cycle: int, picked: tuple[str, ...], pool: Pool, seconds: float, metrics: dict[str, float]
) -> Row:
    targets = [pool.target(image_id) for image_id in pool.ids]
    drawn = sum(sum(origin == "human" for origin in target.origin) for target in targets)
    return Row(cycle, picked, sum(target.complete for target in targets), drawn, seconds, metrics)


def _check(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    test: Pool | None,
    budget: float,
    cycles: int,
    unit: str,
) -> None:
    if unit not in ("images", "boxes", "seconds"):
        raise ValueError(f"unit = {unit!r}: use images, boxes or seconds")
    if not 0 < budget < math.inf or (unit == "images" and int(budget) != budget):
        raise ValueError(
            f"budget = {budget!r} {unit} per cycle: a finite number above 0 is needed, "
            "whole for images"
        )
    if cycles < 0:
        raise ValueError(f"cycles = {cycles}: 0 or more are needed")
    check_methods(recipe, detector)
    _check_classes(detector, pool, test)
    check_fields(recipe, detector, pool)


def _check_classes(detector: Any, pool: Pool, test: Pool | None) -> None:
    for other, classes in (
        ("the detector", detector.classes),
        ("the test pool", pool.classes if test is None else test.classes),
    ):
        if tuple(classes) != pool.classes:
            raise ValueError(
                f"{other} knows classes {tuple(classes)}, the pool {pool.classes}; "
                "they must be the same, in order"
            )
    if test is None:
        return
    incomplete = [image_id for image_id in test.ids if not test.target(image_id).complete]
    if incomplete:
        raise ValueError(
            f"test image {incomplete[0]!r} is not complete ({len(incomplete)} in all); "
            "nothing can be measured on it"
        )
