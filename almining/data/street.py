"""A toy street on video: pedestrians, filmed sideways by a camera that moves along.

Most frames are empty, pedestrians come in episodes, neighbouring frames are nearly alike, and
posts, signs, dress forms and statues are as slender as people: what the temporal rules and the
divergence score of Aghdam et al. (ICCV 2019, Section 3) are about. A frame is a function of the
seed, the video and the frame; it is put together by `data.toy.street_film`. The street is ours and
follows no data set, but for two figures the paper gives of Caltech Pedestrian: about 20% of frames
hold a pedestrian, and pedestrians are 0.2 to 0.65 times as wide as high.
"""

from __future__ import annotations

import torch

from almining.checks import check_whole
from almining.data.pool import ImageInfo, Pool
from almining.data.scenes import LARGEST, SMALLEST
from almining.data.toy.domains import check_domain
from almining.data.toy.images import DrawnImages
from almining.data.toy.street_film import Filming, Frame
from almining.data.toy.worlds import is_number
from almining.records import Target

CLASSES = ("pedestrian",)
LAST = 999_999  # frames have six digits


def _filming(size: tuple[int, int], busy: float, domain: str) -> Filming:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size = {size!r} must be (height, width) in pixels; (128, 192) is usual")
    least, most = f" and at most {LARGEST} pixels", " pixels; (128, 192) is usual"
    height = check_whole(size[0], "size[0]", SMALLEST, LARGEST, f"{least}; 128 is usual")
    low, high = -(-3 * height // 4), 3 * height
    width = check_whole(size[1], "size[1]", low, high, f" and at most {high}{most}")
    if not is_number(busy, 0, 1):
        raise ValueError(
            f"busy = {busy!r} must be a share of frames in [0, 1]; 0.2 is that of Caltech"
        )
    check_domain(domain)
    return Filming((height, width), float(busy), domain)


def draw_frame(
    seed: int,
    video: int,
    frame: int,
    *,
    size: tuple[int, int] = (128, 192),
    busy: float = 0.2,
    domain: str = "day",
) -> Frame:
    """Draw one frame: a pure function of its arguments, the same bytes in any process.

    Args:
        seed: of the series of videos.
        video: of the series.
        frame: of the video, up to 999,999.
        size: height (64 to 1024) and width (0.75 to 3 times the height), in pixels; all grows
            with the height, and a wider picture shows more of the street.
        busy: the share of frames in which a pedestrian is seen, in [0, 1].
        domain: `"day"` or `"dusk"`; what stands and walks where does not depend on it.

    Returns:
        The image; boxes, whole pixels, exactly around what is visible of each pedestrian; labels;
        which boxes to ignore, for less than 35% is visible or the box is narrower than 3 pixels of
        128; and who is who from frame to frame.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> draw_frame(0, 0, 0).image.shape
    (128, 192, 3)
    """
    check_whole(seed, "seed", 0)
    check_whole(video, "video", 0)
    check_whole(frame, "frame", 0, LAST, f" and at most {LAST}")
    return _filming(size, busy, domain).draw(int(seed), int(video), int(frame))


def make_street(
    videos: int,
    frames: int,
    *,
    seed: int,
    size: tuple[int, int] = (128, 192),
    busy: float = 0.2,
    domain: str = "day",
    keep: int = 4096,
) -> Pool:
    """Make a pool of videos of a toy street, in which every pedestrian is boxed.

    Args:
        videos: how many; 0 gives an empty pool.
        frames: of each video, up to 1,000,000. Ten show about a second.
        seed: of the series. Below 900,000 is the reader's, 900,000 and up are test videos,
            1,000,000 and up trained the demos.
        size: height (64 to 1024) and width (0.75 to 3 times the height), in pixels.
        busy: the share of frames in which a pedestrian is seen, in [0, 1]. A short video may be
            empty, or full: pedestrians come in episodes of some 60 frames.
        domain: `"day"` or `"dusk"`; what stands and walks where does not depend on it.
        keep: how many images stay in memory once drawn, 74 kB each at 128 by 192 pixels; the others
            are drawn again when asked for.

    Returns:
        Frames `street-<seed>-<video>/<frame>`, the frame in six digits, each complete. A pedestrian
        of whom less than 35% is visible, or less than 3 pixels of 128, is to be ignored. A pool of
        fewer videos or frames holds the same ones.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> pool = make_street(2, 3, seed=0)
    >>> pool.ids[4], pool.info(pool.ids[4]).frame
    ('street-0-1/000001', 1)
    """
    check_whole(videos, "videos", 0, remedy="; 0 gives an empty pool")
    check_whole(frames, "frames", 0, LAST + 1, f" and at most {LAST + 1}; 0 gives an empty pool")
    check_whole(seed, "seed", 0)
    check_whole(keep, "keep", 0, remedy="; 0 keeps none")
    filming = _filming(size, busy, domain)
    targets: dict[str, Target] = {}
    infos: dict[str, ImageInfo] = {}
    for video in range(videos):
        name = f"street-{seed}-{video}"
        for frame in range(frames):
            _, boxes, ignore = filming.annotate(int(seed), video, frame)
            image_id = f"{name}/{frame:06d}"
            targets[image_id] = Target(
                torch.from_numpy(boxes),
                torch.ones(len(boxes), dtype=torch.int64),
                ignore=torch.from_numpy(ignore),
            )
            infos[image_id] = ImageInfo(size=filming.size, video=name, frame=frame)
    return Pool(CLASSES, targets, DrawnImages(filming.picture, keep=keep), infos=infos)
