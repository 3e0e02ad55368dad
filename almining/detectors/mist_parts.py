"""The networks MIST is made of: VGG16 at stride 8, refinement heads, Concrete Drop Block.

VGG16 is torchvision's, as weakly supervised detectors use it: the last two poolings are gone and
the convolutions after them dilated, so small objects keep cells of their own. `detectors.weak` puts
the parts together.

Source: VGG (Simonyan and Zisserman, ICLR 2015), dilated as in OICR (Tang et al., CVPR 2017); MIST
(Ren et al., CVPR 2020) §3.2.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VGG16_Weights, vgg
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from almining.detectors.backbones import make_backbone

VGG_WIDTH, VGG_CELLS = 4096, 7  # of the two fully connected layers; regions are 7 x 7 cells
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
EDGE = 1e-6  # keeps logits finite
Colours = tuple[tuple[float, ...], tuple[float, ...]]


class Seen(NamedTuple):
    """What the network says of R proposals.

    Args:
        classify: (R, C) logits of the multiple-instance head.
        detect: (R, C) logits of the same.
        logits: (K, R, C + 1) of the refinement heads.
        deltas: (K, R, C, 4) of the same.
        features: (R, d), the second fully connected layer (fc7).
    """

    classify: Tensor
    detect: Tensor
    logits: Tensor
    deltas: Tensor
    features: Tensor

    def averaged(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the heads' mean softmax (R, C + 1) and regression (R, C, 4), and the features."""
        return self.logits.softmax(dim=2).mean(dim=0), self.deltas.mean(dim=0), self.features


class Vgg16(nn.Module):
    """The convolutions of VGG16, at stride 8."""

    out_channels = 512

    def __init__(self) -> None:
        """Make the layers, numbered as torchvision's, so its weights fit."""
        super().__init__()
        layers = vgg.make_layers(vgg.cfgs["D"])
        layers[23] = layers[30] = nn.Identity()  # the fourth and the fifth pooling
        for number in (24, 26, 28):
            layers[number].dilation = layers[number].padding = (2, 2)
        self.features = layers

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images (b, 3, h, w) to level `"0"`: (b, 512, h // 8, w // 8)."""
        return OrderedDict([("0", self.features(x))])


def load_imagenet(backbone: Vgg16, head: TwoMLPHead) -> None:
    """Give convolutions and fully connected layers torchvision's ImageNet weights.

    They are downloaded where torch's cache has none.

    Args:
        backbone: whose convolutions are filled.
        head: whose two layers are filled; of `VGG_WIDTH`, on `VGG_CELLS` x `VGG_CELLS` cells.
    """
    trained = vgg.vgg16(weights=VGG16_Weights.IMAGENET1K_V1)
    backbone.features.load_state_dict(trained.features.state_dict())
    for mine, theirs in ((head.fc6, 0), (head.fc7, 3)):
        mine.load_state_dict(trained.classifier[theirs].state_dict())


class RefinementHead(nn.Module):
    """C + 1 class logits, and box regressions of each of C classes.

    Args:
        width: of the region features.
        classes: C.
        prior: probability of an object, before anything is learned. Where it is low a head weighs
            little in what the next one learns, until it knows something itself.
    """

    def __init__(self, width: int, classes: int, *, prior: float) -> None:
        """Make the two layers, with small weights, as Fast R-CNN's."""
        super().__init__()
        self.classify = nn.Linear(width, classes + 1)
        self.regress = nn.Linear(width, 4 * classes)
        for layer, spread in ((self.classify, 0.01), (self.regress, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)
        self.classify.bias.data[0] = math.log(classes * (1 - prior) / prior)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (R, width) to logits (R, C + 1) and regressions (R, C, 4)."""
        deltas = self.regress(features)
        return self.classify(features), deltas.reshape(len(features), deltas.shape[1] // 4, 4)


class _Reversed(torch.autograd.Function):
    """Hands values on and turns their gradient round."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        ctx.rate = rate
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.rate, None


class ConcreteDropBlock(nn.Module):
    """Hides the places of region features on which the loss depends most, while training.

    A small network says where, and learns to make the loss as large as it can.

    Args:
        channels: of the pooled features.
        most: the largest share of places hidden, as a probability.
        block: side of the square hidden around each, in cells.
        rate: weight of its gradient beside the detector's own.

    Source: MIST (Ren et al., CVPR 2020) §3.2.
    Differs: one backward pass, with a reversed gradient, instead of two forward passes.
    """

    def __init__(
        self, channels: int, *, most: float = 0.3, block: int = 3, rate: float = 0.01
    ) -> None:
        """Make the residual block that says where."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.where = nn.Conv2d(channels, 1, 1)
        self.most, self.block, self.rate = most, block, rate

    def forward(self, pooled: Tensor, *, generator: torch.Generator) -> Tensor:
        """Map pooled features (R, channels, p, p) to the same with places hidden."""
        x = pooled.detach()  # the reversed gradient must not reach the backbone
        x = (x + self.second(self.first(x).relu())).relu()
        p = self.where(x).sigmoid() * (self.most / self.block**2)
        noise = torch.rand(p.shape, generator=generator).to(p.device).clamp(EDGE, 1 - EDGE)
        soft = ((p.clamp(EDGE, 1 - EDGE).logit() + noise.logit()) / 0.01).sigmoid()
        hidden = (soft > 0.5).to(soft.dtype) - soft.detach() + soft  # straight through
        hidden = functional.max_pool2d(hidden, self.block, stride=1, padding=self.block // 2)
        seen = 1 - _Reversed.apply(hidden, self.rate)
        scale = seen.numel() / seen.sum().detach().clamp(min=1)
        return pooled * seen * scale


class Parts(NamedTuple):
    """What lies below the heads.

    Args:
        backbone: maps images to named levels.
        pool: pools regions from the levels.
        head: two fully connected layers over a pooled region.
        colours: mean and standard deviation of pixels, three numbers each.
        size: the shorter side an image is resized to, in pixels.
    """

    backbone: Any
    pool: MultiScaleRoIAlign
    head: TwoMLPHead
    colours: Colours
    size: int


def make_parts(name: str, width: int | None) -> Parts:
    """Return untrained parts.

    Args:
        name: `"tiny"`, `"vgg16"` or one of torchvision's ResNets.
        width: of the two fully connected layers; what is usual by default.

    Raises:
        ValueError: for another name.
    """
    backbone: Any = Vgg16() if name == "vgg16" else make_backbone(name)
    levels, cells, usual, colours, size = ["0", "1", "2", "3"], VGG_CELLS, 1024, IMAGENET, 800
    if name == "vgg16":
        levels, usual = ["0"], VGG_WIDTH
    options: dict[str, Any] = {"sampling_ratio": 2}
    if name == "tiny":  # what suits objects of 12 to 130 pixels and a CPU
        levels, cells, usual, size = ["0", "1", "2"], 5, 256, 128
        colours = ((0.5,) * 3, (0.25,) * 3)
        options = {"sampling_ratio": 1, "canonical_scale": 64, "canonical_level": 3}
    head = TwoMLPHead(backbone.out_channels * cells**2, width or usual)
    return Parts(backbone, MultiScaleRoIAlign(levels, cells, **options), head, colours, size)
