"""Images and boxes of sets with a format of their own, gathered into a pool; and pedestrians.

The rules for a box are those of every reader (`data.formats.drawn`), and so are the findings.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from almining.data.fetch.download import FetchError
from almining.data.formats.drawn import Drawn, make_pool
from almining.data.formats.files import known_size
from almining.data.formats.report import Report
from almining.data.pool import ImageInfo, Pool

PEDESTRIAN = "pedestrian"
HEIGHT, ASPECT = 50.0, (0.2, 0.65)  # Divergence §4: pixels; width by height
BETWEEN = re.compile(r"[ \t\r\n,]*")  # entries of a list
BLOCK = 1 << 22
LONGEST = 1 << 26  # characters of one entry of a list


class Gathering:
    """A pool while its images are found.

    Args:
        source: what is read, for the findings.
        classes: the names of classes 1...C.
    """

    def __init__(self, source: Path, classes: Sequence[str]) -> None:
        """Start without images."""
        self.source, self.classes = source, classes
        self.report = Report(strict=False)
        self._drawn: dict[str, Drawn] = {}
        self._infos: dict[str, ImageInfo] = {}

    def image(
        self,
        image_id: str,
        path: Path,
        size: tuple[int, int] | None = None,
        *,
        file: Path | None = None,
        labelled: bool = True,
        video: str | None = None,
        frame: int | None = None,
    ) -> Drawn | None:
        """Add an image; return where its boxes go, None where it is set aside or has none to give.

        Args:
            image_id: its id.
            path: its file.
            size: (height, width) where the annotation says so; otherwise the file is opened.
            file: the annotation. Default: the source.
            labelled: whether it has an annotation, be it an empty one.
            video: its video.
            frame: its number there.
        """
        file = self.source if file is None else file
        known = known_size(path, size, self.report, file, f"image {image_id}", None)
        if known is None:
            return None
        self._infos[image_id] = ImageInfo(known, video, frame, path)
        if not labelled:
            return None
        self._drawn[image_id] = Drawn(self.report, file, known, image_id=image_id)
        return self._drawn[image_id]

    def box(
        self, drawn: Drawn, record: str, name: object, xyxy: Sequence[Any], *, ignore: bool = False
    ) -> None:
        """Judge a box and keep it if it is one.

        Args:
            drawn: where it goes.
            record: what the annotation calls it.
            name: its class.
            xyxy: what should be x1 y1 x2 y2 in pixels.
            ignore: neither positive nor negative.
        """
        shown = " ".join(str(side) for side in xyxy)
        if name not in self.classes:
            remedy = f"not a class of this set ({', '.join(self.classes[:10])})"
            drawn.set_aside(record, "class", name, remedy)
        elif len(xyxy) != 4 or not all(type(side) in (int, float) for side in xyxy):
            drawn.set_aside(record, "box", shown, "four numbers are needed")
        else:
            drawn.add(record, "box", str(name), xyxy, ignore=ignore, shown=shown)

    def pool(self, *, exhaustive: bool = True) -> Pool:
        """Return the pool; an image without an annotation is unlabelled."""
        return make_pool(
            self.report,
            self.source,
            self.classes,
            self._drawn,
            self._infos,
            exhaustive=exhaustive,
        )


def tall_pedestrians(
    pool: Pool, *, height: float = HEIGHT, aspect: tuple[float, float] = ASPECT
) -> Pool:
    """Return the pool without the boxes that Divergence discards, which are background then.

    Args:
        pool: of pedestrians; ignored boxes stay.
        height: the least, in pixels.
        aspect: the least and the largest width by height.

    Source: Divergence (Aghdam et al., ICCV 2019) §4.
    """
    known = {}
    for image_id in pool.ids:
        target = pool.target(image_id)
        wide, high = (target.boxes[:, 2:] - target.boxes[:, :2]).unbind(1)
        shape = wide / high
        good = (high >= height) & (shape >= aspect[0]) & (shape <= aspect[1])
        kept = replace(target, tags=None, absent=None).select(good | target.ignore)
        known[image_id] = replace(kept, complete=target.complete)
    return pool.updated(known, cycle=pool.cycle)


def with_objects(pool: Pool) -> Pool:
    """Return the images that hold an object which is not ignored."""
    ids = pool.ids
    return pool.subset(one for one in ids if bool((~pool.target(one).ignore).any()))


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a text to be read; what is no UTF-8, or no CSV where one is read, is a `FetchError`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except (UnicodeDecodeError, csv.Error) as error:
        raise FetchError(f"{path} is damaged ({error}); fetch it again") from error


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list, however long the list is.

    Raises:
        FetchError: for anything else, saying where.
    """
    decoder, text, place, begun = json.JSONDecoder(), "", 0, False
    with opened(path) as file:
        while True:
            place = _after(text, place)
            if not begun and place < len(text):
                if text[place] != "[":
                    raise FetchError(f"{path} is no list; fetch it again")
                begun, place = True, _after(text, place + 1)
            if begun and text.startswith("]", place):
                return
            try:
                entry, place = decoder.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                text, place = text[place:], 0
                more = file.read(max(BLOCK, len(text)))
                if not more or len(text) > LONGEST:
                    where = f"at {text[:40]!r}" if text else "at its end"
                    raise FetchError(f"{path} breaks off {where}; fetch it again") from error
                text += more
                continue
            if not isinstance(entry, dict):
                raise FetchError(f"{path} lists {str(entry)[:40]!r} where an object is needed")
            yield entry


def _after(text: str, place: int) -> int:
    """Return where what lies between two entries ends."""
    found = BETWEEN.match(text, place)
    return found.end() if found else place


def members(entry: Any, *names: str) -> list[Any]:
    """Return members of what should be an object, None for each that is absent.

    >>> members({"x1": 3}, "x1", "y1"), members(None, "x1")
    ([3, None], [None])
    """
    return [entry.get(name) if isinstance(entry, dict) else None for name in names]
