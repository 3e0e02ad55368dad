"""Search region proposals of a whole set: data_scripts/proposals.py <COCO file> --processes 8.

What is found is kept in `_runs/proposals`, where the notebooks look for it, and is not searched
again: stop and start it at will. Needs OpenCV, the extra `proposals`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from almining.data.fetch.propose import propose
from almining.data.proposals import Proposer, SelectiveSearch
from almining.data.readers import read_coco
from almining.lab import CACHE, coco_images


def main(proposer: Proposer | None = None) -> None:
    """Search, and say how fast that was."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("json", type=Path, help="what voc.py, coco.py and the others write")
    parser.add_argument(
        "--images", type=Path, help="their folder. Default: `images` beside the file"
    )
    parser.add_argument("--folder", type=Path, default=CACHE, help="where proposals are kept")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mode", choices=["fast", "quality"], default="fast")
    parser.add_argument("--limit", type=int, help="the most proposals an image")
    asked = parser.parse_args()
    pool = read_coco(asked.json, asked.images or coco_images(asked.json), strict=False)
    search = proposer or SelectiveSearch(mode=asked.mode, limit=asked.limit)
    begun = time.perf_counter()
    made = propose(pool, search, asked.folder, processes=asked.processes)
    seconds = time.perf_counter() - begun
    rate = made.searched / seconds / asked.processes
    print(f"{made.images} images, {made.boxes} proposals in {asked.folder}")
    print(f"{made.searched} searched in {seconds:.0f} s: {rate:.2f} images a second and process")
    for words in made.broken:
        print(f"left out: {words}")


if __name__ == "__main__":
    main()
