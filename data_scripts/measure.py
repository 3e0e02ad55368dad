"""Runs behind the claims: each arm and seed in a process of its own, kept as it ends.

What is there is not run again, so a measurement can be stopped and started, and whoever has a
result file goes on from it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from almining.claims import claim, not_run, table

RESULTS = Path(__file__).parent.parent / "notebooks" / "results"
Run = dict[str, Any]


def measure(
    call: Callable[..., Run],
    jobs: Sequence[tuple[str, int]],
    file: Path,
    *,
    processes: int = 1,
    **options: Any,
) -> list[Run]:
    """Return the runs of a result file and of `jobs`; those not there yet are run and written.

    Args:
        call: `call(arm, seed, **options)` returns what JSON can hold; a function of a module.
        jobs: (arm, seed).
        file: the result file, a JSON object with a list `runs`; each run has `arm` and `seed`.
        processes: how many run at a time; with more than one, each has one thread.
        options: handed on. What was run with other ones is not taken.
    """
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if content and content["options"] != json.loads(json.dumps(options)):
        raise SystemExit(f"{file.name} was measured with {content['options']}, not {options}")
    runs: list[Run] = content.get("runs", [])
    there = {(run["arm"], run["seed"]) for run in runs}
    missing = [job for job in jobs if job not in there]
    for run in _done(call, missing, processes, options):
        runs.append(run)
        write(file, {"options": options, "claims": content.get("claims", []), "runs": runs})
        print(f"{run['arm']} {run['seed']}: {run['minutes']:.1f} minutes", flush=True)
    return sorted(runs, key=lambda run: (run["arm"], run["seed"]))


def compare(
    text: str,
    paper: str,
    arms: tuple[str, str],
    runs: Sequence[Run],
    figure: Callable[[Run], float],
    command: str,
    *,
    other: Callable[[Run], float] | None = None,
    within: float | None = None,
) -> dict[str, Any]:
    """Return the row of a claim, `not run` where the arms share no seed.

    Args:
        text: what is claimed.
        paper: the paper's own figure.
        arms: their names in `runs`, or, with `other`, what the two figures of one arm are called;
            then all runs given count.
        runs: what was measured.
        figure: the figure of a run.
        command: what measures it.
        other: the second figure of the same run, where no two arms are compared.
        within: see `claims.claim`.
    """
    values: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    for run in runs:
        if other is not None:
            values[arms[0]][run["seed"]], values[arms[1]][run["seed"]] = figure(run), other(run)
        elif run["arm"] in arms:
            values[run["arm"]][run["seed"]] = figure(run)
    if not set(values[arms[0]]) & set(values[arms[1]]):
        return not_run(text, paper=paper, arms=arms, command=command)
    minutes = sum(run["minutes"] for run in runs if other is not None or run["arm"] in arms)
    more: dict[str, Any] = {"command": command, "minutes": round(minutes, 1), "within": within}
    return claim(text, paper=paper, arms=arms, values=values, **more)


def command_line(
    script: str,
    text: str,
    call: Callable[..., Run],
    claims: Callable[[Sequence[Run], str], Sequence[Mapping[str, Any]]],
    *,
    arms: Sequence[str],
    headlines: Sequence[str],
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> None:
    """Measure what the command line asks for and is not there yet, and write the claims.

    Args:
        script: named `claims_<paper>`; its file is `<paper>.json`.
        text: the script's docstring, whose first paragraph is shown as help.
        call: as in `measure`; it gets `device`.
        claims: `claims(runs, command)` returns the rows.
        arms: all there are.
        headlines: those that are run unless others are asked for.
        seeds: likewise.
    """
    parser = argparse.ArgumentParser(description=text.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument(
        "--arms", nargs="+", default=list(headlines), choices=list(arms), metavar="ARM"
    )
    parser.add_argument("--all", action="store_true", help="every arm of every claim and table")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    file = asked.results / f"{script.removeprefix('claims_')}.json"
    wanted = list(arms) if asked.all else asked.arms
    jobs = [(arm, seed) for seed in asked.seeds for arm in wanted]
    runs = measure(call, jobs, file, processes=asked.processes, device=asked.device)
    finish(file, claims(runs, f"python data_scripts/{script}.py --all"))


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(file)


def finish(file: Path, claims: Sequence[Mapping[str, Any]]) -> None:
    """Put the claims into a result file and print them as a table."""
    content = json.loads(file.read_text(encoding="utf-8"))
    write(file, content | {"claims": list(claims)})
    print(table(file))


def _done(
    call: Callable[..., Run],
    jobs: Sequence[tuple[str, int]],
    processes: int,
    options: Mapping[str, Any],
) -> Any:
    if processes == 1:
        for job in jobs:
            yield _timed(call, *job, options)
        return
    spawn = multiprocessing.get_context("spawn")
    limits: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(processes, mp_context=spawn, **limits) as workers:
        try:
            for ended in as_completed(
                [workers.submit(_timed, call, *job, options) for job in jobs]
            ):
                yield ended.result()
        finally:  # after an error, do not run for hours what nobody will write
            workers.shutdown(cancel_futures=True)


def _timed(call: Callable[..., Run], arm: str, seed: int, options: Mapping[str, Any]) -> Run:
    begun = time.perf_counter()
    found = call(arm, seed, **options)
    minutes = round((time.perf_counter() - begun) / 60, 2)
    return {"arm": arm, "seed": seed, "minutes": minutes} | found
