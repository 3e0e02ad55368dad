"""Pictures of what NOTE-RCNN learns from: ways of losses, masked rows, precision over θ_b.

What is drawn was measured elsewhere: gradients by the caller, rows and losses by `detectors.note`
and its parts, precision by `papers.note_rcnn.precision_curve`. `draw` hands `routes`, `masked` and
`trade` on; call them there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from torch import Tensor

from almining.boxes import iou
from almining.canvas import FONT, GREY, PALETTE, blank, figure, picture
from almining.records import Target

LIT, PALE = PALETTE[1], "#c4c4c4"
# the head a loss belongs to, and what lies behind a part on the way to the image
HEADS = {
    "rpn_cls": "rpn-cls",
    "rpn_cls_a": "rpn-cls-a",
    "rpn_reg": "rpn-reg",
    "cls": "det-cls",
    "cls_a": "det-cls-a",
    "reg": "det-reg",
    "distill": "det-cls-s",
}
BEHIND = {head: "rpn" if head.startswith("rpn") else "box-features" for head in HEADS.values()}
BEHIND |= {"rpn": "features", "box-features": "features"}
PLACES = {"features": (0.0, 3.25), "rpn": (1.25, 5.0), "box-features": (1.25, 1.5)}
PLACES |= {head: (2.5, 6.0 - n) for n, head in enumerate(HEADS.values())}
WIDE, TALL = 0.92, 0.74
ROWS = {"object": PALETTE[2], "background": GREY, "background, but an object": PALETTE[1]}
RANK = {"object": 0, "background, but an object": 1, "background": 2}  # from left to right
LEVELS = 16  # of a colour below rows: without noise a file is smaller
ON = 0.5  # overlap with an object from which on a row of background is wrong


class Rows(NamedTuple):
    """The rows of one image that det-cls-a could learn from.

    Args:
        title: what to call the image.
        image: (3, h, w) in [0, 1].
        boxes: (n, 4) its regions.
        labels: (n,), 0 for background.
        losses: (n,) of each row, were it to count.
        counts: (n,) bool, whether it does.
        truth: what is in the image.
    """

    title: str
    image: Tensor
    boxes: Tensor
    labels: Tensor
    losses: Tensor
    counts: Tensor
    truth: Target


def routes(reached: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Return the parts of a NOTE-RCNN with the way of each loss lit, case by case.

    A part that a gradient reaches is lit, with the root of the squared norms' sum over the losses;
    so is the way between two parts if one loss reaches both. What a detector lacks is left out.

    Args:
        reached: by case, such as a seed image, and by loss: of each part of `NoteRCNN.parts` the
            norm of the gradient.

    Raises:
        ValueError: for a loss that no head has.
    """
    if not reached:
        return blank("no case to show")
    fig = figure(5.2 * len(reached), 3.9)
    for number, (name, losses) in enumerate(reached.items()):
        if strange := sorted(set(losses) - set(HEADS)):
            raise ValueError(f"loss {strange[0]!r} of {name!r}: use {', '.join(HEADS)}")
        ax = fig.add_subplot(1, len(reached), number + 1)
        _network(ax, losses)
        ax.set_title(name, fontsize=FONT + 2, loc="left")
    keys = [Patch(facecolor=LIT, label="a gradient comes here"), Patch(facecolor=PALE)]
    keys[1].set_label("none does")
    look: dict[str, Any] = {"fontsize": FONT, "frameon": False, "handlelength": 1.2}
    fig.legend(handles=keys, loc="outside lower left", ncols=2, **look)
    return fig


def _network(ax: Axes, losses: Mapping[str, Mapping[str, float]]) -> None:
    parts = [part for part in PLACES if any(part in one for one in losses.values())]
    sums = {p: math.sqrt(sum(one.get(p, 0.0) ** 2 for one in losses.values())) for p in parts}
    for part in parts:
        (x, y), behind = PLACES[part], BEHIND.get(part)
        if behind is not None:
            both = any(one.get(part, 0) > 0 < one.get(behind, 0) for one in losses.values())
            start, end = (PLACES[behind][0] + WIDE, PLACES[behind][1]), (x, y)
            look = {"color": LIT if both else PALE, "lw": 2.4 if both else 1.0, "zorder": 1}
            gid = f"{behind}<{part}" if both else None
            ax.plot(*zip(start, end, strict=True), gid=gid, **look)  # type: ignore[arg-type]
    for part in parts:
        x, y = PLACES[part]
        lit = sums[part] > 0
        colour, style = LIT if lit else PALE, "round,pad=0,rounding_size=0.12"
        box = FancyBboxPatch((x, y - TALL / 2), WIDE, TALL, boxstyle=style, facecolor="white")
        box.set(edgecolor=colour, linewidth=2.2 if lit else 1.0, gid=part if lit else None)
        ax.add_patch(box)
        said = f"{part}\n{sums[part]:.2g}" if lit else f"{part}\nnothing"
        ink: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT}
        ax.text(x + WIDE / 2, y, said, color="black" if lit else GREY, **ink)
    ax.set(xlim=(-0.05, 2.5 + WIDE + 0.05), ylim=(-0.5, 6.5))
    ax.set_axis_off()


def masked(images: Sequence[Rows]) -> Figure:
    """Return the rows of a batch, an image each column: where they lie, and what each would cost.

    A filled bar counts, a hollow one is masked; rows go by kind, and then by loss. Orange are rows
    of background that lie on an object (IoU of 0.5): nobody boxed it.

    Args:
        images: of a batch.
    """
    if not images:
        return blank("no rows to show")
    fig = figure(4.9 * len(images), 6.0)
    cells = fig.add_gridspec(2, len(images), height_ratios=[3, 2])
    high = max((float(one.losses.max()) for one in images if len(one.losses)), default=1.0)
    for column, one in enumerate(images):
        above, ax = (fig.add_subplot(cells[row, column]) for row in (0, 1))
        picture(above, 0.35 + 0.65 * (one.image.cpu() * LEVELS).round() / LEVELS, one.title)
        _rows(above, ax, one)
        said = f"{int(one.counts.sum())} of {len(one.counts)} rows count"
        ax.set_xlabel(said, fontsize=FONT + 1)
        ax.set_ylabel("" if column else "loss of the row", fontsize=FONT + 1)
        ax.set(ylim=(0, high * 1.05), xlim=(-1, max(len(one.counts), 1)), xticks=[])
        ax.tick_params(labelsize=FONT)
        ax.spines[["top", "right"]].set_visible(False)
    keys = [Patch(facecolor=colour, label=kind) for kind, colour in ROWS.items()]
    keys.append(Patch(facecolor="white", edgecolor="black", label="hollow: masked"))
    look: dict[str, Any] = {"fontsize": FONT, "frameon": False, "handlelength": 1.2}
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), **look)
    return fig


def _rows(above: Axes, below: Axes, one: Rows) -> None:
    """Draw the rows of an image: their boxes over it, their losses as bars."""
    kinds, losses = tell_rows(one), one.losses.tolist()
    order = sorted(range(len(kinds)), key=lambda i: (RANK[kinds[i]], -losses[i]))
    for place, row in enumerate(order):
        counts, kind = bool(one.counts[row]), kinds[row]
        look: dict[str, Any] = {"edgecolor": ROWS[kind], "gid": "counts" if counts else "masked"}
        x1, y1, x2, y2 = one.boxes[row].tolist()
        style: dict[str, Any] = {
            "linestyle": "-" if counts else ":",
            "linewidth": 0.6 if RANK[kind] == 2 else 1.4,
        }
        corner, depth = (x1, y1), 3 - RANK[kind] // 2
        above.add_patch(
            Rectangle(corner, x2 - x1, y2 - y1, fill=False, zorder=depth, **style, **look)
        )
        look["facecolor"] = ROWS[kind] if counts else "white"
        below.bar(place, losses[row], 0.8, linewidth=0.8, **look)


def tell_rows(rows: Rows) -> list[str]:
    """Return which of `ROWS` each row is.

    >>> import torch
    >>> boxes, none = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9]]), torch.zeros(2)
    >>> truth = Target(boxes[1:], torch.tensor([1]))
    >>> image, labels = torch.zeros(3, 9, 30), none.long()
    >>> tell_rows(Rows("", image, boxes, labels, none, none.bool(), truth))
    ['background', 'background, but an object']
    """
    known = rows.truth.to("cpu")
    there = (iou(rows.boxes.detach().cpu(), known.boxes[~known.ignore]) >= ON).any(dim=1)
    boxed, background, wrong = ROWS
    names = zip(rows.labels.tolist(), there.tolist(), strict=True)
    return [boxed if label else wrong if on else background for label, on in names]


def trade(curves: Mapping[str, Sequence[Any]], min_score: float | None = None) -> Figure:
    """Return the precision of mined boxes over their number, and where one θ_b stands.

    Args:
        curves: by name, scores (k,), numbers (k,) and precisions (k,), as
            `papers.note_rcnn.precision_curve` returns them.
        min_score: θ_b; each curve's number and precision there are in the legend.
    """
    if not curves:
        return blank("no curve to show")
    fig = figure(6.4, 3.2)
    ax = fig.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        colour, said = PALETTE[number % len(PALETTE)], name
        ax.plot(curve[1], curve[2], color=colour, lw=1.4, gid=name)
        if min_score is not None:
            count, precision = kept(curve, min_score)
            said += f": {count} boxes" + (
                "" if math.isnan(precision) else f", {precision:.0%} right"
            )
            ax.plot([count], [precision], "o", color=colour, ms=8, gid="here")
        ax.plot([], [], "o-", color=colour, label=said)
    if min_score is not None:
        ax.set_title(f"θ_b = {min_score:.2f}", fontsize=FONT + 2, loc="left")
    ax.set(ylim=(0, 1.04), xlim=(0, None))
    ax.set_xlabel("boxes mined", fontsize=FONT + 1)
    ax.set_ylabel("share that is right", fontsize=FONT + 1)
    ax.tick_params(labelsize=FONT)
    ax.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower left", fontsize=FONT, frameon=False)
    return fig


def kept(curve: Sequence[Any], min_score: float) -> tuple[int, float]:
    """Return how many boxes score more than θ_b, and which share of them is right; NaN for none.

    >>> kept(([0.9, 0.8, 0.2], [1, 3, 4], [1.0, 1.0, 0.75]), 0.8)
    (1, 1.0)
    """
    above = sum(float(score) > min_score for score in curve[0])
    return (int(curve[1][above - 1]), float(curve[2][above - 1])) if above else (0, math.nan)
