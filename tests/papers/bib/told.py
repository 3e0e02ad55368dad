"""A detector of which detections, features and losses are known by hand, and a pool it tells apart.

Image *i* is of one colour that says *i*. What is found in it, and what its boxes look like, is a
table's, or drawn from a seed, and changes as the one weight is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from almining.data.pool import Pool
from almining.records import Detections, Target
from tests.fakes import target

CLASSES = ("cat", "dog")
WHOLE, PART, OTHER = (0.0, 0, 12, 12), (1.0, 1, 4, 4), (7.0, 7, 10, 10)
Row = tuple[tuple[float, float, float, float], int, float]  # box, label, score
PAIR: list[Row] = [(WHOLE, 1, 0.9), (PART, 1, 0.8)]
ALONE: list[Row] = [(WHOLE, 1, 0.9), (PART, 2, 0.8)]


class Numbered:
    def load(self, image_id: str) -> Tensor:
        return torch.full((3, 16, 16), int(image_id.rsplit("-", 1)[1]) / 512)


def number_of(image: Tensor) -> int:
    return round(float(image.mean()) * 512)


def pool_of(n: int, known: Callable[[int], Target] = lambda i: Target.unknown({1, 2})) -> Pool:
    return Pool(CLASSES, {f"im-{i}": known(i) for i in range(n)}, Numbered())


def truth_of(n: int) -> Pool:
    return pool_of(n, lambda i: target((2, 2, 10, 12), label=1 + i % 2))


def records(rows: Sequence[Row]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in rows], dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor([score for _, _, score in rows]))


def drawn(number: int, stage: int) -> list[Row]:
    """A whole and up to five boxes anywhere, of two classes."""
    draws = torch.Generator().manual_seed(number * 1000 + stage)
    many = int(torch.randint(6, (), generator=draws))
    rows: list[Row] = [(WHOLE, 1 + number % 2, 0.9)] if many > 1 else []
    for _ in range(many):
        x, y, wide, high, label = torch.randint(1, 7, (5,), generator=draws).tolist()
        score = float(torch.rand((), generator=draws))
        rows.append(((x, y, x + wide, y + high), 1 + label % 2, score))
    return rows


class Told(nn.Module):
    """Says what a table says; each step of training adds to its weight."""

    def __init__(self, said: Callable[[int, int], Sequence[Row]] | dict[int, Any] = drawn) -> None:
        super().__init__()
        self.classes = CLASSES
        self.said = said if callable(said) else lambda number, _: said.get(number, [])
        self.turn = nn.Parameter(torch.zeros(()))

    @property
    def stage(self) -> int:
        return round(float(self.turn.detach()) * 10)

    def losses(self, images, targets, *, generator) -> dict[str, Tensor]:
        return {"turn": -self.turn}

    def detect(self, images) -> list[Detections]:
        return [records(self.said(number_of(image), self.stage)) for image in images]

    @torch.no_grad()
    def looks(self, number: int, boxes: Tensor) -> Tensor:
        """(n, 5): corners, and a number that images share."""
        shared = boxes.new_full((len(boxes), 1), number % 5)
        return torch.cat([boxes, shared], dim=1) * (1 + self.turn) + self.turn * boxes[:, :1]

    def regions(self, images, boxes) -> list[Detections]:
        return [
            Detections(
                given,
                torch.ones(len(given), dtype=torch.int64),
                torch.ones(len(given)),
                features=self.looks(number_of(image), given),
            )
            for image, given in zip(images, boxes, strict=True)
        ]

    def embed(self, images) -> Tensor:
        return torch.tensor([[number_of(image) ** 2 % 11, 1.0] for image in images])


def small_mist(classes: tuple[str, ...]) -> Any:
    """A real detector, untrained, that is sure enough of everything to form pairs."""
    from almining.data.proposals import Grid
    from almining.detectors.weak import mist  # torchvision takes seconds to import

    proposer = Grid(sizes=(0.2, 0.5, 0.9), ratios=(1.0,))
    return mist(classes, proposer=proposer, width=16, size=48, min_score=0.0)
