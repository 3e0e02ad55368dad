"""Train on photographs of which half of the boxes are erased: plainly, and by Co-mining.

    python data_scripts/comining_real.py <root of a data set in VOC's layout>

A small RetinaNet learns from scratch, several times. Its detections on the images it learned from
are then held against all the boxes that people drew: what of the erased ones it finds, and what it
finds that nobody drew, which on data that is itself sparse need not be wrong. Writes
`notebooks/results/comining_real.json` and a table beside it; photographs are drawn only where
`--picture` says, never into the project.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import almining as al
from almining.claims import interval
from almining.data.pool import Pool
from almining.data.readers import read_voc
from almining.data.regimes import Level, sparse
from almining.detectors.onestage import retinanet
from almining.papers import comining
from almining.papers.comining import Config, rivals
from data_scripts.measure import RESULTS, Run, compare, measure, write

PAPER = f"comining, {Config().min_score}"  # the paper's threshold; the others have the toy's
MAKERS = {"original": rivals.original, "comining": comining.recipe, PAPER: comining.recipe}
HEADS = {
    "AP50": "AP50 on other images",
    "erased": "boxes erased",
    "mined": "found beside those left",
    "precision": "of them erased ones",
    "recall": "erased ones found",
    "nobody": "found that nobody drew",
}
ARMS = (PAPER, "comining", "original")


def one_run(
    arm: str,
    seed: int,
    *,
    root: Path,
    level: Level,
    steps: int,
    size: int,
    device: str,
    images: int | None = None,
    picture: Path | None = None,
    **_: Any,
) -> Run:
    """Train one arm once, and hold what it finds against what is drawn.

    Args:
        arm: one of `MAKERS`.
        seed: decides which boxes are erased, the first weights and training.
        root: of the data set.
        level: how many boxes are erased.
        steps: of 4 images.
        size: the shorter side of an image, in pixels, as the detector sees it.
        device: where to compute.
        images: at most so many to learn from and to measure on.
        picture: a PNG of what nobody drew.
    """
    hidden = read_voc(root, "trainval", strict=False)
    test = read_voc(root, "test", classes=hidden.classes, strict=False)
    hidden, test = (pool.subset(pool.ids[:images]) for pool in (hidden, test))
    pool = sparse(hidden, level, seed=seed)
    score = (Config() if arm == PAPER else Config.toy()).min_score
    config = replace(Config.toy(), steps=steps, min_score=score)
    history = al.cycle.run(
        MAKERS[arm](config),
        retinanet(pool.classes, min_size=size, seed=seed).to(device),
        pool,
        oracle=None,
        budget=1,
        cycles=1,
        seed=seed,
        test=test,
        progress=False,
    )
    if history.interrupted:
        raise KeyboardInterrupt(history.interrupted)
    drawn = mined(history.detector, pool, config)
    found = al.evaluate.mined(drawn, hidden)
    beside = mined(history.detector, hidden, config)
    new = {i: sum(name != "human" for name in beside.target(i).origin) for i in beside.ids}
    if picture is not None:
        most = sorted(new, key=lambda image_id: -new[image_id])[:12]
        figure = al.draw.sheet(beside, ids=most, columns=4, title="dashed: what nobody drew")
        picture.write_bytes(al.draw.png(figure))
    erased = sum(len(hidden.target(i)) - len(pool.target(i)) for i in pool.ids)
    run: Run = {"AP50": history.rows[-1].metrics["AP50"], "erased": erased}
    run |= {name: found[name] for name in ("mined", "precision", "recall")}
    run |= {"nobody": sum(new.values())}
    return {name: None if value != value else value for name, value in run.items()}


def mined(detector: Any, pool: Pool, config: Config) -> Pool:
    """Return a pool with what the detector finds beside the boxes that are known."""
    new = {}
    for image_id, found in al.predict.detect(detector, pool, progress=False):
        known = replace(pool.target(image_id), tags=None, absent=None, complete=False)
        (new[image_id],) = comining.cogenerate_many(
            [found.to("cpu")], [known], min_score=config.min_score, class_aware=config.class_aware
        )
    return pool.updated(new, cycle=pool.cycle)


def table(content: Mapping[str, Any]) -> str:
    """Return the means over seeds as Markdown, one row for each arm."""
    lines = [f"| trained by | {' | '.join(HEADS.values())} |", "|---" * (len(HEADS) + 1) + "|"]
    for arm in ARMS:
        runs = [run for run in content["runs"] if run["arm"] == arm]
        cells = []
        for name in HEADS:
            values = [run[name] for run in runs if run[name] is not None]
            mean = interval(values)[0] if values else None
            whole = name in ("erased", "mined", "nobody")
            cells.append("none" if mean is None else f"{mean:.0f}" if whole else f"{mean:.3f}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for row in (row for row in content["claims"] if row["seeds"]):
        ends = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
        said = f"AP50, {' less '.join(row['arms'])}: {row['mean']:+.3f}{ends}, {row['verdict']}"
        lines += ["", said]
    return "\n".join(lines)


def main() -> None:
    """Train, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the root of a data set in VOC's layout")
    parser.add_argument("--level", default="hard", choices=["easy", "hard", "extreme", "miss50"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--images", type=int, help="at most so many to learn from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, help="a PNG; may show what is not yours")
    asked = parser.parse_args()
    file = asked.results / "comining_real.json"
    call = partial(one_run, root=asked.root, picture=asked.picture)
    options = {name: getattr(asked, name) for name in ("level", "steps", "size", "images")}
    options |= {"data": asked.root.name, "device": asked.device}
    jobs = [(arm, seed) for seed in asked.seeds for arm in reversed(ARMS)]
    runs = measure(call, jobs, file, **options)
    command = f"python data_scripts/comining_real.py {asked.root.name}"
    rows = []
    for arm in ARMS[:-1]:
        text = f"{arm} is above plain training on {asked.root.name}, {asked.level}"
        pair = (arm, "original")
        rows.append(compare(text, "not reported", pair, runs, lambda r: float(r["AP50"]), command))
    content = {"options": options, "claims": rows, "runs": runs}
    write(file, content)
    head = (
        f"# Co-mining on photographs\n\n{asked.root.name}, {asked.level}: a RetinaNet of "
        f"{asked.size} pixels from scratch, {asked.steps} steps of 4 images, mean of "
        f"{len(asked.seeds)} seeds; mined are detections that score {Config.toy().min_score} and "
        f"more, in the row {PAPER} as much as it says, beside the boxes known."
    )
    file.with_suffix(".md").write_text(f"{head}\n\n{table(content)}\n", encoding="utf-8")
    print(table(content))


if __name__ == "__main__":
    main()
