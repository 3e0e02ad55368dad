import math
from dataclasses import replace

import pytest

from almining.papers.note_rcnn import Config
from almining.records import Target
from tests.fakes import flat_pool, target


def test_the_papers_numbers() -> None:
    config = Config()
    assert (config.min_score, config.iterations, config.epochs) == (0.99, 8, 20)
    assert (config.batch, config.lr, config.optimizer) == (1, 3e-4, "sgd")
    assert (config.variant, config.distill, config.distill_until) == ("det-az-rpn-a", "always", 4)
    assert config.distill_on == "proposals" and not config.every_box


def test_training_is_as_long_as_there_are_images_with_boxes() -> None:
    pool = flat_pool(4)
    mined = target((0, 0, 9, 9), origin=["mined"], complete=False)
    some = {"flat-1": mined, "flat-2": Target.unknown({1}), "flat-3": Target.unknown()}
    known = pool.updated(some, cycle=1)
    config = replace(Config(), batch=3)
    assert config.trains_on(known) == ["flat-0", "flat-1"]
    assert config.schedule_for(known).steps == math.ceil(20 * 2 / 3)
    assert config.first_schedule(5).steps == math.ceil(20 * 5 / 3)
    toy = Config.toy()
    given = toy.schedule_for(known)
    for name in ("batch", "lr", "optimizer", "schedule", "weight_decay", "clip"):
        assert getattr(given, name) == getattr(toy, name)


def test_half_distills_up_to_an_iteration() -> None:
    for how, wanted in (
        ("always", [0, 1, 2, 3, 4, 5, 8]),
        ("half", [0, 1, 2, 3, 4]),
        ("never", []),
    ):
        config = replace(Config(), distill=how)
        assert [i for i in (0, 1, 2, 3, 4, 5, 8) if config.distils(i)] == wanted
    assert replace(Config(), distill_on="samples").distils(1) == "samples"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"variant": "det"}, "variant"),
        ({"distill": "quarter"}, "distill"),
        ({"distill_on": "all"}, "distill_on"),
        ({"min_score": 1.1}, "min_score = 1.1"),
        ({"distill_until": -1}, "distill_until = -1"),
        ({"iterations": 1.5}, "iterations = 1.5"),
        ({"batch": 0}, "batch = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"first_epochs": math.inf}, "first_epochs = inf"),
        ({"lr": 0.0}, r"lr = 0\.0"),
    ],
)
def test_wrong_values_are_refused_when_the_config_is_made(values, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**values)
