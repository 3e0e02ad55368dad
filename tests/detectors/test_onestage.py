import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet

from almining.boxes import containment
from almining.data.scenes import make_scenes
from almining.detectors.backbones import make_backbone
from almining.detectors.onestage import FCOS, OneStage, RetinaNet, fcos, retinanet
from almining.detectors.onestage_parts import BETWEEN, Anchored
from almining.records import Detections, Target
from almining.rng import generator
from almining.train import TrainConfig, fit
from tests.fakes import boxes, labels

CLASSES = ("a", "b", "c")
MAKERS = {"retinanet": retinanet, "fcos": fcos}


@pytest.fixture(params=list(MAKERS))
def detector(request: pytest.FixtureRequest) -> OneStage:
    many = {"topk_candidates": 10**6, "detections_per_img": 10**6, "score_thresh": 0.1}
    made = MAKERS[request.param](CLASSES, seed=1, **many).eval()
    with torch.no_grad():  # scores far apart, as after training
        made.model.head.classification_head.cls_logits.weight *= 12
        made.model.head.regression_head.bbox_reg.weight *= 20 if isinstance(made, FCOS) else 2
    return made


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, 128, 160, generator=generator(0, "image"))


@pytest.fixture(scope="module")
def other() -> Tensor:
    return torch.rand(3, 200, 150, generator=generator(0, "other"))


def known(**more: object) -> Target:
    return Target(boxes((10, 10, 60, 60), (70, 30, 120, 100)), labels(1, 3), **more)


def losses(detector: OneStage, images, targets) -> dict[str, float]:
    found = detector.losses(images, targets, generator=generator(0))
    return {name: float(value.detach()) for name, value in found.items()}


def taught(detector: OneStage, images, targets, **more: object) -> dict[str, float]:
    found = detector.losses_from(images, lambda _: targets, generator=generator(0), **more)
    return {name: float(value.detach()) for name, value in found.items()}


def few() -> Target:
    return Target(boxes((0, 0, 40, 30)), labels(2))


def test_same_losses_as_torchvisions_own_forward(detector, image, other) -> None:
    targets = [known(), few()]
    ours = losses(detector, [image, other], targets)
    dicts = [{"boxes": one.boxes, "labels": one.labels} for one in targets]
    theirs = detector.model.train()([image, other], dicts)
    detector.model.eval()
    names = {"cls": "classification", "reg": "bbox_regression", "ctr": "bbox_ctrness"}
    assert set(ours) == ({"cls", "reg", "ctr"} if isinstance(detector, FCOS) else {"cls", "reg"})
    for name, value in ours.items():
        assert value == pytest.approx(float(theirs[names[name]].detach()), rel=1e-5)
        assert value > 0


def test_same_detections_as_torchvisions_own_forward(detector, image, other) -> None:
    ours = detector.detect([image, other])
    with torch.no_grad():
        theirs = detector.model.eval()([image, other])
    for found, result in zip(ours, theirs, strict=True):
        kept = result["labels"] > 0  # theirs has an output for background, too
        assert len(found) == int(kept.sum()) > 20
        assert torch.allclose(found.scores, result["scores"][kept], atol=1e-5)
        for label in (1, 2, 3):  # each has its like; scores may be too close to keep their order
            one, other = (
                found.boxes[found.labels == label],
                result["boxes"][result["labels"] == label],
            )
            apart = torch.cdist(one, other, p=torch.inf)
            assert max(apart.amin(dim=0).max(), apart.amin(dim=1).max()) < 1e-2
        assert (found.scores.diff() <= 0).all()


def test_probabilities_are_one_vs_rest_and_come_with_features(detector, image) -> None:
    (found,) = detector.detect([image])
    assert found.probs is not None and found.features is not None
    assert found.probs.shape == (len(found), 4) and found.features.shape == (len(found), 64)
    own = found.probs[torch.arange(len(found)), found.labels]
    if isinstance(detector, RetinaNet):
        assert torch.allclose(own, found.scores)
    else:
        assert (own >= found.scores**2 - 1e-6).all()  # the rest is centerness
    assert torch.allclose(found.probs[:, 0], 1 - found.probs[:, 1:].max(dim=1).values)
    assert not torch.allclose(found.probs.sum(dim=1), torch.ones(len(found)), atol=1e-3)


def test_features_are_those_of_the_anchors_place(detector, image) -> None:
    with torch.no_grad():
        seen = detector._look([image])
    each = detector.model.anchor_generator.num_anchors_per_location()[0]
    _, rows, columns = seen.pyramid[0][0].shape
    row, column = rows - 1, columns - 2
    first = (row * columns + column) * each + each - 1
    second = seen.counts[0] + each  # the second place of the second level
    found = seen.features(0, torch.tensor([second, first]))
    assert torch.equal(found[0], seen.pyramid[1][0, :, 0, 1])
    assert torch.equal(found[1], seen.pyramid[0][0, :, row, column])


def test_only_the_best_of_each_level_are_candidates(image) -> None:
    few_best = retinanet(CLASSES, seed=1, topk_candidates=7)
    seen: list[Detections] = []

    def teach(found: list[Detections]) -> list[Target]:
        seen.extend(found)
        return [known()]

    few_best.losses_from([image], teach, generator=generator(0))
    assert len(seen[0]) == 4 * 7


def test_what_is_taught_is_what_was_found_without_a_gradient(detector, image, other) -> None:
    seen: list[Detections] = []

    def teach(found: list[Detections]) -> list[Target]:
        seen.extend(found)
        return [known(), few()]

    given = detector.losses_from([image, other], teach, generator=generator(0), min_score=0.05)
    values = {name: float(value.detach()) for name, value in given.items()}
    assert values == pytest.approx(losses(detector, [image, other], [known(), few()]))
    assert [len(one) > 0 for one in seen] == [True, True]
    assert all(not one.boxes.requires_grad and not one.scores.requires_grad for one in seen)
    assert min(float(one.scores.min()) for one in seen) >= 0.05
    sum(given.values()).backward()
    grads = [one.grad for one in detector.parameters() if one.grad is not None]
    detector.zero_grad()
    assert len(grads) > 10 and all(bool(one.isfinite().all()) for one in grads)


def test_views_add_up_each_over_its_own_images(detector, image, other) -> None:
    # batch normalisation sees all views; frozen, each image goes by itself
    first, second = [image, other], [image.flip(2), other * 0.5]
    targets = [known(), few(), Target(boxes(), labels()), known()]
    both = taught(detector, first + second, targets, views=2, frozen_norm=True)
    parts = [
        taught(detector, view, some, frozen_norm=True)
        for view, some in ((first, targets[:2]), (second, targets[2:]))
    ]
    assert both == pytest.approx({k: parts[0][k] + parts[1][k] for k in both}, rel=1e-4)
    with pytest.raises(ValueError, match=r"3 images in 2 views: give as many of each view"):
        taught(detector, [*first, image], targets[:3], views=2)
    with pytest.raises(ValueError, match=r"2 images but 1 targets"):
        taught(detector, first, targets[:1])


def test_frozen_norm_stays_and_modes_come_back(detector, image) -> None:
    before = {name: buffer.clone() for name, buffer in detector.named_buffers()}
    taught(detector, [image], [known()], frozen_norm=True)
    assert all(torch.equal(before[name], buffer) for name, buffer in detector.named_buffers())
    assert not any(part.training for part in detector.modules())
    taught(detector, [image], [known()])
    assert any(not torch.equal(before[name], one) for name, one in detector.named_buffers())


def test_ignored_boxes_are_neither_positive_nor_negative(detector, image) -> None:
    hidden = Target(boxes((0, 0, 160, 128)), labels(1), ignore=torch.tensor([True]))
    kept: list[Anchored] = []

    def watched(given: Anchored) -> Tensor:
        kept.append(given)
        return given.focal()

    found = taught(detector, [image], [hidden], classify=watched)
    assert found["reg"] == 0 and not kept[0].truth.any()
    assert (containment(kept[0].anchors, hidden.boxes) < 0.5).all() and not len(kept[0].boxes)
    assert found["cls"] < losses(detector, [image], [Target(boxes(), labels())])["cls"]
    both = known(ignore=torch.tensor([False, True]))
    taught(detector, [image], [both], classify=watched)
    assert kept[1].truth[:, 1].any() and not kept[1].truth[:, 3].any()
    assert kept[1].labels.tolist() == [1]


def test_anchors_between_the_thresholds_do_not_count(image) -> None:
    detector = retinanet(CLASSES, seed=1)
    kept: list[Anchored] = []

    def watched(given: Anchored) -> Tensor:
        kept.append(given)
        return given.focal()

    taught(detector, [image], [known()], classify=watched)
    with torch.no_grad():
        seen = detector._look([image])
    matched = detector._matched(seen, [seen.resized(0, known())])[0]
    assert len(kept[0].anchors) == int((matched != BETWEEN).sum()) < len(matched)


def test_sparse_is_background_and_nothing_known_teaches_nothing(detector, image) -> None:
    sparse = known(complete=False)
    assert losses(detector, [image], [sparse]) == losses(detector, [image], [known()])
    empty = losses(detector, [image], [Target(boxes(), labels())])
    assert empty["cls"] > 0 and empty["reg"] == 0
    for unknown in (Target.unknown(), Target.unknown(tags={1})):
        found = detector.losses([image], [unknown], generator=generator(0))
        assert [float(value.detach()) for value in found.values()] == [0.0] * len(found)
        sum(found.values()).backward()
        grads = [one.grad for one in detector.parameters() if one.grad is not None]
        assert all(not one.any() for one in grads)
        detector.zero_grad()


def test_boxes_outside_the_image_or_without_area_teach_nothing(detector, image) -> None:
    odd = Target(
        boxes((10, 10, 60, 60), (5, 5, 5, 40), (-90, -90, -5, -5), (170, 0, 250, 90)),
        labels(1, 2, 2, 3),
    )
    plain = Target(boxes((10, 10, 60, 60)), labels(1))
    assert losses(detector, [image], [odd]) == losses(detector, [image], [plain])
    over = Target(boxes((-30, 10, 60, 60)), labels(1))
    cut = Target(boxes((0, 10, 60, 60)), labels(1))
    assert losses(detector, [image], [over]) == losses(detector, [image], [cut])


def test_boxes_and_losses_do_not_depend_on_how_large_the_image_came(detector, image) -> None:
    twice = torch.nn.functional.interpolate(image[None], scale_factor=2, mode="nearest")[0]
    large = Target(known().boxes * 2, known().labels)
    matched = []
    for picture, target in ((image, known()), (twice, large)):
        with torch.no_grad():
            seen = detector._look([picture])
        matched.append(detector._matched(seen, [seen.resized(0, target)])[0])
        (found,) = detector.detect([picture])
        assert float(found.boxes[:, 2].max()) > picture.shape[2] * 0.9
        assert float(found.boxes[:, 2].max()) <= picture.shape[2]
    assert torch.equal(*matched)


def test_embedding_and_detections_do_not_depend_on_the_batch(detector, image) -> None:
    both = [image, image.flip(2)]
    for alone, together in zip(detector.detect(both[:1]), detector.detect(both)[:1], strict=True):
        assert torch.cdist(alone.boxes, together.boxes, p=torch.inf).amin(dim=1).max() < 1e-2
    assert torch.allclose(detector.embed(both)[:1], detector.embed(both[:1]), atol=1e-5)
    assert detector.detect([]) == []


def test_weights_that_are_not_finite_stop_and_name_the_images() -> None:
    pool = make_scenes(2, seed=0)
    for make in MAKERS.values():
        broken = make(pool.classes)
        with torch.no_grad():
            broken.model.head.classification_head.cls_logits.weight[0] = torch.nan
        with pytest.raises(FloatingPointError, match=r"class logits are not finite"):
            broken.detect([pool.image(pool.ids[0])])
        with pytest.raises(FloatingPointError, match=rf"diverged \(images .*{pool.ids[0]}"):
            fit(broken, pool, TrainConfig(steps=1, batch=2), seed=0, progress=False)
    broken = fcos(pool.classes)
    with torch.no_grad():
        broken.model.head.regression_head.bbox_ctrness.weight[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"centerness logits are not finite"):
        broken.detect([pool.image(pool.ids[0])])


def test_a_few_steps_of_training_lower_the_loss() -> None:
    pool = make_scenes(1, seed=0)
    for make in MAKERS.values():
        detector = make(pool.classes)
        found = fit(detector, pool, TrainConfig(steps=5, batch=1, lr=3e-3), seed=0, progress=False)
        assert found[-1]["loss"] < found[0]["loss"]


def test_makers_and_refusals() -> None:
    assert {type(make(CLASSES)) for make in MAKERS.values()} == {RetinaNet, FCOS}
    first, again, third = (fcos(CLASSES, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    with pytest.raises(ValueError, match=r"backbone = 'vgg'.*use one of tiny, resnet18"):
        retinanet(CLASSES, backbone="vgg")
    model = TorchvisionRetinaNet(make_backbone("resnet18"), 3)
    with pytest.raises(ValueError, match=r"3 outputs, but 3 classes and background need 4"):
        RetinaNet(model, CLASSES)
    with pytest.raises(ValueError, match=r"labels reach 4, but the detector knows 3"):
        losses(fcos(CLASSES), [torch.zeros(3, 64, 64)], [Target(boxes((0, 0, 9, 9)), labels(4))])


@pytest.mark.parametrize("make", MAKERS.values())
def test_resnets_have_levels_three_to_seven(make) -> None:
    detector = make(CLASSES, backbone="resnet18", min_size=64)
    with torch.no_grad():
        seen = detector.eval()._look([torch.rand(3, 64, 64, generator=generator(0))])
    assert [tuple(level.shape[2:]) for level in seen.pyramid] == [
        (8, 8), (4, 4), (2, 2), (1, 1), (1, 1)
    ]  # fmt: skip
    found = losses(detector, [torch.rand(3, 64, 64, generator=generator(0))], [few()])
    assert all(value > 0 for value in found.values())
