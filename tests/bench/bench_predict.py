"""Scoring a pool of 500 scenes against the bare detector's forward over the same tensors.

In one thread; processor time, because machines are busy.
"""

import statistics
import time

import torch

from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.predict import BATCH, detect

SCENES = 500


def test_scoring_a_pool(benchmark) -> None:
    torch.set_num_threads(1)
    pool = make_scenes(SCENES, seed=900_000)  # drawn once, kept as uint8
    detector = load_demo("faster_rcnn")
    tensors = [pool.image(image_id) for image_id in pool.ids]

    def bare() -> float:
        begun = time.process_time()
        for start in range(0, SCENES, BATCH):
            detector.detect(tensors[start : start + BATCH])
        return time.process_time() - begun

    def scored() -> float:
        begun = time.process_time()
        for _ in detect(detector, pool, progress=False):
            pass
        return time.process_time() - begun

    bare()
    pairs = [(scored(), bare()) for _ in range(3)]  # side by side
    benchmark.pedantic(scored, rounds=1)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    benchmark.extra_info["ratio to the bare forward"] = round(ratio, 3)
    print(f"\nscoring / bare forward: {ratio:.3f} (aim <= 1.1)")
