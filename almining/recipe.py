"""Recipes: the slots a paper fills in, and what a detector must offer for them.

`cycle` runs recipes and hands all of these names on; import them from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal, Protocol

import torch

from almining.data.pool import Pool
from almining.data.quarantine import Quarantine
from almining.detectors.base import offers
from almining.predict import detect
from almining.records import Answer, Evidence, Request, Target
from almining.train import Step, TrainConfig

Unit = Literal["images", "boxes", "seconds"]
FIELDS = ("probs", "features")  # needs that detections meet; the others are methods


class Query(Protocol):
    """Choose what to ask.

    One that also takes a keyword `asked` gets the requests of which the answers are in `pool`.
    """

    def __call__(
        self, detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        """Return at most `budget` requests, the most wanted first, with evidence."""
        ...


class Mine(Protocol):
    """Label without a person, between trainings."""

    def __call__(
        self, detector: Any, pool: Pool, *, generator: torch.Generator
    ) -> dict[str, Target]:
        """Return new targets by image id; mined boxes have origin "mined..."."""
        ...


def everything(pool: Pool) -> list[str]:
    """Return every image: a recipe that `trains_on` all of them."""
    return list(pool.ids)


def labelled(pool: Pool) -> list[str]:
    """Return the images of which every box is known."""
    return [image_id for image_id in pool.ids if pool.target(image_id).complete]


def unfinished(pool: Pool) -> list[str]:
    """Return the images of which not every box is known: those that can be asked about."""
    return [image_id for image_id in pool.ids if not pool.target(image_id).complete]


def ask_all(image_id: str, evidence: Evidence, score: float | None = None) -> Request:
    """Return a request for every box of an image."""
    return Request(f"complete:{image_id}", image_id, "complete", score=score, evidence=evidence)


def boxed(pool: Pool) -> list[str]:
    """Return the images that have boxes or are complete: seeds and mined ones."""
    return [
        image_id for image_id in pool.ids if pool.target(image_id).state in ("complete", "sparse")
    ]


def acquired(pool: Pool) -> list[str]:
    """Return the images that were labelled since the start, and only those."""
    return [image_id for image_id in labelled(pool) if pool.since(image_id) > 0]


TRAINS_ON: dict[str, Callable[[Pool], Sequence[str]]] = {
    "all": everything,
    "labelled": labelled,
    "boxed": boxed,
    "acquired": acquired,
}


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What a paper fills in.

    Args:
        name: how curves call it.
        config: the paper's config.
        train: the schedule, or a function of the pool where it depends on what is labelled.
        needs: methods the detector must have beside `losses` and `detect` (`"regions"`, `"dense"`,
            `"embed"`), and fields its detections must fill (`"probs"`, `"features"`).
        restart: train from the detector the run began with (`"start"`) or from the latest
            (`"continue"`).
        trains_on: the ids to train on, a function of the pool, or the name of one: `"all"`,
            `"labelled"` (every box known), `"boxed"` (some box known), `"acquired"` (labelled since
            the start).
        query: chooses what a person is asked, or None.
        mine: labels between trainings, or None.
        step: the loss of one batch; the detector's own by default.
        alone: whether a first cycle in which there is nothing to ask trains all the same, as what
            the detector labels for itself teaches it, too. Any later one ends the run.
    """

    name: str
    config: Any
    train: TrainConfig | Callable[[Pool], TrainConfig] = field(kw_only=True)
    needs: tuple[str, ...] = field(kw_only=True)
    restart: Literal["start", "continue"] = field(kw_only=True)
    trains_on: Callable[[Pool], Sequence[str]] = field(kw_only=True)
    query: Query | None = field(default=None, kw_only=True)
    mine: Mine | None = field(default=None, kw_only=True)
    step: Step | None = field(default=None, kw_only=True)
    alone: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Look up what a name stands for."""
        if isinstance(self.trains_on, str):
            if self.trains_on not in TRAINS_ON:
                raise ValueError(
                    f"{self.name}: trains_on = {self.trains_on!r}: use a function of the pool, or "
                    f"one of {', '.join(TRAINS_ON)}"
                )
            object.__setattr__(self, "trains_on", TRAINS_ON[self.trains_on])
        if self.restart not in ("start", "continue"):
            raise ValueError(f"{self.name}: restart = {self.restart!r}: use start or continue")

    @property
    def looks_back(self) -> bool:
        """Whether `query` takes what earlier cycles asked."""
        return self.query is not None and "asked" in signature(self.query).parameters

    def over(self, cycle: int) -> bool:
        """Tell whether a cycle without an answer ends the run."""
        return self.query is not None and (cycle > 1 or not self.alone)

    def __repr__(self) -> str:
        """Show the name only."""
        return f"Recipe({self.name})"


def check_methods(recipe: Recipe, detector: Any) -> None:
    """Raise a `ValueError` unless the detector has what training and the recipe call.

    Args:
        recipe: what is to be run.
        detector: what it is to be run with.
    """
    for name, why in (("classes", "the names of classes 1...C"), ("parameters", "what is trained")):
        if not hasattr(detector, name):
            raise ValueError(
                f"{type(detector).__name__} has no `{name}` ({why}); add it, as torch.nn.Module "
                "and almining.detectors.Detector have it"
            )
    methods = [need for need in recipe.needs if need not in FIELDS]
    for method in ("losses", "detect", *methods):
        if not offers(detector, method):
            raise ValueError(
                f"{recipe.name} needs a detector with {method}(...), and "
                f"{type(detector).__name__} has none; "
                "take another detector or add the method (see almining.detectors.base)"
            )


def check_fields(recipe: Recipe, detector: Any, pool: Pool) -> None:
    """Raise a `ValueError` unless detections have what the recipe needs.

    Looks at one image: the first that can be loaded.

    Args:
        recipe: what is to be run.
        detector: what it is to be run with.
        pool: where the image comes from.
    """
    fields = [need for need in recipe.needs if need in FIELDS]
    if fields and len(pool):
        # filled by nothing else, so that the run meets broken images again and counts them
        first = detect(detector, pool, batch=1, progress=False, set_aside=Quarantine())
        _, found = next(first)
        for need in fields:
            if getattr(found, need) is None:
                raise ValueError(
                    f"{recipe.name} needs detections with {need}, and "
                    f"{type(detector).__name__}.detect gives none; use a detector that does"
                )


def check_run(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    test: Pool | None,
    budget: float,
    cycles: int,
    unit: str,
) -> None:
    """Raise a `ValueError` unless what `cycle.run` was given fits together."""
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


def price(answer: Answer, unit: Unit) -> float:
    """Return what an answer takes from a budget in images, boxes or seconds.

    >>> price(Answer("r", verdict="accept", by="me", seconds=7.5), "boxes")
    1.0
    """
    if unit == "seconds":
        return answer.seconds
    if unit == "boxes":
        return float(answer.verdict == "accept" if answer.target is None else len(answer.target))
    return 1.0


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
