"""Label Studio's tasks: written and read back, and everything that can be wrong with them."""

import copy
import json
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from almining.data.formats.label_studio import read_label_studio
from almining.data.pool import DataError, ImageInfo
from almining.data.writers import label_studio_config, write_label_studio
from almining.records import Detections, Target
from tests.data.random_pools import make, pools, same, some_boxes
from tests.data.test_writers import BOX, counted, lost

QUICK = settings(max_examples=25, deadline=None, database=None)
HELD = ("labels", "ignore", "origin", "scores", "complete")
NOTHING = torch.tensor([], dtype=torch.int64)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_label_studio(*args, **options)


@given(pools(plain=True))
@QUICK
def test_round_trip(tmp_path_factory, pool):
    path = tmp_path_factory.mktemp("ls") / "tasks.json"
    findings = write_label_studio(pool, path)
    back = quietly(path, classes=pool.classes)
    expected = lost(pool, pool.ids, held=("ignore", "origin", "scores"))
    used = {pool.classes[n - 1] for i in pool.ids for n in pool.target(i).labels.tolist()}
    if list(pool.classes) != sorted(used):
        expected["classes"] = 1
    assert counted(findings) == expected
    assert back.ids == pool.ids and back.classes == pool.classes and back.findings == ()
    for image_id in pool.ids:
        old, new = pool.target(image_id), back.target(image_id)
        same(old, new, HELD)
        same(old, new, ("boxes",), exact=False)
        assert back.info(image_id).size == pool.info(image_id).size
        assert new.state == ("unlabelled" if old.state == "tagged" else old.state)


def test_by_hand(tmp_path):
    done = Target(some_boxes([10, 3, 30, 18]), torch.tensor([2]))
    partly = Target(
        some_boxes(BOX, [0, 0, 4, 3]),
        torch.tensor([1, 2]),
        origin=("human", "mined:ssm:1"),
        scores=torch.tensor([math.nan, 0.25]),
        complete=False,
    )
    empty = Target(some_boxes(), NOTHING)
    pool = make({"a/b c": done, "s": partly, "e": empty, "u": Target.unknown()})
    found = Detections(some_boxes(BOX), torch.tensor([1]), torch.tensor([0.5]))
    path = tmp_path / "tasks.json"
    assert write_label_studio(pool, path, predictions={"u": found}, model_version="m") == ()
    tasks = json.loads(path.read_text())
    assert [task["id"] for task in tasks] == [1, 2, 3, 4]
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=a/b%20c.png"
    (region,) = tasks[0]["annotations"][0]["result"]
    value = {"x": 25, "y": 10, "width": 50, "height": 50, "rotation": 0}
    assert region["value"] == {**value, "rectanglelabels": ["dog"]}
    assert (region["type"], region["from_name"], region["to_name"]) == (
        *("rectanglelabels", "label", "image"),
    )
    assert (region["original_width"], region["original_height"]) == (40, 30)
    assert tasks[0]["predictions"] == [] and tasks[1]["annotations"] == []
    known = tasks[1]["predictions"][0]
    assert known["model_version"] == "almining-known"
    assert [one.get("score") for one in known["result"]] == [None, 0.25]
    assert tasks[2]["annotations"][0]["result"] == [] and tasks[3]["annotations"] == []
    (given_,) = tasks[3]["predictions"]
    assert (given_["model_version"], given_["score"], given_["result"][0]["score"]) == (
        "m",
        0.5,
        0.5,
    )
    keys = [
        one["id"]
        for task in tasks
        for part in (*task["annotations"], *task["predictions"])
        for one in part["result"]
    ]
    assert len(keys) == len(set(keys)) == 4
    back = quietly(path)
    assert back.target("u").state == "unlabelled"  # what a detector says is no target
    assert [back.target(i).state for i in pool.ids[:3]] == ["complete", "sparse", "complete"]
    with pytest.raises(ValueError, match=r"read without its file; pass images="):
        back.image("e")


def test_what_a_person_finished_is_theirs(tmp_path):
    mined = Target(
        some_boxes(BOX),
        torch.tensor([1]),
        origin=("mined:ssm:1",),
        scores=torch.tensor([0.5]),
        complete=False,
    )
    path = tmp_path / "tasks.json"
    write_label_studio(make({"a": mined}), path)
    (task,) = json.loads(path.read_text())
    taken = copy.deepcopy(task["predictions"][0]["result"])
    for region in taken:
        region["origin"] = "prediction"
    task["annotations"] = [{"result": taken, "was_cancelled": False}]
    path.write_text(json.dumps([task]))
    target = quietly(path).target("a")
    assert target.complete and target.origin == ("human",) and target.scores.isnan().all()


def test_arguments_are_checked(tmp_path):
    pool, path = make({"a": Target.unknown()}), tmp_path / "x.json"
    beyond = Detections(some_boxes(BOX), torch.tensor([3]), torch.tensor([0.5]))
    for options, why in (
        ({"image_url": "/x"}, "{name} is missing"),
        ({"model_version": "almining-known"}, "stands for the pool's boxes"),
        ({"predictions": {"b": beyond}}, "no image 'b'"),
        ({"predictions": {"a": beyond}}, "hold class 3, but the pool has 2"),
    ):
        with pytest.raises(ValueError, match=why):
            write_label_studio(pool, path, **options)
    assert not path.exists()


def test_the_labelling_interface_is_escaped():
    name = """a "b" & <c> 'd'"""
    text = label_studio_config([name])
    from defusedxml.ElementTree import fromstring

    (label,) = fromstring(text).iter("Label")
    assert label.get("value") == name
    with pytest.raises(ValueError, match="which XML cannot"):
        label_studio_config(["a\x00"])


@pytest.fixture
def tasks(tmp_path):
    """Write one task with a box after `change` edited it, and read it."""
    pool = make({"a": Target(some_boxes([10, 3, 30, 18]), torch.tensor([2]))})
    path = tmp_path / "tasks.json"

    def read(change=lambda task: None, text=None, **options):
        write_label_studio(pool, path, overwrite=True)
        content = json.loads(path.read_text())
        content = change(content[0]) or content
        path.write_text(json.dumps(content) if text is None else text)
        return quietly(path, **options)

    return read


def region(task):
    return task["annotations"][0]["result"][0]


def setting(field, value, inside="value"):
    def change(task):
        (region(task)[inside] if inside else region(task))[field] = value

    return change


BAD_REGIONS = {
    "rotated": (setting("rotation", 12.5), "rotation", "draw it without rotation"),
    "turned": (setting("image_rotation", 90, None), "image_rotation", "without rotation"),
    "pixels": (setting("x", 320), "x", "per cent of the image"),
    "negative x": (setting("y", -3), "y", "per cent of the image"),
    "text": (setting("width", "5"), "width", "per cent"),
    "nan": (setting("width", math.nan), "width", "per cent"),
    "huge": (setting("height", 10**400), "height", "per cent"),
    "absent": (setting("height", None), "height", "per cent"),
    "true": (setting("x", True), "x", "per cent"),
    "negative width": (setting("width", -10), "value", r"repair=('swap',)"),
    "no class": (setting("rectanglelabels", []), "rectanglelabels", "one class is needed"),
    "two classes": (setting("rectanglelabels", ["a", "b"]), "rectanglelabels", "one class"),
    "class 7": (setting("rectanglelabels", [7]), "rectanglelabels", "one class"),
    "no type": (setting("type", None, None), "type", "type and value"),
    "no value": (setting("value", None, None), "type", "type and value"),
    "outside": (setting("x", 100), "value", "outside its image"),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_bad_regions_are_named(tasks, case):
    change, field, remedy = BAD_REGIONS[case]
    with pytest.raises(DataError) as error:
        tasks(change)
    (finding,) = error.value.findings
    assert (finding.field, finding.record) == (field, "task 1 region 1")
    assert remedy in finding.remedy
    pool = tasks(change, strict=False, classes=["dog"])
    assert [each.action for each in pool.findings] == ["quarantined"]
    assert not pool.target("a").complete


def sized(task, width):
    """Leave one size of the image, in the region."""
    del task["data"]["width"]
    region(task)["original_width"] = width


BAD_TASKS = {
    "no data": (lambda task: [{"image": "x"}], "not JSON-MIN"),
    "no task": (lambda task: [3], "data.image"),
    "two": (lambda task: task["annotations"].append({"result": []}), "they are not merged"),
    "annotations": (lambda task: task.update(annotations=3), "a list is needed"),
    "result": (lambda task: task["annotations"][0].update(result=None), "a list of regions"),
    "id": (lambda task: task["data"].update(image_id=3), "a text is needed"),
    "id list": (lambda task: task["data"].update(image_id=[3]), "a text is needed"),
    "size": (lambda task: sized(task, "40"), "original_width = 40: error; .* whole numbers"),
    "size huge": (lambda task: sized(task, 10**400), "whole numbers"),
    "other key": (lambda task: task.update(data={"img": "x.png"}), "call the address `image`"),
    "id twice": (lambda task: [task, task], "the id stands twice"),
    "address": (lambda task: task["data"].update(image="http://[x"), "no address can be read"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_bad_tasks_are_named(tasks, case):
    change, remedy = BAD_TASKS[case]
    with pytest.raises(DataError, match=remedy):
        tasks(change)


def test_sizes_must_agree(tasks):
    def change(task):
        task["annotations"][0]["result"].append({**region(task), "original_width": 41})

    with pytest.raises(DataError, match="different sizes"):
        tasks(change)

    def forget(task):
        del region(task)["original_width"], task["data"]["width"]

    with pytest.raises(DataError, match="the size of the image, whole numbers, is needed"):
        tasks(forget)


def test_which_annotation_holds(tasks):
    def skip(task):
        task["annotations"][0]["was_cancelled"] = True

    pool = tasks(skip, classes=["dog"])
    assert pool.target("a").state == "unlabelled"
    assert [(each.field, each.action) for each in pool.findings] == [("was_cancelled", "warning")]

    def truth(task):
        task["annotations"].append({"result": [], "ground_truth": True})

    assert len(tasks(truth, classes=["dog"]).target("a")) == 0

    def drop(task):
        task["annotations"].append({"result": [], "was_cancelled": True})

    pool = tasks(drop)
    assert len(pool.target("a")) == 1 and pool.findings == ()


@pytest.mark.parametrize("kind", ["polygonlabels", "brushlabels", "rectangle", "labels"])
def test_other_shapes_leave_the_image_incomplete(tasks, kind):
    def mixed(task):
        shape = {"type": kind, "value": {"points": [[0, 0], [1, 1], [0, 1]], kind: ["dog"]}}
        task["annotations"][0]["result"] += [shape, shape]

    pool = tasks(mixed)
    assert pool.target("a").state == "sparse" and len(pool.target("a")) == 1
    (finding,) = pool.findings
    assert (finding.action, finding.field, finding.value) == ("quarantined", "type", kind)
    assert finding.record == "task 1 region 2, task 1 region 3"
    assert "only rectangles are read" in finding.remedy and "not complete" in finding.remedy


@pytest.mark.parametrize("note", ["origin=minedx", "origin=", "origin=robot"])
def test_a_note_that_is_no_origin_is_a_note(tasks, note):
    pool = tasks(lambda task: region(task).update(meta={"text": [note]}))
    assert pool.target("a").origin == ("human",)


def test_swap_is_asked_for(tasks):
    def change(task):
        region(task)["value"].update(x=75, width=-50)

    pool = tasks(change, repair=("swap",))
    assert pool.target("a").boxes.tolist() == [[10, 3, 30, 18]]
    assert [each.action for each in pool.findings] == ["repaired"]
    with pytest.raises(ValueError, match="no repair here; use 'swap'"):
        tasks(repair=("orphans",))


def test_other_options(tasks):
    assert tasks(exhaustive=False).target("a").state == "sparse"
    with pytest.raises(DataError, match=r"not among the classes given \(cat\)"):
        tasks(classes=["cat"])
    with pytest.raises(ValueError, match="a sequence of names is needed"):
        tasks(classes="cat")
    pool = tasks(
        lambda task: task["annotations"][0]["result"].append({"type": "choices", "value": {}})
    )
    assert pool.target("a").complete
    assert [(each.field, each.action) for each in pool.findings] == [("type", "warning")]
    for text in ("{}", "[", "3"):
        with pytest.raises(DataError):
            tasks(text=text)


@pytest.mark.parametrize(
    "address",
    [
        *("/data/local-files/?d=set/in/a.png", "https://host/x/in/a.png?token=1", "in/a.png"),
        *("/data/upload/1/0a1b2c3d-a.png", "s3://bucket/in/a.png", "a.png", "file:///etc/in/a.png"),
    ],
)
def test_addresses_are_local_files_and_never_fetched(tmp_path, tasks, monkeypatch, address):
    import socket

    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("an address was fetched"))
    (tmp_path / "pictures/in").mkdir(parents=True)
    for name in ("a.png", "in/a.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / "pictures" / name)
    pool = tasks(lambda task: task["data"].update(image=address), images=tmp_path / "pictures")
    want = "in/a.png" if "in/" in address else "a.png"
    assert pool.info("a").path == tmp_path / "pictures" / want
    assert pool.image("a").shape == (3, 30, 40)


@pytest.mark.parametrize(
    "address", ["../secret.png", "/data/local-files/?d=%2e%2e/secret.png", "b.png"]
)
def test_files_outside_are_not_found(tmp_path, tasks, address):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    with pytest.raises(DataError, match="no such file in"):
        tasks(lambda task: task["data"].update(image=address), images=tmp_path / "pictures")


def test_ids_come_from_addresses_when_nothing_else_gives_them(tasks):
    def change(task):
        del task["data"]["image_id"]

    assert tasks(change).ids == ("a",)


def test_files_keep_their_names(tmp_path):
    infos = {}
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / name)
        infos[name] = ImageInfo(path=tmp_path / name)
    pool = make({name: Target.unknown() for name in infos}, infos=infos)
    write_label_studio(pool, tmp_path / "t.json", image_url="https://host/{name}")
    addresses = [task["data"]["image"] for task in json.loads((tmp_path / "t.json").read_text())]
    assert addresses == ["https://host/x/1.png", "https://host/y/2.png"]
    assert (
        quietly(tmp_path / "t.json", images=tmp_path).info("y/2.png").path == tmp_path / "y/2.png"
    )
    with pytest.raises(ValueError, match="is not in images"):
        write_label_studio(pool, tmp_path / "u.json", images=tmp_path / "x")
