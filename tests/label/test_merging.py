"""What is known of an image after an answer."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from almining.boxes import iou
from almining.cycle import run
from almining.label import merge
from almining.papers.ssm import Config, recipe
from almining.records import Answer, Target
from tests.fakes import boxes, labels
from tests.label.asking import BOX, FAR, HALF, LESS, after, asked, request, target
from tests.papers.ssm.spotted import RIGHT, Spotter, pool_of

BESIDE = (25.0, 10, 45, 30)  # IoU 1/7 with BOX


def test_complete_replaces_everything() -> None:
    before = target(FAR, origin=("mined",), tags={1, 2}, negatives=boxes(BOX))
    full = Target(boxes(BOX), labels(2))
    known = after(before, request("complete"), target=full)
    assert known.boxes.tolist() == [list(BOX)]
    assert known.complete
    assert known.tags is None
    assert len(known.negatives) == 0


def test_tags_are_added_and_boxes_stay() -> None:
    before = target(BOX, tags={1})
    known = after(before, request("tag"), target=Target.unknown({2}))
    assert known.tags == {1, 2}
    assert (len(known), known.complete) == (1, False)
    assert known.known_absent(3)
    none = after(Target.unknown(), request("tag"), target=Target.unknown(set()))
    assert none.tags == frozenset()
    assert none.known_absent(1)
    full = target(BOX, complete=True)
    assert after(full, request("tag"), target=Target.unknown({1})).complete


def test_partial_tags_leave_the_rest_unknown() -> None:
    partial = Target(boxes(), labels(), tags={1}, absent={2}, complete=False)
    known = after(Target.unknown(), request("tag"), target=partial)
    assert (known.tags, known.absent) == ({1}, {2})
    assert not known.known_absent(3)
    settled = after(known, request("tag"), target=Target.unknown({1}))
    assert settled.known_absent(3)


def test_accepting_adds_a_persons_box_in_place_of_mined_ones_of_its_class() -> None:
    before = target(
        HALF, LESS, BOX, FAR, origin=("mined:x:1", "mined", "mined", "human"), label=[1, 1, 2, 1]
    )
    known = after(before, request("verify", BOX, 1), verdict="accept")
    assert known.boxes.tolist() == [list(LESS), list(BOX), list(FAR), list(BOX)]
    assert known.labels.tolist() == [1, 2, 1, 1]
    assert known.origin == ("mined", "mined", "human", "human")
    assert known.scores.isnan().tolist() == [False, False, True, True]
    assert known.tags is None
    assert len(before) == 4


def test_accepting_adds_a_tag_where_tags_are_known() -> None:
    known = after(target(tags={2}), request("verify", BOX, 1), verdict="accept")
    assert known.tags == {1, 2}
    assert known.state == "sparse"


def test_accepting_does_not_add_a_persons_box_twice() -> None:
    before = target(HALF, tags={1})
    assert len(after(before, request("verify", BOX, 1), verdict="accept")) == 1
    assert len(after(before, request("verify", BOX, 2), verdict="accept")) == 2


def test_rejecting_removes_the_mined_box_asked_about_and_nothing_else() -> None:
    before = target(
        BOX, BOX, BOX, HALF, origin=("mined", "human", "mined", "mined"), label=[1, 1, 2, 1]
    )
    known = after(before, request("verify", BOX, 1), verdict="reject")
    assert known.origin == ("human", "mined", "mined")
    assert known.labels.tolist() == [1, 2, 1]
    assert after(before, request("verify", FAR, 1), verdict="reject") is before


def test_a_region_with_a_box_replaces_mined_boxes_of_any_class() -> None:
    before = target(
        HALF, LESS, FAR, origin=("mined", "mined", "mined"), label=[2, 2, 3], tags={2, 3}
    )
    known = after(before, request("region", BOX), target=target(BOX))
    assert known.boxes.tolist() == [list(LESS), list(FAR), list(BOX)]
    assert known.origin[-1] == "human"
    assert known.tags == {1, 2, 3}


def test_a_region_without_an_object_becomes_a_negative() -> None:
    before = target(HALF, FAR, origin=("mined", "human"))
    known = after(before, request("region", BOX), target=target())
    assert known.negatives.tolist() == [list(BOX)]
    assert known.origin == ("human",)
    assert not known.complete
    assert after(known, request("region", BOX), target=target()) is known  # said before


def test_a_region_whose_object_is_elsewhere_becomes_a_negative_too() -> None:
    for found in (BESIDE, LESS, FAR):
        before = target(HALF, origin=("mined",), tags=set())
        known = after(before, request("region", BOX), target=target(found, label=[2]))
        assert known.boxes.tolist() == [list(found)] and known.origin == ("human",)
        assert known.negatives.tolist() == [list(BOX)] and known.tags == {2}
        again = after(known, request("region", BOX), target=target(found, label=[2]))
        assert again is known  # said before
    there = after(target(), request("region", BOX), target=target(HALF))
    assert len(there) == 1 and len(there.negatives) == 0  # the boundary counts as there
    found = after(known, request("verify", BOX, 1), verdict="accept")
    assert len(found) == 2 and len(found.negatives) == 0


@pytest.mark.parametrize("ignored", [False, True])
def test_a_region_where_a_person_drew_is_no_negative(ignored) -> None:
    drawn = replace(target(HALF), ignore=torch.tensor([ignored]))
    known = after(drawn, request("region", BOX), target=target(FAR, label=[2]))
    assert known.boxes.tolist() == [list(HALF), list(FAR)] and len(known.negatives) == 0


def test_an_ignored_box_of_a_region_stays_ignored() -> None:
    unclear = replace(target(BOX, FAR), ignore=torch.tensor([True, False]))
    known = after(target(), request("region", BOX), target=unclear)
    assert known.ignore.tolist() == [True, False] and len(known.negatives) == 0
    assert after(known, request("region", BOX), target=unclear) is known
    real = after(known, request("verify", BOX, 1), verdict="accept")
    assert real.ignore.tolist() == [True, False, False]


def test_boxes_of_one_answer_are_all_meant_in_any_order() -> None:
    before = target(HALF, FAR, origin=("mined", "human"), negatives=boxes(BESIDE))
    rows = [(BOX, 1), (HALF, 1), (BESIDE, 2), (FAR, 1)]  # the last one is there
    seen = set()
    for order in permutations(rows):
        given = target(*(box for box, _ in order), label=[label for _, label in order])
        known = after(before, request("region", BOX), target=given)
        assert len(known.negatives) == 0 and known.boxes[0].tolist() == list(FAR)
        boxed = zip(map(tuple, known.boxes.tolist()), known.labels.tolist(), strict=True)
        seen.add(tuple(sorted(boxed)))
    assert seen == {tuple(sorted(rows))}


def test_a_box_in_the_region_is_not_taken_for_one_outside_it() -> None:
    low = (10.0, 15, 30, 30)  # IoU 0.75 with BOX, 0.5 with the box drawn, which has 1/3 with BOX
    outside = target((10.0, 20, 30, 35))
    known = after(outside, request("region", BOX), target=target(low))
    assert len(known) == 2 and len(known.negatives) == 0
    assert len(after(outside, request("verify", low, 1), verdict="accept")) == 1


def test_a_region_that_was_answered_is_never_asked_about_again() -> None:
    draws = torch.Generator().manual_seed(0)
    ruled_out = 0
    for _ in range(300):
        corners = torch.rand(6, 2, generator=draws) * 20
        rows = torch.cat([corners, corners + 20 + 10 * torch.rand(6, 2, generator=draws)], dim=1)
        known = Target(
            rows[:2],
            labels(1, 2),
            ignore=torch.tensor([False, True]),
            origin=("human", "mined"),
            scores=torch.tensor([torch.nan, 0.9]),
            negatives=rows[2:3],
            complete=False,
        )
        given = Target(rows[3:5], labels(1, 2), complete=False)
        new = after(known, request("region", rows[5].tolist()), target=given)
        drawn = new.boxes[torch.tensor([text == "human" for text in new.origin])]
        assert bool((iou(rows[5:], torch.cat([drawn, new.negatives])) >= 0.5).any())
        refuted = iou(rows[5:], new.negatives).amax() > 0.99 if len(new.negatives) else False
        assert not (refuted and bool((iou(rows[5:], new.boxes) >= 0.5).any()))
        ruled_out += bool(refuted)
    assert 30 < ruled_out < 270


def test_a_run_does_not_ask_again_about_what_is_elsewhere() -> None:
    class Elsewhere:
        def ask(self, requests, pool):
            for one in requests:
                given = target((30, 6, 46, 30), label=[3])  # IoU 0.14 with what is asked about
                yield Answer(one.id, target=given, by="me", seconds=1)

    config = Config(per_class=20, per_cycle=2, min_score=0.3, steps=1, batch=3, lr=1e-3)
    given = {"oracle": Elsewhere(), "budget": 2, "cycles": 5, "seed": 0, "progress": False}
    history = run(recipe(config), Spotter(), pool_of(), **given)
    assert [len(row.picked) for row in history.rows] == [0, 2, 1]  # three images, once each
    for image_id in ("100", "101", "102"):
        known = history.pool.target(image_id)
        assert len(known) == 1 and known.negatives.tolist() == [list(RIGHT)]


def test_negatives_and_boxes_never_contradict_each_other() -> None:
    empty = after(target(), request("region", BOX), target=target())
    found = after(empty, request("verify", BOX, 1), verdict="accept")
    assert len(found) == 1 and len(found.negatives) == 0
    with pytest.raises(ValueError, match=r"holds no object, but a person drew box .* there"):
        after(found, request("region", BOX), target=target())


def test_skipping_changes_nothing() -> None:
    before = target(BOX)
    for kind, box in (("complete", None), ("tag", None), ("verify", BOX), ("region", BOX)):
        assert after(before, request(kind, box, 1), verdict="skip") is before


def test_only_complete_makes_or_keeps_a_target_complete() -> None:
    full = target(BOX, complete=True)
    assert not after(full, request("verify", FAR, 1), verdict="accept").complete
    assert after(full, request("verify", FAR, 1), verdict="reject").complete
    assert not after(full, request("region", FAR), target=target(FAR)).complete
    mined = replace(target(BOX, origin=("mined",)), complete=True)
    assert not after(mined, request("verify", BOX, 1), verdict="reject").complete
    assert after(target(), request("complete"), target=full).complete


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (request("verify", BOX, 2), {"verdict": "accept"}, "found class 2, but Target.absent"),
        (request("region", BOX), {"target": target(BOX, label=[2])}, "found class 2"),
        (request("tag"), {"target": Target.unknown({2})}, "found class 2, but Target.absent"),
        (request("verify", BOX, 2), {"target": target(BOX)}, "answered by verdict"),
        (request("complete"), {"verdict": "accept"}, "answered by a target or by skip"),
        (request("complete"), {"target": target(BOX)}, "needs a complete target, got a sparse"),
        (request("tag"), {"target": Target.unknown()}, "tags = None"),
    ],
)
def test_contradictions_and_misfits_are_refused(question, answer, message) -> None:
    before = target(BOX, tags={1}, absent={2})
    with pytest.raises(ValueError, match=message) as caught:
        after(before, question, **answer)
    assert "'im-0'" in str(caught.value)


def test_a_tag_that_a_complete_target_refutes_is_refused() -> None:
    with pytest.raises(ValueError, match="found class 3, but the target is complete"):
        after(target(BOX, complete=True), request("tag"), target=Target.unknown({1, 3}))


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="the answer is to 'other'"):
        merge(target(), request("tag"), Answer("other", verdict="skip", by="me", seconds=0))


def test_asking_for_everything_ends_in_the_truth() -> None:
    known = Target.unknown()
    for kind, box in (("tag", None), ("region", BOX), ("verify", FAR), ("complete", None)):
        question = request(kind, box, 2)
        known = merge(known, question, asked(question))
    assert known.complete
    assert known.labels.tolist() == [1, 2, 3]
