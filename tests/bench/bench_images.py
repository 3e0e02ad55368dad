"""JPEG files to float tensors: against Pillow and torchvision, at full and at training size.

The real VOC images, in one thread; processor time, because machines are busy. Also how long
reading a folder of 5,000 takes.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms.functional import to_tensor

from almining.data.formats.files import decode, decode_within
from almining.data.readers import read_folder

FILES, ROUNDS = 200, 7


def pillow(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return to_tensor(image.convert("RGB"))


def shrunk(path: Path, longest: int) -> torch.Tensor:
    with Image.open(path) as image:
        share = min(1.0, longest / max(image.size))
        small = (round(image.width * share), round(image.height * share))
        return to_tensor(image.convert("RGB").resize(small, Image.Resampling.BILINEAR))


def torchvision(path: Path) -> torch.Tensor:
    values = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)
    return values.contiguous().to(torch.float32).div_(255)


def ratio(theirs: Callable[[Path], object], ours: Callable[[Path], object], files) -> float:
    def seconds(read: Callable[[Path], object]) -> float:
        begun = time.process_time()
        for path in files:
            read(path)
        return time.process_time() - begun

    for read in (theirs, ours):
        seconds(read)
    return statistics.median(seconds(theirs) / seconds(ours) for _ in range(ROUNDS))


@pytest.fixture
def files(real_data: Path) -> list[Path]:
    torch.set_num_threads(1)
    return sorted((real_data / "voc2007_subset" / "JPEGImages").glob("*.jpg"))[:FILES]


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # of torchvision
def test_full_size(benchmark, files: list[Path]) -> None:
    figures = {
        "Pillow and to_tensor / ours": ratio(pillow, decode, files),
        "torchvision / ours": ratio(torchvision, decode, files),
    }
    benchmark.pedantic(lambda: [decode(path) for path in files], rounds=3)
    benchmark.extra_info.update(figures)
    same = sum(torch.equal(decode(path), torchvision(path)) for path in files)
    print(f"\nfull size: {figures} (aim >= 1.3); {same} of {len(files)} equal torchvision's")


@pytest.mark.parametrize("longest", [320, 224, 128, 64])
def test_training_size(benchmark, files: list[Path], longest: int) -> None:
    figure = ratio(lambda p: shrunk(p, longest), lambda p: decode_within(p, longest), files)
    benchmark.pedantic(lambda: [decode_within(path, longest) for path in files], rounds=3)
    benchmark.extra_info["decode, resize, to_tensor / ours"] = figure
    apart = [
        float((shrunk(path, longest) - decode_within(path, longest)[0]).abs().mean())
        for path in files[:50]
    ]
    print(
        f"\nlonger side {longest}: {figure:.2f} times as fast (aim >= 2 when small), "
        f"{255 * statistics.mean(apart):.2f} grey levels apart on average"
    )


def test_reading_a_folder(benchmark, tmp_path: Path) -> None:
    Image.new("RGB", (500, 375)).save(tmp_path / "0.jpg")
    content = (tmp_path / "0.jpg").read_bytes()
    for number in range(1, 5000):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    benchmark.pedantic(lambda: read_folder(tmp_path, progress=False), rounds=3)
    milliseconds = benchmark.stats.stats.median / 5
    print(f"\nreading a folder: {milliseconds:.3f} ms an image")
