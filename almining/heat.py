"""Pictures of maps over an image, and of a film whose frames have scores.

What the maps say, and which frames are picked, is decided elsewhere: `papers.divergence` makes
pixel scores and block maxima, `select` smooths scores and keeps picks apart. `draw` hands `heat`,
`scales` and `filmstrip` on; call them there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from almining.canvas import FONT, GREY, PALETTE, axes_for, blank, figure, picture
from almining.data.pool import Pool

RAW, SMOOTHED, PICK, TOP = PALETTE[4], PALETTE[0], PALETTE[1], PALETTE[2]
LEVELS = 12  # of grey below a map: without noise a file is many times smaller
SIDE = 80  # pixels of the shorter side of a small copy, about
CLEAR = 0.3  # share of the range from which on colours hide the image


def heat(
    image: Tensor,
    values: Tensor,
    *,
    region: int = 1,
    high: float | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    label: str | None = None,
) -> Figure:
    """Return a figure of a map over a pale copy of its image, with a colour bar from 0.

    Args:
        image: (3, h, w) in [0, 1].
        values: (y, x), 0 or more: one for each pixel, or for each region.
        region: side in pixels of what one value stands for; regions tile the image from its upper
            left.
        high: where the colours end; the largest value by default.
        ax: where to draw; a new figure by default.
        title: above the image.
        label: beside the colour bar.

    Raises:
        ValueError: when the map does not cover the image.
    """
    ax = axes_for(image) if ax is None else ax
    shown = add_heat(ax, image, values, region=region, high=high, title=title)
    fig = ax.get_figure(root=True)
    assert fig is not None
    _bar(fig, shown, [ax], label, shrink=0.8)
    return fig


def scales(
    image: Tensor,
    rows: Mapping[str, Sequence[Tensor]],
    columns: Sequence[str],
    *,
    region: int = 1,
) -> Figure:
    """Return maps of several kinds, a row each, at several scales, a column each.

    A row has one range of colours, and all maps keep to one part of the image when one is zoomed.

    Args:
        image: (3, h, w) in [0, 1].
        rows: by name, one map (y, x) for each column; maps shaped like the image are of pixels,
            others of regions.
        columns: names of the scales.
        region: side of a region in pixels.

    Raises:
        ValueError: for a row with more or fewer maps than columns, or of another image.
    """
    if not rows or not columns:
        return blank("no maps to show")
    wide = 10 / len(columns)
    tall = wide * image.shape[1] / image.shape[2]
    fig = figure(10.8, (tall + 0.1) * len(rows) + 0.3)
    first: Axes | None = None
    for row, (name, maps) in enumerate(rows.items()):
        if len(maps) != len(columns):
            raise ValueError(f"rows[{name!r}] has {len(maps)} maps for {len(columns)} columns")
        high = max(float(one.max()) for one in maps)
        drawn: list[Axes] = []
        for column, one in enumerate(maps):
            place = row * len(columns) + column + 1
            ax = fig.add_subplot(len(rows), len(columns), place, sharex=first, sharey=first)
            first = first or ax
            side = 1 if one.shape == image.shape[1:] else region
            title = columns[column] if not row else None
            shown = add_heat(ax, image, one, region=side, high=high, title=title)
            drawn.append(ax)
        drawn[0].set_ylabel(name, fontsize=FONT + 1)
        _bar(fig, shown, drawn, None)
    return fig


def add_heat(
    ax: Axes,
    image: Tensor,
    values: Tensor,
    *,
    region: int = 1,
    high: float | None = None,
    title: str | None = None,
) -> AxesImage:
    """Draw what `heat` draws, without a colour bar; return what a colour bar is made of."""
    wanted = tuple(-(-side // region) for side in image.shape[1:])
    if tuple(values.shape) != wanted:
        raise ValueError(
            f"values must have shape {wanted}, for regions of {region} pixels of an image "
            f"{image.shape[1]} x {image.shape[2]}, got {(*values.shape,)}"
        )
    grey = _small(image).mean(dim=0, keepdim=True)
    grey = interpolate(grey[None], image.shape[1:], mode="bilinear", align_corners=False)[0]
    low, top = grey.aminmax()
    dark = ((top - grey) / (top - low).clamp(min=1e-6) * LEVELS).round() / LEVELS
    picture(ax, (1 - 0.55 * dark).expand(3, -1, -1), title)
    above = values.detach().cpu().float()
    limit = float(above.max()) if high is None else high
    extent = (0, wanted[1] * region, wanted[0] * region, 0)
    look: dict[str, Any] = {"cmap": _colours(), "interpolation": "nearest"}
    return ax.imshow(above.numpy(), extent=extent, vmin=0, vmax=limit or 1.0, **look)


def filmstrip(
    pool: Pool,
    ids: Sequence[str],
    raw: Sequence[float] | Tensor,
    smoothed: Sequence[float] | Tensor | None = None,
    *,
    picks: Sequence[str] = (),
    before: Collection[str] = (),
    blocked: Collection[str] = (),
    most: int = 7,
    label: str = "score",
) -> Figure:
    """Return the scores of a film's frames over time, above some of the frames.

    Picks are numbered in their order and shown among the frames; blocked frames are shaded and
    pale. What is known of a frame is drawn as boxes.

    Args:
        pool: where images and boxes come from.
        ids: frames of one video, in order.
        raw: the score of each.
        smoothed: what smoothing made of it.
        picks: what is picked now, the best first.
        before: what earlier cycles picked.
        blocked: what the rules leave out.
        most: so many frames are shown, more where there are more picks.
        label: what the scores are called.

    Raises:
        ValueError: for frames of several videos, picks that are not among them, or more or fewer
            scores than frames.
    """
    if not len(ids):
        return blank("no frames to show")
    frames = _frames(pool, ids)
    for name, scores in (("raw", raw), ("smoothed", raw if smoothed is None else smoothed)):
        if len(scores) != len(ids):
            raise ValueError(f"{name} has {len(scores)} scores for {len(ids)} frames")
    if strange := [one for one in (*picks, *before) if one not in ids]:
        raise ValueError(f"{strange[0]!r} was picked, but is not among the frames")
    chosen = _spread([ids.index(one) for one in picks], len(ids), most)
    shape = pool.image(ids[0]).shape
    wide = max(9 / len(chosen), 0.6)
    tall = wide * shape[1] / shape[2] + 0.4
    fig = figure(wide * len(chosen), 2.4 + tall)
    parts: Any = fig.subfigures(2, 1, height_ratios=[2.4, tall])
    upper, lower = parts
    ax = upper.add_subplot()
    ax.plot(frames, list(raw), "-" if smoothed is None else ":", color=RAW, label="raw", gid="raw")
    curve = raw if smoothed is None else smoothed
    if smoothed is not None:
        ax.plot(frames, list(smoothed), color=SMOOTHED, label="smoothed", gid="smoothed")
    for frame in (frames[ids.index(one)] for one in blocked):
        ax.axvspan(frame - 0.5, frame + 0.5, color="#e4e4e4", lw=0, zorder=0, gid="blocked")
    marks = (("picked before", before, GREY, "s"), ("picked", picks, PICK, "o"))
    for name, group, colour, mark in marks:
        places = [ids.index(one) for one in group]
        heights = [float(curve[i]) for i in places]
        look: dict[str, Any] = {"color": colour, "marker": mark, "s": 40, "zorder": 3}
        ax.scatter([frames[i] for i in places], heights, gid=name, label=name, **look)
    _numbered(ax, [(frames[ids.index(one)], float(curve[ids.index(one)])) for one in picks])
    _finish(ax, upper, label, bool(blocked), bool(before))
    for column, i in enumerate(chosen):
        rank = picks.index(ids[i]) + 1 if ids[i] in picks else 0
        small = lower.add_subplot(1, len(chosen), column + 1)
        _thumbnail(small, pool, ids[i], frames[i], rank, ids[i] in blocked)
    return fig


def _frames(pool: Pool, ids: Sequence[str]) -> list[int]:
    infos = [pool.info(image_id) for image_id in ids]
    if len({info.video for info in infos}) > 1:
        raise ValueError("ids are of several videos; draw one at a time")
    return [i if info.frame is None else info.frame for i, info in enumerate(infos)]


def _spread(picks: Sequence[int], n: int, most: int) -> list[int]:
    """Return positions spread over n frames, in order, the picks among them.

    >>> _spread([5], 9, 3)
    [0, 5, 8]
    """
    spread = torch.linspace(0, n - 1, max(min(most, n), 1)).round().int().tolist()
    chosen = dict.fromkeys(spread, False)
    for pick in picks:
        free = [i for i, taken in chosen.items() if not taken]
        if pick not in chosen and free:
            del chosen[min(free, key=lambda i: abs(i - pick))]
        chosen[pick] = True
    return sorted(chosen)


def _numbered(ax: Axes, places: Sequence[tuple[float, float]]) -> None:
    for rank, place in enumerate(places, start=1):
        look: dict[str, Any] = {"fontsize": FONT, "color": PICK, "ha": "center"}
        ax.annotate(str(rank), place, (0, 6), textcoords="offset points", **look)


def _finish(ax: Axes, fig: Any, label: str, blocked: bool, before: bool) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT)
    ax.margins(x=0.01, y=0.05)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0), max(high * 1.1, 1e-9))
    ax.set_xlabel("frame", fontsize=FONT + 1)
    ax.set_ylabel(label, fontsize=FONT + 1)
    handles, names = ax.get_legend_handles_labels()
    kept = [(h, n) for h, n in zip(handles, names, strict=True) if before or n != "picked before"]
    if blocked:
        kept.append((Rectangle((0, 0), 1, 1, color="#e4e4e4"), "blocked"))
    look: dict[str, Any] = {"fontsize": FONT, "frameon": False}
    fig.legend(*zip(*kept, strict=True), loc="outside right upper", **look)


def _thumbnail(ax: Axes, pool: Pool, image_id: str, frame: int, rank: int, blocked: bool) -> None:
    image = pool.image(image_id)
    small, size = (_small(image) * 20).round() / 20, (image.shape[1], image.shape[2])
    picture(ax, 0.65 + 0.35 * small if blocked and not rank else small, None, size=size)
    for x1, y1, x2, y2 in pool.target(image_id).boxes.tolist():
        look: dict[str, Any] = {"fill": False, "edgecolor": PALETTE[6], "linewidth": 0.9}
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
    said = f"{frame}: pick {rank}" if rank else f"{frame}, blocked" if blocked else str(frame)
    ax.set_title(textwrap.shorten(said, 16), fontsize=FONT, color=PICK if rank else "black")
    if rank:
        ax.spines[:].set(visible=True, color=PICK, linewidth=2.5)


def _small(image: Tensor) -> Tensor:
    return avg_pool2d(image.detach().cpu(), max(round(min(image.shape[1:]) / SIDE), 1))


def _bar(
    fig: Figure, shown: AxesImage, axes: Sequence[Axes], label: str | None, shrink: float = 0.95
) -> None:
    bar = fig.colorbar(shown, ax=list(axes), fraction=0.05, pad=0.015, shrink=shrink)
    bar.ax.tick_params(labelsize=FONT)
    bar.set_label(label or "", fontsize=FONT + 1)


def _colours() -> ListedColormap:
    """Return colours that begin clear, so that the image shows where there is nothing."""
    colours = colormaps["inferno_r"](torch.linspace(0.08, 1, 256).numpy())
    colours[:, 3] = (torch.linspace(0, 1, 256) / CLEAR).clamp(max=1).mul(0.92).numpy()
    return ListedColormap(colours)
