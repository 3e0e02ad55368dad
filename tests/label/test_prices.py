"""What answers and schedules cost."""

import pytest
import torch

from almining.label import Prices, time_to_completion
from tests.label.asking import BOX, FAR, request, target
from tests.oracles import schedule_seconds


def test_prices_by_hand() -> None:
    prices = Prices()
    assert (prices.box, prices.look, prices.tag, prices.verify) == (25.5, 7.8, 1.0, 1.6)
    assert [prices.complete(n) for n in (0, 1, 4)] == [7.8, 25.5, 102.0]
    assert prices.tags(20) == 20.0
    assert prices.region(1) == 25.5
    assert prices.region(0) == 1.6


def test_a_price_must_be_a_time() -> None:
    with pytest.raises(ValueError, match=r"Prices\.box = -1"):
        Prices(box=-1)


def test_a_street_scene_has_one_price() -> None:
    urban = Prices.urban()
    assert [urban.complete(n) for n in (0, 1, 40)] == [35.0] * 3
    assert (urban.region(2), urban.tags(3)) == (51.0, 3.0)
    with pytest.raises(ValueError, match=r"Prices\.image = nan"):
        Prices(image=float("nan"))


def test_a_request_is_priced_before_and_after_it_is_answered() -> None:
    prices = Prices(box=10, look=3, tag=0.5, verify=2)
    ignored = torch.tensor([False, True, False])
    drawn = target(BOX, BOX, FAR, ignore=ignored, complete=True)
    expected = {"complete": (3.0, 20.0), "tag": (2.0, 2.0), "verify": (2.0, 2.0)}
    for kind, (least, given) in (expected | {"region": (2.0, 20.0)}).items():
        question = request(kind, BOX, 1)
        assert prices.of(question, None, classes=4) == prices.of(question, 0, classes=4) == least
        assert prices.of(question, 2, classes=4) == prices.of(question, drawn, classes=4) == given


def test_a_schedule_by_hand() -> None:
    plan = {"images": 10, "budget": 5, "per_cycle": 2, "score_s": 1.0, "train_s": 10.0}
    # three cycles: 10 + 8 + 6 scored; 2 + 4 + 5 seen per epoch
    assert time_to_completion(**plan, epochs=3) == 24 + 3 * 10 * 11
    assert time_to_completion(**plan, steps=7, label_s=100) == 24 + 3 * 7 * 10 + 500
    plan["images"] = 13
    assert time_to_completion(**plan, epochs=3, labelled=3) == 24 + 3 * 10 * (11 + 9)
    assert time_to_completion(**(plan | {"budget": 0}), epochs=3) == 0.0


@pytest.mark.parametrize(("per_cycle", "cycles"), [(1, 6), (3, 2), (4, 5)])
def test_a_schedule_image_by_image(per_cycle: int, cycles: int) -> None:
    plan = {"images": 37, "budget": per_cycle * cycles, "per_cycle": per_cycle, "labelled": 5}
    cost = {"score_s": 0.25, "train_s": 1.5, "label_s": 7.5}
    slow = schedule_seconds(32, 5, per_cycle, cycles, 0.25, lambda known: 1.5 * 4 * known, 7.5)
    assert time_to_completion(**plan, **cost, epochs=4) == pytest.approx(slow, rel=1e-12)
    slow = schedule_seconds(32, 5, per_cycle, cycles, 0.25, lambda known: 1.5 * 4, 7.5)
    assert time_to_completion(**plan, **cost, steps=4) == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "images = 0 must be a whole number"),
        ({"images": 4}, "budget = 5 and labelled = 0 exceed images = 4"),
        ({"labelled": 6}, "budget = 5 and labelled = 6 exceed images = 10"),
        ({"labelled": -1}, "labelled = -1 must be"),
        ({"per_cycle": 0}, "per_cycle = 0 must be"),
        ({"budget": 2.5}, "budget = 2.5 must be"),
        ({"epochs": None}, "give one of the two"),
        ({"steps": 3}, "epochs = 1, steps = 3: give one of the two"),
        ({"epochs": -1}, "epochs = -1 must be"),
        ({"epochs": None, "steps": 0.5}, "steps = 0.5 must be"),
        ({"score_s": float("inf")}, "score_s = inf: a finite number"),
        ({"train_s": -1}, "train_s = -1: a finite number"),
        ({"label_s": "35"}, "label_s = '35': a finite number"),
    ],
)
def test_schedules_that_cannot_be_are_refused(change: dict, message: str) -> None:
    plan = {"images": 10, "budget": 5, "per_cycle": 2, "score_s": 1, "train_s": 1, "epochs": 1}
    with pytest.raises(ValueError, match=message):
        time_to_completion(**(plan | change))
