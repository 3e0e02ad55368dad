"""The objects of a VOC annotation as boxes; read through `data.formats.voc`.

VOC's inclusive coordinates are met here and go no further. Poses, parts and the marks `truncated`
and `occluded` are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from almining.data.formats.drawn import Drawn
from almining.data.formats.parse import Element

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Objects:
    """How objects are read.

    Args:
        classes: the names known, None for any.
        origin: the coordinate of the first pixel.
    """

    def __init__(self, classes: Sequence[str] | None, origin: int) -> None:
        """Keep the rules."""
        self.classes = None if classes is None else frozenset(classes)
        self.origin = origin

    def read(self, drawn: Drawn, number: int, entry: Element) -> None:
        """Add one `<object>`, the first being number 1, to the boxes of its image."""
        text = entry.findtext("name") or ""
        name = text.strip()
        record = f"object {number} ({name or 'unnamed'})"
        boxes = entry.findall("bndbox")
        if len(boxes) != 1:
            remedy = "an object has one box; make each box an object of its own"
            drawn.set_aside(record, "bndbox", f"{len(boxes)} boxes", remedy)
            return
        field, values = repeated(entry, ("name", "difficult"))
        if not field:
            field, values = repeated(boxes[0], CORNERS)
        if field:
            remedy = "the field stands more than once; keep the one that is right"
            drawn.set_aside(record, field, values, remedy)
        elif self._named(drawn, record, text):
            self._marked(drawn, record, name, entry, boxes[0])

    def _named(self, drawn: Drawn, record: str, text: str) -> bool:
        """Tell whether an object has a class."""
        name = text.strip()
        if not name:
            drawn.set_aside(record, "name", repr(text), "the object has no class; name it")
            return False
        if name != text:
            remedy = "blanks around the name are not read; remove them"
            drawn.report.tally(
                "warning", drawn.file, "name", remedy, record=record, value=repr(text)
            )
        if self.classes is not None and name not in self.classes:
            some = ", ".join(sorted(self.classes)[:10])
            drawn.set_aside(record, "name", name, f"not among the classes given ({some}); add it")
            return False
        return True

    def _marked(
        self, drawn: Drawn, record: str, name: str, entry: Element, bndbox: Element
    ) -> None:
        texts = [(bndbox.findtext(corner) or "").strip() for corner in CORNERS]
        shown = " ".join(f"{c}={t}" for c, t in zip(CORNERS, texts, strict=True))
        corners = [_number(text) for text in texts]
        difficult = (entry.findtext("difficult") or "0").strip()
        if None in corners:
            drawn.set_aside(record, "bndbox", shown, "four numbers are needed; correct it")
        elif difficult not in ("0", "1"):
            drawn.set_aside(record, "difficult", difficult, "write 0 or 1")
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
            drawn.repaired(record, "bndbox", shown, remedy)
            return
        remedy = self._doubt(corners, "swap" in drawn.report.repairs)
        if remedy:  # the same for many boxes, so they are counted
            drawn.complete = False
            where = f"{Path(str(drawn.file)).name} {record}"
            folder = Path(str(drawn.file)).parent
            drawn.report.tally("error", folder, "bndbox", remedy, record=where, value=shown)
            return
        x1, x2 = self._edges(left, right)
        y1, y2 = self._edges(top, bottom)
        drawn.add(record, "bndbox", name, (x1, y1, x2, y2), ignore=difficult, shown=shown)

    def _doubt(self, corners: list[float], swap: bool) -> str:
        """Return what speaks against pixels counted from the origin, "" when nothing does."""
        left, top, right, bottom = corners
        fractions = any(corner != int(corner) for corner in corners if math.isfinite(corner))
        if 0 <= min(corners) and max(corners) <= 1 and fractions:
            return (
                "coordinates look normalised to [0, 1]; multiply them by width and height, "
                "or correct this box"
            )
        ordered = swap or (left <= right and top <= bottom)
        low = (min(left, right), min(top, bottom))
        if self.origin == 1 and ordered and any(0 <= value < 1 for value in low):
            return (
                "VOC counts pixels from 1; pass voc_origin=0 if the boxes "
                "count from 0, otherwise correct these"
            )
        return ""

    def _edges(self, first: float, last: float) -> tuple[float, float]:
        """Return where pixels begin and end; the end first when the last is before the first."""
        low, high = min(first, last) - self.origin, max(first, last) - self.origin + 1
        return (high, low) if last < first else (low, high)


def repeated(entry: Element, fields: Iterable[str]) -> tuple[str, str]:
    """Return the first of the fields that stands more than once, and its values; else "", ""."""
    for field in fields:
        found = entry.findall(field)
        if len(found) > 1:
            texts = [(each.text or "").strip() for each in found]
            return field, ", ".join(texts) if any(texts) else f"{len(found)} times"
    return "", ""


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
