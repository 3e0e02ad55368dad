"""The layout of YOLO as a pool; `read_yolo` is called through `data.readers`.

Normalised centres and sizes are met here and in `data.formats.write_yolo`, and go no further.
Polygons and key points are not read, lists of image files neither.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from almining.checks import HUMAN, MINED
from almining.data.formats.drawn import make_pool
from almining.data.formats.extras import Held, single
from almining.data.formats.files import SUFFIXES, inside, known_size
from almining.data.formats.report import Report, bad_byte, check_classes, spelled_twice
from almining.data.pool import ImageInfo, Pool
from almining.progress import bar

DATA = "data.yaml"
YAML_BYTES = 2**20
BEYOND = 1e-6  # what rounding to six digits may add to 1
COLUMNS = ("class", "x", "y", "width", "height", "confidence")


def read_yolo(
    root: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str] | None = None,
    missing: Literal["unlabelled", "empty"] = "unlabelled",
    strict: bool = True,
    exhaustive: bool = True,
    progress: bool | str = True,
) -> Pool:
    """Read one split of a data set in the layout of YOLO.

    `images/<split>/<name>.*` holds the images (or `<split>/images`, or the folder `data.yaml`
    names), the folder of the same path with `labels` for `images` a file `<name>.txt` for each,
    with a line for each box.

    Args:
        root: the folder that holds them and `data.yaml`.
        split: the name of the split, such as `"train"`.
        classes: the names of classes 1...C, for lack of a `data.yaml`; YOLO counts them from 0.
        missing: what an image without a label file is: `"unlabelled"`, with a finding, or
            complete and `"empty"`, as Ultralytics takes it.
        strict: raise on bad records. False sets them aside too; an image that lost a line so is
            not complete.
        exhaustive: False where not every object has a box, so that no image is complete and one
            without boxes is unlabelled.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        A pool of complete targets with ids such as `"images/train/000001"`. A line with a sixth
        column, a confidence, is a mined box of that score.

    Raises:
        DataError: with every problem of the split.
        ValueError: for a bad `missing` or `classes`.

    Source: the detection format of Ultralytics YOLO.
    Differs: an image without a label file is not silently background.
    """
    if missing not in ("unlabelled", "empty"):
        raise ValueError(f"missing = {missing!r}: use 'unlabelled' or 'empty'")
    check_classes(classes)
    report, base = Report(strict), Path(root).resolve()
    names, splits = list(classes or ()), dict[str, Any]()
    if classes is None or (base / DATA).is_file():
        known, splits = read_names(base / DATA, report)
        names = known if classes is None else names
    spelled_twice(set(names), report, base / DATA, "names")
    folder = _folder(base, split, splits, report)
    report.check()
    reader = _Yolo(base, folder, names, missing, report)
    for path in bar(reader.files(), progress=progress, name="reading YOLO", unit="image"):
        reader.read_image(path)
    return make_pool(report, folder, names, reader.drawn, reader.infos, exhaustive=exhaustive)


def read_names(path: Path, report: Report) -> tuple[list[str], dict[str, str | None]]:
    """Return the classes of a `data.yaml`, and its other entries; what is wrong is reported.

    Every scalar is read as text, so that a class may be called `no` or `1`; other entries that are
    no scalar are None. No tag is run and no alias expanded, because only the nodes are looked at.
    """
    import yaml  # type: ignore[import-untyped]

    def wrong(
        record: str, field: str, value: object, remedy: str
    ) -> tuple[list[str], dict[str, Any]]:
        report.fatal(path, record, field, value, remedy)
        return [], {}

    try:
        if path.stat().st_size > YAML_BYTES:
            return wrong("file", "size", path.stat().st_size, f"above {YAML_BYTES} bytes")
        document = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        return wrong("file", "path", path.name, "it is absent; add it or pass classes=")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        told = " ".join(str(error).split())
        return wrong("file", "YAML", type(error).__name__, f"cannot be read: {told}")
    entries = {_scalar(key): value for key, value in _pairs(document)}
    if "names" not in entries:
        return wrong("file", "names", None, "an entry `names` is needed")
    remedy = "names are a list, or a mapping of the numbers 0, 1, 2, ... without a gap, each once"
    node = entries.pop("names")
    pairs = _pairs(node)
    if pairs:
        numbers = [_scalar(key) for key, _ in pairs]
        if sorted(map(str, numbers)) != sorted(map(str, range(len(pairs)))):
            return wrong("names", "names", numbers, remedy)
        each = [value for _, value in sorted(pairs, key=lambda pair: int(pair[0].value))]
    elif isinstance(node, yaml.SequenceNode) and node.value:
        each = node.value
    else:
        return wrong("names", "names", _scalar(node), remedy)
    found = [_scalar(value) or "" for value in each]
    for place, (name, value) in enumerate(zip(found, each, strict=True)):
        if not name.strip():
            return wrong(f"names[{place}]", "names", name or value.id, "a name is needed")
    for name, times in Counter(found).items():
        if times > 1:
            report.fatal(path, "names", "names", name, f"the name stands {times} times; rename it")
    return found, {key: _scalar(value) for key, value in entries.items() if key is not None}


def _pairs(node: Any) -> list[tuple[Any, Any]]:
    """Return the keys and values of a node that is a mapping, nothing for any other."""
    return node.value if node is not None and node.id == "mapping" else []


def _scalar(node: Any) -> str | None:
    """Return the text of a node; None for one that is a list or a mapping."""
    return node.value if node.id == "scalar" else None


def _folder(root: Path, split: str, splits: dict[str, Any], report: Report) -> Path:
    """Return the folder of the images of a split."""
    said = splits.get(split)
    names = [said] if isinstance(said, str) else []
    for name in (*names, f"images/{split}", f"{split}/images"):
        path = inside(root, name)
        if path is not None and path.is_dir() and "images" in path.relative_to(root).parts:
            return path
    remedy = (
        f"no such folder of images; images/{split} is needed under the root, a list of files is "
        "not read"
    )
    report.fatal(root, f"split {split}", "images", said if said else f"images/{split}", remedy)
    return root


class _Yolo:
    """One reading of a YOLO split: what was found so far."""

    def __init__(
        self, root: Path, folder: Path, names: Sequence[str], missing: str, report: Report
    ) -> None:
        self.root, self.folder, self.names = root, folder, names
        self.missing, self.report = missing, report
        self.drawn: dict[str, Held | None] = {}
        self.infos: dict[str, ImageInfo] = {}

    def files(self) -> list[Path]:
        """Return the image files, noting those that share a label file and labels of no image."""
        found = sorted(
            path
            for path in self.folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        stems = Counter(path.with_suffix("") for path in found)
        kept = [path for path in found if stems[path.with_suffix("")] == 1]
        for path in found:
            if stems[path.with_suffix("")] > 1:
                remedy = "several images would share one label file; rename or remove all but one"
                self.report.error(self.folder, f"image {path.name}", "name", path.name, remedy)
        labels = {self._labels(path) for path in found}
        for path in sorted(self._labels(self.folder / "x").parent.rglob("*.txt")):
            if path not in labels and path.name != "classes.txt":
                remedy = "there is no image of this name; its labels are left out"
                self.report.tally(
                    "quarantined", path.parent, "labels", remedy, record=path.name, value=path.name
                )
        return kept

    def _labels(self, image: Path) -> Path:
        """Return the label file of an image: `labels` for the last folder called `images`."""
        parts = list(image.relative_to(self.root).with_suffix(".txt").parts)
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        return self.root.joinpath(*parts)

    def read_image(self, path: Path) -> None:
        """Read the size and the labels of one image."""
        name = path.relative_to(self.root).as_posix()
        image_id = PurePosixPath(name).with_suffix("").as_posix()
        labels = self._labels(path)
        known = [
            inside(self.root, each.relative_to(self.root).as_posix()) for each in (path, labels)
        ]
        if None in known:
            remedy = "the link leaves the data set; copy the file into it"
            self.report.error(self.folder, f"image {name}", "file", name, remedy)
            return
        size = known_size(path, None, self.report, self.folder, f"image {name}", None)
        if size is None:
            return
        self.infos[image_id] = ImageInfo(size=size, path=path)
        drawn = Held(self.report, labels, size, image_id=image_id)
        self.drawn[image_id] = drawn
        if not labels.is_file():
            if self.missing == "unlabelled":
                self.drawn[image_id] = None
                remedy = (
                    "no label file, so the image is read as unlabelled; pass missing='empty' if "
                    "such images hold no object"
                )
                self.report.tally(
                    "warning", self.folder, "labels", remedy, record=name, value=labels.name
                )
            return
        try:
            text = labels.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            drawn.set_aside(
                "file", "encoding", bad_byte(error), "not UTF-8; save the file as UTF-8"
            )
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                self._line(drawn, f"line {number}", line.strip())

    def _line(self, drawn: Held, record: str, line: str) -> None:
        columns = line.split()
        if len(columns) not in (5, 6):
            polygon = len(columns) > 6 and len(columns) % 2 == 1
            what = "a polygon (YOLO segmentation)" if polygon else f"{len(columns)} columns"
            remedy = f"{what}, where class x y width height are needed; convert it to boxes"
            drawn.set_aside(record, "columns", line, remedy)
            return
        label = columns[0]
        whole = label.isascii() and label.isdigit() and len(label) < 10
        if not whole or int(label) >= len(self.names):
            remedy = f"classes are whole numbers 0...{len(self.names) - 1}; see {DATA}"
            drawn.set_aside(record, "class", label, remedy)
            return
        values = []
        for name, text in zip(COLUMNS[1:], columns[1:], strict=False):
            value, why = _value(name, text)
            if why:
                drawn.set_aside(record, name, text, f"{why}; correct it")
                return
            values.append(value)
        x, y, wide, high, *confidence = values
        height, width = drawn.size
        box = (
            *((x - wide / 2) * width, (y - high / 2) * height),
            *((x + wide / 2) * width, (y + high / 2) * height),
        )
        origin, score = (MINED, confidence[0]) if confidence else (HUMAN, math.nan)
        name = self.names[int(label)]
        drawn.tell(record, name, box, origin, score, shown=line, field="box")


def _value(name: str, text: str) -> tuple[float, str]:
    """Return the number in a column, and what is wrong with it, "" when nothing is."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if single(value) is None or "_" in text:
        return value, "a finite number is needed"
    if name == "confidence":
        return value, ""
    if value < 0:
        return value, "negative; values are divided by the size of the image and lie in [0, 1]"
    if value > 1 + BEYOND:
        why = "above 1; divide x and width by the width of the image, y and height by its height"
        return value, why
    return value, ""
