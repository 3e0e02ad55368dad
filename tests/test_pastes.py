"""Pastes with their answers, a consistency built up, and regions split: what is on the figures."""

from __future__ import annotations

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from almining import draw
from almining.canvas import GREY, LABEL
from almining.papers.ssm import consistency, image_terms, verdicts
from almining.pastes import ASIDE, FATES, OTHER, PLACE, SAME
from almining.records import Detections
from tests.fakes import boxes, labels

CLASSES = ("cup", "dog")
IMAGE = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
PLACED = torch.tensor([10.0, 10, 30, 30])


def seen(*found: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    where, said, scores = zip(*found, strict=True) if found else ((), (), ())
    probs = torch.zeros(len(found), 3)
    probs[range(len(found)), list(said)] = torch.tensor(scores)
    return Detections(boxes(*where), labels(*said), torch.tensor(scores), probs=probs)


SAID = {
    "found": seen(((0, 0, 5, 5), 1, 0.99), ((10, 10, 30, 28), 1, 0.8), ((10, 12, 30, 30), 2, 0.1)),
    "another": seen(((10, 10, 30, 30), 2, 0.7), ((11, 11, 30, 30), 1, 0.2)),
    "loose": seen(((10, 10, 30, 18), 1, 0.9), ((25, 25, 40, 40), 1, 0.95)),
    "elsewhere": seen(((0, 0, 5, 5), 1, 0.9)),
    "nothing": seen(),
}


def paste(found: Detections) -> draw.Paste:
    term, _ = image_terms([found], PLACED[None], 1)
    return draw.Paste(IMAGE, PLACED, found, float(term))


def trial(*found: Detections, title: str = "a cup") -> draw.Trial:
    return draw.Trial(title, IMAGE, PLACED, 1, [paste(one) for one in found])


def frames(ax: Axes, style: str) -> dict[tuple[float, ...], str]:
    """Colour by extents of the boxes of a line style."""
    return {
        tuple(patch.get_bbox().extents.tolist()): to_hex(patch.get_edgecolor())
        for patch in ax.patches
        if isinstance(patch, Rectangle) and patch.get_linestyle() == style
    }


def name(ax: Axes) -> str:
    return next((text.get_text() for text in ax.texts if text.get_gid() == LABEL), "")


# pastes


@pytest.mark.parametrize(
    ("kind", "box", "colour", "answer", "below"),
    [
        ("found", (10, 10, 30, 28), SAME, "cup 0.80", "IoU 0.90\nas cup: 0.40"),
        ("another", (10, 10, 30, 30), OTHER, "dog 0.70", "IoU 1.00\nas cup: 0.10"),
        ("loose", (10, 10, 30, 18), GREY, "cup 0.90", "IoU 0.40, not it\nas cup: 0.00"),
        ("elsewhere", None, None, "", "nothing there\nas cup: 0.00"),
        ("nothing", None, None, "", "nothing there\nas cup: 0.00"),
    ],
)
def test_a_paste_shows_the_surest_answer_at_its_place(
    kind: str, box: tuple[float, ...] | None, colour: str | None, answer: str, below: str
) -> None:
    _, ax = draw.pastes([trial(SAID[kind])], classes=CLASSES).axes
    assert frames(ax, ":") == {tuple(PLACED.tolist()): PLACE}
    assert frames(ax, "-") == ({} if box is None else {box: str(colour).lower()})
    assert (name(ax), ax.get_xlabel()) == (answer, below)


def test_overlap_is_enough_from_min_iou_on() -> None:
    _, ax = draw.pastes([trial(SAID["loose"])], classes=CLASSES, min_iou=0.4).axes
    assert frames(ax, "-") == {(10, 10, 30, 18): SAME.lower()}
    assert "not it" not in ax.get_xlabel()


def test_every_region_is_a_row_beside_its_own_image() -> None:
    every = list(SAID.values())
    rows = [trial(*every), trial(*every[:2], title="less"), trial(title="alone")]
    axes = draw.pastes(rows, classes=CLASSES).axes
    own = [ax for ax in axes if name(ax) == "cup?"]
    assert len(axes) == 6 + 3 + 1
    assert [ax.get_title(loc="left") for ax in own] == ["a cup", "less", "alone"]
    value = consistency(every, PLACED.expand(5, 4), 1)
    assert [ax.get_xlabel().split("\n")[0] for ax in own] == [
        f"consistency {value:.2f}",
        "consistency 0.25",
        "undetermined:",
    ]
    assert draw.pastes([], classes=CLASSES).texts[0].get_text() == "no region to show"


# build_up


def bars(fig: Figure, kind: str) -> list[tuple[float, float]]:
    """Bottom and height of the bars of a kind."""
    found = [patch for patch in fig.axes[0].patches if patch.get_gid() == kind]
    return [
        (round(bar.get_y(), 6), round(bar.get_height(), 6))
        for bar in found
        if isinstance(bar, Rectangle)
    ]


def test_each_term_stands_on_those_before() -> None:
    fig = draw.build_up([0.5, 0.0, 1.0, 0.3])
    assert bars(fig, "term") == [(0, 0.125), (0.125, 0), (0.125, 0.25), (0.375, 0.075)]
    assert bars(fig, "most") == [(0, 0.25), (0.125, 0.25), (0.125, 0.25), (0.375, 0.25)]
    assert bars(fig, "sum") == [(0, 0.45)]
    said = [text.get_text() for text in fig.axes[0].texts]
    assert said == ["0.50 / 4", "not found: 0", "1.00 / 4", "0.30 / 4", "s = 0.45"]


def test_what_was_found_with_a_term_of_zero_is_not_called_missing() -> None:
    fig = draw.build_up(torch.tensor([0.0, 0.0]), matched=torch.tensor([True, False]))
    assert [text.get_text() for text in fig.axes[0].texts][:2] == ["0.00 / 2", "not found: 0"]
    with pytest.raises(ValueError, match="matched has 1 entries for 2 terms"):
        draw.build_up([0.0, 0.0], matched=[True])
    assert draw.build_up([]).texts[0].get_text().startswith("undetermined")


# split

VALUES = [0.9, 0.6, 0.1, 0.2, None]
PROBS = torch.tensor([[0.9, 0.1], [0.1, 0.8], [0.9, 0.8], [0.7, 0.1], [0.6, 0.0]])
RIGHT = [True, False, True, False, True]


def points(fig: Figure, fate: str) -> list[list[list[float]]]:
    """The places of the right ones of a fate, and of the others."""
    groups = [c.get_offsets() for c in fig.axes[0].collections if c.get_gid() == fate]
    return [[[round(float(v), 3) for v in row] for row in group] for group in groups]


def legend(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_regions_are_split_by_verdict_and_told_by_truth() -> None:
    said = verdicts(VALUES, PROBS)
    fig = draw.split(VALUES, PROBS.amax(dim=1), said, right=RIGHT, cut=0.5, title="two minutes")
    assert points(fig, "trust") == [[[0.9, 0.9]], [[0.6, 0.8]]]
    assert points(fig, "ask") == [[[0.1, 0.9]], []]
    assert points(fig, "leave") == [[], [[0.2, 0.7]]]
    assert points(fig, "undetermined") == [[[ASIDE, 0.6]], []]
    assert legend(fig) == [
        "trust: 2, 50% right",
        "ask: 1, 100% right",
        "leave: 1, 0% right",
        "undetermined: 1, 100% right",
        "not right",
    ]
    (cut,) = [line for line in fig.axes[0].lines if line.get_gid() == "cut"]
    assert list(cut.get_xdata()) == [0.5, 0.5]
    assert fig.axes[0].get_title(loc="left") == "two minutes"


def test_without_truth_nothing_is_called_right_and_empty_groups_are_named() -> None:
    fig = draw.split([0.9], [0.8], ["trusted"])
    assert legend(fig) == ["trust: 1", "ask: 0", "leave: 0"]
    assert not fig.axes[0].lines
    none = draw.split([], [], [], right=[])
    assert legend(none)[0] == "trust: 0"
    colours = [
        to_hex(c.get_facecolors()[0]) for c in fig.axes[0].collections if len(c.get_offsets())
    ]
    assert colours == [FATES["trusted"][1].lower()]


def test_a_split_of_unequal_lists_or_unknown_verdicts_is_refused() -> None:
    with pytest.raises(ValueError, match="as many as each other"):
        draw.split([0.9, 0.1], [0.8], ["trusted"])
    with pytest.raises(ValueError, match="as many as each other"):
        draw.split([0.9], [0.8], ["trusted"], right=[True, False])
    with pytest.raises(ValueError, match="verdict 'sure': use trusted, ambiguous"):
        draw.split([0.9], [0.8], ["sure"])
