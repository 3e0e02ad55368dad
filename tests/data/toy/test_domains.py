"""Day and dusk: the same picture, in other light."""

from __future__ import annotations

import numpy as np
import pytest

from almining.data.scenes import draw_scene
from almining.data.toy.domains import DOMAINS, render


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_day_is_the_picture_itself_and_draws_nothing() -> None:
    image, rng = draw_scene(0, 0).image, seeded()
    assert render(image, "day", rng) is image
    assert rng.uniform() == seeded().uniform()


@pytest.mark.parametrize("shape", [(128, 128), (96, 160), (1, 1)])
def test_dusk_keeps_the_shape_and_the_picture_it_was_given(shape: tuple[int, int]) -> None:
    image = seeded(3).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    before = image.copy()
    dusk = render(image, "dusk", seeded())
    assert dusk.shape == image.shape and dusk.dtype == np.uint8 and dusk.flags.c_contiguous
    assert np.array_equal(image, before)
    assert not np.shares_memory(dusk, image)


def test_dusk_is_a_function_of_the_generator() -> None:
    image = draw_scene(0, 1).image
    assert np.array_equal(render(image, "dusk", seeded(5)), render(image, "dusk", seeded(5)))
    assert not np.array_equal(render(image, "dusk", seeded(5)), render(image, "dusk", seeded(6)))


def test_dusk_is_darker_and_far_from_the_sun_bluer() -> None:
    grey = np.full((128, 128, 3), 180, np.uint8)
    for seed in range(5):
        dusk = render(grey, "dusk", seeded(seed)).astype(float)
        assert 50 < dusk.mean() < 140
        bottom, whole = dusk[-16:].mean(axis=(0, 1)), dusk.mean(axis=(0, 1))
        assert bottom[2] > bottom[0]  # blue in the shade
        assert whole[0] / whole[2] > bottom[0] / bottom[2]  # warmer towards the sun


def test_nothing_moves_at_dusk() -> None:
    image = np.full((128, 128, 3), 40, np.uint8)
    image[50:70, 30:60] = 220
    bright = render(image, "dusk", seeded()).mean(axis=2) > 65
    rows, columns = np.nonzero(bright[40:80, 20:70])
    box = columns.min() + 20, rows.min() + 40, columns.max() + 21, rows.max() + 41
    assert np.abs(np.subtract(box, (30, 50, 60, 70))).max() <= 1


def test_a_lone_lamp_shines_and_a_beach_does_not() -> None:
    lamp = np.full((128, 128, 3), 120, np.uint8)
    beach = lamp.copy()
    lamp[40:44, 60:64] = (255, 240, 186)
    beach[20:100, 20:120] = (255, 240, 186)
    plain, shining, dull = (
        render(image, "dusk", seeded(2)).astype(int)
        for image in (np.full_like(lamp, 120), lamp, beach)
    )
    assert shining[40:44, 60:64].min() > 150  # as bright as by day
    assert (shining - plain)[36:39, 58:66].mean() > 5  # and light around it
    assert dull[40:60, 60:80].mean() < 200


def test_an_unknown_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="domain = 'noon' is unknown; choose one of 'day', 'dusk'"):
        render(np.zeros((8, 8, 3), np.uint8), "noon", seeded())
    assert DOMAINS == ("day", "dusk")
