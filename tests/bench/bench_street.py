"""How fast frames are drawn: pytest -n 0 --benchmark-enable tests/bench/bench_street.py."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from almining.data.street import draw_frame, make_street
from almining.data.toy.street_view import draw_scenery


@pytest.mark.parametrize("domain", ["day", "dusk"])
@pytest.mark.parametrize("busy", [0.2, 1.0])
def test_frames_per_second(benchmark: Any, busy: float, domain: str) -> None:
    frames = count()
    frame = benchmark(lambda: draw_frame(0, 0, next(frames), busy=busy, domain=domain))
    assert frame.image.shape == (128, 192, 3)


def test_sceneries_per_second(benchmark: Any) -> None:
    videos = count()
    scenery = benchmark(lambda: draw_scenery(0, next(videos), 128, 192))
    assert scenery.sky.width > 192


def test_annotated_frames_per_second(benchmark: Any) -> None:
    seeds = count()
    pool = benchmark(lambda: make_street(2, 50, seed=next(seeds)))
    assert len(pool) == 100


def test_kept_images_per_second(benchmark: Any) -> None:
    pool = make_street(1, 8, seed=0)
    frames = count()
    image = benchmark(lambda: pool.image(pool.ids[next(frames) % 8]))
    assert tuple(image.shape) == (3, 128, 192)
