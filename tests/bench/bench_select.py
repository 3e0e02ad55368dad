"""Core-set, 500 of 20,000 x 1024, against the full distance matrix in the same run.

OMP_NUM_THREADS=1 pytest -n 0 --benchmark-enable -s tests/bench/bench_select.py; the ratio is in the
benchmark's extra_info (--benchmark-json), target >= 8.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from almining.select import core_set

N, D, PICKS = 20_000, 1024, 500


def full_matrix(features: Tensor, picks: int, first: int) -> list[int]:
    distances = torch.cdist(features, features)
    nearest = distances[first].clone()
    taken = [first]
    while len(taken) < picks:
        nearest[taken] = -1
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances[taken[-1]])
    return taken


def test_core_set(benchmark) -> None:
    features = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    found = benchmark.pedantic(
        lambda: core_set(features, PICKS, generator=torch.Generator().manual_seed(1)),
        rounds=3,
        warmup_rounds=1,
    )
    start = time.perf_counter()
    slow = full_matrix(features, PICKS, found[0])
    seconds = time.perf_counter() - start
    assert found == slow
    if benchmark.enabled:
        benchmark.extra_info["full_matrix_s"] = seconds
        benchmark.extra_info["ratio"] = seconds / benchmark.stats.stats.median
        print(f"\nfull matrix {seconds:.1f} s, ratio {benchmark.extra_info['ratio']:.1f}")
