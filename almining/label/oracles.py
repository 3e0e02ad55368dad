"""Who answers: the protocol, and a simulated person who answers from hidden truth.

A simulated person may be wrong now and then, as `Noise` says. A file of answers is in
`label.from_file`, people who answer later in `label.desk`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from almining.boxes import iou
from almining.data.pool import Pool
from almining.label.merging import SAME_OBJECT, box_of
from almining.label.noise import Noise
from almining.label.prices import Prices
from almining.records import Answer, Request, Target


class Oracle(Protocol):
    """Whoever answers: a simulation, a file, a person in the browser."""

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield answers about images of `pool`; may end early: the rest is still waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Simulated:
    """An oracle that answers from hidden truth, at once.

    Args:
        hidden: a pool in which every image that is asked for is complete.
        prices: what an answer costs; a wrong one costs what it looks like.
        by: who the answers say they are from.
        noise: how often an answer is wrong. Default: never.
        seed: of the noise. What is wrong in an answer depends on it and on the request's id, and
            on nothing else.
    """

    hidden: Pool
    prices: Prices = field(default=Prices(), kw_only=True)
    by: str = field(default="simulated", kw_only=True)
    noise: Noise | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield an answer to each request, in order.

        complete: the hidden target. tag: the classes present, ignored boxes included. verify:
        accept when a hidden box of that class has IoU >= 0.5 with the request's. region: the hidden
        box of the highest IoU >= 0.5, whatever its class, or none. Ignored boxes take no part in
        the last two.

        Raises:
            ValueError: at once, when the pools' classes differ, or an image is unknown or not
                complete in the hidden pool.
        """
        if pool.classes != self.hidden.classes:
            raise ValueError(
                f"the pool's classes ({', '.join(pool.classes)}) are not the hidden pool's "
                f"({', '.join(self.hidden.classes)}); answers would be about other classes"
            )
        truths = [self._truth(request) for request in requests]
        return (
            self._answer(request, truth) for request, truth in zip(requests, truths, strict=True)
        )

    def _truth(self, request: Request) -> Target:
        if request.image_id not in self.hidden:
            raise ValueError(
                f"request {request.id!r} asks for image {request.image_id!r}, which the hidden "
                f"pool of {len(self.hidden)} does not know; simulate with the pool the labels "
                "were hidden from"
            )
        truth = self.hidden.target(request.image_id)
        if not truth.complete:
            raise ValueError(
                f"the hidden target of image {request.image_id!r} is {truth.state}, not complete: "
                "it cannot answer for a person; simulate with the pool before its labels were "
                "hidden"
            )
        return truth

    def _answer(self, request: Request, truth: Target) -> Answer:
        classes = len(self.hidden.classes)
        answer = answer_from(truth, request, prices=self.prices, classes=classes, by=self.by)
        if self.noise in (None, Noise()):
            return answer
        size = self.hidden.info(request.image_id).size
        wrong = self.noise.applied(answer, request, seed=self.seed, classes=classes, size=size)
        if wrong.target is None:
            return wrong
        return replace(wrong, seconds=self.prices.of(request, wrong.target, classes=classes))


def answer_from(
    truth: Target, request: Request, *, prices: Prices, classes: int, by: str
) -> Answer:
    """Return what someone who knows a complete target answers; see `Simulated.ask`.

    Args:
        truth: a complete target.
        request: what is asked.
        prices: what it costs.
        classes: how many there are.
        by: who answers.
    """
    real = truth.select(~truth.ignore)
    if request.kind == "verify":
        overlap = iou(box_of(request, truth.boxes), real.boxes)[0]  # (n,)
        right = bool((overlap[real.labels == request.label] >= SAME_OBJECT).any())
        seconds = prices.of(request, None, classes=classes)
        return Answer(request.id, verdict="accept" if right else "reject", by=by, seconds=seconds)
    given = truth
    if request.kind == "tag":
        given = Target.unknown(truth.present)
    elif request.kind == "region":
        overlap = iou(box_of(request, truth.boxes), real.boxes)[0]
        best = overlap.argsort(descending=True, stable=True)[:1]
        best = best[overlap[best] >= SAME_OBJECT]
        given = Target(real.boxes[best], real.labels[best], complete=False)
    seconds = prices.of(request, given, classes=classes)
    return Answer(request.id, target=given, by=by, seconds=seconds)
