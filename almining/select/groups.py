"""Images that differ, asked for by their parts: k-means++ over groups of feature rows.

BiB §3.3, Algorithm 2: rows are pairs of boxes and groups are images there, but any rows will do.
The clusters themselves are left out; only the seeding of k-means++ is used. Notebook:
02_bib_pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from almining.select.nearest import Nearest
from almining.select.ranking import check_budget

PROPOSALS = 16  # rows drawn together; more when none of them is accepted


def kmeans_pp_groups(
    features: Any,
    groups: Iterable[Hashable],
    budget: int,
    *,
    pairs: Any = None,
    chosen: Iterable[Hashable] = (),
    power: float = 1.0,
    local_trials: int = 1,
    generator: torch.Generator,
) -> list[Any]:
    """Return groups that hold rows unlike those of the groups chosen so far, in the order drawn.

    Again and again one row is drawn with a probability proportional to its distance, to the power
    `power`, to the nearest row of the chosen groups; its group is chosen with all its rows. When
    nothing is chosen yet, the group with most rows comes first, one of several at random; when no
    row is away from the chosen ones, all rows left are equally probable.

    With one trial the draw is exact at a fraction of the cost: most rows keep distances to a few
    of the centres, which are upper bounds, rows are drawn by these, only drawn ones are brought up
    to date, and one is accepted with the probability (true / bound) ** power. Features are read
    once, then a few rows per draw, so a float16 file that does not fit into memory will do.

    Args:
        features: (p, d) floating tensor or array, one row each, memory-mapped if need be; with
            `pairs`, (m, d), one per box.
        groups: p ids, such as image ids; rows of one id are a group.
        budget: how many groups to take; all that is left when there are fewer.
        pairs: (p, 2) int64, the two features of each row. The squared distance of rows is then the
            sum over both, that of the concatenated features, and far cheaper.
        chosen: ids that are chosen from the start and not returned; ids without rows are ignored.
        power: 1 draws by distance, 2 by squared distance as k-means++ does.
        local_trials: how many rows are drawn each time, of which the group is kept that most lowers
            the sum of distance ** power over all rows. More than one compares every row with every
            new centre.
        generator: draws.

    Returns:
        Ids as they are in `groups`, each once; a smaller budget gives the beginning of the list.

    Raises:
        ValueError: for wrong shapes, lengths, or numbers.
        FloatingPointError: naming a row of `features` that is not finite.

    >>> rows = torch.tensor([[0.0, 0], [0, 0], [9, 9], [0, 0]])
    >>> kmeans_pp_groups(rows, ["a", "a", "b", "c"], 2, generator=torch.Generator())
    ['a', 'b']

    Source: BiB (Vo et al., ECCV 2022) §3.3, Algorithm 2.
    Differs: the reference code draws by the squared distance (`power=2`) with 2 + int(ln k) local
    trials, k being all groups to be chosen; it has no answer when all distances are 0.
    """
    check_budget(budget)
    if not 0 < power < math.inf:
        raise ValueError(f"power = {power}: distances are raised to a finite number above 0")
    if local_trials < 1:
        raise ValueError(f"local_trials = {local_trials}: at least one row has to be drawn")
    vectors = _tensor(features)
    if vectors.ndim != 2 or not vectors.is_floating_point() or vectors.shape[1] == 0:
        raise ValueError(
            f"features must be floating (n, d), got {vectors.dtype} {tuple(vectors.shape)}"
        )
    couples = None if pairs is None else _check_pairs(pairs, vectors)
    rows = len(vectors) if couples is None else len(couples)
    members = _Members(groups, rows, vectors.device)
    start = members.known(chosen)
    budget = min(budget, len(members.names) - len(start))
    if budget == 0:
        return []
    picks = [] if start else [members.largest(generator)]
    nearest = Nearest(vectors, couples)
    first = torch.cat([members.rows(group) for group in start or picks])
    nearest.begin(first, lazily=local_trials == 1)
    while len(picks) < budget:
        if local_trials == 1:
            group = int(members.codes[_draw_lazily(nearest, power, generator)])
            nearest.add(members.rows(group))
        else:
            group = _best_of(local_trials, nearest, members, power, generator)
        picks.append(group)
    return [members.names[group] for group in picks]


class _Members:
    """Which rows belong to which group; groups are numbered in order of appearance."""

    def __init__(self, groups: Iterable[Hashable], rows: int, device: torch.device) -> None:
        ids = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else list(groups)
        if len(ids) != rows:
            raise ValueError(f"groups holds {len(ids)} ids for {rows} rows; every row needs one")
        self._number: dict[Any, int] = {}
        try:
            codes = [self._number.setdefault(name, len(self._number)) for name in ids]
        except TypeError as error:
            raise ValueError(f"groups must be hashable ids, such as image ids: {error}") from None
        self.names = list(self._number)
        self.codes = torch.tensor(codes, dtype=torch.int64, device=device)
        self._order = self.codes.argsort(stable=True)
        self._counts = self.codes.bincount(minlength=len(self.names))
        self._ends = self._counts.cumsum(0).tolist()

    def rows(self, group: int) -> Tensor:
        """Return the rows of a group, ascending."""
        return self._order[self._ends[group - 1] if group else 0 : self._ends[group]]

    def known(self, names: Iterable[Hashable]) -> list[int]:
        """Return the numbers of names that have rows, each once."""
        return [self._number[name] for name in dict.fromkeys(names) if name in self._number]

    def largest(self, generator: torch.Generator) -> int:
        """Return the group with most rows, one of several at random."""
        most = (self._counts == self._counts.max()).nonzero()[:, 0]
        drawn = torch.randint(len(most), (), generator=generator, device=generator.device)
        return int(most[int(drawn)])


def _draw_lazily(nearest: Nearest, power: float, generator: torch.Generator) -> int:
    """Return a row drawn by its true distance, from bounds of which most are outdated.

    Whatever the bounds are, a row is drawn with bound / total and accepted with true / bound, so
    among accepted rows it has the probability true / total. A rejected draw only tightens bounds.
    """
    count = PROPOSALS
    while True:
        place, limit = _uniforms(2 * count, nearest, generator).split(count)
        rows = _draw(_weights(nearest, power), place)
        before = nearest.bound[rows]
        nearest.refresh(rows.unique())
        share = (nearest.bound[rows] / before).where(before > 0, 1.0).pow(power / 2)
        accepted = (limit < share).nonzero()
        if len(accepted):
            return int(rows[accepted[0, 0]])
        count *= 2


def _best_of(
    trials: int, nearest: Nearest, members: _Members, power: float, generator: torch.Generator
) -> int:
    """Return the group, of those of several drawn rows, that leaves the rows least far away."""
    rows = _draw(_weights(nearest, power), _uniforms(trials, nearest, generator))
    groups = list(dict.fromkeys(members.codes[rows].tolist()))
    found = nearest.distances([members.rows(group) for group in groups])  # (g, p)
    scale = nearest.bound.max().clamp(min=torch.finfo(torch.float64).tiny)
    best = int((found / scale).pow(power / 2).sum(dim=1).argmin())
    nearest.replace(members.rows(groups[best]), found[best])
    return groups[best]


def _weights(nearest: Nearest, power: float) -> Tensor:
    """Return what the probability of each row is proportional to, at most 1."""
    most = nearest.bound.max()
    if not most > 0:
        return nearest.live.double()
    return (nearest.bound / most).pow(power / 2)


def _draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return a row for each of (n,) numbers in [0, 1), with a probability as its weight."""
    ends = weights.cumsum(0)
    rows = torch.searchsorted(ends, uniforms * ends[-1], right=True)
    return rows.clamp(max=int(weights.nonzero()[-1]))


def _uniforms(count: int, nearest: Nearest, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
    return drawn.to(nearest.bound.device)


def _tensor(values: Any) -> Tensor:
    """Return a tensor that shares the memory of an array, read-only ones included."""
    if isinstance(values, Tensor):
        return values.detach()
    with warnings.catch_warnings():  # torch warns that it could write; nothing here does
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)
        return torch.as_tensor(values)


def _check_pairs(pairs: Any, features: Tensor) -> Tensor:
    found = _tensor(pairs)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype != torch.int64:
        raise ValueError(
            f"pairs must be int64 (p, 2), rows of features, got {found.dtype} {tuple(found.shape)}"
        )
    outside = ((found < 0) | (found >= len(features))).any(dim=1).nonzero()
    if len(outside):
        raise ValueError(
            f"pairs[{int(outside[0])}] = {found[outside[0, 0]].tolist()}, but features have rows "
            f"0...{len(features) - 1}"
        )
    return found.to(features.device)
