"""One Co-mining step against one plain step, and co-generation for a batch against loops.

The plain step is the one of `rivals.original`, on the same images: the whole of it, backward and
SGD included. `loop` calls `cogenerate` image by image; `plain loop` is the reference code's way:
torchvision's batched_nms, then a loop over the boxes that are left. Processor time, one thread,
because a busy machine spoils the others.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_comining.py; figures are in
the benchmark's extra_info. Aim: a step at most 1.8 times a plain one. Nine tenths of a step are
convolutions over twice the images; joint training, which mines nothing, costs 1% less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torchvision.ops import batched_nms

from almining.boxes import iou
from almining.cycle import run
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.detectors.onestage import fcos, retinanet
from almining.detectors.rcnn import faster_rcnn
from almining.papers.comining import Config, cogenerate, cogenerate_many, recipe, rivals
from almining.records import Detections, Target
from almining.rng import generator
from almining.train import Batch

IMAGES, BOXES = 16, 1_000


def seconds(runs: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the least processor time of each, in turn."""
    torch.set_num_threads(1)
    took = [float("inf")] * len(runs)
    for _ in range(rounds):
        for number, call in enumerate(runs):
            start = time.process_time()
            call()
            took[number] = min(took[number], time.process_time() - start)
    return took


@pytest.mark.parametrize("view", ["colour", "none"])
@pytest.mark.parametrize(
    ("make", "backbone"),
    [(retinanet, "tiny"), (fcos, "tiny"), (faster_rcnn, "tiny"), (retinanet, "resnet18")],
)
def test_step(benchmark, make, backbone: str, view: str) -> None:
    pool = sparse(make_scenes(4, seed=0), "hard", seed=0)
    detector = make(pool.classes, backbone=backbone)
    images, targets = [pool.image(i) for i in pool.ids], [pool.target(i) for i in pool.ids]
    given = Batch(list(pool.ids), images, targets, pool, 0, 0.0)
    config = replace(Config(), view=view)
    optimizer = torch.optim.SGD(detector.parameters(), 1e-6, momentum=0.9)

    def stepped(made) -> None:
        optimizer.zero_grad()
        losses = made.step(detector, given, generator=generator(0))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    arms = [recipe(config), rivals.original(config), rivals.joint(config)]
    ours, plain, joint = seconds([lambda made=made: stepped(made) for made in arms], 3)
    benchmark.pedantic(lambda: stepped(arms[0]), rounds=1)
    benchmark.extra_info["ratio, plain step"] = ours / plain
    name = f"{make.__name__}, {backbone}, {view}"
    print(f"\n{name}: {ours * 1e3:.0f} ms, {ours / plain:.2f} times a plain step")
    print(f"joint: {joint / plain:.2f} times a plain step")


def test_inference(benchmark) -> None:
    pool = sparse(make_scenes(16, seed=0), "hard", seed=0)
    images, config = [pool.image(i) for i in pool.ids], replace(Config.toy(), steps=1)
    given = {"oracle": None, "budget": 1, "cycles": 1, "seed": 0, "progress": False}
    start = load_demo("retinanet_start")
    trained = [run(one, start, pool, **given) for one in (recipe(config), rivals.original(config))]
    ours, plain = seconds([lambda one=one: one.detector.detect(images) for one in trained], 5)
    benchmark.pedantic(lambda: trained[0].detector.detect(images), rounds=1)
    benchmark.extra_info["ratio, plain detector"] = ours / plain
    print(f"\ndetection: {ours / plain:.2f} times a plain detector's, one branch")


@pytest.mark.parametrize("min_score", [0.0, 0.6])
@pytest.mark.parametrize("classes", [6, 80])
def test_cogenerate(benchmark, classes: int, min_score: float) -> None:
    cases = [some(number, classes) for number in range(IMAGES)]
    found, known = zip(*cases, strict=True)
    ways = [
        lambda: cogenerate_many(found, known, min_score=min_score),
        lambda: [cogenerate(*case, min_score=min_score) for case in cases],
        lambda: [plain(*case, min_score) for case in cases],
    ]
    batch, loop, slow = seconds(ways, 5)
    for made, rows in zip(ways[0](), ways[2](), strict=True):
        assert len(made) == 10 + len(rows)
    benchmark.pedantic(ways[0], rounds=3)
    benchmark.extra_info |= {"ratio, loop": loop / batch, "ratio, plain loop": slow / batch}
    print(
        f"\n{classes} classes, score >= {min_score}: {batch * 1e3:.1f} ms; loop {loop / batch:.1f}"
    )
    print(f"times as long, plain loop {slow / batch:.1f} times")


def some(seed: int, classes: int) -> tuple[Detections, Target]:
    draws = generator(seed, "boxes")
    corners = torch.rand(BOXES, 2, generator=draws) * 600
    boxes = torch.cat([corners, corners + 20 + torch.rand(BOXES, 2, generator=draws) * 150], dim=1)
    labels = torch.randint(1, classes + 1, (BOXES,), generator=draws)
    found = Detections(boxes, labels, torch.rand(BOXES, generator=draws))
    return found, Target(boxes[:10] + 3, labels[:10], complete=False)


def plain(found: Detections, known: Target, min_score: float) -> list[int]:
    kept = found.scores >= min_score
    boxes, labels, scores = found.boxes[kept], found.labels[kept], found.scores[kept]
    rows = []
    for row in batched_nms(boxes, scores, labels, 0.5).tolist():
        same = known.boxes[known.labels == labels[row]]
        if not len(same) or not bool((iou(boxes[row : row + 1], same) > 0.4).any()):
            rows.append(row)
    return rows
