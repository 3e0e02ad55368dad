"""Proposals grown from the pixels without OpenCV: segments of like colour, merged step by step.

The image falls into small segments; then the two neighbours most alike become one, again and again
until one is left, and the box around every segment that ever was is a proposal. As in selective
search, with fewer colour spaces and no texture: for drawn images of some hundred pixels a side,
where a detector has to be shipped that needs nothing installed. Left out: segments of photographs,
for which `selective_search` is faster and better.

Source: Selective search (Uijlings et al., IJCV 2013) §3.1, §3.2; segments by Borůvka's rounds, in
each of which every segment joins the neighbour nearest in colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from almining.checks import check_image, check_whole

BINS = 8  # of each colour channel's histogram
LONGEST = 500  # pixels; of the side of an image as it is looked at
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """A proposer of boxes around segments; called with an image (3, h, w), it returns (n, 4).

    Boxes are float32, inside the image, each once, in lexicographic order.

    Args:
        limits: of the distance in colour, in [0, 1], up to which neighbours join at the start; each
            gives segments of its own, and boxes from all are proposed.
        smallest: segments of fewer pixels join a neighbour whatever its colour.
        min_side: boxes less wide or high, in pixels, are left out.

    An image longer than 500 pixels is made smaller first, for merging takes the cube of the number
    of segments; `smallest` and `min_side` are then of the smaller one.

    >>> image = torch.zeros(3, 32, 32)
    >>> image[:, 8:20, 4:28] = 1
    >>> Segments(limits=(0.4,))(image).tolist()
    [[0.0, 0.0, 32.0, 32.0], [4.0, 8.0, 28.0, 20.0]]
    """

    limits: tuple[float, ...] = (0.05, 0.08, 0.13)
    smallest: int = 12
    min_side: int = 8

    def __post_init__(self) -> None:
        """Validate, and write equal options equally."""
        object.__setattr__(self, "limits", tuple(float(limit) for limit in self.limits))
        if not self.limits or not all(0 < limit <= 1 for limit in self.limits):
            raise ValueError(f"limits = {self.limits}: distances above 0 and at most 1 are needed")
        for name in ("smallest", "min_side"):
            check_whole(getattr(self, name), name, 1)

    @property
    def key(self) -> str:
        """Method, its version and its options."""
        return f"1 {self!r}"

    def __call__(self, image: Tensor, /) -> Tensor:
        """Return the boxes (n, 4) of an image (3, h, w)."""
        check_image(image, "image")
        if not bool(image.isfinite().all()):
            raise ValueError("image is not finite; look at where it was made")
        shrunk = min(1.0, LONGEST / max(image.shape))
        high, wide = (max(1, round(side * shrunk)) for side in image.shape[1:])
        small = functional.adaptive_avg_pool2d(image.cpu(), (high, wide))
        soft = functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
        colours = soft.permute(1, 2, 0).double().clamp(0, 1).numpy()
        found = []
        for limit in self.limits:
            labels = _segments(colours, limit, self.smallest)
            start = _Regions.of(labels, colours)
            found += [start.boxes, *(start.merged(alike) for alike in (True, False))]
        boxes = torch.unique(torch.tensor(np.concatenate(found)), dim=0)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(dim=1)
        scale = boxes.new_tensor([image.shape[2] / wide, image.shape[1] / high] * 2)
        return (boxes[large] * scale).float().to(image.device)


def _neighbours(labels: Whole) -> tuple[Whole, Whole]:
    """Return the positions of pixels beside or above one another, one array for either."""
    places = np.arange(labels.size).reshape(labels.shape)
    a = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    b = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    return a, b


def _segments(colours: Floats, limit: float, smallest: int) -> Whole:
    """Return a label 0...n-1 for each pixel (h, w): at first its own, then its segment's."""
    shape, flat = colours.shape[:2], colours.reshape(-1, 3)
    labels = np.arange(len(flat))
    a, b = _neighbours(labels.reshape(shape))
    while True:
        n = int(labels.max()) + 1
        sizes = np.bincount(labels, minlength=n)
        means = np.stack([np.bincount(labels, flat[:, c], n) for c in range(3)], 1) / sizes[:, None]
        apart = labels[a] != labels[b]
        a, b = a[apart], b[apart]
        one, other = labels[a], labels[b]
        far = np.abs(means[one] - means[other]).max(axis=1)
        may = (far <= limit) | (np.minimum(sizes[one], sizes[other]) < smallest)
        if not may.any():
            return labels.reshape(shape)
        labels = _roots(_nearest(one[may], other[may], far[may], n))[labels]


def _nearest(one: Whole, other: Whole, far: Floats, n: int) -> Whole:
    """Return the segment (n,) that each joins: the nearest of those paired with it, or itself.

    Of pairs as near the first counts, for both, so whoever follows them ends at two that chose each
    other.
    """
    order = np.argsort(far, kind="stable")[::-1]
    pairs = np.stack([one, other], axis=1)[order]
    best = np.full(n, -1)
    best[pairs.ravel()] = np.arange(len(pairs)).repeat(2)  # the last to be written stays
    nearest = np.arange(n)
    chosen = best >= 0
    nearest[chosen] = pairs[best[chosen]].sum(axis=1) - nearest[chosen]
    return nearest


def _roots(nearest: Whole) -> Whole:
    """Return for each segment the number 0... of the group it ends up in."""
    places = np.arange(len(nearest))
    roots = np.where(nearest[nearest] == places, np.minimum(places, nearest), nearest)  # no cycles
    while (roots != roots[roots]).any():
        roots = roots[roots]
    return np.unique(roots, return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class _Regions:
    """Segments: how large (n,), their boxes (n, 4), colours (n, bins), and who is next to whom."""

    sizes: Floats
    boxes: Floats
    colours: Floats
    beside: NDArray[np.bool_]

    @staticmethod
    def of(labels: Whole, colours: Floats) -> _Regions:
        n, flat = int(labels.max()) + 1, labels.ravel()
        sizes = np.bincount(flat, minlength=n).astype(float)
        y, x = (axis.ravel() for axis in np.indices(labels.shape))
        boxes = np.empty((n, 4))
        boxes[:, :2], boxes[:, 2:] = np.inf, -np.inf
        for column, values in enumerate((x, y)):
            np.minimum.at(boxes[:, column], flat, values)
            np.maximum.at(boxes[:, column + 2], flat, values + 1)
        bins = np.minimum((colours.reshape(-1, 3) * BINS).astype(int), BINS - 1)
        counts = [np.bincount(flat * BINS + bins[:, c], minlength=n * BINS) for c in range(3)]
        histograms = np.concatenate([one.reshape(n, BINS) for one in counts], axis=1)
        a, b = _neighbours(labels)
        beside = np.zeros((n, n), dtype=bool)
        beside[flat[a], flat[b]] = beside[flat[b], flat[a]] = True
        np.fill_diagonal(beside, False)
        return _Regions(sizes, boxes, histograms / (3 * sizes[:, None]), beside)

    def merged(self, by_colour: bool) -> Floats:
        """Return the boxes of what the segments become, most alike first, until one is left."""
        sizes, boxes, colours = self.sizes.copy(), self.boxes.copy(), self.colours.copy()
        beside, found = self.beside.copy(), []
        alike = _Alike(sizes, boxes, colours if by_colour else None, self.sizes.sum())
        likeness = np.full(beside.shape, -np.inf)
        for i in range(len(sizes)):
            others = beside[i].nonzero()[0]
            likeness[i, others] = alike.to(i, others)
        for _ in range(len(sizes) - 1):
            i, j = divmod(int(likeness.argmax()), len(sizes))
            colours[i] = (sizes[i] * colours[i] + sizes[j] * colours[j]) / (sizes[i] + sizes[j])
            boxes[i, :2] = np.minimum(boxes[i, :2], boxes[j, :2])
            boxes[i, 2:] = np.maximum(boxes[i, 2:], boxes[j, 2:])
            sizes[i] += sizes[j]
            beside[i] |= beside[j]
            beside[:, i] |= beside[:, j]
            beside[j], beside[:, j], beside[i, i] = False, False, False
            likeness[j], likeness[:, j] = -np.inf, -np.inf
            others = beside[i].nonzero()[0]
            likeness[i, others] = likeness[others, i] = alike.to(i, others)
            found.append(boxes[i].copy())
        return np.array(found).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class _Alike:
    """How alike segments are: views of what changes while they merge."""

    sizes: Floats
    boxes: Floats
    colours: Floats | None
    whole: float

    def to(self, i: int, others: Whole) -> Floats:
        """Small ones come first, those that fill the box around both, and equal colours."""
        top_left = np.minimum(self.boxes[i, :2], self.boxes[others, :2])
        both = (np.maximum(self.boxes[i, 2:], self.boxes[others, 2:]) - top_left).prod(axis=1)
        together = self.sizes[i] + self.sizes[others]
        value = 2 - together / self.whole - (both - together) / self.whole
        if self.colours is not None:
            value = value + np.minimum(self.colours[i], self.colours[others]).sum(axis=1)
        return np.asarray(value)
