"""Smoothing scores over time, and picking frames that are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining.select import pick_frames, smooth, top_k
from tests.oracles import frames_apart, smoothed

NEAR, FAR = math.exp(-1 / 2), math.exp(-4 / 2)  # weights at 1 and 2 frames, sigma 1
SCORES = st.integers(0, 5).map(float)


@st.composite
def films(draw, *, apart=False):
    """Scores of frames of a few videos, in any order; frames repeat unless `apart`."""
    place = st.tuples(st.sampled_from("ab"), st.integers(0, 12))
    places = draw(st.lists(place, max_size=25, unique=apart))
    scores = draw(st.lists(SCORES, min_size=len(places), max_size=len(places)))
    return scores, [video for video, _ in places], [frame for _, frame in places]


def test_smooth_by_hand() -> None:
    found = smooth([0.0, 1.0, 0.0, 0.0], half_window=2, sigma=1.0)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(
        [
            NEAR / (1 + NEAR + FAR),
            1 / (1 + 2 * NEAR + FAR),
            NEAR / (1 + 2 * NEAR + FAR),
            FAR / (1 + NEAR + FAR),
        ]
    )


def test_smooth_goes_by_frame_numbers_not_by_positions() -> None:
    found = smooth([1.0, 0.0, 8.0], frame=[0, 2, 5], half_window=2, sigma=1.0)
    assert found.tolist() == pytest.approx([1 / (1 + FAR), FAR / (1 + FAR), 8])
    assert smooth([8.0, 1.0, 0.0], frame=[5, 0, 2], half_window=2, sigma=1.0).tolist() == (
        found[[2, 0, 1]].tolist()
    )


def test_smooth_never_crosses_videos_nor_touches_stills() -> None:
    apart = smooth([1.0, 0.0, 5.0, 7.0], video=["a", "a", "b", None], frame=[0, 1, 2, 3], sigma=1.0)
    assert apart[:2].tolist() == smooth([1.0, 0.0], sigma=1.0).tolist()
    assert apart[2:].tolist() == [5, 7]
    assert smooth([1.0, 3.0], video=[None, None], frame=[None, None]).tolist() == [1, 3]
    numbered = smooth([1.0, 0.0, 5.0], video=torch.tensor([0, 0, 1]), sigma=1.0)
    assert numbered.tolist() == apart[:3].tolist()


@settings(max_examples=60, deadline=None)
@given(films(), st.integers(0, 4), st.sampled_from([0.5, 1.0, 3.0]))
def test_smooth_as_frame_by_frame(film, half_window: int, sigma: float) -> None:
    scores, video, frame = film
    found = smooth(scores, video=video, frame=frame, half_window=half_window, sigma=sigma)
    slow = smoothed(scores, video, frame, half_window, sigma)
    assert found.tolist() == pytest.approx(slow, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(films(apart=True), st.randoms(use_true_random=False), st.integers(-9, 999))
def test_order_and_origin_of_frames_do_not_matter(film, random, shift: int) -> None:
    scores, video, frame = film
    order = random.sample(range(len(scores)), len(scores))
    names = {"a": 7, "b": "z"}
    found = smooth(scores, video=video, frame=frame)
    moved = smooth(
        [scores[i] for i in order],
        video=[names[video[i]] for i in order],
        frame=[frame[i] + shift for i in order],
    )
    assert moved.tolist() == found[order].tolist()


def test_smooth_leaves_alike_scores_as_they_are() -> None:
    assert smooth([0.1] * 40).tolist() == [0.1] * 40


def test_smooth_of_little() -> None:
    assert smooth([]).tolist() == []
    assert smooth([0.3]).tolist() == [0.3]
    # a video shorter than the window is averaged over what there is
    assert smooth([0.0, 1.0], half_window=9, sigma=1.0).tolist() == pytest.approx(
        [NEAR / (1 + NEAR), 1 / (1 + NEAR)]
    )
    assert smooth([0.0, 1.0, 0.0], half_window=0).tolist() == [0, 1, 0]
    # frames of the same number are the same moment
    assert smooth([0.0, 1.0], frame=[4, 4], half_window=0).tolist() == [0.5, 0.5]


def test_smooth_keeps_type_and_takes_arrays() -> None:
    assert smooth(torch.tensor([0.0, 1.0])).dtype == torch.float32
    assert smooth(torch.tensor([0, 1])).dtype == torch.float64
    scores, frames = np.array([0.0, 1.0]), np.array([3, 1])
    assert smooth(scores, frame=frames).tolist() == smooth([0.0, 1.0], frame=[3, 1]).tolist()
    assert smooth([0.0, 1.0], frame=torch.tensor([3, 1])).tolist() == (
        smooth(scores, frame=frames).tolist()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half_window": -1}, "half_window = -1 must be"),
        ({"half_window": 1.5}, r"half_window = 1\.5 must be"),
        ({"sigma": 0}, "sigma = 0 frames"),
        ({"sigma": math.nan}, "sigma = nan frames"),
        ({"video": ["a"]}, "video has 1 entries for 2 scores"),
        ({"frame": [1, 2, 3]}, "frame has 3 entries for 2 scores"),
        ({"video": ["a", "a"], "frame": [1, None]}, r"frame\[1\] = None, of video 'a'"),
        ({"frame": [1, 2.5]}, r"frame\[1\] = 2\.5"),
        ({"video": [None, "a"], "frame": ["x", 1]}, r"frame\[0\] = 'x', a still"),
    ],
)
def test_smooth_refuses(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smooth([0.0, 1.0], **change)


def test_what_is_not_finite_is_named() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(FloatingPointError, match=r"scores\[1\]"):
            smooth([0.0, bad])
        with pytest.raises(FloatingPointError, match=r"scores\[1\]"):
            pick_frames([0.0, bad], 1, video=None, frame=None)


def test_pick_frames_by_hand() -> None:
    scores = [9, 8, 7, 6, 5, 4, 3]
    film = {"video": list("aaaabbb"), "frame": [0, 3, 4, 9, 0, 3, 4]}
    # 3 is within 3 of 0; 4 is not; 9 is 5 from 4
    assert pick_frames(scores, 9, **film, blocked_now=3, blocked_later=0) == [0, 2, 3, 4, 6]
    assert pick_frames(scores, 2, **film, blocked_now=3, blocked_later=0) == [0, 2]
    assert pick_frames(scores, 9, **film, blocked_now=4, blocked_later=0) == [0, 3, 4]
    before = [("a", 6), ("b", 2), ("c", 0)]
    rules = {"blocked_now": 0, "blocked_later": 2, "picked_before": before}
    assert pick_frames(scores, 9, **film, **rules) == [0, 1, 3]
    assert pick_frames(scores, 9, **film, **(rules | {"blocked_later": 3})) == [0]


def test_the_papers_rules_are_the_default() -> None:
    film = {"video": ["a"] * 40, "frame": range(40)}
    assert pick_frames([1.0] * 40, 9, **film) == [0, 16, 32]
    assert pick_frames([1.0] * 40, 9, **film, picked_before=[("a", 10)]) == [0, 16, 32]
    assert pick_frames([1.0] * 40, 9, **film, picked_before=[("a", 17)]) == [0, 20, 36]
    assert pick_frames([1.0] * 40, 9, video=None, frame=None, picked_before=[(None, 17)]) == (
        [0, 20, 36]
    )


def test_rules_hold_near_the_start_and_on_both_sides() -> None:
    film = {"video": ["a"] * 5, "frame": range(5)}
    assert pick_frames([0, 9, 1, 2, 3], 5, **film, blocked_now=2, blocked_later=0) == [1, 4]


def test_stills_and_other_videos_block_nothing() -> None:
    video, frame = [None, None, "a", "a", None], [0, 0, 0, 0, None]
    found = pick_frames(
        [1, 1, 1, 1, 1], 5, video=video, frame=frame, picked_before=[("b", 0), (None, 0)]
    )
    assert found == [0, 1, 2, 4]  # the repeated frame of the video is out
    stills = {"video": [None, None], "frame": [None, None]}
    assert pick_frames([1, 2], 2, **stills, picked_before=[(None, None)]) == [1, 0]


def test_pick_frames_of_little() -> None:
    assert pick_frames([], 3, video=[], frame=[]) == []
    assert pick_frames([2.0], 3, video=["a"], frame=[7]) == [0]
    assert pick_frames([2.0], 3, video=["a"], frame=[7], picked_before=[("a", 9)]) == []
    assert pick_frames([2.0], 0, video=["a"], frame=[7]) == []


@settings(max_examples=100, deadline=None)
@given(
    films(),
    st.integers(0, 6),
    st.integers(0, 5),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 14)), max_size=4),
)
def test_pick_frames_as_one_by_one(film, budget, now, later, before) -> None:
    scores, video, frame = film
    found = pick_frames(
        scores,
        budget,
        video=video,
        frame=frame,
        blocked_now=now,
        blocked_later=later,
        picked_before=before,
    )
    assert found == frames_apart(scores, budget, video, frame, now, later, before)


@settings(max_examples=60, deadline=None)
@given(films(apart=True), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_picks(film, random) -> None:
    scores, video, frame = film
    scores = [score + i / 100 for i, score in enumerate(scores)]  # no ties
    order = random.sample(range(len(scores)), len(scores))
    found = pick_frames(scores, 5, video=video, frame=frame, blocked_now=2)
    mixed = pick_frames(
        torch.tensor(scores)[order],
        5,
        video=[video[i] for i in order],
        frame=[frame[i] for i in order],
        blocked_now=2,
    )
    assert [order[i] for i in mixed] == found


def test_without_rules_the_best_are_taken() -> None:
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    found = pick_frames(scores, 9, video="a" * 50, frame=range(50), blocked_now=0, blocked_later=0)
    assert found == top_k(scores, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": -1}, "budget = -1"),
        ({"blocked_now": -1}, "blocked_now = -1 must be"),
        ({"blocked_later": 0.5}, r"blocked_later = 0\.5 must be"),
        ({"video": ["a"]}, "video has 1 entries for 2 scores"),
        ({"frame": [0, None]}, r"frame\[1\] = None, of video 'a'"),
        ({"picked_before": [("a", None)]}, "picked_before holds frame None of video 'a'"),
        ({"picked_before": [("a", 2.0)]}, "picked_before holds frame 2.0 of video 'a'"),
    ],
)
def test_pick_frames_refuses(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pick_frames([0.0, 1.0], **({"budget": 1, "video": "aa", "frame": [0, 1]} | change))
