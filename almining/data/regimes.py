"""Hiding labels: from a pool of which everything is known to one of which less is.

Each function is pure, of the pool and a seed, and returns a pool over the same images.
"""

from __future__ import annotations

import torch

from almining.data.pool import Pool
from almining.records import Target
from almining.rng import generator


def tags_only(pool: Pool) -> Pool:
    """Return the pool with every box hidden and the classes present kept as tags.

    Raises:
        ValueError: naming an image of which the classes are not known.

    Source: the weak labels BiB (§3.1) and NOTE-RCNN (§3.1) start from; ignored boxes count as
    present.
    """
    return pool.updated(
        {image_id: _tagged(pool, image_id) for image_id in pool.ids}, cycle=pool.cycle
    )


def unlabelled(pool: Pool, *, keep: int, seed: int, tags: bool = False) -> Pool:
    """Return the pool with `keep` random images as they are and nothing known of the others.

    Args:
        pool: whose labels are hidden.
        keep: number of images left labelled; the pool's size leaves all of them.
        seed: decides which.
        tags: keep the classes present of the others as tags.

    Raises:
        ValueError: when `keep` is negative or above the pool's size, or classes to keep are not
            known.
    """
    if not 0 <= keep <= len(pool):
        raise ValueError(
            f"keep = {keep}: give a number of images between 0 and the pool's {len(pool)}"
        )
    shuffled = torch.randperm(len(pool), generator=generator(seed, "unlabelled")).tolist()
    hidden = [pool.ids[position] for position in shuffled[keep:]]
    known = {image_id: _tagged(pool, image_id) if tags else Target.unknown() for image_id in hidden}
    return pool.updated(known, cycle=pool.cycle)


def _tagged(pool: Pool, image_id: str) -> Target:
    target = pool.target(image_id)
    present = target.present
    if present is None:
        raise ValueError(
            f"the classes present in {image_id!r} are not known ({target.state}), "
            "so it cannot be tagged"
        )
    return Target.unknown(present)
