"""Make the one-vs-rest detector that ships, `almining/demo/fast_rcnn.safetensors`, on a CPU.

    python data_scripts/make_ssm.py

It is a start for SSM, not an end. Backbone and fully connected layers are those of the shipped
`faster_rcnn_start`, which learned to name drawn crops, and then some scenes; Fast R-CNN goes on
from there with some tens of labelled scenes. A region of a class weighs more in the loss of its
classifier than any other, so that detections are sure, often wrong, and now and then two classes
claim the same region. What SSM makes of them is counted on scenes of which it was taught none, and
kept in the file's header. No OpenCV, no download.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from almining import demo
from almining.data.pool import Pool
from almining.data.proposals import cached
from almining.data.regimes import unlabelled
from almining.data.scenes import CLASSES, make_scenes
from almining.detectors.sigmoid import SigmoidRCNN, fast_rcnn
from almining.evaluate import voc
from almining.lab import TEST_SEED
from almining.papers import ssm
from almining.predict import detect
from almining.train import TrainConfig, fit
from data_scripts.make_demos import SEED
from data_scripts.ssm_figures import TRUSTED, counts, judged

START = "faster_rcnn_start"
SURE = 0.8  # a region that scores more is
OPTIONS = {"proposer": "segments", "positive_weight": 5.0}
TRAIN = TrainConfig(steps=200, batch=4, lr=1e-3, weight_decay=1e-2)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the detector is trained on, and how.

    Args:
        scenes: number of drawn scenes, all labelled.
        train: how long and how.
        options: what `fast_rcnn` is given.
    """

    scenes: int = 60
    train: TrainConfig = TRAIN
    options: dict[str, Any] = field(default_factory=OPTIONS.copy)


def begin(plan: Plan) -> SigmoidRCNN:
    """Return the detector before training: new heads over layers that have learned."""
    detector = fast_rcnn(CLASSES, seed=SEED, **plan.options)
    known = demo.load_demo(START).model
    detector.backbone.load_state_dict(known.backbone.state_dict())
    detector.head.layers.load_state_dict(known.roi_heads.box_head.state_dict())  # type: ignore[union-attr]
    return detector


def looked(detector: SigmoidRCNN, scenes: Pool) -> dict[str, int]:
    """Count what SSM says of the regions of scenes of which a sixth is labelled.

    Beside what `ssm_figures.counts` does: sure regions that are wrong or loose, and those of them
    that pasting does not trust.
    """
    pool = unlabelled(scenes, keep=len(scenes) // 6, seed=SEED)
    seen = ssm.look(detector, pool, ssm.Config.toy(), seed=SEED, progress="look")
    said = judged(seen, scenes)
    sure = (said.confidence > SURE) & ~said.right
    exposed = sure & (said.consistency < TRUSTED)
    more = {"sure, not right": int(sure.sum()), "of these not trusted": int(exposed.sum())}
    return counts(seen, said) | more


def make(folder: Path, plan: Plan | None = None, *, test: int = 200) -> dict[str, Any]:
    """Train the detector, measure it, write it, and return what is noted in its header.

    Args:
        folder: where `fast_rcnn.safetensors` is written.
        plan: overrides the usual one.
        test: held-out scenes to measure on.
    """
    plan, begun = plan or Plan(), time.process_time()
    detector = begin(plan)
    usual = detector.proposer
    with tempfile.TemporaryDirectory() as place:
        detector.proposer = cached(usual, place)
        pool = make_scenes(plan.scenes, seed=SEED)
        fit(detector, pool, plan.train, seed=SEED, progress="fast_rcnn")
    detector.proposer = usual
    seconds = time.process_time() - begun
    file = folder / "fast_rcnn.safetensors"
    demo.save(detector, file, kind="fast_rcnn", options=plan.options)
    shipped, truth = demo.load(file), make_scenes(test, seed=TEST_SEED)
    found = dict(detect(shipped, truth, progress="test"))
    notes = {
        "start": START,
        "plan": asdict(plan),
        "seconds": round(seconds),  # of the processor
        "threads": torch.get_num_threads(),
        "test_scenes": test,
        "torch": torch.__version__,
        "AP50": {key: round(value, 3) for key, value in voc(found, truth).items()},
        "counts": looked(shipped, truth),
    }
    demo.save(shipped, file, kind="fast_rcnn", options=plan.options, notes=notes)
    return notes


def main() -> None:
    """Make it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=demo.FOLDER, help="where to write it")
    print(json.dumps(make(parser.parse_args().folder), indent=1))


if __name__ == "__main__":
    main()
