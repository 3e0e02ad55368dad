"""A training step and an inference pass of NOTE-RCNN against plain Faster R-CNN.

The same images, half of them seeds, and the same weights where both have them; a step is the whole
of it, backward and SGD included. Pairs are interleaved, and the median of their ratios is told, in
processor time of one thread, because a busy machine spoils the others. Floating-point operations of
inference are those of convolutions and matrix products, on the same number of proposals.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_note.py; figures are in the
benchmark's extra_info. Aims: a step without distillation at most 1.15 times a plain one, inference
at most 1.02 times the operations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from almining.data.scenes import make_scenes
from almining.detectors.note import NoteRCNN, note_rcnn
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.records import Target
from almining.rng import forked, generator

PAIRS = {"tiny": 15, "resnet18": 5}
SCENES = make_scenes(4, seed=0)
IMAGES = [SCENES.image(i) for i in SCENES.ids]


def targets() -> list[Target]:
    known = [SCENES.target(i) for i in SCENES.ids]
    return known[:2] + [
        Target(one.boxes[:1], one.labels[:1], origin=["mined"], complete=False) for one in known[2:]
    ]


def ratio(run: Callable[[], object], plain: Callable[[], object], pairs: int) -> float:
    """Return the median ratio of processor times over interleaved pairs."""
    torch.set_num_threads(1)
    run(), plain()
    found = []
    for _ in range(pairs):
        took = []
        for one in (run, plain):
            start = time.process_time()
            one()
            took.append(time.process_time() - start)
        found.append(took[0] / took[1])
    return statistics.median(found)


def detectors(backbone: str, *, distil: bool = False) -> tuple[NoteRCNN, FasterRCNN]:
    source = faster_rcnn(("source",), backbone=backbone) if distil else None
    plain = faster_rcnn(SCENES.classes, backbone=backbone)
    options = {} if distil else {"backbone": backbone}
    ours = note_rcnn(SCENES.classes, source=source, **options)
    parts = ours.parts()  # agreeing heads propose what one does, so both see as many regions
    parts["rpn-cls-a"].load_state_dict(parts["rpn-cls"].state_dict())
    return ours, plain


def step(detector, **more) -> Callable[[], None]:
    optimizer = torch.optim.SGD(detector.parameters(), 1e-6, momentum=0.9)

    def stepped() -> None:
        optimizer.zero_grad()
        with forked(0, torch.device("cpu")):
            losses = detector.losses(IMAGES, targets(), generator=generator(0), **more)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return stepped


@pytest.mark.parametrize(
    ("backbone", "distill"),
    [("tiny", None), ("tiny", "samples"), ("tiny", "proposals"), ("resnet18", None)],
)
def test_step(benchmark, backbone: str, distill: str | None) -> None:
    ours, plain = detectors(backbone, distil=distill is not None)
    run = step(ours, distill=distill)
    found = ratio(run, step(plain), PAIRS[backbone])
    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["ratio, plain step"] = found
    print(f"\n{backbone}, distillation {distill}: {found:.3f} times a plain step")


@pytest.mark.parametrize("backbone", PAIRS)
def test_inference(benchmark, backbone: str) -> None:
    ours, plain = detectors(backbone)
    counted = []
    for one in (ours, plain):
        with FlopCounterMode(display=False) as counter:
            one.detect(IMAGES)
        counted.append(counter.get_total_flops())
    found = ratio(lambda: ours.detect(IMAGES), lambda: plain.detect(IMAGES), PAIRS[backbone])
    benchmark.pedantic(lambda: ours.detect(IMAGES), rounds=1)
    benchmark.extra_info |= {"ratio, flops": counted[0] / counted[1], "ratio, plain time": found}
    print(f"\n{backbone}: {counted[0] / counted[1]:.4f} times the operations, {found:.3f} the time")
