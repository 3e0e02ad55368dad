"""Which regions are looked into, how consistent they are and what they are taken for, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.evaluate import mined
from almining.papers.ssm import Config, candidates, look, looking, pseudo_labelled, take
from almining.papers.ssm.contexts import lacking
from almining.papers.ssm.finding import Rest, ranked_among, taught
from almining.papers.ssm.looking import check_independent, consistencies, find, look_to_ask
from almining.plain import from_plain, to_plain
from almining.records import Detections, Target
from almining.rng import generator
from tests.papers.ssm.spotted import LEFT, RIGHT, Spots, Spotter, pool_of, truth_of

CONFIG = Config(min_score=0.3)


def detections(
    *rows: tuple[tuple[float, ...], tuple[float, ...]], labels: Any = None
) -> Detections:
    """Boxes and φ; under the most probable class unless labels are given."""
    phi = torch.tensor([probs for _, probs in rows]).reshape(-1, 3)
    named = phi.argmax(dim=1) + 1 if labels is None else torch.tensor(labels)
    return Detections(
        torch.tensor([box for box, _ in rows]).reshape(-1, 4).float(),
        named,
        phi.gather(1, named[:, None] - 1)[:, 0],
        probs=torch.cat([1 - phi.amax(dim=1, keepdim=True), phi], dim=1)
        if len(rows)
        else torch.zeros(0, 4),
    )


def boxes_of(found: Detections) -> list[tuple[float, ...]]:
    return [tuple(row) for row in found.boxes.tolist()]


# candidates


def test_one_region_where_several_detections_overlap() -> None:
    found = detections(
        ((0, 0, 10, 10), (0.6, 0.1, 0.1)),
        ((0, 1, 10, 10), (0.1, 0.7, 0.1)),
        ((20, 0, 30, 10), (0.3, 0.1, 0.1)),  # not above 0.3
        ((20, 20, 30, 30), (0.1, 0.1, 0.31)),
        ((40, 40, 40, 50), (0.9, 0.1, 0.1)),  # no area
    )
    some = candidates(found, Target.unknown(), CONFIG)
    assert boxes_of(some) == [(0, 1, 10, 10), (20, 20, 30, 30)]
    assert some.labels.tolist() == [2, 3] and some.probs is not None
    empty = candidates(detections(), Target.unknown(), CONFIG)
    assert len(empty) == 0


def test_a_region_goes_under_its_most_probable_class() -> None:
    both = (0.6, 0.7, 0.1)
    boxes = ((0, 0, 10, 10), (0, 0, 10, 12), (20, 0, 30, 12))  # the last regressed for a, alone
    found = detections(*((box, both) for box in boxes), labels=[1, 2, 1])
    assert boxes_of(candidates(found, Target.unknown(), CONFIG)) == [(0, 0, 10, 12)]


def test_what_a_person_said_is_left_out() -> None:
    found = detections(
        *(((x, 0, x + 10, 10), (0.9, 0.1, 0.1)) for x in (0, 20, 40, 60)),
        ((80, 0, 90, 10), (0.1, 0.1, 0.8)),
    )
    target = Target(
        torch.tensor([[0.0, 0, 10, 8], [20, 0, 30, 10]]),
        torch.tensor([3, 1]),
        origin=["human", "mined:ceal"],
        negatives=torch.tensor([[40.0, 0, 50, 10], [60, 0, 70, 4]]),
        complete=False,
    )
    kept = candidates(found, target, CONFIG)
    assert [box[0] for box in boxes_of(kept)] == [20, 60, 80]
    tagged = candidates(found, Target.unknown({3}), CONFIG)  # class 1 is not in the image
    assert [box[0] for box in boxes_of(tagged)] == [80]


def test_without_probabilities() -> None:
    bare = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), torch.tensor([0.9]))
    with pytest.raises(ValueError, match="probs = None"):
        candidates(bare, Target.unknown(), CONFIG)


# consistencies


@pytest.mark.parametrize("way", ["single", "packed"])
def test_the_yellow_spot_is_not_found_elsewhere(way: str) -> None:
    pool = pool_of()
    found = look(Spotter(), pool, replace(CONFIG, way=way), seed=0, progress="")
    assert list(found) == ["100", "101", "102"]
    for image_id, (regions, scores) in found.items():
        assert boxes_of(regions) == [LEFT, RIGHT]
        assert regions.labels.tolist() == [int(image_id) % 3 + 1, 1]
        assert scores.tolist() == pytest.approx([0.9, 0.0])
    only = look_to_ask(Spotter(), pool, replace(CONFIG, way=way), seed=0, progress="")
    for regions, scores, made in only.values():
        assert boxes_of(regions) == [RIGHT] and scores.tolist() == [0.0]
        (one,) = made
        assert len(one.contexts) == 5 and one.terms.tolist() == [0.0] * 5 and one.consistency == 0
    other = replace(CONFIG, validation="confidence")
    kept = look_to_ask(Spotter(), pool, other, seed=0, progress="").values()
    assert [made for _, _, made in kept] == [[]] * 3


def test_what_came_of_pastes_passes_from_rank_to_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = look_to_ask(Spotter(), pool_of(), CONFIG, seed=0, progress="")
    alone = looking.stream

    def shared(*args: Any, **more: Any) -> Any:
        return ((i, from_plain(to_plain(one))) for i, one in alone(*args, **more))

    monkeypatch.setattr(looking, "stream", shared)
    again = look_to_ask(Spotter(), pool_of(), CONFIG, seed=0, progress="")
    for (*_, (one,)), (*_, (other,)) in zip(plain.values(), again.values(), strict=True):
        assert one.contexts == other.contexts and one.consistency == other.consistency
        assert one.pasted.equal(other.pasted) and one.terms.equal(other.terms)


def test_undetermined_is_nan_and_confidence_needs_no_image() -> None:
    pool = pool_of(complete=0)
    for regions, scores in look(Spotter(), pool, CONFIG, seed=0, progress="").values():
        assert len(regions) == 2 and bool(scores.isnan().all())
    sure = look(Spotter(), pool, replace(CONFIG, validation="confidence"), seed=0, progress="")
    assert [scores.tolist() for _, scores in sure.values()] == [pytest.approx([0.9, 0.8])] * 3


def test_a_seam_may_be_soft() -> None:
    for edge, found in (("hard", True), ("feather", False)):  # no pure colour is left
        seen = look(Spotter(), pool_of(), replace(CONFIG, edge=edge), seed=0, progress="")
        assert bool(torch.cat([score for _, score in seen.values()]).sum() > 0) == found


def test_crops_come_from_the_images_that_are_given() -> None:
    pool, draws = pool_of(), generator(0)
    image = torch.full((3, 40, 48), 0.5)
    image[2, 4:12, 4:12] = 1.0
    image[:2, 4:12, 4:12] = 0.0  # blue here, in the pool green
    found = [detections((LEFT, (0.1, 0.1, 0.9)))]
    (value,) = consistencies(
        Spotter(), pool, ["100"], [image], found, CONFIG, generator=draws, suitable=lacking(pool)
    )
    assert value.tolist() == pytest.approx([0.9])


def test_find_looks_at_what_is_not_complete() -> None:
    found = find(Spotter(), pool_of(), CONFIG, progress="")
    assert list(found) == ["100", "101", "102"] and all(len(one) == 2 for one in found.values())
    assert find(Spotter(), pool_of(unlabelled=0), CONFIG, progress="") == {}
    assert list(find(Spotter(), pool_of(), CONFIG, progress="", ids=["101", "3", "101"])) == ["101"]


class Damaged(Spots):
    """Spots of which two cannot be read."""

    def load(self, image_id: str) -> torch.Tensor:
        if image_id in ("1", "101"):
            raise BrokenImageError(image_id, Path(f"{image_id}.png"), "cut short")
        return super().load(image_id)


def test_broken_images_are_set_aside() -> None:
    known = pool_of(6, 200)
    pool = Pool(known.classes, {i: known.target(i) for i in known.ids}, Damaged())
    ids = ["100", "101", "102"]
    with pytest.warns(UserWarning, match="2 broken images were set aside while looking into"):
        found = look(Spotter(), pool, CONFIG, seed=0, progress="", ids=ids)
    sound = pool.subset([i for i in pool.ids if i not in ("1", "101")])
    again = look(Spotter(), sound, CONFIG, seed=0, progress="", ids=["100", "102"])
    assert list(found) == list(again) == ["100", "102"]
    assert all(torch.equal(found[i][1], again[i][1]) for i in again)


# what regions are taken for


def test_loss_against_consistency_by_hand() -> None:
    found = [
        detections(
            ((0, 0, 9, 9), (0.9, 0.02, 0.02)),  # -log 0.9 = 0.105 <= 0.9 * 0.5
            ((20, 0, 29, 9), (0.6, 0.02, 0.02)),  # -log 0.6 = 0.511 > 0.9 * 0.5
            ((40, 0, 49, 9), (0.6, 0.02, 0.02)),  # 0.511 <= 0.9 * 0.6
            ((60, 0, 69, 9), (0.9, 0.02, 0.02)),  # undetermined
            ((80, 0, 89, 9), (0.9, 0.02, 0.02)),  # zero
            ((0, 20, 9, 29), (0.4, 0.02, 0.02)),  # -log 0.6 <= 0.54: none of the classes
        )
    ]
    scores = [torch.tensor([0.5, 0.5, 0.6, math.nan, 0.0, 0.6], dtype=torch.float64)]
    (said,) = take(found, scores, CONFIG)
    assert said.tolist() == [1, -1, 1, -1, -1, 0]
    (few,) = take(found, scores, replace(CONFIG, per_class=1))
    assert few.tolist() == [-1, -1, 1, -1, -1, -1]  # ties go to the first
    (strict,) = take(found, scores, replace(CONFIG, pace=0.1))
    assert strict.tolist() == [-1] * 6


def test_a_batch_is_ranked_among_the_rest() -> None:
    found = [detections(((0, 0, 9, 9), (0.9, 0.02, 0.02))), detections()]
    scores = [torch.tensor([0.6], dtype=torch.float64), torch.zeros(0, dtype=torch.float64)]
    two = replace(CONFIG, per_class=2)
    for others, labels, expected in (
        ([0.7, 0.8], [1, 1], -1),
        ([0.7, 0.8], [1, 2], 1),
        ([0.7, 0.6], [1, 1], -1),
        ([0.7, 0.5], [1, 1], 1),
    ):
        rest = Rest(torch.zeros(2).long(), torch.tensor(labels), torch.tensor(others).double())
        said = take(found, scores, two, rest)
        assert [one.tolist() for one in said] == [[expected], []]


def test_a_target_with_pseudo_labels() -> None:
    found = detections(*(((x, 0, x + 9, 9), (0.9, 0.1, 0.1)) for x in (0, 20, 40)))
    before = Target(
        torch.tensor([[60.0, 0, 69, 9]]), torch.tensor([2]), complete=False, tags={1, 2}
    )
    scores = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    after = taught(before, found, torch.tensor([1, 0, -1]), scores)
    assert after.boxes.tolist() == [[60, 0, 69, 9], [0, 0, 9, 9]]
    assert after.labels.tolist() == [2, 1] and after.origin == ("human", "mined:ssm")
    assert after.scores[1] == 0.5 and after.negatives.tolist() == [[20, 0, 29, 9]]
    assert not after.complete and after.tags == {1, 2} and len(before) == 1


def test_a_pool_with_pseudo_labels_can_be_counted() -> None:
    pool = pool_of()
    made = pseudo_labelled(Spotter(), pool, CONFIG, seed=0)
    assert {i: len(made.target(i)) for i in ("0", "100", "101", "102")} == {
        "0": 1,
        "100": 1,
        "101": 1,
        "102": 1,
    }
    figures = mined(made, truth_of(pool))
    assert figures["mined"] == 3 and figures["precision"] == 1
    by_score = replace(CONFIG, validation="confidence")
    figures = mined(pseudo_labelled(Spotter(), pool, by_score, seed=0), truth_of(pool))
    assert figures["mined"] == 6 and figures["precision"] == 0.5
    empty = pool_of(unlabelled=0)
    assert len(pseudo_labelled(Spotter(), empty, CONFIG, seed=0)) == 9


def test_the_rest_has_no_undetermined_region() -> None:
    pool = pool_of()
    one = detections((LEFT, (0.9, 0.1, 0.1)), (RIGHT, (0.1, 0.8, 0.1)))
    scores = torch.tensor([math.nan, 0.25], dtype=torch.float64)
    rest = ranked_among({"101": (one, scores)}, pool)
    assert [values.tolist() for values in rest] == [[10], [2], [0.25]]
    assert [len(values) for values in ranked_among({}, pool)] == [0, 0, 0]


# a softmax


def test_a_softmax_is_told_by_its_rows() -> None:
    soft = Spotter(softmax=True).detect([Spots().load("100")])
    for config, refused in (
        (CONFIG, True),
        (replace(CONFIG, positive_at=0.49), False),
        (replace(CONFIG, positive_at=0.4, min_positive=3), True),
        (replace(CONFIG, min_positive=1), False),
    ):
        if refused:
            with pytest.raises(ValueError, match=r"Spotter sum to 1.*positive_at = 0\.[45]"):
                check_independent("Spotter", soft, config)
        else:
            check_independent("Spotter", soft, config)
    check_independent("Spotter", Spotter().detect([Spots().load("100")]), CONFIG)
    check_independent("Spotter", [detections(((0, 0, 9, 9), (0.9, 0.0, 0.0)))], CONFIG)
    check_independent("Spotter", [detections()], CONFIG)
