"""A contact sheet of a pool: its images, what is known of each, and what a reader found wrong.

One look at a data set before anything is trained on it. `draw.sheet` is this `sheet`; pictures of
single images and of answers are in `almining.draw`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Container, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torch.nn.functional import avg_pool2d

from almining.canvas import FONT, GREY, PALETTE, add_box, blank, figure, picture, settled
from almining.checks import HUMAN
from almining.data.formats.files import BrokenImageError
from almining.data.pool import Finding, Pool
from almining.records import Target

WIDTH = 10.0  # of the sheet, in inches
TALLEST = 1.4  # height by width of an image on it; a taller one is shown smaller
LINES = 4  # of findings, above "and so many more"
NAMED = 5  # boxes of an image whose classes are written at them
SIDE = 400  # pixels: larger images are shrunk, so that a sheet of photographs fits in memory
WRONG = PALETTE[1]  # of what was found wrong


def sheet(
    pool: Pool,
    *,
    images: int = 24,
    ids: Sequence[str] | None = None,
    columns: int = 6,
    title: str | None = None,
) -> Figure:
    """Return a contact sheet: images with their boxes and ids, and the pool's findings beneath.

    A box has the colour of its class; up to seven classes are named once, in a legend, more of them
    at the boxes, the five largest of an image. A person's boxes are solid, mined ones dashed,
    ignored ones dotted and grey. Under an id stands what is known where it is not complete, and
    what a reader repaired or set aside, in orange. For an image that cannot be loaded stands a
    grey one with the reason.

    Args:
        pool: what to show.
        images: at most so many, spread evenly over the pool; up to half of them are images with
            a finding, where there are any.
        ids: which images, in this order, in place of a choice.
        columns: images in a row.
        title: above the sheet, before the pool's own summary.

    Raises:
        ValueError: for no column, no image asked for, or an unknown id.

    >>> from almining.data.scenes import make_scenes
    >>> len(sheet(make_scenes(4, seed=0), images=2).axes)
    2
    """
    if columns < 1 or images < 1:
        raise ValueError(f"columns = {columns}, images = {images}: both must be at least 1")
    noted = _notes(pool)
    chosen = _chosen(pool, images, noted) if ids is None else list(ids)
    heading = f"{title}: {pool!r}" if title else repr(pool)
    if not chosen:
        return blank(f"{heading}; no images to show")
    loaded = {image_id: _load(pool, image_id) for image_id in chosen}
    shown = sorted({n for image_id in chosen for n in pool.target(image_id).labels.tolist()})
    colours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(shown)}
    named = len(shown) > len(PALETTE)
    fig = _page(loaded, columns, heading, pool.findings)
    across = max(int(_cell(columns, len(chosen)) * 13), 12)
    for ax, (image_id, shown_as) in zip(fig.axes, loaded.items(), strict=True):
        target = pool.target(image_id)
        said = [shown_as.wrong, _known(target, pool.classes), *noted.get(image_id, {})]
        picture(ax, shown_as.image, _caption(image_id, said, across), size=shown_as.size)
        if image_id in noted or shown_as.wrong:
            ax.set_title(ax.get_title(loc="left"), fontsize=FONT + 1, loc="left", color=WRONG)
        _boxes(ax, target, colours, pool.classes if named else None)
    if shown and not named:
        _legend(fig, {pool.classes[label - 1]: colours[label] for label in shown})
    return settled(*fig.axes)


class Shown(NamedTuple):
    """An image as it is shown.

    Args:
        image: (3, h, w), perhaps a smaller copy.
        size: (height, width) of the original.
        wrong: why it could not be loaded; a grey image stands for it.
    """

    image: Tensor
    size: tuple[int, int]
    wrong: str = ""


def _load(pool: Pool, image_id: str) -> Shown:
    try:
        image = pool.image(image_id)
    except BrokenImageError as error:
        size = pool.info(image_id).size or (3, 4)
        return Shown(torch.full((3, 1, 1), 0.85), size, f"broken: {error.reason}")
    size = (image.shape[1], image.shape[2])
    factor = max(size) // SIDE
    return Shown(image if factor < 2 else avg_pool2d(image, factor), size)


def spread(ids: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the ids, the first and the last among them, evenly spread.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(ids) <= most:
        return list(ids)
    return [ids[i * (len(ids) - 1) // max(most - 1, 1)] for i in range(most)]


def count_findings(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each kind of finding, the most frequent first, with an example.

    >>> one = Finding("a.json", "annotation 3", "bbox", "[0, 0, 0, 1]", "repaired", "dropped")
    >>> count_findings([one, one])
    ['2 repaired: bbox: dropped (first: a.json, annotation 3)']
    """
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.action, finding.field, finding.remedy), []).append(finding)
    return [
        f"{len(alike)} {action}: {field}: {remedy} (first: {_short(alike[0].file)}, "
        f"{alike[0].record})"
        for (action, field, remedy), alike in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    ]


def _short(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


def _page(
    loaded: dict[str, Shown], columns: int, heading: str, findings: Sequence[Finding]
) -> Figure:
    """Return a figure with one empty axes per image, the heading, and the findings beneath."""
    wide = min(columns, len(loaded))
    cell = _cell(columns, len(loaded))
    shapes = [min(shown.size[0] / shown.size[1], TALLEST) for shown in loaded.values()]
    rows = [cell * max(shapes[start : start + wide]) for start in range(0, len(shapes), wide)]
    across = max(int(cell * wide * 15), 40)
    lines = count_findings(findings)
    said = [*lines[:LINES], *([f"and {len(lines) - LINES} more kinds"] * (len(lines) > LINES))]
    text = [part for line in said for part in textwrap.wrap(line, across, subsequent_indent="   ")]
    fig = figure(cell * wide, sum(rows) + 0.42 * len(rows) + 0.4 + 0.15 * len(text))
    places = fig.add_gridspec(len(rows), wide, height_ratios=[row + 0.42 for row in rows])
    for number in range(len(loaded)):
        fig.add_subplot(places[divmod(number, wide)])
    heading = textwrap.fill(heading, across - across // 4)
    fig.suptitle(heading, fontsize=FONT + 2, x=0.01, ha="left")
    if text:
        fig.supxlabel("\n".join(text), fontsize=FONT, color=GREY, x=0.01, ha="left")
    return fig


def _cell(columns: int, images: int) -> float:
    """Return the width of an image on the sheet, in inches."""
    return min(2.4, WIDTH / min(columns, images))


def _notes(pool: Pool) -> dict[str, dict[str, None]]:
    """Return what was found wrong with images of the pool, a few words each, without repetition."""
    notes: dict[str, dict[str, None]] = {}
    for finding in pool.findings:
        if finding.image_id in pool:
            notes.setdefault(str(finding.image_id), {})[f"{finding.field} {finding.action}"] = None
    return notes


def _chosen(pool: Pool, most: int, noted: Container[str]) -> list[str]:
    """Return at most so many ids in the pool's order, up to half of them noted ones."""
    wrong = set(spread([image_id for image_id in pool.ids if image_id in noted], most // 2))
    others = [image_id for image_id in pool.ids if image_id not in wrong]
    kept = wrong | set(spread(others, most - len(wrong)))
    return [image_id for image_id in pool.ids if image_id in kept]


def _known(target: Target, classes: Sequence[str]) -> str:
    if target.complete:
        return "" if len(target) else "empty"
    tags = ", ".join(classes[label - 1] for label in sorted(target.tags or ()))
    return f"{target.state}: {tags}" if tags else target.state


def _caption(image_id: str, said: Iterable[str], across: int) -> str:
    """Return the id and what else is said, each on a line of at most `across` characters."""
    start = f"...{image_id[3 - across :]}" if len(image_id) > across else image_id
    return "\n".join([start, *(textwrap.shorten(line, across) for line in said if line)])


def _boxes(
    ax: Axes, target: Target, colours: dict[int, str], classes: Sequence[str] | None
) -> None:
    """Draw thin boxes, and the names of the largest where classes are given."""
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    order = sides.prod(dim=1).argsort(descending=True, stable=True).tolist()
    for rank, i in enumerate(order):
        label = int(target.labels[i])
        style = ":" if target.ignore[i] else "-" if target.origin[i] == HUMAN else "--"
        colour = GREY if target.ignore[i] else colours[label]
        if classes is not None and rank < NAMED:
            add_box(ax, target.boxes[i], classes[label - 1], colour, style)
        else:
            x1, y1, x2, y2 = target.boxes[i].tolist()
            width = 1.6 if len(target) <= 10 else 0.9
            look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linestyle": style}
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=width, **look))


def _legend(fig: Figure, colours: dict[str, str]) -> None:
    keys = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    fig.legend(
        handles=keys,
        loc="outside upper right",
        ncols=len(keys),
        fontsize=FONT,
        frameon=False,
        handlelength=1.0,
        columnspacing=1.2,
    )
