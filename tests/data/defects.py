"""What a defect row is, how its verdict is judged, and the smallest good data sets to spoil.

A row writes a data set with exactly one defect and says what reading it should come to: E an error
that names everything, R a repair, Q something set aside, N nothing at all, warn a warning.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from almining import predict
from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Finding, Pool
from almining.data.quarantine import Quarantine
from almining.data.readers import read_coco, read_voc

WIDTH, HEIGHT = 40, 30
STRENGTH = {"error": "E", "quarantined": "Q", "warning": "warn", "repaired": "R"}
Holds = Callable[[Pool], bool]


@dataclass(frozen=True)
class Row:
    """One data set: written by `make`, read by `read`, judged by `judge`.

    Args:
        number: in the catalogue; 0 for a clean set.
        name: the defect in a few words.
        format: coco, voc, folder, image or video.
        wanted: E, R, Q, N or warn.
        make: writes it into a folder.
        read: reads it from there, with further options.
        words: what the message has to say.
        holds: what has to be true of the pool.
        lenient: what has to be true when bad records are set aside; None to leave that out.
        fatal: whether it is an error even then.
        findings: how many there should be.
        alone: load each image by itself, where a broken one is an error; otherwise all are scored,
            where it is set aside.
        needs: a package without which it cannot be made.
    """

    number: int
    name: str
    format: str
    wanted: str
    make: Callable[[Path], None]
    read: Callable[..., Pool]
    words: tuple[str, ...] = ()
    holds: Holds | None = None
    lenient: Holds | None = None
    fatal: bool = False
    findings: int = 1
    alone: bool = False
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.number:02d}-{self.format}-{self.name}".replace(" ", "-")


@dataclass(frozen=True)
class Outcome:
    """What reading a row came to.

    Args:
        given: the verdict.
        message: what was said, without the folder it was written to.
        problems: what is not as the row wants it, in words.
    """

    given: str
    message: str = ""
    problems: tuple[str, ...] = field(default=())


def judge(row: Row, folder: Path) -> Outcome:
    """Write a row into an empty folder, read it, load every image, and judge all of it."""
    folder = folder.resolve()
    row.make(folder)
    problems: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given, said = _read(row, folder, problems)
        if row.lenient is not None or row.fatal:
            problems += _leniently(row, folder)
    problems += [f"Python warned: {warning.message}" for warning in caught]
    message = " ".join(said.replace(f"{folder}/", "").replace(str(folder), ".").split())
    problems += [f"does not say {word!r}" for word in row.words if word not in message]
    return Outcome(given, message, tuple(problems))


def _read(row: Row, folder: Path, problems: list[str]) -> tuple[str, str]:
    try:
        pool = row.read(folder)
    except DataError as error:
        found = [finding for finding in error.findings if finding.action == "error"]
        problems += [p for finding in found for p in _unclear(finding)]
        if len(found) != row.findings:
            problems.append(f"{len(found)} errors instead of {row.findings}")
        return "E", str(found[0])
    findings = [*pool.findings, *_scored(pool)] if not row.alone else pool.findings
    said = [str(finding) for finding in findings]
    given = [STRENGTH[finding.action] for finding in findings]
    problems += [p for finding in findings for p in _unclear(finding)]
    for error in _loaded(pool) if row.alone else ():
        said.append(str(error))
        given.append("E")
        parts = {"image": error.image_id, "file": error.file, "remedy": error.remedy}
        problems += [f"a message without the {k}" for k, v in parts.items() if v not in said[-1]]
    if row.wanted != "N" and len(given) != row.findings:
        problems.append(f"{len(given)} findings instead of {row.findings}: {said}")
    if row.holds is not None and not row.holds(pool):
        problems.append("the content is not right")
    for verdict in ("E", "Q", "warn", "R"):
        if verdict in given:
            return verdict, said[given.index(verdict)]
    return "N", ""


def _scored(pool: Pool) -> tuple[Finding, ...]:
    """Return what is set aside when every image is scored."""
    aside = Quarantine(limit=1)
    for _ in predict.stream(lambda images: images, pool, progress=False, set_aside=aside):
        pass
    return aside.findings


def _loaded(pool: Pool) -> Iterator[BrokenImageError]:
    """Yield what every image says that cannot be loaded."""
    for image_id in pool.ids:
        try:
            pool.image(image_id)
        except BrokenImageError as error:
            yield error


def _unclear(finding: Finding) -> list[str]:
    """Return what a finding leaves open."""
    parts = ("file", "record", "field", "value", "remedy")
    return [f"a finding without {part}" for part in parts if not getattr(finding, part).strip()]


def _leniently(row: Row, folder: Path) -> list[str]:
    """Return what is wrong when bad records are set aside."""
    try:
        pool = row.read(folder, strict=False)
    except DataError as error:
        return [] if row.fatal else [f"strict=False raises: {error}"]
    if row.fatal:
        return ["strict=False reads what is wrong as a whole"]
    problems = [] if row.lenient is None or row.lenient(pool) else ["strict=False: wrong content"]
    if "quarantined" not in {finding.action for finding in pool.findings}:
        problems.append("strict=False: nothing is said to be set aside")
    return problems


def boxes(pool: Pool, image_id: str) -> list[list[float]]:
    """Return the boxes of an image, rounded to hundredths."""
    return [[round(v, 2) for v in box] for box in pool.target(image_id).boxes.tolist()]


def is_complete(pool: Pool, image_id: str, *wanted: Sequence[float]) -> bool:
    """Tell whether an image is complete and has just these boxes."""
    return pool.target(image_id).complete and boxes(pool, image_id) == [list(w) for w in wanted]


def save(
    path: Path,
    mode: str = "RGB",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    color: Any = 0,
    **options: Any,
) -> None:
    """Write an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def annotation(number: int, image: object, category: object, bbox: object, **more: Any) -> dict:
    """Return one annotation of COCO."""
    known = {"id": number, "image_id": image, "category_id": category, "bbox": bbox}
    return {**known, "iscrowd": 0, "area": 1.0, **more}


GOOD, FIRST, SECOND = [5, 5, 15, 15], [2, 2, 10, 10], [10, 10, 22, 19]  # the three boxes of COCO


def coco_document() -> dict[str, Any]:
    """Return two images: "1" with one box, "2" with two."""
    sizes = {"width": WIDTH, "height": HEIGHT}
    return {
        "images": [
            {"id": 1, "file_name": "good.png", **sizes},
            {"id": 2, "file_name": "bad.png", **sizes},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            annotation(11, 1, 1, [5, 5, 10, 10]),
            annotation(12, 2, 2, [2, 2, 8, 8]),
            annotation(13, 2, 1, [10, 10, 12, 9]),
        ],
    }


def coco_aside(pool: Pool) -> bool:
    """Tell whether the bad record alone is gone: "1" is whole, "2" absent or no longer complete."""
    if not is_complete(pool, "1", GOOD):
        return False
    return "2" not in pool or (
        not pool.target("2").complete and (FIRST in boxes(pool, "2") or not len(pool.target("2")))
    )


def coco(
    number: int,
    name: str,
    wanted: str,
    change: Callable[[dict[str, Any]], object] = lambda data: None,
    *,
    files: Callable[[Path], object] = lambda images: None,
    text: Callable[[str], str | bytes] = str,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """Return a row of COCO's format.

    Args:
        number: in the catalogue.
        name: the defect.
        wanted: the verdict.
        change: edits the document.
        files: edits the folder of images, last.
        text: turns the JSON text into what is written.
        options: of the reader.
        more: fields of the row.
    """

    def make(root: Path) -> None:
        data = coco_document()
        change(data)
        for name in ("good.png", "bad.png"):
            save(root / "images" / name)
        files(root / "images")
        written = text(json.dumps(data))
        content = written if isinstance(written, bytes) else written.encode()
        (root / "instances.json").write_bytes(content)

    def read(root: Path, **asked: Any) -> Pool:
        return read_coco(root / "instances.json", root / "images", **{**(options or {}), **asked})

    if wanted == "E" and not more.get("fatal"):
        more.setdefault("lenient", coco_aside)
    return Row(number, name, more.pop("format", "coco"), wanted, make, read, **more)


SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def obj(name: str, *corners: object, difficult: str = "<difficult>0</difficult>") -> str:
    """Return one object of VOC."""
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{difficult}<bndbox>{box}</bndbox></object>"


def xml(*objects: str, size: str = SIZE, filename: str = "") -> str:
    """Return an annotation of VOC."""
    return f"<annotation>{filename}{size}{''.join(objects)}</annotation>"


DOG = obj("dog", 3, 3, 10, 10)  # read as FIRST
IDS = "JPEGImages/good", "JPEGImages/bad"


def voc_aside(pool: Pool) -> bool:
    """Tell whether the bad record alone is gone."""
    good, bad = IDS
    if not is_complete(pool, good, [0, 0, WIDTH, HEIGHT]):
        return False
    return bad not in pool or (not pool.target(bad).complete and boxes(pool, bad) in ([], [FIRST]))


def voc(
    number: int,
    name: str,
    wanted: str,
    bad: str | bytes | None = xml(DOG),
    *,
    image: str = ".jpg",
    listing: str | bytes = "good\nbad\n",
    files: Callable[[Path], object] = lambda root: None,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """Return a row of VOC's layout.

    Args:
        number: in the catalogue.
        name: the defect.
        wanted: the verdict.
        bad: the annotation of the second image; None to leave it out.
        image: the suffix of the second image; "" to leave it out.
        listing: the list of the split.
        files: edits the data set, last.
        options: of the reader.
        more: fields of the row.
    """

    def make(root: Path) -> None:
        save(root / "JPEGImages" / "good.jpg")
        if image:
            save(root / "JPEGImages" / f"bad{image}")
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        lines = listing if isinstance(listing, bytes) else listing.encode()
        (lists / "train.txt").write_bytes(lines)
        (root / "Annotations").mkdir()
        whole = xml(obj("cat", 1, 1, WIDTH, HEIGHT))
        (root / "Annotations" / "good.xml").write_text(whole)
        if bad is not None:
            content = bad if isinstance(bad, bytes) else bad.encode()
            (root / "Annotations" / "bad.xml").write_bytes(content)
        files(root)

    def read(root: Path, **asked: Any) -> Pool:
        return read_voc(root, "train", **{**(options or {}), **asked})

    if wanted == "E" and not more.get("fatal"):
        more.setdefault("lenient", voc_aside)
    return Row(number, name, more.pop("format", "voc"), wanted, make, read, **more)


def link(name: str, to: str) -> Callable[[Path], None]:
    """Put a link in the place of a file."""

    def files(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(to)

    return files


def mean(pool: Pool, image_id: str) -> list[float]:
    """Return the mean of each channel of an image, rounded to tenths."""
    return [round(float(v), 1) for v in torch.as_tensor(pool.image(image_id)).mean(dim=(1, 2))]
