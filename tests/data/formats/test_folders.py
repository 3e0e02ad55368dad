import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from almining.data.pool import DataError
from almining.data.readers import read_folder, read_frames

WIDTH, HEIGHT = 40, 30


def put(path: Path, value: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, **options)
    return path


def raised(read, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(*arguments, **options)
    return str(caught.value)


def only(pool):
    (finding,) = pool.findings
    return finding


def test_a_folder_is_a_pool_of_unlabelled_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "a10.PNG", "a9.JpEg", "deep/er/a.b (1) é.webp", "deep/c.tiff", "z.bmp"):
        put(tmp_path / name, 255)
    for name in (".DS_Store", "._b.jpg", ".git/x.jpg", "Thumbs.db", "notes.txt", "deep/labels.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    pool = read_folder(tmp_path)
    assert pool.ids == ("a10", "a9", "b", "deep/c", "deep/er/a.b (1) é", "z")
    assert pool.findings == () and pool.classes == ()
    assert all(pool.target(image_id).state == "unlabelled" for image_id in pool.ids)
    assert pool.info("deep/c").size == (HEIGHT, WIDTH)
    assert pool.info("a10").path == (tmp_path / "a10.PNG").resolve()
    assert pool.image("deep/er/a.b (1) é").shape == (3, HEIGHT, WIDTH)
    assert pool.image("b").min() > 0.99


def test_classes_are_for_what_is_to_be_found(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    assert read_folder(str(tmp_path), classes=("cat", "dog")).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="classes = 'cat': a sequence of names"):
        read_folder(tmp_path, classes="cat")


def test_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    text = raised(read_folder, tmp_path)
    assert str(tmp_path) in text and "no image is left to read" in text
    assert "there is no such folder" in raised(read_folder, tmp_path / "none")
    assert "there is no such folder" in raised(read_folder, tmp_path / "notes.txt")


def test_two_files_of_one_id_are_an_error_and_neither_is_chosen(tmp_path: Path) -> None:
    for name in ("d/a.jpg", "d/a.png", "b.jpg"):
        put(tmp_path / name)
    text = raised(read_folder, tmp_path)
    assert "image d/a" in text and "a.jpg, a.png" in text and "rename or remove" in text
    pool = read_folder(tmp_path, strict=False)
    assert pool.ids == ("b",) and only(pool).value == "a.jpg, a.png"


def test_one_name_in_two_folders_is_two_images(tmp_path: Path) -> None:
    put(tmp_path / "x/1.jpg", 255)
    put(tmp_path / "y/1.jpg", 0)
    pool = read_folder(tmp_path)
    assert pool.ids == ("x/1", "y/1")
    assert pool.image("x/1").mean() > 0.9 and pool.image("y/1").mean() < 0.1


def test_broken_files_are_set_aside(tmp_path: Path) -> None:
    put(tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    frames = [Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 99)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("F", (WIDTH, HEIGHT)).save(tmp_path / "heights.tif")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pool = read_folder(tmp_path)
    assert seen == [] and pool.ids == ("good",)
    found = {finding.record: finding for finding in pool.findings}
    words = {
        "bomb": "10000 x 10000 pixels are more than",
        "empty": "the file is empty",
        "heights": "mode F have no fixed range",
        "moving": "several frames",
        "page": "not an image of the formats",
    }
    assert set(found) == {f"image {name}" for name in words}
    for name, word in words.items():
        finding = found[f"image {name}"]
        assert word in finding.value and finding.action == "quarantined" and finding.remedy
        assert Path(finding.file).stem == name


def test_a_file_that_ends_early_shows_when_it_is_loaded(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", size=(300, 300), quality=95)
    path.write_bytes(path.read_bytes()[:1500])
    pool = read_folder(tmp_path)
    with pytest.raises(ValueError, match=r"image 'a': .*a\.jpg: .*truncated.*; replace the file"):
        pool.image("a")


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    for name in ("1.HEIC", "2.heic", "3.dng"):
        (tmp_path / name).write_bytes(b"?")
    found = {finding.value: finding for finding in read_folder(tmp_path).findings}
    assert found[".heic"].record == "1.HEIC, 2.heic" and found[".dng"].record == "3.dng"
    assert "convert it to JPEG or PNG" in found[".dng"].remedy
    assert found[".dng"].action == "quarantined"


def test_sixteen_bits_and_orientation_are_counted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(5):
        put(tmp_path / f"turned{number}.jpg", exif=exif)
        Image.fromarray(np.full((8, 9), 40_000, np.uint16)).save(tmp_path / f"deep{number}.png")
    exif[0x0112] = 3  # upside down: the sides stay
    put(tmp_path / "flipped.jpg", exif=exif)
    deep, turned = read_folder(tmp_path).findings
    assert deep.action == "repaired" and "(5 in all)" in deep.record and "65535" in deep.remedy
    assert turned.action == "warning" and "(5 in all)" in turned.record
    assert turned.value == f"{WIDTH} x {HEIGHT}" and "not applied" in turned.remedy


def test_links(tmp_path: Path) -> None:
    root, far = tmp_path / "root", tmp_path / "far"
    put(root / "real/a.jpg")
    put(root / ".store/blob.jpg", 255)
    (root / "b.jpg").symlink_to("real/a.jpg")
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to("real")
    (root / "c.jpg").symlink_to(".store/blob.jpg")
    pool = read_folder(root)
    assert pool.ids == ("c", "real/a") and pool.image("c").min() == 1
    assert only(pool).action == "repaired" and only(pool).record == "again, b.jpg, loop"
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "gone.txt").symlink_to("nowhere.txt")
    found = {f.record: f for f in read_folder(root).findings if f.action == "quarantined"}
    assert set(found) == {"gone.jpg", "self.jpg"} and found["gone.jpg"].value == "nowhere.jpg"
    put(far / "x.jpg")
    (root / "out.jpg").symlink_to(far / "x.jpg")
    (root / "outer").symlink_to(far)
    text = raised(read_folder, root)
    assert "out.jpg, outer" in text and "the link leaves the folder; copy the file" in text
    assert read_folder(root, strict=False).ids == ("c", "real/a")


def test_a_link_to_a_folder_with_a_dot_is_followed_once(tmp_path: Path) -> None:
    for name in (".store/a.jpg", ".store/deep/b.jpg", "c.jpg"):
        put(tmp_path / name)
    (tmp_path / "images").symlink_to(".store")
    (tmp_path / "more").symlink_to(".store/deep")  # read already
    (tmp_path / ".store/loop").symlink_to(".")
    (tmp_path / ".store/up.jpg").symlink_to("../c.jpg")
    (tmp_path / "d.jpg").symlink_to(".store/a.jpg")
    pool = read_folder(tmp_path)
    assert sum(Path(i).name == "a" for i in pool.ids) + pool.ids.count("d") == 1
    assert {"c", "images/deep/b"} <= set(pool.ids) and len(pool) == 3
    assert pool.image("images/deep/b").shape == (3, HEIGHT, WIDTH)
    assert all(finding.action == "repaired" for finding in pool.findings)


def test_a_link_to_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    (tmp_path / ".store").write_bytes(b"?")
    (tmp_path / "b.heic").symlink_to(".store")
    assert only(read_folder(tmp_path)).record == "b.heic"


def test_deep_folders(tmp_path: Path) -> None:
    deep = [tmp_path / ("d/" * depth) for depth in range(1, 1200)]
    for path in deep:
        path.mkdir()
    image = put(deep[-1] / "a.jpg")
    try:
        assert read_folder(tmp_path).ids == (
            image.relative_to(tmp_path).with_suffix("").as_posix(),
        )
    finally:  # too deep for what cleans up
        image.unlink()
        for path in reversed(deep):
            path.rmdir()


@pytest.mark.parametrize("broken", ["folder", "file"])
def test_what_may_not_be_read(tmp_path: Path, monkeypatch, broken: str) -> None:
    for name in ("a.jpg", "locked/b.jpg"):
        put(tmp_path / name)
    plain = os.scandir if broken == "folder" else Image.open

    def deny(path, *arguments, **options):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *arguments, **options)

    monkeypatch.setattr("os.scandir" if broken == "folder" else "PIL.Image.open", deny)
    pool = read_folder(tmp_path, strict=False)
    assert pool.ids == ("a",) and "Permission denied" in only(pool).value
    if broken == "folder":
        assert "make it readable" in raised(read_folder, tmp_path)


def test_a_file_that_changes_after_reading_is_broken(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg")
    pool = read_folder(tmp_path)
    put(path, size=(HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"a\.jpg is 30 x 40 pixels, its data set says 40 x 30"):
        pool.image("a")


def test_a_root_that_is_a_link_is_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "real/a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert read_folder(tmp_path / "link").ids == ("a",)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(content)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert r"b'caf\xe9.jpg'" in raised(read_folder, tmp_path)
    pool = read_folder(tmp_path, strict=False)
    assert pool.ids == ("a",) and "not UTF-8; rename it" in only(pool).remedy
    str(only(pool)).encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    assert read_folder(tmp_path).ids == ("a",)


def test_every_problem_is_in_one_report(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        put(tmp_path / name)
    (tmp_path / "c.jpg").touch()
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    actions = [finding.action for finding in caught.value.findings]
    assert sorted(actions) == ["error", "error", "quarantined"]


def test_frames_are_sorted_by_number(tmp_path: Path) -> None:
    for name in ("f_10.jpg", "f_9.jpg", "f_0100.png", "v2_000011.jpg"):
        put(tmp_path / "ride" / name)
    pool = read_frames(tmp_path / "ride")
    assert pool.ids == ("ride/000009", "ride/000010", "ride/000011", "ride/000100")
    info = pool.info("ride/000100")
    assert (info.video, info.frame, info.size) == ("ride", 100, (HEIGHT, WIDTH))
    assert info.path is not None and info.path.name == "f_0100.png"
    assert pool.findings == () and pool.target("ride/000009").state == "unlabelled"
    assert read_frames(tmp_path / "ride", name="x", every=2).ids == ("x/000009", "x/000011")
    assert pool.image("ride/000011").shape == (3, HEIGHT, WIDTH)


def test_every_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    for name in ("s2/img1/1.jpg", "s1/2.jpg", "s1/10.jpg", "s1/1.jpg"):
        put(tmp_path / name)
    pool = read_frames(tmp_path, every=2)
    assert pool.ids == ("s1/000001", "s1/000010", "s2/img1/000001")
    assert [pool.info(i).video for i in pool.ids] == ["s1", "s1", "s2/img1"]
    with pytest.raises(ValueError, match=r"name = 'x': .* holds 2 folders of frames"):
        read_frames(tmp_path, name="x")


def test_frames_without_a_number_or_with_the_same(tmp_path: Path) -> None:
    for name in ("1.jpg", "01.jpg", "2.jpg", "cover.jpg", "end.jpg"):
        put(tmp_path / name)
    text = raised(read_frames, tmp_path)
    assert "01.jpg, 1.jpg" in text and "cover.jpg, end.jpg" in text
    assert "as in 000123.jpg" in text and "2 findings:" in text
    pool = read_frames(tmp_path, name="v", strict=False)
    assert pool.ids == ("v/000002",) and len(pool.findings) == 2


def test_a_broken_frame_is_set_aside_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "v/1.jpg")
    (tmp_path / "v/2.jpg").touch()
    assert only(read_frames(tmp_path / "v")).record == "image v/000002"
    (tmp_path / "none").mkdir()
    assert "no image is left to read" in raised(read_frames, tmp_path / "none")
    assert "there is no such folder" in raised(read_frames, tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        *(({"every": 0}, "every = 0"), ({"every": True}, "every = True")),
        *(({"name": ""}, "name = ''"), ({"name": 5}, "name = 5"), ({"name": "a/"}, "name = 'a/'")),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read_frames(tmp_path, **options)


def test_real_images_as_a_folder(real_data: Path) -> None:
    pool = read_folder(real_data / "voc2007_subset" / "JPEGImages")
    assert len(pool) == 800 and pool.findings == ()
    image = pool.image(pool.ids[0])
    assert image.shape[1:] == pool.info(pool.ids[0]).size and torch.isfinite(image).all()
    both = real_data / "mot17_mini" / "images"  # two videos in one folder
    assert "MOT17-02-FRCNN_000001.jpg, MOT17-04-FRCNN_000001.jpg" in raised(read_frames, both)
