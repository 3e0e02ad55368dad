"""Images of a toy world that are drawn when they are asked for, and kept while there is room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from almining.data.toy.pens import Pixels


class DrawnImages:
    """The images of a pool; draws each when it is asked for.

    The first images drawn stay in memory, the others are drawn again each time. A copy sent to
    another process starts without any.

    Args:
        draw: returns the image (h, w, 3), uint8, of an id; must survive being copied.
        keep: how many images stay in memory.
    """

    def __init__(self, draw: Callable[[str], Pixels], *, keep: int) -> None:
        """Keep no image yet."""
        self._draw, self._keep = draw, keep
        self._kept: dict[str, Pixels] = {}

    def remember(self, image_id: str, image: Pixels) -> None:
        """Keep an image (h, w, 3), uint8, while there is room."""
        if len(self._kept) < self._keep:
            self._kept[image_id] = image

    def load(self, image_id: str) -> Tensor:
        """Return the image (3, h, w), float32 in [0, 1]."""
        image = self._kept.get(image_id)
        if image is None:
            image = self._draw(image_id)
            self.remember(image_id, image)
        return torch.tensor(image).permute(2, 0, 1).contiguous().to(torch.float32) / 255

    def __getstate__(self) -> dict[str, Any]:
        """Leave the images behind."""
        return {"_draw": self._draw, "_keep": self._keep, "_kept": {}}
