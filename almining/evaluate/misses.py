"""Miss rate against false positives per image, with the conventions of Caltech Pedestrian.

Left out: occlusion levels (a pool does not know them; mark such boxes `ignore`) and bringing all
boxes to one width/height before they are matched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from almining.data.pool import Pool
from almining.evaluate.pairing import (
    Claims,
    Floats,
    Verdicts,
    check_overlap,
    judge,
    numbers,
    paired,
)
from almining.records import Detections

REFERENCE = tuple(10.0 ** (quarter / 4) for quarter in range(-8, 1))  # FPPI 0.01 ... 1
LEAST = 1e-10  # a miss rate of 0 has no logarithm


@dataclass(frozen=True, slots=True, eq=False)
class MissCurve:
    """Miss rate against false positives per image (FPPI), one point per distinct score.

    Args:
        fppi: (k,) rising from 0; the first point accepts no detection.
        miss: (k,) the share of boxes not found, falling from 1; NaN where there is no box.
        thresholds: (k,) the lowest score accepted, falling from infinity.
        images: how many were looked at.
        boxes: how many were to be found.
    """

    fppi: Floats
    miss: Floats
    thresholds: Floats
    images: int
    boxes: int

    def __repr__(self) -> str:
        """Say in one line how good it is."""
        return (
            f"MissCurve({self.boxes} boxes in {self.images} images, "
            f"LAMR {self.log_average:.3f}, MR@1 {self.at(1):.3f})"
        )

    def at(self, fppi: float) -> float:
        """Return the miss rate at the last point with at most so many false positives per image.

        That is the end of the curve where it does not reach so many.
        """
        if not fppi >= 0:
            raise ValueError(f"fppi = {fppi!r}: a number of at least 0 is needed")
        return float(self.miss[np.searchsorted(self.fppi, fppi, side="right") - 1])

    @property
    def log_average(self) -> float:
        """The geometric mean of the miss rates at 9 FPPI from 0.01 to 1, evenly spaced in log."""
        values = [self.at(fppi) for fppi in REFERENCE]
        return math.exp(math.fsum(math.log(max(value, LEAST)) for value in values) / len(values))


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which boxes count; see `miss_curve`."""

    min_height: float
    aspect: tuple[float, float] | None
    frame_height: float | None
    filtered: Literal["ignore", "discard"]
    expand: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_height < math.inf:
            raise ValueError(f"min_height = {self.min_height!r}: pixels, at least 0, are needed")
        if self.aspect is not None and not 0 <= self.aspect[0] <= self.aspect[1]:
            raise ValueError(
                f"aspect = {self.aspect!r}: (lowest, highest) width/height, or None for any"
            )
        if self.frame_height is not None and not 0 < self.frame_height < math.inf:
            raise ValueError(
                f"frame_height = {self.frame_height!r}: the height of the images that min_height "
                "is meant for (480), or None where it is meant for these"
            )
        if self.filtered not in ("ignore", "discard"):
            raise ValueError(f"filtered = {self.filtered!r}: use 'ignore' or 'discard'")
        if not 1 <= self.expand < math.inf:
            raise ValueError(f"expand = {self.expand!r}: a factor of at least 1 is needed")

    def least(self, pool: Pool, image_id: str) -> float:
        """Return the least height in pixels of an image."""
        if self.frame_height is None:
            return self.min_height
        size = pool.info(image_id).size
        if size is None:
            raise ValueError(
                f"the size of image {image_id!r} is not known, and min_height is to be scaled from "
                f"frame_height = {self.frame_height!r}; give sizes, or frame_height=None"
            )
        return self.min_height * size[0] / self.frame_height

    def claims(self, detections: Mapping[str, Detections], pool: Pool) -> Iterator[Claims]:
        """Give every image's detections and boxes, filtered."""
        for image_id, found, target in paired(detections, pool):
            least = self.least(pool, image_id)
            boxes, seen = numbers(target.boxes), numbers(found.boxes)
            high = seen[:, 3] - seen[:, 1] >= least / self.expand
            width, height = (boxes[:, 2:] - boxes[:, :2]).T
            fits, ignore = height >= least, target.ignore.cpu().numpy()
            if self.aspect is not None:
                ratio = np.divide(width, height, where=height > 0, out=np.full(len(boxes), -1.0))
                fits &= (ratio >= self.aspect[0]) & (ratio <= self.aspect[1])
            keep = fits | ignore | (self.filtered == "ignore")
            yield Claims(
                seen[high],
                found.labels.cpu().numpy()[high],
                numbers(found.scores)[high],
                boxes[keep],
                target.labels.cpu().numpy()[keep],
                (fits & ~ignore)[keep],
            )


def miss_curve(
    detections: Mapping[str, Detections],
    truth: Pool,
    *,
    label: int | None = None,
    min_iou: float = 0.5,
    min_height: float = 50.0,
    aspect: tuple[float, float] | None = (0.2, 0.65),
    frame_height: float | None = None,
    filtered: Literal["ignore", "discard"] = "ignore",
    expand: float = 1.25,
) -> MissCurve:
    """Return miss rate against false positives per image.

    Detections, best first, each take the box of their class they overlap most, of those that no
    better one has taken: found where IoU ≥ `min_iou`. A detection that gets none is a false
    positive, unless a share of at least `min_iou` of it lies in an ignored box of its class. A
    point of the curve accepts all detections of at least some score.

    Args:
        detections: what was found in each image of the pool; an image without a find has an empty
            one.
        truth: complete targets.
        label: the class; all of them together by default.
        min_iou: the overlap at which a box counts as found, in (0, 1].
        min_height: the least height in pixels of a box that must be found; 0 for any.
        aspect: the lowest and the highest width/height of such a box; None for any.
        frame_height: the height of the images that `min_height` is meant for, such as 480; it is
            scaled to the height of every image, as the toy street's 128 pixels need it. None: it is
            meant for these images.
        filtered: what becomes of other boxes: `"ignore"`, they need not be found and may be; or
            `"discard"`, they are no objects, and who finds one is wrong.
        expand: detections lower than the least height / `expand` are left out.

    Returns:
        The curve. Its miss rates are NaN where there is no box to be found, and without any
        detection it is the single point (0, 1).

    Raises:
        ValueError: naming the image, when the ids of `detections` and `truth` differ, a target is
            not complete, a detection's class is not among the pool's, or a size is needed and not
            known; or naming the option, for a bad one.

    >>> import torch
    >>> from almining.records import Target
    >>> box, label = torch.tensor([[10.0, 10, 40, 90]]), torch.tensor([1])
    >>> pool = Pool(["pedestrian"], {"a": Target(box, label)}, images=None)
    >>> curve = miss_curve({"a": Detections(box, label, torch.tensor([0.75]))}, pool)
    >>> curve.fppi.tolist(), curve.miss.tolist(), curve.thresholds.tolist()
    ([0.0, 0.0], [1.0, 0.0], [inf, 0.75])

    Source: Dollár et al., Pedestrian Detection: An Evaluation of the State of the Art (PAMI 2012):
    ignored boxes, expanded filter. Height and width/height: Divergence (Aghdam et al., ICCV 2019)
    §4.
    Differs: the paper discards the boxes that do not pass, so that a detector pays for finding a
    small pedestrian; here they are ignored unless `filtered="discard"`. Caltech brings every box to
    width/height 0.41 first; here boxes stay as they are. Caltech's ignore regions are for every
    class; here for their own. Equal scores make one point.
    """
    chosen = _Filter(min_height, aspect, frame_height, filtered, expand)
    if label is not None and label not in range(1, len(truth.classes) + 1):
        raise ValueError(f"label = {label!r}: the pool has classes 1 to {len(truth.classes)}")
    return _curve(_judged(detections, truth, chosen, min_iou), len(truth), label)


def miss_rate(
    detections: Mapping[str, Detections],
    truth: Pool,
    *,
    min_iou: float = 0.5,
    min_height: float = 50.0,
    aspect: tuple[float, float] | None = (0.2, 0.65),
    frame_height: float | None = None,
    filtered: Literal["ignore", "discard"] = "ignore",
    expand: float = 1.25,
) -> dict[str, float]:
    """Return miss rates at one false positive per image, and log-averages.

    A function of metrics for `cycle.run`; `functools.partial` sets options. Arguments and errors
    are those of `miss_curve`.

    Returns:
        `MR@1`, the miss rate at one false positive per image, or at the most there are where the
        curve ends before; `LAMR`, the geometric mean of the miss rates at 9 FPPI evenly spaced in
        log from 0.01 to 1, each at least 1e-10. Both over the boxes and detections of all classes
        together; `MR@1/<class>` and `LAMR/<class>` for each class. NaN where there is no box to be
        found; 1 without any detection.

    >>> import torch
    >>> from almining.records import Target
    >>> box, label = torch.tensor([[10.0, 10, 40, 90]]), torch.tensor([1])
    >>> pool = Pool(["pedestrian"], {"a": Target(box, label)}, images=None)
    >>> miss_rate({"a": Detections(box, label, torch.tensor([0.75]))}, pool)["MR@1"]
    0.0

    Source: MR@1 from Divergence (Aghdam et al., ICCV 2019) §4, LAMR from Dollár et al. (PAMI 2012).
    """
    chosen = _Filter(min_height, aspect, frame_height, filtered, expand)
    verdicts = _judged(detections, truth, chosen, min_iou)
    rates: dict[str, float] = {}
    for label, name in enumerate(("", *truth.classes)):
        curve = _curve(verdicts, len(truth), label or None)
        suffix = f"/{name}" if label else ""
        rates |= {f"MR@1{suffix}": curve.at(1), f"LAMR{suffix}": curve.log_average}
    return rates


def _judged(
    detections: Mapping[str, Detections], truth: Pool, chosen: _Filter, min_iou: float
) -> Verdicts:
    check_overlap(min_iou, "min_iou")
    return judge(chosen.claims(detections, truth), min_iou)


def _curve(verdicts: Verdicts, images: int, label: int | None) -> MissCurve:
    used = ~verdicts.neither & ((verdicts.labels == label) | (label is None))
    boxes = int(((verdicts.kinds == label) | (label is None)).sum())
    scores = verdicts.scores[used]
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], verdicts.right[used][order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of the detections of one score
    found, wrong = right.cumsum()[last], (~right).cumsum()[last]
    missed = (boxes - np.append(0, found)) / boxes if boxes else np.full(len(last) + 1, np.nan)
    return MissCurve(
        np.append(0.0, wrong / max(images, 1)),
        missed,
        np.append(np.inf, scores[last]),
        images,
        boxes,
    )
