"""A pool of flat colours and a detector that learns them: all the loop needs, in milliseconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.records import Detections, Target


class FlatImages:
    """Images of one colour; the colour is a function of the id."""

    def load(self, image_id: str) -> Tensor:
        number = int(image_id.rsplit("-", 1)[1])
        return torch.full((3, 16, 24), (number % 10) / 10)


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def labels(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def target(*rows: tuple[float, float, float, float], label: int = 1, **known: object) -> Target:
    return Target(boxes(*rows), labels(*[label] * len(rows)), **known)


def flat_pool(
    n: int, *, classes: tuple[str, ...] = ("dark", "light"), prefix: str = "flat"
) -> Pool:
    """Images 0...n-1, image i holding one box of class 1 + i % C."""
    targets = {
        f"{prefix}-{i}": target((2, 2, 10, 12), label=1 + i % len(classes)) for i in range(n)
    }
    return Pool(classes, targets, FlatImages())


class FaultyImages(FlatImages):
    """Images some of which are broken; keeps the ids it was asked for."""

    def __init__(self, bad: set[str]) -> None:
        self.bad, self.asked = bad, []

    def load(self, image_id: str) -> Tensor:
        self.asked.append(image_id)
        if image_id in self.bad:
            raise BrokenImageError(image_id, f"{image_id}.jpg", "image file is truncated")
        return super().load(image_id)


def faulty_pool(whole: Pool, *bad: int) -> tuple[Pool, FaultyImages]:
    """The same pool with these images of it broken, and where they come from."""
    images = FaultyImages({whole.ids[number] for number in bad})
    return Pool(whole.classes, {i: whole.target(i) for i in whole.ids}, images), images


class FlatDetector(nn.Module):
    """One logit per class from the mean colour; one fixed box. Counts what it was asked."""

    def __init__(self, classes: tuple[str, ...] = ("dark", "light")) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(1, len(classes) + 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def _logits(self, images: list[Tensor]) -> Tensor:
        return self.linear(torch.stack([image.mean() for image in images])[:, None])

    def losses(self, images, targets, *, generator) -> dict[str, Tensor]:
        wanted = torch.stack([one.labels[0] if len(one) else torch.tensor(0) for one in targets])
        return {"cls": nn.functional.cross_entropy(self._logits(images), wanted)}

    @torch.no_grad()
    def detect(self, images) -> list[Detections]:
        found = []
        for row in self._logits(images).softmax(dim=1):
            score, label = row[1:].max(dim=0)
            found.append(
                Detections(boxes((2, 2, 10, 12)), label[None] + 1, score[None], probs=row[None])
            )
        return found

    @torch.no_grad()
    def embed(self, images) -> Tensor:
        return torch.stack([image.mean(dim=(1, 2)) for image in images])
