"""Drawings of single objects: what a class wears of its own, and where its wheels are."""

from __future__ import annotations

import numpy as np
import pytest

from almining.data.toy import sprites
from almining.data.toy.sprites import CLASSES, draw_sprite, draw_with_wheels


def test_at_no_likeness_a_class_is_told_by_its_body() -> None:
    def body(label: int, seed: int) -> np.ndarray:
        sprite = draw_sprite(label, 60.0, np.random.default_rng(seed), own=True)
        h, w = sprite.shape[:2]
        part = sprite[h * 2 // 5 : h * 7 // 10, w // 5 : w // 2].reshape(-1, 4)
        return np.asarray(part[part[:, 3] > 250, :3].astype(float).mean(axis=0))

    for seed in range(30):
        cat, dog, sheep, car, taxi = (body(label, seed) for label in range(1, 6))
        assert cat[0] - cat[2] > 70  # orange
        assert dog.mean() < 140 < sheep.mean()  # dark, white
        assert np.ptp(sheep) < 30
        assert taxi[0] > 1.5 * taxi[2]
        assert not (car[0] > 1.35 * car[2] and 0.7 * car[0] < car[1] < 1.1 * car[0])


@pytest.mark.parametrize("label", range(1, 9))
def test_own_colours_leave_the_outline_and_the_generator_alone(label: int) -> None:
    for seed in range(6):
        rngs = [np.random.default_rng(seed) for _ in range(2)]
        alike, own = (
            draw_sprite(label, 40.0, rng, own=flag)
            for rng, flag in zip(rngs, (False, True), strict=True)
        )
        assert np.array_equal(alike[:, :, 3], own[:, :, 3])
        assert rngs[0].uniform() == rngs[1].uniform()
        assert CLASSES[label - 1] in sprites.OWN or np.array_equal(alike, own)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [5.5, 12.0, 40.0, 66.0])
def test_a_wheel_lies_where_it_is_drawn(
    size: float, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        drawn = []
        for tone in (0, 255):
            monkeypatch.setattr(
                sprites,
                "_wheel",
                lambda pen, x, y, tone=tone: pen.oval(x, y, 10.5, 10.5, (tone, tone, tone)),
            )
            rng = np.random.default_rng(seed)
            drawn.append(draw_with_wheels(4, size, rng, mirrored=mirrored))
        (dark, wheels), (light, _) = drawn
        share = (light[:, :, 0].astype(float) - dark[:, :, 0]) / 255
        share /= np.linspace(276, 214, len(share))[:, None] / 256  # lit from above
        share *= dark[:, :, 3] / 255  # at its edge a drawing covers part of a pixel
        both = wheels[0] | wheels[1]
        assert len(wheels) == 2 and all(wheel.any() for wheel in wheels)
        assert (dark[:, :, 3][both] >= 128).all() or size < 12
        if size >= 12:
            assert not (wheels[0] & wheels[1]).any()
            assert both[share > 0.56].all() and (share[both] > 0.44).all()
            centres = [np.nonzero(wheel)[1].mean() for wheel in wheels]
            assert (centres[0] > centres[1]) == mirrored  # the rear wheel comes first


def test_only_cars_and_taxis_have_wheels() -> None:
    for label, name in enumerate(CLASSES, start=1):
        plain = draw_sprite(label, 30.0, np.random.default_rng(1), mirrored=True)
        sprite, wheels = draw_with_wheels(label, 30.0, np.random.default_rng(1), mirrored=True)
        assert np.array_equal(plain, sprite)
        assert len(wheels) == (2 if name in ("car", "taxi") else 0)
