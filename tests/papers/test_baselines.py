from collections import Counter

import pytest
import torch

from almining.cycle import run
from almining.data import regimes
from almining.data.pool import Pool
from almining.label import Simulated
from almining.papers import baselines
from almining.reasons import shown
from almining.records import Target
from almining.rng import generator
from almining.score import entropy
from tests.fakes import FlatDetector, FlatImages, flat_pool, target

HIDDEN = flat_pool(20)
START = regimes.unlabelled(HIDDEN, keep=4, seed=0, tags=True)


def slanted() -> FlatDetector:
    """Sure of the light images, unsure of the dark ones."""
    detector = FlatDetector()
    torch.nn.init.constant_(detector.linear.weight[2:], 6.0)
    return detector


def ask(recipe, pool: Pool = START, budget: int = 5, seed: int = 0, detector=None):
    return recipe.query(detector or slanted(), pool, budget, generator=generator(seed))


@pytest.mark.parametrize("make", baselines.ALL)
def test_every_strategy_asks_for_open_images_once_with_a_reason(make) -> None:
    recipe = make()
    requests = ask(recipe)
    asked = [request.image_id for request in requests]
    assert len(set(asked)) == 5
    assert all(not START.target(image_id).complete for image_id in asked)
    assert all(request.kind == "complete" and request.evidence.text for request in requests)
    assert [request.image_id for request in ask(recipe)] == asked
    assert recipe.name == make.__name__


@pytest.mark.parametrize("make", baselines.ALL)
def test_budget_above_what_is_left_and_an_empty_pool(make) -> None:
    assert len(ask(make(), budget=99)) == 16
    assert ask(make(), pool=flat_pool(0)) == []


@pytest.mark.parametrize("make", baselines.ALL)
def test_every_strategy_runs_a_cycle(make) -> None:
    history = run(
        make(baselines.Config(steps_per_image=0.5, lr=0.1)),
        slanted(),
        START,
        oracle=Simulated(HIDDEN),
        budget=4,
        cycles=2,
        seed=0,
        test=flat_pool(6, prefix="test"),
        progress=False,
    )
    assert [row.images for row in history.rows] == [4, 8, 12]


def test_u_random_is_uniform() -> None:
    counts = Counter(
        request.image_id
        for seed in range(400)
        for request in ask(baselines.u_random(), budget=4, seed=seed)
    )
    assert set(counts) == {
        image_id for image_id in START.ids if not START.target(image_id).complete
    }
    assert all(
        60 < count < 145 for count in counts.values()
    )  # 100 expected, four standard deviations


def test_b_random_takes_the_least_represented_class() -> None:
    targets = {f"flat-{i}": target((0, 0, 4, 4), label=1) for i in range(3)}
    targets |= {f"flat-{i}": Target.unknown({1}) for i in range(3, 9)}
    targets |= {f"flat-{i}": Target.unknown({2}) for i in range(9, 13)}
    pool = Pool(["common", "rare"], targets, FlatImages())
    for seed in range(10):
        asked = [
            request.image_id
            for request in ask(baselines.b_random(), pool=pool, budget=3, seed=seed)
        ]
        assert {int(image_id.split("-")[1]) >= 9 for image_id in asked} == {True}


def test_b_random_counts_images_and_balances_to_the_end() -> None:
    targets = {f"flat-{i}": Target.unknown({1 + i % 3}) for i in range(30)}
    pool = Pool(["a", "b", "c"], targets, FlatImages())
    asked = ask(baselines.b_random(), pool=pool, budget=12)
    assert Counter(int(request.image_id.split("-")[1]) % 3 for request in asked) == {
        0: 4,
        1: 4,
        2: 4,
    }


def test_b_random_takes_images_without_classes_last() -> None:
    targets = {"flat-0": Target.unknown(set()), "flat-1": Target.unknown({1})}
    asked = ask(baselines.b_random(), pool=Pool(["a"], targets, FlatImages()))
    assert [request.image_id for request in asked] == ["flat-1", "flat-0"]


def test_b_random_refuses_rather_than_reading_hidden_truth() -> None:
    with pytest.raises(ValueError, match=r"b_random needs the classes of every image.*unlabelled"):
        ask(baselines.b_random(), pool=regimes.unlabelled(HIDDEN, keep=4, seed=0))


@pytest.mark.parametrize(
    ("make", "reduce"), [(baselines.entropy_max, "max"), (baselines.entropy_sum, "sum")]
)
def test_entropy_asks_for_the_most_uncertain_first(make, reduce: str) -> None:
    detector = slanted()
    waiting = [image_id for image_id in START.ids if not START.target(image_id).complete]
    scores = {i: entropy(detector.detect([START.image(i)])[0], reduce=reduce) for i in waiting}
    requests = ask(make(), detector=detector)
    assert [request.image_id for request in requests] == sorted(waiting, key=lambda i: -scores[i])[
        :5
    ]
    assert [request.score for request in requests] == pytest.approx(
        sorted(scores.values())[::-1][:5]
    )
    assert requests[0].evidence.kind == "entropy" and len(requests[0].evidence.data["boxes"]) == 1
    (mark,) = shown(requests[0], START).marks
    assert mark.role == "most uncertain" and mark.text.startswith("entropy ")


def test_core_set_spreads_and_weights_change_it() -> None:
    plain = [request.image_id for request in ask(baselines.core_set(), budget=3)]
    weighted = [request.image_id for request in ask(baselines.core_set_ent(), budget=3)]
    colours = {int(image_id.split("-")[1]) % 10 for image_id in plain}
    assert len(colours) == 3  # never the same colour twice while others are left
    assert plain != weighted


def test_config_has_the_papers_defaults() -> None:
    config = baselines.Config()
    labelled = START.updated({i: HIDDEN.target(i) for i in START.ids}, cycle=1)
    assert config.schedule_for(labelled).steps == 120  # 300 iterations per 50 images, 20 images
    assert (config.batch, config.lr, config.optimizer) == (8, 4e-4, "sgd")
    toy = baselines.Config.toy()
    assert toy.schedule_for(START).steps == toy.least_steps
