"""Pictures of box-in-box pairs, and of how images are chosen by them.

A pair is a small box inside a large one of its class; what makes one is `papers.bib.find_pairs`,
how images are chosen by theirs `select.kmeans_pp_groups`. `draw` hands both functions on; call them
there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable, viridis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from almining.boxes import judge
from almining.canvas import FONT, GREY, PALETTE, add_box, axes_for, blank, figure, picture, settled
from almining.records import Detections, Target

SMALL, LARGE = PALETTE[1], PALETTE[0]
HALO = [withStroke(linewidth=2.4, foreground="#ffffffa0")]
KINDS = {"right": PALETTE[2], "part": PALETTE[5], "group": PALETTE[3], "other": GREY}


def pairs(
    image: Tensor,
    detections: Detections,
    pairs: Tensor,
    *,
    classes: Sequence[str],
    truth: Target | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    limit: int | None = None,
) -> Figure:
    """Return a figure of an image with its pairs: small boxes are filled, large ones outlined.

    With the truth, the colour tells right boxes from parts, groups and others (`boxes.judge`, among
    objects of the box's class), and true boxes of the classes shown are dotted.

    Args:
        image: (3, h, w) in [0, 1].
        detections: of the image.
        pairs: (p, 2) rows of them, small and large.
        classes: names of classes 1...C.
        truth: what is in the image.
        ax: where to draw; a new figure by default.
        title: above the image.
        limit: at most so many pairs, those of the highest sum of scores.
    """
    ax = axes_for(image, below=0.3) if ax is None else ax
    picture(ax, image, title)
    kept = add_pairs(ax, detections, pairs, classes=classes, truth=truth, limit=limit)
    said = f"{kept} of {len(pairs)} pairs" if kept < len(pairs) else f"{kept} pairs"
    said = said.removesuffix("s") if said == "1 pairs" else said
    text = f"{said}: the small box filled, the large one outlined"
    across = int(ax.get_window_extent().width / 5)
    ax.set_xlabel(textwrap.fill(text, max(across, 20)), fontsize=FONT, loc="left")
    return settled(ax)


def add_pairs(
    ax: Axes,
    detections: Detections,
    pairs: Tensor,
    *,
    classes: Sequence[str],
    truth: Target | None = None,
    limit: int | None = None,
) -> int:
    """Draw pairs as `pairs` does onto an image; return how many."""
    found, rows = detections.to("cpu"), pairs.detach().cpu()
    order = found.scores[rows].sum(dim=1).argsort(descending=True, stable=True)
    rows = rows[order[:limit]]
    small, large = set(rows[:, 0].tolist()), set(rows[:, 1].tolist())
    known = None if truth is None else truth.to("cpu")
    for box in () if known is None else known.boxes[torch.isin(known.labels, found.labels[rows])]:
        look = {"fill": False, "edgecolor": "black", "linestyle": ":", "linewidth": 1.4}
        ax.add_patch(_frame(box, **look, path_effects=HALO))
    kinds = None if known is None else tell(found, known)
    for i in sorted(small | large, key=lambda i: i in small):  # large ones beneath
        name = f"{classes[int(found.labels[i]) - 1]} {float(found.scores[i]):.2f}"
        colour = SMALL if i in small else LARGE
        if kinds is not None:
            name, colour = f"{kinds[i]}: {name}", KINDS[kinds[i]]
        if i in small:
            ax.add_patch(_frame(found.boxes[i], facecolor=colour, alpha=0.35, linewidth=0))
        add_box(ax, found.boxes[i], name, colour, "-")
    return len(rows)


def tell(detections: Detections, truth: Target) -> list[str]:
    """Return what each detection is to the objects of its class, as `boxes.judge` says."""
    found, known = detections.to("cpu"), truth.to("cpu")
    return judge(found.boxes, known.boxes, found.labels[:, None] == known.labels)


def selection(
    features: Tensor,
    groups: Sequence[Hashable],
    picks: Sequence[Hashable],
    step: int | Sequence[int],
    *,
    chosen: Sequence[Hashable] = (),
) -> Figure:
    """Return a figure of rows in feature space after some groups were chosen for their rows.

    The two axes are those along which the rows differ most; the colour is the distance to the
    nearest row chosen, in all dimensions: what the next row is drawn by, on one scale for all
    steps. Chosen rows are crosses, bold ones those of the last pick.

    Args:
        features: (p, d), one row for each pair.
        groups: p ids of what the rows belong to, such as images.
        picks: ids in the order they were chosen.
        step: how many of `picks` were made; several numbers are drawn side by side.
        chosen: ids that were chosen before.

    Raises:
        ValueError: when there are not as many ids as rows, or no such step.
    """
    if len(groups) != len(features):
        raise ValueError(f"{len(groups)} groups for {len(features)} rows; every row needs one")
    steps = [step] if isinstance(step, int) else list(step)
    if not steps or not all(0 <= one <= len(picks) for one in steps):
        raise ValueError(f"step = {step}: {len(picks)} picks were made, so 0...{len(picks)}")
    if not len(features):
        return blank("no pairs to choose from")
    rows = features.detach().cpu().double()
    places, shares = project(rows)
    top = float(_away(rows, _among(groups, [*chosen, *picks[:1]])).max()) or 1.0
    fig = figure(max(2.9 * len(steps), 4.4) + 0.8, 3.5)
    for number, one in enumerate(steps):
        ax = fig.add_subplot(1, len(steps), number + 1)
        before, last = _among(groups, [*chosen, *picks[:one]]), _among(groups, picks[:one][-1:])
        _rows(ax, places, before, last, _away(rows, before), top)
        ax.set_title(f"{one}: {picks[one - 1]}" if one else "0", fontsize=FONT + 1, loc="left")
        ax.set_xlabel(f"first axis, {shares[0]:.0%} of the spread", fontsize=FONT)
        ax.set_ylabel(f"second axis, {shares[1]:.0%}" if not number else "", fontsize=FONT)
    scale = ScalarMappable(Normalize(0, top), viridis)
    bar = fig.colorbar(scale, ax=fig.axes, shrink=0.85, fraction=0.05, pad=0.02)
    bar.set_label("distance to the nearest chosen row", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    note = "crosses: rows of what is chosen; bold: of the last pick"
    fig.supxlabel(note, fontsize=FONT, color=GREY, x=0.01, ha="left")
    return fig


def _rows(ax: Axes, places: Tensor, before: Tensor, last: Tensor, away: Tensor, top: float) -> None:
    """Draw rows at their places: dots, and crosses where they are chosen."""
    colour = viridis((away[~before] / top).numpy()) if before.any() else GREY
    looks: list[tuple[str, Tensor, dict[str, Any]]] = [
        ("free", ~before, {"s": 16, "color": colour}),
        ("chosen", before & ~last, {"s": 22, "color": "black", "marker": "x", "linewidths": 1}),
        ("last", last, {"s": 60, "color": SMALL, "marker": "X", "edgecolors": "white"}),
    ]
    for name, rows, look in looks:
        x, y = places[rows].unbind(dim=1)
        ax.scatter(x, y, gid=name, **look)
    ax.set(xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)


def _among(groups: Sequence[Hashable], chosen: Sequence[Hashable]) -> Tensor:
    known = set(chosen)
    return torch.tensor([group in known for group in groups])


def _away(rows: Tensor, chosen: Tensor) -> Tensor:
    """Return the distance (p,) of each row to the nearest chosen one; 0 where none is."""
    if not chosen.any():
        return torch.zeros(len(rows))
    return torch.cdist(rows, rows[chosen]).amin(dim=1)


def project(rows: Tensor) -> tuple[Tensor, list[float]]:
    """Return rows (p, d) along the two axes of most variance, (p, 2), and each axis's share.

    >>> places, shares = project(torch.tensor([[0.0, 0, 1], [2, 0, 1], [7, 0, 1]]))
    >>> [round(x, 3) for x in places[:, 0].tolist()], shares
    ([-3.0, -1.0, 4.0], [1.0, 0.0])
    """
    centred = rows - rows.mean(dim=0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    places = torch.zeros(len(rows), 2, dtype=rows.dtype)
    shares = [0.0, 0.0]
    for axis in range(min(2, len(sizes))):
        column = left[:, axis] * sizes[axis]
        places[:, axis] = column * (1 if column[column.abs().argmax()] > 0 else -1)
        shares[axis] = float(sizes[axis] ** 2 / sizes.square().sum().clamp(min=1e-12))
    return places, shares


def _frame(box: Tensor, **look: object) -> Rectangle:
    x1, y1, x2, y2 = box.tolist()
    return Rectangle((x1, y1), x2 - x1, y2 - y1, **look)  # type: ignore[arg-type]
