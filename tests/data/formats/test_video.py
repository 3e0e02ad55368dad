import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from almining.data.formats import video
from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Pool
from almining.data.readers import read_frames

av = pytest.importorskip("av")
WIDTH, HEIGHT, FRAMES = 64, 48, 30
KINDS = {
    "b-frames.mp4": {"codec": "mpeg4", "between": 2},
    "h264.mkv": {"codec": "libx264", "between": 3},
    "open.mp4": {"codec": "libx264", "options": {"x264-params": "open-gop=1:bframes=3"}},
    "variable.mp4": {"codec": "libx264", "variable": True},
    "plain.avi": {"codec": "mpeg4"},
    "lossless.mkv": {"codec": "ffv1"},
    "stream.ts": {"codec": "libx264"},
    "raw.h264": {"codec": "libx264"},
}


def encode(path: Path, codec: str, *, between=0, variable=False, options=None, n=FRAMES) -> Path:
    """A bar that moves over a changing ground; no two frames are alike."""
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.time_base = 8, Fraction(1, 1000)
        if between:
            stream.codec_context.max_b_frames = between
        at = 0
        for number in range(n):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            pixels[:, number * 2 : number * 2 + 9] = 255
            pixels[number, :, 1], pixels[..., 2] = 200, number * 8
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            at += 40 + number * 37 % 300 if variable else 100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> list[Tensor]:
    """Every frame, by the plainest loop there is."""
    with av.open(str(path)) as container:
        arrays = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [torch.from_numpy(array).permute(2, 0, 1) / 255 for array in arrays]


def loads_the_same(pool: Pool, wanted: list[Tensor], order: list[int]) -> bool:
    return all(torch.equal(pool.image(pool.ids[at]), wanted[at]) for at in order)


@pytest.mark.parametrize("name", KINDS)
def test_every_order_of_access_gives_the_frames_of_one_pass(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, **KINDS[name])
    wanted = decoded(path)
    assert len(wanted) == FRAMES
    pool = read_frames(path, name="v", progress=False)
    assert pool.ids == tuple(f"v/{number:06d}" for number in range(FRAMES))
    assert pool.findings == ()
    forward = list(range(FRAMES))
    mixed = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(0)).tolist()
    for order in (forward, forward[::-1], mixed, forward[::7], [5, 5, 4]):
        assert loads_the_same(pool, wanted, order)
    info = pool.info("v/000007")
    assert (info.video, info.frame, info.size, info.path) == ("v", 7, (HEIGHT, WIDTH), path)


def opened(monkeypatch) -> list[Path]:
    seen: list[Path] = []
    plain = video.open_video

    def counted(path: Path):
        seen.append(path)
        return plain(path)

    monkeypatch.setattr(video, "open_video", counted)
    return seen


def test_reading_in_order_opens_the_file_once_and_jumps_spare_the_beginning(
    tmp_path: Path, monkeypatch
) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    pool = read_frames(path, progress=False)
    seen = opened(monkeypatch)
    for image_id in pool.ids:
        pool.image(image_id)
    assert len(seen) == 1
    frames = []
    plain = video._Decoder.read
    monkeypatch.setattr(
        video._Decoder, "read", lambda self, number: frames.append(self) or plain(self, number)
    )
    for number in (20, 10, 28, 17):
        pool.image(pool.ids[number])
    assert len(seen) == 1 and len(frames) == 3  # 28 is among those kept from the pass before


def test_far_ahead_is_a_jump_and_the_next_frame_is_none(tmp_path: Path, monkeypatch) -> None:
    pool = read_frames(encode(tmp_path / "a.mkv", "mpeg4"), progress=False)
    jumps: list[int] = []
    plain = video._Decoder.jump
    monkeypatch.setattr(
        video._Decoder, "jump", lambda self, key: jumps.append(key) or plain(self, key)
    )
    for number in (0, 1, 9, 28, 29, 20):
        pool.image(pool.ids[number])
    assert jumps == [8, 24, 16]


def test_a_jump_to_the_wrong_place_is_noticed(tmp_path: Path, monkeypatch) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    wanted, pool = decoded(path), read_frames(path, progress=False)

    def nowhere(self, key: int) -> None:
        """Stay where it is, and believe to be at the key frame."""
        self.next = key

    monkeypatch.setattr(video._Decoder, "jump", nowhere)
    assert loads_the_same(pool, wanted, [25, 3, 18, 9, 27])


def test_a_jump_that_the_decoder_refuses_begins_anew(tmp_path: Path, monkeypatch) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    wanted, pool = decoded(path), read_frames(path, progress=False)

    class Refusing:
        def demux(self, stream):
            raise av.error.EOFError(541478725, "End of file", "avcodec_send_packet()")

        def close(self) -> None:
            """Nothing is open."""

    def spoilt(self, key: int) -> None:
        self.container = Refusing()
        self._frames, self._jumped = self._decode(), True

    monkeypatch.setattr(video._Decoder, "jump", spoilt)
    assert loads_the_same(pool, wanted, [25, 3, 18, 9, 27])


def test_only_so_many_frames_stay(tmp_path: Path) -> None:
    pool = read_frames(encode(tmp_path / "a.mkv", "mpeg4"), progress=False)
    for image_id in pool.ids:
        pool.image(image_id)
    assert list(pool._images._recent) == list(range(FRAMES - video.KEPT, FRAMES))


def test_every_so_many(tmp_path: Path) -> None:
    path = encode(tmp_path / "ride.mkv", "mpeg4")
    pool = read_frames(path, every=12, classes=["car"], progress=False)
    assert pool.ids == ("ride/000000", "ride/000012", "ride/000024") and pool.classes == ("car",)
    wanted = decoded(path)
    assert torch.equal(pool.image("ride/000024"), wanted[24])
    assert torch.equal(pool.image("ride/000012"), wanted[12])
    assert pool.target("ride/000012").state == "unlabelled"


def test_copies_open_the_file_for_themselves(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    pool, wanted = read_frames(path, progress=False), decoded(path)
    images = pool._images
    images.load("a/000003")
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy.load("a/000009"), wanted[9])
    assert torch.equal(images.load("a/000004"), wanted[4])
    images.close()
    images.close()
    assert torch.equal(images.load("a/000005"), wanted[5])


def test_threads_share_one_decoder(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    pool, wanted = read_frames(path, progress=False), decoded(path)
    order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(1)).tolist()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda at: pool.image(pool.ids[at]), order))
    assert all(torch.equal(one, wanted[at]) for one, at in zip(found, order, strict=True))


def _sums(pool: Pool, ids: list[str], out) -> None:
    out.put([float(pool.image(image_id).double().sum()) for image_id in ids])


@pytest.mark.skipif(sys.platform != "linux", reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_move_its_parents_place(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4")
    pool, wanted = read_frames(path, progress=False), decoded(path)
    pool.image(pool.ids[2])  # the decoder is open when the process forks
    context = multiprocessing.get_context("fork")
    out = context.SimpleQueue()
    child = context.Process(target=_sums, args=(pool, list(pool.ids[3:]), out))
    child.start()
    assert loads_the_same(pool, wanted, list(range(3, FRAMES)))
    assert out.get() == [float(image.double().sum()) for image in wanted[3:]]
    child.join()
    assert child.exitcode == 0


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "mpeg4")
    wanted = decoded(whole)
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    pool = read_frames(path, progress=False)
    assert 5 < len(pool) < FRAMES - 3
    finding = pool.findings[-1]
    assert finding.action == "warning" and finding.field == "frames"
    assert f"was cut after frame {len(pool) - 1};" in finding.remedy
    assert finding.value.startswith(f"{len(pool)} decoded, the file states 3.0 s")
    whole_ones = list(range(len(pool) - 1))  # the last may be damaged
    assert loads_the_same(pool, wanted, whole_ones)
    assert loads_the_same(pool, decoded(path), list(range(len(pool))))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be opened as a video"),
        (b"hello", "cannot be opened as a video"),
        (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n", "cannot be opened as a video"),
        (b"ffconcat version 1.0\nfile whole.mkv\n", "cannot be opened as a video"),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, word: str) -> None:
    encode(tmp_path / "whole.mkv", "mpeg4", n=3)
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.mp4: video x: file = .*{word}.*give a video"):
        read_frames(path, progress=False)


def test_a_container_without_a_frame_is_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.avi", "mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(DataError, match=r"frames = 0: error; no frame can be decoded"):
        read_frames(path, progress=False)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="there is no video in the file"):
        read_frames(path, progress=False)


@pytest.mark.parametrize("kind", ["a.avi", "a.mkv"])
def test_a_codec_that_nobody_knows(tmp_path: Path, kind: str) -> None:
    path = encode(tmp_path / kind, "mpeg4")
    data = path.read_bytes()
    for tag in (b"FMP4", b"V_MPEG4/ISO/ASP"):
        data = data.replace(tag, b"\0xyz" + b"q" * (len(tag) - 4))
    path.write_bytes(data)
    with pytest.raises(DataError, match="there is no video in the file that can be decoded"):
        read_frames(path, progress=False)


def test_too_large_frames_are_not_decoded(tmp_path: Path, monkeypatch) -> None:
    path = encode(tmp_path / "x.mkv", "mpeg4", n=3)
    monkeypatch.setattr(video, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(DataError, match="frames of 64 x 48 pixels are more than 3071"):
        read_frames(path, progress=False)


def test_a_file_that_changed_or_went(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mkv", "mpeg4")
    pool = read_frames(path, progress=False)
    encode(path, "mpeg4", options={"qscale": "31", "flags": "+qscale"}, n=10)
    with pytest.raises(BrokenImageError, match=r"'x/000020': .*frame 20 is not what it was"):
        pool.image("x/000020")
    pool._images.close()
    path.unlink()
    with pytest.raises(BrokenImageError, match="cannot be opened"):
        pool.image("x/000003")


def test_without_pyav_the_remedy_is_named(tmp_path: Path, monkeypatch) -> None:
    path = encode(tmp_path / "x.mkv", "mpeg4", n=3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'almining\[video\]'"):
        read_frames(path)
