"""Pairs drawn nested, and a selection drawn step by step: what is on the figures."""

from __future__ import annotations

import pytest
import torch
from matplotlib.cm import viridis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from almining import draw
from almining.canvas import GREY, LABEL
from almining.nested import KINDS, LARGE, SMALL, project
from almining.records import Detections, Evidence, Request, Target
from tests.fakes import boxes, labels

CLASSES = ("cup", "dog")
IMAGE = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))
FOUND = Detections(
    boxes((0, 0, 40, 40), (2, 2, 12, 12), (0, 0, 90, 80), (4, 4, 9, 9), (100, 0, 120, 9)),
    labels(1, 1, 1, 1, 2),
    torch.tensor([0.9, 0.8, 0.3, 0.2, 0.7]),
)
PAIRS = torch.tensor([[0, 2], [1, 0], [1, 2], [3, 0]])  # box 0 is large in two and small in one
TRUTH = Target(boxes((0, 0, 40, 44), (50, 0, 90, 80), (100, 0, 120, 9)), labels(1, 1, 2))


def filled(fig: Figure) -> dict[tuple[float, ...], str]:
    """Colour by extents of what is filled."""
    return {box: to_hex(frame.get_facecolor()) for frame, box in frames(fig) if frame.fill}


def outlined(fig: Figure, style: str = "-") -> dict[tuple[float, ...], str]:
    """Colour by extents of what is outlined in a style."""
    return {
        box: to_hex(frame.get_edgecolor())
        for frame, box in frames(fig)
        if not frame.fill and frame.get_linestyle() == style
    }


def frames(fig: Figure) -> list[tuple[Rectangle, tuple[float, ...]]]:
    patches = [patch for patch in fig.axes[0].patches if isinstance(patch, Rectangle)]
    return [(patch, tuple(patch.get_bbox().extents.tolist())) for patch in patches]


def names(fig: Figure) -> list[str]:
    return sorted(t.get_text() for t in fig.axes[0].texts if t.get_gid() == LABEL)


def box(row: int) -> tuple[float, ...]:
    return tuple(FOUND.boxes[row].tolist())


# pairs


def test_small_boxes_are_filled_and_large_ones_outlined() -> None:
    fig = draw.pairs(IMAGE, FOUND, PAIRS, classes=CLASSES)
    small, large = SMALL.lower(), LARGE.lower()
    assert filled(fig) == {box(0): small, box(1): small, box(3): small}
    assert outlined(fig) == {box(0): small, box(1): small, box(3): small, box(2): large}
    assert names(fig) == ["cup 0.20", "cup 0.30", "cup 0.80", "cup 0.90"]  # box 4 is in no pair
    assert fig.axes[0].get_xlabel().startswith("4 pairs")


def test_the_truth_tells_parts_and_groups_apart() -> None:
    fig = draw.pairs(IMAGE, FOUND, PAIRS, classes=CLASSES, truth=TRUTH)
    wanted = {0: "right", 1: "part", 2: "group", 3: "part"}
    assert outlined(fig) == {box(row): KINDS[kind].lower() for row, kind in wanted.items()}
    assert set(outlined(fig, ":")) == {(0, 0, 40, 44), (50, 0, 90, 80)}  # no dog is in a pair
    assert names(fig)[0] == "group: cup 0.30"
    assert draw.tell(FOUND, TRUTH) == ["right", "part", "group", "part", "right"]


def test_a_box_of_another_class_is_never_right() -> None:
    others = Target(FOUND.boxes, labels(2, 2, 2, 2, 1))
    assert draw.tell(FOUND, others) == ["other"] * 5


def test_a_limit_keeps_the_surest_pairs() -> None:
    fig = draw.pairs(IMAGE, FOUND, PAIRS, classes=CLASSES, limit=1)
    assert set(outlined(fig)) == {box(0), box(1)}  # 0.9 + 0.8
    assert fig.axes[0].get_xlabel().startswith("1 of 4 pairs")


@pytest.mark.parametrize("truth", [None, TRUTH, Target(boxes(), labels())])
def test_no_pairs_leave_the_image_alone(truth: Target | None) -> None:
    none = torch.zeros(0, 2, dtype=torch.int64)
    fig = draw.pairs(IMAGE, FOUND, none, classes=CLASSES, truth=truth)
    assert frames(fig) == [] and fig.axes[0].get_xlabel().startswith("0 pairs")
    assert draw.tell(FOUND, Target(boxes(), labels())) == ["other"] * 5


# evidence


def test_evidence_of_pairs_draws_them() -> None:
    data = {"boxes": FOUND.boxes, "labels": FOUND.labels, "scores": FOUND.scores}
    why = Evidence("pairs", data | {"pairs": PAIRS}, "box in box")
    fig = draw.evidence(IMAGE, Request("r", "a-1", "complete", evidence=why), classes=CLASSES)
    assert set(filled(fig)) == {box(0), box(1), box(3)}
    assert fig.axes[0].get_xlabel() == "box in box"
    few = Request("r", "a-1", "complete", evidence=Evidence("pairs", data, "x"))
    with pytest.raises(ValueError, match=r"'pairs' needs data \['pairs'\], got \['boxes', 'lab"):
        draw.evidence(IMAGE, few, classes=CLASSES)


# selection

ROWS = torch.tensor([[0.0, 0, 1], [3, 4, 1], [0, 1, 1], [30, 40, 1]])
GROUPS = ["a", "b", "a", "c"]


def counts(fig: Figure) -> list[dict[str, int]]:
    """How many rows are free, chosen, and of the last pick, in each panel."""
    panels = [ax for ax in fig.axes if ax.collections and ax.collections[0].get_gid() == "free"]
    return [{str(c.get_gid()): len(c.get_offsets()) for c in ax.collections} for ax in panels]


def test_each_step_marks_what_was_chosen() -> None:
    fig = draw.selection(ROWS, GROUPS, ["a", "c"], [0, 1, 2])
    assert counts(fig) == [
        {"free": 4, "chosen": 0, "last": 0},
        {"free": 2, "chosen": 0, "last": 2},
        {"free": 1, "chosen": 2, "last": 1},
    ]
    assert [ax.get_title(loc="left") for ax in fig.axes[:3]] == ["0", "1: a", "2: c"]
    assert counts(draw.selection(ROWS, GROUPS, ["c"], 1, chosen=["a"])) == [
        {"free": 1, "chosen": 2, "last": 1}
    ]


def test_the_colour_is_the_distance_to_the_nearest_chosen_row() -> None:
    fig = draw.selection(ROWS, GROUPS, ["a", "b"], [0, 1, 2])
    first, one, two = (
        [to_hex(c) for c in ax.collections[0].get_facecolors()] for ax in fig.axes[:3]
    )
    assert first == [GREY]
    far = (30**2 + 39**2) ** 0.5  # from the second row of a, which sets the scale
    near = (3**2 + 3**2) ** 0.5
    assert one == [to_hex(viridis(near / far)), to_hex(viridis(1.0))]
    assert two == [to_hex(viridis((27**2 + 36**2) ** 0.5 / far))]


def test_the_axes_are_those_of_most_spread() -> None:
    rows = torch.zeros(50, 7).normal_(generator=torch.Generator().manual_seed(1))
    rows[:, 3] *= 9
    rows[:, 5] *= 4
    places, shares = project(rows)
    centred = rows - rows.mean(dim=0)
    assert abs(torch.corrcoef(torch.stack([places[:, 0], centred[:, 3]]))[0, 1]) > 0.99
    assert abs(torch.corrcoef(torch.stack([places[:, 1], centred[:, 5]]))[0, 1]) > 0.95
    assert 1 > shares[0] > shares[1] > 0
    assert shares[0] == pytest.approx(float(places[:, 0].var() / centred.var(dim=0).sum()))
    assert torch.equal(project(torch.ones(3, 2))[0], torch.zeros(3, 2))  # no spread at all


def test_equal_rows_and_no_rows_are_drawn() -> None:
    assert counts(draw.selection(torch.ones(3, 4), ["a", "b", "c"], ["b"], 1)) == [
        {"free": 2, "chosen": 0, "last": 1}
    ]
    said = draw.selection(torch.zeros(0, 4), [], [], 0).texts[0].get_text()
    assert said == "no pairs to choose from"


def test_rejected() -> None:
    with pytest.raises(ValueError, match="3 groups for 4 rows"):
        draw.selection(ROWS, ["a", "b", "c"], ["a"], 0)
    with pytest.raises(ValueError, match=r"step = 3: 2 picks were made, so 0\.\.\.2"):
        draw.selection(ROWS, GROUPS, ["a", "c"], 3)
    with pytest.raises(ValueError, match=r"step = \[\]"):
        draw.selection(ROWS, GROUPS, ["a", "c"], [])
