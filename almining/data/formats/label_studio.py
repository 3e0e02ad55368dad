"""Tasks exported from Label Studio as a pool; `read_label_studio` is called by `data.readers`.

Label Studio's percentages are met here and in `data.formats.write_label_studio`, and go no further.
Only rectangles are read. The address of an image is never fetched: it is looked up in a local
folder.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from torch import Tensor

from almining.checks import HUMAN
from almining.data.formats.drawn import make_pool
from almining.data.formats.extras import Held, is_origin, single
from almining.data.formats.files import inside, is_side, known_size
from almining.data.formats.parse import read_json
from almining.data.formats.report import Report, check_classes, check_repairs, spelled_twice
from almining.data.pool import ImageInfo, Pool

FROM, TO = "label", "image"
KNOWN = "almining-known"  # the model version of a sparse image's boxes, for a person to complete
IGNORE, ORIGIN = "ignore", "origin="
SIDES = ("x", "y", "width", "height")
SLACK = 1e-3  # per cent that a browser's rounding may pass the edge by
BESIDE = ("choices", "textarea", "rating", "taxonomy", "number", "datetime", "relation")
UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)  # what Label Studio calls uploaded files


class NoImages:
    """The images of labels that were read without them."""

    def load(self, image_id: str) -> Tensor:
        """Refuse."""
        raise ValueError(
            f"image {image_id!r} was read without its file; pass images= to read_label_studio, or "
            "give its target to the pool that holds the image with pool.updated"
        )


def read_label_studio(
    json: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    strict: bool = True,
    exhaustive: bool = True,
    repair: Collection[str] = (),
) -> Pool:
    """Read tasks exported from Label Studio as JSON, what people finished among them.

    A task with an annotation is complete, perhaps empty. One that has none, or that was skipped, is
    sparse where the prediction "almining-known" of `write_label_studio` gives boxes, otherwise
    unlabelled. Other predictions are not read. A box a person took over from a prediction is a
    person's. Other shapes, such as polygons, are left out with a finding, and their image is not
    complete, because they may mark objects; choices and texts are left out with a warning.

    Args:
        json: the file of tasks; not the format JSON-MIN.
        classes: the names of classes 1...C. Default: the names found, sorted.
        images: the folder of the images, found by the end of the address in `data.image`. Without
            it the pool has labels and no images: `pool.updated` puts them into one that has.
        strict: raise on bad records. False sets them aside too; an image that lost a box so is not
            complete.
        exhaustive: False where people did not draw every object, so that no image is complete.
        repair: `"swap"` makes a box of a negative width or height, which the browser can write.

    Returns:
        A pool with ids from `data.image_id`, or else the path of the image without suffix.

    Raises:
        DataError: with every problem of the file.
        ValueError: for bad `classes` or `repair`.

    Source: Label Studio's task format.
    Differs: several annotations of a task are an error unless one is the ground truth; they are
    never merged.
    """
    return read_timed(
        json, classes=classes, images=images, strict=strict, exhaustive=exhaustive, repair=repair
    )[0]


def read_timed(
    json: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    strict: bool = True,
    exhaustive: bool = True,
    repair: Collection[str] = (),
) -> tuple[Pool, dict[str, float]]:
    """Return what `read_label_studio` does, and the seconds each image took, where measured.

    The arguments are those of `read_label_studio`.
    """
    check_classes(classes)
    report = Report(strict, check_repairs(repair, known=("swap",)))
    source = Path(json)
    tasks = read_json(source, report)
    report.check()
    if not isinstance(tasks, list):
        remedy = "a list of tasks is needed; export from Label Studio as JSON"
        report.fatal(source, "file", "top level", type(tasks).__name__, remedy)
        report.check()
    root = None if images is None else Path(images).resolve()
    reader = _Tasks(source, root, classes, report)
    for place, task in enumerate(tasks):
        reader.read_task(place, task)
    names = {name for drawn in reader.drawn.values() if drawn is not None for name in drawn.names}
    spelled_twice(names, report, source, "rectanglelabels")
    found = list(classes) if classes is not None else sorted(names)
    pool = make_pool(
        report,
        source,
        found,
        reader.drawn,
        reader.infos,
        exhaustive=exhaustive,
        images=NoImages() if root is None else None,
    )
    return pool, reader.seconds


class _Tasks:
    """One reading of a file of tasks: what was found so far."""

    def __init__(
        self, source: Path, root: Path | None, classes: Sequence[str] | None, report: Report
    ) -> None:
        self.source, self.root, self.report = source, root, report
        self.classes = None if classes is None else frozenset(classes)
        self.drawn: dict[str, Held | None] = {}
        self.infos: dict[str, ImageInfo] = {}
        self.seconds: dict[str, float] = {}
        self._files: dict[Path, str] = {}

    def read_task(self, place: int, task: object) -> None:
        """Read one task: its image, its annotation, its boxes."""
        record = f"tasks[{place}]"
        data = task.get("data") if isinstance(task, dict) else None
        address = data.get("image") if isinstance(data, dict) else None
        if not isinstance(task, dict) or not isinstance(data, dict) or not _text(address):
            remedy = (
                "data.image, the address of an image, is needed; export as JSON, not JSON-MIN, and "
                "call the address `image`"
            )
            self.report.error(self.source, record, "data.image", address, remedy)
            return
        if isinstance(task.get("id"), int):
            record = f"task {task['id']}"
        live = self._live(record, task)
        results = None if live is None else live["result"]
        image = self._image(record, data, str(address), [*(results or ()), *_known(task)])
        if image is None:
            return
        image_id, drawn = image
        self.drawn[image_id] = drawn
        self._time(record, image_id, {} if live is None else live)
        if results is None:
            results = _known(task)
            drawn.complete = False
            if not results:
                self.drawn[image_id] = None
        for number, region in enumerate(results):
            self._region(drawn, f"{record} region {number + 1}", region)

    def _live(self, record: str, task: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the annotation that holds; None when there is none, or it cannot be told which."""
        given = task.get("annotations") or []
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self.report.error(self.source, record, "annotations", given, "a list is needed")
            return None
        live = [each for each in given if not each.get("was_cancelled")]
        if len(live) > 1:
            chosen = [each for each in live if each.get("ground_truth") is True]
            if len(chosen) != 1:
                remedy = "keep one, or mark one as the ground truth; they are not merged"
                value = f"{len(live)} annotations"
                self.report.error(self.source, record, "annotations", value, remedy)
                return None
            live = chosen
        if not live:
            if given:
                remedy = "skipped by who should have labelled it, so it is not complete"
                self.report.tally(
                    "warning", self.source, "was_cancelled", remedy, record=record, value=True
                )
            return None
        result = live[0].get("result")
        if not isinstance(result, list):
            self.report.error(self.source, record, "result", result, "a list of regions is needed")
            return None
        return dict(live[0])

    def _time(self, record: str, image_id: str, live: Mapping[str, Any]) -> None:
        """Keep how long a person took, which Label Studio measures in seconds."""
        given = live.get("lead_time")
        if given is None:
            return
        seconds = single(given)
        if seconds is not None and seconds >= 0:
            self.seconds[image_id] = float(given)
        else:
            remedy = "seconds, 0 or more, are needed; this time is not known"
            self.report.tally(
                "warning", self.source, "lead_time", remedy, record=record, value=given
            )

    def _image(
        self, record: str, data: Mapping[str, Any], address: str, regions: Sequence[object]
    ) -> tuple[str, Held] | None:
        """Return id and empty boxes of a task's image; None when it is set aside."""
        path, name = self._file(record, address)
        if self.root is not None and path is None:
            return None
        image_id = data.get("image_id")
        if image_id is None:
            relative = name if path is None or self.root is None else path.relative_to(self.root)
            image_id = PurePosixPath(relative).with_suffix("").as_posix()
        twice = _text(image_id) and image_id in self.infos
        if twice or not _text(image_id):
            why = "the id stands twice" if twice else "a text is needed"
            remedy = f"{why}; give each task its own data.image_id"
            self.report.error(self.source, record, "data.image_id", image_id, remedy)
            return None
        sizes = {size for region in regions if (size := _size(region, "original_")) is not None}
        stated = _size(data, "")
        if len(sizes) > 1:
            remedy = "the regions of one image give different sizes; correct them"
            self.report.error(self.source, record, "original_width", sorted(sizes), remedy)
            return None
        size = next(iter(sizes), stated)
        if path is not None:
            size = known_size(path, size, self.report, self.source, record, None)
            if size is None:
                return None
        if size is None and regions:
            remedy = "the size of the image, whole numbers, is needed; add it, or pass images="
            given = regions[0].get("original_width") if isinstance(regions[0], dict) else None
            self.report.error(self.source, record, "original_width", given, remedy)
            return None
        self.infos[image_id] = ImageInfo(size=size, path=path)
        file = f"{self.source}: {record}"
        return image_id, Held(self.report, file, size or (1, 1), image_id=image_id)

    def _file(self, record: str, address: str) -> tuple[Path | None, PurePosixPath]:
        """Return the local file an address means, if there is one, and the name it gives."""
        try:
            parts = urlsplit(address)
            asked = parse_qs(parts.query).get("d", [""])[0]
        except ValueError:
            remedy = "no address can be read from it; correct it"
            self.report.error(self.source, record, "data.image", address, remedy)
            return None, PurePosixPath("unnamed")
        local = parts.path.rstrip("/").endswith("local-files") and asked
        name = PurePosixPath((asked if local else unquote(parts.path)).lstrip("/") or "unnamed")
        if self.root is None:
            return None, name
        for end in _ends(name):
            path = inside(self.root, end)
            if path is not None and path.is_file():
                if path in self._files:
                    remedy = f"{self._files[path]} is of the same file {end}; make names unique"
                    self.report.error(self.source, record, "data.image", address, remedy)
                    return None, name
                self._files[path] = record
                return path, name
        remedy = f"the image is left out: no such file in {self.root}; add it"
        self.report.quarantined(self.source, record, "data.image", address, remedy)
        return None, name

    def _region(self, drawn: Held, record: str, region: object) -> None:
        value = region.get("value") if isinstance(region, dict) else None
        kind = region.get("type") if isinstance(region, dict) else None
        if isinstance(kind, str) and kind != "rectanglelabels":
            shape = kind not in BESIDE  # it may mark an object of which no box tells
            drawn.complete = drawn.complete and not shape
            action, what = ("quarantined", "so the image is not complete") if shape else (
                "warning", "and tells of no box"
            )  # fmt: skip
            remedy = f"only rectangles are read; this is left out, {what}"
            self.report.tally(action, self.source, "type", remedy, record=record, value=kind)
            return
        if not isinstance(region, dict) or kind is None or not isinstance(value, dict):
            drawn.set_aside(record, "type", kind, "a region with type and value is needed")
            return
        labels = value.get("rectanglelabels")
        if not isinstance(labels, list) or len(labels) != 1 or not _text(labels[0]):
            drawn.set_aside(record, "rectanglelabels", labels, "one class is needed; choose one")
            return
        name = str(labels[0])
        if self.classes is not None and name not in self.classes:
            some = ", ".join(sorted(self.classes)[:10])
            remedy = f"not among the classes given ({some}); add it"
            drawn.set_aside(record, "rectanglelabels", name, remedy)
            return
        for field, turned in (("rotation", value), ("image_rotation", region)):
            if turned.get(field) not in (None, 0):
                remedy = "boxes are parallel to the sides of the image; draw it without rotation"
                drawn.set_aside(record, field, turned[field], remedy)
                return
        box = [single(value.get(side)) for side in SIDES]
        for side, number in zip(SIDES, box, strict=True):
            low = -100 if side in SIDES[2:] else 0
            if number is None or not low - SLACK <= number <= 100 + SLACK:
                remedy = "per cent of the image from 0 to 100 is needed, not pixels or shares of 1"
                drawn.set_aside(record, side, value.get(side), remedy)
                return
        self._box(drawn, record, name, value, region)

    def _box(
        self,
        drawn: Held,
        record: str,
        name: str,
        value: Mapping[str, Any],
        region: Mapping[str, Any],
    ) -> None:
        height, width = drawn.size
        x, y, wide, high = (float(value[side]) for side in SIDES)
        box = (
            *(x / 100 * width, y / 100 * height),
            *((x + wide) / 100 * width, (y + high) / 100 * height),
        )
        meta = region.get("meta")
        text = meta.get("text") if isinstance(meta, dict) else None
        notes = [note for note in text if _text(note)] if isinstance(text, list) else []
        origin, score = HUMAN, math.nan
        if not str(region.get("origin", "")).startswith("prediction"):
            told = [note.removeprefix(ORIGIN) for note in notes if note.startswith(ORIGIN)]
            origin = next(filter(is_origin, told), HUMAN)
            found = single(region.get("score"))
            score = math.nan if found is None else found
        shown = " ".join(f"{side}={value[side]}" for side in SIDES)
        ignore = IGNORE in notes
        drawn.tell(record, name, box, origin, score, ignore=ignore, shown=shown, field="value")


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _size(entry: object, prefix: str) -> tuple[int, int] | None:
    """Return (height, width) where both stand there as whole numbers."""
    height, width = (
        entry.get(f"{prefix}{side}") if isinstance(entry, dict) else None
        for side in ("height", "width")
    )
    return (height, width) if is_side(height) and is_side(width) else None


def _known(task: Mapping[str, Any]) -> list[Any]:
    """Return the regions that an export gave as the boxes known of a sparse image."""
    given = task.get("predictions")
    for each in given if isinstance(given, list) else []:
        if isinstance(each, dict) and each.get("model_version") == KNOWN:
            result = each.get("result")
            return result if isinstance(result, list) else []
    return []


def _ends(name: PurePosixPath) -> Iterator[str]:
    """Yield a path, then its ends, longest first, then the name an upload had before."""
    for start in range(len(name.parts)):
        yield "/".join(name.parts[start:])
    upload = UPLOAD.fullmatch(name.name)
    if upload:
        yield upload[1]
