import builtins
import io
from pathlib import Path

import pytest
from PIL import Image
from scipy.io import savemat

from almining.data.fetch.download import FetchError
from almining.data.fetch.seq import Tracked, read_frames, read_tracks, write_frames
from tests.data.sets_made import picture, seq, vbb

FRAMES = [picture(number) for number in range(5)]


def written(folder: Path, content: bytes) -> Path:
    (folder / "V000.seq").write_bytes(content)
    return folder / "V000.seq"


@pytest.mark.parametrize("after", [8, 16])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_come_out_as_they_are(after: int, count: int, tmp_path: Path) -> None:
    path = written(tmp_path, seq(FRAMES[:count], after=after))
    assert list(read_frames(path)) == [(".jpg", frame) for frame in FRAMES[:count]]
    folder = write_frames(path, tmp_path / "frames")
    names = sorted(one.name for one in folder.iterdir())
    assert names == [f"{number:06d}.jpg" for number in range(count)]
    path.unlink()
    assert write_frames(path, folder) == folder


def test_a_header_without_a_count_and_png(tmp_path: Path) -> None:
    frames = [picture(number, kind="PNG") for number in range(3)]
    path = written(tmp_path, seq(frames, count=0, kind=1) + bytes(40))
    assert [suffix for suffix, _ in read_frames(path)] == [".png"] * 3
    assert Image.open(io.BytesIO(next(read_frames(path))[1])).size == (64, 48)


def test_a_video_that_breaks_off_gives_the_frames_before(tmp_path: Path) -> None:
    whole = seq(FRAMES)
    for cut in (len(whole) - 20, len(whole) - 400):
        assert len(list(read_frames(written(tmp_path, whole[:cut])))) == 4
    spoilt = whole.replace(FRAMES[2], b"no image" + FRAMES[2][8:])
    assert len(list(read_frames(written(tmp_path, spoilt)))) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no .seq video"),
        (b"<html>" * 400, "is no .seq video"),
        (seq(FRAMES, kind=100), "image format 100 is not JPEG or PNG"),
        (seq([], count=5), "none of 5 frames can be read"),
        (seq(FRAMES)[:1100], "none of 5 frames can be read"),
        (seq(FRAMES)[:1024] + b"\xff" * 100, "none of 5 frames can be read"),
    ],
)
def test_what_is_no_video(content: bytes, why: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(FetchError, match=why):
        list(read_frames(path))
    with pytest.raises(FetchError, match=why):
        write_frames(path, tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


def test_frames_are_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, left = written(tmp_path, seq(FRAMES)), Path.write_bytes, [3]

    def dying(one: Path, content: bytes) -> int:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return real(one, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", dying)
        write_frames(path, tmp_path / "frames")
    assert not (tmp_path / "frames").exists()
    assert len(list(write_frames(path, tmp_path / "frames").iterdir())) == 5
    assert not (tmp_path / "frames.part").exists()


def test_tracks_of_every_frame(tmp_path: Path) -> None:
    rows = [[], [(1, [1, 2, 3, 4.5])], [(2, [5, 6, 7, 8]), (1, [1, 1, 2, 2])]]
    (tmp_path / "a.vbb").write_bytes(vbb(["person", "people"], rows))
    assert read_tracks(tmp_path / "a.vbb") == [
        [],
        [Tracked("person", [1, 2, 3, 4.5])],
        [Tracked("people", [5, 6, 7, 8]), Tracked("person", [1, 1, 2, 2])],
    ]
    (tmp_path / "a.vbb").write_bytes(vbb(["person"], [[(1, [1, 2, 3, 4])]]))
    assert read_tracks(tmp_path / "a.vbb") == [[Tracked("person", [1, 2, 3, 4])]]


def test_what_is_no_annotation(tmp_path: Path) -> None:
    other = io.BytesIO()
    savemat(other, {"B": 3})
    bad = vbb(["person"], [[(7, [1, 2, 3, 4])]])
    for content in (b"", b"<html>" * 99, other.getvalue(), bad, bad[:200]):
        (tmp_path / "a.vbb").write_bytes(content)
        with pytest.raises(FetchError, match=r"a\.vbb is not what it should be .*; fetch it again"):
            read_tracks(tmp_path / "a.vbb")


def test_without_scipy_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("scipy"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FetchError, match=r"needs SciPy to be read: pip install almining\[matlab\]"):
        read_tracks(tmp_path / "a.vbb")
