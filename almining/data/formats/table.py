"""The annotations of a data set as columns, and which of its boxes raise no question.

Ids become int64, boxes float64, so a million annotations take some tens of megabytes. `plain` finds
boxes nothing can be said about; every other box, and every box of its image, is judged one by one
in `data.formats.drawn`, where the rules are. In doubt a box is not plain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almining.data.formats.drawn import ROUNDING
from almining.data.formats.extras import KEY
from almining.data.formats.report import ABSENT

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

IDS = ("id", "image_id", "category_id")
MARKS = ("iscrowd", "ignore", "isGroupOf", "IsGroupOf")
FIELDS = (*IDS, *MARKS, KEY, "bbox", "area")
ROWS = 8192  # gathered as Python objects before they become columns
NO_ID = -(2**63)
FIRST_TEXT = 2**62  # codes from here on stand for texts that are no plain whole number
_plain_number = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII).fullmatch
SHOWN = 121  # characters of a bad value that are kept; a finding shows 120


class Ids:
    """Ids as int64, equal where their text is: 7 and "7" are one, 7 and "07" are not.

    >>> ids = Ids()
    >>> codes, texts = ids.encode([7, "7", "07", None])
    >>> [ids.text(int(code)) for code in codes], texts.tolist()
    (['7', '7', '07', ''], [False, True, True, False])
    """

    def __init__(self) -> None:
        """Start without texts."""
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []

    def encode(self, values: Sequence[object]) -> tuple[Ints, Bools]:
        """Return a code for every id, `NO_ID` for what is none, and which of them are strings."""
        if set(map(type, values)) == {int}:
            try:
                codes = np.array(values, dtype=np.int64)
            except OverflowError:
                codes = np.array([FIRST_TEXT])
            if -FIRST_TEXT < codes.min() and codes.max() < FIRST_TEXT:
                return codes, np.zeros(len(values), dtype=bool)
        texts = np.array([isinstance(value, str) for value in values], dtype=bool)
        return np.array([self._code(value) for value in values], dtype=np.int64), texts

    def _code(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            return NO_ID
        text = str(value)
        if _plain_number(text) and -FIRST_TEXT < int(text) < FIRST_TEXT:
            return int(text)
        if text not in self._codes:
            self._codes[text] = FIRST_TEXT + len(self._texts)
            self._texts.append(text)
        return self._codes[text]

    def text(self, code: int) -> str:
        """Return an id as text; "" for none."""
        if code >= FIRST_TEXT:
            return self._texts[code - FIRST_TEXT]
        return "" if code == NO_ID else str(code)


class Table:
    """Annotations as columns, one row each, filled some at a time.

    Args:
        ids: gives the codes; shared with whatever the annotations name.
    """

    def __init__(self, ids: Ids) -> None:
        """Start without rows."""
        self._ids = ids
        self._buffer: dict[str, list[Any]] = {field: [] for field in FIELDS}
        self._chunks: dict[str, list[NDArray[Any]]] = {}
        self.bad: dict[int, dict[str, str]] = {}  # row: field: what stands there
        self.extras: dict[int, Any] = {}  # row: what only our own files hold
        self.rows = 0
        self.columns: Mapping[str, NDArray[Any]] = {}

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep what is needed of some annotations."""
        alike = _alike(entries)
        for field, column in self._buffer.items():
            column += alike.get(field) or [entry.get(field) for entry in entries]
        if len(self._buffer["id"]) >= ROWS:
            self._flush()

    def finish(self) -> None:
        """Make the columns: ids and which are texts, xywh, ignore, no_crowd, no_area, bad."""
        self._flush()
        for name in list(self._chunks):
            self._chunks[name] = [np.concatenate(self._chunks[name])]
        self.columns = {name: chunks[0] for name, chunks in self._chunks.items()}
        self._chunks = {}

    def _flush(self) -> None:
        buffer, first = self._buffer, self.rows
        count = len(buffer["id"])
        self.rows += count
        ignore = np.zeros(count, dtype=bool)
        for field in MARKS:
            ignore |= self._marks(first, field)
        made: dict[str, NDArray[Any]] = {"ignore": ignore, "xywh": self._boxes(first)}
        for field in IDS:
            codes, texts = self._ids.encode(buffer[field])
            made[field], made[f"{field} text"] = codes, texts
            for row in np.flatnonzero(codes == NO_ID).tolist():
                self._note(first + row, field, buffer[field][row])
        for field, name in (("iscrowd", "no_crowd"), ("area", "no_area")):
            made[name] = np.array([value is None for value in buffer[field]], dtype=bool)
        for row, value in enumerate(buffer[KEY]):
            if value is not None:
                self.extras[first + row] = value
        for name, values in made.items():
            self._chunks.setdefault(name, []).append(values)
        for column in buffer.values():
            column.clear()

    def _note(self, row: int, field: str, value: object) -> None:
        shown = value if isinstance(value, str) and value else repr(value)
        if value is None:
            shown = ABSENT
        self.bad.setdefault(row, {})[field] = shown[:SHOWN]

    def _marks(self, first: int, field: str) -> Bools:
        values = self._buffer[field]
        try:
            odd = not set(values) <= {0, 1, None}
        except TypeError:
            odd = True
        if odd:
            for row, value in enumerate(values):
                if value is not None and value not in (0, 1):
                    self._note(first + row, field, repr(value))
        return np.array([bool(value) for value in values], dtype=bool)

    def _boxes(self, first: int) -> Floats:
        values = self._buffer["bbox"]
        if set(map(type, values)) == {list} and set(map(len, values)) == {4}:
            flat = list(chain.from_iterable(values))
            if set(map(type, flat)) <= {int, float}:
                try:
                    return np.array(flat, dtype=np.float64).reshape(-1, 4)
                except OverflowError:
                    pass
        boxes = np.full((len(values), 4), np.nan)
        for row, value in enumerate(values):
            if isinstance(value, list) and len(value) == 4 and all(map(_number, value)):
                boxes[row] = [_float(side) for side in value]
            else:
                self._note(first + row, "bbox", value)
        return boxes


def _alike(entries: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    """Return the columns of annotations that all have the same keys; {} of others."""
    keys = list(entries[0]) if entries else []
    if len(keys) < 2 or set(map(len, entries)) != {len(keys)}:
        return {}
    try:
        columns = zip(*map(itemgetter(*keys), entries), strict=True)
    except KeyError:
        return {}
    absent = dict.fromkeys(FIELDS, [None] * len(entries))
    return {**absent, **dict(zip(keys, columns, strict=True))}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def plain(boxes: Floats, sizes: Ints) -> tuple[Bools, Floats]:
    """Return which boxes are inside their image and have an area, and all of them cut to it.

    Args:
        boxes: (n, 4) x1 y1 x2 y2, finite or not.
        sizes: (n, 2) height and width of the image of each.
    """
    with np.errstate(all="ignore"):
        edge = sizes[:, ::-1].astype(np.float64)
        low, high = boxes[:, :2], boxes[:, 2:]
        beyond = np.maximum(-low, high - edge).max(axis=1)
        cut = np.concatenate([np.maximum(low, 0.0), np.minimum(high, edge)], axis=1)
        single = cut.astype(np.float32)
        area = (single[:, 2:] > single[:, :2]).all(axis=1)
        good = np.isfinite(boxes).all(axis=1) & (beyond <= ROUNDING) & area
    return good, cut


def repeated(columns: Sequence[NDArray[Any]]) -> Bools:
    """Return which rows may be equal to another one: all that are, hardly any that are not.

    Args:
        columns: (n,) each, of int64, bool or float64.

    >>> repeated([np.array([3, 5, 3]), np.array([0.0, 1.0, -0.0])]).tolist()
    [True, False, True]
    """
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        # 0.0 and -0.0 are equal, their bits are not
        bits = column + 0.0 if column.dtype == np.float64 else column.astype(np.int64)
        mixed = (mixed ^ bits.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed)
    same = mixed[order[1:]] == mixed[order[:-1]]
    found = np.zeros(len(mixed), dtype=bool)
    found[order[1:][same]] = found[order[:-1][same]] = True
    return found


def later(codes: Ints) -> Bools:
    """Return which codes stood before.

    >>> later(np.array([4, 2, 4, 4])).tolist()
    [False, False, True, True]
    """
    order = np.argsort(codes, kind="stable")
    found = np.zeros(len(codes), dtype=bool)
    found[order[1:]] = codes[order[1:]] == codes[order[:-1]]
    return found


def positions(codes: Ints, known: Ints) -> Ints:
    """Return where each code stands in `known`, which holds none twice; -1 where it does not.

    >>> positions(np.array([9, 4, 7]), np.array([7, 9])).tolist()
    [1, -1, 0]
    """
    if not len(known):
        return np.full(len(codes), -1)
    order = np.argsort(known, kind="stable")
    near = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
    found: Ints = order[near]
    return np.where(known[found] == codes, found, -1)
