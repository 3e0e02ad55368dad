"""The toy world: stills of 128 pixels in which the papers' failure modes occur.

Cats, dogs and sheep share a body, cars and taxis a chassis; objects stand in rows, hide one another
and leave the picture, as often as the dials of `data.toy.worlds` say. A scene is a function of
(seed, index) and the dials; where things stand in it and what they look like is drawn by the
modules of `almining.data.toy`. Labels are hidden by `almining.data.regimes`. These scenes are ours:
their counts of objects are like those of VOC (2.4 an image) and COCO (7.4), their content follows
no data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import numpy as np
import torch

from almining.checks import check_whole
from almining.data.pool import ImageInfo, Pool
from almining.data.toy.backdrops import draw_backdrop, lay_ground
from almining.data.toy.images import DrawnImages
from almining.data.toy.pens import Pixels
from almining.data.toy.sight import Placed
from almining.data.toy.sprites import CLASSES as CLASSES
from almining.data.toy.sprites import draw_sprite
from almining.data.toy.staging import CONTEXTS, DENSITIES, Painter, Scene, paint
from almining.data.toy.worlds import Dials, World, is_number
from almining.records import Target
from almining.rng import derive

SMALLEST, LARGEST = 64, 1024  # scenes, in pixels
MOST = 1e100  # the greatest weight of a class, so that their sum is finite


def _painter(density: str, size: int, balance: Mapping[str, float] | None, world: World) -> Painter:
    if density not in DENSITIES:
        raise ValueError(
            f"density = {density!r} is unknown; choose one of {', '.join(map(repr, DENSITIES))}"
        )
    check_whole(
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
            f"balance names {unknown[0]!r}; what can be weighed is {', '.join(CLASSES)}"
        )
    bad = [name for name, weight in weights.items() if not is_number(weight, 0, MOST)]
    if bad or not any(weights.values()):
        shown = f"balance[{bad[0]!r}] = {weights[bad[0]]!r}" if bad else f"balance = {weights!r}"
        raise ValueError(
            f"{shown}: weights must be numbers from 0 to {MOST:g} and not all 0; leave out a "
            "class that is not to occur"
        )
    shares = tuple(float(weights.get(name, 0.0)) for name in CLASSES)
    return Painter(density, int(size), shares, world)


def draw_scene(
    seed: int,
    index: int,
    *,
    density: str = "voc",
    size: int = 128,
    balance: Mapping[str, float] | None = None,
    **dials: Unpack[Dials],
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
        **dials: how often what goes wrong in pictures happens in this one, see `make_scenes`.

    Returns:
        The image (size, size, 3), uint8; boxes (n, 4), whole pixels, exactly around what is visible
        of each object; and labels (n,). At least 35% of an object is visible (25% at the highest
        occlusion), and 35% of the head of an animal, which tells its class; there is no object
        without a box. With `parts`, each object's wheels follow it; no wheel is seen without a box.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> scene = draw_scene(0, 0)
    >>> scene.image.shape, [CLASSES[label - 1] for label in scene.labels]
    ((128, 128, 3), ['dog', 'sheep', 'sheep', 'sheep', 'cat'])
    """
    check_whole(seed, "seed", 0)
    check_whole(index, "index", 0)
    return _painter(density, size, balance, World(**dials)).draw(int(seed), int(index))


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
    check_whole(seed, "seed", 0)
    check_whole(index, "index", 0)
    check_whole(size, "size", SMALLEST, LARGEST, f" and at most {LARGEST} pixels; 64 is usual")
    rng = np.random.default_rng(derive(int(seed), "icon", int(index)))
    label = int(index) % len(CLASSES) + 1
    ground = lay_ground(CONTEXTS[rng.integers(4)], size, rng)
    backdrop = draw_backdrop(ground, size, rng)
    facing_left = bool(rng.uniform() < 0.5)
    sprite = draw_sprite(label, size * rng.uniform(0.42, 0.84), rng, mirrored=facing_left)
    h, w = sprite.shape[:2]
    x, y = (round((0.5 + rng.uniform(-0.14, 0.14)) * size - side / 2) for side in (w, h))
    return paint(backdrop, [Placed(sprite, x, y, label, 0.0, CLASSES[label - 1] != "plane")]), label


def make_scenes(
    images: int,
    *,
    seed: int,
    density: str = "voc",
    size: int = 128,
    balance: Mapping[str, float] | None = None,
    likeness: float = 1.0,
    rows: float = 0.4,
    row_length: int = 3,
    closeness: float = 0.5,
    parts: bool = False,
    context_bias: float = 0.85,
    occlusion: float = 0.5,
    truncation: float = 0.5,
    clutter: float = 1.0,
    domain: str = "day",
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
        likeness: 0...1, the share of animals, cars and taxis that only a part (head, roof sign)
            tells from other classes; 0 gives every class colours of its own.
        rows: 0...1, the probability that a group of objects is a row of one class.
        row_length: 2...5, the most objects in a row.
        closeness: 0...1, how tight rows stand: 0 with gaps, 1 half hidden by the neighbour.
        parts: is the wheel a ninth class, with a box around what is seen of each?
        context_bias: 0...1, the probability that a group is of a class at home where it stands.
        occlusion: 0...1, how much is hidden, and how often; 0: nothing hides anything.
        truncation: 0...1, how often objects leave the picture; 0: never.
        clutter: 0...4, a factor on the number of things that are no object.
        domain: `"day"` or `"dusk"`; what stands where is the same.
        keep: how many images stay in memory once drawn, 49 kB each at 128 pixels and 3 MB at
            1024; the others are drawn again when asked for.

    Returns:
        Scenes `scene-<seed>-<index>`, each complete. The first n of a larger pool are the same.
        What each dial is for is told by `data.toy.worlds.World`; at their defaults they give the
        world the demos were trained in. Pools of other worlds have the same ids.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> make_scenes(3, seed=0)
    Pool(3: 3 complete)
    >>> make_scenes(3, seed=0, closeness=1.0, parts=True).classes[-1]
    'wheel'
    """
    check_whole(images, "images", 0, remedy="; 0 gives an empty pool")
    check_whole(seed, "seed", 0)
    check_whole(keep, "keep", 0, remedy="; 0 keeps none")
    world = World(
        likeness=likeness,
        rows=rows,
        row_length=row_length,
        closeness=closeness,
        parts=parts,
        context_bias=context_bias,
        occlusion=occlusion,
        truncation=truncation,
        clutter=clutter,
        domain=domain,
    )
    painter = _painter(density, size, balance, world)
    source = DrawnImages(painter.picture, keep=keep)
    targets: dict[str, Target] = {}
    for index in range(images):
        scene, image_id = painter.draw(int(seed), index), f"scene-{seed}-{index}"
        source.remember(image_id, scene.image)
        targets[image_id] = Target(torch.from_numpy(scene.boxes), torch.from_numpy(scene.labels))
    infos = dict.fromkeys(targets, ImageInfo(size=(painter.size, painter.size)))
    classes = (*CLASSES, "wheel") if parts else CLASSES
    return Pool(classes, targets, source, infos=infos)
