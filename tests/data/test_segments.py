"""Proposals around segments: on drawings whose segments are known, and on toy scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.data import segments
from almining.data.proposals import Grid, cached, recall
from almining.data.scenes import make_scenes
from almining.data.segments import Segments
from almining.rng import generator


def drawing(*rectangles: tuple[int, int, int, int, float], size: int = 48) -> Tensor:
    image = torch.zeros(3, size, size)
    for x1, y1, x2, y2, value in rectangles:
        image[:, y1:y2, x1:x2] = value
    return image


def found(image: Tensor, **options) -> list[list[float]]:
    return Segments(**options)(image).tolist()


def fit(image: Tensor, *box: float, **options) -> float:
    """How well the best proposal fits a box."""
    return float(iou(Segments(**options)(image), torch.tensor([box])).max())


def test_each_thing_and_what_things_become_together() -> None:
    two = drawing((4, 8, 16, 20, 1.0), (28, 8, 40, 20, 0.5))
    assert fit(two, 0, 0, 48, 48) == 1
    assert fit(two, 4, 8, 16, 20) > 0.8 < fit(two, 28, 8, 40, 20)
    touching = drawing((4, 8, 20, 24, 1.0), (20, 8, 36, 24, 0.8))
    for limit, alone in ((0.05, True), (0.3, False)):
        assert fit(touching, 4, 8, 36, 24, limits=(limit,)) > 0.8
        assert (fit(touching, 4, 8, 20, 24, limits=(limit,)) > 0.8) == alone  # 0.3: alike at once


def test_colour_joins_what_is_alike_before_what_is_not() -> None:
    labels = np.repeat(np.arange(3), 4)[None].repeat(4, axis=0)  # three squares in a row
    colours = np.stack([np.array([0.1, 0.9, 0.9])[labels]] * 3, axis=2)
    by_colour = segments._Regions.of(labels, colours).merged(True)
    assert by_colour.tolist() == [[4, 0, 12, 4], [0, 0, 12, 4]]
    without = segments._Regions.of(labels, colours).merged(False)
    assert without.tolist() == [[0, 0, 8, 4], [0, 0, 12, 4]]  # a tie: the first


def test_regions_know_their_size_box_colours_and_neighbours() -> None:
    labels = np.array([[0, 0, 1], [0, 2, 1]])
    colours = np.zeros((2, 3, 3))
    colours[1, 1] = 1.0
    regions = segments._Regions.of(labels, colours)
    assert regions.sizes.tolist() == [3, 2, 1]
    assert regions.boxes.tolist() == [[0, 0, 2, 2], [2, 0, 3, 2], [1, 1, 2, 2]]
    assert regions.beside.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert np.allclose(regions.colours.sum(axis=1), 1)
    assert regions.colours[2].nonzero()[0].tolist() == [7, 15, 23]


def test_segments_are_connected_and_alike() -> None:
    image = make_scenes(1, seed=3).image("scene-3-0")
    colours = image.permute(1, 2, 0).double().numpy()
    labels = segments._segments(colours, 0.1, 12)
    assert labels.min() == 0 and set(labels.ravel()) == set(range(labels.max() + 1))
    assert np.bincount(labels.ravel()).min() >= 12
    for label in range(0, labels.max() + 1, 7):
        assert len(flooded(labels == label)) == (labels == label).sum()


def flooded(mask: np.ndarray) -> set[tuple[int, int]]:
    """The pixels of a mask that can be reached from its first."""
    todo, seen = [tuple(np.argwhere(mask)[0])], set()
    while todo:
        y, x = todo.pop()
        inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
        if inside and mask[y, x] and (y, x) not in seen:
            seen.add((y, x))
            todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return seen


def test_pairs_that_choose_each_other_end_the_chain() -> None:
    # 0 - 1 at 0.3, 1 - 2 at 0.1, 2 - 3 at 0.1: ties go to the first pair
    one, other, far = np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0.3, 0.1, 0.1])
    nearest = segments._nearest(one, other, far, 5)
    assert nearest.tolist() == [1, 2, 1, 2, 4]
    assert segments._roots(nearest).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.full((3, 40, 56), 0.3), [[0, 0, 56, 40]]),
        (torch.zeros(3, 8, 8), [[0, 0, 8, 8]]),
        (torch.zeros(3, 1, 1), []),
        (torch.zeros(3, 4, 30), []),  # less than 8 pixels high
    ],
)
def test_flat_and_small_images(image: Tensor, expected: list[list[float]]) -> None:
    assert found(image) == expected


def test_smaller_boxes_are_left_out_and_smaller_segments_join() -> None:
    speck = drawing((10, 10, 13, 13, 1.0), (20, 20, 30, 30, 1.0))
    assert [20, 20, 30, 30] in found(speck)
    assert all(min(x2 - x1, y2 - y1) >= 8 for x1, y1, x2, y2 in found(speck))
    assert len(found(speck, smallest=1, min_side=1)) > len(found(speck, min_side=1))


def test_noise_ends_with_the_whole_image_and_stays_inside() -> None:
    image = torch.rand(3, 30, 50, generator=generator(0))
    boxes = Segments()(image)
    assert boxes.dtype == torch.float32 and [0, 0, 50, 30] in boxes.tolist()
    assert (boxes[:, :2] >= 0).all() and boxes[:, 2].max() <= 50 and boxes[:, 3].max() <= 30
    assert len(torch.unique(boxes, dim=0)) == len(boxes)
    assert torch.equal(boxes, Segments()(image))


def test_large_images_are_made_smaller_first(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, whole = [], segments._segments
    monkeypatch.setattr(
        segments,
        "_segments",
        lambda colours, *rest: looked.append(colours.shape) or whole(colours, *rest),
    )
    image = torch.zeros(3, 600, 2000)
    image[:, 200:400, 400:1200] = 1
    boxes = Segments(limits=(0.1,))(image)
    assert looked == [(150, 500, 3)]
    assert [0, 0, 2000, 600] in boxes.tolist()
    assert float(iou(boxes, torch.tensor([[400.0, 200, 1200, 400]])).max()) > 0.95
    Segments(limits=(0.1,))(image[:, :500, :500])
    assert looked[1] == (500, 500, 3)
    thin = Segments(limits=(0.1,), min_side=1)(image[:, 300:301])
    assert looked[2] == (1, 500, 3) and thin[:, 3].max() == 1


def test_few_boxes_that_fit_the_objects_of_the_toy_world_closely() -> None:
    pool = make_scenes(16, seed=2)
    ours, grid = (recall(pool, one, iou=0.7, progress=False) for one in (Segments(), Grid()))
    assert ours["recall"] >= grid["recall"] and ours["proposals"] < grid["proposals"] / 4
    assert recall(pool, Segments(), progress=False)["recall"] > 0.85


def test_options_make_the_key_and_the_cache_changes_nothing(tmp_path: Path) -> None:
    assert Segments(limits=[0.1]).key == "1 Segments(limits=(0.1,), smallest=12, min_side=8)"
    image = drawing((4, 8, 16, 20, 1.0))
    kept = cached(Segments(), tmp_path)
    for _ in range(2):
        assert torch.equal(kept(image), Segments()(image))
    assert float(iou(kept(image), torch.tensor([[4.0, 8, 16, 20]])).max()) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Segments(limits=()), r"limits = \(\): distances above 0 and at most 1"),
        (lambda: Segments(limits=(0.1, 2.0)), r"limits = \(0.1, 2.0\)"),
        (lambda: Segments(smallest=0), "smallest = 0 must be a whole number of at least 1"),
        (lambda: Segments(min_side=2.5), "min_side = 2.5 must be a whole number"),
        (lambda: Segments()(torch.full((3, 9, 9), torch.nan)), "image is not finite"),
        (lambda: Segments()(torch.zeros(1, 9, 9)), "image must be a float32 tensor"),
    ],
)
def test_rejected(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
