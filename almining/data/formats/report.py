"""What a reader finds wrong, and the boxes of one image while they are read.

Every defect is an error, a repair, something set aside or a warning; nothing is dropped in silence.
The rules for a box, whatever format it came in, are here and nowhere else.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from almining.data.formats.files import BROKEN, ImageFiles, read_header
from almining.data.pool import DataError, Finding, ImageInfo, Pool
from almining.records import Target

ROUNDING = (
    0.011  # COCO rounds x and w to two decimals each, so their sum may pass the edge by this much
)
ABSENT = "null or absent"  # what a file says where a reader finds None
FORMAT_SHARE, FORMAT_BOXES = 0.2, 3  # more boxes than this leaving their image: another format?
PERCENT_IMAGES, PERCENT_BOXES = 5, 20  # fewer may well lie in one corner


def check_repairs(repair: Collection[str], known: Collection[str]) -> frozenset[str]:
    """Return the repairs asked for.

    Args:
        repair: the names asked for.
        known: the names the reader knows.

    Raises:
        ValueError: for one string, or a name that is not known, with the names that are.

    >>> sorted(check_repairs(["swap"], known=("swap", "orphans")))
    ['swap']
    """
    names = " or ".join(repr(name) for name in known)
    if isinstance(repair, str):
        raise ValueError(f"repair = {repair!r}: a sequence of names is needed, of {names}")
    for name in repair:
        if name not in known:
            raise ValueError(f"repair names {name!r}, which is no repair here; use {names}")
    return frozenset(repair)


class Report:
    """Everything a reader finds wrong, in order, and whether bad records stop it.

    Args:
        strict: errors raise in the end; otherwise the bad records are set aside.
        repair: the repairs asked for by name, as `check_repairs` returns them.
    """

    def __init__(self, strict: bool, repair: Collection[str] = ()) -> None:
        """Start without findings."""
        self.strict = strict
        self.repairs = frozenset(repair)
        self.findings: list[Finding] = []
        self._tallies: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}

    def error(
        self,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        *,
        image_id: str | None = None,
    ) -> None:
        """Note a bad record: an error, or one set aside when the report is not strict."""
        action = "error" if self.strict else "quarantined"
        self._note(action, file, record, field, value, remedy, image_id)

    def fatal(self, file: object, record: str, field: str, value: object, remedy: str) -> None:
        """Note an error of the data set as a whole, which nothing can be set aside for."""
        self._note("error", file, record, field, value, remedy)

    def repaired(
        self,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        *,
        image_id: str | None = None,
    ) -> None:
        """Note what was repaired."""
        self._note("repaired", file, record, field, value, remedy, image_id)

    def quarantined(
        self, file: object, record: str, field: str, value: object, remedy: str
    ) -> None:
        """Note what was set aside."""
        self._note("quarantined", file, record, field, value, remedy)

    def need_folder(self, path: Path) -> None:
        """Raise everything found so far when a folder is not there."""
        if not path.is_dir():
            remedy = "there is no such folder; correct the path"
            self.fatal(path, "folder", "path", str(path), remedy)
            self.check()

    def lost(self, file: object, record: str, field: str, path: Path) -> None:
        """Note a file that is not there, which sets its image aside; a broken link is named."""
        broken = broken_link(path)
        why = "the file is absent; add it"
        if broken is not None:
            why = f"the link {broken.name} is broken, it points to {broken.readlink()}; mend it"
            try:
                broken.stat()
            except OSError as error:
                if error.errno == errno.ELOOP:
                    why = f"the link {broken.name} leads back to itself; make it lead to a file"
        self.quarantined(file, record, field, str(path), f"the image is left out: {why}")

    def warning(self, file: object, record: str, field: str, value: object, remedy: str) -> None:
        """Note what is odd but was read as it stands."""
        self._note("warning", file, record, field, value, remedy)

    def _note(
        self,
        action: str,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        image_id: str | None = None,
    ) -> None:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
        text = ABSENT if value is None else text
        shown = text if len(text) <= 120 else f"{text[:117]}..."
        self.findings.append(Finding(str(file), record, field, shown, action, remedy, image_id))

    def tally(
        self, action: str, file: object, field: str, remedy: str, *, record: str, value: object
    ) -> None:
        """Note what may be wrong with many records; it becomes one finding that counts them."""
        if action == "error" and not self.strict:
            action = "quarantined"
        key = (action, str(file), field, remedy)
        self._tallies.setdefault(key, []).append((record, str(value)))

    def check(self) -> None:
        """Raise a `DataError` with everything found so far when any of it is an error."""
        for (action, file, field, remedy), rows in self._tallies.items():
            some = ", ".join(record for record, _ in rows[:3])
            named = some if len(rows) <= 3 else f"{some}, ... ({len(rows)} in all)"
            self._note(action, file, named, field, rows[0][1], remedy)
        self._tallies.clear()
        if any(finding.action == "error" for finding in self.findings):
            # only the first twenty are shown, so what has to be mended comes before what was told
            raise DataError(sorted(self.findings, key=lambda finding: finding.action != "error"))


def broken_link(path: Path) -> Path | None:
    """Return the path, or the first of its folders, that is a link leading nowhere; else None."""
    links = (step for step in (path, *path.parents) if step.is_symlink() and not step.exists())
    return next(links, None)


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


def spelled_twice(names: Iterable[str], report: Report, file: object, field: str) -> None:
    """Note an error for names that differ in case only."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            remedy = "two classes differ in case only; give them one spelling"
            report.fatal(file, "classes", field, f"{other!r} and {name!r}", remedy)


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
) -> Pool:
    """Raise what was found, or make the pool; an image without `Drawn` is unlabelled.

    Args:
        report: what was found so far.
        source: what was read.
        classes: the names of classes 1...C.
        drawn: the boxes by image id.
        infos: what is known of each image, in order.
        exhaustive: False where the labels are partial, so that no target is complete.

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
    paths = {image_id: info.path for image_id, info in infos.items() if info.path is not None}
    sizes = {image_id: info.size for image_id, info in infos.items() if info.size is not None}
    images = ImageFiles(paths, sizes)
    return Pool(classes, targets, images, infos=infos, findings=report.findings)
