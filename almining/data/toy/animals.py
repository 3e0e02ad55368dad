"""Cat, dog and sheep of the toy world: one body, in any coat, and three heads.

Body, legs, tail, colours and patterns are shared: only the head tells them apart, unless a class
is asked to wear a coat of its own. These drawings are ours and follow no paper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from almining.data.toy.pens import (
    BLACK,
    SOLID,
    WHITE,
    Colour,
    Pen,
    dark,
    hsv,
    light,
    mix,
    smooth,
)

HEAD = (0.58, 0.65)  # heads begin at this share of the width and end at this share of the height
# fmt: off
FURS = [
    (0.07, 0.55, 0.62), (0.08, 0.68, 0.92), (0.10, 0.30, 0.90), (0.06, 0.45, 0.38),
    (0.60, 0.08, 0.45), (0.10, 0.10, 0.95), (0.0, 0.0, 0.22),
]
# fmt: on

# fmt: off
BODY = smooth([
    (10, 44), (18, 33), (36, 31), (56, 32), (70, 33), (76, 44), (68, 57), (48, 60), (26, 59),
    (13, 55),
])
# fmt: on
CURLS = [(x + 4 * (row % 2), 36 + 7 * row) for row in range(4) for x in range(14, 76, 9)]
FACE = smooth([(68, 20), (80, 14), (92, 20), (91, 36), (86, 47), (80, 49), (74, 47), (69, 36)])
NEAR_EAR = smooth([(63, 8), (69, 12), (67, 30), (61, 40), (55, 32), (58, 14)])
FAR_EAR = smooth([(87, 8), (93, 9), (98, 18), (95, 23), (90, 17)])
LEAF_EARS = [
    smooth([(80 + s * 12, 20), (80 + s * 23, 23), (80 + s * 24, 29), (80 + s * 12, 27)])
    for s in (-1, 1)
]


class Coat(NamedTuple):
    """What a class wears that can be told by its body.

    Args:
        colour: of most of it.
        second: of stripes, ears and socks.
        pattern: 1 stripes, 3 a pale belly, 5 curls.
    """

    colour: Colour
    second: Colour
    pattern: int


GINGER = Coat((238, 146, 58), (176, 84, 30), 1)  # cats, where likeness is turned down
BROWN = Coat((122, 80, 50), (84, 52, 34), 3)  # dogs
FLEECE = Coat((246, 244, 236), (226, 222, 212), 5)  # sheep


def fur(rng: np.random.Generator) -> Colour:
    """Return a coat colour: mostly one that animals have."""
    if rng.uniform() < 0.3:
        return hsv(rng.uniform(), rng.uniform(0.3, 0.6), rng.uniform(0.65, 0.95))
    hue, saturation, value = FURS[rng.integers(len(FURS))]
    return hsv(
        hue + rng.uniform(-0.02, 0.02),
        saturation * rng.uniform(0.8, 1.2),
        value * rng.uniform(0.85, 1.1),
    )


def _coat(
    pen: Pen, rng: np.random.Generator, coat: Colour, second: Colour, own: int | None
) -> None:
    """Draw the coat's pattern; one of its own takes the same numbers from `rng` as any other."""
    drawn = int(rng.integers(5))
    spots = rng.uniform((12, 32, 3), (74, 58, 6), size=(9, 3)).tolist() if drawn == 0 else []
    start, lean = (rng.uniform(12, 18), rng.uniform(-5, 5)) if drawn == 1 else (15.0, -3.0)
    saddle = rng.uniform(36, 52) if drawn == 2 else 44.0
    kind = drawn if own is None else own
    if kind == 0:  # spots
        with pen.within(BODY, second) as on:
            for x, y, r in spots:
                on.oval(x, y, r, r * 0.85, SOLID)
    elif kind == 1:  # stripes
        with pen.within(BODY, second) as on:
            for i in range(7):
                on.line([(start + 9 * i, 28), (start + 9 * i + lean, 62)], SOLID, 3.6)
    elif kind == 2:  # a saddle and a rump
        with pen.within(BODY, second) as on:
            on.oval(saddle, 33, 13, 12, SOLID)
            on.oval(14, 42, 10, 12, SOLID)
    elif kind == 3:  # a pale belly
        with pen.within(BODY, light(coat, 0.55)) as on:
            on.oval(43, 60, 36, 11, SOLID)
    elif kind == 5:  # curls
        with pen.within(BODY, dark(coat, 0.3)) as on:
            for x, y in CURLS:
                on.arc(x, y, 3.6, 20, 250, SOLID, 1.5)


def _animal(pen: Pen, rng: np.random.Generator, own: Coat | None) -> tuple[Colour, Colour]:
    """Draw what cat, dog and sheep share; return the coat's colour and the second colour."""
    coat = fur(rng)
    second = (
        dark(coat, rng.uniform(0.4, 0.6)) if sum(coat) > 330 else light(coat, rng.uniform(0.4, 0.6))
    )
    if own is not None:
        coat, second = mix(own.colour, coat, 0.06), own.second
    edge, socks = dark(coat, 0.62), second if rng.uniform() < 0.4 else coat
    tip = rng.uniform(14, 30)
    pen.line([(15, 42), (6, 38), (4, tip)], edge, 9)
    pen.line([(15, 42), (6, 38), (4, tip)], coat, 5.5)
    for x, shade in ((29, 0.3), (67, 0.3), (19, 0.0), (57, 0.0)):
        pen.slab(x - 5, 48, x + 5, 76, dark(coat, shade), edge, 4)
        pen.slab(x - 3.2, 67, x + 3.2, 74.2, dark(socks, shade), None, 3)
    pen.poly(BODY, coat)
    _coat(pen, rng, coat, second, None if own is None else own.pattern)
    pen.outline(BODY, edge)
    return coat, second


def _eyes(pen: Pen, x: float, y: float, gap: float, r: float, iris: Colour, pupil: float) -> None:
    for side in (-gap, gap):
        pen.oval(x + side, y, r, r * 1.15, iris, dark(iris, 0.75))
        pen.oval(x + side, y, pupil, r * 0.8, BLACK)
        pen.oval(x + side + r * 0.3, y - r * 0.4, r * 0.32, r * 0.32, WHITE)


def draw_cat(pen: Pen, rng: np.random.Generator, own: Coat | None = None) -> None:
    """Draw a cat, in any coat or in one of its own."""
    coat, second = _animal(pen, rng, own)
    edge, pink = dark(coat, 0.62), (240, 150, 160)
    for side in (-1, 1):
        pen.poly([(79 + side * 19, 3), (79 + side * 20, 25), (79 + side * 3, 14)], coat, edge)
        pen.poly([(79 + side * 16, 9), (79 + side * 16, 20), (79 + side * 8, 15)], pink)
    pen.oval(79, 29, 20, 17.5, coat, edge)
    for x in (74, 79, 84):
        pen.line([(x, 13.5), (x, 18)], second, 2)
    pen.oval(79, 37, 8.5, 6, light(coat, 0.65))
    iris = hsv(rng.uniform(0.13, 0.36), 0.7, 0.9)
    _eyes(pen, 79, 27, 8.5, 5, iris, 1.6)
    pen.poly([(76, 33), (82, 33), (79, 36.5)], pink, dark(pink, 0.4))
    for side in (-1, 1):
        for rise in (-2, 3):
            pen.line(
                [(79 + side * 8, 36 + rise * 0.4), (79 + side * 23, 36 + rise)],
                light(coat, 0.8),
                1.2,
            )


def draw_dog(pen: Pen, rng: np.random.Generator, own: Coat | None = None) -> None:
    """Draw a dog, in any coat or in one of its own."""
    coat, second = _animal(pen, rng, own)
    edge = dark(coat, 0.62)
    pen.oval(77, 26, 16.5, 18, coat, edge)
    if rng.uniform() < 0.5:
        pen.oval(83, 22, 6.5, 8, second)
    pen.poly([(82, 43), (91, 42), (90, 52), (84, 52)], (232, 92, 106), (160, 44, 62))
    muzzle = light(coat, 0.6)
    pen.oval(87, 36, 13.5, 9.5, muzzle, edge)
    pen.oval(96, 31.5, 5.5, 4.5, BLACK)
    pen.oval(97.5, 30, 1.5, 1.2, (170, 170, 180))
    _eyes(pen, 80, 22, 6.5, 3.6, (120, 76, 40), 2.4)
    for ear in (NEAR_EAR, FAR_EAR):
        pen.poly(ear, dark(second, 0.25), dark(second, 0.7))


def draw_sheep(pen: Pen, rng: np.random.Generator, own: Coat | None = None) -> None:
    """Draw a sheep, in any coat or in one of its own."""
    coat, _ = _animal(pen, rng, own)
    face = (66, 58, 66) if rng.uniform() < 0.6 else (238, 214, 190)
    wool, edge = light(coat, 0.72), dark(light(coat, 0.3), 0.5)
    for shape in (*LEAF_EARS, FACE):
        pen.poly(shape, face, dark(face, 0.6))
    curls = [(66, 18, 6.5), (94, 18, 6.5), (71, 9, 7.5), (89, 9, 7.5), (80, 6, 8.5)]
    for x, y, r in curls:
        pen.oval(x, y, r, r, wool, edge)
    pen.oval(80, 13, 13, 8, wool)
    for x, y, r in curls:
        pen.arc(x, y, r * 0.5, 20, 230, dark(wool, 0.25), 1.4)
    _eyes(pen, 80, 29, 6.5, 4, WHITE, 2.2)
    nose = dark(face, 0.5) if sum(face) > 400 else light(face, 0.5)
    pen.line([(77, 41), (80, 43.5), (83, 41)], nose, 1.8)
