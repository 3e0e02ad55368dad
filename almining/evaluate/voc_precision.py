"""VOC's average precision; needs numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from almining.boxes import iou as box_iou
from almining.data.pool import Pool
from almining.evaluate.pairing import Flags, Floats, Ints, check_overlap, paired
from almining.records import Detections, Target


def voc(
    detections: Mapping[str, Detections],
    pool: Pool,
    *,
    iou: float = 0.5,
    method: Literal["all", "11"] = "all",
) -> dict[str, float]:
    """Evaluate detections by the PASCAL VOC protocol.

    Detections of a class, best first, each go to the box of that class they overlap most. IoU ≥
    `iou` and the box not taken yet: true positive; taken, or IoU below: false positive; the box
    ignored: neither.

    Args:
        detections: what was found in each image of the pool; an image without a find has an empty
            one.
        pool: complete targets.
        iou: the overlap at which a box counts as found, in (0, 1].
        method: `"all"`, the area under the interpolated curve (VOC 2010 on); `"11"`, the mean of
            the interpolated precision at recall 0, 0.1, ..., 1 (VOC 2007).

    Returns:
        `AP50` (the IoU in per cent): the mean over the classes with a box that is not ignored; and
        `AP50/<class>` for every class. NaN where there is no such box.

    Raises:
        ValueError: naming the image, when the ids of `detections` and `pool` differ, a target is
            not complete, or a detection's class is not among the pool's; or for a bad `iou` or
            `method`.

    >>> import torch
    >>> box, label = torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([1])
    >>> pool = Pool(["cat"], {"a": Target(box, label)}, images=None)
    >>> voc({"a": Detections(box, label, torch.ones(1))}, pool)
    {'AP50': 1.0, 'AP50/cat': 1.0}

    Source: VOCevaldet.m of the VOC devkit (Everingham et al., IJCV 2010, §4.2): overlap `>= ovmax`,
    the box of highest overlap whether or not it is taken.
    Differs: the devkit adds one pixel to widths and heights; boxes here have width x2 − x1. Equal
    scores keep the order of the pool and of the detections; the devkit's sort leaves it open.
    Recall is compared with 0.1, 0.2, ... in whole numbers, so 3 of 10 boxes reach recall 0.3.
    """
    check_overlap(iou, "iou")
    if method not in ("all", "11"):
        raise ValueError(f"method = {method!r}: use 'all' or '11'")
    name = f"AP{100 * iou:.4g}"
    labels, scores, hits, boxes = _voc_matches(list(paired(detections, pool)), iou)
    average = _all_points if method == "all" else _eleven_points
    values = []
    for label in range(1, len(pool.classes) + 1):
        chosen = labels == label
        correct = _true_positives(scores[chosen], hits[chosen])
        values.append(average(correct, boxes.get(label, 0)))
    known = [value for value in values if not math.isnan(value)]
    mean = sum(known) / len(known) if known else math.nan
    per_class = zip(pool.classes, values, strict=True)
    return {name: mean, **{f"{name}/{title}": value for title, value in per_class}}


IGNORED, MISSED = -2, -1  # in place of the number of the box a detection hits


def _voc_matches(
    pairs: list[tuple[str, Detections, Target]], least: float
) -> tuple[Ints, Floats, Ints, dict[int, int]]:
    """Return label, score and hit box of every detection, and how many boxes a class has."""
    labels, scores, hits = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    boxes: dict[int, int] = {}
    before = 0
    for _, found, target in pairs:
        truth = target.labels.cpu().numpy()
        counted = ~target.ignore.cpu().numpy()
        for label in truth[counted].tolist():
            boxes[label] = boxes.get(label, 0) + 1
        named = found.labels.cpu().numpy()
        hit = np.full(len(found), MISSED, np.int64)
        if len(found) and len(target):
            # in double precision, so that an overlap of exactly one half is one half
            given = found.boxes.double().cpu(), target.boxes.double().cpu()
            overlap = box_iou(*given).numpy()
            overlap[named[:, None] != truth[None, :]] = -1  # (n, m)
            best = overlap.argmax(axis=1)
            number = np.where(counted[best], before + best, IGNORED)
            hit = np.where(overlap.max(axis=1) >= least, number, MISSED)
        labels.append(named)
        scores.append(found.scores.double().cpu().numpy())
        hits.append(hit)
        before += len(target)
    return np.concatenate(labels), np.concatenate(scores), np.concatenate(hits), boxes


def _true_positives(scores: Floats, hits: Ints) -> Flags:
    """Return, best first, which detections are true positives; hits of ignored boxes are out."""
    hits = hits[np.argsort(-scores, kind="stable")]
    hits = hits[hits != IGNORED]
    first = np.zeros(len(hits), np.bool_)
    first[np.unique(hits, return_index=True)[1]] = True
    return first & (hits != MISSED)


def _precision(correct: Flags) -> tuple[Ints, Floats]:
    """Return the boxes found by each rank, and the highest precision there or later."""
    found = correct.cumsum()
    precision = found / np.arange(1, len(correct) + 1)
    return found, np.maximum.accumulate(precision[::-1])[::-1]


def _all_points(correct: Flags, boxes: int) -> float:
    if not boxes:
        return math.nan
    return float(_precision(correct)[1][correct].sum() / boxes)


def _eleven_points(correct: Flags, boxes: int) -> float:
    if not boxes:
        return math.nan
    found, precision = _precision(correct)
    reached = [found * 10 >= tenths * boxes for tenths in range(11)]
    return sum(float(precision[ranks].max(initial=0)) for ranks in reached) / 11
