"""What every export shares: files written whole or not at all, and images beside them.

Every file is written beside its final name and renamed, so an interrupted export leaves no half
file, and a file that is replaced stays until its successor is on disk; nothing is written through a
link, and nothing is overwritten unless asked. What a file may be called is in `data.formats.names`,
what a format cannot hold in `data.formats.losses`.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from almining.data.formats.files import BROKEN, image_size
from almining.data.pool import Pool
from almining.progress import bar


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
                difference, or a link is in the way.
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
        return path

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file that takes its name only once it is whole."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent / f".{secrets.token_hex(8)}.part"
        try:
            with part.open("xb") as file:
                yield file
                if os.path.lexists(path):
                    if not self.overwrite:
                        raise FileExistsError(f"{path} has appeared meanwhile; pass overwrite=True")
                    file.flush()
                    os.fsync(file.fileno())  # the old one goes only when this one is safe
            part.replace(path)
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # a full disk does not say where
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write one file, whole."""
        with self.open(name) as file:
            file.write(content)

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


def write_files(
    folder: Folder,
    pool: Pool,
    images: Mapping[str, str],
    texts: Mapping[str, tuple[str, str | None]],
    *,
    copy: bool,
    fixed: Iterable[str] = (),
    progress: bool | str,
    name: str,
) -> None:
    """Write the images and the texts of a pool, once it is sure that all of them can be.

    Args:
        folder: where to.
        pool: what to write.
        images: the relative path of each image's file, by image id.
        texts: the relative path of each image's annotation and what to write there; None removes
            what an earlier export left.
        copy: whether to write the images; one that is there already is left as it is.
        fixed: further relative paths, of no image, that the caller writes afterwards.
        progress: whether to show a progress bar, or what to call it.
        name: what to call it by default.
    """
    copied = _missing(folder, pool, images) if copy else {}
    planned = [(path, image_id) for image_id, (path, _) in texts.items()]
    folder.plan([*planned, *((path, image_id) for image_id, path in copied.items())], fixed)
    for image_id in bar(images, progress=progress, name=name, unit="image"):
        if image_id in copied:
            folder.write_image(copied[image_id], pool, image_id)
        path, text = texts.get(image_id, ("", None))
        if text is not None:
            folder.write(path, text.encode())
        elif path:
            folder.path(path).unlink(missing_ok=True)


def _missing(folder: Folder, pool: Pool, images: Mapping[str, str]) -> dict[str, str]:
    """Return the images that are not there already as the very file they come from.

    Raises:
        ValueError: when one would replace the file that another image of the pool comes from.
    """
    sources: dict[tuple[int, int], list[str]] = {}
    for image_id in images:
        path = pool.info(image_id).path
        if path is not None and path.is_file():
            found = path.stat()
            sources.setdefault((found.st_dev, found.st_ino), []).append(image_id)
    missing = {}
    for image_id, name in images.items():
        path = folder.root / name
        there = path.stat() if path.is_file() else None
        owners = sources.get((there.st_dev, there.st_ino), []) if there else []
        if owners and image_id not in owners:
            raise ValueError(
                f"image {image_id!r} would replace {path}, the file of image {owners[0]!r}; write "
                "to another folder"
            )
        if not owners:
            missing[image_id] = name
    return missing


def png(image: Tensor) -> bytes:
    """Return an image (3, h, w) in [0, 1] as a PNG file, each value the nearest of 256 levels."""
    levels = image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()


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
