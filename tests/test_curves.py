"""The figure of miss rates; learning curves are tested with the other pictures."""

import math

import numpy as np

from almining.curves import miss_curve
from almining.evaluate import MissCurve

RATES = MissCurve(
    np.array([0.0, 0.0, 0.5, 2.0]),
    np.array([1.0, 0.6, 0.3, 0.0]),
    np.array([math.inf, 0.9, 0.5, 0.1]),
    images=2,
    boxes=10,
)
NOTHING = MissCurve(np.zeros(1), np.full(1, math.nan), np.full(1, math.inf), images=2, boxes=0)


def test_the_figure_shows_what_the_curves_hold():
    fig = miss_curve({"one": RATES, "none": NOTHING})
    (ax,) = fig.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    one, none, mark = ax.lines
    assert one.get_drawstyle() == "steps-post" and mark.get_xdata()[0] == 1
    assert one.get_xdata()[2:].tolist() == [0.5, 2] and one.get_ydata()[1:3].tolist() == [0.6, 0.3]
    assert min(one.get_xdata()) > 0 and min(one.get_ydata()) > 0  # both axes are logarithmic
    assert not len(none.get_xdata())
    assert ax.get_ylim()[0] == 0.01  # lower than Caltech's 0.05, for 0 is reached
    average = math.exp((7 * math.log(0.6) + 2 * math.log(0.3)) / 9)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        f"one ({average:.0%}, 30%)",
        "none (no boxes to find)",
    ]
    fig.draw_without_rendering()
    assert [text.get_text() for text in ax.get_yticklabels()][:3] == ["0.01", "0.02", "0.05"]
    assert not fig.legends[0].get_window_extent().overlaps(ax.get_window_extent())


def test_without_curves_or_boxes_there_is_a_figure_still():
    assert "no curves" in miss_curve({}).texts[0].get_text()
    (ax,) = miss_curve({"none": NOTHING}).axes
    assert ax.get_ylim()[0] == 0.05
