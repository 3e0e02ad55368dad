"""A pool in COCO's format; `write_coco` is called through `data.writers`.

COCO's x y w h is met here and in `data.formats.coco`, which reads it, and goes no further. Nothing
of a pool is lost: what COCO has no word for stands under the key `"almining"`; see
`data.formats.extras`.
"""

from __future__ import annotations

import itertools
import json as jsons
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from almining.data.formats.export import Folder, number, size_of, write_files
from almining.data.formats.extras import KEY, box_extras, image_extras
from almining.data.formats.names import check_pool, file_names, file_stem, suffix
from almining.data.pool import Finding, Pool
from almining.progress import bar
from almining.records import Target

LARGEST = 2**63 - 1  # what other tools keep an id in


def write_coco(
    pool: Pool,
    json: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    copy: bool = False,
    overwrite: bool = False,
    progress: bool | str = True,
) -> tuple[Finding, ...]:
    """Write a pool as one file in COCO's format, losing nothing.

    An id that is a whole number is COCO's id of the image; another stands under `"almining"` beside
    a running number. The id of a category is the number of its class. An ignored box is a crowd
    (`iscrowd`), the only mark evaluators heed, and has `ignore` too.

    Args:
        pool: what to write.
        json: the file.
        images: the folder that the file names are relative to. Default: the folder that all files
            of the pool have in common; with `copy`, `images` beside the file. An image without a
            file is called `<id>.png`.
        copy: also write the image files there, named after their ids: byte for byte, or as PNG of
            8 bits where the pool has no file.
        overwrite: replace files that are there.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        What is lost, as the other writers do: nothing, an empty tuple. Only `pool.findings`, which
        are of the data the pool was read from, are not written.

    Raises:
        FileExistsError: naming a file that is there, unless `overwrite`.
        ValueError: for an id that makes no file name, a file that is not in `images`, a link in the
            way, two classes that differ in case only.

    Source: the COCO data format, cocodataset.org.
    Differs: x y w h are written so that x + w gives back x2 exactly. A box that a reader would
    repair, such as one without area, has its corners under `"almining"` too.
    """
    check_pool(pool)
    path = Path(json)
    folder = Folder(path.parent, overwrite)
    folder.plan([], [path.name])
    if copy:
        names = {image_id: file_stem(image_id) + suffix(pool, image_id) for image_id in pool.ids}
        pictures = Folder(path.parent / "images" if images is None else images, overwrite)
        write_files(pictures, pool, names, {}, copy=True, progress=progress, name="copying images")
    else:
        names = file_names(pool, images)
    with folder.open(path.name) as file:
        _write(file, pool, names, progress)
    return ()


def _write(file: BinaryIO, pool: Pool, names: dict[str, str], progress: bool | str) -> None:
    """Write the document one entry a line, so that a pool of any size needs no more memory."""
    numbers = image_numbers(pool)
    sizes = {image_id: size_of(pool, image_id) for image_id in pool.ids}
    images = (_image(pool, each, numbers[each], names[each], sizes[each]) for each in pool.ids)
    categories = [{"id": place, "name": name} for place, name in enumerate(pool.classes, start=1)]
    ids = bar(pool.ids, progress=progress, name="writing COCO", unit="image")
    boxes = (box for each in ids for box in _boxes(pool.target(each), numbers[each], sizes[each]))
    annotations = ({"id": place, **box} for place, box in enumerate(boxes, start=1))
    parts = {"images": images, "categories": categories, "annotations": annotations}
    for place, (field, entries) in enumerate(parts.items()):
        file.write(f'{"," if place else "{"}\n"{field}": ['.encode())
        for row, entry in enumerate(entries):
            text = jsons.dumps(entry, allow_nan=False)
            file.write(f"{',' if row else ''}\n{text}".encode())
        file.write(b"\n]")
    file.write(b"\n}\n")


def image_numbers(pool: Pool) -> dict[str, int]:
    """Return COCO's number of each image: its id where that is a whole number, else a free one."""
    numbers = {
        image_id: int(image_id)
        for image_id in pool.ids
        if image_id.isascii() and image_id.isdigit() and len(image_id) < 20
        if str(int(image_id)) == image_id and int(image_id) <= LARGEST
    }
    taken = set(numbers.values())
    free = (place for place in itertools.count(1) if place not in taken)
    return {
        image_id: numbers[image_id] if image_id in numbers else next(free) for image_id in pool.ids
    }


def _image(
    pool: Pool, image_id: str, place: int, name: str, size: tuple[int, int]
) -> dict[str, Any]:
    height, width = size
    info, extras = pool.info(image_id), image_extras(pool, image_id, place)
    entry: dict[str, Any] = {"id": place, "file_name": name, "width": width, "height": height}
    if info.video is not None:
        entry["video"] = info.video
    if info.frame is not None:
        entry["frame"] = info.frame
    return {**entry, KEY: extras} if extras else entry


def _boxes(target: Target, place: int, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Yield the annotations of an image, without their ids."""
    seen: set[tuple[object, ...]] = set()
    for row, box in enumerate(target.boxes.tolist()):
        x, y, wide, high = as_xywh(box)
        ignore = int(target.ignore[row])
        key = (int(target.labels[row]), ignore, *box)
        exact = key in seen or not _given_back(box, (x, y, wide, high), size)
        seen.add(key)
        entry: dict[str, Any] = {
            "image_id": place,
            "category_id": int(target.labels[row]),
            "bbox": [x, y, wide, high],
            "area": wide * high,
            "iscrowd": ignore,
        }
        if ignore:
            entry["ignore"] = 1
        extras = box_extras(target, row, exact=exact)
        yield {**entry, KEY: extras} if extras else entry


def as_xywh(box: list[float]) -> tuple[float, float, float, float]:
    """Return x y w h of a box x1 y1 x2 y2, in as few digits as give the corners back.

    >>> as_xywh([0.0, 2.0, 8.5, 4.0])
    (0.0, 2.0, 8.5, 2.0)
    """
    sides = []
    for low, end in ((box[0], box[2]), (box[1], box[3])):
        start = number(low)
        extent = end - start
        if extent > 0:
            short = number(extent)
            extent = short if np.float32(start + short) == np.float32(end) else extent
        sides.append((start, extent))
    (x, wide), (y, high) = sides
    return x, y, max(wide, 0.0), max(high, 0.0)


def _given_back(
    box: list[float], xywh: tuple[float, float, float, float], size: tuple[int, int]
) -> bool:
    """Tell whether a reader makes of x y w h the very corners of a box, repairs included."""
    (x1, y1, x2, y2), (x, y, wide, high), (height, width) = box, xywh, size
    back = [float(np.float32(side)) for side in (x, y, x + wide, y + high)]
    beyond = x1 < 0 or y1 < 0 or x2 > width or y2 > height
    return not (beyond or x2 <= x1 or y2 <= y1 or max(x2, y2) <= 1) and back == box
