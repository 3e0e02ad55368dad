"""Extraction and conversion of 10,000 made images, and selective search in one process.

Images are JPEG of 500 x 375 pixels with noise, about 30 kB each, 8 different ones; each has three
boxes. A row is what one core does: files and megabytes a second.

BENCH_IMAGES=10000 pytest -n 0 --benchmark-enable -s tests/bench/bench_fetch.py
"""

import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from almining.data.fetch.extract import extract
from almining.data.fetch.propose import propose
from almining.data.proposals import SelectiveSearch
from almining.data.readers import VOC_CLASSES, read_coco, read_voc
from almining.data.writers import write_coco
from almining.rng import derive
from tests.data.sets_made import thing, xml

IMAGES = int(os.environ.get("BENCH_IMAGES", "10000"))
SEARCHED = int(os.environ.get("BENCH_SEARCHED", "16"))
SIZE = (500, 375)
BOXES = ((10, 10, 200, 150), (50, 60, 300, 350), (1, 1, 500, 375))


def pictures() -> list[bytes]:
    made = []
    for number in range(8):
        rng = np.random.default_rng(derive(number, "bench fetch"))
        coarse = rng.integers(0, 255, (SIZE[1] // 15, SIZE[0] // 20, 3), dtype=np.uint8)
        held = io.BytesIO()
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(
            held, "JPEG", quality=93
        )
        made.append(held.getvalue())
    return made


def voc(folder: Path) -> Path:
    content, root = pictures(), "VOCdevkit/VOC2007"
    names = [f"{number:06d}" for number in range(IMAGES)]
    with tarfile.open(folder / "voc.tar", "w") as file:

        def add(path: str, text: bytes) -> None:
            entry = tarfile.TarInfo(f"{root}/{path}")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text))

        add("ImageSets/Main/trainval.txt", "\n".join(names).encode())
        boxes = [thing(VOC_CLASSES[i], *box) for i, box in enumerate(BOXES)]
        for number, name in enumerate(names):
            add(f"JPEGImages/{name}.jpg", content[number % 8])
            add(f"Annotations/{name}.xml", xml(f"{name}.jpg", *boxes, size=SIZE))
    return folder / "voc.tar"


def coco(folder: Path) -> Path:
    content = pictures()
    images, annotations = [], []
    with zipfile.ZipFile(folder / "coco.zip", "w") as file:
        for number in range(IMAGES):
            name = f"train/{number:012d}.jpg"
            file.writestr(name, content[number % 8])
            images.append({"id": number, "file_name": name, "width": 500, "height": 375})
            for x1, y1, x2, y2 in BOXES:
                box = [x1 - 1, y1 - 1, x2 - x1, y2 - y1]
                key = len(annotations)
                row = {"id": key, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
                annotations.append(row | {"area": box[2] * box[3]})
        categories = [{"id": 1, "name": "person"}]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        file.writestr("instances.json", json.dumps(whole))
    return folder / "coco.zip"


def timed(name: str, files: int, size: int, call: Callable[[], object]) -> str:
    wall, busy = time.perf_counter(), time.process_time()
    call()
    seconds, cpu = time.perf_counter() - wall, time.process_time() - busy
    rate = f"{files / seconds:8.1f}/s by the clock, {files / cpu:8.1f}/s of the processor"
    return f"{name:28} {files:6d} files {rate}, {size / seconds / 1e6:6.1f} MB/s"


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_extract_and_convert(kind: str, tmp_path: Path, benchmark) -> None:
    archive = voc(tmp_path) if kind == "voc" else coco(tmp_path)
    size, folder = archive.stat().st_size, tmp_path / "out"
    rows = [
        timed(
            f"{kind}: extracting",
            *(IMAGES * (2 if kind == "voc" else 1), size),
            lambda: extract(archive, folder, progress=False),
        )
    ]

    def convert() -> None:
        if kind == "voc":
            pool = read_voc(folder / "VOCdevkit" / "VOC2007", "trainval", classes=VOC_CLASSES)
        else:
            pool = read_coco(folder / "instances.json", folder)
        write_coco(pool, tmp_path / "made.json", images=folder, overwrite=True, progress=False)

    rows.append(timed(f"{kind}: reading and writing COCO", IMAGES, 0, convert))
    print("", *rows, sep="\n")
    benchmark.pedantic(convert, rounds=1)


def test_propose(tmp_path: Path, benchmark) -> None:
    content, images = pictures(), []
    for number in range(SEARCHED):
        (tmp_path / f"{number}.jpg").write_bytes(content[number % 8] + bytes([number]))
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 500, "height": 375})
    whole = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "made.json").write_text(json.dumps(whole))
    pool = read_coco(tmp_path / "made.json", tmp_path)
    few = pool.subset(pool.ids[:8])  # the others have the same pixels
    search = SelectiveSearch()
    print("", timed("selective search, fast", 8, 0, lambda: propose(few, search, tmp_path / "a")))
    benchmark.pedantic(propose, (few, search, tmp_path / "b"), rounds=1)
