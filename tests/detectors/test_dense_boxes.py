"""What pixels of the maps stand for: targets, the choice of negatives, and boxes from maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from almining.boxes import flip
from almining.detectors.dense_boxes import (
    PAPER,
    assign,
    choose,
    decode,
    overlaps,
    scaled,
)
from almining.records import Target
from almining.rng import generator
from tests.fakes import boxes, labels, target
from tests.oracles import pixel_labels

SIZES = [(8.0, 4.0), (4.0, 2.0)]


def test_default_boxes_grow_with_the_image() -> None:
    assert scaled(PAPER, 480) == list(PAPER) and scaled(PAPER, 120)[4] == (55 / 4, 31 / 4)


def test_overlap_by_hand() -> None:
    # default boxes 2 x 2 in an image of one row: inside are x 0..1.5, 0.5..2.5, 1.5..3.5, 2.5..4
    (found,) = overlaps(torch.tensor([1.0, 0, 3, 1]), [(2.0, 2.0)], (1, 4))
    assert found[0].tolist() == pytest.approx([0.5 / 3, 1.5 / 2.5, 1.5 / 2.5, 0.5 / 3])


def test_a_box_without_area_in_the_image_overlaps_nothing() -> None:
    for one in ([3.0, 3, 3, 9], [50.0, 0, 60, 9], [-9.0, 0, -2, 9]):
        assert not overlaps(torch.tensor(one), SIZES, (12, 10)).any()


def test_labels_by_hand() -> None:
    # a box exactly as default box 1 at row 4, column 3
    known = target((2.5, 2.5, 4.5, 6.5))
    found = assign(known, SIZES, (12, 9), 1)[:, 0]
    assert found[1, 4, 3] == 1
    # a pixel to the right shares half: 1/3 of the union, below 0.4; one below: 3/5, between
    assert found[1, 4, 4] == 0 and found[1, 5, 3] == found[1, 3, 3] == -1
    assert (found == 1).sum() == 1 and found[1, 6, 3] == 0
    # the larger box, around the same centre, covers 4 times as much: 1/4
    assert (found[0] == 0).all()


CASES = {
    "one": target((2, 2, 6, 9)),
    "two that touch": target((2, 2, 6, 9), (5, 3, 9, 8)),
    "cut by the border": target((-3, 4, 2, 12), (7, 9, 15, 20)),
    "outside": target((40, 40, 50, 50)),
    "without area": target((4, 4, 4, 9)),
    "tiny": target((4.6, 4.6, 5.2, 4.9)),
    "larger than the image": target((-20, -20, 60, 60)),
    "two classes": Target(boxes((1, 1, 5, 9), (2, 2, 6, 9)), labels(1, 2)),
    "ignored": Target(boxes((1, 1, 9, 9)), labels(1), ignore=torch.tensor([True])),
    "one inside an ignored one": Target(
        boxes((0, 0, 10, 10), (2, 1, 6, 9)), labels(2, 2), ignore=torch.tensor([True, False])
    ),
    "empty": target(),
    "unlabelled": Target.unknown(),
    "tagged": Target.unknown(tags={2}),
    "tagged with nothing": Target.unknown(tags=()),
    "sparse": target((2, 2, 6, 9), complete=False),
    "sparse with a negative": target(
        (2, 2, 6, 9), complete=False, negatives=boxes((6, 2, 10, 9), (3, 3, 7, 10), (40, 4, 44, 9))
    ),
    "complete with a negative": target((2, 2, 6, 9), negatives=boxes((6, 2, 10, 9))),
    "one class known to be absent": Target(
        boxes((2, 2, 6, 9)), labels(1), absent={2}, complete=False
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_the_loop(name: str) -> None:
    known, size = CASES[name], (12, 10)
    found = assign(known, SIZES, size, 2)
    plain = {
        "boxes": known.boxes.tolist(),
        "labels": known.labels.tolist(),
        "ignore": known.ignore.tolist(),
        "negatives": known.negatives.tolist(),
        "complete": known.complete,
        "absent": {label for label in (1, 2) if known.known_absent(label)},
    }
    wanted = pixel_labels(plain, SIZES, size, 2)
    assert found.dtype == torch.int8 and found.shape == (2, 2, *size)
    assert {place: int(found[place]) for place in wanted} == wanted


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_the_loop_on_random_boxes(seed: int) -> None:
    draw = generator(seed, "boxes")
    corners = torch.rand(6, 2, generator=draw) * 14 - 2
    known = Target(
        torch.cat([corners, corners + torch.rand(6, 2, generator=draw) * 9], dim=1),
        torch.randint(1, 3, (6,), generator=draw),
        ignore=torch.rand(6, generator=draw) < 0.3,
    )
    found = assign(known, SIZES, (11, 13), 2)
    plain = {name: getattr(known, name).tolist() for name in ("boxes", "labels", "ignore")}
    plain |= {"negatives": [], "complete": True, "absent": set()}
    wanted = pixel_labels(plain, SIZES, (11, 13), 2)
    differ = [place for place in wanted if int(found[place]) != wanted[place]]
    assert not differ and {-1, 0, 1} <= set(wanted.values())


def test_every_box_with_area_in_the_image_has_a_positive_pixel() -> None:
    for corner in torch.rand(40, 2, generator=generator(0, "corners")) * 10:
        x, y = corner.tolist()
        one = target((x, y, x + 0.3, y + 0.9))
        assert (assign(one, SIZES, (12, 12), 1) == 1).any()


def test_labels_of_a_mirrored_image_are_mirrored() -> None:
    known = target((1.2, 2, 6, 9), (5, 0, 8.5, 4))
    mirrored = Target(flip(known.boxes, 10), known.labels)
    found = assign(known, SIZES, (12, 10), 1)
    assert torch.equal(assign(mirrored, SIZES, (12, 10), 1), found.flip(3))


def test_the_order_of_boxes_does_not_matter() -> None:
    known = Target(
        boxes((1, 1, 9, 9), (2, 2, 6, 9), (4, 0, 8, 7)),
        labels(1, 1, 1),
        ignore=torch.tensor([True, False, False]),
    )
    turned = known.select(torch.tensor([2, 1, 0]))
    assert torch.equal(assign(known, SIZES, (12, 10), 1), assign(turned, SIZES, (12, 10), 1))


def test_negatives_are_fifteen_for_each_positive() -> None:
    truth = torch.zeros(4000, dtype=torch.int8)
    truth[:120] = 1
    truth[120:1000] = -1
    chosen = choose(truth, 15, 100, generator(0, "choose"))
    assert (truth[chosen] == 1).sum() == 120 and (truth[chosen] == 0).sum() == 1800
    assert len(chosen.unique()) == len(chosen)
    again = choose(truth, 15, 100, generator(1, "choose"))
    assert not torch.equal(chosen.sort().values, again.sort().values)


@pytest.mark.parametrize(
    ("positive", "negative", "wanted"),
    [(0, 9000, 1500), (3, 9000, 1500), (101, 9000, 1515), (50, 40, 40), (0, 0, 0), (2, 0, 0)],
)
def test_how_many_negatives_there_are(positive: int, negative: int, wanted: int) -> None:
    truth = torch.cat([torch.ones(positive), torch.zeros(negative), -torch.ones(5)]).to(torch.int8)
    chosen = choose(truth, 15, 100, generator(0, "choose"))
    assert (truth[chosen] == 0).sum() == wanted and (truth[chosen] == 1).sum() == positive


def test_every_negative_may_be_drawn() -> None:
    truth = torch.zeros(400, dtype=torch.int8)
    for ratio in (1, 3):  # drawn one by one, and shuffled
        drawn = torch.zeros(400)
        for seed in range(60):
            drawn[choose(truth, ratio, 100, generator(seed, "choose"))] += 1
        assert drawn.sum() == 60 * 100 * ratio and drawn.min() > 0
        assert abs(float(drawn[:200].sum() / drawn.sum()) - 0.5) < 0.02


def peaks(*places: tuple[int, int, int, int, float], size: tuple[int, int] = (20, 30)) -> Tensor:
    probs = torch.full((2, 2, *size), 0.01)
    for k, label, y, x, value in places:
        probs[k, label, y, x] = value
    return probs


OPTIONS = {"min_score": 0.05, "nms_iou": 0.4, "most": 10}


def test_boxes_from_maps_by_hand() -> None:
    found = decode(peaks((1, 0, 9, 12, 0.5), (0, 1, 10, 20, 0.8)), SIZES, **OPTIONS)
    assert found.labels.tolist() == [2, 1]
    assert found.boxes.tolist() == [[18.5, 6.5, 22.5, 14.5], [11.5, 7.5, 13.5, 11.5]]
    rows = [[0.2, 0.01, 0.8], [0.5, 0.5, 0.01]]
    assert torch.allclose(found.probs, torch.tensor(rows)) and found.scores[0] == found.probs[0, 2]


def test_neighbours_overlapping_boxes_and_low_scores_go() -> None:
    close = peaks((0, 0, 10, 10, 0.9), (0, 0, 10, 11, 0.8), (0, 0, 12, 10, 0.7))
    assert len(decode(close, SIZES, **OPTIONS)) == 1
    other = peaks((0, 0, 10, 10, 0.9), (0, 1, 10, 10, 0.7), (0, 0, 10, 14, 0.6))
    assert decode(other, SIZES, **OPTIONS).labels.tolist() == [1, 2, 1]
    assert len(decode(other, SIZES, **(OPTIONS | {"min_score": 0.65}))) == 2
    assert len(decode(other, SIZES, **(OPTIONS | {"most": 1}))) == 1
    assert len(decode(peaks(), SIZES, **OPTIONS)) == 0


def test_boxes_are_cut_to_the_image_and_flat_maps_are_bounded() -> None:
    found = decode(peaks((0, 0, 0, 0, 0.9)), SIZES, **OPTIONS)
    assert found.boxes.tolist() == [[0, 0, 2.5, 4.5]]
    flat = decode(torch.full((2, 2, 200, 300), 0.5), SIZES, **OPTIONS)
    assert len(flat) == 10


def test_a_score_has_to_exceed_the_least() -> None:
    probs = torch.zeros(1, 1, 9, 9)
    probs[0, 0, 4, 4] = 0.5
    counts = [
        len(decode(probs, [(4.0, 2.0)], min_score=least, nms_iou=0.5, most=9))
        for least in (0.25, 0.5)
    ]
    assert counts == [1, 0]
