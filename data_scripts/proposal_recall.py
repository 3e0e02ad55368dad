"""Measure how many objects the region proposals find, on toy scenes and on images of one's own.

    python data_scripts/proposal_recall.py --voc <root>

Writes a table to `notebooks/results/proposals.md`. Selective search needs OpenCV (`proposals`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from almining.data.pool import Pool
from almining.data.proposals import Grid, Proposer, SelectiveSearch, cached, recall
from almining.data.readers import read_voc
from almining.data.scenes import make_scenes
from almining.lab import TEST_SEED
from almining.sheets import spread

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "proposals.md"
METHODS: dict[str, Proposer] = {
    "grid": Grid(),
    "selective search, fast": SelectiveSearch(),
}
ENLARGED: dict[str, Proposer] = {
    "selective search, fast, on twice the size": SelectiveSearch(enlarge=2)
}


def rows(name: str, pool: Pool, methods: Mapping[str, Proposer]) -> list[str]:
    """Return a row of the table for each method: what it finds in the images of a pool.

    Args:
        name: what the images are called.
        pool: complete images.
        methods: what proposes boxes, by name.
    """
    lines = []
    for method, proposer in methods.items():
        with tempfile.TemporaryDirectory() as folder:
            known_boxes = cached(proposer, folder)
            begun = time.process_time()
            loose = recall(pool, known_boxes, iou=0.5)
            each = 1000 * (time.process_time() - begun) / len(pool)
            tight = recall(pool, known_boxes, iou=0.7)
        classes = [value for key, value in loose.items() if key.startswith("recall/")]
        worst = min(value for value in classes if value == value)  # a class without boxes has NaN
        cells = [
            *(f"{name}: {len(pool)} images", method, f"{loose['proposals']:.0f}"),
            *(f"{loose['recall']:.3f}", f"{worst:.3f}", f"{tight['recall']:.3f}"),
            f"{each:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(pools: Mapping[str, Pool], methods: dict[str, Proposer]) -> str:
    """Return the Markdown table of every method on every pool."""
    heads = ["images", "method", "boxes an image", "recall at IoU 0.5", "its worst class"]
    heads += ["recall at IoU 0.7", "processor ms an image, loading included"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, pool in pools.items():
        small = max(pool.image(pool.ids[0]).shape) <= 256  # enlarging others takes many seconds
        lines += rows(name, pool, methods | ENLARGED if small else methods)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=100, help="of each set")
    parser.add_argument("--voc", type=Path, help="the root of a data set in VOC's layout")
    parser.add_argument("--split", default="train")
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    pools = {"toy scenes": make_scenes(asked.images, seed=TEST_SEED)}
    if asked.voc is not None:
        whole = read_voc(asked.voc, asked.split)
        pools[asked.voc.name] = whole.subset(spread(whole.ids, asked.images))
    found = table(pools, METHODS)
    asked.file.write_text(f"# Region proposals\n\n{found}", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
