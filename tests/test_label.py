"""The simulated person, what answers cost, and what is known after each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from almining.data.pool import Pool
from almining.label import Prices, Simulated, merge
from almining.records import Answer, Request, Target
from tests.fakes import FlatImages, boxes, labels
from tests.oracles import box_iou

CLASSES = ("cup", "dog", "boat")
BOX = (10.0, 10, 30, 30)
HALF = (10.0, 10, 30, 20)  # IoU exactly 0.5 with BOX
LESS = (10.0, 10, 30, 19)
FAR = (60.0, 60, 80, 80)
NAN = float("nan")


def pool(**targets: Target) -> Pool:
    return Pool(
        CLASSES, {f"im-{name[1:]}": target for name, target in targets.items()}, FlatImages()
    )


def truth() -> Pool:
    return pool(
        a0=Target(
            boxes(BOX, FAR, (0, 40, 20, 60)),
            labels(1, 2, 3),
            ignore=torch.tensor([False, False, True]),
        ),
        a1=Target(boxes(), labels()),
    )


def request(kind: str, box=None, label: int | None = None, image: str = "im-0", id: str = "q"):
    return Request(id, image, kind, box=None if box is None else torch.tensor(box), label=label)


def asked(question: Request, hidden: Pool | None = None) -> Answer:
    (answer,) = Simulated(truth() if hidden is None else hidden).ask([question], truth())
    return answer


def target(*rows, label=None, origin=None, **known) -> Target:
    mined = origin or ("human",) * len(rows)
    scores = torch.tensor([NAN if text == "human" else 0.9 for text in mined])
    number = label or [1] * len(rows)
    return Target(
        boxes(*rows), labels(*number), origin=mined, scores=scores,
        **{"complete": False, **known},
    )  # fmt: skip


def after(before: Target, question: Request, **answer) -> Target:
    return merge(before, question, Answer(question.id, by="me", seconds=1, **answer))


# prices


def test_prices_by_hand() -> None:
    prices = Prices()
    assert (prices.box, prices.look, prices.tag, prices.verify) == (25.5, 7.8, 1.0, 1.6)
    assert [prices.complete(n) for n in (0, 1, 4)] == [7.8, 25.5, 102.0]
    assert prices.tags(20) == 20.0
    assert prices.region(1) == 25.5
    assert prices.region(0) == 1.6


def test_a_price_must_be_a_time() -> None:
    with pytest.raises(ValueError, match=r"Prices\.box = -1"):
        Prices(box=-1)


# the simulated person


def test_complete_gives_the_hidden_target() -> None:
    answer = asked(request("complete"))
    assert answer.target.boxes.tolist() == truth().target("im-0").boxes.tolist()
    assert answer.target.ignore.tolist() == [False, False, True]
    assert answer.seconds == 2 * 25.5  # ignored boxes cost nothing
    assert answer.by == "simulated"
    empty = asked(request("complete", image="im-1"))
    assert empty.target.complete
    assert len(empty.target) == 0
    assert empty.seconds == 7.8


def test_tag_gives_the_classes() -> None:
    answer = asked(request("tag"))
    assert answer.target.tags == {1, 2, 3}
    assert answer.target.state == "tagged"
    assert answer.seconds == 3.0
    assert asked(request("tag", image="im-1")).target.tags == frozenset()


@pytest.mark.parametrize(
    ("box", "label", "verdict"),
    [
        (BOX, 1, "accept"),
        (HALF, 1, "accept"),
        (LESS, 1, "reject"),
        (BOX, 2, "reject"),
        (FAR, 2, "accept"),
        ((0.0, 40, 20, 60), 3, "reject"),  # ignored
    ],
)
def test_verify_accepts_from_half_the_overlap_on(box, label, verdict) -> None:
    assert (box_iou(BOX, HALF), box_iou(BOX, LESS) < 0.5) == (0.5, True)
    answer = asked(request("verify", box, label))
    assert (answer.verdict, answer.seconds) == (verdict, 1.6)
    assert asked(request("verify", box, label, image="im-1")).verdict == "reject"


def test_region_gives_the_best_box_of_any_class() -> None:
    hidden = pool(
        a0=target(BOX, (10, 10, 30, 26), (10, 10, 30, 22), label=[1, 2, 3], complete=True)
    )
    answer = asked(request("region", (10.0, 10, 30, 25)), hidden)
    assert answer.target.labels.tolist() == [2]
    assert answer.target.boxes.tolist() == [[10, 10, 30, 26]]
    assert not answer.target.complete
    assert answer.seconds == 25.5
    assert asked(request("region", HALF)).target.labels.tolist() == [1]
    for nothing in (LESS, (0.0, 40, 20, 60), (90.0, 90, 99, 99)):
        answer = asked(request("region", nothing))
        assert len(answer.target) == 0
        assert answer.seconds == 1.6


def test_answers_come_in_order_and_do_not_depend_on_each_other() -> None:
    questions = [request("tag", id="a"), request("complete", id="b"), request("tag", id="c")]
    found = list(Simulated(truth(), by="robot").ask(questions, truth()))
    assert [answer.request_id for answer in found] == ["a", "b", "c"]
    assert {answer.by for answer in found} == {"robot"}
    assert list(Simulated(truth()).ask([], truth())) == []


def test_the_simulation_refuses_what_it_cannot_know() -> None:
    with pytest.raises(ValueError, match=r"'im-7'.*does not know"):
        Simulated(truth()).ask([request("tag", image="im-7")], truth())
    hidden = pool(a0=target(BOX))
    with pytest.raises(ValueError, match="'im-0' is sparse, not complete"):
        Simulated(hidden).ask([request("complete")], truth())
    other = Pool(("cup", "dog"), {}, FlatImages())
    with pytest.raises(ValueError, match=r"classes.*cup, dog.*cup, dog, boat"):
        Simulated(truth()).ask([], other)


# merge


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
