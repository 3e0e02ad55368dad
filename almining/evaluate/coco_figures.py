"""COCO's twelve figures.

They come from pycocotools, or from faster-coco-eval when it is installed, which gives the same
numbers sooner.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from collections.abc import Mapping
from typing import Any, Literal

from almining.data.pool import Pool
from almining.evaluate.pairing import paired
from almining.records import Detections, Target

COCO_STATS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
Backend = Literal["auto", "pycocotools", "faster"]


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
    dataset, found = _coco_annotations(list(paired(detections, pool)), pool)
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
