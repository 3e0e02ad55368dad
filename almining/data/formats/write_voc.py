"""A pool in the layout of PASCAL VOC; `write_voc` is called through `data.writers`.

VOC's inclusive coordinates, counted from 1, are met here and go no further. It holds what VOC
holds and no more: extra elements that other tools would skip are not written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape

from almining.data.formats.export import Folder, size_of, write_files
from almining.data.formats.losses import Box, Incomplete, Losses, plain_boxes, without_incomplete
from almining.data.formats.names import check_pool, file_stem, suffix
from almining.data.formats.voc import VOC_CLASSES
from almining.data.pool import Finding, Pool

IMAGES = "JPEGImages"
Row = tuple[str, bool, Box]  # class, difficult, x1 y1 x2 y2


def write_voc(
    pool: Pool,
    root: str | os.PathLike[str],
    split: str,
    *,
    incomplete: Incomplete = "refuse",
    copy: bool = True,
    overwrite: bool = False,
    progress: bool | str = True,
) -> tuple[Finding, ...]:
    """Write a pool as one split of a data set in the layout of PASCAL VOC.

    `ImageSets/Main/<split>.txt` lists the images, `Annotations/<name>.xml` tells of each labelled
    one, `JPEGImages/<name>.*` holds it. An unlabelled or tagged image is listed without an
    annotation file; a complete and empty one has a file without an `<object>`.

    Args:
        pool: what to write.
        root: the folder that holds these three; it may hold other splits.
        split: the name of the list, such as `"train"`.
        incomplete: what to do with sparse images, whose missing boxes VOC would call background:
            `"refuse"`, `"skip"` them, or `"write"` them as if they were complete.
        copy: copy the image files, byte for byte; PNG of 8 bits where the pool has no file.
        overwrite: replace files that are there.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        What VOC cannot hold, one finding (action `"warning"`) for each kind, with how many images
        or boxes it concerns; empty when `read_voc` gives back all of the pool. VOC holds boxes,
        classes and `ignore` (difficult). It does not hold origin, scores, tags, absent classes,
        negatives, video, frame and cycle, boxes under one pixel (or of one) and, unless the names
        say it, ids and the order of classes.

    Raises:
        DataError: for sparse images, unless `incomplete` says what to do.
        FileExistsError: naming a file that is there, unless `overwrite`.
        ValueError: for a class XML cannot hold, an id that makes no file name, a link in the way.

    Source: VOC devkit. xmin = x1 + 1 and xmax = x2, so that both corners are pixels of the box.
    Differs: fractions of pixels are written as they are. Corners read back bit-equal where they are
    0 or at least 2^-28 pixel, and to 2.3e-16 pixel otherwise. globox 2.9, which writes VOC too,
    drops `difficult` and takes a box for xmax - xmin wide, so it is not used.
    """
    check_pool(pool, xml=True)
    for name in pool.classes:
        if name != name.strip():
            raise ValueError(f"class {name!r} has blanks around it, which VOC drops; rename it")
    folder, listing = Folder(root, overwrite), f"ImageSets/Main/{file_stem(split)}.txt"
    losses = Losses(folder.root / listing, "VOC", held=("ignore",))
    names, images, rows, texts = {}, {}, {}, {}
    for image_id in without_incomplete(pool, losses, incomplete):
        name = names[image_id] = _name(image_id, losses)
        images[image_id] = f"{IMAGES}/{name}{suffix(pool, image_id)}"
        size = size_of(pool, image_id)
        rows[image_id] = objects = _rows(pool, image_id, size, losses)
        text = None if objects is None else _xml(images[image_id], size, objects)
        texts[image_id] = f"Annotations/{name}.xml", text
    _note_classes(pool.classes, rows, losses)
    findings = losses.close()
    write_files(
        folder, pool, images, texts,
        copy=copy, fixed=[listing], progress=progress, name="writing VOC",
    )  # fmt: skip
    folder.write(listing, "".join(f"{name}\n" for name in names.values()).encode())
    return findings


def _name(image_id: str, losses: Losses) -> str:
    """Return the name VOC lists for an id, which it reads back as `JPEGImages/<name>`."""
    name = image_id.removeprefix(f"{IMAGES}/")
    file_stem(name)
    if name != name.strip() or len(name.splitlines()) != 1:
        raise ValueError(
            f"image id {image_id!r} has blanks around it or a line break, which a VOC list drops; "
            "rename the image"
        )
    if name == image_id:
        losses.note(image_id, "id", image_id, f"it reads as {IMAGES}/<id>")
    return name


def _rows(pool: Pool, image_id: str, size: tuple[int, int], losses: Losses) -> list[Row] | None:
    """Return the objects of an image; None for one that gets no annotation file."""
    target = pool.target(image_id)
    losses.image(pool, image_id, target)
    if target.state in ("unlabelled", "tagged"):
        return None
    rows = []
    for row, box in plain_boxes(losses, image_id, target, size):
        x1, y1, x2, y2 = box
        sides = (x2 - (x1 + 1), y2 - (y1 + 1))  # between the corners, which are pixels of the box
        if min(sides) < 0 or max(sides) == 0:
            shown = f"{x1:g} {y1:g} {x2:g} {y2:g}"
            record = f"{image_id} box {row + 1}"
            losses.note(record, "box of a pixel or less", shown, "it is left out")
            continue
        name = pool.classes[int(target.labels[row]) - 1]
        rows.append((name, bool(target.ignore[row]), box))
    return rows


def _note_classes(
    classes: tuple[str, ...], rows: dict[str, list[Row] | None], losses: Losses
) -> None:
    used = {name for objects in rows.values() for name, _, _ in objects or ()}
    official = used <= set(VOC_CLASSES)
    if classes != (VOC_CLASSES if official else tuple(sorted(used))):
        losses.note("classes", "classes", list(classes), "pass classes= to read_voc to keep them")


def _xml(file: str, size: tuple[int, int], objects: Sequence[Row]) -> str:
    lines = [
        "<annotation>",
        f"  <filename>{escape(file.rpartition('/')[2])}</filename>",
        f"  <size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>",
    ]
    for name, difficult, (x1, y1, x2, y2) in objects:
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        box = "".join(f"<{key}>{_text(value)}</{key}>" for key, value in corners.items())
        lines += [
            "  <object>",
            f"    <name>{escape(name)}</name>",
            f"    <difficult>{int(difficult)}</difficult>",
            f"    <bndbox>{box}</bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _text(value: float) -> str:
    """Return a number as text that reads back exactly, a whole one without a point."""
    return str(int(value)) if value == int(value) else repr(value)
