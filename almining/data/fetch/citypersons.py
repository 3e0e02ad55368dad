"""CityPersons: pedestrians on the images of Cityscapes, which need an account.

Riders, sitting and other persons, groups and ignored regions are ignored boxes. Divergence starts
from the training images that hold a pedestrian after its filters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from almining.data.fetch.gather import (
    PEDESTRIAN,
    Gathering,
    members,
    tall_pedestrians,
    with_objects,
)
from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.formats.files import is_side
from almining.data.formats.parse import read_json
from almining.data.pool import Pool

IMAGES, LABELS = "leftImg8bit_trainvaltest", "gtBbox_cityPersons_trainval"
OTHERS = ("rider", "sitting person", "person (other)", "person group", "ignore")
CITYPERSONS = DataSet(
    "CityPersons",
    (
        Archive(f"{IMAGES}.zip", what="the images of Cityscapes, 11 GB"),
        Archive(f"{LABELS}.zip", what="the boxes of CityPersons"),
    ),
    "https://www.cityscapes-dataset.com/downloads/",
    "for research, not to be passed on",
    account="Register on the page with an address of a university, accept the terms, log in.",
)


def read(folders: Mapping[str, Path], split: str) -> Pool:
    """Return a split, `"train"` or `"val"`, from the folders of its archives."""
    labels = folders[LABELS] / "gtBboxCityPersons" / split
    images = folders[IMAGES] / "leftImg8bit" / split
    gathered = Gathering(labels, (PEDESTRIAN,))
    for path in sorted(images.glob("*/*_leftImg8bit.png")):
        city, stem = path.parent.name, path.name.removesuffix("_leftImg8bit.png")
        file = labels / city / f"{stem}_gtBboxCityPersons.json"
        content = read_json(file, gathered.report) if file.is_file() else None
        height, width, objects = members(content, "imgHeight", "imgWidth", "objects")
        size = (height, width) if is_side(height) and is_side(width) else None
        drawn = gathered.image(
            f"{city}/{stem}", path, size, file=file, labelled=isinstance(objects, list)
        )
        if drawn is None:
            continue
        for number, entry in enumerate(objects or (), start=1):
            label, box = members(entry, "label", "bbox")
            if label in OTHERS:
                name, ignore = PEDESTRIAN, True
            else:
                name, ignore = label, False
            gathered.box(drawn, f"object {number}", name, _corners(box), ignore=ignore)
    return gathered.pool()


def _corners(box: object) -> list[object]:
    """Return x1 y1 x2 y2 of x y w h; what is none as it is."""
    if not isinstance(box, list) or len(box) != 4:
        return [json.dumps(box)]
    if not all(type(side) in (int, float) for side in box):
        return box
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _split(split: str) -> Callable[[Mapping[str, Path]], Pool]:
    return lambda folders: read(folders, split)


SPLITS = (
    Split(
        "citypersons_train",
        _split("train"),
        Expected("CityPersons (Zhang et al., CVPR 2017)", images=2975),
    ),
    Split(
        "citypersons_val",
        _split("val"),
        Expected("CityPersons (Zhang et al., CVPR 2017)", images=500),
    ),
    Split(
        "citypersons_divergence",
        lambda folders: with_objects(tall_pedestrians(read(folders, "train"))),
        Expected("Divergence, Table 1", images=1835, labelled=1835, counted=7740),
    ),
)
SETS = {"citypersons": (CITYPERSONS, SPLITS)}
