"""Rows of the catalogue about the image files themselves, whatever labels them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from almining.data.pool import Pool
from tests.data.defects import (
    FIRST,
    GOOD,
    HEIGHT,
    SECOND,
    WIDTH,
    Row,
    coco,
    is_complete,
    mean,
    save,
    voc,
    xml,
)

Files = Callable[[Path], None]


def whole(pool: Pool) -> bool:
    """Tell whether both images are there with their boxes, and the second can be loaded."""
    return (
        is_complete(pool, "1", GOOD)
        and is_complete(pool, "2", FIRST, SECOND)
        and pool.image("2").shape == (3, HEIGHT, WIDTH)
    )


def coloured(*wanted: float) -> Callable[[Pool], bool]:
    """Tell whether the second image has this mean colour."""
    return lambda pool: whole(pool) and mean(pool, "2") == list(wanted)


def made(**options: Any) -> Files:
    """Replace the second image by one of these options."""
    return lambda folder: save(folder / "bad.png", **options)


def content(data: bytes) -> Files:
    """Replace the second image by these bytes."""
    return lambda folder: (folder / "bad.png").write_bytes(data) and None


def noise(kind: str) -> bytes:
    """Return an image file of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def spoiled_stream() -> bytes:
    """Return a JPEG with some of its last bytes changed: it decodes to other pixels."""
    data = bytearray(noise("JPEG"))
    for place in range(len(data) // 2, len(data) // 2 + 40):
        data[place] = 0x11
    return bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def large_png(width: int, height: int, *, pixels: bool = True) -> bytes:
    """Return a small file that says it is a large image of one bit a pixel."""
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)) if pixels else b"")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large(width: int, height: int, *, pixels: bool = True, stated: bool = True) -> dict[str, Any]:
    """Return how the second image is replaced by a large one."""

    def change(data: dict[str, Any]) -> None:
        sizes = {"width": width, "height": height} if stated else {"width": None}
        data["images"][1].update(sizes)

    return {"change": change, "files": content(large_png(width, height, pixels=pixels))}


def turned(folder: Path) -> None:
    """Write an image stored 40 x 30 that EXIF says is to be shown 30 x 40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "bad.png", format="JPEG", exif=exif)


def sixteen_bits(folder: Path) -> None:
    """Write the middle of 16 bits."""
    pixels = np.full((HEIGHT, WIDTH), 32768, dtype=np.uint16)
    Image.fromarray(pixels).save(folder / "bad.png")


def frames(kind: str) -> Files:
    """Replace the second image by two frames in one file."""
    both = [Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 99)]
    return lambda folder: both[0].save(
        folder / "bad.png", kind, save_all=True, append_images=both[1:]
    )


def shown_size(data: dict[str, Any]) -> None:
    """Give the second image the size it is shown at."""
    data["images"][1].update(width=HEIGHT, height=WIDTH)


def resource_fork(root: Path) -> None:
    """Write what macOS leaves beside a file."""
    (root / "JPEGImages" / "._bad.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")


def no_image(pool: Pool) -> bool:
    """Tell whether the first image is whole; the second cannot be loaded."""
    return is_complete(pool, "1", GOOD) and mean(pool, "1") == [0, 0, 0]


PNG = noise("PNG")
JPEG = noise("JPEG")
NAMED = ("image 2", "bad.png")


def image(number: int, name: str, wanted: str, **more: Any) -> Row:
    """Return a row whose labels are right and whose second image is not."""
    return coco(number, name, wanted, format="image", **{"lenient": None, **more})


ROWS: list[Row] = [
    image(43, "EXIF turns it, size as stored", "N", files=turned, holds=whole),
    image(
        *(43, "EXIF turns it, size as shown", "E"),
        change=shown_size,
        files=turned,
        words=("'2'", "bad.png", "40 x 30", "30 x 40", "stored pixels"),
        alone=True,
    ),
    image(44, "16 bits", "R", files=sixteen_bits, words=("16",), holds=coloured(0.5, 0.5, 0.5)),
    image(
        *(45, "CMYK", "N"),
        files=made(mode="CMYK", color=(0, 255, 255, 0), format="JPEG"),
        holds=lambda pool: whole(pool) and mean(pool, "2")[0] > 0.8 > 0.3 > mean(pool, "2")[1],
    ),
    image(45, "grey", "N", files=made(mode="L", color=255), holds=coloured(1, 1, 1)),
    image(
        45, "grey with alpha", "N", files=made(mode="LA", color=(255, 255)), holds=coloured(1, 1, 1)
    ),
    image(45, "palette", "N", files=made(mode="P", color=0), holds=coloured(0, 0, 0)),
    image(45, "one bit", "N", files=made(mode="1", color=1), holds=coloured(1, 1, 1)),
    image(45, "alpha", "N", files=made(mode="RGBA", color="red"), holds=coloured(1, 0, 0)),
    image(
        46,
        "animated GIF",
        "E",
        files=frames("GIF"),
        words=("'2'", "bad.png", "several frames"),
        alone=True,
    ),
    image(
        46,
        "TIFF of two pages",
        "E",
        files=frames("TIFF"),
        words=("'2'", "bad.png", "several frames"),
        alone=True,
    ),
    image(46, "GIF of one frame", "N", files=made(format="GIF"), holds=whole),
    image(
        47,
        "JPEG cut short",
        "Q",
        files=content(JPEG[: len(JPEG) // 2]),
        words=NAMED,
        holds=no_image,
    ),
    image(
        47, "PNG cut short", "Q", files=content(PNG[: len(PNG) // 2]), words=NAMED, holds=no_image
    ),
    image(47, "header cut short", "Q", files=content(JPEG[:10]), words=NAMED, holds=no_image),
    image(48, "zero bytes", "Q", files=content(b""), words=NAMED, holds=no_image),
    image(48, "HTML", "Q", files=content(b"<html>404</html>"), words=NAMED, holds=no_image),
    image(48, "PostScript", "Q", files=content(b"%!PS-Adobe-3.0 EPSF-3.0\n"), words=NAMED),
    voc(
        *(48, "resource fork beside the image", "N"),
        files=resource_fork,
        holds=lambda pool: len(pool) == 2,
    ),
    voc(
        *(48, "zero bytes, no size", "Q", xml(size="")),
        files=lambda root: (root / "JPEGImages/bad.jpg").write_bytes(b""),
        words=("bad.xml", "image bad", "bad.jpg", "left out"),
        holds=lambda pool: pool.ids == ("JPEGImages/good",),
    ),
    voc(
        *(47, "JPEG cut short", "Q", xml()),
        files=lambda root: (root / "JPEGImages/bad.jpg").write_bytes(JPEG[:400]),
        words=("bad.jpg",),
    ),
    image(49, "JPEG named .png", "N", files=made(format="JPEG"), holds=whole),
    voc(
        *(49, "PNG named .JPEG", "N", xml()),
        image=".JPEG",
        files=lambda root: save(root / "JPEGImages/bad.JPEG", format="PNG", color="red"),
        holds=lambda pool: mean(pool, "JPEGImages/bad") == [1, 0, 0],
    ),
    image(50, "108 million pixels", "Q", **large(12000, 9000), words=(*NAMED, "pixels")),
    image(
        *(50, "108 million pixels, size not stated", "Q"),
        **large(12000, 9000, stated=False),
        words=("image 2", "bad.png", "pixels"),
        holds=lambda pool: pool.ids == ("1",),
    ),
    image(
        *(50, "4 thousand million pixels, header only", "Q"),
        **large(65000, 65000, pixels=False),
        words=(*NAMED, "pixels"),
    ),
    image(
        51, "JPEG with other bytes in its stream", "N", files=content(spoiled_stream()), holds=whole
    ),
]
