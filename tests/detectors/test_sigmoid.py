"""One-vs-rest detectors on given proposals: what they learn from, by hand, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from almining.data.proposals import Grid
from almining.detectors.sigmoid import SigmoidRCNN, fast_rcnn, rfcn
from almining.detectors.sigmoid_parts import Rules, samples
from almining.records import Target
from almining.rng import generator
from tests.fakes import boxes, labels

CLASSES = ("a", "b", "c")
GIVEN = boxes((0, 0, 20, 20), (0, 0, 20, 12), (0, 0, 20, 9), (30, 30, 50, 50), (40, 5, 60, 25))


def given(image: Tensor) -> Tensor:
    return GIVEN


def picture(seed: int = 0, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(3, height, width, generator=generator(seed, "image"))


@pytest.fixture(params=[fast_rcnn, rfcn], ids=["fast_rcnn", "rfcn"], scope="module")
def make(request: pytest.FixtureRequest) -> Callable[..., SigmoidRCNN]:
    return partial(request.param, CLASSES, proposer=given, size=64)


@pytest.fixture(scope="module")
def detector(make: Callable[..., SigmoidRCNN]) -> SigmoidRCNN:
    return make(min_score=0.0, seed=1)


def losses(detector: SigmoidRCNN, *targets: Target) -> dict[str, float]:
    images = [picture(i) for i in range(len(targets))]
    found = detector.losses(images, targets, generator=generator(0))
    return {name: float(value.detach()) for name, value in found.items()}


def drawn(target: Target, proposals: Tensor = GIVEN, **rules: Any) -> list[tuple[Any, int]]:
    some, wanted = samples(
        proposals, target, Rules(**({"positives": 1.0} | rules)), generator=generator(0)
    )
    rows = zip(map(tuple, some.tolist()), wanted.labels.tolist(), strict=True)
    return sorted(rows)


# what is learned from


def test_in_a_complete_image_the_rest_is_background() -> None:
    target = Target(boxes((0, 0, 20, 20)), labels(2))
    expected = [
        (tuple(row), label) for row, label in zip(GIVEN.tolist(), (2, 2, 0, 0, 0), strict=True)
    ]
    assert drawn(target) == sorted([*expected, ((0.0, 0.0, 20.0, 20.0), 2)])  # and the box itself
    assert [label for _, label in drawn(Target(boxes(), labels()))] == [0] * 5


def test_in_an_image_that_is_not_only_what_is_known_counts() -> None:
    sparse = Target(boxes((0, 0, 20, 20)), labels(2), complete=False)
    assert [label for _, label in drawn(sparse)] == [2, 2, 2]
    refuted = Target(
        boxes((0, 0, 20, 20)), labels(2), negatives=boxes((40, 5, 60, 20)), complete=False
    )
    found = drawn(refuted)
    assert [label for _, label in found] == [2, 2, 2, 0, 0]
    assert {box for box, label in found if not label} == {(40, 5, 60, 20), (40, 5, 60, 25)}
    for nothing in (Target.unknown(), Target.unknown({1})):
        assert drawn(nothing) == []


def test_what_a_person_ruled_out_is_always_in() -> None:
    refuted = boxes((40, 5, 60, 20), (10, 40, 20, 60), (5, 5, 5, 9))  # the last has no area
    for known in ({"complete": True}, {"complete": False}):
        found = drawn(Target(boxes(), labels(), negatives=refuted, **known), samples=1)
        assert found == [((10, 40, 20, 60), 0), ((40, 5, 60, 20), 0)]
    found = drawn(Target(boxes((40, 5, 60, 20)), labels(1), negatives=refuted), samples=8)
    assert ((40, 5, 60, 20), 1) in found and ((40, 5, 60, 20), 0) not in found  # a box is a box


def test_ignored_boxes_are_neither() -> None:
    crowd = Target(boxes((28, 0, 64, 64)), labels(1), ignore=torch.tensor([True]))
    assert {box for box, _ in drawn(crowd)} == {tuple(row) for row in GIVEN[:3].tolist()}


def test_positives_have_a_share_and_negatives_fill_up() -> None:
    many = Grid(sizes=(0.2, 0.3))((64, 64))
    target = Target(boxes((0, 0, 20, 20), (30, 30, 50, 50)), labels(1, 3))
    found = [label > 0 for _, label in drawn(target, many, samples=12, positives=0.25)]
    assert len(found) == 12 and sum(found) == 3
    first, second = (
        samples(many, target, Rules(samples=12), generator=generator(seed))[0] for seed in (0, 1)
    )
    assert not torch.equal(first, second)


# the loss


def test_the_loss_is_that_of_independent_classifiers(make: Callable[..., SigmoidRCNN]) -> None:
    network = make(prior=0.2, positives=1.0)
    for layer in (network.head.classify, network.head.regress):
        torch.nn.init.zeros_(layer.weight)
    no, yes = -math.log(0.8), -math.log(0.2)
    target = Target(boxes((0, 0, 20, 20)), labels(2))
    found = losses(network, target)  # three positives, three negatives
    assert found["cls"] == pytest.approx((3 * (yes + 2 * no) + 3 * 3 * no) / 6, rel=1e-5)
    centre, high = 10 * 4 / 12, 5 * math.log(20 / 12)  # what moves the lower box to the higher
    assert found["reg"] == pytest.approx((centre - 0.5 + high - 0.5) / 6, rel=1e-5)
    only = losses(network, Target(boxes((0, 0, 20, 20)), labels(2), complete=False))
    assert only["cls"] == pytest.approx(yes + 2 * no, rel=1e-5)
    two = losses(network, target, Target.unknown())  # a sample of nothing changes nothing
    assert two == pytest.approx(found, rel=1e-5)
    refuted = Target(boxes(), labels(), negatives=GIVEN[4:], complete=False)
    assert losses(network, refuted) == pytest.approx({"cls": 3 * no, "reg": 0.0}, rel=1e-5)


def test_a_region_weighs_more_for_the_classifier_of_its_class(
    make: Callable[..., SigmoidRCNN],
) -> None:
    network = make(prior=0.2, positives=1.0, positive_weight=5.0)
    torch.nn.init.zeros_(network.head.classify.weight)
    found = losses(network, Target(boxes((0, 0, 20, 20)), labels(2)))
    no, yes = -math.log(0.8), -math.log(0.2)
    assert found["cls"] == pytest.approx((3 * (5 * yes + 2 * no) + 3 * 3 * no) / 6, rel=1e-5)


def test_nothing_known_is_no_loss_but_a_gradient(detector: SigmoidRCNN) -> None:
    found = detector.losses([picture()], [Target.unknown()], generator=generator(0))
    assert [float(value.detach()) for value in found.values()] == [0.0, 0.0]
    sum(found.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in detector.head.parameters() if p.grad is not None]
    assert gradients and all(float(one.abs().max()) == 0 for one in gradients)
    detector.zero_grad()


def test_the_gradient_reaches_the_backbone(detector: SigmoidRCNN) -> None:
    target = Target(GIVEN[:1], labels(2))
    found = detector.losses([picture()], [target], generator=generator(0))
    for name, value in found.items():
        (gradient,) = torch.autograd.grad(
            value, [next(iter(detector.backbone.parameters()))], retain_graph=True
        )
        assert float(gradient.abs().max()) > 0, name


def test_no_global_generator_is_touched(detector: SigmoidRCNN) -> None:
    before = torch.random.get_rng_state()
    first, second = (losses(detector, Target(GIVEN[:1], labels(2))) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before) and first == pytest.approx(second)


def test_it_learns_two_boxes_by_heart(make: Callable[..., SigmoidRCNN]) -> None:
    network = make(seed=3)
    image = picture() * 0.2
    image[0, :20, :20] += 0.7
    image[1, 30:50, 30:50] += 0.7
    target = Target(GIVEN[[0, 3]], labels(1, 3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(40):
        found = network.losses([image], [target], generator=generator(step))
        optimizer.zero_grad()
        sum(found.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    (said,) = network.regions([image], [GIVEN])
    assert said.labels[[0, 3]].tolist() == [1, 3] and float(said.scores[[0, 3]].min()) > 0.6
    assert float(said.scores[4]) < 0.4


# what is said


def test_probabilities_are_independent(detector: SigmoidRCNN) -> None:
    (found,) = detector.regions([picture()], [GIVEN])
    assert found.probs is not None and found.features is not None
    assert found.probs.shape == (5, 4) and len(found.features) == 5
    best = found.probs[:, 1:].amax(dim=1)
    assert torch.equal(found.probs[:, 0], 1 - best) and torch.equal(found.scores, best)
    assert torch.equal(found.boxes, GIVEN)
    before = detector.head.classify.bias.detach().clone()
    detector.head.classify.bias.data += 6
    (sure,) = detector.regions([picture()], [GIVEN])
    detector.head.classify.bias.data = before
    assert sure.probs is not None and int((sure.probs[:, 1:] > 0.5).sum(dim=1).min()) == 3


def test_detections_are_the_proposals_moved_and_thinned(detector: SigmoidRCNN) -> None:
    (found,) = detector.detect([picture()])
    (said,) = detector.regions([picture()], [GIVEN])
    assert found.probs is not None and said.probs is not None and len(found) > 3
    assert (found.scores.diff() <= 0).all()
    assert torch.allclose(found.probs[torch.arange(len(found)), found.labels], found.scores)
    for row in found.probs:
        assert float((said.probs - row).abs().sum(dim=1).min()) < 1e-5
    assert float(found.boxes.min()) >= 0 and float(found.boxes.max()) <= 64
    strict = type(detector)(
        CLASSES, given, detector.transform, detector.backbone, detector.head, Rules(min_score=0.9)
    )
    assert len(strict.detect([picture()])[0]) == 0
    assert len({int(label) for label in found.labels}) == 3


def test_boxes_come_back_in_the_images_own_pixels(detector: SigmoidRCNN) -> None:
    large = picture(0, 128, 128)
    double = type(detector)(
        CLASSES,
        lambda image: GIVEN * (image.shape[1] / 64),
        detector.transform,
        detector.backbone,
        detector.head,
        Rules(min_score=0.0),
    )
    small = torch.nn.functional.interpolate(large[None], 64, mode="bilinear")[0]
    (a,), (b,) = double.detect([large]), double.detect([small])
    assert len(a) == len(b) and torch.allclose(a.boxes, b.boxes * 2, atol=0.1)


def test_alone_or_beside_others_or_nothing(detector: SigmoidRCNN) -> None:
    images = [picture(0), picture(1)]
    together = detector.regions(images, [GIVEN, torch.zeros(0, 4)])
    (alone,) = detector.regions(images[:1], [GIVEN])
    assert torch.allclose(together[0].probs, alone.probs, atol=1e-5)  # type: ignore[arg-type]
    assert together[1].probs is not None and together[1].probs.shape == (0, 4)
    assert detector.detect([]) == [] and detector.regions([], []) == []
    empty = type(detector)(
        CLASSES,
        lambda image: torch.tensor([[5.0, 5, 5, 9], [70, 70, 80, 80]]),  # no area; outside
        detector.transform,
        detector.backbone,
        detector.head,
        Rules(),
    )
    assert len(empty.detect([picture()])[0]) == 0


def test_the_parts_of_a_region_vote() -> None:
    network = rfcn(CLASSES, proposer=given, size=64)
    bias = torch.arange(27.0) / 10
    torch.nn.init.zeros_(network.head.classify.weight)
    network.head.classify.bias.data = bias
    (said,) = network.regions([picture()], [GIVEN[3:4]])  # inside, so no part sees the edge
    expected = bias.reshape(3, 9).mean(dim=1).sigmoid()
    assert said.probs is not None and torch.allclose(said.probs[0, 1:], expected, atol=1e-5)


def test_diverged_weights_do_not_look_like_an_empty_image(detector: SigmoidRCNN) -> None:
    weight = detector.head.classify.weight
    before = weight.detach().clone()
    weight.data[:] = torch.nan
    with pytest.raises(FloatingPointError, match="what the head says are not finite"):
        detector.detect([picture()])
    weight.data = before


def test_refused() -> None:
    for options, message in (
        ({"proposer": "none"}, "proposer = 'none': use one of grid, segments, selective_search"),
        ({"prior": 0.0}, "prior = 0.0"),
        ({"size": 0}, "size = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"positives": 0.0}, "positives = 0.0"),
        ({"positive_weight": 0.0}, "positive_weight = 0.0"),
        ({"min_score": 1.0}, "min_score = 1.0"),
        ({"backbone": "vgg"}, "backbone = 'vgg'"),
    ):
        with pytest.raises(ValueError, match=message):
            fast_rcnn(CLASSES, **options)
    with pytest.raises(ValueError, match="1 images but boxes for 0"):
        rfcn(CLASSES).regions([picture()], [])


def test_alexnet_gives_regions_of_a_photograph() -> None:
    network = fast_rcnn(CLASSES, proposer=given, backbone="alexnet", width=16, size=96)
    (said,) = network.regions([picture(0, 96, 128)], [GIVEN])
    assert said.features is not None and said.features.shape == (5, 16)
    scales = network.head.pool.scales
    assert scales == [1 / 16]
