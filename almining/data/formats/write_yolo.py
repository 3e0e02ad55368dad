"""A pool in the layout of YOLO; `write_yolo` is called through `data.writers`.

YOLO's normalised centres and sizes are met here and in `data.formats.yolo`, which reads them, and
go no further. Only boxes are written, no polygons and no key points.
"""

from __future__ import annotations

import os
import re

from almining.checks import HUMAN
from almining.data.formats.export import Folder, number, size_of, write_files
from almining.data.formats.losses import Incomplete, Losses, plain_boxes, without_incomplete
from almining.data.formats.names import check_pool, file_stem, suffix
from almining.data.formats.report import Report
from almining.data.formats.yolo import DATA, read_names
from almining.data.pool import Finding, Pool

OURS = re.compile(r"images/[^/]+/(.+)", re.DOTALL)
SPLIT = re.compile(r"[A-Za-z0-9_-]+")
NO_SPLITS = ("names", "nc", "path")  # what else stands in data.yaml


def write_yolo(
    pool: Pool,
    root: str | os.PathLike[str],
    split: str,
    *,
    incomplete: Incomplete = "refuse",
    scores: bool = False,
    copy: bool = True,
    overwrite: bool = False,
    progress: bool | str = True,
) -> tuple[Finding, ...]:
    """Write a pool as one split of a data set in the layout of YOLO.

    `images/<split>/<name>.*` holds the images, `labels/<split>/<name>.txt` a line for each box,
    `data.yaml` the classes and the splits. A complete and empty image has an empty file; one of
    which no box is known has none. Ultralytics trains where there are a `train` and a `val` split.

    Args:
        pool: what to write.
        root: the folder that holds these; it may hold other splits of the same classes.
        split: `"train"`, `"val"`, `"test"` or another name.
        incomplete: what to do with images whose missing boxes YOLO would call background:
            `"refuse"` them, `"skip"` them, or `"write"` sparse ones as if they were complete and
            unlabelled ones without a label file, which Ultralytics trains on all the same.
        scores: write the score of a mined box as the sixth column, as predictions have it; not for
            training.
        copy: copy the image files, byte for byte; PNG of 8 bits where the pool has no file.
        overwrite: replace files that are there.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        What YOLO cannot hold, one finding (action `"warning"`) for each kind, with how many images
        or boxes it concerns; empty when `read_yolo` gives back all of the pool. YOLO holds boxes
        and classes in order. It does not hold ignored boxes, which are left out, as Ultralytics'
        own converters do; origin, scores unless asked for, tags, absent classes, negatives, video,
        frame and cycle; and, unless it is `images/<split>/<name>`, the id.

    Raises:
        DataError: for images that are not complete, unless `incomplete` says what to do.
        FileExistsError: naming a file that is there, unless `overwrite`.
        ValueError: for an id that makes no file name, a link in the way, a `data.yaml` of other
            classes, or files in the split's folders that would be read as part of it.

    Source: the detection format of Ultralytics YOLO: class, centre x, centre y, width, height, the
    last four divided by the size of the image.
    Differs: numbers are written in full, so corners read back to 1e-9 pixel, most bit-equal.
    """
    check_pool(pool)
    if not SPLIT.fullmatch(split) or split in NO_SPLITS:
        raise ValueError(f"split = {split!r}: use letters, digits, _ and -, such as 'train'")
    folder = Folder(root, overwrite)
    losses = Losses(folder.root / "labels" / split, "YOLO")
    images, texts = {}, {}
    trained_on = ("sparse", "tagged", "unlabelled")  # as if what has no box were background
    for image_id in without_incomplete(pool, losses, incomplete, trained_on):
        name = _name(image_id, split, losses)
        images[image_id] = f"images/{split}/{name}{suffix(pool, image_id)}"
        texts[image_id] = f"labels/{split}/{name}.txt", _labels(pool, image_id, losses, scores)
    findings = losses.close()
    _refuse_strangers(folder, split, {*images.values(), *(name for name, _ in texts.values())})
    data = _data_yaml(folder, pool.classes, split)
    write_files(folder, pool, images, texts, copy=copy, progress=progress, name="writing YOLO")
    if data is not None:
        Folder(root, overwrite=True).write(DATA, data.encode())
    return findings


def _name(image_id: str, split: str, losses: Losses) -> str:
    """Return the name of an id, which YOLO reads back as `images/<split>/<name>`."""
    ours = OURS.fullmatch(image_id)
    name = file_stem(ours[1] if ours else image_id)
    if "images" in name.split("/")[:-1]:
        raise ValueError(
            f"image id {image_id!r} has a folder called 'images', where YOLO would look for the "
            "labels under 'labels'; rename it"
        )
    if image_id != f"images/{split}/{name}":
        losses.note(image_id, "id", image_id, f"it reads as images/{split}/<name>")
    return name


def _labels(pool: Pool, image_id: str, losses: Losses, scores: bool) -> str | None:
    """Return a line for each box; None for an image that gets no label file."""
    target = pool.target(image_id)
    told = enumerate(zip(target.origin, target.scores.tolist(), strict=True))
    scored = {
        row: f" {number(score)!r}"
        for row, (origin, score) in told
        if scores and origin != HUMAN and score == score
    }
    losses.image(pool, image_id, target, scored=scored)
    if target.state in ("unlabelled", "tagged"):
        return None
    height, width = size_of(pool, image_id)
    lines = []
    for row, (x1, y1, x2, y2) in plain_boxes(losses, image_id, target, (height, width)):
        box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        line = " ".join([str(int(target.labels[row]) - 1), *map(repr, box)])
        lines.append(f"{line}{scored.get(row, '')}\n")
    return "".join(lines)


def _refuse_strangers(folder: Folder, split: str, ours: set[str]) -> None:
    """Raise when the folders of the split hold files that would be read as part of it."""
    for kind in ("images", "labels"):
        for path in sorted(folder.path(f"{kind}/{split}").rglob("*")):
            name = path.relative_to(folder.root).as_posix()
            if path.is_file() and name not in ours and not path.name.startswith("."):
                raise ValueError(
                    f"{path} is not of this pool but would be read as part of split {split!r}; "
                    "remove it or choose another split"
                )


def _data_yaml(folder: Folder, classes: tuple[str, ...], split: str) -> str | None:
    """Return what `data.yaml` has to be, or None when it stands there already."""
    import yaml  # type: ignore[import-untyped]

    path, entry = folder.path(DATA), f"{split}: images/{split}\n"
    names = {"names": dict(enumerate(classes))}
    new = entry + yaml.safe_dump(names, sort_keys=False, allow_unicode=True)
    if not path.is_file():
        return new
    report = Report(strict=True)
    known, splits = read_names(path, report)
    report.check()
    if known != list(classes):
        others = sorted(splits.keys() - {split, *NO_SPLITS})
        if folder.overwrite and not others:
            return new
        remedy = f"as {', '.join(others)} would change too" if others else "or pass overwrite=True"
        raise ValueError(
            f"{path} names the classes {known}, the pool {list(classes)}; write to another folder, "
            f"{remedy}"
        )
    if split not in splits:
        old = path.read_text(encoding="utf-8-sig")
        return f"{old}{'' if old.endswith(chr(10)) else chr(10)}{entry}"
    if splits[split] == f"images/{split}":
        return None
    raise ValueError(
        f"{path} says that split {split!r} is {splits[split]!r}, not 'images/{split}'; correct it "
        "or choose another split"
    )
