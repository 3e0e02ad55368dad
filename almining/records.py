"""The records every layer speaks in, and their conventions, stated and checked here once.

- Images are `float32 (3, h, w)` in [0, 1], RGB. Boxes are `float32 (n, 4)`, `x1 y1 x2 y2` in
  absolute pixels, width = x2 - x1. Labels are `int64`, 1...C; 0 is background. Class *i* is called
  `pool.classes[i - 1]`.
- An image is addressed by its `image_id`, a string that never changes, never by its position.
- A higher score always means: more worth labelling.
- *Unlabelled* (nothing known), *labelled and empty* (complete, no box) and *sparse* (some boxes,
  not complete) are three different states; see `Target.state`.

Records are frozen, are validated when made, and have no truth value: an empty target is not an
unknown one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from almining.checks import (
    check_boxes,
    check_choice,
    check_class,
    check_labels,
    check_matrix,
    check_one_box,
    check_probs,
    check_text,
    check_vector,
    class_set,
    origins,
)

Kind = Literal["complete", "verify", "region", "tag"]
Verdict = Literal["accept", "reject", "skip"]
KINDS = ("complete", "verify", "region", "tag")
VERDICTS = ("accept", "reject", "skip")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What is known of one image.

    Args:
        boxes: (n, 4) float32, xyxy in pixels.
        labels: (n,) int64, 1...C.
        ignore: (n,) bool, difficult or crowd: neither positive nor negative. Default: none is.
        origin: n strings, `"human"`, `"mined"` or `"mined:<method>:<cycle>"`. Default: all
            `"human"`.
        scores: (n,) float32, what a mined box scored when it was mined, NaN for a person's.
            Default: all NaN.
        tags: the classes known to be present, or None when that is not known.
        absent: the classes known to be absent; None beside `tags` means every untagged one.
        negatives: (k, 4) boxes that a person said hold no object, or none whole. Default: none.
        complete: does an absent box mean background?

    Raises:
        ValueError: naming the field, the row, the value and what to do.

    >>> Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([2]))
    Target(1 box, classes 2, complete)
    >>> Target.unknown(tags={1, 3}).state
    'tagged'

    Source: the states are those the five papers start from: unlabelled (SSM §3, Divergence §3),
    tagged (BiB §3.1, NOTE-RCNN §3.1), sparse (Co-mining §3.1) and complete.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor = field(default=None, kw_only=True)  # type: ignore[assignment]
    origin: tuple[str, ...] = field(default=None, kw_only=True)  # type: ignore[arg-type]
    scores: Tensor = field(default=None, kw_only=True)  # type: ignore[assignment]
    tags: frozenset[int] | None = field(default=None, kw_only=True)
    absent: frozenset[int] | None = field(default=None, kw_only=True)
    negatives: Tensor = field(default=None, kw_only=True)  # type: ignore[assignment]
    complete: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Fill the defaults and validate."""
        check_boxes(self.boxes, "Target.boxes")
        n, device = len(self.boxes), self.boxes.device
        check_labels(self.labels, n, "Target.labels")
        if self.ignore is None:
            object.__setattr__(self, "ignore", torch.zeros(n, dtype=torch.bool, device=device))
        check_vector(self.ignore, n, torch.bool, "Target.ignore")
        if self.scores is None:
            object.__setattr__(self, "scores", torch.full((n,), torch.nan, device=device))
        check_vector(self.scores, n, torch.float32, "Target.scores")
        if bool(self.scores.isinf().any()):
            raise ValueError("Target.scores hold an infinite score; NaN says there is none")
        object.__setattr__(self, "origin", origins(self.origin, n))
        if self.negatives is None:
            object.__setattr__(self, "negatives", torch.zeros(0, 4, device=device))
        check_boxes(self.negatives, "Target.negatives")
        for name in ("tags", "absent"):
            object.__setattr__(self, name, class_set(getattr(self, name), f"Target.{name}"))
        self._check_knowledge()

    def _check_knowledge(self) -> None:
        if not isinstance(self.complete, bool):
            raise ValueError(f"Target.complete must be True or False, got {self.complete!r}")
        found = frozenset(self.labels.tolist())
        if self.complete and self.tags is not None and self.tags != found:
            raise ValueError(
                f"Target.tags = {sorted(self.tags)} but a complete target's boxes are of classes "
                f"{sorted(found)}; pass complete=False when boxes are missing, or leave tags out"
            )
        both = (self.absent or frozenset()) & (found | (self.tags or frozenset()))
        if both:
            raise ValueError(
                f"Target.absent names {sorted(both)}, which boxes or tags say are present; "
                "remove one"
            )

    def __bool__(self) -> bool:
        """Refuse: an empty target is not an unknown one."""
        raise TypeError(
            "a Target has no truth value; ask len(target), target.complete or target.state"
        )

    def __len__(self) -> int:
        """Return the number of boxes, ignored ones included."""
        return len(self.boxes)

    def __repr__(self) -> str:
        """Say in one line what is known."""
        classes = ", ".join(map(str, sorted(set(self.labels.tolist()))))
        parts = [_count(len(self), "box"), *([f"classes {classes}"] if classes else []), self.state]
        return f"Target({', '.join(parts)})"

    @property
    def state(self) -> Literal["unlabelled", "tagged", "sparse", "complete"]:
        """What is known of the image: one of the four rows of the table in the design."""
        if self.complete:
            return "complete"
        if len(self):
            return "sparse"
        return "unlabelled" if self.tags is None else "tagged"

    @property
    def present(self) -> frozenset[int] | None:
        """The classes known to be present, ignored boxes included; None when not known."""
        found = frozenset(self.labels.tolist())
        if self.complete:
            return found
        return None if self.tags is None else self.tags | found

    def known_absent(self, label: int) -> bool:
        """Tell whether class `label` is known not to be in the image."""
        if self.absent is not None and not self.complete:
            return label in self.absent
        present = self.present
        return present is not None and label not in present

    def to(self, device: torch.device | str) -> Target:
        """Return the same target on another device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("boxes", "labels", "ignore", "scores", "negatives")
        }
        return Target(
            **moved, origin=self.origin, tags=self.tags, absent=self.absent, complete=self.complete
        )

    def select(self, keep: Tensor) -> Target:
        """Return the target with only the boxes that `keep`, a mask (n,) or positions, names.

        What is known beside boxes stays; a complete target that loses a box is complete no more.
        """
        chosen = torch.arange(len(self), device=self.boxes.device)[keep]
        complete = self.complete and sorted(chosen.tolist()) == list(range(len(self)))
        return Target(
            self.boxes[chosen],
            self.labels[chosen],
            ignore=self.ignore[chosen],
            origin=tuple(self.origin[i] for i in chosen.tolist()),
            scores=self.scores[chosen],
            tags=self.tags,
            absent=self.absent,
            negatives=self.negatives,
            complete=complete,
        )

    @staticmethod
    def unknown(tags: Iterable[int] | None = None) -> Target:
        """Return a target without boxes, not complete: unlabelled, or tagged with `tags`."""
        known = class_set(tags, "Target.tags")
        no_labels = torch.zeros(0, dtype=torch.int64)
        return Target(torch.zeros(0, 4), no_labels, tags=known, complete=False)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector says of one image, best first.

    Args:
        boxes: (n, 4) float32, xyxy in pixels.
        labels: (n,) int64, 1...C.
        scores: (n,) float32, finite.
        probs: (n, C + 1) in [0, 1], column 0 background, or None. Rows sum to 1 for softmax heads
            and need not for one-vs-rest heads.
        features: (n, d), finite, or None.

    Raises:
        ValueError: naming the field, the row, the value and what to do.

    >>> Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    Detections(0 boxes)
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    probs: Tensor | None = field(default=None, kw_only=True)
    features: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate."""
        check_boxes(self.boxes, "Detections.boxes")
        n = len(self.boxes)
        check_labels(self.labels, n, "Detections.labels")
        check_vector(self.scores, n, torch.float32, "Detections.scores")
        if not bool(self.scores.isfinite().all()):
            row = int((~self.scores.isfinite()).nonzero()[0])
            raise ValueError(
                f"Detections.scores[{row}] = {float(self.scores[row])}: scores must be finite"
            )
        if self.probs is not None:
            check_matrix(self.probs, n, "Detections.probs")
            check_probs(self.probs, self.labels)
        if self.features is not None:
            check_matrix(self.features, n, "Detections.features")

    def __bool__(self) -> bool:
        """Refuse: no detection is not the same as not looked at."""
        raise TypeError("Detections have no truth value; ask len(detections)")

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes)

    def __repr__(self) -> str:
        """Say in one line what was found."""
        best = f", best {float(self.scores.max()):.2f}" if len(self) else ""
        kept = "".join(
            f", {name}" for name in ("probs", "features") if getattr(self, name) is not None
        )
        return f"Detections({_count(len(self), 'box')}{best}{kept})"

    def to(self, device: torch.device | str) -> Detections:
        """Return the same detections on another device."""
        return self._map(lambda values: values.to(device))

    def select(self, keep: Tensor) -> Detections:
        """Return the detections that `keep`, a mask (n,) or positions, names."""
        return self._map(lambda values: values[keep])

    def _map(self, change: Any) -> Detections:
        probs, features = self.probs, self.features
        return Detections(
            change(self.boxes),
            change(self.labels),
            change(self.scores),
            probs=None if probs is None else change(probs),
            features=None if features is None else change(features),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Why something was picked.

    Args:
        kind: what `draw` and `review` render it by, such as `"entropy"`.
        data: names to tensors, strings and numbers.
        text: one sentence for a person.
    """

    kind: str
    data: Mapping[str, Tensor | str | float | int]
    text: str

    def __post_init__(self) -> None:
        """Validate."""
        if not isinstance(self.data, Mapping):
            raise ValueError(f"Evidence.data must be a mapping, got {type(self.data).__name__}")
        for name, value in self.data.items():
            if not isinstance(name, str) or not isinstance(value, Tensor | str | float | int):
                raise ValueError(
                    f"Evidence.data[{name!r}] is a {type(value).__name__}; "
                    "data maps names to tensors, strings, numbers"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One question to a person.

    Args:
        id: unique within a cycle; `cycle.run` makes it unique within a run.
        image_id: the image it is about.
        kind: `"complete"` (draw every box), `"verify"` (is this box of this class right?),
            `"region"` (what is in this box?) or `"tag"` (which classes are there?).
        box: (4,) float32, for `"verify"` and `"region"`.
        label: the class in question, for `"verify"`.
        score: how much it is worth labelling; higher is more.
        evidence: why it was picked.

    Raises:
        ValueError: naming the field, the value and what to do.
    """

    id: str
    image_id: str
    kind: Kind
    box: Tensor | None = field(default=None, kw_only=True)
    label: int | None = field(default=None, kw_only=True)
    score: float | None = field(default=None, kw_only=True)
    evidence: Evidence | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate."""
        check_text(self.id, "Request.id")
        check_text(self.image_id, "Request.image_id")
        check_choice(self.kind, KINDS, f"Request.kind of {self.image_id!r}")
        if self.box is not None:
            check_one_box(self.box, f"Request.box of {self.image_id!r}")
        if self.kind in ("verify", "region") and self.box is None:
            raise ValueError(
                f"Request.box of {self.image_id!r} is None: {self.kind} needs one (4,)"
            )
        if self.kind == "verify" or self.label is not None:
            check_class(self.label, f"Request.label of {self.image_id!r}, {self.kind}")
        if self.score is not None and not isinstance(self.score, int | float):
            raise ValueError(f"Request.score of {self.image_id!r} = {self.score!r}: not a number")
        if self.score is not None and self.score != self.score:
            raise FloatingPointError(
                f"Request.score of {self.image_id!r} is NaN; the strategy must not rank by it"
            )

    def __repr__(self) -> str:
        """Say in one line what is asked."""
        score = "" if self.score is None else f", score {self.score:.3g}"
        return f"Request({self.kind} {self.image_id}{score})"


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a person, or an oracle in a person's place, said.

    Args:
        request_id: the request it answers.
        target: the boxes or tags given: a complete target (`"complete"`), one with `tags`
            (`"tag"`), one with the box and class found, or none for *no object here* (`"region"`).
        verdict: `"accept"`, `"reject"` (both for `"verify"`) or `"skip"` (any kind).
        by: who answered.
        seconds: what it cost.

    Raises:
        ValueError: naming the field, the value and what to do.
    """

    request_id: str
    target: Target | None = field(default=None, kw_only=True)
    verdict: Verdict | None = field(default=None, kw_only=True)
    by: str = field(kw_only=True)
    seconds: float = field(kw_only=True)

    def __post_init__(self) -> None:
        """Validate."""
        check_text(self.request_id, "Answer.request_id")
        check_text(self.by, f"Answer.by to {self.request_id!r}")
        if self.verdict is not None:
            check_choice(self.verdict, VERDICTS, f"Answer.verdict to {self.request_id!r}")
        if self.target is not None and not isinstance(self.target, Target):
            raise ValueError(f"Answer.target to {self.request_id!r} must be a Target")
        if self.target is None and self.verdict is None:
            raise ValueError(
                f"Answer to {self.request_id!r} is empty: give a target or a verdict, "
                "'skip' if need be"
            )
        if not (isinstance(self.seconds, int | float) and 0 <= self.seconds < float("inf")):
            raise ValueError(
                f"Answer.seconds = {self.seconds!r} to {self.request_id!r}: "
                "a finite number >= 0 is needed"
            )

    def __repr__(self) -> str:
        """Say in one line what was answered."""
        said = self.verdict if self.target is None else repr(self.target)
        return f"Answer({self.request_id}: {said}, {self.seconds:.0f} s by {self.by})"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}es"
