"""What dials want of a group: inside the picture, or in front of something."""

from __future__ import annotations

import numpy as np
import pytest

from almining.data.toy.sight import Placed
from almining.data.toy.wishes import beside, moved_inside, step_before


def block(x: int, y: int, w: int = 20, h: int = 10, label: int = 4, depth: float = 0.0) -> Placed:
    return Placed(np.full((h, w, 4), 255, np.uint8), x, y, label, depth, True)


@pytest.mark.parametrize(
    ("at", "moved"),
    [((30, 40), (30, 40)), ((-5, -3), (0, 0)), ((115, 125), (108, 118)), ((0, 118), (0, 118))],
)
def test_what_sticks_out_is_moved_inside(at: tuple[int, int], moved: tuple[int, int]) -> None:
    (placed,) = moved_inside([block(*at, depth=50.0)], 128)
    assert (placed.x, placed.y) == moved
    assert placed.depth == 50.0 + moved[1] - at[1]  # what comes down comes nearer


def test_a_row_moves_as_one_and_loses_what_cannot_fit() -> None:
    row = moved_inside([block(-10, 50), block(5, 52)], 128)
    assert [(placed.x, placed.y) for placed in row] == [(0, 50), (15, 52)]
    wide = moved_inside([block(-10, 50), block(60, 50), block(125, 50)], 128)
    assert all(placed.x >= 0 and placed.x + 20 <= 128 for placed in wide) and len(wide) < 3
    assert moved_inside([block(0, 0, w=200)], 128) == []


def test_beside_overlaps_what_shares_most_rows() -> None:
    low, high = block(80, 100), block(10, 20)
    for seed in range(10):
        x = beside([low, high], 55.0, (98.0, 112.0), 30.0, np.random.default_rng(seed))
        over = min(x + 30, 100) - max(x, 80)
        assert 0.25 * 20 <= over <= 0.5 * 20
    assert beside([high], 55.0, (98.0, 112.0), 30.0, np.random.default_rng(0)) == 55.0
    assert beside([], 55.0, (98.0, 112.0), 30.0, np.random.default_rng(0)) == 55.0


def test_a_bystander_steps_before_an_object_near_it() -> None:
    target, near, far = block(50, 60), block(10, 65, label=0), block(90, 5, label=0)
    for seed in range(10):
        found = step_before(target, [far, target, near], 128, np.random.default_rng(seed))
        assert found is not None and found[0] is near
        moved = found[1]
        assert moved.depth > target.depth and moved.y + 10 > target.y + 10 - 1
        assert 0.25 * 20 <= min(moved.x + 20, 70) - max(moved.x, 50) <= 0.65 * 20
    assert step_before(target, [far, target], 128, np.random.default_rng(0)) is None
