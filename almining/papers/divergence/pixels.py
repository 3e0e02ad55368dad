"""Pixel divergence: where a detector's probabilities disagree among neighbouring pixels.

A detector that gives a probability per pixel is taken to be wrong where small shifts change its
mind: there the entropy of the mean over a window exceeds the mean of the entropies, however
uncertain each pixel is by itself. Block maxima make one number of an image. (Divergence, Aghdam et
al., ICCV 2019, §3, Eq. 1 to 5.) Which frames are then asked for is `almining.select.pick_frames`.
Notebook: 05_pixel_divergence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from almining.checks import check_whole

TOLERANCE = 1e-5  # rounding may carry a probability so far out of [0, 1]
BITS = 30  # of a probability, and of an entropy, behind the point
EXACT = 52  # float64 adds up whole numbers exactly below 2**53


def binary_entropy(p: Tensor) -> Tensor:
    """Return -p log p - (1 - p) log(1 - p), natural log, shaped like `p`; 0 at p in {0, 1}.

    Args:
        p: probabilities, a floating tensor.

    Raises:
        ValueError: for values outside [0, 1].
        FloatingPointError: for values that are not finite.

    >>> [round(value, 4) for value in binary_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist()]
    [0.0, 0.6931, 0.0]

    Source: Divergence §3, Eq. 3.
    """
    return _entropy(_probabilities(p, "p"))


def score_map(probabilities: Tensor, *, radius: int = 9) -> Tensor:
    """Return how far the probabilities around each pixel diverge, (h, w) float32, never below 0.

    In each map: the entropy of the mean over the window of 2 r + 1 pixels square, less the mean of
    the entropies in it; then the sum over the maps. Windows end where the image does. The cost does
    not depend on the radius. Sums are exact, so that the score is 0, and not almost 0, wherever a
    window is of one value, and does not depend on where in the image something is.

    Args:
        probabilities: (k, h, w) in [0, 1]: k maps of independent yes-or-no predictions.
        radius: r; 0 gives a score of 0 everywhere, and one above h and w makes the image one
            window. The paper's text has 9, its reference code 4.

    Raises:
        ValueError: for values outside [0, 1], another shape, or a negative radius.
        FloatingPointError: for values that are not finite.

    >>> score_map(torch.full((5, 4, 6), 0.5)).max()
    tensor(0.)
    >>> edge = torch.tensor([[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]])
    >>> [round(value, 3) for value in score_map(edge, radius=1)[0].tolist()]
    [0.0, 0.0, 0.637, 0.637, 0.0, 0.0]

    Source: Divergence §3, Eq. 1, 2 and 4.
    Differs: the equations leave the edge of the image open; there, as in the reference code, the
    mean is over the pixels that are inside. That code adds 1e-12 inside the logarithms.
    """
    maps = _maps(probabilities, "probabilities")
    check_whole(radius, "radius", 0)
    scale = 2.0 ** min(BITS, EXACT - maps.numel().bit_length())
    rows, columns = (_lengths(length, radius, maps.device) for length in maps.shape[1:])
    pixels = rows[:, None] * columns  # of each window, (h, w)
    together, apart = maps.new_zeros(maps.shape[1:]), maps.new_zeros(maps.shape[1:])
    for one in maps:
        whole = (one * scale).round_()
        apart += _entropy(whole / scale)
        together += _entropy((_window_sums(whole, radius) / (pixels * scale)).float())  # of Eq. 1
    mean = _window_sums((apart * scale).round_(), radius) / pixels  # of all maps at once, Eq. 2, 4
    return ((together * scale).round_() - mean).clamp_(min=0).div_(scale).float()


def disagreement(passes: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Return how far several predictions of the same pixels diverge, (h, w) float32 per image.

    The entropy of the mean prediction less the mean of the entropies, summed over the maps: what
    `score_map` is, with passes in place of neighbouring pixels. Never below 0, and 0 where all
    passes agree.

    Args:
        passes: T times the maps (k, h, w) in [0, 1] of each image; gone through once, and none is
            kept.

    Raises:
        ValueError: without a pass, for values outside [0, 1] or passes of different images.
        FloatingPointError: for values that are not finite.

    >>> disagreement([[torch.zeros(1, 1, 1)], [torch.ones(1, 1, 1)]])
    [tensor([[0.6931]])]

    Source: Divergence §4, "Other pixel-level score functions", the score of MC dropout.
    """
    means: list[Tensor] = []
    apart: list[Tensor] = []
    count = 0
    for count, found in enumerate(passes, start=1):
        maps = [_maps(one, f"passes[{count - 1}][{i}]") for i, one in enumerate(found)]
        if count == 1:
            means = [one.clone() for one in maps]
            apart = [_entropy(one).sum(dim=0) for one in maps]
        shapes, first = [one.shape for one in maps], [one.shape for one in means]
        if shapes != first:
            raise ValueError(f"passes[{count - 1}] is of maps {shapes}, the first pass of {first}")
        for mean, entropy, one in zip(means, apart, maps, strict=True):
            mean.lerp_(one, 1 / count)  # leaves what is equal as it is, to the last bit
            entropy.lerp_(_entropy(one).sum(dim=0), 1 / count)
    if not count:
        raise ValueError("passes is empty; at least one prediction is needed")
    pairs = zip(means, apart, strict=True)
    return [(_entropy(mean).sum(dim=0) - entropy).clamp_(min=0) for mean, entropy in pairs]


def block_maxima(score_map: Tensor, *, region: int = 30) -> Tensor:
    """Return the maximum of each region, (ceil(h / region), ceil(w / region)).

    The regions tile the image from its upper left; what is left at the right and at the bottom
    makes regions, too, if smaller ones, and a map smaller than one region is one.

    Args:
        score_map: (h, w).
        region: side of a region in pixels.

    Raises:
        ValueError: naming the argument and its value.
        FloatingPointError: for scores that are not finite.

    >>> block_maxima(torch.arange(6.0).view(2, 3), region=2)
    tensor([[4., 5.]])

    Source: Divergence §3, the maxima of Eq. 5; 30 x 30 is that of §4.
    Differs: the reference code's regions begin 15 pixels outside the image and never see the last
    15 rows of 480.
    """
    _check_score_map(score_map)
    side = check_whole(region, "region", 1, remedy=" pixel")
    sides = tuple(min(side, length) for length in score_map.shape)
    return max_pool2d(score_map[None], sides, ceil_mode=True)[0]


def image_score(score_map: Tensor, *, region: int = 30) -> float:
    """Return the mean of the block maxima; see `block_maxima` for the arguments.

    >>> image_score(torch.arange(6.0).view(2, 3), region=2)
    4.5

    Source: Divergence §3, Eq. 5.
    """
    return float(block_maxima(score_map, region=region).double().mean())


def _entropy(p: Tensor) -> Tensor:
    """Return binary entropies without looking at the values; `xlogy` takes twice as long."""
    q, tiny = 1 - p, torch.finfo(p.dtype).tiny
    return 0 - p.clamp_min(tiny).log_().mul_(p) - q.clamp_min(tiny).log_().mul_(q)


def _lengths(length: int, radius: int, device: torch.device) -> Tensor:
    """Return how many places the window around each of `length` places holds, float64."""
    place = torch.arange(length, device=device)
    return ((place + radius + 1).clamp(max=length) - (place - radius).clamp(min=0)).double()


def _window_sums(values: Tensor, radius: int) -> Tensor:
    """Return the sum over the window around each pixel, (h, w) float64; exact for whole numbers."""
    for dim in (1, 0):
        length = values.shape[dim]
        ahead, behind = min(radius, length - 1), max(length - radius - 1, 0)
        total = values.cumsum(dim, dtype=torch.float64)
        last = total.narrow(dim, length - 1, 1)
        values = torch.cat([total.narrow(dim, ahead, length - ahead), *[last] * ahead], dim)
        values.narrow(dim, length - behind, behind).sub_(total.narrow(dim, 0, behind))
    return values


def _maps(values: Tensor, name: str) -> Tensor:
    maps = _probabilities(values, name).detach().float()
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(f"{name} must have shape (k, h, w), none of them 0, got {(*maps.shape,)}")
    return maps


def _probabilities(values: Tensor, name: str) -> Tensor:
    """Return the values once they are known to be probabilities, give or take rounding."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        shown = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a floating tensor of probabilities, got {shown}")
    if not values.numel():
        return values
    low, high = (float(one) for one in values.detach().aminmax())
    if not math.isfinite(low + high):
        raise FloatingPointError(f"{name} are not finite; find where the detector produced them")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"{name} span [{low:g}, {high:g}]; probabilities in [0, 1] are needed, not logits"
        )
    return values.clamp(0, 1) if low < 0 or high > 1 else values


def _check_score_map(values: Tensor) -> None:
    if not isinstance(values, Tensor) or values.ndim != 2 or not values.numel():
        shown = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"score_map must be a tensor (h, w), neither of them 0, got {shown}")
    if not bool(values.isfinite().all()):
        raise FloatingPointError("score_map is not finite; find where it was made")
