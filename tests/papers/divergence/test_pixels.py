"""Pixel divergence, Eq. 1 to 5, and the divergence of passes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining.papers import divergence
from almining.papers.divergence import (
    binary_entropy,
    block_maxima,
    disagreement,
    image_score,
    score_map,
)
from almining.score import binary_entropy as entropy_of_scores
from tests import oracles


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_maps(k: int, h: int, w: int, *, seed: int = 0, confident: bool = False) -> torch.Tensor:
    logits = torch.randn(k, h, w, generator=seeded(seed)) * (12 if confident else 2)
    return logits.sigmoid()


def test_binary_entropy_by_hand() -> None:
    found = binary_entropy(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert found.tolist() == pytest.approx([0, quarter, math.log(2), 0])
    assert not torch.signbit(found).any()
    assert binary_entropy(torch.zeros(0, 3)).shape == (0, 3)
    tiny = torch.tensor([1e-30, 1e-45, 1.0 - 2**-24])
    assert binary_entropy(tiny).tolist() == pytest.approx(
        [oracles.binary_entropy(p) for p in tiny.tolist()], abs=1e-9
    )
    p = torch.rand(1000, generator=seeded())
    assert torch.allclose(binary_entropy(p), entropy_of_scores(p), atol=1e-6)
    assert torch.allclose(binary_entropy(p.half()).float(), entropy_of_scores(p), atol=2e-3)


def test_score_map_by_hand() -> None:
    # 3 pixels in a row, r = 1: windows of 2, 3 and 2 pixels, of means 1/2, 1/3 and 0
    found = score_map(torch.tensor([[[1.0, 0.0, 0.0]]]), radius=1)
    third = math.log(3) / 3 + 2 / 3 * math.log(1.5)
    assert found[0].tolist() == pytest.approx([math.log(2), third, 0])
    # sure pixels have no entropy of their own; unsure ones have it taken off
    half = score_map(torch.tensor([[[1.0, 0.5]]]), radius=1)
    of_mean = binary_entropy(torch.tensor(0.75)).item()
    assert half[0].tolist() == pytest.approx([of_mean - math.log(2) / 2] * 2)


def test_score_map_sums_over_maps_and_not_before() -> None:
    edge = torch.tensor([[0.0, 1.0]])
    both = score_map(torch.stack([edge, 1 - edge]), radius=1)  # together they are 1 everywhere
    assert both.tolist()[0] == pytest.approx([2 * math.log(2)] * 2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (2, 6, 1), (5, 9, 12)])
@pytest.mark.parametrize("radius", [0, 1, 3, 8, 40])
@pytest.mark.parametrize("confident", [False, True])
def test_score_map_as_pixel_by_pixel(shape, radius: int, confident: bool) -> None:
    maps = some_maps(*shape, confident=confident)
    slow = torch.tensor(oracles.divergence_map(maps.tolist(), radius))
    found = score_map(maps, radius=radius)
    assert found.dtype == torch.float32 and found.shape == shape[1:]
    assert float((found - slow).abs().max()) < 2e-6


@pytest.mark.parametrize("p", [0.0, 1e-7, 0.1, 1 / 3, 0.5, 0.7, 0.999999, 1.0])
def test_constant_maps_score_exactly_nothing(p: float) -> None:
    for radius in (0, 1, 4, 9, 40, 500):
        assert not score_map(torch.full((5, 53, 71), p), radius=radius).any()


def test_where_windows_are_of_one_value_the_score_is_exactly_nothing() -> None:
    maps = torch.full((2, 40, 60), 0.3)
    maps[:, :, 30:] = 0.9
    found = score_map(maps, radius=4)
    assert (found[:, 26:34] > 0.01).all()
    assert not found[:, :26].any() and not found[:, 34:].any()
    for p in (3e-7, 1e-5, 3e-4, 0.37):  # whatever stands beside and above it
        mixed = some_maps(2, 200, 240, confident=True)
        mixed[:, 100:, 120:] = p
        assert not score_map(mixed, radius=4)[104:, 124:].any()


@pytest.mark.slow
def test_long_sums_are_exact_too() -> None:
    maps = torch.full((1, 1, 3 * 2**23), 0.5)
    maps[..., -99:] = 3e-4  # small numbers at the end of a sum beyond 2**53 / 2**30
    assert not score_map(maps, radius=2)[0, -97:].any()


def test_rounding_makes_no_score_negative() -> None:
    almost = (torch.randn(5, 90, 90, generator=seeded()) * 1e-5 + 2).sigmoid()
    found = score_map(almost, radius=4)
    assert float(found.min()) == 0 and float(found.max()) < 1e-6
    first, second = almost[:2].split(1)
    (found,) = disagreement([[first], [second]])
    assert float(found.min()) == 0 and float(found.max()) < 1e-6


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.integers(1, 30),
    st.integers(0, 35), st.sampled_from([0.01, 1.0, 30.0]),
)  # fmt: skip
def test_bounds_and_symmetries(seed, k, h, w, radius, scale) -> None:
    maps = (torch.randn(k, h, w, generator=seeded(seed)) * scale).sigmoid()
    found = score_map(maps, radius=radius)
    assert 0 <= float(found.min()) and float(found.max()) <= k * math.log(2) + 1e-6
    assert torch.equal(score_map(maps.flip(2), radius=radius), found.flip(1))
    assert torch.equal(score_map(maps.flip(1), radius=radius), found.flip(0))
    assert torch.allclose(score_map(maps.transpose(1, 2), radius=radius), found.T, atol=1e-6)
    assert torch.allclose(score_map(maps.flip(0), radius=radius), found, atol=2e-6)
    assert torch.allclose(score_map(1 - maps, radius=radius), found, atol=2e-5)


def test_a_score_does_not_depend_on_where_in_the_image_it_is() -> None:
    big = some_maps(3, 80, 90)
    part = score_map(big[:, 31:71, 17:57], radius=6)
    whole = score_map(big, radius=6)[31:71, 17:57]
    assert torch.equal(part[6:-6, 6:-6], whole[6:-6, 6:-6])


def test_large_images_and_windows_lose_nothing() -> None:
    maps = some_maps(2, 700, 900, confident=True)
    found = score_map(maps, radius=150)
    window = maps[:, 200:501, 300:601].double()
    apart = entropy_of_scores(window).mean(dim=(1, 2))
    slow = (entropy_of_scores(window.mean(dim=(1, 2))) - apart).sum()
    assert float(found[350, 450]) == pytest.approx(float(slow), abs=1e-6)


def test_entropy_shouts_where_divergence_is_silent() -> None:
    flat, edge = torch.full((1, 30, 30), 0.5), torch.zeros(1, 30, 30)
    edge[:, :, 15:] = 1
    assert binary_entropy(flat).mean() > 0.69 and binary_entropy(edge).mean() == 0
    assert image_score(score_map(flat)) == 0 < image_score(score_map(edge))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    maps = some_maps(2, 8, 9).to(dtype)
    assert torch.equal(score_map(maps, radius=2), score_map(maps.float(), radius=2))


def test_what_is_given_stays_as_it_is() -> None:
    maps = some_maps(2, 8, 9)
    before = maps.clone()
    score_map(maps, radius=2)
    disagreement([[maps], [maps]])
    assert torch.equal(maps, before)
    carried = torch.tensor([[[0.5, 1 + 1e-6, -1e-6]]])  # rounding is no reason to refuse
    assert torch.equal(score_map(carried), score_map(carried.clamp(0, 1)))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.full((1, 2, 2), 1.1), r"probabilities span \[1\.1, 1\.1\].*not logits"),
        (torch.tensor([[[0.2, -0.1]]]), r"span \[-0\.1, 0\.2\]"),
        (torch.zeros(4, 4), r"\(k, h, w\), none of them 0, got \(4, 4\)"),
        (torch.zeros(0, 4, 4), r"got \(0, 4, 4\)"),
        (torch.zeros(2, 0, 4), r"got \(2, 0, 4\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), "floating tensor of probabilities, got torch"),
        ([[[0.5]]], "floating tensor of probabilities, got list"),
    ],
)
def test_score_map_refuses(maps: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_map(maps)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    maps = torch.full((1, 3, 3), 0.5)
    maps[0, 1, 1] = bad
    with pytest.raises(FloatingPointError, match="probabilities are not finite"):
        score_map(maps)
    with pytest.raises(FloatingPointError, match=r"p are not finite"):
        binary_entropy(maps)
    with pytest.raises(FloatingPointError, match=r"passes\[1\]\[0\] are not finite"):
        disagreement([[maps.clamp(0, 1).nan_to_num(0.5)], [maps]])
    with pytest.raises(FloatingPointError, match="score_map is not finite"):
        image_score(maps[0])


def test_radius_is_a_whole_number() -> None:
    for bad in (-1, 1.5):
        with pytest.raises(ValueError, match=f"radius = {bad} must be"):
            score_map(torch.zeros(1, 3, 3), radius=bad)


def test_blocks_by_hand() -> None:
    score = torch.arange(35.0).view(5, 7)
    assert block_maxima(score, region=3).tolist() == [[16, 19, 20], [30, 33, 34]]
    assert image_score(score, region=3) == pytest.approx((16 + 19 + 20 + 30 + 33 + 34) / 6)
    # the last row counts, and a map smaller than a region is one
    assert image_score(score) == image_score(score, region=7) == 34
    assert image_score(score, region=5) == pytest.approx((32 + 34) / 2)
    assert image_score(score, region=1) == pytest.approx(17)
    assert image_score(torch.tensor([[0.25]])) == 0.25


def test_the_last_rows_of_480_are_seen() -> None:
    score = torch.zeros(480, 640)
    score[479, 639] = 22 * 16
    assert image_score(score) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 20), st.integers(1, 25))
def test_blocks_as_one_by_one(seed, h, w, region) -> None:
    score = torch.rand(h, w, generator=seeded(seed))
    mean, maxima = oracles.block_score(score.tolist(), region)
    assert block_maxima(score, region=region).tolist() == maxima
    assert image_score(score, region=region) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("score", "region", "message"),
    [
        (torch.zeros(3, 3), 0, "region = 0 must be a whole number of at least 1 pixel"),
        (torch.zeros(3, 3), 2.5, r"region = 2\.5"),
        (torch.zeros(1, 3, 3), 2, r"\(h, w\), neither of them 0, got \(1, 3, 3\)"),
        (torch.zeros(0, 3), 2, r"got \(0, 3\)"),
        ([[1.0]], 2, "got list"),
    ],
)
def test_blocks_refuse(score: object, region: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_score(score, region=region)


def test_disagreement_by_hand() -> None:
    passes = [[torch.tensor([[[p, 0.3]]])] for p in (1.0, 0.0, 0.0)]
    (found,) = disagreement(passes)
    assert found[0].tolist() == pytest.approx([math.log(3) / 3 + 2 / 3 * math.log(1.5), 0])
    assert found[0, 1] == 0


def test_disagreement_is_per_image_and_sums_over_maps() -> None:
    one, other = some_maps(2, 4, 5, seed=1), some_maps(2, 4, 5, seed=2)
    wide = some_maps(2, 3, 8, seed=3)
    first, second = disagreement(iter([[one, wide], [other, wide]]))
    mean, both = (one + other) / 2, [one.double(), other.double()]
    apart = sum(entropy_of_scores(each) for each in both) / 2
    assert torch.allclose(first, (entropy_of_scores(mean) - apart).sum(dim=0).float(), atol=1e-6)
    assert first.dtype == torch.float32 and not second.any()


@pytest.mark.parametrize("p", [1e-7, 0.1, 1 / 3, 0.999999])
def test_passes_that_agree_score_exactly_nothing(p: float) -> None:
    (found,) = disagreement([[torch.full((5, 7, 33), p)]] * 30)
    assert not found.any()
    (single,) = disagreement([[some_maps(5, 7, 33)]])
    assert not single.any()


def test_disagreement_refuses() -> None:
    with pytest.raises(ValueError, match="passes is empty"):
        disagreement([])
    with pytest.raises(ValueError, match=r"passes\[1\] is of maps"):
        disagreement([[torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 3)]])
    with pytest.raises(ValueError, match=r"passes\[1\] is of maps"):
        disagreement([[torch.zeros(1, 2, 2)], []])
    with pytest.raises(ValueError, match=r"passes\[0\]\[0\] span"):
        disagreement([[torch.full((1, 2, 2), 3.0)]])
    assert disagreement([[]]) == []


def test_what_other_modules_own_is_offered_here() -> None:
    from almining import select

    assert divergence.smooth is select.smooth and divergence.pick_frames is select.pick_frames
    assert {"Config", "recipe", "rivals", "time_to_completion"} <= set(dir(divergence))
