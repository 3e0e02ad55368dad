import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from almining.data.formats import files
from almining.data.formats.files import (
    BrokenImageError,
    ImageFiles,
    decode,
    decode_within,
    read_header,
)

WIDTH, HEIGHT = 40, 30
COLOUR = (200, 100, 50)


def saved(folder: Path, image: Image.Image, name: str = "x.png", **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def noise(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def test_every_pixel_is_where_the_file_has_it(tmp_path: Path) -> None:
    image = noise()
    found = decode(saved(tmp_path, image))
    wanted = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32) / 255
    assert found.dtype == torch.float32 and found.is_contiguous() and torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("1", "x.png"), ("L", "x.jpg"), ("LA", "x.png"), ("P", "x.gif"), ("RGBA", "x.png")),
        *(("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("LAB", "x.tif")),
        *(("PA", "x.tif"), ("RGB", "x.webp"), ("RGB", "x.bmp")),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, name: str) -> None:
    white = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    if mode == "LAB":
        image = Image.new("LAB", (WIDTH, HEIGHT), (255, 128, 128))
    elif mode == "PA":
        image = white.convert("P").convert("PA")
    else:
        image = white.convert(mode)
    with Image.open(saved(tmp_path, image, name)) as opened:
        assert opened.mode == mode
    found = decode(tmp_path / name)
    assert found.shape == (3, HEIGHT, WIDTH)
    assert found.min() > 0.97, mode


def test_premultiplied_alpha_is_divided_out() -> None:
    shade = Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 128)).convert("RGBa")
    assert files._rgb(shade).getpixel((0, 0)) == pytest.approx(COLOUR, abs=2)
    grey = Image.new("LA", (WIDTH, HEIGHT), (200, 128)).convert("La")
    assert files._rgb(grey).getpixel((0, 0)) == pytest.approx((200, 200, 200), abs=2)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 65535], [32768, 13107]], np.uint16)
    path = saved(tmp_path, Image.fromarray(values), name)
    for plane in decode(path):
        assert plane.flatten().tolist() == pytest.approx([0, 1, 32768 / 65535, 0.2])
    assert read_header(path).sixteen
    assert not read_header(saved(tmp_path, noise("L"))).sixteen


def test_pixels_without_a_range_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("F", (WIDTH, HEIGHT), 3.0), "x.tif")
    for read in (decode, read_header):
        with pytest.raises(ValueError, match="mode F have no fixed range; store 8 or 16 bits"):
            read(path)


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.webp", "x.png"])
def test_several_frames_are_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, noise(), name, save_all=True, append_images=[noise(seed=1)])
    for read in (decode, read_header):
        with pytest.raises(ValueError, match="holds several frames; extract the one"):
            read(path)


def test_a_photograph_with_a_second_picture_behind_it_is_one_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOUR)
    path = saved(tmp_path, image, "x.jpg", format="MPO", save_all=True, append_images=[noise()])
    with Image.open(path) as opened:
        assert opened.n_frames == 2
    assert decode(path).mean(dim=(1, 2)).mul(255).tolist() == pytest.approx(COLOUR, abs=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_told_and_not_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[files.ORIENTATION] = orientation
    path = saved(tmp_path, noise(), "x.jpg", exif=exif)
    assert read_header(path).turned == (orientation >= 5)
    assert read_header(path).size == (HEIGHT, WIDTH)
    assert decode(path).shape == (3, HEIGHT, WIDTH)


def test_a_damaged_exif_block_says_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, noise(), "x.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\0\0")
    assert read_header(path).size == (HEIGHT, WIDTH) and not read_header(path).turned


def huge(path: Path) -> Path:
    """A PNG of 100 megapixels in a few kilobytes."""
    Image.new("1", (10_000, 10_000)).save(path)
    assert path.stat().st_size < 40_000
    return path


def test_too_many_pixels_are_refused_before_any_is_decoded(tmp_path: Path, monkeypatch) -> None:
    path = huge(tmp_path / "x.png")

    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    reads = (decode, read_header, files.image_size, lambda path: decode_within(path, 10))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for read in reads:
            with pytest.raises(ValueError, match="10000 x 10000 pixels are more than 89478485"):
                read(path)
    assert seen == []


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "the file is empty"),
        (b"<html><body>404</body></html>", "not an image of the formats JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of the formats"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_image(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrokenImageError, match=f"image 'a/x': .*x.jpg: {word}.*; replace the file"):
        ImageFiles({"a/x": path}).load("a/x")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.bmp", "x.tif"])
def test_a_file_that_ends_early_is_broken(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, noise(size=(200, 200)), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenImageError, match="image 'x'"):
        ImageFiles({"x": path}).load("x")


def test_a_broken_image_survives_a_worker_and_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(BrokenImageError) as caught:
        ImageFiles({"a": tmp_path / "none.jpg"}).load("a")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.finding == caught.value.finding
    assert copy.finding.record == "image a" and copy.finding.action == "quarantined"
    assert copy.finding.image_id == "a"
    assert copy.finding.file.endswith("none.jpg") and "no such file" in copy.finding.value


def test_another_size_than_stated(tmp_path: Path) -> None:
    path = saved(tmp_path, noise())
    images = ImageFiles({"a": path, "b": path}, {"a": (WIDTH, HEIGHT), "b": (HEIGHT, WIDTH)})
    with pytest.raises(BrokenImageError, match=r"40 x 30 .* says 30 x 40; the two are swapped"):
        images.load("a")
    assert images.load("b").shape == (3, HEIGHT, WIDTH)


def test_a_smaller_decode_is_close_to_a_smaller_image(tmp_path: Path) -> None:
    rows = np.linspace(0, 255, 400)[:, None] * np.ones((1, 300))
    image = Image.fromarray(np.stack([rows, rows[::-1], rows / 2], axis=2).astype(np.uint8))
    for name in ("x.jpg", "x.png"):
        path = saved(tmp_path, image, name)
        found, factors = decode_within(path, 100)
        assert found.shape == (3, 100, 75) and factors == (0.25, 0.25)
        after = np.array(image.resize((75, 100), Image.Resampling.BILINEAR))  # by another library
        wanted = torch.from_numpy(after).permute(2, 0, 1) / 255
        assert (found - wanted).abs().mean() < 0.01


@pytest.mark.parametrize("longest", [7, 20, 33, 39])
def test_a_smaller_image_is_at_most_a_grey_level_from_pillows(tmp_path: Path, longest: int) -> None:
    found, _ = decode_within(saved(tmp_path, noise()), longest)
    small = noise().resize((longest, found.shape[1]), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    levels = found * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4) and found.is_contiguous()
    assert (levels - wanted).abs().max() < 1.01 and (levels - wanted).abs().mean() < 0.1


def test_nothing_is_enlarged(tmp_path: Path) -> None:
    path = saved(tmp_path, noise(), "x.jpg")
    found, factors = decode_within(path, 40)
    assert factors == (1, 1) and torch.equal(found, decode(path))
    thin = saved(tmp_path, noise(size=(3, 300)), "y.jpg")
    found, factors = decode_within(thin, 10)
    assert found.shape == (3, 1, 10) and factors == pytest.approx((10 / 300, 1 / 3))
    deep = saved(tmp_path, Image.fromarray(np.full((60, 80), 32768, np.uint16)))
    found, _ = decode_within(deep, 20)
    assert found.shape == (3, 15, 20) and torch.allclose(found, torch.tensor(32768 / 65535))
    with pytest.raises(ValueError, match="longest = 0"):
        decode_within(path, 0)
