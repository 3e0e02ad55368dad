"""The images of a COCO file: which file each is, how large, and which are set aside.

A size that the annotation gives is believed here; `data.formats.files` compares it when the image
is loaded, because opening every file would cost more than reading all annotations.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from almining.data.formats.files import inside, is_side, known_size
from almining.data.formats.report import Report
from almining.data.formats.table import NO_ID, Bools, Ids, Ints
from almining.data.pool import ImageInfo

FIELDS = ("id", "file_name", "height", "width", "sequence", "video", "frame", "almining")
ASIDE = -1


class Listing:
    """Which plain files lie under a folder, listed once, so that looking one up costs no call.

    Only what certainly lies inside the root is answered here. A link, a name with an unusual part,
    a file that is not listed: all that is judged one by one by `data.files.inside`.

    Args:
        root: a resolved folder.
    """

    def __init__(self, root: Path) -> None:
        """List nothing yet."""
        self._root = root
        self._folders: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        """Tell whether a relative path certainly names a plain file inside the root."""
        if ":" in name or "\0" in name:
            return False
        folder, _, last = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder, name)
        return last in self._folders[folder]

    def _list(self, folder: str, name: str) -> frozenset[str]:
        path = None if name.startswith("/") else inside(self._root, folder or ".")
        if path is None:
            return frozenset()
        try:
            with os.scandir(path) as entries:
                return frozenset(e.name for e in entries if e.is_file(follow_symlinks=False))
        except OSError:
            return frozenset()


class Images:
    """The images of a COCO file, gathered by `add` and looked up by `find`.

    `codes`, `texts` and `slots` belong together: each id that stands in the file, whether it is a
    string, and the position of its image in `names` and `sizes`, or `ASIDE`.

    Args:
        source: the COCO file.
        root: the resolved folder that file names are relative to.
        report: where to note what is wrong.
    """

    def __init__(self, source: Path, root: Path, report: Report) -> None:
        """Start without images."""
        self._source, self._root, self._report = source, root, report
        self._listing = Listing(root)
        self._rows: list[tuple[Any, ...]] = []
        self._files: dict[str, str] = {}  # normal path: the first image of it
        self.names: list[str] = []
        self.infos: dict[str, ImageInfo] = {}
        self.extras: dict[int, Any] = {}  # slot: what only our own files hold
        self.codes: Ints = np.zeros(0, dtype=np.int64)
        self.slots: Ints = np.zeros(0, dtype=np.int64)
        self.sizes: Ints = np.zeros((0, 2), dtype=np.int64)
        self.texts: Bools = np.zeros(0, dtype=bool)

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep what is needed of some images."""
        self._rows += [tuple(map(entry.get, FIELDS)) for entry in entries]

    def find(self, ids: Ids) -> None:
        """Find the file and the size of every image."""
        codes, texts = ids.encode([row[0] for row in self._rows])
        times = Counter(codes.tolist())
        slots: dict[int, int] = {}
        for number, (code, row) in enumerate(zip(codes.tolist(), self._rows, strict=True)):
            record = f"images[{number}]"
            if code == NO_ID:
                remedy = "a whole number or a string is needed"
                self._report.error(self._source, record, "id", row[0], remedy)
            elif times[code] > 1:
                remedy = f"{times[code]} images have this id; give each its own"
                self._report.error(self._source, record, "id", ids.text(code), remedy)
                slots[code] = ASIDE
            else:
                slots[code] = self._image(ids.text(code), row)
        self._rows.clear()
        self._files.clear()
        is_text = dict(zip(codes.tolist(), texts.tolist(), strict=True))
        self.codes = np.array(list(slots), dtype=np.int64)
        self.slots = np.array(list(slots.values()), dtype=np.int64)
        self.texts = np.array([is_text[code] for code in slots], dtype=bool)
        sizes = [self.infos[name].size for name in self.names]
        self.sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)

    def _image(self, key: str, row: tuple[Any, ...]) -> int:
        """Return the slot of an image, `ASIDE` when it is set aside."""
        _, name, height, width, sequence, video, frame, extras = row
        record = f"image {key}"
        if not isinstance(name, str) or not name.strip():
            self._report.error(self._source, record, "file_name", name, "name the image file")
            return ASIDE
        size = (height, width) if is_side(height) and is_side(width) else None
        try:
            path: Path | None = self._root / name if name in self._listing else None
            if path is None:
                name, path = self._look_up(record, name)
        except (OSError, UnicodeEncodeError) as error:
            remedy = f"no file can be looked up by this name ({_reason(error)}); correct it"
            self._report.error(self._source, record, "file_name", name, remedy)
            return ASIDE
        if path is not None and size is None:
            sides = [side if side is not None else "absent" for side in (width, height)]
            shown = "width={} height={}".format(*sides)
            size = known_size(path, None, self._report, self._source, record, shown)
        if path is None or size is None:
            return ASIDE
        self._note_file(record, name)
        film = video if sequence is None else sequence
        self.infos[key] = ImageInfo(
            size=size,
            video=film if isinstance(film, str) else None,
            frame=frame if isinstance(frame, int) and not isinstance(frame, bool) else None,
            path=path,
        )
        if extras is not None:
            self.extras[len(self.names)] = extras
        self.names.append(key)
        return len(self.names) - 1

    def _look_up(self, record: str, name: str) -> tuple[str, Path | None]:
        """Return the name as it is read, and its path; None where no file is found inside."""
        path = inside(self._root, name)
        turned = name.replace("\\", "/")
        if path is not None and turned != name and not path.is_file():
            path = inside(self._root, turned)
            if path is not None and path.is_file():
                remedy = f"read {turned}"
                self._report.repaired(self._source, record, "file_name", name, remedy)
        if path is None:
            remedy = "the path leaves the folder of images; give one relative to it"
            if ".." not in turned.split("/") and os.path.lexists(f"{self._root}/{turned}"):
                remedy = "the link leaves the folder of images; copy the file into it"
            self._report.error(self._source, record, "file_name", name, remedy)
        elif not path.is_file():
            self._report.lost(self._source, record, "image file", path)
            path = None
        return (turned if path == self._root / turned else name), path

    def _note_file(self, record: str, name: str) -> None:
        first = self._files.setdefault(os.path.normpath(name), record)
        if first != record:
            remedy = (
                "another image names the same file, so it is asked for and counted twice, and the "
                "boxes of one are background to the other; merge the two unless that is meant"
            )
            self._report.tally(
                "warning", self._source, "file_name", remedy, record=f"{first} and {record}",
                value=name,
            )  # fmt: skip


def _reason(error: OSError | UnicodeEncodeError) -> str:
    return "half a character" if isinstance(error, UnicodeEncodeError) else str(error.strerror)
