"""Which image goes with which, and which box with which: what every figure starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from almining.boxes import containment, iou
from almining.data.pool import Pool
from almining.records import Detections, Target

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Found = TypeVar("Found", Detections, Target)


def paired(found: Mapping[str, Found], pool: Pool) -> Iterator[tuple[str, Found, Target]]:
    """Give every image with what was found in it and its target; what does not fit is refused."""
    for image_id in found:
        if image_id not in pool:
            raise ValueError(
                f"detections hold image {image_id!r}, which is not in the pool of {len(pool)}; "
                "pass pool.subset(...) or drop it"
            )
    for image_id in pool.ids:
        if image_id not in found:
            raise ValueError(
                f"detections of image {image_id!r} are missing; give empty Detections where "
                "nothing was found, or evaluate pool.subset(...) of the images looked at"
            )
        here, target = found[image_id], pool.target(image_id)
        check_complete(target, f"the target of image {image_id!r}")
        high = max(here.labels.tolist(), default=0)
        if high > len(pool.classes):
            raise ValueError(
                f"detections of image {image_id!r} name class {high}, but the pool has "
                f"{len(pool.classes)} ({', '.join(pool.classes[:5])}, ...); detect with those"
            )
        yield image_id, here, target


def numbers(values: Tensor) -> Floats:
    """Return a tensor in double precision, for numpy."""
    found: Floats = values.double().cpu().numpy()
    return found


def check_complete(target: Target, name: str) -> None:
    """Raise a `ValueError` unless an absent box means background."""
    if not target.complete:
        raise ValueError(
            f"{name} is {target.state}, not complete; "
            "an absent box would count as background; evaluate a subset of complete images"
        )


def check_overlap(value: float, name: str) -> None:
    """Raise a `ValueError` unless a value can be the least overlap of a match."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} = {value!r}: an overlap in (0, 1] is needed")


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """What is said of one image, and what is true there.

    In double precision, so that an overlap of exactly one half is one half.

    Args:
        boxes: (n, 4), each said to hold an object.
        labels: (n,) their classes.
        scores: (n,) the highest is matched first, NaN last.
        truth: (m, 4) the true boxes.
        kinds: (m,) their classes.
        counted: (m,) False for a box to be ignored.
    """

    boxes: Floats
    labels: Ints
    scores: Floats
    truth: Floats
    kinds: Ints
    counted: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Class, score and verdict of every claim (n,), and the class of every counted box (m,)."""

    labels: Ints
    scores: Floats
    right: Flags
    neither: Flags
    kinds: Ints


def judge(images: Iterable[Claims], min_iou: float) -> Verdicts:
    """Match claims to true boxes of their class, greedily, the highest score first.

    A claim takes the box it overlaps most (IoU) of those not taken yet, where that is at least
    `min_iou`: right. One that gets none, but of which a share of at least `min_iou` lies in an
    ignored box, is neither right nor wrong, and the ignored box remains for others. Equal scores
    keep the order given, equal overlaps that of the true boxes.
    """
    labels, scores, kinds = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    neither = [np.zeros(0, np.bool_)]
    claim, box, overlap = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    claims = boxes = 0
    for image in images:
        a, b = torch.from_numpy(image.boxes), torch.from_numpy(image.truth)
        same, counted = image.labels[:, None] == image.kinds, image.counted
        shared = iou(a, b).numpy()
        rows, columns = (same & counted & (shared >= min_iou)).nonzero()
        claim.append(claims + rows)
        box.append(boxes + columns)
        overlap.append(shared[rows, columns])
        inside = np.zeros(len(a), np.bool_)
        if not counted.all():
            covered = containment(a, b).numpy() >= min_iou
            inside = (same & ~counted & covered).any(axis=1)
        neither.append(inside)
        labels.append(image.labels)
        scores.append(image.scores)
        kinds.append(image.kinds[counted])
        claims, boxes = claims + len(a), boxes + len(b)
    every = np.concatenate(scores)
    rank = np.empty(claims, np.int64)
    rank[np.argsort(-every, kind="stable")] = np.arange(claims)
    right = _greedy(rank, np.concatenate(claim), np.concatenate(box), np.concatenate(overlap))
    unclear = np.concatenate(neither) & ~right
    return Verdicts(np.concatenate(labels), every, right, unclear, np.concatenate(kinds))


def _greedy(rank: Ints, claim: Ints, box: Ints, overlap: Floats) -> Flags:
    """Return which claims get a box; the last three arguments are the possible matches."""
    order = np.lexsort((box, -overlap, rank[claim]))
    right, taken = [False] * len(rank), set()
    for one, other in zip(claim[order].tolist(), box[order].tolist(), strict=True):
        if not right[one] and other not in taken:
            right[one] = True
            taken.add(other)
    return np.array(right, np.bool_)
