"""What every export keeps, what it says it lost, and that it harms no file."""

import errno
import json
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from almining.data.formats.export import Folder, number, png
from almining.data.formats.label_studio import read_label_studio
from almining.data.formats.names import file_stem
from almining.data.formats.yolo import read_yolo
from almining.data.pool import DataError, ImageInfo, Pool
from almining.data.readers import VOC_CLASSES, read_coco, read_voc
from almining.data.writers import write_coco, write_label_studio, write_voc, write_yolo
from almining.records import Target
from tests.data.random_pools import make, pools, same, some_boxes

QUICK = settings(max_examples=25, deadline=None, database=None)
BOX = [1.0, 2.0, 9.0, 20.0]


def counted(findings):
    """How many images or boxes each finding speaks of, by field."""
    counts = Counter()
    for finding in findings:
        assert finding.action == "warning" and finding.remedy and finding.value
        many = re.search(r"\((\d+) in all\)$", finding.record)
        counts[finding.field] += int(many[1]) if many else len(finding.record.split(", "))
    return dict(counts)


def lost(pool, ids, held=()):
    """What plain boxes cannot say of these images, counted without the code under test."""
    counts = Counter()
    for image_id in ids:
        target, info = pool.target(image_id), pool.info(image_id)
        counts["ignore"] += int(target.ignore.sum())
        counts["origin"] += sum(text != "human" for text in target.origin)
        counts["scores"] += int((~target.scores.isnan()).sum())
        counts["negatives"] += len(target.negatives) > 0
        counts["video"] += info.video is not None
        counts["frame"] += info.frame is not None
        counts["since"] += pool.since(image_id) > 0
        if not target.complete:
            counts["tags"] += target.tags is not None
            counts["absent"] += target.absent is not None
    return {field: n for field, n in counts.items() if n and field not in held}


def quietly(read, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(*args, **options)


# VOC


@given(pools(plain=True), st.sampled_from(["write", "skip"]))
@QUICK
def test_voc_round_trip(tmp_path_factory, pool, incomplete):
    root = tmp_path_factory.mktemp("voc")
    sparse = [i for i in pool.ids if pool.target(i).state == "sparse"]
    ids = [i for i in pool.ids if incomplete == "write" or i not in sparse]
    findings = write_voc(pool, root, "train", incomplete=incomplete)
    if not ids:
        return
    back = quietly(read_voc, root, "train", classes=pool.classes)
    expected = lost(pool, ids, held={"ignore"})
    expected["complete"] = len(sparse)
    expected["id"] = sum(not i.startswith("JPEGImages/") for i in ids)
    used = {pool.classes[n - 1] for i in ids for n in pool.target(i).labels.tolist()}
    default = VOC_CLASSES if used <= set(VOC_CLASSES) else tuple(sorted(used))
    expected["classes"] = int(pool.classes != default)
    assert counted(findings) == {field: n for field, n in expected.items() if n}
    names = [i if i.startswith("JPEGImages/") else f"JPEGImages/{i}" for i in ids]
    assert list(back.ids) == names
    for image_id, name in zip(ids, names, strict=True):
        old, new = pool.target(image_id), back.target(name)
        assert back.info(name).size == pool.info(image_id).size
        torch.testing.assert_close(back.image(name), pool.image(image_id), rtol=0, atol=1e-7)
        if old.state in ("unlabelled", "tagged"):
            assert new.state == "unlabelled"
        else:
            assert new.complete
            same(old, new, ("labels", "ignore"))
            torch.testing.assert_close(new.boxes, old.boxes, rtol=0, atol=2.3e-16)


def test_voc_by_hand(tmp_path):
    target = Target(
        some_boxes([0, 0, 40, 30], [4.5, 1, 5.75, 9]),
        torch.tensor([1, 2]),
        ignore=torch.tensor([False, True]),
    )
    pool = make(
        {
            "JPEGImages/a b": target,
            "JPEGImages/n": Target(some_boxes(), torch.tensor([], dtype=torch.int64)),
        },
        ("ant & co", "zebra"),
    )
    assert write_voc(pool, tmp_path, "val") == ()
    assert (tmp_path / "ImageSets/Main/val.txt").read_text() == "a b\nn\n"
    text = (tmp_path / "Annotations/a b.xml").read_text()
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax>" in text
    assert "<xmin>5.5</xmin><ymin>2</ymin><xmax>5.75</xmax><ymax>9</ymax>" in text
    assert "<name>ant &amp; co</name>" in text and "<difficult>1</difficult>" in text
    assert "<filename>a b.png</filename>" in text and "<width>40</width><height>30</height>" in text
    assert "<object>" not in (tmp_path / "Annotations/n.xml").read_text()
    back = quietly(read_voc, tmp_path, "val")
    assert back.findings == () and back.classes == pool.classes
    assert back.target("JPEGImages/n").complete
    same(target, back.target("JPEGImages/a b"), ("boxes", "labels", "ignore"))


def test_voc_says_what_becomes_of_boxes_it_cannot_hold(tmp_path):
    rows = [[5, 5, 5, 9], [5, 5, 5.5, 9], [5, 5, 6, 6], [5, 5, 6, 9], [-2, 3, 9, 9], [50, 3, 60, 9]]
    rows.append(rows[3])
    pool = make(
        {"JPEGImages/a": Target(some_boxes(*rows), torch.ones(7, dtype=torch.int64))}, ("cat",)
    )
    findings = write_voc(pool, tmp_path, "train")
    assert counted(findings) == {
        "box without area in the image": 2,
        "box of a pixel or less": 2,
        "box beyond the image": 1,
        "exact duplicate of a box": 1,
        "classes": 1,
    }
    assert all("VOC does not hold this" in finding.remedy for finding in findings)
    back = quietly(read_voc, tmp_path, "train")
    assert back.findings == ()
    assert back.target("JPEGImages/a").boxes.tolist() == [[5, 5, 6, 9], [0, 3, 9, 9]]


@pytest.mark.parametrize("write", [write_voc, write_yolo])
def test_sparse_images_never_become_complete_unasked(tmp_path, write):
    sparse = Target(some_boxes(BOX), torch.tensor([1]), complete=False)
    pool = make({"a": sparse, "b": Target(some_boxes(BOX), torch.tensor([1])), "c": sparse})
    with pytest.raises(DataError, match=r"a, c: complete = False: error.*incomplete='skip'"):
        write(pool, tmp_path / "x", "train")
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="incomplete = 'no': use one of refuse, write, skip"):
        write(pool, tmp_path / "x", "train", incomplete="no")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a\x07", r"holds '\\x07', which XML cannot"),
        ("a\ufffe", "which XML cannot"),
        ("a\ud800", "which XML cannot"),
        (" cat", "blanks around it, which VOC drops"),
    ],
)
def test_voc_refuses_classes_xml_cannot_hold(tmp_path, name, why):
    pool = make({"a": Target.unknown()}, (name,))
    with pytest.raises(ValueError, match=why):
        write_voc(pool, tmp_path, "train")


def test_voc_refuses_ids_its_list_would_change(tmp_path):
    for name in ("a ", " a", "a\u2028b"):
        with pytest.raises(ValueError, match="blanks around it or a line break"):
            write_voc(make({name: Target.unknown()}), tmp_path, "train")
    pool = make({"JPEGImages/a": Target.unknown(), "a": Target.unknown()})
    with pytest.raises(ValueError, match="'JPEGImages/a' and 'a' make one file"):
        write_voc(pool, tmp_path, "train")


# every writer


WRITERS = {
    "coco": lambda pool, root, **more: write_coco(pool, root / "x.json", copy=True, **more),
    "voc": lambda pool, root, **more: write_voc(pool, root, "train", **more),
    "yolo": lambda pool, root, **more: write_yolo(
        pool, root, "train", **{"incomplete": "write", **more}
    ),
    "label studio": lambda pool, root, **more: write_label_studio(pool, root / "x.json", **more),
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


BAD_IDS = (
    *("../x", "a/../../x", "/etc/x", "a//b", "..", ".", "a/.hidden", "C:/x", "c:x", "a\\b"),
    *("a\0b", "a\nb", "a/NUL", "con.txt", "LPT1", "a\ud800", "x" * 260, "a/", "./a"),
)


def test_ids_that_would_leave_the_root_are_refused(tmp_path, write):
    for name in BAD_IDS:
        with pytest.raises(ValueError, match="makes no file name") as error:
            write(make({name: Target.unknown()}), tmp_path / "in" / "out")
        assert repr(name) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_good_ids_are_names():
    for name in (
        "JPEGImages/000001",
        "a.b (1) é",
        "漢字/x y",
        "..."[:0] + "a...b",
        "console",
        "x" * 250,
    ):
        assert file_stem(name) == name


def test_an_empty_pool_and_names_alike_are_refused(tmp_path, write):
    with pytest.raises(ValueError, match="the pool has no image"):
        write(make({}), tmp_path)
    with pytest.raises(ValueError, match="'Cat' and 'cat' differ in case only"):
        write(make({"a": Target.unknown()}, ("Cat", "cat")), tmp_path)


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_ids_that_make_one_file_are_refused(tmp_path, kind):
    for first, second in (("a", "A"), ("\u00e9", "e\u0301")):
        with pytest.raises(ValueError, match="make one file"):
            WRITERS[kind](make({first: Target.unknown(), second: Target.unknown()}), tmp_path)


def test_nothing_is_overwritten_unless_asked(tmp_path, write):
    pool = make({"a": Target(some_boxes(BOX), torch.tensor([1]))})
    write(pool, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = make({"a": Target(some_boxes([0, 0, 4, 4]), torch.tensor([2]))})
    with pytest.raises(FileExistsError, match=r"is there already .* overwrite=True"):
        write(changed, tmp_path)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write(changed, tmp_path, overwrite=True)
    now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert now.keys() == files.keys() and now != files


def test_nothing_is_written_through_a_link(tmp_path, write):
    outside, root = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    root.mkdir()
    for name in ("images", "labels", "JPEGImages", "Annotations", "x.json"):
        (root / name).symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match="is a link; nothing is written through it"):
        write(make({"a": Target.unknown()}), root, overwrite=True)
    assert list(outside.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    folder = Folder(tmp_path, overwrite=True)
    folder.write("a/b.txt", b"old")
    with pytest.raises(KeyboardInterrupt), folder.open("a/b.txt") as file:
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt
    assert (tmp_path / "a/b.txt").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_full_disk_keeps_the_old_file_and_is_named(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = Folder(tmp_path, overwrite=True)
    folder.write("a.txt", b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        folder.write("a.txt", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"old"}


def test_the_image_another_comes_from_is_not_replaced(tmp_path):
    for name, level in (("a", 10), ("b", 200)):
        Image.new("RGB", (40, 30), (level, 0, 0)).save(tmp_path / f"{name}.png")
    infos = {one: ImageInfo(path=tmp_path / f"{two}.png") for one, two in ("ab", "ba")}
    pool = make(dict.fromkeys(infos, Target.unknown()), infos=infos)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"'a' would replace .*a\.png, the file of image 'b'"):
        write_coco(pool, tmp_path / "x.json", images=tmp_path, copy=True, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_image_that_cannot_be_loaded_leaves_no_list(tmp_path, write):
    class Broken:
        def load(self, image_id):
            raise ValueError("broken")

    pool = Pool(("cat",), {"a": Target.unknown()}, Broken())
    with pytest.raises(ValueError, match="broken"):
        write(pool, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_label_left_from_before_does_not_label_an_image(tmp_path):
    labelled = make({"a": Target(some_boxes(BOX), torch.tensor([1]))})
    unknown = make({"a": Target.unknown()})
    for write, read in ((write_voc, read_voc), (write_yolo, read_yolo)):
        root = tmp_path / write.__name__
        write(labelled, root, "train")
        with pytest.raises(FileExistsError):
            write(unknown, root, "train", incomplete="write")
        write(unknown, root, "train", incomplete="write", overwrite=True)
        pool = read(root, "train")
        assert pool.target(pool.ids[0]).state == "unlabelled"


def test_image_files_are_copied_byte_for_byte(tmp_path):
    source = tmp_path / "in" / "A photo.JPG"
    source.parent.mkdir()
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(20, 20, 3)).save(source, quality=60)
    content = source.read_bytes()
    pool = make({"x/y": Target.unknown()}, infos={"x/y": ImageInfo(path=source)})
    write_voc(pool, tmp_path / "voc", "train")
    write_yolo(pool, tmp_path / "yolo", "val", incomplete="write")
    write_coco(pool, tmp_path / "coco/x.json", copy=True)
    for name in ("voc/JPEGImages/x/y.JPG", "yolo/images/val/x/y.JPG", "coco/images/x/y.JPG"):
        assert (tmp_path / name).read_bytes() == content
    write_voc(pool, tmp_path / "bare", "train", copy=False)
    assert not (tmp_path / "bare/JPEGImages").exists()


def test_another_split_beside_the_files_it_comes_from(tmp_path):
    pool = make({f"JPEGImages/{n}": Target(some_boxes(BOX), torch.tensor([1])) for n in "ab"})
    write_voc(pool, tmp_path, "all")
    part = read_voc(tmp_path, "all", classes=pool.classes).subset(["JPEGImages/b"])
    stamp = (tmp_path / "JPEGImages/b.png").stat().st_mtime_ns
    write_voc(part, tmp_path, "part", overwrite=True)
    assert (tmp_path / "JPEGImages/b.png").stat().st_mtime_ns == stamp  # not copied onto itself
    assert read_voc(tmp_path, "part").ids == ("JPEGImages/b",)


def test_png_takes_the_nearest_level(tmp_path):
    image = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.5001 / 255, 1.0, 1.2, -1.0, 0.5]).reshape(
        1, 2, 4
    )
    (tmp_path / "a.png").write_bytes(png(image.repeat(3, 1, 1)))
    levels = np.asarray(Image.open(tmp_path / "a.png"))[..., 0].flatten().tolist()
    assert levels == [0, 0, 1, 255, 255, 255, 0, 128]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(deadline=None, database=None)
def test_a_number_reads_back_as_the_same_float32(value):
    text = json.dumps(number(value))
    assert np.float32(json.loads(text)).tobytes() == np.float32(value).tobytes()


REAL = {
    "coco128": lambda root: read_coco(root / "instances.json", root / "images"),
    "mot17_mini": lambda root: read_coco(root / "instances.json", root / "images"),
    "bccd": lambda root: read_voc(root, "train"),
    "voc2007_subset": lambda root: read_voc(root, "val"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_survive(tmp_path, real_data, name):
    pool = REAL[name](real_data / name)
    pool = pool.subset(pool.ids[::5])  # files are flushed to disk one by one
    write_voc(pool, tmp_path / "voc", "train")
    voc = read_voc(tmp_path / "voc", "train", classes=pool.classes)
    for old, new in zip(pool.ids, voc.ids, strict=True):
        same(pool.target(old), voc.target(new), ("boxes", "labels", "ignore", "complete"))
        first, second = pool.info(old).path, voc.info(new).path
        assert Path(first).read_bytes() == Path(second).read_bytes()
    write_yolo(pool, tmp_path / "yolo", "train", incomplete="write")
    yolo = read_yolo(tmp_path / "yolo", "train")
    write_label_studio(pool, tmp_path / "tasks.json")
    folder = pool.info(pool.ids[0]).path.parent
    tasks = read_label_studio(tmp_path / "tasks.json", images=folder, classes=pool.classes)
    assert tasks.ids == pool.ids and yolo.classes == pool.classes
    places = {image_id.rpartition("/")[2]: image_id for image_id in yolo.ids}
    for image_id in pool.ids:
        old, new = pool.target(image_id), yolo.target(places[image_id.rpartition("/")[2]])
        same(old.select(~old.ignore), new, ("boxes", "labels"), exact=False)
        same(old, tasks.target(image_id), ("labels", "ignore", "complete"))
        same(old, tasks.target(image_id), ("boxes",), exact=False)


def test_missing_and_odd_files_are_named(tmp_path):
    pool = make(
        {"a": Target.unknown()}, infos={"a": ImageInfo(size=(9, 9), path=tmp_path / "a.jpg")}
    )
    with pytest.raises(ValueError, match=r"image 'a': .*a\.jpg cannot be read: No such file"):
        write_voc(pool, tmp_path / "x", "train")
    pool = make(
        {"a": Target.unknown()}, infos={"a": ImageInfo(size=(9, 9), path=tmp_path / "a.dat")}
    )
    for write in (write_voc, write_yolo):
        with pytest.raises(ValueError, match=r"a\.dat does not end as an image does"):
            write(pool, tmp_path / "x", "train", incomplete="write")
