"""COCO's instance annotations as a pool; `read_coco` is called through `data.readers`.

COCO's x y w h is met here and goes no further. Masks and keypoints are not read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from almining.data.files import inside, known_size
from almining.data.parse import read_json
from almining.data.pool import ImageInfo, Pool
from almining.data.report import Drawn, Report, judge_format, make_pool, spelled_twice

LISTS = ("images", "annotations", "categories")
IGNORE = ("iscrowd", "ignore", "isGroupOf", "IsGroupOf")


def read_coco(
    json: str | os.PathLike[str], images: str | os.PathLike[str], *, strict: bool = True
) -> Pool:
    """Read a data set in COCO's format.

    Args:
        json: the file with the lists `images`, `annotations` and `categories`.
        images: the folder the file names are relative to.
        strict: raise on bad records. False sets them aside too; an image that lost an object so is
            not complete.

    Returns:
        A pool of complete targets with ids `str(id)`; an image without annotations is complete and
        empty. Classes are numbered 1...C in the order of the category ids. Crowds, and what is
        marked `ignore` or `isGroupOf`, are ignored boxes. Where an image gives `sequence` (or
        `video`) and `frame`, they are kept.

    Raises:
        DataError: with every problem of the data set.

    Source: the COCO data format, cocodataset.org.
    Differs: only `bbox` is read, of a crowd too; `area` is that of the box.
    """
    source, report = Path(json), Report(strict)
    document = read_json(source, report)
    report.check()
    _check_lists(document, source, report)
    report.check()
    reader = _Coco(source, Path(images).resolve(), report)
    reader.read_categories(document["categories"])
    reader.read_images(document["images"])
    reader.read_annotations(document["annotations"])
    judge_format(
        report, source, reader.drawn.values(), hint="bbox is x y w h in pixels, not x1 y1 x2 y2"
    )
    drawn = {image_id: reader.drawn[image_id] for image_id in reader.infos}
    return make_pool(report, source, list(reader.classes.values()), drawn, reader.infos)


def _check_lists(document: Any, source: Path, report: Report) -> None:
    if not isinstance(document, dict):
        remedy = "an object with the lists images, annotations, categories is needed"
        report.fatal(source, "file", "top level", type(document).__name__, remedy)
        return
    for name in LISTS:
        value = document.get(name)
        if not isinstance(value, list):
            shown = type(value).__name__ if name in document else "absent"
            report.fatal(source, "file", name, shown, "a list of objects is needed")
            continue
        for number, entry in enumerate(value):
            if not isinstance(entry, dict):
                report.fatal(source, f"{name}[{number}]", name, entry, "an object is needed")


class _Coco:
    """One reading of a COCO file: what was found so far."""

    def __init__(self, source: Path, root: Path, report: Report) -> None:
        self.source, self.root, self.report = source, root, report
        self.classes: dict[str, str] = {}  # by category id, in order
        self.infos: dict[str, ImageInfo] = {}
        self.drawn: dict[str, Drawn] = {}
        self._aside: set[str] = set()
        self._spelling: dict[str, type] = {}

    def read_categories(self, entries: list[dict[str, Any]]) -> None:
        """Number the classes in the order of their ids."""
        known: dict[int, str] = {}
        for number, entry in enumerate(entries):
            key, name = entry.get("id"), entry.get("name")
            record = f"categories[{number}]"
            if _key(key) is None or not _key(key, whole=True):
                self.report.fatal(self.source, record, "id", key, "a whole number is needed")
            elif not isinstance(name, str) or not name.strip():
                self.report.fatal(self.source, record, "name", name, "a name is needed")
            elif int(str(key)) in known:
                self.report.fatal(
                    self.source, record, "id", key, "the id stands twice; renumber one"
                )
            else:
                known[int(str(key))] = name
                if name != name.strip():
                    remedy = "the blanks around the name are part of it; remove them if not meant"
                    self.report.warning(self.source, record, "name", repr(name), remedy)
        for name, times in Counter(known.values()).items():
            if times > 1:
                remedy = f"{times} categories have this name; merge or rename them"
                self.report.fatal(self.source, "categories", "name", name, remedy)
        spelled_twice(set(known.values()), self.report, self.source, "name")
        self.classes = {str(key): known[key] for key in sorted(known)}

    def read_images(self, entries: list[dict[str, Any]]) -> None:
        """Find the file and the size of every image."""
        keys = [_key(entry.get("id")) for entry in entries]
        times = Counter(keys)
        for number, (key, entry) in enumerate(zip(keys, entries, strict=True)):
            record = f"images[{number}]"
            if key is None:
                remedy = "a whole number or a string is needed"
                self.report.error(self.source, record, "id", entry.get("id"), remedy)
            elif times[key] > 1:
                remedy = f"{times[key]} images have this id; give each its own"
                self.report.error(self.source, record, "id", key, remedy)
                self._aside.add(key)
            else:
                self._spelling[key] = type(entry["id"])
                self._image(key, entry)

    def _image(self, key: str, entry: Mapping[str, Any]) -> None:
        self._aside.add(key)
        name, record = entry.get("file_name"), f"image {key}"
        if not isinstance(name, str) or not name.strip():
            self.report.error(self.source, record, "file_name", name, "name the image file")
            return
        path = inside(self.root, name)
        turned = name.replace("\\", "/")
        if path is not None and turned != name and not path.is_file():
            path = inside(self.root, turned)
            if path is not None and path.is_file():
                remedy = f"read {turned}"
                self.report.repaired(self.source, record, "file_name", name, remedy)
        if path is None:
            remedy = "the path leaves the folder of images; give one relative to it"
            self.report.error(self.source, record, "file_name", name, remedy)
            return
        sides = (entry.get("height"), entry.get("width"))
        whole = [side for side in sides if isinstance(side, int) and _whole(side) and side > 0]
        stated = (whole[0], whole[1]) if len(whole) == 2 else None
        shown = f"width={sides[1]!r} height={sides[0]!r}"
        size = known_size(path, stated, self.report, self.source, record, shown)
        if size is None:
            return
        video, frame = entry.get("sequence", entry.get("video")), entry.get("frame")
        self.infos[key] = ImageInfo(
            size=size,
            video=video if isinstance(video, str) else None,
            frame=frame if _whole(frame) else None,
            path=path,
        )
        self.drawn[key] = Drawn(self.report, self.source, size)
        self._aside.discard(key)

    def read_annotations(self, entries: list[dict[str, Any]]) -> None:
        """Give every annotation to its image."""
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            key = _key(entry.get("id"))
            record = f"annotations[{number}]" if key is None else f"annotation {key}"
            repeated = key is not None and key in seen
            if key is not None:
                seen.add(key)
            image = _key(entry.get("image_id"))
            if image in self._aside:
                continue
            drawn = None if image is None else self.drawn.get(image)
            if image is None or drawn is None:
                remedy = "there is no such image; add it or remove the annotation"
                self.report.error(self.source, record, "image_id", entry.get("image_id"), remedy)
            elif key is None:
                drawn.set_aside(record, "id", entry.get("id"), "number the annotations")
            elif repeated:
                drawn.set_aside(record, "id", entry["id"], "the id stands twice; renumber one")
            else:
                if type(entry["image_id"]) is not self._spelling[image]:
                    remedy = "ids are numbers in one place and strings in another; matched as text"
                    self._tally("image_id", remedy, record, entry["image_id"])
                if key == "0":
                    remedy = "evaluators take 0 for no match; annotations are numbered anew from 1"
                    self._tally("id", remedy, record, 0)
                self._annotation(drawn, record, entry)

    def _annotation(self, drawn: Drawn, record: str, entry: Mapping[str, Any]) -> None:
        category = _key(entry.get("category_id"))
        name = None if category is None else self.classes.get(category)
        if name is None:
            remedy = f"no such category; there are {', '.join(list(self.classes)[:10])}"
            drawn.set_aside(record, "category_id", entry.get("category_id"), remedy)
            return
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_number(value) for value in box):
            drawn.set_aside(record, "bbox", box, "four numbers x y w h are needed; correct it")
            return
        for field in ("iscrowd", "area"):
            if entry.get(field) is None:
                remedy = f"{field} is absent; taken as {'0' if field == 'iscrowd' else 'w * h'}"
                self._tally(field, remedy, record, "absent")
        marks = {field: entry[field] for field in IGNORE if entry.get(field) is not None}
        for field, value in marks.items():
            if value not in (0, 1):
                drawn.set_aside(record, field, value, "use 0 or 1")
                return
        x, y, width, height = (_float(value) for value in box)
        corners = (x, y, x + width, y + height)
        drawn.add(record, "bbox", name, corners, ignore=any(marks.values()), shown=str(box))

    def _tally(self, field: str, remedy: str, record: str, value: object) -> None:
        self.report.tally("repaired", self.source, field, remedy, record=record, value=value)


def _key(value: object, *, whole: bool = False) -> str | None:
    """Return an id as text; None unless it is a whole number or a string (`whole`: of digits)."""
    if _whole(value):
        return str(value)
    if not isinstance(value, str) or not value:
        return None
    return None if whole and not (value.isascii() and value.isdigit()) else value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
