"""Make the one-stage detectors that ship, on a CPU: Co-mining's start and a detector to look at.

    python data_scripts/make_comining.py

`almining/demo/retinanet_start.safetensors` has a backbone that learned to name the one object of
drawn crops, the toy world's stand-in for ImageNet, under heads that learned nothing: what every run
starts from. `retinanet.safetensors` went on from there over sparsely labelled scenes, plainly: its
detections show what co-generation has to choose from. No download.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from almining import demo
from almining.data.regimes import Level, sparse
from almining.data.scenes import CLASSES, make_scenes
from almining.detectors.onestage import RetinaNet, retinanet
from almining.detectors.rcnn import faster_rcnn
from almining.papers.comining import Config, rivals
from almining.train import TrainConfig, fit
from data_scripts.make_demos import SEED, measure, pretrain


@dataclass(frozen=True, slots=True)
class Plan:
    """What the detectors are trained on, and how.

    Args:
        icons: crops with one object.
        icon_steps: gradient steps on them.
        scenes: number of drawn scenes.
        level: how many boxes of them are erased.
        train: training on what is left.
    """

    icons: int = 2700
    icon_steps: int = 400
    scenes: int = 800
    level: Level = "hard"
    train: TrainConfig = field(default_factory=lambda: Config.toy().training())


def make(folder: Path, plan: Plan | None = None, *, test: int = 200) -> dict[str, Any]:
    """Train both detectors, measure and write them; return what is noted in the second's header.

    Args:
        folder: where they are written.
        plan: overrides the usual one.
        test: held-out scenes to measure on.
    """
    plan, begun = plan or Plan(), time.process_time()
    detector, named = retinanet(CLASSES, seed=SEED), faster_rcnn(CLASSES, seed=SEED)
    accuracy = pretrain(named, icons=plan.icons, steps=plan.icon_steps)
    detector.model.backbone.load_state_dict(named.model.backbone.state_dict())
    notes: dict[str, Any] = {
        "icon_accuracy": round(accuracy, 3),
        "icons": plan.icons,
        "seconds": round(time.process_time() - begun),  # of the processor
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    _save(detector, folder / "retinanet_start.safetensors", notes)
    pool = sparse(make_scenes(plan.scenes, seed=SEED), plan.level, seed=SEED)
    step = rivals.original(Config.toy()).step
    fit(detector, pool, plan.train, step=step, seed=SEED, progress="retinanet")
    notes |= {"plan": asdict(plan), "seconds": round(time.process_time() - begun)}
    file = folder / "retinanet.safetensors"
    _save(detector, file, notes)
    found = {key: round(value, 3) for key, value in measure(demo.load(file), test).items()}
    notes |= {"test_scenes": test, "AP50": found}
    _save(detector, file, notes)
    return notes


def _save(detector: RetinaNet, file: Path, notes: dict[str, Any]) -> None:
    demo.save(detector, file, kind="retinanet", notes=notes)


def main() -> None:
    """Make them and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=demo.FOLDER, help="where to write them")
    print(json.dumps(make(parser.parse_args().folder), indent=1))


if __name__ == "__main__":
    main()
