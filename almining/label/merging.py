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
    - region: the boxes of the answer are added as a person's, ignored ones as such, in place of
      mined boxes of any class that overlap them. A region that no box of a person's overlaps then
      holds no object, or none as a whole: it joins `negatives`, and mined boxes that overlap it are
      removed; a box that is found later removes the negatives that overlap it.

    So a region that was answered overlaps a person's box or one ruled out, and is not asked about
    again. One ruled out may share less with the object that was drawn beside it: of a proposal that
    overlaps both, losses take the object.

    To overlap is IoU >= 0.5. A box that a person has already drawn there, of the same class, is not
    added twice, unless it alone lies in the region; the boxes of one answer are all meant. Only
    `"complete"` makes a target complete; any other answer that changes the boxes of a complete
    target shows that it was not, so it no longer is.

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
    return _looked_into(target, box_of(request, target.boxes), given, about)


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
    box = box_of(request, target.boxes)
    asked = Target(box, target.labels.new_tensor([int(request.label or 0)]), complete=False)
    if accepted:
        return _with_boxes(target, asked, _about(request))
    same = (iou(box, target.boxes)[0] >= SAME_BOX) & (target.labels == asked.labels)
    return _without(target, same)


def _looked_into(target: Target, region: Tensor, given: Target, about: str) -> Target:
    known = _with_boxes(target, given.to(region.device), about, region)
    inside = _overlap(region, known.boxes)[0]  # (n,)
    drawn = inside & ~_mined(known)
    if len(given) and bool(drawn.any()):
        return known
    refuted = known.boxes[drawn & ~known.ignore]
    if len(refuted):
        raise ValueError(
            f"{about}: a person said that {region[0].tolist()} holds no object, but a person drew "
            f"box {refuted[0].tolist()} there; correct one of the two"
        )
    kept = _without(known, inside)
    if bool((iou(region, kept.negatives) >= SAME_BOX).any()):
        return kept  # said before
    return replace(kept, negatives=torch.cat([kept.negatives, region]))


def _mined(target: Target) -> Tensor:
    return torch.tensor(
        [text != HUMAN for text in target.origin], dtype=torch.bool, device=target.boxes.device
    )


def _without(target: Target, drop: Tensor) -> Target:
    """Drop the mined boxes among those that the mask names; the same object when there are none."""
    drop = drop & _mined(target)
    return target.select(~drop) if bool(drop.any()) else target


def _overlap(some: Tensor, others: Tensor) -> Tensor:
    return iou(some, others) >= SAME_OBJECT


def _with_boxes(target: Target, given: Target, about: str, region: Tensor | None = None) -> Target:
    """Add boxes (m of them) to what is known (n); with a region, in place of those of any class."""
    labels = frozenset(given.labels.tolist())
    refuted = sorted(labels & (target.absent or frozenset()))
    if refuted:
        raise ValueError(
            f"{about}: a person found class {refuted[0]}, but Target.absent = "
            f"{sorted(target.absent or ())} says it is not there; one of the two is wrong, "
            "correct `absent` or the answer"
        )
    overlap = _overlap(given.boxes, target.boxes)  # (m, n)
    same = overlap & (given.labels[:, None] == target.labels)
    kept = _without(target, (same if region is None else overlap).any(dim=0))
    there = same & ~_mined(target) & (given.ignore[:, None] | ~target.ignore)
    if region is not None:
        there &= _overlap(region, target.boxes) | ~_overlap(given.boxes, region)
    new = given.select(~there.any(dim=1))
    if len(new):
        kept = Target(
            torch.cat([kept.boxes, new.boxes]),
            torch.cat([kept.labels, new.labels]),
            ignore=torch.cat([kept.ignore, new.ignore]),
            origin=(*kept.origin, *[HUMAN] * len(new)),
            scores=torch.cat([kept.scores, torch.full_like(new.scores, torch.nan)]),
            tags=kept.tags,
            absent=kept.absent,
            negatives=kept.negatives[~_overlap(new.boxes, kept.negatives).any(dim=0)],
            complete=False,
        )
    if kept.tags is None or labels <= kept.tags:
        return kept
    return replace(kept, tags=kept.tags | labels)


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
