"""Make the small detectors that ship in `almining/demo`, from nothing, on a CPU.

    python data_scripts/make_demos.py                 # all of them
    python data_scripts/make_demos.py faster_rcnn     # one

A backbone first learns to tell drawn single-object crops apart (the toy world's stand-in for
ImageNet: same generator and classes, other scenes), then a Faster R-CNN learns from drawn scenes;
"source", NOTE-RCNN's source detector, of half of the classes only.
Seeds are 1,000,000 and up, test scenes are of seed 900,000: nothing a reader draws, and nothing
measured on, was trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from almining import demo, evaluate
from almining.data.pool import Pool
from almining.data.regimes import source_target
from almining.data.scenes import CLASSES, draw_icon, make_scenes
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.lab import TEST_SEED
from almining.predict import detect
from almining.progress import bar
from almining.rng import forked, generator
from almining.train import TrainConfig, fit

SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo detector is trained on.

    Args:
        scenes: number of drawn scenes.
        train: how long and how.
        classes: those it learns.
    """

    scenes: int
    train: TrainConfig
    classes: tuple[str, ...] = CLASSES


PLANS = {
    "faster_rcnn": Plan(1000, TrainConfig(steps=1300, batch=8, lr=2e-3)),
    "faster_rcnn_start": Plan(20, TrainConfig(steps=120, batch=8, lr=1e-3)),
    "source": Plan(800, TrainConfig(steps=400, batch=8, lr=2e-3), ("car", "taxi", "boat", "plane")),
}


def pretrain(
    detector: FasterRCNN, *, icons: int, steps: int, batch: int = 32, lr: float = 1e-3
) -> float:
    """Teach backbone and box head to classify drawn crops of 64 pixels, in place.

    Args:
        detector: whose backbone and box head learn.
        icons: number of crops.
        steps: gradient steps.
        batch: crops per step.
        lr: peak learning rate.

    Returns:
        The accuracy on 200 crops that were not trained on.
    """
    drawn = [
        draw_icon(SEED, index)
        for index in bar(range(icons + 200), progress=True, name="icons", unit="icon")
    ]
    images = torch.stack([torch.tensor(image).permute(2, 0, 1) for image, _ in drawn])
    labels = torch.tensor([label for _, label in drawn]) - 1
    with forked(SEED, torch.device("cpu")):
        head = nn.Linear(detector.model.roi_heads.box_head.fc7.out_features, len(CLASSES))
    parts = nn.ModuleList([detector.model.backbone, detector.model.roi_heads.box_head, head])
    optimizer = torch.optim.AdamW(parts.parameters(), lr, weight_decay=1e-3)
    schedule = TrainConfig(steps=steps, batch=batch, lr=lr)

    def logits(chosen: torch.Tensor) -> torch.Tensor:
        pixels = (chosen.float() / 255 - 0.5) / 0.25
        whole = [torch.tensor([[0.0, 0, pixels.shape[3], pixels.shape[2]]])] * len(pixels)
        sizes = [(pixels.shape[2], pixels.shape[3])] * len(pixels)
        heads = detector.model.roi_heads
        pooled = heads.box_roi_pool(detector.model.backbone(pixels), whole, sizes)
        found: torch.Tensor = head(heads.box_head(pooled))
        return found

    parts.train()
    for step in bar(range(steps), progress=True, name="pretrain", unit="step"):
        rows = torch.randint(icons, (batch,), generator=generator(SEED, "icons", step))
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule.rate(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(images[rows]), labels[rows]).backward()
        optimizer.step()
    parts.eval()
    with torch.no_grad():
        right = logits(images[icons:]).argmax(dim=1) == labels[icons:]
    return float(right.float().mean())


def measure(detector: Any, scenes: int = 200) -> dict[str, float]:
    """Return VOC AP50, overall and per class, on held-out scenes."""
    test = of_classes(make_scenes(scenes, seed=TEST_SEED), detector.classes)
    return evaluate.voc(dict(detect(detector, test, progress="test")), test)


def of_classes(pool: Pool, classes: Sequence[str]) -> Pool:
    """Return the pool, or of some classes its images that hold one."""
    return pool if set(classes) == set(pool.classes) else source_target(pool, classes)[0]


def make(
    name: str,
    folder: Path,
    *,
    icons: int = 2700,
    icon_steps: int = 400,
    plan: Plan | None = None,
    test: int = 200,
) -> dict[str, Any]:
    """Train one demo detector, measure it, write it, and return what is noted in its header.

    Args:
        name: one of `PLANS`.
        folder: where `<name>.safetensors` is written.
        icons: crops to pretrain on.
        icon_steps: steps of pretraining.
        plan: overrides the plan of that name.
        test: held-out scenes to measure on.
    """
    plan = plan or PLANS[name]
    begun = time.process_time()
    detector = faster_rcnn(plan.classes, seed=SEED)
    accuracy = pretrain(detector, icons=icons, steps=icon_steps)
    pool = of_classes(make_scenes(plan.scenes, seed=SEED), plan.classes)
    fit(detector, pool, plan.train, seed=SEED, progress=name)
    seconds = time.process_time() - begun  # of the processor
    notes = {
        "icon_accuracy": round(accuracy, 3),
        "scenes": plan.scenes,
        "train": asdict(plan.train),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "test_scenes": test,
        "torch": torch.__version__,
    }
    demo.save(detector, folder / f"{name}.safetensors", kind="faster_rcnn")
    shipped = demo.load(folder / f"{name}.safetensors")
    notes["AP50"] = {key: round(value, 3) for key, value in measure(shipped, test).items()}
    demo.save(shipped, folder / f"{name}.safetensors", kind="faster_rcnn", notes=notes)
    return notes


def main() -> None:
    """Make the detectors named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "names", nargs="*", help=f"which of {', '.join(PLANS)} to make; all by default"
    )
    parser.add_argument("--folder", type=Path, default=demo.FOLDER, help="where to write them")
    asked = parser.parse_args()
    for name in asked.names or list(PLANS):
        print(name, json.dumps(make(name, asked.folder), indent=1))


if __name__ == "__main__":
    main()
