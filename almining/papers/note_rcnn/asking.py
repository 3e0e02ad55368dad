"""A question that NOTE-RCNN could ask: is this mined box right, where its two heads disagree?

det-cls has learned from seeds alone, det-cls-a from mined boxes, too. Where the two say different
things of a mined box, one of them has learned something wrong.

Source: the heads are NOTE-RCNN's (Gao et al., ICCV 2019, §3.3.2).
Differs: the paper asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from almining.boxes import iou
from almining.checks import HUMAN
from almining.cycle import Query
from almining.data.pool import Pool
from almining.detectors.base import device_of, offers
from almining.detectors.note_parts import VARIANTS
from almining.papers.note_rcnn.config import Config
from almining.papers.note_rcnn.recipes import check_variant
from almining.predict import stream
from almining.records import Evidence, Request, Target
from almining.select import top_k

KIND = "heads"  # of evidence
SAME = 0.5  # IoU from which on a box was asked about before


def doubts(config: Config | None = None) -> Query:
    """Return a query: whether mined boxes are right, those first on which the heads agree least.

    For `recipe(..., query=...)`. The score of a box is half the sum of the absolute differences of
    the heads' probabilities, background included: 0 where they agree, 1 at most. A box is asked
    about once, though it is mined again.

    Args:
        config: `Config.toy()` by default.

    Raises:
        ValueError: for a variant that has one head only; from the query, for a detector without
            those heads.

    Differs: the paper asks nobody. A box that was refused may be mined again; an image in which one
    was accepted is not mined any more.
    """
    config = Config.toy() if config is None else config
    if not VARIANTS[config.variant].det_a:
        raise ValueError(
            f"variant = {config.variant!r} has one head only, and nothing to disagree with; use "
            f"{', '.join(name for name, has in VARIANTS.items() if has.det_a)}"
        )

    def query(
        detector: Any,
        pool: Pool,
        budget: int,
        *,
        generator: torch.Generator,
        asked: Sequence[Request] = (),
    ) -> list[Request]:
        check_variant(detector, config)
        if not offers(detector, "heads"):
            raise ValueError(f"{type(detector).__name__} has no heads(images, boxes) to compare")
        before: dict[str, list[Request]] = {}
        for one in asked:
            before.setdefault(one.image_id, []).append(one)
        rows = {i: _mined(pool.target(i), before.get(i, ())) for i in pool.ids}
        boxes = {i: pool.target(i).boxes[some].cpu() for i, some in rows.items() if some}

        def call(images: list[Tensor], some: list[Tensor]) -> list[Tensor]:
            return [one.cpu() for one in detector.heads(images, some)]

        call.__qualname__ = "note_rcnn heads"
        how: dict[str, Any] = {"device": device_of(detector), "detector": detector}
        said = stream(call, pool, list(boxes), beside=boxes, progress="note_rcnn: ask", **how)
        found = [
            (i, row, probs)
            for i, each in said
            for row, probs in zip(rows[i], each.float(), strict=True)
        ]
        scores = [float((one[0] - one[1]).abs().sum() / 2) for *_, one in found]
        return [_request(pool, *found[i], scores[i]) for i in top_k(scores, budget)]

    return query


def _mined(target: Target, asked: Sequence[Request]) -> list[int]:
    """Return the rows of an image's mined boxes that no one was asked about."""
    rows = [i for i, name in enumerate(target.origin) if name != HUMAN and not target.ignore[i]]
    for one in asked if rows else ():
        if one.kind == "verify" and one.box is not None:
            there = iou(target.boxes, one.box[None].to(target.boxes.device))[:, 0] >= SAME
            there &= target.labels == one.label
            rows = [row for row in rows if not there[row]]
    return rows


def _request(pool: Pool, image_id: str, row: int, probs: Tensor, score: float) -> Request:
    """Return the question about a box of which the heads say `probs` (2, C + 1)."""
    target = pool.target(image_id)
    box, label = target.boxes[row].cpu(), int(target.labels[row])
    named = ("background", *pool.classes)
    each = [f"{named[int(one.argmax())]} {float(one.max()):.2f}" for one in probs]
    text = f"mined as {named[label]}; the seed head says {each[0]}, the mixed head {each[1]}"
    data = {"boxes": box[None], "labels": torch.tensor([label])}
    data |= {"seed": probs[:1], "mixed": probs[1:]}
    return Request(
        f"verify:{image_id}:{row}",
        image_id,
        "verify",
        box=box,
        label=label,
        score=score,
        evidence=Evidence(KIND, data, text),
    )
