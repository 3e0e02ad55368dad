"""The active-learning cycle: ask, merge, mine, train, measure.

It calls a recipe's slots and never names a paper. A broken image is set aside whenever one comes to
light, and the run goes on without it, until more than one in a hundred is broken.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from almining import evaluate
from almining.data.pool import Finding, Pool
from almining.data.quarantine import Quarantine
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
        set_aside: the broken images met on the way, of the pool and of the test pool; those of the
            pool are in `pool.findings` too.
    """

    name: str
    rows: tuple[Row, ...]
    detector: Any
    pool: Pool
    pending: tuple[Request, ...] = ()
    set_aside: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """Say in one line how far it came."""
        last = self.rows[-1]
        metrics = ", ".join(
            f"{name} {value:.3f}" for name, value in last.metrics.items() if "/" not in name
        )
        found = f", {metrics}" if metrics else ""
        waiting = f", {len(self.pending)} pending" if self.pending else ""
        broken = f", {len(self.set_aside)} broken set aside" if self.set_aside else ""
        where = f"cycle {last.cycle}, {last.images} images"
        return f"History({self.name}: {where}{found}{waiting}{broken})"

    def to_json(self) -> str:
        """Return name, rows, ids of pending requests and of broken images as JSON.

        Detector and pool are left out. A metric that is not defined, such as the AP of a class
        without a test box, is null.
        """
        rows = [
            {name: getattr(row, name) for name in Row.__dataclass_fields__} for row in self.rows
        ]
        for row in rows:
            row["metrics"] = {
                key: value if value == value else None for key, value in row["metrics"].items()
            }
        return json.dumps(
            {
                "name": self.name,
                "rows": rows,
                "pending": [request.id for request in self.pending],
                "set_aside": [finding.image_id for finding in self.set_aside],
            }
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

    The images a recipe asks for are loaded before a person sees them. A broken one is set aside and
    the recipe asks anew; a test image that is broken counts neither as truth nor as detections.
    Where a recipe's own slot or a training loads a broken one, all images are looked at once and
    the slot is called again without the broken ones. In the end a warning says how many there were.

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
        DataError: when more than 1% of the pool, or of the test pool, is broken.
    """
    _check(recipe, detector, pool, test, budget, cycles, unit)
    current = copy.deepcopy(detector)
    before = pool.cycle  # a pool that has been through a run goes on counting
    broken = Quarantine(of=len(pool)), Quarantine(of=0 if test is None else len(test))
    aside, untested = broken
    rows = [_row(0, (), pool, 0.0, _measure(current, test, metrics, progress, untested))]
    for cycle in range(1, cycles + 1):
        found = _wanted(recipe, current, pool, budget, unit, seed, cycle, aside)
        pool = aside.without(pool)
        asked, answers, pending = _ask(found, pool, oracle, budget, unit, cycle)
        if recipe.query is not None and not asked and not pending:
            break
        pool = _learn(pool, asked, answers, before + cycle)
        if pending:
            return _history(recipe, rows, current, pool, broken, pending)
        pool = _mined(recipe, current, pool, seed, cycle, before, aside)
        start = detector if recipe.restart == "start" else current
        title = f"{recipe.name} {cycle}/{cycles}: train" if progress else False
        current = _trained(recipe, start, pool, derive(seed, "train", cycle), title, aside)
        pool = aside.without(pool)
        picked = tuple(dict.fromkeys(request.image_id for request in asked))
        seconds = rows[-1].seconds + sum(answer.seconds for answer in answers)
        metered = _measure(current, test, metrics, progress, untested)
        rows.append(_row(cycle, picked, pool, seconds, metered))
    return _history(recipe, rows, current, pool, broken)


def _history(
    recipe: Recipe,
    rows: Sequence[Row],
    detector: Any,
    pool: Pool,
    broken: tuple[Quarantine, Quarantine],
    pending: tuple[Request, ...] = (),
) -> History:
    aside, untested = broken
    aside.warn(f"{recipe.name} ran", stacklevel=3)
    untested.warn(f"{recipe.name} was measured", stacklevel=3)
    found = (*aside.findings, *untested.findings)
    return History(recipe.name, tuple(rows), detector, pool, pending, found)


def _trained(
    recipe: Recipe, start: Any, pool: Pool, seed: int, progress: bool | str, aside: Quarantine
) -> Any:
    """Return a trained copy; where a broken image stops it, training begins anew without it."""

    def train(pool: Pool) -> Any:
        detector = copy.deepcopy(start)
        schedule = recipe.train if isinstance(recipe.train, TrainConfig) else recipe.train(pool)
        chosen = recipe.trains_on(pool)
        fit(detector, pool, schedule, ids=chosen, step=recipe.step, seed=seed, progress=progress)
        return detector

    return aside.survive(train, pool, progress=progress)


def _mined(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    seed: int,
    cycle: int,
    before: int,
    aside: Quarantine,
) -> Pool:
    mine = recipe.mine
    if mine is None:
        return pool

    def updated(pool: Pool) -> Pool:
        draws = generator(seed, "mine", cycle)
        return pool.updated(mine(detector, pool, generator=draws), cycle=before + cycle)

    return aside.without(aside.survive(updated, pool))


def _wanted(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    budget: float,
    unit: Unit,
    seed: int,
    cycle: int,
    aside: Quarantine,
) -> list[Request]:
    """Return what the recipe asks for, all of it about images that can be loaded."""
    query = recipe.query
    if query is None:
        return []
    most = int(budget) if unit == "images" else len(pool)

    def wanted(pool: Pool) -> list[Request]:
        return query(detector, pool, most, generator=generator(seed, "query", cycle))

    found = aside.survive(wanted, pool)
    while aside.look(pool, [request.image_id for request in found]):
        found = aside.survive(wanted, pool)
    if len(found) > most:
        raise ValueError(
            f"{recipe.name} made {len(found)} requests for a budget of {most}; "
            "a query returns at most `budget`"
        )
    different = len({request.id for request in found})
    if different != len(found):
        raise ValueError(
            f"{recipe.name} made {len(found)} requests with {different} different ids; "
            "make ids unique"
        )
    return found


def _ask(
    found: Sequence[Request], pool: Pool, oracle: Oracle, budget: float, unit: Unit, cycle: int
) -> tuple[list[Request], list[Answer], tuple[Request, ...]]:
    """Return the requests answered, their answers, and those that wait while budget is left."""
    named = [replace(request, id=f"{cycle:03d}/{request.id}") for request in found]
    waiting = {request.id: request for request in named}
    asked, answers, spent = [], [], 0.0
    for answer in oracle.ask(named, pool) if named else ():
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
    detector: Any, test: Pool | None, metrics: Metrics, progress: bool, untested: Quarantine
) -> dict[str, float]:
    if test is None:
        return {}
    title = "test" if progress else False
    found = {
        image_id: one.to("cpu")
        for image_id, one in detect(detector, test, progress=title, set_aside=untested)
    }
    return metrics(found, untested.without(test))


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
