"""Pixel divergence of 5 maps of 640 x 480, against other ways to pool and to a forward pass.

`direct` pools with windows as Eq. 1 and 2 are written; `scipy` runs its uniform_filter over six
planes, the entropies of all maps added up first, as we do, and reflects at the edge. MC dropout is
the score that the paper compares with: 30 passes, once of the whole network and once of what lies
above the dropout. Processor time, one thread, because a busy machine spoils the others.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_divergence.py; figures are in
the benchmark's extra_info. Aim: at most 0.35 of a forward pass at every radius.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchvision.utils import save_image

from almining.data.readers import read_frames
from almining.data.street import make_street
from almining.detectors.dense import Dense, dense
from almining.papers import divergence
from almining.papers.divergence import Config, disagreement, image_score, score_map
from almining.rng import generator
from almining.score import binary_entropy

HEIGHT, WIDTH, FRAMES = 480, 640, 12


def seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """Return the least processor time of a few runs."""
    torch.set_num_threads(1)
    took = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return min(took)


def some_maps() -> Tensor:
    """Return blobs, (5, 480, 640), as a detector makes them: most of the image is near 0."""
    coarse = torch.randn(1, 5, 60, 80, generator=torch.Generator().manual_seed(0)) * 3 - 3
    full = torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear")
    return full[0].sigmoid()


def direct(maps: Tensor, radius: int) -> Tensor:
    pool = partial(
        avg_pool2d,
        kernel_size=2 * radius + 1,
        stride=1,
        padding=radius,
        count_include_pad=False,
    )
    return (binary_entropy(pool(maps[None])) - pool(binary_entropy(maps)[None]))[0].sum(dim=0)


def by_scipy(maps: Tensor, radius: int) -> Tensor:
    filters = pytest.importorskip("scipy.ndimage")
    apart = binary_entropy(maps).sum(dim=0).numpy()
    pooled = [filters.uniform_filter(one.numpy(), 2 * radius + 1) for one in maps]
    together = sum(binary_entropy(torch.from_numpy(one)) for one in pooled)
    return together - torch.from_numpy(filters.uniform_filter(apart, 2 * radius + 1))


@pytest.fixture(scope="module")
def detector() -> Dense:
    return dense(["pedestrian"], size="paper")


@pytest.fixture(scope="module")
def forward(detector: Dense) -> float:
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return seconds(lambda: detector.dense([image]), 3)


@pytest.mark.parametrize("radius", [4, 9, 40])
def test_score_map(benchmark, detector: Dense, forward: float, radius: int) -> None:
    maps = some_maps()
    benchmark.pedantic(lambda: score_map(maps, radius=radius), rounds=3, warmup_rounds=1)
    ours = seconds(lambda: score_map(maps, radius=radius), 9)
    found = score_map(maps, radius=radius)
    print(f"\nr = {radius}: {ours * 1e3:.0f} ms, {ours / forward:.3f} of a forward pass")
    benchmark.extra_info["share of a forward pass"] = ours / forward
    inside = slice(radius, -radius)
    for name, way in (("direct", direct), ("scipy", by_scipy)):
        slow = way(maps, radius)
        assert torch.allclose(slow[inside, inside], found[inside, inside], atol=1e-4)
        took = seconds(partial(way, maps, radius), 1 if way is direct else 5)
        benchmark.extra_info[f"ratio, {name}"] = took / ours
        print(f"{name}: {took * 1e3:.0f} ms, {took / ours:.1f} times as long")


def test_against_mc_dropout(benchmark, detector: Dense, forward: float) -> None:
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))

    def passes() -> Tensor:
        draws = generator(0, "passes")
        made = detector.passes([image], 30, dropout=0.5, generator=draws)
        return disagreement(made)[0]

    def whole() -> Tensor:
        draws = generator(0, "passes")
        made = (detector.dense([image], dropout=0.5, generator=draws) for _ in range(30))
        return disagreement(made)[0]

    maps = detector.dense([image])[0]
    ours = seconds(lambda: image_score(score_map(maps)))
    benchmark.pedantic(passes, rounds=1)
    for name, way in (("30 passes above the dropout", passes), ("30 whole passes", whole)):
        took = seconds(way, 1)
        share = took / (forward + ours)
        benchmark.extra_info[name] = share
        print(f"\n{name}: {took:.1f} s, {share:.1f} times a forward pass with divergence, ", end="")
        print(f"{(took - forward) / ours:.0f} times divergence without it")


@pytest.mark.parametrize("size", ["tiny", "paper"])
def test_frames_per_second(benchmark, tmp_path: Path, size: str) -> None:
    street = make_street(1, FRAMES, seed=900_000, size=(HEIGHT, WIDTH))
    for image_id in street.ids:
        save_image(street.image(image_id), tmp_path / f"{image_id.split('/')[1]}.jpg")
    pool = read_frames(tmp_path, classes=street.classes, progress=False)
    network = dense(street.classes, size=size)
    recipe = divergence.recipe(Config())

    def query() -> object:
        return recipe.query(network, pool, 2, generator=generator(0, "query"))

    rate = FRAMES / seconds(query, 1)
    loading = FRAMES / seconds(lambda: [pool.image(image_id) for image_id in pool.ids], 1)
    benchmark.extra_info["frames per second"] = rate
    print(f"\n{size}: {rate:.1f} frames of 640 x 480 scored per second, {loading:.0f} decoded")
    benchmark.pedantic(query, rounds=1)
