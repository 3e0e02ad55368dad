"""Measure what Divergence claims, on toy streets, and write `notebooks/results/divergence.json`.

    python data_scripts/claims_divergence.py             # the headlines, about an hour
    python data_scripts/claims_divergence.py --all       # every claim; many hours on a CPU

A detector that knows streets by day is taught streets at dusk. What is there is not run again. A
claim that lacks runs stands there as `not run`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import almining as al
from almining import demo, evaluate
from almining.cycle import Recipe
from almining.data.pool import Pool
from almining.data.regimes import unlabelled
from almining.data.street import make_street
from almining.lab import TEST_SEED
from almining.papers import divergence
from almining.records import Detections, Target
from data_scripts.claims_bib import matched
from data_scripts.make_dense import FRAMES, Plan, train
from data_scripts.measure import Run, command_line, compare

TOY = divergence.Config.toy()
VIDEOS, LENGTH, TEST = 16, 30, 40  # films and their frames; films of the test
SURE = 0.5  # a detection that scores more is looked at in claim (f)
UNSEEN = 500_000  # and up: films that no run learns from
CLOSE = 0.05  # share of pedestrians found: "about equal"
RIVALS = divergence.rivals
NAIVE = replace(TOY, half_window=0, blocked_now=0, blocked_later=0)  # frames taken for stills


class Arm(NamedTuple):
    """What is run.

    Args:
        make: makes the recipe; None for a look at the start alone.
        size: of the network.
        stills: pictures of as many streets in place of films.
        per_cycle: b.
        cycles: K.
    """

    make: Callable[[], Recipe] | None
    size: str = "tiny"
    stills: bool = False
    per_cycle: int = TOY.per_cycle
    cycles: int = TOY.cycles


def _large() -> tuple[int, int]:
    """Return b and K of few large steps; in the paper 5 for 14, with 7500 frames for 7000."""
    cycles = math.ceil((TOY.cycles + 1) / 3)
    return math.ceil(TOY.per_cycle * TOY.cycles * 7500 / 7000 / cycles), cycles


START = "start"
ARMS: dict[str, Arm] = {
    START: Arm(None),
    "guided_random": Arm(lambda: RIVALS.guided_random(TOY)),
    "divergence": Arm(lambda: divergence.recipe(TOY)),
    "entropy": Arm(lambda: RIVALS.entropy(TOY)),
    "mc_dropout, 50%": Arm(lambda: RIVALS.mc_dropout(TOY, dropout=0.5)),
    "mc_dropout, 10%": Arm(lambda: RIVALS.mc_dropout(TOY, dropout=0.1)),
    "mean_pooled": Arm(lambda: RIVALS.mean_pooled(TOY)),
    "unsmoothed": Arm(lambda: RIVALS.unsmoothed(TOY)),
    "unruled": Arm(lambda: RIVALS.unruled(TOY)),
    "divergence, large b": Arm(
        lambda: divergence.recipe(TOY), per_cycle=_large()[0], cycles=_large()[1]
    ),
}
for _size in ("tiny", "small"):
    ARMS[f"guided_random, stills, {_size}"] = Arm(
        lambda: RIVALS.guided_random(NAIVE), size=_size, stills=True
    )
    ARMS[f"divergence, stills, {_size}"] = Arm(
        lambda: divergence.recipe(NAIVE), size=_size, stills=True
    )
HEADLINES = (START, "guided_random", "divergence")
# claim (f): which error, and in which frames
LOOKS = (
    ("an error", "auc", "all", "all frames"),
    ("an error", "auc", "with", "with persons"),
    ("an error", "auc", "one", "with one person"),
    ("an error", "auc", "without", "without"),
    ("a miss", "auc_missed", "one", "with one person"),
    ("a false detection", "auc_false", "one", "with one person"),
)


def one_run(name: str, seed: int, *, device: str) -> Run:
    """Run one strategy, or look at the start alone.

    Args:
        name: one of `ARMS`.
        seed: decides films, picks and training.
        device: where to compute.
    """
    arm = ARMS[name]
    shape = (VIDEOS * LENGTH, 1) if arm.stills else (VIDEOS, LENGTH)
    hidden = make_street(*shape, seed=seed, domain="dusk")
    detector = start(arm.size, device)
    if arm.make is None:
        return looked(detector, hidden)
    history = al.cycle.run(
        arm.make(),
        detector,
        unlabelled(hidden, keep=0, seed=seed),
        oracle=al.label.Simulated(hidden),
        test=make_street(TEST, FRAMES, seed=TEST_SEED, domain="dusk"),
        metrics=metrics,
        budget=arm.per_cycle,
        cycles=arm.cycles,
        seed=seed,
        progress=False,
    )
    if history.interrupted:  # what is there is not the whole run
        raise KeyboardInterrupt(history.interrupted)
    rows = json.loads(history.to_json())["rows"]
    for row in rows:
        del row["picked"]
    if name != "guided_random":
        return {"rows": rows}
    fresh = make_street(VIDEOS, LENGTH, seed=UNSEEN + seed, domain="dusk")
    return {"rows": rows} | looked(history.detector, fresh)


def start(size: str, device: str) -> Any:
    """Return the detector that knows streets by day; one of another size is trained and kept."""
    if size == "tiny":
        return demo.load_demo("dense", device=device)
    plan = Plan()
    plan.options["size"] = size
    file = Path("_runs", f"dense-{size}.safetensors")
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")  # another process may make the same
        demo.save(train(plan), part, kind="dense", options=plan.options)
        part.replace(file)
    return demo.load(file, device=device)


def metrics(found: Mapping[str, Detections], test: Pool) -> dict[str, float]:
    """Return VOC AP and miss rates."""
    missed = evaluate.miss_rate(found, test, frame_height=480)
    return evaluate.voc(found, test) | {name: missed[name] for name in ("MR@1", "LAMR")}


def looked(detector: Any, hidden: Pool) -> Run:
    """Return how well scores tell frames with an error from frames without, as AUC.

    `auc` is of frames with any error, `auc_missed` and `auc_false` of those with one of that kind.

    Args:
        detector: what finds the pedestrians.
        hidden: the truth.
    """
    scores: dict[str, list[float]] = {"divergence": [], "entropy": [], "persons": []}
    errors = []
    for image_id in hidden.ids:
        image, target = hidden.image(image_id), hidden.target(image_id)
        (maps,), (found,) = detector.dense([image]), detector.detect([image])
        pixels = (
            ("divergence", divergence.score_map(maps.cpu(), radius=TOY.radius)),
            ("entropy", divergence.binary_entropy(maps.cpu()).sum(dim=0)),
        )
        for name, one in pixels:
            scores[name].append(divergence.image_score(one, region=TOY.region))
        scores["persons"].append(float((~target.ignore).sum()))
        errors.append(errors_of(found.to("cpu"), target))
    values = {name: torch.tensor(one) for name, one in scores.items()}
    missed, false = torch.tensor(errors).unbind(dim=1)
    there = values["persons"]
    kinds = {"all": there >= 0, "with": there > 0, "one": there == 1, "without": there == 0}
    return {
        "frames": {kind: int(rows.sum()) for kind, rows in kinds.items()},
        "wrong": {kind: int((missed | false)[rows].sum()) for kind, rows in kinds.items()},
    } | {
        name: {
            kind: _aucs({score: one[rows] for score, one in values.items()}, faulty[rows])
            for kind, rows in kinds.items()
        }
        for name, faulty in (
            ("auc", missed | false),
            ("auc_missed", missed),
            ("auc_false", false),
        )
    }


def errors_of(found: Detections, target: Target) -> tuple[bool, bool]:
    """Tell whether a person is missed, and whether something is found falsely, above `SURE`.

    Ignored boxes do not count.

    Args:
        found: detections of a frame.
        target: its truth.
    """
    sure = found.select(found.scores > SURE)
    known = target.select(~target.ignore)
    right = matched(sure, known)
    beside = sure.select(~right)
    ignored = target.boxes[target.ignore]
    excused = al.boxes.containment(beside.boxes, ignored).amax(dim=1) if len(ignored) else None
    false = len(beside) if excused is None else int((excused < 0.5).sum())
    return int(right.sum()) < len(known), false > 0


def _aucs(scores: Mapping[str, Tensor], wrong: Tensor) -> dict[str, float] | None:
    """Return `auc` of each score; None where all frames are right, or all wrong."""
    mixed = wrong.any() and not wrong.all()
    return {name: auc(one, wrong) for name, one in scores.items()} if mixed else None


def auc(scores: Tensor, wrong: Tensor) -> float:
    """Return how often a frame with an error scores above one without; half where they tie.

    >>> auc(torch.tensor([0.1, 0.5, 0.5]), torch.tensor([False, True, False]))
    0.75
    """
    above = scores[wrong][:, None] - scores[~wrong]
    return float((above > 0).double().mean() + 0.5 * (above == 0).double().mean())


def found_rate(run: Run, first: int, last: int | None = None, metric: str = "MR@1") -> float:
    """Return the share found, mean of some cycles: 1 less the miss rate, so that more is better."""
    rows = run["rows"][first:last]
    return sum(1 - row["metrics"][metric] for row in rows) / len(rows)


def claims(runs: Sequence[Run], command: str) -> list[dict[str, Any]]:
    """Return the rows of all claims."""
    against = partial(compare, runs=runs, command=command)
    late = partial(against, figure=partial(found_rate, first=-2))
    both = ("divergence", "guided_random")
    rows = [
        against(
            "(a) after the first cycle, as many are found at FPPI 1 as with guided random",
            "about equal (Fig. 5)",
            both,
            figure=partial(found_rate, first=1, last=2),
            within=CLOSE,
        ),
        late("(a) more are found at FPPI 1 in the last two cycles", "yes (Fig. 5)", both),
        against(
            "(a) more are found, log-average over FPPI 0.01 to 1, in the last two cycles",
            "not reported",
            both,
            figure=partial(found_rate, first=-2, metric="LAMR"),
        ),
        late("(b) entropy finds fewer than guided random", "yes", ("guided_random", "entropy")),
    ]
    for share in ("50%", "10%"):
        dropped = f"mc_dropout, {share}"
        rows += [
            late(f"(b) MC dropout ({share}) finds more than random", "yes", (dropped, both[1])),
            late(f"(b) and fewer than divergence ({share})", "yes", (both[0], dropped)),
        ]
    drawn = partial(against, figure=lambda run: float(run["rows"][-1]["boxes"]))
    rows += [
        drawn("(c) the picked frames hold more pedestrians than random's", "5706 to 2741", both),
        drawn("(c) entropy's hold more, too", "5243 to 2741", ("entropy", both[1])),
        late("(d) maxima of regions matter", "yes", (both[0], "mean_pooled")),
        late("(d) temporal rules matter", "yes", (both[0], "unruled")),
        late("(d) smoothing hardly matters", "hardly", (both[0], "unsmoothed"), within=CLOSE),
        against(
            "(e) fewer and larger cycles, in all a few frames more, find fewer than guided random",
            "yes (Fig. 8)",
            (both[1], "divergence, large b"),
            figure=partial(found_rate, first=-1),
        ),
    ]
    for size in ("tiny", "small"):
        arms = tuple(f"{name}, stills, {size}" for name in both)
        rows += [
            against(
                f"(e2) on stills random is ahead after the first cycle ({size} network)",
                "yes (Fig. 12)",
                (arms[1], arms[0]),
                figure=partial(found_rate, first=1, last=2),
            ),
            late(f"(e2) and behind, slightly, in the end ({size} network)", "slightly", arms),
        ]
    for name, when in ((START, "at the start"), ("guided_random", "after random cycles")):
        for error, key, kind, text in LOOKS:
            usable = [run for run in runs if run["arm"] == name and run.get(key, {}).get(kind)]
            for other in ("chance", "entropy", "persons"):
                if kind in ("all", "with") or other != "persons":  # elsewhere all have as many
                    made = compare(
                        f"(f) {error} raises the score: {text}, {when}, AUC against {other}",
                        "claimed, not measured",
                        ("divergence", other),
                        usable,
                        partial(_auc, key, kind, "divergence"),
                        command,
                        other=partial(_auc, key, kind, other),
                    )
                    rows.append(made)
    return rows


def _auc(key: str, kind: str, name: str, run: Run) -> float:
    return 0.5 if name == "chance" else float(run[key][kind][name])


def main() -> None:
    """Measure what is asked for and is not there yet, and write the claims."""
    command_line(
        "claims_divergence", __doc__, one_run, claims, arms=list(ARMS), headlines=HEADLINES
    )


if __name__ == "__main__":
    main()
