"""The targets of many images at once, cut from one that holds all their boxes.

A part of a valid target is valid, so the whole is checked once and the parts are not checked again:
a hundred thousand targets take a second. Boxes, labels and marks of a part are copies of its own,
because a view would drag all boxes of the data set along wherever the target is sent or saved.
What is the same for all, no score and no mark, is shared between parts of one size; records never
change.
"""

from __future__ import annotations

from typing import Any

import torch

from almining.checks import HUMAN
from almining.records import Target


class Parts:
    """Cuts a target of boxes drawn by people.

    Args:
        whole: boxes, labels and marks of all images, image by image.

    >>> whole = Target(torch.rand(5, 2).repeat(1, 2), torch.tensor([1, 2, 3, 4, 5]))
    >>> Parts(whole).cut(1, 3).labels
    tensor([2, 3])
    """

    def __init__(self, whole: Target) -> None:
        """Cut nothing yet."""
        self._boxes, self._labels = whole.boxes.numpy(), whole.labels.numpy()
        self._ignore = whole.ignore.numpy()
        self._complete = whole.complete
        self._alike: dict[int, dict[str, Any]] = {}

    def cut(self, start: int, stop: int) -> Target:
        """Return the target of boxes `start` to `stop`, the latter excluded."""
        count = stop - start
        if count not in self._alike:
            self._alike[count] = {
                "ignore": torch.zeros(count, dtype=torch.bool),
                "scores": torch.full((count,), torch.nan),
                "origin": (HUMAN,) * count,
                "negatives": torch.zeros(0, 4),
                "tags": None,
                "absent": None,
                "complete": self._complete,
            }
        part, put = object.__new__(Target), object.__setattr__
        for name, value in self._alike[count].items():
            put(part, name, value)
        put(part, "boxes", torch.from_numpy(self._boxes[start:stop].copy()))
        put(part, "labels", torch.from_numpy(self._labels[start:stop].copy()))
        ignore = self._ignore[start:stop]
        if ignore.any():
            put(part, "ignore", torch.from_numpy(ignore.copy()))
        return part
