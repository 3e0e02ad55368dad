"""What stands about in the toy world and is no object: trees, cones, balloons and other bystanders.

They are what a detector may mistake for an object; they hide objects and are hidden, and carry
label 0. These drawings are ours and follow no paper.
"""

from __future__ import annotations

import numpy as np

from almining.data.toy.backdrops import Context
from almining.data.toy.pens import (
    SOLID,
    WHITE,
    Drawing,
    Pen,
    Pixels,
    dark,
    hsv,
    light,
    mix,
    smooth,
    vivid,
)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    leaf = hsv(rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.66))
    pen.slab(33, 60, 43, 98, (112, 78, 52), (66, 46, 36), 2)
    for x, y, r in ((22, 44, 19), (54, 46, 19), (38, 26, 24)):
        pen.oval(x, y, r, r, leaf, dark(leaf, 0.4))
    pen.oval(38, 42, 22, 20, leaf)
    pen.oval(32, 22, 10, 8, light(leaf, 0.2))


def _pine(pen: Pen, rng: np.random.Generator) -> None:
    leaf = hsv(rng.uniform(0.34, 0.44), rng.uniform(0.4, 0.6), rng.uniform(0.36, 0.52))
    pen.slab(26, 80, 34, 98, (104, 72, 50), (66, 46, 36), 1)
    for y, half in ((84, 28), (60, 22), (38, 16)):
        pen.poly(
            [(30, y - 36), (30 + half, y), (30 - half, y)],
            mix(leaf, WHITE, (84 - y) / 300),
            dark(leaf, 0.45),
        )


def _bush(pen: Pen, rng: np.random.Generator) -> None:
    leaf, berry = (
        hsv(rng.uniform(0.2, 0.42), rng.uniform(0.4, 0.6), rng.uniform(0.42, 0.66)),
        vivid(rng),
    )
    for x, y, r in ((18, 34, 17), (72, 35, 16), (34, 24, 19), (56, 24, 19), (45, 38, 22)):
        pen.oval(x, y, r, r, leaf, dark(leaf, 0.35))
    pen.oval(45, 38, 20, 18, leaf)
    for x, y in rng.uniform((14, 14), (76, 48), size=(7, 2)).tolist():
        pen.oval(x, y, 2.6, 2.6, berry)


STONE = smooth([(4, 48), (12, 24), (34, 8), (60, 12), (80, 30), (86, 48), (46, 54)])


def _rock(pen: Pen, rng: np.random.Generator) -> None:
    stone = hsv(rng.uniform(), 0.08, rng.uniform(0.5, 0.72))
    pen.poly(STONE, stone, dark(stone, 0.5))
    pen.poly([(20, 26), (36, 14), (56, 18), (40, 28)], light(stone, 0.3))


def _cone(pen: Pen, rng: np.random.Generator) -> None:
    paint = hsv(rng.uniform(0.03, 0.08), 0.85, 0.95)
    pen.slab(4, 60, 56, 70, dark(paint, 0.2), dark(paint, 0.6), 3)
    pen.poly([(26, 4), (34, 4), (48, 61), (12, 61)], paint, dark(paint, 0.55))
    pen.poly([(22, 26), (38, 26), (42, 42), (18, 42)], WHITE)


def _crate(pen: Pen, rng: np.random.Generator) -> None:
    wood = (
        hsv(rng.uniform(0.06, 0.11), 0.5, rng.uniform(0.6, 0.8))
        if rng.uniform() < 0.6
        else vivid(rng)
    )
    pen.slab(4, 4, 60, 56, wood, dark(wood, 0.55), 2)
    pen.line([(10, 10), (54, 50)], dark(wood, 0.3), 5)
    pen.slab(4, 4, 60, 12, light(wood, 0.15), dark(wood, 0.55), 2)
    pen.slab(4, 48, 60, 56, light(wood, 0.15), dark(wood, 0.55), 2)


def _ball(pen: Pen, rng: np.random.Generator) -> None:
    paint = vivid(rng)
    pen.oval(30, 30, 28, 28, paint, dark(paint, 0.6))
    pen.oval(30, 30, 11, 26.5, WHITE)
    pen.oval(20, 17, 5, 5, light(paint, 0.7))


def _lamp(pen: Pen, rng: np.random.Generator) -> None:
    post = hsv(0.6, 0.12, rng.uniform(0.25, 0.45))
    pen.line([(14, 14), (14, 98)], post, 4)
    pen.slab(8, 92, 20, 99, post, None, 2)
    pen.oval(14, 11, 9, 10, (255, 240, 186), post)
    pen.slab(6, 0, 22, 4, post, None, 1)


CANOPY = smooth([(2, 44), (18, 16), (46, 4), (74, 16), (90, 44), (68, 40), (46, 45), (24, 40)])


def _parasol(pen: Pen, rng: np.random.Generator) -> None:
    cloth = vivid(rng)
    pen.line([(46, 16), (46, 96)], (236, 232, 222), 3.5)
    pen.poly(CANOPY, cloth)
    with pen.within(CANOPY, WHITE) as on:
        for x in (10, 40, 70):
            on.poly([(46, 2), (x, 50), (x + 15, 50)], SOLID)
    pen.outline(CANOPY, dark(cloth, 0.55))


def _buoy(pen: Pen, rng: np.random.Generator) -> None:
    paint = hsv(rng.choice([0.0, 0.05, 0.38]), 0.8, 0.85)
    pen.poly([(22, 8), (30, 8), (40, 44), (12, 44)], paint, dark(paint, 0.55))
    pen.poly([(18, 24), (34, 24), (37, 33), (15, 33)], WHITE)
    pen.slab(4, 42, 48, 56, dark(paint, 0.15), dark(paint, 0.6), 6)


BAG = smooth(
    [(34, 2), (58, 10), (66, 32), (54, 54), (42, 66), (26, 66), (14, 54), (2, 32), (10, 10)]
)


def _balloon(pen: Pen, rng: np.random.Generator) -> None:
    cloth, other = vivid(rng), vivid(rng)
    for x in (24, 44):
        pen.line([(x, 58), (34 + (x - 34) * 0.6, 84)], (92, 70, 52), 1.6)
    pen.poly(BAG, cloth)
    with pen.within(BAG, other) as on:
        for x in (12, 34, 56):
            on.oval(x, 33, 5.5, 36, SOLID)
    pen.outline(BAG, dark(cloth, 0.5))
    pen.slab(26, 82, 42, 94, (158, 112, 66), (92, 62, 40), 2)


def _bird(pen: Pen, rng: np.random.Generator) -> None:
    ink = hsv(0.62, 0.2, rng.uniform(0.2, 0.4))
    pen.line([(4, 12), (14, 5), (25, 16), (36, 5), (46, 12)], ink, 4)


BYSTANDERS: dict[str, Drawing] = {
    "tree": (_tree, 76, 98, 1.5),  # how, width, height in units, size beside an object's
    "pine": (_pine, 60, 98, 1.4),
    "bush": (_bush, 90, 60, 0.8),
    "rock": (_rock, 90, 56, 0.55),
    "cone": (_cone, 60, 72, 0.5),
    "crate": (_crate, 64, 60, 0.55),
    "ball": (_ball, 60, 60, 0.4),
    "lamp": (_lamp, 28, 100, 0.9),
    "parasol": (_parasol, 92, 98, 1.0),
    "buoy": (_buoy, 52, 58, 0.4),
    "balloon": (_balloon, 68, 96, 0.8),
    "bird": (_bird, 50, 20, 0.35),
}
FOUND: dict[
    Context, tuple[tuple[str, ...], tuple[str, ...]]
] = {  # on the ground, and in the air (at sea: afloat)
    "grass": (
        ("tree", "pine", "bush", "rock", "bush", "crate", "ball"),
        ("balloon", "bird", "bird"),
    ),
    "road": (("cone", "lamp", "lamp", "tree", "bush", "crate", "cone"), ("bird", "balloon")),
    "water": (("parasol", "rock", "ball", "crate", "parasol"), ("buoy", "buoy", "rock")),
    "sky": (("tree", "pine", "bush", "rock"), ("balloon", "balloon", "bird", "bird", "bird")),
}


def draw_bystander(name: str, size: float, rng: np.random.Generator) -> Pixels:
    """Draw one thing that is no object: (h, w, 4) uint8, beside objects of about `size` pixels."""
    draw, width, height, share = BYSTANDERS[name]
    pen = Pen(width, height, size * share / (width * height) ** 0.5)
    draw(pen, rng)
    return pen.finish(mirrored=bool(rng.uniform() < 0.5))
