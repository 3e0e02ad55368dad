"""Pictures: boxes, states of knowledge, contact sheets, and why a request was made.

Every function returns a figure of its own and leaves no pyplot state behind, so a notebook shows it
exactly once: as the value of a cell, or by `show` with a text for those who cannot see it. Classes
differ by colour (Okabe and Ito's palette, safe for the colour-blind) and by name; what a person
drew, what was mined and what is ignored differ by line style.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea, VPacker
from matplotlib.patches import Rectangle
from torch import Tensor

from almining.branches import branches as branches
from almining.branches import mined as mined
from almining.branches import pushes as pushes
from almining.branches import steps as steps
from almining.branches import tally as tally
from almining.branches import tell_mined as tell_mined
from almining.canvas import DARK, FONT, GREY, PALETTE, add_box, axes_for, figure, picture, settled
from almining.canvas import blank as blank
from almining.canvas import png as png
from almining.canvas import show as show
from almining.checks import HUMAN, check_image
from almining.curves import curve as curve
from almining.curves import interval as interval
from almining.curves import miss_curve as miss_curve
from almining.data.pool import Pool
from almining.heat import TOP, add_heat
from almining.heat import filmstrip as filmstrip
from almining.heat import heat as heat
from almining.heat import scales as scales
from almining.nested import LARGE, SMALL
from almining.nested import pairs as pairs
from almining.nested import selection as selection
from almining.nested import tell as tell
from almining.pastes import Paste as Paste
from almining.pastes import Trial as Trial
from almining.pastes import build_up as build_up
from almining.pastes import pastes as pastes
from almining.pastes import split as split
from almining.reasons import Mark, Shown, class_name, shown
from almining.records import Detections, Evidence, Request, Target
from almining.routes import Rows as Rows
from almining.routes import kept as kept
from almining.routes import masked as masked
from almining.routes import routes as routes
from almining.routes import tell_rows as tell_rows
from almining.routes import trade as trade
from almining.score import box_entropies
from almining.sheets import sheet as sheet

# by the role of a mark: colour, line, whether the role is named
MARKS = {
    "most uncertain": (PALETTE[1], "-", False),
    "uncertain": (PALETTE[5], "-", False),
    "large": (LARGE, "-", False),
    "small": (SMALL, "-", False),
    "maximum": (TOP, "-", False),
    "view a": (PALETTE[0], "-", True),
    "view b": (PALETTE[1], "--", True),
    "both views": (PALETTE[2], "-", True),
    "seed head": (PALETTE[0], "-", True),
    "mixed head": (PALETTE[1], "--", True),
}

ACROSS = 52  # characters of a line below an image


def boxes(
    image: Tensor,
    found: Target | Detections,
    *,
    classes: Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    min_score: float = 0.0,
    limit: int | None = None,
) -> Figure:
    """Return a figure of an image with its boxes.

    A person's boxes and detections are solid, mined ones dashed, ignored ones dotted and grey;
    boxes in which a person found nothing are crossed out.

    Args:
        image: (3, h, w) in [0, 1].
        found: the boxes.
        classes: names of classes 1...C; numbers otherwise.
        ax: where to draw; a new figure by default.
        title: above the image.
        min_score: boxes with a lower score are left out; a person's have none and stay.
        limit: at most so many boxes, those of the highest score.
    """
    ax = axes_for(image) if ax is None else ax
    picture(ax, image, title)
    scores = found.scores.detach().cpu()
    order = scores.nan_to_num(math.inf).argsort(descending=True, stable=True).tolist()
    kept = [i for i in order if not scores[i] < min_score][:limit]
    for i in kept:
        label = int(found.labels[i])
        name, colour, style = class_name(classes, label), PALETTE[(label - 1) % len(PALETTE)], "-"
        if isinstance(found, Target):
            style = "-" if found.origin[i] == HUMAN else "--"
            if found.ignore[i]:
                name, colour, style = f"{name}, ignored", GREY, ":"
        text = name if scores[i].isnan() else f"{name} {float(scores[i]):.2f}"
        add_box(ax, found.boxes[i], text, colour, style)
    for box in found.negatives if isinstance(found, Target) else ():
        add_box(ax, box, "no object", GREY, "-", hatch="xx")
    return settled(ax)


def states(image: Tensor, targets: Mapping[str, Target], *, classes: Sequence[str]) -> Figure:
    """Return a figure of one image in several states of knowledge, side by side.

    Each shows its boxes, its tags, and what an absent box means.

    Args:
        image: (3, h, w) in [0, 1].
        targets: what is known, by the name of the state.
        classes: names of classes 1...C.
    """
    if not targets:
        return blank("no state to show")
    width = 2.5
    fig = figure(width * len(targets), width * image.shape[1] / image.shape[2] + 1.1)
    for column, (title, target) in enumerate(targets.items()):
        ax = fig.add_subplot(1, len(targets), column + 1)
        boxes(image, target, classes=classes, ax=ax, title=title)
        lines = [
            TextArea(line, textprops={"fontsize": FONT})
            for line in textwrap.wrap(_meaning(target), 36)
        ]
        stack: list[Artist] = [HPacker(children=_chips(target, classes), pad=3, sep=9), *lines]
        box = VPacker(children=stack, pad=0, sep=3)
        below: dict[str, Any] = {"bbox_to_anchor": (0, -0.02), "bbox_transform": ax.transAxes}
        ax.add_artist(
            AnchoredOffsetbox("upper left", child=box, pad=0, borderpad=0, frameon=False, **below)
        )
    return settled(*fig.axes)


def grid(
    pool: Pool,
    ids: Sequence[str],
    *,
    detections: Mapping[str, Detections] | None = None,
    columns: int = 4,
    captions: Mapping[str, str] | None = None,
) -> Figure:
    """Return a contact sheet of images with what is known of them, or with what was detected.

    Args:
        pool: where the images and targets come from.
        ids: which images, in this order.
        detections: by image id; drawn in place of targets where given.
        columns: images in a row.
        captions: by image id; the id by default.
    """
    if columns < 1:
        raise ValueError(f"columns = {columns}: at least one image in a row is needed")
    if not len(ids):
        return blank("no images to show")
    images = [pool.image(image_id) for image_id in ids]
    wide, rows = min(columns, len(ids)), math.ceil(len(ids) / columns)
    cell = min(2.6, 10 / wide)
    tall = max(image.shape[1] / image.shape[2] for image in images)
    fig = figure(cell * wide, (cell * min(tall, 2) + 0.35) * rows)
    for number, (image_id, image) in enumerate(zip(ids, images, strict=True)):
        ax = fig.add_subplot(rows, wide, number + 1)
        found = (detections or {}).get(image_id, pool.target(image_id))
        caption = textwrap.fill((captions or {}).get(image_id, image_id), int(cell * 14))
        boxes(image, found, classes=pool.classes, ax=ax, title=caption)
    return settled(*fig.axes)


def evidence(
    image: Tensor,
    request: Request,
    detections: Detections | None = None,
    *,
    classes: Sequence[str],
    limit: int = 5,
    pool: Pool | None = None,
) -> Figure:
    """Return a figure of why a request was made: image, box asked about, evidence by kind.

    Small pictures that belong to it stand in a row below.

    Args:
        image: (3, h, w) in [0, 1].
        request: with its evidence; see `reasons.shown` for its kinds. One not known there shows its
            text alone.
        detections: shown where the evidence itself has no boxes.
        classes: names of classes 1...C.
        limit: at most so many boxes, or pairs.
        pool: where the frames before and after come from; without one they are not shown.

    Raises:
        ValueError: naming what the evidence lacks, or what is malformed.
    """
    why = shown(_told(request, detections), pool, limit=limit, classes=classes)
    ax = _with_strip(image, why)
    title = f"{request.kind}: {request.image_id}"
    if detections is not None and not why.marks and why.blocks is None:
        boxes(image, detections, classes=classes, ax=ax, title=title, limit=limit)
    elif why.blocks is None:
        picture(ax, image, title)
    else:
        add_heat(ax, image, why.blocks, region=why.region, title=title)
    for mark in why.marks:
        _add_mark(ax, mark, image)
    if request.box is not None:
        asked = (
            "what is here?" if request.label is None else f"{class_name(classes, request.label)}?"
        )
        add_box(ax, request.box, asked, "#000000", "-")
    if why.text:
        ax.set_xlabel(textwrap.fill(why.text, ACROSS), fontsize=FONT, loc="left")
    fig = ax.get_figure(root=True)
    assert fig is not None
    return settled(*fig.axes)


def _told(request: Request, detections: Detections | None) -> Request:
    """Return a request whose evidence of entropy has entropies: of detections, without its own."""
    why = request.evidence
    if why is None or why.kind != "entropy" or detections is None or "entropies" in why.data:
        return request
    data = {"boxes": detections.boxes, "entropies": box_entropies(detections)}
    return replace(request, evidence=Evidence(why.kind, data, why.text))


def _with_strip(image: Tensor, why: Shown) -> Axes:
    """Return the axes of an image, above those of the small pictures, which are drawn."""
    if not why.strip:
        return axes_for(image, below=0.6)
    check_image(image, "image")
    wide, count = 4.6, len(why.strip)
    lines = len(textwrap.wrap(why.text, ACROSS))
    tall = min(max(wide * image.shape[1] / image.shape[2], 1), 8) + 0.2 + 0.16 * lines
    cell = wide / max(count, 4)
    low = cell * min(max(one.shape[1] / one.shape[2] for one, _ in why.strip), 1.5) + 0.4
    fig = figure(wide, tall + low)
    cells = fig.add_gridspec(2, max(count, 4), height_ratios=[tall, low])
    ax = fig.add_subplot(cells[0, :])
    for column, (small, caption) in enumerate(why.strip):
        below = fig.add_subplot(cells[1, column])
        picture(below, small.float() / 255, None)
        below.set_xlabel(textwrap.fill(caption, int(cell * 14)), fontsize=FONT, loc="left")
    return ax


def _add_mark(ax: Axes, mark: Mark, image: Tensor) -> None:
    """Draw a mark of evidence; two heads look at one box, so theirs lie inside each other."""
    colour, style, named = MARKS[mark.role]
    box, text = mark.box, f"{mark.role}: {mark.text}" if named else mark.text
    x1, y1, x2, y2 = box.tolist()
    if mark.role == "maximum":
        look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 2.2}
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        return
    if mark.role == "small":
        look = {"facecolor": colour, "alpha": 0.35, "linewidth": 0}
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
    if mark.role.endswith("head"):
        apart = min(image.shape[2] * 0.012, min(x2 - x1, y2 - y1) / 4)
        apart *= 1 if mark.role == "mixed head" else -1
        box = box + torch.tensor([apart, apart, -apart, -apart])
    add_box(ax, box, text, colour, style)


def _chips(target: Target, classes: Sequence[str]) -> list[Artist]:
    present = target.present if target.tags is not None or target.complete else None
    if not present:
        look = {
            "facecolor": "white",
            "edgecolor": GREY,
            "linestyle": ":",
            "boxstyle": "round,pad=0.25",
        }
        none = "tags unknown" if present is None else "no class"
        return [TextArea(none, textprops={"fontsize": FONT, "color": GREY, "bbox": look})]
    chips: list[Artist] = []
    for label in sorted(present):
        colour = PALETTE[(label - 1) % len(PALETTE)]
        look = {
            "facecolor": "white" if target.complete else colour,
            "edgecolor": colour,
            "boxstyle": "round,pad=0.25",
        }
        ink = "white" if colour in DARK and not target.complete else "black"
        chips.append(
            TextArea(
                class_name(classes, label), textprops={"fontsize": FONT, "color": ink, "bbox": look}
            )
        )
    return chips


def _meaning(target: Target) -> str:
    if target.complete:
        return "Every box is known: where there is none, there is background. Tags are implied."
    start = {
        "unlabelled": "Nothing is known: an absent box says nothing.",
        "tagged": "No box is known: an absent box says nothing of where.",
        "sparse": "Some boxes are known: an absent box says nothing.",
    }[target.state]
    if target.absent is not None:
        return f"{start} {len(target.absent)} classes are known to be absent."
    return start if target.tags is None else f"{start} A class without a tag is not there."
