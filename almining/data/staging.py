"""Where things stand in a scene of the toy world, so that a box is exactly what can be seen.

Objects stand in rows, hide one another and leave the picture; one that would be too hidden, or
would hide another too much, is put elsewhere or left out before anything is painted. So nothing
that could be seen lacks a box. The scenes themselves are in `almining.data.scenes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from almining.data.backdrops import Context, Ground, draw_backdrop, lay_ground
from almining.data.bystanders import FOUND, draw_bystander
from almining.data.pens import Pixels
from almining.data.sprites import CLASSES, HEAD, HEADED, draw_sprite
from almining.rng import derive

CONTEXTS: tuple[Context, ...] = ("grass", "road", "water", "sky")
HOMES = {  # the share of a class that lives in each context, in the order of CONTEXTS
    "cat": (1, 0, 0, 0),
    "dog": (1, 0, 0, 0),
    "sheep": (1, 0, 0, 0),
    "car": (0, 1, 0, 0),
    "taxi": (0, 1, 0, 0),
    "boat": (0, 0, 1, 0),
    "plane": (0, 0, 0, 1),
    "person": (0.35, 0.4, 0.25, 0),
}
GOLDEN = 0.6180339887498949  # its multiples, modulo 1, cover [0, 1) evenly
STRAY = 0.15  # the probability that a group is of any class, wherever it is
ROW = 0.4  # the probability that a group is a row of two or three
VISIBLE = 0.35  # the least share of an object that must be seen
TRIES = 8
UNIT = 128.0  # sizes in pixels are meant for scenes this large


@dataclass(frozen=True, slots=True)
class Density:
    """How many objects a scene holds, and how large they are.

    Args:
        groups: the probability of `first`, `first + 1`, ... groups.
        first: the least number of groups.
        middle: the middle size of an object, the square root of its box's area, in pixels of 128.
        spread: the standard deviation of the logarithm of the size.
        limits: the least and greatest size.
    """

    groups: tuple[float, ...]
    first: int
    middle: float
    spread: float
    limits: tuple[float, float]


DENSITIES = {
    "voc": Density((0.5, 0.38, 0.12), 1, 37.5, 0.33, (18.0, 66.0)),
    "coco": Density((0.4, 0.4, 0.2), 4, 21.5, 0.36, (11.0, 48.0)),
}


class Scene(NamedTuple):
    """One drawn scene.

    Args:
        image: (h, w, 3) uint8, RGB.
        boxes: (n, 4) float32, xyxy in pixels: what is visible of each object, from the farthest
            to the nearest.
        labels: (n,) int64, 1...8.
    """

    image: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


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
    """

    sprite: Pixels
    x: int
    y: int
    label: int
    depth: float
    shadow: bool
    mirrored: bool = False


def cut(placed: Placed, size: int) -> tuple[slice, slice, Pixels]:
    """Return the rows and columns a drawing covers, and its part (h, w, 4) that lies there."""
    h, w = placed.sprite.shape[:2]
    top, left = max(placed.y, 0), max(placed.x, 0)
    bottom, right = max(min(placed.y + h, size), top), max(min(placed.x + w, size), left)
    part = placed.sprite[top - placed.y : bottom - placed.y, left - placed.x : right - placed.x]
    return slice(top, bottom), slice(left, right), part


def find_owners(order: list[Placed], size: int) -> NDArray[np.int16]:
    """Return which drawing is seen at each pixel (size, size): its position in `order`, or -1."""
    owners = np.full((size, size), -1, np.int16)
    for position, placed in enumerate(order):
        rows, columns, part = cut(placed, size)
        owners[rows, columns][part[:, :, 3] >= 128] = position
    return owners


def _all_seen(order: list[Placed], size: int) -> bool:
    """Tell whether enough is seen of every object, and no box is thinner than 4 pixels of 128."""
    owners = find_owners(order, size)
    seen = np.bincount(owners[owners >= 0].ravel(), minlength=len(order))
    for position, placed in enumerate(order):
        if placed.label == 0:
            continue
        if seen[position] < VISIBLE * np.count_nonzero(placed.sprite[:, :, 3] >= 128):
            return False
        if placed.label <= HEADED and not _head_seen(owners == position, placed):
            return False
        x1, y1, x2, y2 = extent(owners == position)
        if min(x2 - x1, y2 - y1) < max(3, round(4 * size / UNIT)):
            return False
    return True


def _head_seen(mask: NDArray[np.bool_], placed: Placed) -> bool:
    """Tell whether enough is seen of an animal's head, given where the animal is seen (h, w)."""
    h, w = placed.sprite.shape[:2]
    bottom, width = round(HEAD[1] * h), round((1 - HEAD[0]) * w)
    left = 0 if placed.mirrored else w - width
    whole = np.count_nonzero(placed.sprite[:bottom, left : left + width, 3] >= 128)
    rows = slice(max(placed.y, 0), max(placed.y + bottom, 0))
    columns = slice(max(placed.x + left, 0), max(placed.x + left + width, 0))
    return bool(np.count_nonzero(mask[rows, columns]) >= VISIBLE * whole)


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the box x1, y1, x2, y2 around what is set in a mask (h, w), not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _shadow() -> Image.Image:
    y, x = np.mgrid[-31.5:32, -31.5:32] / 32
    return Image.fromarray((np.clip(1.25 - 1.25 * (x * x + y * y), 0, 1) * 120).astype(np.uint8))


SHADOW = _shadow()


def paint(backdrop: Image.Image, order: list[Placed]) -> Pixels:
    """Return the picture (h, w, 3): every drawing in order, each with its shadow beneath."""
    image = backdrop.copy()
    for placed in order:
        h, w = placed.sprite.shape[:2]
        if placed.shadow:
            wide, tall = max(round(w * 1.16), 3), max(round(min(h, w) * 0.28), 3)
            soft = SHADOW.resize((wide, tall), Image.Resampling.BILINEAR)
            image.paste(
                (18, 20, 38), (placed.x + (w - wide) // 2, placed.y + h - round(tall * 0.62)), soft
            )
        drawing = Image.fromarray(placed.sprite)
        image.paste(drawing, (placed.x, placed.y), drawing)
    return np.array(image)


@dataclass(frozen=True, slots=True)
class Painter:
    """Draws scenes of one kind; every scene is a function of (seed, index) and of these fields.

    Args:
        density: `"voc"` or `"coco"`.
        size: height and width of a scene, in pixels.
        balance: the weight of each of the eight classes.
    """

    density: str
    size: int
    balance: tuple[float, ...]

    def plan(self, seed: int, index: int) -> tuple[Image.Image, list[Placed]]:
        """Return the backdrop, and what stands before it, in painting order."""
        rng = np.random.default_rng(derive(seed, "scene", index))
        density = DENSITIES[self.density]
        weights = np.asarray(self.balance) / sum(self.balance)
        joint = weights[:, None] * np.asarray([HOMES[name] for name in CLASSES])  # (8, 4)
        turn = (derive(seed, "turn") / 2**63 + GOLDEN * index) % 1.0
        cells = np.flatnonzero(joint)
        drawn = int(np.searchsorted(joint.ravel()[cells].cumsum(), turn, side="right"))
        first, at = divmod(int(cells[min(drawn, len(cells) - 1)]), len(CONTEXTS))
        at_home = joint[:, at] / joint[:, at].sum()
        ground = lay_ground(CONTEXTS[at], self.size, rng)
        backdrop = draw_backdrop(ground, self.size, rng)
        order = [self._bystander(ground, rng) for _ in range(int(rng.integers(2, 7)))]
        order.sort(key=lambda placed: placed.depth)
        groups = density.first + int(rng.choice(len(density.groups), p=density.groups))
        for group in range(groups):
            stray = rng.uniform() < STRAY
            drawn = int(rng.choice(len(CLASSES), p=weights if stray else at_home))
            label = 1 + (drawn if group or stray else first)
            order = self._with_group(order, label, ground, rng)
        while not any(placed.label for placed in order):
            order = self._with_group(order, first + 1, ground, rng)
        return backdrop, order

    def _scale(self, rng: np.random.Generator) -> float:
        density = DENSITIES[self.density]
        size = density.middle * float(np.exp(density.spread * rng.standard_normal()))
        return min(max(size, density.limits[0]), density.limits[1]) * self.size / UNIT

    def _stand(
        self, size: float, ground: Ground, zone: tuple[float, float], rng: np.random.Generator
    ) -> float:
        """Return where the foot of an object lies: the larger, the nearer and lower."""
        low, high = (limit * self.size / UNIT for limit in DENSITIES[self.density].limits)
        near = min(max((size - low) / (high - low), 0.0), 1.0) ** 0.7
        share = min(max(0.1 + 0.86 * near + rng.uniform(-0.14, 0.14), 0.06), 1.06)
        return zone[0] + share * (zone[1] - zone[0])

    def _bystander(self, ground: Ground, rng: np.random.Generator) -> Placed:
        size = min(self._scale(rng), DENSITIES[self.density].middle * self.size / UNIT)
        aloft = rng.uniform() < (0.55 if ground.context == "sky" else 0.3)
        names = FOUND[ground.context][int(aloft)]
        sprite = draw_bystander(names[rng.integers(len(names))], size, rng)
        h, w = sprite.shape[:2]
        x = round(rng.uniform(-0.05, 1.05) * self.size - w / 2)
        if aloft and ground.sea is None:
            return Placed(
                sprite, x, round(rng.uniform(0.02, 0.7) * ground.horizon - h / 4), 0, -size, False
            )
        foot = self._stand(
            size, ground, ground.sea if aloft and ground.sea else (ground.land, self.size), rng
        )
        return Placed(sprite, x, round(foot - h), 0, foot, True)

    def _with_group(
        self, order: list[Placed], label: int, ground: Ground, rng: np.random.Generator
    ) -> list[Placed]:
        """Return `order` with one more object or row of them, or as it was if there is no room."""
        count = int(rng.integers(2, 4)) if rng.uniform() < ROW else 1
        size = self._scale(rng)
        name = CLASSES[label - 1]
        sizes = (size * rng.uniform(0.94, 1.06, size=count)).tolist()
        facing = (rng.uniform(size=count) < 0.5).tolist()  # left
        sprites = [
            draw_sprite(label, one, rng, mirrored=left)
            for one, left in zip(sizes, facing, strict=True)
        ]
        for attempt in range(TRIES):
            row = sprites if attempt < TRIES // 2 else sprites[:1]
            h, w = row[0].shape[:2]
            gap = rng.uniform(0.72, 1.02) * w
            x = (
                rng.uniform(0.1, 0.9) * self.size
                - (len(row) - 1) * gap * rng.uniform(0.2, 0.8)
                - w / 2
            )
            if name == "plane":
                foot = rng.uniform(0.06, 0.72) * max(ground.horizon, 0.4 * self.size) + h / 2
            else:
                zone = ground.sea if name == "boat" and ground.sea else (ground.land, self.size)
                foot = self._stand(size, ground, zone, rng)
            added = []
            for i, sprite in enumerate(row):
                bottom = foot + rng.uniform(-0.05, 0.05) * h
                left, top = (
                    round(x + i * gap + rng.uniform(-0.06, 0.06) * w),
                    round(bottom) - sprite.shape[0],
                )
                depth = bottom - (self.size if name == "plane" else 0)
                added.append(Placed(sprite, left, top, label, depth, name != "plane", facing[i]))
            tried = sorted([*order, *added], key=lambda placed: placed.depth)
            if _all_seen(tried, self.size):
                return tried
        return order

    def draw(self, seed: int, index: int) -> Scene:
        """Draw scene `index`."""
        backdrop, order = self.plan(seed, index)
        owners = find_owners(order, self.size)
        objects = [position for position, placed in enumerate(order) if placed.label]
        boxes = np.array([extent(owners == position) for position in objects], np.float32)
        labels = np.array([order[position].label for position in objects], np.int64)
        return Scene(paint(backdrop, order), boxes, labels)
