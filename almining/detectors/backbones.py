"""Backbones with a feature pyramid: a tiny one for a CPU, and torchvision's ResNets.

The tiny one is made for images of 100 to 400 pixels: strides 4, 8, 16 and a pooled 32, batch
normalisation (measured here: group normalisation learns more slowly at this size).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")


class ConvBlock(nn.Module):
    """Halve the resolution with one 3x3 convolution, then refine with a residual one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the two convolutions."""
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(outputs)
        self.refine = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.refine_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / 2, w / 2)."""
        x = self.down_norm(self.down(x)).relu()
        return (x + self.refine_norm(self.refine(x))).relu()


class TinyBackbone(nn.Module):
    """A small convolutional net with a feature pyramid.

    It has three levels (strides 4, 8, 16) and a pooled one of stride 32.

    Args:
        widths: channels of the stem and of the three levels.
        channels: channels of every pyramid level.
    """

    def __init__(
        self, *, widths: tuple[int, int, int, int] = (24, 48, 96, 160), channels: int = 64
    ) -> None:
        """Make the layers."""
        super().__init__()
        stem, *levels = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        inputs = [stem, *levels[:-1]]
        self.levels = nn.ModuleList(ConvBlock(a, b) for a, b in zip(inputs, levels, strict=True))
        self.pyramid = FeaturePyramidNetwork(levels, channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images (b, 3, h, w) to levels `"0"`, `"1"`, `"2"` and `"pool"`.

        Each is (b, channels, h / stride, w / stride).
        """
        x = self.stem(x)
        found: OrderedDict[str, Tensor] = OrderedDict()
        for number, level in enumerate(self.levels):
            x = level(x)
            found[str(number)] = x
        pyramid: OrderedDict[str, Tensor] = self.pyramid(found)
        return pyramid


def make_backbone(name: str) -> nn.Module:
    """Return an untrained backbone by name: `"tiny"`, or one of `RESNETS`.

    Raises:
        ValueError: for another name.
    """
    if name == "tiny":
        return TinyBackbone()
    if name not in RESNETS:
        raise ValueError(f"backbone = {name!r} is not known; use one of tiny, {', '.join(RESNETS)}")
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone: nn.Module = resnet_fpn_backbone(
        backbone_name=name, weights=None, trainable_layers=5, norm_layer=nn.BatchNorm2d
    )
    return backbone
