"""The layout of PASCAL VOC as a pool; `read_voc` is called through `data.readers`.

Here are the files: which image and which annotation a listed name stands for. What an annotation
says of its objects is read in `data.formats.voc_objects`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from almining.data.formats.drawn import Drawn, judge_format, make_pool
from almining.data.formats.files import DRIVE, SUFFIXES, inside, known_size
from almining.data.formats.parse import Element, read_xml
from almining.data.formats.report import (
    Report,
    bad_byte,
    broken_link,
    check_classes,
    check_repairs,
    spelled_twice,
)
from almining.data.formats.voc_objects import Objects, repeated
from almining.data.pool import ImageInfo, Pool

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def read_voc(
    root: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str] | None = None,
    voc_origin: int = 1,
    strict: bool = True,
    exhaustive: bool = True,
    repair: Collection[str] = (),
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
        exhaustive: False where not every object has a box, so that no image is complete and one
            without boxes is unlabelled.
        repair: what to repair beside what always is, by name: `"swap"` makes a box of corners that
            stand in the wrong order.

    Returns:
        A pool of complete targets with ids such as `"JPEGImages/000001"`; difficult objects are
        ignored boxes. Boxes are in the pixels as stored, whatever orientation EXIF gives.

    Raises:
        DataError: with every problem of the split.
        ValueError: for a bad `voc_origin`, `classes` or `repair`.

    Source: VOC devkit; `<bndbox>` of nested `<part>` elements is no object.
    Differs: a box whose corners are the same pixel (xmin = xmax and ymin = ymax) is a stray click
    and dropped with a finding; one that is a single pixel wide or high is kept.
    """
    if voc_origin not in (0, 1):
        raise ValueError(f"voc_origin = {voc_origin!r}: use 1 as in VOC, or 0 for 0-based boxes")
    check_classes(classes)
    report = Report(strict, check_repairs(repair, known=("swap",)))
    reader = _Voc(Path(root).resolve(), report, classes, voc_origin)
    reader.read(split)
    names = [name for drawn in reader.drawn.values() for name in drawn.names]
    found = tuple(classes) if classes is not None else _voc_classes(set(names), report, root)
    judge_format(
        report, root, reader.drawn.values(), hint="coordinates are pixels, xmin ymin xmax ymax"
    )
    return make_pool(report, root, found, reader.drawn, reader.infos, exhaustive=exhaustive)


def _voc_classes(names: set[str], report: Report, root: object) -> tuple[str, ...]:
    spelled_twice(names, report, root, "name")
    return VOC_CLASSES if names <= set(VOC_CLASSES) else tuple(sorted(names))


class _Voc:
    """One reading of a VOC split: what was found so far."""

    def __init__(
        self, root: Path, report: Report, classes: Sequence[str] | None, origin: int
    ) -> None:
        self.root, self.report = root, report
        self.objects = Objects(classes, origin)
        self.drawn: dict[str, Drawn] = {}
        self.infos: dict[str, ImageInfo] = {}
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def read(self, split: str) -> None:
        """Read every image the list names."""
        self.report.need_folder(self.root)
        listing = inside(self.root, f"ImageSets/Main/{split}.txt")
        if listing is None or not listing.is_file():
            known = sorted(path.stem for path in (self.root / "ImageSets" / "Main").glob("*.txt"))
            remedy = f"no such list; there are: {', '.join(known[:10]) or 'none'}; name one of them"
            self.report.fatal(self.root, f"ImageSets/Main/{split}.txt", "split", split, remedy)
            self.report.check()
            return
        try:
            lines = listing.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            value = f"UTF-8, {bad_byte(error)}"
            self.report.fatal(listing, "file", "encoding", value, "not UTF-8; save it as UTF-8")
            self.report.check()
            return
        if not any(line.strip() for line in lines):
            self.report.fatal(listing, "file", "images", 0, "the split is empty; list its images")
        names = list(self._names(listing, lines))
        for name, times in Counter(names).items():
            if times > 1:
                remedy = f"listed {times} times; list each image once"
                self.report.error(listing, f"image {name}", "name", name, remedy)
            if times == 1 or not self.report.strict:
                self._image(listing, name)

    def _names(self, listing: Path, lines: Sequence[str]) -> Iterator[str]:
        """Yield the names listed, without those that no file can have."""
        for number, line in enumerate(lines, start=1):
            name = line.strip()
            longest = max(len(part.encode()) for part in name.replace("\\", "/").split("/"))
            if "\0" in name or longest > 250 or len(name) > 1000:
                remedy = "no file can have this name; is this a list of names?"
                self.report.error(listing, f"line {number}", "name", name, remedy)
            elif name:
                yield self._plain(listing, name)

    def _plain(self, listing: Path, stated: str) -> str:
        """Return a listed name with `/` alone and no empty part, if that is where something is."""
        name = PurePosixPath(stated.replace("\\", "/")).as_posix()
        if name == stated or not self._there(name) or ("\\" in stated and self._there(stated)):
            return stated
        remedy = f"read as {name}; list it so"
        self.report.repaired(listing, f"image {stated}", "name", stated, remedy)
        return name

    def _there(self, name: str) -> bool:
        source = inside(self.root, f"Annotations/{name}.xml")
        image = PurePosixPath("JPEGImages", name)
        known = source is not None and self._folder(self.root / image.parent)
        return bool(source and (source.is_file() or (known and image.name in known)))

    def _image(self, listing: Path, name: str) -> None:
        record = f"image {name}"
        source = self.root / "Annotations" / f"{name}.xml"
        if leaves(name):
            remedy = "the path leaves the data set; give names relative to JPEGImages"
            self.report.error(listing, record, "name", name, remedy)
            return
        if broken_link(source):
            self.report.lost(listing, record, "annotation", source)
            return
        if inside(self.root, f"Annotations/{name}.xml") is None:
            remedy = "the link leaves the data set; copy the file into it"
            self.report.error(listing, record, "annotation", str(source), remedy)
            return
        labelled = source.is_file()
        root = read_xml(source, self.report) if labelled else None
        if labelled and (root is None or not self._readable(root, source, record)):
            return
        file = source if labelled else listing
        path = self._file(file, name, None if root is None else root.findtext("filename"))
        if path is None:
            return
        size, shown = _voc_size(root)
        known = known_size(path, size, self.report, file, record, shown)
        if known is None:
            return
        if root is None:
            remedy = "no such annotation file; the image is read as unlabelled"
            value = f"{name}.xml"
            self.report.tally("warning", file, "annotation", remedy, record=record, value=value)
        else:
            drawn = Drawn(self.report, source, known, image_id=f"JPEGImages/{name}")
            for number, entry in enumerate(root.findall("object"), start=1):
                self.objects.read(drawn, number, entry)
            self.drawn[f"JPEGImages/{name}"] = drawn
        self.infos[f"JPEGImages/{name}"] = ImageInfo(size=known, path=path)

    def _readable(self, root: Element, source: Path, record: str) -> bool:
        """Tell whether a document is an annotation whose fields stand once."""
        if root.tag != "annotation":
            remedy = "not a VOC annotation, whose root is <annotation>"
            self.report.error(source, "file", "root element", root.tag, remedy)
            return False
        field, values = repeated(root, ("filename", "size", "size/width", "size/height"))
        if field:
            remedy = "the field stands more than once; keep the one that is right"
            self.report.error(source, record, field, values, remedy)
        return not field

    def _file(self, source: Path, name: str, stated: str | None) -> Path | None:
        """Return the image file of a name, be it there or not; None when it is set aside."""
        folder = (self.root / "JPEGImages" / name).parent
        stem = name.rpartition("/")[2]
        there = self._folder(folder)
        files = there.get(stem, [])
        stated = (stated or "").strip()
        record = f"image {name}"
        if leaves(stated):
            remedy = "the path leaves the data set; give the plain file name"
            self.report.error(source, record, "filename", stated, remedy)
            return None
        said = stated.replace("\\", "/").rpartition("/")[2]
        if len(files) > 1 and said not in files:
            remedy = f"could be any of {', '.join(files)}; name one of them or remove the others"
            self.report.error(source, record, "filename", stated or "absent", remedy)
            return None
        chosen = said if said in files else files[0] if files else f"{stem}.jpg"
        if said and said != chosen and any(said in names for names in there.values()):
            remedy = f"both this file and {chosen} exist; name the one the boxes belong to"
            if not files:
                remedy = f"this file may be of another image; rename it or the annotation {stem}"
            self.report.error(source, record, "filename", stated, remedy)
            return None
        relative = (folder / chosen).relative_to(self.root).as_posix()
        if stated and files and not f"/{relative}".endswith(f"/{stated}"):
            self.report.repaired(
                source,
                record,
                "filename",
                stated,
                f"read {relative} instead",
                image_id=f"JPEGImages/{name}",
            )
        path = folder / chosen
        if path.exists() and inside(self.root, relative) is None:
            remedy = "the link leaves the data set; copy the file into it"
            self.report.error(source, record, "image file", relative, remedy)
            return None
        return path

    def _folder(self, folder: Path) -> dict[str, list[str]]:
        """Return the image files of a folder by name without suffix; listed once."""
        if folder not in self._folders:
            files: dict[str, list[str]] = {}
            listed = sorted(folder.iterdir()) if folder.is_dir() else []
            for file in listed:
                if file.suffix.lower() in SUFFIXES:
                    files.setdefault(file.stem, []).append(file.name)
            self._folders[folder] = files
        return self._folders[folder]


def leaves(name: str) -> bool:
    r"""Tell whether a path is absolute or goes up, with / or \ and on any system.

    >>> leaves("a/b.jpg"), leaves(r"..\b.jpg"), leaves("C:/b.jpg")
    (False, True, True)
    """
    turned = name.replace("\\", "/")
    return bool(DRIVE.match(name)) or turned.startswith("/") or ".." in turned.split("/")


def _voc_size(root: Element | None) -> tuple[tuple[int, int] | None, str | None]:
    """Return (height, width) where both are whole and positive, and what stands there."""
    if root is None:
        return None, None
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    whole = [int(text) if text.isascii() and text.isdigit() else 0 for text in texts]
    size = (whole[0], whole[1]) if min(whole) > 0 else None
    return size, f"width={texts[1] or 'absent'} height={texts[0] or 'absent'}"
