"""Measure what BiB claims, on the toy world, and write `notebooks/results/bib.json`.

    python data_scripts/claims_bib.py                    # the headlines, about an hour
    python data_scripts/claims_bib.py --all              # every claim; many hours on a CPU

What is there is not run again. A claim that lacks runs stands there as `not run`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

import almining as al
from almining.boxes import area, iou
from almining.data.pool import Pool
from almining.data.regimes import tags_only
from almining.data.scenes import make_scenes
from almining.lab import TEST_SEED
from almining.papers import baselines, bib
from almining.records import Detections, Target
from almining.rng import generator
from data_scripts.measure import Run, command_line, compare

CYCLES, BUDGET, IMAGES, TEST = 5, 10, 240, 200
RATIOS = (2.0, 3.0, 4.0)  # μ of claim (f)
TOY = bib.Config.toy()
CLOSE = 0.01  # AP50: "as good as equal"; the paper's μ differ by less than 0.005
Arm = tuple[Callable[[], Any], dict[str, Any]]  # a recipe, and what differs from the usual

ARMS: dict[str, Arm] = {
    "u_random": (lambda: baselines.u_random(TOY), {}),
    "bib": (lambda: bib.recipe(TOY), {}),
    "u_random, plain sampling": (lambda: baselines.u_random(TOY), {"hardest": False}),
    "bib, plain sampling": (lambda: bib.recipe(TOY), {"hardest": False}),
    "u_bib": (lambda: bib.u_bib(TOY), {}),
    "u_plus_bib": (lambda: bib.u_plus_bib(TOY), {}),
    "bib, ratio 2": (lambda: bib.recipe(replace(TOY, min_ratio=2.0)), {}),
    "bib, ratio 4": (lambda: bib.recipe(replace(TOY, min_ratio=4.0)), {}),
    "kmeans_regions": (lambda: bib.rivals.kmeans_regions(TOY), {}),
    "kmeans_images": (lambda: bib.rivals.kmeans_images(TOY), {}),
    "b_random": (lambda: baselines.b_random(TOY), {}),
    "core_set": (lambda: baselines.core_set(TOY), {}),
    "core_set_ent": (lambda: baselines.core_set_ent(TOY), {}),
    "entropy_max": (lambda: baselines.entropy_max(TOY), {}),
    "entropy_sum": (lambda: baselines.entropy_sum(TOY), {}),
    "loss": (lambda: bib.rivals.loss(TOY), {}),
    "loss_mil": (lambda: bib.rivals.loss(TOY, term="mil"), {}),
    "loss_1": (lambda: bib.rivals.loss(TOY, term="1"), {}),
    "loss_2": (lambda: bib.rivals.loss(TOY, term="2"), {}),
    "loss_sum": (lambda: bib.rivals.loss(TOY, term="sum"), {}),
}
# as in the paper's tables on COCO
ARMS |= {f"{arm}, dense": (make, more | {"density": "coco"}) for arm, (make, more) in ARMS.items()}
START = "start"  # no cycle: what the detector that learned from tags says
HEADLINES = (START, "u_random", "bib")
# u-random and BiB on VOC07 (Table 4), by cycle
PAPER = ((56.5, 58.5), (58.4, 60.8), (59.3, 61.9), (60.2, 62.9), (61.1, 63.5))


def one_run(arm: str, seed: int, *, device: str) -> Run:
    """Run one strategy, or look at the start alone.

    Args:
        arm: one of `ARMS`, or `START`.
        seed: decides scenes, picks and training.
        device: where to compute.
    """
    warnings.filterwarnings("ignore", "only .* images hold pairs")
    make, changes = ARMS.get(arm, (None, {}))
    density = changes.get("density", "voc")
    hidden = make_scenes(IMAGES, seed=seed, density=density)
    test = make_scenes(TEST, seed=TEST_SEED, density=density)
    detector = al.lab.setup("mist", images=1, test=1, data="toy", device=device).detector
    detector.rules = replace(detector.rules, hardest=changes.get("hardest", True))
    if make is None:
        return looked(detector, hidden, seed)
    history = al.cycle.run(
        make(),
        detector,
        tags_only(hidden),
        oracle=al.label.Simulated(hidden),
        test=test,
        metrics=metrics,
        budget=BUDGET,
        cycles=CYCLES,
        seed=seed,
        progress=False,
    )
    if history.interrupted:
        raise KeyboardInterrupt(history.interrupted)
    rows = json.loads(history.to_json())["rows"]
    for row in rows:
        del row["picked"]
    return {"rows": rows}


def metrics(found: Mapping[str, Detections], test: Pool) -> dict[str, float]:
    """Return VOC AP and the number of pairs on the test images, at the usual score, by μ."""
    return al.evaluate.voc(found, test) | {
        f"pairs, ratio {ratio:g}": float(sum(len(p) for p in pairs_of(found, test, ratio).values()))
        for ratio in RATIOS
    }


def pairs_of(
    found: Mapping[str, Detections], pool: Pool, ratio: float = TOY.min_ratio
) -> dict[str, torch.Tensor]:
    """Return the pairs of each image, of classes that are in it."""
    more = {"min_containment": TOY.min_containment, "min_score": TOY.min_score}
    return {
        image_id: bib.find_pairs(one, min_ratio=ratio, tags=pool.target(image_id).present, **more)
        for image_id, one in found.items()
    }


def looked(detector: Any, hidden: Pool, seed: int) -> Run:
    """Return how often pairs, and other pairs of their area ratios, hold a wrong box.

    Args:
        detector: what finds the boxes.
        hidden: the truth.
        seed: draws the other pairs.
    """
    raw = deepcopy(detector)
    raw.rules = replace(raw.rules, nms=1.0, most=10_000)
    found, before = (
        {
            image_id: one.to("cpu")
            for image_id, one in al.predict.detect(each, hidden, progress=False)
        }
        for each in (detector, raw)
    )
    counts = {
        f"pairs, ratio {ratio:g}{name}": sum(len(p) for p in pairs_of(all_, hidden, ratio).values())
        for ratio in RATIOS
        for name, all_ in (("", found), (" before NMS", before))
    }
    return {"counts": counts} | {
        name: wrong_shares(found, hidden, rule, seed)
        for name, rule in (("one to one", matched), ("any overlap", overlapping))
    }


def wrong_shares(
    found: Mapping[str, Detections],
    hidden: Pool,
    right: Callable[[Detections, Target], torch.Tensor],
    seed: int,
) -> dict[str, float]:
    """Return the share with a wrong box of box-in-box pairs, and of others of the same area ratio.

    The others are detections of one class in one image, too, above the same score; for each pair
    one of the ten closest in area ratio is drawn.

    Args:
        found: detections.
        hidden: the truth.
        right: tells (n,) which detections are right.
        seed: draws.
    """
    pairs: list[tuple[float, bool]] = []  # area ratio, and whether a box is wrong
    others: list[tuple[float, bool]] = []
    for image_id, nested in pairs_of(found, hidden).items():
        one, target = found[image_id], hidden.target(image_id)
        good, areas = right(one, target), area(one.boxes)
        sure = one.scores > TOY.min_score
        same = (one.labels[:, None] == one.labels) & sure[:, None] & sure
        ratio = areas / areas[:, None].clamp(min=1e-9)
        is_pair = torch.zeros_like(same)
        is_pair[nested[:, 0], nested[:, 1]] = True
        present = torch.isin(one.labels, target.labels)
        control = same & ~is_pair & (ratio >= TOY.min_ratio) & present & present[:, None]
        for chosen, into in ((is_pair, pairs), (control, others)):
            into += [(float(ratio[i, j]), not bool(good[i] & good[j])) for i, j in chosen.nonzero()]
    draws, drawn = generator(seed, "control"), []
    ratios = torch.tensor([ratio for ratio, _ in others])
    for wanted, _ in pairs:
        near = (ratios.log() - torch.tensor(wanted).log()).abs().argsort(stable=True)[:10]
        drawn.append(others[int(near[torch.randint(len(near), (), generator=draws)])][1])
    return {
        "pairs": sum(wrong for _, wrong in pairs) / len(pairs),
        "control": sum(drawn) / len(drawn),
        "number": len(pairs),
        "others": len(others),
    }


def matched(found: Detections, target: Target) -> torch.Tensor:
    """Tell (n,) which detections are right when each object accounts for one: the best scored."""
    free, right = torch.ones(len(target)).bool(), torch.zeros(len(found)).bool()
    overlap = iou(found.boxes, target.boxes)
    for i in found.scores.argsort(descending=True, stable=True).tolist():
        fits = overlap[i] * (target.labels == found.labels[i]) * free
        if len(fits) and float(fits.max()) >= 0.5:
            right[i], free[int(fits.argmax())] = True, False
    return right


def overlapping(found: Detections, target: Target) -> torch.Tensor:
    """Tell (n,) which detections overlap any object of their class by half or more."""
    same = found.labels[:, None] == target.labels
    return ((iou(found.boxes, target.boxes) >= 0.5) & same).any(dim=1)


def ap(run: Run, cycle: int | None = None) -> float:
    """Return AP50 after a cycle, or the mean over all cycles."""
    rows = run["rows"][1:] if cycle is None else [run["rows"][cycle]]
    return sum(float(row["metrics"]["AP50"]) for row in rows) / len(rows)


def at_equal_boxes(runs: Sequence[Run]) -> list[Run]:
    """Return by seed BiB's mean AP50, and random's where as many boxes are drawn, on its line.

    BiB asks for crowded images, which cost a person more. Cycles in which it has drawn more boxes
    than random ever has are left out.
    """
    found = []
    for one in (run for run in runs if run["arm"] == "bib"):
        for other in (r for r in runs if r["arm"] == "u_random" and r["seed"] == one["seed"]):
            drawn = [row["boxes"] for row in other["rows"]]
            line = [row["metrics"]["AP50"] for row in other["rows"]]
            rows = [row for row in one["rows"][1:] if row["boxes"] <= drawn[-1]]
            pairs = [
                (row["metrics"]["AP50"], float(np.interp(row["boxes"], drawn, line)))
                for row in rows
            ]
            if pairs:
                means = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
                minutes = one["minutes"] + other["minutes"]
                named = dict(zip(("bib", "u_random"), means, strict=True))
                found.append({"seed": one["seed"], "minutes": minutes, **named})
    return found


def claims(runs: Sequence[Run], command: str) -> list[dict[str, Any]]:
    """Return the rows of all claims."""
    first = [run for run in runs if run["arm"] == START]
    rows = []
    for rule in ("one to one", "any overlap"):
        for kind, paper in (("control", "not reported"), ("98.6%", "0.986 (Appendix 2.5)")):
            text = f"(a) box-in-box pairs hold a wrong box ({rule})"
            than = "more often than other pairs" if kind == "control" else "at least as often"
            other = partial(_control if kind == "control" else _paper, rule)
            made = compare(
                f"{text}, {than}", paper, ("pairs", kind), first, partial(_wrong, rule), command,
                other=other,
            )  # fmt: skip
            rows.append(made)
    against = partial(compare, runs=runs, command=command)
    one = [run for run in runs if run["arm"] == "bib"]
    rows.append(
        compare(
            "(b) pairs on the test images become fewer, from the start to the last cycle",
            "8801 to 5170",
            ("start", f"cycle {CYCLES}"),
            one,
            partial(_count, 0),
            command,
            other=partial(_count, -1),
        )
    )
    for cycle, (low, high) in enumerate(PAPER, start=1):
        rows.append(
            against(
                f"(c) BiB is above random with {cycle * BUDGET} images",
                f"{(high - low) / 100:+.3f}",
                ("bib", "u_random"),
                figure=partial(ap, cycle=cycle),
            )
        )
    rows.append(
        compare(
            "(c) BiB is above random with as many boxes drawn, mean of the cycles",
            "not reported",
            ("bib", "u_random"),
            at_equal_boxes(runs),
            lambda run: float(run["bib"]),
            command,
            other=lambda run: float(run["u_random"]),
        )
    )
    mean = partial(against, figure=ap)
    rows.append(mean("(c) BiB is above random, mean of the cycles", "+0.024", ("bib", "u_random")))
    helps = {
        "u_random": "+0.004",
        "bib": "+0.007",
        "u_random, dense": "+0.002 (AP50, COCO)",
        "bib, dense": "-0.000 (AP50, COCO)",
    }
    for arm, paper in helps.items():
        name, _, where = arm.partition(",")
        plain = f"{name}, plain sampling" + (where and f",{where}")
        rows.append(mean(f"(d) the hardest negatives help {arm}", paper, (arm, plain)))
    rows += [
        mean("(e) diversity matters: BiB is above U(BiB)", "+0.015", ("bib", "u_bib")),
        mean("(e) pairs matter: U(BiB) is above random", "+0.009", ("u_bib", "u_random")),
        mean("(e) U+BiB is above U(BiB)", "+0.004", ("u_plus_bib", "u_bib")),
        mean("(f) ratio 2 is as good as 3", "-0.003", ("bib, ratio 2", "bib"), within=CLOSE),
        mean("(f) ratio 4 is as good as 3", "-0.002", ("bib, ratio 4", "bib"), within=CLOSE),
        mean(
            "(g) k-means++ on confident regions is as good as BiB",
            "-0.003",
            ("kmeans_regions", "bib"),
            within=CLOSE,
        ),
        mean(
            "(g) k-means++ on image features is as good as random",
            "-0.001",
            ("kmeans_images", "u_random"),
            within=CLOSE,
        ),
        mean("(h) loss is above random where objects are few", "+0.021", ("loss", "u_random")),
        mean(
            "(h) loss is below random where they are many",
            "+0.020 (AP50, COCO)",
            ("u_random, dense", "loss, dense"),
        ),
        mean(
            "(h) entropy is below random where they are many",
            "+0.021 (AP50, COCO)",
            ("u_random, dense", "entropy_max, dense"),
        ),
        mean(
            "(h) BiB is above random where they are many, too",
            "+0.014 (AP50, COCO)",
            ("bib, dense", "u_random, dense"),
        ),
    ]
    return rows


def _wrong(rule: str, run: Run) -> float:
    return float(run[rule]["pairs"])


def _control(rule: str, run: Run) -> float:
    return float(run[rule]["control"])


def _paper(rule: str, run: Run) -> float:
    return 0.986


def _count(row: int, run: Run) -> float:
    return float(run["rows"][row]["metrics"][f"pairs, ratio {TOY.min_ratio:g}"])


def main() -> None:
    """Measure what is asked for and is not there yet, and write the claims."""
    command_line("claims_bib", __doc__, one_run, claims, arms=[START, *ARMS], headlines=HEADLINES)


if __name__ == "__main__":
    main()
