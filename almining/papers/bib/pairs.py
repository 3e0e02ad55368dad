"""Box-in-box pairs: where a detector sees a part of an object, or several objects as one.

Two boxes of one class, a small one inside a large one, cannot both be right very often; such pairs
are where a detector trained from tags is confused (BiB, Vo et al., ECCV 2022, §3.3, Eq. 1). Which
images are then asked for is `almining.select.kmeans_pp_groups`. Notebook: 02_bib_pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from almining.boxes import area
from almining.checks import class_set
from almining.records import Detections

BOXES = 2**17  # boxes sorted together
IMAGES = 2**12  # of at most so many images, so that image, class and area fit into one key
CANDIDATES = 2**17  # pairs of boxes compared together
HALF = 2**32  # a sorting key holds an image and class above it and an area below
SLACK = 1 - 1e-9  # candidates are found by float32 areas, a little generously; float64 decides


def find_pairs(
    detections: Detections,
    *,
    min_ratio: float = 3.0,
    min_containment: float = 0.8,
    min_score: float = 0.0,
    tags: Iterable[int] | None = None,
) -> Tensor:
    """Return every box-in-box pair of one image, rows (small, large), in lexicographic order.

    A pair is two detections of one class, both with an area, of which the large one has at least
    `min_ratio` times the area of the small one and covers at least `min_containment` of it.

    Args:
        detections: what was found in the image.
        min_ratio: μ, above 1.
        min_containment: δ, in [0, 1].
        min_score: only detections that score above it are considered.
        tags: when given, only detections of these classes are.

    Returns:
        int64 (p, 2), positions in `detections`.

    Raises:
        ValueError: naming the argument and its value.

    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 3, 3], [8, 8, 12, 12]])
    >>> found = Detections(boxes, torch.tensor([1, 1, 1]), torch.tensor([0.9, 0.8, 0.7]))
    >>> find_pairs(found).tolist()
    [[1, 0]]

    Source: BiB §3.3, Eq. 1, with μ and δ of §4.1.
    Differs: the reference code keeps only the first enclosing box of each small one, adds 1 to
    widths in the containment but not in the ratio, and always filters by the image's tags; all
    pairs are here, no pixel is added, and `tags` is for the caller to give.
    """
    return find_pairs_many(
        [detections],
        min_ratio=min_ratio,
        min_containment=min_containment,
        min_score=min_score,
        tags=[class_set(tags, "tags")],
    )[0]


def find_pairs_many(
    detections: Sequence[Detections],
    *,
    min_ratio: float = 3.0,
    min_containment: float = 0.8,
    min_score: float = 0.0,
    tags: Sequence[Iterable[int] | None] | None = None,
) -> list[Tensor]:
    """Return the pairs of each image as `find_pairs` does, for many images at a time.

    The boxes of all images are sorted by image, class and area, so that a box is compared only
    with those that are large enough; extra memory does not grow with the number of candidates.

    Args:
        detections: one record per image, all on one device.
        min_ratio: as in `find_pairs`, and so are `min_containment` and `min_score`.
        min_containment: see `min_ratio`.
        min_score: see `min_ratio`.
        tags: one set of classes per image, or None where any class counts.

    Returns:
        One int64 (p, 2) per image.

    Raises:
        ValueError: naming the argument and its value.

    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 3, 3]])
    >>> found = Detections(boxes, torch.tensor([1, 1]), torch.tensor([0.9, 0.8]))
    >>> [pairs.tolist() for pairs in find_pairs_many([found, found], tags=[{1}, {2}])]
    [[[1, 0]], []]

    Source: BiB §3.3, Eq. 1.
    """
    check_thresholds(min_ratio, min_containment, min_score)
    if tags is not None and len(tags) != len(detections):
        raise ValueError(
            f"tags has {len(tags)} entries for {len(detections)} images; give each image one, "
            "None where any class counts"
        )
    known = [class_set(wanted, f"tags[{i}]") for i, wanted in enumerate(tags or [])]
    found: list[Tensor] = []
    for start, stop in _chunks(detections):
        part = detections[start:stop]
        flat = _flatten(part, min_score, known[start:stop])
        found += _split(flat, _pairs(flat, min_ratio, min_containment), len(part))
    return found


def pair_features(detections: Detections, pairs: Tensor) -> Tensor:
    """Return the features of pairs, (p, 2 d): those of the small box, then of the large one.

    Args:
        detections: of the image, with `features` (n, d).
        pairs: (p, 2) from `find_pairs`.

    Raises:
        ValueError: for detections without features, or pairs that are not rows of them.

    >>> features = torch.tensor([[1.0], [2.0]])
    >>> found = Detections(torch.ones(2, 4), torch.ones(2).long(), torch.ones(2), features=features)
    >>> pair_features(found, torch.tensor([[1, 0]])).tolist()
    [[2.0, 1.0]]

    Source: BiB §3.3, F(p). Not normalised, as in the reference code.
    """
    if detections.features is None:
        raise ValueError(
            f"the {len(detections)} detections have features = None, and pairs are compared by "
            "the features of their boxes; ask the detector's regions(images, boxes) for them"
        )
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
        raise ValueError(
            f"pairs must be int64 (p, 2), rows of find_pairs, got {pairs.dtype} "
            f"{tuple(pairs.shape)}"
        )
    bad = ((pairs < 0) | (pairs >= len(detections))).any(dim=1).nonzero()
    if len(bad):
        raise ValueError(
            f"pairs[{int(bad[0])}] = {pairs[bad[0, 0]].tolist()}, but there are "
            f"{len(detections)} detections; the pairs belong to another image"
        )
    return detections.features[pairs].flatten(start_dim=1)  # (p, 2, d) -> (p, 2 d)


@dataclass(frozen=True, slots=True)
class _Flat:
    """The considered boxes of several images, one after another."""

    image: Tensor  # (n,) number of the image
    position: Tensor  # (n,) in its image
    group: Tensor  # (n,) one number per image and class
    boxes: Tensor  # (n, 4) float64
    areas: Tensor  # (n,) float64


def _chunks(detections: Sequence[Detections]) -> Iterator[tuple[int, int]]:
    """Cut images into runs of at most `IMAGES` with at most `BOXES` boxes together, or one."""
    start, held = 0, 0
    for i, each in enumerate(detections):
        if i - start == IMAGES or (held and held + len(each) > BOXES):
            yield start, i
            start, held = i, 0
        held += len(each)
    if start < len(detections):
        yield start, len(detections)


def _flatten(
    detections: Sequence[Detections],
    min_score: float,
    tags: Sequence[frozenset[int] | None],
) -> _Flat:
    counts = torch.tensor([len(each) for each in detections])
    boxes = torch.cat([each.boxes for each in detections]).double()
    counts = counts.to(boxes.device)
    _, labels = torch.cat([each.labels for each in detections]).unique(return_inverse=True)
    scores = torch.cat([each.scores for each in detections])
    image = torch.arange(len(counts), device=boxes.device).repeat_interleave(counts)
    position = torch.arange(len(boxes), device=boxes.device)
    position -= (counts.cumsum(0) - counts)[image]
    areas = area(boxes)
    keep = (scores > min_score) & (areas > 0)
    if any(wanted is not None for wanted in tags):
        keep &= torch.cat([_tagged(*each) for each in zip(detections, tags, strict=True)])
    rows = keep.nonzero()[:, 0]
    group = image * (int(labels.max()) + 1 if len(labels) else 1) + labels
    return _Flat(image[rows], position[rows], group[rows], boxes[rows], areas[rows])


def _tagged(detections: Detections, tags: frozenset[int] | None) -> Tensor:
    if tags is None:
        return torch.ones_like(detections.labels, dtype=torch.bool)
    return torch.isin(detections.labels, detections.labels.new_tensor(sorted(tags)))


def _pairs(flat: _Flat, min_ratio: float, min_containment: float) -> Tensor:
    """Return (p, 2) positions in `flat`, in lexicographic order."""
    bits = flat.areas.float().view(torch.int32).long()  # floats above 0 sort as their bits do
    keys, order = (flat.group * HALF + bits).sort()
    group, areas = flat.group[order], flat.areas[order]
    least = (areas * (min_ratio * SLACK)).float().view(torch.int32).long()
    first = torch.searchsorted(keys, group * HALF + least)
    counts = torch.searchsorted(keys, (group + 1) * HALF) - first  # boxes large enough
    sides = flat.boxes[order].T.contiguous()  # (4, n)
    ends = counts.cumsum(0)
    small_found, large_found = [], []
    start, done = 0, 0
    while start < len(order):
        stop = max(start + 1, int(torch.searchsorted(ends, done + CANDIDATES, right=True)))
        small = torch.arange(start, stop, device=order.device).repeat_interleave(counts[start:stop])
        large = torch.arange(len(small), device=order.device)
        large += (first - ends + counts + done).index_select(0, small)
        shared, size = _shared(sides, small, large), areas.index_select(0, small)
        good = areas.index_select(0, large) / size >= min_ratio
        kept = good.logical_and_(shared / size >= min_containment).nonzero()[:, 0]
        small_found.append(order[small[kept]])
        large_found.append(order[large[kept]])
        start, done = stop, int(ends[stop - 1])
    if not small_found:
        return order.new_zeros(0, 2)
    n = len(order)
    found, _ = (torch.cat(small_found) * n + torch.cat(large_found)).sort()
    return torch.stack([found // n, found % n], dim=1)


def _shared(sides: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Return the areas shared by boxes number `small` and number `large` of (4, n)."""
    extents = []
    for low, high in ((0, 2), (1, 3)):
        start, stop = (
            choose(sides[side].index_select(0, small), sides[side].index_select(0, large))
            for side, choose in ((low, torch.maximum), (high, torch.minimum))
        )
        extents.append(stop.sub_(start).clamp_(min=0))
    return extents[0].mul_(extents[1])


def _split(flat: _Flat, pairs: Tensor, images: int) -> list[Tensor]:
    """Return the pairs of each image, by positions in it."""
    counts = flat.image[pairs[:, 0]].bincount(minlength=images)
    return list(flat.position[pairs].split(counts.tolist()))


def check_thresholds(min_ratio: float, min_containment: float, min_score: float) -> None:
    """Raise a `ValueError` unless these are numbers that pairs can be found by."""
    if not 1 < min_ratio < math.inf:
        raise ValueError(
            f"min_ratio = {min_ratio}: must be above 1, or a box would pair with its equals"
        )
    if not 0 <= min_containment <= 1:
        raise ValueError(f"min_containment = {min_containment}: a share of a box is in [0, 1]")
    if math.isnan(min_score):
        raise ValueError("min_score = nan: no score is above it")
