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

from almining.data.toy.backdrops import Context, Ground, draw_backdrop, lay_ground
from almining.data.toy.bystanders import FOUND, draw_bystander
from almining.data.toy.domains import render
from almining.data.toy.pens import SHADE, UNIT, Mask, Pixels, cast_shadow
from almining.data.toy.sight import Placed, all_seen, extent, find_owners, see
from almining.data.toy.sprites import CLASSES, draw_sprite, draw_with_wheels
from almining.data.toy.wishes import Wish, beside, draw_wish, moved_inside, step_before
from almining.data.toy.worlds import PLAIN, World
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
TRIES = 8
VAIN = 8  # vain attempts at a first object, after which a bystander makes room
WHEEL = len(CLASSES) + 1  # the label of wheels, in worlds with parts


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
        labels: (n,) int64, 1...8; with parts, an object's wheels follow it with label 9.
    """

    image: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def paint(backdrop: Image.Image, order: list[Placed]) -> Pixels:
    """Return the picture (h, w, 3): every drawing in order, each with its shadow beneath."""
    image = backdrop.copy()
    for placed in order:
        h, w = placed.sprite.shape[:2]
        if placed.shadow:
            soft, left, top = cast_shadow(h, w)
            image.paste(SHADE, (placed.x + left, placed.y + top), soft)
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
        world: where the dials stand.
    """

    density: str
    size: int
    balance: tuple[float, ...]
    world: World = PLAIN

    def plan(self, seed: int, index: int) -> tuple[Image.Image, list[Placed]]:
        """Return the backdrop, and what stands before it, in painting order."""
        rng = np.random.default_rng(derive(seed, "scene", index))
        aside = np.random.default_rng(derive(seed, "dials", index))  # for what a dial adds
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
        count = round(self.world.clutter * int(rng.integers(2, 7)))
        bystanders = [self._bystander(ground, rng) for _ in range(count)]
        bystanders.sort(key=lambda placed: placed.depth)
        late = self.world.occlusion < 0.5  # they stand where objects leave room
        order = [] if late else bystanders
        groups = density.first + int(rng.choice(len(density.groups), p=density.groups))
        abroad = round(1.0 - self.world.context_bias, 12)
        for group in range(groups):
            stray = rng.uniform() < abroad
            drawn = int(rng.choice(len(CLASSES), p=weights if stray else at_home))
            label = 1 + (drawn if group or stray else first)
            order = self._with_group(order, label, ground, rng, aside)
        vain = 0
        while not any(placed.label for placed in order):
            order = self._with_group(order, first + 1, ground, rng, aside)
            vain += 1
            if vain % VAIN == 0 and not any(placed.label for placed in order):
                order = order[:-1]
        if late:
            for placed in bystanders:
                order = self._with(order, [placed]) or order
        elif self.world.occlusion > 0.5:
            order = self._hidden(order, aside)
        return backdrop, order

    def _with(self, order: list[Placed], added: list[Placed]) -> list[Placed] | None:
        """Return `order` with more in it, or None where too little would be seen."""
        tried = sorted([*order, *added], key=lambda placed: placed.depth)
        return tried if all_seen(tried, self.size, self.world) else None

    def _hidden(self, order: list[Placed], rng: np.random.Generator) -> list[Placed]:
        """Return `order` with some bystanders moved in front of objects near them."""
        for target in [placed for placed in order if placed.label]:
            wanted = rng.uniform() < 2.0 * self.world.occlusion - 1.0
            mover = step_before(target, order, self.size, rng)
            if wanted and mover is not None:
                others = [placed for placed in order if placed is not mover[0]]
                order = self._with(others, [mover[1]]) or order
        return order

    def _scale(self, rng: np.random.Generator) -> float:
        density = DENSITIES[self.density]
        size = density.middle * float(np.exp(density.spread * rng.standard_normal()))
        return min(max(size, density.limits[0]), density.limits[1]) * self.size / UNIT

    def _stand(self, size: float, zone: tuple[float, float], rng: np.random.Generator) -> float:
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
        zone = ground.sea if aloft and ground.sea else (ground.land, self.size)
        foot = self._stand(size, zone, rng)
        return Placed(sprite, x, round(foot - h), 0, foot, True)

    def _with_group(
        self,
        order: list[Placed],
        label: int,
        ground: Ground,
        rng: np.random.Generator,
        aside: np.random.Generator,
    ) -> list[Placed]:
        """Return `order` with one more object or row of them, or as it was if there is no room."""
        world = self.world
        count = int(rng.integers(2, world.row_length + 1)) if rng.uniform() < world.rows else 1
        size = self._scale(rng) * min(3 / count, 1.0)  # a longer row has to fit as well
        sizes = (size * rng.uniform(0.94, 1.06, size=count)).tolist()
        facing = (rng.uniform(size=count) < 0.5).tolist()  # left
        facing = facing[:1] * count if world.closeness > 0.5 else facing
        own = (aside.uniform(size=count) >= world.likeness).tolist()
        row = [self._member(label, *looks, rng) for looks in zip(sizes, facing, own, strict=True)]
        wish = draw_wish(world, aside)
        for attempt in range(TRIES):
            fewer = row if attempt < TRIES // 2 else row[:1]
            added = self._lay(order, fewer, size, ground, wish, rng, aside)
            tried = self._with(order, added)
            if tried is not None:
                return tried
        return order

    def _member(
        self, label: int, size: float, left: bool, own: bool, rng: np.random.Generator
    ) -> Placed:
        """Draw one object; where it stands is still open."""
        parts: tuple[Mask, ...] = ()
        if self.world.parts:
            sprite, parts = draw_with_wheels(label, size, rng, mirrored=left, own=own)
        else:
            sprite = draw_sprite(label, size, rng, mirrored=left, own=own)
        return Placed(sprite, 0, 0, label, 0.0, CLASSES[label - 1] != "plane", left, parts)

    def _lay(
        self,
        order: list[Placed],
        row: list[Placed],
        size: float,
        ground: Ground,
        wish: Wish,
        rng: np.random.Generator,
        aside: np.random.Generator,
    ) -> list[Placed]:
        """Return the row, each object in a place that fits the wish but may be taken."""
        world, name = self.world, CLASSES[row[0].label - 1]
        h, w = row[0].sprite.shape[:2]
        gap = max(rng.uniform(*world.gap), 1.12 - world.most_hidden) * w
        x = rng.uniform(0.1, 0.9) * self.size - (len(row) - 1) * gap * rng.uniform(0.2, 0.8) - w / 2
        if name == "plane":
            highest = max(ground.horizon, 0.4 * self.size)
            foot = rng.uniform(0.06, 0.72) * highest + h / 2
        else:
            zone = ground.sea if name == "boat" and ground.sea else (ground.land, float(self.size))
            foot = self._stand(size, zone, rng)
        long = (len(row) - 1) * gap + w
        if wish.beside:
            x = beside(order, x, (foot - h, foot), long, aside)
        if wish.edge:
            out = aside.uniform(0.15, 0.5) * w
            x = -out if wish.edge < 0 else self.size - long + out
        wobble = [(rng.uniform(-0.05, 0.05), rng.uniform(-0.06, 0.06)) for _ in row]
        rises = [rise for rise, _ in wobble]
        if world.closeness > 0.5:  # heads to the front, or a tight row would hide them
            rises.sort(reverse=not row[0].mirrored)
        added = []
        for i, (placed, rise, (_, shift)) in enumerate(zip(row, rises, wobble, strict=True)):
            bottom, left = foot + rise * h, round(x + i * gap + shift * w)
            depth = bottom - (self.size if name == "plane" else 0)
            top = round(bottom) - placed.sprite.shape[0]
            added.append(placed._replace(x=left, y=top, depth=depth))
        return moved_inside(added, self.size) if wish.inside else added

    def picture(self, image_id: str) -> Pixels:
        """Draw the image (size, size, 3) of `scene-<seed>-<index>`."""
        _, seed, index = image_id.split("-")
        return self.draw(int(seed), int(index)).image

    def draw(self, seed: int, index: int) -> Scene:
        """Draw scene `index`."""
        backdrop, order = self.plan(seed, index)
        owners = find_owners(order, self.size)
        boxes, labels = [], []
        for position, placed in enumerate(order):
            if placed.label:
                seen = see(owners, position, placed)
                wheels = [seen & wheel for wheel in placed.parts if (seen & wheel).any()]
                boxes += [extent(mask, placed.x, placed.y) for mask in (seen, *wheels)]
                labels += [placed.label, *[WHEEL] * len(wheels)]
        image = paint(backdrop, order)
        if self.world.domain != "day":
            light = np.random.default_rng(derive(seed, self.world.domain, index))
            image = render(image, self.world.domain, light)
        return Scene(image, np.array(boxes, np.float32), np.array(labels, np.int64))
