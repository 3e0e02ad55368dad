import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from almining.cycle import Recipe, run
from almining.data.pool import Pool
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.detectors.onestage import retinanet
from almining.detectors.onestage_parts import Anchored
from almining.papers.comining import Config, recipe, rivals
from almining.records import Detections, Target
from almining.rng import generator
from almining.train import Batch
from tests.fakes import FlatImages, boxes, labels

MAKERS = (
    rivals.original,
    rivals.augmented,
    rivals.joint,
    rivals.cogeneration,
    rivals.soft_sampling,
    rivals.background_recalibration,
    rivals.part_aware,
    rivals.pseudo_labels,
)
CONFIG = replace(Config.toy(), steps=1, batch=1)


@pytest.fixture(scope="module")
def scenes() -> Pool:
    return sparse(make_scenes(2, seed=0), "extreme", seed=0)


@pytest.fixture(scope="module")
def detector(scenes: Pool):
    made = retinanet(scenes.classes, seed=1)
    with torch.no_grad():
        made.model.head.classification_head.cls_logits.weight *= 12
    return made


def losses_of(made: Recipe, detector, scenes: Pool) -> dict[str, float]:
    ids = list(scenes.ids)
    images, targets = [scenes.image(i) for i in ids], [scenes.target(i) for i in ids]
    given = Batch(ids, images, targets, scenes, 0, 0.0)
    found = made.step(detector, given, generator=generator(0))
    return {name: float(value.detach()) for name, value in found.items()}


def test_tables_one_and_two_differ_as_they_should(detector, scenes) -> None:
    config = Config(min_score=0.02)
    own, shown, both = (
        losses_of(make(config), detector, scenes)
        for make in (rivals.original, rivals.augmented, rivals.joint)
    )
    assert own["cls"] != shown["cls"]
    for name in own:  # L_o + L_a, both against what is annotated
        assert both[name] == pytest.approx(own[name] + shown[name], rel=1e-3)
    mined = losses_of(rivals.cogeneration(config), detector, scenes)
    assert mined["cls"] != own["cls"]
    unseen = replace(config, view="none")
    twice = losses_of(recipe(unseen), detector, scenes)  # no view: co-generation, twice
    for name in mined:
        assert twice[name] == pytest.approx(2 * mined[name], rel=1e-3)
    never = Config(min_score=1.0, view="none")
    assert losses_of(rivals.cogeneration(never), detector, scenes) == pytest.approx(own)


@pytest.mark.parametrize("make", MAKERS)
def test_every_rival_runs(make, detector, scenes) -> None:
    made = make(CONFIG)
    assert made.query is None and made.config is CONFIG and made.needs == ("losses_from",)
    history = run(made, detector, scenes, oracle=None, budget=1, cycles=1, seed=0, progress=False)
    assert len(history.rows) == 2
    assert make().config == Config.toy()


def anchored(logits: list[list[float]], truth: list[list[float]], known: Target) -> Anchored:
    anchors = boxes((0, 0, 10, 10), (0, 0, 10, 5), (40, 40, 50, 50))
    return Anchored(torch.tensor(logits), torch.tensor(truth), anchors, known.boxes, known.labels)


def given(*, first: float = 0.0) -> Anchored:
    """Three anchors, two classes: a positive of class 1, one at IoU 0.5 with it, one far off."""
    known = Target(boxes((0, 0, 10, 10)), labels(1))
    logits = [[-4.0, first, -2.0], [-4.0, 3.0, -1.0], [-4.0, -3.0, 2.0]]
    return anchored(logits, [[0.0, 1, 0], [0.0, 0, 0], [0.0, 0, 0]], known)


def focal(p: float, positive: bool) -> float:
    """The focal loss of a probability, by its formula."""
    if positive:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_soft_sampling_by_hand() -> None:
    found = rivals.soft_loss(given(), low=0.25, shift=50.0, rate=20.0)

    def weight(overlap: float) -> float:
        return 0.25 + 0.75 * math.exp(-50 * math.exp(-20 * overlap))

    assert float(found[0, 1]) == pytest.approx(focal(0.5, True))
    assert float(found[0, 2]) == pytest.approx(focal(sigmoid(-2), False))  # a positive's row
    assert float(found[1, 1]) == pytest.approx(weight(0.5) * focal(sigmoid(3), False), rel=1e-4)
    assert float(found[2, 2]) == pytest.approx(0.25 * focal(sigmoid(2), False), rel=1e-4)
    assert weight(0.5) > 0.99 and weight(0.0) < 0.2501
    nothing = anchored([[0.0, 1, 1]] * 3, [[0.0, 0, 0]] * 3, Target(boxes(), labels()))
    assert torch.allclose(
        rivals.soft_loss(nothing, low=0.25, shift=50.0, rate=20.0), 0.25 * nothing.focal()
    )


def recalibrated(one: Anchored, confusion: float = 0.5, far: float = 0.1) -> Tensor:
    return rivals.recalibrated_loss(one, confusion=confusion, far=far, weight=0.1)


def test_background_recalibration_by_hand() -> None:
    found = recalibrated(given(first=-3.0))
    assert float(found[0, 1]) == pytest.approx(focal(sigmoid(-3), True))
    assert float(found[1, 1]) == pytest.approx(focal(sigmoid(3), False), rel=1e-4)  # near a box
    assert float(found[2, 2]) == pytest.approx(0.1 * 3 * focal(sigmoid(2), True), rel=1e-4)
    assert float(found[2, 1]) == pytest.approx(0.1 * focal(sigmoid(-3), False), rel=1e-4)
    stricter = recalibrated(given(), confusion=0.1)  # mirrored above 0.9
    assert float(stricter[2, 2]) == pytest.approx(0.1 * focal(sigmoid(2), False), rel=1e-4)
    wider = recalibrated(given(), far=0.51)
    assert float(wider[1, 1]) == pytest.approx(0.3 * focal(sigmoid(3), True), rel=1e-4)
    assert float(wider[0, 2]) == pytest.approx(focal(sigmoid(-2), False))  # a positive's row


def test_a_confident_background_is_pulled_up_instead_of_down() -> None:
    logits = torch.tensor([[-4.0, 3.0]] * 3, requires_grad=True)
    known = Target(boxes(), labels())
    one = Anchored(logits, torch.zeros(3, 2), boxes(*[(0, 0, 9, 9)] * 3), known.boxes, known.labels)
    for loss, sign in ((one.focal(), 1), (recalibrated(one), -1)):
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert (gradient[:, 1] * sign > 0).all()


def test_parts_inside_their_subject_are_not_background() -> None:
    found = rivals.part_loss(given(), parts={1: {2}})
    plain = given().focal()
    assert found[1, 2] == 0 and plain[1, 2] > 0  # inside the box of class 1
    found[1, 2] = plain[1, 2]
    found[0, 2] = plain[0, 2]
    assert torch.equal(found, plain)
    assert torch.equal(rivals.part_loss(given(), parts={2: {1}, 1: set()}), plain)
    whole = rivals.part_loss(given(), parts={1: {1}})
    assert whole[0, 1] == plain[0, 1] and whole[1, 1] == 0  # positives stay


def part_pool() -> Pool:
    outer, inner, apart = (0, 0, 20, 14), (2, 2, 6, 6), (18, 0, 24, 16)
    targets = {
        "flat-0": Target(boxes(outer, inner, inner), labels(1, 2, 2), complete=False),
        "flat-1": Target(boxes(outer, apart, inner), labels(1, 2, 3), complete=False),
        "flat-2": Target(boxes(inner), labels(2), complete=False),  # no subject: says nothing
        "flat-3": Target.unknown(),
    }
    return Pool(("whole", "part", "rare"), targets, FlatImages())


def test_parts_are_counted_from_boxes() -> None:
    pool = part_pool()
    assert rivals.find_parts(pool, min_share=0.5) == {1: {2, 3}}  # 2 of 3 of class 2
    assert rivals.find_parts(pool, min_share=0.7) == {1: {3}}


class Finder:
    """A detector whose every image holds two boxes; counts what it learns from."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, self.weight = classes, torch.nn.Parameter(torch.ones(()))
        self.taught: list[int] = []

    def parameters(self):
        yield self.weight

    def losses_from(self, images, teach, *, generator, **how) -> dict[str, Tensor]:
        self.taught += [len(one) for one in teach([])]
        return {"cls": self.weight * 1.0}

    def detect(self, images) -> list[Detections]:
        good = 0.9 if self.taught else 0.0  # it finds them once it is trained
        scores = torch.tensor([good, 0.1])
        rows = boxes((12, 2, 20, 12), (2, 2, 9, 9))
        return [Detections(rows, labels(1, 1), scores) for _ in images]


def test_pseudo_labels_come_from_a_detector_trained_first() -> None:
    targets = {
        "flat-0": Target(boxes((2, 2, 9, 9)), labels(1), complete=False),
        "flat-1": Target(boxes((12, 2, 20, 12)), labels(1), complete=False),  # found: the known one
        "flat-2": Target.unknown(),
    }
    pool = Pool(("whole", "part"), targets, FlatImages())
    start = Finder(pool.classes)
    made = rivals.pseudo_labels(replace(CONFIG, steps=3))
    mined = made.mine(start, pool, generator=generator(0))
    assert list(mined) == ["flat-0"] and mined["flat-0"].origin == ("human", "mined")
    assert not start.taught  # the caller's detector stays as it was
    assert mined["flat-0"].boxes[1].tolist() == [12, 2, 20, 12]
