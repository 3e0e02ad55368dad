"""What every picture stands on: a figure without pyplot, an image, boxes with readable labels.

`draw` decides what to show; this module only how a figure, an image or a box looks.
"""

from __future__ import annotations

import io
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor

from almining.checks import check_image

DPI = 100
FONT = 8
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
DARK = ("#0072B2", "#D55E00", "#009E73")  # under white text; the others take black
GREY = "#6b6b6b"
LABEL = "box label"


class Picture(Figure):
    """A figure that Jupyter shows as the value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(fig: Figure) -> bytes:
    """Return a figure as a PNG of 100 dots per inch."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def show(fig: Figure, *, alt: str) -> None:
    """Show a figure in a notebook, with a text for those who cannot see it."""
    from IPython.display import display

    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")
    display({"image/png": png(fig)}, raw=True, metadata={"image/png": {"alt": alt}})


def blank(text: str) -> Figure:
    """Return a figure with nothing but a text."""
    fig = figure(4, 1)
    fig.text(0.5, 0.5, textwrap.fill(text, 60), ha="center", va="center", fontsize=FONT + 1)
    return fig


def figure(width: float, height: float) -> Picture:
    """Return an empty figure of so many inches."""
    return Picture(figsize=(width, height), dpi=DPI, layout="constrained")


def axes_for(image: Tensor, *, below: float = 0.0) -> Axes:
    """Return the axes of a new figure shaped like an image, with room for text `below` (inches)."""
    check_image(image, "image")
    return figure(
        4, min(max(4 * image.shape[1] / image.shape[2], 1), 8) + 0.3 + below
    ).add_subplot()


def picture(
    ax: Axes, image: Tensor, title: str | None, *, size: tuple[int, int] | None = None
) -> None:
    """Draw an image, pixel edges at whole coordinates.

    Args:
        ax: where.
        image: (3, h, w) in [0, 1].
        title: above it.
        size: (height, width) of the original where the image is a smaller copy.
    """
    check_image(image, "image")
    height, width = size or image.shape[1:]
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    ax.spines[:].set_visible(False)
    if title is not None:
        ax.set_title(title, fontsize=FONT + 1, loc="left")


def add_box(
    ax: Axes, box: Tensor, text: str, colour: str, style: str, *, hatch: str | None = None
) -> None:
    """Draw a box (4,) with a label; `settled` puts the label where it can be read."""
    x1, y1, x2, y2 = box.tolist()
    halo = (
        [withStroke(linewidth=3.4, foreground="white")] if style == "-" and hatch is None else None
    )
    look: dict[str, Any] = {
        "fill": False,
        "edgecolor": colour,
        "linestyle": style,
        "hatch": hatch,
        "path_effects": halo,
    }
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=1.8, **look))
    ink = "white" if colour in (*DARK, GREY, "#000000") else "black"
    back = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
    label = ax.text(
        x1, y1, text, fontsize=FONT, color=ink, va="bottom", bbox=back, gid=LABEL, clip_on=True
    )
    label.set_in_layout(False)
    label.box = (x1, y1, x2, y2)  # type: ignore[attr-defined]


def settled(*axes: Axes) -> Figure:
    """Move box labels inside their axes and, where there is room, off each other."""
    fig = axes[0].get_figure(root=True)
    assert fig is not None
    if len(axes) < len(fig.axes):
        return fig  # the caller's axes are not all drawn yet
    fig.draw_without_rendering()
    for ax in axes:
        taken: list[Bbox] = []
        for label in [text for text in ax.texts if text.get_gid() == LABEL]:
            _place(ax, label, taken)
    return fig


def _place(ax: Axes, label: Text, taken: list[Bbox]) -> None:
    patch = label.get_bbox_patch()
    assert patch is not None
    inverse = ax.transData.inverted()
    (left, bottom), (right, top) = inverse.transform(patch.get_window_extent().get_points())
    width, height = right - left, abs(bottom - top)
    x1, y1, x2, y2 = label.box  # type: ignore[attr-defined]
    (_, w), (h, _) = ax.get_xlim(), ax.get_ylim()
    spots = [
        (x, y)
        for y in (y1 - height, y1, y2, y2 - height, y1 - 2 * height, y1 + height)
        for x in (x1, x2 - width)
    ]
    inside = [
        (min(max(x, 0), max(w - width, 0)), min(max(y, 0), max(h - height, 0))) for x, y in spots
    ]
    rooms = [Bbox.from_bounds(x, y, width, height) for x, y in inside]
    room = min(rooms, key=lambda room: sum(_shared(room, other) for other in taken))
    taken.append(room)
    label.set_position(
        (
            room.x0 + label.get_position()[0] - left,
            room.y1 + label.get_position()[1] - max(bottom, top),
        )
    )


def _shared(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else float(both.width * both.height)
