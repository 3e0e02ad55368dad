"""Mined boxes told apart and drawn, and the pushes of a loss: what is on the figures."""

from __future__ import annotations

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from almining import draw
from almining.branches import KINDS, UP, gathered
from almining.canvas import LABEL
from almining.evaluate import mined as measured
from almining.records import Target
from tests.fakes import boxes, labels

CLASSES = ("cup", "dog")
IMAGE = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))
A, B, C, D = (0, 0, 40, 40), (50, 0, 90, 40), (0, 50, 40, 90), (100, 50, 124, 90)
TRUTH = Target(boxes(A, B, C, D), labels(1, 1, 2, 2))


def known(*mined: tuple[tuple[float, ...], int, float], person: tuple = (A,)) -> Target:
    """A target with a person's boxes of class 1 and mined ones (box, label, score)."""
    return Target(
        boxes(*person, *(box for box, _, _ in mined)),  # type: ignore[arg-type]
        labels(*[1] * len(person), *(label for _, label, _ in mined)),
        origin=["human"] * len(person) + ["mined"] * len(mined),
        scores=torch.tensor([torch.nan] * len(person) + [score for *_, score in mined]),
        complete=False,
    )


EVERY = known(
    ((0, 0, 40, 38), 1, 0.9),  # the cup a person drew
    ((50, 0, 90, 36), 1, 0.8),
    ((50, 0, 90, 39), 1, 0.7),  # better placed, but later
    ((0, 52, 40, 90), 1, 0.6),  # a dog
    ((100, 70, 124, 90), 2, 0.5),  # half a dog would do, this is a little less
    ((44, 44, 60, 48), 2, 0.4),
)
WANTED = ["repeat", "found", "repeat", "wrong class", "found", "other"]


def test_each_mined_box_is_told() -> None:
    assert draw.tell_mined(EVERY, TRUTH) == (WANTED, [2])
    told = draw.tell_mined(EVERY, TRUTH, min_iou=0.51)
    assert told.kinds[4] == "badly placed" and told.missed == [2, 3]
    assert draw.tell_mined(known(), TRUTH) == ([], [1, 2, 3])
    nothing = Target(boxes(), labels())
    assert draw.tell_mined(EVERY, nothing) == (["other"] * 6, [])


def test_a_box_takes_the_free_object_it_overlaps_most() -> None:
    near = Target(boxes((0, 0, 10, 10), (2, 0, 12, 10)), labels(1, 1))
    one, two = ((2, 0, 12, 10), 1, 0.9), ((1, 0, 11, 10), 1, 0.8)
    assert draw.tell_mined(known(one, person=()), near) == (["found"], [0])
    assert draw.tell_mined(known(one, two, person=()), near) == (["found", "found"], [])
    assert draw.tell_mined(known(two, person=((2, 0, 12, 10),)), near).missed == []
    assert draw.tell_mined(known(one, person=((2, 0, 12, 10),)), near) == (["found"], [])


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((10, 0, 30, 10), 1, "badly placed"),  # IoU 1/3
        ((2, 0, 22, 10), 1, "other"),  # 1/19: a bare touch
        ((10, 0, 30, 10), 2, "other"),  # another class
    ],
)
def test_a_bare_touch_is_not_badly_placed(
    box: tuple[float, float, float, float], label: int, kind: str
) -> None:
    cup = Target(boxes((20, 0, 40, 10)), labels(1))
    assert draw.tell_mined(known((box, label, 0.5), person=()), cup) == ([kind], [0])


def test_ignored_boxes_are_neither_found_nor_missed() -> None:
    ignored = Target(TRUTH.boxes, TRUTH.labels, ignore=torch.tensor([False, True, True, False]))
    assert draw.tell_mined(EVERY, ignored).missed == []
    assert draw.tell_mined(EVERY, ignored).kinds[1] == "other"


@pytest.mark.parametrize("seed", range(5))
def test_found_and_missed_agree_with_the_measured_precision_and_recall(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)

    def some(n: int) -> torch.Tensor:
        corner = torch.rand(n, 2, generator=draws) * 20
        return torch.cat([corner, corner + 8 + torch.rand(n, 2, generator=draws) * 12], dim=1)

    kinds = torch.randint(1, 3, (30,), generator=draws)
    truth = Target(some(10), kinds[:10])
    mined = Target(
        torch.cat([truth.boxes[:2], some(18)]),
        torch.cat([truth.labels[:2], kinds[10:28]]),
        origin=["human"] * 2 + ["mined"] * 18,
        scores=torch.cat([torch.full((2,), torch.nan), torch.linspace(0.9, 0.1, 18)]),
        complete=False,
    )
    told, figures = draw.tell_mined(mined, truth), measured(mined, truth)
    assert told.kinds.count("found") > 0 and set(told.kinds) <= set(KINDS)
    assert told.kinds.count("found") / 18 == pytest.approx(figures["precision"])
    assert 1 - len(told.missed) / 8 == pytest.approx(figures["recall"])


# figures


def panels(fig: Figure) -> list[Axes]:
    return [ax for ax in fig.axes if ax.images]


def frames(ax: Axes, name: str) -> list[tuple[float, ...]]:
    """Extents of the boxes of a name, and of labelled ones under the name of their colour."""
    found = []
    for patch in ax.patches:
        kind = next((k for k, c in KINDS.items() if c.lower() == to_hex(patch.get_edgecolor())), "")
        if name in (patch.get_gid(), kind if patch.get_linestyle() == "--" else None):
            found.append(tuple(patch.get_bbox().extents.tolist()))
    return sorted(found)


def names(ax: Axes) -> list[str]:
    return sorted(text.get_text() for text in ax.texts if text.get_gid() == LABEL)


def test_colours_tell_what_a_mined_box_is() -> None:
    (ax,) = draw.mined(IMAGE, EVERY, classes=CLASSES, truth=TRUTH).axes
    rows = EVERY.boxes[1:].tolist()
    for kind in KINDS:
        wanted = sorted(tuple(b) for b, k in zip(rows, WANTED, strict=True) if k == kind)
        assert frames(ax, kind) == wanted
    assert frames(ax, "drawn") == [A] and frames(ax, "missed") == [C]
    assert names(ax) == ["cup 0.60", "cup 0.70", "cup 0.80", "cup 0.90", "dog 0.40", "dog 0.50"]


def test_without_the_truth_nothing_is_missed_and_many_boxes_are_not_named() -> None:
    (ax,) = draw.mined(IMAGE, EVERY, classes=CLASSES, title="t").axes
    assert len(frames(ax, "found")) == 6 and not frames(ax, "missed")
    assert ax.get_title(loc="left") == "t"
    many = known(*[((i, 0, i + 9, 9), 1, 0.5) for i in range(7)])
    (ax,) = draw.mined(IMAGE, many, classes=CLASSES, truth=TRUTH).axes
    assert names(ax) == [] and len(frames(ax, "mined")) == 7


def test_each_step_shows_what_it_dropped() -> None:
    last = EVERY.select(torch.tensor([0, 2, 4]))
    fig = draw.steps(IMAGE, {"one": EVERY, "two": last}, classes=CLASSES, truth=TRUTH)
    first, second = panels(fig)
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["one: 6 left", "two: 2 left"]
    assert not frames(first, "dropped")
    gone = [tuple(EVERY.boxes[i].tolist()) for i in (1, 3, 5, 6)]
    assert frames(second, "dropped") == sorted(gone)
    assert frames(second, "drawn") == [A]
    assert not draw.steps(IMAGE, {}, classes=CLASSES, truth=TRUTH).axes


def test_branches_are_rows_and_moments_columns() -> None:
    dark = IMAGE / 2
    moments = {"step 1": [(IMAGE, known()), (dark, EVERY)], "step 9": [(IMAGE, EVERY)] * 2}
    truths = [TRUTH, Target(boxes(), labels())]
    fig = draw.branches(moments, truths, names=["own", "view"], classes=CLASSES)
    axes = sorted(panels(fig), key=lambda ax: ax.get_subplotspec().num1)
    assert [ax.get_title(loc="left") for ax in axes] == ["step 1", "step 9", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["own", "", "view", ""]
    assert [len(frames(ax, "missed")) for ax in axes] == [3, 0, 1, 0]
    assert [len(frames(ax, "other")) for ax in axes] == [0, 6, 1, 6]
    assert axes[2].images[0].get_array().max() <= 0.5
    assert not draw.branches({}, [], names=[], classes=CLASSES).axes


def test_bars_stack_and_what_is_missed_hangs_below() -> None:
    each = [{"found": 1, "other": 2, "missed": 3}, {"repeat": 4, "missed": 0.5}]
    fig = draw.tally({"own": each, "view": each[::-1]}, [0, 10, 30], label="boxes")
    own, view = fig.axes

    def bars(ax: Axes, kind: str) -> list[tuple[float, ...]]:
        found = [p.get_bbox().extents.tolist() for p in ax.patches if p.get_gid() == kind]
        return [tuple(one) for one in found]

    assert bars(own, "found") == [(0, 0, 10, 1), (10, 0, 30, 0)]
    assert bars(own, "repeat") == [(0, 1, 10, 1), (10, 0, 30, 4)]
    assert bars(own, "other") == [(0, 1, 10, 3), (10, 4, 30, 4)]
    assert bars(own, "missed") == [(0, 0, 10, -3), (10, 0, 30, -0.5)]
    assert bars(view, "missed") == [(0, 0, 10, -0.5), (10, 0, 30, -3)]
    assert own.get_ylabel() == "boxes" and view.get_ylabel() == ""
    assert own.yaxis.get_major_formatter()(-2, 0) == "2"
    with pytest.raises(ValueError, match=r"counts\['own'\] has 2 stretches, and 2 starts make 1"):
        draw.tally({"own": each}, [0, 10], label="boxes")


def test_pushes_are_summed_where_anchors_lie_and_share_a_scale() -> None:
    anchors = boxes((0, 0, 8, 8), (2, 2, 10, 10), (120, 88, 140, 110), (60, 40, 64, 44))
    down, up = torch.tensor([1.0, 2, 5, -1]), torch.tensor([0.0, 0, 0, -9])
    sums = gathered(anchors, down, IMAGE, 8)
    assert sums.shape == (12, 16) and sums[0, 0] == 3 and sums[11, 15] == 5 and sums[5, 7] == -1
    few = known(person=(A, B))
    cases = {"sparse": (known(), anchors, down), "more": (few, anchors[:3], up[1:])}
    fig = draw.pushes(IMAGE, cases, truth=TRUTH, label="push")
    sparse, more = (ax for ax in fig.axes if len(ax.images) == 2)
    assert [ax.images[1].get_clim() for ax in (sparse, more)] == [(-9, 9)] * 2
    assert torch.from_numpy(sparse.images[1].get_array().data.copy()).equal(sums)
    colours = sparse.images[1].get_cmap()
    assert to_hex(colours(0.0)) == UP.lower() and colours(0.5)[3] < 0.02
    assert (len(frames(sparse, "drawn")), len(frames(sparse, "missed"))) == (1, 3)
    assert (len(frames(more, "drawn")), len(frames(more, "missed"))) == (2, 2)
    assert [ax.get_ylabel() for ax in fig.axes if len(ax.images) != 2] == ["push"]
