"""What an answer adds to what is known of an image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from almining.boxes import iou
from almining.checks import HUMAN
from almining.records import Answer, Request, Target

SAME_OBJECT = 0.5  # IoU at which two boxes are taken for one object, boundary included
SAME_BOX = 0.99  # IoU at which a box is the very one that was asked about


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
    check_answer(request, answer)
    if answer.verdict == "skip":
        return target
    about = _about(request)
    if request.kind == "verify":
        return _verified(target, request, accepted=answer.verdict == "accept")
    given = answer.target
    assert given is not None  # `check_answer` saw to it
    if request.kind == "complete":
        return given
    if request.kind == "tag":
        return _with_tags(target, given, about)
    box = box_of(request, target.boxes)
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


def check_answer(request: Request, answer: Answer) -> None:
    """Raise unless an answer is to this request and fits its kind.

    Args:
        request: what was asked.
        answer: what came back.

    Raises:
        ValueError: naming the image, the request and what would fit.
    """
    about = _about(request)
    if answer.request_id != request.id:
        raise ValueError(
            f"{about}: the answer is to {answer.request_id!r}; match answers to requests by id"
        )
    if answer.verdict == "skip":
        return
    if request.kind == "verify":
        if answer.verdict is None:
            raise ValueError(
                f"{about}: a verify request is answered by verdict accept, reject or skip, not by "
                "a target"
            )
        return
    if answer.target is None:
        raise ValueError(
            f"{about}: a {request.kind} request is answered by a target or by skip, not "
            f"{answer.verdict!r}"
        )
    if request.kind == "complete" and not answer.target.complete:
        raise ValueError(
            f"{about}: a complete request needs a complete target, got a {answer.target.state} one"
        )
    if request.kind == "tag" and answer.target.tags is None:
        raise ValueError(
            f"{about}: the answer to a tag request has tags = None; an image without classes has "
            "tags = set()"
        )


def box_of(request: Request, like: Tensor) -> Tensor:
    """Return the box a request is about, (1, 4), on the device of `like`."""
    assert request.box is not None  # verify and region requests have one
    return request.box.to(like.device)[None]


def _about(request: Request) -> str:
    return f"image {request.image_id!r}, request {request.id!r}"


def _verified(target: Target, request: Request, *, accepted: bool) -> Target:
    box, label = box_of(request, target.boxes), int(request.label or 0)
    if accepted:
        return _with_box(target, box, label, _about(request), any_class=False)
    same = (iou(box, target.boxes)[0] >= SAME_BOX) & (target.labels == label)
    return _without(target, same)


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
    assert given.tags is not None  # `check_answer` saw to it
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
