"""BDD100K: stills of driving with ten classes; images and labels need an account.

137 training images stand in no list of labels: they are unlabelled, not empty. Divergence draws
from the training images with pedestrians only ("person" here), after its filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from almining.data.fetch.gather import PEDESTRIAN, Gathering, members, read_entries
from almining.data.fetch.gather import tall_pedestrians as tall
from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.pool import Pool

IMAGES, LABELS = "bdd100k_images_100k", "bdd100k_labels_release"
CLASSES = (
    *("person", "rider", "car", "bus", "truck", "bike", "motor", "traffic light"),
    *("traffic sign", "train"),
)
SIZE = (720, 1280)
BDD100K = DataSet(
    "BDD100K",
    (
        Archive(f"{IMAGES}.zip", what='"100K Images"'),
        Archive(f"{LABELS}.zip", what='"Labels", the release of 2018'),
    ),
    "https://bdd-data.berkeley.edu",
    "for research and education; see the page",
    account="Register on the page, accept the terms, log in, open the downloads.",
)


def read(folders: Mapping[str, Path], split: str) -> Pool:
    """Return a split, `"train"` or `"val"`, from the folders of its archives."""
    images = folders[IMAGES] / "bdd100k" / "images" / "100k" / split
    json = folders[LABELS] / "bdd100k" / "labels" / f"bdd100k_labels_images_{split}.json"
    gathered = Gathering(json, CLASSES)
    there = {path.name: path for path in sorted(images.glob("*.jpg"))}
    for number, entry in enumerate(read_entries(json)):
        name, labels = members(entry, "name", "labels")
        if not isinstance(name, str) or Path(name).name != name:
            remedy = "a plain file name is needed; the entry is left out"
            gathered.report.quarantined(json, f"entry {number}", "name", name, remedy)
            continue
        path = there.pop(name, images / name)
        drawn = gathered.image(Path(name).stem, path, SIZE, labelled=isinstance(labels, list))
        if drawn is None:
            continue
        for label in labels or ():
            category, box, place = members(label, "category", "box2d", "id")
            if box is not None:  # lanes and drivable areas have none
                xyxy = members(box, "x1", "y1", "x2", "y2")
                gathered.box(drawn, f"label {place}", category, xyxy)
    for name, path in there.items():
        gathered.image(Path(name).stem, path, SIZE, labelled=False)
    if there:
        remedy = "no entry in the list of labels; the image is read as unlabelled, not as empty"
        record = f"{', '.join(list(there)[:3])} ({len(there)} in all)"
        gathered.report.warning(json, record, "name", len(there), remedy)
    return gathered.pool()


def pedestrians(folders: Mapping[str, Path]) -> Pool:
    """Return the labelled training images with the pedestrians that Divergence keeps."""
    whole = read(folders, "train")
    number = whole.classes.index("person") + 1
    known = {}
    for image_id in whole.ids:
        target = whole.target(image_id)
        if target.complete:
            persons = replace(target, tags=None, absent=None).select(target.labels == number)
            ones = torch.ones_like(persons.labels)
            known[image_id] = replace(persons, labels=ones, complete=True)
    return tall(whole.relabelled([PEDESTRIAN], known))


def _expected(images: int, *numbers: int) -> Expected:
    by_class = dict(zip(CLASSES, numbers, strict=True))
    source = "BDD100K (Yu et al., CVPR 2020), and counts of its label files"
    return Expected(source, images=images, objects=sum(numbers), classes=by_class)


SPLITS = (
    Split(
        "bdd100k_train",
        partial(read, split="train"),
        _expected(
            *(70_000, 91_349, 4517, 713_211, 11_672, 29_971, 7210, 3002, 186_117, 239_686, 136),
        ),
    ),
    Split(
        "bdd100k_val",
        partial(read, split="val"),
        _expected(10_000, *(13_262, 649, 102_506, 1597, 4245, 1007, 452, 26_885, 34_908, 15)),
    ),
    Split(
        "bdd100k_divergence",
        pedestrians,
        Expected("Divergence, Table 1", images=69_836, labelled=17_632, counted=56_473),
    ),
)
SETS = {"bdd100k": (BDD100K, SPLITS)}
