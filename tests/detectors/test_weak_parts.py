"""The networks of MIST: heads, VGG16 at stride 8, Concrete Drop Block."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from almining.detectors import mist_parts
from almining.detectors.mist_parts import (
    ConcreteDropBlock,
    RefinementHead,
    Vgg16,
    load_imagenet,
    make_parts,
)
from almining.rng import forked, generator


def test_a_head_gives_logits_and_a_regression_for_each_class() -> None:
    head = RefinementHead(6, 3, prior=0.1)
    for n in (0, 5):
        logits, deltas = head(torch.ones(n, 6))
        assert logits.shape == (n, 4) and deltas.shape == (n, 3, 4)


def test_an_object_is_as_probable_at_first_as_asked() -> None:
    head = RefinementHead(6, 3, prior=0.06)
    probs = head(torch.zeros(1, 6))[0].softmax(dim=1)[0]
    assert probs.tolist() == pytest.approx([0.94, 0.02, 0.02, 0.02])


def test_vgg16_keeps_an_eighth_of_the_resolution_and_torchvisions_layers() -> None:
    with forked(0, torch.device("cpu")):
        ours, theirs = Vgg16(), vgg.make_layers(vgg.cfgs["D"])
    theirs.load_state_dict(ours.features.state_dict())  # its weights fit
    image = torch.rand(1, 3, 48, 64, generator=generator(0))
    with torch.no_grad():
        (level,) = ours(image).values()
        assert level.shape == (1, 512, 6, 8)
        assert torch.allclose(ours.features[:23](image), theirs[:23](image))
        pooled = theirs[:24](image)
    assert pooled.shape[2:] == (3, 4)  # what the dilated convolutions make up for


def test_imagenet_weights_go_to_convolutions_and_both_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = vgg.make_layers(vgg.cfgs["D"])
            rows = [nn.Linear(9, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4)]
            self.classifier = nn.Sequential(*rows)

    trained = Small()
    asked = []
    monkeypatch.setattr(mist_parts.vgg, "vgg16", lambda weights: asked.append(weights) or trained)
    backbone, head = Vgg16(), TwoMLPHead(9, 4)
    load_imagenet(backbone, head)
    assert asked == [vgg.VGG16_Weights.IMAGENET1K_V1]
    assert torch.equal(backbone.features[28].weight, trained.features[28].weight)
    assert torch.equal(head.fc6.weight, trained.classifier[0].weight)
    assert torch.equal(head.fc7.bias, trained.classifier[3].bias)


def test_parts_of_each_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_parts("tiny", None)
    assert (tiny.size, tiny.head.fc6.in_features, tiny.head.fc7.out_features) == (128, 1600, 256)
    large = make_parts("vgg16", 8)
    assert (large.size, large.head.fc6.in_features) == (800, 512 * 49)
    assert large.pool.featmap_names == ["0"] and large.colours == mist_parts.IMAGENET
    pyramid = make_parts("resnet18", 8)
    assert pyramid.head.fc6.in_features == 256 * 49 and len(pyramid.pool.featmap_names) == 4
    with pytest.raises(ValueError, match="backbone = 'vgg' is not known"):
        make_parts("vgg", None)


def hidden(block: ConcreteDropBlock, pooled: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return block(pooled, generator=generator(seed)) == 0


def test_drop_block_hides_squares_and_keeps_the_mean() -> None:
    block = ConcreteDropBlock(2, most=0.3)
    nn.init.zeros_(block.where.weight)
    nn.init.constant_(block.where.bias, 50.0)  # p = 0.3 / 9 everywhere
    pooled = torch.ones(4000, 2, 7, 7)
    with torch.no_grad():
        out = block(pooled, generator=generator(0))
    gone = out == 0
    assert torch.equal(gone[:, 0], gone[:, 1])  # a place, in all channels
    inner = gone[:, 0, 3, 3].float().mean()  # nine places hide it: 1 - (1 - 0.3 / 9) ** 9
    assert float(inner) == pytest.approx(1 - (1 - 0.3 / 9) ** 9, abs=0.025)
    assert float(out.mean()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(gone, hidden(block, pooled)) and not torch.equal(
        gone, hidden(block, pooled, seed=1)
    )


def test_drop_block_learns_to_make_the_loss_larger_and_the_features_are_left_alone() -> None:
    with forked(0, torch.device("cpu")):
        block = ConcreteDropBlock(1, rate=1.0)
    nn.init.constant_(block.where.bias, 1.0)
    pooled = torch.ones(64, 1, 5, 5, requires_grad=True)
    out = block(pooled, generator=generator(0))
    out.sum().backward()
    assert pooled.grad is not None
    assert torch.allclose(pooled.grad, out.detach())  # only through the features themselves
    # to hide makes this loss smaller, so a step down the block's gradient must hide less
    assert block.where.bias.grad is not None and float(block.where.bias.grad) > 0


def test_drop_block_of_no_region() -> None:
    assert ConcreteDropBlock(2)(torch.zeros(0, 2, 5, 5), generator=generator(0)).shape[0] == 0
