"""Frames of a video file, decoded through PyAV; `read_frames` is called through `data.readers`.

What a file says of its frames, their count and their times, is often wrong. So it is decoded once
from end to end, and a frame is known by its place in that order and by a checksum of its pixels.
Loading goes on from the frame before, or jumps to a frame that can be decoded without others; where
a checksum then disagrees, it begins anew. Sound and rotation are left out.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from almining.data.formats.drawn import make_pool
from almining.data.formats.files import MAX_PIXELS, BrokenImageError
from almining.data.formats.report import Report
from almining.data.pool import ImageInfo, Pool
from almining.progress import bar

NO_PYAV = (
    "a video file needs PyAV: pip install 'almining[video]'. A folder of numbered frames needs "
    "nothing"
)
# of no other format: a playlist would make the decoder open whatever files and hosts it names
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,mjpeg,ogg,flv,asf,gif"
PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")
KEPT = 8  # recent frames that stay decoded
SHORT = 2.5  # a file that states so many frames' time after its last one was cut


class VideoFrames:
    """The frames of one video file, decoded when asked for.

    Reading in order is fast. Safe to share between threads, one of which decodes at a time;
    survives being copied to a loader worker or forked, each of which opens the file for itself.

    Args:
        path: the file.
        sums: checksum of each frame, in the order of decoding.
        times: presentation time of each frame, in units of the stream; None where they do not rise
            from frame to frame, so that there is no jumping.
        keys: numbers of the frames that can be decoded without others, rising.
    """

    def __init__(
        self,
        path: Path,
        sums: NDArray[np.uint32],
        times: NDArray[np.int64] | None,
        keys: NDArray[np.int64],
    ) -> None:
        """Open nothing."""
        self._path, self._sums, self._times, self._keys = path, sums, times, keys
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._decoder: _Decoder | None = None
        self._recent: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {"path": self._path, "sums": self._sums, "times": self._times, "keys": self._keys}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open nothing."""
        self.__init__(**state)  # type: ignore[misc]

    def load(self, image_id: str) -> Tensor:
        """Return the frame (3, h, w), float32 in [0, 1], RGB.

        Raises:
            BrokenImageError: when the file is gone, or gives another frame than when it was read.
        """
        number = int(image_id.rpartition("/")[2])
        try:
            with self._lock:
                pixels = self._pixels(number)
        except ValueError as error:
            raise BrokenImageError(image_id, self._path, str(error)) from error
        planes = np.empty((3, *pixels.shape[:2]), np.float32)
        np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=planes)
        return torch.from_numpy(planes)

    def close(self) -> None:
        """Close the file; loading opens it again."""
        with self._lock:
            if self._decoder is not None:
                self._decoder.close()
            self._decoder = None

    def _pixels(self, number: int) -> NDArray[np.uint8]:
        if number not in self._recent:
            self._recent[number] = self._decoded(number)
        self._recent.move_to_end(number)
        while len(self._recent) > KEPT:
            self._recent.popitem(last=False)
        return self._recent[number]

    def _decoded(self, number: int) -> NDArray[np.uint8]:
        frame = self._nearby(number)
        if frame is None or checksum(frame) != self._sums[number]:
            self._decoder = self._opened()
            frame = self._decoder.read(number)
        if frame is None or checksum(frame) != self._sums[number]:
            raise ValueError(f"frame {number} is not what it was; read the video anew")
        return pixels_of(frame)

    def _nearby(self, number: int) -> Any:
        """Return a frame by going on, or from the last key frame before it; None where neither."""
        decoder = self._decoder
        if decoder is None or decoder.process != os.getpid():  # forked: the file is the parent's
            decoder = self._decoder = self._opened()
        key = int(self._keys[np.searchsorted(self._keys, number, side="right") - 1])
        if decoder.next > number or decoder.next < key:
            if self._times is None or key == 0:
                return None
            decoder.jump(key)
        return decoder.read(number)

    def _opened(self) -> _Decoder:
        if self._decoder is not None and self._decoder.process == os.getpid():
            self._decoder.close()
        return _Decoder(self._path, self._times)


class _Decoder:
    """An open video file and the place it is at."""

    def __init__(self, path: Path, times: NDArray[np.int64] | None = None) -> None:
        self.container = open_video(path)
        self.stream = self.container.streams.video[0]
        self.process = os.getpid()
        self.next = 0
        self.errors = 0
        self._times = times
        self._jumped = False
        self._frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        """Yield frames; a packet that cannot be decoded is counted and passed over."""
        import av

        try:
            for packet in self.container.demux(self.stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    self.errors += 1
        except (av.error.FFmpegError, LookupError) as error:  # IndexError: of an unknown stream
            if not self._jumped:  # else no frame is met, and all begins anew
                raise ValueError(str(error)) from error

    def __iter__(self) -> Iterator[Any]:
        return self._frames

    def jump(self, key: int) -> None:
        """Go to a key frame, or somewhere before it."""
        assert self._times is not None
        import av

        with contextlib.suppress(av.error.FFmpegError):  # then no frame is met, and all begins anew
            self.container.seek(int(self._times[key]), stream=self.stream)
        self._frames, self._jumped = self._decode(), True

    def read(self, number: int) -> Any:
        """Return a frame that lies ahead; None when it is not met."""
        for frame in self._frames:
            at = self._place(frame) if self._jumped else self.next
            if at is not None:
                self.next = at + 1
                if at >= number:
                    return frame if at == number else None
        self.next = len(self._times) if self._times is not None else self.next
        return None

    def _place(self, frame: Any) -> int | None:
        assert self._times is not None
        at = int(np.searchsorted(self._times, frame.pts))
        return at if at < len(self._times) and self._times[at] == frame.pts else None

    def close(self) -> None:
        self.container.close()


def open_video(path: Path) -> Any:
    """Return an open container.

    Raises:
        ModuleNotFoundError: without PyAV.
        ValueError: when the file is missing or is no video.
    """
    try:
        import av
    except ImportError as error:
        raise ModuleNotFoundError(NO_PYAV, name="av") from error
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path), container_options=options)
    except av.error.FFmpegError as error:
        raise ValueError(f"it cannot be opened as a video ({error.strerror})") from error
    contexts = [stream.codec_context for stream in container.streams.video]
    if not contexts or contexts[0] is None:
        container.close()
        raise ValueError("there is no video in the file that can be decoded")
    context = contexts[0]
    context.thread_count = 1  # loader workers are the threads, and none is left behind by a fork
    if context.width * context.height > MAX_PIXELS:
        container.close()
        raise ValueError(
            f"frames of {context.width} x {context.height} pixels are more than {MAX_PIXELS}"
        )
    return container


def pixels_of(frame: Any) -> NDArray[np.uint8]:
    """Return a frame as (h, w, 3), RGB, as stored."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", threads=1)  # as when decoding
    return pixels


def checksum(frame: Any) -> int:
    """Return the CRC-32 of a frame's pixels, as they are decoded."""
    total = 0
    if frame.format.name not in PLANAR:
        return zlib.crc32(pixels_of(frame).tobytes())
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size]
        shown = rows.reshape(plane.height, plane.line_size)[:, : plane.width]  # without padding
        total = zlib.crc32(shown.tobytes(), total)
    return total


def read_video(
    path: Path,
    name: str,
    every: int,
    classes: Sequence[str],
    report: Report,
    progress: bool | str,
) -> Pool:
    """Decode a video once and return the pool of its frames.

    Args:
        path: the file.
        name: of the video.
        every: keep the first frame of each so many.
        classes: of the pool.
        report: where to note what is wrong.
        progress: whether to show a bar, or what to call it.

    Raises:
        DataError: when no frame can be decoded.
        ModuleNotFoundError: without PyAV.
    """
    try:
        decoder = _Decoder(path)
    except ValueError as error:
        report.fatal(
            path,
            f"video {name}",
            "file",
            str(error),
            "give a video file that plays, as MP4, MKV or AVI",
        )
        report.check()
        raise
    seen = _Seen(every)
    with contextlib.closing(decoder):
        total = decoder.stream.frames or None
        try:
            with bar(progress=progress, name="decode", unit="frame", total=total) as shown:
                for frame in decoder:
                    seen.add(frame)
                    shown.update()
        except ValueError as error:
            seen.error = str(error)
        _judge(seen, decoder, path, f"video {name}", report)
    infos = {
        f"{name}/{number:06d}": ImageInfo(size, name, number, path)
        for number, size in seen.sizes.items()
    }
    return make_pool(report, path, classes, {}, infos, images=seen.source(path))


class _Seen:
    """What one pass over a video learns."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.count = 0
        self.sizes: dict[int, tuple[int, int]] = {}  # of the frames that are kept
        self.sums: list[int] = []
        self.times: list[int | None] = []
        self.keys: list[int] = []
        self.damaged: list[int] = []
        self.error = ""

    def add(self, frame: Any) -> None:
        """Note the next frame."""
        wanted = self.count % self.every == 0
        self.sums.append(checksum(frame) if wanted else 0)
        self.times.append(frame.pts)
        if frame.key_frame:
            self.keys.append(self.count)
        if frame.is_corrupt:
            self.damaged.append(self.count)
        elif wanted:
            self.sizes[self.count] = (frame.height, frame.width)
        self.count += 1

    def source(self, path: Path) -> VideoFrames:
        """Return the frames to be loaded."""
        rising = None
        if None not in self.times:
            times = np.array(self.times, dtype=np.int64)
            rising = times if bool((np.diff(times) > 0).all()) else None
        keys = np.array(sorted({0, *self.keys}), dtype=np.int64)
        return VideoFrames(path, np.array(self.sums, dtype=np.uint32), rising, keys)


def _judge(seen: _Seen, decoder: _Decoder, path: Path, record: str, report: Report) -> None:
    """Note what the pass over a video found wrong."""
    if not seen.sizes:
        remedy = (
            f"no frame can be decoded{f' ({seen.error})' if seen.error else ''}; encode it anew"
        )
        report.fatal(path, record, "frames", 0, remedy)
    here = f"{seen.count} decoded"
    if seen.error:
        remedy = f"decoding stops after frame {seen.count - 1}; the frames up to it are read"
        report.warning(path, record, "frames", f"{here}, then {seen.error}", remedy)
    if decoder.errors:
        remedy = "what cannot be decoded is passed over; the frames around it may look wrong"
        report.warning(path, record, "packets", f"{decoder.errors} broken", remedy)
    missing = "" if seen.error else _missing(seen, decoder)
    if missing:
        remedy = f"the file was cut after frame {seen.count - 1}; the frames up to it are read"
        report.warning(path, record, "frames", f"{here}, {missing}", remedy)
    if seen.damaged:
        named = ", ".join(str(number) for number in seen.damaged[:3])
        more = ", ..." if len(seen.damaged) > 3 else ""
        remedy = "the decoder marks these frames as damaged; they are left out"
        report.quarantined(path, record, "frames", f"{named}{more}", remedy)
    report.check()


def _missing(seen: _Seen, decoder: _Decoder) -> str:
    """Return what a file states beyond what was decoded, or nothing.

    The count is often wrong in files that are whole, so the time is asked first.
    """
    stream, times = decoder.stream, [time for time in seen.times if time is not None]
    stated = math.nan
    if stream.duration and stream.time_base:
        stated = float(stream.duration * stream.time_base)
    elif decoder.container.duration and len(decoder.container.streams) == 1:
        stated = decoder.container.duration / 1e6
    if len(times) < max(2, seen.count) or math.isnan(stated):  # some formats count one too many
        return f"the file states {stream.frames}" if stream.frames - seen.count > 1 else ""
    longest = float(max(np.diff(times)) * stream.time_base)
    shown = float((times[-1] - times[0]) * stream.time_base)  # up to the last frame's beginning
    if stated - shown > SHORT * longest:
        return f"the file states {stated:.1f} s, the last frame begins at {shown:.1f} s"
    return ""
