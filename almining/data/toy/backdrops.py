"""The places of the toy world: meadows, roads, shores and skies, without anything in them.

A backdrop is a gradient sky with clouds, a far skyline, a ground with its own marks, and noise of a
few octaves over everything. What stands there is in `almining.data.toy.sprites` and
`almining.data.toy.bystanders`. These drawings are ours and follow no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from almining.data.toy.pens import Colour, Points, dark, hsv, light, mix, smooth

Context = Literal["grass", "road", "water", "sky"]

SKIES = [  # at the top and at the horizon
    ((74, 148, 226), (202, 232, 250)),
    ((104, 168, 236), (226, 240, 250)),
    ((112, 132, 206), (255, 216, 186)),
    ((84, 84, 156), (250, 176, 140)),
    ((146, 164, 184), (216, 224, 230)),
    ((58, 156, 196), (214, 242, 236)),
]
TOWERS = [
    (178, 122, 108),
    (202, 172, 138),
    (132, 148, 170),
    (164, 156, 176),
    (188, 142, 96),
    (120, 134, 140),
]
FOAM = (244, 250, 250)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where things may stand, in pixels from the top.

    Args:
        context: what kind of place it is.
        horizon: where the sky ends.
        land: where the ground on which animals, cars and people stand begins.
        sea: where water begins and ends, or None.
    """

    context: Context
    horizon: float
    land: float
    sea: tuple[float, float] | None


def lay_ground(context: Context, size: int, rng: np.random.Generator) -> Ground:
    """Draw the lie of the land for a context, in a scene of `size` by `size` pixels."""
    if context == "water":
        horizon, shore = rng.uniform(0.26, 0.38) * size, rng.uniform(0.74, 0.84) * size
        return Ground(context, horizon, shore, (horizon, shore))
    low, high = {"grass": (0.3, 0.46), "road": (0.32, 0.44), "sky": (0.74, 0.86)}[context]
    horizon = rng.uniform(low, high) * size
    return Ground(context, horizon, horizon + (0.04 * size if context == "road" else 0), None)


def _gradient(top: Colour, bottom: Colour, width: int, height: int) -> Image.Image:
    steps = np.linspace(np.asarray(top, np.float64), np.asarray(bottom, np.float64), max(height, 1))
    return Image.fromarray(np.rint(steps).astype(np.uint8)[:, None]).resize(
        (width, max(height, 1)), Image.Resampling.NEAREST
    )


def _noise(
    rng: np.random.Generator, height: int, width: int, octaves: list[tuple[int, int, int]]
) -> np.ndarray:
    total = np.zeros((height, width), np.int32)
    for rows, columns, weight in octaves:
        cells = Image.fromarray(rng.integers(0, 256, size=(rows, columns), dtype=np.uint8))
        total += weight * (
            np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int32)
            - 128
        )
    return total


def _clouds(
    image: Image.Image, rng: np.random.Generator, count: int, bottom: float, tint: Colour
) -> None:
    side = image.width // 2
    mask = Image.new("L", (side, round(bottom) // 2))
    draw = ImageDraw.Draw(mask)
    for _ in range(count):
        x, y, r = (
            rng.uniform(0, side),
            rng.uniform(0.04, 0.8) * bottom / 2,
            rng.uniform(0.03, 0.065) * side,
        )
        for dx, dy, share in (
            (-2.0, 0.35, 0.65),
            (-1.0, -0.15, 0.95),
            (0.2, -0.45, 1.2),
            (1.4, 0.0, 0.9),
            (2.3, 0.4, 0.6),
        ):
            s = r * share * rng.uniform(0.8, 1.15)
            draw.ellipse(
                [x + dx * r - s, y + dy * r - s * 0.8, x + dx * r + s, y + dy * r + s * 0.7],
                fill=225,
            )
        draw.rounded_rectangle(
            [x - 2.6 * r, y + 0.2 * r, x + 2.9 * r, y + 0.85 * r], 0.3 * r, fill=225
        )
    mask = mask.resize((image.width, 2 * mask.height), Image.Resampling.BICUBIC)
    image.paste(dark(tint, 0.14), (0, max(image.width // 100, 1)), mask)
    image.paste(light(tint, 0.75), (0, 0), mask)


def _ridge(rng: np.random.Generator, width: int, base: float, rise: float, points: int) -> Points:
    xs = np.linspace(-0.1, 1.1, points) * width
    ys = base - rng.uniform(0.0, 1.0, size=points) * rise
    top = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    return smooth([*top, (1.2 * width, base + rise), (-0.2 * width, base + rise)])


def _far(
    image: Image.Image, ground: Ground, rng: np.random.Generator, haze: Colour, green: Colour
) -> None:
    """Draw what stands on the horizon: hills, and houses behind a road."""
    draw, side, base = ImageDraw.Draw(image), image.width, ground.horizon * 2
    for depth in range(int(rng.integers(1, 3))):
        colour = mix(mix(green, (96, 120, 150), 0.45), haze, 0.55 - 0.25 * depth)
        draw.polygon(
            _ridge(rng, side, base, (0.16 - 0.06 * depth) * side, 7 + 2 * depth).ravel().tolist(),
            fill=colour,
        )
    if ground.context == "road" and rng.uniform() < 0.75:
        x = -rng.uniform(0, 0.1) * side
        while x < side:
            wide, tall = rng.uniform(0.09, 0.2) * side, rng.uniform(0.1, 0.3) * side
            wall = mix(TOWERS[rng.integers(len(TOWERS))], haze, rng.uniform(0.2, 0.5))
            draw.rectangle([x, base - tall, x + wide, base], fill=wall)
            draw.rectangle(
                [x, base - tall, x + wide, base - tall + side / 64], fill=dark(wall, 0.25)
            )
            pane, step = (light(wall, 0.55), dark(wall, 0.3))[int(rng.integers(2))], side / 26
            for wy in np.arange(base - tall + step * 0.9, base - step * 0.6, step * 1.15).tolist():
                for wx in np.arange(x + step * 0.45, x + wide - step * 0.7, step).tolist():
                    draw.rectangle([wx, wy, wx + step * 0.45, wy + step * 0.6], fill=pane)
            x += wide + (rng.uniform(0.01, 0.12) * side if rng.uniform() < 0.3 else 0)
    elif ground.context != "water" and rng.uniform() < 0.6:
        x = 0.0
        while x < side:
            r, tree = (
                rng.uniform(0.012, 0.03) * side,
                mix(dark(green, rng.uniform(0.15, 0.35)), haze, 0.25),
            )
            draw.ellipse([x - r, base - 1.8 * r, x + r, base + 0.5 * r], fill=tree)
            x += r * rng.uniform(0.8, 3.5)


def _meadow(
    image: Image.Image, top: float, rng: np.random.Generator, green: Colour, haze: Colour
) -> None:
    side, start = image.width, round(top)
    image.paste(
        _gradient(mix(green, haze, 0.38), dark(green, 0.18), side, side - start), (0, start)
    )
    draw = ImageDraw.Draw(image)
    for x, depth, bend, shade in rng.uniform(0, 1, size=(34, 4)).tolist():
        y = top + (0.04 + 0.96 * depth) * (side - top)
        tall, tone = (
            side * (0.008 + 0.02 * depth),
            light(green, 0.25) if shade < 0.45 else dark(green, 0.3),
        )
        for lean in (-0.6, 0.1, 0.7):
            draw.line(
                [x * side, y, x * side + (lean + bend - 0.5) * tall, y - tall], fill=tone, width=2
            )


def _street(
    image: Image.Image, top: float, rng: np.random.Generator, green: Colour, haze: Colour
) -> None:
    side = image.width
    kerb = top + 0.09 * side
    stone, tar = (
        hsv(0.09, 0.08, rng.uniform(0.66, 0.8)),
        hsv(rng.uniform(0.55, 0.7), 0.08, rng.uniform(0.34, 0.5)),
    )
    if rng.uniform() < 0.4:
        _meadow(image, top, rng, green, haze)
        image.paste(stone, (0, round(kerb - 0.04 * side), side, round(kerb)))
    else:
        image.paste(
            _gradient(mix(stone, haze, 0.3), stone, side, round(kerb - top)), (0, round(top))
        )
    draw = ImageDraw.Draw(image)
    start = round(kerb)
    image.paste(_gradient(light(tar, 0.16), dark(tar, 0.1), side, side - start), (0, start))
    draw.rectangle([0, kerb - 0.012 * side, side, kerb + 0.006 * side], fill=light(stone, 0.5))
    draw.rectangle([0, kerb + 0.006 * side, side, kerb + 0.016 * side], fill=dark(stone, 0.4))
    paint = (250, 214, 110) if rng.uniform() < 0.3 else (232, 232, 226)
    shift = rng.uniform(0, 1)
    for share, dash in ((0.32, 0.1), (0.72, 0.17)):
        y, tall = kerb + share * (side - kerb), (0.008 + 0.012 * share) * side
        for i in range(-2, int(1 / dash)):
            x = (i + shift) * dash * 1.9 * side
            draw.polygon(
                [x, y, x + dash * side, y, x + dash * side - tall, y + tall, x - tall, y + tall],
                fill=paint,
            )


def _sea(image: Image.Image, ground: Ground, rng: np.random.Generator, haze: Colour) -> None:
    side, top, shore = image.width, round(ground.horizon * 2), ground.land * 2
    blue = hsv(rng.uniform(0.5, 0.62), rng.uniform(0.5, 0.75), rng.uniform(0.6, 0.85))
    near = mix(blue, (70, 190, 190), 0.35)
    image.paste(_gradient(mix(dark(blue, 0.15), haze, 0.3), near, side, side - top), (0, top))
    draw = ImageDraw.Draw(image)
    for x, depth, shade in rng.uniform(0, 1, size=(46, 3)).tolist():
        y, long = top + 4 + depth * (shore - top - 8), side * (0.012 + 0.05 * depth)
        tone = light(near, 0.15 + 0.45 * shade) if shade < 0.7 else dark(blue, 0.2)
        draw.arc(
            [x * side - long, y, x * side + long, y + long * 0.7],
            205,
            335,
            fill=tone,
            width=2 + int(depth * 1.6),
        )
    sand = hsv(rng.uniform(0.09, 0.125), rng.uniform(0.25, 0.42), rng.uniform(0.84, 0.95))
    xs = np.linspace(-0.1, 1.1, 41) * side
    ys = shore + _noise(rng, 1, 41, [(1, 7, 1)])[0] * (0.022 / 128 * side)
    for lift, colour in ((0.016, FOAM), (0.0, dark(sand, 0.22)), (-0.022, sand)):
        line = np.stack([xs, ys - lift * side], axis=1).ravel().tolist()
        draw.polygon([*line, 1.2 * side, 1.2 * side, -0.2 * side, 1.2 * side], fill=colour)


def draw_backdrop(ground: Ground, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw the place without anything in it: an RGB picture of `size` by `size` pixels."""
    side, horizon = 2 * size, ground.horizon * 2
    high, low = SKIES[rng.integers(len(SKIES))]
    haze, green = low, hsv(rng.uniform(0.2, 0.36), rng.uniform(0.4, 0.62), rng.uniform(0.55, 0.76))
    if rng.uniform() < 0.15:  # a ripe field
        green = hsv(rng.uniform(0.1, 0.15), rng.uniform(0.4, 0.55), rng.uniform(0.74, 0.88))
    image = Image.new("RGB", (side, side), low)
    image.paste(_gradient(high, low, side, round(horizon)))
    if rng.uniform() < 0.4:
        r, x, y = (
            rng.uniform(0.04, 0.07) * side,
            rng.uniform(0.08, 0.92) * side,
            rng.uniform(0.15, 0.6) * horizon,
        )
        draw = ImageDraw.Draw(image)
        for grow, share in ((2.0, 0.12), (1.5, 0.22), (1.0, 0.9)):
            tone = mix(mix(high, low, y / horizon), (255, 244, 196), share)
            draw.ellipse([x - r * grow, y - r * grow, x + r * grow, y + r * grow], fill=tone)
    many = (3, 7) if ground.context == "sky" else (0, 4)
    _clouds(image, rng, int(rng.integers(*many)), horizon, low)
    _far(image, ground, rng, haze, green)
    if ground.context == "water":
        _sea(image, ground, rng, haze)
    elif ground.context == "road":
        _street(image, horizon, rng, green, haze)
    else:
        _meadow(image, horizon, rng, green, haze)
    pixels = np.asarray(image.reduce(2), dtype=np.int32)
    line = round(ground.horizon)
    above = _noise(rng, line, size, [(3, 4, 3), (9, 9, 2)])
    below = _noise(rng, size - line, size, [(9, 4, 4), (28, 12, 4), (56, 48, 3)])
    texture = np.concatenate([above, below]) + rng.integers(
        -110, 111, size=(size, size), dtype=np.int32
    )
    return Image.fromarray(np.clip(pixels + (texture >> 5)[:, :, None], 0, 255).astype(np.uint8))
