"""The boxes of one image while they are read, and the pool that all of them become.

The rules for a box, whatever format it came in, are here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from almining.data.formats.files import BROKEN, ImageFiles, read_header
from almining.data.formats.report import Report
from almining.data.pool import ImageInfo, Images, Pool
from almining.records import Target

ROUNDING = (
    0.011  # COCO rounds x and w to two decimals each, so their sum may pass the edge by this much
)
FORMAT_SHARE, FORMAT_BOXES = 0.2, 3  # more boxes than this leaving their image: another format?
PERCENT_IMAGES, PERCENT_BOXES = 5, 20  # fewer may well lie in one corner


class Drawn:
    """The boxes of one image while they are read: judged one by one, then made a target.

    Args:
        report: where to note what is wrong.
        file: the annotation file.
        size: (height, width) of the image.
        image_id: its id in the pool.
    """

    def __init__(
        self, report: Report, file: object, size: tuple[int, int], *, image_id: str | None = None
    ) -> None:
        """Start without boxes."""
        self.report = report
        self.image_id = image_id
        self.file = file
        self.size = size
        self.complete = True
        self.since = 0
        self.seen = self.leaving = 0
        self.reach = 0.0
        self.fractions = False
        self._rows: dict[tuple[str, float, float, float, float, bool], None] = {}

    def set_aside(self, record: str, field: str, value: object, remedy: str) -> None:
        """Note an object that cannot be read; the image is then no longer complete."""
        self.complete = False
        self.report.error(self.file, record, field, value, remedy, image_id=self.image_id)

    def repaired(self, record: str, field: str, value: object, remedy: str) -> None:
        """Note what was repaired of an object."""
        self.report.repaired(self.file, record, field, value, remedy, image_id=self.image_id)

    def add(
        self,
        record: str,
        field: str,
        name: str,
        box: Collection[float],
        *,
        ignore: bool,
        shown: str,
    ) -> None:
        """Judge one box and keep it if it is one.

        Args:
            record: what the file calls the object.
            field: what it calls the box.
            name: the class.
            box: x1 y1 x2 y2 in pixels, width = x2 - x1.
            ignore: difficult or crowd.
            shown: the box as the file gives it.
        """
        x1, y1, x2, y2 = box
        height, width = self.size
        self.seen += 1
        if not all(math.isfinite(value) for value in box):
            self.set_aside(record, field, shown, "coordinates must be finite numbers; correct it")
            return
        if x2 < x1 or y2 < y1:
            if "swap" not in self.report.repairs:
                remedy = "width or height is negative; correct it or pass repair=('swap',)"
                self.set_aside(record, field, shown, remedy)
                return
            x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
            remedy = f"corners swapped to x1 y1 x2 y2 = {x1:g} {y1:g} {x2:g} {y2:g}"
            self.repaired(record, field, shown, remedy)
        if _flat(x1, x2) or _flat(y1, y2):
            self.repaired(record, field, shown, "a box without area is dropped")
            return
        self.reach = max(self.reach, x2, y2)
        self.fractions = self.fractions or any(value != int(value) for value in box)
        beyond = max(-x1, -y1, x2 - width, y2 - height)
        self.leaving += beyond > ROUNDING
        cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if _flat(cut[0], cut[2]) or _flat(cut[1], cut[3]):
            remedy = (
                f"the box lies outside its image of {width} x {height} pixels; correct or remove it"
            )
            self.set_aside(record, field, shown, remedy)
            return
        if beyond > ROUNDING:
            remedy = f"clipped to the image of {width} x {height} pixels"
            self.repaired(record, field, shown, remedy)
        row = (name, *cut, ignore)
        if row in self._rows:
            remedy = "an exact duplicate of a box of the same class is dropped"
            self.repaired(record, field, shown, remedy)
        self._rows[row] = None

    @property
    def names(self) -> list[str]:
        """The classes of the boxes kept."""
        return [row[0] for row in self._rows]

    def target(self, numbers: Mapping[str, int], *, exhaustive: bool = True) -> Target:
        """Return the target, complete if `exhaustive` and unless an object was set aside."""
        rows = list(self._rows)
        return Target(
            torch.tensor([row[1:5] for row in rows], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([numbers[row[0]] for row in rows], dtype=torch.int64),
            ignore=torch.tensor([row[5] for row in rows], dtype=torch.bool),
            complete=self.complete and exhaustive,
        )


def _flat(low: float, high: float) -> bool:
    """Tell whether nothing lies between two coordinates once they are float32."""
    with np.errstate(over="ignore"):
        return bool(np.float32(high) <= np.float32(low))


def judge_format(report: Report, file: object, drawn: Collection[Drawn], *, hint: str) -> None:
    """Note what only all boxes together show: coordinates that are no pixels, or another format.

    Args:
        report: where to note it.
        file: what the boxes were read from.
        drawn: the boxes of every image.
        hint: which other format is likely.
    """
    seen = sum(image.seen for image in drawn)
    leaving = sum(image.leaving for image in drawn)
    reach = max((image.reach for image in drawn), default=0.0)
    if 0 < reach <= 1:
        remedy = "coordinates look normalised to [0, 1]; multiply them by width and height"
        report.fatal(file, f"all {seen} boxes", "bbox", f"at most {reach:g}", remedy)
    found = [image for image in drawn if image.seen]
    if (
        len(found) >= PERCENT_IMAGES
        and seen >= PERCENT_BOXES
        and 80 < reach <= 100
        and any(image.fractions for image in found)
        and all(min(image.size) > 200 for image in found)
    ):
        remedy = "coordinates look like percent; multiply them by width / 100 and height / 100"
        report.fatal(file, f"all {seen} boxes", "bbox", f"at most {reach:g}", remedy)
    if leaving >= FORMAT_BOXES and leaving > FORMAT_SHARE * seen:
        value = f"{leaving} of {seen} leave their image"
        report.warning(
            file, "boxes", "bbox", value, f"check that {hint}; they are read as they stand"
        )


def _sixteen_bits(path: Path) -> bool:
    """Tell whether an image is grey of 16 bits; only files that may be are opened."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".png":
            with path.open("rb") as file:
                head = file.read(26)
            return head[:4] == b"\x89PNG" and head[24:] == b"\x10\x00"  # bits, type of colour
        return suffix in (".tif", ".tiff") and read_header(path).sixteen
    except BROKEN:
        return False  # what is broken is set aside when it is loaded


def make_pool(
    report: Report,
    source: object,
    classes: Sequence[str],
    drawn: Mapping[str, Drawn | None],
    infos: Mapping[str, ImageInfo],
    *,
    exhaustive: bool = True,
    images: Images | None = None,
) -> Pool:
    """Raise what was found, or make the pool; an image without `Drawn` is unlabelled.

    Args:
        report: what was found so far.
        source: what was read.
        classes: the names of classes 1...C.
        drawn: the boxes by image id.
        infos: what is known of each image, in order.
        exhaustive: False where the labels are partial, so that no target is complete.
        images: where images come from; by default the files `infos` names.

    Raises:
        DataError: with everything found when any of it is an error, or no image is left.
    """
    report.check()
    if not infos:
        remedy = "no image is left to read; see the other findings and the paths given"
        report.fatal(source, "images", "count", 0, remedy)
    for image_id in drawn:
        path = infos[image_id].path if image_id in infos else None
        if path is not None and _sixteen_bits(path):
            remedy = "grey of 16 bits is divided by 65535"
            record = f"image {image_id}"
            report.tally("repaired", source, "pixels", remedy, record=record, value="16 bits")
    report.check()
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    targets = {
        image_id: Target.unknown()
        if (boxes := drawn.get(image_id)) is None
        else boxes.target(numbers, exhaustive=exhaustive)
        for image_id in infos
    }
    since = {
        image_id: boxes.since
        for image_id in infos
        if (boxes := drawn.get(image_id)) is not None and boxes.since
    }
    if images is None:
        paths = {image_id: info.path for image_id, info in infos.items() if info.path is not None}
        sizes = {image_id: info.size for image_id, info in infos.items() if info.size is not None}
        images = ImageFiles(paths, sizes)
    return Pool(classes, targets, images, infos=infos, since=since, findings=report.findings)
