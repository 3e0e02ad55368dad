"""The toy world: stills of 128 pixels in which the papers' failure modes occur.

Cats, dogs and sheep share a body, cars and taxis a chassis; objects stand in rows, hide one another
and leave the picture. A scene is a function of (seed, index); where things stand in it is in
`almining.data.staging`, what they look like in `sprites`, `bystanders` and `backdrops`. Labels are
hidden by `almining.data.regimes`. These scenes are ours: their counts of objects are like those of
VOC (2.4 an image) and COCO (7.4), their content follows no data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from almining.data.backdrops import draw_backdrop, lay_ground
from almining.data.pens import Pixels
from almining.data.pool import ImageInfo, Pool
from almining.data.sprites import CLASSES as CLASSES
from almining.data.sprites import draw_sprite
from almining.data.staging import CONTEXTS, DENSITIES, Painter, Placed, Scene, paint
from almining.records import Target
from almining.rng import derive

SMALLEST, LARGEST = 64, 1024  # scenes, in pixels


def _whole(value: object, name: str, low: int, high: float, remedy: str) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not low <= value <= high
    ):
        raise ValueError(f"{name} = {value!r} must be a whole number of at least {low}{remedy}")
    return int(value)


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < float("inf")


def _painter(density: str, size: int, balance: Mapping[str, float] | None) -> Painter:
    if density not in DENSITIES:
        raise ValueError(
            f"density = {density!r} is unknown; choose one of {', '.join(map(repr, DENSITIES))}"
        )
    _whole(
        size,
        "size",
        SMALLEST,
        LARGEST,
        f" and at most {LARGEST} pixels, or objects cannot be told; 128 is usual",
    )
    weights = dict.fromkeys(CLASSES, 1.0) if balance is None else dict(balance)
    unknown = [name for name in weights if name not in CLASSES]
    if unknown:
        raise ValueError(
            f"balance names {unknown[0]!r}, which is no class; classes are {', '.join(CLASSES)}"
        )
    bad = [name for name, weight in weights.items() if not _is_weight(weight)]
    if bad or not any(weights.values()):
        shown = f"balance[{bad[0]!r}] = {weights[bad[0]]!r}" if bad else f"balance = {weights!r}"
        raise ValueError(
            f"{shown}: weights must be finite, not negative and not all 0; leave out a class "
            "that is not to occur"
        )
    return Painter(density, int(size), tuple(float(weights.get(name, 0.0)) for name in CLASSES))


def draw_scene(
    seed: int,
    index: int,
    *,
    density: str = "voc",
    size: int = 128,
    balance: Mapping[str, float] | None = None,
) -> Scene:
    """Draw one scene: a pure function of its arguments, the same bytes in any process.

    Args:
        seed: of the series of scenes.
        index: of the scene in the series.
        density: `"voc"`, 2.4 objects a scene on average, or `"coco"`, 7.4 smaller ones. At least
            one in either.
        size: height and width, in pixels, 64 to 1024; objects grow with it.
        balance: the weight of each class by name; a class left out does not occur.
            Default: all equal.

    Returns:
        The image (size, size, 3), uint8; boxes (n, 4), whole pixels, exactly around what is visible
        of each object; and labels (n,). At least 35% of an object is visible, and of the head
        of an animal, which tells its class; there is no object without a box.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> scene = draw_scene(0, 0)
    >>> scene.image.shape, [CLASSES[label - 1] for label in scene.labels]
    ((128, 128, 3), ['dog', 'sheep', 'sheep', 'sheep', 'cat'])
    """
    _whole(seed, "seed", 0, float("inf"), "")
    _whole(index, "index", 0, float("inf"), "")
    return _painter(density, size, balance).draw(int(seed), int(index))


def draw_icon(seed: int, index: int, *, size: int = 64) -> tuple[Pixels, int]:
    """Draw one object on a backdrop of its own, to pretrain a backbone on telling classes apart.

    Args:
        seed: of the series of icons.
        index: of the icon; classes take turns, so any eight in a row hold each class once.
        size: height and width, in pixels, 64 to 1024.

    Returns:
        The image (size, size, 3), uint8, and its label, 1...8. The object may leave the
        picture a little.

    >>> [draw_icon(0, index)[1] for index in range(9)]
    [1, 2, 3, 4, 5, 6, 7, 8, 1]
    """
    _whole(seed, "seed", 0, float("inf"), "")
    _whole(index, "index", 0, float("inf"), "")
    _whole(size, "size", SMALLEST, LARGEST, f" and at most {LARGEST} pixels; 64 is usual")
    rng = np.random.default_rng(derive(int(seed), "icon", int(index)))
    label = int(index) % len(CLASSES) + 1
    ground = lay_ground(CONTEXTS[rng.integers(4)], size, rng)
    backdrop = draw_backdrop(ground, size, rng)
    facing_left = bool(rng.uniform() < 0.5)
    sprite = draw_sprite(label, size * rng.uniform(0.42, 0.84), rng, mirrored=facing_left)
    h, w = sprite.shape[:2]
    x, y = (round((0.5 + rng.uniform(-0.14, 0.14)) * size - side / 2) for side in (w, h))
    return paint(backdrop, [Placed(sprite, x, y, label, 0.0, CLASSES[label - 1] != "plane")]), label


class SceneImages:
    """The images of a pool of scenes; draws each when it is asked for.

    The first `keep` images drawn stay in memory (49 kB each at 128 pixels), the others are drawn
    again each time. A copy sent to another process starts without any.
    """

    def __init__(self, painter: Painter, *, keep: int) -> None:
        """Keep no image yet."""
        self._painter, self._keep = painter, keep
        self._kept: dict[str, Pixels] = {}

    def remember(self, image_id: str, image: Pixels) -> None:
        """Keep an image (h, w, 3), uint8, while there is room."""
        if len(self._kept) < self._keep:
            self._kept[image_id] = image

    def load(self, image_id: str) -> Tensor:
        """Return the image (3, h, w), float32 in [0, 1]."""
        image = self._kept.get(image_id)
        if image is None:
            _, seed, index = image_id.split("-")
            image = self._painter.draw(int(seed), int(index)).image
            self.remember(image_id, image)
        return torch.tensor(image).permute(2, 0, 1).contiguous().to(torch.float32) / 255

    def __getstate__(self) -> dict[str, Any]:
        """Leave the images behind."""
        return {"_painter": self._painter, "_keep": self._keep, "_kept": {}}


def make_scenes(
    images: int,
    *,
    seed: int,
    density: str = "voc",
    size: int = 128,
    balance: Mapping[str, float] | None = None,
    keep: int = 4096,
) -> Pool:
    """Make a pool of toy scenes of which everything is known.

    Args:
        images: how many; 0 gives an empty pool.
        seed: of the series. Below 900,000 is the reader's, 900,000 and up are test scenes,
            1,000,000 and up trained the demos.
        density: `"voc"`, 2.4 objects a scene on average, or `"coco"`, 7.4 smaller ones.
        size: height and width, in pixels, 64 to 1024.
        balance: the weight of each class by name; a class left out does not occur.
            Default: all equal.
        keep: how many images stay in memory once drawn; the others are drawn again when asked for.

    Returns:
        Scenes `scene-<seed>-<index>`, each complete. The first n of a larger pool are the same.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> make_scenes(3, seed=0)
    Pool(3: 3 complete)
    """
    _whole(images, "images", 0, float("inf"), "; 0 gives an empty pool")
    _whole(seed, "seed", 0, float("inf"), "")
    _whole(keep, "keep", 0, float("inf"), "; 0 keeps none")
    painter = _painter(density, size, balance)
    source = SceneImages(painter, keep=keep)
    targets: dict[str, Target] = {}
    for index in range(images):
        scene, image_id = painter.draw(int(seed), index), f"scene-{seed}-{index}"
        source.remember(image_id, scene.image)
        targets[image_id] = Target(torch.from_numpy(scene.boxes), torch.from_numpy(scene.labels))
    infos = dict.fromkeys(targets, ImageInfo(size=(size, size)))
    return Pool(CLASSES, targets, source, infos=infos)
