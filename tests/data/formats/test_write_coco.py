"""COCO holds all of a pool, other tools read the file, and damaged extras are findings."""

import contextlib
import io
import json
import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from almining.data.formats.write_coco import as_xywh, image_numbers
from almining.data.pool import DataError, ImageInfo, Pool
from almining.data.readers import read_coco, read_voc
from almining.data.writers import write_coco
from almining.records import Target
from tests.data.random_pools import ALL, make, pools, same, some_boxes

QUICK = settings(max_examples=25, deadline=None, database=None)
BOX = [1.0, 2.0, 9.0, 20.0]


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_coco(*args, **options)


def equal(first, second):
    """Raise unless two pools are equal in everything but where their files are."""
    assert second.ids == first.ids and second.classes == first.classes
    for image_id in first.ids:
        same(first.target(image_id), second.target(image_id), ALL)
        assert second.since(image_id) == first.since(image_id)
        one, two = first.info(image_id), second.info(image_id)
        assert (one.size, one.video, one.frame) == (two.size, two.video, two.frame)


@given(pools() | pools(plain=True))
@QUICK
def test_round_trip_is_exact(tmp_path_factory, pool):
    root = tmp_path_factory.mktemp("coco")
    assert write_coco(pool, root / "x.json", copy=True) == ()
    back = quietly(root / "x.json", root / "images")
    assert back.findings == ()
    equal(pool, back)
    write_coco(back, root / "y.json", images=root / "images")
    assert (root / "y.json").read_bytes() == (root / "x.json").read_bytes()
    again = pycoco(root / "y.json")
    assert len(again.getImgIds()) == len(pool)


def pycoco(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


sides = st.floats(0, 4096, width=32) | st.integers(0, 4096).map(float)


@given(sides, sides, sides, sides)
@settings(max_examples=300, deadline=None, database=None)
def test_corners_come_back_bit_equal_from_x_y_w_h(a, b, c, d):
    box = [min(a, c), min(b, d), max(a, c), max(b, d)]
    x, y, wide, high = json.loads(json.dumps(as_xywh(box)))
    back = np.array([x, y, x + wide, y + high]).astype(np.float32)
    np.testing.assert_array_equal(back, np.array(box, np.float32))


def test_by_hand(tmp_path):
    target = Target(
        some_boxes([1, 2, 9.5, 20], [0.1, 0.2, 40, 30]),
        torch.tensor([2, 1]),
        ignore=torch.tensor([False, True]),
        origin=("human", "mined:ssm:2"),
        scores=torch.tensor([math.nan, 0.9]),
        negatives=some_boxes([0, 0, 4, 4]),
        tags={1, 2},
        complete=False,
    )
    pool = make({"12": target, "a/b": Target(some_boxes(), torch.tensor([], dtype=torch.int64))})
    write_coco(pool, tmp_path / "x.json")
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    known = {"complete": False, "tags": [1, 2], "negatives": [[0, 0, 4, 4]]}
    size = {"width": 40, "height": 30}
    assert data["images"] == [
        {"id": 12, "file_name": "12.png", **size, "almining": known},
        {"id": 1, "file_name": "a/b.png", **size, "almining": {"id": "a/b"}},
    ]
    first, second = data["annotations"]
    assert first == {
        **{"id": 1, "image_id": 12, "category_id": 2, "bbox": [1, 2, 8.5, 18]},
        **{"area": 153, "iscrowd": 0},
    }
    assert second["bbox"][:2] == [0.1, 0.2] and second["iscrowd"] == second["ignore"] == 1
    assert second["almining"] == {"origin": "mined:ssm:2", "score": 0.9}
    assert not (tmp_path / "images").exists()


ODD_BOXES = {
    "without area": [[5, 5, 5, 9], [0, 0, 0, 0]],
    "beyond the image": [[-3, 2, 50, 9], [60, 2, 70, 9]],
    "doubles": [BOX, BOX, [2, 2, 9, 9], BOX],
    "in the first pixel": [[0, 0, 0.5, 1]],
    "less than float64 can add": [[-1000, 2, 1e-20, 9]],
}


@pytest.mark.parametrize("case", ODD_BOXES)
def test_boxes_a_reader_would_repair_come_back(tmp_path, case):
    rows = ODD_BOXES[case]
    pool = make({"a": Target(some_boxes(*rows), torch.ones(len(rows), dtype=torch.int64))})
    write_coco(pool, tmp_path / "x.json", copy=True)
    back = quietly(tmp_path / "x.json", tmp_path / "images")
    assert back.findings == ()
    equal(pool, back)


def test_numbers_of_images():
    names = ("7", "07", "a", "1", "-1", "99999999999999999999", "²", "0", "9223372036854775807")
    pool = make({name: Target.unknown() for name in names})
    assert image_numbers(pool) == {
        **{"7": 7, "07": 2, "a": 3, "1": 1, "-1": 4, "99999999999999999999": 5, "²": 6, "0": 0},
        "9223372036854775807": 2**63 - 1,
    }


def test_pycocotools_evaluates_on_it(tmp_path):
    from pycocotools.cocoeval import COCOeval

    target = Target(
        some_boxes([1, 2, 20, 22], [5, 5, 30, 28]),
        torch.tensor([1, 1]),
        ignore=torch.tensor([False, True]),
    )
    write_coco(make({"street/a": target}), tmp_path / "x.json")
    truth = pycoco(tmp_path / "x.json")
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 19, 20], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [5, 5, 25, 23], "score": 0.9},
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # the hit of the ignored box does not count


def test_names_of_files_are_relative_to_what_they_have_in_common(tmp_path):
    infos = {}
    for name in ("p/x/1.png", "p/y/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name)
        infos[name] = ImageInfo(path=tmp_path / name)
    pool = make({name: Target.unknown() for name in infos}, infos=infos)
    write_coco(pool, tmp_path / "a.json")
    back = quietly(tmp_path / "a.json", tmp_path / "p")
    assert [back.info(name).path for name in infos] == [tmp_path / name for name in infos]
    write_coco(pool, tmp_path / "b.json", images=tmp_path)
    names = [
        entry["file_name"] for entry in json.loads((tmp_path / "b.json").read_text())["images"]
    ]
    assert names == list(infos)
    with pytest.raises(ValueError, match=r"is not in images = .*copy=True"):
        write_coco(pool, tmp_path / "c.json", images=tmp_path / "p/x")


@pytest.fixture
def damaged(tmp_path):
    """Write two images with extras, edit the document, read it."""
    pool = Pool(
        ("cat", "dog"),
        {
            "a": Target(some_boxes(BOX), torch.tensor([1]), origin=("mined",), complete=False),
            "b": Target(some_boxes(BOX), torch.tensor([1]), tags={1}),
        },
        make({"a": Target.unknown(), "b": Target.unknown()})._images,
        infos={name: ImageInfo(size=(30, 40)) for name in "ab"},
    )
    write_coco(pool, tmp_path / "x.json", copy=True)

    def read(change, **options):
        data = json.loads((tmp_path / "x.json").read_text())
        change(data)
        (tmp_path / "y.json").write_text(json.dumps(data))
        return quietly(tmp_path / "y.json", tmp_path / "images", **options)

    return read


def image(field, value):
    return lambda data: data["images"][0]["almining"].update({field: value})


def box(field, value):
    return lambda data: data["annotations"][0]["almining"].update({field: value})


DAMAGED = {
    "id number": (image("id", 3), "almining.id"),
    "id empty": (image("id", ""), "almining.id"),
    "id twice": (image("id", "b"), "almining.id"),
    "complete": (image("complete", 1), "almining.complete"),
    "complete null": (image("complete", None), "almining.complete"),
    "tags text": (image("tags", "cat"), "almining.tags"),
    "tags unknown": (image("tags", [1, 9]), "almining.tags"),
    "tags nested": (image("tags", [[1]]), "almining.tags"),
    "tags true": (image("tags", [True]), "almining.tags"),
    "tags of a complete image": (
        lambda data: data["images"][1]["almining"].update(tags=[1, 2]),
        "almining.tags",
    ),
    "absent and there": (image("absent", [1]), "almining.absent"),
    "negatives": (image("negatives", [[0, 0, 4]]), "almining.negatives"),
    "negatives nan": (image("negatives", [[0, 0, 4, math.nan]]), "almining.negatives"),
    "negatives turned": (image("negatives", [[4, 0, 0, 4]]), "almining.negatives"),
    "negatives huge": (image("negatives", [[0, 0, 4, 1e39]]), "almining.negatives"),
    "negatives object": (image("negatives", {}), "almining.negatives"),
    "since": (image("since", -1), "almining.since"),
    "since float": (image("since", 1.5), "almining.since"),
    "list": (lambda data: data["images"][0].update(almining=[1]), "almining"),
    "origin": (box("origin", "robot"), "almining.origin"),
    "origin number": (box("origin", 7), "almining.origin"),
    "score": (box("score", "high"), "almining.score"),
    "score nan": (box("score", math.nan), "almining.score"),
    "score huge": (box("score", 10**400), "almining.score"),
    "box": (box("box", [1, 2, 3]), "almining.box"),
    "box turned": (box("box", [9, 2, 3, 4]), "almining.box"),
    "box text": (box("box", ["1", 2, 3, 4]), "almining.box"),
    "text": (lambda data: data["annotations"][0].update(almining="x"), "almining"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_extras_are_findings(damaged, case):
    change, field = DAMAGED[case]
    with pytest.raises(DataError) as error:
        damaged(change)
    (finding,) = error.value.findings
    assert (finding.field, finding.action) == (field, "error") and finding.remedy
    pool = damaged(change, strict=False)
    assert [each.action for each in pool.findings] == ["quarantined"]
    assert len(pool) == (1 if case == "id twice" else 2)


def test_unknown_extras_are_a_warning(damaged):
    pool = damaged(image("mood", "good"))
    assert Counter(each.action for each in pool.findings) == {"warning": 1}
    assert pool.findings[0].field == "almining.mood"


def test_partial_labels_stay_partial(damaged):
    pool = damaged(lambda data: None, exhaustive=False)
    assert [pool.target(name).complete for name in "ab"] == [False, False]
    assert pool.target("b").tags == {1}


REAL = {
    "coco128": lambda root: read_coco(root / "instances.json", root / "images"),
    "mot17_mini": lambda root: read_coco(root / "instances.json", root / "images"),
    "bccd": lambda root: read_voc(root, "train"),
    "voc2007_subset": lambda root: read_voc(root, "val"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_survive(tmp_path, real_data, name):
    pool = REAL[name](real_data / name)
    assert write_coco(pool, tmp_path / "x.json") == ()
    folder = {"bccd": "JPEGImages", "voc2007_subset": "JPEGImages"}.get(name, "images")
    back = quietly(tmp_path / "x.json", real_data / name / folder)
    equal(pool, back)
    assert [back.info(i).path for i in back.ids] == [pool.info(i).path for i in pool.ids]
    assert len(pycoco(tmp_path / "x.json").getAnnIds()) == sum(
        len(pool.target(i)) for i in pool.ids
    )
