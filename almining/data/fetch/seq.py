"""Video of the Caltech Pedestrian set: .seq (Norpix) to frames, .vbb (MATLAB) to boxes.

A .seq file holds one compressed image after another, which are written as they are: nothing is
decoded or encoded anew. Raw and Bayer video, and what else a .vbb tells of tracks, is not read.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from almining.data.fetch.download import FetchError, full_disk_said, need_room
from almining.data.fetch.matlab import read_matlab

HEADER = 1024
SUFFIXES = {102: ".jpg", 201: ".jpg", 1: ".png", 2: ".png"}
STARTS = {".jpg": b"\xff\xd8", ".png": b"\x89PNG"}
LARGEST = 1 << 26  # bytes of a frame


@dataclass(frozen=True, slots=True)
class Tracked:
    """A box of one frame.

    Args:
        label: what kind of object.
        position: what should be x y w h, pixels counted from 1.
    """

    label: str
    position: list[float]


def read_frames(path: str | os.PathLike[str]) -> Iterator[tuple[str, bytes]]:
    """Yield suffix and content of every frame of a .seq file, up to where it breaks off if it does.

    Raises:
        FetchError: for another format, or a file without a frame.

    Source: the layout that Dollár's MATLAB toolbox reads (videos/seqReaderPlugin).
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(HEADER)
        if len(head) < HEADER or struct.unpack_from("<I", head)[0] != 0xFEED:
            raise FetchError(f"{path} is no .seq video; fetch it again")
        kind, count = struct.unpack_from("<2I", head, 568)
        suffix = SUFFIXES.get(kind)
        if suffix is None:
            raise FetchError(f"{path}: image format {kind} is not JPEG or PNG; it cannot be read")
        number = 0
        for content in _images(file, suffix):
            yield suffix, content
            number += 1
            if number == count:
                break
        if number == 0:
            raise FetchError(f"{path}: none of {count} frames can be read; fetch it again")


def _images(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """Yield the images; each is preceded by its length and followed by 8 or 16 bytes of time."""
    after = 0
    while len(length := file.read(4)) == 4:
        size = struct.unpack("<I", length)[0] - 4
        content = file.read(size) if 0 < size < LARGEST else b""
        if not content or len(content) < size or not content.startswith(STARTS[suffix]):
            return
        yield content
        if not after:  # what follows the first time is the next length, or eight zeros
            file.seek(8, os.SEEK_CUR)
            after = 8 if any(file.read(4)) else 16
            file.seek(-12, os.SEEK_CUR)
        file.seek(after, os.SEEK_CUR)


def write_frames(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Return a folder with the frames of a .seq file, called `000000.jpg` and so on.

    It is there whole or not at all: until the last frame is written it is called `<folder>.part`.

    Args:
        path: the video.
        folder: what to make; when it is there, nothing is done.
    """
    path, folder = Path(path), Path(folder)
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    with full_disk_said(str(part)):
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True)
        need_room(part, path.stat().st_size, path.name)
        for number, (suffix, content) in enumerate(read_frames(path)):
            (part / f"{number:06d}{suffix}").write_bytes(content)
        part.replace(folder)
    return folder


def read_tracks(path: str | os.PathLike[str]) -> list[list[Tracked]]:
    """Return the boxes of every frame from a .vbb file; needs SciPy, the extra `matlab`.

    Raises:
        FetchError: for a file that is none, or no SciPy.

    Source: the struct `A` of Dollár's MATLAB code (vbb.m): `objLists`, `objLbl`.
    """
    return read_matlab(Path(path), _tracks)


def _tracks(content: dict[str, Any]) -> list[list[Tracked]]:
    annotation = content["A"][0, 0]
    labels = [str(label.ravel()[0]) for label in annotation["objLbl"].ravel()]
    return [
        [
            Tracked(labels[int(box["id"][0, 0]) - 1], [float(side) for side in box["pos"].ravel()])
            for box in (boxes.ravel() if boxes.dtype.names else ())
        ]
        for boxes in annotation["objLists"].ravel()
    ]
