"""YOLO's layout: written and read back, and everything that can be wrong with it."""

import math
import warnings

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from almining.data.formats.yolo import read_yolo
from almining.data.pool import DataError
from almining.data.writers import write_yolo
from almining.records import Target
from tests.data.random_pools import make, pools, same, some_boxes
from tests.data.test_writers import BOX, counted, lost

QUICK = settings(max_examples=25, deadline=None, database=None)
NAMES = "names: [cat, dog]\n"


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_yolo(*args, **options)


@given(pools(plain=True), st.booleans())
@QUICK
def test_round_trip(tmp_path_factory, pool, scores):
    root = tmp_path_factory.mktemp("yolo")
    findings = write_yolo(pool, root, "train", incomplete="write", scores=scores)
    back = quietly(root, "train")
    expected = lost(pool, pool.ids)
    expected["complete"] = sum(not pool.target(i).complete for i in pool.ids)
    expected["id"] = sum(i != "images/train/x" for i in pool.ids)
    assert back.classes == pool.classes and len(back) == len(pool)
    for image_id in pool.ids:
        old = pool.target(image_id)
        new = back.target(f"images/train/{image_id.removeprefix('images/train/')}")
        if old.state in ("unlabelled", "tagged"):
            assert new.state == "unlabelled"
            continue
        assert new.complete
        kept = old.select(~old.ignore)
        same(kept, new, ("boxes", "labels"), exact=False)
        held = [
            scores and origin != "human" and not math.isnan(score)
            for origin, score in zip(kept.origin, kept.scores.tolist(), strict=True)
        ]
        assert list(new.origin) == ["mined" if one else "human" for one in held]
        want = [s if one else math.nan for s, one in zip(kept.scores.tolist(), held, strict=True)]
        torch.testing.assert_close(new.scores, torch.tensor(want), rtol=0, atol=0, equal_nan=True)
    if scores:
        for image_id in pool.ids:
            target = pool.target(image_id)
            for origin, score in zip(target.origin, target.scores.tolist(), strict=True):
                if origin != "human" and not math.isnan(score):
                    expected["scores"] -= 1
                    expected["origin"] -= origin == "mined"
    assert counted(findings) == {field: n for field, n in expected.items() if n}


def test_by_hand(tmp_path):
    target = Target(some_boxes([10, 5, 30, 20], [0, 0, 40, 30]), torch.tensor([2, 1]))
    empty = Target(some_boxes(), torch.tensor([], dtype=torch.int64))
    names = ("no", 'a "b" \\ \u2028 ü')
    pool = make({"images/val/a": target, "images/val/e": empty}, names)
    assert write_yolo(pool, tmp_path, "val") == ()
    lines = (tmp_path / "labels/val/a.txt").read_text().splitlines()
    assert [list(map(float, line.split())) for line in lines] == [
        pytest.approx([1, 0.5, 12.5 / 30, 0.5, 0.5]),
        [0, 0.5, 0.5, 1, 1],
    ]
    assert (tmp_path / "labels/val/e.txt").read_bytes() == b""
    data = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
    assert data == {"val": "images/val", "names": dict(enumerate(names))}  # "no" stays a name
    back = quietly(tmp_path, "val")
    assert back.findings == () and back.ids == pool.ids
    assert back.target("images/val/e").complete
    same(target, back.target("images/val/a"), ("boxes", "labels"))


def test_splits_share_one_data_yaml(tmp_path):
    pool = make({"a": Target(some_boxes(BOX), torch.tensor([1]))})
    write_yolo(pool, tmp_path, "train")
    write_yolo(pool, tmp_path, "val")
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images/train", "images/val")
    assert data["names"] == {0: "cat", 1: "dog"}
    other = make({"a": Target.unknown()}, ("dog", "cat"))
    with pytest.raises(ValueError, match=r"names the classes .* write to another folder"):
        write_yolo(other, tmp_path, "test", incomplete="write")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntest: elsewhere\n")
    with pytest.raises(ValueError, match="split 'test' is 'elsewhere'"):
        write_yolo(pool, tmp_path, "test")
    for split in ("../x", "a b", "names", ""):
        with pytest.raises(ValueError, match="split = "):
            write_yolo(pool, tmp_path, split)


def test_classes_never_change_under_another_split(tmp_path):
    pool = make({"a": Target(some_boxes(BOX), torch.tensor([1]))})
    other = make({"a": Target(some_boxes(BOX), torch.tensor([1]))}, ("dog", "cat"))
    write_yolo(pool, tmp_path, "train")
    write_yolo(other, tmp_path, "train", overwrite=True)
    assert quietly(tmp_path, "train").classes == ("dog", "cat")
    write_yolo(other, tmp_path, "val")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="write to another folder, as val would change too"):
        write_yolo(pool, tmp_path, "train", overwrite=True)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_files_that_would_join_the_split_are_refused(tmp_path):
    pool = make({"a": Target(some_boxes(BOX), torch.tensor([1]))})
    write_yolo(pool, tmp_path, "train")
    (tmp_path / "images/train/b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.png is not of this pool but would be read"):
        write_yolo(pool, tmp_path, "train", overwrite=True)


def test_a_folder_called_images_in_an_id_is_refused(tmp_path):
    pool = make({"x/images/a": Target.unknown()})
    with pytest.raises(ValueError, match="look for the labels under 'labels'"):
        write_yolo(pool, tmp_path, "train", incomplete="write")


@pytest.mark.parametrize("unknown", [Target.unknown(), Target.unknown({1})])
def test_unlabelled_images_are_no_background_unasked(tmp_path, unknown):
    pool = make({"a": unknown, "b": Target(some_boxes(BOX), torch.tensor([1]))})
    with pytest.raises(DataError, match=r"a: complete = False.*count as background"):
        write_yolo(pool, tmp_path, "train")
    write_yolo(pool, tmp_path, "train", incomplete="skip")
    assert quietly(tmp_path, "train").ids == ("images/train/b",)
    write_yolo(pool, tmp_path, "val", incomplete="write")
    assert quietly(tmp_path, "val").target("images/val/a").state == "unlabelled"


def data(root, lines, names=NAMES, image="a.png"):
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "images/train" / image)
    if lines is not None:
        content = lines if isinstance(lines, bytes) else lines.encode()
        (root / "labels/train/a.txt").write_bytes(content)
    if names is not None:
        (root / "data.yaml").write_text(names, encoding="utf-8")
    return root


BAD_LINES = {
    "0 0.5 0.5 0.2": ("columns", "4 columns, where class x y width height are needed"),
    "0 0.5 0.5 0.2 0.2 0.9 0.1": ("columns", "polygon"),
    "0 0.1 0.1 0.2 0.2 0.3 0.1 0.4 0.4": ("columns", "polygon"),
    "0 0.5 0.5 0.2 0.2 0.9 0.1 0.1": ("columns", "8 columns"),
    "2 0.5 0.5 0.2 0.2": ("class", "whole numbers 0...1"),
    "-1 0.5 0.5 0.2 0.2": ("class", "whole numbers"),
    "1.0 0.5 0.5 0.2 0.2": ("class", "whole numbers"),
    "00000000005 0.5 0.5 0.2 0.2": ("class", "whole numbers"),
    "cat 0.5 0.5 0.2 0.2": ("class", "whole numbers"),
    "0 20 0.5 0.2 0.2": ("x", "divide x and width by the width"),
    "0 0.5 0.5 0.2 1.01": ("height", "above 1"),
    "0 0.5 -0.1 0.2 0.2": ("y", "negative"),
    "0 0.5 0.5 -0.2 0.2": ("width", "negative"),
    "0 nan 0.5 0.2 0.2": ("x", "finite"),
    "0 0.5 0.5 inf 0.2": ("width", "finite"),
    "0 0.5 0.5 0.2 1e999": ("height", "finite"),
    "0 0.5 0.5 0.2 x": ("height", "finite"),
    "0 0.5 0.5 0.2 0_1": ("height", "finite"),
    "0 0.5 0.5 0.2 0.2 nan": ("confidence", "finite"),
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_lines_are_named(tmp_path, line):
    field, remedy = BAD_LINES[line]
    root = data(tmp_path, f"1 0.5 0.5 0.5 0.5\n{line}\n")
    with pytest.raises(DataError) as error:
        quietly(root, "train")
    (finding,) = error.value.findings
    assert (finding.record, finding.field, finding.action) == ("line 2", field, "error")
    assert remedy in finding.remedy and finding.file.endswith("labels/train/a.txt")
    assert finding.value in line
    pool = quietly(root, "train", strict=False)
    assert [each.action for each in pool.findings] == ["quarantined"]
    target = pool.target("images/train/a")
    assert target.state == "sparse" and target.labels.tolist() == [2]


def test_valid_oddities_are_silent(tmp_path):
    lines = "\ufeff0 0.5 0.5 1.0000005 1\r\n\r\n  1\t0.25 2.5e-1 .5 .5 0.75 \r\n"
    pool = quietly(
        data(tmp_path, lines, "nc: 2\nnames:\n  0: cat # a\n  1: 'dog'\ntrain: images/train\n"),
        "train",
    )
    assert pool.findings == () and pool.classes == ("cat", "dog")
    target = pool.target("images/train/a")
    assert target.boxes.tolist() == [[0, 0, 40, 30], [0, 0, 20, 15]]
    assert target.origin == ("human", "mined") and target.scores[1] == 0.75


def test_repairs_are_told(tmp_path):
    lines = "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n1 1 0.5 0.5 0.2\n"
    pool = quietly(data(tmp_path, lines), "train")
    assert [each.action for each in pool.findings] == ["repaired"] * 3
    assert ["duplicate" in pool.findings[0].remedy, "without area" in pool.findings[1].remedy] == [
        True,
        True,
    ]
    assert "clipped" in pool.findings[2].remedy
    assert pool.target("images/train/a").boxes[1].tolist() == [30, 12, 40, 18]


def test_a_missing_label_file_is_not_silently_background(tmp_path):
    root = data(tmp_path, None)
    pool = quietly(root, "train")
    assert pool.target("images/train/a").state == "unlabelled"
    assert "missing='empty'" in pool.findings[0].remedy and pool.findings[0].action == "warning"
    pool = quietly(root, "train", missing="empty")
    assert pool.target("images/train/a").state == "complete" and pool.findings == ()
    with pytest.raises(ValueError, match="missing = 'no'"):
        read_yolo(root, "train", missing="no")
    assert (
        quietly(data(tmp_path, ""), "train", exhaustive=False).target("images/train/a").state
        == "unlabelled"
    )


BAD_DATA = {
    "absent": (None, "pass classes="),
    "no names": ("train: images/train\n", "an entry `names` is needed"),
    "a list": ("- cat\n", "an entry `names` is needed"),
    "gap": ("names: {0: cat, 2: dog}\n", "without a gap"),
    "twice": ("names: [cat, cat]\n", "stands 2 times"),
    "number twice": ("names: {0: cat, 0: dog}\n", "each once"),
    "number of a list": ("names: {[0]: cat}\n", "without a gap"),
    "text": ("names: cat\n", "names are a list"),
    "case": ("names: [cat, Cat]\n", "differ in case only"),
    "blank": ("names: [cat, '']\n", "a name is needed"),
    "nested": ("names: [cat, [dog]]\n", "a name is needed"),
    "broken": ("names: [cat\n", "cannot be read"),
    "deep": ("names: " + "[" * 1000, "cannot be read"),
    "python": ("names: !!python/object/apply:os.system ['true']\n", "a name is needed"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_yaml(tmp_path, case):
    text, remedy = BAD_DATA[case]
    root = data(tmp_path, "0 0.5 0.5 0.2 0.2\n", text)
    if case == "python":  # a tag is never run; its value is read as text
        assert quietly(root, "train").classes == ("true",)
        return
    with pytest.raises(DataError, match=remedy):
        quietly(root, "train")
    if case == "absent":
        assert quietly(root, "train", classes=["cat"]).classes == ("cat",)


def test_aliases_are_not_expanded(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    root = data(tmp_path, "", "\n".join([*lines, "names: *a29", ""]))
    with pytest.raises(DataError, match="a name is needed"):
        quietly(root, "train")


def test_the_layout_is_checked(tmp_path):
    root = data(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"split val: images = images/val: error; no such folder"):
        quietly(root, "val")
    (root / "labels/train/lost.txt").write_text("")
    (root / "labels/train/classes.txt").write_text("cat\ndog\n")
    pool = quietly(root, "train")
    assert [each.action for each in pool.findings] == ["quarantined"]
    assert pool.findings[0].record == "lost.txt"
    data(root, None, image="a.jpg")
    with pytest.raises(DataError, match="several images would share one label file"):
        quietly(root, "train")
    (root / "labels/train/a.txt").write_bytes(b"0 0.5 \xff")
    (root / "images/train/a.jpg").unlink()
    with pytest.raises(DataError, match="not UTF-8"):
        quietly(root, "train")


def test_other_layouts(tmp_path):
    root = data(tmp_path / "x", "0 0.5 0.5 0.2 0.2\n", "names: [cat, dog]\nval: ../train/images\n")
    (root / "images/train").rename(root / "i")
    (root / "labels/train").rename(root / "l")
    for kind in ("images", "labels"):
        (root / "val").mkdir(exist_ok=True)
        (root / kind).rmdir()
        (root / kind[0]).rename(root / "val" / kind)
    assert quietly(root, "val").ids == ("val/images/a",)


def test_links_out_of_the_data_are_refused(tmp_path):
    root = data(tmp_path / "x", "0 0.5 0.5 0.2 0.2\n")
    secret = tmp_path / "secret.txt"
    secret.write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "labels/train/a.txt").unlink()
    (root / "labels/train/a.txt").symlink_to(secret)
    with pytest.raises(DataError, match="leaves the data set"):
        quietly(root, "train")
