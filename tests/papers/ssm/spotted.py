"""A pool of coloured spots, and a detector that is told how sure it is of each colour.

A red, green or blue spot is of class 1, 2, 3 wherever it is. A yellow one is claimed by classes 1
and 2, but only in images whose bottom row is white: in those it comes from, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from almining.data.pool import Pool
from almining.records import Detections, Target

CLASSES = ("a", "b", "c")
PURE, YELLOW = torch.eye(3), torch.tensor([1.0, 1, 0])
LEFT, RIGHT = (4.0, 4, 12, 12), (26.0, 6, 36, 16)
SURE, CLAIMED = 0.9, (0.8, 0.7)
NAMES = ("red", "green", "blue", "yellow")


class Spots:
    """Image *i* has a spot of class i % 3 + 1 on the left and, from 100 on, a yellow one."""

    def load(self, image_id: str) -> Tensor:
        image, number = torch.full((3, 40, 48), 0.5), int(image_id)
        image[:, 4:12, 4:12] = PURE[number % 3][:, None, None]
        if number >= 100:
            image[:, 6:16, 26:36] = YELLOW[:, None, None]
            image[:, 39] = 1.0
        return image


def known(number: int) -> Target:
    return Target(torch.tensor([LEFT]), torch.tensor([number % 3 + 1]))


def pool_of(complete: int = 9, unlabelled: int = 3, **given: Target) -> Pool:
    """Images 0... of which all is known, and 100... of which nothing is, unless it is given."""
    targets = {str(i): known(i) for i in range(complete)}
    targets |= {str(i): Target.unknown() for i in range(100, 100 + unlabelled)}
    return Pool(CLASSES, targets | {name[1:]: one for name, one in given.items()}, Spots())


def truth_of(pool: Pool) -> Pool:
    """What a person says: a yellow spot is no object in images of even number, else a c."""
    targets = {}
    for image_id in pool.ids:
        target = known(int(image_id))
        if int(image_id) >= 100 and int(image_id) % 2:
            boxes = torch.tensor([LEFT, RIGHT])
            target = Target(boxes, torch.cat([target.labels, torch.tensor([3])]))
        targets[image_id] = target
    return Pool(pool.classes, targets, Spots())


class Spotter(nn.Module):
    """Finds spots; what it learns from is kept, and makes it more or less sure of them."""

    def __init__(self, softmax: bool = False, **sure: Any) -> None:
        super().__init__()
        self.classes, self.softmax = CLASSES, softmax
        self.sure = {"red": SURE, "green": SURE, "blue": SURE, "yellow": CLAIMED} | sure
        self.weight = nn.Parameter(torch.zeros(()))
        self.taught: list[list[Target]] = []
        self.shown: list[list[Tensor]] = []
        self.looked = 0

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        self.looked += len(images)
        return [self._found(image) for image in images]

    def losses(self, images: Any, targets: Any, *, generator: Any) -> dict[str, Tensor]:
        self.taught.append(list(targets))
        self.shown.append(list(images))
        boxes = sum(int((~one.ignore).sum()) for one in targets)
        return {"cls": self.weight * (1 + boxes)}

    def _found(self, image: Tensor) -> Detections:
        rows = []
        for box, name in _spots(image):
            probs = torch.full((3,), 0.01)
            if name != "yellow":
                probs[NAMES.index(name)] = self.sure[name]
            elif bool((image[:, -1] == 1).all()):
                probs[:2] = torch.tensor(self.sure[name])
            probs = (probs + float(self.weight.detach())).clamp(0, 1)
            rows += [(box, label, probs) for label in (1, 2, 3) if probs[label - 1] > 0.05]
        rows.sort(key=lambda row: -float(row[2][row[1] - 1]))
        boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 4).float()
        labels = torch.tensor([label for _, label, _ in rows]).long()
        probs = torch.stack([row[2] for row in rows]) if rows else torch.zeros(0, 3)
        if self.softmax:
            probs = 0.98 * probs / probs.sum(dim=1, keepdim=True)
            background = 1 - probs.sum(dim=1, keepdim=True)
        else:
            background = 1 - probs.amax(dim=1, keepdim=True)
        scores = probs.gather(1, labels[:, None] - 1)[:, 0]
        features = torch.cat([boxes[:, 2:] - boxes[:, :2], probs], dim=1)
        probs = torch.cat([background, probs], dim=1)
        return Detections(boxes, labels, scores, probs=probs, features=features)


def _spots(image: Tensor) -> list[tuple[list[float], str]]:
    """Find rectangles of each colour, told apart by the columns between them."""
    found = []
    for name, colour in zip(NAMES, [*PURE, YELLOW], strict=True):
        rest = (image - colour[:, None, None]).abs().amax(dim=0) < 1e-3
        while bool(rest.any()):
            top, left = rest.nonzero()[0].tolist()
            right = left + int(rest[top, left:].int().cumprod(0).sum())
            bottom = top + int(rest[top:, left].int().cumprod(0).sum())
            rest[top:bottom, left:right] = False
            found.append(([left, top, right, bottom], name))
    return found
