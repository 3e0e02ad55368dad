"""The dials of the toy world: each turns one failure mode of the papers up or down.

With every dial at its default the world is the one in which the demo detectors grew up. What the
dials do to a scene is in `almining.data.toy.staging`, `sprites` and `domains`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np

from almining.checks import check_whole
from almining.data.toy.domains import check_domain

LONGEST = 5  # objects in a row
RANGES = {  # of the dials that are numbers
    "likeness": (0.0, 1.0),
    "rows": (0.0, 1.0),
    "closeness": (0.0, 1.0),
    "context_bias": (0.0, 1.0),
    "occlusion": (0.0, 1.0),
    "truncation": (0.0, 1.0),
    "clutter": (0.0, 4.0),
}


def is_number(value: object, low: float, high: float) -> bool:
    """Tell whether something is a number from `low` to `high`; booleans are none, NaN neither."""
    plain = value.item() if isinstance(value, np.generic) else value
    return isinstance(plain, (int, float)) and not isinstance(plain, bool) and low <= plain <= high


class Dials(TypedDict, total=False):
    """The dials by name, see `World`."""

    likeness: float
    rows: float
    row_length: int
    closeness: float
    parts: bool
    context_bias: float
    occlusion: float
    truncation: float
    clutter: float
    domain: str


@dataclass(frozen=True, slots=True)
class World:
    """What kind of world scenes are drawn from; validated when made.

    Args:
        likeness: in [0, 1], the share of cats, dogs, sheep, cars and taxis whose bodies wear any
            colours, so that only the head, or the roof sign and the checker strip, tells the
            class. At 0 cats are ginger and striped, dogs brown, sheep white, taxis yellow and
            cars never: no class needs its telltale part. High: a detector taught by tags boxes
            the part alone (BiB's part domination), and boxes are mined under the wrong class
            (NOTE-RCNN's label noise).
        rows: in [0, 1], the probability that a group of objects is a row of one class.
        row_length: 2...5, the most objects in a row.
        closeness: in [0, 1], how tight a row stands: 0 with gaps, 0.5 shoulder to shoulder, 1 so
            that each hides up to half of the next, all facing one way. High: one box around
            several objects (BiB's grouped instances), and neighbours suppressed by NMS.
        parts: is the wheel a ninth class? Every wheel of a car or taxi of which anything is seen
            then has a box around what is seen of it. A class inside another: the box in a box that
            BiB's pairs look for is then right.
        context_bias: in [0, 1], the probability that a group is of a class drawn from those at
            home where it stands; any class is drawn otherwise. At 1 every object is at home, at 0
            the background tells nothing. High: a detector learns the background, which SSM
            uncovers by pasting what was found elsewhere.
        occlusion: in [0, 1], how much may be hidden and how often. 0: nothing hides anything.
            0.5: at least 35% of an object is seen. 1: objects and bystanders stand in one another's
            way, and at least 25% is seen. High: objects are missed (the frames Divergence is to
            find), or found and not labelled (Co-mining).
        truncation: in [0, 1], how often objects leave the picture. 0: never; 0.5: where they
            happen to; 1: every group stands at an edge.
        clutter: in [0, 4], a factor on the number of bystanders, the things that are no object.
            High: false alarms, the other frames Divergence is to find.
        domain: `"day"` or `"dusk"`, the hour in which the picture is taken; what stands where
            does not depend on it. A detector of the one meets a domain shift in the other.

    Raises:
        ValueError: naming the dial, its value and its range.

    >>> World(closeness=1.0).closeness
    1.0
    """

    likeness: float = 1.0
    rows: float = 0.4
    row_length: int = 3
    closeness: float = 0.5
    parts: bool = False
    context_bias: float = 0.85
    occlusion: float = 0.5
    truncation: float = 0.5
    clutter: float = 1.0
    domain: str = "day"

    def __post_init__(self) -> None:
        """Check every dial."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not is_number(value, low, high):
                raise ValueError(
                    f"{name} = {value!r} must be a number from {low:g} to {high:g}; "
                    f"the default is {defaults[name]:g}"
                )
            object.__setattr__(self, name, float(value))
        remedy = f" and at most {LONGEST}; for no rows at all choose rows=0"
        length = check_whole(self.row_length, "row_length", 2, LONGEST, remedy)
        object.__setattr__(self, "row_length", length)
        if not isinstance(self.parts, bool):
            raise ValueError(
                f"parts = {self.parts!r} must be True, for boxes around wheels, or False"
            )
        check_domain(self.domain)

    @property
    def least_seen(self) -> float:
        """The least share of a whole object that must be seen."""
        return 0.35 - 0.2 * max(self.occlusion - 0.5, 0.0)

    @property
    def most_hidden(self) -> float:
        """The greatest share of what lies in the picture of an object that others may hide."""
        return min(1.3 * self.occlusion, 1.0 - self.least_seen)

    @property
    def gap(self) -> tuple[float, float]:
        """How far apart neighbours in a row stand, from and to, in widths of the first."""
        share = abs(2.0 * self.closeness - 1.0)
        low, high = (0.5, 0.66) if self.closeness > 0.5 else (1.12, 1.4)
        return (0.72 + share * (low - 0.72), 1.02 + share * (high - 1.02))


PLAIN = World()  # every dial at its default
