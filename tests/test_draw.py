"""Figures: what is on them, not which pixels."""

from __future__ import annotations

import io
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from almining import draw
from almining.canvas import GREY, LABEL, PALETTE
from almining.data.pool import ImageInfo, Pool
from almining.records import Detections, Evidence, Request, Target
from tests.fakes import boxes, labels

CLASSES = ("cup", "traffic light", "dog")
NAN = float("nan")


def image(height: int = 96, width: int = 128) -> torch.Tensor:
    return torch.linspace(0, 1, 3 * height * width).reshape(3, height, width)


def everything() -> Target:
    """One box each: a person's, mined, ignored; and one in which nothing is."""
    return Target(
        boxes((5, 3, 50, 40), (60, 50, 127, 95), (0, 60, 40, 96)),
        labels(1, 2, 3),
        origin=("human", "mined:x:1", "human"),
        scores=torch.tensor([NAN, 0.93, NAN]),
        ignore=torch.tensor([False, False, True]),
        negatives=boxes((50, 20, 75, 40)),
        complete=False,
    )


def found(n: int = 6, seed: int = 0) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 80
    size = torch.rand(n, 2, generator=generator) * 40 + 5
    return Detections(
        torch.cat([corner, corner + size], dim=1),
        torch.randint(1, 4, (n,), generator=generator),
        torch.linspace(0.9, 0.1, n),
        probs=torch.rand(n, 4, generator=generator).softmax(dim=1),
    )


def frames(fig: Figure) -> list[Rectangle]:
    return [patch for ax in fig.axes for patch in ax.patches if isinstance(patch, Rectangle)]


def names(fig: Figure) -> list[str]:
    return [text.get_text() for ax in fig.axes for text in ax.texts if text.get_gid() == LABEL]


def words(fig: Figure) -> str:
    return "|".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def outside(fig: Figure) -> list[str]:
    """The labels that stick out of their axes by more than half a pixel."""
    fig.draw_without_rendering()
    bad = []
    for ax in fig.axes:
        room = ax.get_window_extent().padded(0.5)
        for text in ax.texts:
            extent = text.get_bbox_patch().get_window_extent()
            if not all(room.contains(x, y) for x, y in extent.corners()):
                bad.append(text.get_text())
    return bad


# boxes


def test_each_kind_of_box_has_its_own_line() -> None:
    fig = draw.boxes(image(), everything(), classes=CLASSES)
    looks = {
        name: (frame.get_linestyle(), to_hex(frame.get_edgecolor()).upper(), frame.get_hatch())
        for name, frame in zip(names(fig), frames(fig), strict=True)
    }
    assert looks == {
        "cup": ("-", PALETTE[0], None),
        "traffic light 0.93": ("--", PALETTE[1], None),
        "dog, ignored": (":", GREY.upper(), None),
        "no object": ("-", GREY.upper(), "xx"),
    }
    assert frames(fig)[0].get_bbox().extents.tolist() == [5, 3, 50, 40]


def test_labels_stay_inside_at_any_corner_and_size() -> None:
    corners = boxes((0, 0, 8, 8), (120, 0, 128, 8), (0, 88, 8, 96), (120, 88, 128, 96))
    target = Target(corners, labels(2, 2, 2, 2))
    for size in (1.0, 4.0):
        fig = draw.boxes(image(), target, classes=CLASSES)
        fig.set_size_inches(2.0 * size, 1.7 * size)
        assert outside(draw.boxes(image(), target, classes=CLASSES)) == []
    assert outside(draw.boxes(image(300, 60), everything(), classes=CLASSES)) == []


def test_labels_keep_off_each_other_where_there_is_room() -> None:
    target = Target(boxes((40, 40, 80, 80), (40, 40, 80, 80), (41, 41, 82, 80)), labels(1, 2, 3))
    fig = draw.boxes(image(), target, classes=CLASSES)
    fig.draw_without_rendering()
    extents = [text.get_bbox_patch().get_window_extent() for text in fig.axes[0].texts]
    for a, b in itertools.combinations(extents, 2):
        assert not a.padded(-0.5).overlaps(b.padded(-0.5))


def test_min_score_and_limit_leave_boxes_out() -> None:
    fig = draw.boxes(image(), found(6), min_score=0.25)
    assert len(frames(fig)) == 5
    fig = draw.boxes(image(), found(6), limit=2)
    assert [name.rsplit(" ", 1)[1] for name in names(fig)] == ["0.90", "0.74"]
    kept = draw.boxes(image(), everything(), classes=CLASSES, min_score=0.95)
    assert names(kept) == ["cup", "dog, ignored", "no object"]


def test_no_box_no_class_names_and_one_pixel() -> None:
    assert frames(draw.boxes(image(), Target.unknown())) == []
    fig = draw.boxes(image(1, 1), Target(boxes((0, 0, 1, 1)), labels(9)), title="small")
    assert names(fig) == ["class 9"]
    assert "small" in words(fig)


def test_given_axes_are_drawn_on() -> None:
    fig = Figure()
    left, right = fig.subplots(1, 2)
    assert draw.boxes(image(), everything(), ax=right) is fig
    assert (len(left.patches), len(right.patches)) == (0, 4)


def test_an_image_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be a float32 tensor \(3, h, w\)"):
        draw.boxes(torch.zeros(96, 128, 3), everything())


# states and grid


def test_states_say_what_an_absent_box_means() -> None:
    whole = Target(boxes((5, 3, 50, 40)), labels(1))
    known = {
        "nothing": Target.unknown(),
        "tags": Target.unknown({1, 2}),
        "some": Target(whole.boxes, whole.labels, complete=False),
        "all": whole,
    }
    fig = draw.states(image(), known, classes=CLASSES)
    assert [ax.get_title(loc="left") for ax in fig.axes] == list(known)
    assert [len(ax.patches) for ax in fig.axes] == [0, 0, 1, 1]
    said = [
        "|".join(
            text.get_text()
            for artist in ax.artists
            for text in artist.findobj(matplotlib.text.Text)
        )
        for ax in fig.axes
    ]
    assert "tags unknown" in said[0] and "absent box says" in said[0]
    assert "cup|traffic light" in said[1]
    assert "tags unknown" in said[2]
    assert "cup" in said[3] and "background" in said[3]
    assert draw.states(image(), {"empty": Target.unknown(set())}, classes=CLASSES)
    assert "no state" in words(draw.states(image(), {}, classes=CLASSES))


class Images:
    def load(self, image_id: str) -> torch.Tensor:
        return image()


def test_grid_shows_every_image_once() -> None:
    pool = Pool(CLASSES, {f"im-{i}": everything() for i in range(5)}, Images())
    fig = draw.grid(pool, pool.ids, columns=3, captions={"im-1": "the second"})
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == ["im-0", "the second", "im-2", "im-3", "im-4"]
    assert len(frames(fig)) == 5 * 4
    assert outside(fig) == []
    seen = draw.grid(pool, ["im-0", "im-1"], detections={"im-0": found(2)})
    assert [len(ax.patches) for ax in seen.axes] == [2, 4]
    assert "no images" in words(draw.grid(pool, []))
    with pytest.raises(ValueError, match="columns = 0"):
        draw.grid(pool, pool.ids, columns=0)


# curves


def history(values: list[float], per: float = 100.0) -> SimpleNamespace:
    return SimpleNamespace(
        rows=[
            SimpleNamespace(
                cycle=i, picked=(), images=10 * i, boxes=25 * i, seconds=per * i,
                metrics={"AP50": value},
            )
            for i, value in enumerate(values)
        ]
    )  # fmt: skip


def test_interval_by_hand() -> None:
    mean, low, high = draw.interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182 * math.sqrt(5 / 3) / 2
    assert (mean, low, high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    assert draw.interval([2.0, 2.0]) == (2.0, 2.0, 2.0)
    mean, low, high = draw.interval([0.3])
    assert mean == 0.3 and math.isnan(low) and math.isnan(high)
    many = [float(i % 2) for i in range(100)]
    assert draw.interval(many)[2] == pytest.approx(0.5 + 1.96 * math.sqrt(25 / 99) / 10)
    assert draw.interval([4.0, 1.0, 3.0, 2.0]) == pytest.approx(draw.interval([1.0, 2, 3, 4]))
    with pytest.raises(ValueError, match="no value"):
        draw.interval([])


def test_curve_draws_means_and_intervals() -> None:
    seeds = [history([0.1, 0.3]), history([0.3, 0.5]), history([0.2, 0.4, 0.9])]
    fig = draw.curve({"bib": seeds, "random": history([0.1, 0.2])})
    (ax,) = fig.axes
    several, single = ax.containers
    assert several[0].get_xdata().tolist() == [0, 10]  # the cycles that all have
    assert several[0].get_ydata().tolist() == pytest.approx([0.2, 0.4])
    (bars,) = several[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends[0] == pytest.approx(draw.interval([0.1, 0.2, 0.3])[1:])
    assert not single[2]
    legend = fig.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["bib", "random"]
    assert "95%" in legend.get_title().get_text()
    fig.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(ax.get_window_extent())
    assert several[0].get_marker() != single[0].get_marker()


def test_curve_axes_have_units() -> None:
    labelled = {"images": "images labelled", "boxes": "boxes drawn or confirmed"}
    for x, text in labelled.items():
        ax = draw.curve({"a": history([0.1, 0.2])}, x=x).axes[0]
        assert ax.get_xlabel() == text
        assert ax.get_ylabel() == "AP50 on the test pool"
    for per, text in ((10.0, "(s)"), (400.0, "(min)"), (9000.0, "(h)")):
        ax = draw.curve({"a": history([0.1, 0.2], per)}, x="seconds").axes[0]
        assert ax.get_xlabel() == f"annotation time {text}"
        assert ax.lines[0].get_xdata().tolist() == [0, per]


def test_curve_takes_json_and_nothing() -> None:
    run = history([0.1, 0.2])
    text = json.dumps({"name": "a", "rows": [vars(row) for row in run.rows]})
    fig = draw.curve({"a": json.loads(text), "b": [json.loads(text)]})
    assert [line[0].get_ydata().tolist() for line in fig.axes[0].containers] == [[0.1, 0.2]] * 2
    assert "no runs" in words(draw.curve({}))


def test_curve_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"'a' has no metric 'AP'; it has AP50"):
        draw.curve({"a": history([0.1])}, metric="AP")
    with pytest.raises(ValueError, match="x = 'frames'"):
        draw.curve({"a": history([0.1])}, x="frames")


# evidence


def test_entropy_evidence_shows_the_most_uncertain_boxes() -> None:
    data = {"boxes": found(4).boxes, "entropies": torch.tensor([0.1, 1.2, 0.7, 0.3])}
    request = Request("q", "im-0", "complete", evidence=Evidence("entropy", data, "Most unsure."))
    fig = draw.evidence(image(), request, classes=CLASSES, limit=2)
    assert names(fig) == ["entropy 1.20", "entropy 0.70"]
    assert frames(fig)[0].get_xy() == pytest.approx(found(4).boxes[1, :2].tolist())
    assert "Most unsure." in words(fig)
    assert outside(fig) == []


def test_other_evidence_is_text_and_the_box_asked_about() -> None:
    why = Evidence("rank", {"x": 1}, "Ranks disagree.")
    request = Request("q", "im-0", "verify", box=boxes((9, 9, 40, 40))[0], label=3, evidence=why)
    fig = draw.evidence(image(), request, classes=CLASSES)
    assert names(fig) == ["dog?"]
    assert "Ranks disagree." in words(fig)
    region = Request("q", "im-0", "region", box=boxes((9, 9, 40, 40))[0])
    assert names(draw.evidence(image(), region, classes=CLASSES)) == ["what is here?"]
    bare = Request("q", "im-0", "tag")
    assert frames(draw.evidence(image(), bare, classes=CLASSES)) == []
    assert len(frames(draw.evidence(image(), bare, found(3), classes=CLASSES))) == 3


def test_entropy_evidence_without_entropies_takes_the_detections() -> None:
    request = Request("q", "im-0", "complete", evidence=Evidence("entropy", {}, "Unsure."))
    fig = draw.evidence(image(), request, found(3), classes=CLASSES)
    assert all(name.startswith("entropy ") for name in names(fig))
    half = Evidence("entropy", {"boxes": found(3).boxes}, "Unsure.")
    with pytest.raises(ValueError, match=r"'entropy' needs data \['entropies'\], got \['boxes'\]"):
        draw.evidence(image(), Request("q", "a", "tag", evidence=half), classes=CLASSES)


def pasted(n: int) -> dict[str, object]:
    data: dict[str, object] = {f"paste_{i}": torch.zeros(3, 20, 30).byte() for i in range(n)}
    data |= {
        "labels": labels(3),
        "terms": torch.full((n,), 0.5),
        "places": boxes(*[(0, 0, 9, 9)] * n),
    }
    return data | {"matched": torch.ones(n).bool()}


@pytest.mark.parametrize("count", [1, 6])
def test_pastes_stand_in_a_row_below_the_image(count: int) -> None:
    box = boxes((9, 9, 40, 40))[0]
    why = Evidence("consistency", pasted(count), "Not found again.")
    request = Request("q", "im-0", "region", box=box, evidence=why)
    fig = draw.evidence(image(), request, found(2), classes=CLASSES)
    top, *small = fig.axes
    assert [ax.get_xlabel().replace("\n", " ") for ax in small] == ["as dog 0.50"] * count
    assert top.get_xlabel() == "Not found again." and "what is here?" in names(fig)
    assert len(frames(fig)) == 3  # two detections and the region
    assert outside(fig) == []
    lows = [ax.get_window_extent() for ax in small]
    assert all(low.y1 < top.get_window_extent().y0 for low in lows)
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(lows))


def test_two_views_differ_by_colour_line_and_name() -> None:
    data = {
        "boxes": boxes((5, 5, 30, 30), (40, 5, 70, 30), (80, 40, 99, 60)),
        "labels": labels(1, 2, 3),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "view": labels(0, 1, 0),
        "agreed": torch.tensor([False, False, True]),
    }
    request = Request("q", "im-0", "complete", evidence=Evidence("views", data, "They differ."))
    fig = draw.evidence(image(), request, classes=CLASSES)
    looks = [(one.get_linestyle(), to_hex(one.get_edgecolor()).upper()) for one in frames(fig)]
    assert looks == [("-", PALETTE[0]), ("--", PALETTE[1]), ("-", PALETTE[2])]
    assert names(fig) == ["view a: cup 0.90", "view b: traffic light 0.80", "both views: dog 0.70"]


def test_two_heads_lie_on_either_side_of_the_box_asked_about() -> None:
    box = boxes((20, 20, 60, 60))
    data = {"boxes": box, "labels": labels(1), "seed": torch.tensor([[0.2, 0.8, 0, 0]])}
    data["mixed"] = torch.tensor([[0.1, 0.1, 0.1, 0.7]])
    why = Evidence("heads", data, "They differ.")
    request = Request("q", "im-0", "verify", box=box[0], label=1, evidence=why)
    fig = draw.evidence(image(), request, classes=CLASSES)
    assert names(fig) == ["seed head: cup 0.80", "mixed head: dog 0.70, cup 0.10", "cup?"]
    seed, mixed, middle = (float(one.get_x()) for one in frames(fig))
    assert seed < middle < mixed
    tiny = replace(request, evidence=replace(why, data=data | {"boxes": boxes((20, 20, 22, 22))}))
    shown = draw.evidence(image(), tiny, classes=CLASSES)
    assert [frame.get_width() for frame in frames(shown)[:2]] == [3, 1]


def test_frames_before_and_after_come_from_the_pool() -> None:
    infos = {f"im-{i}": ImageInfo(video="a", frame=i) for i in range(3)}
    pool = Pool(CLASSES, {i: Target.unknown() for i in infos}, Images(), infos=infos)
    data = {"blocks": torch.rand(12, 16), "region": 8}
    data |= {"offsets": labels(-1), "neighbours": torch.tensor([0.25])}
    request = Request("q", "im-1", "complete", evidence=Evidence("divergence", data, "There."))
    assert len(draw.evidence(image(), request, classes=CLASSES).axes) == 1
    fig = draw.evidence(image(), request, classes=CLASSES, pool=pool)
    assert [ax.get_xlabel() for ax in fig.axes] == ["There.", "frame 0: 0.25", "frame 2"]


# showing


def test_png_is_a_hundred_dots_per_inch_and_the_same_each_time() -> None:
    fig = draw.blank("nothing")
    data = draw.png(fig)
    assert Image.open(io.BytesIO(data)).size == (400, 100)
    assert fig._repr_png_() == data == draw.png(draw.blank("nothing"))


def test_nothing_leaks_into_pyplot() -> None:
    from matplotlib import pyplot

    draw.boxes(image(), everything())
    draw.curve({"a": history([0.1])})
    assert pyplot.get_fignums() == []


def test_show_carries_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    calls = []
    monkeypatch.setattr(display, "display", lambda *args, **named: calls.append((args, named)))
    draw.show(draw.blank("x"), alt="an empty figure")
    ((bundle,), named) = calls[0]
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert named == {"raw": True, "metadata": {"image/png": {"alt": "an empty figure"}}}
    with pytest.raises(ValueError, match="alt is empty"):
        draw.show(draw.blank("x"), alt=" ")


def test_no_text_is_smaller_than_eight_points() -> None:
    pool = Pool(CLASSES, {"im-0": everything()}, Images())
    for fig in (
        draw.states(image(), {"some": everything()}, classes=CLASSES),
        draw.grid(pool, pool.ids),
        draw.curve({"a": [history([0.1, 0.2]), history([0.2, 0.3])]}),
    ):
        sizes = [text.get_fontsize() for text in fig.findobj(matplotlib.text.Text)]
        assert min(sizes) >= 8


def test_few_points_have_their_own_ticks_and_null_is_no_number() -> None:
    rows = [
        {"images": images, "boxes": 0, "seconds": 0.0, "cycle": 0, "metrics": {"AP50": ap}}
        for images, ap in ((10, None), (30, 0.5), (50, 0.6))
    ]
    (ax,) = draw.curve({"one": {"rows": rows}}).axes
    assert ax.get_xticks().tolist() == [10, 30, 50]
    (line,) = [line for line in ax.get_lines() if len(line.get_xdata()) == 3]
    assert math.isnan(line.get_ydata()[0]) and line.get_ydata()[2] == 0.6
