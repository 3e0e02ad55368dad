"""Pedestrians of the toy street: what they look like, and when and where they walk.

A pedestrian enters at a side of the picture, crosses it or turns back, and leaves; it walks at one
of five distances, or from one to the next, about a factor 1.45 apart in size. Pedestrians come in
episodes, so that neighbouring frames are alike and most frames are empty. Everything is a function
of the seed, the video and the frame. These drawings are ours and follow no paper.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from almining.data.toy.pens import (
    BLACK,
    MARGIN,
    SOLID,
    Colour,
    Pen,
    Pixels,
    dark,
    hsv,
    light,
    smooth,
    vivid,
)
from almining.data.toy.sprites import HAIRS, SKINS
from almining.rng import derive

HEIGHTS = (14.0, 20.5, 30.0, 44.0, 64.0)  # of an average pedestrian, in pixels of 128
WIDE = 0.42  # about the width of a pedestrian, of its height
PACE = 0.056  # of its height, what a pedestrian walks on the picture from frame to frame
TURNERS = (1.0, 0.85, 0.2, 0.15, 0.15)  # the share that turns back, by distance
SHORTEST, LONGEST = 64, 80  # frames of an episode, and of one walk through 192 pixels
SEEN = 0.93  # the share of an episode in which not all who walk are hidden by things
PHASES = 16  # drawings of one double step
STRIDE = 0.8  # of its height, the length of a double step
LANES = (0.25, 0.46, 0.62, 0.79)  # the share of walkers up to each distance but the nearest
GOLDEN = 0.6180339887498949  # its multiples, modulo 1, cover [0, 1) evenly
TURNS = (0.7548776662466927, 0.5698402909980532)  # and those of these two cover the square
VISIBLE = 0.35  # the least share of a pedestrian that must be seen
# fmt: off
COAT = smooth([(21, 29), (28, 26), (35, 29), (38, 44), (41, 66), (28, 69), (15, 66), (18, 44)])
JUMPER = smooth([(21, 29), (28, 26), (35, 29), (37, 42), (35, 58), (28, 60), (21, 58), (19, 42)])
# fmt: on


class Looks(NamedTuple):
    """What one pedestrian looks like: colours as 8-bit RGB, and what it wears."""

    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    coat: bool
    striped: bool
    long_hair: bool
    hat: Colour | None
    pack: Colour | None


def draw_looks(rng: np.random.Generator) -> Looks:
    """Choose what a pedestrian looks like."""
    dull = rng.uniform() < 0.35
    top = hsv(rng.uniform(), rng.uniform(0.1, 0.35), rng.uniform(0.3, 0.75)) if dull else vivid(rng)
    return Looks(
        SKINS[rng.integers(len(SKINS))],
        HAIRS[rng.integers(len(HAIRS))],
        top,
        dark(vivid(rng), rng.uniform(0.3, 0.65)),
        bool(rng.uniform() < 0.35),
        bool(rng.uniform() < 0.3),
        bool(rng.uniform() < 0.4),
        vivid(rng) if rng.uniform() < 0.25 else None,
        vivid(rng) if rng.uniform() < 0.3 else None,
    )


def _leg(phase: float) -> list[tuple[float, float]]:
    """Return hip, knee and ankle of a leg that swings forward in the first half of its phase."""
    turn = 2 * math.pi * phase
    thigh = -0.4 * math.cos(turn) + 0.04
    shin = thigh - 0.75 * max(math.sin(turn), 0.0) - 0.06
    knee = (28 + 19 * math.sin(thigh), 53 + 19 * math.cos(thigh))
    return [(28.0, 53.0), knee, (knee[0] + 19 * math.sin(shin), knee[1] + 19 * math.cos(shin))]


def _arm(phase: float) -> list[tuple[float, float]]:
    swing = 0.45 * math.cos(2 * math.pi * phase)
    elbow = (28 + 13 * math.sin(swing), 33 + 13 * math.cos(swing))
    fore = swing + 0.45
    return [(28.0, 33.0), elbow, (elbow[0] + 12 * math.sin(fore), elbow[1] + 12 * math.cos(fore))]


def _head(pen: Pen, looks: Looks, lift: float) -> None:
    x, y = 29.0, 14.5 + lift
    if looks.long_hair:
        pen.slab(18.5, y - 6, 30, y + 17, looks.hair, dark(looks.hair, 0.5), 6)
    pen.slab(25, y + 7, 31, y + 15, dark(looks.skin, 0.15))
    pen.oval(x, y, 9.5, 10.5, looks.skin, dark(looks.skin, 0.6))
    pen.dome(x - 11, y - 12, x + 9.5, y + 9, looks.hair)
    pen.slab(x - 10.5, y - 3, x - 3, y + 5, looks.hair, None, 3)
    if looks.hat is not None:
        pen.dome(x - 10.5, y - 13, x + 10.5, y + 7, looks.hat)
        pen.slab(x - 10, y - 4.5, x + 15, y - 1, dark(looks.hat, 0.25), dark(looks.hat, 0.6), 1.5)
    pen.oval(x + 5, y + 1, 1.5, 2.1, BLACK)
    pen.line([(x + 4.5, y + 6), (x + 7.5, y + 5.2)], (170, 60, 60), 1.3)


def _limbs(pen: Pen, looks: Looks, phase: float, lift: float, *, near: bool) -> None:
    shade = 0.0 if near else 0.3
    leg = [(x, y + lift) for x, y in _leg(phase)]
    ankle = leg[-1]
    pen.line(leg, dark(looks.legs, 0.55), 9.6)
    pen.line(leg, dark(looks.legs, shade), 7)
    pen.slab(ankle[0] - 4, ankle[1] - 2, ankle[0] + 8, ankle[1] + 4, (46, 40, 48), None, 2.6)


def _sleeve(pen: Pen, looks: Looks, phase: float, lift: float, *, near: bool) -> None:
    arm = [(x, y + lift) for x, y in _arm(phase)]
    pen.line(arm, dark(looks.top, 0.6), 7.6)
    pen.line(arm, dark(looks.top, 0.1 if near else 0.32), 5.2)
    pen.oval(*arm[-1], 3.3, 3.3, looks.skin, dark(looks.skin, 0.5))


class Posed(NamedTuple):
    """A pedestrian as drawn in one moment.

    Args:
        sprite: (h, w, 4) uint8, RGBA.
        centre: how far from the sprite's left edge the middle of the body is, in pixels.
    """

    sprite: Pixels
    centre: float


def draw_walker(looks: Looks, height: int, step: int, mirrored: bool) -> Posed:
    """Draw a pedestrian about `height` pixels tall in moment `step` of `PHASES` of its gait.

    >>> looks = draw_looks(np.random.default_rng(0))
    >>> draw_walker(looks, 40, 3, False).sprite.shape[2]
    4
    """
    phase = step / PHASES
    scale = height / 95
    pen = Pen(58, 97, scale)
    lift = 92.0 - max(_leg(phase)[-1][1], _leg(phase + 0.5)[-1][1])
    body = [(x, y + lift) for x, y in (COAT if looks.coat else JUMPER)]
    outline = np.asarray(body)
    _sleeve(pen, looks, phase + 0.5, lift, near=False)
    _limbs(pen, looks, phase + 0.5, lift, near=False)
    _limbs(pen, looks, phase, lift, near=True)
    if looks.pack is not None:
        pen.slab(12, 30 + lift, 24, 52 + lift, looks.pack, dark(looks.pack, 0.6), 4)
    pen.poly(outline, looks.top)
    if looks.striped:
        with pen.within(outline, light(looks.top, 0.6)) as on:
            for y in (34.0, 43.0, 52.0):
                on.slab(0, y + lift, 58, y + 4 + lift, SOLID)
    pen.outline(outline, dark(looks.top, 0.6))
    _sleeve(pen, looks, phase, lift, near=True)
    _head(pen, looks, lift)
    sprite = pen.finish(mirrored=mirrored)
    centre = (28 + MARGIN) * scale - pen.reduced()[2].start
    return Posed(sprite, sprite.shape[1] - centre if mirrored else centre)


@dataclass(frozen=True, slots=True)
class Walk:
    """The way of one pedestrian across the picture.

    Args:
        number: of the pedestrian, counted through the video.
        start: the frame in which it is about to enter.
        frames: how long it takes until it has left.
        heights: the height of an average pedestrian where it walks, at the start and at the end.
        tall: its own height, as a share of that.
        rightwards: does it enter at the left?
        turns: does it turn back, after so many pixels? Else 0.
        looks: what it looks like.
        gait: the moment of its gait at the start, in double steps.
    """

    number: int
    start: int
    frames: int
    heights: tuple[float, float]
    tall: float
    rightwards: bool
    turns: float
    looks: Looks
    gait: float

    def at(self, frame: int, width: float) -> tuple[float, float]:
        """Return where it is from the left of a picture, and how tall an average one is there.

        All is in pixels of 128, `width` of which the picture is wide.
        """
        share = (frame - self.start) / self.frames
        height = self.heights[0] + (self.heights[1] - self.heights[0]) * _ease(share)
        edge = 0.5 * WIDE * max(self.heights)
        if self.turns:
            x = (self.turns + edge) * math.sin(math.pi * share) - edge
        else:
            x = (width + 2 * edge) * share - edge
        return (x if self.rightwards else width - x), height

    def seen(self, width: float) -> set[int]:
        """Return the frames in which at least 35% of it lies in the picture."""
        shown = set()
        for frame in range(self.start, self.start + self.frames + 1):
            x, height = self.at(frame, width)
            half = 0.5 * WIDE * height
            if min(x + half, width) - max(x - half, 0.0) >= VISIBLE * 2 * half:
                shown.add(frame)
        return shown


def _ease(share: float) -> float:
    share = min(max((share - 0.2) / 0.6, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _walk(rng: np.random.Generator, number: int, start: int, lane: int, width: float) -> Walk:
    height, kind = HEIGHTS[lane], rng.uniform()
    other, turns = height, 0.0
    if kind < TURNERS[lane]:
        frames = int(rng.integers(44, LONGEST))
        hurry = float(rng.uniform(1.2, 1.9)) if lane < 2 else 1.0
        turns = min(frames * PACE * hurry * height / math.pi, 0.6 * width)
    else:
        if lane and kind < TURNERS[lane] + 0.3:  # to the next distance, over the road perhaps
            other = HEIGHTS[lane + (1 if lane < 4 and rng.uniform() < 0.5 else -1)]
        pace = PACE * float(rng.uniform(0.85, 1.2)) * (height + other) / 2
        frames = min(
            round((width + WIDE * max(height, other)) / pace), round(LONGEST * width / 192)
        )
    return Walk(
        number, start, frames, (height, other), float(rng.uniform(0.92, 1.08)),
        bool(rng.uniform() < 0.5), turns, draw_looks(rng), float(rng.uniform()),
    )  # fmt: skip


class Schedule:
    """Who walks when in a video: a function of (seed, video, busy, width), of any length.

    Args:
        seed: of the series of videos.
        video: of the series.
        busy: the share of frames in which a pedestrian is seen.
        width: of the picture, in pixels of 128.
    """

    def __init__(self, seed: int, video: int, busy: float, width: float) -> None:
        """Plan nothing yet."""
        self._seed, self._video, self._busy, self._width = seed, video, busy, width
        self._blocks: list[tuple[int, list[Walk]]] = []  # each block's end, and who walks in it
        self._walkers = 0
        self._lock = threading.Lock()

    def _lane(self, walker: int) -> int:
        """Choose a distance; they take turns over walkers and videos, so that all occur alike."""
        turn = derive(self._seed, "lanes") / 2**63 + TURNS[0] * walker + TURNS[1] * self._video
        return int(np.searchsorted(LANES, turn % 1.0, side="right"))

    def _plan(self) -> None:
        """Plan one more block: an episode, and the empty frames that make its share right."""
        rng = np.random.default_rng(derive(self._seed, "walks", self._video, len(self._blocks)))
        walks: list[Walk] = []
        seen: set[int] = set()
        company = rng.uniform() < 0.4
        while len(seen) < SHORTEST or (company and len(walks) < 2):
            begin = int(rng.uniform(0.0, 0.5) * len(seen))
            number = self._walkers + len(walks)
            walks.append(_walk(rng, number, begin, self._lane(number), self._width))
            seen |= walks[-1].seen(self._width)
        length = max(round(SEEN * len(seen) / max(self._busy, 1e-9)), 1)
        if self._blocks:
            first = self._blocks[-1][0]
        else:
            turn = (derive(self._seed, "begin") / 2**63 + GOLDEN * self._video) % 1.0
            first = -round(turn * length)
        moved = [replace(walk, start=walk.start + first) for walk in walks]
        self._blocks.append((first + length, moved))
        self._walkers += len(walks)

    def walks(self, frame: int) -> list[Walk]:
        """Return who is on the way in a frame."""
        if self._busy == 0:
            return []
        with self._lock:
            while not self._blocks or self._blocks[-1][0] <= frame:
                self._plan()
        here = bisect_right(self._blocks, frame, key=lambda block: block[0])
        recent = self._blocks[max(here - 1, 0) : here + 1]  # one may still leave as the next enters
        return [
            walk
            for _, walks in recent
            for walk in walks
            if walk.start <= frame <= walk.start + walk.frames
        ]
