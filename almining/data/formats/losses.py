"""What a format cannot hold of a pool, noted while it is written; nothing is lost in silence.

Each kind of loss is one finding with the action "warning", which counts the images or boxes it
concerns. What would turn *sparse* into *complete* is refused unless the caller decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal

from almining.checks import HUMAN, MINED
from almining.data.formats.export import number
from almining.data.formats.report import Report
from almining.data.pool import Findings, Pool
from almining.records import Target

Incomplete = Literal["refuse", "write", "skip"]
Box = tuple[float, float, float, float]


class Losses:
    """What one format cannot hold, noted while a pool is written.

    Args:
        file: what is written.
        form: what the format is called in a finding.
        held: which fields of a target it holds, of those that not every format does.
    """

    def __init__(self, file: object, form: str, held: Collection[str] = ()) -> None:
        """Start without a loss."""
        self.file, self.form, self.held = file, form, frozenset(held)
        self.report = Report(strict=True)

    def note(
        self, record: str, field: str, value: object, outcome: str, *, refused: bool = False
    ) -> None:
        """Note one loss; those alike become one finding that counts them, an error if refused."""
        remedy = outcome if refused else f"{self.form} does not hold this; {outcome}"
        action = "error" if refused else "warning"
        self.report.tally(action, self.file, field, remedy, record=record, value=value)

    def image(
        self, pool: Pool, image_id: str, target: Target, *, scored: Collection[int] = ()
    ) -> None:
        """Note what of an image and its target is not held.

        Args:
            pool: where it is from.
            image_id: the image.
            target: what is known of it.
            scored: the rows whose score is written, so that they read as mined boxes.
        """
        for field, row, value, outcome in _beside_boxes(pool, image_id, target, scored):
            if field not in self.held:
                record = image_id if row is None else f"{image_id} box {row + 1}"
                self.note(record, field, value, outcome)

    def close(self) -> Findings:
        """Return the findings, or raise a `DataError` when any of it was refused."""
        self.report.check()
        return Findings(self.report.findings)


def _beside_boxes(
    pool: Pool, image_id: str, target: Target, scored: Collection[int]
) -> Iterator[tuple[str, int | None, object, str]]:
    """Yield field, row (None for the image), value and what becomes of it if it is not held."""
    plain = "it is written as a plain box"
    told = zip(target.ignore.tolist(), target.origin, target.scores.tolist(), strict=True)
    for row, (ignored, origin, score) in enumerate(told):
        if ignored:
            yield "ignore", row, True, "the box is left out, so it reads as background"
        if origin not in (HUMAN, MINED if row in scored else HUMAN):
            yield "origin", row, origin, f"it reads as {MINED!r}" if row in scored else plain
        if score == score and row not in scored:
            yield "scores", row, number(score), plain
    info, implied = pool.info(image_id), target.complete  # boxes imply the tags of a complete image
    known = {
        "tags": None if implied or target.tags is None else sorted(target.tags),
        "absent": None if implied or target.absent is None else sorted(target.absent),
        "negatives": target.negatives.tolist() or None,
        "video": info.video,
        "frame": info.frame,
        "since": pool.since(image_id) or None,
    }
    for field, value in known.items():
        if value is not None:
            yield field, None, value, "it is left out"


def without_incomplete(
    pool: Pool,
    losses: Losses,
    incomplete: Incomplete,
    states: Collection[str] = ("sparse",),
) -> list[str]:
    """Return the ids to write to a format that cannot say that boxes are missing.

    Args:
        pool: what is written.
        losses: where images in one of the states are noted.
        incomplete: `"refuse"` them, `"write"` them as if they were complete, or `"skip"` them.
        states: which states of an image read as complete.
    """
    outcomes = {
        "refuse": f"{losses.form} has no word for missing boxes, so they would count as "
        "background; pass incomplete='skip' to leave such images out, 'write' to write them",
        "write": "missing boxes count as background",
        "skip": "the image is left out",
    }
    if incomplete not in outcomes:
        raise ValueError(f"incomplete = {incomplete!r}: use one of {', '.join(outcomes)}")
    bad = {image_id for image_id in pool.ids if pool.target(image_id).state in states}
    for image_id in pool.ids:
        if image_id in bad:
            refused = incomplete == "refuse"
            losses.note(image_id, "complete", False, outcomes[incomplete], refused=refused)
    return [image_id for image_id in pool.ids if incomplete == "write" or image_id not in bad]


def plain_boxes(
    losses: Losses, image_id: str, target: Target, size: tuple[int, int]
) -> list[tuple[int, Box]]:
    """Return the rows and corners that a format of plain boxes can hold, noting the others.

    Boxes are cut to their image; without area, or the exact double of another of the same class,
    they are left out, because readers repair such boxes.

    Args:
        losses: where to note what is changed or left out; ignored boxes are, unless it holds them.
        image_id: the image.
        target: what is known of it.
        size: (height, width) in pixels.
    """
    height, width = size
    kept: dict[tuple[object, ...], tuple[int, Box]] = {}
    for row, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
        record, shown = f"{image_id} box {row + 1}", f"{x1:g} {y1:g} {x2:g} {y2:g}"
        ignored = bool(target.ignore[row])
        if ignored and "ignore" not in losses.held:
            continue
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        key = (int(target.labels[row]), ignored, *box)
        if box[2] <= box[0] or box[3] <= box[1]:
            losses.note(record, "box without area in the image", shown, "it is left out")
        elif key in kept:
            losses.note(record, "exact duplicate of a box", shown, "it is written once")
        else:
            if box != (x1, y1, x2, y2):
                losses.note(record, "box beyond the image", shown, "it is cut to the image")
            kept[key] = (row, box)
    return list(kept.values())
