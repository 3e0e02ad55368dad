"""The person: who answers requests, what an answer costs, and what is known after it.

An `Oracle` answers; `merge` says what an answer adds to what is known of an image. Cost is in
seconds, at `Prices` from the literature. `Simulated` answers from hidden truth; a file of answers
and the review widget are oracles too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from almining.boxes import iou
from almining.checks import HUMAN
from almining.data.pool import Pool
from almining.records import Answer, Request, Target, Verdict

SAME_OBJECT = 0.5  # IoU at which two boxes are taken for one object, boundary included
SAME_BOX = 0.99  # IoU at which a box is the very one that was asked about


class Oracle(Protocol):
    """Whoever answers: a simulation, a file, a person in the browser."""

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield answers about images of `pool`; may end early: the rest is still waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """What a person's work costs, in seconds.

    >>> Prices().complete(3), Prices().tags(20)
    (76.5, 20.0)
    """

    box: float = 25.5  # draw one box, the median (Su, Deng, Fei-Fei, HCOMP workshop 2012)
    look: float = 7.8  # at least, to look through an image: coverage verification (ibid.)
    tag: float = 1.0  # per class asked for: 20 s for VOC's 20 (Bearman et al., ECCV 2016)
    verify: float = 1.6  # yes or no to one box (Papadopoulos et al., CVPR 2016)

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("box", "look", "tag", "verify"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(
                    f"Prices.{name} = {value!r}: a finite number of seconds >= 0 is needed"
                )

    def complete(self, boxes: int) -> float:
        """Return the seconds to draw every box of an image, or to look through an empty one."""
        return max(self.look, self.box * boxes)

    def tags(self, classes: int) -> float:
        """Return the seconds to say of each class whether it is in an image."""
        return self.tag * classes

    def region(self, boxes: int) -> float:
        """Return the seconds to draw what is in a region, or to say that nothing is."""
        return self.box * boxes if boxes else self.verify


@dataclass(frozen=True, slots=True)
class Simulated:
    """An oracle that answers from hidden truth, at once and without mistakes.

    Args:
        hidden: a pool in which every image that is asked for is complete.
        prices: what an answer costs.
        by: who the answers say they are from.
    """

    hidden: Pool
    prices: Prices = field(default=Prices(), kw_only=True)
    by: str = field(default="simulated", kw_only=True)

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
        real = truth.select(~truth.ignore)
        if request.kind == "complete":
            return self._given(request, truth, self.prices.complete(len(real)))
        if request.kind == "tag":
            return self._given(
                request, Target.unknown(truth.present), self.prices.tags(len(self.hidden.classes))
            )
        overlap = iou(_box(request, truth.boxes), real.boxes)[0]  # (n,)
        if request.kind == "verify":
            right = bool((overlap[real.labels == request.label] >= SAME_OBJECT).any())
            verdict: Verdict = "accept" if right else "reject"
            return Answer(request.id, verdict=verdict, by=self.by, seconds=self.prices.verify)
        best = (
            overlap.argmax()[None]
            if bool((overlap >= SAME_OBJECT).any())
            else overlap.new_zeros(0).long()
        )
        found = Target(real.boxes[best], real.labels[best], complete=False)
        return self._given(request, found, self.prices.region(len(found)))

    def _given(self, request: Request, target: Target, seconds: float) -> Answer:
        return Answer(request.id, target=target, by=self.by, seconds=float(seconds))


def merge(target: Target, request: Request, answer: Answer) -> Target:
    """Return what is known of an image after an answer about it.

    - skip: what was known.
    - complete: the answer's target, in place of everything.
    - tag: its tags are added; boxes and completeness stay.
    - verify, accepted: the box is added as a person's, in place of mined boxes of that class that
      overlap it.
    - verify, rejected: the mined box that was asked about is removed.
    - region with a box: it is added as a person's, in place of mined boxes of any class that
      overlap it.
    - region without: its box joins `negatives`, and mined boxes that overlap it are removed; a box
      that is found later removes the negatives that overlap it.

    To overlap is IoU >= 0.5. A box that a person has already drawn there, of the same class, is not
    added twice. Only `"complete"` makes a target complete; any other answer that changes the boxes
    of a complete target shows that it was not, so it no longer is.

    Args:
        target: what was known before; it is not changed.
        request: what was asked.
        answer: what came back.

    Raises:
        ValueError: when the answer is to another request, does not fit its kind, or contradicts
            what is known.

    >>> ask = Request("q", "a", "verify", box=torch.tensor([0.0, 0, 9, 9]), label=2)
    >>> merge(Target.unknown(), ask, Answer("q", verdict="accept", by="me", seconds=2))
    Target(1 box, classes 2, sparse)
    """
    about = f"image {request.image_id!r}, request {request.id!r}"
    if answer.request_id != request.id:
        raise ValueError(
            f"{about}: the answer is to {answer.request_id!r}; match answers to requests by id"
        )
    if answer.verdict == "skip":
        return target
    if request.kind == "verify":
        if answer.verdict is None or request.label is None:
            raise ValueError(
                f"{about}: a verify request is answered by verdict accept, reject or skip, not by "
                "a target"
            )
        box = _box(request, target.boxes)
        if answer.verdict == "reject":
            same = (iou(box, target.boxes)[0] >= SAME_BOX) & (target.labels == request.label)
            return _without(target, same)
        return _with_box(target, box, request.label, about, any_class=False)
    given = answer.target
    if given is None:
        raise ValueError(
            f"{about}: a {request.kind} request is answered by a target or by skip, not "
            f"{answer.verdict!r}"
        )
    if request.kind == "complete":
        if not given.complete:
            raise ValueError(
                f"{about}: a complete request needs a complete target, got a {given.state} one"
            )
        return given
    if request.kind == "tag":
        return _with_tags(target, given, about)
    box = _box(request, target.boxes)
    if not len(given):
        overlap = iou(box, target.boxes)[0] >= SAME_OBJECT
        drawn = (overlap & ~_mined(target) & ~target.ignore).nonzero()
        if len(drawn):
            raise ValueError(
                f"{about}: a person said that {box[0].tolist()} holds no object, but a person drew "
                f"box {target.boxes[drawn[0, 0]].tolist()} there; correct one of the two"
            )
        kept = _without(target, overlap)
        if bool((iou(box, kept.negatives)[0] >= SAME_BOX).any()):
            return kept  # said before
        return replace(kept, negatives=torch.cat([kept.negatives, box]))
    for found, label in zip(
        given.boxes.to(target.boxes.device), given.labels.tolist(), strict=True
    ):
        target = _with_box(target, found[None], label, about, any_class=True)
    return target


def _box(request: Request, like: Tensor) -> Tensor:
    if request.box is None:
        raise ValueError(f"request {request.id!r} of kind {request.kind} has no box")
    return request.box.to(like.device)[None]  # (1, 4)


def _mined(target: Target) -> Tensor:
    return torch.tensor(
        [text != HUMAN for text in target.origin], dtype=torch.bool, device=target.boxes.device
    )


def _without(target: Target, drop: Tensor) -> Target:
    """Drop the mined boxes among those that the mask names; the same object when there are none."""
    drop = drop & _mined(target)
    return target.select(~drop) if bool(drop.any()) else target


def _with_box(target: Target, box: Tensor, label: int, about: str, *, any_class: bool) -> Target:
    if label in (target.absent or ()):
        raise ValueError(
            f"{about}: a person found class {label}, but Target.absent = "
            f"{sorted(target.absent or ())} says it is not there; one of the two is wrong, "
            "correct `absent` or the answer"
        )
    overlap = iou(box, target.boxes)[0] >= SAME_OBJECT
    same = target.labels == label
    kept = _without(target, overlap if any_class else overlap & same)
    if not bool((overlap & same & ~_mined(target) & ~target.ignore).any()):
        kept = Target(
            torch.cat([kept.boxes, box]),
            torch.cat([kept.labels, kept.labels.new_tensor([label])]),
            ignore=torch.cat([kept.ignore, kept.ignore.new_zeros(1)]),
            origin=(*kept.origin, HUMAN),
            scores=torch.cat([kept.scores, kept.scores.new_full((1,), torch.nan)]),
            tags=kept.tags,
            absent=kept.absent,
            negatives=kept.negatives[iou(box, kept.negatives)[0] < SAME_OBJECT],
            complete=False,
        )
    if kept.tags is None or label in kept.tags:
        return kept
    return replace(kept, tags=kept.tags | {label})


def _with_tags(target: Target, given: Target, about: str) -> Target:
    if given.tags is None:
        raise ValueError(
            f"{about}: the answer to a tag request has tags = None; an image without classes has "
            "tags = set()"
        )
    tags = given.tags | (target.tags or frozenset())
    refuted = (target.absent or frozenset()) & given.tags
    missed = tags - frozenset(target.labels.tolist()) if target.complete else frozenset()
    if refuted or missed:
        known = (
            f"Target.absent = {sorted(refuted)}"
            if refuted
            else "the target is complete without such a box and"
        )
        raise ValueError(
            f"{about}: a person found class {sorted(refuted or missed)[0]}, but {known} says it "
            "is not there; correct what is known, or the answer"
        )
    if target.complete:
        return target  # its boxes say more than tags
    settled = given.absent is None or (target.tags is not None and target.absent is None)
    absent = None if settled else (given.absent or frozenset()) | (target.absent or frozenset())
    return replace(target, tags=tags, absent=absent)
