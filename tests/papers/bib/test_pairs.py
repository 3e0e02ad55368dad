"""Box-in-box pairs: Eq. 1 by hand, against a loop, and for many images at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from almining import boxes as arithmetic
from almining.papers.bib import find_pairs, find_pairs_many, pair_features, pairs
from almining.records import Detections
from tests.oracles import box_pairs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def detections(rows: list[list[float]], labels: Any = None, scores: Any = None) -> Detections:
    n = len(rows)
    return Detections(
        torch.tensor(rows, dtype=torch.float32).reshape(n, 4),
        torch.ones(n, dtype=torch.int64) if labels is None else torch.tensor(labels),
        torch.ones(n) if scores is None else torch.tensor(scores, dtype=torch.float32),
    )


def random(n: int, seed: int, *, classes: int = 3, whole: bool = False) -> Detections:
    generator = seeded(seed)
    corners = torch.rand(n, 4, generator=generator) * 60
    if whole:  # ratios and shares on the thresholds, equal boxes and boxes without an area
        corners = (corners / 6).round()
    low, high = (
        torch.minimum(corners[:, :2], corners[:, 2:]),
        corners[:, :2].maximum(corners[:, 2:]),
    )
    labels = torch.randint(1, classes + 1, (n,), generator=generator)
    return Detections(torch.cat([low, high], dim=1), labels, torch.rand(n, generator=generator))


# find_pairs


def test_a_small_box_in_every_larger_one_that_counts() -> None:
    found = detections(
        [
            [0, 0, 10, 10],
            [0, 0, 5, 5],  # a quarter of the first, inside
            [6, 6, 11, 11],  # as large, 16/25 of it inside
            [5, 0, 10, 5],
            [0, 0, 20, 20],  # around all of them
            [0, 0, 6, 6],  # 100/36 is below 3, but 400/36 is not
        ]
    )
    expected = [[0, 4], [1, 0], [1, 4], [2, 4], [3, 0], [3, 4], [5, 4]]
    assert find_pairs(found).tolist() == expected
    assert find_pairs(found).dtype == torch.int64
    assert find_pairs(found, min_ratio=2.0).tolist() == sorted([*expected, [5, 0]])
    assert find_pairs(found, min_containment=0.64).tolist() == sorted([*expected, [2, 0]])
    assert find_pairs(found, min_ratio=4.0).tolist() == expected  # 4 is reached
    assert find_pairs(found, min_ratio=4.01).tolist() == [[1, 4], [2, 4], [3, 4], [5, 4]]


@pytest.mark.parametrize("inside, pairs", [(8, 1), (7.999, 0)])
def test_the_share_inside_is_that_of_the_small_box(inside: float, pairs: int) -> None:
    found = detections([[0, 0, 100, 100], [100 - inside, 0, 110 - inside, 10]])
    assert len(find_pairs(found)) == pairs


@pytest.mark.parametrize("width, pairs", [(30, 1), (29.99, 0)])
def test_the_ratio_is_reached(width: float, pairs: int) -> None:
    assert len(find_pairs(detections([[0, 0, 10, 10], [0, 0, width, 10]]))) == pairs


def test_thresholds_are_met_exactly_for_whole_pixels() -> None:
    # 28 / 35 is 0.8 and 63 / 30 is 2.1, though 0.8 * 35 > 28 and 2.1 * 30 > 63 in floating point
    found = detections([[0, 0, 35, 1], [7, 0, 300, 1]])
    assert find_pairs(found).tolist() == [[0, 1]]
    found = detections([[0, 0, 30, 1], [0, 0, 63, 1]])
    assert find_pairs(found, min_ratio=2.1).tolist() == [[0, 1]]


def test_only_one_class_and_only_what_scores_and_is_tagged() -> None:
    rows = [[0, 0, 10, 10], [1, 1, 3, 3], [1, 1, 4, 4], [2, 2, 4, 4]]
    found = detections(rows, labels=[1, 1, 2, 1], scores=[0.9, 0.5, 0.9, 0.0])
    assert find_pairs(found).tolist() == [[1, 0]]  # a score has to be above 0
    assert find_pairs(found, min_score=-1.0).tolist() == [[1, 0], [3, 0]]
    assert find_pairs(found, min_score=0.5).tolist() == []
    assert find_pairs(found, tags={1, 2}).tolist() == [[1, 0]]
    assert find_pairs(found, tags=[2]).tolist() == []
    assert find_pairs(found, tags=()).tolist() == []
    assert find_pairs(found, tags={10**12}).tolist() == []


def test_nothing_one_box_no_area_and_equal_boxes() -> None:
    none = find_pairs(detections([]))
    assert none.shape == (0, 2)
    assert none.dtype == torch.int64
    assert find_pairs(detections([[0, 0, 9, 9]])).shape == (0, 2)
    flat = detections([[0, 0, 9, 9], [3, 3, 3, 5], [4, 4, 4, 4]])
    assert find_pairs(flat, min_containment=0).tolist() == []
    twins = detections([[0, 0, 9, 9], [0, 0, 9, 9], [1, 1, 3, 3], [1, 1, 3, 3]])
    assert find_pairs(twins).tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]
    tiny = detections([[0, 0, 1e-30, 1e-30], [0, 0, 1e-30, 4e-30], [-1e30, -1e30, 1e30, 1e30]])
    assert find_pairs(tiny).tolist() == [[0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize("seed", range(30))
def test_pairs_agree_with_the_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "CANDIDATES", 1 + 40 * (seed % 5))
    found = random(5 + seed, seed, whole=seed % 2 == 0)
    options: dict[str, Any] = {
        "min_ratio": (3.0, 1.5, 2.0, 2.1)[seed % 4],
        "min_containment": (0.8, 0.5, 1.0, 0.0)[seed // 2 % 4],
        "min_score": (0.0, 0.2)[seed % 2],
        "tags": (None, {1, 3})[seed // 3 % 2],
    }
    slow = box_pairs(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), **options)
    assert [tuple(pair) for pair in find_pairs(found, **options).tolist()] == slow


def test_pairs_are_those_of_the_arithmetic_on_boxes() -> None:
    found = random(80, 5, classes=1)
    sizes = arithmetic.area(found.boxes)
    inside = arithmetic.containment(found.boxes, found.boxes)
    good = (sizes[None] / sizes[:, None] >= 3) & (inside >= 0.8)
    assert torch.equal(find_pairs(found), good.nonzero())


def test_pairs_follow_order_scale_place_and_mirror() -> None:
    found = random(60, 1)
    whole = find_pairs(found)
    assert len(whole) > 20
    order = torch.randperm(60, generator=seeded(2))
    moved = order[find_pairs(found.select(order))]
    assert sorted(moved.tolist()) == whole.tolist()
    for boxes in (
        found.boxes * 4,
        arithmetic.flip(found.boxes, 64.0),
        found.boxes[:, [1, 0, 3, 2]],
    ):
        changed = Detections(boxes, found.labels, found.scores)
        assert torch.equal(find_pairs(changed), whole)
    # larger ratios, shares and scores only take pairs away
    for stricter in ({"min_ratio": 5.0}, {"min_containment": 0.95}, {"min_score": 0.3}):
        fewer = find_pairs(found, **stricter).tolist()
        assert 0 < len(fewer) < len(whole)
        assert all(pair in whole.tolist() for pair in fewer)


# find_pairs_many


def images() -> list[Detections]:
    sizes = [0, 7, 1, 40, 0, 25, 3, 0]
    return [random(n, seed, whole=seed % 2 == 0) for seed, n in enumerate(sizes)]


@pytest.mark.parametrize("boxes, count, candidates", [(2**17, 2**12, 2**17), (10, 3, 5), (1, 1, 1)])
def test_many_images_give_what_each_gives(
    boxes: int, count: int, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"min_ratio": 2.0, "min_containment": 0.6, "min_score": 0.1}
    tags = [None, {1}, {2}, {1, 2}, set(), None, {3}, {1}]
    single = [
        find_pairs(each, tags=wanted, **options)
        for each, wanted in zip(images(), tags, strict=True)
    ]
    monkeypatch.setattr(pairs, "BOXES", boxes)
    monkeypatch.setattr(pairs, "IMAGES", count)
    monkeypatch.setattr(pairs, "CANDIDATES", candidates)
    many = find_pairs_many(images(), tags=tags, **options)
    assert len(many) == len(single)
    assert all(torch.equal(one, other) for one, other in zip(many, single, strict=True))
    assert sum(map(len, many)) > 20


def test_many_without_an_image_or_without_a_box() -> None:
    assert find_pairs_many([]) == []
    empty = find_pairs_many([detections([])] * 3, tags=[{1}, None, set()])
    assert [tuple(each.shape) for each in empty] == [(0, 2)] * 3


# pair_features


def test_features_stand_small_then_large_as_they_are() -> None:
    features = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    boxes, labels = torch.ones(3, 4), torch.ones(3, dtype=torch.int64)
    found = Detections(boxes, labels, torch.ones(3), features=features)
    joined = pair_features(found, torch.tensor([[2, 0], [1, 0]]))
    assert joined.tolist() == [[5, 6, 1, 2], [3, 4, 1, 2]]
    assert pair_features(found, torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 4)
    half = Detections(boxes, labels, torch.ones(3), features=features.half())
    assert pair_features(half, torch.tensor([[0, 1]])).dtype == torch.float16


def test_features_that_are_missing_or_of_another_image_are_refused() -> None:
    found = detections([[0, 0, 9, 9], [1, 1, 3, 3]])
    with pytest.raises(ValueError, match="2 detections have features = None"):
        pair_features(found, find_pairs(found))
    found = Detections(found.boxes, found.labels, found.scores, features=torch.ones(2, 3))
    for wrong in (torch.tensor([[0, 2]]), torch.tensor([[0, 1], [-1, 0]])):
        with pytest.raises(ValueError, match=r"pairs\[[01]\] = .*there are 2 detections"):
            pair_features(found, wrong)
    for shape in (torch.zeros(2), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match=r"pairs must be int64 \(p, 2\)"):
            pair_features(found, shape.long())
    with pytest.raises(ValueError, match=r"int64.*float32"):
        pair_features(found, torch.zeros(1, 2))


# what is refused


@pytest.mark.parametrize(
    "options, match",
    [
        ({"min_ratio": 1.0}, r"min_ratio = 1.0: must be above 1"),
        ({"min_ratio": -3.0}, "min_ratio = -3.0"),
        ({"min_ratio": math.nan}, "min_ratio = nan"),
        ({"min_ratio": math.inf}, "min_ratio = inf"),
        ({"min_containment": 1.1}, "min_containment = 1.1"),
        ({"min_containment": -0.1}, "min_containment = -0.1"),
        ({"min_containment": math.nan}, "min_containment = nan"),
        ({"min_score": math.nan}, "min_score = nan"),
        ({"tags": "dog"}, "tags.*'dog'"),
        ({"tags": [0]}, "tags.*0"),
    ],
)
def test_wrong_thresholds_and_tags_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        find_pairs(detections([[0, 0, 9, 9]]), **options)


def test_tags_for_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="tags has 1 entries for 2 images"):
        find_pairs_many([detections([])] * 2, tags=[{1}])


def test_a_wrong_tag_is_named_by_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "IMAGES", 1)
    with pytest.raises(ValueError, match=r"tags\[2\] holds 0"):
        find_pairs_many(images()[:3], tags=[{1}, None, {0}])
