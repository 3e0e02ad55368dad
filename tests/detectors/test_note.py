import copy

import pytest
import torch
from torch import Tensor

from almining.detectors import note, rcnn_parts
from almining.detectors.note import NoteRCNN, note_rcnn
from almining.detectors.note_parts import VARIANTS
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.records import Target
from almining.rng import forked, generator
from tests import oracles
from tests.fakes import boxes, labels

CLASSES = ("a", "b", "c")
CPU = torch.device("cpu")
FEATURES = {"features"}
ROWS = (8.0, 8.0, 30.0, 30.0), (30.0, 20.0, 60.0, 52.0)

SEED = Target(boxes(*ROWS), labels(1, 3))
EMPTY = Target(boxes(), labels())
MINED = Target(boxes(ROWS[0]), labels(1), origin=["mined:note_rcnn:1"], tags={1, 3}, complete=False)
BARE = Target.unknown({1})  # tagged, nothing mined: all background

# what the gradient of a loss reaches, beside its own head
REACHES = {
    "rpn_cls": {"rpn-cls", "rpn", "features"},
    "rpn_reg": {"rpn-reg", "rpn", "features"},
    "rpn_cls_a": {"rpn-cls-a", "rpn", "features"},
    "cls": {"det-cls", "box-features", "features"},
    "reg": {"det-reg", "box-features", "features"},
    "cls_a": {"det-cls-a", "box-features", "features"},
    "distill": {"det-cls-s", "box-features", "features"},
}
PLAIN = {"rpn_cls", "rpn_reg", "cls", "reg"}
FOUND = {"rpn_reg", "reg"}  # what only boxes teach
# variant -> losses beside PLAIN, those that a mined image teaches, and of these with no box in it
TABLE = {
    "naive": (set(), PLAIN, PLAIN - FOUND),
    "det-a": ({"cls_a"}, {"rpn_cls", "rpn_reg", "cls_a"}, {"rpn_cls", "cls_a"}),
    "det-az": ({"cls_a"}, {"rpn_cls", "rpn_reg", "cls_a"}, {"rpn_cls"}),
    "det-az-rpn-a": ({"cls_a", "rpn_cls_a"}, {"rpn_cls_a", "cls_a"}, {"rpn_cls_a"}),
}


@pytest.fixture(scope="module")
def source() -> FasterRCNN:
    return faster_rcnn(("s", "a"), seed=5, min_size=64, rpn_post_nms_top_n_train=40)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, 64, 72, generator=generator(0, "image"))


@pytest.fixture(scope="module")
def detectors(source: FasterRCNN) -> dict[str, NoteRCNN]:
    return {name: note_rcnn(CLASSES, source=source, variant=name) for name in VARIANTS}


def losses(detector, images, targets, **more) -> dict[str, Tensor]:
    with forked(0, CPU):
        return detector.losses(images, targets, generator=generator(0), **more)


def numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in found.items()}


def reached(detector: NoteRCNN, loss: Tensor) -> set[str]:
    """The parts to which a loss sends a gradient that is not zero."""
    detector.zero_grad()
    loss.backward(retain_graph=True)
    parts = {name: list(part.parameters()) for name, part in detector.parts().items()}
    known = {id(one) for some in parts.values() for one in some}
    others = [one for one in detector.parameters() if id(one) not in known]
    assert all(one.grad is None or not one.grad.any() for one in others)  # source
    return {
        name
        for name, some in parts.items()
        if any(one.grad is not None and bool(one.grad.any()) for one in some)
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["seed", "empty seed", "mined", "bare"])
def test_which_loss_reaches_which_part(
    detectors: dict[str, NoteRCNN], image: Tensor, variant: str, kind: str
) -> None:
    detector = detectors[variant]
    more, mined, bare = TABLE[variant]
    every = PLAIN | more | {"distill"}
    target, teaches = {
        "seed": (SEED, every),
        "empty seed": (EMPTY, every - FOUND),
        "mined": (MINED, mined | {"distill"}),
        "bare": (BARE, bare | {"distill"}),
    }[kind]
    found = losses(detector, [image], [target], distill="samples")
    assert set(found) == every
    for name, loss in found.items():
        wanted = REACHES[name] if name in teaches else set()
        assert reached(detector, loss) == wanted, name
        assert bool(loss.isfinite()) and (float(loss.detach()) != 0) == (name in teaches), name
    detector.zero_grad()


@pytest.mark.parametrize("target", [SEED, MINED, BARE])
def test_distillation_on_proposals_reaches_what_it_does_on_samples(
    detectors: dict[str, NoteRCNN], image: Tensor, target: Target
) -> None:
    detector = detectors["det-az-rpn-a"]
    found = losses(detector, [image], [target], distill="proposals")
    assert reached(detector, found["distill"]) == REACHES["distill"]
    detector.zero_grad()


def test_in_one_batch_each_row_goes_by_its_own_image(
    detectors: dict[str, NoteRCNN], image: Tensor
) -> None:
    detector, other = detectors["det-az-rpn-a"], image.flip(2)
    told = Target(MINED.boxes, labels(2), origin=MINED.origin, complete=False)
    again = Target(SEED.boxes, labels(1, 2))
    for place in (0, 1):
        images = [image, other] if place == 0 else [other, image]

        def batch(seed: Target, mined: Target, images=images, place=place) -> dict[str, float]:
            targets = [seed, mined] if place == 0 else [mined, seed]
            return numbers(losses(detector, images, targets))

        before = batch(SEED, MINED)
        for changed, names in (
            (batch(SEED, told), {"cls_a"}),
            (batch(again, MINED), {"cls", "reg", "cls_a"}),
        ):
            assert {name for name in before if before[name] != changed[name]} == names


def test_a_mined_image_weighs_as_much_as_a_seed(
    detectors: dict[str, NoteRCNN], image: Tensor
) -> None:
    detector = detectors["det-a"]
    twice = numbers(losses(detector, [image, image], [EMPTY, EMPTY]))
    half = numbers(losses(detector, [image, image], [EMPTY, BARE]))
    assert half["cls"] == pytest.approx(twice["cls"] / 2, rel=0.05)
    assert half["cls_a"] == pytest.approx(twice["cls_a"], rel=1e-6)


def test_naive_on_seeds_is_torchvisions_faster_rcnn(image: Tensor) -> None:
    plain = faster_rcnn(CLASSES, seed=1, min_size=64)
    ours = note_rcnn(CLASSES, seed=1, min_size=64, variant="naive")
    images, targets = [image, image.flip(1)], [SEED, EMPTY]
    found, theirs = losses(ours, images, targets), losses(plain, images, targets)
    assert numbers(found) == pytest.approx(numbers(theirs), rel=1e-5)
    model = copy.deepcopy(ours.plain.model).train()
    with forked(0, CPU):
        own = model(images, [{"boxes": one.boxes, "labels": one.labels} for one in targets])
    assert sum(numbers(found).values()) == pytest.approx(sum(numbers(own).values()), rel=1e-5)
    # torchvision's forward moved only its own copy; the other two saw the same batch once
    for one, other in zip(ours.detect([image]), plain.detect([image]), strict=True):
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores)
    torch.stack(list(found.values())).sum().backward()
    torch.stack(list(theirs.values())).sum().backward()
    grads = dict(plain.named_parameters())
    for name, one in ours.plain.named_parameters():
        assert torch.allclose(one.grad, grads[name].grad, atol=1e-5), name


def test_mixed_heads_on_seeds_learn_what_the_seed_heads_do(image: Tensor) -> None:
    detector = note_rcnn(CLASSES, min_size=64)
    rpn, predictor = detector.plain.model.rpn.head, detector.plain.model.roi_heads.box_predictor
    rpn.cls_logits_a.load_state_dict(rpn.cls_logits.state_dict())
    predictor.cls_score_a.load_state_dict(predictor.cls_score.state_dict())
    found = numbers(losses(detector, [image], [SEED]))
    assert found["rpn_cls"] == pytest.approx(found["rpn_cls_a"])
    assert found["cls"] == pytest.approx(found["cls_a"])
    plain = faster_rcnn(CLASSES, min_size=64)
    known = numbers(losses(plain, [image], [SEED]))  # heads that agree are one head
    assert {name: found[name] for name in PLAIN} == pytest.approx(known, rel=1e-4)


def test_two_heads_detect_by_their_mean(detectors: dict[str, NoteRCNN], image: Tensor) -> None:
    detector = copy.deepcopy(detectors["det-az-rpn-a"])
    model = detector.plain.model
    model.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        model.rpn.head.cls_logits_a.bias += 1.0
        model.roi_heads.box_predictor.cls_score_a.bias += torch.tensor([0.0, 2.0, 0.0, 0.0])
    (found,) = detector.detect([image])
    (theirs,) = model.eval()([image])
    assert len(found) == len(theirs["boxes"]) > 0
    assert torch.allclose(found.boxes, theirs["boxes"].detach(), atol=1e-3)
    assert torch.allclose(found.scores, theirs["scores"].detach(), atol=1e-6)
    one, other, _ = model.roi_heads.box_predictor.each(found.features)
    mean = (one.softmax(dim=1) + other.softmax(dim=1)) / 2
    assert torch.allclose(found.probs, mean.detach(), atol=1e-5)
    (asked,) = detector.regions([image], [boxes((0, 0, 30, 30))])
    one, other, _ = model.roi_heads.box_predictor.each(asked.features)
    mean = (one.softmax(dim=1) + other.softmax(dim=1)) / 2
    assert torch.allclose(asked.probs, mean.detach(), atol=1e-5)
    assert torch.equal(detector.embed([image]), detector.plain.embed([image]))
    assert detector.detect([]) == [] and detector.regions([], []) == []


def test_what_each_head_says_of_boxes(detectors: dict[str, NoteRCNN], image: Tensor) -> None:
    detector = detectors["det-az"]
    wide = torch.rand(3, 40, 90, generator=generator(1, "image"))  # of another scale
    images, given = [image, wide, image], [boxes(*ROWS), boxes(ROWS[0]), boxes()]
    each = detector.heads(images, given)
    assert [one.shape for one in each] == [(2, 2, 4), (1, 2, 4), (0, 2, 4)]
    for one, both in zip(each, detector.regions(images, given), strict=True):
        assert torch.allclose(one.mean(dim=1), both.probs, atol=1e-6)
    assert not torch.allclose(each[0][:, 0], each[0][:, 1], atol=1e-4)
    seed = copy.deepcopy(detector)
    with torch.no_grad():
        seed.plain.model.roi_heads.box_predictor.cls_score_a.bias[2] += 50
    changed = seed.heads(images, given)[0]
    assert torch.allclose(changed[:, 0], each[0][:, 0])  # det-cls comes first
    assert torch.allclose(changed[:, 1, 2], torch.ones(2))
    assert detector.heads([], []) == []
    with pytest.raises(ValueError, match="variant 'naive' has one head only"):
        detectors["naive"].heads(images, given)


def test_proposals_of_training_go_by_both_heads(source: FasterRCNN, image: Tensor) -> None:
    detector = note_rcnn(CLASSES, source=source)
    given: list[Tensor] = []
    filter_ = detector.plain.model.rpn.filter_proposals

    def keep(boxes, scores, *rest):
        given.append(scores.detach().clone())
        return filter_(boxes, scores, *rest)

    detector.plain.model.rpn.filter_proposals = keep
    losses(detector, [image], [SEED])
    with torch.no_grad():
        detector.plain.model.rpn.head.cls_logits_a.bias += 2.0
    losses(detector, [image], [SEED])
    assert (given[1] > given[0]).all()


def test_distillation_follows_equation_3(source: FasterRCNN, image: Tensor) -> None:
    detector = note_rcnn(CLASSES, source=source)
    seen: dict[str, list] = {"asked": [], "logits": []}
    detector.distilled.register_forward_hook(lambda *told: seen["logits"].append(told[2].detach()))
    regions = detector.source.regions

    def told(images, boxes):
        seen["asked"].append((images, boxes))
        return regions(images, boxes)

    detector.source.regions = told
    wide = torch.rand(3, 64, 144, generator=generator(3))  # shown to the detector as 57 x 128
    detector.plain.model.transform.max_size = 128
    found = losses(detector, [wide, image], [SEED, BARE], distill="proposals")
    every = losses(detector, [wide, image], [SEED, BARE], distill="samples")
    (images, proposals), (_, samples) = seen["asked"]
    assert torch.equal(images[0], wide) and [len(some) for some in proposals] == [40, 40]
    assert [len(some) for some in samples] != [40, 40]
    assert any(torch.allclose(some, SEED.boxes[0], atol=1e-2) for some in samples[0])
    assert float(samples[0][:, 2].max()) > 128  # in the image's own pixels
    said = [torch.cat([one.probs for one in regions(*asked)]) for asked in seen["asked"]]
    for loss, logits, probs in zip((found, every), seen["logits"], said, strict=True):
        wanted = oracles.distilled_loss(logits.tolist(), probs.tolist())
        assert float(loss["distill"].detach()) == pytest.approx(wanted, rel=1e-4)
    silent = losses(detector, [wide, image], [SEED, BARE])
    assert set(found) - set(silent) == {"distill"}
    rest = {name: value for name, value in numbers(found).items() if name in silent}
    assert rest == pytest.approx(numbers(silent), rel=1e-3)


def test_a_detector_made_from_a_source_starts_as_it(source: FasterRCNN, image: Tensor) -> None:
    made = note_rcnn(CLASSES, source=source)
    parts, state = made.parts(), source.model.state_dict()
    for name, prefix in (
        ("features", "backbone"),
        ("rpn", "rpn.head.conv"),
        ("rpn-cls", "rpn.head.cls_logits"),
        ("rpn-cls-a", "rpn.head.cls_logits"),
        ("rpn-reg", "rpn.head.bbox_pred"),
        ("box-features", "roi_heads.box_head"),
    ):
        for key, value in parts[name].state_dict().items():
            assert torch.equal(value, state[f"{prefix}.{key}"]), name
    assert parts["det-cls"].out_features == parts["det-cls-a"].out_features == 4
    assert not torch.equal(parts["det-cls"].weight, parts["det-cls-a"].weight)
    assert parts["det-cls-s"].out_features == 3
    assert made.classes == CLASSES  # "a" is a source class, too
    again, other = note_rcnn(CLASSES, source=source), note_rcnn(CLASSES, source=source, seed=1)
    assert torch.equal(again.parts()["det-cls"].weight, parts["det-cls"].weight)
    assert not torch.equal(other.parts()["det-cls"].weight, parts["det-cls"].weight)


def test_the_source_detector_never_changes(source: FasterRCNN, image: Tensor) -> None:
    before = copy.deepcopy(source.state_dict())
    made = note_rcnn(CLASSES, source=source)
    optimizer = torch.optim.SGD(made.parameters(), 0.1, weight_decay=0.1)
    found = losses(made, [image], [SEED], distill="proposals")
    torch.stack(list(found.values())).sum().backward()
    optimizer.step()
    for state in (source.state_dict(), made.source.state_dict()):
        assert all(torch.equal(value, before[name]) for name, value in state.items())
    assert all(one.requires_grad for one in source.parameters())
    assert not any(one.requires_grad for one in made.source.parameters())
    assert not source.training or made.training  # its mode is its own


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_background_of_mined_images_gives_no_nan(
    detectors: dict[str, NoteRCNN], image: Tensor, variant: str
) -> None:
    found = losses(detectors[variant], [image, image], [BARE, Target.unknown()], distill="samples")
    torch.stack(list(found.values())).sum().backward()
    assert all(bool(value.isfinite()) for value in found.values())
    for one in detectors[variant].parameters():
        assert one.grad is None or bool(one.grad.isfinite().all())
    detectors[variant].zero_grad()


def test_everything_in_an_ignored_box_teaches_nothing(
    detectors: dict[str, NoteRCNN], image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rcnn_parts, "IGNORED", 0.0)  # anchors outside the image, too
    crowd = Target(boxes((0, 0, 72, 64)), labels(1), ignore=torch.tensor([True]))
    found = losses(detectors["det-az-rpn-a"], [image], [crowd])
    assert set(numbers(found).values()) == {0.0}
    torch.stack(list(found.values())).sum().backward()
    detectors["det-az-rpn-a"].zero_grad()


def test_what_cannot_be_is_refused(source: FasterRCNN, image: Tensor) -> None:
    alone = note_rcnn(CLASSES, min_size=64)
    with pytest.raises(ValueError, match="'proposals', but there is no source detector"):
        losses(alone, [image], [SEED], distill="proposals")
    with pytest.raises(ValueError, match="distill"):
        losses(alone, [image], [SEED], distill="all")
    with pytest.raises(ValueError, match="variant"):
        note_rcnn(CLASSES, variant="det-b")
    with pytest.raises(ValueError, match="options min_size beside a source detector"):
        note_rcnn(CLASSES, source=source, min_size=64)
    with pytest.raises(ValueError, match="1 images but 0 targets"):
        losses(alone, [image], [])
    with pytest.raises(ValueError, match="labels reach 4"):
        losses(alone, [image], [Target(SEED.boxes, labels(1, 4))])


@pytest.mark.parametrize("part", ["rpn-cls-a", "det-cls-a", "det-reg"])
def test_diverged_weights_are_told(image: Tensor, part: str) -> None:
    diverged = note_rcnn(CLASSES, min_size=64)
    torch.nn.init.constant_(diverged.parts()[part].weight, torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        losses(diverged, [image], [SEED])
    with pytest.raises(FloatingPointError, match="not finite"):
        diverged.detect([image])


def test_mode_and_state_come_back(source: FasterRCNN, image: Tensor) -> None:
    made = note_rcnn(CLASSES, source=source).eval()
    losses(made, [image], [SEED], distill="samples")
    assert not any(part.training for part in made.modules())
    other = note_rcnn(CLASSES, source=source, seed=3)
    other.load_state_dict(made.state_dict())
    one, two = (one.detect([image])[0] for one in (made, other))
    assert torch.equal(one.boxes, two.boxes) and torch.equal(one.scores, two.scores)


def test_rows_know_their_image() -> None:
    by_image = [torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)]
    assert note._images(by_image).tolist() == [0, 0, 2]
