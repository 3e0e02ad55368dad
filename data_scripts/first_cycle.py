"""Run random against entropy over several seeds, print the table and draw the curve.

    python data_scripts/first_cycle.py --name toy
    python data_scripts/first_cycle.py --name bccd --data voc:<folder> --labelled 10 --budget 20

Results go to `notebooks/results/first_cycle_<name>.json`, one run at a time: what is there is not
run again, so it can be stopped and started. The same ten lines run on anything `lab.setup` reads.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import almining as al
from almining.claims import claim, table
from almining.papers import baselines

RESULTS = Path(__file__).parent.parent / "notebooks" / "results"
ARMS = {"random": baselines.u_random, "entropy": baselines.entropy_max}
# BiB's supplement, VOC07, AP50: entropy-max less u-random, cycle by cycle
PAPER = (0.005, 0.003, 0.003, 0.004, -0.002)


def one_run(arm: str, seed: int, lab: al.lab.Lab, asked: argparse.Namespace) -> dict[str, Any]:
    """Run one strategy with one seed and return its history as JSON.

    Args:
        arm: one of `ARMS`.
        seed: decides the picks and the training.
        lab: pool, truth, test and start, the same for both strategies.
        asked: the command line.
    """
    begun = time.perf_counter()
    history = al.cycle.run(
        ARMS[arm](),
        lab.detector,
        lab.pool,
        oracle=al.label.Simulated(lab.hidden),
        test=lab.test,
        budget=asked.budget,
        cycles=asked.cycles,
        seed=seed,
    )
    found: dict[str, Any] = json.loads(history.to_json())
    return found | {
        "arm": arm,
        "seed": seed,
        "minutes": round((time.perf_counter() - begun) / 60, 2),
    }


def claims(runs: list[dict[str, Any]], command: str, metric: str = "AP50") -> list[dict[str, Any]]:
    """Return one claim per cycle: that entropy is above random, seed by seed.

    Args:
        runs: what `one_run` returned.
        command: what was called.
        metric: which of the metrics.
    """
    rows = []
    for cycle, row in enumerate(runs[0]["rows"][1:], start=1):
        values: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
        for run in runs:
            values[run["arm"]][run["seed"]] = run["rows"][cycle]["metrics"][metric]
        made = claim(
            f"entropy is above random with {row['images']} images labelled",
            paper=f"{PAPER[cycle - 1]:+.3f} on VOC07" if cycle <= len(PAPER) else "not reported",
            arms=("entropy", "random"),
            values=values,
            command=command,
            minutes=round(sum(run["minutes"] for run in runs), 1),
        )
        rows.append(made)
    return rows


def spread(runs: list[dict[str, Any]], metric: str = "AP50") -> str:
    """Return a table of the metric per cycle and strategy: mean and 95% interval over seeds.

    Args:
        runs: what `one_run` returned.
        metric: which of the metrics.
    """
    lines = ["| images | " + " | ".join(ARMS) + " |", "|---|" + "---|" * len(ARMS)]
    for cycle, row in enumerate(runs[0]["rows"]):
        cells = []
        for arm in ARMS:
            values = [run["rows"][cycle]["metrics"][metric] for run in runs if run["arm"] == arm]
            mean, low, high = al.draw.interval(values)
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {row['images']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="toy", help="voc:<root>, coco:<json> or toy")
    parser.add_argument("--name", required=True, help="what to call the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labelled", type=int, default=20, help="images labelled at the start")
    parser.add_argument("--budget", type=int, default=20, help="images asked per cycle")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--test", type=int, help="test images; all of the reader's own by default")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def _lab(seed: int, asked: argparse.Namespace) -> al.lab.Lab:
    return al.lab.setup(
        "faster_rcnn",
        seed=seed,
        labelled=asked.labelled,
        test=asked.test,
        data=asked.data,
        device=asked.device,
    )


def _done(file: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of an earlier call, which must have asked for the same."""
    if not file.exists():
        return []
    before = json.loads(file.read_text())
    differ = {
        key: (before.get(key), header[key])
        for key in ("data", "labelled", "budget", "cycles", "test")
        if before.get(key) != header[key]
    }
    if differ:
        raise SystemExit(f"{file.name} holds other runs: {differ}; choose another --name")
    runs: list[dict[str, Any]] = before["runs"]
    return runs


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is missing, write after each run, print the table, draw the curve."""
    asked = _arguments()
    file = asked.results / f"first_cycle_{asked.name}.json"
    header = {
        "data": asked.data.partition(":")[0],
        "name": asked.name,
        "labelled": asked.labelled,
        "budget": asked.budget,
        "cycles": asked.cycles,
        "test": asked.test,
    }
    source = {"voc": "voc:<root>", "coco": "coco:<json>"}.get(header["data"], "toy")
    command = (
        f"python data_scripts/first_cycle.py --name {asked.name} --data {source} "
        f"--labelled {asked.labelled} --budget {asked.budget} --cycles {asked.cycles} --seeds "
        + " ".join(map(str, asked.seeds))
    )
    runs = _done(file, header)
    for seed in asked.seeds:
        missing = [arm for arm in ARMS if (arm, seed) not in {(r["arm"], r["seed"]) for r in runs}]
        if not missing:
            continue
        lab = _lab(seed, asked)
        for arm in missing:
            runs.append(one_run(arm, seed, lab, asked))
            _write(file, header | {"runs": runs})
            found = [round(row["metrics"]["AP50"], 3) for row in runs[-1]["rows"]]
            print(arm, seed, found, flush=True)
    chosen = [run for run in runs if run["seed"] in asked.seeds]
    _write(file, header | {"claims": claims(chosen, command), "runs": runs})
    print(spread(chosen), table(file), sep="\n\n")
    curves = {arm: [run for run in chosen if run["arm"] == arm] for arm in ARMS}
    file.with_suffix(".png").write_bytes(al.draw.png(al.draw.curve(curves, x="images")))


if __name__ == "__main__":
    main()
