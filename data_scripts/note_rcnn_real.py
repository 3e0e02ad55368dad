"""NOTE-RCNN on photographs: a few seed images, tags for the rest, and what is mined of them.

    python data_scripts/note_rcnn_real.py <root of a data set in VOC's layout>

The source detector is the one that ships: it knows drawn cars, taxis, boats and planes, where the
paper's knows half of COCO, so that features and proposals begin far from photographs, and
distillation holds on to what is of no use here. Writes `notebooks/results/note_rcnn_real.json` and
a table beside it; photographs are drawn only where `--picture` says, never into the project.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import almining as al
from almining.cycle import labelled
from almining.data.pool import Pool
from almining.papers.note_rcnn import Config, audit, precision_curve, recipe
from almining.papers.note_rcnn.recipes import mine_pool
from almining.records import Target

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "note_rcnn_real.json"
HEADS = {
    "iteration": "iteration",
    "AP50": "AP50 after it",
    "mined": "boxes mined",
    "precision": "of them right",
    "recall": "objects found",
    "wrong_class": "wrong class",
    "inaccurate": "inaccurate",
    "false_positive": "false positive",
}


def rows_of(history: Any, audits: Mapping[int, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return AP50 and what was mined, by iteration; None for what is not there.

    Args:
        history: of the run.
        audits: by iteration.
    """
    rows = []
    for row in history.rows:
        found = audits.get(row.cycle, {})
        kept = {key: found[key] for key in list(HEADS)[2:] if key in found}
        rows.append({"iteration": row.cycle, **_plain({"AP50": row.metrics["AP50"], **kept})})
    return rows


def curve(detector: Any, pool: Pool, hidden: Pool, config: Config) -> list[dict[str, float | None]]:
    """Return number and precision of what a detector mines at some θ_b.

    Args:
        detector: mines.
        pool: what is known.
        hidden: the truth.
        config: whose θ_b is not followed.
    """
    low = mine_pool(detector, pool, replace(config, min_score=0.0), pool.cycle + 1)
    scores, counts, precision = precision_curve(pool.updated(low, cycle=pool.cycle), hidden)
    found = []
    for bound in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        if kept := int((scores > bound).sum()):
            row = {"boxes": int(counts[kept - 1]), "precision": float(precision[kept - 1])}
            found.append(_plain({"above": bound, **row}))
    return found


def table(content: Mapping[str, Any]) -> str:
    """Return the rows of a result as Markdown."""
    lines = [f"| {' | '.join(HEADS.values())} |", "|---" * len(HEADS) + "|"]
    for row in content["rows"]:
        lines.append(f"| {' | '.join(_cell(row.get(key)) for key in HEADS)} |")
    lines += ["", "| θ_b after the first training | boxes | of them right |", "|---|---|---|"]
    for row in content["curve"]:
        lines.append(f"| {row['above']} | {row['boxes']} | {_cell(row['precision'])} |")
    return "\n".join(lines)


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in figures.items()}


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Train, mine, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the root of a data set in VOC's layout")
    parser.add_argument("--images", type=int, default=60, help="seeds and tagged ones")
    parser.add_argument("--seeds", type=int, default=9, help="seeds of a class, on average")
    parser.add_argument("--test", type=int, default=30, help="to measure AP50 on")
    parser.add_argument("--min-score", type=float, default=Config.toy().min_score, help="θ_b")
    parser.add_argument("--iterations", type=int, default=Config.toy().iterations)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--picture", type=Path, help="a PNG; may show what is not yours")
    asked = parser.parse_args()
    begun = time.process_time()
    options = {"images": asked.images, "test": asked.test, "device": asked.device}
    lab = al.lab.setup("note_rcnn", data=f"voc:{asked.root}", labelled=asked.seeds, **options)
    config = replace(Config.toy(), min_score=asked.min_score, iterations=asked.iterations)
    audits: dict[int, dict[str, float]] = {}

    def watch(iteration: int, found: dict[str, Target]) -> None:
        audits[iteration] = audit(lab.pool.updated(found, cycle=iteration), lab.hidden)

    history = al.cycle.run(
        recipe(config, watch=watch),
        lab.detector,
        lab.pool,
        oracle=None,
        budget=1,
        cycles=config.iterations,
        test=lab.test,
        seed=0,
    )
    if history.interrupted:
        raise KeyboardInterrupt(history.interrupted)
    content: dict[str, Any] = {"data": asked.root.name, "images": len(lab.pool)}
    content |= {"seeds": len(labelled(lab.pool)), "test": len(lab.test)}
    content |= {"min_score": config.min_score, "rows": rows_of(history, audits)}
    content["curve"] = curve(lab.detector, lab.pool, lab.hidden, config)
    content["minutes"] = round((time.process_time() - begun) / 60, 1)  # of the processor
    asked.file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    head = (
        f"# Boxes mined on photographs\n\n{content['seeds']} seed images and "
        f"{len(lab.pool) - content['seeds']} tagged ones of {content['data']}, θ_b = "
        f"{config.min_score}; AP50 on {content['test']} others. The source detector knows drawings."
    )
    asked.file.with_suffix(".md").write_text(f"{head}\n\n{table(content)}\n", encoding="utf-8")
    print(table(content))
    if asked.picture is not None:
        asked.picture.write_bytes(al.draw.png(draw(history.pool)))


def draw(pool: Pool) -> Any:
    """Return a contact sheet of images with mined boxes, dashed; without any, of what there is."""
    found = [i for i in pool.ids if not pool.target(i).complete and len(pool.target(i))]
    return al.draw.sheet(pool, ids=found[:12] or pool.ids[:12], columns=4, title="mined")


if __name__ == "__main__":
    main()
