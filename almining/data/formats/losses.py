"""What a format cannot hold of a pool, noted while it is written; nothing is lost in silence.

Each kind of loss is one finding with the action "warning", which counts the images or boxes it
concerns. What would turn *sparse* into *complete* is refused unless the caller decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

from almining.checks import HUMAN, MINED
from almining.data.formats.export import number
from almining.data.formats.report import Report
from almining.data.pool import Finding, Pool
from almining.records import Target

Incomplete = Literal["refuse", "write", "skip"]
INCOMPLETE = ("refuse", "write", "skip")


class Losses:
    """What one format cannot hold, noted while a pool is written.

    Args:
        file: what is written.
        form: what the format is called in a finding.
        held: which of `FIELDS` it holds.
    """

    def __init__(self, file: object, form: str, held: Collection[str] = ()) -> None:
        """Start without a loss."""
        self.file, self.form, self.held = file, form, frozenset(held)
        self.report = Report(strict=True)

    def note(self, record: str, field: str, value: object, outcome: str) -> None:
        """Note one loss; those alike become one finding that counts them."""
        remedy = f"{self.form} does not hold this; {outcome}"
        self.report.tally("warning", self.file, field, remedy, record=record, value=value)

    def refuse(self, record: str, field: str, value: object, remedy: str) -> None:
        """Note what must not be written as it is."""
        self.report.tally("error", self.file, field, remedy, record=record, value=value)

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
        for field, (rows, value, outcome) in FIELDS.items():
            if field in self.held:
                continue
            for row in rows(target):
                record = image_id if row is None else f"{image_id} box {row + 1}"
                shown = value(target, row)
                if row not in scored or field not in ("origin", "scores"):
                    self.note(record, field, shown, outcome)
                elif field == "origin" and shown != MINED:
                    self.note(record, field, shown, f"it reads as {MINED!r}")
        info = pool.info(image_id)
        told = {"video": info.video, "frame": info.frame, "since": pool.since(image_id) or None}
        for field, known in told.items():
            if known is not None and field not in self.held:
                self.note(image_id, field, known, "it is left out")

    def close(self) -> tuple[Finding, ...]:
        """Return the findings, or raise a `DataError` when any of it was refused."""
        self.report.check()
        return tuple(self.report.findings)


def _mined(target: Target) -> list[int]:
    return [row for row, origin in enumerate(target.origin) if origin != HUMAN]


def _scored(target: Target) -> list[int]:
    return [row for row, score in enumerate(target.scores.tolist()) if score == score]


def _image(claim: Callable[[Target], object]) -> Callable[[Target], list[int | None]]:
    return lambda target: [None] if claim(target) else []


# name: (the rows, or [None] for the image, that have it; what it is there; what becomes of it)
FIELDS: dict[str, tuple[Callable[[Target], Any], Callable[[Target, Any], object], str]] = {
    "ignore": (
        lambda target: target.ignore.nonzero().flatten().tolist(),
        lambda target, row: True,
        "the box is left out, so it reads as background",
    ),
    "origin": (_mined, lambda target, row: target.origin[row], "it is written as a plain box"),
    "scores": (
        _scored,
        lambda target, row: number(float(target.scores[row])),
        "it is written as a plain box",
    ),
    "tags": (
        _image(lambda target: target.tags is not None and not target.complete),
        lambda target, row: sorted(target.tags or ()),
        "they are left out",
    ),
    "absent": (
        _image(lambda target: target.absent is not None and not target.complete),
        lambda target, row: sorted(target.absent or ()),
        "they are left out",
    ),
    "negatives": (
        _image(lambda target: len(target.negatives)),
        lambda target, row: target.negatives.tolist(),
        "they are left out",
    ),
}


def without_sparse(pool: Pool, losses: Losses, incomplete: Incomplete) -> list[str]:
    """Return the ids to write to a format that cannot say that boxes are missing.

    Args:
        pool: what is written.
        losses: where sparse images are noted.
        incomplete: `"refuse"` them, `"write"` them as if they were complete, or `"skip"` them.
    """
    if incomplete not in INCOMPLETE:
        raise ValueError(f"incomplete = {incomplete!r}: use one of {', '.join(INCOMPLETE)}")
    kept = []
    for image_id in pool.ids:
        target = pool.target(image_id)
        if target.state != "sparse":
            kept.append(image_id)
        elif incomplete == "refuse":
            remedy = (
                f"{losses.form} has no word for missing boxes, so the image would read as "
                "complete; pass incomplete='skip' to leave such images out, 'write' to write them"
            )
            losses.refuse(image_id, "complete", False, remedy)
        elif incomplete == "skip":
            losses.note(image_id, "complete", False, "the image is left out")
        else:
            losses.note(image_id, "complete", False, "the image reads as complete")
            kept.append(image_id)
    return kept


def plain_boxes(
    losses: Losses, image_id: str, target: Target, size: tuple[int, int]
) -> list[tuple[int, tuple[float, float, float, float]]]:
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
    kept: dict[tuple[object, ...], tuple[int, tuple[float, float, float, float]]] = {}
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
