"""What a run is compared by: everything that decides what comes of it, and nothing else."""

from __future__ import annotations

import enum
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from almining import evaluate
from almining.data.pool import Pool
from almining.fingerprints import describe, digest_images, digest_target, digest_training
from almining.records import Target
from almining.train import TrainConfig
from tests.fakes import FlatDetector, FlatImages, flat_pool, target
from tests.test_cycle import START, recipe


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclass(frozen=True)
class Config:
    classes: frozenset[str] = frozenset({"car", "dog", "cow"})
    folder: Path = Path("a")
    mode: Mode = Mode.FAST
    dtype: torch.dtype = torch.float32
    level: object = np.float32(0.5)
    weights: object = field(default_factory=lambda: torch.ones(2))
    call: object = field(default_factory=object)  # says nothing but where in memory it is


def described(config: object = None, **changes) -> str:
    given = {"budget": 3, "seed": 0} | changes
    run = describe(
        replace(recipe(), config=config),
        FlatDetector(),
        START,
        unit="images",
        metrics=evaluate.voc,
        data={},
        **given,
    )
    return json.dumps(run)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": frozenset({"car", "dog"})},
        {"folder": Path("b")},
        {"mode": Mode.SLOW},
        {"dtype": torch.float64},
        {"level": np.float32(0.25)},
        {"weights": torch.zeros(2)},
    ],
)
def test_a_setting_of_any_kind_is_seen(change: dict) -> None:
    assert described(Config()) == described(Config())
    assert described(Config()) != described(Config(**change))


def test_a_set_reads_the_same_in_any_order() -> None:
    assert described(set(map(str, range(99)))) == described(set(map(str, reversed(range(99)))))


def test_equal_numbers_of_other_types_are_the_same() -> None:
    assert described(budget=3.0, seed=np.int64(0)) == described() != described(budget=3.5)


@pytest.mark.parametrize(
    "other",
    [
        target((1, 2, 3, 5)),
        target((1, 2, 3, 4), label=2),
        target((1, 2, 3, 4), complete=False),
        target((1, 2, 3, 4), ignore=torch.tensor([True])),
        target((1, 2, 3, 4), origin=("mined",), scores=torch.tensor([0.5])),
        target((1, 2, 3, 4), negatives=torch.ones(1, 4)),
        target((1, 2, 3, 4), absent={2}),
        target((1, 2, 3, 4), tags={1}),
        Target.unknown(),
        Target.unknown(()),
    ],
)
def test_all_that_is_known_of_an_image_is_seen(other: Target) -> None:
    one = target((1, 2, 3, 4))
    assert digest_target(one) == digest_target(target((1, 2, 3, 4))) != digest_target(other)


def test_when_an_image_was_labelled_is_seen() -> None:
    pool = flat_pool(2)
    later = pool.updated({"flat-1": pool.target("flat-1")}, cycle=2)
    one, other = (digest_images(each, lambda files: {}) for each in (pool, later))
    assert one["flat-0"] == other["flat-0"] and one["flat-1"] != other["flat-1"]


def test_a_name_that_is_no_text_is_refused() -> None:
    broken = Pool(("a",), {os.fsdecode(b"x\xff-1"): Target.unknown()}, FlatImages())
    with pytest.raises(ValueError, match=r"image id 'x\\udcff-1': .* rename"):
        digest_images(broken, lambda files: {})


def test_a_training_depends_on_config_and_the_whole_pool() -> None:
    def tag(pool: Pool = START, config: object = None) -> str:
        return digest_training(
            FlatDetector(), pool, [START.ids[0]], TrainConfig(steps=1), 0, config
        )

    other = START.updated({START.ids[1]: target((1, 1, 2, 2))}, cycle=1)
    assert len({tag(), tag(), tag(other), tag(START.subset(START.ids[:1])), tag(config=1)}) == 4
