"""What the files of an export are called, and which names no reader would take.

Names come from image ids and never leave the root, on any of the common systems.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from almining.data.formats.files import SUFFIXES
from almining.data.pool import Pool

NAME_BYTES = 255  # what file systems allow one component, suffix included
RESERVED = {
    *("con", "prn", "aux", "nul"),
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
}


def file_stem(image_id: str) -> str:
    """Return the name of an image's files, without suffix, under the root of an export.

    Raises:
        ValueError: naming the id, when it would leave the root, be hidden, or is no file name on
            one of the common systems.

    >>> file_stem("street-0-1/000012")
    'street-0-1/000012'
    """
    why = _not_a_name(image_id)
    if why:
        raise ValueError(f"image id {image_id!r} makes no file name: {why}; rename the image")
    return image_id


def _not_a_name(image_id: str) -> str:
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in image_id):
        return "it holds a control character or half a character"
    if "\\" in image_id or image_id[1:2] == ":":
        return "a backslash or a drive letter leads elsewhere on Windows"
    for part in image_id.split("/"):
        if not part:
            return "it is absolute or has an empty part"
        if part.startswith("."):
            return f"the part {part!r} leads elsewhere or is hidden"
        if part.split(".")[0].strip().lower() in RESERVED:
            return f"the part {part!r} is the name of a device on Windows"
        if len(part.encode()) > NAME_BYTES - len(".jpeg"):
            return f"a part of it is longer than {NAME_BYTES - len('.jpeg')} bytes"
    return ""


def check_pool(pool: Pool, *, xml: bool = False) -> None:
    """Raise a `ValueError` when no reader would take what is written.

    Args:
        pool: what to write: at least one image, and classes as in `check_names`.
        xml: whether the names go into XML.
    """
    if not len(pool):
        raise ValueError("the pool has no image; an export of none could not be read back")
    check_names(pool.classes, xml=xml)


def check_names(names: Sequence[str], *, xml: bool = False) -> None:
    """Raise a `ValueError` when two classes differ in case only, or one is no name.

    Args:
        names: the classes.
        xml: whether they go into XML, which does not hold every character.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name.strip():
            raise ValueError(f"class {name!r} is blank; rename it, no reader takes it for a name")
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f"classes {other!r} and {name!r} differ in case only; rename one, because readers "
                "take them for one class spelt twice"
            )
        for sign in name if xml else "":
            if unicodedata.category(sign) in ("Cc", "Cs") or sign in "\ufffe\uffff":
                raise ValueError(f"class {name!r} holds {sign!r}, which XML cannot; rename it")


def suffix(pool: Pool, image_id: str) -> str:
    """Return the suffix of an image's file, `.png` where the pool has none.

    Raises:
        ValueError: when it is not that of an image, by which readers find images.
    """
    path = pool.info(image_id).path
    if path is None:
        return ".png"
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"image {image_id!r}: {path} does not end as an image does ({' '.join(SUFFIXES)}); "
            "rename the file"
        )
    return path.suffix


def file_names(pool: Pool, images: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the file of each image as a relative path with `/`, for formats that only name it.

    Args:
        pool: the images.
        images: the folder the names are relative to. Default: the folder all files have in common.

    Raises:
        ValueError: naming the image whose file is not in the folder.
    """
    paths = {
        image_id: path.absolute()
        for image_id in pool.ids
        if (path := pool.info(image_id).path) is not None
    }
    if images is not None:
        root = Path(images).resolve()
    elif paths:
        root = Path(os.path.commonpath([path.parent for path in paths.values()]))
    names = {}
    for image_id in pool.ids:
        path = paths.get(image_id)
        if path is None:
            names[image_id] = f"{file_stem(image_id)}.png"
        elif path.is_relative_to(root) and ".." not in path.relative_to(root).parts:
            names[image_id] = path.relative_to(root).as_posix()
        else:
            raise ValueError(
                f"image {image_id!r}: its file {path} is not in images = {root}; pass the folder "
                "that holds all files, or copy=True where there is such an option"
            )
    return names
