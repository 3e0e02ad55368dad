"""Make the weakly supervised detector that ships, `almining/demo/mist.safetensors`, on a CPU.

    python data_scripts/make_mist.py

No box is seen in training. A backbone learns to name the one object of drawn crops, or that there
is none (the toy world's stand-in for ImageNet), looking at the middle of a crop only, so that what
fills a region counts. Then MIST learns from the tags of scenes: first its heads, then all of it.
What it gets wrong is counted on the test scenes and kept in the file's header. No OpenCV, no
download.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from almining import demo
from almining.data.pool import Pool
from almining.data.proposals import cached
from almining.data.regimes import tags_only
from almining.data.scenes import CLASSES, draw_icon, make_scenes
from almining.data.toy.backdrops import draw_backdrop, lay_ground
from almining.data.toy.bystanders import FOUND, draw_bystander
from almining.data.toy.pens import Pixels
from almining.data.toy.sight import Placed
from almining.data.toy.staging import CONTEXTS, paint
from almining.detectors.weak import Mist, mist
from almining.evaluate import voc
from almining.lab import TEST_SEED
from almining.predict import detect
from almining.progress import bar
from almining.records import Detections
from almining.rng import derive, forked, generator
from almining.train import TrainConfig, fit
from data_scripts.make_demos import SEED
from data_scripts.toy_failures import judge

KINDS = ("right", "part", "group", "other")
SURE = 0.1  # a detection that scores more is counted
SIDE = 64  # of a crop, in pixels
CROPS = TrainConfig(steps=1500, batch=44, lr=1e-3, weight_decay=1e-3)
HEADS = TrainConfig(steps=250, batch=4, lr=3e-3, weight_decay=1e-2, clip=5.0)
WHOLE = TrainConfig(steps=600, batch=4, lr=3e-4, weight_decay=1e-2, clip=5.0)
OPTIONS = {
    "proposer": "segments",
    "dropout": (0.0, 0.5),
    "frozen_norm": True,
    "first_weight": 3.0,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the detector is trained on, and how.

    Args:
        icons: crops with one object.
        empties: crops with none.
        crops: training of the backbone on them.
        scenes: number of drawn scenes, of which the tags are known.
        heads: training of what is above the features.
        whole: training of everything after it.
        options: what `mist` is given.
    """

    icons: int = 4000
    empties: int = 900
    crops: TrainConfig = CROPS
    scenes: int = 1000
    heads: TrainConfig = HEADS
    whole: TrainConfig = WHOLE
    options: dict[str, Any] = field(default_factory=OPTIONS.copy)


def draw_empty(index: int) -> Pixels:
    """Draw a crop without an object: a backdrop, three of four with a bystander."""
    rng = np.random.default_rng(derive(SEED, "empty", index))
    ground = lay_ground(CONTEXTS[rng.integers(4)], SIDE, rng)
    backdrop, order = draw_backdrop(ground, SIDE, rng), []
    if index % 4:
        names = sum(FOUND[ground.context], ())
        sprite = draw_bystander(
            names[rng.integers(len(names))], SIDE * rng.uniform(0.42, 0.84), rng
        )
        h, w = sprite.shape[:2]
        x, y = (round((0.5 + rng.uniform(-0.14, 0.14)) * SIDE - side / 2) for side in (w, h))
        order = [Placed(sprite, x, y, 0, 0.0, True)]
    return paint(backdrop, order)


def middles(sides: int, n: int, random: torch.Generator) -> Tensor:
    """Return boxes (n, 4) around the middle of crops of so many pixels, 60% to 95% of a side."""
    shares = 0.6 + 0.35 * torch.rand(n, 1, generator=random)
    stretch = torch.exp((torch.rand(n, 1, generator=random) - 0.5) * 0.3)  # sqrt of width / height
    centers = sides * (0.5 + 0.04 * (torch.rand(n, 2, generator=random) * 2 - 1))
    half = sides * torch.cat([shares * stretch, shares / stretch], dim=1) / 2
    return torch.cat([centers - half, centers + half], dim=1).clamp(0, sides)


def pretrain(detector: Mist, plan: Plan) -> float:
    """Teach backbone and fully connected layers what is in crops, in place.

    Returns:
        The share named rightly of 200 crops that were not trained on.
    """
    drawn = [draw_icon(SEED, index) for index in range(plan.icons + 200)]
    drawn += [(draw_empty(index), 0) for index in range(plan.empties)]
    images = torch.stack([torch.tensor(image).permute(2, 0, 1) for image, _ in drawn])
    labels = torch.tensor([label for _, label in drawn])
    with forked(SEED, torch.device("cpu")):
        last = nn.Linear(detector.head.fc7.out_features, len(CLASSES) + 1)
    parts = nn.ModuleList([detector.backbone, detector.head, last])
    optimizer = torch.optim.AdamW(
        parts.parameters(), plan.crops.lr, weight_decay=plan.crops.weight_decay
    )

    def logits(rows: Tensor, side: int, random: torch.Generator) -> Tensor:
        pixels = (images[rows].float() / 255 - detector.mean) / detector.std
        mirrored = torch.rand(len(rows), 1, 1, 1, generator=random) < 0.5
        pixels = torch.where(mirrored, pixels.flip(3), pixels)
        if side != SIDE:
            pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        boxes = list(middles(side, len(rows), random).split(1))
        pooled = detector.pool(detector.backbone(pixels), boxes, [(side, side)] * len(rows))
        found: Tensor = last(detector.head(pooled))
        return found

    parts.train()
    few = plan.crops.batch // 4  # of a batch are empty
    for step in bar(range(plan.crops.steps), progress=True, name="crops", unit="step"):
        random = generator(SEED, "crops", step)
        rows = torch.randint(plan.icons, (plan.crops.batch - few,), generator=random)
        empty = torch.randint(plan.empties, (few,), generator=random) + plan.icons + 200
        side = (40, 48, 56, 64)[int(torch.randint(4, (), generator=random))]
        rows = torch.cat([rows, empty])
        for group in optimizer.param_groups:
            group["lr"] = plan.crops.lr * plan.crops.rate(step)
        optimizer.zero_grad()
        functional.cross_entropy(logits(rows, side, random), labels[rows]).backward()
        optimizer.step()
    parts.eval()
    rows = torch.arange(plan.icons, plan.icons + 200)
    with torch.no_grad():
        found = logits(rows, SIDE, generator(SEED, "held out")).argmax(dim=1)
    return float((found == labels[rows]).float().mean())


def learn(detector: Mist, plan: Plan) -> None:
    """Train in place on the tags of scenes: first what is above the features, then all of it."""
    pool = tags_only(make_scenes(plan.scenes, seed=SEED))
    usual = detector.proposer
    with tempfile.TemporaryDirectory() as folder:
        detector.proposer = cached(usual, folder)
        detector.standardise(pool.image(image_id) for image_id in pool.ids[:150])
        below = nn.ModuleList([detector.backbone, detector.head])
        below.requires_grad_(False)
        fit(detector, pool, plan.heads, seed=SEED, progress="heads")
        below.requires_grad_(True)
        fit(detector, pool, plan.whole, seed=SEED + 1, progress="whole")
    detector.proposer = usual


def failures(found: dict[str, Detections], truth: Pool) -> dict[str, int]:
    """Count what sure detections of the classes present are, by `toy_failures.judge`.

    A part lies in an object, a group holds several; `"other"` is neither, nor right.
    """
    counts: Counter[str] = Counter()
    for image_id, one in found.items():
        target = truth.target(image_id)
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True):
            same = target.boxes[target.labels == label]
            if float(score) > SURE and len(same):
                counts[judge(box[None], same)] += 1
    return {kind: counts[kind] for kind in KINDS}


def make(folder: Path, plan: Plan | None = None, *, test: int = 200) -> dict[str, Any]:
    """Train the detector, measure it, write it, and return what is noted in its header.

    Args:
        folder: where `mist.safetensors` is written.
        plan: overrides the usual one.
        test: held-out scenes to measure on.
    """
    plan, begun = plan or Plan(), time.process_time()
    detector = mist(CLASSES, seed=SEED, **plan.options)
    accuracy = pretrain(detector, plan)
    learn(detector, plan)
    seconds = time.process_time() - begun
    file = folder / "mist.safetensors"
    demo.save(detector, file, kind="mist", options=plan.options)
    shipped, truth = demo.load(file), make_scenes(test, seed=TEST_SEED)
    found = dict(detect(shipped, truth, progress="test"))
    notes = {
        "crop_accuracy": round(accuracy, 3),
        "plan": asdict(plan),
        "seconds": round(seconds),  # of the processor
        "threads": torch.get_num_threads(),
        "test_scenes": test,
        "torch": torch.__version__,
        "AP50": {key: round(value, 3) for key, value in voc(found, truth).items()},
        "failures": failures(found, truth),
    }
    demo.save(shipped, file, kind="mist", options=plan.options, notes=notes)
    return notes


def main() -> None:
    """Make it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=demo.FOLDER, help="where to write it")
    print(json.dumps(make(parser.parse_args().folder), indent=1))


if __name__ == "__main__":
    main()
