"""Slow and obvious answers about drawings: what is seen of each, and what they hash to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from almining.data.toy.sight import Placed
from almining.data.toy.staging import Scene
from almining.data.toy.street_film import Frame


def digest(drawn: Iterable[Scene | Frame]) -> str:
    made = hashlib.sha256()
    for one in drawn:
        for part in one:
            made.update(np.ascontiguousarray(part).tobytes())
    return made.hexdigest()[:24]


def seen_oracle(order: list[Placed], size: int) -> list[list[tuple[int, int]]]:
    """List the (x, y) at which each drawing is seen: pixel by pixel, the last one there."""
    seen: list[list[tuple[int, int]]] = [[] for _ in order]
    alphas = [placed.sprite[:, :, 3].tolist() for placed in order]
    for y in range(size):
        for x in range(size):
            for position in reversed(range(len(order))):
                placed, alpha = order[position], alphas[position]
                dx, dy = x - placed.x, y - placed.y
                inside = 0 <= dy < len(alpha) and 0 <= dx < len(alpha[0])
                if inside and alpha[dy][dx] >= 128:
                    seen[position].append((x, y))
                    break
    return seen


def box_of(pixels: list[tuple[int, int]]) -> list[int]:
    xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
