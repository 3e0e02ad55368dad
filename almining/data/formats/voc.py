"""The layout of PASCAL VOC as a pool; `read_voc` is called through `data.readers`.

VOC's inclusive coordinates are met here and go no further.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from almining.data.files import SUFFIXES, inside, known_size
from almining.data.parse import Element, read_xml
from almining.data.pool import ImageInfo, Pool
from almining.data.report import Drawn, Report, judge_format, make_pool, spelled_twice

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(
    root: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str] | None = None,
    voc_origin: int = 1,
    strict: bool = True,
) -> Pool:
    """Read one split of a data set in the layout of PASCAL VOC.

    `ImageSets/Main/<split>.txt` lists the images, `Annotations/<name>.xml` tells of each,
    `JPEGImages/<name>.*` holds it. A listed image without an annotation file is unlabelled; one
    without an `<object>` is complete and empty.

    Args:
        root: the folder that holds these three.
        split: the name of the list, such as `"trainval"`.
        classes: the names of classes 1...C. Default: VOC's twenty when every name found is one of
            them, otherwise the names found in this split, sorted; pass `classes=train.classes` to
            read further splits alike.
        voc_origin: the coordinate of the first pixel: 1 as in VOC, 0 where a tool wrote 0-based
            boxes. Both corners are pixels of the box: x1 = xmin - origin, x2 = xmax - origin + 1.
        strict: raise on bad records. False sets them aside too; an image that lost an object so is
            not complete.

    Returns:
        A pool of complete targets with ids such as `"JPEGImages/000001"`; difficult objects are
        ignored boxes.

    Raises:
        DataError: with every problem of the split.
        ValueError: for a bad `voc_origin` or `classes`.

    Source: VOC devkit; `<bndbox>` of nested `<part>` elements is no object.
    Differs: a box whose corners are the same pixel (xmin = xmax and ymin = ymax) is a stray click
    and dropped with a finding; one that is a single pixel wide or high is kept.
    """
    if voc_origin not in (0, 1):
        raise ValueError(f"voc_origin = {voc_origin!r}: use 1 as in VOC, or 0 for 0-based boxes")
    if isinstance(classes, str):
        raise ValueError(f"classes = {classes!r}: a sequence of names is needed, got one string")
    report = Report(strict)
    reader = _Voc(Path(root).resolve(), report, classes, voc_origin)
    reader.read(split)
    names = [name for drawn in reader.drawn.values() for name in drawn.names]
    found = tuple(classes) if classes is not None else _voc_classes(set(names), report, root)
    judge_format(
        report, root, reader.drawn.values(), hint="coordinates are pixels, xmin ymin xmax ymax"
    )
    return make_pool(report, root, found, reader.drawn, reader.infos)


def _voc_classes(names: set[str], report: Report, root: object) -> tuple[str, ...]:
    spelled_twice(names, report, root, "name")
    return VOC_CLASSES if names <= set(VOC_CLASSES) else tuple(sorted(names))


class _Voc:
    """One reading of a VOC split: what was found so far."""

    def __init__(
        self, root: Path, report: Report, classes: Sequence[str] | None, origin: int
    ) -> None:
        self.root, self.report, self.origin = root, report, origin
        self.classes = None if classes is None else frozenset(classes)
        self.drawn: dict[str, Drawn] = {}
        self.infos: dict[str, ImageInfo] = {}
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def read(self, split: str) -> None:
        """Read every image the list names."""
        listing = inside(self.root, f"ImageSets/Main/{split}.txt")
        if listing is None or not listing.is_file():
            known = sorted(path.stem for path in (self.root / "ImageSets" / "Main").glob("*.txt"))
            remedy = f"no such list; there are: {', '.join(known[:10]) or 'none'}"
            self.report.fatal(self.root, f"ImageSets/Main/{split}.txt", "split", split, remedy)
            self.report.check()
            return
        try:
            lines = listing.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            self.report.fatal(listing, "file", "encoding", str(error), "save the list as UTF-8")
            self.report.check()
            return
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            self.report.fatal(listing, "file", "images", 0, "the split is empty; list its images")
        for name, times in Counter(names).items():
            if times > 1:
                remedy = f"listed {times} times; list each image once"
                self.report.error(listing, f"image {name}", "name", name, remedy)
            if times == 1 or not self.report.strict:
                self._image(listing, name)

    def _image(self, listing: Path, name: str) -> None:
        record = f"image {name}"
        source = inside(self.root, f"Annotations/{name}.xml")
        if source is None or name.startswith("/"):
            remedy = "the path leaves the data set; give names relative to JPEGImages"
            self.report.error(listing, record, "name", name, remedy)
            return
        labelled = source.is_file()
        root = read_xml(source, self.report) if labelled else None
        if labelled and root is None:
            return
        if root is not None and root.tag != "annotation":
            remedy = "not a VOC annotation, whose root is <annotation>"
            self.report.error(source, "file", "root element", root.tag, remedy)
            return
        stated = None if root is None else root.findtext("filename")
        path = self._file(listing if root is None else source, name, stated)
        if path is None:
            return
        size, shown = _voc_size(root)
        file = listing if root is None else source
        known = known_size(path, size, self.report, file, record, shown)
        if known is None:
            return
        if root is None:
            remedy = "no such annotation file; the image is read as unlabelled"
            value = f"{name}.xml"
            self.report.tally("warning", file, "annotation", remedy, record=record, value=value)
        else:
            drawn = Drawn(self.report, source, known)
            for number, entry in enumerate(root.findall("object"), start=1):
                self._object(drawn, number, entry)
            self.drawn[f"JPEGImages/{name}"] = drawn
        self.infos[f"JPEGImages/{name}"] = ImageInfo(size=known, path=path)

    def _file(self, source: Path, name: str, stated: str | None) -> Path | None:
        """Return the image file of a name, whatever its suffix, even when it does not exist."""
        folder = (self.root / "JPEGImages" / name).parent
        stem = name.rpartition("/")[2]
        there = self._folder(folder)
        files = there.get(stem, [])
        said = (stated or "").strip().replace("\\", "/")
        record = f"image {name}"
        if said.startswith("/") or ".." in said.split("/"):
            remedy = "the path leaves the data set; give the plain file name"
            self.report.error(source, record, "filename", said, remedy)
            return None
        said = said.rpartition("/")[2]
        if len(files) > 1 and said not in files:
            remedy = f"could be any of {', '.join(files)}; name one of them or remove the others"
            self.report.error(source, record, "filename", said, remedy)
            return None
        chosen = said if said in files else files[0] if files else f"{stem}.jpg"
        if said and said != chosen and files:
            other = any(said in names for names in there.values())
            if other:
                remedy = f"both this file and {chosen} exist; name the one the boxes belong to"
                self.report.error(source, record, "filename", said, remedy)
                return None
            self.report.repaired(source, record, "filename", said, f"read {chosen} instead")
        relative = (folder / chosen).relative_to(self.root).as_posix()
        path = inside(self.root, relative)
        if path is None:
            remedy = "the link leaves the data set; copy the file into it"
            self.report.error(source, record, "image file", relative, remedy)
        return path

    def _folder(self, folder: Path) -> dict[str, list[str]]:
        """Return the image files of a folder by name without suffix; listed once."""
        if folder not in self._folders:
            files: dict[str, list[str]] = {}
            listed = sorted(folder.iterdir()) if folder.is_dir() else []
            for file in listed:
                if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                    files.setdefault(file.stem, []).append(file.name)
            self._folders[folder] = files
        return self._folders[folder]

    def _object(self, drawn: Drawn, number: int, entry: Element) -> None:
        text = entry.findtext("name") or ""
        name = text.strip()
        record = f"object {number} ({name or 'unnamed'})"
        if not name:
            drawn.set_aside(record, "name", "", "the object has no class; name it")
            return
        if name != text:
            remedy = "blanks around the name are not read; remove them"
            self.report.tally(
                "warning", drawn.file, "name", remedy, record=record, value=repr(text)
            )
        if self.classes is not None and name not in self.classes:
            some = ", ".join(sorted(self.classes)[:10])
            drawn.set_aside(record, "name", name, f"not among the classes given ({some}); add it")
            return
        boxes = entry.findall("bndbox")
        if len(boxes) != 1:
            remedy = "an object has one box; make each box an object of its own"
            drawn.set_aside(record, "bndbox", f"{len(boxes)} boxes", remedy)
            return
        texts = [(boxes[0].findtext(corner) or "").strip() for corner in CORNERS]
        shown = " ".join(f"{c}={t}" for c, t in zip(CORNERS, texts, strict=True))
        corners = [_number(text) for text in texts]
        difficult = (entry.findtext("difficult") or "0").strip()
        if None in corners:
            drawn.set_aside(record, "bndbox", shown, "four numbers are needed; correct it")
        elif difficult not in ("0", "1"):
            drawn.set_aside(record, "difficult", difficult, "use 0 or 1")
        else:
            values = [value for value in corners if value is not None]
            self._box(drawn, record, name, values, difficult == "1", shown)

    def _box(
        self,
        drawn: Drawn,
        record: str,
        name: str,
        corners: list[float],
        difficult: bool,
        shown: str,
    ) -> None:
        left, top, right, bottom = corners
        if (left, top) == (right, bottom):
            remedy = "both corners are the same pixel, a stray click; dropped"
            self.report.repaired(drawn.file, record, "bndbox", shown, remedy)
            return
        ordered = left <= right and top <= bottom
        fractions = any(corner != int(corner) for corner in corners if math.isfinite(corner))
        remedy = ""
        if 0 <= min(corners) and max(corners) <= 1 and fractions:
            remedy = (
                "coordinates look normalised to [0, 1]; multiply them by width and height, "
                "or correct this box"
            )
        elif self.origin == 1 and ordered and (0 <= left < 1 or 0 <= top < 1):
            remedy = (
                "VOC counts pixels from 1; pass voc_origin=0 if the boxes "
                "count from 0, otherwise correct these"
            )
        if remedy:  # the same for many boxes, so they are counted
            drawn.complete = False
            where = f"{Path(str(drawn.file)).name} {record}"
            self.report.tally("error", self.root, "bndbox", remedy, record=where, value=shown)
            return
        x1, y1, far = left - self.origin, top - self.origin, 1 - self.origin
        x2 = (
            x1 - 1 if right < left else right + far
        )  # a reversed box stays reversed, by however little
        y2 = y1 - 1 if bottom < top else bottom + far
        drawn.add(record, "bndbox", name, (x1, y1, x2, y2), ignore=difficult, shown=shown)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _voc_size(root: Element | None) -> tuple[tuple[int, int] | None, str | None]:
    """Return (height, width) where both are whole and positive, and what stands there."""
    if root is None:
        return None, None
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    whole = [int(text) if text.isascii() and text.isdigit() else 0 for text in texts]
    size = (whole[0], whole[1]) if min(whole) > 0 else None
    return size, f"width={texts[1] or 'absent'} height={texts[0] or 'absent'}"
