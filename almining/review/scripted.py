"""A reviewer who needs no browser: answers from hidden truth, by the events a page would send.

For notebooks that run unattended, and for tests: what the events come to is what `label.Simulated`
answers, but for predicted boxes that are right within `accept_at`, which stay as they are. It makes
no mistakes, and takes nothing back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch

from almining.boxes import iou
from almining.digests import digest_texts
from almining.label.merging import SAME_OBJECT
from almining.label.oracles import answer_from
from almining.label.prices import Prices
from almining.records import Answer, Request, Target
from almining.review.events import event
from almining.review.state import OWN, Box, Item, Review

PRICES = Prices()
Step = tuple[str, dict[str, Any]]  # what to do, and the event's fields
FINISH: Step = ("finish", {})


def scripted(
    request: Request,
    item: Item,
    truth: Target,
    *,
    classes: int,
    prices: Prices = PRICES,
    accept_at: float = 0.7,
    by: str = "scripted",
) -> Iterator[dict[str, Any]]:
    """Return the events by which someone who knows the truth answers a request.

    A request that is finished or skipped is left alone. What an open one lacks is done: where some
    of the events are written already, the others follow. The ids of events come from what is there
    and what is done, so that playing the same twice changes nothing.

    complete: each predicted box goes with one true box at most. With one of its class, at IoU >=
    `accept_at`, it is accepted; with one of another class its class is changed; at a lower IoU, 0.5
    at least, it is moved; all others are rejected. A person's boxes stay where they are right, and
    are removed where they are not. True boxes that are missing are drawn. region: the same with the
    true box the region is about, and its very place. verify, tag: as `label.Simulated` answers.

    Args:
        request: what is asked.
        item: what has come of it so far, the event `start` at least.
        truth: the image's complete target.
        classes: how many there are.
        prices: what the answer costs; spread evenly over the events, less what was spent already.
        accept_at: the IoU at which a box is good enough; 1: the answer is `label.Simulated`'s.
        by: what the events' ids begin with.

    Raises:
        ValueError: when the truth is not complete, or `accept_at` is not from 0.5 to 1.
    """
    if not truth.complete:
        raise ValueError(
            f"the truth about image {request.image_id!r} is {truth.state}, not complete: it cannot "
            "answer for a person; take it from the pool before its labels were hidden"
        )
    if not SAME_OBJECT <= accept_at <= 1:
        raise ValueError(f"accept_at = {accept_at!r}: a number from {SAME_OBJECT} to 1 is needed")
    if item.status != "open":
        return iter(())
    answer = answer_from(truth.to("cpu"), request, prices=prices, classes=classes, by=by)
    steps = _steps(request, item, answer, accept_at)
    there = Review({request.id: item}).plain()
    name = f"{by}:{digest_texts([json.dumps([there, steps], sort_keys=True)])[:32]}"
    each = max(0.0, answer.seconds - item.seconds) / len(steps)
    return (
        event(request.id, do, id=f"{name}:{number}", seconds=each, **fields)
        | ({"key": f"d:{name}:{number}"} if do == "add" else {})
        for number, (do, fields) in enumerate(steps)
    )


def _steps(request: Request, item: Item, answer: Answer, accept_at: float) -> list[Step]:
    """Return what is left to do until a request comes to an answer."""
    if answer.target is None:
        return [("verdict", {"verdict": answer.verdict})]
    if request.kind == "tag":
        wrong = sorted(item.tags ^ set(answer.target.tags or ()))
        tags = [("tag", {"label": label, "present": label not in item.tags}) for label in wrong]
        return [*tags, FINISH]
    enough = accept_at if request.kind == "complete" else 1.0
    return [*_edits(list(item.boxes.values()), answer.target, enough), FINISH]


def _edits(boxes: list[Box], goal: Target, accept_at: float) -> Iterator[Step]:
    """Yield what turns boxes into the goal's."""
    rows, pairs = goal.boxes.tolist(), _pairs(boxes, goal, accept_at)
    for at, box in enumerate(boxes):
        key: dict[str, Any] = {"key": box.key}
        if at not in pairs:
            if box.status != "rejected":
                yield "remove" if box.status in OWN else "reject", key
            continue
        row, overlap = pairs[at]
        right = {"label": int(goal.labels[row]), "ignore": bool(goal.ignore[row])}
        new = {name: value for name, value in right.items() if value != getattr(box, name)}
        if overlap < accept_at:
            new["box"] = rows[row]
        if new:
            yield "change", key | new
        elif box.status in ("proposed", "rejected"):
            yield "accept", key
    drawn = {row for row, _ in pairs.values()}
    for row in (row for row in range(len(goal)) if row not in drawn):
        right = {"label": int(goal.labels[row]), "ignore": bool(goal.ignore[row])}
        yield "add", {"box": rows[row], **right}


def _pairs(boxes: list[Box], goal: Target, accept_at: float) -> dict[int, tuple[int, float]]:
    """Return which true box each box goes with, and their IoU; both by position, each once.

    First a person's boxes that are right, then predicted ones of the right class, then those that
    are well placed, then the others that overlap; among them the best first.
    """
    given = torch.tensor([box.box for box in boxes], dtype=torch.float32).reshape(-1, 4)
    overlap = iou(given, goal.boxes)
    ranked = []
    for at, row in (overlap >= SAME_OBJECT).nonzero().tolist():
        box, value = boxes[at], float(overlap[at, row])
        near, same = value >= accept_at, box.label == int(goal.labels[row])
        if box.status not in OWN:
            ranked.append((1 if near and same else 2 if near else 3, -value, at, row))
        elif near and same and box.ignore == bool(goal.ignore[row]):
            ranked.append((0, -value, at, row))
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for _, value, at, row in sorted(ranked):
        if at not in pairs and row not in taken:
            pairs[at] = (row, -value)
            taken.add(row)
    return pairs
