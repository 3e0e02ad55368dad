"""VOC and COCO become pools, in silence when they are clean and saying what is wrong when not."""

import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from almining.data.pool import DataError
from almining.data.readers import VOC_CLASSES, read_coco, read_voc

WIDTH, HEIGHT = 40, 30


def obj(name, *corners, difficult="<difficult>0</difficult>", extra=""):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{difficult}<bndbox>{box}</bndbox>{extra}</object>"


SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def xml(*objects, size=SIZE, filename=""):
    return f"<annotation>{filename}{size}{''.join(objects)}</annotation>"


class Voc:
    def __init__(self, root):
        self.root = root
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        self.names = []

    def add(self, name, text, image=".jpg"):
        self.names.append(name)
        if text is not None:
            path = self.root / "Annotations" / f"{name}.xml"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if image:
            Image.new("RGB", (WIDTH, HEIGHT)).save(self.root / "JPEGImages" / f"{name}{image}")
        return self

    def read(self, **options):
        listing = "".join(f"{name}\n" for name in self.names)
        (self.root / "ImageSets/Main/train.txt").write_text(listing, encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_voc(self.root, "train", **options)


@pytest.fixture
def voc(tmp_path):
    return Voc(tmp_path / "voc").add("good", xml(obj("cat", 1, 1, 40, 30)))


@pytest.fixture
def coco(tmp_path):
    """Write a data set of three images after `change` edited it, and read it."""
    images = tmp_path / "images"
    images.mkdir()

    def read(change=lambda data: None, text=None, **options):
        data = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
                for i in (7, 2, 9)
            ],
            "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "ant"}],
            "annotations": [
                annotation(1, 7, 90, [1, 2, 10, 20]),
                annotation(2, 7, 3, [0, 0, 40, 30]),
                annotation(5, 2, 3, [3.5, 4.25, 5, 6]),
            ],
        }
        change(data)
        for name in ("7.png", "2.png", "9.png"):
            if not (images / name).exists():
                Image.new("RGB", (WIDTH, HEIGHT)).save(images / name)
        path = tmp_path / "instances.json"
        content = json.dumps(data) if text is None else text
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_coco(path, images, **options)

    return read


def annotation(number, image, category, bbox, **more):
    known = {"id": number, "image_id": image, "category_id": category, "bbox": bbox}
    return {**known, "iscrowd": 0, "area": 1.0, **more}


def boxes(pool, image_id):
    return pool.target(image_id).boxes.tolist()


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


# VOC


def test_voc_becomes_zero_based(voc):
    pool = voc.read()
    assert pool.ids == ("JPEGImages/good",)
    assert boxes(pool, "JPEGImages/good") == [[0, 0, WIDTH, HEIGHT]]
    assert pool.classes == VOC_CLASSES and pool.target(pool.ids[0]).labels.tolist() == [8]
    assert pool.findings == () and pool.target(pool.ids[0]).complete
    assert pool.info(pool.ids[0]).size == (HEIGHT, WIDTH)
    assert pool.image(pool.ids[0]).shape == (3, HEIGHT, WIDTH)


def test_voc_origin_zero(tmp_path):
    voc = Voc(tmp_path).add("a", xml(obj("cat", 0, 0, 39, 29)))
    pool = voc.read(voc_origin=0)
    assert boxes(pool, "JPEGImages/a") == [[0, 0, 40, 30]] and pool.findings == ()
    finding = only(raised(voc.read))
    assert finding.field == "bndbox" and "voc_origin=0" in finding.remedy
    assert not voc.read(strict=False).target("JPEGImages/a").complete


@pytest.mark.parametrize("origin", [0, 1])
def test_normalised_voc_boxes_are_named_before_anything_else(tmp_path, origin):
    voc = Voc(tmp_path).add("a", xml(obj("cat", 0.1, 0.2, 0.9, 0.8), obj("cat", 2, 2, 9, 9)))
    finding = only(raised(voc.read, voc_origin=origin))
    assert finding.field == "bndbox" and "normalised to [0, 1]" in finding.remedy
    assert "xmin=0.1" in finding.value


def raised(read, **options):
    with pytest.raises(DataError) as error:
        read(**options)
    for finding in error.value.findings:
        for word in (finding.file, finding.record, finding.field, finding.value, finding.remedy):
            assert isinstance(word, str)
        assert finding.file and finding.record and finding.field and finding.remedy
        assert str(finding) in str(error.value)
    return [finding for finding in error.value.findings if finding.action == "error"]


def test_zero_based_boxes_are_one_error(voc):
    for name in "abcde":
        voc.add(name, xml(obj("dog", 0, 3, 9, 9)))
    assert "5 in all" in only(raised(voc.read)).record


def test_valid_oddities_of_voc_are_silent(voc):
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    voc.add("with part", xml(obj("person", 2, 2, 9, 9, extra=part)))
    voc.add("a.b (1) é", xml(obj("dog", 1.5, "2.25", 9, 9)), image=".JPEG")
    voc.add("empty", xml(), image=".png")
    voc.add("plain", xml(obj("dog", 2, 2, 9, 9, difficult="")))
    voc.add("hard", xml(obj("dog", 2, 2, 9, 9, difficult="<difficult>1</difficult>")))
    voc.add("line", xml(obj("dog", 5, 2, 5, 9)))
    pool = voc.read()
    assert pool.findings == ()
    assert len(pool.target("JPEGImages/with part")) == 1
    assert boxes(pool, "JPEGImages/a.b (1) é") == [[0.5, 1.25, 9, 9]]
    assert pool.image("JPEGImages/a.b (1) é").shape == (3, HEIGHT, WIDTH)
    assert pool.target("JPEGImages/empty").state == "complete"
    assert pool.target("JPEGImages/plain").ignore.tolist() == [False]
    assert pool.target("JPEGImages/hard").ignore.tolist() == [True]
    assert boxes(pool, "JPEGImages/line") == [[4, 1, 5, 9]]  # inclusive: one pixel wide


VOC_BAD = {
    "reversed": (obj("cat", 9, 9, 8, 12), "bndbox"),
    "outside": (obj("cat", 41, 5, 60, 9), "bndbox"),
    "nan": (obj("cat", "nan", 5, 6, 9), "bndbox"),
    "infinite": (obj("cat", 1, 5, "inf", 9), "bndbox"),
    "text": (obj("cat", "one", 5, 6, 9), "bndbox"),
    "missing": ("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>", "bndbox"),
    "no box": ("<object><name>cat</name></object>", "bndbox"),
    "two boxes": (obj("cat", 1, 1, 5, 5).replace("</object>", "<bndbox/></object>"), "bndbox"),
    "no name": (obj("", 1, 1, 5, 5), "name"),
    "difficult": (obj("cat", 1, 1, 5, 5, difficult="<difficult>x</difficult>"), "difficult"),
}


@pytest.mark.parametrize("case", VOC_BAD)
def test_bad_object(voc, case):
    entry, field = VOC_BAD[case]
    voc.add("bad", xml(obj("dog", 2, 2, 9, 9), entry))
    finding = only(raised(voc.read))
    assert finding.field == field and "object 2" in finding.record
    assert finding.file.endswith("bad.xml")
    pool = voc.read(strict=False)
    assert only(pool.findings).action == "quarantined"
    assert pool.target("JPEGImages/bad").state == "sparse"  # an absent box no longer is background
    assert len(pool.target("JPEGImages/bad")) == 1


@pytest.mark.parametrize(
    ("entry", "wanted", "word"),
    [
        (obj("cat", 7, 7, 7, 7), [], "stray click"),
        (obj("cat", 31, 21, 60, 29), [[30, 20, 40, 29]], "clipped"),
        (obj("cat", -4, 5, 6, 9), [[0, 4, 6, 9]], "clipped"),
        (obj("cat", 2, 2, 9, 9) * 2, [[1, 1, 9, 9]], "duplicate"),
    ],
)
def test_voc_repairs(voc, entry, wanted, word):
    pool = voc.add("odd", xml(entry)).read()
    finding = only(pool.findings)
    assert finding.action == "repaired" and word in finding.remedy
    assert boxes(pool, "JPEGImages/odd") == wanted
    assert pool.target("JPEGImages/odd").complete


def test_same_box_of_two_classes_is_no_duplicate(voc):
    pool = voc.add("two", xml(obj("cat", 2, 2, 9, 9), obj("dog", 2, 2, 9, 9))).read()
    assert len(pool.target("JPEGImages/two")) == 2 and pool.findings == ()


def test_a_finding_names_the_image_of_the_pool(voc, coco):
    known = voc.add("odd", xml(obj("cat", -4, 5, 6, 9))).read()
    assert only(known.findings).image_id == "JPEGImages/odd"
    both = known.concat(coco(at("annotations", 0, bbox=[1, 2, 0, 5])), names=("voc", "coco"))
    assert [f.image_id for f in both.findings] == ["voc/JPEGImages/odd", "coco/7"]
    assert all(finding.image_id in both for finding in both.findings)


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_absent_size_comes_from_the_image(voc, size):
    pool = voc.add("odd", xml(size=size)).read()
    assert pool.info("JPEGImages/odd").size == (HEIGHT, WIDTH)
    assert only(pool.findings).action == "repaired"


DTD = "<!DOCTYPE annotation>" + xml()
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + xml(obj("&b;", 1, 1, 5, 5))
XXE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + xml(obj("&x;", 1, 1, 5, 5))


@pytest.mark.parametrize(
    "text",
    ["", "<annotation>", xml(obj("a&b", 1, 1, 5, 5)), DTD, BOMB, XXE, "<root/>", b"\xff\xfe\x00"],
    ids=["empty", "cut", "ampersand", "dtd", "bomb", "xxe", "root", "bytes"],
)
def test_bad_xml(voc, text):
    voc.add("bad", text)
    assert only(raised(voc.read)).file.endswith("bad.xml")
    pool = voc.read(strict=False)
    assert pool.ids == ("JPEGImages/good",) and len(pool.findings) == 1


def test_line_of_broken_xml_is_named(voc):
    voc.add("bad", "<annotation>\n<a>\n&</annotation>")
    assert "line 3" in only(raised(voc.read)).record


def test_missing_image_is_set_aside(voc):
    pool = voc.add("gone", xml(), image=None).read()
    assert pool.ids == ("JPEGImages/good",)
    assert only(pool.findings).action == "quarantined"


def test_nothing_left_is_an_error(tmp_path):
    voc = Voc(tmp_path).add("gone", xml(), image=None)
    assert "no image is left" in only(raised(voc.read)).remedy
    assert raised(voc.read, strict=False)


def test_image_without_annotation_is_unlabelled(voc):
    pool = voc.add("new", None).read()
    assert pool.target("JPEGImages/new").state == "unlabelled"
    assert pool.info("JPEGImages/new").size == (HEIGHT, WIDTH)
    assert only(pool.findings).action == "warning"


def test_splits(voc, tmp_path):
    assert voc.read().ids == ("JPEGImages/good",)
    with pytest.raises(DataError, match="there are: train"):
        read_voc(voc.root, "trian")
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(DataError, match="split"):
        read_voc(voc.root, "../../../secret")
    voc.names = []
    assert any("empty" in finding.remedy for finding in raised(voc.read))
    voc.names = ["good", "good"]
    assert "2 times" in only(raised(voc.read)).remedy


@pytest.mark.parametrize("name", ["../good", "/etc/good", "a/../../../x"])
def test_names_that_leave_the_root(voc, name):
    voc.names.append(name)
    assert "leaves the data set" in only(raised(voc.read)).remedy


def test_link_that_leaves_the_root(voc, tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "far.jpg")
    voc.add("linked", xml(), image=None)
    (voc.root / "JPEGImages/linked.jpg").symlink_to(tmp_path / "far.jpg")
    assert "link leaves" in only(raised(voc.read)).remedy


def test_file_names(voc):
    voc.add("a", xml(filename="<filename>gone.jpg</filename>"))
    assert only(voc.read().findings).action == "repaired"
    voc.add("b", xml(filename="<filename>good.jpg</filename>"))
    assert "both" in only(raised(voc.read)).remedy
    voc.names.remove("b")
    voc.add("c", xml())
    Image.new("RGB", (WIDTH, HEIGHT)).save(voc.root / "JPEGImages/c.png")
    assert "could be any of" in only(raised(voc.read)).remedy


def test_classes(voc):
    assert voc.add("x", xml(obj("yak", 1, 1, 5, 5))).read().classes == ("cat", "yak")
    pool = voc.read(classes=["yak", "gnu", "cat"])
    assert pool.target("JPEGImages/good").labels.tolist() == [3]
    finding = only(raised(voc.read, classes=["yak"]))
    assert finding.field == "name" and finding.value == "cat"
    voc.add("y", xml(obj("Yak", 1, 1, 5, 5)))
    assert "case" in only(raised(voc.read)).remedy
    with pytest.raises(ValueError, match="one string"):
        voc.read(classes="yak")
    with pytest.raises(ValueError, match="voc_origin = 2"):
        voc.read(voc_origin=2)


def test_every_problem_is_in_one_report(voc):
    for case, (entry, _) in VOC_BAD.items():
        voc.add(case, xml(entry))
    assert len(raised(voc.read)) == len(VOC_BAD)


# COCO


def test_coco(coco):
    pool = coco()
    assert pool.ids == ("7", "2", "9") and pool.classes == ("ant", "zebra")
    assert boxes(pool, "7") == [[1, 2, 11, 22], [0, 0, 40, 30]]
    assert pool.target("7").labels.tolist() == [2, 1]
    assert pool.target("9").state == "complete" and len(pool.target("9")) == 0
    assert pool.findings == ()


def test_crowds_are_ignored(coco):
    def change(data):
        rle = {"counts": [3, 4], "size": [HEIGHT, WIDTH]}
        data["annotations"][0].update(iscrowd=1, segmentation=rle)
        data["annotations"][2].update(ignore=1)

    pool = coco(change)
    assert pool.target("7").ignore.tolist() == [True, False]
    assert pool.target("2").ignore.tolist() == [True] and pool.findings == ()


def at(kind, number, **fields):
    return lambda data: data[kind][number].update(fields)


COCO_ERRORS = {
    "negative": (at("annotations", 0, bbox=[9, 9, -2, 3]), "bbox"),
    "outside": (at("annotations", 0, bbox=[50, 9, 2, 3]), "bbox"),
    "nan": (at("annotations", 0, bbox=[float("nan"), 9, 2, 3]), "bbox"),
    "inf": (at("annotations", 0, bbox=[1, 9, float("inf"), 3]), "bbox"),
    "huge": (at("annotations", 0, bbox=[1, 9, 10**400, 3]), "bbox"),
    "null": (at("annotations", 0, bbox=None), "bbox"),
    "short": (at("annotations", 0, bbox=[1, 2, 3]), "bbox"),
    "strings": (at("annotations", 0, bbox=["1", "2", "3", "4"]), "bbox"),
    "category": (at("annotations", 0, category_id=4), "category_id"),
    "orphan": (at("annotations", 0, image_id=4), "image_id"),
    "twice": (at("annotations", 1, id=1), "id"),
    "crowd": (at("annotations", 0, iscrowd="no"), "iscrowd"),
    "no file name": (at("images", 0, file_name=None), "file_name"),
    "leaving": (at("images", 0, file_name="../7.png"), "file_name"),
    "absolute": (at("images", 0, file_name="/etc/7.png"), "file_name"),
    "drive": (at("images", 0, file_name="C:\\7.png"), "file_name"),
}


@pytest.mark.parametrize("case", COCO_ERRORS)
def test_coco_errors(coco, case):
    change, field = COCO_ERRORS[case]
    assert only(raised(coco, change=change)).field == field
    pool = coco(change, strict=False)
    assert only(pool.findings).action == "quarantined"
    # an annotation of nobody takes nothing from any image
    assert "7" not in pool or case == "orphan" or not pool.target("7").complete


COCO_FATAL = {
    "image twice": (at("images", 1, id=7), "id"),
    "category twice": (at("categories", 1, id=90), "id"),
    "name twice": (at("categories", 1, name="zebra"), "name"),
    "case": (at("categories", 1, name="Zebra"), "name"),
    "no list": (lambda data: data.pop("annotations"), "annotations"),
    "no object": (lambda data: data["images"].append(3), "images"),
    "empty": (lambda data: data.update(images=[], annotations=[]), "count"),
    "normalised": (
        lambda data: [a.update(bbox=[0.1, 0.1, 0.5, 0.5]) for a in data["annotations"]],
        "bbox",
    ),
}


@pytest.mark.parametrize("case", COCO_FATAL)
def test_coco_fatal(coco, case):
    change, field = COCO_FATAL[case]
    assert field in {finding.field for finding in raised(coco, change=change)}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"images": [', "cut short"),
        ("[]", "top level"),
        ('{"images": [], "images": []}', "twice"),
        (b'{"images": "\xe9"}', "UTF-8"),
        ("", "end of file"),
    ],
)
def test_bad_json(coco, text, word):
    assert word in str(only(raised(coco, text=text)))


COCO_REPAIRS = {
    "flat": (at("annotations", 0, bbox=[1, 2, 0, 5]), "without area"),
    "clipped": (at("annotations", 0, bbox=[30, 20, 20, 5]), "clipped"),
    "duplicate": (at("annotations", 1, bbox=[1, 2, 10, 20], category_id=90), "duplicate"),
    "id 0": (at("annotations", 0, id=0), "from 1"),
    "text ids": (at("annotations", 0, image_id="7"), "matched as text"),
    "no crowd": (lambda data: [a.pop("iscrowd") for a in data["annotations"]], "taken as 0"),
    "no area": (lambda data: data["annotations"][0].pop("area"), "taken as w * h"),
    "no size": (lambda data: data["images"][0].pop("width"), "image file"),
    "backslash": (at("images", 0, file_name=".\\7.png"), "read ./7.png"),
}


@pytest.mark.parametrize("case", COCO_REPAIRS)
def test_coco_repairs(coco, case):
    change, word = COCO_REPAIRS[case]
    pool = coco(change)
    finding = only(pool.findings)
    assert finding.action == "repaired" and word in finding.remedy
    assert len(pool) == 3 and pool.target("7").complete
    assert bool((pool.target("7").boxes[:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all())


def test_missing_file_is_set_aside(coco):
    pool = coco(at("images", 0, file_name="gone.png"))
    assert pool.ids == ("2", "9") and only(pool.findings).action == "quarantined"


def test_duplicate_images_are_both_set_aside(coco):
    pool = coco(at("images", 1, id=7), strict=False)
    assert pool.ids == ("9",)  # nobody knows whose boxes they are


def test_corner_boxes_are_suspected(coco):
    def change(data):
        data["annotations"] = [annotation(i, 7, 3, [20, 15, 30 + i, 29]) for i in range(1, 6)]

    assert [f.action for f in coco(change).findings].count("warning") == 1


def test_rounding_at_the_edge_is_no_defect(coco):
    pool = coco(at("annotations", 0, bbox=[10.01, 2, 30, 5]))
    assert pool.findings == () and boxes(pool, "7")[0][2] == WIDTH


# images


def saved(coco, tmp_path, image, name="7.png", **options):
    (tmp_path / "images").mkdir(exist_ok=True)
    image.save(tmp_path / "images" / name, **options)
    return coco()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_modes_become_rgb(coco, tmp_path, mode):
    grey = Image.new("L", (WIDTH, HEIGHT), 255)
    image = saved(coco, tmp_path, grey.convert(mode)).image("7")
    assert image.dtype == torch.float32 and image.shape == (3, HEIGHT, WIDTH)
    assert float(image.min()) == 1


def test_cmyk_and_content_not_suffix_decides(coco, tmp_path):
    image = Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0))
    red = saved(coco, tmp_path, image, format="JPEG").image("7").mean(dim=(1, 2))
    assert red[0] > 0.8 and red[1] < 0.3 and red[2] < 0.3


def test_sixteen_bits_are_scaled(coco, tmp_path):
    values = np.full((HEIGHT, WIDTH), 32768, dtype=np.uint16)
    image = saved(coco, tmp_path, Image.fromarray(values)).image("7")
    assert float(image.mean()) == pytest.approx(32768 / 65535)


def test_orientation_is_not_applied(coco, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = saved(coco, tmp_path, Image.new("RGB", (WIDTH, HEIGHT)), format="JPEG", exif=exif)
    assert image.image("7").shape == (3, HEIGHT, WIDTH)


def test_broken_images_name_their_file(coco, tmp_path):
    swapped = saved(coco, tmp_path, Image.new("RGB", (HEIGHT, WIDTH)))
    with pytest.raises(ValueError, match=r"'7'.*30 x 40 pixels.*40 x 30; the two are swapped"):
        swapped.image("7")
    path = tmp_path / "images" / "7.png"
    for content in (b"", b"<html></html>", path.read_bytes()[:60], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"image '7': .*7\.png"):
            swapped.image("7")
    frames = [Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 99)]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several frames"):
        swapped.image("7")


def test_images_survive_a_worker(coco):
    source = pickle.loads(pickle.dumps(coco()._images))
    assert source.load("2").shape == (3, HEIGHT, WIDTH)


# real images


def sums(pool):
    targets = [pool.target(image_id) for image_id in pool.ids]
    boxes, ignored = sum(map(len, targets)), sum(int(t.ignore.sum()) for t in targets)
    return len(pool), boxes, ignored


def test_real_bccd(real_data):
    pools = [read_voc(real_data / "bccd", split) for split in ("train", "val", "test")]
    assert [len(pool) for pool in pools] == [205, 87, 72]
    assert sum(sums(pool)[1] for pool in pools) == 4888 - 2
    assert {pool.classes for pool in pools} == {("Platelets", "RBC", "WBC")}
    findings = [finding for pool in pools for finding in pool.findings]
    assert sorted(f.file[-9:-4] for f in findings) == ["00338", "00343"]
    assert {f.action for f in findings} == {"repaired"}


def test_real_voc(real_data):
    pools = [read_voc(real_data / "voc2007_subset", s) for s in ("train", "val", "test")]
    assert [sums(pool) for pool in pools] == [(350, 1164, 303), (150, 490, 109), (300, 953, 188)]
    assert sum(sums(pool)[1] for pool in pools) == 2607
    assert all(pool.findings == () and pool.classes == VOC_CLASSES for pool in pools)
    assert pools[0].image(pools[0].ids[0]).shape[1:] == pools[0].info(pools[0].ids[0]).size


def test_real_coco(real_data):
    root = real_data / "coco128"
    pool = read_coco(root / "instances.json", root / "images")
    assert sums(pool) == (128, 939, 10) and len(pool.classes) == 80
    assert pool.findings == ()
    assert pool.target("250").state == "complete" and len(pool.target("250")) == 0
    grey = pool.image("86")
    assert grey.shape == (3, *pool.info("86").size) and bool((grey[0] == grey[2]).all())


def test_real_mot(real_data):
    root = real_data / "mot17_mini"
    pool = read_coco(root / "instances.json", root / "images")
    assert sums(pool) == (12, 424, 0)
    assert [f.action for f in pool.findings] == ["repaired"] * 72
    assert pool.info("1").video == "MOT17-02-FRCNN" and pool.info("1").frame == 1
