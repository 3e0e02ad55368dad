"""What the dials of the toy world want of a group of objects, beyond where it happens to stand.

A group may have to lie in the picture, or across its edge, or beside what is there already.
`almining.data.toy.staging` tries places, and keeps one from which enough is seen of everything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from almining.data.toy.sight import Placed
from almining.data.toy.worlds import World


class Wish(NamedTuple):
    """What the dials want of one group, whatever place is tried for it.

    Args:
        inside: must all of it lie in the picture?
        edge: should it stand across the left edge (-1), the right edge (1), or anywhere (0)?
        beside: should it hide something, or be hidden?
    """

    inside: bool
    edge: int
    beside: bool


def draw_wish(world: World, rng: np.random.Generator) -> Wish:
    """Draw what the dials for truncation and occlusion want of the next group."""
    inside, edge, beside = rng.uniform(size=3) < (
        1.0 - 2.0 * world.truncation,
        2.0 * world.truncation - 1.0,
        2.0 * world.occlusion - 1.0,
    )
    side = 2 * int(rng.integers(2)) - 1
    return Wish(bool(inside), side * int(edge), bool(beside))


def beside(
    order: list[Placed], x: float, span: tuple[float, float], long: float, rng: np.random.Generator
) -> float:
    """Return a left edge for a row at which it overlaps what shares most of its rows of pixels.

    Args:
        order: what is there; objects are preferred to bystanders.
        x: the left edge to keep where nothing shares any of them.
        span: its top and its foot.
        long: its width.
        rng: decides on the side and how far it overlaps.
    """
    side, share = 2 * int(rng.integers(2)) - 1, rng.uniform(0.25, 0.5)
    objects = [placed for placed in order if placed.label] or order
    shared = [
        min(span[1], placed.y + placed.sprite.shape[0]) - max(span[0], placed.y)
        for placed in objects
    ]
    if not shared or max(shared) <= 0:
        return x
    other = objects[shared.index(max(shared))]
    w = other.sprite.shape[1]
    over = share * min(long, w)
    return other.x + w - over if side > 0 else other.x - long + over


def step_before(
    target: Placed, order: list[Placed], size: int, rng: np.random.Generator
) -> tuple[Placed, Placed] | None:
    """Return a bystander near an object, and the same in front of it; None where none is near."""
    h, w = target.sprite.shape[:2]
    foot, reach = target.y + h, 0.25 * size
    near = [
        placed
        for placed in order
        if not placed.label
        and placed.shadow == target.shadow
        and abs(placed.y + placed.sprite.shape[0] - foot) < reach
    ]
    side, share, drop = 2 * int(rng.integers(2)) - 1, rng.uniform(0.3, 0.6), rng.uniform(0.02, 0.2)
    if not near:
        return None
    mover = near[int(rng.integers(len(near)))]
    wide = mover.sprite.shape[1]
    x = target.x + share * w - wide if side < 0 else target.x + (1 - share) * w
    y = foot + drop * h - mover.sprite.shape[0]
    depth = max(mover.depth, target.depth + drop * h)
    return mover, mover._replace(x=round(x), y=round(y), depth=depth)


def moved_inside(row: list[Placed], size: int) -> list[Placed]:
    """Return the row moved into the picture; what is still cut off is left out."""
    left, top = min(placed.x for placed in row), min(placed.y for placed in row)
    right = max(placed.x + placed.sprite.shape[1] for placed in row)
    bottom = max(placed.y + placed.sprite.shape[0] for placed in row)
    dx = max(-left, 0) - max(right - size, 0)
    dy = max(-top, 0) - max(bottom - size, 0)
    moved = [
        placed._replace(x=placed.x + dx, y=placed.y + dy, depth=placed.depth + dy) for placed in row
    ]
    return [placed for placed in moved if _inside(placed, size)]


def _inside(placed: Placed, size: int) -> bool:
    h, w = placed.sprite.shape[:2]
    return placed.x >= 0 and placed.y >= 0 and placed.x + w <= size and placed.y + h <= size
