"""Find box-in-box pairs on photographs: how many, what their boxes are, what proposals miss.

    python data_scripts/bib_real.py <root of a data set in VOC's layout>

New heads learn from the tags of the photographs, over the backbone that ships and knows drawings
only, so the detector is poor and its scores are low: the `--boxes` surest boxes of an image's tags
count, whatever they score. It then looks at its own proposals and at those of selective search,
which needs OpenCV (the extra `proposals`) and is left out without it. Writes
`notebooks/results/bib_real.json` and a table beside it; photographs are drawn only where
`--picture` says, never into the project.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import almining as al
from almining import canvas
from almining.data.pool import Pool
from almining.data.proposals import Proposer, SelectiveSearch, cached, recall
from almining.nested import tell
from almining.papers import bib
from almining.records import Detections

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "bib_real.json"
HEADS = {
    "name": "boxes from",
    "proposals": "proposals an image",
    "recall": "objects proposed, IoU 0.5",
    "tight": "IoU 0.7",
    "boxes": "boxes of tagged classes",
    "right": "of them right",
    "pairs": "pairs",
    "images": "images with pairs",
    "wrong": "pairs with a wrong box",
    "small": "small boxes that are parts",
    "large": "large boxes that are groups",
}


def look(
    lab: Any, pool: Pool, name: str, proposer: Proposer, most: int
) -> tuple[dict[str, Any], dict[str, bib.looking.Found]]:
    """Return what is counted with one kind of proposals, and the pairs of each image.

    Args:
        lab: whose detector looks.
        pool: complete images: their boxes are the truth, their classes the tags.
        name: of the proposals.
        proposer: makes them.
        most: so many boxes of an image count, the surest of the classes in it.
    """
    lab.detector.proposer = proposer
    counts: Counter[str] = Counter()
    pairs: dict[str, Any] = {}
    for image_id, one in al.predict.detect(lab.detector, pool, progress=name):
        found, target = one.to("cpu"), pool.target(image_id)
        tagged = torch.isin(found.labels, torch.tensor(sorted(target.present or ())))
        found = found.select(tagged.nonzero()[:most, 0])
        nested, kinds = bib.find_pairs(found), tell(found, target)
        counts.update(boxes=len(found), right=kinds.count("right"), pairs=len(nested))
        for small, large in nested.tolist():
            both = (kinds[small], kinds[large])
            counts.update(wrong=both != ("right", "right"))
            counts.update(small=both[0] == "part", large=both[1] == "group")
        if len(nested):
            pairs[image_id] = (found, nested)
    loose, tight = (recall(pool, proposer, iou=iou) for iou in (0.5, 0.7))
    row = {"name": name, "proposals": loose["proposals"], "recall": loose["recall"]}
    row |= {"tight": tight["recall"], "boxes": counts["boxes"], "pairs": counts["pairs"]}
    row["right"] = _share(counts["right"], counts["boxes"])
    row |= {key: _share(counts[key], counts["pairs"]) for key in ("wrong", "small", "large")}
    return row | {"images": len(pairs)}, pairs


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None  # JSON has no NaN


def draw(pool: Pool, pairs: Mapping[str, tuple[Detections, torch.Tensor]], most: int) -> Figure:
    """Return the surest pairs of so many images, parts and groups told apart."""
    chosen = list(pairs)[:most]
    if not chosen:
        return al.draw.blank("no pairs")
    fig = canvas.figure(10, 3.2 * math.ceil(len(chosen) / 3))
    for number, image_id in enumerate(chosen):
        ax = fig.add_subplot(math.ceil(len(chosen) / 3), 3, number + 1)
        found, rows = pairs[image_id]
        truth: Any = {"classes": pool.classes, "truth": pool.target(image_id)}
        al.draw.pairs(pool.image(image_id), found, rows, ax=ax, limit=2, title=image_id, **truth)
    return canvas.settled(*fig.axes)


def table(content: Mapping[str, Any]) -> str:
    """Return the rows of a result as Markdown."""
    lines = [f"| {' | '.join(HEADS.values())} |", "|---" * len(HEADS) + "|"]
    for row in content["rows"]:
        cells = [_cell(row[key], key) for key in HEADS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any, key: str) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if key == "proposals" else f"{value:.3f}"
    return "none" if value is None else str(value)


def main() -> None:
    """Train, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the root of a data set in VOC's layout")
    parser.add_argument("--images", type=int, default=40, help="to learn tags from")
    parser.add_argument("--look", type=int, default=24, help="of them to look at for pairs")
    parser.add_argument("--test", type=int, default=20, help="to measure AP50 on")
    parser.add_argument("--boxes", type=int, default=20, help="of an image that count")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--picture", type=Path, help="a PNG of pairs; may show what is not yours")
    asked = parser.parse_args()
    begun = time.perf_counter()
    options = {"images": asked.images, "test": asked.test, "device": asked.device}
    lab = al.lab.setup("mist", data=f"voc:{asked.root}", **options)
    methods = {"segments, the shipped detector's own": lab.detector.proposer}
    if importlib.util.find_spec("cv2"):
        methods["selective search"] = cached(SelectiveSearch(), al.lab.CACHE)
    else:
        print("OpenCV is missing: no boxes of selective search (pip install almining[proposals])")
    found = dict(al.predict.detect(lab.detector, lab.test, progress="test"))
    pool = lab.hidden.subset(lab.hidden.ids[: asked.look])
    looked = {name: look(lab, pool, name, made, asked.boxes) for name, made in methods.items()}
    content: dict[str, Any] = {"data": asked.root.name, "most": asked.boxes}
    content |= {"images": len(lab.pool), "looked": len(pool), "test": len(lab.test)}
    content["AP50"] = al.evaluate.voc(found, lab.test)["AP50"]
    content["rows"] = [row for row, _ in looked.values()]
    content["minutes"] = round((time.perf_counter() - begun) / 60, 1)
    asked.file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = (
        f"# Box-in-box pairs on photographs\n\n{content['looked']} images of {content['data']}, "
        f"the {asked.boxes} surest boxes of each; tags of {content['images']} images were "
        f"learned from, AP50 {content['AP50']:.3f} on {content['test']} others."
    )
    asked.file.with_suffix(".md").write_text(f"{head}\n\n{table(content)}\n", encoding="utf-8")
    print(table(content))
    if asked.picture is not None:
        asked.picture.write_bytes(al.draw.png(draw(pool, looked[list(looked)[-1]][1], 6)))


if __name__ == "__main__":
    main()
