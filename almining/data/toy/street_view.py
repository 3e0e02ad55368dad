"""The scenery of a toy street as the camera sees it: sky, houses, and the ground in perspective.

All of it stands still, so it is drawn once for a video; a frame looks up what it shows. Things and
pedestrians are set before it by `almining.data.toy.street_film`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from almining.data.toy.backdrops import Ground, draw_backdrop
from almining.data.toy.pens import SHADE, Colour, Pixels, cast_shadow, dark, hsv, light, mix
from almining.data.toy.street_things import draw_house, draw_thing
from almining.data.toy.street_world import (
    EYE,
    FAR_KERB,
    FOCAL,
    HORIZON,
    HOUSES,
    LENGTH,
    LIMITS,
    NEAR_KERB,
    Camera,
)
from almining.rng import derive

MARGIN = 14  # pixels of 128 by which the sky exceeds the picture: what pan and tilt may show
SUBROWS = 3  # rows of ground drawn for each row of the picture
DETAIL = 32.0  # pixels of the ground's plan for a metre, in scenes of 128


class Cutout(NamedTuple):
    """A drawing with its shadow, ready to be set into a picture.

    Args:
        colours: RGB, of the drawing over its shadow.
        alpha: how much of either covers each pixel.
        x: of the left edge, from the drawing's left edge, in pixels.
        y: of the top edge, from the drawing's top edge.
        mask: (h, w) bool, where the drawing itself is seen.
    """

    colours: Image.Image
    alpha: Image.Image
    x: int
    y: int
    mask: NDArray[np.bool_]


def cut_out(sprite: Pixels) -> Cutout:
    """Lay a drawing (h, w, 4) over its shadow on the ground."""
    h, w = sprite.shape[:2]
    shadow, left, top = cast_shadow(h, w)
    x, y = min(left, 0), min(top, 0)
    size = (max(left + shadow.width, w) - x, max(top + shadow.height, h) - y)
    layer = Image.new("RGBA", size, (*SHADE, 0))
    soft = Image.new("L", size)
    soft.paste(shadow, (left - x, top - y))
    layer.putalpha(soft)
    over = Image.new("RGBA", size)
    over.paste(Image.fromarray(sprite), (-x, -y))
    whole = Image.alpha_composite(layer, over)
    return Cutout(whole.convert("RGB"), whole.getchannel("A"), x, y, sprite[:, :, 3] >= 128)


class Scenery(NamedTuple):
    """What stands still in a video, at one size of the picture.

    Args:
        sky: larger than the picture by a margin on all sides.
        houses: RGBA, all of the street and the beginning once more.
        ground: (n,) uint32, the rows of the ground, far to near, as packed RGBA.
        starts: (rows,) where each begins.
        widths: (rows,) how many pixels of it the street is long.
    """

    sky: Image.Image
    houses: Image.Image
    ground: NDArray[np.uint32]
    starts: NDArray[np.int64]
    widths: NDArray[np.int64]


def _speckle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    total = np.zeros((height, width), np.int16)
    for cell, weight in ((48, 10), (14, 7), (5, 6)):
        cells = rng.integers(0, 256, size=(height // cell + 2, width // cell + 2), dtype=np.uint8)
        smooth = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
        total += weight * np.asarray(smooth, dtype=np.int16)
    return (total >> 7) - 23  # 23 of 128 is the middle of all weights


def _pave(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], stone: Colour, tile: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Lay tiles of `tile` pixels over a box x1, y1, x2, y2 of the plan."""
    x1, y1, x2, y2 = box
    draw.rectangle(box, fill=stone)
    columns, rows = round((x2 - x1) / tile), max(round((y2 - y1) / tile), 1)
    wide, tall = (x2 - x1) / columns, (y2 - y1) / rows
    for row, column in zip(*np.nonzero(rng.uniform(size=(rows, columns)) < 0.3), strict=True):
        tone = dark(stone, 0.09) if (row + column) % 3 else light(stone, 0.14)
        left, top = x1 + column * wide, y1 + row * tall
        draw.rectangle([left, top, left + wide, top + tall], fill=tone)
    joint, line = dark(stone, 0.17), max(round(tile * 0.07), 1)
    for row in range(rows + 1):
        draw.line([x1, y1 + row * tall, x2, y1 + row * tall], fill=joint, width=line)
    for column in range(columns + 1):
        draw.line([x1 + column * wide, y1, x1 + column * wide, y2], fill=joint, width=line)


def _adorn(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, detail: float, stone: Colour
) -> None:
    """Draw what lies on the promenade: a cycle lane or bands of small stones, leaves, drains."""

    def down(z: float) -> float:
        return (LIMITS[1] - z) * detail

    if rng.uniform() < 0.5:
        lane = hsv(rng.choice((0.02, 0.04, 0.4)), 0.3, 0.68)
        draw.rectangle([0, down(10.4), width, down(9.0)], fill=lane)
        for x in np.arange(0.0, LENGTH, 2.0).tolist():
            draw.rectangle(
                [x * detail, down(9.74), (x + 0.9) * detail, down(9.66)], fill=light(lane, 0.7)
            )
    else:
        _pave(draw, (0, down(10.4), width, down(9.9)), dark(stone, 0.3), 0.3 * detail, rng)
    second = mix(stone, hsv(rng.uniform(), 0.4, 0.6), 0.4)
    _pave(draw, (0, down(6.3), width, down(5.8)), second, 0.25 * detail, rng)
    fall = hsv(rng.uniform(0.03, 0.3), 0.6, 0.72)
    for x, z, r in rng.uniform((0, 4, 0.03), (LENGTH, 10.8, 0.08), size=(260, 3)).tolist():
        tone = mix(fall, (200, 120, 50), float(rng.uniform(0, 0.7)))
        draw.ellipse([(x - r) * detail, down(z + r), (x + r) * detail, down(z - r)], fill=tone)
    for x, z in rng.uniform((0, 4.4), (LENGTH - 1, 8.5), size=(4, 2)).tolist():
        draw.ellipse(
            [x * detail, down(z), (x + 0.7) * detail, down(z - 0.7)],
            fill=dark(stone, 0.32), outline=dark(stone, 0.5), width=max(round(0.08 * detail), 1),
        )  # fmt: skip


def _plan(rng: np.random.Generator, detail: float) -> Image.Image:
    """Draw the ground from above: the far pavement, the road and the promenade."""
    far, near = LIMITS[1], LIMITS[0]
    width, height = round(LENGTH * detail), round((far - near) * detail)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)

    def down(z: float) -> float:
        return (far - z) * detail

    stone = hsv(rng.uniform(0.05, 0.14), rng.uniform(0.06, 0.22), rng.uniform(0.7, 0.82))
    slab = hsv(rng.uniform(0.02, 0.6), rng.uniform(0.05, 0.18), rng.uniform(0.68, 0.8))
    tar = hsv(rng.uniform(0.55, 0.7), 0.09, rng.uniform(0.36, 0.46))
    kerb = light(stone, 0.5)
    _pave(draw, (0, 0, width, down(FAR_KERB)), slab, 0.8 * detail, rng)
    if rng.uniform() < 0.6:  # a strip of lawn before the houses
        green = hsv(rng.uniform(0.22, 0.34), rng.uniform(0.4, 0.55), rng.uniform(0.58, 0.7))
        draw.rectangle([0, down(21.2), width, down(17.2)], fill=green)
        draw.rectangle([0, down(17.2), width, down(17.0)], fill=dark(slab, 0.3))
    draw.rectangle([0, 0, width, down(23.7)], fill=dark(slab, 0.45))  # the houses' shade
    draw.rectangle([0, down(FAR_KERB), width, down(NEAR_KERB)], fill=tar)
    for x in np.arange(0.0, LENGTH, 3.2).tolist():
        draw.rectangle(
            [x * detail, down(12.75), (x + 1.7) * detail, down(12.5)], fill=(228, 226, 216)
        )
    x = rng.uniform(4, LENGTH - 8)  # a zebra crossing
    draw.rectangle([x * detail, down(14.7), (x + 4.4) * detail, down(NEAR_KERB + 0.3)], fill=tar)
    for i in range(4):
        left = (x + 0.2 + 1.1 * i) * detail
        draw.rectangle(
            [left, down(14.7), left + 0.6 * detail, down(NEAR_KERB + 0.3)], fill=(216, 216, 210)
        )
    _pave(draw, (0, down(NEAR_KERB), width, height), stone, 0.95 * detail, rng)
    _adorn(draw, rng, width, detail, stone)
    for z, deep in ((FAR_KERB, 0.35), (NEAR_KERB + 0.25, 0.25)):
        draw.rectangle([0, down(z + deep), width, down(z)], fill=kerb)
        edge = down(z) if z == FAR_KERB else down(z + deep + 0.12)
        draw.rectangle([0, edge, width, edge + 0.12 * detail], fill=dark(tar, 0.5))
    pixels = np.asarray(image, dtype=np.int16) + _speckle(rng, height, width)[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _ground(
    plan: Image.Image, detail: float, unit: float
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the ground as seen: the plan, averaged over what each row shows."""
    first, last = _subrow(LIMITS[1], unit), _subrow(LIMITS[0], unit)
    rows, widths = [], []
    for row in range(int(first), int(last)):
        far, near = (min(_depth(row + at, unit), LIMITS[1]) for at in (0.0, 1.0))
        middle = _depth(row + 0.5, unit)
        width = round(LENGTH * FOCAL * unit / middle)
        top, bottom = ((LIMITS[1] - z) * detail for z in (far, near))
        bottom = min(max(bottom, top + 0.5), plan.height)
        line = plan.resize(
            (width, 1), Image.Resampling.BOX, box=(0, min(top, bottom - 0.5), plan.width, bottom)
        )
        rows.append(np.asarray(line.convert("RGBA")).view(np.uint32).ravel())
        widths.append(width)
    lengths = np.asarray(widths, np.int64)
    return np.concatenate(rows), np.concatenate([[0], lengths.cumsum()[:-1]]), lengths


def _subrow(z: float, unit: float) -> float:
    return SUBROWS * FOCAL * unit * EYE / z


def _depth(subrow: float, unit: float) -> float:
    return SUBROWS * FOCAL * unit * EYE / subrow


def _row_of_houses(rng: np.random.Generator, unit: float, haze: Colour, extra: int) -> Image.Image:
    """Draw all houses of the street side by side, and the first `extra` pixels once more."""
    scale = FOCAL * unit / HOUSES
    width, height = round(LENGTH * scale), round(9.6 * scale)
    image = Image.new("RGBA", (width, height), (*haze, 0))
    for _ in range(12):  # trees behind
        tree = Image.fromarray(draw_thing("tree", scale * rng.uniform(4.5, 7), rng))
        image.alpha_composite(tree, (int(rng.uniform(0, width - tree.width)), height - tree.height))
    frontages: list[tuple[float, float]] = []
    while sum(map(sum, frontages)) < LENGTH - 4:
        gap = 0.0 if rng.uniform() < 0.5 else float(rng.uniform(0.8, 3.4))
        frontages.append((float(rng.uniform(5.0, 8.6)), gap))
    stretch, x = LENGTH / sum(map(sum, frontages)), 0.0
    for front, gap in frontages:
        floors = int(rng.choice((1, 2, 3), p=(0.25, 0.45, 0.3)))
        house = Image.fromarray(draw_house(front * stretch, floors, scale, rng))
        image.alpha_composite(
            house, (min(round(x * scale), width - house.width), height - house.height)
        )
        x += (front + gap) * stretch
        if gap:
            hedge = Image.fromarray(draw_thing("bush", scale * 1.3, rng))
            image.alpha_composite(
                hedge,
                (
                    min(
                        max(round((x - gap / 2) * scale) - hedge.width // 2, 0), width - hedge.width
                    ),
                    height - hedge.height,
                ),
            )
    pixels = np.array(image)
    pixels[:, :, :3] = (pixels[:, :, :3] * 0.9 + np.asarray(haze) * 0.1).astype(np.uint8)
    times = 1 + -(-extra // width)
    return Image.fromarray(np.concatenate([pixels] * times, axis=1)[:, : width + extra])


def draw_scenery(seed: int, video: int, height: int, width: int) -> Scenery:
    """Draw what stands still in a video."""
    rng = np.random.default_rng(derive(seed, "scenery", video))
    unit = height / 128
    margin = round(MARGIN * unit)
    side = max(width, height) + 2 * margin
    level = HORIZON * unit + margin
    backdrop = draw_backdrop(Ground("sky", level + 3 * unit, level, None), side, rng)
    sky = backdrop.crop((0, 0, width + 2 * margin, height + 2 * margin))
    haze = backdrop.getpixel((side // 2, round(level * 0.8)))
    detail = DETAIL * min(unit, 1.5)
    houses = _row_of_houses(rng, unit, mix(haze, (255, 255, 255), 0.2), width)  # type: ignore[arg-type]
    return Scenery(sky, houses, *_ground(_plan(rng, detail), detail, unit))


def view(scenery: Scenery, camera: Camera, height: int, width: int) -> Image.Image:
    """Return the picture of everything that stands still, but for the things along the street."""
    unit = height / 128
    margin, focal = round(MARGIN * unit), FOCAL * unit
    pan, level = camera.pan * unit, (HORIZON + camera.tilt) * unit
    left, top = margin - round(pan), margin - round(camera.tilt * unit)
    image = scenery.sky.crop((left, top, left + width, top + height))
    _paste_ground(image, scenery, camera, unit)
    scale = focal / HOUSES
    street = scenery.houses.width - width
    start = round(camera.x * scale - width / 2 - pan) % street
    strip = scenery.houses.crop((start, 0, start + width, scenery.houses.height))
    foot = round(level + EYE * focal / (HOUSES - camera.z))
    image.paste(strip, (0, foot - strip.height), strip)
    return image


def _paste_ground(image: Image.Image, scenery: Scenery, camera: Camera, unit: float) -> None:
    width, height = image.size
    level, focal = (HORIZON + camera.tilt) * unit, FOCAL * unit
    top = round(level + EYE * focal / (LIMITS[1] - 0.2 - camera.z))
    away = EYE * focal / (np.arange(top, height) + 0.5 - level)  # (rows,) depths from the camera
    first = int(_subrow(LIMITS[1], unit))
    rows = (SUBROWS * focal * EYE / (away + camera.z)).astype(np.int64) - first
    rows = np.clip(rows, 0, len(scenery.widths) - 1)
    widths = scenery.widths[rows]
    per_metre = widths / LENGTH
    begin = ((camera.x + (0.5 - width / 2 - camera.pan * unit) * away / focal) * per_metre) % widths
    along = begin[:, None] + np.arange(width) * (away / focal * per_metre)[:, None]  # (rows, width)
    columns = along.astype(np.int64)
    columns -= widths[:, None] * (columns >= widths[:, None])
    packed = scenery.ground[scenery.starts[rows][:, None] + columns]
    seen = Image.fromarray(packed.view(np.uint8).reshape(len(rows), width, 4))
    image.paste(seen.convert("RGB"), (0, top))
