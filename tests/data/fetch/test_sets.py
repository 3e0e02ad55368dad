from dataclasses import replace
from pathlib import Path

import pytest
import torch

from almining.data.fetch import (
    bdd100k,
    caltech,
    citypersons,
    coco,
    ilsvrc2013,
    openimages,
    voc,
)
from almining.data.fetch.download import FetchError
from almining.data.fetch.gather import read_entries, tall_pedestrians, with_objects
from almining.data.fetch.prepare import Expected, Split, compare, pool_of, prepare, report
from almining.data.fetch.protocols import PROTOCOLS, cut, protocol
from almining.data.fetch.sets import Archive, DataSet, obtain
from almining.data.pool import DataError, Pool
from almining.data.scenes import make_scenes
from almining.data.writers import write_coco
from almining.records import Target
from tests.data import sets_made
from tests.data.serving import RULES

MODULES = (bdd100k, caltech, citypersons, coco, ilsvrc2013, openimages, voc)
SETS = [one for module in MODULES for one, _ in module.SETS.values()]
SPLITS = [split for module in MODULES for _, splits in module.SETS.values() for split in splits]


def target(*rows: tuple[int, float, float, bool], complete: bool = True) -> Target:
    """Boxes of (class, width, height, ignored) at the origin."""
    boxes = torch.tensor([[0.0, 0.0, wide, high] for _, wide, high, _ in rows]).reshape(-1, 4)
    labels = torch.tensor([label for label, *_ in rows], dtype=torch.int64)
    ignore = torch.tensor([row[3] for row in rows], dtype=torch.bool)
    return Target(boxes, labels, ignore=ignore, complete=complete)


def pool(**targets: Target) -> Pool:
    return Pool(["car", "dog"], targets, images=None)


def extracted(folder: Path, made: dict[str, sets_made.Files]) -> dict[str, Path]:
    """Put the files of a set where `obtain` would."""
    found = {}
    for name, files in made.items():
        stem = Archive(name).stem
        found[stem] = folder / stem
        for path, content in ({"": files} if isinstance(files, bytes) else files).items():
            (folder / stem / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / stem / path).write_bytes(content)
    return found


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_what_is_known_of_a_set_is_well_formed(one: DataSet) -> None:
    names = [archive.name for archive in one.archives]
    assert len(set(names)) == len(names) and one.licence and one.page.startswith("https://")
    for archive in one.archives:
        assert archive.url is None or archive.url.startswith("https://")
        assert archive.sha256 is None or len(archive.sha256) == 64
        if archive.url is not None:
            assert archive.url.split("/")[2] in one.hosts
    assert bool(one.account) == any(archive.url is None for archive in one.archives)


def test_published_counts_add_up() -> None:
    assert len({split.name for split in SPLITS}) == len(SPLITS)
    for split in SPLITS:
        known = split.expected
        if known is not None and known.classes and known.counted is not None:
            assert sum(known.classes.values()) == known.counted, split.name
        if known is not None and known.all_classes:
            assert sum(known.all_classes.values()) == known.objects, split.name
    assert len(coco.CLASSES) == 80 and set(coco.VOC_NAMES) < set(coco.CLASSES)
    assert len(voc.VOC_CLASSES) == len(coco.VOC_NAMES) == 20


def test_what_is_fetched_by_hand_is_asked_for_at_once(tmp_path: Path) -> None:
    one = DataSet(
        "made",
        (Archive("a.zip", size=7, what="images"), Archive("b.txt"), Archive("c", needed=False)),
        "https://a.org",
        "free",
        account="Log in.",
    )
    (tmp_path / "b.txt").write_bytes(b"x")
    with pytest.raises(FetchError) as caught:
        obtain(one, tmp_path)
    assert str(caught.value).splitlines() == [
        "made cannot be fetched without you. Log in.",
        "Page: https://a.org",
        "Terms: free",
        f"Put into {tmp_path}:",
        "  a.zip, 7 bytes: images",
        "Then run the same command again; it goes on from there.",
    ]
    (tmp_path / "images" / "a").mkdir(parents=True)
    assert obtain(one, tmp_path) == {"a": tmp_path / "images" / "a", "b.txt": tmp_path / "b.txt"}
    (tmp_path / "c").write_bytes(b"x")
    assert "c" in obtain(one, tmp_path)


def test_counts_are_compared() -> None:
    made = pool(a=target((1, 5, 5, False), (2, 5, 5, True)), b=target((1, 5, 5, True)), c=target())
    expected = Expected(
        *("us", 4, 1, 3, 2),
        classes={"car": 1, "dog": 5},
        all_classes={"car": 2},
    )
    assert compare(made, expected) == [
        ("images", 3, 4),
        ("images with an object", 1, 1),
        ("objects, ignored ones among them", 3, 3),
        ("objects, ignored ones left out", 1, 2),
        ("car", 1, 1),
        ("dog", 0, 5),
        ("car, ignored ones among them", 2, 2),
    ]
    page = report(voc.VOC2007, Split("x", lambda folders: made, expected), made)
    assert "3 of 7 counts DIFFER from published (us)." in page
    assert "| dog | 0 | 5 | 5 fewer |" in page and "| car | 1 | 1 | as published |" in page
    assert "No findings: the data are clean." in page
    right = report(voc.VOC2007, Split("x", lambda folders: made, Expected("us", 3)), made)
    assert "All counts are as published (us)." in right


def test_a_set_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    folders = extracted(tmp_path, sets_made.citypersons())
    for path in folders[citypersons.IMAGES].rglob("*.png"):
        path.unlink()
    splits = [replace(citypersons.SPLITS[0], read=lambda _: citypersons.read(folders, "train"))]
    empty = DataSet("made", (), "https://a.org", "free")
    with pytest.raises(DataError, match="no image is left"):
        prepare(empty, splits, tmp_path / "out", rules=RULES)
    assert not list((tmp_path / "out").iterdir())


def test_a_split_whose_archive_is_absent_is_left_out(tmp_path: Path) -> None:
    scenes = make_scenes(2, seed=0)
    write_coco(scenes, tmp_path / "made.json", copy=True)
    splits = [
        Split("always", lambda _: pool_of(tmp_path, "made")),
        Split("perhaps", lambda _: pool_of(tmp_path, "made"), needs=("list.txt",)),
    ]
    one = DataSet("made", (Archive("list.txt", needed=False),), "https://a.org", "free")
    assert set(prepare(one, splits, tmp_path)) == {"always"}
    (tmp_path / "list.txt").write_text("a")
    assert set(prepare(one, splits, tmp_path)) == {"always", "perhaps"}
    with pytest.raises(FetchError, match=r"other.json is not there; there are: always, made, "):
        pool_of(tmp_path, "other")


def test_pedestrians_of_divergence() -> None:
    made = pool(
        a=target((1, 20, 50, False), (1, 20, 49, False), (1, 9.9, 50, False), (1, 33, 50, False)),
        b=target((1, 9, 9, True), (1, 65, 100, False), (1, 10, 50, False)),
        c=target((1, 9, 9, False)),
    )
    kept = tall_pedestrians(made)
    assert [len(kept.target(one)) for one in "abc"] == [1, 3, 0]
    assert all(kept.target(one).complete for one in "abc")
    assert with_objects(kept).ids == ("a", "b")
    assert len(tall_pedestrians(made, height=0, aspect=(0, 9)).target("a")) == 4


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("[]", 0),
        (' [\n{"a": 1},\n{"a": 2}]\n', 2),
        ('[{"a": "' + "x" * 9000 + '"}, {"b": [1]}]', 2),
    ],
)
def test_entries_of_a_long_list(
    text: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(text)
    for block in (1, 7, 1 << 20):
        monkeypatch.setattr("almining.data.fetch.gather.BLOCK", block)
        assert len(list(read_entries(tmp_path / "a.json"))) == rows


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "breaks off at its end"),
        ('{"a": 1}', "is no list"),
        ('[{"a": 1}, {"a"', "breaks off at"),
        ("[{} nonsense]", "breaks off at 'nonsense"),
        ("[1]", "lists '1' where an object is needed"),
        ("[" * 200_000, "breaks off at"),
        ('[{"a": "\udcff"}]', "is damaged"),
    ],
)
def test_what_is_no_list_of_objects(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, errors="surrogateescape")
    with pytest.raises(FetchError, match=why):
        list(read_entries(tmp_path / "a.json"))


def test_voc_boxes_are_read_as_voc_means_them(tmp_path: Path) -> None:
    stem = "VOCtrainval_06-Nov-2007"
    read = voc.SPLITS_2007[0].read(extracted(tmp_path, sets_made.voc(2007, "trainval", stem)))
    assert read.classes == voc.VOC_CLASSES and read.findings == ()
    first, second = read.target("JPEGImages/000005"), read.target("JPEGImages/000007")
    assert first.boxes.tolist() == [[0, 0, 64, 48]]  # the part's box is no object
    assert second.boxes[0].tolist() == [9, 9.5, 40, 30] and second.ignore.tolist() == [False, True]


def test_citypersons_ignores_all_but_pedestrians(tmp_path: Path) -> None:
    read = citypersons.read(extracted(tmp_path, sets_made.citypersons()), "val")
    one = read.target("aachen/aachen_000000_000019")
    assert one.boxes.tolist() == [[10, 10, 40, 90], [0, 0, 200, 10]]
    assert one.ignore.tolist() == [False, True] and read.classes == ("pedestrian",)
    assert read.info("bochum/bochum_000000_000600").size == (100, 200)


def test_caltech_frames_know_their_video(tmp_path: Path) -> None:
    folders = extracted(tmp_path, sets_made.caltech())
    read = caltech.read(folders, caltech.TRAIN)
    info = read.info("set00/V000/000002")
    assert (info.video, info.frame, info.size) == ("set00/V000", 2, (480, 640))
    target = read.target("set00/V000/000000")
    assert target.boxes.tolist() == [[10, 20, 50, 120], [299, 49, 389, 129]]
    assert target.ignore.tolist() == [False, True]
    assert caltech.read(folders, caltech.TRAIN, step=2).ids[:2] == (
        *("set00/V000/000000", "set00/V000/000002"),
    )
    next(folders["data_and_labels"].rglob("set01/V000.vbb")).unlink()
    with pytest.raises(FetchError, match="video or annotation is absent of set01/V000"):
        caltech.read(folders, caltech.TRAIN)


def test_bdd_images_without_an_entry_are_unlabelled(tmp_path: Path) -> None:
    read = bdd100k.read(extracted(tmp_path, sets_made.bdd100k()), "train")
    states = [read.target(one).state for one in read.ids]
    assert states == ["complete", "complete", "complete", "unlabelled"]
    assert read.target(read.ids[0]).boxes[0].tolist() == [100.5, 200, 140.5, 300]
    assert "read as unlabelled, not as empty" in str(read.findings[0])


def test_ilsvrc_counts_pixels_from_0_and_names_its_classes(tmp_path: Path) -> None:
    folders = extracted(tmp_path, sets_made.ilsvrc2013())
    read = ilsvrc2013.read(folders)
    assert read.classes == tuple(f"thing {number:03d}" for number in range(200))
    last = read.target("ILSVRC2012_val_00000003")
    assert last.boxes.tolist() == [[0, 0, 64, 48], [4, 5, 21, 31]]
    assert last.labels.tolist() == [200, 1]
    (tmp_path / "val1.txt").write_text("ILSVRC2012_val_00000003 1\nILSVRC2012_val_00000001 2\n")
    folders["val1.txt"] = tmp_path / "val1.txt"
    half = ilsvrc2013.read(folders, "val1.txt")
    assert half.ids == ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000003")


def test_open_images_are_never_complete(tmp_path: Path) -> None:
    folders = extracted(tmp_path, sets_made.openimages())
    read = openimages.read(folders, "validation")
    one = read.target("0001eeaf4aed83f9")
    assert one.boxes.tolist() == [[16, 0, 48, 48], [0, 24, 32, 48]]
    assert one.ignore.tolist() == [False, True] and not one.complete
    assert one.tags == {1, 2} and one.absent == frozenset()
    assert read.target("00075905539074f2").state == "unlabelled"
    assert "1 boxes are left out" in str(read.findings[0])
    csv = folders["validation-annotations-bbox.csv"]
    csv.write_text(csv.read_text()[:-20])
    with pytest.raises(FetchError, match="breaks off in line 5"):
        openimages.read(folders, "validation")
    csv.write_text('ImageID,"XMin')
    with pytest.raises(FetchError, match="is damaged"):
        openimages.read(folders, "validation")
    csv.write_bytes(b"\xff")
    with pytest.raises(FetchError, match="is damaged"):
        openimages.read(folders, "validation")
    csv.write_text("ImageID,XMin\n")
    with pytest.raises(FetchError, match="has no column IsGroupOf, LabelName, XMax"):
        openimages.read(folders, "validation")


def test_protocols(tmp_path: Path) -> None:
    scenes = make_scenes(30, seed=0)
    assert len(PROTOCOLS) == 17
    assert repr(protocol("tags", scenes, seed=0)).startswith("Pool(30: 30 tagged")
    assert repr(protocol("labelled-5%", scenes, seed=0)) == "Pool(30: 2 complete, 28 unlabelled)"
    hard = protocol("sparse-hard", scenes, seed=1)
    assert sum(len(hard.target(one)) for one in hard.ids) < sum(
        len(scenes.target(one)) for one in scenes.ids
    )
    again = protocol("sparse-hard", scenes, seed=1)
    assert all(torch.equal(hard.target(one).boxes, again.target(one).boxes) for one in scenes.ids)
    with pytest.raises(ValueError, match=r"protocol = 'hard': give one of sparse-easy, sparse-ha"):
        protocol("hard", scenes, seed=0)


def test_note_rcnn_splits_coco_by_the_classes_of_voc() -> None:
    names = list(coco.CLASSES)
    made = {
        f"{i}": Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([i % 80 + 1]))
        for i in range(1040)
    }
    whole = Pool(names, made, images=None)
    source, other = (protocol(f"{side}-classes", whole, seed=0) for side in ("voc", "other"))
    assert set(source.classes) == set(coco.VOC_NAMES) and len(other.classes) == 60
    assert len(source) == 260 and len(other) == 780
    seeds = protocol("seeds-12", whole, seed=0)
    complete = sum(seeds.target(one).complete for one in seeds.ids)
    assert complete == 12 * 60 and len(seeds) == 780


def test_ilsvrc_is_split_by_the_alphabet() -> None:
    names = [f"{chr(97 + (7 * i) % 26)}{i:03d}" for i in range(200)]
    order = sorted(range(200), key=lambda place: names[place])
    made = {
        f"{i}": Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([number + 1]))
        for i, number in enumerate(
            [*range(200), *(place for place in order[100:] for _ in range(15))]
        )
    }
    whole = Pool(names, made, images=None)
    first, last = (protocol(f"{side}-100", whole, seed=0) for side in ("first", "last"))
    assert max(first.classes) < min(last.classes) and len(first.classes) == 100
    seeds = protocol("last-100-seeds", whole, seed=3)
    assert sum(seeds.target(one).complete for one in seeds.ids) == 1500


def test_a_protocol_is_cut_once(tmp_path: Path) -> None:
    write_coco(make_scenes(6, seed=0), tmp_path / "a.json", copy=True)
    path = cut(tmp_path, "a", "sparse-extreme", seed=4)
    assert path.name == "a_sparse-extreme_seed4.json"
    before = path.stat().st_mtime_ns
    assert cut(tmp_path, "a", "sparse-extreme", seed=4).stat().st_mtime_ns == before
    assert "sparse" in repr(pool_of(tmp_path, path.stem))
    with pytest.raises(FetchError, match=r"a under voc-classes: source_classes: .* are not among"):
        cut(tmp_path, "a", "voc-classes", seed=0)
