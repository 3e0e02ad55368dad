"""Open Images V4: 600 classes, boxes in relative coordinates, groups marked by IsGroupOf.

Boxes are drawn of the classes that a person verified in an image, so no image is complete: the
classes of its boxes are its tags, and of no other is it known that it is absent. Groups are ignored
boxes. NOTE-RCNN takes the tags of the training set.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from almining.data.fetch.download import FetchError
from almining.data.fetch.gather import Gathering, opened
from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.pool import Pool

LABELS, IMAGES = "storage.googleapis.com", "open-images-dataset.s3.amazonaws.com"
NAMES = "class-descriptions-boxable.csv"
SIDES = ("XMin", "YMin", "XMax", "YMax")
PARTS = {
    "train": tuple(f"train_{part}" for part in "0123456789abcdef"),
    "validation": ("validation",),
    "test": ("test",),
}


def _set(split: str) -> DataSet:
    base = f"https://{LABELS}/openimages/2018_04"
    boxes = f"{split}-annotations-bbox.csv"
    return DataSet(
        f"Open Images V4, {split}",
        (
            Archive(NAMES, f"{base}/{NAMES}"),
            Archive(boxes, f"{base}/{split}/{boxes}"),
            *(Archive(f"{p}.tar.gz", f"https://{IMAGES}/tar/{p}.tar.gz") for p in PARTS[split]),
        ),
        "https://storage.googleapis.com/openimages/web/index.html",
        "annotations CC BY 4.0, images CC BY 2.0 as listed",
        (LABELS, IMAGES),
    )


def read(folders: Mapping[str, Path], split: str) -> Pool:
    """Return a split, from its files and the folders of its archives.

    Raises:
        FetchError: for a file of labels that is none.
    """
    with opened(folders[NAMES]) as file:
        names = {row[0]: row[1] for row in csv.reader(file) if len(row) == 2}
    source = folders[f"{split}-annotations-bbox.csv"]
    gathered = Gathering(source, tuple(names.values()))
    paths = {
        path.stem: path for part in PARTS[split] for path in sorted(folders[part].rglob("*.jpg"))
    }
    drawn = {image_id: gathered.image(image_id, path) for image_id, path in paths.items()}
    lost: dict[str, int] = {}
    for number, row in _rows(source):
        target = drawn.get(row["ImageID"])
        if target is None:
            lost[row["ImageID"]] = lost.get(row["ImageID"], 0) + (row["ImageID"] not in paths)
            continue
        height, width = target.size
        sides = [_number(row[side]) for side in SIDES]
        box = [
            side if side is None else side * scale
            for side, scale in zip(sides, (width, height) * 2, strict=True)
        ]
        name = names.get(row["LabelName"], row["LabelName"])
        gathered.box(target, f"line {number}", name, box, ignore=row["IsGroupOf"] == "1")
    absent = {image_id: rows for image_id, rows in lost.items() if rows}
    if absent:
        remedy = f"no such image, so {sum(absent.values())} boxes are left out"
        record = f"{', '.join(list(absent)[:3])} ({len(absent)} in all)"
        gathered.report.quarantined(source, record, "ImageID", len(absent), remedy)
    return _verified(gathered.pool(exhaustive=False))


def _rows(source: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line and its fields."""
    with opened(source) as file:
        rows = csv.DictReader(file, strict=True)
        missing = {"ImageID", "LabelName", "IsGroupOf", *SIDES} - set(rows.fieldnames or ())
        if missing:
            raise FetchError(f"{source} has no column {', '.join(sorted(missing))}; fetch it again")
        for row in rows:
            if None in row.values():
                raise FetchError(f"{source} breaks off in line {rows.line_num}; fetch it again")
            yield rows.line_num, row


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _verified(pool: Pool) -> Pool:
    """Return the pool with the classes of boxes as tags, and nothing known of the others."""
    known = {}
    for image_id in pool.ids:
        target = pool.target(image_id)
        tags = frozenset(target.labels.tolist())
        known[image_id] = replace(target, tags=tags or None, absent=frozenset() if tags else None)
    return pool.updated(known, cycle=pool.cycle)


def _split(split: str, images: int, objects: int) -> tuple[DataSet, tuple[Split, ...]]:
    published = Expected("the set's page, V4", images=images, objects=objects)
    return _set(split), (Split(f"openimages_v4_{split}", partial(read, split=split), published),)


SETS = {
    "train": _split("train", 1_743_042, 14_610_229),
    "validation": _split("validation", 41_620, 204_621),
    "test": _split("test", 125_436, 625_282),
}
