"""What a simulated person gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Generator

from almining.boxes import area
from almining.records import Answer, Request, Target, Verdict
from almining.rng import generator


@dataclass(frozen=True, slots=True)
class Noise:
    """How often, and by how much, the answers of a simulated person are wrong.

    Args:
        miss: the probability that a box of a completed image is left out; the answer still says
            that the image is complete.
        jitter: the standard deviation by which each side of a box that is drawn is off, as a share
            of the box's width or height.
        confuse: the probability that a box that is drawn is of a wrong class, any one.
        flip: the probability of a wrong verdict, and for each class asked for of a wrong tag.

    Raises:
        ValueError: naming the field and what is needed.

    >>> Noise(miss=0.1, jitter=0.05)
    Noise(miss=0.1, jitter=0.05, confuse=0.0, flip=0.0)
    """

    miss: float = 0.0
    jitter: float = 0.0
    confuse: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        """Validate."""
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"Noise.{name} = {value!r}: a number from 0 to 1 is needed")

    def applied(
        self,
        answer: Answer,
        request: Request,
        *,
        seed: int,
        classes: int,
        size: tuple[int, int] | None = None,
    ) -> Answer:
        """Return an answer with its mistakes, the same for the same seed and request id.

        Args:
            answer: without mistakes.
            request: what it answers.
            seed: of everything random.
            classes: how many there are.
            size: (height, width) that a box is kept within, where it is known.
        """
        draws = generator(seed, "noise", request.id)
        target = answer.target
        if target is None:
            wrong = float(torch.rand((), generator=draws)) < self.flip
            other: Verdict = "reject" if answer.verdict == "accept" else "accept"
            return replace(answer, verdict=other) if wrong else answer
        if request.kind == "tag":
            flipped = torch.rand(classes, generator=draws) < self.flip
            changed = frozenset((flipped.nonzero()[:, 0] + 1).tolist())
            return replace(answer, target=Target.unknown((target.tags or frozenset()) ^ changed))
        given = self._drawn(target, draws, classes, size)
        return replace(answer, target=given)

    def _drawn(
        self, target: Target, draws: Generator, classes: int, size: tuple[int, int] | None
    ) -> Target:
        n, device = len(target), target.boxes.device
        missed, confused, other = torch.rand(3, n, generator=draws).to(device)
        moved = self.jitter * torch.randn(n, 4, generator=draws).to(device)
        boxes, labels = target.boxes, target.labels
        if self.jitter:
            sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (n, 4): w, h, w, h
            high = boxes.new_tensor([torch.inf] * 4 if size is None else [size[1], size[0]] * 2)
            off = (boxes + moved * sides).clamp(min=boxes.new_zeros(4), max=high)
            boxes = torch.where((area(off) > 0)[:, None], off, boxes)
        if classes > 1:
            shift = 1 + (other * (classes - 1)).long().clamp(max=classes - 2)
            wrong = (labels - 1 + shift) % classes + 1
            labels = torch.where(confused < self.confuse, wrong, labels)
        given = replace(target, boxes=boxes, labels=labels, tags=None, absent=None)
        if not target.complete:
            return given
        return replace(given.select(missed >= self.miss), complete=True)
