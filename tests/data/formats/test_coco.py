"""COCO at scale: columns say what one-by-one reading says, in any order of the lists."""

import inspect
import json
import pickle
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from almining.data.formats import coco_boxes, table
from almining.data.formats.coco import read_coco
from almining.data.formats.coco_boxes import cut
from almining.data.formats.coco_images import Listing
from almining.data.formats.drawn import ROUNDING, Drawn
from almining.data.formats.files import inside
from almining.data.formats.report import Report
from almining.data.pool import DataError
from almining.records import Target

WIDTH, HEIGHT = 40, 30


def annotation(number, image, category, bbox, **more):
    known = {"id": number, "image_id": image, "category_id": category, "bbox": bbox}
    return {**known, "iscrowd": 0, "area": 1.0, **more}


def plain_set():
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (7, 2, 9)
        ],
        "annotations": [
            annotation(1, 7, 90, [1, 2, 10, 20]),
            annotation(2, 7, 3, [0, 0, 40, 30]),
            annotation(5, 2, 3, [3.5, 4.25, 5, 6]),
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "ant"}],
    }


@pytest.fixture
def read(tmp_path):
    """Write a data set after `change` edited it, and read it."""
    images = tmp_path / "images"
    images.mkdir()
    for name in (7, 2, 9):
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"{name}.png")

    def reading(change=lambda data: None, **options):
        data = plain_set()
        data = change(data) or data
        (tmp_path / "set.json").write_text(json.dumps(data))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_coco(tmp_path / "set.json", images, **options)

    return reading


def refused(read, change, **options):
    with pytest.raises(DataError) as error:
        read(change, **options)
    return [finding for finding in error.value.findings if finding.action == "error"]


def said(pool):
    """Return everything a pool says, to be compared."""
    return {
        image_id: (
            (target := pool.target(image_id)).boxes.tolist(),
            target.labels.tolist(),
            target.ignore.tolist(),
            target.complete,
            target.origin,
            target.negatives.shape,
            bool(target.scores.isnan().all()),
            pool.info(image_id),
        )
        for image_id in pool.ids
    }, pool.findings


def at(kind, number, **fields):
    return lambda data: data[kind][number].update(fields)


SIDES = [0, -0.0, 0.5, 1, 12.25, 29.99, 30, 30.01, 30.02, 39.995, 40, 40.01, 41, 60, -0.01, -0.02]
SIDES += [-5, 1e-9, 1e-46, 1e20, 1e39, -1e300, 10**400, float("nan"), float("inf"), -float("inf")]


def random_set(seed, images=12, boxes=300):
    """Return boxes of every sort: good, at the edge, doubled, reversed, flat, infinite."""
    rng, data = random.Random(seed), plain_set()
    data["images"] = [
        {"id": i, "file_name": f"{(7, 2, 9)[i % 3]}.png", "width": WIDTH, "height": HEIGHT}
        for i in range(images)
    ]
    data["annotations"] = rows = []
    for number in range(1, boxes + 1):
        good = rng.random() < 0.9
        box = [rng.randrange(20), rng.randrange(20), rng.randrange(1, 9), rng.randrange(1, 9)]
        if not good:
            box = [rng.choice(SIDES) for _ in range(4)]
        row = annotation(number, rng.randrange(images), rng.choice((3, 90)), box)
        for chance, change in (
            (0.01, {"bbox": rng.choice([None, [1, 2], "x", [True, 1, 2, 3], ["1", 2, 3, 4]])}),
            (0.01, {"image_id": rng.choice([99, "a", None, 1.0, True])}),
            (0.01, {"category_id": rng.choice([4, "zebra", None, [3], "03"])}),
            (0.01, {"id": rng.choice([1, None, "", 0])}),
            (0.03, {"id": rng.choice([str(number), f"x{number}", 17 * 10**17, 10**30 + number])}),
            (0.02, {"score": 0.5}),
            (0.01, {"almining": {"origin": "mined", "score": 0.5}}),
            (0.02, {"iscrowd": rng.choice([1, True, None, 2, "no", [1]])}),
            (0.01, {"ignore": rng.choice([1, 0.0, {}])}),
        ):
            if rng.random() < chance:
                row.update(change)
        for field in ("iscrowd", "area", "bbox", "category_id"):
            if rng.random() < 0.01:
                del row[field]
        if rng.random() < 0.02 and "category_id" in row:
            row["image_id"], row["category_id"] = str(row["image_id"]), str(row["category_id"])
        if rows and rng.random() < 0.05:
            row = {**rng.choice(rows), "id": number}
        rows.append(row)
    return data


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "options", [{}, {"exhaustive": False, "repair": ("swap", "renumber", "orphans")}]
)
def test_columns_say_what_one_by_one_reading_says(read, monkeypatch, seed, options):
    monkeypatch.setattr(table, "ROWS", 37)
    fast = said(read(lambda data: random_set(seed), strict=False, **options))

    def nothing_is_plain(boxes, sizes):
        good, cut = table.plain(boxes, sizes)
        return np.zeros_like(good), cut

    singly = []
    add = Drawn.add
    monkeypatch.setattr(coco_boxes, "plain", nothing_is_plain)
    monkeypatch.setattr(Drawn, "add", lambda *a, **k: (singly.append(a), add(*a, **k))[1])
    slow = said(read(lambda data: random_set(seed), strict=False, **options))
    assert fast == slow and len(singly) > 200
    assert len({finding.remedy for finding in fast[1]}) > 6


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_findings_is_that_of_the_file(read, seed):
    found = refused(read, lambda data: random_set(seed))
    places = {
        str(a["id"]): i for i, a in reversed(list(enumerate(random_set(seed)["annotations"])))
    }
    order = [
        int(f.record[12:-1]) if "[" in f.record else places[f.record.split()[1]]
        for f in found
        if f.record.startswith("annotation") and f.field != "id"
    ]
    assert len(order) > 3 and order == sorted(order)


def test_plain_boxes_are_those_without_a_finding():
    rng = random.Random(5)
    sides = [float(min(side, 1e308)) for side in SIDES]
    boxes = [[rng.choice(sides) for _ in range(4)] for _ in range(4000)]
    boxes += [[x, y, x + 3, y + 3] for x, y in zip(range(-2, 42), range(-2, 42), strict=True)]
    sizes = np.full((len(boxes), 2), (HEIGHT, WIDTH))
    good, cut = table.plain(np.array(boxes), sizes)
    for row, box in enumerate(boxes):
        report = Report(True)
        drawn = Drawn(report, "file", (HEIGHT, WIDTH))
        drawn.add("box", "bbox", "cat", tuple(box), ignore=False, shown="")
        assert bool(good[row]) == (not report.findings), (box, report.findings)
        if good[row]:
            kept = drawn.target({"cat": 1}).boxes
            assert kept.tolist() == torch.tensor(cut[row : row + 1], dtype=torch.float32).tolist()
            assert drawn.leaving == 0
    assert 50 < good.sum() < 3000


def test_rounding_is_the_edge_of_plain():
    boxes = np.array([[10, 10, WIDTH + ROUNDING * k, 20] for k in (0, 0.99, 1.01)])
    good, cut = table.plain(boxes, np.full((3, 2), (HEIGHT, WIDTH)))
    assert good.tolist() == [True, True, False] and cut[:, 2].tolist() == [WIDTH] * 3


def test_equal_rows_are_always_found():
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 5, 500), rng.integers(0, 4, 500) / 4, rng.random(500) < 0.5]
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    wanted = [rows.count(row) > 1 for row in rows]
    assert table.repeated(columns).tolist() == wanted and 0 < sum(wanted)
    unique = np.arange(100_000)
    assert not table.repeated([unique, unique / 7]).any()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_lists_come_in_any_order(read, order):
    names = ("images", "annotations", "categories")
    wanted = said(read())
    found = said(read(lambda data: {names[i]: data[names[i]] for i in order} | {"info": {"a": 1}}))
    assert found == wanted and wanted[1] == ()


@pytest.mark.parametrize("rows", [1, 2, 3, 8192])
def test_no_row_is_lost_between_chunks(read, monkeypatch, rows):
    monkeypatch.setattr(table, "ROWS", rows)

    def change(data):
        data["annotations"] += [annotation(9 + i, 9, 3, [i, 1, 2, 3]) for i in range(20)]
        data["annotations"][4].pop("iscrowd")
        data["annotations"][7]["score"] = 0.5

    pool = read(change)
    assert pool.target("9").boxes[:, 0].tolist() == list(range(20))
    assert [len(pool.target(i)) for i in ("7", "2")] == [2, 1]
    assert [f.record for f in pool.findings] == ["annotation 10"]


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_says_what_its_rows_say(seed):
    entries = random_set(seed)["annotations"]
    batch, single = table.Table(table.Ids()), table.Table(table.Ids())
    for start in range(0, len(entries), 5):
        batch.add(entries[start : start + 5])
    for entry in entries:
        single.add([entry])
    batch.finish()
    single.finish()
    assert batch.bad == single.bad and batch.extras == single.extras and batch.bad and batch.extras
    assert batch.columns.keys() == single.columns.keys() and batch.rows == single.rows
    for name, column in batch.columns.items():
        assert column.dtype == single.columns[name].dtype
        assert np.array_equal(column, single.columns[name], equal_nan=column.dtype == float), name
    assert batch.columns["ignore"].any()


# what is asked for


def test_partial_labels(read):
    pool = read(exhaustive=False)
    assert [pool.target(i).state for i in pool.ids] == ["sparse", "sparse", "unlabelled"]
    assert pool.findings == ()
    clipped = read(at("annotations", 0, bbox=[30, 2, 20, 5]), exhaustive=False)
    assert [clipped.target(i).complete for i in clipped.ids] == [False] * 3


def test_swap(read):
    change = at("annotations", 0, bbox=[11, 22, -10, -20])
    assert "swap" in refused(read, change)[0].remedy
    pool = read(change, repair=["swap"])
    assert said(pool)[0] == said(read())[0]
    assert [(f.action, f.record, f.value) for f in pool.findings] == [
        ("repaired", "annotation 1", "[11, 22, -10, -20]")
    ]


def test_renumber(read):
    def change(data):
        data["annotations"][1]["id"] = data["annotations"][2]["id"] = "1"

    found = refused(read, change)
    assert [f.field for f in found] == ["id", "id"] and "renumber" in found[0].remedy
    pool = read(change, repair=("renumber",))
    assert said(pool)[0] == said(read())[0]
    assert [(f.action, f.record) for f in pool.findings] == [
        ("repaired", "annotation 1, annotation 1")
    ]
    assert not read(change, strict=False).target("7").complete


def test_orphans(read):
    def change(data):
        data["annotations"].insert(1, annotation(8, 4, 3, [1, 1, 2, 2]))
        data["annotations"].append(annotation(9, None, 3, [1, 1, 2, 2]))

    found = refused(read, change)
    assert [(f.record, f.field, f.value) for f in found] == [
        ("annotation 8", "image_id", "4"),
        ("annotation 9", "image_id", "null or absent"),
    ]
    assert all("orphans" in f.remedy for f in found)
    pool = read(change, repair=("orphans",))
    assert said(pool)[0] == said(read())[0]
    assert [(f.action, f.record) for f in pool.findings] == [
        ("repaired", "annotation 8, annotation 9")
    ]


def test_orphans_of_an_image_set_aside_are_none(read):
    pool = read(at("images", 0, file_name="gone.png"), repair=("orphans",))
    assert pool.ids == ("2", "9") and [f.action for f in pool.findings] == ["quarantined"]
    assert [len(pool.target(i)) for i in pool.ids] == [1, 0]  # its boxes go to nobody


def test_orphans_of_an_id_that_stands_twice_are_none(read):
    change = at("images", 0, id=9)

    def both(data):
        change(data)
        for entry in data["annotations"][:2]:
            entry["image_id"] = 9

    assert [f.record for f in refused(read, both)] == ["images[0]", "images[2]"]
    pool = read(both, strict=False)
    assert pool.ids == ("2",) and len(pool.findings) == 2


def test_unknown_repairs(read):
    with pytest.raises(ValueError, match=r"'shift'.*'swap' or 'renumber' or 'orphans'"):
        read(repair=("shift",))
    with pytest.raises(ValueError, match="a sequence of names"):
        read(repair="swap")
    known = inspect.signature(read_coco).parameters
    assert [*known] == ["json", "images", "strict", "exhaustive", "repair"]


@pytest.mark.parametrize("kind", ["annotations", "categories"])
def test_category_ids_as_text(read, kind):
    def change(data):
        for entry in data[kind]:
            key = "id" if kind == "categories" else "category_id"
            entry[key] = str(entry[key])

    pool = read(change)
    assert said(pool)[0] == said(read())[0]
    (finding,) = pool.findings
    assert finding.action == "repaired" and finding.field == "category_id"
    assert finding.record == "annotation 1, annotation 2, annotation 5"


def test_category_ids_match_as_they_are_written(read):
    finding = refused(read, at("annotations", 0, category_id="03"))[0]
    assert finding.value == "03" and "known: 3, 90" in finding.remedy
    finding = refused(read, at("categories", 0, id="3"))[0]
    assert finding.field == "id" and "twice" in finding.remedy
    pool = read(at("annotations", 0, category_id="99"), strict=False)
    assert [(f.action, f.field) for f in pool.findings] == [("quarantined", "category_id")]
    for key in ("x", 1.0, True, None, "²"):
        assert refused(read, at("categories", 0, id=key))[0].remedy == "a whole number is needed"


def test_ids_of_any_shape(read):
    keys = [2**70, "a b", "007"]

    def change(data):
        for entry, key in zip(data["images"], keys, strict=True):
            entry["id"] = key
        for entry, image in zip(data["annotations"], (0, 0, 1), strict=True):
            entry.update(id=f"x{entry['id']}", image_id=keys[image])
        data["categories"][0]["id"] = data["annotations"][0]["category_id"] = 10**30

    pool = read(change)
    assert pool.ids == (str(2**70), "a b", "007") and pool.findings == ()
    assert [len(pool.target(i)) for i in pool.ids] == [2, 1, 0]
    assert pool.target(pool.ids[0]).labels.tolist() == [2, 1]


WIDE = (10**17, 17 * 10**17, 2**62 - 1, 2**62, 2**63, 10**30)


@pytest.mark.parametrize("key", [*WIDE, *(-key for key in WIDE)])
@pytest.mark.parametrize("rows", [1, 8192])
def test_wide_ids_are_found_beside_ids_of_any_shape(read, monkeypatch, key, rows):
    monkeypatch.setattr(table, "ROWS", rows)

    def change(data):
        data["images"][0]["id"] = key  # a number among numbers
        for entry in data["annotations"][:2]:
            entry["image_id"] = key
        data["annotations"][0]["id"] = str(key)
        data["annotations"][2].update(id=key, image_id="2")  # a text among numbers

    (twice,) = [f for f in refused(read, change) if f.field == "id"]
    assert twice.record == f"annotation {key}" and twice.value == str(key)
    pool = read(change, repair=("renumber",))
    assert pool.ids == (str(key), "2", "9") and [len(pool.target(i)) for i in pool.ids] == [2, 1, 0]
    assert {f.field for f in pool.findings} == {"id", "image_id"}


UNUSABLE = {
    "no image": {"image_id": 99},
    "no id": {"id": None},
    "id twice": {"id": 1},
    "no category": {"category_id": 99},
    "no box": {"bbox": None},
    "image set aside": {"image_id": 2},
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_repairs_are_counted_of_what_is_read(read, case):
    def change(data):
        data["images"][1]["file_name"] = "gone.png"
        data["annotations"][2]["image_id"] = 9
        data["annotations"][1].update(UNUSABLE[case])
        for entry in data["annotations"][:2]:
            del entry["iscrowd"], entry["area"]

    found = [f for f in read(change, strict=False).findings if f.action == "repaired"]
    assert [(f.field, f.record) for f in found] == [
        ("iscrowd", "annotation 1"),
        ("area", "annotation 1"),
    ]


LOST = (
    "x" * 300 + ".png",
    "x" * 300 + "/7.png",
    "x" * 300 + "\\7.png",
    "x/" * 3000,
    "\ud800/7.png",
)


@pytest.mark.parametrize("name", LOST, ids=range(len(LOST)))
def test_a_name_no_file_can_have(read, name):
    (finding,) = refused(read, at("images", 0, file_name=name))
    assert finding.record == "image 7" and finding.field == "file_name"
    assert "no file can be looked up" in finding.remedy and finding.remedy.endswith("correct it")
    assert read(at("images", 0, file_name=name), strict=False).ids == ("2", "9")


def test_a_category_id_of_any_length(read):
    found = refused(read, at("categories", 0, id="9" * 5000))
    assert found[0].record == "categories[0]" and len(found[0].value) == 120
    assert "known: 3)" in found[1].remedy


def test_no_folder_of_images(read, tmp_path):
    read()
    with pytest.raises(DataError, match=r"gone: error; there is no such folder") as error:
        read_coco(tmp_path / "set.json", tmp_path / "gone")
    assert len(error.value.findings) == 1


def test_errors_are_shown_before_what_is_only_told(read):
    def change(data):
        data["annotations"][0:0] = [annotation(100 + i, 7, 3, [39, i, 9, 1]) for i in range(25)]
        data["annotations"][-1]["bbox"] = None

    with pytest.raises(DataError) as error:
        read(change)
    first, second = str(error.value).splitlines()[1:3]
    assert "annotation 5: bbox" in first and "error" in first and "annotation 100" in second


def test_a_score_is_passed_by(read):
    plain = said(read())
    assert said(read(at("annotations", 0, score=0.5))) == plain


def test_all_findings_come_at_once(read):
    def change(data):
        data["categories"][1]["name"] = "zebra"
        data["images"][0]["file_name"] = ""
        data["images"][1]["id"] = None
        data["annotations"][2].update(image_id=9, bbox=None)

    found = refused(read, change)
    assert {f.field for f in found} == {"name", "file_name", "id", "bbox"}


def test_one_file_of_two_images_is_a_warning(read):
    pool = read(at("images", 1, file_name="./7.png"))
    (finding,) = pool.findings
    assert finding.action == "warning" and finding.record == "image 7 and image 2"
    assert len(pool) == 3 and finding.field == "file_name"


def test_one_file_spelled_with_another_slash(read, tmp_path):
    (tmp_path / "images/sub").mkdir()
    (tmp_path / "images/7.png").rename(tmp_path / "images/sub/7.png")

    def change(data):
        data["images"][0]["file_name"] = "sub\\7.png"
        data["images"][1]["file_name"] = "sub/7.png"

    found = {f.action: f for f in read(change).findings}
    assert found["repaired"].remedy == "read sub/7.png" and found["repaired"].record == "image 7"
    assert found["warning"].record == "image 7 and image 2" and len(found) == 2


def test_the_video_of_a_frame(read):
    both = at("images", 0, sequence="a", video="b", frame=3)
    assert (read(both).info("7").video, read(both).info("7").frame) == ("a", 3)
    assert read(at("images", 0, video="b", frame=True)).info("7").video == "b"
    assert read(at("images", 0, video=5, frame=True)).info("7").frame is None


@pytest.mark.parametrize("side", [0, -3, 2**31, 10**400, "40", 40.0, True, None])
def test_a_side_that_is_no_side_is_read_from_the_file(read, side):
    pool = read(at("images", 0, width=side))
    assert pool.info("7").size == (HEIGHT, WIDTH)
    assert [(f.action, f.field) for f in pool.findings] == [("repaired", "size")]


def test_nothing_but_images(read):
    pool = read(lambda data: {**data, "annotations": []})
    assert [pool.target(i).state for i in pool.ids] == ["complete"] * 3 and pool.findings == ()
    assert pool.target("7").boxes.shape == (0, 4)


def test_the_collector_is_on_again(read):
    import gc

    read()
    assert gc.isenabled()
    gc.disable()
    read()
    assert not gc.isenabled()
    gc.enable()
    refused(read, at("annotations", 0, bbox=None))
    assert gc.isenabled()


# files


NAMES = ["a.png", "sub/a.png", "sub/../a.png", "../a.png", "/a.png", "gone.png", "sub", "sub/"]
NAMES += ["./a.png", "sub//a.png", "in.png", "out.png", "far/b.png", "near/a.png", "broken.png"]
NAMES += ["C:/a.png", "C:\\a.png", "sub\\a.png", "", ".", "..", "a.png/", "a\0.png", "loop/a.png"]


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_name_is_a_file_inside(tmp_path, name):
    root, away = tmp_path / "root", tmp_path / "away"
    for folder in (root / "sub", root / "C:", away):
        folder.mkdir(parents=True)
    for file in (root / "a.png", root / "sub/a.png", root / "C:/a.png", away / "b.png"):
        file.touch()
    (tmp_path / "a.png").touch()
    links = {"in.png": "a.png", "out.png": "../a.png", "far": "../away", "near": "sub"}
    for link, to in {**links, "broken.png": "gone", "loop": "loop"}.items():
        (root / link).symlink_to(to)
    listed = name in Listing(root)
    path = inside(root, name)
    assert not listed or (path is not None and path.is_file())
    usual = {"a.png", "sub/a.png", "./a.png", "sub//a.png", "near/a.png"}
    assert listed == (name in usual)


def test_folders_are_listed_once(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    listing = Listing(tmp_path)
    assert "a.png" in listing and "b.png" not in listing
    monkeypatch.setattr("os.scandir", None)
    assert "a.png" in listing and "c.png" not in listing


def test_same_name_in_two_folders(read, tmp_path):
    (tmp_path / "images/sub").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "images/sub/7.png")
    pool = read(at("images", 1, file_name="sub/7.png"))
    assert pool.findings == () and float(pool.image("2")[0].mean()) == 1
    assert float(pool.image("7").mean()) == 0


# parts


def test_parts_are_targets_of_their_own():
    boxes = torch.arange(20.0).reshape(5, 4)
    ignore = torch.tensor([False, False, True, False, False])
    whole = Target(boxes, torch.tensor([1, 2, 3, 4, 5]), ignore=ignore, complete=False)
    for start, stop in ((0, 0), (0, 2), (1, 4), (4, 5)):
        part = cut(whole, start, stop)
        rows = torch.arange(start, stop)
        checked = Target(boxes[rows], rows + 1, ignore=ignore[rows], complete=False)
        for name in ("boxes", "labels", "ignore", "scores", "negatives"):
            one, other = getattr(part, name), getattr(checked, name)
            assert one.dtype == other.dtype and one.shape == other.shape
            assert torch.equal(one.nan_to_num(7), other.nan_to_num(7))
        for name in ("origin", "tags", "absent", "complete"):
            assert getattr(part, name) == getattr(checked, name)


def test_what_is_done_to_one_target_is_done_to_no_other(read):
    pool = read()
    before = said(pool)
    spoilt = pool.target("7")
    for name in ("boxes", "labels", "ignore", "scores"):
        getattr(spoilt, name).fill_(1)
    after = said(pool)
    assert after[0].pop("7") != before[0].pop("7") and after == before
    assert len(spoilt) == 2 and float(spoilt.scores[0]) == 1
    moved, chosen = pool.target("2").to("cpu"), pool.target("2").select(torch.tensor([0]))
    again = replace(pool.target("2"), tags=frozenset({1}))
    assert all(one.boxes.tolist() == [[3.5, 4.25, 8.5, 10.25]] for one in (moved, chosen, again))


def test_a_part_does_not_drag_the_whole_along():
    whole = Target(torch.zeros(100_000, 4), torch.ones(100_000, dtype=torch.int64))
    data = pickle.dumps(cut(whole, 10, 13))
    assert len(data) < 3000
    assert len(pickle.loads(data)) == 3


# what our own files add


def test_extras_are_kept_for_the_targets(read):
    def change(data):
        data["images"][0]["almining"] = {"complete": False}
        data["annotations"][0]["almining"] = {"origin": "mined", "score": 0.5}

    target = read(change).target("7")
    assert target.origin == ("mined", "human") and not target.complete
    assert target.scores[0] == 0.5 and bool(target.scores[1].isnan())
    assert said(read(change))[0]["2"] == said(read())[0]["2"]
    alone = read(at("images", 0, almining={"complete": False}))
    assert [alone.target(i).complete for i in alone.ids] == [False, True, True]


@pytest.mark.parametrize("rows", [1, 8192])
def test_rows_are_numbered_through_all_chunks(read, monkeypatch, rows):
    monkeypatch.setattr(table, "ROWS", rows)

    def change(data):
        data["annotations"][1]["ignore"] = 1  # a key its neighbours lack
        data["annotations"][2].update(almining={"origin": "mined", "score": 0.5})

    pool = read(change)
    assert pool.target("7").ignore.tolist() == [False, True]
    assert pool.target("7").origin == ("human", "human") and pool.target("2").origin == ("mined",)
    (finding,) = refused(read, at("annotations", 2, iscrowd="no"))
    assert finding.record == "annotation 5" and finding.value == "'no'"
    assert refused(read, at("annotations", 2, id=True))[0].value == "True"
    assert refused(read, at("images", 2, id=True))[0].value == "True"
    assert refused(read, at("images", 2, id=None))[0].value == "null or absent"
