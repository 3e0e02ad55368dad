"""Reading COCO: `read_coco` with every check against `pycocotools.coco.COCO`, which has none.

Each runs in a fresh process: seconds of the clock and of the processor, and the most memory it
held, also without what its imports hold. The files have 7 boxes an image, with and without
outlines. 100,000 images and 700,000 boxes are read by

BENCH_IMAGES=100000 pytest -n 0 --benchmark-enable -s tests/bench/bench_read.py
"""

import json
import os
import random
import subprocess
import sys

import pytest

IMAGES = int(os.environ.get("BENCH_IMAGES", "10000"))
BOXES, CLASSES = 7, 80
MEASURE = """
import json, resource, sys, time
{imports}

def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, wall, busy = held(), time.perf_counter(), time.process_time()
found = {call}
print(json.dumps({{
    "seconds": time.perf_counter() - wall,
    "cpu": time.process_time() - busy,
    "mb": held(),
    "mb_above_imports": held() - before,
    "found": {count},
}}))
"""
OURS = MEASURE.format(
    imports="from almining.data.readers import read_coco",
    call="read_coco(sys.argv[1], sys.argv[2])",
    count="[len(found), sum(len(found.target(i)) for i in found.ids), len(found.findings)]",
)
THEIRS = MEASURE.format(
    imports="from pycocotools.coco import COCO",
    call="COCO(sys.argv[1])",
    count="[len(found.imgs), len(found.anns), 0]",
)


def write(folder, points):
    """Write the annotations and a folder of empty files; a size is stated, so none is opened."""
    rng, images = random.Random(0), folder / "images"
    images.mkdir()

    def entries():
        for number in range(1, IMAGES + 1):
            for extra in range(BOXES):
                width, height = (round(1 + rng.random() * 79, 2) for _ in range(2))
                left, top = round(rng.random() * 500, 2), round(rng.random() * 400, 2)
                outline = [round(rng.random() * 480, 2) for _ in range(points)]
                yield {
                    "segmentation": [outline] if points else [],
                    "area": round(width * height, 4),
                    "iscrowd": 0,
                    "image_id": number,
                    "bbox": [left, top, width, height],
                    "category_id": rng.randint(1, CLASSES),
                    "id": number * BOXES + extra,
                }

    with (folder / "set.json").open("w") as file:
        names = [f"{number:012d}.jpg" for number in range(1, IMAGES + 1)]
        listed = [
            {"id": number, "file_name": name, "width": 640, "height": 480, "license": 3}
            for number, name in enumerate(names, start=1)
        ]
        classes = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
        file.write(f'{{"images": {json.dumps(listed)}, "categories": {json.dumps(classes)}, ')
        file.write('"annotations": [')
        for number, entry in enumerate(entries()):
            file.write((", " if number else "") + json.dumps(entry))
        file.write("]}")
    for name in names:
        (images / name).touch()
    return folder / "set.json", images


def measured(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    quiet = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("points", [0, 40], ids=["boxes", "outlines"])
def test_read(benchmark, tmp_path, points):
    paths = write(tmp_path, points)
    theirs = measured(THEIRS, *paths)
    ours = benchmark.pedantic(measured, args=(OURS, *paths), rounds=1, iterations=1)
    assert ours["found"] == theirs["found"] == [IMAGES, IMAGES * BOXES, 0]
    size = paths[0].stat().st_size / 1e6
    ratios = {key: ours[key] / theirs[key] for key in ("seconds", "cpu", "mb", "mb_above_imports")}
    benchmark.extra_info.update(ours=ours, theirs=theirs, ratios=ratios, megabytes=size)
    print(
        f"\n{IMAGES} images, {IMAGES * BOXES} boxes, {size:.0f} MB of JSON, load {os.getloadavg()}"
    )
    for key, ratio in ratios.items():
        print(
            f"{key:17} pycocotools {theirs[key]:8.2f}   almining {ours[key]:8.2f}   {ratio:.2f} x"
        )
