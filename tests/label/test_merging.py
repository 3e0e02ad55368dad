"""What is known of an image after an answer."""

from dataclasses import replace

import pytest

from almining.label import merge
from almining.records import Answer, Target
from tests.fakes import boxes, labels
from tests.label.asking import BOX, FAR, HALF, LESS, after, asked, request, target


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
