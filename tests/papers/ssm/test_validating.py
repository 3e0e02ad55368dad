"""Regions pasted into other images and looked for there, in every way; and the bad inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Pool
from almining.data.proposals import Grid, cached
from almining.data.quarantine import Quarantine
from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.papers.ssm import (
    WAYS,
    Region,
    Validation,
    Way,
    consistency,
    cut,
    lacking,
    paste,
    revisit,
    validate,
    validating,
)
from almining.records import Detections, Target
from almining.rng import generator

CLASSES = ("a", "b", "c")
COLOURS = torch.eye(3)
BOX = torch.tensor([4.0, 4, 12, 12])


class Spots:
    """Grey images, in each of which one spot has the colour of class `id % 3 + 1`."""

    def load(self, image_id: str) -> Tensor:
        image = torch.full((3, 40, 48), 0.5)
        image[:, 4:12, 4:12] = COLOURS[int(image_id) % 3][:, None, None]
        return image


class Finder(nn.Module):
    """Finds every spot of a pure colour, and is as sure of it as it was told to be."""

    def __init__(self, sure: float = 0.8, blind: bool = False) -> None:
        super().__init__()
        self.classes, self.sure, self.blind = CLASSES, sure, blind
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []  # every image it was shown
        self.calls = 0

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.seen += images
        self.calls += 1
        return [self._found([] if self.blind else _spots(image)) for image in images]

    def regions(self, images: list[Tensor], boxes: list[Tensor]) -> list[Detections]:
        self.seen += images
        self.calls += 1
        return [
            self._found([(b, int(_middle(image, b).argmax()) + 1) for b in some.tolist()])
            for image, some in zip(images, boxes, strict=True)
        ]

    def _found(self, spots: list[tuple[Any, int]]) -> Detections:
        probs = torch.zeros(len(spots), 4)
        for row, (_, label) in enumerate(spots):
            probs[row, label] = self.sure
        probs[:, 0] = 1 - self.sure
        boxes = torch.tensor([box for box, _ in spots]).reshape(-1, 4).float()
        labels = torch.tensor([label for _, label in spots]).long()
        return Detections(boxes, labels, probs[:, 1:].amax(dim=1), probs=probs)


def _middle(image: Tensor, box: list[float]) -> Tensor:
    return image[:, int(box[1] + box[3]) // 2, int(box[0] + box[2]) // 2]


def _spots(image: Tensor) -> list[tuple[list[float], int]]:
    """Find pure rectangles of each class's colour, told apart by the columns between them."""
    found = []
    for label, colour in enumerate(COLOURS, start=1):
        rest = (image - colour[:, None, None]).abs().amax(dim=0) < 1e-3
        while bool(rest.any()):
            top, left = rest.nonzero()[0].tolist()
            width = int((~rest[top, left:]).nonzero()[0]) if not rest[top, left:].all() else None
            right = left + width if width else image.shape[2]
            column = rest[top:, left]
            bottom = top + int((~column).nonzero()[0]) if not column.all() else image.shape[1]
            rest[top:bottom, left:right] = False
            found.append(([left, top, right, bottom], label))
    return found


def spots(n: int = 9, *, complete: int = 9) -> Pool:
    """Images 0...n-1 of spots, of which the first are complete and nothing is known of the rest."""
    targets = {
        str(i): Target(BOX[None], torch.tensor([i % 3 + 1])) if i < complete else Target.unknown()
        for i in range(n)
    }
    return Pool(CLASSES, targets, Spots())


def run(detector: Any, pool: Pool, regions: list[Region], **options: Any) -> list[Validation]:
    return validate(detector, pool, regions, generator=generator(0, "validate"), **options)


ASKED = [Region(str(i), BOX, i % 3 + 1) for i in (9, 10, 11, 12, 13)]


@pytest.mark.parametrize("way", WAYS)
def test_a_spot_is_found_again_in_every_way(way: str) -> None:
    pool = spots(15)
    for region, found in zip(ASKED, run(Finder(), pool, ASKED, way=way), strict=True):
        assert len(found.contexts) == len(set(found.contexts)) == 5
        assert set(found.contexts) <= set(lacking(pool)[region.label])
        assert found.pasted.shape == (5, 4) and bool(found.matched.all())
        assert found.terms.tolist() == pytest.approx([0.8] * 5)
        assert found.consistency == pytest.approx(0.8)


@pytest.mark.parametrize("way", WAYS)
def test_the_wrong_class_is_not_found(way: str) -> None:
    pool = spots(15)
    (found,) = run(Finder(), pool, [Region("9", BOX, 2)], way=way)
    assert found.consistency == 0.0 and bool(found.matched.all())  # found, but as something else


def test_it_is_what_pasting_by_hand_gives() -> None:
    pool, region = spots(15), ASKED[0]
    detector, draws = Finder(), generator(0, "validate")
    (found,) = run(detector, pool, [region], images=3)
    crop, seen, places = cut(pool.image("9"), region.box), [], []
    suitable = lacking(pool)[region.label]
    order = torch.randperm(len(suitable), generator=draws)[:3].tolist()
    assert found.contexts == tuple(suitable[i] for i in order)
    for shown, context in zip(list(detector.seen), found.contexts, strict=True):
        image, box = paste(crop, pool.image(context), generator=draws)
        assert torch.equal(image, shown)
        seen += detector.detect([image])
        places.append(box)
    assert torch.equal(torch.stack(places), found.pasted)
    assert consistency(seen, torch.stack(places), region.label) == found.consistency


def test_ways_that_paste_alike_and_how_many_images_each_looks_at() -> None:
    pool, looked, calls = spots(15), {}, {}
    pasted = {}
    for way in WAYS:
        detector = Finder()
        pasted[way] = [one.pasted for one in run(detector, pool, ASKED, way=way)]
        looked[way], calls[way] = len(detector.seen), detector.calls
    for way in ("batched", "regions"):
        assert all(map(torch.equal, pasted[way], pasted["single"]))
    assert looked["single"] == calls["single"] == looked["batched"] == looked["regions"] == 25
    assert calls["batched"] == calls["regions"] == 3
    assert looked["packed"] == looked["packed_regions"] <= 15  # 2 + 2 + 1 of a class
    assert Finder().calls == 0 and run(Finder(), pool, []) == []


def test_classes_share_images_only_where_enough_suit_all_of_them() -> None:
    pool = spots(15)
    absent = lacking(pool)
    for images, packs in ((3, 2), (4, 3)):  # three images lack two of the classes, none all three
        made = validating._packs(ASKED, absent, 8, images)
        assert len(made) == packs
        for members, suitable in made:
            for row in members:
                assert set(suitable) <= set(absent[ASKED[row].label])
            assert len(suitable) >= images
    assert [len(members) for members, _ in validating._packs(ASKED, absent, 2, 4)] == [2, 2, 1]
    assert len(validating._packs(ASKED, absent, 1, 3)) == 5


@pytest.mark.parametrize("way", ["packed", "packed_regions"])
def test_packed_pastes_go_only_where_their_class_is_absent(way: str) -> None:
    pool, detector = spots(15), Finder()
    for region, one in zip(ASKED, run(detector, pool, ASKED, way=way, images=3), strict=True):
        assert len(one.contexts) == 3
        assert all(pool.target(context).known_absent(region.label) for context in one.contexts)
        assert one.consistency == pytest.approx(0.8)
    assert len(detector.seen) < 15


def test_a_region_never_goes_into_its_own_image() -> None:
    pool, asked = spots(9), [Region(str(i), BOX, (i + 1) % 3 + 1) for i in range(9)]
    for way in ("single", "packed"):
        for region, one in zip(asked, run(Finder(), pool, asked, way=way, images=9), strict=True):
            assert region.image_id not in one.contexts and len(one.contexts) >= 3


def test_regions_share_images_only_where_their_own_leave_enough() -> None:
    targets = {str(i): Target.unknown([1 + i % 3]) for i in range(9)}  # tagged: each lacks a class
    pool = Pool(CLASSES, targets, Spots())
    asked = [Region(str(i), BOX, 1) for i in (1, 2, 4, 5, 7, 8)]  # all that lack class 1
    for way in WAYS:
        assert [len(one.contexts) for one in run(Finder(), pool, asked, way=way)] == [5] * 6


class Grown(Finder):
    """Asks a proposer first, as detectors on given proposals do."""

    proposer: Any

    def detect(self, images: list[Tensor]) -> list[Detections]:
        for image in images:
            self.proposer(image)
        return super().detect(images)


def test_what_is_proposed_for_a_paste_is_not_kept(tmp_path: Path) -> None:
    pool, detector = spots(15), Grown()
    detector.proposer = cached(Grid(sizes=(0.5,)), tmp_path)
    run(detector, pool, ASKED)
    assert list(tmp_path.iterdir()) == []
    found = detector.detect([pool.image("9")])
    assert len(list(tmp_path.iterdir())) == 1
    how = {"generator": generator(0, "revisit"), "how": "rescale"}
    revisit(detector, [pool.image("9")], found, **how)
    assert len(list(tmp_path.iterdir())) == 1


# bad inputs


@pytest.mark.parametrize("way", WAYS)
def test_without_a_suitable_image_a_region_is_undetermined(way: str) -> None:
    detector = Finder()
    same = Pool(CLASSES, {str(i): Target(BOX[None], torch.tensor([1])) for i in (0, 3)}, Spots())
    for pool in (spots(9, complete=0), same):
        (found,) = run(detector, pool, [Region("3", BOX, 1)], way=way)
        assert found.consistency is None and found.contexts == ()
        assert found.pasted.shape == (0, 4) and len(found.terms) == len(found.matched) == 0
    assert detector.seen == []
    (fewer,) = run(detector, spots(15, complete=3), [ASKED[0]], way=way)
    assert len(fewer.contexts) == 2 and fewer.consistency == pytest.approx(0.8)  # at most N


@pytest.mark.parametrize("way", WAYS)
def test_crops_of_any_size_from_anywhere(way: str) -> None:
    pool = spots(15)
    some = [
        Region("9", torch.tensor([0.0, 0, 48, 40]), 1),  # larger than any image may take
        Region("9", torch.tensor([4.0, 4, 5, 5]), 1),  # one pixel
        Region("9", torch.tensor([4.0, 4, 4.25, 4.25]), 1),  # less
        Region("9", torch.tensor([40.0, 30, 48, 40]), 1),  # at the border
        Region("9", torch.tensor([40.0, 30, 60, 60]), 1),  # beyond it
        Region("9", torch.tensor([4.0, 4, 4, 12]), 1),  # no area
        Region("9", torch.tensor([50.0, 4, 60, 12]), 1),  # outside
    ]
    found = run(Finder(), pool, some, way=way)
    sizes = [(one.pasted[:, 2:] - one.pasted[:, :2]).unique(dim=0).tolist() for one in found]
    assert sizes == [[[28, 24]], [[1, 1]], [[1, 1]], [[8, 10]], [[8, 10]], [], []]
    assert [one.consistency is None for one in found] == [False] * 5 + [True] * 2
    for one in found[:5]:
        assert float(one.pasted.min()) >= 0 and bool((one.pasted[:, 2] <= 48).all())
        assert bool((one.pasted[:, 3] <= 40).all())


def test_nothing_detected_is_a_failure_and_not_undetermined() -> None:
    (found,) = run(Finder(blind=True), spots(15), ASKED[:1])
    assert found.consistency == 0.0 and not bool(found.matched.any())
    (found,) = run(Finder(blind=True), spots(15), ASKED[:1], failures_as_zero=False)
    assert found.consistency == 0.0


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_certain_probabilities(sure: float) -> None:
    for way in WAYS:
        (found,) = run(Finder(sure), spots(15), ASKED[:1], way=way)
        assert found.consistency == sure


class Damaged(Spots):
    """Spots of which some cannot be read."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def load(self, image_id: str) -> Tensor:
        if image_id in self.broken:
            raise BrokenImageError(image_id, Path(f"{image_id}.png"), "cut short")
        return super().load(image_id)


def damaged(pool: Pool, *broken: str) -> Pool:
    return Pool(CLASSES, {i: pool.target(i) for i in pool.ids}, Damaged(*broken))


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_image_is_pasted_into_no_longer(way: str) -> None:
    pool, broken = spots(220, complete=6), ("1", "190")
    asked = [*ASKED, Region("190", BOX, 190 % 3 + 1), Region("191", BOX, 191 % 3 + 1)]
    with pytest.warns(UserWarning, match="2 broken images were set aside while validating: "):
        found = run(Finder(), damaged(pool, *broken), asked, way=way, suitable=lacking(pool))
    lost = found.pop(5)
    assert lost.consistency is None and lost.contexts == ()
    sound = pool.subset([i for i in pool.ids if i not in broken])
    again = run(Finder(), sound, asked[:5] + asked[6:], way=way)
    assert [one.contexts for one in found] == [one.contexts for one in again]
    assert all(torch.equal(a.pasted, b.pasted) for a, b in zip(found, again, strict=True))
    assert all("1" not in one.contexts and one.consistency is not None for one in found)


def test_too_many_broken_images_stop_it_and_a_run_hears_of_each() -> None:
    pool = spots(220, complete=6)
    with pytest.raises(DataError, match="cut short"):
        run(Finder(), damaged(pool, "1", "2", "3"), ASKED)
    aside = Quarantine(of=220)
    with aside, pytest.raises(BrokenImageError, match=r"image '1': 1\.png: cut short"):
        run(Finder(), damaged(pool, "1"), ASKED)
    found = aside.survive(lambda known: run(Finder(), known, ASKED), damaged(pool, "1"))
    assert aside.ids == ("1",) and found[0].consistency == pytest.approx(0.8)


def test_crops_of_images_from_elsewhere() -> None:
    crop = cut(spots().image("0"), BOX)
    (found,) = run(Finder(), spots(), [Region("mine", BOX, 1)], crops=[crop])
    assert found.consistency == pytest.approx(0.8) and len(found.contexts) == 5
    with pytest.raises(ValueError, match="2 crops for 1 regions"):
        run(Finder(), spots(), [Region("mine", BOX, 1)], crops=[crop, crop])


def test_the_seam_is_handed_on() -> None:
    (hard,), (soft,) = (run(Finder(), spots(15), ASKED[:1], edge=e) for e in ("hard", "feather"))
    assert torch.equal(hard.pasted, soft.pasted)
    assert (
        hard.consistency == pytest.approx(0.8) and soft.consistency == 0
    )  # no pure colour is left


def test_refused() -> None:
    pool, found = spots(15), Finder()

    class Bare(nn.Module):
        def detect(self, images: list[Tensor]) -> list[Detections]:
            return []

    for detector, asked, options, message in (
        (found, ASKED, {"way": "fast"}, "use one of single, batched"),
        (found, ASKED, {"way": Way(pack=0)}, "way.pack = 0"),
        (found, ASKED, {"images": 0}, "images = 0"),
        (found, ASKED, {"max_fraction": 2.0}, "max_fraction = 2.0"),
        (found, ASKED, {"edge": "soft"}, "edge = 'soft'"),
        (Bare(), ASKED, {"way": "regions"}, "Bare has no regions"),
        (found, [Region("9", BOX, 4)], {}, r"regions\[0\].label = 4, but the pool has 3 classes"),
        (found, [Region("9", BOX, 2)], {"suitable": {1: []}}, r"no images for class 2 of regions"),
        (found, [Region("9", BOX[None], 1)], {}, r"regions\[0\].box must be one float32 box"),
        (found, [Region("99", BOX, 1)], {}, "no image '99' in this pool"),
    ):
        with pytest.raises(ValueError, match=message):
            run(detector, pool, asked, **options)


@pytest.mark.parametrize("way", ["packed", "packed_regions"])
def test_a_trained_detector_knows_a_right_box_from_a_wrong_one(way: str) -> None:
    pool, detector = make_scenes(12, seed=21), load_demo("faster_rcnn")
    right, wrong = [], []
    for image_id in pool.ids[:4]:
        target = pool.target(image_id)
        box, label = target.boxes[0], int(target.labels[0])
        right.append(Region(image_id, box, label))
        wrong.append(Region(image_id, box, label % len(pool.classes) + 1))
    found = run(detector, pool, right + wrong, way=way, images=3)
    values = [one.consistency for one in found]
    assert None not in values
    assert sum(values[:4]) > sum(values[4:]) + 1.2  # type: ignore[arg-type]
