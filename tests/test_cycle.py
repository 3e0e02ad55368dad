import json
from dataclasses import replace

import pytest
import torch

from almining.cycle import Recipe, acquired, boxed, everything, labelled, run
from almining.data import regimes
from almining.data.pool import DataError, Pool
from almining.label import Simulated
from almining.papers import baselines
from almining.records import Answer, Evidence, Request, Target
from almining.train import TrainConfig, plain_step
from tests.fakes import FlatDetector, boxes, faulty_pool, flat_pool, labels, target

TRAIN = TrainConfig(steps=5, batch=4, lr=0.2)
HIDDEN = flat_pool(20)
TEST = flat_pool(8, prefix="test")
START = regimes.unlabelled(HIDDEN, keep=4, seed=0, tags=True)


def first(detector, pool: Pool, budget: int, *, generator: torch.Generator) -> list[Request]:
    waiting = [image_id for image_id in pool.ids if not pool.target(image_id).complete]
    return [Request(f"complete:{image_id}", image_id, "complete") for image_id in waiting[:budget]]


def recipe(**changes) -> Recipe:
    base = Recipe(
        "first", None, train=TRAIN, needs=(), restart="start", trains_on=labelled, query=first
    )
    return replace(base, **changes)


def go(chosen: Recipe | None = None, pool: Pool = START, **changes):
    ask = {
        "oracle": Simulated(HIDDEN),
        "budget": 3,
        "cycles": 2,
        "seed": 0,
        "test": TEST,
        "progress": False,
    }
    return run(chosen or recipe(), changes.pop("detector", FlatDetector()), pool, **(ask | changes))


def weights(detector: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in detector.state_dict().values()])


def test_a_run_counts_what_it_spent() -> None:
    history = go()
    assert [row.cycle for row in history.rows] == [0, 1, 2]
    assert [row.images for row in history.rows] == [4, 7, 10]
    assert [row.boxes for row in history.rows] == [4, 7, 10]
    assert [len(row.picked) for row in history.rows] == [0, 3, 3]
    assert history.rows[1].seconds > 0 and history.rows[2].seconds == pytest.approx(
        2 * history.rows[1].seconds
    )
    assert all("AP50" in row.metrics for row in history.rows)
    assert history.pending == () and history.pool.cycle == 2
    assert history.pool.since(history.rows[2].picked[0]) == 2


def test_the_callers_detector_and_pool_are_not_changed() -> None:
    detector = FlatDetector()
    before = weights(detector).clone()
    go(detector=detector)
    assert torch.equal(weights(detector), before) and START.cycle == 0


def test_same_seed_same_picks_and_weights() -> None:
    one, two, other = (go(baselines.u_random(), seed=seed) for seed in (5, 5, 6))
    assert [row.picked for row in one.rows] == [row.picked for row in two.rows]
    assert torch.equal(weights(one.detector), weights(two.detector))
    assert [row.picked for row in one.rows] != [row.picked for row in other.rows]


def test_restart_decides_where_training_begins() -> None:
    still = TrainConfig(steps=0)
    start = FlatDetector()
    torch.nn.init.constant_(start.linear.bias, 3.0)
    seen: list[torch.Tensor] = []

    def step(detector, batch, *, generator):
        if batch.step == 0:
            seen.append(weights(detector).clone())
        return plain_step(detector, batch, generator=generator)

    assert torch.equal(weights(go(recipe(train=still), detector=start).detector), weights(start))
    go(recipe(step=step), detector=start)
    assert torch.equal(seen[0], seen[1])  # M⁰ both times
    seen.clear()
    go(recipe(step=step, restart="continue"), detector=start)
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("trains_on", "expected"), [(everything, 20), (labelled, 7), (acquired, 3), (boxed, 7)]
)
def test_trains_on(trains_on, expected: int) -> None:
    assert len(trains_on(go(cycles=1).pool)) == expected


def test_trains_on_and_restart_by_name() -> None:
    assert recipe(trains_on="acquired").trains_on is acquired
    with pytest.raises(ValueError, match=r"first: trains_on = 'some': use .*one of all, labelled"):
        recipe(trains_on="some")
    with pytest.raises(ValueError, match="first: restart = 'never': use start or continue"):
        recipe(restart="never")


def test_schedule_may_depend_on_what_is_labelled() -> None:
    asked: list[int] = []

    def schedule(pool: Pool) -> TrainConfig:
        asked.append(len(labelled(pool)))
        return TRAIN

    go(recipe(train=schedule))
    assert asked == [7, 10]


def test_mined_targets_are_trained_on_and_told_apart() -> None:
    def mine(detector, pool: Pool, *, generator):
        image_id = next(
            image_id for image_id in pool.ids if pool.target(image_id).state == "tagged"
        )
        found = Target(
            boxes((0, 0, 5, 5)),
            labels(1),
            origin=("mined:test:1",),
            scores=torch.tensor([0.99]),
            complete=False,
        )
        return {image_id: found}

    history = go(recipe(query=None, mine=mine, trains_on=boxed), cycles=1)
    assert history.rows[1].picked == () and history.rows[1].images == 4
    assert history.rows[1].boxes == 4  # a person drew none of the mined ones
    assert len(boxed(history.pool)) == 5


def test_a_query_that_looks_back_gets_what_was_asked_and_learned_from() -> None:
    seen: list[list[Request]] = []

    def look_back(detector, pool, budget, *, generator, asked=()) -> list[Request]:
        seen.append(list(asked))
        found = first(detector, pool, budget, generator=generator)
        shade = torch.tensor([float(len(seen))])
        return [replace(one, evidence=Evidence("shade", {"at": shade}, "why")) for one in found]

    looking = recipe(query=look_back)
    assert looking.looks_back and not recipe().looks_back and not recipe(query=None).looks_back
    history = go(looking, cycles=3)
    picked = [row.picked for row in history.rows[1:]]
    assert [[one.image_id for one in asked] for asked in seen] == [
        [],
        [*picked[0]],
        [*picked[0], *picked[1]],
    ]
    assert [float(one.evidence.data["at"]) for one in seen[2]] == [1, 1, 1, 2, 2, 2]


def test_an_oracle_that_has_not_answered_leaves_requests_pending() -> None:
    class Slow:
        def ask(self, requests, pool):
            yield Answer(
                requests[1].id, target=HIDDEN.target(requests[1].image_id), by="me", seconds=1.0
            )

    history = go(oracle=Slow())
    assert len(history.rows) == 1 and len(history.pending) == 2
    assert history.pool.target(START.ids[0]).complete or len(labelled(history.pool)) == 5
    assert json.loads(history.to_json())["pending"] == [request.id for request in history.pending]
    assert "2 pending" in repr(history)


@pytest.mark.parametrize("unit", ["boxes", "seconds"])
def test_budget_in_boxes_and_seconds(unit: str) -> None:
    class Priced:
        def ask(self, requests, pool):
            for request in requests:
                two = target((0, 0, 4, 4), (4, 4, 9, 9))
                yield Answer(request.id, target=two, by="me", seconds=2.0)

    history = go(oracle=Priced(), unit=unit, budget=5, cycles=1)
    assert (
        len(history.rows[1].picked) == 3
    )  # 2 + 2 < 5 <= 2 + 2 + 2: the answer that crosses still counts
    assert history.pending == ()


def test_budget_above_the_pool_takes_all_and_then_stops() -> None:
    history = go(budget=100, cycles=3)
    assert [row.images for row in history.rows] == [4, 20]


def test_skipped_requests_cost_time_and_change_nothing() -> None:
    class Tired:
        def ask(self, requests, pool):
            for request in requests:
                yield Answer(request.id, verdict="skip", by="me", seconds=3.0)

    history = go(oracle=Tired(), cycles=1)
    assert history.rows[1].images == 4 and history.rows[1].seconds == 9
    assert history.pool.cycle == 0  # nothing was learned


def test_a_run_goes_on_from_another_runs_pool() -> None:
    before = go(cycles=2)
    after = go(pool=before.pool, cycles=1)
    assert [row.images for row in after.rows] == [10, 13]
    assert after.pool.cycle == 3 and after.pool.since(after.rows[1].picked[0]) == 3


def test_an_empty_pool_one_class_and_no_test() -> None:
    empty = flat_pool(0)
    assert len(go(pool=empty, oracle=Simulated(empty)).rows) == 1
    one = flat_pool(6, classes=("only",))
    history = go(
        pool=regimes.unlabelled(one, keep=2, seed=0),
        detector=FlatDetector(("only",)),
        oracle=Simulated(one),
        test=None,
        cycles=1,
    )
    assert history.rows[1].metrics == {} and history.rows[1].images == 5


def test_requests_of_every_kind_are_merged() -> None:
    def query(detector, pool, budget, *, generator):
        tagged = next(image_id for image_id in pool.ids if pool.target(image_id).state == "tagged")
        box = torch.tensor([2.0, 2, 10, 12])
        label = next(iter(pool.target(tagged).tags))
        return [
            Request("v", tagged, "verify", box=box, label=label),
            Request("r", tagged, "region", box=torch.tensor([15.0, 8, 20, 14])),
        ]

    history = go(recipe(query=query, trains_on=boxed), cycles=1)
    changed = history.pool.target(history.rows[1].picked[0])
    assert changed.state == "sparse" and len(changed) == 1 and len(changed.negatives) == 1


class Bare:
    classes = ("dark", "light")

    def losses(self, images, targets, *, generator): ...

    def detect(self, images): ...


class NoProbs(FlatDetector):
    def detect(self, images):
        return [replace(found, probs=None) for found in super().detect(images)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: go(budget=0), "budget = 0"),
        (lambda: go(budget=float("inf")), "budget = inf.*finite"),
        (
            lambda: go(recipe(query=lambda *a, **k: first(*a[:2], 9, **k))),
            "9 requests for a budget of 3",
        ),
        (lambda: go(detector=Bare()), "Bare has no `parameters`.*torch.nn.Module"),
        (lambda: go(budget=2.5), "budget = 2.5.*whole for images"),
        (lambda: go(cycles=-1), "cycles = -1"),
        (lambda: go(unit="euros"), "unit = 'euros'"),
        (
            lambda: go(recipe(needs=("regions",))),
            r"first needs a detector with regions\(\.\.\.\), and FlatDetector",
        ),
        (
            lambda: go(baselines.entropy_max(), detector=NoProbs()),
            "entropy_max needs detections with probs, and NoProbs",
        ),
        (
            lambda: go(detector=FlatDetector(("light", "dark"))),
            "the detector knows classes .'light', 'dark'.",
        ),
        (lambda: go(test=flat_pool(2, classes=("x", "y"))), "the test pool knows classes"),
        (lambda: go(test=regimes.tags_only(TEST)), "test image 'test-0' is not complete .8 in all"),
        (
            lambda: go(recipe(query=lambda *a, **k: first(*a, **k)[:1] * 2)),
            "made 2 requests with 1 different ids",
        ),
    ],
)
def test_refused_before_training(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_an_answer_to_nothing_is_refused() -> None:
    class Wild:
        def ask(self, requests, pool):
            yield Answer("who?", verdict="skip", by="me", seconds=0)

    with pytest.raises(ValueError, match="answered 'who\\?', which is not waiting in cycle 1"):
        go(oracle=Wild())


MANY = flat_pool(300)
MANY_START = regimes.unlabelled(MANY, keep=6, seed=0, tags=True)
SET_ASIDE = r"ignore:\d+ broken images? w:UserWarning"


def broken_run(chosen: Recipe, *bad: int, start: Pool = MANY_START, **changes):
    pool, images = faulty_pool(start, *bad)
    history = go(chosen, pool, **({"oracle": Simulated(MANY), "test": None} | changes))
    return history, images


def gone(history) -> list[str]:
    return [finding.record.removeprefix("image ") for finding in history.pool.findings]


@pytest.mark.filterwarnings(SET_ASIDE)
@pytest.mark.parametrize(
    "make",
    [baselines.entropy_max, baselines.entropy_sum, baselines.core_set, baselines.core_set_ent],
)
def test_broken_images_get_no_score_and_change_nothing_else(make) -> None:
    bad = (0, 17, 200)  # the first is what the detections' fields are looked up on
    history, images = broken_run(replace(make(), train=TRAIN), *bad)
    sound = MANY_START.subset(i for i in MANY_START.ids if i not in images.bad)
    wanted = go(replace(make(), train=TRAIN), sound, oracle=Simulated(MANY), test=None)
    assert [row.picked for row in history.rows] == [row.picked for row in wanted.rows]
    assert torch.equal(weights(history.detector), weights(wanted.detector))
    assert set(gone(history)) == images.bad and len(history.pool) == 297
    assert history.set_aside == history.pool.findings
    assert "3 broken set aside" in repr(history)


@pytest.mark.filterwarnings(SET_ASIDE)
@pytest.mark.parametrize("unit", ["images", "boxes"])
@pytest.mark.parametrize("make", [baselines.u_random, baselines.b_random])
def test_nobody_is_asked_about_a_broken_image(make, unit: str) -> None:
    plain = go(make(), MANY_START, oracle=Simulated(MANY), test=None)
    first = MANY_START.ids.index(plain.rows[1].picked[0])  # would be picked
    history, images = broken_run(replace(make(), train=TRAIN), first, unit=unit)
    picked = [image_id for row in history.rows for image_id in row.picked]
    assert images.bad.isdisjoint(picked) and [len(row.picked) for row in history.rows] == [0, 3, 3]
    assert set(gone(history)) == images.bad
    if unit == "images":
        assert len(set(images.asked)) < 30  # what nobody asks for is not loaded


@pytest.mark.filterwarnings(SET_ASIDE)
@pytest.mark.parametrize("restart", ["start", "continue"])
def test_training_begins_anew_without_a_broken_image(restart: str) -> None:
    bad = [MANY_START.ids.index(labelled(MANY_START)[2]), 250]
    history, images = broken_run(recipe(restart=restart), *bad)
    sound = MANY_START.subset(i for i in MANY_START.ids if i not in images.bad)
    wanted = go(recipe(restart=restart), sound, oracle=Simulated(MANY), test=None)
    assert torch.equal(weights(history.detector), weights(wanted.detector))
    assert [row.images for row in history.rows] == [6, 8, 11]
    assert set(gone(history)) == images.bad  # once one was met, all were looked at
    assert history.detector is not None and len(history.pool) == 298


@pytest.mark.filterwarnings(SET_ASIDE)
def test_a_slot_that_loads_images_itself_is_called_again() -> None:
    pools: list[int] = []

    def mine(detector, pool: Pool, *, generator):
        pools.append(len(pool))
        found = target((0, 0, 5, 5), origin=("mined:test",), scores=torch.ones(1), complete=False)
        dark = [i for i in pool.ids[6:] if pool.image(i).mean() < 0.05]
        return {i: found for i in dark if pool.target(i).state == "tagged"}

    history, images = broken_run(recipe(query=None, mine=mine, trains_on=boxed), 100, cycles=2)
    assert pools == [300, 299, 299] and set(gone(history)) == images.bad
    assert any(history.pool.target(i).origin == ("mined:test",) for i in history.pool.ids)


def test_a_run_warns_once_and_stops_above_one_in_a_hundred() -> None:
    with pytest.warns(UserWarning, match="3 broken images were set aside while first ran") as seen:
        broken_run(recipe(query=baselines.entropy_max().query), 9, 99, 199)
    assert len(seen) == 1
    with pytest.raises(DataError) as caught:
        broken_run(recipe(query=baselines.entropy_max().query), 9, 99, 199, 250, 260)
    found = [finding.record for finding in caught.value.findings]
    assert found == [f"image flat-{i}" for i in (9, 99, 199, 250)]  # the fourth of 300 stops it


def test_a_pick_out_of_few_is_no_large_share() -> None:
    start = MANY_START.ids
    chosen = recipe(query=first)
    waiting = [i for i in start if not MANY_START.target(i).complete]
    with pytest.warns(UserWarning, match="2 broken images"):
        history, _ = broken_run(chosen, start.index(waiting[0]), start.index(waiting[1]), budget=2)
    assert history.rows[1].picked == tuple(waiting[2:4])


def test_broken_test_images_count_neither_as_truth_nor_as_detections() -> None:
    whole = flat_pool(100, prefix="test")
    tested, _ = faulty_pool(whole, 42)
    with pytest.warns(UserWarning, match="1 broken image was set aside while first was measured"):
        history = go(test=tested)
    without = go(test=whole.subset(i for i in whole.ids if i != "test-42"))
    assert [row.metrics for row in history.rows] == [row.metrics for row in without.rows]
    assert [finding.record for finding in history.set_aside] == ["image test-42"]
    assert json.loads(history.to_json())["set_aside"] == ["test-42"]
    assert history.pool.findings == ()
    few, _ = faulty_pool(TEST, 2)
    with pytest.raises(DataError, match="image test-2"):
        go(test=few)


def test_pending_requests_leave_what_was_set_aside() -> None:
    class Never:
        def ask(self, requests, pool):
            return iter(())

    with pytest.warns(UserWarning, match="1 broken"):
        history, images = broken_run(baselines.entropy_max(), 100, oracle=Never())
    assert len(history.pending) == 3 and set(gone(history)) == images.bad
