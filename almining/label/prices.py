"""What labels cost, in seconds: an answer at prices from the literature, a whole schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from almining.checks import check_whole
from almining.records import Request, Target


@dataclass(frozen=True, slots=True)
class Prices:
    """What a person's work costs, in seconds.

    `Prices.urban()` has the price of a street scene. BiB, NOTE-RCNN, Co-mining and SSM name none.

    >>> Prices().complete(3), Prices().tags(20), Prices.urban().complete(3)
    (76.5, 20.0, 35.0)
    """

    box: float = 25.5  # draw one box, the median (Su, Deng, Fei-Fei, HCOMP workshop 2012)
    look: float = 7.8  # at least, to look through an image: coverage verification (ibid.)
    tag: float = 1.0  # per class asked for: 20 s for VOC's 20 (Bearman et al., ECCV 2016)
    verify: float = 1.6  # yes or no to one box (Papadopoulos et al., CVPR 2016)
    image: float | None = None  # every box of an image, however many, in place of box and look

    def __post_init__(self) -> None:
        """Validate."""
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if not (name == "image" and value is None):
                _check_seconds(value, f"Prices.{name}")

    @classmethod
    def urban(cls) -> Prices:
        """Return the prices where all of an image costs 35 s: the pedestrians of a street scene.

        Source: Divergence (Aghdam et al., ICCV 2019) §1, the mean over six tools, a minimum.
        """
        return cls(image=35.0)

    def complete(self, boxes: int) -> float:
        """Return the seconds to draw every box of an image, or to look through an empty one."""
        return max(self.look, self.box * boxes) if self.image is None else self.image

    def tags(self, classes: int) -> float:
        """Return the seconds to say of each class whether it is in an image."""
        return self.tag * classes

    def region(self, boxes: int) -> float:
        """Return the seconds to draw what is in a region, or to say that nothing is."""
        return self.box * boxes if boxes else self.verify

    def of(self, request: Request, given: Target | int | None, *, classes: int) -> float:
        """Return the seconds a request costs, expected or once it is answered.

        Args:
            request: what is asked.
            given: the answer's target, whose ignored boxes cost nothing, or how many boxes are
                expected; does not matter for `"tag"` and `"verify"`.
            classes: how many classes a tag request asks about.

        >>> Prices().of(Request("q", "a", "complete"), 2, classes=3)
        51.0
        """
        boxes = int((~given.ignore).sum()) if isinstance(given, Target) else int(given or 0)
        if request.kind == "complete":
            return float(self.complete(boxes))
        if request.kind == "tag":
            return float(self.tags(classes))
        return float(self.verify if request.kind == "verify" else self.region(boxes))


def time_to_completion(
    *,
    images: int,
    budget: int,
    per_cycle: int,
    score_s: float,
    train_s: float,
    epochs: int | None = None,
    steps: int | None = None,
    label_s: float = 0.0,
    labelled: int = 0,
) -> float:
    """Return the seconds a whole schedule takes, of a machine and of a person, one after the other.

    In each cycle the images not yet labelled are scored, `per_cycle` of them are labelled (the last
    cycle: what is left of the budget), and the detector is trained on all that are.

    Args:
        images: in the pool.
        budget: images to label, all cycles together.
        per_cycle: images to label per cycle.
        score_s: seconds to score one image; 0 where no cycle does.
        train_s: seconds to train on one image, with `epochs`, or for one step, with `steps`.
        epochs: passes over the labelled images in each cycle.
        steps: steps in each cycle, however many images are labelled; either this or `epochs`.
        label_s: seconds of a person for one image.
        labelled: images labelled at the start, which are trained on too.

    Raises:
        ValueError: naming the argument and what is needed.

    >>> time_to_completion(
    ...     images=10, budget=4, per_cycle=2, score_s=1, train_s=1, steps=5, label_s=35
    ... )
    168.0
    """
    check_whole(images, "images", 1)
    check_whole(labelled, "labelled", 0)
    check_whole(budget, "budget", 0)
    check_whole(per_cycle, "per_cycle", 1)
    if labelled + budget > images:
        raise ValueError(
            f"budget = {budget} and labelled = {labelled} exceed images = {images}; lower one"
        )
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs = {epochs!r}, steps = {steps!r}: give one of the two")
    check_whole(epochs if steps is None else steps, "epochs" if steps is None else "steps", 0)
    for name, value in {"score_s": score_s, "train_s": train_s, "label_s": label_s}.items():
        _check_seconds(value, name)
    total, known = label_s * budget, labelled
    while known < labelled + budget:
        total += score_s * (images - known)
        known = min(known + per_cycle, labelled + budget)
        total += train_s * (steps if epochs is None else epochs * known)  # type: ignore[operator]
    return float(total)


def _check_seconds(value: object, name: str) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} = {value!r}: a finite number of seconds >= 0 is needed")
