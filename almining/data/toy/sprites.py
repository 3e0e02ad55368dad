"""The eight things that live in the toy world, each drawn as an RGBA picture of random looks.

Cat, dog and sheep share body, legs, tail, colours and patterns (`data.toy.animals`): only the head
tells them apart. Car and taxi share the chassis and its colours: only the roof sign and the checker
strip do, unless each is asked to wear colours of its own. A detector that looks at a part is
therefore sometimes right and sometimes wrong, as on photographs. Where things stand is the business
of `data.toy.staging`. These drawings are ours and follow no paper.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from almining.data.toy.animals import BROWN, FLEECE, GINGER, draw_cat, draw_dog, draw_sheep
from almining.data.toy.pens import (
    BLACK,
    SOLID,
    WHITE,
    Colour,
    Drawing,
    Mask,
    Pen,
    Pixels,
    dark,
    hsv,
    light,
    mix,
    smooth,
    vivid,
)

HEADED = 3  # classes 1 to 3 are told apart by their heads only
CLASSES = ("cat", "dog", "sheep", "car", "taxi", "boat", "plane", "person")
SKINS = [(255, 219, 185), (236, 188, 148), (198, 142, 100), (141, 92, 60), (94, 60, 42)]
# fmt: off
HAIRS = [
    (38, 28, 26), (92, 58, 34), (168, 110, 52), (226, 190, 110), (150, 150, 152),
    (150, 60, 36),
]
# fmt: on
WHEELED = ("car", "taxi")
YELLOW, GLASS = (250, 204, 58), (190, 222, 240)
WHEELS = ((22, 49), (77, 49))  # of cars and taxis: rear and front
TYRE = 10.5  # their radius, in units

# fmt: off
CHASSIS = smooth([
    (2, 44), (3, 34), (14, 30), (30, 29), (62, 29), (82, 31), (96, 35), (98, 45), (90, 49),
    (50, 49), (8, 49),
])
# fmt: on
CABIN = smooth([(17, 32), (22, 20), (29, 13), (44, 11), (57, 12), (66, 19), (77, 32), (50, 33)])


def _wheel(pen: Pen, x: float, y: float) -> None:
    pen.oval(x, y, TYRE, TYRE, (34, 34, 40), (14, 14, 18))
    pen.oval(x, y, 6.2, 6.2, (206, 210, 218), (120, 122, 130))
    for dx, dy in ((0, -1), (0.95, 0.3), (-0.95, 0.3)):
        pen.line([(x, y), (x + 4.6 * dx, y + 4.6 * dy)], (122, 126, 134), 1.4)
    pen.oval(x, y, 1.9, 1.9, (70, 72, 80))


def _unlike_a_taxi(paint: Colour) -> Colour:
    """Return the colour, or its complement where it is yellow or orange."""
    red, green, blue = paint
    if red > blue + 60 and green > blue + 0.3 * (red - blue) and green < 1.1 * red:
        return blue, green, red
    return paint


def _car(
    pen: Pen, rng: np.random.Generator, *, taxi: bool = False, own_paint: bool = False
) -> None:
    paint = YELLOW if rng.uniform() < 0.3 else vivid(rng)
    if rng.uniform() < 0.2:
        paint = hsv(0.6, 0.08, rng.uniform(0.25, 0.95))
    if own_paint:
        paint = mix(YELLOW, paint, 0.05) if taxi else _unlike_a_taxi(paint)
    edge, two_tone = dark(paint, 0.6), light(paint, 0.75) if rng.uniform() < 0.3 else paint
    glass = mix(GLASS, paint, rng.uniform(0, 0.2))
    pen.poly(CABIN, two_tone, dark(two_tone, 0.6))
    pen.poly([(22, 29), (27, 20), (31, 16), (43, 15), (43, 29)], glass, dark(glass))
    pen.poly([(48, 29), (48, 15), (56, 16), (62, 20), (69, 29)], glass, dark(glass))
    for x in (30, 53):
        pen.line([(x, 27), (x + 7, 18)], light(glass, 0.7), 2.2)
    pen.poly(CHASSIS, paint, edge)
    pen.line([(8, 33), (90, 35)], light(paint, 0.45), 1.8)
    pen.slab(6, 44, 95, 48.5, dark(paint, 0.35), None, 2)
    for door in (45.5, 71):
        pen.line([(door, 31), (door, 44)], edge, 1.1)
    pen.slab(49, 35.5, 55, 37.2, edge, None, 0.8)
    pen.oval(93.5, 38, 3.4, 3.2, (255, 240, 180), dark(paint, 0.5))
    pen.slab(2.5, 36, 6.5, 41, (222, 52, 48), dark(paint, 0.5), 1)
    if taxi:
        for i in range(12):
            for row in (0, 1):
                left, top = 15 + 5.8 * i, 36.2 + 3.6 * row
                pen.slab(left, top, left + 5.8, top + 3.6, WHITE if (i + row) % 2 else BLACK)
        pen.slab(36, 1, 60, 11.5, (255, 226, 92), (88, 62, 20), 2.5)
        pen.slab(40, 4.6, 56, 8, (70, 52, 24), None, 1)
    for x, y in WHEELS:
        pen.oval(x, y - 2, 12.5, 12, dark(paint, 0.72))
        _wheel(pen, x, y)


# fmt: off
HULL = smooth([
    (4, 66), (12, 67), (50, 68), (76, 66), (90, 62), (84, 74), (72, 84), (46, 86), (20, 84),
    (9, 77),
])
# fmt: on
MAINSAIL = smooth([(47, 6), (56, 20), (70, 44), (77, 58), (62, 60), (47, 60)])
JIB = smooth([(41, 12), (41, 38), (41, 59), (26, 60), (12, 58), (26, 40)])


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    hull, trim = vivid(rng), vivid(rng)
    if rng.uniform() < 0.65:
        sail = WHITE if rng.uniform() < 0.5 else light(vivid(rng), 0.4)
        pen.line([(44, 4), (44, 68)], (92, 62, 40), 3.2)
        pen.poly(MAINSAIL, sail)
        if rng.uniform() < 0.6:
            with pen.within(MAINSAIL, trim) as on:
                for y in (22, 38, 54):
                    on.slab(44, y, 84, y + 6, SOLID)
        pen.outline(MAINSAIL, dark(sail, 0.45))
        pen.poly(JIB, light(trim, 0.35), dark(trim, 0.5))
        pen.poly([(44, 1), (58, 5), (44, 9)], (226, 58, 60))
    else:
        pen.slab(52, 22, 64, 46, trim, dark(trim, 0.6), 1)
        pen.slab(52, 28, 64, 34, WHITE)
        pen.slab(24, 42, 70, 68, WHITE, (110, 112, 124), 3)
        pen.slab(20, 38, 74, 45, trim, dark(trim, 0.6), 2)
        for x in (30, 44, 58):
            pen.oval(x + 3, 55, 4.6, 4.6, GLASS, (70, 90, 120))
    pen.poly(HULL, hull)
    for y1, y2, colour in ((69, 73, WHITE), (79, 90, dark(hull, 0.45))):
        with pen.within(HULL, colour) as on:
            on.slab(0, y1, 96, y2, SOLID)
    pen.outline(HULL, dark(hull, 0.65))


# fmt: off
TUBE = smooth([
    (3, 22), (24, 19), (60, 18), (92, 18), (104, 22), (109, 28), (102, 33), (84, 36), (50, 36),
    (22, 31),
])
# fmt: on


def _plane(pen: Pen, rng: np.random.Generator) -> None:
    white = light(vivid(rng), rng.uniform(0.6, 0.95)) if rng.uniform() < 0.75 else vivid(rng)
    livery = vivid(rng)
    edge, wing = dark(white, 0.55), mix(white, (150, 158, 176), 0.5)
    pen.poly([(58, 24), (72, 24), (50, 6), (42, 6)], dark(wing, 0.2), edge)
    pen.poly([(6, 22), (24, 21), (15, 1), (3, 1)], livery, dark(livery, 0.6))
    pen.poly(TUBE, white)
    belly = mix(livery, white, 0.15)
    with pen.within(TUBE, belly) as on:
        on.poly([(0, 28), (60, 31), (112, 29), (112, 40), (0, 40)], SOLID)
    pen.outline(TUBE, edge)
    for x in range(28, 92, 8):
        pen.slab(x, 22, x + 4.4, 26.6, (60, 92, 140), None, 1.5)
    pen.poly([(96, 21), (102, 22), (106, 26), (97, 26)], (60, 92, 140), edge)
    pen.poly([(4, 25), (20, 26), (6, 34), (-2, 34)], wing, edge)
    pen.slab(56, 37, 74, 45, livery, dark(livery, 0.6), 3.5)
    pen.poly([(46, 29), (72, 30), (46, 50), (34, 50)], wing, edge)


DRESS = smooth([(11, 29), (20, 27), (29, 29), (29, 46), (34, 66), (20, 69), (6, 66), (11, 46)])
SHIRT = smooth([(10, 30), (20, 27), (30, 30), (31, 44), (29, 60), (20, 61), (11, 60), (9, 44)])


def _person(pen: Pen, rng: np.random.Generator) -> None:
    skin, hair = SKINS[rng.integers(len(SKINS))], HAIRS[rng.integers(len(HAIRS))]
    shirt, legs, step = vivid(rng), dark(vivid(rng), rng.uniform(0.1, 0.55)), rng.uniform(1, 5)
    edge, dress, long_hair = dark(shirt, 0.6), rng.uniform() < 0.3, rng.uniform() < 0.45
    if long_hair:
        pen.slab(9, 6, 31, 34, hair, dark(hair, 0.5), 9)
    for side, shade in ((1, 0.25), (-1, 0.0)):
        foot = 20 + side * (4 + step)
        pen.line([(20 + side * 4, 56), (foot, 86)], dark(legs, 0.5), 9.5)
        pen.line([(20 + side * 4, 56), (foot, 86)], dark(skin if dress else legs, shade), 6.8)
        pen.slab(foot - 5, 85, foot + 6.5, 91.5, (48, 40, 48), None, 3)
    reach = rng.uniform(-1, 1, size=2) if rng.uniform() < 0.7 else np.array([-1.0, -3.5])
    for side, lift in zip((-1, 1), reach.tolist(), strict=True):
        elbow, hand = (
            (20 + side * 13.5, 43 + 3 * lift),
            (20 + side * (15.5 + lift), 56 + 7.5 * lift),
        )
        pen.line([(20 + side * 9, 32), elbow, hand], edge, 8)
        pen.line([(20 + side * 9, 32), elbow, hand], dark(shirt, 0.12), 5.2)
        pen.oval(*hand, 3.4, 3.4, skin, dark(skin, 0.5))
    torso = DRESS if dress else SHIRT
    pen.poly(torso, shirt)
    if rng.uniform() < 0.4:
        with pen.within(torso, light(shirt, 0.65)) as on:
            for y in (34, 43, 52):
                on.slab(0, y, 40, y + 4, SOLID)
    pen.outline(torso, edge)
    pen.slab(17, 23, 23, 30, dark(skin, 0.15))
    pen.oval(20, 15, 10.5, 11.5, skin, dark(skin, 0.6))
    pen.dome(9, 2.5, 31, 25, hair)
    if rng.uniform() < 0.3:
        hat = vivid(rng)
        pen.slab(11, -2, 29, 9, hat, dark(hat, 0.6), 4)
        pen.slab(6, 7, 34, 11, hat, dark(hat, 0.6), 2)
    for x in (17, 25):
        pen.oval(x, 16.5, 1.5, 1.9, BLACK)
    pen.arc(21, 18.5, 4, 30, 150, (170, 60, 60), 1.4)


DRAWN: dict[str, Drawing] = {
    "cat": (draw_cat, 100, 76, 0.0),  # how, width, height in units, largest tilt in degrees
    "dog": (draw_dog, 102, 76, 0.0),
    "sheep": (draw_sheep, 104, 76, 0.0),
    "car": (_car, 100, 60, 2.0),
    "taxi": (partial(_car, taxi=True), 100, 60, 2.0),
    "boat": (_boat, 92, 87, 4.0),
    "plane": (_plane, 110, 52, 9.0),
    "person": (_person, 40, 93, 0.0),
}

OWN: dict[str, Callable[[Pen, np.random.Generator], None]] = {  # told by their bodies, too
    "cat": partial(draw_cat, own=GINGER),
    "dog": partial(draw_dog, own=BROWN),
    "sheep": partial(draw_sheep, own=FLEECE),
    "car": partial(_car, own_paint=True),
    "taxi": partial(_car, taxi=True, own_paint=True),
}


def draw_sprite(
    label: int, size: float, rng: np.random.Generator, *, mirrored: bool = False, own: bool = False
) -> Pixels:
    """Draw one object of a class, in colours, pattern and pose of its own.

    Args:
        label: its class, 1...8.
        size: about the square root of its box's area, in pixels.
        rng: where its looks come from; as many numbers are drawn whatever `own` is.
        mirrored: does it face left?
        own: does it wear what only its class wears?

    Returns:
        (h, w, 4) uint8, RGBA, cut to the pixels that are at least half opaque.

    >>> draw_sprite(4, 40.0, np.random.default_rng(0)).shape[2]
    4
    """
    pen, angle = _drawn(label, size, rng, own)
    return pen.finish(mirrored=mirrored, angle=angle)


def draw_with_wheels(
    label: int, size: float, rng: np.random.Generator, *, mirrored: bool = False, own: bool = False
) -> tuple[Pixels, tuple[Mask, ...]]:
    """Draw what `draw_sprite` draws, and tell where in it each wheel lies, as masks (h, w).

    >>> sprite, wheels = draw_with_wheels(4, 40.0, np.random.default_rng(0))
    >>> len(wheels), wheels[0].shape == sprite.shape[:2]
    (2, True)
    """
    pen, angle = _drawn(label, size, rng, own)
    at = WHEELS if CLASSES[label - 1] in WHEELED else ()
    wheels = tuple(pen.trace(x, y, TYRE, mirrored=mirrored, angle=angle) for x, y in at)
    return pen.finish(mirrored=mirrored, angle=angle), wheels


def _drawn(label: int, size: float, rng: np.random.Generator, own: bool) -> tuple[Pen, float]:
    """Return the pen that drew an object, and the angle by which it is tilted, in degrees."""
    name = CLASSES[label - 1]
    draw, width, height, tilt = DRAWN[name]
    pen = Pen(width, height, size / (width * height) ** 0.5)
    (OWN.get(name, draw) if own else draw)(pen, rng)
    return pen, float(rng.uniform(-tilt, tilt)) if tilt else 0.0
