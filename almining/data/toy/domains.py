"""The hour of the day in the toy worlds: the same picture by day and at dusk, boxes unchanged.

A detector trained by day meets at dusk what a detector meets abroad: other colours, less light, a
little blur and a sensor's noise, over things that have not moved. This works on finished pictures
and knows nothing of what is in them, except that small pale yellow spots are lamps. It follows no
paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from almining.data.toy.pens import UNIT, Pixels

DOMAINS: tuple[str, ...] = ("day", "dusk")
NIGHT = np.array([0.40, 0.43, 0.68], np.float32)  # what is left of each colour far from the sun
SUNSET = np.array([0.56, 0.23, -0.07], np.float32)  # what is added to that where the sun went down
LAMPLIGHT = np.array([255, 190, 96], np.float32)
CHROMA = 0.8  # how much colour dim light leaves
BLUR = 0.55  # pixels of 128
NOISE = (5.0, 3.0)  # the standard deviation of brightness, and of each colour on its own, of 255


def check_domain(domain: object) -> None:
    """Raise unless there is such a domain."""
    if domain not in DOMAINS:
        raise ValueError(
            f"domain = {domain!r} is unknown; choose one of {', '.join(map(repr, DOMAINS))}"
        )


def render(image: Pixels, domain: str, rng: np.random.Generator) -> Pixels:
    """Return a picture as it looks at an hour of the day.

    Args:
        image: (h, w, 3) uint8, RGB, as drawn by day; it is not changed.
        domain: one of `DOMAINS`; `"day"` returns `image` itself and draws nothing from `rng`.
        rng: where the sun's place and the noise come from.

    Returns:
        (h, w, 3) uint8; nothing has moved.

    Raises:
        ValueError: for an unknown domain.

    >>> noon = np.full((64, 64, 3), 200, np.uint8)
    >>> render(noon, "dusk", np.random.default_rng(0)).max() < 200
    np.True_
    """
    check_domain(domain)
    return image if domain == "day" else _dusk(image, rng)


def _dusk(image: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    soft = Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR * width / UNIT))
    planes = np.asarray(soft).transpose(2, 0, 1).astype(np.float32, order="C")  # (3, h, w)
    grey = 0.3 * planes[0] + 0.59 * planes[1] + 0.11 * planes[2]  # (h, w)
    planes -= grey
    planes *= CHROMA
    planes += grey
    planes *= _daylight(height, width, rng)
    planes += _lamps(image)
    dice = rng.integers(0, 256, size=(8, height, width), dtype=np.uint8)
    grain = dice[:4].astype(np.int16) + dice[4:] - 255  # triangular, of deviation 104.5
    planes += grain[3] * np.float32(NOISE[0] / 104.5)
    planes += grain[:3] * np.float32(NOISE[1] / 104.5)
    np.clip(planes, 0, 255, out=planes)
    return np.ascontiguousarray(planes.astype(np.uint8).transpose(1, 2, 0))


def _daylight(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the colour of the light at each pixel (3, h, w): orange around a low sun."""
    sun_x, sun_y = rng.uniform(-0.1, 1.1), rng.uniform(0.2, 0.42)
    strength = rng.uniform(0.75, 1.1)
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width - np.float32(sun_x)) / 0.75
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - np.float32(sun_y)) / 0.42
    near = np.float32(strength) / (1 + (x * x)[None] + (y * y)[:, None])  # (h, w)
    return np.asarray(NIGHT[:, None, None] + near * SUNSET[:, None, None], np.float32)


def _lamps(image: Pixels) -> NDArray[np.float32] | float:
    """Return the light around spots of pale yellow (3, h, w), unless all around them is pale."""
    width = image.shape[1]
    red, green, blue = (image[:, :, channel].astype(np.int16) for channel in range(3))
    warmth = red - blue
    bulb = (red > 234) & (green * 10 > red * 9) & (warmth > 45) & (warmth < 100)
    if not bulb.any():
        return 0.0
    pale = (red > 150) & (green * 8 > red * 7) & (warmth > 22)
    filled = Image.fromarray(pale.view(np.uint8) * np.uint8(255))
    around = np.asarray(filled.filter(ImageFilter.BoxBlur(6 * width / UNIT)))
    lone = Image.fromarray(np.where(bulb & (around < 110), np.uint8(255), np.uint8(0)))
    core = np.asarray(lone.filter(ImageFilter.GaussianBlur(0.8 * width / UNIT)))
    halo = np.asarray(lone.filter(ImageFilter.GaussianBlur(4 * width / UNIT)))
    shine = core.astype(np.float32) * 0.0028 + halo.astype(np.float32) * 0.009  # (h, w)
    return np.minimum(shine, 0.9) * LAMPLIGHT[:, None, None]
