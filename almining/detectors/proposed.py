"""What detectors that judge given proposals share: asking for them, and boxes regressed from them.

`weak` and `sigmoid` build on it. What a region is, and how it is learned, is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from almining.boxes import area, clip
from almining.checks import check_boxes
from almining.data.proposals import Grid, Proposer, SelectiveSearch
from almining.data.segments import Segments
from almining.detectors.mist_boxes import CODER
from almining.records import Detections

PROPOSERS: dict[str, Callable[[], Proposer]] = {
    "grid": Grid,
    "segments": Segments,
    "selective_search": SelectiveSearch,
}


class Kept(Protocol):
    """Which detections are kept: those that score more, do not overlap too much, and so many."""

    @property
    def min_score(self) -> float:
        """A detection scores more."""
        ...

    @property
    def nms(self) -> float:
        """IoU above which a detection of the same class is dropped."""
        ...

    @property
    def most(self) -> int:
        """The most detections of an image."""
        ...


def proposer_of(given: Proposer | str) -> Proposer:
    """Return the proposer of a name, or the one that is given.

    Raises:
        ValueError: for an unknown name.
    """
    if not isinstance(given, str):
        return given
    if given not in PROPOSERS:
        raise ValueError(f"proposer = {given!r}: use one of {', '.join(PROPOSERS)}, or a callable")
    return PROPOSERS[given]()


def propose(proposer: Proposer, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return each image's proposals inside it; those without area show nothing and go."""
    found = []
    for position, image in enumerate(images):
        boxes = proposer(image)
        check_boxes(boxes, f"proposals of images[{position}]")
        boxes = clip(boxes, (image.shape[1], image.shape[2]))
        found.append(boxes[area(boxes) > 0].to(device))
    return found


def decode(
    image: Tensor, boxes: Tensor, probs: Tensor, deltas: Tensor, features: Tensor, rules: Kept
) -> Detections:
    """Return an image's detections, regressed class by class from its proposals, best first.

    Args:
        image: (3, h, w).
        boxes: (n, 4) proposals.
        probs: (n, C + 1), column 0 background.
        deltas: (n, C, 4).
        features: (n, d).
        rules: which are kept.
    """
    rows, columns = (probs[:, 1:] > rules.min_score).nonzero(as_tuple=True)
    moved = CODER.decode_single(deltas[rows, columns], boxes[rows]).reshape(-1, 4)
    moved = clip(moved, (image.shape[1], image.shape[2]))
    scores = probs[rows, columns + 1].where(area(moved) > 0, 0)
    kept = batched_nms(moved, scores, columns, rules.nms)
    kept = kept[scores[kept] > 0][: rules.most]
    from_rows = {"probs": probs[rows[kept]], "features": features[rows[kept]]}
    return Detections(moved[kept], columns[kept] + 1, scores[kept], **from_rows)
