import hashlib
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining.data import regimes
from almining.data.pool import ImageInfo, Pool
from almining.records import Target
from tests.fakes import FlatImages, boxes, flat_pool, labels, target


def test_tags_only_hides_boxes_and_keeps_classes() -> None:
    pool = regimes.tags_only(flat_pool(4))
    assert {pool.target(image_id).state for image_id in pool.ids} == {"tagged"}
    assert [pool.target(image_id).tags for image_id in pool.ids] == [{1}, {2}, {1}, {2}]


def test_ignored_boxes_count_as_present() -> None:
    pool = flat_pool(1).updated(
        {"flat-0": target((0, 0, 4, 4), ignore=torch.tensor([True]))}, cycle=0
    )
    assert regimes.tags_only(pool).target("flat-0").tags == {1}


@pytest.mark.parametrize("tags", [False, True])
def test_unlabelled_keeps_exactly_so_many(tags: bool) -> None:
    pool = regimes.unlabelled(flat_pool(10), keep=3, seed=1, tags=tags)
    states = [pool.target(image_id).state for image_id in pool.ids]
    assert states.count("complete") == 3 and states.count("tagged" if tags else "unlabelled") == 7
    assert pool.ids == flat_pool(10).ids


def test_unlabelled_is_a_function_of_the_seed() -> None:
    def kept(seed: int) -> list[str]:
        pool = regimes.unlabelled(flat_pool(40), keep=5, seed=seed)
        return [image_id for image_id in pool.ids if pool.target(image_id).complete]

    assert kept(3) == kept(3) and kept(3) != kept(4)
    assert kept(0) == ["flat-3", "flat-32", "flat-33", "flat-34", "flat-39"]  # pinned


def test_edges() -> None:
    assert len(regimes.unlabelled(flat_pool(0), keep=0, seed=0)) == 0
    assert regimes.unlabelled(flat_pool(2), keep=2, seed=0).target("flat-1").complete
    with pytest.raises(ValueError, match=r"keep = 3.*between 0 and the pool's 2"):
        regimes.unlabelled(flat_pool(2), keep=3, seed=0)
    unknown = flat_pool(1).updated({"flat-0": Target.unknown()}, cycle=0)
    with pytest.raises(ValueError, match=r"'flat-0' are not known.*unlabelled"):
        regimes.tags_only(unknown)


# sparse, seeds_and_tags, source_target, noisy

CLASSES = ("cat", "dog", "cow")
LEVELS = ("full", "easy", "hard", "extreme", "miss50")


def made(*counts: int, classes: tuple[str, ...] = CLASSES, ignored: bool = True) -> Pool:
    """Image i holds counts[i] boxes, classes in turn, every one told apart, and an ignored box."""
    targets, infos = {}, {}
    for i, n in enumerate(counts):
        rows = n + ignored
        corner = torch.arange(rows, dtype=torch.float32)[:, None] + 100 * i
        targets[f"im-{i}"] = Target(
            torch.cat([corner, corner + 1, corner + 21, corner + 31], dim=1),
            torch.arange(rows) % len(classes) + 1,
            ignore=torch.arange(rows) == (0 if ignored else -1),
            origin=tuple(f"mined:m:{row}" if row % 2 else "human" for row in range(rows)),
            scores=torch.arange(rows, dtype=torch.float32) / 8,
            negatives=boxes((0, 0, 3, 3)),
        )
        infos[f"im-{i}"] = ImageInfo(size=(500 + 100 * i, 400 + 100 * i), video="v", frame=i)
    return Pool(classes, targets, FlatImages(), infos=infos)


def shuffled(pool: Pool) -> Pool:
    return pool.subset(pool.ids[::-1])


def rows(one: Target) -> list[tuple[object, ...]]:
    """Every box with all that belongs to it."""
    fields = (one.labels.tolist(), one.ignore.tolist(), one.origin, one.scores.tolist())
    return list(zip(map(tuple, one.boxes.tolist()), *fields, strict=True))


def told(pool: Pool) -> dict[str, tuple[object, ...]]:
    """All that is known of each image."""
    targets = {image_id: pool.target(image_id) for image_id in pool.ids}
    return {
        key: (repr(rows(one)), one.tags, one.absent, one.complete, one.negatives.tolist())
        for key, one in targets.items()
    }


def digest(*pools: Pool) -> str:
    """Of classes, ids, boxes to 1/10 pixel, labels, flags."""
    said = []
    for pool in pools:
        for image_id in sorted(pool.ids):
            one = pool.target(image_id)
            found = [[round(10 * x) for x in box] for box in one.boxes.tolist()]
            tags = None if one.tags is None else sorted(one.tags)
            flags = (one.ignore.tolist(), one.complete, tags, list(one.origin))
            said.append((pool.classes, image_id, found, one.labels.tolist(), flags))
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def clear(one: Target) -> int:
    return int((~one.ignore).sum())


@pytest.mark.parametrize(
    ("level", "left"),
    [("easy", [0, 1, 1, 2, 6]), ("hard", [0, 1, 1, 2, 4]), ("extreme", [0, 1, 1, 1, 1])],
)
def test_sparse_by_hand(level: str, left: list[int]) -> None:
    pool = made(0, 1, 2, 3, 7)
    thin = regimes.sparse(pool, level, seed=0)
    for image_id, n in zip(pool.ids, left, strict=True):
        before, after = pool.target(image_id), thin.target(image_id)
        assert clear(after) == n and int(after.ignore.sum()) == 1  # the ignored one is never erased
        kept = rows(after)
        assert [row for row in rows(before) if row in kept] == kept  # whole rows, in order
        assert torch.equal(after.negatives, before.negatives)
    assert {told(thin)[key][1:4] for key in pool.ids} == {(None, None, False)}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 99), st.booleans())
def test_sparse_counts_and_nests(counts: list[int], seed: int, ignored: bool) -> None:
    pool = made(*counts, ignored=ignored)
    easy, hard, extreme, half = (regimes.sparse(pool, one, seed=seed) for one in LEVELS[1:])
    for image_id, n in zip(pool.ids, counts, strict=True):
        found = [set(rows(p.target(image_id))) for p in (easy, hard, extreme)]
        assert found[0] >= found[1] >= found[2]
        wanted = [n - 1, n - n // 2, 1] if n > 1 else [n] * 3
        assert [len(one) - ignored for one in found] == wanted
    for name, label in zip(CLASSES, (1, 2, 3), strict=True):
        had, has = (
            sum(int(((one.labels == label) & ~one.ignore).sum()) for one in map(p.target, p.ids))
            for p in (pool, half)
        )
        assert has == had - had // 2, name


def test_sparse_full_is_everything_and_miss50_may_take_the_last() -> None:
    pool = made(1, 2, 0)
    assert told(regimes.sparse(pool, "full", seed=0)) == told(pool)
    alone = flat_pool(40, classes=("dark",))
    states = [one.state for one in map(regimes.sparse(alone, "miss50", seed=0).target, alone.ids)]
    assert Counter(states) == {"sparse": 20, "unlabelled": 20}
    extreme = regimes.sparse(alone, "extreme", seed=0)
    assert {extreme.target(image_id).state for image_id in alone.ids} == {"sparse"}
    empty = regimes.sparse(made(0, ignored=False), "easy", seed=0).target("im-0")
    assert empty.state == "unlabelled" and empty.known_absent(1) is False


def test_sparse_forgets_what_was_known_absent() -> None:
    sure = target((0, 0, 4, 4), tags=frozenset({1}), absent=frozenset({2}))
    thin = regimes.sparse(flat_pool(1).updated({"flat-0": sure}, cycle=0), "easy", seed=0)
    assert not thin.target("flat-0").known_absent(2) and thin.target("flat-0").tags is None


def test_sparse_erases_any_box_as_often() -> None:
    pool = made(*[4] * 600, ignored=False)
    thin = regimes.sparse(pool, "extreme", seed=0)
    left = Counter(int(one.boxes[0, 0]) % 100 for one in map(thin.target, pool.ids))
    assert all(110 <= left[row] <= 190 for row in range(4))  # 150, sd 10.6


@pytest.mark.parametrize("level", LEVELS[1:])
def test_sparse_does_not_depend_on_order(level: str) -> None:
    pool = made(5, 0, 3, 7, 2)
    whole = told(regimes.sparse(pool, level, seed=4))
    assert told(regimes.sparse(shuffled(pool), level, seed=4)) == whole
    assert told(regimes.sparse(pool, level, seed=5)) != whole
    if level != "miss50":  # nor on the size
        part = told(regimes.sparse(pool.subset(["im-3", "im-0"]), level, seed=4))
        assert part == {key: whole[key] for key in ("im-3", "im-0")}


@pytest.mark.parametrize("unit", ["boxes", "images"])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 9))
def test_seeds_come_as_close_as_they_can(
    unit: str, counts: list[int], goal: int, seed: int
) -> None:
    pool = made(*counts)
    sizes = {key: sum(regimes.boxes_per_class(pool.subset([key]), unit=unit).values())
             for key in pool.ids}  # fmt: skip
    goal = min(goal, sum(sizes.values()))
    if goal == 0:
        return
    start = regimes.seeds_and_tags(pool, goal / 3, seed=seed, unit=unit)
    seeds = [key for key in pool.ids if start.target(key).complete]
    total = sum(regimes.boxes_per_class(start, unit=unit).values())
    assert total == sum(sizes[key] for key in seeds) and seeds
    for key in pool.ids:
        one = start.target(key)
        if key in seeds:
            assert told(start)[key] == told(pool)[key]
            continue
        assert one.state == "tagged" and one.tags == pool.target(key).present
        assert not sizes[key] or abs(total + sizes[key] - goal) > abs(total - goal)
        if total > goal:  # only the smallest went beyond
            assert not sizes[key] or sizes[key] >= min(sizes[one] for one in seeds)
    largest = max(sizes[key] for key in seeds)
    assert total <= goal or len(seeds) == 1 or total - goal <= largest / 2


def test_seeds_by_hand() -> None:
    """Two cats first would leave the dogs out: the class with fewest is served next."""
    lone = [target((0, 0, 4, 4), label=1 + (i >= 90)) for i in range(100)]
    pool = Pool(("cat", "dog"), {f"im-{i}": one for i, one in enumerate(lone)}, FlatImages())
    start = regimes.seeds_and_tags(pool, 4, seed=0, unit="boxes")
    assert regimes.boxes_per_class(start) == {"cat": 4, "dog": 4}
    start = regimes.seeds_and_tags(
        pool, 12.6, seed=0, unit="boxes"
    )  # 25.2 boxes: 25 is closest, dogs run out
    assert regimes.boxes_per_class(start) == {"cat": 15, "dog": 10}
    assert repr(start) == "Pool(100: 25 complete, 75 tagged)"


def test_seeds_count_boxes_or_images() -> None:
    pool = made(6, 6, 6, 6, ignored=False)  # two of each class in each
    assert regimes.boxes_per_class(pool) == {"cat": 8, "dog": 8, "cow": 8}
    assert regimes.boxes_per_class(pool, unit="images") == {"cat": 4, "dog": 4, "cow": 4}
    for unit, seeds in (("boxes", 1), ("images", 2)):
        start = regimes.seeds_and_tags(pool, 2, seed=0, unit=unit)
        assert repr(start) == f"Pool(4: {seeds} complete, {4 - seeds} tagged)"
    smallest = regimes.seeds_and_tags(made(9, 5, 7), 0.1, seed=0, unit="boxes")  # one there must be
    assert smallest.target("im-1").complete and regimes.boxes_per_class(smallest)["dog"] == 2


def test_seeds_do_not_depend_on_order_and_need_no_complete_pool() -> None:
    pool = made(*range(12))
    start = told(regimes.seeds_and_tags(pool, 5, seed=1, unit="boxes"))
    assert told(regimes.seeds_and_tags(shuffled(pool), 5, seed=1, unit="boxes")) == start
    assert told(regimes.seeds_and_tags(pool, 5, seed=2, unit="boxes")) != start
    some = regimes.unlabelled(pool, keep=8, seed=0, tags=True)
    more = regimes.seeds_and_tags(some, 2, seed=0, unit="boxes")
    assert not [key for key in pool.ids if more.target(key).complete > some.target(key).complete]
    assert sum(regimes.boxes_per_class(more).values()) == 6  # met to the box
    some = target((0, 0, 4, 4), tags=frozenset({1}), complete=False)  # sparse, but tagged
    mixed = flat_pool(3, classes=("dark",)).updated({"flat-0": some}, cycle=0)
    assert regimes.boxes_per_class(mixed) == {"dark": 2}
    start = regimes.seeds_and_tags(mixed, 2, seed=0, unit="boxes")
    assert [start.target(key).state for key in start.ids] == ["tagged", "complete", "complete"]


def test_source_target_by_hand() -> None:
    pool = made(3, 1, 0, ignored=False).updated(
        {"im-1": target((0, 0, 4, 4), label=2, ignore=torch.tensor([True]))}, cycle=3
    )
    source, rest = regimes.source_target(pool, ["cow", "cat"])
    assert (source.classes, rest.classes) == (("cat", "cow"), ("dog",))
    assert (source.ids, rest.ids) == (("im-0",), ("im-0", "im-1"))  # empty: in neither
    whole = rows(pool.target("im-0"))
    (box0, _, *more0), (box1, _, *more1), (box2, _, *more2) = whole
    assert rows(source.target("im-0")) == [(box0, 1, *more0), (box2, 2, *more2)]
    assert rows(rest.target("im-0")) == [(box1, 1, *more1)]
    assert rest.target("im-1").ignore.tolist() == [True]  # an ignored box is there
    assert all(one.complete for one in map(rest.target, rest.ids))
    assert rest.info("im-0") == pool.info("im-0") and (rest.cycle, source.cycle) == (3, 0)
    assert torch.equal(rest.image("im-1"), pool.image("im-1"))
    assert rest.target("im-0").negatives.tolist() == [[0, 0, 3, 3]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=6), st.sets(st.sampled_from(CLASSES), max_size=2))
def test_source_target_splits_every_box_once(counts: list[int], chosen: set[str]) -> None:
    pool, chosen = made(*counts), chosen or {"dog"}
    parts = regimes.source_target(pool, sorted(chosen))
    assert regimes.source_target(pool, sorted(chosen)[::-1])[0].classes == parts[0].classes
    for image_id in pool.ids:
        got, whole = Counter(), pool.target(image_id)
        for part in parts:
            if image_id in part:
                one = part.target(image_id)
                assert len(one) and one.complete
                names = [part.classes[label - 1] for label in one.labels.tolist()]
                got.update((tuple(b), n) for b, n in zip(one.boxes.tolist(), names, strict=True))
        names = [CLASSES[label - 1] for label in whole.labels.tolist()]
        wanted = Counter((tuple(b), n) for b, n in zip(whole.boxes.tolist(), names, strict=True))
        assert got == wanted


def test_source_target_keeps_tags_true_to_the_part() -> None:
    both = Target(boxes((0, 0, 4, 4), (1, 1, 5, 5)), labels(1, 2), tags=frozenset({1, 2}))
    parts = regimes.source_target(flat_pool(1).updated({"flat-0": both}, cycle=0), ["light"])
    assert [part.target("flat-0").present for part in parts] == [{1}, {1}]


def test_noisy_at_the_ends() -> None:
    pool = made(4, 0, 9)
    assert told(regimes.noisy(pool, seed=0)) == told(pool)
    for image_id in pool.ids:
        whole = pool.target(image_id)
        none = regimes.noisy(pool, drop=1.0, seed=0).target(image_id)
        assert rows(none) == rows(whole)[:1] and none.complete  # the ignored box alone
        wrong = regimes.noisy(pool, wrong_class=1.0, seed=0).target(image_id)
        changed = (wrong.labels != whole.labels).tolist()
        assert changed == (~whole.ignore).tolist()
        assert torch.equal(wrong.boxes, whole.boxes)
        moved = regimes.noisy(pool, jitter=0.1, seed=0).target(image_id)
        assert torch.equal(moved.labels, whole.labels)
        assert (moved.boxes != whole.boxes).any(dim=1).tolist() == (~whole.ignore).tolist()
    two = regimes.noisy(made(5, classes=("a", "b"), ignored=False), wrong_class=1, seed=0)
    assert two.target("im-0").labels.tolist() == [2, 1, 2, 1, 2]  # the only other one


def test_noisy_rates_are_met() -> None:
    pool = made(*[10] * 300, ignored=False)
    left = regimes.noisy(pool, drop=0.3, seed=0)
    assert 0.66 < sum(len(left.target(key)) for key in pool.ids) / 3000 < 0.74
    wrong = regimes.noisy(pool, wrong_class=0.5, seed=0)
    pairs = Counter(
        (a, b)
        for key in pool.ids
        for a, b in zip(
            pool.target(key).labels.tolist(), wrong.target(key).labels.tolist(), strict=True
        )
    )
    for before in (1, 2, 3):
        n = sum(pairs[before, after] for after in (1, 2, 3))
        shares = [pairs[before, after] / n for after in (1, 2, 3)]
        wanted = [0.5 if after == before else 0.25 for after in (1, 2, 3)]
        assert shares == pytest.approx(wanted, abs=0.06)
    moved = regimes.noisy(pool, jitter=0.05, seed=0)
    inside = [key for key in pool.ids if key != "im-0"]  # nothing is clipped there
    by = torch.cat([moved.target(key).boxes - pool.target(key).boxes for key in inside])
    assert by.mean(dim=0).abs().max() < 0.1
    wanted = torch.tensor([21.0, 30, 21, 30]) * 0.05  # width 21, height 30
    torch.testing.assert_close(by.std(dim=0), wanted, rtol=0.06, atol=0)


def test_noisy_boxes_stay_boxes_inside_the_image() -> None:
    pool = made(*[10] * 60)
    wild = regimes.noisy(pool, jitter=1.0, seed=0)
    for key in pool.ids:
        found, (height, width) = wild.target(key).boxes, pool.info(key).size
        assert bool((found[:, 2:] > found[:, :2]).all()) and float(found.min()) >= 0
        assert bool((found[:, 2:] <= torch.tensor([width, height])).all())
    edge = flat_pool(1).updated({"flat-0": target(*[(0, 0, 10, 10)] * 50)}, cycle=0)
    free = regimes.noisy(edge, jitter=0.1, seed=0).target("flat-0")  # size not known: not clipped
    assert bool((free.boxes < 0).any()) and free.complete


def test_noisy_keeps_the_errors_of_lower_and_of_other_rates() -> None:
    pool = made(9, 8, ignored=False)
    low, high = (regimes.noisy(pool, drop=rate, seed=3) for rate in (0.3, 0.6))
    every = regimes.noisy(pool, drop=0.3, jitter=0.1, wrong_class=0.4, seed=3)
    for key in pool.ids:
        assert set(rows(high.target(key))) < set(rows(low.target(key)))
        assert every.target(key).scores.tolist() == low.target(key).scores.tolist()


def test_noisy_is_drawn_per_image() -> None:
    pool, rates = made(5, 3, 8), {"jitter": 0.1, "drop": 0.2, "wrong_class": 0.3}
    whole = told(regimes.noisy(pool, **rates, seed=1))
    assert told(regimes.noisy(shuffled(pool), **rates, seed=1)) == whole
    assert told(regimes.noisy(pool.subset(["im-2"]), **rates, seed=1))["im-2"] == whole["im-2"]
    assert told(regimes.noisy(pool, **rates, seed=2)) != whole


DIGESTS = {
    "full": "76c35595e4285499",
    "easy": "af912f0a140f7d32",
    "hard": "7bfbd644bcd40c01",
    "extreme": "b182439b0006a605",
    "miss50": "c723e741820e90b8",
    "seeds": "b2561de3e1178d9f",
    "seeds of images": "e5bec17c29570ab8",
    "split": "589f514ce6127f0e",
    "noisy": "3662400d402bab5a",
}


@pytest.mark.parametrize("name", [*LEVELS, "seeds", "seeds of images", "split", "noisy"])
def test_digests_are_pinned(name: str) -> None:
    pool = made(5, 0, 3, 7, 2, 1)
    state = torch.get_rng_state()
    if name in LEVELS:
        found = digest(regimes.sparse(pool, name, seed=0))
    elif name == "split":
        found = digest(*regimes.source_target(pool, ["dog"]))
    elif name == "noisy":
        found = digest(regimes.noisy(pool, jitter=0.1, drop=0.2, wrong_class=0.3, seed=0))
    else:
        unit = "images" if name.endswith("images") else "boxes"
        found = digest(regimes.seeds_and_tags(pool, 2, seed=0, unit=unit))
    assert found == DIGESTS[name]
    assert torch.equal(state, torch.get_rng_state())  # no global generator was touched
    assert told(pool) == told(made(5, 0, 3, 7, 2, 1))  # nor the pool


def test_pools_of_none_and_of_one() -> None:
    none, one = made(), made(1, ignored=False)
    for level in LEVELS:
        assert len(regimes.sparse(none, level, seed=0)) == 0
        assert len(regimes.sparse(one, level, seed=0).target("im-0")) == 1  # floor(1 / 2) = 0
    assert len(regimes.noisy(none, jitter=0.5, drop=0.5, wrong_class=0.5, seed=0)) == 0
    assert [len(part) for part in regimes.source_target(none, ["cat"])] == [0, 0]
    assert [len(part) for part in regimes.source_target(one, ["cat"])] == [1, 0]
    assert regimes.boxes_per_class(none) == {"cat": 0, "dog": 0, "cow": 0}
    assert repr(regimes.seeds_and_tags(one, 1 / 3, seed=0)) == "Pool(1: 1 complete)"
    assert len(regimes.noisy(Pool((), {}, FlatImages()), seed=0)) == 0


def rejected(match: str, what: str, *arguments: object, **more: object) -> object:
    return pytest.param(match, what, arguments, more, id=f"{what}-{match[:30]}")


@pytest.mark.parametrize(
    ("match", "what", "arguments", "more"),
    [
        rejected("level = 'most': give one of full, easy", "sparse", "most", seed=0),
        rejected("per_class = 0: give a positive", "seeds_and_tags", 0, seed=0),
        rejected("per_class = -1: give a positive", "seeds_and_tags", -1, seed=0),
        rejected("per_class = nan: give a positive", "seeds_and_tags", float("nan"), seed=0),
        rejected("at most 2.66667 boxes", "seeds_and_tags", 3, seed=0, unit="boxes"),
        rejected("at most 2 images per class", "seeds_and_tags", 3, seed=0),
        rejected("unit = 'videos': give 'boxes'", "seeds_and_tags", 1, seed=0, unit="videos"),
        rejected("'cart', 'dag'.* not among cat, dog", "source_target", ["dag", "cat", "cart"]),
        rejected("source_classes: .*; name some classes", "source_target", []),
        rejected("'cow'.*leave some out", "source_target", CLASSES),
        rejected("jitter = -0.1: give a rate", "noisy", jitter=-0.1, seed=0),
        rejected("drop = 1.5: give a rate", "noisy", drop=1.5, seed=0),
        rejected("wrong_class = nan: give a rate", "noisy", wrong_class=float("nan"), seed=0),
    ],
)  # fmt: skip
def test_rejected(match: str, what: str, arguments: tuple, more: dict) -> None:
    with pytest.raises(ValueError, match=match):
        getattr(regimes, what)(made(3, 5), *arguments, **more)


def test_rejected_pools() -> None:
    thin = regimes.sparse(made(3, 5), "easy", seed=0)
    for level in LEVELS:
        with pytest.raises(ValueError, match="image 'im-0' is sparse; give complete images"):
            regimes.sparse(thin, level, seed=0)
    with pytest.raises(ValueError, match="image 'im-0' is sparse"):
        regimes.source_target(thin, ["cat"])
    with pytest.raises(ValueError, match="image 'im-0' is tagged"):
        regimes.noisy(regimes.tags_only(made(3)), seed=0)
    with pytest.raises(ValueError, match=r"present in .* are not known .unlabelled"):
        regimes.seeds_and_tags(regimes.unlabelled(made(3, 3), keep=1, seed=0), 1, seed=0)
    with pytest.raises(ValueError, match="at most 0 images per class"):
        regimes.seeds_and_tags(Pool((), {}, FlatImages()), 1, seed=0)
    with pytest.raises(ValueError, match=r"wrong_class = 0.1: with .'dark',. no other can"):
        regimes.noisy(flat_pool(1, classes=("dark",)), wrong_class=0.1, seed=0)
