"""Pools of every state, for the tests of writers: strategies, a source of images, comparisons."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st

from almining.data.pool import ImageInfo, Pool
from almining.records import Target

NAMES = ("cat", "dog", "traffic light", "zebra & <ant>", "ünï", "yes", "0")
IDS = (
    *("7", "007", "0", "street-0-1/000012", "a/b", "a/c.d e", "éß 漢", "JPEGImages/000001"),
    *("images/train/x", "scene-0-3", "12", "99999999999999999999"),
)


class Levels:
    """Images of the sizes given, each a gradient of values k / 255."""

    def __init__(self, sizes):
        self.sizes = sizes

    def load(self, image_id):
        height, width = self.sizes[image_id]
        values = torch.arange(3 * height * width).reshape(3, height, width) % 256
        return values.to(torch.float32) / 255


def make(targets, classes=("cat", "dog"), size=(30, 40), infos=None, since=None):
    """Return a pool of these targets, without files."""
    sizes = dict.fromkeys(targets, size)
    known = infos or {name: ImageInfo(size=size) for name in targets}
    return Pool(classes, targets, Levels(sizes), infos=known, since=since)


def some_boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@st.composite
def rectangles(draw, size, *, plain):
    """One box of an image; plain ones lie inside it and are over a pixel wide and high."""
    height, width = size
    side = st.floats if draw(st.booleans()) else (lambda low, high, **_: st.integers(low, high))
    options = {"width": 32}
    if plain:
        x1, y1 = draw(side(0, width - 2, **options)), draw(side(0, height - 2, **options))
        x2 = draw(side(int(x1) + 2, width, **options))
        y2 = draw(side(int(y1) + 2, height, **options))
        return [x1, y1, x2, y2]
    x1, y1 = draw(side(-width, 2 * width, **options)), draw(side(-height, 2 * height, **options))
    wide, high = draw(side(0, width, **options)), draw(side(0, height, **options))
    x2, y2 = np.float32(x1) + np.float32(wide), np.float32(y1) + np.float32(high)
    return [x1, y1, float(x2), float(y2)]


@st.composite
def targets(draw, classes, size, *, plain):
    """What is known of one image: any of the four states, with everything a target holds."""
    n = draw(st.integers(0, 4))
    rows = [draw(rectangles(size, plain=plain)) for _ in range(n)]
    if plain:  # doubles are dropped by readers
        rows = [row for i, row in enumerate(rows) if row not in rows[:i]]
    elif rows and draw(st.booleans()):
        rows.append(rows[0])
    n = len(rows)
    labels = [draw(st.integers(1, classes)) for _ in range(n)]
    origin = draw(
        st.lists(st.sampled_from(["human", "mined", "mined:ssm:2"]), min_size=n, max_size=n)
    )
    score = st.just(math.nan) | st.floats(-5, 5, width=32)
    scores = [draw(score) for _ in range(n)]
    complete = draw(st.booleans())
    known = set(labels)
    tags = absent = None
    if draw(st.booleans()):
        tags = known if complete else known | draw(st.sets(st.integers(1, classes)))
    rest = set(range(1, classes + 1)) - known - (tags or set())
    if draw(st.booleans()):
        absent = draw(st.sets(st.sampled_from(sorted(rest)))) if rest else set()
    negatives = [draw(rectangles(size, plain=plain)) for _ in range(draw(st.integers(0, 2)))]
    return Target(
        some_boxes(*rows),
        torch.tensor(labels, dtype=torch.int64),
        ignore=torch.tensor([draw(st.booleans()) for _ in range(n)], dtype=torch.bool),
        origin=origin,
        scores=torch.tensor(scores, dtype=torch.float32),
        tags=tags,
        absent=absent,
        negatives=some_boxes(*negatives),
        complete=complete,
    )


@st.composite
def pools(draw, *, plain=False):
    """A pool of 1 to 5 small images without files."""
    classes = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=5, unique=True))
    sizes = {name: (draw(st.integers(3, 40)), draw(st.integers(3, 40))) for name in ids}
    known = {name: draw(targets(len(classes), sizes[name], plain=plain)) for name in ids}
    infos = {
        name: ImageInfo(
            size=sizes[name],
            video=draw(st.none() | st.just("street")),
            frame=draw(st.none() | st.integers(0, 9)),
        )
        for name in ids
    }
    since = {name: draw(st.integers(0, 2)) for name in ids}
    return Pool(classes, known, Levels(sizes), infos=infos, since=since)


def same(first, second, fields, *, exact=True):
    """Raise unless two targets are equal in these fields."""
    for field in fields:
        one, two = getattr(first, field), getattr(second, field)
        if isinstance(one, torch.Tensor):
            assert one.shape == two.shape, (field, one, two)
            close = {"rtol": 0, "atol": 0 if exact else 1e-9, "equal_nan": True}
            torch.testing.assert_close(two, one, **close, msg=lambda text, f=field: f"{f}: {text}")
        else:
            assert one == two, (field, one, two)


ALL = ("boxes", "labels", "ignore", "origin", "scores", "tags", "absent", "negatives", "complete")
