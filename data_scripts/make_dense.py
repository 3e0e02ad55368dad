"""Make the per-pixel detector that ships, `almining/demo/dense.safetensors`, on a CPU.

    python data_scripts/make_dense.py

It learns from still pictures of the toy street by day, and is measured on films by day, where it is
good, and at dusk, where it is the weak start that active learning on film begins with. Seeds are
1,000,000 and up for training and 900,000 for tests. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from almining import demo, evaluate
from almining.data.street import CLASSES, make_street
from almining.data.toy.domains import DOMAINS
from almining.detectors.dense import Dense, dense
from almining.lab import TEST_SEED
from almining.predict import detect
from almining.train import TrainConfig, fit
from data_scripts.make_demos import SEED

# (height, width) in an image 480 pixels high: k-means of pedestrians by overlap, seed 1,000,000
BOXES = ((225, 86), (158, 60), (116, 42), (75, 27), (53, 19))
FRAMES = 10  # of each film of the test
TRAIN = TrainConfig(steps=700, batch=8, lr=2e-3)
OPTIONS = {"size": "tiny", "boxes": BOXES}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the detector is trained on, and how.

    Args:
        stills: number of pictures, each of a street of its own.
        busy: share of them in which a pedestrian is seen.
        train: how long and how.
        options: what `dense` is given.
    """

    stills: int = 1500
    busy: float = 0.6
    train: TrainConfig = TRAIN
    options: dict[str, Any] = field(default_factory=OPTIONS.copy)


def train(plan: Plan) -> Dense:
    """Return a new detector, trained by this plan."""
    detector = dense(CLASSES, **plan.options)
    pool = make_street(plan.stills, 1, seed=SEED, busy=plan.busy)
    fit(detector, pool, plan.train, seed=0, progress="dense")
    return detector


def measure(detector: Dense, domain: str, films: int) -> dict[str, Any]:
    """Return AP50, overall and per class, and miss rates on films of the test seed."""
    test = make_street(films, FRAMES, seed=TEST_SEED, domain=domain)
    found = dict(detect(detector, test, progress=domain))
    missed = evaluate.miss_rate(found, test, frame_height=480)
    return {"AP50": _rounded(evaluate.voc(found, test)), "missed": _rounded(missed)}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def make(folder: Path, plan: Plan | None = None, *, films: int = 60) -> dict[str, Any]:
    """Train the detector, measure it, write it, and return what is noted in its header.

    Args:
        folder: where `dense.safetensors` is written.
        plan: overrides the usual one.
        films: films of 10 frames to measure on, in each domain.
    """
    plan, begun = plan or Plan(), time.process_time()
    detector = train(plan)
    notes: dict[str, Any] = {
        "plan": asdict(plan),
        "seconds": round(time.process_time() - begun),  # of the processor
        "threads": torch.get_num_threads(),
        "test_frames": films * FRAMES,
        "torch": torch.__version__,
    }
    file = folder / "dense.safetensors"
    demo.save(detector, file, kind="dense", options=plan.options)
    shipped = demo.load(file)
    day, *others = (measure(shipped, domain, films) for domain in DOMAINS)
    notes |= day | dict(zip(DOMAINS[1:], others, strict=True))
    demo.save(shipped, file, kind="dense", options=plan.options, notes=notes)
    return notes


def main() -> None:
    """Make it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=demo.FOLDER, help="where to write it")
    print(json.dumps(make(parser.parse_args().folder), indent=1))


if __name__ == "__main__":
    main()
