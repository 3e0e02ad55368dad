"""The simulated person."""

import pytest

from almining.data.pool import Pool
from almining.label import Simulated
from tests.fakes import FlatImages
from tests.label.asking import BOX, FAR, HALF, LESS, asked, pool, request, target, truth
from tests.oracles import box_iou


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
