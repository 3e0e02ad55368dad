"""Measure that the toy world's dials do turn the papers' failures up and down.

    python data_scripts/toy_failures.py

Three instruments: a detector that learned from tags alone (WSDDN's two streams over a frozen
backbone, on selective search), tags told from the background alone, and the supervised demo. One
row per instrument, setting of the dials and seed goes to `notebooks/results/toy_failures.json`, a
table beside it; what is there is not measured again, so it can be stopped and started. Needs
OpenCV, the extra `proposals`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from almining import boxes, demo, evaluate
from almining.claims import claim, table
from almining.data.pool import Pool
from almining.data.proposals import SelectiveSearch
from almining.data.scenes import CLASSES, make_scenes
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.lab import TEST_SEED
from almining.predict import detect
from almining.progress import bar
from almining.records import Target
from almining.rng import forked, generator
from data_scripts.make_demos import SEED, pretrain

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "toy_failures.json"
TRAIN, TEST = 300, 150  # scenes
ALIKE = frozenset(range(1, 6))  # cat, dog, sheep; car, taxi
HEAD = """# What the dials of the toy world do

Made by `python data_scripts/toy_failures.py`; how each figure is measured stands in that file. A
row compares two settings of the dials, seed by seed. `tags` is a detector that learned from image
tags alone, `background` tells tags from scenes whose objects are painted grey, `demo` is the
supervised detector that ships, which grew up with the default dials."""
APART = {"rows": 1.0, "closeness": 0.0}
TIGHT = {"rows": 1.0, "closeness": 1.0}
CLAIMS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    # what is claimed, the instrument, what it reads, more of it with these dials than with those
    ("Tight rows: more often one box around the group", "tags", "group", TIGHT, APART),
    (
        "Shared bodies: animals and cars more often missed",
        "tags",
        "alike_wrong",
        {},
        {"likeness": 0.0},
    ),
    (
        "Shared bodies: more often a part of the animal or car",
        "tags",
        "alike_part",
        {},
        {"likeness": 0.0},
    ),
    (
        "Context: the background alone gives the tags away",
        *("background", "AP", {"context_bias": 1.0}, {"context_bias": 0.0}),
    ),
    ("Dusk costs a detector of the day AP50", "demo", "AP50", {}, {"domain": "dusk"}),
    ("Tight rows cost AP50", "demo", "AP50", APART, TIGHT),
    (
        "Occlusion costs AP50",
        *("demo", "AP50", {"occlusion": 0.0}, {"occlusion": 1.0}),
    ),
    (
        "Truncation costs AP50",
        *("demo", "AP50", {"truncation": 0.0}, {"truncation": 1.0}),
    ),
    ("Clutter costs AP50", "demo", "AP50", {"clutter": 0.0}, {"clutter": 4.0}),
]


class Seen(NamedTuple):
    """What the backbone makes of one scene.

    Args:
        boxes: (n, 4) proposals.
        features: (n, d), a row for each.
        target: the truth.
    """

    boxes: Tensor
    features: Tensor
    target: Target


@cache
def backbone() -> FasterRCNN:
    """Return a network that knows single drawn objects and has met no box."""
    detector = faster_rcnn(CLASSES, seed=SEED)
    pretrain(detector, icons=2700, steps=400)
    return detector.eval()


def look(pool: Pool) -> list[Seen]:
    """Return proposals and features of every scene of a pool."""
    propose, seen = SelectiveSearch(), []
    for image_id in bar(pool.ids, progress=True, name="look", unit="scene"):
        image = pool.image(image_id)
        (found,) = backbone().regions([image], [propose(image)])
        features = found.features
        if features is not None:
            seen.append(Seen(found.boxes, features, pool.target(image_id)))
    return seen


def learn_tags(seen: list[Seen], *, seed: int, epochs: int = 30) -> Callable[[Tensor], Tensor]:
    """Train WSDDN's two linear streams on tags, and return what scores (n, d) features (n, C).

    Args:
        seen: the training scenes; only the classes present are used of their targets.
        seed: of the order and the first weights.
        epochs: passes over the scenes, eight scenes a step.

    Source: WSDDN (Bilen and Vedaldi, CVPR 2016) §3; the backbone stays as it is.
    """
    rows = torch.cat([one.features for one in seen])
    mean, scale = rows.mean(dim=0), rows.std(dim=0) + 1e-3
    with forked(seed, torch.device("cpu")):
        streams = nn.ModuleList(nn.Linear(rows.shape[1], len(CLASSES)) for _ in range(2))
    optimizer = torch.optim.AdamW(streams.parameters(), 3e-3, weight_decay=1e-2)

    def score(features: Tensor) -> Tensor:
        known = (features - mean) / scale
        scores: Tensor = streams[0](known).softmax(dim=1) * streams[1](known).softmax(dim=0)
        return scores

    random = generator(seed, "order")
    for _ in range(epochs):
        for chosen in torch.randperm(len(seen), generator=random).split(8):
            losses = []
            for i in chosen.tolist():
                wanted = torch.zeros(len(CLASSES))
                wanted[[label - 1 for label in seen[i].target.present or ()]] = 1
                tags = score(seen[i].features).sum(dim=0).clamp(1e-6, 1 - 1e-6)
                losses.append(nn.functional.binary_cross_entropy(tags, wanted, reduction="sum"))
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
    return score


def judge(box: Tensor, truth: Tensor) -> str:
    """Say what a box (1, 4) is to the objects of its class (m, 4), as `boxes.judge` does."""
    return boxes.judge(box, truth)[0]


def by_tags(dials: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return the shares of what a tag-trained detector's best box of each class present is."""
    score = learn_tags(look(make_scenes(TRAIN, seed=100 + seed, **dials)), seed=seed)
    counts: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    for one in look(make_scenes(TEST, seed=TEST_SEED + seed, **dials)):
        with torch.no_grad():
            scores = score(one.features)
        for label in one.target.present or ():
            best = one.boxes[scores[:, label - 1].argmax()][None]
            kind = judge(best, one.target.boxes[one.target.labels == label])
            counts[kind] += 1
            alike[kind] += label in ALIKE
    shares = {kind: counts[kind] / counts.total() for kind in ("right", "part", "group", "other")}
    few = max(alike.total(), 1)
    return shares | {"alike_wrong": 1 - alike["right"] / few, "alike_part": alike["part"] / few}


def by_background(dials: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return the mean average precision of tags told from scenes whose objects are painted grey."""
    (x, y), (x_test, y_test) = (
        _backgrounds(make_scenes(count, seed=start + seed, **dials))
        for count, start in ((TRAIN, 100), (TEST, TEST_SEED))
    )
    mean, scale = x.mean(dim=0), x.std(dim=0) + 1e-3
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = (x - mean) / scale @ weights + bias
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
        loss = loss + 1e-2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scores = (x_test - mean) / scale @ weights + bias
    found = [_ap(scores[:, column], y_test[:, column]) for column in range(len(CLASSES))]
    return {"AP": float(torch.stack(found).mean())}


def _backgrounds(pool: Pool) -> tuple[Tensor, Tensor]:
    """Return features (n, d) of scenes without their objects, and their tags (n, C)."""
    features, tags = [], torch.zeros(len(pool), len(CLASSES))
    for row, image_id in enumerate(pool.ids):
        image, target = pool.image(image_id), pool.target(image_id)
        for x1, y1, x2, y2 in target.boxes.int().tolist():
            image[:, y1:y2, x1:x2] = 0.5
        features.append(backbone().embed([image])[0])
        tags[row, [label - 1 for label in target.present or ()]] = 1
    return torch.stack(features), tags


def _ap(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the average precision of scores (n,) for what is wanted (n,), 0 or 1."""
    ranked = wanted[scores.argsort(descending=True, stable=True)]
    precision = ranked.cumsum(dim=0) / torch.arange(1, len(ranked) + 1)
    return (precision * ranked).sum() / ranked.sum().clamp(min=1)


def by_demo(dials: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return AP50 of the shipped supervised detector."""
    test = make_scenes(TEST, seed=TEST_SEED + seed, **dials)
    found = dict(detect(demo.load_demo("faster_rcnn"), test, progress="test"))
    return {"AP50": evaluate.voc(found, test)["AP50"]}


INSTRUMENTS = {"tags": by_tags, "background": by_background, "demo": by_demo}


def settings() -> list[tuple[str, dict[str, Any]]]:
    """Return every instrument with every setting of the dials it reads; the defaults among them."""
    asked: list[tuple[str, dict[str, Any]]] = [(instrument, {}) for instrument in INSTRUMENTS]
    for _, instrument, _, more, less in CLAIMS:
        asked += [(instrument, dials) for dials in (more, less)]
    return [one for position, one in enumerate(asked) if one not in asked[:position]]


def name(dials: Mapping[str, Any]) -> str:
    """Return a setting as text.

    >>> name({"rows": 1.0}), name({})
    ('rows=1.0', 'defaults')
    """
    return ", ".join(f"{dial}={value}" for dial, value in dials.items()) or "defaults"


def claims(runs: list[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    """Return a row for each claim, its arms paired by seed."""
    rows = []
    for text, instrument, reads, more, less in CLAIMS:
        values = {
            name(dials): {
                run["seed"]: run["values"][reads]
                for run in runs
                if run["instrument"] == instrument and run["dials"] == dials
            }
            for dials in (more, less)
        }
        minutes = sum(
            run["minutes"]
            for run in runs
            if run["instrument"] == instrument and run["dials"] in (more, less)
        )
        arms = (name(more), name(less))
        row = claim(
            text, paper="no figure", arms=arms, values=values, command=command, minutes=minutes
        )
        rows.append(row | {"claim": f"{text} ({instrument}: {reads})"})
    return rows


def main() -> None:
    """Measure what is missing, write after each run, print the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    runs: list[dict[str, Any]] = []
    if asked.file.exists():
        runs = json.loads(asked.file.read_text(encoding="utf-8"))["runs"]
    command = "python data_scripts/toy_failures.py --seeds " + " ".join(map(str, asked.seeds))
    for seed in asked.seeds:
        for instrument, dials in settings():
            if (instrument, dials, seed) in [
                (r["instrument"], r["dials"], r["seed"]) for r in runs
            ]:
                continue
            begun = time.perf_counter()
            values = INSTRUMENTS[instrument](dials, seed)
            minutes = round((time.perf_counter() - begun) / 60, 2)
            one = {"instrument": instrument, "dials": dials, "seed": seed, "values": values}
            runs.append(one | {"minutes": minutes})
            asked.file.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")
            said = {key: round(value, 3) for key, value in values.items()}
            print(instrument, name(dials), seed, said, flush=True)
    chosen = [run for run in runs if run["seed"] in asked.seeds]
    found = {"claims": claims(chosen, command), "runs": runs}
    asked.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = f"{HEAD}\n\n{table(asked.file)}\n"
    asked.file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
