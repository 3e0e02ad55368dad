"""Decisions per second of SSM's validation, in every way, and how often each decides alike.

Regions are those that SSM looks into in toy scenes, by the shipped Fast R-CNN, or by another demo
that `BENCH_SSM` names; a decision is *trusted or not* at a consistency of 0.5. `single` is the
paper's way. Proposals of the scenes are at hand, as in a training; those of a paste are made, which
is most of what a paste costs. Images drawn anew change decisions as well, so `single` with another
seed stands beside the cheaper ways: that is how far two runs of the paper's own way agree. Images
lie in memory, because drawing a scene takes as long as looking at it. Processor time, one thread,
because a busy machine spoils the other.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_ssm.py; figures are in the
benchmark's extra_info. Aims: packed at least 4 times, packed_regions at least 12 times as many
decisions per second as single; the cost beside a training step at most 0.4 of one.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from almining.data.pool import Pool
from almining.data.proposals import cached
from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.papers.ssm import WAYS, Config, Region, Validation, Way, candidates, validate
from almining.records import Target
from almining.rng import forked, generator

SCENES, LOOKED_AT, TRUSTED = 80, 16, 0.5


class Kept:
    """Images in memory."""

    def __init__(self, images: dict[str, Tensor]) -> None:
        self.images = images

    def load(self, image_id: str) -> Tensor:
        return self.images[image_id]


@cache
def world() -> tuple[Any, Pool, list[Region]]:
    """Return the detector, scenes of which all is known, and what it finds in some of them."""
    torch.set_num_threads(1)
    scenes = make_scenes(SCENES, seed=21)
    images = Kept({image_id: scenes.image(image_id) for image_id in scenes.ids})
    pool = Pool(scenes.classes, {i: scenes.target(i) for i in scenes.ids}, images)
    detector, regions = load_demo(os.environ.get("BENCH_SSM", "fast_rcnn")), []
    for image_id in pool.ids[:LOOKED_AT]:
        (found,) = detector.detect([pool.image(image_id)])
        found = candidates(found, Target.unknown(), Config.toy())
        rows = zip(found.boxes, found.labels.tolist(), strict=True)
        regions += [Region(image_id, box, label) for box, label in rows]
    return detector, pool, regions


def timed(
    way: str | Way, *, seed: int = 0, regions: list[Region] | None = None
) -> tuple[float, list[Validation]]:
    """Return the processor time of validating all regions, and what came of it."""
    detector, pool, known = world()
    wanted = known if regions is None else regions
    start = time.process_time()
    found = validate(detector, pool, wanted, generator=generator(seed, "validate"), way=way)
    return time.process_time() - start, found


@cache
def paper() -> tuple[float, list[Validation]]:
    """Return what the paper's way takes, and says."""
    timed("single", regions=world()[2][:3])  # what is imported and made on the first call
    return timed("single")


def values(found: list[Validation]) -> Tensor:
    return torch.tensor([one.consistency for one in found], dtype=torch.float64)


def alike(found: list[Validation], others: list[Validation]) -> tuple[float, float]:
    """Return the share of equal decisions, and the mean distance of the consistencies."""
    a, b = values(found), values(others)
    return float(((a >= TRUSTED) == (b >= TRUSTED)).double().mean()), float((a - b).abs().mean())


@pytest.mark.parametrize("way", [*WAYS, "single, drawn anew"])
def test_decisions_per_second(benchmark, way: str) -> None:
    _, _, regions = world()
    slow, said = paper()
    if way == "single, drawn anew":
        took, found = timed("single", seed=1)
    else:
        took, found = timed(way)
    equal, apart = alike(found, said)
    benchmark.pedantic(lambda: timed(way.split(",")[0], regions=regions[:8]), rounds=1)
    benchmark.extra_info.update(
        {"decisions per second": len(regions) / took, "ratio": slow / took, "equal": equal}
    )
    print(
        f"\n{way}: {len(regions) / took:.1f} decisions per second, {slow / took:.1f} times the "
        f"paper's way; {equal:.1%} decided alike, "
        f"consistency {apart:.3f} apart, {float(values(found).mean()):.3f} on average"
    )


@pytest.mark.parametrize("way", ["single", "packed", "packed_regions"])
def test_beside_a_training_step(
    benchmark, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, pool, regions = world()
    ids = list(dict.fromkeys(region.image_id for region in regions))[:8]
    batches = [ids[start : start + 2] for start in range(0, len(ids), 2)]

    def step(batch: list[str]) -> None:
        with forked(0, torch.device("cpu")):
            losses = detector.losses(
                [pool.image(i) for i in batch],
                [pool.target(i) for i in batch],
                generator=generator(0),
            )
        sum(losses.values()).backward()
        detector.zero_grad()

    if hasattr(detector, "proposer"):
        monkeypatch.setattr(detector, "proposer", cached(detector.proposer, tmp_path))
    for batch in batches:
        step(batch)
    start = time.process_time()
    for batch in batches:
        step(batch)
    plain = time.process_time() - start
    monkeypatch.undo()  # a paste was never seen before
    took = sum(
        timed(way, regions=[one for one in regions if one.image_id in batch])[0]
        for batch in batches
    )
    benchmark.extra_info["share of a step"] = took / plain
    benchmark.pedantic(lambda: step(batches[0]), rounds=1)
    count = sum(one.image_id in ids for one in regions) / len(batches)
    print(f"\n{way}: {count:.1f} regions of 2 images take {took / plain:.2f} of a training step")
