"""Which frames of videos to ask for: scores smoothed over time, and no two picks close together.

Neighbouring frames are nearly alike, so the best b frames by score alone are a few moments many
times over. `smooth` takes the noise out of the scores along each video, `pick_frames` goes down the
scores and leaves out what is near a pick. Any score will do. (Divergence, Aghdam et al., ICCV 2019,
§3, Eq. 6 and the two rules below it.) How alike two frames look is left out: the paper goes by
time alone. Notebook: 05_pixel_divergence.

A frame is known by its video and its number there, not by its position, so frames may come in any
order. A frame whose video is None is a still: it has no neighbours.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from almining.checks import check_whole
from almining.select.ranking import check_budget, top_k

Videos = Tensor | Sequence[Any]
Frames = Tensor | Sequence[Any]


def smooth(
    scores: Tensor | Sequence[float],
    *,
    video: Videos | None = None,
    frame: Frames | None = None,
    half_window: int = 5,
    sigma: float = 3.0,
) -> Tensor:
    """Return each score averaged with those of the frames around it, by Gaussian weights.

    The weights depend on the distance in frames and are renormalised where the video ends, where
    frames are missing, and where it is shorter than the window; other videos never weigh in. Scores
    that are all alike stay what they are, to the last bit.

    Args:
        scores: (n,) numbers.
        video: n names of videos; None stands for a still, which keeps its score. All of one video
            by default.
        frame: n whole numbers, the place in the video, in any order; positions in `scores` by
            default. Frames of the same number are at distance 0 from one another.
        half_window: Δt, frames at most so far away weigh in; 0 smooths nothing.
        sigma: of the Gaussian, in frames.

    Returns:
        (n,), float64 unless `scores` is a floating tensor, whose type and device it then has.

    Raises:
        ValueError: naming the argument and its value.
        FloatingPointError: naming the first position whose score is not finite.

    >>> [round(value, 3) for value in smooth([0, 0, 1, 0, 0], half_window=1, sigma=1.0).tolist()]
    [0.0, 0.274, 0.452, 0.274, 0.0]

    Source: Divergence §3, Eq. 6, printed with the index of w off; Σ_j w_j z_(t+j) / Σ_j w_j is
    meant. Δt = 5 and σ = 3 are those of the reference code.
    Differs: the reference code runs over the joined list of all videos, across their ends, and
    takes what lies beyond the list as 0.
    """
    top_k(scores, 0)  # refuses what cannot be ranked
    check_whole(half_window, "half_window", 0)
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma = {sigma!r} frames: a finite number above 0 is needed")
    if not isinstance(scores, Tensor):
        scores = torch.tensor(list(scores), dtype=torch.float64)
    given = scores.detach()
    videos, places = _places(len(given), video, frame)
    known = {name: code for code, name in enumerate(dict.fromkeys(videos))}
    codes = torch.tensor([known[name] for name in videos], dtype=torch.int64)
    numbers = torch.tensor(places, dtype=torch.int64)
    order = numbers.argsort(stable=True)
    order = order[codes[order].argsort(stable=True)]  # by video, and by number in each
    codes, numbers, values = codes[order], numbers[order], given.cpu().double()[order]
    pulled, weights = torch.zeros_like(values), torch.ones_like(values)  # a frame's own weight is 1
    for step in range(1, len(values)):
        distance = numbers[step:] - numbers[:-step]
        near = (codes[step:] == codes[:-step]) & (distance <= half_window)
        if not bool(near.any()):  # then nothing further apart in this order is near either
            break
        weight = torch.exp(-((distance.double() / sigma) ** 2) / 2) * near
        pull = weight * (values[step:] - values[:-step])
        pulled[:-step] += pull
        pulled[step:] -= pull
        weights[:-step] += weight
        weights[step:] += weight
    smoothed = torch.empty_like(values)
    smoothed[order] = values + pulled / weights
    kept = given.dtype if given.is_floating_point() else torch.float64
    return smoothed.to(given.device, kept)


def pick_frames(
    scores: Tensor | Sequence[float],
    budget: int,
    *,
    video: Videos | None,
    frame: Frames | None,
    blocked_now: int = 15,
    blocked_later: int = 2,
    picked_before: Iterable[tuple[Hashable | None, int | None]] = (),
) -> list[int]:
    """Return the positions of the best frames, best first, no two of a video close together.

    Frames are taken by score, ties at the lowest position. One is passed over when its video has a
    pick at most `blocked_now` frames away, or one of an earlier cycle at most `blocked_later` away.
    Nothing is relaxed: where the rules leave fewer frames than `budget`, fewer are returned.

    Args:
        scores: (n,) numbers, higher is more worth labelling.
        budget: b, how many to take.
        video: n names of videos; None stands for a still, which nothing blocks. Without names,
            `video=None`, everything is one video.
        frame: n whole numbers, the place in the video, in any order; None: positions in `scores`.
        blocked_now: Δt1; 0 keeps nothing out but frames of the same number.
        blocked_later: Δt2.
        picked_before: (video, frame) of each pick of earlier cycles; those of stills or of other
            videos block nothing.

    Raises:
        ValueError: naming the argument and its value.
        FloatingPointError: naming the first position whose score is not finite.

    >>> pick_frames([5, 4, 3, 2, 1], 3, video="aaaab", frame=[0, 1, 2, 3, 3], blocked_now=1)
    [0, 2, 4]

    Source: Divergence §3, the two temporal selection rules.
    Differs: the reference code blocks one frame fewer after a pick than before it, nothing at all
    near the start of the list, counts across the ends of videos, and lifts the rules step by step
    until the budget is filled.
    """
    check_budget(budget)
    check_whole(blocked_now, "blocked_now", 0)
    check_whole(blocked_later, "blocked_later", 0)
    order = top_k(scores, len(scores))
    videos, numbers = _places(len(order), video, frame)
    before: dict[Hashable, list[int]] = defaultdict(list)
    for name, number in picked_before:
        if (name, number) == (None, None):  # a still
            continue
        try:
            insort(before[name], index(number))  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(
                f"picked_before holds frame {number!r} of video {name!r}: a whole number is needed"
            ) from error
    now: dict[Hashable, list[int]] = defaultdict(list)
    picked: list[int] = []
    for position in order:
        if len(picked) >= budget:
            break
        name, number = videos[position], numbers[position]
        if _near(now[name], number, blocked_now) or _near(before[name], number, blocked_later):
            continue
        insort(now[name], number)
        picked.append(position)
    return picked


def _near(numbers: list[int], number: int, reach: int) -> bool:
    """Tell whether one of the sorted numbers is at most `reach` away."""
    first = bisect_left(numbers, number - reach)
    return first < len(numbers) and numbers[first] <= number + reach


def _places(n: int, video: Videos | None, frame: Frames | None) -> tuple[list[Hashable], list[int]]:
    """Return for each position its video, a still's being one of its own, and its frame number."""
    videos: list[Any] = [None] * n if video is None else [_name(one) for one in _listed(video)]
    places = list(range(n)) if frame is None else _listed(frame)
    for argument, values in (("video", videos), ("frame", places)):
        if len(values) != n:
            raise ValueError(f"{argument} has {len(values)} entries for {n} scores; give one each")
    for position, (name, place) in enumerate(zip(videos, places, strict=True)):
        still = isinstance(name, _Still)
        try:
            places[position] = 0 if still and place is None else index(place)
        except TypeError as error:
            raise ValueError(
                f"frame[{position}] = {place!r}, {'a still' if still else f'of video {name!r}'}: "
                "a whole number is needed; the video of a still is None"
            ) from error
    return videos, places


class _Still:
    """The video of a still, the same as no other."""


def _name(video: Hashable | None) -> Hashable:
    return _Still() if video is None else video


def _listed(values: Tensor | Sequence[Any]) -> list[Any]:
    return values.tolist() if isinstance(values, Tensor) else list(values)
