"""Rows of the catalogue in plain folders, numbered frames and video files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from almining.data import readers
from almining.data.pool import Pool
from tests.data.defects import HEIGHT, WIDTH, Row, link, mean, save

Files = Callable[[Path], object]
LEVELS = tuple(range(0, 250, 25))  # of grey, one a frame


def folder(number: int, name: str, wanted: str, files: Files, **more: Any) -> Row:
    """Return a row of a folder of images: one good, and what `files` adds."""

    def make(root: Path) -> None:
        save(root / "photos" / "good.png")
        files(root / "photos")

    def read(root: Path, **asked: Any) -> Pool:
        return readers.read_folder(root / "photos", **{"progress": False, **asked})

    if wanted == "E" and not more.get("fatal"):
        more.setdefault("lenient", found("good"))
    return Row(number, name, "folder", wanted, make, read, **more)


def video(number: int, name: str, wanted: str, files: Files, at: str = "clip", **more: Any) -> Row:
    """Return a row of frames, which `files` writes to the place `at`."""

    def read(root: Path, **asked: Any) -> Pool:
        return readers.read_frames(root / at, **{"progress": False, **asked})

    return Row(number, name, "video", wanted, lambda root: files(root / at), read, **more)


def found(*ids: str) -> Callable[[Pool], bool]:
    """Tell whether just these images are there, all unlabelled."""
    return lambda pool: (
        pool.ids == ids and {pool.target(i).state for i in pool.ids} <= {"unlabelled"}
    )


def also(name: str, **options: Any) -> Files:
    """Write one more image."""
    return lambda root: save(root / name, **options)


def empty(root: Path) -> None:
    """Take the one image away."""
    (root / "good.png").unlink()


def modes(root: Path) -> None:
    """Write images of other modes."""
    save(root / "a.png", mode="L", color=255)
    save(root / "b.jpg", mode="CMYK", color=(0, 0, 0, 0))
    save(root / "c.png", mode="P")
    save(root / "d.gif", mode="P")
    save(root / "e.png", mode="1", color=1)
    save(root / "f.webp")
    save(root / "g.tif", mode="LA")


def sixteen_bits(root: Path) -> None:
    """Write the middle of 16 bits."""
    Image.fromarray(np.full((HEIGHT, WIDTH), 32768, dtype=np.uint16)).save(root / "deep.png")


def turned(root: Path) -> None:
    """Write an image that EXIF turns."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "turned.jpg", exif=exif)


def cut(path: Path, share: float) -> None:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def numbered(root: Path) -> None:
    """Write frames 9, 10 and 12, whose order as text is another."""
    for number in (9, 10, 12):
        save(root / f"frame{number}.png", color=(number, 0, 0))


def in_order(pool: Pool) -> bool:
    """Tell whether numbered frames are in the order of their numbers."""
    red = [round(float(pool.image(i)[0].mean()) * 255) for i in pool.ids]
    return red == [9, 10, 12] and [pool.info(i).frame for i in pool.ids] == red


def film(path: Path) -> None:
    """Write a video of ten frames, each of another grey."""
    import av

    with av.open(str(path), "w", format="avi") as written:
        stream = written.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for level in LEVELS:
            pixels = np.full((32, 48, 3), level, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                written.mux(packet)
        for packet in stream.encode():
            written.mux(packet)


def overstated(path: Path) -> None:
    """Write the same video with a head that promises 99 frames."""
    film(path)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        struct.pack_into("<I", data, data.index(mark) + offset, 99)
    path.write_bytes(bytes(data))


def every_frame(pool: Pool) -> bool:
    """Tell whether each frame is the one of its number."""
    seen = [float(pool.image(i).mean()) * 255 for i in pool.ids]
    return (
        [pool.info(i).frame for i in pool.ids] == list(range(len(LEVELS)))
        and pool.ids[3] == "clip/000003"
        and max(abs(a - b) for a, b in zip(seen, LEVELS, strict=True)) < 3
    )


def no_frames(path: Path) -> None:
    """Write a video without its frames: the head alone."""
    film(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi")])


ROWS: list[Row] = [
    folder(19, "suffix .JPG", "N", also("b.JPG"), holds=found("b", "good")),
    folder(19, "no images", "E", empty, words=("photos", "no image"), fatal=True),
    folder(
        *(20, "dots, blanks, brackets", "N", also("a.b (1) [x].c.png")),
        holds=found("a.b (1) [x].c", "good"),
    ),
    folder(21, "not ASCII", "N", also("зебра/猫.png"), holds=found("good", "зебра/猫")),
    folder(
        *(23, "equal names in two folders", "N", also("deep/good.png", color="white")),
        holds=lambda p: found("deep/good", "good")(p) and mean(p, "deep/good") == [1, 1, 1],
    ),
    folder(
        *(23, "equal names with two suffixes", "E", also("good.jpg")),
        words=("good", "good.jpg, good.png"),
        lenient=None,
        fatal=True,
    ),
    folder(
        *(24, "link to a folder above", "R", link("loop", ".")),
        words=("loop", "once"),
        holds=found("good"),
    ),
    folder(
        *(24, "broken link", "Q", link("b.png", "gone.png")),
        words=("b.png", "gone.png", "link"),
        holds=found("good"),
    ),
    folder(
        24, "link to itself", "Q", link("b.png", "b.png"), words=("b.png",), holds=found("good")
    ),
    folder(24, "link out of the folder", "E", link("b", "/etc"), words=("link", "leaves")),
    folder(43, "EXIF turns it", "warn", turned, words=("turned", "EXIF", "40 x 30")),
    folder(
        44, "16 bits", "R", sixteen_bits, words=("deep", "16 bits"), holds=found("deep", "good")
    ),
    folder(
        *(47, "JPEG cut short", "Q"),
        files=lambda root: (save(root / "b.jpg"), cut(root / "b.jpg", 0.9)),
        words=("image b", "b.jpg"),
    ),
    folder(
        *(48, "zero bytes", "Q", lambda root: (root / "b.jpg").write_bytes(b"")),
        words=("image b", "b.jpg"),
        holds=found("good"),
    ),
    folder(
        *(48, "HTML", "Q", lambda root: (root / "b.jpg").write_bytes(b"<html></html>")),
        words=("image b", "b.jpg"),
        holds=found("good"),
    ),
    folder(
        *(48, "resource fork", "N"),
        files=lambda root: (root / "._good.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X"),
        holds=found("good"),
    ),
    folder(
        *(57, "no such folder", "E", lambda root: root.rename(root.with_name("other"))),
        words=("photos", "no such folder"),
        findings=1,
        fatal=True,
    ),
    video(59, "video, decoded in order", "N", film, "clip.avi", needs="av", holds=every_frame),
    video(
        59,
        "head promises 99 frames",
        "warn",
        overstated,
        "clip.avi",
        needs="av",
        words=("clip.avi", "10 decoded", "cut"),
        holds=every_frame,
    ),
    video(59, "frames whose order as text is another", "N", numbered, holds=in_order),
    video(
        60,
        "no frame in the file",
        "E",
        no_frames,
        "clip.avi",
        needs="av",
        words=("clip.avi",),
        fatal=True,
    ),
    video(
        *(60, "HTML named .mp4", "E", lambda path: path.write_bytes(b"<html></html>"), "clip.mp4"),
        needs="av",
        words=("clip.mp4",),
        fatal=True,
    ),
    video(60, "no frame in the folder", "E", Path.mkdir, words=("clip", "no image"), fatal=True),
    video(
        *(60, "no number in the name", "E", also("first.png")),
        words=("first.png", "number"),
        lenient=None,
        fatal=True,
    ),
]

CLEAN: list[Row] = [
    folder(0, "folder, nested", "N", also("deep/b.jpg"), holds=found("deep/b", "good")),
    folder(
        *(0, "folder of grey, CMYK, palette", "N", modes),
        holds=found("a", "b", "c", "d", "e", "f", "g", "good"),
    ),
    video(0, "numbered frames", "N", numbered, holds=in_order),
    video(0, "video file", "N", film, "clip.avi", needs="av", holds=every_frame),
]
