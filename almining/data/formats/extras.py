"""What an export adds to boxes so that nothing is lost, read back and checked.

COCO has no words for origin, score, completeness, tags, negatives and ids that are no numbers. They
stand under one key, `"almining"`, of an image or an annotation, which other tools skip. Whatever
stands there is judged like any other input: what cannot be true is a finding, never a crash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from almining.checks import HUMAN, MINED
from almining.data.formats.drawn import Drawn
from almining.data.formats.export import number
from almining.data.formats.report import Report
from almining.data.pool import ImageInfo, Pool
from almining.records import Target

KEY = "almining"
OF_IMAGE = ("id", "complete", "tags", "absent", "negatives", "since")
OF_BOX = ("origin", "score", "box")
Box = tuple[float, float, float, float]


def is_origin(value: object) -> bool:
    """Tell whether a value is the origin of a box.

    >>> is_origin("mined:ssm:2"), is_origin("mine")
    (True, False)
    """
    return isinstance(value, str) and (value in (HUMAN, MINED) or value.startswith(f"{MINED}:"))


def single(value: object) -> float | None:
    """Return a number that is finite as float32; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        with np.errstate(over="ignore"):
            short = float(np.float32(value))
    except OverflowError:
        return None
    return short if math.isfinite(short) else None


def corners(value: object) -> Box | None:
    """Return four finite numbers in order, x1 y1 x2 y2 as float32; None for anything else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x1, y1, x2, y2 = (single(side) for side in value)
    if x1 is None or y1 is None or x2 is None or y2 is None or x2 < x1 or y2 < y1:
        return None
    return x1, y1, x2, y2


# of each field what it must be, and in words; classes are judged where their numbers are known
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda value: isinstance(value, str) and value != "", "a text is needed"),
    "complete": (lambda value: isinstance(value, bool), "use true or false"),
    "since": (lambda value: type(value) is int and value >= 0, "cycles are whole numbers from 0"),
    "negatives": (
        lambda value: isinstance(value, list) and None not in map(corners, value),
        "lists of x1 y1 x2 y2 are needed",
    ),
    "origin": (is_origin, f"use {HUMAN!r}, {MINED!r} or '{MINED}:<method>:<cycle>'"),
    "score": (lambda value: single(value) is not None, "a finite number is needed"),
    "box": (lambda value: corners(value) is not None, "x1 y1 x2 y2 with x1 <= x2 are needed"),
}


def image_extras(pool: Pool, image_id: str, number_of: int) -> dict[str, Any]:
    """Return what COCO has no word for of an image, empty when that is nothing.

    Args:
        pool: where it is from.
        image_id: the image.
        number_of: the number it has in the file.
    """
    target, since = pool.target(image_id), pool.since(image_id)
    extras: dict[str, Any] = {}
    if image_id != str(number_of):
        extras["id"] = image_id
    if not target.complete:
        extras["complete"] = False
    if target.tags is not None:
        extras["tags"] = sorted(target.tags)
    if target.absent is not None:
        extras["absent"] = sorted(target.absent)
    if len(target.negatives):
        extras["negatives"] = [[number(side) for side in box] for box in target.negatives.tolist()]
    if since:
        extras["since"] = since
    return extras


def box_extras(target: Target, row: int, *, exact: bool) -> dict[str, Any]:
    """Return what COCO has no word for of a box, empty when that is nothing.

    Args:
        target: what is known of the image.
        row: which of its boxes.
        exact: give the corners too, for a box that x y w h and a reader's repairs would change.
    """
    extras: dict[str, Any] = {}
    if target.origin[row] != HUMAN:
        extras["origin"] = target.origin[row]
    score = float(target.scores[row])
    if score == score:
        extras["score"] = number(score)
    if exact:
        extras["box"] = [number(side) for side in target.boxes[row].tolist()]
    return extras


class Held(Drawn):
    """The boxes of one image, with what an export added to them.

    Args:
        report: where to note what is wrong.
        file: the annotation file.
        size: (height, width) of the image.
        image_id: its id in the pool, before an export's own is known.
    """

    def __init__(
        self, report: Report, file: object, size: tuple[int, int], *, image_id: str | None = None
    ) -> None:
        """Start without boxes."""
        super().__init__(report, file, size, image_id=image_id)
        self._tags: frozenset[str] | None = None
        self._absent: frozenset[str] | None = None
        self._negatives: list[list[float]] = []
        self._told: dict[int, tuple[str, float]] = {}

    def read_image(self, record: str, extras: object, classes: Mapping[str, str]) -> None:
        """Take what stands beside an image.

        Args:
            record: what the file calls the image.
            extras: what stands there, which may be anything.
            classes: the names by category id.
        """
        fields = self._fields(record, extras, OF_IMAGE)
        self.image_id = fields.get("id", self.image_id)
        self.complete = self.complete and fields.get("complete", True)
        self.since = fields.get("since", 0)
        self._tags = self._classes(record, "tags", fields, classes)
        self._absent = self._classes(record, "absent", fields, classes)
        self._negatives = fields.get("negatives", [])

    def add_held(
        self, record: str, name: str, box: Box, extras: object, *, ignore: bool, shown: str
    ) -> None:
        """Take one box with what stands beside it; exact corners are kept as they are.

        Args:
            record: what the file calls the object.
            name: the class.
            box: x1 y1 x2 y2 in pixels.
            extras: what stands there, which may be anything.
            ignore: difficult or crowd.
            shown: the box as the file gives it.
        """
        fields = self._fields(record, extras, OF_BOX)
        origin, score = fields.get("origin", HUMAN), fields.get("score", math.nan)
        exact = corners(fields.get("box"))
        if exact is None:
            self.tell(record, name, box, origin, score, ignore=ignore, shown=shown)
            return
        self._told[len(self._rows)] = (origin, score)
        row: Any = (name, *exact, ignore, len(self._rows))  # the number keeps doubles apart
        self._rows[row] = None

    def tell(
        self,
        record: str,
        name: str,
        box: Box,
        origin: str,
        score: float,
        *,
        ignore: bool = False,
        shown: str,
        field: str = "bbox",
    ) -> None:
        """Judge one box as any other, and keep its origin and score if it stays."""
        before = len(self._rows)
        self.add(record, field, name, box, ignore=ignore, shown=shown)
        if len(self._rows) > before:
            self._told[before] = (origin, score)

    def settle(self, record: str) -> None:
        """Note what cannot be true together; to be called when all boxes are in."""
        found = frozenset(self.names)
        if self.complete and self._tags is not None and self._tags != found:
            value = f"tags {sorted(self._tags)}, boxes of {sorted(found)}"
            self._wrong(record, "tags", value, "a complete image is tagged with all its classes")
            self._tags = None
        both = (self._absent or frozenset()) & (found | (self._tags or frozenset()))
        if both:
            remedy = "classes of boxes or tags cannot be absent; remove one"
            self._wrong(record, "absent", sorted(both), remedy)
            self._absent = None

    def target(self, numbers: Mapping[str, int], *, exhaustive: bool = True) -> Target:
        """Return the target, complete if `exhaustive` and nothing says otherwise."""
        plain = super().target(numbers, exhaustive=exhaustive)
        told = [self._told.get(row, (HUMAN, math.nan)) for row in range(len(plain))]

        def numbered(names: frozenset[str] | None) -> frozenset[int] | None:
            return None if names is None else frozenset(numbers[name] for name in names)

        return replace(
            plain,
            origin=tuple(origin for origin, _ in told),
            scores=torch.tensor([score for _, score in told], dtype=torch.float32),
            tags=numbered(self._tags),
            absent=numbered(self._absent),
            negatives=torch.tensor(self._negatives, dtype=torch.float32).reshape(-1, 4),
        )

    def _fields(self, record: str, extras: object, known: Collection[str]) -> dict[str, Any]:
        """Return what stands there and can be true."""
        if not isinstance(extras, dict):
            if extras is not None:
                self._wrong(record, "", extras, "an object is needed")
            return {}
        fields = {}
        for key, value in extras.items():
            holds, remedy = RULES.get(key, (None, ""))
            if key not in known:
                remedy = f"this version knows {', '.join(known)}; the rest is not read"
                field = f"{KEY}.{key}"[:80]
                self.report.tally("warning", self.file, field, remedy, record=record, value=value)
            elif holds is not None and not holds(value):
                self._wrong(record, key, value, remedy)
            else:
                fields[key] = value
        return fields

    def _classes(
        self, record: str, field: str, fields: Mapping[str, Any], classes: Mapping[str, str]
    ) -> frozenset[str] | None:
        value = fields.get(field)
        keys = value if isinstance(value, list) else [value]
        names = {classes.get(str(key)) if type(key) is int else None for key in keys}
        if value is not None and (not isinstance(value, list) or None in names):
            self._wrong(record, field, value, "a list of category ids is needed")
            value = None
        return None if value is None else frozenset(name for name in names if name is not None)

    def _wrong(self, record: str, field: str, value: object, remedy: str) -> None:
        self.set_aside(record, f"{KEY}.{field}" if field else KEY, value, remedy)


def named(
    report: Report, source: object, drawn: Mapping[str, Drawn], infos: Mapping[str, ImageInfo]
) -> tuple[dict[str, Drawn], dict[str, ImageInfo]]:
    """Return boxes and infos under the ids an export gave to images; all others keep theirs.

    Args:
        report: where ids that stand twice are noted; the later image is then set aside.
        source: the annotation file.
        drawn: the boxes by the id the format gives.
        infos: what is known of each image, by the same ids.
    """
    ids = {key: one.image_id or key for key, one in drawn.items()}
    first: dict[str, str] = {}
    for key, image_id in ids.items():
        other = first.setdefault(image_id, key)
        if other != key:
            remedy = f"image {other} has this id too; give each its own"
            report.error(source, f"image {key}", f"{KEY}.id", image_id, remedy)
    kept = {key: image_id for image_id, key in first.items()}
    return (
        {kept[key]: one for key, one in drawn.items() if key in kept},
        {kept[key]: info for key, info in infos.items() if key in kept},
    )
