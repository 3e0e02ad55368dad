"""What came of a run: one row per cycle, the latest detector, and what is known now."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from almining.data.pool import Finding, Pool
from almining.records import Request


@dataclass(frozen=True, slots=True)
class Row:
    """One cycle.

    Args:
        cycle: 0 is the start.
        picked: ids of the images that were answered in it.
        images: images complete so far.
        boxes: boxes a person drew or confirmed so far.
        seconds: what the answers cost so far.
        metrics: by name, on the test pool; numbers of any type, kept as floats.

    Raises:
        ValueError: for metrics that are no numbers.
    """

    cycle: int
    picked: tuple[str, ...]
    images: int
    boxes: int
    seconds: float
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        """Make floats of the metrics."""
        try:
            metrics = {name: float(value) for name, value in self.metrics.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"the metrics of cycle {self.cycle} are {self.metrics!r}; a function of metrics "
                "returns numbers by name, NaN where one is not defined"
            ) from error
        object.__setattr__(self, "metrics", metrics)

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON values; a metric that is NaN is null, an infinite one a string."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row["picked"] = list(self.picked)
        row["metrics"] = {
            key: value if math.isfinite(value) else None if math.isnan(value) else str(value)
            for key, value in self.metrics.items()
        }
        return row

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> Row:
        """Make the row that `to_plain` returned."""
        metrics = {key: "nan" if value is None else value for key, value in row["metrics"].items()}
        return cls(**row | {"picked": tuple(row["picked"]), "metrics": metrics})


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What came of a run.

    Args:
        name: the recipe's.
        rows: one per cycle, the start first.
        detector: the latest.
        pool: what is known now.
        pending: requests that no one has answered yet; empty when the run is through.
        set_aside: the broken images met on the way, of the pool and of the test pool; those of the
            pool are in `pool.findings` too.
        interrupted: where Ctrl-C stopped it, in words; None when it did not.
    """

    name: str
    rows: tuple[Row, ...]
    detector: Any
    pool: Pool
    pending: tuple[Request, ...] = ()
    set_aside: tuple[Finding, ...] = ()
    interrupted: str | None = None

    def __repr__(self) -> str:
        """Say in one line how far it came."""
        if not self.rows:
            return f"History({self.name}: nothing yet, interrupted {self.interrupted})"
        last = self.rows[-1]
        metrics = ", ".join(
            f"{name} {value:.3f}" for name, value in last.metrics.items() if "/" not in name
        )
        found = f", {metrics}" if metrics else ""
        waiting = f", {len(self.pending)} pending" if self.pending else ""
        broken = f", {len(self.set_aside)} broken set aside" if self.set_aside else ""
        stopped = f", interrupted {self.interrupted}" if self.interrupted else ""
        where = f"cycle {last.cycle}, {last.images} images"
        return f"History({self.name}: {where}{found}{waiting}{broken}{stopped})"

    def to_json(self) -> str:
        """Return name, rows, ids of pending requests and of broken images as JSON.

        Detector and pool are left out. A metric that is not defined, such as the AP of a class
        without a test box, is null.
        """
        return json.dumps(
            {
                "name": self.name,
                "rows": [row.to_plain() for row in self.rows],
                "pending": [request.id for request in self.pending],
                "set_aside": [finding.image_id for finding in self.set_aside],
                "interrupted": self.interrupted,
            }
        )
