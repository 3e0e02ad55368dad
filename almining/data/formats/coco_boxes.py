"""The annotations of a COCO file joined with its images and categories.

Whatever the order of the lists, findings come in the order of the annotations. An image whose boxes
all are beyond doubt is made from columns; of any other image each box is judged by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from almining.data.formats.coco_images import ASIDE, Images
from almining.data.formats.drawn import Drawn
from almining.data.formats.extras import Held
from almining.data.formats.report import ABSENT, Report
from almining.data.formats.table import (
    MARKS,
    NO_ID,
    Bools,
    Floats,
    Ids,
    Ints,
    Table,
    later,
    plain,
    positions,
    repeated,
)
from almining.records import Target


class Categories(NamedTuple):
    """The classes of a data set, 1...C: their names and ids, and which ids are strings."""

    names: list[str]
    codes: Ints
    texts: Bools


class _Plain(Drawn):
    """The boxes of an image of which none raises a question: rows of one target of all such."""

    def __init__(self, report: Report, file: object, size: tuple[int, int]) -> None:
        super().__init__(report, file, size)
        self.whole: Target | None = None
        self.rows = (0, 0)

    def target(self, numbers: Mapping[str, int], *, exhaustive: bool = True) -> Target:
        if self.whole is None:
            return super().target(numbers, exhaustive=exhaustive)
        return cut(self.whole, *self.rows)


def cut(whole: Target, start: int, stop: int) -> Target:
    """Return boxes `start` to `stop`, the latter excluded, of a target without tags and negatives.

    A part of a valid target is valid, so it is not checked again, which takes most of the time.
    Tensors are copies: a view would drag all boxes along wherever the part is sent or saved.

    >>> whole = Target(torch.rand(5, 2).repeat(1, 2), torch.tensor([1, 2, 3, 4, 5]))
    >>> cut(whole, 1, 3).labels
    tensor([2, 3])
    """
    part, put = object.__new__(Target), object.__setattr__
    for name in ("boxes", "labels", "ignore", "scores"):
        put(part, name, getattr(whole, name).narrow_copy(0, start, stop - start))
    for name in ("tags", "absent", "negatives", "complete"):
        put(part, name, getattr(whole, name))
    put(part, "origin", whole.origin[start:stop])
    return part


class Boxes:
    """One reading of the annotations.

    Args:
        source: the COCO file.
        report: where to note what is wrong.
        ids: the codes of ids.
        table: the annotations.
        images: the images.
        categories: the classes.
    """

    def __init__(
        self,
        source: Path,
        report: Report,
        ids: Ids,
        table: Table,
        images: Images,
        categories: Categories,
    ) -> None:
        """Join the columns."""
        self._source, self._report, self._ids = source, report, ids
        self._table, self._images, self._classes = table, images, categories
        keys = [ids.text(code) for code in categories.codes.tolist()]
        self._names = dict(zip(keys, categories.names, strict=True))
        columns = table.columns
        image = positions(columns["image_id"], images.codes)
        self._orphan = image < 0
        self._slot = np.append(images.slots, ASIDE)[image]  # an orphan's is the last
        self._aside = ~self._orphan & (self._slot == ASIDE)
        self._category = positions(columns["category_id"], categories.codes)
        self._no_id = columns["id"] == NO_ID
        self._twice = later(columns["id"])
        self._shapeless, self._mismarked = np.zeros((2, table.rows), dtype=bool)
        for row, bad in table.bad.items():
            self._shapeless[row] = "bbox" in bad
            self._mismarked[row] = any(field in bad for field in MARKS)
        spelled = np.append(images.texts, False)[image] != columns["image_id text"]
        self._spelled = spelled & ~self._orphan
        named = np.append(categories.texts, False)[self._category] != columns["category_id text"]
        self._named = named & (self._category >= 0)
        xywh = columns["xywh"]
        with np.errstate(all="ignore"):
            self._corners: Floats = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)

    def judge(self, *, exhaustive: bool) -> dict[str, Drawn]:
        """Return the boxes of every image; what is wrong is noted in the order of the file."""
        refused = self._twice & ("renumber" not in self._report.repairs)
        wrong = self._orphan | self._no_id | refused | (self._category < 0)
        wrong |= self._shapeless | self._mismarked
        sizes = np.append(self._images.sizes, [[0, 0]], axis=0)[self._slot]
        good, inside = plain(self._corners, sizes)
        twins = repeated([self._slot, self._category, *inside.T])
        doubtful = wrong | ~good | twins
        singly = np.zeros(len(self._images.names) + 1, dtype=bool)  # by slot; the last is nobody's
        singly[self._slot[doubtful]] = True
        for row in self._table.extras:
            singly[self._slot[row]] = True
        singly[list(self._images.extras)] = True
        slow = singly[self._slot] & ~self._aside
        found = [self._open(slot, bool(singly[slot])) for slot in range(len(self._images.names))]
        for row in np.flatnonzero(slow).tolist():
            self._one(row, found)
        for slot, drawn in enumerate(found):
            if isinstance(drawn, Held):
                drawn.settle(f"image {self._images.names[slot]}")
        self._rest(np.flatnonzero(~slow & ~self._aside), inside, found, exhaustive)
        return dict(zip(self._images.names, found, strict=True))

    def _open(self, slot: int, singly: bool) -> Drawn:
        height, width = self._images.sizes[slot].tolist()
        if not singly:
            return _Plain(self._report, self._source, (height, width))
        name = self._images.names[slot]
        held = Held(self._report, self._source, (height, width), image_id=name)
        if slot in self._images.extras:
            held.read_image(f"image {name}", self._images.extras[slot], self._names)
        return held

    def _one(self, row: int, found: Sequence[Drawn]) -> None:
        """Judge one annotation."""
        columns, bad = self._table.columns, self._table.bad.get(row, {})
        key = self._ids.text(int(columns["id"][row]))
        record = f"annotation {key}" if key else f"annotations[{row}]"

        def shown(field: str) -> str:
            return bad[field] if field in bad else self._ids.text(int(columns[field][row]))

        repairs = self._report.repairs
        if self._orphan[row]:
            if "orphans" not in repairs:
                remedy = "there is no such image; add it, or pass repair=('orphans',) to drop this"
                self._report.error(self._source, record, "image_id", shown("image_id"), remedy)
            return
        drawn = found[self._slot[row]]
        mark = next((field for field in MARKS if field in bad), None)
        if self._no_id[row]:
            remedy = "an id is a whole number or a text; number the annotations"
            drawn.set_aside(record, "id", shown("id"), remedy)
        elif self._twice[row] and "renumber" not in repairs:
            remedy = "the id stands twice; renumber one, or pass repair=('renumber',)"
            drawn.set_aside(record, "id", key, remedy)
        elif self._category[row] < 0:
            known = ", ".join(list(self._names)[:10]) or "none"
            remedy = f"no such category; add it or correct this (known: {known})"
            drawn.set_aside(record, "category_id", shown("category_id"), remedy)
        elif self._shapeless[row]:
            remedy = "four numbers x y w h are needed; correct it"
            drawn.set_aside(record, "bbox", bad["bbox"], remedy)
        elif mark is not None:
            drawn.set_aside(record, mark, bad[mark], "write the number 0 or 1")
        else:
            self._add(row, record, drawn)

    def _add(self, row: int, record: str, drawn: Drawn) -> None:
        """Judge a box that is four numbers, of a known image and category."""
        name = self._classes.names[self._category[row]]
        x1, y1, x2, y2 = self._corners[row].tolist()
        ignore = bool(self._table.columns["ignore"][row])
        shown = _shown(self._table.columns["xywh"][row].tolist())
        extras = self._table.extras.get(row)
        box = (x1, y1, x2, y2)
        if isinstance(drawn, Held) and extras is not None:
            drawn.add_held(record, name, box, extras, ignore=ignore, shown=shown)
        else:
            drawn.add(record, "bbox", name, box, ignore=ignore, shown=shown)

    def _rest(self, rows: Ints, inside: Floats, found: Sequence[Drawn], exhaustive: bool) -> None:
        """Give the boxes beyond doubt to their images, all at once."""
        rows = rows[np.argsort(self._slot[rows], kind="stable")]
        corners = self._corners[rows]
        whole = Target(
            torch.from_numpy(inside[rows].astype(np.float32)),
            torch.from_numpy(self._category[rows] + 1),
            ignore=torch.from_numpy(self._table.columns["ignore"][rows]),
            complete=exhaustive,
        )
        ends = np.cumsum(np.bincount(self._slot[rows], minlength=len(found)))
        reach, fractions = np.zeros(len(found)), np.zeros(len(found), dtype=bool)
        np.maximum.at(reach, self._slot[rows], corners[:, 2:].max(axis=1))
        fractions[self._slot[rows[(corners != np.trunc(corners)).any(axis=1)]]] = True
        known = zip(found, ends.tolist(), reach.tolist(), fractions.tolist(), strict=True)
        start = 0
        for drawn, end, *seen in known:
            if isinstance(drawn, _Plain):
                drawn.whole, drawn.rows, drawn.seen = whole, (start, end), end - start
                drawn.reach, drawn.fractions = seen
            start = end

    def count_repairs(self) -> None:
        """Note what many annotations have in common, each kind once with a count."""
        columns, repairs = self._table.columns, self._report.repairs
        linked = ~self._aside & ~self._orphan & ~self._no_id
        if "renumber" not in repairs:
            linked &= ~self._twice
        usable = linked & (self._category >= 0) & ~self._shapeless
        mixed = "ids are numbers in one place and strings in another; matched as text"
        zero = "evaluators take 0 for no match; annotations are numbered anew from 1"
        kinds = [
            (self._spelled & linked, "image_id", mixed),
            ((columns["id"] == 0) & linked, "id", zero),
            (self._named & linked, "category_id", mixed),
            (columns["no_crowd"] & usable, "iscrowd", "taken as 0"),
            (columns["no_area"] & usable, "area", "taken as w * h"),
        ]
        if "renumber" in repairs:
            kinds.append((self._twice & linked, "id", "the id stands twice; numbered anew"))
        if "orphans" in repairs:
            kinds.append((self._orphan, "image_id", "there is no such image; dropped"))
        kinds = [kind for kind in kinds if kind[0].any()]
        for mask, field, remedy in sorted(kinds, key=lambda kind: int(kind[0].argmax())):
            self._count(np.flatnonzero(mask), field, remedy)

    def _count(self, rows: Ints, field: str, remedy: str) -> None:
        codes = self._table.columns["id"]
        keys = [self._ids.text(int(codes[row])) for row in rows[:3]]
        records = [
            f"annotation {key}" if key else f"annotations[{row}]"
            for key, row in zip(keys, rows[:3].tolist(), strict=True)
        ]
        more = f", ... ({len(rows)} in all)" if len(rows) > len(records) else ""
        value = ABSENT
        if field in ("id", "image_id", "category_id"):
            row = int(rows[0])
            value = self._ids.text(int(self._table.columns[field][row]))
            value = self._table.bad.get(row, {}).get(field, value)
        self._report.repaired(self._source, ", ".join(records) + more, field, value, remedy)


def _shown(values: Sequence[float]) -> str:
    """Return x y w h as a file has them."""
    words = [str(int(value)) if value.is_integer() else repr(value) for value in values]
    return f"[{', '.join(words)}]"
