"""Curves: a metric over what annotation has cost, with its interval; misses over false positives.

`draw` hands `curve` and `miss_curve` on, and `claims.interval`; call them there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from almining.canvas import FONT, GREY, PALETTE, blank, figure
from almining.claims import interval as interval

MARKERS = "osD^vPX"
AXES = {
    "images": "images labelled",
    "boxes": "boxes drawn or confirmed",
    "seconds": "annotation time",
}
# from so many seconds on, divide by, called
UNITS = ((7200, 3600, "h"), (300, 60, "min"), (0, 1, "s"))
MISSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.64, 0.8, 1)  # the ticks of Caltech's figures


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
    ax = _plain_axes(fig)
    counts: set[int] = set()
    points: set[float] = set()
    for number, (name, value) in enumerate(runs.items()):
        seeds = [value] if hasattr(value, "rows") or isinstance(value, Mapping) else list(value)
        spent = _line(ax, number, name, seeds, x, metric)
        points |= set(spent)
        counts.add(len(seeds))
    ax.set_xlabel(AXES[x] + _ticks(ax, x, points), fontsize=FONT + 1)
    ax.set_ylabel(f"{metric} on the test pool", fontsize=FONT + 1)
    most = f"{max(counts)} seeds" if len(counts) == 1 else f"up to {max(counts)} seeds"
    note = f"mean and 95% interval,\n{most}" if max(counts) > 1 else None
    _legend(fig, note)
    return fig


def miss_curve(curves: Mapping[str, Any]) -> Figure:
    """Return miss rate over false positives per image, both on log axes, as Caltech's figures do.

    Beside a name stand the log-average miss rate and the miss rate at one false positive per image.

    Args:
        curves: a `MissCurve`, as `evaluate.miss_curve` returns it, by name. A curve is drawn as far
            as it reaches, miss rates of 0 at the lower edge; one without boxes to find is only
            named.
    """
    if not curves:
        return blank("no curves to draw")
    fig = figure(6.4, 3.4)
    ax = _plain_axes(fig)
    for number, (name, curve) in enumerate(curves.items()):
        known = curve.boxes > 0
        rates = f"{curve.log_average:.0%}, {curve.at(1):.0%}" if known else "no boxes to find"
        ax.step(
            [max(value, 1e-9) for value in curve.fppi.tolist()] if known else [],
            [max(value, 1e-9) for value in curve.miss.tolist()] if known else [],
            where="post",
            label=f"{name} ({rates})",
            color=(*PALETTE[:6], "#000000")[number % 7],
            linestyle=("-", "--", ":", "-.")[number % 4],
            lw=1.6,
        )
    lowest = min((curve.miss.min() for curve in curves.values() if curve.boxes), default=1)
    bottom = 0.05 if lowest >= 0.05 else 0.01
    ax.set(xscale="log", yscale="log", xlim=(10**-2.5, 10), ylim=(bottom, 1.03))
    ax.yaxis.set_major_locator(FixedLocator([value for value in MISSES if value >= bottom]))
    ax.yaxis.set_minor_locator(NullLocator())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.axvline(1, color=GREY, lw=0.8, zorder=0)
    ax.set_xlabel("false positives per image", fontsize=FONT + 1)
    ax.set_ylabel("miss rate", fontsize=FONT + 1)
    _legend(fig, "log-average miss rate,\nmiss rate at the line")
    return fig


def _plain_axes(fig: Figure) -> Axes:
    ax = fig.add_subplot()
    ax.tick_params(labelsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    ax.set_axisbelow(True)
    return ax


def _legend(fig: Figure, title: str | None) -> None:
    fig.legend(
        loc="outside right upper",
        fontsize=FONT,
        title=title,
        title_fontsize=FONT,
        frameon=False,
        alignment="left",
    )


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
