"""Cutting and pasting: where a crop lies, how large it is, and what else of the image changes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.papers.ssm import cut, paste, paste_all
from almining.rng import generator


def numbered(height: int, width: int) -> Tensor:
    """An image in which no pixel is like another."""
    flat = torch.arange(3.0 * height * width) + 1
    return (flat / (3 * height * width + 1)).reshape(3, height, width)


def inside(image: Tensor, box: Tensor) -> Tensor:
    left, top, right, bottom = (int(side) for side in box.tolist())
    return image[:, top:bottom, left:right]


def test_a_cut_holds_every_pixel_that_the_box_touches() -> None:
    image = numbered(20, 30)
    assert torch.equal(cut(image, torch.tensor([2.0, 3, 7, 9])), image[:, 3:9, 2:7])
    assert torch.equal(cut(image, torch.tensor([1.5, 2.9, 7.1, 9.0])), image[:, 2:9, 1:8])
    assert torch.equal(cut(image, torch.tensor([4.2, 5.2, 4.4, 5.3])), image[:, 5:6, 4:5])
    touching = cut(image, torch.tensor([25.0, 12, 30, 20]))  # the lower right corner
    assert torch.equal(touching, image[:, 12:, 25:])
    beyond = cut(image, torch.tensor([-5.0, -5, 500, 3]))
    assert torch.equal(beyond, image[:, :3])


@pytest.mark.parametrize(
    "box",
    [
        (4.5, 4, 4.5, 9),
        (4, 4, 4, 9),
        (4, 4, 9, 4),
        (40, 2, 50, 9),
        (-9, -9, -2, -1),
        (3, 20, 9, 25),
    ],
)
def test_nothing_is_cut_where_there_is_no_area(box: tuple[float, ...]) -> None:
    assert cut(numbered(20, 30), torch.tensor(box, dtype=torch.float32)).numel() == 0


def test_a_crop_lies_whole_in_the_image_and_the_rest_is_as_it_was() -> None:
    crop, context = numbered(5, 8), torch.zeros(3, 20, 30)
    for seed in range(30):
        image, box = paste(crop, context, generator=generator(seed, "paste"))
        assert box.dtype == torch.float32 and box.shape == (4,)
        assert torch.equal(inside(image, box), crop)
        assert float(image.sum()) == pytest.approx(float(crop.sum()))
    assert float(context.sum()) == 0  # left as it is


def test_every_place_is_as_likely() -> None:
    draws = generator(0, "paste")
    places = Counter(
        tuple(paste(torch.ones(3, 2, 1), torch.zeros(3, 4, 2), generator=draws)[1].tolist())
        for _ in range(1200)
    )
    assert set(places) == {(x, y, x + 1.0, y + 2.0) for x in (0, 1) for y in (0, 1, 2)}
    assert all(140 < count < 260 for count in places.values())  # 200 each, 4.6 deviations


def test_the_generator_decides_and_nothing_else() -> None:
    crop, context = numbered(5, 8), torch.rand(3, 20, 30, generator=generator(0))
    before = torch.random.get_rng_state()
    first, second = (paste(crop, context, generator=generator(7, "paste")) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "crop, context, fraction, size",
    [
        ((40, 20), (20, 20), 0.6, (12, 6)),  # larger than the image
        ((12, 12), (20, 20), 0.6, (12, 12)),  # just as large as it may be
        ((13, 6), (20, 20), 0.6, (12, 5)),
        ((4, 40), (20, 20), 0.6, (1, 12)),
        ((1000, 2), (20, 20), 0.6, (12, 1)),  # no less than one pixel
        ((30, 30), (1, 1), 0.6, (1, 1)),
        ((1, 1), (20, 20), 0.6, (1, 1)),
        ((20, 20), (20, 20), 1.0, (20, 20)),
        ((30, 10), (20, 40), 0.5, (10, 3)),
    ],
)
def test_a_large_crop_is_reduced_and_keeps_its_shape(
    crop: tuple[int, int], context: tuple[int, int], fraction: float, size: tuple[int, int]
) -> None:
    image, box = paste(
        torch.full((3, *crop), 0.5),
        torch.zeros(3, *context),
        generator=generator(0, "paste"),
        max_fraction=fraction,
    )
    assert image.shape == (3, *context)
    assert (float(box[3] - box[1]), float(box[2] - box[0])) == size
    assert torch.allclose(inside(image, box), torch.tensor(0.5))
    assert float(image.sum()) == pytest.approx(1.5 * size[0] * size[1], rel=1e-4)


def test_several_crops_lie_apart_in_as_few_copies_as_it_takes() -> None:
    context = torch.zeros(3, 64, 64)
    crops = [torch.full((3, 12 + i, 15), (i + 1) / 10) for i in range(8)]
    for seed in range(10):
        canvases = paste_all(crops, context, generator=generator(seed, "paste"), gap=3)
        assert sorted(row for canvas in canvases for row in canvas.rows) == list(range(8))
        assert 1 <= len(canvases) <= 3
        for image, rows, boxes in canvases:
            for row, box in zip(rows, boxes, strict=True):
                assert torch.equal(inside(image, box), crops[row])
            pixels = sum(crops[row].numel() for row in rows)
            assert int((image > 0).sum()) == pixels  # none covers another
            wider = boxes + torch.tensor([0.0, 0, 2.9, 2.9])  # right and below: less than the gap
            assert int((iou(wider, wider) > 0).sum()) == len(rows)


def test_crops_with_just_enough_room_share_an_image() -> None:
    crops = [torch.ones(3, 6, 8)] * 2
    draws = generator(0, "paste")
    for gap, places in ((4, {(0.0, 12.0)}), (5, set())):  # 8 + 4 + 8 is the width
        context = torch.zeros(3, 10, 20)
        made = [paste_all(crops, context, generator=draws, gap=gap) for _ in range(60)]
        shared = {tuple(sorted(one.boxes[:, 0].tolist())) for (one, *more) in made if not more}
        assert shared == places
    lone = paste_all(crops, torch.zeros(3, 10, 10), generator=draws)  # 0.6 of it is all it takes
    assert [canvas.rows for canvas in lone] == [[0], [1]]
    assert paste_all([], torch.zeros(3, 10, 10), generator=draws) == []


def test_refused() -> None:
    context, draws = torch.zeros(3, 10, 10), generator(0)
    for fraction in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="max_fraction = "):
            paste(torch.ones(3, 2, 2), context, generator=draws, max_fraction=fraction)
    with pytest.raises(ValueError, match=r"crop must be a float32 tensor \(3, h, w\)"):
        paste(torch.ones(3, 0, 2), context, generator=draws)
    with pytest.raises(ValueError, match="context must be"):
        paste(torch.ones(3, 2, 2), context[0], generator=draws)
    with pytest.raises(ValueError, match="box must be one float32 box"):
        cut(context, torch.zeros(1, 4))
