"""Pseudo-labels against the hidden truth as training goes on, which the paper never shows.

Notebook: 03_comining_cogeneration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from almining.boxes import flip
from almining.data.pool import Pool
from almining.evaluate import mined
from almining.records import Target
from almining.train import Batch, mirrored


@dataclass(slots=True)
class Audit:
    """Counts, step by step, what was mined and how much of it is right; a recipe's `watch`.

    Both branches' labels count, C_o and C_a, so views have to leave boxes where they are.

    Args:
        hidden: complete targets of the images trained on.
        rows: of each step the share of the training done, the boxes mined, those of them that are
            right (IoU >= 0.5, same class), and the objects that no person drew.
    """

    hidden: Pool
    rows: list[dict[str, float]] = field(default_factory=list)

    def __call__(
        self, batch: Batch, images: Sequence[Tensor], own: Sequence[Target], other: Sequence[Target]
    ) -> None:
        """Count one step."""
        counts = dict.fromkeys(("mined", "right", "hidden"), 0)
        for number in range(len(batch.ids)):
            truth = self.truth(batch, number)
            for taught in (own[number].to("cpu"), other[number].to("cpu")):
                found = mined(taught, truth)
                people = sum(origin == "human" for origin in taught.origin)
                counts["mined"] += int(found["mined"])
                counts["right"] += round(
                    found["precision"] * found["mined"] if found["mined"] else 0
                )
                counts["hidden"] += int((~truth.ignore).sum()) - people
        self.rows.append({"progress": batch.progress, **counts})

    def truth(self, batch: Batch, number: int) -> Target:
        """Return all boxes of one image of a batch, mirrored where training has mirrored it."""
        image_id, image = batch.ids[number], batch.images[number].cpu()
        truth, known = self.hidden.target(image_id), batch.pool.target(image_id).boxes
        here = batch.targets[number].boxes.cpu()
        same = here.equal(known)
        if same == here.equal(flip(known, image.shape[2])):  # no box, or as far from either side
            same = image.equal(self.hidden.image(image_id))
        return truth if same else mirrored(image, truth)[1]

    def shares(self, parts: int = 10) -> list[dict[str, float | None]]:
        """Return the mean of each tenth of the training: boxes mined a step, precision, recall.

        Args:
            parts: how many spans of equal length.

        Returns:
            One row for each: `progress` at its end, `mined`, and `precision` and `recall`, None
            where nothing was mined, or nothing was left to find.
        """
        found = []
        for part in range(parts):
            rows = [row for row in self.rows if int(row["progress"] * parts) == part]
            total = {name: sum(row[name] for row in rows) for name in ("mined", "right", "hidden")}
            found.append(
                {
                    "progress": (part + 1) / parts,
                    "mined": total["mined"] / max(1, len(rows)),
                    "precision": total["right"] / total["mined"] if total["mined"] else None,
                    "recall": total["right"] / total["hidden"] if total["hidden"] else None,
                }
            )
        return found
