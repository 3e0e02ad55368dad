"""How fast scenes are drawn: pytest -n 0 --benchmark-enable tests/bench/bench_scenes.py."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from almining.data.scenes import draw_icon, draw_scene, make_scenes


@pytest.mark.parametrize("density", ["voc", "coco"])
def test_scenes_per_second(benchmark: Any, density: str) -> None:
    indices = count()
    scene = benchmark(lambda: draw_scene(0, next(indices) % 64, density=density))
    assert len(scene.labels) >= 1


@pytest.mark.parametrize(
    "dials",
    [
        {"rows": 1.0, "row_length": 5, "closeness": 1.0},
        {"occlusion": 1.0, "truncation": 1.0, "clutter": 4.0},
        {"occlusion": 0.0, "truncation": 0.0},
        {"parts": True},
        {"domain": "dusk"},
    ],
    ids=str,
)
def test_scenes_of_other_worlds_per_second(benchmark: Any, dials: dict[str, Any]) -> None:
    indices = count()
    scene = benchmark(lambda: draw_scene(0, next(indices) % 64, **dials))
    assert len(scene.labels) >= 1


def test_icons_per_second(benchmark: Any) -> None:
    indices = count()
    image, _ = benchmark(lambda: draw_icon(0, next(indices) % 64))
    assert image.shape == (64, 64, 3)


def test_kept_images_per_second(benchmark: Any) -> None:
    pool = make_scenes(8, seed=0)
    indices = count()
    image = benchmark(lambda: pool.image(pool.ids[next(indices) % 8]))
    assert tuple(image.shape) == (3, 128, 128)
