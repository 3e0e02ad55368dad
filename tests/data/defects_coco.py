"""Rows of the catalogue in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from almining import evaluate
from almining.data.pool import Pool
from almining.records import Detections
from tests.data.defects import (
    FIRST,
    GOOD,
    HEIGHT,
    SECOND,
    WIDTH,
    Row,
    annotation,
    boxes,
    coco,
    is_complete,
    link,
    mean,
    save,
)

Change = Callable[[dict[str, Any]], None]


def at(kind: str, number: int, **fields: Any) -> Change:
    """Return a change of one record."""
    return lambda data: data[kind][number].update(fields)


def box(*values: Any) -> Change:
    """Return a change of the last box."""
    return at("annotations", 2, bbox=list(values))


def without(kind: str, number: int, name: str) -> Change:
    """Return a change that takes a field away."""
    return lambda data: data[kind][number].pop(name)


def second(*wanted: list[float]) -> Callable[[Pool], bool]:
    """Tell whether both images are complete and the second has just these boxes."""
    return lambda pool: is_complete(pool, "1", GOOD) and is_complete(pool, "2", *wanted)


WHOLE = second(FIRST, SECOND)
BAD = ("annotation 13", "bbox", "instances.json")


def corners(data: dict[str, Any]) -> None:
    """Write x1 y1 x2 y2, which as x y w h leave the image."""
    data["annotations"] = [annotation(i, 2, 1, [20 + i, 15, 30, 29]) for i in range(1, 6)]


def normalised(data: dict[str, Any]) -> None:
    """Write fractions of the image."""
    for entry in data["annotations"]:
        entry["bbox"] = [0.1, 0.2, 0.5, 0.25]


def percent(data: dict[str, Any]) -> None:
    """Write hundredths of images that are larger."""
    data["annotations"] = []
    data["images"] = [
        {"id": i, "file_name": f"{i}.png", "width": 500, "height": 400} for i in range(1, 7)
    ]
    for i in range(24):
        bbox = [4.25 * (i % 12), 3.5 * (i % 7), 40.5, 60.25]
        data["annotations"].append(annotation(i + 1, i % 6 + 1, 1, bbox))


def large_images(folder: Path) -> None:
    """Write the images `percent` names."""
    for i in range(1, 7):
        save(folder / f"{i}.png", "L", (500, 400))


def many(data: dict[str, Any]) -> None:
    """Write 20,000 different boxes."""
    data["annotations"] = [
        annotation(i, i % 2 + 1, 1, [i % 30, i % 19, 1 + i / 4000, 1 + i % 7])
        for i in range(1, 20_001)
    ]


def nothing_found(pool: Pool) -> bool:
    """Tell whether evaluating no detection at all gives 0."""
    none = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    found = evaluate.coco(dict.fromkeys(pool.ids, none), pool)
    return found["AP"] == 0 and found["AP50"] == 0


def gbk(text: str) -> bytes:
    """Return bytes that are GBK and not UTF-8."""
    return text.replace('"cat"', '"狗熊"').encode("gbk")


def nothing_drawn(pool: Pool) -> bool:
    """Tell whether both images are complete and empty."""
    return all(is_complete(pool, i) and pool.target(i).boxes.shape == (0, 4) for i in "12")


def ignored(*wanted: bool) -> Callable[[Pool], bool]:
    """Tell whether the boxes of the second image are ignored so."""
    return lambda pool: WHOLE(pool) and pool.target("2").ignore.tolist() == list(wanted)


CROWD = ignored(False, True)
RLE = {"counts": [10, 20, WIDTH * HEIGHT - 30], "size": [HEIGHT, WIDTH]}
PACKED = {"counts": "0:T1", "size": [HEIGHT, WIDTH]}
TWICE = '{"images": [], "categories": [], "annotations": [], "annotations": []}'
ALONE = at("images", 1, file_name="deep/good.png")

ROWS: list[Row] = [
    coco(1, "zero width", "R", box(10, 10, 0, 5), words=BAD, holds=second(FIRST)),
    coco(1, "zero height", "R", box(10, 10, 5, 0), words=BAD, holds=second(FIRST)),
    coco(2, "negative width", "E", box(22, 10, -12, 9), words=(*BAD, "-12", "repair")),
    coco(2, "negative height", "E", box(10, 19, 12, -9), words=(*BAD, "-9")),
    coco(
        *(2, "negative width, asked to swap", "R", box(22, 19, -12, -9)),
        options={"repair": ["swap"]},
        words=BAD,
        holds=WHOLE,
    ),
    coco(
        *(5, "partly outside", "R", box(30, 20, 20, 5)),
        words=(*BAD, "clipped"),
        holds=second(FIRST, [30, 20, WIDTH, 25]),
    ),
    coco(5, "starts outside", "R", box(-5, 10, 12, 9), holds=second(FIRST, [0, 10, 7, 19])),
    coco(6, "outside", "E", box(50, 10, 12, 9), words=(*BAD, "outside", "50")),
    coco(6, "left of the image", "E", box(-30, 10, 12, 9), words=(*BAD, "-30")),
    coco(7, "NaN", "E", box(float("nan"), 10, 12, 9), words=(*BAD, "nan")),
    coco(7, "infinite", "E", box(10, 10, float("inf"), 9), words=(*BAD, "inf")),
    coco(8, "null", "E", at("annotations", 2, bbox=None), words=(*BAD, "null")),
    coco(8, "no bbox", "E", without("annotations", 2, "bbox"), words=BAD),
    coco(8, "empty", "E", box(), words=(*BAD, "[]")),
    coco(8, "three values", "E", box(10, 10, 12), words=(*BAD, "[10, 10, 12]")),
    coco(8, "text", "E", box("10", "10", "12", "9"), words=(*BAD, "'10'")),
    coco(8, "nested", "E", box([10, 10], [12, 9]), words=BAD),
    coco(9, "x1 y1 x2 y2", "warn", corners, words=("x y w h", "5 of 5"), findings=6),
    coco(10, "normalised", "E", normalised, words=("bbox", "normalised", "multiply"), fatal=True),
    coco(
        *(10, "percent", "E", percent),
        files=large_images,
        words=("bbox", "percent", "multiply"),
        fatal=True,
    ),
    coco(
        *(19, "suffix .JPG", "N", at("images", 1, file_name="bad.JPG")),
        files=lambda folder: save(folder / "bad.JPG", format="JPEG"),
        holds=WHOLE,
    ),
    coco(
        *(19, "no images", "E", lambda data: data.update(images=[], annotations=[])),
        words=("instances.json", "images", "count = 0"),
        fatal=True,
    ),
    coco(
        *(20, "dots, blanks, brackets", "N", at("images", 1, file_name="a.b (1) [x].c.png")),
        files=lambda folder: save(folder / "a.b (1) [x].c.png"),
        holds=WHOLE,
    ),
    coco(
        *(21, "not ASCII", "N", at("images", 1, file_name="зебра/猫.png")),
        files=lambda folder: save(folder / "зебра" / "猫.png"),
        holds=WHOLE,
    ),
    coco(
        *(22, "backslash", "R", at("images", 1, file_name="deep\\bad.png")),
        files=lambda folder: save(folder / "deep" / "bad.png"),
        words=("file_name", "image 2"),
        holds=WHOLE,
    ),
    coco(
        *(23, "equal names in two folders", "N", ALONE),
        files=lambda folder: save(folder / "deep" / "good.png", color="white"),
        holds=lambda pool: WHOLE(pool) and [mean(pool, i) for i in "12"] == [[0] * 3, [1] * 3],
    ),
    coco(24, "link inside", "N", files=link("bad.png", "good.png"), holds=WHOLE),
    coco(
        *(24, "broken link", "Q"),
        files=link("bad.png", "gone.png"),
        words=("bad.png", "broken", "gone.png"),
        holds=lambda pool: pool.ids == ("1",),
    ),
    coco(
        *(24, "link to itself", "Q"),
        files=link("bad.png", "bad.png"),
        words=("bad.png", "link"),
        holds=lambda pool: pool.ids == ("1",),
    ),
    coco(
        *(24, "link out of the folder", "E"),
        files=link("bad.png", "../instances.json"),
        words=("bad.png", "the link leaves"),
    ),
    coco(
        *(25, "path goes up", "E", at("images", 1, file_name="../images/bad.png")),
        words=("image 2", "file_name", "../images/bad.png", "leaves"),
    ),
    coco(
        *(25, "absolute path", "E", at("images", 1, file_name="/etc/hostname")),
        words=("image 2", "file_name", "/etc/hostname", "leaves"),
    ),
    coco(
        *(25, "drive", "E", at("images", 1, file_name="C:\\data\\bad.png")),
        words=("image 2", "file_name", "C:", "leaves"),
    ),
    coco(
        *(26, "file absent", "Q", at("images", 1, file_name="gone.png")),
        words=("image 2", "gone.png"),
        holds=lambda pool: pool.ids == ("1",) and is_complete(pool, "1", GOOD),
    ),
    coco(
        *(27, "image id twice", "E", at("images", 1, id=1)),
        words=("images[", "id", "= 1", "2 images"),
        findings=2 + 2,
        fatal=True,
    ),
    coco(28, "annotation id twice", "E", at("annotations", 2, id=12), words=("12", "id", "twice")),
    coco(
        *(28, "annotation id twice, asked to renumber", "R", at("annotations", 2, id=12)),
        options={"repair": ["renumber"]},
        words=("12", "id"),
        holds=WHOLE,
    ),
    coco(29, "annotation id 0", "R", at("annotations", 2, id=0), words=("id", "0"), holds=WHOLE),
    coco(
        *(30, "id as text", "R", at("annotations", 2, image_id="2")),
        words=("image_id", "annotation 13"),
        holds=WHOLE,
    ),
    coco(
        *(30, "ids equal as text", "E", at("images", 1, id="1")),
        words=("images[", "id"),
        findings=2 + 2,
        fatal=True,
    ),
    coco(
        *(31, "category ids far apart", "N"),
        change=lambda data: (
            data["categories"][1].update(id=10**12),
            data["annotations"][1].update(category_id=10**12),
        ),
        holds=lambda pool: WHOLE(pool) and pool.target("2").labels.tolist() == [2, 1],
    ),
    coco(
        *(32, "unknown category", "E", at("annotations", 2, category_id=7)),
        words=("annotation 13", "category_id", "7"),
    ),
    coco(
        *(33, "category id twice", "E", at("categories", 1, id=1)),
        words=("categories[1]", "id", "twice"),
        findings=2,
        fatal=True,
    ),
    coco(
        *(33, "category name twice", "E", at("categories", 1, name="cat")),
        words=("name", "cat"),
        fatal=True,
    ),
    coco(
        *(33, "names differ in case", "E", at("categories", 1, name="Cat")),
        words=("name", "'Cat'", "case"),
        fatal=True,
    ),
    coco(
        *(33, "blanks around a name", "warn", at("categories", 1, name="dog ")),
        words=("categories[1]", "name", "blanks"),
        holds=WHOLE,
    ),
    coco(
        *(34, "annotation of no image", "E", at("annotations", 2, image_id=9)),
        words=("annotation 13", "image_id", "9"),
        lenient=second(FIRST),
    ),
    coco(
        *(34, "annotation of no image, asked to drop", "R", at("annotations", 2, image_id=9)),
        options={"repair": ["orphans"]},
        words=("annotation 13", "image_id"),
        holds=second(FIRST),
    ),
    coco(35, "no iscrowd", "R", without("annotations", 2, "iscrowd"), holds=ignored(False, False)),
    coco(35, "no area", "R", without("annotations", 2, "area"), words=("area",), holds=WHOLE),
    coco(36, "iscrowd", "N", at("annotations", 2, iscrowd=1), holds=CROWD),
    coco(36, "ignore", "N", at("annotations", 2, ignore=1), holds=CROWD),
    coco(36, "IsGroupOf", "N", at("annotations", 2, IsGroupOf=1), holds=CROWD),
    coco(
        *(37, "crowd as run lengths", "N", at("annotations", 2, iscrowd=1, segmentation=RLE)),
        holds=CROWD,
    ),
    coco(
        *(37, "crowd as packed run lengths", "N"),
        change=at("annotations", 2, iscrowd=1, segmentation=PACKED),
        holds=CROWD,
    ),
    coco(
        *(38, "image without boxes", "N", lambda data: data.update(annotations=[])),
        holds=nothing_drawn,
    ),
    coco(
        *(39, "image file the labels do not name", "N"),
        files=lambda folder: save(folder / "new.png"),
        holds=lambda pool: pool.ids == ("1", "2") and WHOLE(pool),
    ),
    coco(
        *(40, "partial labels, declared", "N"),
        change=lambda data: data["annotations"].pop(0),
        options={"exhaustive": False},
        holds=lambda pool: [pool.target(i).state for i in pool.ids] == ["unlabelled", "sparse"],
    ),
    coco(
        *(41, "duplicate box", "R", at("annotations", 2, category_id=2, bbox=[2, 2, 8, 8])),
        words=("annotation 13", "duplicate"),
        holds=second(FIRST),
    ),
    coco(
        *(41, "nearly the same box", "N"),
        change=at("annotations", 2, category_id=2, bbox=[2, 2, 8, 8.5]),
        holds=second(FIRST, [2, 2, 10, 10.5]),
    ),
    coco(
        *(42, "width and height swapped", "E", at("images", 1, width=HEIGHT, height=WIDTH)),
        words=("bad.png", "40 x 30", "30 x 40", "swapped"),
        lenient=None,
        alone=True,
    ),
    coco(
        *(42, "wrong width", "E", at("images", 1, width=80)),
        words=("bad.png", "40 x 30", "80 x 30"),
        lenient=None,
        alone=True,
    ),
    coco(
        42, "no width", "R", without("images", 1, "width"), words=("image 2", "size"), holds=WHOLE
    ),
    coco(
        52, "byte order mark", "N", text=lambda text: b"\xef\xbb\xbf" + text.encode(), holds=WHOLE
    ),
    coco(
        *(52, "latin-1", "E"),
        text=lambda text: text.replace('"cat"', '"caf\u00e9"').encode("latin-1"),
        words=("instances.json", "encoding", "UTF-8", "0xe9"),
        fatal=True,
    ),
    coco(52, "GBK", "E", text=gbk, words=("instances.json", "encoding", "UTF-8"), fatal=True),
    coco(53, "cut short", "E", text=lambda text: text[:-40], words=("line 1", "JSON"), fatal=True),
    coco(53, "empty file", "E", text=lambda text: "", words=("JSON", "is empty"), fatal=True),
    coco(53, "a list", "E", text=lambda text: f"[{text}]", words=("top level", "list"), fatal=True),
    coco(53, "key twice", "E", text=lambda text: TWICE, words=("key", "annotations"), fatal=True),
    coco(
        *(53, "no annotations", "E", lambda data: data.pop("annotations")),
        words=("annotations", "absent"),
        fatal=True,
    ),
    coco(
        *(53, "a list where an object is needed", "E"),
        change=lambda data: data["images"].append([3]),
        words=("images[2]", "[3]"),
        fatal=True,
    ),
    coco(
        *(54, "many annotations", "N", many),
        holds=lambda pool: sum(len(pool.target(i)) for i in pool.ids) == 20_000,
    ),
    coco(
        *(57, "no image left", "E"),
        change=lambda data: [e.update(file_name=f"gone/{e['id']}.png") for e in data["images"]],
        words=("instances.json", "images", "no image is left"),
        fatal=True,
    ),
    coco(58, "nothing found at evaluation", "N", holds=nothing_found),
]


def gaps(data: dict[str, Any]) -> None:
    """Number everything with gaps, out of order."""
    text = json.dumps(data)
    for old, new in (('"id": 1,', '"id": 900,'), ('"image_id": 1,', '"image_id": 900,')):
        text = text.replace(old, new)
    data.clear()
    data.update(json.loads(text))
    data["categories"][0]["id"] = 1


CLEAN: list[Row] = [
    coco(0, "COCO, plain", "N", holds=WHOLE),
    coco(
        *(0, "COCO, crowd with run lengths", "N"),
        change=at("annotations", 2, iscrowd=1, segmentation=RLE),
        holds=CROWD,
    ),
    coco(0, "COCO, gaps in ids", "N", gaps, holds=lambda p: boxes(p, "900") == [GOOD]),
    coco(
        *(0, "COCO, empty images", "N", lambda data: data.update(annotations=[])),
        holds=nothing_drawn,
    ),
    coco(
        *(0, "COCO, Unicode names", "N"),
        change=lambda data: (
            data["images"][1].update(file_name="café 猫.png"),
            data["categories"][0].update(name="собака 🐕"),
        ),
        files=lambda folder: save(folder / "café 猫.png"),
        holds=lambda pool: WHOLE(pool) and pool.classes[0] == "собака 🐕",
    ),
    coco(
        *(0, "COCO, equal names in nested folders", "N", ALONE),
        files=lambda folder: save(folder / "deep" / "good.png"),
        holds=WHOLE,
    ),
    coco(
        *(0, "COCO, rounded to two decimals at the edge", "N", box(10.01, 10, 29.99, 9)),
        holds=second(FIRST, [10.01, 10, WIDTH, 19]),
    ),
    coco(
        *(0, "COCO, box of the whole image", "N", box(0, 0, WIDTH, HEIGHT)),
        holds=second(FIRST, [0, 0, WIDTH, HEIGHT]),
    ),
]
