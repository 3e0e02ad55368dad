"""COCO at scale: columns say what one-by-one reading says, in any order of the lists."""

import inspect
import json
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from almining.data.formats import coco_boxes, table
from almining.data.formats.coco import read_coco
from almining.data.formats.files import inside
from almining.data.formats.listing import Listing
from almining.data.formats.parts import Parts
from almining.data.formats.report import ROUNDING, Drawn, Report
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
            (0.02, {"iscrowd": rng.choice([1, True, None, 2, "no", [1]])}),
            (0.01, {"ignore": rng.choice([1, 0.0, {}])}),
        ):
            if rng.random() < chance:
                row.update(change)
        if rng.random() < 0.02:
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
        ("annotation 9", "image_id", "None"),
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
    assert finding.value == "03" and "there are 3, 90" in finding.remedy
    finding = refused(read, at("categories", 0, id="3"))[0]
    assert finding.field == "id" and "twice" in finding.remedy
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
    parts = Parts(Target(boxes, torch.tensor([1, 2, 3, 4, 5]), ignore=ignore, complete=False))
    for start, stop in ((0, 0), (0, 2), (1, 4), (4, 5)):
        part = parts.cut(start, stop)
        rows = torch.arange(start, stop)
        checked = Target(boxes[rows], rows + 1, ignore=ignore[rows], complete=False)
        for name in ("boxes", "labels", "ignore", "scores", "negatives"):
            one, other = getattr(part, name), getattr(checked, name)
            assert one.dtype == other.dtype and one.shape == other.shape
            assert torch.equal(one.nan_to_num(7), other.nan_to_num(7))
        for name in ("origin", "tags", "absent", "complete"):
            assert getattr(part, name) == getattr(checked, name)
    parts.cut(0, 2).boxes.add_(1)
    assert boxes[0, 0] == 0


def test_a_part_does_not_drag_the_whole_along():
    whole = Target(torch.zeros(100_000, 4), torch.ones(100_000, dtype=torch.int64))
    data = pickle.dumps(Parts(whole).cut(10, 13))
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
    assert finding.record == "annotation 5" and finding.value == "no"
    assert refused(read, at("annotations", 2, id=True))[0].value == "True"
    assert refused(read, at("images", 2, id=True))[0].value == "True"
