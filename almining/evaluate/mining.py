"""Precision and recall of mined boxes: what was inferred, against what a person would draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from almining.checks import HUMAN
from almining.data.pool import Pool
from almining.evaluate.pairing import (
    Claims,
    Flags,
    Verdicts,
    check_complete,
    check_overlap,
    judge,
    numbers,
    paired,
)
from almining.records import Target


def mined(pool: Pool | Target, truth: Pool | Target, *, min_iou: float = 0.5) -> dict[str, float]:
    """Return how many boxes were mined, how many of them are right, and what they miss.

    A person's boxes take the true boxes they match first. Of the rest, mined boxes take theirs by
    falling score, each the one of its class it overlaps most, where IoU ≥ `min_iou`. A mined box
    that gets none is wrong, so one on an object a person drew is; unless a share of at least
    `min_iou` of it lies in an ignored box of its class: then it is neither.

    Args:
        pool: targets with mined boxes (origin `"mined"` or `"mined:<method>:<cycle>"`), of any
            state; or one target.
        truth: complete targets of at least these images, of the same classes; or one target.
        min_iou: the overlap at which a box is right, in (0, 1].

    Returns:
        `mined`, the number of mined boxes; `precision`, the share that is right, NaN without any;
        `recall`, the share found of the boxes that no person drew, NaN without any; and each as
        `<name>/<class>`, a class being called by its number where single targets were given.

    Raises:
        ValueError: naming the image, when the truth lacks it or is not complete there; when the
            classes differ; or for a bad `min_iou`.

    >>> import torch
    >>> boxes, label = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]]), torch.tensor([1])
    >>> found = Target(boxes[:1], label, origin=["mined"], complete=False)
    >>> mined(found, Target(boxes, label.repeat(2)))["recall"]
    0.5
    """
    check_overlap(min_iou, "min_iou")
    if isinstance(pool, Pool) and isinstance(truth, Pool):
        if pool.classes != truth.classes:
            raise ValueError(
                f"the pool has classes {pool.classes} and the truth {truth.classes}; "
                "bring one to the other's with relabelled"
            )
        known = {image_id: pool.target(image_id) for image_id in pool.ids}
        pairs = [(here, true) for _, here, true in paired(known, truth.subset(known))]
        names = pool.classes
    elif isinstance(pool, Target) and isinstance(truth, Target):
        check_complete(truth, "truth")
        pairs = [(pool, truth)]
        most = max([*pool.labels.tolist(), *truth.labels.tolist()], default=0)
        names = tuple(map(str, range(1, most + 1)))
    else:
        raise ValueError("pool and truth are two pools or two targets, not one of each")
    verdicts, human = judge_mined(pairs, min_iou)
    figures: dict[str, float] = {}
    for label, name in enumerate(("", *names)):
        chosen = (verdicts.labels == label) | (not label)
        boxes = ~human & chosen
        right = int((verdicts.right & boxes).sum())
        claimed = int((boxes & ~verdicts.neither).sum())
        drawn = int((verdicts.right & human & chosen).sum())
        left = int(((verdicts.kinds == label) | (not label)).sum()) - drawn
        suffix = f"/{name}" if label else ""
        figures[f"mined{suffix}"] = int(boxes.sum())
        figures[f"precision{suffix}"] = right / claimed if claimed else math.nan
        figures[f"recall{suffix}"] = right / left if left else math.nan
    return figures


def judge_mined(pairs: Sequence[tuple[Target, Target]], min_iou: float) -> tuple[Verdicts, Flags]:
    """Return the verdict on every box, a person's first in each image, and which a person drew.

    Args:
        pairs: of each image what is known and what is true.
        min_iou: the overlap at which a box is right.
    """
    people = [np.array([name == HUMAN for name in here.origin], np.bool_) for here, _ in pairs]
    claims = [
        Claims(
            numbers(here.boxes),
            here.labels.cpu().numpy(),
            np.where(human, np.inf, numbers(here.scores)),
            numbers(true.boxes),
            true.labels.cpu().numpy(),
            ~true.ignore.cpu().numpy(),
        )
        for (here, true), human in zip(pairs, people, strict=True)
    ]
    return judge(claims, min_iou), np.concatenate([np.zeros(0, np.bool_), *people])
