from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from almining.cycle import History, run
from almining.data import regimes
from almining.data.scenes import make_scenes
from almining.label import Simulated
from almining.papers import bib
from almining.papers.bib import recipes
from almining.papers.bib.looking import kept_pairs
from almining.plain import from_plain, to_plain
from almining.reasons import shown
from almining.recipe import ask_all
from almining.records import Answer, Detections, Evidence, Request, Target
from almining.rng import generator
from tests.fakes import target
from tests.oracles import box_pairs, kmeans_pp_loop, kmeans_pp_probabilities
from tests.papers.bib.told import (
    ALONE,
    OTHER,
    PAIR,
    PART,
    WHOLE,
    Told,
    pool_of,
    small_mist,
    truth_of,
)
from tests.select.test_groups import assert_drawn_from

TOY = bib.Config.toy()
GREEDY = replace(TOY, power=2.0, local_trials=3)  # every number drawn decides, so picks are exact
STRATEGIES = (bib.recipe, bib.u_bib, bib.u_plus_bib)
FILLED = "ignore:only .* images hold pairs:UserWarning"


def ask(made, detector=None, pool=None, budget: int = 3, seed: int = 0, **more) -> list[Request]:
    detector, pool = detector or Told(), pool_of(20) if pool is None else pool
    return made.query(detector, pool, budget, generator=generator(seed), **more)


def ids(requests) -> list[str]:
    return [request.image_id for request in requests]


def numbers(requests) -> list[int]:
    return [int(image_id.split("-")[1]) for image_id in ids(requests)]


# which images, by a slow oracle of Algorithm 2


def slow_pairs(detector: Told, pool, config: bib.Config) -> dict[str, tuple[Tensor, list]]:
    """Boxes and pairs of each open image that has some."""
    found = {}
    for image_id in pool.ids:
        known = pool.target(image_id)
        if known.complete:
            continue
        one = detector.detect([pool.image(image_id)])[0]
        rules = {"min_ratio": config.min_ratio, "min_containment": config.min_containment}
        tags = known.tags if config.tagged_only else None
        pairs = box_pairs(
            one.boxes.tolist(),
            one.labels.tolist(),
            one.scores.tolist(),
            min_score=config.min_score,
            tags=tags,
            **rules,
        )
        if pairs:
            found[image_id] = one.boxes, pairs
    return found


def slow_rows(detector: Told, found) -> tuple[list[list[float]], list[str]]:
    rows, groups = [], []
    for image_id, (boxes, pairs) in found.items():
        looks = detector.looks(int(image_id.split("-")[1]), boxes).half().double()
        for small, large in pairs:
            rows.append([*looks[small].tolist(), *looks[large].tolist()])
            groups.append(image_id)
    return rows, groups


def slow_picks(detector: Told, pool, budget: int, config: bib.Config, seen, source) -> list[str]:
    found = slow_pairs(detector, pool, config)
    rows, groups = slow_rows(detector, found | seen)
    first = 0
    if not seen:
        most = max(Counter(groups).values())
        ties = sum(count == most for count in Counter(groups).values())
        first = int(torch.randint(ties, (), generator=source))

    def uniforms() -> list[float]:
        draws = torch.rand(config.local_trials, generator=source, dtype=torch.float64)
        return draws.tolist()

    return kmeans_pp_loop(
        rows, groups, budget, chosen=list(seen), power=config.power, first=first, uniforms=uniforms
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_images_asked_for_are_those_of_the_loop(seed: int) -> None:
    config = replace(
        GREEDY,
        min_ratio=(2.0, 3.0, 4.0)[seed % 3],
        min_score=0.1 * (seed % 2),
        tagged_only=seed < 3,
        power=1.0 + seed % 2,
    )
    tags = [frozenset(), {1}, {2}, {1, 2}, None]
    pool = pool_of(40, lambda i: Target.unknown(tags[(i + seed) % 5]))
    asked = ask(bib.recipe(config), Told(), pool, 6, seed)
    assert ids(asked) == slow_picks(Told(), pool, 6, config, {}, generator(seed))
    found = slow_pairs(Told(), pool, config)
    assert set(bib.find(Told(), pool, config=config)) == set(found)
    for one in asked:
        boxes, pairs = found[one.image_id]
        data = one.evidence.data
        shown = data["boxes"][data["pairs"]]  # (p, 2, 4)
        assert torch.equal(shown, boxes[torch.tensor(pairs)])


def look_once(monkeypatch: pytest.MonkeyPatch, detector: Told, pool) -> None:
    """Let what is drawn again and again be found only once."""
    found = bib.find(detector, pool)
    monkeypatch.setattr(recipes, "find", lambda *args, **named: found)


@pytest.mark.parametrize("turned", [False, True])
def test_a_draw_follows_the_law_of_the_paper_in_whatever_order_images_come(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        i: [(WHOLE, 1, 0.9), ((1.0, 1, 1 + side, 1 + side), 1, 0.8)]
        for i, side in enumerate((1, 1, 3, 5, 6))
    }
    rows[0] = [*rows[0], (OTHER, 1, 0.7)]
    detector, pool = Told(rows), pool_of(5)
    points, groups = slow_rows(detector, slow_pairs(detector, pool, bib.Config()))
    expected = kmeans_pp_probabilities(points, groups, 2, chosen=["im-0"], power=1.0)
    pool = pool.subset(pool.ids[::-1]) if turned else pool
    assert (pool.ids[0] == "im-4") == turned
    look_once(monkeypatch, detector, pool)
    counts: Counter[Any] = Counter()
    for seed in range(150):
        first, *rest = ids(ask(bib.recipe(bib.Config()), detector, pool, 3, seed))
        assert first == "im-0"  # the image with most pairs
        counts[tuple(rest)] += 1
    assert_drawn_from(counts, expected)


# Algorithm 1: pairs of earlier cycles, through whole runs


def go(made, *, n: int = 24, cycles: int = 3, pool=None, oracle=None, **more) -> History:
    given = {"budget": 2, "cycles": cycles, "seed": 5, "progress": False} | more
    start = pool_of(n) if pool is None else pool
    return run(made, Told(), start, oracle=oracle or Simulated(truth_of(n)), **given)


STEPS = replace(GREEDY, steps_per_image=1.0, batch=2, lr=0.05, optimizer="sgd")


@pytest.mark.parametrize("keep", [True, False])
def test_pairs_count_as_they_were_when_asked_for_and_look_as_they_do_now(keep: bool) -> None:
    config = replace(STEPS, keep_pairs=keep)
    seen: dict[str, Any] = {}
    last = go(bib.recipe(config))
    stages = set()
    for cycle in (1, 2, 3):
        before = go(bib.recipe(config), cycles=cycle - 1)
        stages.add(before.detector.stage)
        source = generator(5, "query", cycle)
        told = {i: seen[i] for i in before.pool.ids if i in seen} if keep else {}
        picks = slow_picks(before.detector, before.pool, 2, config, told, source)
        assert list(last.rows[cycle].picked) == picks
        found = slow_pairs(before.detector, before.pool, config)
        seen |= {image_id: found[image_id] for image_id in picks}
    assert len(stages) == 3  # what is found differs from cycle to cycle


def test_what_is_kept_is_of_labelled_images_and_the_latest() -> None:
    pool = pool_of(6, lambda i: target() if i != 4 else Target.unknown({1}))

    def asked(i: int, kind: str, width: float) -> Request:
        data = {
            "boxes": torch.tensor([[0, 0, width, 9]]),
            "labels": torch.tensor([1]),
            "scores": torch.ones(1),
            "pairs": torch.tensor([[0, 0]]),
        }
        return ask_all(f"im-{i}", Evidence(kind, data, "why"))

    plain = Request("r", "im-5", "complete")
    told = [asked(3, "pairs", 4.0), asked(1, "pairs", 5.0), asked(3, "pairs", 6.0)]
    told += [asked(2, "random", 7.0), asked(4, "pairs", 8.0), asked(9, "pairs", 9.0), plain]
    found = kept_pairs(pool, told)
    assert {i: float(one.detections.boxes[0, 2]) for i, one in found.items()} == {
        "im-1": 5.0,
        "im-3": 6.0,
    }


@pytest.mark.parametrize("make", STRATEGIES)
def test_a_run_that_is_stopped_goes_on_to_the_same_picks(make, tmp_path: Path) -> None:
    class Dies:
        """Answers one request, and then there is none to ask."""

        def __init__(self) -> None:
            self.left = 1

        def ask(self, requests, pool):
            for answer in Simulated(truth_of(24)).ask(requests, pool):
                if not self.left:
                    raise RuntimeError("killed")
                self.left -= 1
                yield answer

    whole = go(make(STEPS))
    for _ in range(6):
        try:
            go(make(STEPS), run_dir=tmp_path, oracle=Dies())
            break
        except RuntimeError:
            pass
    else:
        pytest.fail("it never ends")
    again = go(make(STEPS), run_dir=tmp_path)
    assert again.to_json() == whole.to_json()
    assert again.detector.stage == whole.detector.stage
    one = go(make(STEPS), run_dir=tmp_path / "by cycles", cycles=1)
    assert len(one.rows) == 2
    assert go(make(STEPS), run_dir=tmp_path / "by cycles").to_json() == whole.to_json()


def test_images_that_were_drawn_at_random_bring_their_pairs_along_too() -> None:
    random = [
        one
        for one in ask(bib.u_plus_bib(), Told(dict.fromkeys(range(9), PAIR)), pool_of(12), 8)
        if "drawn at random" in one.evidence.text
    ]
    assert {one.evidence.kind for one in random} == {"pairs", "random"}
    for one in random:
        assert (one.evidence.kind == "pairs") == (int(one.image_id[3:]) < 9)


# the two variants


def test_u_bib_is_uniform_over_images_with_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = dict.fromkeys(range(6), PAIR) | dict.fromkeys(range(6, 12), ALONE)
    pool = pool_of(12)
    look_once(monkeypatch, Told(said), pool)
    counts = Counter(
        number
        for seed in range(200)
        for number in numbers(ask(bib.u_bib(), Told(said), pool, 3, seed))
    )
    assert set(counts) == set(range(6)) and all(60 < count < 140 for count in counts.values())
    text = ask(bib.u_bib(), Told(said), pool_of(12))[0].evidence.text
    assert text == "box in box, drawn at random: 1 of cat"


@pytest.mark.parametrize(("budget", "by_pairs"), [(0, 0), (1, 1), (2, 1), (5, 3), (6, 3)])
def test_half_of_u_plus_bib_is_bibs_in_turn(budget: int, by_pairs: int) -> None:
    asked = ask(bib.u_plus_bib(GREEDY), budget=budget)
    assert ids(asked[::2]) == ids(ask(bib.recipe(GREEDY), budget=by_pairs))
    assert len({*ids(asked)}) == budget
    for turn, one in enumerate(asked):
        assert ("at random" in one.evidence.text) == bool(turn % 2)


def test_the_random_half_of_u_plus_bib_is_uniform_over_all_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, pool = {0: PAIR, 1: PAIR}, pool_of(8)
    look_once(monkeypatch, Told(said), pool)
    counts = Counter(
        numbers(ask(bib.u_plus_bib(), Told(said), pool, 2, seed))[1] for seed in range(140)
    )
    assert set(counts) == set(range(8))
    assert 0 < counts[0] < 25 and all(6 < counts[i] < 40 for i in range(2, 8))


# too few, none, equal


@pytest.mark.parametrize("make", STRATEGIES)
def test_a_budget_above_the_images_with_pairs_is_filled_at_random_and_said_so(make) -> None:
    said = {3: PAIR, 5: PAIR}
    with pytest.warns(
        UserWarning, match="hold pairs above a score of 0.1: drawn at random, . of [458] "
    ):
        asked = ask(make(), Told(said), pool_of(12), 8)
    assert len({*ids(asked)}) == 8 and {3, 5} <= {*numbers(asked)}
    for one in asked:
        if one.evidence.kind == "random":
            assert "drawn at random" in one.evidence.text
    if make is not bib.u_plus_bib:
        assert {*numbers(asked[:2])} == {3, 5}
        assert (
            asked[2].evidence.text
            == "only 2 images hold pairs above a score of 0.1: drawn at random"
        )


def test_what_fills_up_is_uniform_over_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, pool = Told({3: PAIR, 5: PAIR}), pool_of(12)
    look_once(monkeypatch, detector, pool)
    counts: Counter[int] = Counter()
    for seed in range(100):
        with pytest.warns(UserWarning, match="only 2"):
            counts.update(numbers(ask(bib.u_bib(), detector, pool, 5, seed)[2:]))
    assert set(counts) == set(range(12)) - {3, 5} and 10 < min(counts.values())


@pytest.mark.parametrize("make", STRATEGIES)
def test_no_pair_no_open_image_one_image_no_image(make) -> None:
    with pytest.warns(UserWarning, match="only 0 images hold pairs"):
        assert len(ask(make(), Told({0: ALONE}), pool_of(5), 4)) == 4
    done = pool_of(5, lambda i: target((2, 2, 9, 9)))
    assert ask(make(), pool=done) == [] and ask(make(), pool=pool_of(0)) == []
    assert ids(ask(make(), Told({0: PAIR}), pool_of(1), 9)) == ["im-0"]
    assert ask(make(), budget=0) == []


@pytest.mark.parametrize("make", STRATEGIES)
def test_equal_features_everywhere_are_drawn_from_all_alike(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(Told):
        def looks(self, number: int, boxes: Tensor) -> Tensor:
            return torch.ones(len(boxes), 3)

    detector, pool = Same(dict.fromkeys(range(10), PAIR)), pool_of(10)
    look_once(monkeypatch, detector, pool)
    counts = Counter(n for seed in range(60) for n in numbers(ask(make(), detector, pool, 4, seed)))
    assert set(counts) == set(range(10)) and min(counts.values()) > 8


def test_an_image_without_tags_counts_all_classes_and_a_tag_nothing_supports_none() -> None:
    tags = {0: None, 1: {2}, 2: {1}, 3: frozenset(), 4: {1, 2}}
    pool = pool_of(
        6, lambda i: Target.unknown(tags[i]) if i < 5 else target(label=2, complete=False)
    )
    detector = Told(dict.fromkeys(range(6), PAIR))
    assert list(bib.find(detector, pool)) == ["im-0", "im-2", "im-4", "im-5"]
    every = replace(TOY, tagged_only=False)
    assert list(bib.find(detector, pool, config=every)) == list(pool.ids)


def test_complete_images_are_never_asked_for_again() -> None:
    pool = pool_of(10, lambda i: target((1, 1, 5, 5)) if i % 2 else Target.unknown({1}))
    detector = Told(dict.fromkeys(range(10), PAIR))
    for make in STRATEGIES:
        assert {n % 2 for n in numbers(ask(make(), detector, pool, 5))} == {0}


def test_scores_at_the_cut_and_boxes_without_area_make_no_pair() -> None:
    flat = (1.0, 1, 1, 4)
    said = {
        0: [(WHOLE, 1, 0.9), (PART, 1, 0.1)],
        1: [(WHOLE, 1, 0.9), (flat, 1, 0.9)],
        2: [(WHOLE, 1, 0.9)] * 3,
        3: [(WHOLE, 1, 0.9), (PART, 1, 0.11), (PART, 1, 0.5), (PART, 2, 0.9)],
    }
    (found,) = bib.find(Told(said), pool_of(4)).values()
    assert len(found.detections) == 3 and found.pairs.tolist() == [[1, 0], [2, 0]]


# what must not matter


def test_batches_and_workers_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from almining import predict

    expected = ids(ask(bib.recipe(GREEDY)))
    whole = predict.stream
    for batch, workers in ((1, 0), (3, 0), (7, 1)):

        def stream(*args, **more):
            return whole(*args, **more | {"batch": batch, "workers": workers})  # noqa: B023

        monkeypatch.setattr(predict, "stream", stream)
        assert ids(ask(bib.recipe(GREEDY))) == expected


@pytest.mark.parametrize("make", STRATEGIES)
def test_the_same_seed_asks_for_the_same(make) -> None:
    before = torch.random.get_rng_state()
    assert ids(ask(make())) == ids(ask(make()))
    assert len({tuple(ids(ask(make(), seed=seed))) for seed in range(8)}) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


# what is said, and what is refused


def test_the_reason_is_in_words_and_survives_being_written() -> None:
    said = {0: [*PAIR, (OTHER, 1, 0.7), ((0, 0, 14, 14), 2, 0.6), ((5, 5, 6, 6), 2, 0.5)]}
    (one,) = ask(bib.recipe(), Told(said), pool_of(1))
    assert one.evidence.text == "box in box, unlike those chosen before: 2 of cat, 1 of dog"
    again = from_plain(to_plain(one))
    assert again.evidence.text == one.evidence.text and again.evidence.kind == "pairs"
    assert set(again.evidence.data) == {"boxes", "labels", "scores", "pairs"}
    marks = shown(again, pool_of(1)).marks
    small = [("small", name) for name in ("cat", "cat", "dog")]
    said = [(mark.role, mark.text.split()[0]) for mark in marks]
    assert said == [("large", "cat"), ("large", "dog"), *small]
    for name, value in one.evidence.data.items():
        assert torch.equal(again.evidence.data[name], value)
        assert again.evidence.data[name].dtype == value.dtype
    Detections(*(again.evidence.data[name] for name in ("boxes", "labels", "scores")))


def test_a_detector_without_regions_is_refused_before_training() -> None:
    class Blind(Told):
        regions = None

        def losses(self, images, targets, *, generator):
            raise RuntimeError("trained")

    for make in (bib.recipe, bib.u_plus_bib):
        with pytest.raises(ValueError, match=r"bib needs a detector with regions\(\.\.\.\)"):
            run(make(), Blind(), pool_of(4), oracle=None, budget=1, cycles=1, seed=0)
    assert bib.u_bib().needs == ()


def wrong_features(change) -> Told:
    class Odd(Told):
        def regions(self, images, boxes):
            found = super().regions(images, boxes)
            return [change(one, number) for number, one in enumerate(found)]

    return Odd(dict.fromkeys(range(4), PAIR))


def with_features(one: Detections, features: Tensor | None) -> Detections:
    return Detections(one.boxes, one.labels, one.scores, features=features)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda one, i: with_features(one, None), ValueError, "Odd.regions gives no features"),
        (lambda one, i: one.select(torch.tensor([0])), ValueError, "1 rows for the 2 boxes of"),
        (
            lambda one, i: with_features(one, one.features[:, : 3 + i]),
            ValueError,
            "'im-1' has 4 features where others have 3",
        ),
        (
            lambda one, i: with_features(one, one.features * (70000 if i == 2 else 1)),
            FloatingPointError,
            r"features of 'im-2' reach .*8.4e\+05.* float16",
        ),
        (
            lambda one, i: with_features(one, one.features * torch.nan),
            ValueError,
            r"Detections.features\[0\] is not finite",
        ),
    ],
)
def test_features_that_are_no_use_are_refused_by_name(change, error, says: str) -> None:
    with pytest.raises(error, match=says):
        ask(bib.recipe(), wrong_features(change), pool_of(4))


def test_answers_that_skip_everything_train_nothing_and_the_run_goes_on() -> None:
    class Tired:
        def ask(self, requests, pool):
            for one in requests:
                yield Answer(one.id, verdict="skip", by="me", seconds=1.0)

    history = go(bib.recipe(STEPS), oracle=Tired(), cycles=2)
    assert [row.images for row in history.rows] == [0, 0, 0]
    assert history.detector.stage == 0


@pytest.mark.filterwarnings(FILLED)
@pytest.mark.parametrize("make", STRATEGIES)
@pytest.mark.parametrize("unit", ["boxes", "seconds"])
def test_budgets_in_boxes_and_seconds_take_the_beginning(make, unit: str) -> None:
    budget = {"boxes": 3, "seconds": 30.0}[unit]
    history = go(make(STEPS), unit=unit, budget=budget, cycles=2)
    assert len(history.rows) == 3 and history.rows[2].images > history.rows[1].images > 0
    first = ids(ask(make(STEPS), pool=pool_of(24), budget=24, seed=0))
    assert len(first) == 24 == len(set(first))


# with a detector that learns from tags


@pytest.mark.filterwarnings(FILLED)
def test_two_cycles_with_a_detector_that_learns_from_tags() -> None:
    hidden, test = make_scenes(8, seed=3, size=64), make_scenes(1, seed=900_000, size=64)
    detector = small_mist(hidden.classes)
    start = regimes.unlabelled(hidden, keep=0, seed=0, tags=True)
    config = replace(TOY, steps_per_image=0.5, batch=2, min_score=0.0)
    given = {"oracle": Simulated(hidden), "test": test, "budget": 2, "cycles": 2, "seed": 0}
    history = run(bib.recipe(config), detector, start, **given, progress=False)
    assert [row.images for row in history.rows] == [0, 2, 4]
    found = bib.find(detector, start, config=config)
    assert len(found) > 2 and {*history.rows[1].picked} <= set(found)
    for made in (bib.rivals.loss(config), bib.rivals.kmeans_regions(config)):
        assert len({*ids(ask(made, detector, start, 3))}) == 3


def test_weights_that_diverged_are_named() -> None:
    hidden = make_scenes(2, seed=3, size=64)
    pool, detector = (
        regimes.unlabelled(hidden, keep=0, seed=0, tags=True),
        small_mist(hidden.classes),
    )
    torch.nn.init.constant_(detector.head.fc7.bias, torch.nan)
    for made in (bib.recipe(), bib.rivals.kmeans_regions(), bib.rivals.loss()):
        with pytest.raises(FloatingPointError, match=rf"heads say are not finite.*{pool.ids[0]}"):
            ask(made, detector, pool)
