"""A pen that draws cartoons: shapes in units on an enlarged canvas, reduced to smooth their edges.

Colours are 8-bit RGB; units are the drawing's own, some hundred to an object, x to the right and y
downwards. What is drawn is in `sprites`, `bystanders` and `backdrops`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
Ink = Colour | int  # a number where a mask is drawn
Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Drawing = tuple[Callable[["Pen", np.random.Generator], None], float, float, float]

UNIT = 128.0  # sizes in pixels are meant for pictures this high
OVERSAMPLING = 3
MARGIN = 3.0  # units around a drawing, for what sticks out
SOLID = 1  # the ink of masks
WHITE, BLACK, SHADE = (250, 250, 246), (30, 30, 36), (18, 20, 38)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the 8-bit colour of a hue, saturation and value, each in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return colour `a` with this share of `b` in it."""
    (red, green, blue), (to_red, to_green, to_blue) = a, b
    return (
        round(red + (to_red - red) * share),
        round(green + (to_green - green) * share),
        round(blue + (to_blue - blue) * share),
    )


def dark(colour: Colour, share: float = 0.5) -> Colour:
    """Return the colour with this share of a deep blue-black in it."""
    return mix(colour, (22, 20, 34), share)


def light(colour: Colour, share: float = 0.5) -> Colour:
    """Return the colour with this share of white in it."""
    return mix(colour, (255, 255, 255), share)


def vivid(rng: np.random.Generator) -> Colour:
    """Return a lively colour of any hue."""
    return hsv(rng.uniform(), rng.uniform(0.5, 0.85), rng.uniform(0.62, 0.96))


def smooth(points: Sequence[tuple[float, float]], steps: int = 6) -> Points:
    """Return the closed curve (steps * n, 2) through n points, as a Catmull-Rom spline."""
    p1 = np.asarray(points, dtype=np.float64)  # (n, 2)
    p0, p2, p3 = np.roll(p1, 1, axis=0), np.roll(p1, -1, axis=0), np.roll(p1, -2, axis=0)
    t = (np.arange(steps) / steps)[:, None, None]
    curve = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
    curve = (curve + (3 * p1 - p0 - 3 * p2 + p3) * t**3) / 2  # (steps, n, 2)
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _shadow() -> Image.Image:
    y, x = np.mgrid[-31.5:32, -31.5:32] / 32
    return Image.fromarray((np.clip(1.25 - 1.25 * (x * x + y * y), 0, 1) * 120).astype(np.uint8))


SHADOW = _shadow()


def cast_shadow(h: int, w: int) -> tuple[Image.Image, int, int]:
    """Return the shadow of a drawing (h, w) on the ground, and its left and top edge within it."""
    wide, tall = max(round(w * 1.16), 3), max(round(min(h, w) * 0.28), 3)
    soft = SHADOW.resize((wide, tall), Image.Resampling.BILINEAR)
    return soft, (w - wide) // 2, h - round(tall * 0.62)


class Pen:
    """Draws shapes given in units onto an enlarged canvas, and reduces it.

    Args:
        width: of the drawing, in units.
        height: of the drawing, in units.
        scale: pixels per unit in the finished picture.
    """

    def __init__(self, width: float, height: float, scale: float) -> None:
        """Prepare an empty canvas."""
        self.k = scale * OVERSAMPLING
        self.stroke = max(round(1.8 * self.k), 2)
        step = OVERSAMPLING
        size = [-(-int((side + 2 * MARGIN) * self.k) // step) * step for side in (width, height)]
        self.image = Image.new("RGBA", (size[0], size[1]))
        self.draw = ImageDraw.Draw(self.image)

    def _flat(self, points: Points | Sequence[tuple[float, float]]) -> list[float]:
        if isinstance(points, np.ndarray):
            scaled: list[float] = ((points + MARGIN) * self.k).ravel().tolist()
            return scaled
        return [(at + MARGIN) * self.k for point in points for at in point]

    def poly(
        self, points: Points | Sequence[tuple[float, float]], fill: Ink, edge: Colour | None = None
    ) -> None:
        """Fill the polygon (n, 2), and line its edge."""
        flat = self._flat(points)
        self.draw.polygon(flat, fill=fill)
        if edge is not None:
            self.draw.line(flat + flat[:4], fill=edge, width=self.stroke)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Ink, edge: Colour | None = None
    ) -> None:
        """Fill the ellipse about (x, y), and line its edge."""
        flat = self._flat([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.ellipse(flat, fill=fill, outline=edge, width=self.stroke if edge else 0)

    def slab(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        fill: Ink,
        edge: Colour | None = None,
        round_by: float = 0,
    ) -> None:
        """Fill the rectangle, with corners rounded by so many units, and line its edge."""
        left, top, right, bottom = (round(at) for at in self._flat([(x1, y1), (x2, y2)]))
        flat, width = [left, top, right, bottom], self.stroke if edge else 0
        radius = min(round(round_by * self.k), (min(right - left, bottom - top) - 3) // 2)
        if radius > 0:  # Pillow fails where nothing is left between two corners
            self.draw.rounded_rectangle(flat, radius, fill=fill, outline=edge, width=width)
        else:
            self.draw.rectangle(flat, fill=fill, outline=edge, width=width)

    def line(self, points: Sequence[tuple[float, float]], fill: Ink, width: float) -> None:
        """Draw a line through the points, so many units wide, with round ends."""
        flat = self._flat(points)
        self.draw.line(flat, fill=fill, width=max(round(width * self.k), 1), joint="curve")
        r = width / 2
        for x, y in (points[0], points[-1]):
            self.oval(x, y, r, r, fill)

    def arc(
        self, x: float, y: float, r: float, start: float, end: float, fill: Ink, width: float
    ) -> None:
        """Draw an arc from one angle to another, in degrees, clockwise from three o'clock."""
        flat = self._flat([(x - r, y - r), (x + r, y + r)])
        self.draw.arc(flat, start, end, fill=fill, width=max(round(width * self.k), 1))

    def dome(self, x1: float, y1: float, x2: float, y2: float, fill: Ink) -> None:
        """Fill the upper half of the ellipse in this rectangle."""
        self.draw.pieslice(self._flat([(x1, y1), (x2, y2)]), 180, 360, fill=fill)

    @contextmanager
    def within(self, points: Points, fill: Colour) -> Iterator[Pen]:
        """Colour what this block's pen draws in `SOLID`, where it lies in the polygon (n, 2)."""
        layer = Pen.__new__(Pen)
        layer.k, layer.stroke = self.k, self.stroke
        layer.image, shape = Image.new("1", self.image.size), Image.new("1", self.image.size)
        layer.draw = ImageDraw.Draw(layer.image)
        yield layer
        ImageDraw.Draw(shape).polygon(self._flat(points), fill=SOLID)
        self.image.paste(fill, mask=ImageChops.logical_and(layer.image, shape))

    def outline(self, points: Points, edge: Colour) -> None:
        """Line the edge of the polygon (n, 2) without filling it."""
        flat = self._flat(points)
        self.draw.line(flat + flat[:4], fill=edge, width=self.stroke)

    def finish(self, *, mirrored: bool = False, angle: float = 0.0) -> Pixels:
        """Return the picture (h, w, 4), lit from above, cut to what is at least half opaque."""
        pixels, rows, columns = self.reduced(angle)
        pixels = pixels[rows, columns]
        if mirrored:
            pixels = pixels[:, ::-1]
        shade = np.linspace(276, 214, len(pixels)).astype(np.int32)[:, None, None]  # of 256
        rgb = np.minimum(pixels[:, :, :3].astype(np.int32) * shade >> 8, 255)
        return np.concatenate([rgb.astype(np.uint8), pixels[:, :, 3:]], axis=2)

    def trace(
        self, x: float, y: float, r: float, *, mirrored: bool = False, angle: float = 0.0
    ) -> Mask:
        """Return where a disc about (x, y) lies in the finished picture: (h, w), at least a pixel.

        A pixel belongs to the disc when at least half of it does.
        """
        layer = Image.new("L", self.image.size)
        ImageDraw.Draw(layer).ellipse(self._flat([(x - r, y - r), (x + r, y + r)]), fill=255)
        layer = layer if angle == 0 else layer.rotate(angle, expand=True)
        _, rows, columns = self.reduced(angle)
        share = np.asarray(layer.reduce(OVERSAMPLING))[rows, columns]
        if mirrored:
            share = share[:, ::-1]
        return share >= min(128, int(share.max()))

    def reduced(self, angle: float = 0.0) -> tuple[Pixels, slice, slice]:
        """Return the turned, reduced canvas, and the rows and columns that are half opaque."""
        image = self.image if angle == 0 else self.image.rotate(angle, expand=True)
        pixels = np.asarray(image.reduce(OVERSAMPLING))
        alpha = pixels[:, :, 3]
        solid = alpha >= min(128, int(alpha.max()))
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        return pixels, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
