"""The network of the per-pixel detector: Fire residual modules and a decoder with five maps.

The encoder halves the resolution (convolution and pooling side by side) and refines with Fire
residual modules; the decoder goes back up with lateral connections and stops at five places, from
the largest default box to the smallest. Each has a 1x1 convolution of its own, and all share the
layer of logits. What maps and boxes mean is in `detectors.dense_boxes`.

Source: Divergence (Aghdam et al., ICCV 2019) §3 "Network architecture", Figure 2; where the paper
is silent, its authors' code: ELU, batch normalisation, a squeeze of 3x1 (people are tall),
dilation 2 in the last two modules, and where the lateral connections begin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MAPS = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """How wide and how deep a network is.

    Args:
        widths: channels of the three stages of the encoder.
        modules: Fire residual modules in each; two more, dilated, follow the third.
        strides: how much each stage reduces the resolution, 1 or 2.
        decoder: channels of the decoder.
    """

    widths: tuple[int, int, int]
    modules: tuple[int, int, int]
    strides: tuple[int, int, int]
    decoder: int


LAYOUTS = {
    "tiny": Layout((16, 24, 48), (1, 2, 2), (2, 1, 2), 24),
    "small": Layout((24, 40, 80), (2, 3, 3), (2, 1, 2), 48),
    "paper": Layout((64, 128, 256), (2, 3, 3), (2, 2, 2), 128),
}


class Unit(nn.Module):
    """A convolution, batch normalisation and ELU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Make the layers; the resolution stays but for the stride."""
        super().__init__()
        padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
        self.convolve = nn.Conv2d(
            inputs, outputs, kernel, stride, padding, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        return functional.elu(self.norm(self.convolve(x)), inplace=True)


class Reduce(nn.Module):
    """Reduce the resolution by a convolution and by pooling, joined.

    With a stride of 1 nothing is pooled, and what came in is joined as it is.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Make the convolution; the pooled inputs are among the outputs."""
        super().__init__()
        self.stride = stride
        self.unit = Unit(inputs, outputs - inputs, (3, 3), stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        pooled = functional.max_pool2d(x, self.stride) if self.stride > 1 else x
        return torch.cat([self.unit(x), pooled], dim=1)


class FireResidual(nn.Module):
    """Squeeze to half the channels, expand by 3x3 and by 1x1, join, and add to what came in."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        """Make the three convolutions."""
        super().__init__()
        half = channels // 2
        self.squeeze = Unit(channels, half, (3, 1))
        self.wide = Unit(half, half, (3, 3), dilation=dilation)
        self.narrow = Unit(half, channels - half)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        squeezed = self.squeeze(x)
        return x + torch.cat([self.wide(squeezed), self.narrow(squeezed)], dim=1)


class Network(nn.Module):
    """Encoder, decoder and the five places of which logits are made.

    Args:
        layout: how wide and how deep.
        outputs: logits per pixel and map, one per class.
        prior: what an untrained map says everywhere.
    """

    def __init__(self, layout: Layout, outputs: int, *, prior: float) -> None:
        """Make the layers."""
        super().__init__()
        inputs, stages = 3, []
        for width, count, stride in zip(layout.widths, layout.modules, layout.strides, strict=True):
            fires = [FireResidual(width) for _ in range(count)]
            stages.append(nn.ModuleList([Reduce(inputs, width, stride), *fires]))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.dilated = nn.ModuleList(FireResidual(inputs, 2) for _ in range(2))
        channels, third, second = layout.decoder, layout.widths[2], layout.widths[1]
        self.first = Unit(third, channels)
        self.lateral = nn.ModuleList(Unit(n, channels) for n in (third, third, third, second))
        self.up = nn.ModuleList(Unit(channels, channels, (3, 3)) for _ in range(MAPS - 1))
        self.unify = nn.ModuleList(Unit(channels, channels) for _ in range(MAPS))
        self.logits = nn.Conv2d(channels, outputs, 1)
        nn.init.constant_(self.logits.bias, float(torch.tensor(prior).logit()))  # type: ignore[arg-type]
        self.stride = layout.strides[0] * layout.strides[1] * layout.strides[2]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (b, 3, h, w), sides multiples of `stride`, to five (b, channels, y, x).

        Largest default box first; the last is as fine as the second stage, others as the third.
        """
        seen: list[list[Tensor]] = []
        for stage in self.stages:
            seen.append([])
            for module in stage.children():
                x = module(x)
                seen[-1].append(x)
        dilated = []
        for module in self.dilated:
            x = module(x)
            dilated.append(x)
        # where lateral connections begin: f41, f32, ds3 and f22 in the authors' code
        sources = [dilated[0], seen[2][-2], seen[2][0], seen[1][max(1, len(seen[1]) - 2)]]
        found = [self.first(x)]
        for source, lateral, up in zip(sources, self.lateral, self.up, strict=True):
            x = found[-1]
            if x.shape[2:] != source.shape[2:]:
                size = source.shape[2:]
                x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            found.append(up(x) + lateral(source))
        return [unify(x) for unify, x in zip(self.unify, found, strict=True)]

    def classify(self, features: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits (b, 5 x outputs, h, w) of features, upsampled bilinearly to `size`."""
        maps = [
            functional.interpolate(self.logits(x), size, mode="bilinear", align_corners=False)
            for x in features
        ]
        return torch.cat(maps, dim=1)


def drop_channels(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return x (b, channels, ...) with whole channels at zero at this rate, the others made up for.

    Drawn on the CPU from `generator`, whatever device `x` is on.
    """
    if rate == 0:
        return x
    kept = torch.rand(x.shape[:2], generator=generator) >= rate
    return x * (kept.to(x) / (1 - rate))[:, :, None, None]
