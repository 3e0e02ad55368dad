"""Image files: finding them inside a root, reading their size, decoding them.

Images come as stored: a pixel is where the file has it and boxes are in that space. An EXIF
orientation is not applied, because the boxes of COCO and VOC are drawn on stored pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from almining.data.report import Report

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # never EPS, which runs a program
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 89_478_485  # Pillow's own bound, at which a small file may fill the memory
BROKEN = (
    *(OSError, SyntaxError, ValueError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class ImageFiles:
    """The images of a data set, decoded one at a time; survives being copied to a loader worker.

    Args:
        paths: the file of each image id.
        sizes: (height, width) the annotations give; a file of another size is refused when it is
            loaded.
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
            ValueError: naming image, file and reason, when the file is missing, broken, animated,
                too large, or not of the size its annotation gives.
        """
        path = self._paths[image_id]
        try:
            image = decode(path)
        except BROKEN as error:
            raise ValueError(
                f"image {image_id!r}: {path}: {error}; replace the file or leave it out of the pool"
            ) from error
        size = (image.shape[1], image.shape[2])
        stated = self._sizes.get(image_id, size)
        if stated != size:
            turned = "; the two are swapped" if stated == size[::-1] else ""
            raise ValueError(
                f"image {image_id!r}: {path} is {size[1]} x {size[0]} pixels, its annotation says "
                f"{stated[1]} x {stated[0]}{turned}; boxes are in stored pixels, so correct it"
            )
        return image


def decode(path: Path) -> Tensor:
    """Return the image in a file as (3, h, w) float32 in [0, 1], RGB whatever it was."""
    with _opened(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ValueError("the file holds several frames; extract the one the boxes belong to")
        if image.mode.startswith("I;16"):
            grey = np.array(image).astype(np.float32) / 65535
            return torch.from_numpy(np.repeat(grey[None], 3, axis=0))
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode} have no fixed range; store 8 or 16 bits")
        if image.mode == "P" and "transparency" in image.info:
            pixels = np.array(image.convert("RGBA").convert("RGB"))
        else:
            pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).contiguous().div_(255)


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the header of an image file."""
    with _opened(path) as image:
        return image.height, image.width


def _opened(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
    return image


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
        remedy = "the image is left out; add the file"
        report.quarantined(source, record, "image file", str(path), remedy)
        return None
    if size is not None:
        return size
    try:
        found = image_size(path)
    except BROKEN as error:
        remedy = f"the image is left out: {error}"
        report.quarantined(source, record, "image file", str(path), remedy)
        return None
    if stated is None:
        return found
    remedy = f"read {found[1]} x {found[0]} from the image file"
    report.repaired(source, record, "size", stated, remedy)
    return found
