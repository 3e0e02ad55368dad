"""Pseudo-labels counted against the hidden truth."""

import pytest
import torch

from almining.data.pool import Pool
from almining.papers.comining import Audit
from almining.records import Target
from almining.rng import generator
from almining.train import Batch, mirrored
from tests.fakes import boxes, labels


class Noise:
    """Images that no mirror leaves as they are."""

    def load(self, image_id: str) -> torch.Tensor:
        return torch.rand(3, 16, 24, generator=generator(0, image_id))


OBJECTS = boxes((1, 1, 8, 8), (12, 2, 20, 9), (3, 10, 9, 15))
TRUTH = Target(OBJECTS, labels(1, 2, 1))


def pools() -> tuple[Pool, Pool]:
    hidden = Pool(("dark", "light"), {"a-1": TRUTH, "b-2": TRUTH}, Noise())
    known = Target(OBJECTS[:1], labels(1), complete=False)
    return hidden, hidden.updated({"a-1": known, "b-2": Target.unknown()}, cycle=0)


def taught(known: Target, *rows: tuple[float, ...], label: int = 2) -> Target:
    return Target(
        torch.cat([known.boxes, boxes(*rows)]),
        torch.cat([known.labels, labels(*[label] * len(rows))]),
        origin=(*known.origin, *["mined"] * len(rows)),
        scores=torch.cat([known.scores, torch.full((len(rows),), 0.7)]),
        complete=False,
    )


def seen(audit: Audit, pool: Pool, *, turned: bool, progress: float = 0.0) -> None:
    images, targets = [pool.image(i) for i in pool.ids], [pool.target(i) for i in pool.ids]
    found = [taught(targets[0], (12, 2, 20, 9), (3, 10, 9, 15)), taught(targets[1])]
    other = [taught(targets[0]), taught(targets[1], (1, 1, 8, 8), label=1)]
    if turned:
        pairs = [mirrored(image, target) for image, target in zip(images, targets, strict=True)]
        images, targets = [image for image, _ in pairs], [target for _, target in pairs]
        found, other = ([mirrored(images[0], one)[1] for one in some] for some in (found, other))
    audit(Batch(list(pool.ids), images, targets, pool, 0, progress), images, found, other)


@pytest.mark.parametrize("turned", [False, True])
def test_counts_by_hand(turned: bool) -> None:
    hidden, pool = pools()
    audit = Audit(hidden)
    seen(audit, pool, turned=turned)
    # of three mined boxes one has the wrong class; two of three are left in one image, all in one
    assert audit.rows == [{"progress": 0.0, "mined": 3, "right": 2, "hidden": 10}]


def test_shares_of_the_training() -> None:
    hidden, pool = pools()
    audit = Audit(hidden)
    for progress in (0.0, 0.3, 0.6):
        seen(audit, pool, turned=False, progress=progress)
    first, second = audit.shares(2)
    assert first == {"progress": 0.5, "mined": 3.0, "precision": 2 / 3, "recall": 0.2}
    assert second == first | {"progress": 1.0}
    late = Audit(hidden, [{"progress": 0.9, "mined": 0, "right": 0, "hidden": 0}])
    nothing = {"mined": 0.0, "precision": None, "recall": None}
    assert late.shares(2) == [{"progress": 0.5, **nothing}, {"progress": 1.0, **nothing}]
