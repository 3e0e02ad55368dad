"""Where things stand along a toy street, and how the camera moves past them.

A street is 64 metres long and begins again at its end. The camera looks at it from the side, drifts
along it and a little to and fro, and turns slightly; its way is a smooth function of the frame. A
thing at a depth of z metres appears at a scale of `FOCAL / z`, so that near things are larger,
stand lower and pass faster. What things look like is in `almining.data.toy.street_things`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from almining.data.toy.street_things import CAR_HEIGHT, CARS, CONFOUNDERS, THINGS
from almining.rng import derive

LENGTH = 64.0  # metres, after which the street begins again
FOCAL = 183.0  # pixels of 128: what a metre at a depth of a metre would measure
EYE = 1.5  # metres, the camera's height: heads of pedestrians reach just above the horizon
HORIZON = 64.0  # pixels of 128 from the top
PERSON = 1.75  # metres
HOUSES, FAR_KERB, NEAR_KERB = 24.0, 14.9, 11.2  # depths, in metres
LIMITS = (4.0, 24.6)  # the least and greatest depth of ground


class Camera(NamedTuple):
    """Where the camera is in a frame.

    Args:
        x: metres along the street.
        z: metres towards the houses.
        pan: how far the picture is moved to the right by turning the camera, in pixels of 128.
        tilt: how far it is moved down.
    """

    x: float
    z: float
    pan: float
    tilt: float


class Thing(NamedTuple):
    """One thing that stands along the street.

    Args:
        name: one of `THINGS` or `CARS`.
        x: metres along the street.
        z: metres of depth.
        height: in metres.
        seed: of its looks.
    """

    name: str
    x: float
    z: float
    height: float
    seed: int


@dataclass(frozen=True, slots=True)
class Course:
    """The way of the camera through one video, a sum of slow waves and a drift.

    >>> Course.draw(0, 0).at(0) == Course.draw(0, 0).at(0)
    True
    """

    start: float
    drift: float
    phases: tuple[float, ...]

    @staticmethod
    def draw(seed: int, video: int) -> Course:
        """Choose the way for a video."""
        rng = np.random.default_rng(derive(seed, "course", video))
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        return Course(
            float(rng.uniform(0.0, LENGTH)),
            side * float(rng.uniform(0.016, 0.036)),
            tuple(rng.uniform(0.0, 2 * math.pi, size=5).tolist()),
        )

    def at(self, frame: int) -> Camera:
        """Return where the camera is in a frame."""
        waves = [
            size * math.sin(2 * math.pi * frame / period + phase)
            for (size, period), phase in zip(WAVES, self.phases, strict=True)
        ]
        return Camera(
            self.start + self.drift * frame + waves[0], waves[1], waves[2] + waves[3], waves[4]
        )


WAVES = (  # the size and the period in frames: along, to and fro (metres), pan, pan, tilt (pixels)
    (0.25, 190.0),
    (0.3, 310.0),
    (7.0, 270.0),
    (1.6, 97.0),
    (1.0, 83.0),
)
ROWS = (  # depths, how many on the 64 metres, and what
    ((22.6, 23.3), 8, ("tub", "mannequin", "bench", "box", "bush", "tub")),
    ((17.6, 20.8), 9, ("tree", "pine", "tree", "bush", "statue", "bench", "bush")),
    ((14.95, 15.1), 9, ("post", "hydrant", "sign", "post", "box", "post")),
    ((13.5, 13.8), 5, ("car", "car", "taxi")),
    ((10.85, 11.0), 10, ("tree", "post", "hydrant", "sign", "box", "tub", "post", "tree")),
    ((7.6, 9.9), 7, ("column", "mannequin", "statue", "bench", "post", "cone", "hydrant", "tub")),
    ((5.4, 6.6), 4, ("mannequin", "post", "hydrant", "tub", "box", "sign")),
    ((4.45, 4.6), 2, ("tub", "bush", "post", "cone")),
)
LIGHTS = ((15.2, 4), (10.9, 3))  # street lights: depth and how many


def lay_out(seed: int, video: int) -> list[Thing]:
    """Choose what stands along the street of a video, from the farthest to the nearest."""
    rng = np.random.default_rng(derive(seed, "layout", video))
    things = []
    for depths, count, names in ROWS:
        turn = int(rng.integers(len(names)))
        for i in range(count):
            name = names[(turn + i) % len(names)]
            x = (i + float(rng.uniform(0.12, 0.88))) * LENGTH / count
            tall = CAR_HEIGHT if name in CARS else THINGS[name][1]
            grown = rng.uniform(0.94, 1.06) if name in CONFOUNDERS else rng.uniform(0.8, 1.15)
            height = tall * (1.0 if name in CARS else float(grown))
            things.append(
                Thing(name, x, float(rng.uniform(*depths)), height, int(rng.integers(2**31)))
            )
    for z, count in LIGHTS:
        first, looks = float(rng.uniform(0.0, LENGTH)), int(rng.integers(2**31))
        for i in range(count):
            x = (first + i * LENGTH / count) % LENGTH
            things.append(Thing("streetlight", x, z, THINGS["streetlight"][1], looks))
    return sorted(things, key=lambda thing: -thing.z)
