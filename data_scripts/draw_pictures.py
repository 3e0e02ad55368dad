"""Draw the pictures the README shows: `python data_scripts/draw_pictures.py`.

`toy_world.png` shows the first scenes of a series; in `toy_failures.png` and `toy_street.png`
scenes and videos were chosen because they show well what a dial does and what a video holds.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from almining import canvas, draw
from almining.data import scenes, street
from almining.data.toy.staging import Scene
from almining.data.toy.street_film import Frame

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"
WIDTH, EDGE, NEXT = 1000, 8, 4  # pixels: of a sheet, around it, between two pictures
SCENE, FRAME = 157, (128, 193)  # height and width of a picture on a sheet
HALO = [withStroke(linewidth=3, foreground="white")]
CLASSES = (*scenes.CLASSES, "wheel")
Settings = list[tuple[str, dict[str, Any]]]


class Dial(NamedTuple):
    """One scene, drawn again for each setting of a dial.

    Args:
        name: of the dial.
        says: what it does.
        scene: its index, chosen because it shows it.
        settings: what is written above each picture, and the dials.
    """

    name: str
    says: str
    scene: int
    settings: Settings


def span(name: str, values: Sequence[float], usual: float, **others: Any) -> Settings:
    """Return settings of a dial; `others` are the same in all of them.

    >>> span("rows", (0.0, 0.4), 0.4)
    [('0', {'rows': 0.0}), ('0.4 (default)', {'rows': 0.4})]
    """
    return [
        (f"{value:g}{' (default)' * (value == usual)}", {name: value, **others}) for value in values
    ]


# fmt: off
DIALS = [
    [
        Dial("likeness", "how many are told by head or roof sign alone", 31,
             span("likeness", (0.0, 0.5, 1.0), 1.0)),
        Dial("closeness", "how tight rows stand", 15,
             span("closeness", (0.0, 0.5, 1.0), 0.5, rows=1.0)),
    ],
    [
        Dial("context_bias", "how often objects stand where they are at home", 16,
             span("context_bias", (0.0, 0.85, 1.0), 0.85)),
        Dial("occlusion", "how much is hidden, and how often", 66,
             span("occlusion", (0.0, 0.5, 1.0), 0.5)),
    ],
    [
        Dial("truncation", "how often objects leave the picture", 14,
             span("truncation", (0.0, 0.5, 1.0), 0.5)),
        Dial("clutter", "how many things are no object", 35,
             span("clutter", (0.0, 1.0, 4.0), 1.0)),
    ],
    [
        Dial("rows", "how often, how long", 51,
             [("0", {"rows": 0.0}), ("1, row_length 5", {"rows": 1.0, "row_length": 5})]),
        Dial("parts", "wheels, a class inside a class", 68,
             [("False (default)", {}), ("True", {"parts": True})]),
        Dial("domain", "the hour of the day", 60,
             [("day (default)", {}), ("dusk", {"domain": "dusk"})]),
    ],
]
# fmt: on
FILMS = [  # what it shows, video, first frame, busy, domain
    ("day: somebody comes", 5, 30, 0.5, "day"),
    (
        "day: a busy street; dotted boxes are to be ignored, for too little is visible",
        7,
        90,
        0.9,
        "day",
    ),
    ("dusk: a pedestrian behind things", 10, 30, 0.5, "dusk"),
    ("dusk: nobody, but a statue, posts and signs", 1, 40, 0.0, "dusk"),
]
STEP = 6  # frames between two pictures of a film, about half a second


class Sheet:
    """A picture made of others, pixel for pixel, with a little text; all places are in pixels."""

    def __init__(self, height: int) -> None:
        """Begin with an empty sheet."""
        self.height = height
        self.figure = Figure(figsize=(WIDTH / canvas.DPI, height / canvas.DPI), dpi=canvas.DPI)

    def write(self, x: float, y: float, text: str, **looks: Any) -> float:
        """Write text on a line at `y`, from `x` on; return where it ends."""
        looks.setdefault("fontsize", canvas.FONT + 1)
        written = self.figure.text(x / WIDTH, 1 - y / self.height, text, **looks)
        return float(written.get_window_extent().x1)

    def add(self, x: float, y: float, drawn: Scene | Frame) -> None:
        """Set a picture with its boxes at (x, y); each class is named once."""
        height, width = drawn.image.shape[:2]
        place = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        ax = self.figure.add_axes(place)
        canvas.picture(ax, torch.from_numpy(drawn.image).permute(2, 0, 1) / 255, None)
        film = isinstance(drawn, Frame)
        named = {len(CLASSES), *([1] if film else [])}  # wheels are small, pedestrians many
        for row, label in enumerate(drawn.labels.tolist()):
            colour = canvas.PALETTE[(label + film - 1) % len(canvas.PALETTE)]
            box = torch.from_numpy(drawn.boxes[row])
            if label not in named:
                canvas.add_box(ax, box, CLASSES[label - 1], colour, "-")
                named.add(label)
                continue
            look: dict[str, Any] = {"edgecolor": colour, "path_effects": HALO}
            if isinstance(drawn, Frame) and drawn.ignore[row]:
                look = {"edgecolor": "white", "linestyle": ":"}
            (x1, y1), (x2, y2) = box[:2].tolist(), box[2:].tolist()
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, linewidth=1.5, **look))

    def png(self) -> bytes:
        """Return the sheet as a PNG of 256 colours, a third as large as one of all colours."""
        buffer = io.BytesIO()
        whole = Image.open(io.BytesIO(canvas.png(canvas.settled(*self.figure.axes)))).convert("RGB")
        few = whole.quantize(256, kmeans=3, dither=Image.Dither.NONE)
        few.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def toy_world(seed: int, images: int) -> bytes:
    """Return a PNG of scenes with their boxes.

    Args:
        seed: of the scenes.
        images: how many.
    """
    pool = scenes.make_scenes(images, seed=seed)
    return draw.png(draw.grid(pool, pool.ids, columns=6))


def toy_failures(seed: int, dials: Sequence[Sequence[Dial]]) -> bytes:
    """Return a PNG of what dials do: the same scene at a low, the usual and a high setting.

    Args:
        seed: of the scenes.
        dials: row by row; a row holds six scenes.
    """
    step = SCENE + 50
    sheet = Sheet(step * len(dials) + EDGE)
    for y, row in enumerate(dials):
        pictures = sum(len(dial.settings) for dial in row)
        room = WIDTH - 2 * EDGE - SCENE * pictures - NEXT * (pictures - len(row))
        x, top = float(EDGE), step * y
        for dial in row:
            end = sheet.write(x, top + 20, dial.name, weight="bold", fontsize=canvas.FONT + 3)
            sheet.write(end + 8, top + 20, dial.says, color=canvas.GREY)
            for text, settings in dial.settings:
                sheet.write(x, top + 40, text)
                sheet.add(x, top + 46, scenes.draw_scene(seed, dial.scene, size=SCENE, **settings))
                x += SCENE + NEXT
            x += room / max(len(row) - 1, 1) - NEXT
    return sheet.png()


def toy_street(seed: int, films: Sequence[tuple[str, int, int, float, str]]) -> bytes:
    """Return a PNG of frames of videos, a video in a row.

    Args:
        seed: of the videos.
        films: what is written above, video, first frame, busy, domain.
    """
    height, width = FRAME
    step = height + 26
    sheet = Sheet(step * len(films) + EDGE)
    for row, (says, video, first, busy, domain) in enumerate(films):
        text = f"{says} (frames {first}, {first + STEP}, ... {first + 4 * STEP})"
        sheet.write(EDGE, step * row + 19, text)
        for i in range(5):
            frame = street.draw_frame(
                seed, video, first + STEP * i, size=FRAME, busy=busy, domain=domain
            )
            sheet.add(EDGE + i * (width + NEXT), step * row + 26, frame)
    return sheet.png()


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "toy_world.png").write_bytes(toy_world(asked.seed, 12))
    (asked.folder / "toy_failures.png").write_bytes(toy_failures(asked.seed, DIALS))
    (asked.folder / "toy_street.png").write_bytes(toy_street(asked.seed, FILMS))


if __name__ == "__main__":
    main()
