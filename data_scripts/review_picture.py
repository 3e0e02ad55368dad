"""Photograph the page of a review in a real JupyterLab, for the README.

    python data_scripts/review_picture.py
    python data_scripts/review_picture.py --theme Dark --file _runs/dark.png

It uses `tests/labs.py`, so it runs in a clone, with Chromium. A run waits in there for a person who
has begun to answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.labs import browsing, open_notebook, serving  # noqa: E402
from tests.review.pages import Review  # noqa: E402

FILE = ROOT / "notebooks" / "results" / "review.png"
CELL = """
import almining as al
from almining.papers import {paper}
lab = al.lab.setup("{detector}", images=60, labelled=20, test=1, data="toy", device="cpu")
review = al.review.Reviewer(lab.pool, run_dir="run", detector=lab.detector)
ask = dict(oracle=review, budget=5, cycles=1, seed=0, run_dir="run", progress=False)
history = al.cycle.run({paper}.{recipe}, lab.detector, lab.pool, **ask)
review
"""
SHOWN = {  # what is asked, by evidence
    "entropy": {"paper": "baselines", "recipe": "entropy_max()", "detector": "faster_rcnn"},
    "pairs": {"paper": "bib", "recipe": "recipe(bib.Config.toy())", "detector": "mist"},
    "pastes": {"paper": "ssm", "recipe": "recipe(ssm.Config.toy())", "detector": "fast_rcnn"},
}
SIZE = {"width": 1280, "height": 1250}


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--theme", choices=("Light", "Dark"), default="Light")
    parser.add_argument("--shown", choices=SHOWN, default="pastes")
    parser.add_argument("--image", type=int, default=2, help="of the batch, from 1")
    parser.add_argument("--keys", nargs="*", default=["ArrowRight", "a"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as lab:
        lab.set("themes", theme=f"JupyterLab {asked.theme}")
        lab.write("picture.ipynb", CELL.format(**SHOWN[asked.shown]))
        with browsing() as browser:
            context = browser.new_context(device_scale_factor=1.5, viewport=SIZE)
            page = open_notebook(context, lab, "picture.ipynb")
            page.set_viewport_size(SIZE)
            page.keyboard.press("Control+b")  # away with the list of files
            review = Review(page, lab.folder / "run").show()
            for _ in range(asked.image - 1):
                review.keys("PageDown")
                page.wait_for_timeout(1000)
            review.shown().keys(*asked.keys).saved()
            page.wait_for_timeout(500)
            asked.file.parent.mkdir(parents=True, exist_ok=True)
            review.root.screenshot(path=str(asked.file))
    print(asked.file)


if __name__ == "__main__":
    main()
