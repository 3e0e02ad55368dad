"""A small pool with hidden truth, and questions about it."""

from __future__ import annotations

import torch

from almining.data.pool import Pool
from almining.label import Simulated, merge
from almining.records import Answer, Request, Target
from tests.fakes import FlatImages, boxes, labels

CLASSES = ("cup", "dog", "boat")
BOX = (10.0, 10, 30, 30)
HALF = (10.0, 10, 30, 20)  # IoU exactly 0.5 with BOX
LESS = (10.0, 10, 30, 19)
FAR = (60.0, 60, 80, 80)
NAN = float("nan")


def pool(**targets: Target) -> Pool:
    return Pool(
        CLASSES, {f"im-{name[1:]}": target for name, target in targets.items()}, FlatImages()
    )


def truth() -> Pool:
    return pool(
        a0=Target(
            boxes(BOX, FAR, (0, 40, 20, 60)),
            labels(1, 2, 3),
            ignore=torch.tensor([False, False, True]),
        ),
        a1=Target(boxes(), labels()),
    )


def request(kind: str, box=None, label: int | None = None, image: str = "im-0", id: str = "q"):
    return Request(id, image, kind, box=None if box is None else torch.tensor(box), label=label)


def asked(question: Request, hidden: Pool | None = None) -> Answer:
    (answer,) = Simulated(truth() if hidden is None else hidden).ask([question], truth())
    return answer


def target(*rows, label=None, origin=None, **known) -> Target:
    mined = origin or ("human",) * len(rows)
    scores = torch.tensor([NAN if text == "human" else 0.9 for text in mined])
    number = label or [1] * len(rows)
    return Target(
        boxes(*rows), labels(*number), origin=mined, scores=scores,
        **{"complete": False, **known},
    )  # fmt: skip


def after(before: Target, question: Request, **answer) -> Target:
    return merge(before, question, Answer(question.id, by="me", seconds=1, **answer))
