"""A contact sheet says what is known of each image, and what a reader found wrong."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from almining import draw
from almining.canvas import GREY, LABEL, PALETTE
from almining.data.formats.files import ImageFiles
from almining.data.pool import Finding, ImageInfo, Pool
from almining.records import Target
from almining.sheets import WRONG, count_findings, sheet, spread
from tests.fakes import FlatImages, boxes, flat_pool, labels, target


def words(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.findobj(matplotlib.text.Text) if text.get_text()]


def rectangles(fig: Figure) -> list[Rectangle]:
    return [patch for ax in fig.axes for patch in ax.patches if isinstance(patch, Rectangle)]


def pool_of(targets: dict[str, Target], findings: tuple[Finding, ...] = ()) -> Pool:
    return Pool(("cup", "dog"), targets, FlatImages(), findings=findings)


def test_every_state_is_named_and_every_box_drawn() -> None:
    known = {
        "a-1": target((1, 1, 9, 9), (3, 3, 8, 8)),
        "a-2": target(),
        "a-3": target((1, 1, 9, 9), complete=False),
        "a-4": Target.unknown({1, 2}),
        "a-5": Target.unknown(),
    }
    fig = sheet(pool_of(known), title="all five")
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == [
        "a-1",
        "a-2\nempty",
        "a-3\nsparse",
        "a-4\ntagged: cup, dog",
        "a-5\nunlabelled",
    ]
    assert len(rectangles(fig)) == 3
    heading = "all five: Pool(5: 2 complete (1 empty), 1 sparse, 1 tagged, 1 unlabelled)"
    assert any(word.replace("\n", " ") == heading for word in words(fig))


def test_colour_is_class_and_style_is_origin() -> None:
    kinds = Target(
        boxes((0, 0, 5, 5), (1, 1, 6, 6), (2, 2, 7, 7)),
        labels(1, 2, 2),
        origin=("human", "mined", "human"),
        ignore=torch.tensor([False, False, True]),
        complete=False,
    )
    fig = draw.sheet(pool_of({"a-1": kinds}))
    drawn = {r.get_x(): (to_hex(r.get_edgecolor()), r.get_linestyle()) for r in rectangles(fig)}
    assert drawn == {
        0.0: (PALETTE[0].lower(), "-"),
        1.0: (PALETTE[1].lower(), "--"),
        2.0: (GREY, ":"),
    }
    assert {"cup", "dog"} <= set(words(fig))  # the legend


def test_many_classes_are_named_at_the_largest_boxes() -> None:
    names = tuple(f"class {i}" for i in range(8))
    rows = boxes(*[(0, 0, 4 + i, 4 + i) for i in range(8)])
    pool = Pool(names, {"a-1": Target(rows, torch.arange(1, 9))}, FlatImages())
    fig = sheet(pool)
    said = [text.get_text() for text in fig.axes[0].texts if text.get_gid() == LABEL]
    assert said == ["class 7", "class 6", "class 5", "class 4", "class 3"]
    assert len(rectangles(fig)) == 8 and not fig.legends


def test_findings_are_counted_beneath() -> None:
    flat = Finding("/x/a.json", "annotation 3", "bbox", "[0, 0, 0, 1]", "repaired", "is dropped")
    other = Finding("/x/a.json", "image 9", "image file", "9.png", "quarantined", "is left out")
    pool = pool_of({"a-1": target()}, (other, flat, flat))
    assert count_findings(pool.findings) == [
        "2 repaired: bbox: is dropped (first: a.json, annotation 3)",
        "1 quarantined: image file: is left out (first: a.json, image 9)",
    ]
    said = " ".join(words(sheet(pool))).replace("\n", " ")
    assert "2 repaired: bbox: is dropped" in said and "3 findings" in said
    many = [Finding("f", "r", f"field {i}", "v", "warning", "look") for i in range(7)]
    assert "and 3 more kinds" in "".join(words(sheet(pool_of({"a-1": target()}, tuple(many)))))


def test_images_are_spread_over_the_pool_or_chosen() -> None:
    pool = flat_pool(10)
    shown = [ax.get_title(loc="left") for ax in sheet(pool, images=4).axes]
    assert shown == ["flat-0", "flat-3", "flat-6", "flat-9"]
    chosen = sheet(pool, ids=["flat-7", "flat-2"], columns=1)
    assert [ax.get_title(loc="left") for ax in chosen.axes] == ["flat-7", "flat-2"]
    assert spread(pool.ids, 1) == ["flat-0"] and spread([], 3) == []
    assert spread(pool.ids, 99) == list(pool.ids)


def test_a_long_id_is_cut_at_its_start() -> None:
    image_id = "JPEGImages/" + "x" * 60 + "-1"
    title = sheet(pool_of({image_id: target()}), columns=6).axes[0].get_title(loc="left")
    first = title.split("\n")[0]
    assert first.startswith("...") and image_id.endswith(first[3:]) and len(first) == 31
    narrow = sheet(pool_of({f"{image_id}{i}": target() for i in range(6)}))
    assert all(len(ax.get_title(loc="left").split("\n")[0]) <= 21 for ax in narrow.axes)


def test_an_empty_pool_and_bad_arguments() -> None:
    assert "no images to show" in " ".join(words(sheet(pool_of({})))).replace("\n", " ")
    with pytest.raises(ValueError, match="columns = 0"):
        sheet(flat_pool(1), columns=0)
    with pytest.raises(ValueError, match="images = 0"):
        sheet(flat_pool(1), images=0)
    with pytest.raises(ValueError, match="no image 'x'"):
        sheet(flat_pool(1), ids=["x"])


def test_images_with_findings_are_shown_and_marked() -> None:
    wrong = [
        Finding("a.json", "annotation 3", "bbox", "[]", "repaired", "dropped", f"flat-{i}")
        for i in (5, 5, 7)
    ]
    gone = Finding("a.json", "image 9", "file", "x", "quarantined", "left out", "flat-99")
    whole = flat_pool(10)
    targets = {image_id: whole.target(image_id) for image_id in whole.ids}
    pool = Pool(whole.classes, targets, FlatImages(), findings=[*wrong, gone])
    fig = sheet(pool, images=4)
    titles = {ax.get_title(loc="left"): to_hex(ax._left_title.get_color()) for ax in fig.axes}
    assert titles == {
        "flat-0": "#000000",
        "flat-5\nbbox repaired": WRONG.lower(),
        "flat-7\nbbox repaired": WRONG.lower(),
        "flat-9": "#000000",
    }
    assert [ax.get_title(loc="left") for ax in sheet(pool, images=1).axes] == ["flat-0"]


def test_a_broken_image_is_grey_and_says_why(tmp_path: Path) -> None:
    Image.new("RGB", (900, 1100), (255, 0, 0)).save(tmp_path / "large.png")
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    paths = {"bad": tmp_path / "bad.jpg", "large": tmp_path / "large.png"}
    known = {"bad": target((1, 1, 9, 9)), "large": target((300, 500, 600, 1000))}
    infos = {"bad": ImageInfo(size=(30, 40))}
    pool = Pool(("cup",), known, ImageFiles(paths), infos=infos)
    bad, large = sheet(pool).axes
    assert bad.get_title(loc="left").startswith("bad\nbroken: ")
    assert to_hex(bad._left_title.get_color()) == WRONG.lower()
    assert bad.get_xlim() == (0, 40) and len(bad.patches) == 1
    drawn = large.get_images()[0].get_array()
    assert max(drawn.shape) <= 2 * 400 and drawn[0, 0].tolist() == [1, 0, 0]
    assert large.get_xlim() == (0, 900) and large.patches[0].get_x() == 300
