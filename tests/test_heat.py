"""Maps drawn over images and films drawn with their scores: what is on the figures."""

from __future__ import annotations

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from almining import draw
from almining.data.pool import ImageInfo, Pool
from almining.heat import PICK, _spread
from almining.records import Evidence, Request, Target
from tests.fakes import boxes, labels

IMAGE = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
IDS = [f"a/{i}" for i in range(12)]
RAW = [0.1 * (i % 5) for i in range(12)]


class Frames:
    def load(self, image_id: str) -> torch.Tensor:
        return IMAGE


def film(**infos: ImageInfo) -> Pool:
    known = {one: ImageInfo((20, 30), "a", 10 + i) for i, one in enumerate(IDS)}
    targets = dict.fromkeys(IDS, Target.unknown())
    targets[IDS[11]] = Target(boxes((2, 2, 8, 12)), labels(1))
    return Pool(("person",), targets, Frames(), infos=known | infos)


def maps(fig: Figure) -> list[Axes]:
    return [ax for ax in fig.axes if len(ax.images) == 2]  # the image, and the map above it


# maps


def test_a_map_lies_over_its_image() -> None:
    values = torch.arange(600.0).view(20, 30)
    fig = draw.heat(IMAGE, values, title="entropy", label="nats")
    (ax,) = maps(fig)
    shown = ax.images[1]
    assert torch.from_numpy(shown.get_array().data.copy()).equal(values)
    assert shown.get_extent() == [0, 30, 20, 0] and shown.get_clim() == (0, 599)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 30), (20, 0))
    assert ax.get_title(loc="left") == "entropy"
    assert [one.get_ylabel() for one in fig.axes if one is not ax] == ["nats"]
    alpha = shown.get_cmap()([0.0, 0.1, 1.0])[:, 3]
    assert alpha[0] == 0 < alpha[1] < alpha[2] < 1  # nothing hides nothing


def test_regions_tile_from_the_upper_left_and_are_cut_at_the_edge() -> None:
    (ax,) = maps(draw.heat(IMAGE, torch.ones(3, 4), region=8, high=2))
    assert ax.images[1].get_extent() == [0, 32, 24, 0] and ax.images[1].get_clim() == (0, 2)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 30), (20, 0))


def test_a_map_of_zeros_and_an_image_of_one_colour_can_be_drawn() -> None:
    (ax,) = maps(draw.heat(torch.full((3, 4, 4), 0.5), torch.zeros(4, 4)))
    assert ax.images[1].get_clim() == (0, 1)
    assert torch.as_tensor(ax.images[0].get_array().data.copy()).isfinite().all()


@pytest.mark.parametrize(("shape", "region"), [((19, 30), 1), ((3, 4), 10), ((1, 20, 30), 1)])
def test_a_map_of_another_image_is_refused(shape: tuple[int, ...], region: int) -> None:
    with pytest.raises(ValueError, match=r"values must have shape .* of an image 20 x 30"):
        draw.heat(IMAGE, torch.ones(shape), region=region)


def test_scales_share_colours_in_a_row_and_the_view_among_all() -> None:
    pixels = [torch.full((20, 30), value) for value in (0.2, 0.9)]
    blocks = [torch.full((3, 4), value) for value in (3.0, 2.0)]
    fig = draw.scales(IMAGE, {"p": pixels, "top": blocks}, ["large", "small"], region=8)
    axes = maps(fig)
    assert [ax.get_title(loc="left") for ax in axes] == ["large", "small", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["p", "", "top", ""]
    tops = [ax.images[1].get_clim()[1] for ax in axes]
    assert tops == pytest.approx([0.9, 0.9, 3, 3])
    assert len(fig.axes) == 4 + 2  # a colour bar each row
    axes[0].set_xlim(5, 10)
    assert {ax.get_xlim() for ax in axes} == {(5, 10)}
    with pytest.raises(ValueError, match=r"rows\['p'\] has 2 maps for 1 columns"):
        draw.scales(IMAGE, {"p": pixels}, ["large"])
    assert not draw.scales(IMAGE, {}, []).axes


# evidence


def test_evidence_of_divergence_shows_regions_and_frames_the_highest() -> None:
    blocks = torch.zeros(3, 4)
    blocks[1, 2] = 0.7
    why = Evidence("divergence", {"score": 0.1, "blocks": blocks, "region": 8}, "highest there")
    asked = Request("r", "a/0", "complete", evidence=why)
    fig = draw.evidence(IMAGE, asked, classes=("person",))
    ax = fig.axes[0]
    assert torch.from_numpy(ax.images[-1].get_array().data.copy()).equal(blocks)
    (frame,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert frame.get_bbox().extents.tolist() == [16, 8, 24, 16]
    assert ax.get_xlabel() == "highest there" and ax.get_title(loc="left") == "complete: a/0"
    bare = Request("r", "a/0", "complete", evidence=Evidence("divergence", {"score": 0.1}, "x"))
    with pytest.raises(ValueError, match=r"needs data \['blocks', 'region'\], got \['score'\]"):
        draw.evidence(IMAGE, bare, classes=("person",))


# films


def by_name(ax: Axes, name: str) -> list:
    return [one for one in (*ax.lines, *ax.patches, *ax.collections) if one.get_gid() == name]


def test_a_film_has_curves_picks_and_blocked_frames() -> None:
    smoothed = [one / 2 for one in RAW]
    fig = draw.filmstrip(
        film(), IDS, RAW, smoothed, picks=[IDS[9], IDS[4]], before=[IDS[0]], blocked=IDS[2:4]
    )
    ax, *thumbs = fig.axes
    (raw,), (smooth,) = by_name(ax, "raw"), by_name(ax, "smoothed")
    assert raw.get_xdata().tolist() == list(range(10, 22)) and raw.get_ydata().tolist() == RAW
    assert smooth.get_ydata().tolist() == smoothed
    (now,), (before,) = by_name(ax, "picked"), by_name(ax, "picked before")
    assert now.get_offsets().tolist() == [[19, smoothed[9]], [14, smoothed[4]]]
    assert before.get_offsets().tolist() == [[10, smoothed[0]]]
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert [(one.get_x(), one.get_width()) for one in by_name(ax, "blocked")] == [
        (11.5, 1),
        (12.5, 1),
    ]
    titles = [thumb.get_title() for thumb in thumbs]
    assert len(titles) == 7 and titles[0] == "10" and titles[-1] == "21"
    assert "19: pick 1" in titles and "14: pick 2" in titles and "12, blocked" in titles
    framed = {to_hex(t.spines["top"].get_edgecolor()) for t in thumbs if "pick" in t.get_title()}
    assert framed == {PICK.lower()}
    assert [len(thumb.patches) for thumb in thumbs] == [0] * 6 + [1]  # the one box that is known


def test_without_smoothing_picks_lie_on_the_raw_curve() -> None:
    fig = draw.filmstrip(film(), IDS, torch.tensor(RAW), picks=[IDS[3]], most=4)
    ax, *thumbs = fig.axes
    assert not by_name(ax, "smoothed") and len(thumbs) == 4
    assert by_name(ax, "picked")[0].get_offsets().tolist() == [[13, pytest.approx(RAW[3])]]
    known = [text.get_text() for text in fig.subfigs[0].legends[0].get_texts()]
    assert known == ["raw", "picked"]


def test_films_that_cannot_be_drawn() -> None:
    assert not draw.filmstrip(film(), [], []).axes
    assert len(draw.filmstrip(film(), IDS[:1], [1.0]).axes) == 2
    with pytest.raises(ValueError, match="raw has 3 scores for 12 frames"):
        draw.filmstrip(film(), IDS, [1.0] * 3)
    with pytest.raises(ValueError, match="smoothed has 1 scores for 12 frames"):
        draw.filmstrip(film(), IDS, RAW, [1.0])
    with pytest.raises(ValueError, match="'b/1' was picked, but is not among the frames"):
        draw.filmstrip(film(), IDS, RAW, picks=["b/1"])
    two = film(**{IDS[3]: ImageInfo((20, 30), "b", 3)})
    with pytest.raises(ValueError, match="several videos"):
        draw.filmstrip(two, IDS, RAW)


@pytest.mark.parametrize(
    ("picks", "n", "most", "wanted"),
    [
        ([], 5, 8, [0, 1, 2, 3, 4]),
        ([], 9, 3, [0, 4, 8]),
        ([3, 5], 9, 3, [0, 3, 5]),  # 4 makes room for the first, 8 for the second
        ([2, 7, 4], 9, 2, [2, 4, 7]),  # all picks are shown
        ([0, 1], 2, 1, [0, 1]),
    ],
)
def test_thumbnails_are_spread_and_picks_are_among_them(
    picks: list[int], n: int, most: int, wanted: list[int]
) -> None:
    assert _spread(picks, n, most) == wanted
