"""A small run in a process of its own, which ends itself by kill -9 wherever it is told to.

`python -m tests.resumable '{"run_dir": ..., "cut": ["step", 3]}'` prints what came of the run as
JSON, hashes of everything, unless it is cut.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PLACES = ("query", "asked", "answer", "answered", "step", "save", "close", "closed")


class Cut:
    """Counts how often a place is passed, and kills the process at the one that is named."""

    def __init__(self, place: str, number: int) -> None:
        self.place, self.left = place, number

    def passes(self, place: str) -> None:
        if place == self.place:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def due(self, place: str) -> bool:
        return place == self.place and self.left == 0


def finished(spec: dict[str, Any], timeout: float = 300) -> dict[str, Any]:
    """What a run in a new process printed, or {} where it was cut."""
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "tests.resumable", json.dumps(spec)]
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode == -signal.SIGKILL:
        return {}
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def detector_of(kind: str, classes: tuple[str, ...]) -> Any:
    import torch

    from almining.detectors import wrap
    from almining.detectors.backbones import TinyBackbone
    from almining.detectors.rcnn import faster_rcnn
    from almining.rng import forked
    from tests.fakes import FlatDetector
    from tests.papers.bib.told import small_mist

    if kind == "flat":
        return FlatDetector(classes)
    if kind == "mist":
        return small_mist(classes)
    if kind == "faster_rcnn":
        return faster_rcnn(classes, min_size=64, max_size=64, box_detections_per_img=10)
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNet

    anchors = AnchorGenerator(((16,), (32,), (48,), (64,)), ((1.0,),) * 4)
    with forked(0, torch.device("cpu")):
        backbone = TinyBackbone(widths=(8, 16, 16, 16), channels=16)
        many = len(classes) + 1
        sizes = {"min_size": 64, "max_size": 64, "detections_per_img": 10}
        return wrap(
            RetinaNet(backbone, num_classes=many, anchor_generator=anchors, **sizes), classes
        )


def worlds(kind: str) -> tuple[Any, Any]:
    from almining.data.scenes import make_scenes
    from tests.fakes import flat_pool

    if kind == "flat":
        return flat_pool(20), flat_pool(8, prefix="test")
    return make_scenes(12, seed=5, size=64), make_scenes(4, seed=900_000, size=64)


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Run what `spec` says, cut where it says."""
    from almining import cycle, journal
    from almining.data import regimes
    from almining.digests import digest_texts
    from almining.fingerprints import digest_images, digest_weights
    from almining.label import Simulated
    from almining.ledger import Ledger
    from almining.papers import baselines, bib
    from almining.train import TrainConfig, plain_step

    cut = Cut(*spec.get("cut", ("nowhere", 0)))
    kind = spec.get("detector", "flat")
    hidden, test = worlds(kind)
    config = replace(bib.Config.toy(), min_score=0.0, tagged_only=False)
    makers = {"retinanet": baselines.u_random, "mist": lambda: bib.recipe(config)}
    recipe = makers.get(kind, baselines.entropy_max)()
    query, write = recipe.query, journal.write
    add_requests, close_cycle = Ledger.add_requests, Ledger.close_cycle

    @wraps(query)
    def cut_query(*args: Any, **named: Any) -> Any:
        cut.passes("query")
        return query(*args, **named)

    def cut_step(*args: Any, **named: Any) -> Any:
        cut.passes("step")
        return plain_step(*args, **named)

    def cut_requests(*args: Any) -> None:
        cut.passes("asked")
        add_requests(*args)

    def cut_write(state: Any, path: Path) -> None:
        write(state, path)
        if cut.due("save"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        cut.passes("save")

    def cut_close(self: Ledger, number: int, *args: Any, **named: Any) -> None:
        cut.passes("close")
        close_cycle(self, number, *args, **named)
        cut.passes("closed")

    class Person(Simulated):
        def ask(self, requests: Any, pool: Any) -> Any:
            for answer in Simulated(self.hidden).ask(requests, pool):
                cut.passes("answer")
                yield answer
                cut.passes("answered")

    journal.write, Ledger.add_requests, Ledger.close_cycle = cut_write, cut_requests, cut_close
    history = cycle.run(
        replace(
            recipe, query=cut_query, step=cut_step, train=TrainConfig(steps=4, batch=3, lr=0.01)
        ),
        detector_of(kind, hidden.classes),
        regimes.unlabelled(hidden, keep=4, seed=0, tags=True),
        oracle=Person(hidden),
        budget=3,
        cycles=2,
        seed=1,
        test=test,
        run_dir=spec["run_dir"],
        every_s=spec.get("every_s", 0),
        workers=spec.get("workers", 0),
        progress=False,
    )
    known = digest_images(history.pool, lambda files: {})
    return {
        "weights": digest_weights(history.detector),
        "rows": history.to_json(),
        "known": digest_texts(known.values()),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
