"""Box-in-box pairs of 5,000 images of 100 boxes, against loops over images, classes and boxes.

The reference goes through Eq. 1 image by image and class by class as one would write it first, and
looks up the partners of each small box; a second one compares all boxes of an image in one go. Both
run over the first images and are scaled up. Times are of the processor, one thread, because a busy
machine spoils the others.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_pairs.py; ratios are in the
benchmark's extra_info, target 30.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from almining.boxes import area, containment
from almining.papers.bib import find_pairs, find_pairs_many
from almining.records import Detections

IMAGES, BOXES, COMPARED = 5000, 100, 200


def image(classes: int, generator: torch.Generator) -> Detections:
    """Return boxes of about 55 pixels, a factor 2 up and down, in an image of 500 x 375."""
    size = torch.tensor([500.0, 375.0])
    centre = torch.rand(BOXES, 2, generator=generator) * size
    extent = torch.exp(4 + 0.8 * torch.randn(BOXES, 2, generator=generator))
    low, high = (centre - extent / 2).clamp(min=0), (centre + extent / 2).minimum(size)
    labels = torch.randint(1, classes + 1, (BOXES,), generator=generator)
    return Detections(
        torch.cat([low, high.maximum(low)], dim=1), labels, torch.rand(BOXES, generator=generator)
    )


def by_loops(found: Detections) -> Tensor:
    rows = torch.arange(len(found))
    pairs = []
    for label in found.labels.unique():
        own = rows[found.labels == label]
        sizes = area(found.boxes[own])
        inside = containment(found.boxes[own], found.boxes[own])
        for i in range(len(own)):
            large = (sizes / sizes[i] >= 3) & (inside[i] >= 0.8) & (sizes[i] > 0)
            for j in large.nonzero()[:, 0]:
                pairs.append((int(own[i]), int(own[j])))
    return torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2)


def by_image(found: Detections) -> Tensor:
    sizes = area(found.boxes)
    good = (found.labels[:, None] == found.labels) & (sizes[None] / sizes[:, None] >= 3)
    return (good & (containment(found.boxes, found.boxes) >= 0.8)).nonzero()


def seconds(run: Callable[[], list[Tensor]]) -> tuple[float, list[Tensor]]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


@pytest.mark.parametrize("classes", [20, 4, 1])
def test_pairs(benchmark, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pool = [image(classes, generator) for _ in range(IMAGES)]
    times = []

    def run() -> list[Tensor]:
        took, found = seconds(lambda: find_pairs_many(pool))
        times.append(took)
        return found

    found = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    fast = min(times)
    print(f"\n{classes} classes, {sum(map(len, found)) / IMAGES:.1f} pairs per image: {fast:.2f} s")
    for name, way in (("loops", by_loops), ("per image", by_image), ("find_pairs", find_pairs)):
        took, slow = seconds(lambda way=way: [way(each) for each in pool[:COMPARED]])
        assert all(map(torch.equal, slow, found))
        ratio = took * IMAGES / COMPARED / fast
        benchmark.extra_info[f"ratio, {name}"] = ratio
        print(f"{name}: {took * IMAGES / COMPARED:.1f} s, ratio {ratio:.1f}")
