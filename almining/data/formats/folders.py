"""Plain folders of images and numbered frames as pools; called through `data.readers`.

Nothing is known of these images: every target is unlabelled. Only headers are read; whether a file
can be decoded to its end shows when it is loaded. Annotations that lie beside the images are not
looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from almining.checks import check_whole
from almining.data.formats.drawn import make_pool
from almining.data.formats.files import BROKEN, SUFFIXES, Header, read_header, reason
from almining.data.formats.report import Report, check_classes
from almining.data.pool import ImageInfo, Pool
from almining.progress import bar

FOREIGN = (  # images that are not read, so that leaving them out is said
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".tga", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".dcm", ".exr", ".hdr", ".ico", ".eps"),
)
MANY = 1000  # files from which on a bar is shown
NUMBER = re.compile(r"[0-9]+")


def read_folder(
    root: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    strict: bool = True,
    progress: bool | str = True,
) -> Pool:
    """Read a folder of images without labels, with all its sub-folders.

    Images are told by suffix, in any case, and then by content. Names that begin with a dot and
    files that are no images, such as `Thumbs.db` or `notes.txt`, are passed over in silence. Pixels
    are as stored, EXIF orientation not applied. A link is followed inside the root only, and a file
    that several names lead to is read once, under its own name.

    Args:
        root: the folder.
        classes: the names of classes 1...C that are to be found; none by default.
        strict: raise on bad records; False sets them aside too.
        progress: whether to show a bar when there are many files, or what to call it.

    Returns:
        A pool of unlabelled images in the order of their ids as plain strings, so `"a10"` stands
        before `"a9"`. An id is the path under the root without suffix, with `/`.

    Raises:
        DataError: with every problem of the folder: two files of one id, links that leave it, names
            that are not UTF-8, no image at all.
        ValueError: for bad `classes`.
    """
    check_classes(classes)
    report = Report(strict)
    folder = Path(root).resolve()
    named: dict[str, list[Path]] = {}
    for path in _images(folder, report):
        named.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    single: dict[str, Path] = {}
    for image_id, paths in sorted(named.items()):
        if len(paths) == 1:
            single[image_id] = paths[0]
        else:
            names = ", ".join(sorted(path.name for path in paths))
            remedy = "an id is a path without suffix, and these share one; rename or remove"
            report.error(folder, f"image {image_id}", "file name", names, remedy)
    infos = _infos(folder, single, report, progress)
    return make_pool(report, root, classes, {}, infos)


def read_frames(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    every: int = 1,
    classes: Sequence[str] = (),
    strict: bool = True,
    progress: bool | str = True,
) -> Pool:
    """Read the frames of a video without labels: a folder of numbered images, or a video file.

    In a folder the last digits of a name, before the suffix, are the frame's number: `000123.jpg`
    and `cam2_000123.png` are both 123. Numbers may have gaps. Every sub-folder with images is a
    video of its own, named by its path. A video file is decoded through PyAV, the extra `video`,
    once from end to end; a frame's number is then its place in the order of decoding, from 0,
    because counts and times that stand in the file are often wrong. Frames are as stored: a
    rotation that a player would apply is not.

    Args:
        path: the folder or the file.
        name: what to call the video; by default the name of the folder, or of the file without
            suffix.
        every: keep the first frame of each so many.
        classes: the names of classes 1...C that are to be found; none by default.
        strict: raise on bad records; False sets them aside too.
        progress: whether to show a bar when there are many frames, or what to call it.

    Returns:
        A pool of unlabelled frames, video by video, in the order of their numbers, with ids such as
        `"name/000123"`.

    Raises:
        DataError: with every problem: frames without a number, two of the same number, no frame.
        ValueError: for a bad `name`, `every` or `classes`.
        ModuleNotFoundError: for a video file, without PyAV.
    """
    every = check_whole(every, "every", 1)
    check_classes(classes)
    if name is not None and (
        not isinstance(name, str) or not name or name != name.strip().strip("/")
    ):
        raise ValueError(f"name = {name!r}: a name without blanks or / around it is needed")
    report, source = Report(strict), Path(path).resolve()
    if source.is_file():
        from almining.data.formats.video import read_video

        title = source.stem if name is None else name
        return read_video(source, title, every, classes, report, progress)
    files: dict[str, Path] = {}
    numbers: dict[str, tuple[str, int]] = {}
    for video, frames in _videos(source, name, report).items():
        for number in sorted(frames)[::every]:
            image_id = f"{video}/{number:06d}"
            files[image_id] = frames[number]
            numbers[image_id] = (video, number)
    infos = {
        image_id: ImageInfo(info.size, *numbers[image_id], info.path)
        for image_id, info in _infos(source, files, report, progress).items()
    }
    return make_pool(report, path, classes, {}, infos)


def _videos(root: Path, name: str | None, report: Report) -> dict[str, dict[int, Path]]:
    """Return the frames of each video by number."""
    folders: dict[Path, list[Path]] = {}
    for path in _images(root, report):
        folders.setdefault(path.parent, []).append(path)
    if name is not None and len(folders) > 1:
        raise ValueError(
            f"name = {name!r}: {root} holds {len(folders)} folders of frames, each a video; leave "
            "the name out, or read one folder"
        )
    videos: dict[str, dict[int, Path]] = {}
    for folder, paths in sorted(folders.items()):
        own = root.name if folder == root else folder.relative_to(root).as_posix()
        video = own if name is None else name
        if video in videos:
            remedy = "two folders would be one video; read them one by one"
            report.fatal(root, f"video {video}", "name", str(folder), remedy)
        videos[video] = _numbered(folder, sorted(paths), report)
    return videos


def _numbered(folder: Path, paths: Sequence[Path], report: Report) -> dict[int, Path]:
    frames: dict[int, list[Path]] = {}
    for path in paths:
        digits = NUMBER.findall(path.stem)
        if digits:
            frames.setdefault(int(digits[-1]), []).append(path)
        else:
            remedy = "a frame needs a number, as in 000123.jpg; rename it, or use read_folder"
            report.tally("error", folder, "number", remedy, record=path.name, value=path.name)
    for number, same in frames.items():
        if len(same) > 1:
            names = ", ".join(path.name for path in same)
            remedy = "these have one number; give each video a folder of its own, or rename them"
            report.error(folder, f"frame {number}", "number", names, remedy)
    return {number: same[0] for number, same in frames.items() if len(same) == 1}


def _infos(
    root: Path, files: Mapping[str, Path], report: Report, progress: bool | str
) -> dict[str, ImageInfo]:
    """Read the header of every file; what is broken is set aside."""
    infos: dict[str, ImageInfo] = {}
    shown = progress if len(files) >= MANY else False
    for image_id, path in bar(
        files.items(), progress=shown, name="read", unit="image", total=len(files)
    ):
        try:
            header = read_header(path)
        except BROKEN as error:
            remedy = "the image is left out; replace the file"
            report.quarantined(path, f"image {image_id}", "image file", reason(error), remedy)
            continue
        _note(root, image_id, header, report)
        infos[image_id] = ImageInfo(size=header.size, path=path)
    return infos


def _note(root: Path, image_id: str, header: Header, report: Report) -> None:
    size = f"{header.size[1]} x {header.size[0]}"
    if header.sixteen:
        remedy = "grey of 16 bits is divided by 65535"
        report.tally("repaired", root, "pixels", remedy, record=image_id, value="16 bits")
    if header.turned:
        remedy = "the EXIF orientation swaps the sides; not applied: pixels and boxes are as stored"
        report.tally("warning", root, "orientation", remedy, record=image_id, value=size)


def _images(root: Path, report: Report) -> Iterator[Path]:
    """Yield every image file under a folder; each once, sorted within its folder."""
    report.need_folder(root)
    links: list[Path] = []
    seen: set[str] = set()
    for path in _walk(root, report, links):
        seen.add(str(path))
        yield path
    for link in links:  # to which a folder behind a link adds its own
        real = Path(os.path.realpath(link))
        wanted = link.suffix.lower() in SUFFIXES
        shown = link.relative_to(root).as_posix()
        if not real.exists():
            if wanted:
                remedy = "the link leads nowhere; the image is left out"
                report.quarantined(root, shown, "link", str(link.readlink()), remedy)
        elif not real.is_relative_to(root):
            if wanted or real.is_dir():
                remedy = "the link leaves the folder; copy the file into it"
                report.tally("error", root, "link", remedy, record=shown, value=real)
        elif wanted and real.is_file() and str(real) not in seen:
            seen.add(str(real))  # behind a name that is passed over, such as one with a dot
            yield link
        elif real.is_dir() and _hidden(real, root) and str(real) not in seen:
            seen.add(str(real))
            for path in _walk(link, report, links):
                file = str(real / path.relative_to(link))
                if file not in seen:
                    seen.add(file)
                    yield path
        elif wanted or real.is_dir():
            remedy = "leads to what is read under its own name; read once"
            report.tally("repaired", root, "link", remedy, record=shown, value=real)


def _walk(folder: Path, report: Report, links: list[Path]) -> Iterator[Path]:
    """Yield the image files of a folder and the folders in it; links are only collected."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            report.error(folder, "folder", "content", str(error), "make it readable")
            continue
        for entry in entries:
            path = folder / entry.name
            suffix = path.suffix.lower()
            if entry.name.startswith("."):
                continue
            if not _readable(entry.name):
                shown = repr(os.fsencode(entry.name))
                remedy = "the name is not UTF-8; rename it"
                if entry.is_dir() or suffix in SUFFIXES:
                    report.error(ascii(str(folder)), "file", "name", shown, remedy)
            elif suffix in FOREIGN and not entry.is_dir():
                remedy = f"{suffix} is not read; the image is left out; convert it to JPEG or PNG"
                report.tally(
                    "quarantined", folder, "suffix", remedy, record=entry.name, value=suffix
                )
            elif entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                waiting.append(path)
            elif entry.is_file() and suffix in SUFFIXES:
                yield path


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _readable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
