"""COCO's instance annotations as a pool; `read_coco` is called through `data.readers`.

COCO's x y w h is met here and goes no further. Masks and keypoints are not read. The file is read
in pieces (`data.formats.stream`) into columns (`data.formats.table`); boxes that raise a question
are judged one by one in the order of the file (`data.formats.drawn`), all others at once.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from almining.data.formats.coco_boxes import Boxes, Categories
from almining.data.formats.coco_images import FIELDS as IMAGE_FIELDS
from almining.data.formats.coco_images import Images
from almining.data.formats.drawn import judge_format, make_pool
from almining.data.formats.extras import named
from almining.data.formats.report import Report, check_repairs, spelled_twice
from almining.data.formats.stream import read_lists
from almining.data.formats.table import FIELDS, Ids, Table
from almining.data.pool import Pool

REPAIRS = ("swap", "renumber", "orphans")
WANTED = {"images": IMAGE_FIELDS, "annotations": FIELDS, "categories": ("id", "name")}


def read_coco(
    json: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    strict: bool = True,
    exhaustive: bool = True,
    repair: Collection[str] = (),
) -> Pool:
    """Read a data set in COCO's format, of any size: memory depends on ids and boxes only.

    Args:
        json: the file with the lists `images`, `annotations` and `categories`.
        images: the folder the file names are relative to.
        strict: raise on bad records. False sets them aside too; an image that lost an object so is
            not complete.
        exhaustive: False when not every object is labelled: no target is complete then, and an
            image without boxes is unlabelled.
        repair: what to mend instead of refusing it: `"swap"` turns boxes of negative width or
            height, `"renumber"` keeps annotations whose id stands twice, `"orphans"` drops
            annotations of no image.

    Returns:
        A pool of complete targets with ids `str(id)`; an image without annotations is complete and
        empty. Classes are numbered 1...C in the order of the category ids. Crowds, and what is
        marked `ignore` or `isGroupOf`, are ignored boxes. Where an image gives `sequence` (or
        `video`) and `frame`, they are kept. What `write_coco` added under `"almining"` is read back
        and judged: ids that are no numbers, origin and score of boxes, what is known of an image.

    Raises:
        DataError: with every problem of the data set.
        ValueError: for a repair that is not known.

    Source: the COCO data format, cocodataset.org.
    Differs: only `bbox` is read, of a crowd too; `area` is that of the box.
    """
    report = Report(strict, check_repairs(repair, REPAIRS))
    with _no_collector():
        return _read(Path(json), Path(images).resolve(), report, exhaustive)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Spare the search for reference cycles, of which millions of short-lived values have none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(source: Path, root: Path, report: Report, exhaustive: bool) -> Pool:
    report.need_folder(root)
    ids = Ids()
    table, found = Table(ids), Images(source, root, report)
    kinds: list[tuple[Any, Any]] = []
    for key, _, entries in read_lists(source, report, WANTED):
        if key == "annotations":
            table.add(entries)
        elif key == "images":
            found.add(entries)
        else:
            kinds += [(entry.get("id"), entry.get("name")) for entry in entries]
    report.check()
    categories = _categories(source, report, ids, kinds)
    found.find(ids)
    table.finish()
    boxes = Boxes(source, report, ids, table, found, categories)
    drawn = boxes.judge(exhaustive=exhaustive)
    judge_format(report, source, drawn.values(), hint="bbox is x y w h in pixels, not x1 y1 x2 y2")
    boxes.count_repairs()
    del boxes, table  # the pool needs their memory
    drawn, infos = named(report, source, drawn, found.infos)
    return make_pool(report, source, categories.names, drawn, infos, exhaustive=exhaustive)


def _categories(
    source: Path, report: Report, ids: Ids, entries: Sequence[tuple[Any, Any]]
) -> Categories:
    """Number the classes in the order of their ids."""
    known: dict[int, tuple[object, str]] = {}
    for number, (key, name) in enumerate(entries):
        record = f"categories[{number}]"
        if not _is_whole(key):
            report.fatal(source, record, "id", key, "a whole number is needed")
        elif not isinstance(name, str) or not name.strip():
            report.fatal(source, record, "name", name, "a name is needed")
        elif int(key) in known:
            report.fatal(source, record, "id", key, "the id stands twice; renumber one")
        else:
            known[int(key)] = (key, name)
            if name != name.strip():
                remedy = "the blanks around the name are part of it; remove them if not meant"
                report.warning(source, record, "name", repr(name), remedy)
    names = [known[key][1] for key in sorted(known)]
    for name, times in Counter(names).items():
        if times > 1:
            remedy = f"{times} categories have this name; merge or rename them"
            report.fatal(source, "categories", "name", name, remedy)
    spelled_twice(set(names), report, source, "name")
    return Categories(names, *ids.encode([known[key][0] for key in sorted(known)]))


def _is_whole(key: object) -> bool:
    """Tell whether a category's id is a whole number, or a string of digits."""
    if isinstance(key, str):
        return key.isascii() and key.isdigit() and len(key) < 1000  # int() takes no more than 4300
    return isinstance(key, int) and not isinstance(key, bool)
