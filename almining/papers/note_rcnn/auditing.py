"""What is wrong with mined boxes, against hidden truth: the noise that NOTE-RCNN is made for.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §1, Figures 2 and 6, Table 1.
Differs: the paper states no overlap: a box is right from IoU 0.5 on, and its boundary is inaccurate
from 0.1 on.
"""

from __future__ import annotations

import math

import numpy as np

from almining.boxes import iou
from almining.data.pool import Pool
from almining.evaluate.mining import judge_mined, mined
from almining.evaluate.pairing import Flags, Floats, Ints, Verdicts
from almining.records import Target

KINDS = ("wrong_class", "inaccurate", "false_positive")
NEAR = 0.1  # IoU from which on a box that is not right is of an object, its boundary being off


def audit(pool: Pool, truth: Pool, *, min_iou: float = 0.5) -> dict[str, float]:
    """Return how many mined boxes are right, in which way the others err, and what is missed.

    A mined box that is not right (`evaluate.mined`) has the `wrong_class` where an object of
    another class has IoU ≥ `min_iou` with it; else an `inaccurate` boundary where one of its own
    class has IoU ≥ 0.1 but < `min_iou`; else it is a `false_positive`, as is a second box on one
    object. What lies in an ignored box of its class is none of these.

    Args:
        pool: targets with mined boxes, of any state.
        truth: complete targets of at least these images, of the same classes.
        min_iou: the overlap at which a box is right, in (0, 1].

    Returns:
        What `evaluate.mined` returns, and `right`, `wrong_class`, `inaccurate`, `false_positive`
        and `missed` (the objects that neither a person drew nor a mined box is right on); each as
        `<name>/<class>`, too: the class that was mined, or that was missed.

    Source: NOTE-RCNN §1, the three types of noise; Figure 2.
    """
    figures = mined(pool, truth, min_iou=min_iou)
    verdicts, human = _judged(pool, truth, min_iou)
    faults = [_faults(pool.target(i), truth.target(i), min_iou) for i in pool.ids]
    fault = np.concatenate([np.zeros(0, np.int64), *faults])
    for label, name in enumerate(("", *pool.classes)):
        suffix, chosen = (f"/{name}", verdicts.labels == label) if label else ("", True)
        ours = ~human & chosen
        figures[f"right{suffix}"] = int((ours & verdicts.right).sum())
        wrong = ours & ~verdicts.right & ~verdicts.neither
        for number, kind in enumerate(KINDS):
            figures[f"{kind}{suffix}"] = int((wrong & (fault == number)).sum())
        objects = int((verdicts.kinds == label).sum()) if label else len(verdicts.kinds)
        figures[f"missed{suffix}"] = objects - int((verdicts.right & chosen).sum())
    return figures


def precision_curve(
    pool: Pool, truth: Pool, *, min_iou: float = 0.5
) -> tuple[Floats, Ints, Floats]:
    """Return the precision of mined boxes against their number, over θ_b.

    Args:
        pool: boxes mined with a low θ_b, say 0; a higher one keeps those that score more.
        truth: as in `audit`.
        min_iou: as in `audit`.

    Returns:
        The scores (k,) that occur, falling; how many mined boxes score as much or more; and which
        share of those that are right or wrong is right, NaN where there are none.

    Source: NOTE-RCNN Figure 6.
    """
    verdicts, human = _judged(pool, truth, min_iou)
    ours = ~human
    order = np.argsort(-verdicts.scores[ours], kind="stable")
    scores = verdicts.scores[ours][order]
    right = verdicts.right[ours][order].cumsum()
    claimed = (~verdicts.neither[ours])[order].cumsum()
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # equal scores go together
    counts = np.arange(1, len(scores) + 1)
    share = np.divide(right, claimed, out=np.full(len(scores), math.nan), where=claimed > 0)
    return scores[last], counts[last], share[last]


def _judged(pool: Pool, truth: Pool, min_iou: float) -> tuple[Verdicts, Flags]:
    """Return the verdict on every box, a person's first in each image, and which a person drew."""
    return judge_mined([(pool.target(i), truth.target(i)) for i in pool.ids], min_iou)


def _faults(here: Target, true: Target, min_iou: float) -> Ints:
    """Return for each box of an image which of `KINDS` it is, should it be wrong."""
    objects = true.select(~true.ignore)
    shared = iou(here.boxes.double(), objects.boxes.double())
    same = here.labels[:, None] == objects.labels
    other = ((shared >= min_iou) & ~same).any(dim=1)
    near = ((shared >= NEAR) & (shared < min_iou) & same).any(dim=1)
    found: Ints = np.where(other.cpu(), 0, np.where(near.cpu(), 1, 2))
    return found
