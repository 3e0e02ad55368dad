"""K-means++ over 20,000 pairs of 8192 features in 2,500 images, 50 to pick, the scikit-learn way.

The reference does what scikit-learn's seeding does with float32 rows: at every step all of them are
checked, cast to float64 block by block and measured again. It draws from the same generator, so at
equal work (squared distance, 5 local trials) the picks must be the same. Times are of the
processor, one thread, because a busy machine spoils the others.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_kmeans.py; ratios are in the
benchmark's extra_info, targets: 15 through `pairs=` and 4 on rows at equal work, 100 for the law of
the paper.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from almining.select import kmeans_pp_groups

IMAGES, WIDTH, PICKS = 2500, 4096, 50
SMALL, LARGE = 4, 2  # boxes of an image, each small one inside each large one
TRIALS = 2 + int(math.log(PICKS))
BLOCK = 950  # rows that scikit-learn casts together for these shapes


@pytest.fixture(scope="module", params=["independent", "clustered"])
def world(request) -> tuple[Tensor, Tensor, list[int]]:
    """Return boxes (m, 4096), which two of them each pair is, and the image of each pair."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.randn(IMAGES, SMALL + LARGE, WIDTH, generator=generator)
    if request.param == "clustered":  # 40 kinds of image, boxes of one image alike, sparse features
        kinds = torch.randn(40, WIDTH, generator=generator)
        kind = torch.randint(40, (IMAGES,), generator=generator)
        boxes += 2 * kinds[kind][:, None] + torch.randn(IMAGES, 1, WIDTH, generator=generator)
        boxes.relu_()
    small = torch.arange(SMALL).repeat_interleave(LARGE)
    large = torch.arange(SMALL, SMALL + LARGE).repeat(SMALL)
    first = torch.arange(IMAGES)[:, None, None] * (SMALL + LARGE)
    pairs = (first + torch.stack([small, large], dim=1)).flatten(0, 1)
    return boxes.flatten(0, 1), pairs, torch.arange(IMAGES).repeat_interleave(len(small)).tolist()


def squared_distances(some: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if not np.isfinite(rows.sum()) or not np.isfinite(some.sum()):
        raise ValueError("not finite")
    found = np.empty((len(some), len(rows)), np.float32)
    some = some.astype(np.float64)
    norms = np.einsum("ij,ij->i", some, some)[:, None]
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float64)
        part = -2 * (some @ block.T)
        part += norms
        part += np.einsum("ij,ij->i", block, block)
        found[:, start : start + BLOCK] = np.maximum(part, 0)
    return found


def scikit_way(rows: np.ndarray, groups: list[int], trials: int, power: float) -> list[int]:
    generator = torch.Generator().manual_seed(1)
    images = np.array(groups)
    first = int(torch.randint(IMAGES, (), generator=generator))  # all have as many rows
    picks = [first]
    closest = squared_distances(rows[images == first], rows).min(axis=0)
    while len(picks) < PICKS:
        closest[np.isin(images, picks)] = 0
        weights = (closest.astype(np.float64)) ** (power / 2)
        ends = weights.cumsum()
        drawn = torch.rand(trials, generator=generator, dtype=torch.float64).numpy() * ends[-1]
        candidates = list(dict.fromkeys(images[np.searchsorted(ends, drawn)].tolist()))
        members = [np.flatnonzero(images == image) for image in candidates]
        distances = squared_distances(rows[np.concatenate(members)], rows)
        best = (math.inf, 0, closest)
        for image, of_image in zip(candidates, members, strict=True):
            mine, distances = distances[: len(of_image)], distances[len(of_image) :]
            after = np.minimum(closest, mine.min(axis=0))
            potential = float((after.astype(np.float64) ** (power / 2)).sum())
            best = min(best, (potential, image, after), key=lambda each: each[0])
        picks.append(best[1])
        closest = best[2]
    return picks


def test_kmeans(benchmark, world) -> None:
    boxes, pairs, groups = world
    rows = boxes[pairs].flatten(1)
    seconds: dict[str, float] = {}

    def timed(name: str, run):
        start = time.process_time()
        found = run()
        seconds[name] = min(time.process_time() - start, seconds.get(name, math.inf))
        return found

    def ours(features: Tensor, **options) -> list[int]:
        generator = torch.Generator().manual_seed(1)
        return kmeans_pp_groups(features, groups, PICKS, generator=generator, **options)

    equal = {"power": 2.0, "local_trials": TRIALS}
    slow = timed("scikit-learn", lambda: scikit_way(rows.numpy(), groups, TRIALS, 2.0))
    assert timed("equal, pairs", lambda: ours(boxes, pairs=pairs, **equal)) == slow
    assert timed("equal, rows", lambda: ours(rows, **equal)) == slow
    timed("one draw, scikit-learn", lambda: scikit_way(rows.numpy(), groups, 1, 1.0))
    for _ in range(3):
        timed("law, rows", lambda: ours(rows))
    benchmark.pedantic(lambda: timed("law, pairs", lambda: ours(boxes, pairs=pairs)), rounds=5)
    ratios = {name: seconds["scikit-learn"] / each for name, each in seconds.items()}
    for name, ratio in ratios.items():
        benchmark.extra_info[f"ratio, {name}"] = ratio
        print(f"\n{name}: {seconds[name]:.2f} s, ratio {ratio:.1f}", end="")
