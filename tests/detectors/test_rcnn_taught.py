"""Faster R-CNN taught by what the same forward finds."""

import pytest
import torch
from torch import Tensor

from almining.cycle import run
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.papers import comining
from almining.records import Detections, Target
from almining.rng import forked, generator
from almining.train import Batch
from tests.fakes import boxes, labels

CLASSES = ("a", "b", "c")
CPU = torch.device("cpu")


@pytest.fixture
def detector() -> FasterRCNN:
    made = faster_rcnn(CLASSES, seed=1).eval()
    for sampler in (made.model.rpn.fg_bg_sampler, made.model.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image = 10**6  # all are taken: no draw decides
    return made


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return [
        torch.rand(3, h, w, generator=generator(h, "image")) for h, w in ((128, 160), (200, 150))
    ]


def known(**more: object) -> Target:
    return Target(boxes((10, 10, 60, 60), (70, 30, 120, 100)), labels(1, 3), **more)


def few() -> Target:
    return Target(boxes((0, 0, 40, 30)), labels(2))


def values(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in found.items()}


def taught(detector: FasterRCNN, images, targets, **more: object) -> dict[str, Tensor]:
    with forked(0, CPU):
        return detector.losses_from(images, lambda _: targets, generator=generator(0), **more)


def test_the_losses_are_those_of_the_targets_that_are_taught(detector, images) -> None:
    targets = [known(complete=False), few()]
    with forked(0, CPU):
        plain = detector.losses(images, targets, generator=generator(0))
    assert values(taught(detector, images, targets)) == pytest.approx(values(plain))
    assert set(plain) == {"rpn_cls", "rpn_reg", "cls", "reg"}
    assert not detector.training


def test_what_is_found_carries_no_gradient_and_is_not_suppressed(detector, images) -> None:
    seen: list[Detections] = []

    def teach(found: list[Detections]) -> list[Target]:
        seen.extend(found)
        return [known(), few()]

    given = detector.losses_from(images, teach, generator=generator(0), min_score=0.2)
    assert len(seen) == 2 and len(seen[0]) > 100
    for one, image in zip(seen, images, strict=True):
        assert float(one.scores.min()) >= 0.2 and not one.scores.requires_grad
        assert not one.boxes.requires_grad and (one.scores.diff() <= 0).all()
        assert float(one.boxes[:, 2].max()) <= image.shape[2]
    gradients = torch.autograd.grad(sum(given.values()), detector.parameters())
    again = torch.autograd.grad(
        sum(taught(detector, images, [known(), few()]).values()), detector.parameters()
    )
    for one, other in zip(gradients, again, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-3) and one.isfinite().all()


def test_views_add_up_each_over_its_own_images(detector, images) -> None:
    other = [images[0].flip(2), images[1] * 0.5]
    targets = [known(), few(), Target(boxes(), labels()), known()]
    more = {"frozen_norm": True}
    both = values(taught(detector, [*images, *other], targets, views=2, **more))
    parts = [
        values(taught(detector, view, some, **more))
        for view, some in ((images, targets[:2]), (other, targets[2:]))
    ]
    assert both == pytest.approx({k: parts[0][k] + parts[1][k] for k in both}, rel=1e-4)


def test_frozen_norm_stays(detector, images) -> None:
    before = {name: buffer.clone() for name, buffer in detector.named_buffers()}
    taught(detector, images, [known(), few()], frozen_norm=True)
    assert all(torch.equal(before[name], buffer) for name, buffer in detector.named_buffers())
    taught(detector, images, [known(), few()])
    assert any(not torch.equal(before[name], one) for name, one in detector.named_buffers())


def test_where_nothing_is_known_nothing_is_learned(detector, images) -> None:
    empty = values(taught(detector, images[:1], [Target(boxes(), labels())]))
    assert empty["cls"] > 0 and empty["rpn_cls"] > 0
    found = taught(detector, images[:1], [Target.unknown(tags={1})])
    assert values(found) == dict.fromkeys(found, 0.0)
    gradients = torch.autograd.grad(sum(found.values()), detector.parameters(), allow_unused=True)
    assert not any(one is not None and one.any() for one in gradients)


def test_boxes_are_cut_to_the_image(detector, images) -> None:
    far = Target(boxes((10, 10, 60, 60), (300, 300, 350, 390)), labels(1, 2))
    over = Target(boxes((-40, 10, 60, 60)), labels(1))
    plain, cut = (Target(boxes(box), labels(1)) for box in ((10, 10, 60, 60), (0, 10, 60, 60)))
    for one, same in ((far, plain), (over, cut)):
        assert values(taught(detector, images[:1], [one])) == pytest.approx(
            values(taught(detector, images[:1], [same]))
        )


def test_refusals(detector, images) -> None:
    with pytest.raises(ValueError, match=r"2 images in 3 views"):
        taught(detector, images, [], views=3)
    with pytest.raises(ValueError, match=r"no loss per anchor and class: leave classify out"):
        taught(detector, images, [known(), few()], classify=lambda given: given)


def test_comining_teaches_rpn_and_box_head() -> None:
    pool = sparse(make_scenes(2, seed=0), "hard", seed=0)
    detector, kept = faster_rcnn(pool.classes, seed=1), []
    config = comining.Config(min_score=0.12, view="none", steps=1, batch=2, optimizer="adamw")
    made = comining.recipe(config, watch=lambda *seen: kept.append(seen))
    ids = list(pool.ids)
    given = Batch(ids, [pool.image(i) for i in ids], [pool.target(i) for i in ids], pool, 0, 0.0)
    found = made.step(detector, given, generator=generator(0))
    assert set(found) == {"rpn_cls", "rpn_reg", "cls", "reg"} and all(
        map(torch.isfinite, found.values())
    )
    ((_, _, c_o, c_a),) = kept
    assert sum(len(one) for one in c_o) > sum(len(target) for target in given.targets)
    assert all(a.boxes.equal(b.boxes) for a, b in zip(c_o, c_a, strict=True))  # no view, no swap
    history = run(made, detector, pool, oracle=None, budget=1, cycles=1, seed=0, progress=False)
    assert len(history.rows) == 2
