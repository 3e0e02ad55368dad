"""K-means++ over groups: the law by enumeration, the picks by a loop, the rules by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from almining.select import groups as module
from almining.select import kmeans_pp_groups, nearest
from almining.select.nearest import Nearest
from tests.oracles import kmeans_pp_loop, kmeans_pp_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed))


def assert_drawn_from(counts: Counter[Hashable], expected: Mapping[Hashable, float]) -> None:
    """Pearson's chi² against enumerated probabilities, at a level of 1 in 10,000."""
    runs = counts.total()
    assert set(counts) <= {name for name, p in expected.items() if p > 0}
    surprise = sum((counts[name] - runs * p) ** 2 / (runs * p) for name, p in expected.items() if p)
    degrees = sum(p > 0 for p in expected.values()) - 1
    part = 2 / (9 * degrees)
    assert surprise < degrees * (1 - part + 3.72 * math.sqrt(part)) ** 3


# the rules, by hand


def test_the_group_with_most_rows_comes_first_and_ties_are_random() -> None:
    line = torch.tensor([[0.0], [1], [2], [3], [4]])
    for seed in range(20):
        assert kmeans_pp_groups(line, ["a", "b", "b", "c", "d"], 1, generator=seeded(seed)) == ["b"]
    firsts = [kmeans_pp_groups(line, list("aabbc"), 1, generator=seeded(s))[0] for s in range(60)]
    assert 15 < firsts.count("a") < 45
    assert set(firsts) == {"a", "b"}


def test_only_what_is_away_from_the_chosen_is_drawn() -> None:
    rows = torch.tensor([[0.0, 0], [3, 4], [0, 0], [3, 4], [3, 4]])
    names = ["a", "a", "b", "c", "d"]
    far = torch.cat([rows, torch.tensor([[9.0, 9]])])
    for seed in range(20):
        picks = kmeans_pp_groups(far, [*names, "e"], 4, chosen=["a"], generator=seeded(seed))
        assert picks[0] == "e"  # all others lie on rows of a
        assert sorted(picks[1:]) == ["b", "c", "d"]


def test_a_drawn_row_takes_its_group_and_all_its_rows_become_centres() -> None:
    rows = torch.tensor([[0.0], [10], [20], [20], [10]])
    for seed in range(20):
        picks = kmeans_pp_groups(rows, list("abbcd"), 3, chosen="a", generator=seeded(seed))
        # after b, c and d lie on its rows; after c, the rows of b and d are 10 away
        assert len(set(picks)) == 3
        one = kmeans_pp_groups(rows[:4], list("abbc"), 1, chosen=["b"], generator=seeded(seed))
        assert one == ["a"]


def test_equal_features_everywhere_are_drawn_uniformly_over_rows() -> None:
    names = ["a", "b", "b", "b", "c"]
    for options in ({}, {"power": 2.0, "local_trials": 3}):
        counts: Counter[Hashable] = Counter()
        for seed in range(200):
            picks = kmeans_pp_groups(
                torch.full((5, 4), 0.1), names, 1, chosen="a", generator=seeded(seed), **options
            )
            counts.update(picks)
        assert_drawn_from(counts, {"b": 3 / 4, "c": 1 / 4})
        every = kmeans_pp_groups(torch.zeros(5, 3), names, 9, generator=seeded(), **options)
        assert every[0] == "b"
        assert sorted(every) == ["a", "b", "c"]


def test_ids_without_rows_are_ignored_and_all_groups_are_enough() -> None:
    rows = random(6, 3)
    names = [10, 10, 20, 30, 40, 40]
    assert sorted(kmeans_pp_groups(rows, names, 99, generator=seeded())) == [10, 20, 30, 40]
    left = kmeans_pp_groups(rows, names, 99, chosen=[77, 10, 10], generator=seeded())
    assert sorted(left) == [20, 30, 40]
    first = kmeans_pp_groups(rows, [1, 2, 2, 3, 4, 5], 1, chosen=[77], generator=seeded())
    assert first == [2]  # nothing with rows is chosen, so the largest comes first
    assert kmeans_pp_groups(rows, names, 3, chosen=[10, 20, 30, 40], generator=seeded()) == []


@pytest.mark.parametrize("options", [{}, {"power": 2.0, "local_trials": 2}])
def test_nothing_one_row_and_one_group(options: dict[str, float]) -> None:
    assert kmeans_pp_groups(torch.zeros(0, 3), [], 2, generator=seeded(), **options) == []
    assert kmeans_pp_groups(random(1, 3), ["a"], 2, generator=seeded(), **options) == ["a"]
    assert kmeans_pp_groups(random(3, 3), ["a"] * 3, 2, generator=seeded(), **options) == ["a"]
    assert kmeans_pp_groups(random(3, 3), list("abc"), 0, generator=seeded(), **options) == []
    no_pairs = torch.zeros(0, 2, dtype=torch.int64)
    found = kmeans_pp_groups(random(3, 3), [], 2, pairs=no_pairs, generator=seeded(), **options)
    assert found == []
    one = torch.tensor([[2, 2]])
    found = kmeans_pp_groups(random(3, 3), ["a"], 2, pairs=one, generator=seeded(), **options)
    assert found == ["a"]


# the law


def draws(rows: Tensor, names: list[str], chosen: str, power: float, runs: int, **options):
    """Count the groups of rows drawn next; what a draw finds out is forgotten after it."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    search = Nearest(options.get("features", rows), options.get("pairs"))
    first = [row for row, name in enumerate(names) if name in chosen]
    search.begin(torch.tensor(first), lazily=True)
    bound, seen = search.bound.clone(), search.seen.clone()
    counts: Counter[Hashable] = Counter()
    generator = seeded(3)
    for _ in range(runs):
        search.bound, search.seen = bound.clone(), seen.clone()
        counts[names[module._draw_lazily(search, power, generator)],] += 1
    assert set(numbers) >= {name for (name,) in counts}
    return counts


def law_data(kind: str) -> tuple[Tensor, list[str], str]:
    names = [*"aabbb", *"cc", *"ddd", *"eeee", "f", *"gg"]
    rows = random(len(names), 3, seed=7)
    if kind == "misled":  # far from the row of a that all are compared with, near the others
        rows[0] += 30
    if kind == "duplicates":  # rows of d, and one of e, are chosen ones
        rows[7:10] = rows[3]
        rows[10] = rows[1]
    if kind == "outlier":
        rows[-1] += 100
    if kind == "permuted":
        order = torch.randperm(len(names), generator=seeded(1))
        return rows[order], [names[i] for i in order.tolist()], "ab"
    return rows, names, "ab"


@pytest.mark.parametrize(
    "kind, power",
    [
        *((kind, 1.0) for kind in ("plain", "misled", "duplicates", "outlier", "permuted")),
        *((kind, power) for kind in ("misled", "duplicates") for power in (2.0, 0.5)),
    ],
)
def test_a_lazy_draw_follows_the_law(
    kind: str, power: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "FIRST", 1)
    monkeypatch.setattr(module, "PROPOSALS", {1.0: 3, 2.0: 1, 0.5: 16}[power])
    rows, names, chosen = law_data(kind)
    expected = kmeans_pp_probabilities(rows.tolist(), names, 1, chosen=chosen, power=power)
    assert_drawn_from(draws(rows, names, chosen, power, 1000), expected)


def test_a_lazy_draw_of_pairs_follows_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "FIRST", 1)
    boxes = random(9, 2, seed=2)
    pairs = torch.tensor([[0, 1], [2, 1], [0, 3], [4, 4], [5, 6], [7, 6], [5, 8], [4, 8]])
    names = list("aabbccdd")
    rows = boxes[pairs].flatten(1)
    expected = kmeans_pp_probabilities(rows.tolist(), names, 1, chosen="a", power=1.0)
    counts = draws(rows, names, "a", 1.0, 1500, features=boxes, pairs=pairs)
    assert_drawn_from(counts, expected)


@pytest.mark.parametrize(
    "power, chosen, runs",
    [(1.0, (), 400), *[pytest.param(p, "f", 4000, marks=pytest.mark.slow) for p in (1.0, 2.0)]],
)
def test_whole_selections_follow_the_law(
    power: float, chosen: str, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "FIRST", 1)
    monkeypatch.setattr(module, "PROPOSALS", 2)
    rows, names, _ = law_data("misled")
    generator = seeded(5)
    counts: Counter[Hashable] = Counter()
    for _ in range(runs):
        picks = kmeans_pp_groups(rows, names, 3, chosen=chosen, power=power, generator=generator)
        counts[tuple(picks)] += 1
    start = () if chosen else ("e",)  # the largest
    law = kmeans_pp_probabilities(
        rows.tolist(), names, 3 - len(start), chosen=[*chosen, *start], power=power
    )
    assert_drawn_from(counts, {(*start, *more): p for more, p in law.items()})


def test_rejected_draws_cost_a_pass_over_the_rows_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.cat([torch.zeros(1, 3), torch.ones(3000, 3), torch.full((1, 3), 1.01)])
    names = ["a", *["b"] * 2, *["c"] * 2998, "d"]
    work: list[int] = []
    refresh = Nearest.refresh
    monkeypatch.setattr(nearest, "FIRST", 1)
    monkeypatch.setattr(
        Nearest, "refresh", lambda self, new: (work.append(len(new)), refresh(self, new))
    )
    picks = kmeans_pp_groups(rows, names, 1, chosen="ab", generator=seeded())
    assert picks == ["d"]  # all rows of c lie on those of b, which they have not seen
    assert len(work) < 15
    assert sum(work) < 9000


def test_a_draw_is_never_of_a_row_without_weight() -> None:
    weights = torch.tensor([0.0, 2, 0, 2, 0], dtype=torch.float64)
    numbers = torch.tensor([0.0, 0.499, 0.5, 1 - 2**-53, 1.0], dtype=torch.float64)
    assert module._draw(weights, numbers).tolist() == [1, 1, 3, 3, 3]


# the picks


@pytest.mark.parametrize("seed", range(24))
def test_picks_with_local_trials_agree_with_the_loop(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = seeded(seed)
    boxes = torch.randn(20, 1 + seed % 4, generator=generator)
    if seed % 5 == 1:
        boxes[12:] = boxes[:8]
    if seed % 5 == 2:
        boxes += 1000
    monkeypatch.setattr(nearest, "BLOCK", 1 + seed % 9)
    monkeypatch.setattr(nearest, "TABLE", 1 + 13 * (seed % 7))
    monkeypatch.setattr(nearest, "KEPT", 2**28 * (seed % 2))
    pairs = torch.randint(20, (30, 2), generator=generator)
    names = [f"image {i % 9}" for i in torch.randperm(30, generator=generator).tolist()]
    chosen = names[: seed % 3]
    power, trials = (1.0, 2.0, 3.0)[seed % 3], 2 + seed % 4
    rows = boxes[pairs].flatten(1).double()
    sizes = Counter(names)
    largest = sum(size == max(sizes.values()) for size in sizes.values())

    def run(features: Tensor, **options: Tensor) -> list[str]:
        return kmeans_pp_groups(
            features, names, 5, chosen=chosen, power=power, local_trials=trials,
            generator=seeded(seed), **options,
        )  # fmt: skip

    source = seeded(seed)
    first = 0 if chosen else int(torch.randint(largest, (), generator=source))

    def uniforms() -> list[float]:
        return torch.rand(trials, generator=source, dtype=torch.float64).tolist()

    slow = kmeans_pp_loop(
        rows.tolist(), names, 5, chosen=chosen, power=power, first=first, uniforms=uniforms
    )
    assert run(boxes, pairs=pairs) == run(rows) == run(rows.float()) == slow


@pytest.mark.parametrize("ways", [{}, {"power": 2.0}, {"power": 2.0, "local_trials": 4}])
def test_picks_do_not_depend_on_form_scale_shift_names_or_blocks(
    ways: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(features: Any, names: Any, **options: Any) -> list[Any]:
        generator = seeded(4)
        return kmeans_pp_groups(features, names, 12, generator=generator, **options, **ways)

    boxes = torch.randint(-40, 40, (60, 10), generator=seeded(1)).float() / 8
    pairs = torch.randint(60, (90, 2), generator=seeded(2))
    numbers = torch.arange(90) // 3
    names = [str(number) for number in numbers.tolist()]
    picks = run(boxes, names, pairs=pairs)
    rows = boxes[pairs].flatten(1)
    before = rows.clone()
    assert run(rows, names) == picks
    assert torch.equal(rows, before)
    assert run(rows.double(), names) == run(rows.half(), names) == picks
    assert run(rows.numpy(), np.array(names)) == picks
    assert run(rows * 4, names) == run(rows + 16, names) == picks
    assert run(torch.cat([rows, torch.zeros(90, 1)], dim=1), names) == picks  # an odd width
    assert [str(number) for number in run(rows, numbers)] == picks
    assert run(boxes.requires_grad_(), names, pairs=pairs.numpy()) == picks
    monkeypatch.setattr(nearest, "BLOCK", 64)
    monkeypatch.setattr(nearest, "TABLE", 200)
    monkeypatch.setattr(nearest, "GATHER", 8)
    assert run(rows, names) == picks


@pytest.mark.parametrize("options", [{}, {"power": 2.0, "local_trials": 3}])
def test_a_smaller_budget_gives_the_beginning(options: dict[str, float]) -> None:
    rows, names = random(40, 6), [str(i // 2) for i in range(40)]
    whole = kmeans_pp_groups(rows, names, 20, generator=seeded(), **options)
    assert sorted(whole) == sorted(set(names))
    for budget in (1, 2, 7):
        part = kmeans_pp_groups(rows, names, budget, generator=seeded(), **options)
        assert part == whole[:budget]


def test_a_read_only_file_of_float16_is_as_good(tmp_path) -> None:
    boxes, pairs = random(50, 16).half(), torch.randint(50, (80, 2), generator=seeded(2))
    names = [i // 2 for i in range(80)]
    np.save(tmp_path / "boxes.npy", boxes.numpy())
    stored = np.load(tmp_path / "boxes.npy", mmap_mode="r")
    picks = kmeans_pp_groups(boxes, names, 9, pairs=pairs, generator=seeded())
    assert kmeans_pp_groups(stored, names, 9, pairs=pairs, generator=seeded()) == picks
    dense = kmeans_pp_groups(stored[:, :8], [*range(50)], 9, generator=seeded())
    assert dense == kmeans_pp_groups(boxes[:, :8], [*range(50)], 9, generator=seeded())


def test_global_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    kmeans_pp_groups(random(9, 2), list("abcdefghi"), 4, generator=seeded())
    assert torch.equal(torch.random.get_rng_state(), before)


# what is refused


def test_what_is_wrong_is_refused() -> None:
    rows, names = random(4, 2), list("aabc")

    def refused(match: str, features=rows, groups=names, budget=2, **options) -> None:
        with pytest.raises(ValueError, match=match):
            kmeans_pp_groups(features, groups, budget, generator=seeded(), **options)

    refused("budget = -1", budget=-1)
    refused("power = 0", power=0)
    refused("power = nan", power=math.nan)
    refused("power = inf", power=math.inf)
    refused("local_trials = 0", local_trials=0)
    refused(r"floating \(n, d\).*\(4,\)", features=rows[:, 0])
    refused(r"floating \(n, d\).*int64", features=rows.long())
    refused(r"\(4, 0\)", features=rows[:, :0])
    refused("groups holds 3 ids for 4 rows", groups=names[:3])
    refused("groups holds 4 ids for 2 rows", pairs=torch.zeros(2, 2, dtype=torch.int64))
    refused("hashable", groups=[[1], [2], [3], [4]])
    refused(r"pairs must be int64 \(p, 2\).*\(4, 3\)", pairs=torch.zeros(4, 3).long())
    refused("pairs must be int64.*float32", pairs=torch.zeros(4, 2))
    refused(
        r"pairs\[1\] = \[0, 4\].*0\.\.\.3", pairs=torch.tensor([[0, 1], [0, 4], [1, 1], [2, 2]])
    )
    refused(r"pairs\[0\] = \[-1, 0\]", pairs=torch.tensor([[-1, 0]] * 4))


@pytest.mark.parametrize("options", [{}, {"local_trials": 2}])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_named(bad: float, options: dict[str, int]) -> None:
    rows = random(5, 4)
    rows[3, 1] = bad
    with pytest.raises(FloatingPointError, match=r"features\[3\] is not finite"):
        kmeans_pp_groups(rows, list("aabcd"), 1, generator=seeded(), **options)
    pairs = torch.tensor([[0, 1], [2, 3], [1, 4]])
    with pytest.raises(FloatingPointError, match=r"features\[3\] is not finite"):
        kmeans_pp_groups(rows, list("abc"), 2, pairs=pairs, generator=seeded(), **options)
    unused = torch.tensor([[0, 1], [2, 2], [1, 4]])
    found = kmeans_pp_groups(rows, list("abc"), 3, pairs=unused, generator=seeded(), **options)
    assert sorted(found) == ["a", "b", "c"]
    with pytest.raises(FloatingPointError, match=r"features\[0\] is too large"):
        kmeans_pp_groups(torch.tensor([[1e20], [-1e20]]), [0, 1], 2, generator=seeded(), **options)
