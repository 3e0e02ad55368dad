import pytest
import torch
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN

from almining.boxes import containment
from almining.detectors import rcnn
from almining.detectors.rcnn import FasterRCNN, faster_rcnn, reuse
from almining.records import Target
from almining.rng import forked, generator
from tests.fakes import boxes, labels

CLASSES = ("a", "b", "c")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    return faster_rcnn(CLASSES, seed=1, box_score_thresh=0.0).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(3, 128, 160, generator=generator(0, "image"))


def known() -> Target:
    return Target(boxes((10, 10, 60, 60), (70, 30, 120, 100)), labels(1, 3))


def losses(detector: FasterRCNN, images, targets) -> dict[str, float]:
    with forked(0, CPU):
        found = detector.losses(images, targets, generator=generator(0))
    return {name: float(value.detach()) for name, value in found.items()}


def test_same_losses_as_torchvisions_own_forward(detector: FasterRCNN, image: torch.Tensor) -> None:
    ours = losses(detector, [image], [known()])
    model = detector.model.train()
    with forked(0, CPU):
        theirs = model([image], [{"boxes": known().boxes, "labels": known().labels}])
    model.eval()
    assert sum(ours.values()) == pytest.approx(float(sum(theirs.values()).detach()), rel=1e-5)
    assert ours["cls"] == pytest.approx(float(theirs["loss_classifier"].detach()), rel=1e-5)


def test_same_detections_as_torchvisions_own_forward(
    detector: FasterRCNN, image: torch.Tensor
) -> None:
    (ours,) = detector.detect([image])
    with torch.no_grad():
        (theirs,) = detector.model.eval()([image])
    assert len(ours) == len(theirs["boxes"]) > 0
    assert torch.allclose(ours.boxes, theirs["boxes"], atol=1e-3)
    assert torch.equal(ours.labels, theirs["labels"])
    assert torch.allclose(ours.scores, theirs["scores"], atol=1e-6)


def test_probs_and_features_come_with_every_detection(
    detector: FasterRCNN, image: torch.Tensor
) -> None:
    (found,) = detector.detect([image])
    assert found.probs is not None and found.features is not None
    assert found.probs.shape == (len(found), 4) and found.features.shape == (len(found), 256)
    assert torch.allclose(found.probs.sum(dim=1), torch.ones(len(found)), atol=1e-5)
    assert torch.allclose(found.probs[torch.arange(len(found)), found.labels], found.scores)
    assert (found.scores.diff() <= 0).all()


def test_regions_gives_what_was_asked_in_order(detector: FasterRCNN, image: torch.Tensor) -> None:
    asked = boxes((0, 0, 160, 128), (10, 10, 60, 60), (3, 3, 3, 3))
    whole, nothing = detector.regions([image, image], [asked, torch.zeros(0, 4)])
    assert torch.equal(whole.boxes, asked) and len(nothing) == 0
    assert whole.probs is not None and nothing.probs is not None and nothing.probs.shape == (0, 4)
    best, label = whole.probs[:, 1:].max(dim=1)
    assert torch.equal(whole.scores, best) and torch.equal(whole.labels, label + 1)
    (alone,) = detector.regions([image], [asked[1:2]])
    assert torch.allclose(alone.probs, whole.probs[1:2], atol=1e-6)
    assert not torch.allclose(whole.probs[0], whole.probs[1], atol=1e-6)


def test_boxes_come_back_in_the_images_own_pixels() -> None:
    large = faster_rcnn(CLASSES, min_size=128, max_size=200, box_score_thresh=0.0)
    picture = torch.rand(3, 300, 500, generator=generator(1))
    (found,) = large.detect([picture])
    assert float(found.boxes[:, 2].max()) <= 500 and float(found.boxes[:, 3].max()) <= 300
    assert float(found.boxes[:, 2].max()) > 250  # not left in the resized image's pixels


def test_embedding_does_not_depend_on_the_batch(detector: FasterRCNN) -> None:
    images = [torch.rand(3, h, w, generator=generator(h)) for h, w in ((128, 128), (128, 256))]
    together = detector.embed(images)
    assert together.shape[0] == 2
    for image, row in zip(images, together, strict=True):
        (alone,) = detector.embed([image])
        assert float((alone - row).norm() / alone.norm()) < 0.1


def test_ignored_boxes_are_neither_positive_nor_negative(
    detector: FasterRCNN, image: torch.Tensor
) -> None:
    hidden = Target(boxes((0, 0, 160, 128)), labels(1), ignore=torch.tensor([True]))
    background = Target(boxes(), labels())
    ignored, plain = losses(detector, [image], [hidden]), losses(detector, [image], [background])
    assert plain["cls"] > 0 and plain["rpn_cls"] > 0
    assert ignored["cls"] == ignored["reg"] == ignored["rpn_reg"] == 0
    assert ignored["rpn_cls"] != plain["rpn_cls"]  # other anchors are left to learn from


def test_left_out_are_background_mostly_inside_only() -> None:
    found = torch.tensor([0, 0, 0, 2])
    candidates = boxes((0, 0, 10, 10), (8, 0, 18, 10), (50, 50, 60, 60), (0, 0, 10, 10))
    crowd = boxes((0, 0, 12, 12))
    assert containment(candidates, crowd)[:, 0].tolist() == pytest.approx([1, 0.4, 0, 1])
    rcnn.leave_out(found, candidates, crowd)
    assert found.tolist() == [-1, 0, 0, 2]


def test_images_without_boxes_and_boxes_without_area(
    detector: FasterRCNN, image: torch.Tensor
) -> None:
    flat = Target(boxes((5, 5, 5, 20)), labels(2))
    empty = Target(boxes(), labels())
    assert losses(detector, [image], [flat]) == pytest.approx(losses(detector, [image], [empty]))
    assert detector.detect([]) == [] and detector.regions([], []) == []


def test_no_proposal_at_all_is_no_detection(image: torch.Tensor) -> None:
    strict = faster_rcnn(CLASSES, rpn_score_thresh=0.999)
    (found,) = strict.detect([image])
    assert len(found) == 0 and found.probs is not None and found.probs.shape == (0, 4)


@pytest.mark.parametrize(
    "part", ["backbone.stem.0", "rpn.head.cls_logits", "roi_heads.box_predictor.bbox_pred"]
)
def test_diverged_weights_do_not_look_like_an_empty_image(part: str, image: torch.Tensor) -> None:
    diverged = faster_rcnn(CLASSES)
    torch.nn.init.constant_(diverged.model.get_submodule(part).weight, torch.nan)
    with pytest.raises(FloatingPointError, match="not finite; the weights have diverged"):
        diverged.detect([image])


def test_mode_comes_back(detector: FasterRCNN, image: torch.Tensor) -> None:
    detector.train()
    detector.detect([image])
    assert detector.training and detector.model.roi_heads.training
    detector.eval()
    losses(detector, [image], [known()])
    assert not detector.training


def test_same_seed_same_weights_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    a, b, c = (faster_rcnn(CLASSES, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    name = "model.roi_heads.box_head.fc6.weight"
    assert torch.equal(a[name], b[name]) and not torch.equal(a[name], c[name])


def test_reuse_takes_everything_but_the_classes() -> None:
    new, trained = faster_rcnn(["x"], seed=0), faster_rcnn(CLASSES, seed=9)
    predictor = new.model.roi_heads.box_predictor.cls_score.weight.clone()
    reuse(new, trained)
    state, other = new.state_dict(), trained.state_dict()
    assert torch.equal(state["model.backbone.stem.0.weight"], other["model.backbone.stem.0.weight"])
    assert torch.equal(new.model.roi_heads.box_predictor.cls_score.weight, predictor)


def test_learns_one_image() -> None:
    detector = faster_rcnn(["square"], seed=0)
    picture = torch.zeros(3, 128, 128)
    picture[:, 30:80, 40:90] = 1
    truth = Target(boxes((40, 30, 90, 80)), labels(1))
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3)
    for step in range(45):
        with forked(step, CPU):
            total = sum(
                detector.losses([picture] * 2, [truth] * 2, generator=generator(step)).values()
            )
        optimizer.zero_grad()
        total.backward()  # type: ignore[union-attr]
        optimizer.step()
    (found,) = detector.regions([picture], [truth.boxes])
    assert float(found.scores[0]) > 0.8


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: d.detect([torch.zeros(1, 8, 8)]), r"images\[0\] must be a float32 tensor"),
        (
            lambda d: d.losses([torch.zeros(3, 8, 8)], [], generator=generator(0)),
            "1 images but 0 targets",
        ),
        (
            lambda d: d.losses([], [], generator=generator(0)),
            "0 images but 0 targets.*at least one",
        ),
        (
            lambda d: d.losses(
                [torch.zeros(3, 64, 64)],
                [Target(boxes((1, 1, 9, 9)), labels(9))],
                generator=generator(0),
            ),
            r"targets\[0\].labels reach 9, but the detector knows 3 classes",
        ),
        (lambda d: d.detect([torch.full((3, 64, 64), torch.nan)]), r"images\[0\] is not finite"),
        (lambda d: faster_rcnn("ab"), "classes = 'ab': a list of names"),
        (lambda d: d.regions([torch.zeros(3, 8, 8)], []), "1 images but boxes for 0"),
        (
            lambda d: d.regions([torch.zeros(3, 8, 8)], [boxes((5, 0, 1, 1))]),
            r"boxes\[0\]\[0\] = .*x2 >= x1",
        ),
        (lambda d: FasterRCNN(d.model, ["only"]), "4 outputs, but 1 classes.*num_classes=2"),
        (lambda d: faster_rcnn([]), "at least one class"),
        (
            lambda d: faster_rcnn(["a"], backbone="vgg"),
            "backbone = 'vgg' is not known; use one of tiny, resnet18",
        ),
    ],
)
def test_rejected(detector: FasterRCNN, call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(detector)


def test_torchvisions_resnet_backbone() -> None:
    large = faster_rcnn(
        ["a"], backbone="resnet18", min_size=64, max_size=96, rpn_post_nms_top_n_test=20
    )
    assert isinstance(large.model, TorchvisionFasterRCNN)
    assert large.embed([torch.zeros(3, 64, 64)]).shape[0] == 1
