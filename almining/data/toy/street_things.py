"""What stands along a toy street: houses, trees, and things as slender as a pedestrian.

Posts, hydrants, signs, dress forms, statues and advertising columns are no pedestrians, but a
detector that knows shape alone takes them for some. Where they stand is laid out in
`almining.data.toy.street_world`. These drawings are ours and follow no paper.
"""

from __future__ import annotations

import numpy as np

from almining.data.toy.bystanders import BYSTANDERS
from almining.data.toy.pens import (
    WHITE,
    Colour,
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
from almining.data.toy.sprites import CLASSES, draw_sprite

BRICKS = [
    (208, 132, 104), (226, 190, 140), (236, 216, 178), (168, 186, 196), (206, 150, 158),
    (176, 198, 164), (232, 206, 120), (190, 176, 208),
]  # fmt: skip
ROOFS = [(156, 74, 62), (120, 84, 78), (92, 98, 116), (176, 104, 70)]
PANE, LIT = (128, 172, 206), (255, 224, 138)


def _post(pen: Pen, rng: np.random.Generator) -> None:
    paint = (hsv(0.6, 0.1, 0.36), (196, 62, 56), hsv(0.36, 0.4, 0.36))[rng.integers(3)]
    pen.slab(6, 6, 22, 98, paint, dark(paint, 0.6), 6)
    pen.slab(7.5, 22, 20.5, 32, WHITE)
    pen.oval(14, 9, 9, 8, light(paint, 0.15), dark(paint, 0.6))
    pen.slab(3, 90, 25, 99, dark(paint, 0.25), dark(paint, 0.6), 2)


def _hydrant(pen: Pen, rng: np.random.Generator) -> None:
    paint = ((214, 58, 50), (240, 190, 60), (70, 120, 190))[rng.integers(3)]
    edge = dark(paint, 0.6)
    pen.slab(2, 34, 46, 48, paint, edge, 4)
    pen.slab(10, 20, 38, 88, paint, edge, 4)
    pen.oval(24, 16, 13, 12, light(paint, 0.15), edge)
    pen.oval(24, 42, 8, 8, light(paint, 0.4), edge)
    pen.slab(7, 24, 41, 30, light(paint, 0.25), edge, 2)
    pen.slab(5, 84, 43, 92, dark(paint, 0.2), edge, 2)


def _sign(pen: Pen, rng: np.random.Generator) -> None:
    pen.line([(20, 20), (20, 118)], (128, 134, 144), 4)
    kind = rng.integers(4)
    if kind == 0:
        pen.oval(20, 19, 18, 18, (208, 46, 48), (112, 28, 34))
        pen.slab(8, 15, 32, 23, WHITE)
    elif kind == 1:
        pen.poly([(20, 2), (39, 35), (1, 35)], (208, 46, 48), (112, 28, 34))
        pen.poly([(20, 13), (31, 31), (9, 31)], WHITE)
    elif kind == 2:
        pen.slab(3, 2, 37, 36, (46, 98, 186), (26, 52, 110), 3)
        pen.line([(15, 29), (15, 10), (24, 10), (24, 20), (15, 20)], WHITE, 4)
    else:
        pen.oval(20, 19, 18, 18, (46, 98, 186), (26, 52, 110))
        pen.line([(12, 21), (27, 21)], WHITE, 4)
        pen.poly([(34, 20), (23, 11), (23, 30)], WHITE)
    pen.slab(15, 113, 25, 119, (94, 98, 108), None, 2)


TRUNK = smooth(
    [(12, 32), (20, 27), (29, 29), (31, 40), (28, 50), (31, 64), (20, 68), (9, 64), (12, 50)]
)


def _mannequin(pen: Pen, rng: np.random.Generator) -> None:
    cloth = vivid(rng) if rng.uniform() < 0.6 else (212, 196, 176)
    wood = (132, 92, 58)
    pen.line([(20, 64), (20, 90)], wood, 3.6)
    for side in (-1, 1):
        pen.line([(20, 86), (20 + side * 12, 95)], wood, 3.2)
    pen.poly(TRUNK, cloth, dark(cloth, 0.6))
    pen.slab(17, 20, 23, 30, (212, 196, 176), dark(cloth, 0.6), 1)
    pen.oval(20, 14, 8.5, 10, (212, 196, 176), (120, 100, 80))
    pen.line([(20, 30), (20, 66)], dark(cloth, 0.3), 1.2)
    pen.line([(10, 50), (30, 50)], dark(cloth, 0.35), 2.4)


def _statue(pen: Pen, rng: np.random.Generator) -> None:
    stone = hsv(rng.uniform(0.08, 0.5), 0.08, rng.uniform(0.58, 0.74))
    edge, lift = dark(stone, 0.5), rng.uniform(0, 14)
    pen.slab(4, 88, 36, 118, stone, edge, 1)
    pen.slab(1, 84, 39, 92, light(stone, 0.2), edge, 1)
    for side in (-1, 1):
        pen.line([(20 + side * 4, 54), (20 + side * 5, 84)], edge, 8.5)
        pen.line([(20 + side * 4, 54), (20 + side * 5, 84)], stone, 6)
    pen.poly(TRUNK, stone, edge)
    pen.line([(11, 33), (6, 46), (12, 56)], dark(stone, 0.15), 5)
    pen.line([(29, 33), (35, 44 - lift), (37, 52 - 2 * lift)], dark(stone, 0.15), 5)
    pen.oval(20, 16, 9, 10.5, light(stone, 0.12), edge)
    pen.arc(20, 15, 9, 190, 350, dark(stone, 0.3), 3)


def _column(pen: Pen, rng: np.random.Generator) -> None:
    paint = hsv(rng.uniform(0.3, 0.5), 0.35, rng.uniform(0.3, 0.42))
    pen.slab(5, 20, 45, 108, (222, 216, 200), (92, 86, 80), 2)
    for row in range(3):
        for column in range(2):
            left, top = 7.5 + 18.5 * column, 25 + 25 * row
            poster = vivid(rng)
            pen.slab(left, top, left + 16.5, top + 22, poster, None, 1)
            pen.oval(left + 8, top + 8, 5, 5, light(poster, 0.6))
            pen.slab(left + 3, top + 16, left + 13.5, top + 18.5, light(poster, 0.8))
    pen.slab(2, 104, 48, 114, paint, dark(paint, 0.5), 2)
    pen.slab(1, 14, 49, 22, paint, dark(paint, 0.5), 3)
    pen.dome(6, 2, 44, 28, paint)
    pen.oval(25, 2.5, 3, 3, light(paint, 0.2), dark(paint, 0.5))


def _box(pen: Pen, rng: np.random.Generator) -> None:
    paint = ((244, 196, 56), (204, 54, 52), (58, 98, 168))[rng.integers(3)]
    pen.slab(10, 50, 32, 96, dark(paint, 0.45), dark(paint, 0.7), 2)
    pen.slab(3, 8, 39, 58, paint, dark(paint, 0.6), 5)
    pen.dome(3, 2, 39, 24, light(paint, 0.12))
    pen.slab(9, 20, 33, 25, dark(paint, 0.7), None, 1)
    pen.slab(12, 34, 30, 46, light(paint, 0.7), None, 1)


def _bench(pen: Pen, rng: np.random.Generator) -> None:
    wood = hsv(rng.uniform(0.05, 0.1), 0.5, rng.uniform(0.5, 0.7))
    for x in (12, 88):
        pen.line([(x, 8), (x, 48)], (70, 72, 82), 4)
    for y in (6, 16, 28):
        pen.slab(2, y, 98, y + 7, wood, dark(wood, 0.5), 2)


def _tub(pen: Pen, rng: np.random.Generator) -> None:
    leaf, clay = hsv(rng.uniform(0.24, 0.38), 0.5, 0.5), hsv(0.05, rng.uniform(0.2, 0.55), 0.72)
    for x, y, r in ((16, 24, 13), (32, 17, 15), (48, 24, 13)):
        pen.oval(x, y, r, r * 0.9, leaf, dark(leaf, 0.35))
    bloom = vivid(rng)
    for x, y in rng.uniform((8, 8), (56, 30), size=(8, 2)).tolist():
        pen.oval(x, y, 3.4, 3.4, light(bloom, 0.2))
    pen.poly([(6, 32), (58, 32), (52, 60), (12, 60)], clay, dark(clay, 0.5))
    pen.slab(4, 29, 60, 37, light(clay, 0.2), dark(clay, 0.5), 2)


def _streetlight(pen: Pen, rng: np.random.Generator) -> None:
    post = hsv(0.45, 0.2, rng.uniform(0.22, 0.38))
    pen.line([(14, 20), (14, 196)], post, 4)
    pen.slab(8, 168, 20, 198, post, dark(post, 0.4), 2)
    pen.oval(14, 15, 8.5, 10, (255, 240, 186), post)
    pen.slab(5, 1, 23, 6, post, None, 2)
    pen.slab(7, 24, 21, 28, post, None, 1)


CONFOUNDERS = ("post", "hydrant", "sign", "mannequin", "statue", "column", "box")
THINGS: dict[str, tuple[Drawing, float]] = {  # how it is drawn, and its height in metres
    "post": ((_post, 28, 100, 0.0), 1.25),
    "hydrant": ((_hydrant, 48, 94, 0.0), 1.05),
    "sign": ((_sign, 40, 120, 0.0), 2.3),
    "mannequin": ((_mannequin, 40, 97, 0.0), 1.7),
    "statue": ((_statue, 40, 120, 0.0), 2.3),
    "column": ((_column, 50, 115, 0.0), 2.6),
    "box": ((_box, 42, 97, 0.0), 1.45),
    "bench": ((_bench, 100, 50, 0.0), 0.85),
    "tub": ((_tub, 64, 61, 0.0), 0.9),
    "streetlight": ((_streetlight, 28, 199, 0.0), 4.4),
    "tree": (BYSTANDERS["tree"], 4.3),
    "pine": (BYSTANDERS["pine"], 4.6),
    "bush": (BYSTANDERS["bush"], 1.1),
    "cone": (BYSTANDERS["cone"], 0.75),
}
CARS = ("car", "taxi")
CAR_HEIGHT, CAR_SHARE = 1.8, 1.29  # in metres, with a sign; the root of its area, of its height


def draw_thing(name: str, height: float, rng: np.random.Generator) -> Pixels:
    """Draw one thing about `height` pixels tall, without its shadow: (h, w, 4) uint8, RGBA.

    >>> draw_thing("hydrant", 30.0, np.random.default_rng(0)).shape[2]
    4
    """
    if name in CARS:
        left = bool(rng.uniform() < 0.5)
        return draw_sprite(CLASSES.index(name) + 1, CAR_SHARE * height, rng, mirrored=left)
    (draw, width, tall, _), _ = THINGS[name]
    mirrored = bool(rng.uniform() < 0.5) and name != "sign"
    pen = Pen(width, tall, height / tall)
    draw(pen, rng)
    return pen.finish(mirrored=mirrored)


def _window(pen: Pen, x: float, y: float, w: float, h: float, trim: Colour, pane: Colour) -> None:
    pen.slab(x, y, x + w, y + h, trim)
    pen.slab(x + 1.6, y + 1.6, x + w - 1.6, y + h - 1.6, pane)
    pen.poly([(x + 2, y + h - 2), (x + 2, y + 4), (x + w * 0.6, y + 2)], light(pane, 0.3))
    pen.slab(x + w / 2 - 0.6, y + 1, x + w / 2 + 0.6, y + h - 1, trim)
    pen.slab(x - 1.5, y + h, x + w + 1.5, y + h + 2, light(trim, 0.4))


def _shop(pen: Pen, width: float, floor: float, rng: np.random.Generator) -> None:
    """Draw the ground floor of a shop, from `floor` down to the pavement 28 units below."""
    awning, sill = vivid(rng), floor + 24
    pen.slab(4, floor + 6, width - 18, sill, (70, 64, 70))
    pen.slab(5.5, floor + 7, width - 19.5, sill - 1.5, mix(PANE, LIT, rng.uniform(0, 0.7)))
    for x in np.arange(10, width - 24, 9).tolist():  # what is for sale
        pen.slab(x, sill - 8, x + 5, sill - 1.5, light(vivid(rng), 0.2), None, 2)
    pen.slab(width - 15, floor + 7, width - 5, floor + 28, dark(awning, 0.4), (50, 46, 52))
    count = max(round((width - 4) / 6), 2)
    step = (width - 4) / count
    for i in range(count):
        tone = awning if i % 2 else WHITE
        x = 2 + i * step
        pen.poly(
            [
                (x + 1, floor - 1),
                (x + step + 0.5, floor - 1),
                (x + step, floor + 8),
                (x, floor + 8),
            ],
            tone,
        )
        pen.oval(x + step / 2, floor + 8, step / 2, 2, tone)


def draw_house(width: float, floors: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Draw the front of a house of 1 to 3 floors, `width` metres at `scale` pixels each.

    Returns:
        (h, w, 4) uint8, RGBA.
    """
    wall = mix(BRICKS[rng.integers(len(BRICKS))], vivid(rng), 0.08)
    roof, trim = ROOFS[rng.integers(len(ROOFS))], light(wall, 0.6)
    units, rise = 10 * width, rng.uniform(9, 20)
    gable, shop = rng.uniform() < 0.35, rng.uniform() < 0.45
    tall = 24 * floors + rise + 6
    pen = Pen(units, tall, scale / 10)
    if rng.uniform() < 0.6:
        x = units * rng.uniform(0.15, 0.75)
        pen.slab(x, 0, x + 7, rise + 4, dark(roof, 0.2), dark(roof, 0.6))
        pen.slab(x - 1, 0, x + 8, 3, dark(roof, 0.4))
    pen.slab(1, rise, units - 1, tall, wall, dark(wall, 0.4))
    peak = [(units / 2, 2)] if gable else [(7, 3), (units - 7, 3)]
    pen.poly([(-2, rise + 3), *peak, (units + 2, rise + 3)], roof, dark(roof, 0.5))
    if gable:
        pen.oval(units / 2, rise * 0.72, 4, 4, PANE, trim)
    many = max(int((units - 6) / 15), 1)
    gap = units / many
    for floor in range(floors - 1 if shop else floors):
        top = rise + 8 + 24 * floor
        ground = floor == floors - 1
        door = int(rng.integers(many)) if ground else -1
        for i in range(many):
            x = (i + 0.5) * gap - 4.5
            pane = LIT if rng.uniform() < 0.15 else PANE
            if i == door:
                leaf = dark(vivid(rng), 0.2)
                pen.slab(x - 0.5, tall - 21, x + 9.5, tall, leaf, trim, 1)
                pen.oval(x + 7.5, tall - 10, 0.9, 0.9, LIT)
            else:
                _window(pen, x, top, 9, 13, trim, pane)
        if not ground:
            pen.slab(1, top + 19, units - 1, top + 20.5, dark(wall, 0.18))
    if shop:
        _shop(pen, units, tall - 28, rng)
    return pen.finish()
