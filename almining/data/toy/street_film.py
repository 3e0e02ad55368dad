"""Frames of the toy street: scenery, things and pedestrians put together, and boxed exactly.

A pedestrian's box is around what is visible of it; one of whom nothing is visible is not drawn, and
one of whom little is visible has a box that is to be ignored, as in Caltech Pedestrian. So nothing
that could be seen lacks a box. What is asked for, and how, is `almining.data.street`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from almining.data.toy.domains import render
from almining.data.toy.pens import UNIT, Pixels
from almining.data.toy.sight import extent, window
from almining.data.toy.street_things import draw_thing
from almining.data.toy.street_view import Cutout, cut_out, draw_scenery, view
from almining.data.toy.street_walkers import (
    PHASES,
    STRIDE,
    VISIBLE,
    Schedule,
    Walk,
    draw_walker,
)
from almining.data.toy.street_world import (
    EYE,
    FOCAL,
    HORIZON,
    LENGTH,
    PERSON,
    Camera,
    Course,
    Thing,
    lay_out,
)
from almining.rng import derive

ENOUGH = 3  # the least width and height of a box that counts, in pixels of 128
GRAIN = 2.6  # the standard deviation of the sensor's noise, of 255
Drawn = TypeVar("Drawn")


class Frame(NamedTuple):
    """One frame of a video.

    Args:
        image: (h, w, 3) uint8, RGB.
        boxes: (n, 4) float32, xyxy in pixels: what is visible of each pedestrian, from the
            farthest to the nearest.
        labels: (n,) int64, all 1.
        ignore: (n,) bool, less than 35% of it is visible.
        walkers: (n,) int64, the number of each pedestrian in its video.
    """

    image: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    walkers: NDArray[np.int64]


class Stood(NamedTuple):
    """A drawing and where it lies in the picture; `walker` is a pedestrian's number, or None."""

    cutout: Cutout
    x: int
    y: int
    depth: float
    walker: int | None


@lru_cache(maxsize=8)
def _remembering(draw: Callable[..., Drawn], many: int, height: int) -> Callable[..., Drawn]:
    """Return `draw` with its last results at hand: `many` of 128 pixels, in as much memory."""
    return lru_cache(maxsize=max(many * 128 * 128 // height**2, 2))(draw)


def _thing(name: str, height: int, seed: int) -> Cutout:
    return cut_out(draw_thing(name, float(height), np.random.default_rng(seed)))


@lru_cache(maxsize=256)
def _film(seed: int, video: int, busy: float, width: float) -> tuple[Course, list[Thing], Schedule]:
    return Course.draw(seed, video), lay_out(seed, video), Schedule(seed, video, busy, width)


@lru_cache(maxsize=4)
def _grain(height: int, width: int) -> NDArray[np.int16]:
    rng = np.random.default_rng(derive(0, "grain"))
    return np.rint(rng.normal(0.0, GRAIN, size=(2 * height, 2 * width, 3))).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Filming:
    """Draws frames of one kind; each is a function of (seed, video, frame) and of these fields.

    Args:
        size: height and width of the picture, in pixels.
        busy: the share of frames in which a pedestrian is seen.
        domain: one of `DOMAINS`.
    """

    size: tuple[int, int]
    busy: float
    domain: str

    @property
    def unit(self) -> float:
        """How many pixels one pixel of a picture 128 pixels high measures."""
        return self.size[0] / UNIT

    def film(self, seed: int, video: int) -> tuple[Course, list[Thing], Schedule]:
        """Return the camera's way, what stands along the street, and who walks when."""
        return _film(seed, video, self.busy, self.size[1] / self.unit)

    def stand(self, seed: int, video: int, frame: int) -> list[Stood]:
        """Return what stands or walks before the houses, from the farthest to the nearest."""
        course, things, schedule = self.film(seed, video)
        camera = course.at(frame)
        walks = [self._walking(walk, course, frame) for walk in schedule.walks(frame)]
        placed = [self._standing(thing, camera) for thing in things]
        order = [one for one in (*placed, *walks) if one is not None]
        return sorted(order, key=lambda one: -one.depth)

    def _standing(self, thing: Thing, camera: Camera) -> Stood | None:
        depth = thing.z - camera.z
        scale = FOCAL * self.unit / depth
        width = self.size[1]
        away = (thing.x - camera.x + LENGTH / 2) % LENGTH - LENGTH / 2
        x = width / 2 + camera.pan * self.unit + away * scale
        tall = round(thing.height * scale)
        if not -1.2 * tall < x < width + 1.2 * tall:
            return None
        cutout = _remembering(_thing, 4096, self.size[0])(thing.name, tall, thing.seed)
        h, w = cutout.mask.shape
        foot = round((HORIZON + camera.tilt) * self.unit + EYE * scale)
        return Stood(cutout, round(x - w / 2), foot - h, depth, None)

    def _walking(self, walk: Walk, course: Course, frame: int) -> Stood | None:
        camera = course.at(frame)
        x, average = walk.at(frame, self.size[1] / self.unit)
        depth = PERSON * FOCAL / average - camera.z
        scale = FOCAL / depth
        begin, before, now, after = (
            self._along(walk, course, at) for at in (walk.start, frame - 1, frame, frame + 1)
        )
        leftwards = after < before
        gone = (begin - now if leftwards else now - begin) / (STRIDE * PERSON * walk.tall)
        step = int((walk.gait + gone) % 1.0 * PHASES)
        tall = max(round(PERSON * walk.tall * scale * self.unit), 1)
        drawn = _remembering(draw_walker, 2048, self.size[0])
        posed = drawn(walk.looks, tall, step, leftwards)
        foot = round((HORIZON + camera.tilt + EYE * scale) * self.unit)
        cutout = cut_out(posed.sprite)
        left = round(x * self.unit - posed.centre)
        return Stood(cutout, left, foot - len(cutout.mask), depth, walk.number)

    def _along(self, walk: Walk, course: Course, frame: int) -> float:
        """Return where along the street a pedestrian is, in metres."""
        camera = course.at(frame)
        x, average = walk.at(frame, self.size[1] / self.unit)
        depth = PERSON * FOCAL / average - camera.z
        return camera.x + (x - self.size[1] / self.unit / 2 - camera.pan) * depth / FOCAL

    def picture(self, image_id: str) -> Pixels:
        """Draw the image (h, w, 3) of `street-<seed>-<video>/<frame>`."""
        name, frame = image_id.split("/")
        _, seed, video = name.split("-")
        return self.draw(int(seed), int(video), int(frame)).image

    def draw(self, seed: int, video: int, frame: int) -> Frame:
        """Draw one frame."""
        order, boxes, ignore = self.annotate(seed, video, frame)
        height, width = self.size
        camera = self.film(seed, video)[0].at(frame)
        scenery = _remembering(draw_scenery, 32, height)(seed, video, height, width)
        image = view(scenery, camera, height, width)
        for stood in order:
            cutout = stood.cutout
            image.paste(cutout.colours, (stood.x + cutout.x, stood.y + cutout.y), cutout.alpha)
        light = np.random.default_rng(derive(seed, "light", video))
        pixels = render(np.array(image), self.domain, light)
        walkers = [stood.walker for stood in order if stood.walker is not None]
        return Frame(
            self._with_grain(pixels, derive(seed, "grain", video, frame)),
            boxes,
            np.ones(len(boxes), np.int64),
            ignore,
            np.array(walkers, np.int64),
        )

    def _with_grain(self, pixels: Pixels, dice: int) -> Pixels:
        height, width = self.size
        top, left = dice % height, dice // height % width
        grain = _grain(height, width)[top : top + height, left : left + width]
        return np.clip(pixels + grain, 0, 255).astype(np.uint8)

    def annotate(
        self, seed: int, video: int, frame: int
    ) -> tuple[list[Stood], NDArray[np.float32], NDArray[np.bool_]]:
        """Return what is in the picture, and the boxes of pedestrians and which to ignore.

        A pedestrian of whom nothing is seen is not in the picture.
        """
        order = self.stand(seed, video, frame)
        kept: list[Stood] = []
        boxes: list[tuple[int, int, int, int]] = []
        ignore: list[bool] = []
        enough = max(2, round(ENOUGH * self.unit))
        hidden = np.zeros(self.size, np.bool_)  # by what is nearer
        for stood in reversed(order):
            rows, columns, inner = window(stood.cutout.mask.shape, stood.x, stood.y, self.size)
            mask = stood.cutout.mask[inner]
            if stood.walker is not None:
                seen = mask & ~hidden[rows, columns]
                if not seen.any():
                    continue
                x1, y1, x2, y2 = extent(seen, columns.start, rows.start)
                share = np.count_nonzero(seen) / np.count_nonzero(stood.cutout.mask)
                boxes.append((x1, y1, x2, y2))
                ignore.append(bool(share < VISIBLE) or min(x2 - x1, y2 - y1) < enough)
            hidden[rows, columns] |= mask
            kept.append(stood)
        found = np.array(boxes[::-1], np.float32).reshape(-1, 4)
        return kept[::-1], found, np.array(ignore[::-1], np.bool_)
