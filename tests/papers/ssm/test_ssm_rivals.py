"""What each rival asks about and mines, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from almining.cycle import Recipe, run
from almining.label import Simulated
from almining.papers import ssm
from almining.papers.ssm import Config, rivals
from almining.records import Detections, Target
from almining.rng import generator
from tests.papers.ssm.spotted import LEFT, RIGHT, Spotter, pool_of, truth_of

CONFIG = Config(per_cycle=3, min_score=0.3, steps=2, batch=3, lr=1e-3)
ASKING = (
    rivals.random_regions,
    rivals.entropy,
    rivals.model_change,
    rivals.labelling_change,
    rivals.density,
    rivals.ceal,
)


def asked(made: Recipe, pool: Any, budget: int = 100, seed: int = 0) -> list[Any]:
    assert made.query is not None
    return made.query(Spotter(), pool, budget, generator=generator(seed))


@pytest.mark.parametrize("make", ASKING)
def test_all_ask_about_regions_and_label_nothing_in_a_batch(make: Any) -> None:
    made, pool = make(CONFIG), pool_of()
    found = asked(made, pool)
    assert len(found) == len({one.id for one in found}) == 3 and made.config.only == "al"
    for one in found:
        assert one.kind == "region" and tuple(one.box.tolist()) in (LEFT, RIGHT)
        assert made.name in one.evidence.text and one.score is not None
    assert len(asked(made, pool, 2)) == 2 and asked(made, pool_of(unlabelled=0)) == []
    assert [one.id for one in found] == [one.id for one in asked(make(CONFIG), pool)]


def test_random_is_over_all_regions() -> None:
    made, pool = rivals.random_regions(replace(CONFIG, per_cycle=1)), pool_of()
    found = {asked(made, pool, seed=seed)[0].id for seed in range(60)}
    assert len(found) == 6


@pytest.mark.parametrize("make", [rivals.entropy, rivals.model_change, rivals.ceal])
def test_the_yellow_spot_is_the_most_uncertain(make: Any) -> None:
    found = asked(make(CONFIG), pool_of())
    assert [tuple(one.box.tolist()) for one in found] == [RIGHT] * 3
    assert [one.image_id for one in found] == ["100", "101", "102"]  # ties go to the first


def region(phi: list[float], features: list[float]) -> Detections:
    probs = torch.tensor([[1 - max(phi), *phi]])
    label = torch.tensor([int(torch.tensor(phi).argmax()) + 1])
    return Detections(
        torch.zeros(1, 4),
        label,
        torch.tensor([max(phi)]),
        probs=probs,
        features=torch.tensor([features]),
    )


def scored(make: Any, found: list[Detections], monkeypatch: Any, **options: Any) -> list[float]:
    """What a strategy gives each region."""
    kept: list[Any] = []
    monkeypatch.setattr(rivals, "_best", lambda name, config, score: kept.append(score))
    make(CONFIG, **options)
    values: list[float] = kept[0](found, generator(0)).tolist()
    return values


def test_model_change_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    (value,) = scored(rivals.model_change, [region([0.75], [3.0, 4.0])], monkeypatch)
    # odds 3 to 1: none with 1/4 and an error of 3/4, the class with 3/4 and one of 1/4
    assert value == pytest.approx((0.25 * 0.75 + 0.75 * 0.25) * math.sqrt(26))
    sure, unsure = scored(
        rivals.model_change, [region([0.99], [1.0]), region([0.5], [1.0])], monkeypatch
    )
    assert sure < unsure


def test_labelling_change_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [region([0.75], [1.0]), region([0.6], [1.0]), region([0.01], [-1.0])]
    # kernels: 1 between the first two, 0 with the third. Of the first: told "none" (1/4), logits
    # fall by 4 * 0.75 and the second flips; told the class they rise. Of the second, alike: 0.4.
    values = scored(rivals.labelling_change, found, monkeypatch)
    assert values == pytest.approx([0.25, 0.4, 0.0])
    assert scored(rivals.labelling_change, found, monkeypatch, rate=1e-3) == [0.0] * 3
    alone = scored(rivals.labelling_change, found[:1], monkeypatch)
    assert alone == [0.0]  # it does not count itself


def test_density_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [region([0.5], [1.0, 0.0]), region([0.5], [5.0, 0.0]), region([0.5], [0.0, 1.0])]
    values = scored(rivals.density, found, monkeypatch)
    assert values == pytest.approx([math.log(2) * share for share in (2 / 3, 2 / 3, 1 / 3)])
    away = [region([0.5], [1.0]), region([0.5], [-1.0]), region([0.5], [-1.0])]
    assert scored(rivals.density, away, monkeypatch)[0] == 0.0


def test_ceal_mines_the_sure_anew_each_time() -> None:
    made, pool = rivals.ceal(CONFIG, max_entropy=0.5), pool_of()
    assert made.mine is not None
    first = made.mine(Spotter(), pool, generator=generator(0))
    assert list(first) == ["100", "101", "102"]
    for image_id, target in first.items():
        assert target.boxes.tolist() == [list(LEFT)] and target.origin == ("mined:ceal",)
        assert target.labels.tolist() == [int(image_id) % 3 + 1] and not target.complete
    later = pool.updated(first, cycle=1)
    again = made.mine(Spotter(), later, generator=generator(0))
    assert {i: len(one) for i, one in again.items()} == {"100": 1, "101": 1, "102": 1}
    unsure = made.mine(Spotter(red=0.5), later, generator=generator(0))
    assert {i: len(one) for i, one in unsure.items()} == {"100": 1, "101": 1, "102": 0}
    nothing = rivals.ceal(CONFIG, max_entropy=1e-9)
    assert nothing.mine is not None and nothing.mine(Spotter(), pool, generator=generator(0)) == {}


def test_options_have_names_and_limits() -> None:
    assert rivals.ceal(max_entropy=0.2).name == "ceal_0.2"
    assert rivals.labelling_change(rate=2.0).name == "labelling_change_2_500"
    for make, options, message in (
        (rivals.ceal, {"max_entropy": 0}, "max_entropy = 0"),
        (rivals.labelling_change, {"rate": math.inf}, "rate = inf"),
        (rivals.labelling_change, {"among": 0}, "among = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make(CONFIG, **options)


def test_ceal_keeps_what_a_person_drew() -> None:
    pool = pool_of()
    ask = {"oracle": Simulated(truth_of(pool)), "budget": 2, "cycles": 1, "seed": 0}
    run_of = run(rivals.ceal(CONFIG, max_entropy=0.5), Spotter(), pool, progress=False, **ask)
    assert len(run_of.rows[1].picked) == 2
    assert ssm.books(run_of, rivals.ceal(CONFIG).config)["pseudo"] == pytest.approx([300 / 9])
    drawn = Target(torch.tensor([LEFT]), torch.tensor([2]), complete=False)
    made = rivals.ceal(CONFIG, max_entropy=2.0)  # everything is sure
    assert made.mine is not None
    new = made.mine(Spotter(), pool_of(_100=drawn), generator=generator(0))["100"]
    assert new.origin == ("human", "mined:ceal") and new.boxes.tolist() == [list(LEFT), list(RIGHT)]


@pytest.mark.parametrize(
    ("make", "validation"),
    [
        (rivals.spl, "confidence"),
        (rivals.by_flip, "flip"),
        (rivals.by_rescale, "rescale"),
        (rivals.by_flip_and_rescale, "flip_rescale"),
    ],
)
def test_others_validate_otherwise_and_ask_no_one(make: Any, validation: str) -> None:
    made = make(CONFIG)
    assert made.query is None and made.config.validation == validation and made.mine is None
    assert made.config == replace(CONFIG, only="ssm", validation=validation)
    assert made.step is not None and make().config.steps == Config.toy().steps


def test_in_its_own_image_the_yellow_spot_is_found_again() -> None:
    pool = pool_of()
    for config, count in ((CONFIG, 1), (rivals.by_flip(CONFIG).config, 2)):
        made = ssm.pseudo_labelled(Spotter(), pool, config, seed=0)
        assert [len(made.target(i)) for i in ("100", "101", "102")] == [count] * 3


@pytest.mark.parametrize("make", rivals.ALL)
def test_a_run_of_each(make: Any) -> None:
    pool = pool_of()
    made = make(CONFIG)
    oracle = None if made.query is None else Simulated(truth_of(pool))
    history = run(made, Spotter(), pool, oracle=oracle, budget=2, cycles=1, seed=0, progress=False)
    assert len(history.rows) == 2 and len(history.rows[1].picked) <= 2
    kept = ssm.books(history, made.config)
    assert kept["annotated"][0] == 0 and kept["pseudo"][0] >= 0
    assert (kept["pseudo"][0] > 0) == (made.query is None)
    assert len({one().name for one in rivals.ALL}) == len(rivals.ALL)
