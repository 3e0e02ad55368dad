"""Claims and what was measured of them: one row per claim, its verdict from the paired interval.

A result file is JSON with a list `claims`; notebooks show it with `table` and measure nothing
themselves. Two arms are compared seed by seed, and the verdict is what the 95% interval of the mean
difference says; nothing else decides.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# Student's t, 97.5%, for 1...30 degrees of freedom
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, low and high of the 95% interval of Student's t; NaN, NaN for a single value.

    >>> [round(value, 2) for value in interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    n = len(values)
    if not n:
        raise ValueError("no value to take the mean of")
    mean = math.fsum(values) / n
    if n == 1:
        return mean, math.nan, math.nan
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = (T[n - 2] if n - 1 <= len(T) else 1.96) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


def verdict(low: float, high: float, *, within: float | None = None) -> str:
    """Return `"holds"`, `"fails"` or `"unresolved"` for a difference that is claimed to be above 0.

    Args:
        low: the lower end of its 95% interval; NaN for a single seed.
        high: the upper end.
        within: what is claimed is that the difference is smaller than this, either way.

    >>> verdict(0.01, 0.03), verdict(-0.03, -0.01), verdict(-0.01, 0.02)
    ('holds', 'fails', 'unresolved')
    >>> verdict(-0.01, 0.02, within=0.03), verdict(-0.01, 0.02, within=0.015)
    ('holds', 'unresolved')
    """
    if within is not None:
        if -within < low and high < within:
            return "holds"
        return "fails" if low >= within or high <= -within else "unresolved"
    return "holds" if low > 0 else "fails" if high < 0 else "unresolved"


def claim(
    text: str,
    *,
    paper: str,
    arms: tuple[str, str],
    values: Mapping[str, Mapping[int, float]],
    command: str,
    minutes: float,
    within: float | None = None,
) -> dict[str, Any]:
    """Return the row of a claim that the first arm is above the second, or as good as equal.

    Args:
        text: what is claimed.
        paper: the paper's own figure.
        arms: the names of the two arms.
        values: seed to figure, by arm; only seeds that both have are compared.
        command: what anyone can run to measure it again.
        minutes: what that took.
        within: what is claimed is that the arms differ by less than this.

    Raises:
        ValueError: when the arms share no seed.

    >>> values = {"a": {0: 0.5, 1: 0.6}, "b": {0: 0.4, 1: 0.5}}
    >>> row = claim("a beats b", paper="+1", arms=("a", "b"), values=values, command="x", minutes=1)
    >>> row["seeds"], round(row["mean"], 2), row["verdict"]
    ([0, 1], 0.1, 'holds')
    """
    first, second = (values[arm] for arm in arms)
    seeds = sorted(set(first) & set(second))
    if not seeds:
        raise ValueError(f"{text!r}: {arms[0]} and {arms[1]} have no seed in common to compare by")
    mean, low, high = interval([first[seed] - second[seed] for seed in seeds])
    ends = [None if math.isnan(end) else end for end in (low, high)]  # JSON has no NaN
    return {
        "claim": text,
        "paper": paper,
        "arms": list(arms),
        "seeds": seeds,
        "values": {arm: [values[arm][seed] for seed in seeds] for arm in arms},
        "mean": mean,
        "low": ends[0],
        "high": ends[1],
        "verdict": verdict(low, high, within=within),
        "command": command,
        "minutes": minutes,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def not_run(text: str, *, paper: str, arms: tuple[str, str], command: str) -> dict[str, Any]:
    """Return the row of a claim of which nothing was measured yet.

    Args:
        text: what is claimed.
        paper: the paper's own figure.
        arms: the names of the two arms.
        command: what anyone can run to measure it.
    """
    made = {"claim": text, "paper": paper, "arms": list(arms), "seeds": [], "values": {}}
    return made | {"verdict": "not run", "command": command}


def table(path: Path | str) -> str:
    """Return the claims of a result file as a Markdown table.

    Args:
        path: a JSON file with a list `claims`.
    """
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["claims"]
    lines = [
        "| claim | the paper | measured here (95% interval) | seeds | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["claim"], row["paper"], _measured(row), str(len(row["seeds"])), row["verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measured(row: Mapping[str, Any]) -> str:
    if row["verdict"] == "not run":
        return ""
    ends = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
    means = ", ".join(f"{arm} {math.fsum(v) / len(v):.3f}" for arm, v in row["values"].items())
    return f"{row['mean']:+.3f}{ends}; {means}"
