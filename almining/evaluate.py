"""How good detections are: COCO's twelve figures and VOC's average precision.

COCO figures come from pycocotools, or from faster-coco-eval when it is installed, which gives the
same numbers sooner. VOC average precision needs numpy only. Miss rate is not here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from almining.boxes import iou as box_iou
from almining.data.pool import Pool
from almining.records import Detections, Target

COCO_STATS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
Backend = Literal["auto", "pycocotools", "faster"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def coco(
    detections: Mapping[str, Detections], pool: Pool, *, backend: Backend = "auto"
) -> dict[str, float]:
    """Evaluate detections by the COCO protocol.

    Args:
        detections: what was found in each image of the pool; an image without a find has an empty
            one.
        pool: complete targets. Ignored boxes become crowd regions.
        backend: `"faster"`, `"pycocotools"`, or `"auto"`: the first of the two that is installed.

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl, each in [0, 1], or NaN where
        the pool holds no box to be found (pycocotools says -1): of that size, or at all. Every
        figure of an empty pool is NaN. Without any detection they are 0.

    Raises:
        ValueError: naming the image, when the ids of `detections` and `pool` differ, a target is
            not complete, or a detection's class is not among the pool's; or for an unknown backend.
        ModuleNotFoundError: when the backend asked for is not installed.

    >>> import torch
    >>> box, label = torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([1])
    >>> pool = Pool(["cat"], {"a": Target(box, label)}, images=None)
    >>> coco({"a": Detections(box, label, torch.ones(1))}, pool)["APm"]
    1.0

    Source: COCO detection evaluation (Lin et al., ECCV 2014), `COCOeval` of pycocotools.
    Differs: the area of a box is w·h; COCO sorts its own boxes into small, medium and large by the
    area of their masks, which a pool does not hold.
    """
    dataset, found = _coco_annotations(list(_paired(detections, pool)), pool)
    if not len(pool):
        return dict.fromkeys(COCO_STATS, math.nan)
    table, evaluator = _coco_backend(backend)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = table(), table()
        truth.dataset, results.dataset = dataset, {**dataset, "annotations": found}
        truth.createIndex()
        results.createIndex()
        run = evaluator(truth, results, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    values = [float(value) for value in run.stats[: len(COCO_STATS)]]
    return {
        name: math.nan if value < 0 else value
        for name, value in zip(COCO_STATS, values, strict=True)
    }


def _coco_backend(backend: Backend) -> tuple[Any, Any]:
    """Return the table class and the evaluator class; both libraries are imported only here."""
    if backend not in ("auto", "pycocotools", "faster"):
        raise ValueError(f"backend = {backend!r}: use 'auto', 'pycocotools' or 'faster'")
    if backend == "auto":
        installed = importlib.util.find_spec("faster_coco_eval") is not None
        backend = "faster" if installed else "pycocotools"
    if backend == "faster":
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _coco_annotations(
    pairs: list[tuple[str, Detections, Target]], pool: Pool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth and detections as COCO's dictionaries; both count from 1.

    COCOeval takes annotation 0 for *no match*.
    """
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (_, detected, target) in enumerate(pairs, start=1):
        crowd = target.ignore.tolist()
        for row, record in enumerate(_coco_boxes(image, target, len(annotations))):
            annotations.append({**record, "iscrowd": int(crowd[row])})
        scores = detected.scores.tolist()
        for row, record in enumerate(_coco_boxes(image, detected, len(found))):
            record["score"] = scores[row]
            record["iscrowd"] = 0
            found.append(record)
    dataset = {
        "info": {},
        "images": [{"id": image} for image in range(1, len(pairs) + 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(pool.classes, start=1)],
        "annotations": annotations,
    }
    return dataset, found


def _coco_boxes(image: int, record: Target | Detections, before: int) -> list[dict[str, Any]]:
    boxes = record.boxes.double().cpu().numpy()
    boxes[:, 2:] -= boxes[:, :2]  # x y w h
    rows = zip(boxes.tolist(), record.labels.tolist(), strict=True)
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
        }
        for number, (box, label) in enumerate(rows, start=before + 1)
    ]


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
    if not 0 < iou <= 1:
        raise ValueError(f"iou = {iou!r}: an overlap in (0, 1] is needed")
    if method not in ("all", "11"):
        raise ValueError(f"method = {method!r}: use 'all' or '11'")
    name = f"AP{100 * iou:.4g}"
    labels, scores, hits, boxes = _voc_matches(list(_paired(detections, pool)), iou)
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


def _true_positives(scores: Floats, hits: Ints) -> NDArray[np.bool_]:
    """Return, best first, which detections are true positives; hits of ignored boxes are out."""
    hits = hits[np.argsort(-scores, kind="stable")]
    hits = hits[hits != IGNORED]
    first = np.zeros(len(hits), np.bool_)
    first[np.unique(hits, return_index=True)[1]] = True
    return first & (hits != MISSED)


def _precision(correct: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Return the boxes found by each rank, and the highest precision there or later."""
    found = correct.cumsum()
    precision = found / np.arange(1, len(correct) + 1)
    return found, np.maximum.accumulate(precision[::-1])[::-1]


def _all_points(correct: NDArray[np.bool_], boxes: int) -> float:
    if not boxes:
        return math.nan
    return float(_precision(correct)[1][correct].sum() / boxes)


def _eleven_points(correct: NDArray[np.bool_], boxes: int) -> float:
    if not boxes:
        return math.nan
    found, precision = _precision(correct)
    reached = [found * 10 >= tenths * boxes for tenths in range(11)]
    return sum(float(precision[ranks].max(initial=0)) for ranks in reached) / 11


def _paired(
    detections: Mapping[str, Detections], pool: Pool
) -> Iterator[tuple[str, Detections, Target]]:
    """Give every image with its detections and its target, once all of them are known to fit."""
    for image_id in detections:
        if image_id not in pool:
            raise ValueError(
                f"detections hold image {image_id!r}, which is not in the pool of {len(pool)}; "
                "pass pool.subset(...) or drop it"
            )
    for image_id in pool.ids:
        if image_id not in detections:
            raise ValueError(
                f"detections of image {image_id!r} are missing; give empty Detections where "
                "nothing was found, or evaluate pool.subset(...) of the images looked at"
            )
        found, target = detections[image_id], pool.target(image_id)
        if not target.complete:
            raise ValueError(
                f"the target of image {image_id!r} is {target.state}, not complete; "
                "an absent box would count as background; evaluate a subset of complete images"
            )
        high = max(found.labels.tolist(), default=0)
        if high > len(pool.classes):
            raise ValueError(
                f"detections of image {image_id!r} name class {high}, but the pool has "
                f"{len(pool.classes)} ({', '.join(pool.classes[:5])}, ...); detect with those"
            )
        yield image_id, found, target
