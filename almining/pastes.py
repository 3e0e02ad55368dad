"""Pictures of regions pasted elsewhere, of the consistency this makes, and of what follows from it.

What is pasted where and what it is worth is `papers.ssm`'s to say; here it is only drawn. `draw`
hands `pastes`, `build_up` and `split` on; call them there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from almining.boxes import iou
from almining.canvas import FONT, GREY, PALETTE, add_box, blank, figure, picture, settled
from almining.records import Detections

SAME, OTHER = PALETTE[2], PALETTE[1]  # of the class it was taken for, of another one
PLACE = "#000000"
# what becomes of a region, by the verdict of `papers.ssm.verdicts`
FATES = {
    "trusted": ("trust", PALETTE[2]),
    "ambiguous": ("ask", PALETTE[1]),
    "low": ("leave", GREY),
    "undetermined": ("undetermined", PALETTE[4]),
}
LEVELS = 12  # of each colour in small pictures: without noise a file is half as large
ASIDE = -0.08  # where undetermined regions stand on an axis from 0 to 1


class Paste(NamedTuple):
    """A region pasted into an image, and what a detector says.

    Args:
        image: (3, h, w), with the region in it.
        box: (4,) where it lies.
        found: what is detected in the image.
        term: what that says of the region, in [0, 1]; see `papers.ssm.image_terms`.
    """

    image: Tensor
    box: Tensor
    found: Detections
    term: float


class Trial(NamedTuple):
    """A region in its own image, and in others.

    Args:
        title: what to call it.
        image: (3, h, w) it is from.
        box: (4,) where it is.
        label: the class it is taken for.
        pasted: into other images.
    """

    title: str
    image: Tensor
    box: Tensor
    label: int
    pasted: Sequence[Paste]


def pastes(trials: Sequence[Trial], *, classes: Sequence[str], min_iou: float = 0.5) -> Figure:
    """Return a figure of regions, one a row: in its own image, then in each it was pasted into.

    Where it was pasted is dotted. Solid is the surest answer of those that overlap the place by
    `min_iou`: green where it names the class of the region, orange where it names another. Without
    one it is the detection of most overlap, grey.

    Args:
        trials: what to show, first to last.
        classes: names of classes 1...C.
        min_iou: γ.
    """
    if not trials:
        return blank("no region to show")
    columns = 1 + max(len(one.pasted) for one in trials)
    shapes = [
        image.shape for one in trials for image in (one.image, *(p.image for p in one.pasted))
    ]
    wide = min(7.3 / columns, 2.4)
    tall = wide * min(max(height / width for _, height, width in shapes), 1.5) + 0.55
    fig = figure(wide * columns, tall * len(trials))
    for row, trial in enumerate(trials):
        ax = fig.add_subplot(len(trials), columns, row * columns + 1)
        picture(ax, _plain(trial.image), trial.title)
        name = classes[trial.label - 1]
        add_box(ax, trial.box, f"{name}?", PLACE, "-")
        ax.set_xlabel(_sum(trial), fontsize=FONT, loc="left")
        for column, one in enumerate(trial.pasted, start=2):
            ax = fig.add_subplot(len(trials), columns, row * columns + column)
            picture(ax, _plain(one.image), None)
            _answer(ax, one, trial.label, classes, min_iou)
    return settled(*fig.axes)


def _plain(image: Tensor) -> Tensor:
    return (image * LEVELS).round() / LEVELS


def _sum(trial: Trial) -> str:
    if not trial.pasted:
        return "undetermined:\nno image lacks its class"
    return f"consistency {math.fsum(one.term for one in trial.pasted) / len(trial.pasted):.2f}"


def _answer(ax: Axes, one: Paste, label: int, classes: Sequence[str], min_iou: float) -> None:
    """Draw the place of a paste and the detector's answer; say below what it is worth."""
    found, name = one.found.to("cpu"), classes[label - 1]
    x1, y1, x2, y2 = one.box.tolist()
    look = {"fill": False, "edgecolor": PLACE, "linestyle": ":", "linewidth": 1.6}
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))  # type: ignore[arg-type]
    overlap = iou(found.boxes, one.box.cpu()[None])[:, 0]
    near = overlap >= min_iou
    if not bool((overlap > 0).any()):
        ax.set_xlabel(f"nothing there\nas {name}: {one.term:.2f}", fontsize=FONT, loc="left")
        return
    best = int((found.scores * near).argmax() if near.any() else overlap.argmax())
    said = int(found.labels[best])
    colour = GREY if not near[best] else SAME if said == label else OTHER
    answer = f"{classes[said - 1]} {float(found.scores[best]):.2f}"
    add_box(ax, found.boxes[best], answer, colour, "-")
    shown = math.floor(100 * float(overlap[best]) + 1e-4) / 100  # 0.497 is not 0.50
    text = f"IoU {shown:.2f}{'' if near[best] else ', not it'}"
    ax.set_xlabel(f"{text}\nas {name}: {one.term:.2f}", fontsize=FONT, loc="left")


def build_up(
    terms: Sequence[float] | Tensor, *, matched: Sequence[bool] | Tensor | None = None
) -> Figure:
    """Return a figure of a consistency as the sum of what each image adds to it.

    A step is an image's term divided by their number; pale is what it would add if the detector
    were certain. The last bar is the consistency.

    Args:
        terms: m of them, in [0, 1].
        matched: in which images the region was found; by default where the term is above 0.
    """
    values = [float(one) for one in terms]
    if not values:
        return blank("undetermined: no image to paste into")
    there = [value > 0 for value in values] if matched is None else [bool(one) for one in matched]
    if len(there) != len(values):
        raise ValueError(f"matched has {len(there)} entries for {len(values)} terms; give as many")
    count, below = len(values), 0.0
    fig = figure(1.0 * (count + 1) + 0.8, 2.6)
    ax = fig.add_subplot()
    for place, (value, seen) in enumerate(zip(values, there, strict=True)):
        ax.bar(place, 1 / count, bottom=below, color="#e9e9e9", width=0.7, gid="most")
        ax.bar(place, value / count, bottom=below, color=SAME, width=0.7, gid="term")
        said = f"{value:.2f} / {count}" if seen else "not found: 0"
        ax.text(place, below + 1 / count + 0.02, said, fontsize=FONT, ha="center")
        top = below + value / count
        ax.plot([place - 0.35, place + 1.35], [top, top], color=GREY, lw=0.8, ls=":")
        below = top
    ax.bar(count, below, color=PALETTE[0], width=0.7, gid="sum")
    ax.text(count, below + 0.02, f"s = {below:.2f}", fontsize=FONT + 1, ha="center")
    names = [*(f"image {n}" for n in range(1, count + 1)), "consistency"]
    ax.set_xticks(range(count + 1), names, fontsize=FONT)
    ax.tick_params(labelsize=FONT)
    ax.set_ylim(0, 1.08)
    ax.set_ylabel("sum so far", fontsize=FONT + 1)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def split(
    consistencies: Sequence[float | None],
    scores: Sequence[float] | Tensor,
    verdicts: Sequence[str],
    *,
    right: Sequence[bool] | Tensor | None = None,
    cut: float | None = None,
    title: str | None = None,
) -> Figure:
    """Return a figure of regions by consistency and confidence, in colours of what becomes of them.

    Args:
        consistencies: of n regions, None where undetermined: those stand aside.
        scores: (n,) how sure the detector is of each in its own image.
        verdicts: n of `FATES`, as `papers.ssm.verdicts` gives them.
        right: (n,) whether it is an object of its class; others are crosses. Its share is in the
            legend.
        cut: the lowest consistency that is trusted, a line.
        title: above.

    Raises:
        ValueError: for lists of different lengths, or an unknown verdict.
    """
    counts = {len(consistencies), len(scores), len(verdicts)}
    if len(counts | (set() if right is None else {len(right)})) > 1:
        raise ValueError("consistencies, scores, verdicts and right must be as many as each other")
    if strange := sorted(set(verdicts) - set(FATES)):
        raise ValueError(f"verdict {strange[0]!r}: use {', '.join(FATES)}")
    fig = figure(6.6, 3.4)
    ax = fig.add_subplot()
    x = torch.tensor([ASIDE if one is None else float(one) for one in consistencies])
    y = torch.as_tensor(scores, dtype=torch.float32).cpu()
    true = torch.ones(len(x)).bool() if right is None else torch.as_tensor(right).bool().cpu()
    for verdict, (name, colour) in FATES.items():
        of = torch.tensor([one == verdict for one in verdicts], dtype=torch.bool)
        if not of.any() and verdict == "undetermined":
            continue
        share = f", {float(true[of].float().mean()):.0%} right" if of.any() else ""
        said = f"{name}: {int(of.sum())}{share if right is not None else ''}"
        for some, mark in ((of & true, "o"), (of & ~true, "x")):
            ax.scatter(x[some], y[some], s=24, c=colour, marker=mark, alpha=0.85, gid=name)
        ax.scatter([], [], s=24, c=colour, label=said)
    if right is not None:
        ax.scatter([], [], s=24, c="black", marker="x", label="not right")
    if cut is not None:
        ax.axvline(cut, color="black", lw=1, ls="--", gid="cut")
    ax.set(xlim=(ASIDE - 0.04, 1.04), xticks=[0, 0.25, 0.5, 0.75, 1])
    ax.set_xlabel("consistency in other images, Eq. 6", fontsize=FONT + 1)
    ax.set_ylabel("confidence in its own image", fontsize=FONT + 1)
    ax.tick_params(labelsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    if title is not None:
        ax.set_title(title, fontsize=FONT + 1, loc="left")
    fig.legend(loc="outside right upper", fontsize=FONT, frameon=False)
    return fig
