"""What every export shares: safe names, files written whole or not at all, and what is lost.

Names come from image ids and never leave the root. Every file is written beside its final name,
flushed to disk and renamed, so an interrupted export leaves no half file; nothing is written
through a link, and nothing is overwritten unless asked. What a format cannot hold is in
`data.losses`.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from almining.data.formats.files import BROKEN, SUFFIXES, image_size
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


def check_images(pool: Pool) -> None:
    """Raise when there is nothing to write: no reader takes a data set without images."""
    if not len(pool):
        raise ValueError("the pool has no image; an export of none could not be read back")


def check_names(names: Sequence[str]) -> None:
    """Raise a `ValueError` when two classes differ in case only or one is blank.

    Args:
        names: the classes, which readers take such names for one spelt twice.
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


def check_xml(names: Sequence[str]) -> None:
    """Raise a `ValueError` when a class is no name, as in `check_names`, or XML cannot hold it."""
    check_names(names)
    for name in names:
        for sign in name:
            if unicodedata.category(sign) in ("Cc", "Cs") or sign in "\ufffe\uffff":
                raise ValueError(f"class {name!r} holds {sign!r}, which XML cannot; rename it")


class Folder:
    """A folder an export goes to.

    Args:
        root: the folder; made when it does not exist.
        overwrite: whether files that are there may be replaced.
    """

    def __init__(self, root: str | os.PathLike[str], overwrite: bool) -> None:
        """Keep the root; nothing is written."""
        self.root = Path(root).resolve()
        self.overwrite = overwrite

    def plan(self, names: Sequence[tuple[str, str]], fixed: Iterable[str] = ()) -> None:
        """Raise unless all these files can be written, before any of them is.

        Args:
            names: relative paths, each with the image id it is made from.
            fixed: further relative paths, of no image.

        Raises:
            ValueError: when two ids make one file, also where case or composed characters make no
                difference, when one is the folder of another, or a link is in the way.
            FileExistsError: naming the first file that is there already.
        """
        seen: dict[str, str] = {}
        for name, image_id in names:
            folded = unicodedata.normalize("NFC", name).casefold()
            other = seen.setdefault(folded, image_id)
            if other != image_id:
                raise ValueError(
                    f"image ids {other!r} and {image_id!r} make one file, {name!r}, at least where "
                    "case is ignored; rename one"
                )
        parents = {str(parent) for name in seen for parent in Path(name).parents}
        for folded in seen.keys() & parents:
            raise ValueError(
                f"image id {seen[folded]!r} makes the file {folded!r}, a folder of another image; "
                "rename one"
            )
        planned = [*(name for name, _ in names), *fixed]
        there = [name for name in planned if os.path.lexists(self.path(name))]
        if there and not self.overwrite:
            raise FileExistsError(
                f"{self.root / there[0]} is there already ({len(there)} such files); pass "
                "overwrite=True to replace them or write to another folder"
            )

    def path(self, name: str) -> Path:
        """Return the path of a relative name; raise when a link stands on the way to it."""
        path = self.root
        for part in Path(name).parts:
            path = path / part
            if path.is_symlink():
                raise ValueError(f"{path} is a link; nothing is written through it, so remove it")
        if not path.is_relative_to(self.root) or ".." in Path(name).parts:
            raise ValueError(f"{name!r} leaves {self.root}; nothing is written there")
        return path

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file that takes its name only once it is whole and on disk."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent / f".{secrets.token_hex(8)}.part"
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if not self.overwrite and os.path.lexists(path):
                raise FileExistsError(f"{path} has appeared meanwhile; pass overwrite=True")
            part.replace(path)
            _sync(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write one file, whole."""
        with self.open(name) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Remove a file an earlier export left, when it is there."""
        self.path(name).unlink(missing_ok=True)

    def write_image(self, name: str, pool: Pool, image_id: str) -> None:
        """Copy an image's file byte for byte, or write PNG where the pool has none."""
        source = pool.info(image_id).path
        if source is None:
            self.write(name, png(pool.image(image_id)))
            return
        try:
            given = source.open("rb")
        except OSError as error:
            raise ValueError(
                f"image {image_id!r}: {source} cannot be read: {error.strerror}; restore the file "
                "or leave the image out of the pool"
            ) from error
        with given, self.open(name) as file:
            while block := given.read(1 << 20):
                file.write(block)

    def holds(self, name: str, source: Path | None) -> bool:
        """Tell whether a relative name is the very file an image comes from."""
        path = self.root / name
        return source is not None and path.is_file() and path.samefile(source)


def _sync(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def png(image: Tensor) -> bytes:
    """Return an image (3, h, w) in [0, 1] as a PNG file, each value the nearest of 256 levels."""
    levels = image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()


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


def size_of(pool: Pool, image_id: str) -> tuple[int, int]:
    """Return (height, width) of an image, from its file or content when the pool does not know."""
    info = pool.info(image_id)
    if info.size is not None:
        return info.size
    if info.path is None:
        shape = pool.image(image_id).shape
        return shape[1], shape[2]
    try:
        return image_size(info.path)
    except BROKEN as error:
        raise ValueError(f"image {image_id!r}: {info.path}: {error}; replace the file") from error


def number(value: float) -> float:
    """Return the float of fewest digits that is still exactly this float32.

    >>> number(float(np.float32(0.1)))
    0.1
    """
    single = np.float32(value)
    short = float(str(single))
    return short if np.float32(short) == single else float(single)


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
