"""Cutting and pasting: where a crop lies, how large it is, and what else of the image changes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.papers.ssm import cut, paste, paste_all
from almining.papers.ssm.pasting import Edge
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


@pytest.mark.parametrize("edge", ["feather", "poisson"])
def test_a_seam_is_softened_and_nothing_else_changes(edge: Edge) -> None:
    crop, context = torch.full((3, 20, 24), 0.7), torch.full((3, 64, 64), 0.5)
    crop[:, 8:12, 8:16] = 0.4
    kept, box = paste(crop, context, generator=generator(1, "paste"), edge="hard")
    image, same = paste(crop, context, generator=generator(1, "paste"), edge=edge)
    assert torch.equal(box, same) and torch.equal(inside(kept, box), crop)
    around = image.clone()
    inside(around, box)[:] = 0.5
    assert torch.equal(around, context) and bool((context == 0.5).all())
    found, steps = inside(image, box), {}
    for name, one in (("hard", crop), (edge, found)):
        steps[name] = float((one[:, 0] - 0.5).abs().mean())
    assert steps[edge] < 0.3 * steps["hard"]
    assert float(found[:, 9, 10].mean()) < float(found[:, 5, 10].mean()) - 0.25  # what is in it


def test_a_feather_by_hand() -> None:
    image, box = paste(torch.ones(3, 11, 11), torch.zeros(3, 40, 40), generator=generator(0, "p"),
                       edge="feather")  # fmt: skip
    row = [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert inside(image, box)[0, 5].tolist() == pytest.approx(row)
    assert inside(image, box)[0, 0].tolist() == pytest.approx([0.2] * 11)


def test_seamless_cloning_solves_its_equation() -> None:
    draws = generator(0, "pixels")
    context = 0.45 + 0.1 * torch.rand(3, 40, 48, generator=draws)
    crop = 0.45 + 0.1 * torch.rand(3, 9, 14, generator=draws)
    image, box = paste(crop, context, generator=generator(3, "paste"), edge="poisson")
    left, top, right, bottom = map(int, box.tolist())
    assert 0 < left and right < 48 and 0 < top and bottom < 40
    apart = torch.zeros_like(image)  # harmonic inside, around it what the crop would have to be
    apart[:, top:bottom, left:right] = inside(image, box) - crop
    apart[:, top - 1, left:right] = context[:, top - 1, left:right] - crop[:, 0]
    apart[:, bottom, left:right] = context[:, bottom, left:right] - crop[:, -1]
    apart[:, top:bottom, left - 1] = context[:, top:bottom, left - 1] - crop[:, :, 0]
    apart[:, top:bottom, right] = context[:, top:bottom, right] - crop[:, :, -1]
    mean = (apart[:, :-2, 1:-1] + apart[:, 2:, 1:-1] + apart[:, 1:-1, :-2] + apart[:, 1:-1, 2:]) / 4
    rows, columns = slice(top - 1, bottom - 1), slice(left - 1, right - 1)
    assert torch.allclose(mean[:, rows, columns], apart[:, top:bottom, left:right], atol=1e-5)


@pytest.mark.parametrize("edge", ["feather", "poisson"])
@pytest.mark.parametrize(("size", "fraction"), [((1, 1), 0.6), ((3, 1), 0.6), ((30, 30), 1.0)])
def test_a_soft_seam_of_any_size(edge: Edge, size: tuple[int, int], fraction: float) -> None:
    context, crop = torch.full((3, 16, 16), 0.25), torch.full((3, *size), 1.0)
    more = {"max_fraction": fraction, "edge": edge}
    image, _ = paste(crop, context, generator=generator(0, "p"), **more)  # type: ignore[arg-type]
    assert bool(image.isfinite().all()) and float(image.min()) >= 0.25 and float(image.max()) <= 1
    if fraction == 1 and edge == "poisson":  # it fills the image: there is nothing to match
        assert torch.allclose(image, torch.ones_like(image))


def test_refused() -> None:
    context, draws = torch.zeros(3, 10, 10), generator(0)
    for fraction in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="max_fraction = "):
            paste(torch.ones(3, 2, 2), context, generator=draws, max_fraction=fraction)
    with pytest.raises(ValueError, match=r"crop must be a float32 tensor \(3, h, w\)"):
        paste(torch.ones(3, 0, 2), context, generator=draws)
    with pytest.raises(ValueError, match="edge = 'soft': use one of hard, feather, poisson"):
        paste(torch.ones(3, 2, 2), context, generator=draws, edge="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="context must be"):
        paste(torch.ones(3, 2, 2), context[0], generator=draws)
    with pytest.raises(ValueError, match="box must be one float32 box"):
        cut(context, torch.zeros(1, 4))
