"""Ways of losses, rows under the mask, and precision over θ_b: what is on the figures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from almining import draw
from almining.detectors.note import note_rcnn
from almining.records import Target
from almining.rng import forked, generator
from almining.routes import HEADS, ROWS
from tests.fakes import boxes, labels

PARTS = ("features", "rpn", "box-features", *HEADS.values())
IMAGE = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
A, B, C = (0, 0, 20, 20), (30, 0, 60, 30), (0, 25, 10, 35)
TRUTH = Target(boxes(A, B, C), labels(1, 2, 1), ignore=torch.tensor([False, False, True]))


def way(loss: str, **norms: float) -> dict[str, dict[str, float]]:
    """One loss that reaches some parts, `_` for `-` in their names, and no other."""
    found = {name.replace("_", "-"): norm for name, norm in norms.items()}
    return {loss: dict.fromkeys(PARTS, 0.0) | found}


def gids(ax: Axes) -> set[str]:
    return {str(one.get_gid()) for one in (*ax.patches, *ax.lines) if one.get_gid()}


def said(ax: Axes) -> dict[str, str]:
    return dict(text.get_text().split("\n") for text in ax.texts)


# the ways of losses


def test_only_what_a_gradient_reaches_is_lit() -> None:
    mined = way("cls_a", det_cls_a=3.0, box_features=4.0, features=1.0) | way("cls")
    fig = draw.routes({"mined": mined, "silent": way("rpn_reg")})
    first, second = fig.axes
    lit = {"det-cls-a", "box-features", "features"}
    assert gids(first) == lit | {"box-features<det-cls-a", "features<box-features"}
    assert gids(second) == set()
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["mined", "silent"]
    assert said(first) == dict.fromkeys(PARTS, "nothing") | {
        "det-cls-a": "3",
        "box-features": "4",
        "features": "1",
    }


def test_norms_of_several_losses_add_up_and_ways_are_of_one_loss() -> None:
    stopped = way("reg", det_reg=1.0) | way("cls", box_features=3.0) | way("cls_a", box_features=4)
    (ax,) = draw.routes({"one": stopped}).axes
    assert said(ax)["box-features"] == "5"
    assert gids(ax) == {"det-reg", "box-features"}, "no loss reaches both"


def test_parts_that_a_detector_lacks_are_left_out() -> None:
    losses = {"cls": {"features": 1.0, "box-features": 1.0, "det-cls": 1.0}}
    (ax,) = draw.routes({"naive": losses}).axes
    assert set(said(ax)) == {"features", "box-features", "det-cls"}
    assert not draw.routes({}).axes
    with pytest.raises(ValueError, match="loss 'mil' of 'one': use rpn_cls"):
        draw.routes({"one": {"mil": {}}})


def test_every_part_and_loss_of_the_detector_has_its_place() -> None:
    detector = note_rcnn(["a", "b"], min_size=64)
    with forked(0, torch.device("cpu")):
        losses = detector.losses(
            [torch.rand(3, 64, 64, generator=generator(0))],
            [Target(boxes((8, 8, 40, 40)), labels(1))],
            generator=generator(0),
        )
    assert set(losses) | {"distill"} == set(HEADS)
    assert set(detector.parts()) | {"det-cls-s"} == set(PARTS)


# rows under the mask

ROWS_OF_MINED = draw.Rows(
    "mined",
    IMAGE,
    boxes(A, (0, 0, 20, 18), B, (40, 32, 50, 40), C),
    labels(1, 0, 0, 0, 0),
    torch.tensor([0.5, 0.25, 2.0, 0.125, 0.0625]),
    torch.tensor([True, False, False, False, False]),
    TRUTH,
)
SEED = ROWS_OF_MINED._replace(title="seed", counts=torch.ones(5).bool())


def bars(ax: Axes) -> list[tuple[float, str, bool]]:
    """Height, colour and whether it is filled, of each bar from left to right."""
    found = []
    for bar in sorted(ax.patches, key=lambda bar: bar.get_x()):
        filled = to_hex(bar.get_facecolor()) == to_hex(bar.get_edgecolor())
        found.append((bar.get_height(), to_hex(bar.get_edgecolor()).upper(), filled))
    return found


def test_rows_are_told_apart_by_the_truth() -> None:
    on, off = "background, but an object", "background"
    assert draw.tell_rows(ROWS_OF_MINED) == ["object", on, on, off, off]
    empty = replace(TRUTH, ignore=torch.ones(3).bool())
    assert draw.tell_rows(SEED._replace(truth=empty)) == ["object", *[off] * 4]


def test_bars_go_by_kind_and_loss_and_masked_ones_are_hollow() -> None:
    fig = draw.masked([SEED, ROWS_OF_MINED])
    pictures = [ax for ax in fig.axes if ax.images]
    seed, mined = (ax for ax in fig.axes if not ax.images)
    good, wrong, none = (
        ROWS[k].upper() for k in ("object", "background, but an object", "background")
    )
    wanted = [(0.5, good), (2.0, wrong), (0.25, wrong), (0.125, none), (0.0625, none)]
    assert bars(seed) == [(*one, True) for one in wanted]
    assert bars(mined) == [(*one, place == 0) for place, one in enumerate(wanted)]
    assert [ax.get_xlabel() for ax in (seed, mined)] == ["5 of 5 rows count", "1 of 5 rows count"]
    assert seed.get_ylim() == mined.get_ylim()
    assert [ax.get_title(loc="left") for ax in pictures] == ["seed", "mined"]
    frames = {
        p.get_bbox().extents.tolist()[2:] == [20, 20]: p.get_gid() for p in pictures[1].patches
    }
    assert frames == {True: "counts", False: "masked"}


def test_an_image_without_rows_and_no_image_are_drawn() -> None:
    none = draw.Rows("", IMAGE, boxes(), labels(), torch.zeros(0), torch.zeros(0).bool(), TRUTH)
    fig = draw.masked([none])
    assert fig.axes[1].get_xlabel() == "0 of 0 rows count"
    assert not draw.masked([]).axes


# precision over θ_b

CURVE = ([0.9, 0.8, 0.2], [1, 3, 4], [1.0, 2 / 3, 0.5])


@pytest.mark.parametrize(
    ("min_score", "wanted"), [(0.0, (4, 0.5)), (0.2, (3, 2 / 3)), (0.85, (1, 1.0))]
)
def test_boxes_that_score_more_are_kept(min_score: float, wanted: tuple[int, float]) -> None:
    assert draw.kept(CURVE, min_score) == wanted


def here(fig: Figure) -> list[tuple[float, float]]:
    (ax,) = fig.axes
    lines = [line for line in ax.lines if line.get_gid() == "here"]
    return [tuple(line.get_xydata()[0].tolist()) for line in lines]


def test_the_threshold_is_marked_on_every_curve_and_said() -> None:
    curves = {"one": CURVE, "none": ([], [], [])}
    fig = draw.trade(curves, 0.5)
    (ax,) = fig.axes
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["one: 3 boxes, 67% right", "none: 0 boxes"]
    assert here(fig)[0] == (3, 2 / 3) and math.isnan(here(fig)[1][1])
    assert ax.get_title(loc="left") == "θ_b = 0.50"
    (line,) = (line for line in ax.lines if line.get_gid() == "one")
    assert line.get_xydata().tolist() == [[1, 1], [3, 2 / 3], [4, 0.5]]
    assert here(draw.trade(curves)) == [] and not draw.trade({}).axes
