"""A question that Co-mining could ask: everything in an image whose two views disagree.

The two views of an image label for each other. What only one of them finds is either an object that
the other missed, or a mistake it would be taught.

Source: the views and their labels are Co-mining's (Wang et al., AAAI 2021, §3.3 and 3.4).
Differs: the paper asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from almining.boxes import iou
from almining.cycle import Query
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.papers.comining.cogeneration import cogenerate
from almining.papers.comining.config import Config
from almining.papers.comining.views import look, moved
from almining.predict import stream
from almining.recipe import ask_all, unfinished
from almining.records import Detections, Evidence, Request, Target
from almining.rng import draw_seed
from almining.rng import generator as seeded
from almining.select import top_k

KIND = "views"  # of evidence
NAMES = ("boxes", "labels", "scores")
SAME = 0.5  # IoU from which on two boxes of one class are of one object


def doubts(config: Config | None = None) -> Query:
    """Return a query: all boxes of the images for which two views find different pseudo-labels.

    For `recipe(..., query=...)`. The score of an image is the sum of the scores of pseudo-labels
    that one view finds alone; where there are none, nothing is asked. A detector that has yet to
    learn its classes finds none.

    Args:
        config: the view and the thresholds; `Config.toy()` by default.

    Differs: the paper asks nobody. Here pseudo-labels come of what the detector detects, in
    training of what it finds in the same forward.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        seed, open_ids = draw_seed(generator), unfinished(pool)

        def call(images: list[Tensor], names: list[str]) -> list[dict[str, Tensor]]:
            draws = [seeded(seed, "view", name) for name in names]
            pairs = zip(images, draws, strict=True)
            views = [look(config.view, image, generator=one) for image, one in pairs]
            with torch.no_grad():
                found = detector.detect([*images, *(view.image for view in views)])
            each = zip(names, views, found[: len(views)], found[len(views) :], strict=True)
            return [
                compare(*(_labels(one, pool.target(i), config) for one in (a, moved(b, view.back))))
                for i, view, a, b in each
            ]

        call.__qualname__ = f"comining views {config} {seed}"
        said = stream(
            call,
            pool,
            open_ids,
            beside={image_id: image_id for image_id in open_ids},
            device=device_of(detector),
            progress="comining: ask",
            detector=detector,
        )
        made = [(i, data, _alone(data)) for i, data in said]
        some = [one for one in made if one[2] > 0]
        return [
            ask_all(i, Evidence(KIND, data, _told(data, pool.classes)), score)
            for i, data, score in (some[at] for at in top_k([one[2] for one in some], budget))
        ]

    return query


def compare(own: Detections, other: Detections) -> dict[str, Tensor]:
    """Return what two views find, the first one's before the other's, and what they agree on.

    Each box of the first takes the free one of the other, of its class, that it overlaps most (IoU
    of at least 0.5).

    Args:
        own: found in the image, the best first.
        other: found in its other view, in pixels of the image.

    Returns:
        Of n boxes `boxes`, `labels` and `scores`, `view` (0, or 1 for the other one) and `agreed`.

    >>> one = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), torch.tensor([0.5]))
    >>> compare(one, one)["agreed"].tolist(), compare(one, one.select([]))["agreed"].tolist()
    ([True, True], [False])
    """
    shared = iou(own.boxes, other.boxes) * (own.labels[:, None] == other.labels)  # (n, m)
    agreed = torch.zeros(len(own) + len(other), dtype=torch.bool)
    for row in range(len(own) if len(other) else 0):
        free = shared[row] * ~agreed[len(own) :]
        best = int(free.argmax())
        if free[best] >= SAME:
            agreed[[row, len(own) + best]] = True
    view = torch.zeros(len(agreed), dtype=torch.int64)
    view[len(own) :] = 1
    fields = {n: torch.cat([getattr(own, n), getattr(other, n)]) for n in NAMES}
    return {**fields, "view": view, "agreed": agreed}


def _labels(found: Detections, known: Target, config: Config) -> Detections:
    """Return the pseudo-labels that detections become beside what is known, on the CPU."""
    made = cogenerate(
        found.to("cpu"),
        known.to("cpu"),
        min_score=config.min_score,
        nms_iou=config.nms_iou,
        match_iou=config.match_iou,
        class_aware=config.class_aware,
    )
    new = made.select(torch.arange(len(known), len(made)))
    return Detections(new.boxes, new.labels, new.scores)


def _alone(data: dict[str, Tensor]) -> float:
    return float(data["scores"][~data["agreed"]].double().sum())


def _told(data: dict[str, Tensor], classes: Sequence[str]) -> str:
    """Return in words what the views find."""

    def counted(rows: Tensor) -> str:
        counts = Counter(data["labels"][rows].tolist())
        each = [f"{n} {classes[label - 1]}" for label, n in counts.most_common()]
        return ", ".join(each) or "nothing"

    first, agreed = data["view"] == 0, data["agreed"]
    alone = [counted(view & ~agreed) for view in (first, ~first)]
    return (
        f"view a alone finds {alone[0]}, view b alone {alone[1]}; both: {counted(first & agreed)}"
    )
