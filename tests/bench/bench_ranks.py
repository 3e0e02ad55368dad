"""Two ranks against one on two cores, one thread each: scoring 200 scenes, 20 training steps.

Start-up is left out; both counts run twice, in turn, and the faster of each counts. Besides the
wall time, which a busy machine spoils, the processor time of the busier rank is compared.
"""

import json
import sys
import time
from pathlib import Path

from almining import ranks
from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.predict import detect
from almining.train import TrainConfig, fit

SCENES, STEPS = 200, 20


def measure(folder: Path) -> None:
    """Score and train as one of the ranks; rank 0 writes how long both took."""
    pool, detector = make_scenes(SCENES, seed=900_000), load_demo("faster_rcnn")
    for image_id in pool.ids:
        pool.image(image_id)  # drawn once, kept as uint8
    with ranks.joined(folder) as here:
        detector.detect([pool.image(pool.ids[0])])
        took = {}
        for name in ("score", "train"):
            ranks.barrier()
            begun, busy = time.monotonic(), time.process_time()
            if name == "score":
                for _ in detect(detector, pool, progress=False):
                    pass
            else:
                fit(detector, pool, TrainConfig(steps=STEPS), seed=0, progress=False)
            busiest = max(ranks.gather(time.process_time() - busy))
            took[name], took[f"{name}, processor"] = time.monotonic() - begun, busiest
    if here.rank == 0:
        (folder / "took.json").write_text(json.dumps(took))


def test_two_ranks_against_one(benchmark, tmp_path) -> None:
    took: dict[int, list[dict[str, float]]] = {1: [], 2: []}

    def run(count: int) -> None:
        ranks.launch(__file__, tmp_path, ranks=count, threads=1, progress=False)
        took[count].append(json.loads((tmp_path / "took.json").read_text()))

    run(1)
    benchmark.pedantic(run, args=(2,), rounds=1)
    run(1)
    run(2)
    for name in took[1][0]:
        one, two = (min(each[name] for each in took[count]) for count in (1, 2))
        benchmark.extra_info[name] = round(one / two, 2)
        print(f"\n{name}: one rank {one:.2f} s, two {two:.2f} s, {one / two:.2f} times as fast")


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
