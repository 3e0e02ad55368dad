"""What is seen of each thing in a scene of the toy world, pixel by pixel.

Whether that is enough, for an object, the head of an animal and a wheel, is decided here as well;
what is then done about it is `almining.data.toy.staging`'s business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from almining.data.toy.animals import HEAD
from almining.data.toy.pens import UNIT, Mask, Pixels
from almining.data.toy.sprites import HEADED
from almining.data.toy.worlds import World

HEAD_SEEN = 0.35  # the least share of an animal's head that must be seen, in any world


class Placed(NamedTuple):
    """A drawing and where it lies.

    Args:
        sprite: (h, w, 4) uint8, RGBA.
        x: of its left edge, in pixels; may be negative.
        y: of its top edge.
        label: 1...8, or 0 for a bystander.
        depth: painted in ascending order.
        shadow: does it stand on the ground?
        mirrored: does it face left?
        parts: where each part that is a class of its own lies in the drawing: masks (h, w).
    """

    sprite: Pixels
    x: int
    y: int
    label: int
    depth: float
    shadow: bool
    mirrored: bool = False
    parts: tuple[Mask, ...] = ()


def find_owners(order: list[Placed], size: int) -> NDArray[np.int16]:
    """Return which drawing is seen at each pixel (size, size): its position in `order`, or -1."""
    owners = np.full((size, size), -1, np.int16)
    for position, placed in enumerate(order):
        rows, columns, inner = window(placed.sprite.shape, placed.x, placed.y, owners.shape)
        owners[rows, columns][placed.sprite[:, :, 3][inner] >= 128] = position
    return owners


def see(owners: NDArray[np.int16], position: int, placed: Placed) -> Mask:
    """Return which pixels of a drawing are seen: (h, w), its own."""
    rows, columns, inner = window(placed.sprite.shape, placed.x, placed.y, owners.shape)
    seen = np.zeros(placed.sprite.shape[:2], np.bool_)
    seen[inner] = owners[rows, columns] == position
    return seen


def window(
    shape: tuple[int, ...], x: int, y: int, size: tuple[int, ...]
) -> tuple[slice, slice, tuple[slice, slice]]:
    """Return the rows and columns a drawing at (x, y) covers, and which of its own those are."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(min(y + shape[0], size[0]), top), max(min(x + shape[1], size[1]), left)
    return (
        slice(top, bottom),
        slice(left, right),
        (slice(top - y, bottom - y), slice(left - x, right - x)),
    )


def all_seen(order: list[Placed], size: int, world: World) -> bool:
    """Tell whether enough is seen of everything, and no box is thinner than 4 pixels of 128."""
    owners = find_owners(order, size)
    for position, placed in enumerate(order):
        if not placed.label and world.occlusion >= 0.5:
            continue
        seen, solid = see(owners, position, placed), placed.sprite[:, :, 3] >= 128
        many = np.count_nonzero(seen)
        if world.occlusion < 0.5:  # above that, the next condition says more
            inner = window(placed.sprite.shape, placed.x, placed.y, owners.shape)[2]
            inside = np.count_nonzero(solid[inner])
            if inside - many > world.most_hidden * inside:
                return False
        if placed.label and not (
            many >= world.least_seen * np.count_nonzero(solid)
            and (placed.label > HEADED or _head_seen(seen, solid, placed.mirrored))
            and _wide_enough(seen, max(3, round(4 * size / UNIT)))
            and all(_part_seen(seen, part, world) for part in placed.parts)
        ):
            return False
    return True


def _head_seen(seen: Mask, solid: Mask, mirrored: bool) -> bool:
    """Tell whether enough is seen of an animal's head, given what is seen of it (h, w)."""
    h, w = solid.shape
    width = round((1 - HEAD[0]) * w)
    left = 0 if mirrored else w - width
    head = slice(0, round(HEAD[1] * h)), slice(left, left + width)
    return bool(np.count_nonzero(seen[head]) >= HEAD_SEEN * np.count_nonzero(solid[head]))


def _wide_enough(seen: Mask, least: int) -> bool:
    x1, y1, x2, y2 = extent(seen)
    return min(x2 - x1, y2 - y1) >= least


def _part_seen(seen: Mask, part: Mask, world: World) -> bool:
    """Tell whether either nothing or enough is seen of a part: what is in between has no box."""
    many = np.count_nonzero(seen & part)
    return many == 0 or bool(many >= world.least_seen * np.count_nonzero(part))


def extent(mask: Mask, x: int = 0, y: int = 0) -> tuple[int, int, int, int]:
    """Return the box x1, y1, x2, y2 around what is set in a mask (h, w), which begins at (x, y)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]) + x, int(rows[0]) + y, int(columns[-1]) + 1 + x, int(rows[-1]) + 1 + y
