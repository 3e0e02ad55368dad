"""Measure what SSM claims, on the toy world, and write `notebooks/results/ssm.json`.

    python data_scripts/claims_ssm.py                    # the headlines, about an hour
    python data_scripts/claims_ssm.py --all              # every claim; many hours on a CPU

What is there is not run again. A claim that lacks runs stands there as `not run`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import almining as al
from almining.cycle import Recipe, everything
from almining.data.pool import Pool
from almining.data.regimes import unlabelled
from almining.data.scenes import make_scenes
from almining.data.toy.worlds import Dials
from almining.lab import TEST_SEED
from almining.papers import ssm
from almining.papers.ssm import rivals
from almining.papers.ssm.recipes import make_recipe
from almining.records import Target
from almining.rng import derive
from almining.train import Batch, fit
from data_scripts.make_demos import SEED
from data_scripts.make_ssm import Plan, begin
from data_scripts.measure import Run, command_line, compare
from data_scripts.ssm_figures import counts, figures, judged

CYCLES, IMAGES, LOOKED, TEST = 2, 240, 90, 200
LONG, MANY = 8, 60  # cycles, and regions asked about in each, where a curve is what counts
TOY = ssm.Config.toy()
LABELLED = al.lab.LABELLED["fast_rcnn"]
WEAK = {"5%": IMAGES // 20, "10%": IMAGES // 10}  # labelled at the start
WAYS = ("single", str(TOY.way))
AS_GOOD = 0.98  # of the AP50 with every box drawn
Make = Callable[[ssm.Config, Any], Recipe]  # takes a config and `watch`
Arm = tuple[Make, dict[str, Any]]  # a recipe, and what differs from the usual


def _mining(name: str, **changes: Any) -> Make:
    """Return what makes a recipe that asks no one."""
    return lambda config, watch: make_recipe(name, replace(config, **changes), None, watch=watch)


def _asking(make: Callable[[ssm.Config], Recipe]) -> Make:
    return lambda config, watch: make(config)


NO_ONE: dict[str, Make] = {
    "ssm_only": _mining("ssm_only", only="ssm"),
    "labelled only": _mining("labelled only", only="al"),
    "spl": _mining("spl", only="ssm", validation="confidence"),
}
CHANGED: dict[str, Make] = {
    name: _mining(name, only="ssm", validation=name) for name in ("flip", "rescale", "flip_rescale")
}
PEOPLE: dict[str, Make] = {
    "ssm": lambda config, watch: ssm.recipe(config, watch=watch),
    "al_only": _asking(lambda config: ssm.recipe(replace(config, only="al"))),
    "random_regions": _asking(rivals.random_regions),
}
OTHERS: dict[str, Make] = {
    "entropy": _asking(rivals.entropy),
    "model_change": _asking(rivals.model_change),
    "labelling_change": _asking(rivals.labelling_change),
    "density": _asking(rivals.density),
    "ceal": _asking(rivals.ceal),
}
ARMS: dict[str, Arm] = {name: (make, {}) for name, make in (NO_ONE | PEOPLE).items()}
for weak, few in WEAK.items():
    for name in ("ssm_only", "labelled only", "ssm", "random_regions"):
        ARMS[f"{name}, from {weak}"] = ((NO_ONE | PEOPLE)[name], {"labelled": few})
for name, make in ({"ssm_only": NO_ONE["ssm_only"]} | CHANGED).items():
    ARMS[f"{name}, long"] = (make, {"cycles": LONG})
for name, make in (PEOPLE | OTHERS).items():
    more = {"cycles": LONG, "labelled": WEAK["5%"], "per_cycle": MANY}
    ARMS[f"{name}, long"] = (make, more)
ARMS["all labelled"] = (NO_ONE["labelled only"], {"cycles": LONG, "labelled": IMAGES})
# nothing is trained: what the consistency of regions says of them
LOOKS: dict[str, Dials] = {
    "look": {},
    "look, context_bias 1": {"context_bias": 1.0},
    "look, context_bias 0": {"context_bias": 0.0},
}
HEADLINES = (*LOOKS, "ssm_only", "spl", "labelled only")


def one_run(arm: str, seed: int, *, device: str) -> Run:
    """Run one strategy, or look at the start alone.

    Every strategy trains on batches of all images, so each sees as much of what is labelled.

    Args:
        arm: one of `ARMS` or `LOOKS`.
        seed: decides scenes, picks and training.
        device: where to compute.
    """
    if arm in LOOKS:
        return looked(seed, device, LOOKS[arm])
    make, changes = ARMS[arm]
    hidden = make_scenes(IMAGES, seed=seed)
    count = changes.get("labelled", LABELLED)
    pool = unlabelled(hidden, keep=count, seed=seed)
    config = replace(TOY, per_cycle=changes.get("per_cycle", TOY.per_cycle))
    tally = {"steps": 0, "pseudo": 0}

    def watch(batch: Batch, targets: Sequence[Target]) -> None:
        tally["steps"] += 1
        tally["pseudo"] += sum(name == "mined:ssm" for one in targets for name in one.origin)

    history = al.cycle.run(
        replace(make(config, watch), trains_on=everything),
        taught_on(pool, seed, device) if count < LABELLED else shipped(device),
        pool,
        oracle=al.label.Simulated(hidden),
        test=make_scenes(TEST, seed=TEST_SEED),
        budget=config.per_cycle,
        unit="boxes",
        cycles=changes.get("cycles", CYCLES),
        seed=seed,
        progress=False,
    )
    if history.interrupted:
        raise KeyboardInterrupt(history.interrupted)
    rows = json.loads(history.to_json())["rows"]
    for row in rows:
        del row["picked"]
    boxes = sum(len(hidden.target(image_id)) for image_id in hidden.ids)
    return {"rows": rows, "boxes": boxes} | tally


def shipped(device: str) -> Any:
    """Return the start that ships."""
    one: dict[str, Any] = {"images": 1, "labelled": 1, "test": 1, "data": "toy", "device": device}
    return al.lab.setup("fast_rcnn", **one).detector


def taught_on(scenes: Pool, seed: int, device: str) -> Any:
    """Return a start of the shipped one's kind, taught on the complete images of other scenes.

    Args:
        scenes: of which the complete images are learned from.
        seed: of the training.
        device: where to compute.
    """
    plan = Plan()
    detector = begin(plan).to(torch.device(device))
    detector.proposer = shipped(device).proposer
    ids = al.cycle.labelled(scenes)
    fit(detector, scenes, plan.train, ids=ids, seed=derive(seed, "start"), progress=False)
    return detector.eval()


def looked(seed: int, device: str, dials: Dials) -> Run:
    """Return what consistency and confidence say of the regions of unlabelled scenes.

    Args:
        seed: of the scenes, and of the places that regions are pasted at.
        device: where to compute.
        dials: of the world the start learned in and the scenes are from; the shipped start and its
            world by default.
    """
    hidden = make_scenes(LOOKED, seed=seed, **dials)
    pool = unlabelled(hidden, keep=LOOKED // 3, seed=seed)
    if dials:
        learned = make_scenes(Plan().scenes, seed=SEED + 1 + seed, **dials)
        detector = taught_on(learned, seed, device)
    else:
        detector = shipped(device)
    found, counted = {}, {}
    for way in WAYS:
        config = replace(TOY, way=way)
        seen = ssm.look(detector, pool, config, seed=seed, progress="look")
        said = judged(seen, hidden)
        counted[way], found[way] = counts(seen, said), figures(said)
    return {"ways": found, "counts": counted}


def ap(run: Run, cycle: int | None = None) -> float:
    """Return AP50 after a cycle, or the mean over all cycles."""
    rows = run["rows"][1:] if cycle is None else [run["rows"][cycle]]
    return sum(float(row["metrics"]["AP50"]) for row in rows) / len(rows)


def fall(run: Run) -> float:
    """Return AP50 after the last cycle, less the run's largest; 0 where it ends at it."""
    return ap(run, -1) - max(ap(run, cycle) for cycle in range(len(run["rows"])))


def needed(runs: Sequence[Run]) -> list[Run]:
    """Return for the long runs which share of all boxes is drawn when AP50 is as good as with all.

    1 where that is not reached. Seeds without a run of which everything is labelled are left out.
    """
    full = {run["seed"]: ap(run, -1) for run in runs if run["arm"] == "all labelled"}
    found = []
    for run in (run for run in runs if run["arm"].endswith(", long") and run["seed"] in full):
        goal = AS_GOOD * full[run["seed"]]
        shares = [row["boxes"] / run["boxes"] for row in run["rows"] if _ap(row) >= goal]
        found.append(run | {"needed": min([1.0, *shares])})
    return found


def scattered(runs: Sequence[Run], arms: Sequence[str]) -> list[Run]:
    """Return the runs of some arms with how far each ends from its arm's mean over the seeds."""
    found = []
    for arm in arms:
        some = [run for run in runs if run["arm"] == arm]
        mean = sum(ap(run, -1) for run in some) / max(1, len(some))
        found += [run | {"apart": abs(ap(run, -1) - mean)} for run in some]
    return found


def claims(runs: Sequence[Run], command: str) -> list[dict[str, Any]]:
    """Return the rows of all claims."""
    against = partial(compare, runs=runs, command=command)
    last, mean = partial(against, figure=partial(ap, cycle=-1)), partial(against, figure=ap)
    rows = _trusted(runs, command)
    text = "(a) at the same k, AP50 of SSM alone is above that of SPL, which trusts confidence"
    rows.insert(len(WAYS), last(text, "+0.020", ("ssm_only", "spl")))
    for name in CHANGED:
        arms = ("ssm_only, long", f"{name}, long")
        rows.append(mean(f"(b) pasting is above {name}, mean of {LONG} cycles", "above", arms))
        rows.append(
            against(f"(b) it falls less than {name} after its peak", "less", arms, figure=fall)
        )
    rows += [
        last("(c) SSM and a person are above random regions", "+0.011", ("ssm", "random_regions")),
        compare(
            "(c) random regions end further from their mean over the seeds",
            "+0.007",
            ("random_regions", "ssm"),
            scattered(runs, ("random_regions", "ssm")),
            lambda run: float(run["apart"]),
            command,
        ),
        last(
            "(c) SSM alone is above what is labelled alone", "+0.028", ("ssm_only", "labelled only")
        ),
        last("(c) asking alone is above SSM alone", "+0.008", ("al_only", "ssm_only")),
        last("(c) SSM and a person are above asking alone", "+0.008", ("ssm", "al_only")),
    ]
    for weak in WEAK:
        for text, paper, pair in (
            ("SSM alone is above what is labelled alone", "+0.02", ("ssm_only", "labelled only")),
            ("SSM and a person are above random regions", "+0.015", ("ssm", "random_regions")),
        ):
            names = (f"{pair[0]}, from {weak}", f"{pair[1]}, from {weak}")
            rows.append(last(f"(c) from {weak} labelled, {text}", paper, names))
    for name in [arm for arm in PEOPLE | OTHERS if arm != "ssm"]:
        rows.append(
            compare(
                f"(d) {name} needs a larger share of the boxes than SSM to be as good as with all",
                "0.6 against 0.3",
                (f"{name}, long", "ssm, long"),
                needed(runs),
                lambda run: float(run["needed"]),
                command,
            )
        )
    return rows


def _trusted(runs: Sequence[Run], command: str) -> list[dict[str, Any]]:
    """Return the rows of what is looked at without a training: precision (a) and AUC (e)."""
    first = [run for run in runs if run["arm"] == "look"]

    def row(text: str, paper: str, arms: tuple[str, str], way: str, one: str, two: str) -> Any:
        other = partial(_said, way, two)
        figure = partial(_said, way, one)
        return compare(f"{text} ({way})", paper, arms, first, figure, command, other=other)

    rows, both = [], ("consistency", "confidence")
    for way in WAYS:
        text = "(a) of equally many regions more are right when consistency trusts them"
        pair = (f"precision, {both[0]}", f"precision, {both[1]}")
        rows.append(row(text, "not reported", both, way, *pair))
    for way in WAYS:
        for kind in ("wrong and loose", "wrong", "loose"):
            key = "AUC, consistency" + ("" if kind == "wrong and loose" else f", {kind}")
            text = f"(e) consistency tells right regions from {kind} ones"
            rows.append(row(text, "Fig. 5", ("AUC", "chance"), way, key, ""))
        text, pair = "(e) and better than confidence does", ("AUC, consistency", "AUC, confidence")
        rows.append(row(text, "not reported", both, way, *pair))
    high, low = "look, context_bias 1", "look, context_bias 0"
    for text, figure in (
        ("consistency tells right from wrong", partial(_said, WAYS[0], "AUC, consistency, wrong")),
        ("it does so beyond confidence", _beyond),
    ):
        text = f"(e) {text}, most where the context tells the class ({WAYS[0]})"
        rows.append(compare(text, "not reported", (high, low), runs, figure, command))
    return rows


def _said(way: str, key: str, run: Run) -> float:
    return float(run["ways"][way][key]) if key else 0.5


def _beyond(run: Run) -> float:
    return _said(WAYS[0], "AUC, consistency, wrong", run) - _said(
        WAYS[0], "AUC, confidence, wrong", run
    )


def _ap(row: Mapping[str, Any]) -> float:
    return float(row["metrics"]["AP50"])


def main() -> None:
    """Measure what is asked for and is not there yet, and write the claims."""
    command_line("claims_ssm", __doc__, one_run, claims, arms=[*LOOKS, *ARMS], headlines=HEADLINES)


if __name__ == "__main__":
    main()
