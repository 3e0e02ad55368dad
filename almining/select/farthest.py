"""The images farthest from all labelled ones in feature space: greedy k-center.

Positions go in and positions come out, in the order taken, ties to the lowest. Which features and
which weights is up to the caller. (BiB appendix §3.2.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from almining.select.ranking import check_budget

BLOCK = 1024  # rows or centres held together
LEADERS = 96  # outdated points brought up to date together; more would be refreshed for nothing
TIE = 1e-5  # relative; below it float32 noise could decide, so float64 does
CANCELS = 1 / 16  # share of the norms under which a distance is taken by subtraction


def core_set(
    features: Tensor,
    budget: int,
    *,
    labelled: Sequence[int] = (),
    weights: Tensor | Sequence[float] | None = None,
    generator: torch.Generator,
) -> list[int]:
    """Return positions by greedy k-center: each time the point farthest from all centres.

    Exactly the greedy law, at a fraction of its cost: a point's distance to the nearest of the
    centres it has seen is an upper bound, so most points need not see each new centre at once. Only
    when a point with an outdated bound leads are the leaders brought up to date, a block at a time,
    against all the centres they missed, in one matrix product. Extra memory is O(n) and one block.

    Args:
        features: (n, d), one row per image.
        budget: how many to take; all that is left when there are fewer.
        labelled: positions that are centres from the start and are never picked. Without any, the
            first pick is random.
        weights: (n,), not negative; each multiplies its point's distance (Eq. 10).
        generator: draws the first pick when nothing is labelled.

    Raises:
        ValueError: for wrong shapes, a negative budget or weight, or labelled positions out of
            range.
        FloatingPointError: naming the first row of `features` or `weights` that is not finite.

    >>> core_set(torch.tensor([[0.0], [1], [5], [9]]), 2, labelled=[0], generator=torch.Generator())
    [3, 2]

    Source: BiB (Vo et al., ECCV 2022) appendix §3.2, Eq. 7 and, with weights, Eq. 10.
    """
    check_budget(budget)
    if features.ndim != 2 or not features.is_floating_point() or 0 in features.shape[1:]:
        raise ValueError(
            f"features must be a floating tensor (n, d), got {features.dtype} "
            f"{tuple(features.shape)}"
        )
    n = len(features)
    start = list(dict.fromkeys(int(position) for position in labelled))
    outside = [position for position in start if not 0 <= position < n]
    if outside:
        raise ValueError(f"labelled holds {outside[0]}, but features have rows 0...{n - 1}")
    budget = min(budget, n - len(start))
    search = _Farthest(features.detach(), _check_weights(weights, n, features.device))
    if not budget:
        return []
    picks: list[int] = []
    if not start:
        picks.append(int(torch.randint(n, (), generator=generator, device=generator.device)))
    search.add(start or picks)
    while len(picks) < budget:
        picks.append(search.next())
        search.add(picks[-1:])
    return picks


class _Farthest:
    """Upper bounds on each point's weighted squared distance to the nearest centre."""

    def __init__(self, features: Tensor, weights: Tensor | None) -> None:
        n, device = len(features), features.device
        self.features = features
        self.weights = None if weights is None else weights.square()
        self.origin, self.norms = _centre(features)
        self.centres = torch.zeros(n, dtype=torch.int64, device=device)
        self.count = 0
        # -1 once a point is a centre
        self.bound = torch.full((n,), math.inf, dtype=torch.float64, device=device)
        self.nearest = torch.zeros(n, dtype=torch.int64, device=device)
        # how many centres each point has been compared with
        self.seen = torch.zeros(n, dtype=torch.int64, device=device)
        # is the bound in float64, by subtraction?
        self.exact = torch.zeros(n, dtype=torch.bool, device=device)

    def add(self, positions: list[int]) -> None:
        """Make points centres."""
        new = torch.tensor(positions, device=self.bound.device)
        self.centres[self.count : self.count + len(new)] = new
        self.bound[new] = -1.0
        first = not self.count
        self.count += len(new)
        if first:
            self._refresh_all((self.bound >= 0).nonzero()[:, 0])

    def next(self) -> int:
        """Return the farthest point, the lowest position of several."""
        while True:
            top = int(self.bound.argmax())
            best = float(self.bound[top])
            if best == 0:
                return top  # every bound is 0, and argmax takes the lowest
            if int(self.seen[top]) < self.count:
                stale = self.bound.masked_fill(self.seen == self.count, -1.0)
                value, rows = stale.topk(min(LEADERS, len(stale)))
                self._refresh(rows[value >= 0])
                continue
            rivals = (self.bound >= best * (1 - TIE)).nonzero()[:, 0]
            if len(rivals) == 1:
                return top
            stale = rivals[self.seen[rivals] < self.count]
            vague = rivals[~self.exact[rivals]]
            if not len(stale) and not len(vague):
                return top
            self._refresh_all(stale)
            for rows in vague.split(BLOCK):
                self._sharpen(rows)

    def _refresh_all(self, rows: Tensor) -> None:
        for block in rows.split(BLOCK):
            self._refresh(block)

    def _refresh(self, rows: Tensor) -> None:
        """Compare points with every centre that one of them has not seen."""
        if not len(rows):
            return
        points = self._rows(rows)
        for centres in self.centres[int(self.seen[rows].min()) : self.count].split(BLOCK):
            product = torch.addmm(
                self.norms[centres], points, self._rows(centres).T, alpha=-2
            )  # (block, centres)
            closest, which = product.min(dim=1)
            norms = self.norms[rows]
            nearest = centres[which]
            distance = (closest + norms).double().clamp(min=0)
            small = distance < CANCELS * (norms + self.norms[nearest])
            distance[small] = self._subtracted(rows[small], nearest[small])
            if self.weights is not None:
                distance *= self.weights[rows]
            closer = distance < self.bound[rows]
            changed = rows[closer]
            self.bound[changed] = distance[closer]
            self.nearest[changed] = nearest[closer]
            self.exact[changed] = small[closer]
        self.seen[rows] = self.count

    def _sharpen(self, rows: Tensor) -> None:
        distance = self._subtracted(rows, self.nearest[rows])
        self.bound[rows] = distance if self.weights is None else distance * self.weights[rows]
        self.exact[rows] = True

    def _subtracted(self, rows: Tensor, centres: Tensor) -> Tensor:
        return (self.features[rows].double() - self.features[centres].double()).square().sum(dim=1)

    def _rows(self, rows: Tensor) -> Tensor:
        return self.features[rows].to(self.norms.dtype).sub_(self.origin)


def _centre(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return an origin amid the points and the squared distance of each to it, at least float32.

    Distances do not depend on the origin, their rounding in a matrix product does. The mean is
    rounded to the points' own scale, a power of two, so that integer features stay exact.
    """
    dtype = features.dtype if features.dtype == torch.float64 else torch.float32
    blocks = features.split(BLOCK)
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for block in blocks:
        total += block.sum(dim=0, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    mean = total / max(len(features), 1)
    norms = [(block.to(dtype) - mean.to(dtype)).square().sum(dim=1) for block in blocks]
    spread = (
        math.sqrt(float(torch.cat(norms).double().mean()) / len(mean)) if len(features) else 0.0
    )
    if math.isfinite(spread) and spread > 0:
        grid = 2.0 ** math.floor(math.log2(spread))
        mean = (mean / grid).round() * grid
        norms = [(block.to(dtype) - mean.to(dtype)).square().sum(dim=1) for block in blocks]
    found = torch.cat(norms)
    if not bool(found.isfinite().all()):
        bad = [(~block.isfinite().all(dim=1)).nonzero()[:, 0] for block in blocks]
        rows = [i * BLOCK + int(rows[0]) for i, rows in enumerate(bad) if len(rows)]
        where = f"features[{rows[0]}] is" if rows else "the square of a feature is"
        raise FloatingPointError(
            f"{where} not finite; find where the detector produced it, nothing is replaced here"
        )
    return mean.to(dtype), found


def _check_weights(
    weights: Tensor | Sequence[float] | None, n: int, device: torch.device
) -> Tensor | None:
    if weights is None:
        return None
    values = torch.as_tensor(weights, dtype=torch.float64, device=device)
    if tuple(values.shape) != (n,):
        raise ValueError(
            f"weights must have shape ({n},), one per row of features, got {tuple(values.shape)}"
        )
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        raise FloatingPointError(f"weights[{int(bad[0])}] = {float(values[bad[0]])} is not finite")
    if n and float(values.min()) < 0:
        row = int(values.argmin())
        raise ValueError(
            f"weights[{row}] = {float(values[row])}: a weight multiplies a distance and cannot be "
            "negative"
        )
    return values
