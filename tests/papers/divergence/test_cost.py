"""What a schedule costs, after Divergence Fig. 4."""

import pytest

from almining.papers.divergence import time_to_completion
from tests.oracles import schedule_seconds

CALTECH = {"frames": 51_363, "budget": 7500}


@pytest.mark.parametrize(("per_cycle", "hours"), [(2500, 46), (500, 190), (50, 1800)])
def test_the_papers_figures_within_five_per_cent(per_cycle: int, hours: float) -> None:
    found = time_to_completion(**CALTECH, per_cycle=per_cycle) / 3600
    assert found == pytest.approx(hours, rel=0.05)


def test_by_hand() -> None:
    # 100 + 90 + 80 frames scored; 10 + 20 + 25 trained on, 50 times
    found = time_to_completion(frames=100, budget=25, per_cycle=10)
    assert found == pytest.approx(0.15 * 270 + 50 * 0.2 * 55)
    once = time_to_completion(
        frames=100, budget=25, per_cycle=100, epochs=2, forward_s=1, train_s=3
    )
    assert once == 100 + 2 * 3 * 25


def test_frame_by_frame() -> None:
    slow = schedule_seconds(60, 0, 7, 4, 0.15, lambda known: 50 * 0.2 * known, 0.0)
    assert time_to_completion(frames=60, budget=28, per_cycle=7) == pytest.approx(slow)


def test_more_cycles_take_longer() -> None:
    found = [time_to_completion(**CALTECH, per_cycle=b) for b in (7500, 2500, 500, 50)]
    assert found == sorted(found) and len(set(found)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 5}, "budget = 10 and labelled = 0 exceed images = 5"),
        ({"per_cycle": 0}, "per_cycle = 0 must be"),
        ({"forward_s": -1}, "score_s = -1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_to_completion(**({"frames": 20, "budget": 10, "per_cycle": 5} | change))
