"""COCO evaluation of 5,000 images: faster-coco-eval against pycocotools, and that both say the
same; miss rate of 1,000 images.

pytest -n 0 --benchmark-enable -s tests/bench/bench_evaluate.py
"""

import time

import pytest
import torch

from almining.data.pool import Pool
from almining.evaluate import coco, miss_rate, voc
from almining.records import Detections, Target

IMAGES, CLASSES, BOXES, FOUND = 5_000, 80, 7, 40


def made(generator):
    """Boxes, and detections of which half lie near a box of their class."""

    def boxes(n):
        corner = torch.rand(n, 2, generator=generator) * 400
        size = torch.rand(n, 2, generator=generator) ** 2 * 300 + 4
        return torch.cat([corner, corner + size], dim=1)

    targets, detections = {}, {}
    for number in range(IMAGES):
        truth = boxes(BOXES)
        labels = torch.randint(1, CLASSES + 1, (BOXES,), generator=generator)
        ignore = torch.rand(BOXES, generator=generator) < 0.02
        targets[f"{number:06d}"] = Target(truth, labels, ignore=ignore)
        near = torch.randint(0, BOXES, (FOUND // 2,), generator=generator)
        moved = truth[near] + 6 * torch.randn(FOUND // 2, 4, generator=generator)
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        others = FOUND - FOUND // 2
        wrong = torch.randint(1, CLASSES + 1, (others,), generator=generator)
        detections[f"{number:06d}"] = Detections(
            torch.cat([moved, boxes(others)]),
            torch.cat([labels[near], wrong]),
            torch.rand(FOUND, generator=generator),
        )
    return Pool([f"class {i}" for i in range(1, CLASSES + 1)], targets, images=None), detections


def test_faster_backend(benchmark):
    pytest.importorskip("faster_coco_eval")
    pool, detections = made(torch.Generator().manual_seed(0))
    start = time.perf_counter()
    slow = coco(detections, pool, backend="pycocotools")
    plain = time.perf_counter() - start
    fast = benchmark.pedantic(
        coco, args=(detections, pool), kwargs={"backend": "faster"}, rounds=3, iterations=1
    )
    assert fast == pytest.approx(slow, abs=1e-9)
    if benchmark.enabled:
        best = benchmark.stats.stats.min
        benchmark.extra_info.update(pycocotools_s=plain, faster_s=best, ratio=plain / best)
        print(f"\npycocotools {plain:.1f} s, faster {best:.1f} s: {plain / best:.1f} times")


def test_miss_rate(benchmark):
    """1,000 images of 100 detections and 8 boxes, one class, beside VOC's matching."""
    targets, detections = {}, {}
    generator = torch.Generator().manual_seed(0)
    for number in range(1_000):
        corner = torch.rand(8, 2, generator=generator) * 400
        size = 20 + torch.rand(8, 1, generator=generator) * torch.tensor([40.0, 120.0])
        truth = torch.cat([corner, corner + size], dim=1)
        moved = truth.repeat(12, 1) + 8 * torch.randn(96, 4, generator=generator)
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        moved = torch.cat([moved, truth[:4] + 200])
        targets[str(number)] = Target(truth, torch.ones(8, dtype=torch.int64))
        detections[str(number)] = Detections(
            moved, torch.ones(100, dtype=torch.int64), torch.rand(100, generator=generator)
        )
    pool = Pool(["pedestrian"], targets, images=None)
    start = time.perf_counter()
    voc(detections, pool)
    other = time.perf_counter() - start
    rates = benchmark.pedantic(miss_rate, args=(detections, pool), rounds=3, iterations=1)
    assert 0 < rates["MR@1"] < 1
    if benchmark.enabled:
        best = benchmark.stats.stats.min
        benchmark.extra_info.update(voc_s=other, miss_rate_s=best)
        print(f"\nmiss rate {best:.2f} s, VOC AP {other:.2f} s")
