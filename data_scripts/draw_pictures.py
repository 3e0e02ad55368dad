"""Draw the pictures the README shows: `python data_scripts/draw_pictures.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from almining import draw
from almining.data.scenes import make_scenes

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"


def toy_world(seed: int, images: int) -> bytes:
    """Return a PNG of scenes with their boxes.

    Args:
        seed: of the scenes.
        images: how many.
    """
    pool = make_scenes(images, seed=seed)
    return draw.png(draw.grid(pool, pool.ids, columns=6))


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "toy_world.png").write_bytes(toy_world(asked.seed, 12))


if __name__ == "__main__":
    main()
