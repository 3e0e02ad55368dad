"""How far rows of features are from the nearest of a growing set of centres, in bounded memory.

A row is two vectors side by side, of two boxes or the halves of one vector; its squared distance is
the sum over both, so what several rows share is multiplied once. Features may lie in a
memory-mapped file: they are read block by block, and only centres are kept. Which rows become
centres is left to `groups`.
"""

from __future__ import annotations

import math
from itertools import zip_longest

import torch
from torch import Tensor

BLOCK = 2**20  # feature values converted together
GATHER = 2**24  # feature values of scattered rows converted together
TABLE = 2**26  # distances held together
KEPT = 2**28  # feature values that stay converted when every step needs them all
FIRST = 16  # centres that all rows are compared with at the start, when the others can wait
SAMPLE = 128  # vectors whose mean becomes the origin
CANCELS = 1 / 16  # share of the norms under which a distance is taken by subtraction


class Nearest:
    """Each row's squared distance to the nearest centre, or an upper bound on it.

    Args:
        features: (p, d) or, with `pairs`, (m, d).
        pairs: (p, 2), which two of the features each row is, or None.
    """

    def __init__(self, features: Tensor, pairs: Tensor | None) -> None:
        """Start without a centre: every bound is infinite."""
        width, device = features.shape[1], features.device
        if pairs is not None:
            self.sides = [_Side(features, pairs[:, side]) for side in (0, 1)]
        elif width % 2:
            self.sides = [_Side(features, None)]
        else:  # pairs of one image share boxes, so among centres there are halves that are equal
            halves = features.split(width // 2, dim=1)
            self.sides = [_Side(half, None) for half in halves]
        n = len(features) if pairs is None else len(pairs)
        self.bound = torch.full((n,), math.inf, dtype=torch.float64, device=device)  # 0: a centre
        self.live = torch.ones(n, dtype=torch.bool, device=device)  # not a centre
        self.centres = torch.zeros(0, dtype=torch.int64, device=device)
        self.seen = torch.zeros(n, dtype=torch.int64, device=device)  # centres compared with

    def begin(self, rows: Tensor, *, lazily: bool) -> None:
        """Make rows the first centres; lazily, compare the others with only a few of them."""
        if not lazily:
            if sum(side.count * side.width for side in self.sides) <= KEPT:
                for side in self.sides:
                    side.keep()
            self.replace(rows, self.distances([rows])[0])
            return
        step = -(-len(rows) // FIRST)
        few = torch.arange(len(rows), device=rows.device) % step == 0
        self.bound = self.distances([rows[few]])[0]
        self.add(rows[few])
        self.seen[:] = len(self.centres)
        self.add(rows[~few])

    def replace(self, rows: Tensor, bound: Tensor) -> None:
        """Make rows centres that are in all bounds already."""
        self.bound = bound
        self.bound[rows] = 0
        self.live[rows] = False

    def add(self, rows: Tensor) -> None:
        """Make rows centres, to be compared with when a row is refreshed."""
        if len(rows):
            for side in self.sides:
                side.add(rows)
            self.centres = torch.cat([self.centres, rows])
            self.replace(rows, self.bound)

    def refresh(self, rows: Tensor) -> None:
        """Make the bounds of rows exact."""
        rows = rows[self.live[rows] & (self.seen[rows] < len(self.centres))]
        if not len(rows):
            return
        size = min(TABLE // len(self.centres), GATHER // self.sides[0].width)
        for part in rows.split(max(1, size)):
            start = int(self.seen[part].min())
            total = _sum([side.some(part, start) for side in self.sides])
            centres, bound = self.centres[start:], self.bound[part]
            self.bound[part] = self._settle(self._norms(part), part, centres, total, bound)
        self.seen[rows] = len(self.centres)

    def distances(self, groups: list[Tensor]) -> Tensor:
        """Return what the bounds were if the rows of a group were centres too, (g, p)."""
        every = torch.arange(len(self.bound), device=self.bound.device)
        found = self.bound.repeat(len(groups), 1)
        owners = torch.arange(len(groups), device=every.device).repeat_interleave(
            torch.tensor([len(group) for group in groups], device=every.device)
        )
        size = max(1, TABLE // max(len(every), *(side.count for side in self.sides)))
        for part, owner in zip(torch.cat(groups).split(size), owners.split(size), strict=True):
            tables = self._tables(part)
            norms = self._norms(every)
            for i in owner.unique_consecutive().tolist():
                own = (owner == i).nonzero()[:, 0]
                total = _sum([t[s.of_centre[own]] for s, t in zip(self.sides, tables, strict=True)])
                found[i] = self._settle(norms, every, part[own], total, found[i])
        for side in self.sides:
            side.forget()
        return found

    def _tables(self, rows: Tensor) -> list[Tensor]:
        """Return each side's squared distances (c, p) of all rows to what `rows` have there."""
        tables = []
        for side in self.sides:
            side.forget()
            side.add(rows)
            tables.append(side.norms.new_empty(side.filled, side.count))
        for blocks in zip_longest(*(side.blocks() for side in self.sides)):  # one file, read once
            for side, table, block in zip(self.sides, tables, blocks, strict=True):
                if block is not None:
                    side.scan(table, *block)
        return [side.expand(table) for side, table in zip(self.sides, tables, strict=True)]

    def _settle(
        self, norms: Tensor, rows: Tensor, centres: Tensor, total: Tensor, bound: Tensor
    ) -> Tensor:
        """Return the new bounds (n,) of rows, given their distances (c, n) to centres."""
        closest = total.amin(dim=0)
        norms = norms + self._norms(centres).max()
        found = closest.double()
        doubtful = ((found < bound) & (closest < CANCELS * norms)).nonzero()[:, 0]
        for part in doubtful.split(max(1, BLOCK // self.sides[0].width)):
            nearest = centres[total[:, part].argmin(dim=0)]
            found[part] = _sum([side.subtract(rows[part], nearest) for side in self.sides])
        return torch.minimum(found, bound)

    def _norms(self, rows: Tensor) -> Tensor:
        return _sum([side.norms[side.places(rows)] for side in self.sides])


class _Side:
    """One of the two vectors of every row, `source` (m, width) at `rows` (p,), None meaning all."""

    def __init__(self, source: Tensor, rows: Tensor | None) -> None:
        self.source, self.width = source, source.shape[1]
        self.used: Tensor | None = None
        self.of_row: Tensor | None = None
        if rows is not None:
            self.used, self.of_row = rows.unique(return_inverse=True)
        self.count = len(source) if self.used is None else len(self.used)
        self.dtype = torch.float64 if source.dtype == torch.float64 else torch.float32
        self.origin = self._find_origin()
        self.norms = source.new_full((self.count,), torch.nan, dtype=self.dtype)
        self.kept: Tensor | None = None
        self.centres = source.new_empty(0, self.width, dtype=self.dtype)
        self.centre_norms = self.centres.new_empty(0, 1)
        self.of_centre = torch.zeros(0, dtype=torch.int64, device=source.device)
        self.filled = 0

    def _find_origin(self) -> Tensor:
        """Return a vector amid the others, for rounding in products to matter least.

        It is rounded to a power of two on the scale of the data, so that integers stay exact.
        """
        step = max(1, -(-self.count // SAMPLE))
        sample = self.raw(torch.arange(0, self.count, step, device=self.source.device)).double()
        sample = sample[sample.isfinite().all(dim=1)]
        mean = sample.sum(dim=0) / max(1, len(sample))
        spread = math.sqrt(float((sample - mean).square().sum()) / max(1, sample.numel()))
        if 0 < spread < math.inf:
            grid = 2.0 ** math.floor(math.log2(spread))
            mean = (mean / grid).round() * grid
        return mean.to(self.dtype)

    def places(self, rows: Tensor) -> Tensor:
        """Return which of the used vectors rows have."""
        return rows if self.of_row is None else self.of_row[rows]

    def raw(self, places: Tensor) -> Tensor:
        """Return used vectors as they are."""
        return self.source.index_select(0, places if self.used is None else self.used[places])

    def _from_origin(self, places: Tensor) -> Tensor:
        return self.raw(places).to(self.dtype) - self.origin

    def subtract(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return the squared distance (n,) of each row to another in float64, exactly 0 at 0."""
        one, other = self.raw(self.places(rows)), self.raw(self.places(others))
        return (one.double() - other.double()).square().sum(dim=1)

    def keep(self) -> None:
        """Keep the used vectors converted."""
        kept = self.norms.new_empty(self.count, self.width)
        for start, stop in self.blocks():
            kept[start:stop] = self._block(start, stop)
        self.kept = kept

    def blocks(self) -> list[tuple[int, int]]:
        """Return the runs in which the used vectors are read."""
        size = max(1, (BLOCK if self.kept is None else 2 * BLOCK) // self.width)
        return [(i, min(i + size, self.count)) for i in range(0, self.count, size)]

    def _block(self, start: int, stop: int) -> Tensor:
        if self.kept is not None:
            return self.kept[start:stop]
        if self.used is None:
            return self.source[start:stop].to(self.dtype) - self.origin
        return self.source.index_select(0, self.used[start:stop]).to(self.dtype) - self.origin

    def scan(self, table: Tensor, start: int, stop: int) -> None:
        """Write the squared distances of a run of used vectors to the centres, (filled, count)."""
        block = self._block(start, stop)
        if bool(self.norms[start].isnan()):
            self.norms[start:stop] = self._measure(block, start)
        centres = self.centres[: self.filled]
        product = torch.addmm(self.centre_norms[: self.filled], centres, block.T, alpha=-2)
        torch.add(product, self.norms[start:stop], out=table[:, start:stop])

    def _measure(self, block: Tensor, start: int) -> Tensor:
        norms = torch.linalg.vector_norm(block, dim=1).square_()
        fine = (norms * 8).isfinite()  # a squared distance is at most 4 times the larger norm
        if not bool(fine.all()):
            place = (~fine).nonzero()[:1, 0] + start
            row = int(place if self.used is None else self.used[place])
            large = bool(self.source[row].isfinite().all())
            raise FloatingPointError(
                f"features[{row}] is {'too large to be squared' if large else 'not finite'}; find "
                "where the detector produced it, nothing is replaced here"
            )
        return norms

    def add(self, rows: Tensor) -> None:
        """Make what rows have here centres, vectors that are equal only once."""
        if self.used is None:
            vectors, of_row = self._from_origin(rows).unique(dim=0, return_inverse=True)
        else:
            places, of_row = self.places(rows).unique(return_inverse=True)
            vectors = self._from_origin(places)
        start, stop = self.filled, self.filled + len(vectors)
        if stop > len(self.centres):
            room = max(stop, 2 * start)
            self.centres = _grown(self.centres, start, room)
            self.centre_norms = _grown(self.centre_norms, start, room)
        self.centres[start:stop] = vectors
        self.centre_norms[start:stop] = vectors.square().sum(dim=1, keepdim=True)
        self.of_centre = torch.cat([self.of_centre, of_row + start])
        self.filled = stop

    def forget(self) -> None:
        """Drop all centres."""
        self.of_centre, self.filled = self.of_centre[:0], 0

    def expand(self, table: Tensor) -> Tensor:
        """Return squared distances of all rows (c, p), given those of the used vectors."""
        return table if self.of_row is None else table.index_select(1, self.of_row)

    def some(self, rows: Tensor, start: int) -> Tensor:
        """Return squared distances (c, n) of some rows to the centres from `start` on."""
        of_centre = self.of_centre[start:]
        first = int(of_centre.min())
        centres = self.centres[first : self.filled]
        places = self.places(rows)
        norms = self.centre_norms[first : self.filled]
        product = torch.addmm(norms, centres, self._from_origin(places).T, alpha=-2)
        return (product + self.norms[places]).index_select(0, of_centre - first)


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _grown(values: Tensor, filled: int, room: int) -> Tensor:
    more = values.new_empty(room, values.shape[1])
    more[:filled] = values[:filled]
    return more
