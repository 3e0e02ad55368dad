"""The Caltech Pedestrian set: ten hours of video of which `read` makes frames with boxes.

"people" (groups) and "person?" are ignored boxes. Pixels are taken to be counted from 1, as in
MATLAB, whose file it is; public converters differ. Divergence asks about frames of the
training videos, set00 to set05; its code takes every second one, its paper does not say which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from almining.data.fetch.download import FetchError
from almining.data.fetch.extract import RefusedError, extract
from almining.data.fetch.gather import PEDESTRIAN, Gathering, tall_pedestrians
from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.seq import read_tracks, write_frames
from almining.data.fetch.sets import PACKED, Archive, DataSet
from almining.data.pool import Pool
from almining.progress import bar

SERVER = "data.caltech.edu"
STEM = "data_and_labels"
FRAMES = "frames"
TRAIN = tuple(f"set{number:02d}" for number in range(6))
TEST = tuple(f"set{number:02d}" for number in range(6, 11))
STEP = 2  # of Divergence's frames
CALTECH = DataSet(
    "Caltech Pedestrian",
    (
        Archive(
            f"{STEM}.zip",
            f"https://{SERVER}/records/f6rph-90m20/files/{STEM}.zip?download=1",
        ),
    ),
    f"https://{SERVER}/records/f6rph-90m20",
    "for research; see the page",
    (SERVER,),
)


def read(folders: Mapping[str, Path], sets: Sequence[str], *, step: int = 1) -> Pool:
    """Return frames with their boxes; the frames are written beside the archive's folder.

    Args:
        folders: of the archive, which may hold one archive for each set of videos.
        sets: names of sets, such as `"set00"`.
        step: every so manieth frame.

    Raises:
        FetchError: naming a video or an annotation that is absent or cannot be read.
    """
    source = folders[STEM]
    for path in sorted(source.rglob("*")):
        if path.name.lower().endswith(PACKED) and path.is_file():
            try:
                extract(path, path.with_name(f"{path.name}.d"))
            except RefusedError as error:
                raise FetchError(f"{error}; remove {source} and {source.name}.zip, too") from error
    videos = _named(source, "*.seq", sets)
    labels = _named(source, "*.vbb", sets)
    if not videos or set(videos) != set(labels):
        apart = ", ".join(sorted(set(videos) ^ set(labels))[:5]) or "all of them"
        raise FetchError(f"{source}: video or annotation is absent of {apart}; fetch it again")
    gathered = Gathering(source, (PEDESTRIAN,))
    for name in bar(sorted(videos), progress=True, name="reading videos", unit="video"):
        folder = write_frames(videos[name], source.with_name(FRAMES) / name)
        _gather(gathered, name, sorted(folder.iterdir()), labels[name], step)
    return gathered.pool()


def _named(source: Path, pattern: str, sets: Sequence[str]) -> dict[str, Path]:
    """Return the files of a pattern by set and video, such as `set00/V000`."""
    found: dict[str, Path] = {}
    for path in sorted(source.rglob(pattern)):
        if path.parent.name in sets:
            found.setdefault(f"{path.parent.name}/{path.stem}", path)
    return found


def _gather(gathered: Gathering, name: str, frames: Sequence[Path], file: Path, step: int) -> None:
    tracks = read_tracks(file)
    if len(tracks) != len(frames):
        remedy = "frames of the one without the other are left out"
        value = f"{len(tracks)} for {len(frames)} frames"
        gathered.report.quarantined(file, f"video {name}", "nFrame", value, remedy)
    for number in range(0, min(len(frames), len(tracks)), step):
        drawn = gathered.image(
            f"{name}/{number:06d}", frames[number], file=file, video=name, frame=number
        )
        for place, box in enumerate(tracks[number] if drawn is not None else (), start=1):
            if drawn is not None:
                x, y, wide, high = box.position
                corners = [x - 1, y - 1, x - 1 + wide, y - 1 + high]
                gathered.box(
                    *(drawn, f"frame {number}, object {place}", PEDESTRIAN, corners),
                    ignore=box.label != "person",
                )


def divergence(folders: Mapping[str, Path]) -> Pool:
    """Return every second training frame with the pedestrians that Divergence keeps."""
    return tall_pedestrians(read(folders, TRAIN, step=STEP))


SPLITS = (
    Split("caltech_train", partial(read, sets=TRAIN)),
    Split("caltech_test", partial(read, sets=TEST)),
    Split(
        "caltech_divergence",
        divergence,
        Expected("Divergence, Table 1", images=51_363, labelled=10_523, counted=20_062),
    ),
)
SETS = {"caltech": (CALTECH, SPLITS)}
