"""Learning curves: a metric over what annotation has cost, several seeds as mean and interval.

`draw` hands both functions on; call them there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from almining.canvas import FONT, PALETTE, blank, figure

MARKERS = "osD^vPX"
AXES = {
    "images": "images labelled",
    "boxes": "boxes drawn or confirmed",
    "seconds": "annotation time",
}
# from so many seconds on, divide by, called
UNITS = ((7200, 3600, "h"), (300, 60, "min"), (0, 1, "s"))
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


def curve(
    runs: Mapping[str, Any],
    *,
    x: Literal["images", "boxes", "seconds"] = "images",
    metric: str = "AP50",
) -> Figure:
    """Return learning curves: a metric over what annotation has cost.

    Args:
        runs: a `History`, or several of the same recipe with different seeds, by name; JSON of one
            will do. Several are drawn as their mean with its 95% interval, over the cycles that all
            of them have.
        x: what was spent: complete images, boxes drawn or confirmed, or seconds.
        metric: which of the metrics.
    """
    if x not in AXES:
        raise ValueError(f"x = {x!r}: use {', '.join(AXES)}")
    if not runs:
        return blank("no runs to draw")
    fig = figure(6.4, 3.4)
    ax = fig.add_subplot()
    counts: set[int] = set()
    points: set[float] = set()
    for number, (name, value) in enumerate(runs.items()):
        seeds = [value] if hasattr(value, "rows") or isinstance(value, Mapping) else list(value)
        spent = _line(ax, number, name, seeds, x, metric)
        points |= set(spent)
        counts.add(len(seeds))
    ax.set_xlabel(AXES[x] + _ticks(ax, x, points), fontsize=FONT + 1)
    ax.set_ylabel(f"{metric} on the test pool", fontsize=FONT + 1)
    ax.tick_params(labelsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    ax.set_axisbelow(True)
    most = f"{max(counts)} seeds" if len(counts) == 1 else f"up to {max(counts)} seeds"
    note = f"mean and 95% interval,\n{most}" if max(counts) > 1 else None
    fig.legend(
        loc="outside right upper",
        fontsize=FONT,
        title=note,
        title_fontsize=FONT,
        frameon=False,
        alignment="left",
    )
    return fig


def _line(ax: Axes, number: int, name: str, seeds: list[Any], x: str, metric: str) -> list[float]:
    """Draw one recipe's mean and interval; return what was spent by each cycle."""
    cycles = list(zip(*(_get(run, "rows") for run in seeds), strict=False))
    spent = [math.fsum(_get(row, x) for row in rows) / len(rows) for rows in cycles]
    found = [interval([_metric(row, metric, name) for row in rows]) for rows in cycles]
    bars = [[mean - low for mean, low, _ in found], [high - mean for mean, _, high in found]]
    look: dict[str, Any] = {
        "marker": MARKERS[number % 7],
        "color": (*PALETTE[:6], "#000000")[number % 7],
        "ms": 4,
        "lw": 1.4,
    }
    ax.errorbar(
        spent,
        [mean for mean, _, _ in found],
        yerr=bars if len(seeds) > 1 else None,
        label=name,
        capsize=2.5,
        elinewidth=0.9,
        **look,
    )
    return spent


def _ticks(ax: Axes, x: str, points: set[float]) -> str:
    """Put ticks where images were counted, or round ones; return the unit to name beside it."""
    if x == "images" and len(points) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(sorted(points)))
        return ""
    if x != "seconds":
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        return ""
    last = max(points, default=0.0)
    _, per, short = next(row for row in UNITS if last >= row[0])
    rounded = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, last / per)
    ticks = [tick * per for tick in rounded if 0 <= tick * per <= last * 1.05]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / per:g}"))
    return f" ({short})"


def _get(record: Any, name: str) -> Any:
    return record[name] if isinstance(record, Mapping) else getattr(record, name)


def _metric(row: Any, metric: str, name: str) -> float:
    metrics = _get(row, "metrics")
    if metric not in metrics:
        raise ValueError(
            f"cycle {_get(row, 'cycle')} of {name!r} has no metric {metric!r}; it has "
            f"{', '.join(metrics) or 'none: give run a test pool'}"
        )
    value = metrics[metric]
    return math.nan if value is None else float(value)  # JSON has no NaN
