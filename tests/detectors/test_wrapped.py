from copy import deepcopy

import pytest
import torch
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection.retinanet import RetinaNet

from almining.detectors.backbones import make_backbone
from almining.detectors.base import embed, offers
from almining.detectors.rcnn import FasterRCNN
from almining.detectors.wrapped import Wrapped, wrap
from almining.records import Target
from almining.rng import generator
from tests.fakes import FlatDetector, boxes, labels, target

CLASSES = ("a", "b")
IMAGE = torch.rand(3, 96, 128, generator=generator(0))


@pytest.fixture(scope="module")
def retinanet() -> Wrapped:
    model = RetinaNet(
        make_backbone("tiny"),
        num_classes=3,
        min_size=96,
        max_size=128,
        anchor_generator=_anchors(),
        score_thresh=0.0,
    )
    found = wrap(model, CLASSES)
    assert isinstance(found, Wrapped)
    return found


def _anchors():
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    return AnchorGenerator(((16,), (32,), (64,), (96,)), ((0.5, 1.0, 2.0),) * 4)


def test_a_faster_rcnn_becomes_the_librarys_own() -> None:
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    detector = wrap(model, CLASSES)
    assert isinstance(detector, FasterRCNN) and offers(detector, "regions")


def test_retinanet_detects_learns_and_embeds(retinanet: Wrapped) -> None:
    (found,) = retinanet.detect([IMAGE])
    assert found.probs is None and (found.scores.diff() <= 0).all()
    losses = retinanet.losses([IMAGE], [target((4, 4, 40, 40))], generator=generator(0))
    assert all(value.isfinite() for value in losses.values()) and sum(losses.values()).requires_grad
    assert embed(retinanet, [IMAGE, IMAGE]).shape[0] == 2
    assert retinanet.detect([]) == []


def test_any_other_model_works_too() -> None:
    detector = wrap(
        ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3), CLASSES
    )
    assert len(detector.detect([IMAGE])) == 1
    assert embed(detector, [IMAGE]).ndim == 2


def test_ignored_boxes_are_not_quietly_background(retinanet: Wrapped) -> None:
    hidden = Target(boxes((4, 4, 40, 40)), labels(1), ignore=torch.tensor([True]))
    with pytest.raises(
        ValueError, match=r"targets\[0\] has 1 ignored boxes, and RetinaNet.*background"
    ):
        retinanet.losses([IMAGE], [hidden], generator=generator(0))
    willing = wrap(retinanet.model, CLASSES, ignored="background")
    assert willing.losses([IMAGE], [hidden], generator=generator(0))


def test_a_class_without_a_name_is_an_error(retinanet: Wrapped) -> None:
    model = deepcopy(retinanet.model)
    bias = model.head.classification_head.cls_logits.bias
    bias.data.view(-1, 3)[:, 2] = 5.0  # class 2 everywhere
    assert retinanet.detect([IMAGE])
    with pytest.raises(ValueError, match=r"found class 2, but classes are numbered 1\.\.\.1"):
        wrap(model, ["a"]).detect([IMAGE])


def test_diverged_weights_do_not_look_like_an_empty_image(retinanet: Wrapped) -> None:
    diverged = wrap(deepcopy(retinanet.model), CLASSES)
    torch.nn.init.constant_(diverged.model.backbone.stem[0].weight, torch.nan)
    with pytest.raises(FloatingPointError, match=r"backbone.stem.0.weight are not finite"):
        diverged.detect([IMAGE])
    with pytest.raises(FloatingPointError, match=r"image features are not finite"):
        diverged.embed([IMAGE])


def test_no_image_features_says_what_to_add() -> None:
    with pytest.raises(ValueError, match="Linear has no transform and backbone"):
        wrap(torch.nn.Linear(1, 1), ["a"]).embed([IMAGE])

    class Plain:
        pass

    with pytest.raises(ValueError, match="Plain offers neither embed"):
        embed(Plain(), [IMAGE])


def test_a_users_own_class_need_not_inherit() -> None:
    detector = FlatDetector()
    assert offers(detector, "embed") and not offers(detector, "regions")
    assert embed(detector, [IMAGE]).shape == (1, 3)
