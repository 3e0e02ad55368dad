"""Pictures of what two views of an image label for each other, and of what a missing box does.

Which boxes are mined is `papers.comining`'s; here they are told apart by the truth and drawn.
`draw` hands these functions on; call them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, MaxNLocator
from torch import Tensor

from almining.boxes import iou
from almining.canvas import FONT, GREY, PALETTE, add_box, axes_for, blank, figure, picture, settled
from almining.checks import HUMAN
from almining.records import Target

KINDS = {
    "found": PALETTE[2],
    "repeat": PALETTE[4],
    "wrong class": PALETTE[1],
    "badly placed": PALETTE[3],
    "other": PALETTE[6],
}
MISSED, DRAWN, DROPPED = "black", "#000000", "#b9b9b9"
UP, DOWN = PALETTE[0], PALETTE[1]
NEAR = 0.1  # overlap from which on a box is badly placed rather than of nothing
LEVELS = 24  # of each colour of an image: a file is half as large
NAMED = 6  # mined boxes of an image at most that are named


class Told(NamedTuple):
    """What mined boxes are.

    Args:
        kinds: one of `KINDS` for each mined box.
        missed: rows of the truth that no box is right about.
    """

    kinds: list[str]
    missed: list[int]


def tell_mined(target: Target, truth: Target, *, min_iou: float = 0.5) -> Told:
    """Say what each mined box is to the true ones, and what is missed.

    A person's boxes take the objects they match first; then the mined ones, in their order, each
    the free one of its class it overlaps most: "found". One that could only take an object that is
    taken is a "repeat"; one on an object of another class has the "wrong class"; one that overlaps
    an object of its class a little (IoU of at least 0.1) is "badly placed"; the rest is "other".

    Args:
        target: with mined boxes, the best first.
        truth: everything there is; ignored boxes are left out.
        min_iou: the overlap at which a box is right.

    >>> boxes, label = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]]), torch.tensor([1])
    >>> found = Target(boxes[:1], label, origin=["mined"], complete=False)
    >>> tell_mined(found, Target(boxes, label.repeat(2)))
    Told(kinds=['found'], missed=[1])
    """
    here, known = target.to("cpu"), truth.to("cpu")
    counted = (~known.ignore).nonzero()[:, 0]
    shared = iou(here.boxes.double(), known.boxes[counted].double())  # (n, m)
    same = here.labels[:, None] == known.labels[counted]
    free, kinds = torch.ones(len(counted), dtype=torch.bool), []
    person = torch.tensor([name == HUMAN for name in here.origin], dtype=torch.bool)
    for row in [*person.nonzero()[:, 0].tolist(), *(~person).nonzero()[:, 0].tolist()]:
        right = same[row] & (shared[row] >= min_iou)
        if (right & free).any():
            free[(shared[row] * (right & free)).argmax()] = False
            kind = "found"
        elif right.any():
            kind = "repeat"
        elif (shared[row] >= min_iou).any():
            kind = "wrong class"
        else:
            kind = "badly placed" if (same[row] & (shared[row] >= NEAR)).any() else "other"
        kinds += [] if person[row] else [kind]
    return Told(kinds, counted[free].tolist())


def mined(
    image: Tensor,
    target: Target,
    *,
    classes: Sequence[str],
    truth: Target | None = None,
    before: Target | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Return a figure of an image with its mined boxes; a person's are black.

    With the truth, the colour says what a mined box is, and what is missed is dotted.

    Args:
        image: (3, h, w) in [0, 1].
        target: a person's and mined boxes; up to six mined ones are named.
        classes: names of classes 1...C.
        truth: what is in the image.
        before: an earlier state; what it had beyond `target` is drawn in pale grey.
        ax: where to draw; a new figure by default.
        title: above the image.
    """
    ax = axes_for(image) if ax is None else ax
    picture(ax, (image * LEVELS).round() / LEVELS, title)
    here = target.to("cpu")
    person = [name == HUMAN for name in here.origin]
    told = None if truth is None else tell_mined(here, truth)
    if before is not None:
        kept = {tuple(box) for box in here.boxes.tolist()}
        for box in before.boxes.cpu():
            if tuple(box.tolist()) not in kept:
                ax.add_patch(_frame(box, DROPPED, "-", 1.0, "dropped"))
    if truth is not None and told is not None:
        for box in truth.boxes.cpu()[told.missed]:
            ax.add_patch(_frame(box, MISSED, ":", 1.6, "missed"))
    kinds = iter(told.kinds if told else ["found"] * len(person))
    named = len(person) - sum(person) <= NAMED
    for i in sorted(range(len(person)), key=lambda i: not person[i]):
        if person[i]:
            ax.add_patch(_frame(here.boxes[i], DRAWN, "-", 2.0, "drawn"))
            continue
        colour = KINDS[next(kinds)]
        if named:
            name = f"{classes[int(here.labels[i]) - 1]} {float(here.scores[i]):.2f}"
            add_box(ax, here.boxes[i], name, colour, "--")
        else:
            ax.add_patch(_frame(here.boxes[i], colour, "--", 1.2, "mined"))
    return settled(ax)


def steps(
    image: Tensor, left: Mapping[str, Target], *, classes: Sequence[str], truth: Target
) -> Figure:
    """Return an image after each step of co-generation, side by side.

    Args:
        image: (3, h, w) in [0, 1].
        left: what a step left, by its name; what the step before had beyond it is pale.
        classes: names of classes 1...C.
        truth: what is in the image.
    """
    fig = _row(image, len(left))
    last: Target | None = None
    for number, (name, target) in enumerate(left.items()):
        count = sum(origin != HUMAN for origin in target.origin)
        ax = fig.add_subplot(1, len(left), number + 1)
        told = {"classes": classes, "truth": truth, "before": last}
        mined(image, target, ax=ax, title=f"{name}: {count} left", **told)  # type: ignore[arg-type]
        last = target
    _key(fig, dropped=True)
    return settled(*fig.axes) if left else blank("no step to show")


def branches(
    moments: Mapping[str, Sequence[tuple[Tensor, Target]]],
    truths: Sequence[Target],
    *,
    names: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """Return what taught each view of an image as training went on: a column for each moment.

    Args:
        moments: by name, for each view its image (3, h, w) and what taught it.
        truths: what is in the image, at each moment.
        names: of the views, top down.
        classes: names of classes 1...C.
    """
    if not moments:
        return blank("no moment to show")
    fig = _row(next(iter(moments.values()))[0][0], len(moments), len(names))
    for column, ((title, views), truth) in enumerate(zip(moments.items(), truths, strict=True)):
        for row, (image, target) in enumerate(views):
            ax = fig.add_subplot(len(names), len(moments), row * len(moments) + column + 1)
            heading = None if row else title
            mined(image, target, classes=classes, truth=truth, ax=ax, title=heading)
            ax.set_ylabel("" if column else names[row], fontsize=FONT + 1)
    _key(fig)
    return settled(*fig.axes)


def tally(
    counts: Mapping[str, Sequence[Mapping[str, float]]], starts: Sequence[float], *, label: str
) -> Figure:
    """Return bars of what was mined as training went on, missed objects below the line.

    Args:
        counts: for each view, by name, one mapping from `KINDS` and "missed" to a number for each
            stretch of training.
        starts: where the stretches begin, and where the last one ends, in steps.
        label: what is counted.

    Raises:
        ValueError: for more or fewer mappings than stretches.
    """
    fig = figure(4.4 * max(len(counts), 1), 3.1)
    first: Axes | None = None
    widths = [end - start for start, end in pairwise(starts)]
    for number, (name, each) in enumerate(counts.items()):
        if len(each) != len(widths):
            raise ValueError(
                f"counts[{name!r}] has {len(each)} stretches, and {len(starts)} starts make "
                f"{len(widths)}; give where each begins, and where the last one ends"
            )
        ax = first = fig.add_subplot(1, len(counts), number + 1, sharey=first)
        bottom = [0.0] * len(widths)
        look: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.6}
        for kind, colour in KINDS.items():
            tall = [one.get(kind, 0) for one in each]
            ax.bar(starts[:-1], tall, widths, bottom, color=colour, gid=kind, **look)
            bottom = [low + high for low, high in zip(bottom, tall, strict=True)]
        below = [-one.get("missed", 0) for one in each]
        dots: dict[str, Any] = {"hatch": "...", "color": "white", "edgecolor": GREY}
        ax.bar(starts[:-1], below, widths, gid="missed", **(look | dots))
        ax.axhline(0, color="black", lw=0.8)
        ax.set_title(name, fontsize=FONT + 1, loc="left")
        ax.set_xlabel("step", fontsize=FONT + 1)
        ax.set_ylabel("" if number else label, fontsize=FONT + 1)
        ax.tick_params(labelsize=FONT)
        ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        few = len(starts) <= 9
        ax.xaxis.set_major_locator(FixedLocator(starts) if few else MaxNLocator(6, integer=True))
        ax.spines[["top", "right"]].set_visible(False)
    _key(fig, drawn=False)
    return fig


def pushes(
    image: Tensor,
    cases: Mapping[str, tuple[Target, Tensor, Tensor]],
    *,
    region: int = 8,
    truth: Target | None = None,
    label: str = "gradient",
) -> Figure:
    """Return which way a loss pushes the scores, place by place, in several cases side by side.

    Blue pushes scores up and orange down, on one scale.

    Args:
        image: (3, h, w) in [0, 1].
        cases: by name, the boxes that are known, drawn black; the anchors (a, 4) in the loss; and
            its gradient with respect to each one's score, (a,): above 0, it is pushed down.
        region: side in pixels; anchors are added up where their centres lie.
        truth: what is in the image; boxes that a case lacks are dotted.
        label: beside the colour bar.
    """
    fig = _row(image, len(cases), key=0.0, bar=0.8)
    maps = {name: gathered(*one[1:], image, region) for name, one in cases.items()}
    top = max((float(one.abs().max()) for one in maps.values()), default=0.0) or 1.0
    pale = 0.55 + 0.45 * image.cpu().mean(dim=0, keepdim=True).expand(3, -1, -1)
    for number, (name, (known, *_)) in enumerate(cases.items()):
        ax = fig.add_subplot(1, len(cases), number + 1)
        picture(ax, pale, name)
        tall, wide = (side * region for side in maps[name].shape)
        look: dict[str, Any] = {"extent": (0, wide, tall, 0), "interpolation": "nearest"}
        shown = ax.imshow(maps[name].numpy(), vmin=-top, vmax=top, cmap=_both_ways(), **look)
        for box in known.boxes.cpu():
            ax.add_patch(_frame(box, DRAWN, "-", 2.0, "drawn"))
        for box in () if truth is None else truth.boxes.cpu():
            if not len(known) or float(iou(box[None], known.boxes.cpu()).max()) < 0.99:
                ax.add_patch(_frame(box, MISSED, ":", 1.6, "missed"))
    if cases:
        bar = fig.colorbar(shown, ax=fig.axes, shrink=0.8, fraction=0.05, pad=0.02)
        bar.set_label(label, fontsize=FONT)
        bar.ax.tick_params(labelsize=FONT)
    return fig


def gathered(anchors: Tensor, values: Tensor, image: Tensor, region: int) -> Tensor:
    """Return (y, x), the sum of the values (a,) of anchors whose centres lie in each region."""
    tall, wide = (-(-side // region) for side in image.shape[1:])
    centres = ((anchors[:, :2] + anchors[:, 2:]).detach().cpu() / 2 / region).long()
    rows, columns = centres[:, 1].clamp(0, tall - 1), centres[:, 0].clamp(0, wide - 1)
    sums = torch.zeros(tall * wide)
    return sums.index_add(0, rows * wide + columns, values.detach().cpu().float()).view(tall, wide)


def _both_ways() -> LinearSegmentedColormap:
    stops = [(0.0, UP), (0.5, "#ffffff00"), (1.0, DOWN)]
    return LinearSegmentedColormap.from_list("pushes", stops)


def _row(image: Tensor, columns: int, rows: int = 1, key: float = 0.35, bar: float = 0.2) -> Figure:
    cell = min(3.0 if rows == 1 else 2.4, 10.4 / max(columns, 1))
    tall = cell * image.shape[1] / image.shape[2]
    return figure(cell * max(columns, 1) + bar, tall * rows + 0.25 + key)


def _key(fig: Figure, *, dropped: bool = False, drawn: bool = True) -> None:
    keys = [Patch(facecolor=colour, label=kind) for kind, colour in KINDS.items()]
    keys.append(Patch(fill=False, edgecolor=MISSED, linestyle=":", label="missed"))
    if drawn:
        keys.append(Patch(fill=False, edgecolor=DRAWN, label="drawn by a person"))
    if dropped:
        keys.append(Patch(fill=False, edgecolor=DROPPED, label="dropped by this step"))
    look: dict[str, Any] = {"fontsize": FONT, "frameon": False, "handlelength": 1.2}
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), columnspacing=1.1, **look)


def _frame(box: Tensor, colour: str, style: str, width: float, name: str) -> Rectangle:
    x1, y1, x2, y2 = box.tolist()
    look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linestyle": style, "gid": name}
    if name in ("missed", "drawn"):
        look["path_effects"] = [withStroke(linewidth=width + 1.4, foreground="#ffffffb0")]
    return Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=width, **look)
