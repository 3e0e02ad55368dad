from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from almining.cycle import run
from almining.label import Simulated
from almining.papers import baselines, bib
from almining.records import Target
from almining.train import plain_step
from tests.fakes import target
from tests.papers.bib.told import PAIR, Told, pool_of, truth_of


def test_the_defaults_are_the_papers() -> None:
    config = bib.Config()
    assert (config.min_ratio, config.min_containment) == (3, 0.8)
    assert (config.power, config.local_trials, config.keep_pairs) == (1, 1, True)
    fifty = pool_of(60, lambda i: target((1, 1, 5, 5)) if i < 50 else Target.unknown({1}))
    schedule = config.schedule_for(fifty)
    assert (schedule.steps, schedule.batch, schedule.lr) == (300, 8, 4e-4)
    assert (schedule.optimizer, schedule.schedule) == ("sgd", "constant")
    coco = replace(config, steps_per_image=1200 / 160)
    assert coco.schedule_for(fifty.subset(fifty.ids[:16])).steps == 120
    assert config.schedule_for(pool_of(3)).steps == 0
    toy = bib.Config.toy()
    for name in ("min_ratio", "min_containment", "power", "local_trials", "steps_per_image"):
        assert getattr(toy, name) == getattr(config, name)
    schedule = toy.schedule_for(fifty)
    assert (schedule.weight_decay, schedule.clip) == (toy.weight_decay, toy.clip)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"min_ratio": 1.0}, "min_ratio = 1.0: must be above 1"),
        ({"min_ratio": math.nan}, "min_ratio = nan"),
        ({"min_containment": 80}, "min_containment = 80: a share of a box"),
        ({"min_score": math.nan}, "min_score = nan"),
        ({"power": 0}, "power = 0: a finite number above 0 is needed"),
        ({"power": math.inf}, "power = inf"),
        ({"local_trials": 0}, "local_trials = 0 must be a whole number of at least 1"),
        ({"local_trials": 1.5}, "local_trials = 1.5 must be a whole number"),
        ({"steps_per_image": 0.0}, "steps_per_image = 0.0: a finite number above 0"),
        ({"steps_per_image": math.nan}, "steps_per_image = nan"),
        ({"batch": 0}, "batch = 0 must be a whole number of at least 1"),
        ({"lr": -1.0}, r"lr = -1\.0: a number above 0"),
        ({"clip": 0.0}, r"clip = 0\.0"),
        ({"optimizer": "adam"}, "optimizer = 'adam': use one of sgd"),
        ({"schedule": "linear"}, "schedule = 'linear': use one of"),
    ],
)
def test_wrong_values_are_refused_when_the_config_is_made(values, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bib.Config(**values)


# weak and strong


def known(strong: int, tagged: int, sparse: int = 0, untagged: int = 0, without: int = 0):
    """So many images of each kind; `untagged` are sparse without tags, of `without` is nothing."""
    kinds = [target((1, 1, 5, 5))] * strong + [Target.unknown({1})] * tagged
    kinds += [target((1, 1, 5, 5), tags={1, 2}, complete=False)] * sparse
    kinds += [target((1, 1, 5, 5), complete=False)] * untagged + [Target.unknown()] * without
    return pool_of(len(kinds), lambda i: kinds[i])


@pytest.mark.parametrize(
    ("strong", "tagged", "sparse", "untagged", "without"),
    [(3, 7, 0, 0, 0), (7, 3, 0, 0, 0), (5, 5, 0, 0, 4), (2, 3, 4, 1, 2), (1, 100, 0, 0, 0)],
)
def test_weak_and_strong_come_equally_often(strong, tagged, sparse, untagged, without) -> None:
    pool = known(strong, tagged, sparse, untagged, without)
    weak = tagged + sparse + untagged
    counts = Counter(bib.weak_and_strong(pool))
    assert set(counts) == set(pool.ids[: strong + weak])  # all that say something
    of_strong = [counts[image_id] for image_id in pool.ids[:strong]]
    of_weak = [counts[image_id] for image_id in pool.ids[strong : strong + weak]]
    assert sum(of_strong) == sum(of_weak) == max(strong, weak)
    for many in (of_strong, of_weak):
        assert max(many) - min(many) <= 1


def test_where_there_is_one_kind_only_it_is_all() -> None:
    assert bib.weak_and_strong(known(0, 4)) == ["im-0", "im-1", "im-2", "im-3"]
    assert bib.weak_and_strong(known(3, 0, without=2)) == ["im-0", "im-1", "im-2"]
    assert bib.weak_and_strong(known(0, 0)) == [] == bib.weak_and_strong(known(0, 0, without=3))


def test_one_strong_image_is_in_half_of_what_is_trained_on() -> None:
    seen: Counter[bool] = Counter()

    def step(detector, batch, *, generator):
        seen.update(one.complete for one in batch.targets)
        return plain_step(detector, batch, generator=generator)

    config = bib.Config(steps_per_image=60, batch=4, lr=1e-3)
    detector = Told(dict.fromkeys(range(20), PAIR))
    ask = {"oracle": Simulated(truth_of(20)), "budget": 1, "cycles": 1, "seed": 0}
    made = replace(bib.recipe(config), step=step)
    run(made, detector, pool_of(20), progress=False, **ask)
    assert sum(seen.values()) == 240 and abs(seen[True] - 120) < 20


# other selections are trained alike


@pytest.mark.parametrize("make", baselines.ALL, ids=lambda make: make.__name__)
def test_baselines_train_on_the_same_images_for_as_long(make) -> None:
    config, pool = bib.Config.toy(), known(5, 12, 2)
    other, own = make(config), bib.recipe(config)
    assert other.trains_on(pool) == own.trains_on(pool) == bib.weak_and_strong(pool)
    assert other.train(pool) == own.train(pool) and other.restart == own.restart == "start"
    assert other.config is config and other.name == make.__name__
    assert make().trains_on(pool) == list(pool.ids[:5])  # on its own: what is labelled
