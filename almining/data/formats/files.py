"""Image files: finding them inside a root, reading their size, decoding them.

Images come as stored: a pixel is where the file has it and boxes are in that space. An EXIF
orientation is not applied, because the boxes of COCO and VOC are drawn on stored pixels. Grey of 16
bits is scaled to [0, 1]. A JPEG damaged in the middle may decode without an error, which no reader
can tell; `digests` are there to notice that a file is no longer what it was.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from almining.data.pool import Finding

if TYPE_CHECKING:
    from almining.data.formats.report import Report

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # never EPS, which runs a program
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 89_478_485  # Pillow's own bound, at which a small file may fill the memory
LARGEST = 2**31  # a longer side is no size
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap the sides
BROKEN = (  # what Pillow raises for damaged files
    *(OSError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(EOFError, struct.error, LookupError, TypeError, ArithmeticError),
)
STORED_AS = {"La": "LA", "RGBa": "RGBA"}  # premultiplied, which Pillow turns into RGB in two steps


class BrokenImageError(ValueError):
    """An image that cannot be loaded, though its pool lists it.

    Scoring and `cycle.run` set such an image aside and go on; see `data.quarantine`. A source of
    images of your own may raise it too.

    Args:
        image_id: which image.
        file: the file it should come from.
        reason: what is wrong with it.
        remedy: what to do.
    """

    def __init__(
        self,
        image_id: str,
        file: str | os.PathLike[str],
        reason: str,
        remedy: str = "replace the file or leave it out of the pool",
    ) -> None:
        """Keep what is wrong."""
        super().__init__(image_id, str(file), reason, remedy)  # all of it, to survive a worker
        self.image_id, self.file, self.reason, self.remedy = image_id, str(file), reason, remedy

    def __str__(self) -> str:
        """Say it in one line."""
        return f"image {self.image_id!r}: {self.file}: {self.reason}; {self.remedy}"

    @property
    def finding(self) -> Finding:
        """The same as a finding."""
        remedy = "the image is left out"
        record, action = f"image {self.image_id}", "quarantined"
        return Finding(self.file, record, "image file", self.reason, action, remedy, self.image_id)


class ImageFiles:
    """The images of a data set, decoded one at a time; survives being copied to a loader worker.

    Args:
        paths: the file of each image id.
        sizes: (height, width) the annotations give, or the files had when they were read; a file of
            another size is refused when it is loaded.
    """

    def __init__(
        self, paths: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        """Keep paths and sizes; nothing is opened."""
        self._paths = dict(paths)
        self._sizes = dict(sizes or {})

    def load(self, image_id: str) -> Tensor:
        """Return the image (3, h, w), float32 in [0, 1], RGB, in stored pixels.

        Raises:
            BrokenImageError: a ValueError that names image, file and reason, when the file is
                missing, broken, animated, too large, or not of the size it should have.
        """
        path = self._paths[image_id]
        try:
            image = decode(path)
        except BROKEN as error:
            raise BrokenImageError(image_id, path, reason(error)) from error
        size = (image.shape[1], image.shape[2])
        stated = self._sizes.get(image_id, size)
        if stated != size:
            turned = "; the two are swapped" if stated == size[::-1] else ""
            raise BrokenImageError(
                image_id,
                path,
                f"{path.name} is {size[1]} x {size[0]} pixels, its data set says "
                f"{stated[1]} x {stated[0]}{turned}",
                "boxes are in stored pixels, so correct it",
            )
        return image


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of an image file tells; no pixel is decoded for it.

    Args:
        size: (height, width) of the stored pixels.
        sixteen: whether it is grey of 16 bits, which `decode` scales to [0, 1].
        turned: whether its EXIF orientation, which is not applied, swaps the sides.
    """

    size: tuple[int, int]
    sixteen: bool
    turned: bool


def read_header(path: Path) -> Header:
    """Return what the head of an image file tells.

    Raises:
        ValueError: when `decode` would refuse the image for what stands in its head: too many
            pixels, several frames, pixels without a fixed range.
        OSError: when the file is missing or is no image.
    """
    with _opened(path) as image:
        _check(image)
        return Header((image.height, image.width), _sixteen(image), _turned(image))


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the header of an image file."""
    with _opened(path) as image:
        return image.height, image.width


def decode(path: Path) -> Tensor:
    """Return the image in a file as (3, h, w) float32 in [0, 1], RGB whatever it was.

    Alpha is dropped, a palette looked up, CMYK, YCbCr, LAB and HSV converted, grey repeated. Grey
    of 16 bits is divided by 65535; nothing says so here, readers make it a finding.

    Raises:
        ValueError: for more than `MAX_PIXELS` pixels (before any is decoded), several frames, or
            pixels without a fixed range.
        OSError: when the file is missing, is no image, or ends early.
    """
    with _opened(path) as image:
        _check(image)
        return _deep(image) if _sixteen(image) else _planes(_rgb(image))


def decode_within(path: Path, longest: int) -> tuple[Tensor, tuple[float, float]]:
    """Return the image in a file, made smaller so that its longer side is at most `longest`.

    A JPEG is decoded at the smallest of its sizes 1/1, 1/2, 1/4 and 1/8 that is not below the one
    asked for, which saves most of the work. Pools do not do this: their boxes are in stored pixels.

    Args:
        path: the file.
        longest: pixels, at least 1; a smaller image keeps its size.

    Returns:
        (3, h, w) float32 in [0, 1], RGB; and the factors (x, y) by which boxes shrink with it.

    Raises:
        ValueError: as `decode`, and for a `longest` below 1.
        OSError: as `decode`.

    Differs: a JPEG shrunk while it is decoded differs a little from one shrunk afterwards.
    """
    if longest < 1:
        raise ValueError(f"longest = {longest}: at least one pixel is needed")
    with _opened(path) as image:
        _check(image)
        width, height = image.size
        share = min(1.0, longest / max(width, height))
        small = (max(1, round(width * share)), max(1, round(height * share)))
        factors = (small[0] / width, small[1] / height)
        image.draft("RGB", small)  # nothing happens unless it is a JPEG
        deep = _sixteen(image)
        values = _deep(image) if deep else torch.from_numpy(np.array(_rgb(image))).permute(2, 0, 1)
        # of 8 bits: at most one grey level from Pillow's resize, and three times as fast
        resized = interpolate(values[None], small[::-1], mode="bilinear", antialias=True)[0]
        return (resized if deep else resized.contiguous().to(torch.float32).div_(255)), factors


def reason(error: BaseException) -> str:
    """Return in words why a file could not be read, for an error of `BROKEN`."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of the formats {', '.join(FORMATS)}"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return str(error) or type(error).__name__


def _opened(path: Path) -> Image.Image:
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with warnings.catch_warnings():  # of large images and odd metadata
        warnings.simplefilter("ignore")
        image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
    return image


def _check(image: Image.Image) -> None:
    """Refuse what the head tells to be no single picture of known range."""
    # a photograph with a preview or a depth map behind it (MPO) is one picture
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("the file holds several frames; extract the one the boxes belong to")
    if image.mode in ("I", "F") and not _sixteen(image):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; store 8 or 16 bits")


def _sixteen(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _deep(image: Image.Image) -> Tensor:
    """Return grey of 16 bits as (3, h, w)."""
    grey = np.array(image).astype(np.float32) / np.float32(65535)  # (h, w)
    return torch.from_numpy(np.repeat(grey[None], 3, axis=0))


def _turned(image: Image.Image) -> bool:
    """Tell whether the EXIF orientation swaps the sides; of a TIFF it is part of the format."""
    if image.format == "TIFF" or "exif" not in image.info:
        return False
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(image.info["exif"])
            return exif.get(ORIENTATION) in (5, 6, 7, 8)
        except BROKEN:  # a damaged EXIF block says nothing of the pixels
            return False


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in STORED_AS:
        image = image.convert(STORED_AS[image.mode])
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _planes(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, h, w); one channel at a time, which is the fastest way."""
    planes = np.empty((3, image.height, image.width), np.float32)
    for channel, plane in zip("RGB", planes, strict=True):
        values = np.frombuffer(image.tobytes("raw", channel), np.uint8)
        np.divide(values.reshape(plane.shape), np.float32(255), out=plane)
    return torch.from_numpy(planes)


def inside(root: Path, name: str) -> Path | None:
    """Return the path of `name` under `root`, None where it leaves it; links are followed.

    Args:
        root: a resolved folder.
        name: a relative path with `/`, as an annotation gives it.
    """
    pure = PurePosixPath(name)
    if "\0" in name or pure.is_absolute() or ".." in pure.parts or DRIVE.match(name):
        return None
    path = root / pure
    real = os.path.realpath(path)
    return path if Path(real).is_relative_to(root) else None


def is_side(value: object) -> TypeGuard[int]:
    """Tell whether an annotation's value can be the height or width of an image.

    >>> is_side(480), is_side(0), is_side(480.0), is_side(True)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST


def known_size(
    path: Path,
    size: tuple[int, int] | None,
    report: Report,
    source: object,
    record: str,
    stated: str | None,
) -> tuple[int, int] | None:
    """Return the size an annotation gives, else the file's own; None when the image is set aside.

    Args:
        path: the image file.
        size: (height, width) where the annotation gives a usable one.
        report: where to note what is wrong.
        source: the annotation file.
        record: what the annotation calls the image.
        stated: what the annotation gives as size; None where there is no annotation.
    """
    if not path.is_file():
        report.lost(source, record, "image file", path)
        return None
    if size is not None:
        return size
    try:
        found = image_size(path)
    except BROKEN as error:
        remedy = f"the image is left out: {reason(error)}"
        report.quarantined(source, record, "image file", str(path), remedy)
        return None
    if stated is None:
        return found
    remedy = f"read {found[1]} x {found[0]} from the image file"
    report.repaired(source, record, "size", stated, remedy)
    return found
