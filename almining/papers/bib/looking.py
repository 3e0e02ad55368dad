"""The pairs of a pool's images, what their boxes look like to a detector, and a choice by that.

Equation 1, F(p) and Algorithm 2 of BiB §3.3 over a whole pool. Features go to a file as they come,
so that there may be more of them than fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from almining import predict
from almining.data.pool import Pool
from almining.papers.bib.config import Config
from almining.papers.bib.pairs import find_pairs
from almining.records import Detections, Request
from almining.select import kmeans_pp_groups

KIND = "pairs"  # of evidence


class Found(NamedTuple):
    """The pairs of one image.

    Args:
        detections: the boxes that are in a pair.
        pairs: (p, 2) rows of them, small and large.
    """

    detections: Detections
    pairs: Tensor


def find(
    detector: Any,
    pool: Pool,
    ids: Sequence[str] | None = None,
    *,
    config: Config | None = None,
    progress: bool | str = True,
) -> dict[str, Found]:
    """Return the pairs of images in which there are some.

    Args:
        detector: finds boxes.
        pool: the images.
        ids: which of them; all by default.
        config: what makes a pair; `Config.toy()` by default.
        progress: whether to show a progress bar, or what to call it.

    Source: BiB §3.3, Eq. 1.
    """
    config = Config.toy() if config is None else config
    found = {}
    for image_id, one in predict.detect(detector, pool, ids, progress=progress):
        pairs = find_pairs(
            one,
            min_ratio=config.min_ratio,
            min_containment=config.min_containment,
            min_score=config.min_score,
            tags=pool.target(image_id).present if config.tagged_only else None,
        )
        if len(pairs):
            rows, places = pairs.unique(return_inverse=True)
            kept = Detections(one.boxes[rows], one.labels[rows], one.scores[rows])
            found[image_id] = Found(kept.to("cpu"), places.reshape(-1, 2).cpu())
    return found


def kept_pairs(pool: Pool, asked: Sequence[Request]) -> dict[str, Found]:
    """Return the pairs that images had when they were asked for, of those labelled since."""
    found = {}
    for image_id, data in kept(pool, asked, KIND).items():
        boxes = Detections(data["boxes"], data["labels"], data["scores"])
        found[image_id] = Found(boxes, data["pairs"])
    return found


def kept(pool: Pool, asked: Sequence[Request], kind: str) -> dict[str, Any]:
    """Return the data of evidence of one kind that labelled images were asked for with, by id."""
    known = {
        one.image_id: one.evidence.data
        for one in asked
        if one.evidence is not None and one.evidence.kind == kind
    }
    return {i: known[i] for i in pool.ids if i in known and pool.target(i).complete}


def described(
    detector: Any, pool: Pool, boxes: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the features (n, d) of boxes (n, 4) of each image, as the detector sees them."""
    name = type(detector).__name__
    for image_id, one in predict.regions(detector, pool, boxes, progress="features"):
        if one.features is None:
            raise ValueError(
                f"{name}.regions gives no features, and images are told apart by them; "
                "pass Detections(..., features=...)"
            )
        if len(one) != len(boxes[image_id]):
            raise ValueError(
                f"{name}.regions gives {len(one)} rows for the {len(boxes[image_id])} boxes of "
                f"{image_id!r}; give one for each box, in order"
            )
        yield image_id, one.features


def choose(
    features: Iterable[tuple[str, Tensor]],
    budget: int,
    config: Config,
    generator: torch.Generator,
    *,
    seen: Iterable[str],
    pairs: Mapping[str, Tensor] | None = None,
) -> list[str]:
    """Return images whose rows are unlike those of the images before them, by Algorithm 2.

    Args:
        features: (n, d) of each image, those already chosen included.
        budget: how many to choose at most.
        config: `power` and `local_trials` are followed.
        generator: draws.
        seen: the images already chosen.
        pairs: by image, (p, 2) of its features, each a row; by default every feature is one.
    """
    places, groups = [], []
    with Rows() as rows:
        for image_id, some in features:
            start = rows.add(image_id, some)
            if pairs is not None:
                places.append(pairs[image_id] + start)
            groups += [image_id] * len(some if pairs is None else pairs[image_id])
        if not groups:
            return []
        return kmeans_pp_groups(
            rows.all(),
            groups,
            budget,
            pairs=torch.cat(places) if places else None,
            chosen=seen,
            power=config.power,
            local_trials=config.local_trials,
            generator=generator,
        )


class Rows:
    """Rows of features on disk, in float16, so that there may be more than fit into memory."""

    def __init__(self) -> None:
        """Open the file."""
        self._file, self._count, self._width = TemporaryFile(), 0, 0

    def __enter__(self) -> Rows:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; the rows stay as long as someone holds them."""
        self._file.close()

    def add(self, image_id: str, features: Tensor) -> int:
        """Append rows (n, d) of an image, and return how many there were before."""
        start, kept = self._count, features.detach().half().cpu().contiguous()
        if not bool(kept.isfinite().all()):
            raise FloatingPointError(
                f"the features of {image_id!r} reach {float(features.abs().max()):.3g}, and "
                "distances between them are taken in float16, which ends at 65504"
            )
        if start and kept.shape[1] != self._width:
            raise ValueError(
                f"{image_id!r} has {kept.shape[1]} features where others have {self._width}; "
                "give every box as many"
            )
        self._file.write(kept.numpy().data)
        self._count, self._width = start + len(kept), kept.shape[1]
        return start

    def all(self) -> Tensor:
        """Return all rows, mapped into memory."""
        self._file.flush()
        shape = (self._count, self._width)
        return torch.from_numpy(np.memmap(self._file, np.float16, "r+", shape=shape))
