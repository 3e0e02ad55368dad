"""Paste real objects into real images, and see what a seam does to their consistency.

    python data_scripts/ssm_real.py <root of a data set in VOC's layout>

No detector that knows photographs ships: new heads learn from some labelled ones, over a backbone
that knows drawings, so most of what is said of an object it has not seen is worth little, and what
it says of those it learned from is learned by heart. Three kinds of region are pasted, under the
class of an object: the object's own box, the box moved by half its width, and a box of that size
where nothing is. Each is pasted with every edge of `paste`, at the same places in the same images.
Writes `notebooks/results/ssm_real.json` and a table beside it; photographs are drawn only where
`--picture` says, never into the project.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import almining as al
from almining.boxes import clip, iou
from almining.data.pool import Pool
from almining.papers import ssm
from almining.papers.ssm.pasting import EDGES, Edge
from almining.pastes import Paste, Trial, pastes
from almining.records import Detections
from almining.rng import generator
from data_scripts.ssm_figures import auc

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "ssm_real.json"
SMALLEST = 24  # an object with a shorter side is left out, in pixels
KINDS = ("right", "loose", "wrong")
HEADS = {"objects": "objects", "edge": "edge", "regions": "of each kind"}
HEADS |= {kind: f"{kind}: consistency" for kind in KINDS} | {"AUC": "AUC, right against the others"}


def regions(pool: Pool, most: int, *, seed: int) -> dict[str, list[ssm.Region]]:
    """Return regions by kind, one of each kind for so many objects, at most one an image.

    Args:
        pool: complete images.
        most: objects.
        seed: draws the places where nothing is.
    """
    found: dict[str, list[ssm.Region]] = {kind: [] for kind in KINDS}
    for image_id in pool.ids:
        target, (_, height, width) = pool.target(image_id), pool.image(image_id).shape
        sides = target.boxes[:, 2:] - target.boxes[:, :2]
        large = (sides.amin(dim=1) >= SMALLEST) & (sides < 0.6 * min(height, width)).all(dim=1)
        rows = (large & ~target.ignore).nonzero()[:, 0]
        if not len(rows) or len(found["right"]) == most:
            continue
        box, label = target.boxes[rows[0]], int(target.labels[rows[0]])
        step = (box[2] - box[0]) / 2 * (1 if box[2] * 2 < width + box[0] else -1)
        loose = clip((box + torch.tensor([1.0, 0, 1, 0]) * step)[None], (height, width))[0]
        draws = torch.rand(50, 2, generator=generator(seed, "nothing", image_id))
        corner = draws * (torch.tensor([width, height]) - sides[rows[0]])
        places = torch.cat([corner, corner + sides[rows[0]]], dim=1)
        free = (iou(places, target.boxes).amax(dim=1) == 0).nonzero()[:, 0]
        if len(free):
            for kind, one in zip(KINDS, (box, loose, places[free[0]]), strict=True):
                found[kind].append(ssm.Region(image_id, one, label))
    return found


def look(
    lab: Any, source: Pool, asked: Mapping[str, Sequence[ssm.Region]], edge: Edge, images: int
) -> dict[str, list[float]]:
    """Return the consistencies by kind; undetermined regions are left out.

    Args:
        lab: whose detector judges the pasted boxes, and whose pool is pasted into.
        source: the images of the regions.
        asked: regions by kind.
        edge: of the pastes.
        images: N.
    """
    values: dict[str, list[float]] = {}
    for kind, some in asked.items():
        crops = [ssm.cut(source.image(one.image_id), one.box) for one in some]
        draws = generator(0, "paste")  # alike for every kind and edge
        options: dict[str, Any] = {"way": "regions", "images": images, "edge": edge}
        found = ssm.validate(lab.detector, lab.pool, some, crops=crops, generator=draws, **options)
        values[kind] = [one.consistency for one in found if one.consistency is not None]
    return values


def row(name: str, edge: str, values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return a row of the table."""
    made: dict[str, Any] = {"objects": name, "edge": edge, "regions": len(values["right"])}
    for kind, some in values.items():
        made[kind] = sum(some) / len(some) if some else None
    others = torch.tensor([*values["loose"], *values["wrong"]])
    return made | {"AUC": auc(torch.tensor([*values["right"]]), others)}


def draw(lab: Any, source: Pool, region: ssm.Region, images: int) -> Figure:
    """Return a region pasted with every edge, an edge a row, and what the detector says there.

    Args:
        lab: as in `look`.
        source: where the region is from.
        region: what is pasted.
        images: into how many images.
    """
    image, trials = source.image(region.image_id), []
    suitable = [i for i in ssm.lacking(lab.pool)[region.label] if i != region.image_id]
    for edge in EDGES:
        draws, made = generator(0, "draw"), []
        for context in ssm.draw_contexts(suitable, images, generator=draws):
            crop = ssm.cut(image, region.box)
            pasted, box = ssm.paste(crop, lab.pool.image(context), generator=draws, edge=edge)
            said: Detections = lab.detector.regions([pasted], [box[None]])[0].to("cpu")
            term = float(ssm.image_terms([said], box[None], region.label)[0])
            made.append(Paste(pasted, box, said, term))
        trials.append(Trial(edge, image, region.box, region.label, made))
    return pastes(trials, classes=lab.pool.classes)


def table(content: Mapping[str, Any]) -> str:
    """Return the rows of a result as Markdown."""
    lines = [f"| {' | '.join(HEADS.values())} |", "|---" * len(HEADS) + "|"]
    for one in content["rows"]:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in map(one.get, HEADS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, paste, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the root of a data set in VOC's layout")
    parser.add_argument("--images", type=int, default=60, help="labelled images to learn from")
    parser.add_argument("--objects", type=int, default=25, help="to paste, of either kind of image")
    parser.add_argument("--contexts", type=int, default=3, help="N, images each is pasted into")
    parser.add_argument("--test", type=int, default=40, help="images not learned from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--picture", type=Path, help="a PNG of pastes; may show what is not yours")
    asked = parser.parse_args()
    begun = time.perf_counter()
    sizes = {"images": asked.images, "labelled": asked.images, "test": asked.test}
    lab = al.lab.setup("fast_rcnn", data=f"voc:{asked.root}", device=asked.device, **sizes)
    found = dict(al.predict.detect(lab.detector, lab.test, progress="test"))
    content: dict[str, Any] = {"data": asked.root.name, "images": len(lab.pool), "rows": []}
    content |= {"test": len(lab.test), "AP50": al.evaluate.voc(found, lab.test)["AP50"]}
    for name, source in (("learned from", lab.hidden), ("not seen", lab.test)):
        some = regions(source, asked.objects, seed=0)
        for edge in EDGES:
            values = look(lab, source, some, edge, asked.contexts)
            content["rows"].append(row(name, edge, values))
        if name == "learned from" and asked.picture is not None and some["right"]:
            picture = draw(lab, source, some["right"][0], asked.contexts)
            asked.picture.write_bytes(al.draw.png(picture))
    content["minutes"] = round((time.perf_counter() - begun) / 60, 1)
    asked.file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = (
        f"# Pasted objects on photographs\n\n{content['data']}: heads learned from "
        f"{content['images']} labelled images, AP50 {content['AP50']:.3f} on {content['test']} "
        "others, so what is said of objects not seen is worth little, and what is said of those "
        "learned from is learned by heart. The same places for every edge; the probability is that "
        "of the pasted box."
    )
    asked.file.with_suffix(".md").write_text(f"{head}\n\n{table(content)}\n", encoding="utf-8")
    print(table(content))


if __name__ == "__main__":
    main()
