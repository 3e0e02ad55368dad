"""Divergence as a recipe: score every frame, smooth in time, take the best that are apart.

The scores may be of any kind; `ranked` makes a recipe of a function that scores images, so that the
temporal rules serve other strategies, too. (Divergence, Aghdam et al., ICCV 2019, §3 and Fig. 1.)
Which frames earlier cycles picked is read from the pool, so a run that was stopped picks the same.
Notebook: 05_pixel_divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from almining.cycle import Recipe, acquired
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.papers.divergence.config import Config
from almining.papers.divergence.pixels import block_maxima, score_map
from almining.predict import stream
from almining.recipe import ask_all, unfinished
from almining.records import Evidence, Request
from almining.rng import draw_seed
from almining.rng import generator as seeded
from almining.select import pick_frames, smooth

KIND = "divergence"  # of evidence that has blocks
BATCH = 4  # images at a time: maps are as large as images, and more of them only fill memory
Scored = tuple[float, Tensor | None]  # of an image, and the blocks it is the mean of
Maps = Callable[[Any, list[Tensor], torch.Generator], Iterable[Tensor]]


def recipe(config: Config | None = None) -> Recipe:
    """Return the paper's method, for frames of videos, for stills, or for both.

    Goes by `Config.toy()` where no config is given, as the rivals do; `Config()` is the paper's.
    Needs a detector with `dense`. Training starts from the detector the run began with, on the
    frames labelled since. Where the rules leave fewer frames than the budget, fewer are asked for.

    Source: Divergence §3, Eq. 1 to 6 and the selection rules.
    Differs: the reference code smooths over the frames of earlier cycles, too; those are labelled,
    and are not scored here (the paper's cycle begins by scoring what is not labelled).
    """
    config = Config.toy() if config is None else config
    radius = config.radius

    def maps(detector: Any, images: list[Tensor], draws: torch.Generator) -> Iterable[Tensor]:
        return (score_map(one, radius=radius) for one in detector.dense(images))

    return by_pixels("divergence", maps, config)


def ranked(
    name: str,
    score: Callable[[Any, list[Tensor]], Iterable[float]],
    config: Config | None = None,
    *,
    needs: Sequence[str] = (),
) -> Recipe:
    """Return a recipe that goes by any score, with the paper's smoothing, rules and training.

    Args:
        name: how curves call it.
        score: `score(detector, images)`, one number per image; higher is more worth labelling.
        config: what to smooth, keep apart and train; `Config.toy()` by default.
        needs: what the detector must offer, as in `Recipe`.

    >>> from almining.score import entropy
    >>> ranked("entropy", lambda detector, images: map(entropy, detector.detect(images)))
    Recipe(entropy)
    """

    def scored(detector: Any, images: list[Tensor], draws: torch.Generator) -> Iterable[Scored]:
        return ((float(one), None) for one in score(detector, images))

    return _by(name, scored, Config.toy() if config is None else config, needs)


def by_pixels(
    name: str, maps: Maps, config: Config, *, needs: Sequence[str] = ("dense",)
) -> Recipe:
    """Return a recipe that goes by the aggregate (Eq. 5) of pixel scores.

    Args:
        name: how curves call it.
        maps: `maps(detector, images, draws)`, pixel scores (h, w) per image; `draws` is seeded
            alike for each batch of a cycle.
        config: what to aggregate, smooth, keep apart and train.
        needs: what the detector must offer, as in `Recipe`.
    """

    def scored(detector: Any, images: list[Tensor], draws: torch.Generator) -> Iterable[Scored]:
        for one in maps(detector, images, draws):
            blocks = block_maxima(one, region=config.region)
            scores = blocks if config.aggregate == "max" else one
            yield float(scores.double().mean()), blocks.cpu()

    return _by(name, scored, config, needs)


def take(pool: Pool, ids: Sequence[str], scores: Tensor, budget: int, config: Config) -> list[int]:
    """Return the positions of the best images, by the temporal rules.

    Args:
        pool: says which frame of which video an image is, and what earlier cycles labelled.
        ids: the images to choose from.
        scores: (n,), theirs.
        budget: how many to take.
        config: `blocked_now` and `blocked_later` are followed.
    """
    video, frame = _places(pool, ids)
    before = [pool.info(image_id) for image_id in acquired(pool)]
    return pick_frames(
        scores,
        budget,
        video=video,
        frame=frame,
        blocked_now=config.blocked_now,
        blocked_later=config.blocked_later,
        picked_before=[(one.video, one.frame) for one in before],
    )


def make_recipe(name: str, config: Config, query: Any, needs: Sequence[str] = ()) -> Recipe:
    """Return a recipe that chooses by `query` and trains as the paper does."""
    return Recipe(
        name,
        config,
        train=config.schedule_for,
        needs=tuple(needs),
        restart="start",
        trains_on=config.trains_on,
        query=query,
    )


def _by(
    name: str,
    scored: Callable[[Any, list[Tensor], torch.Generator], Iterable[Scored]],
    config: Config,
    needs: Sequence[str],
) -> Recipe:
    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        seed = draw_seed(generator)

        @torch.no_grad()  # a detector of somebody's own may forget to
        def call(images: list[Tensor]) -> list[Scored]:
            return list(scored(detector, images, seeded(seed, name)))

        call.__qualname__ = f"{name} {config}"  # by which ranks know what they have
        found = stream(
            call,
            pool,
            unfinished(pool),
            device=device_of(detector),
            batch=BATCH,
            progress=f"{name}: score",
            detector=detector,
        )
        return _requests(name, pool, dict(found), budget, config)

    return make_recipe(name, config, query, needs)


def _requests(
    name: str, pool: Pool, found: Mapping[str, Scored], budget: int, config: Config
) -> list[Request]:
    ids = list(found)
    raw = [score for score, _ in found.values()]
    video, frame = _places(pool, ids)
    smoothed = smooth(
        raw, video=video, frame=frame, half_window=config.half_window, sigma=config.sigma
    )
    film = dict(zip(zip(video, frame, strict=True), raw, strict=True))
    made = []
    for i in take(pool, ids, smoothed, budget, config):
        value, blocks = float(smoothed[i]), found[ids[i]][1]
        data: dict[str, Any] = {"score": raw[i], "smoothed": value}
        text = f"{name} {raw[i]:.3g}"
        if video[i] is not None and config.half_window:
            text += f", {value:.3g} among its neighbours in time"
        if blocks is not None:
            data |= {"blocks": blocks, "region": config.region}
            data |= _nearby(film, video[i], frame[i], config.half_window)
            row, column = divmod(int(blocks.argmax()), blocks.shape[1])
            text += f"; highest near x = {_middle(column, config)}, y = {_middle(row, config)}"
        evidence = Evidence("score" if blocks is None else KIND, data, text)
        made.append(ask_all(ids[i], evidence, value))
    return made


def _nearby(
    film: Mapping[tuple[str | None, int | None], float],
    video: str | None,
    frame: int | None,
    reach: int,
) -> dict[str, Tensor]:
    """Return the frames at most so far away that have scores, by offset, and those scores."""
    if video is None or frame is None:
        return {}
    near = [step for step in range(-reach, reach + 1) if step and (video, frame + step) in film]
    scores = [film[video, frame + step] for step in near]
    return {
        "offsets": torch.tensor(near, dtype=torch.int64),
        "neighbours": torch.tensor(scores, dtype=torch.float64),
    }


def _middle(place: int, config: Config) -> int:
    return place * config.region + config.region // 2


def _places(pool: Pool, ids: Iterable[str]) -> tuple[list[str | None], list[int | None]]:
    """Return video and frame of each image; both are None for a still."""
    video: list[str | None] = []
    frame: list[int | None] = []
    for image_id in ids:
        info = pool.info(image_id)
        if info.video is not None and info.frame is None:
            raise ValueError(
                f"image {image_id!r} is of video {info.video!r}, but its frame is not known; give "
                "ImageInfo(frame=...), or no video where it is a still"
            )
        video.append(info.video)
        frame.append(info.frame)
    return video, frame
