"""Box mining M(A, T, θ_b): of each tagged class the box the detector is surest of.

Source: NOTE-RCNN (Gao et al., ICCV 2019) §3.2. Notebook: 04_note_rcnn_training_mining.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from almining.boxes import area
from almining.checks import class_set
from almining.records import Detections, Target


def mine_boxes(
    detections: Detections,
    tags: Iterable[int],
    *,
    min_score: float = 0.99,
    every: bool = False,
    origin: str = "mined",
) -> Target:
    """Return the boxes mined in one image, class by class.

    A tag without a detection that scores enough gives no box, and a box without area is not mined.
    No gradient goes through.

    Args:
        detections: of the image, in any order; of equal scores the first is taken.
        tags: the classes known to be present.
        min_score: θ_b; a mined box scores more.
        every: mine all boxes that do, best first, as the third-party code does; not the best only.
        origin: of the mined boxes.

    Returns:
        What is known then, never complete; without a box, tagged.

    Raises:
        ValueError: for tags that are None, or a `min_score` outside [0, 1].

    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29], [0, 0, 5, 9]])
    >>> found = Detections(boxes, torch.tensor([1, 1, 2]), torch.tensor([0.991, 0.995, 0.9]))
    >>> mine_boxes(found, {1, 2}).boxes[:, 0]
    tensor([20.])

    Source: NOTE-RCNN §3.2, the three conditions of box mining.
    """
    check_min_score(min_score)
    known = class_set(tags, "tags")
    if known is None:
        raise ValueError("tags = None: boxes are mined where the classes present are known")
    scores = detections.scores.detach()
    enough = (scores > min_score) & (area(detections.boxes) > 0)
    order = scores.argsort(descending=True, stable=True)
    rows = [torch.zeros(0, dtype=torch.int64, device=scores.device)]
    for label in sorted(known):
        of = order[(enough & (detections.labels == label))[order]]
        rows.append(of if every else of[:1])
    kept = torch.cat(rows)
    return Target(
        detections.boxes.detach()[kept],
        detections.labels[kept],
        origin=(origin,) * len(kept),
        scores=scores[kept],
        tags=known,
        complete=False,
    )


def check_min_score(value: float) -> None:
    """Raise a `ValueError` unless a value can be θ_b."""
    if not 0 <= value <= 1:
        raise ValueError(f"min_score = {value!r}: a number from 0 to 1 is needed")
