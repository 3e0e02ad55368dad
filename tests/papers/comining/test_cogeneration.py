import math

import pytest
import torch

from almining.papers.comining import cogenerate, cogenerate_many
from almining.records import Detections, Target
from almining.rng import generator
from tests.fakes import boxes, labels
from tests.oracles import cogenerated

LIMITS = {"min_score": 0.6, "nms_iou": 0.5, "match_iou": 0.4}


def detections(*rows: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    scores = torch.tensor([row[2] for row in rows])
    return Detections(boxes(*(row[0] for row in rows)), labels(*(row[1] for row in rows)), scores)


def random_case(seed: int, n: int = 60) -> tuple[Detections, Target]:
    draws = generator(seed, "case")

    def some(count: int) -> torch.Tensor:
        corners = torch.rand(count, 2, generator=draws) * 60 - 10  # some begin outside
        return torch.cat([corners, corners + torch.rand(count, 2, generator=draws) * 40], dim=1)

    classes = torch.randint(1, 4, (n + 5,), generator=draws)
    scores = (torch.rand(n, generator=draws) * 20).round() / 20  # with ties
    found = Detections(some(n), classes[:n], scores)
    return found, Target(some(5), classes[n:], complete=False)


def rows_of(mined: Target, known: Target) -> list[tuple[list[float], int, float]]:
    first = len(known)
    values = (mined.boxes[first:].tolist(), mined.labels[first:].tolist())
    return list(zip(*values, mined.scores[first:].tolist(), strict=True))


def test_three_steps_by_hand() -> None:
    known = Target(boxes((0, 0, 10, 10)), labels(1), complete=False)
    found = detections(
        ((40, 0, 50, 10), 2, 0.6),  # exactly τ: stays
        ((70, 0, 80, 10), 2, 0.59),  # step 1
        ((20, 0, 30, 10), 1, 0.7),  # step 2: behind the next, IoU 0.54
        ((20, 0, 30, 7), 1, 0.8),
        ((20, 0, 30, 8), 2, 0.75),  # another class
        ((0, 0, 10, 9), 1, 0.95),  # step 3: the annotated one
        ((0, 0, 10, 8), 2, 0.65),  # of another class: stays
    )
    made = cogenerate(found, known)
    assert made.boxes.tolist() == [
        [0, 0, 10, 10], [20, 0, 30, 7], [20, 0, 30, 8], [0, 0, 10, 8], [40, 0, 50, 10]
    ]  # fmt: skip
    assert made.labels.tolist() == [1, 1, 2, 2, 2]
    assert made.origin == ("human", "mined", "mined", "mined", "mined")
    assert math.isnan(made.scores[0]) and made.scores[1:].tolist() == pytest.approx(
        [0.8, 0.75, 0.65, 0.6]
    )
    assert not made.complete and made.state == "sparse"
    together = cogenerate(found, known, class_aware=False)
    assert together.boxes.tolist() == [[0, 0, 10, 10], [20, 0, 30, 7], [40, 0, 50, 10]]


def test_thresholds_of_overlap_are_strict() -> None:
    known = Target(boxes((0, 0, 10, 10)), labels(1), complete=False)
    at = detections(((0, 0, 10, 4), 1, 0.9))  # IoU 0.4
    assert len(cogenerate(at, known)) == 2
    assert len(cogenerate(at, known, match_iou=0.39)) == 1
    pair = detections(((50, 0, 60, 10), 1, 0.9), ((50, 0, 60, 5), 1, 0.8))  # IoU 0.5
    assert len(cogenerate(pair, known)) == 3
    assert len(cogenerate(pair, known, nms_iou=0.49)) == 2


def test_suppression_comes_before_matching() -> None:
    # the better box hides its neighbour, then goes itself, being the annotated object
    known = Target(boxes((0, 0, 10, 10)), labels(1), complete=False)
    found = detections(((0, 0, 10, 10), 1, 0.9), ((6, 0, 16, 10), 1, 0.8))
    assert len(cogenerate(found, known, nms_iou=0.2)) == 1
    assert len(cogenerate(found, known, nms_iou=0.3)) == 2


@pytest.mark.parametrize("class_aware", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_loop_alone_and_in_a_batch(seed: int, class_aware: bool) -> None:
    cases = [random_case(10 * seed + number, n) for number, n in enumerate((60, 0, 1, 25))]
    limits = {"min_score": 0.3, "nms_iou": 0.3, "match_iou": 0.2, "class_aware": class_aware}
    together = cogenerate_many(*zip(*cases, strict=True), **limits)
    for (found, known), made in zip(cases, together, strict=True):
        fields = (found.boxes.tolist(), found.labels.tolist(), found.scores.tolist())
        rows = list(zip(*fields, strict=True))
        annotated = list(zip(known.boxes.tolist(), known.labels.tolist(), strict=True))
        assert rows_of(made, known) == [rows[i] for i in cogenerated(rows, annotated, **limits)]
        alone = cogenerate(found, known, **limits)
        assert torch.equal(alone.boxes, made.boxes) and alone.origin == made.origin
    assert sum(len(made) - len(known) for made, (_, known) in zip(together, cases, strict=True)) > 9


@pytest.mark.gpu
@pytest.mark.parametrize("n", [60, 700])  # torchvision takes two paths
def test_a_gpu_finds_the_same(n: int) -> None:
    cases = [random_case(number, n) for number in range(4)]
    there = [(found.to("cuda"), known.to("cuda")) for found, known in cases]
    here, far = (cogenerate_many(*zip(*some, strict=True), **LIMITS) for some in (cases, there))
    for one, other in zip(here, far, strict=True):
        assert torch.equal(one.boxes, other.boxes.cpu()) and len(one) > 5


def test_does_not_depend_on_order_position_or_scale() -> None:
    found, known = random_case(3)
    distinct = found.scores.argsort(stable=True).argsort().float() / len(found)
    found = Detections(found.boxes, found.labels, distinct)
    first = cogenerate(found, known, min_score=0.2)
    mixed = found.select(torch.randperm(len(found), generator=generator(0)))
    assert torch.equal(cogenerate(mixed, known, min_score=0.2).boxes, first.boxes)
    far = Detections(found.boxes * 4 + 4096, found.labels, found.scores)
    there = Target(known.boxes * 4 + 4096, known.labels, complete=False)
    assert cogenerate(far, there, min_score=0.2).labels.tolist() == first.labels.tolist()
    # what is mined is mined again from itself
    again = Detections(first.boxes[5:], first.labels[5:], first.scores[5:])
    assert torch.equal(cogenerate(again, known, min_score=0.2).boxes, first.boxes)


def test_boxes_above_and_left_of_the_image_do_not_meet_those_of_other_images() -> None:
    left = detections(((-100, -100, -60, -60), 1, 0.9))
    right = detections(((0, 0, 40, 40), 2, 0.9), ((-60, -60, -20, -20), 2, 0.8))
    made = cogenerate_many([left, right] * 4, [Target.unknown()] * 8, nms_iou=0.1)
    assert [len(one) for one in made] == [1, 2] * 4


def test_nothing_to_mine_and_nothing_annotated() -> None:
    known = Target(boxes((0, 0, 10, 10)), labels(1), complete=False)
    nothing, weak = detections(), detections(((30, 0, 40, 10), 1, 0.2))
    for found in (nothing, weak):
        made = cogenerate(found, known)
        assert torch.equal(made.boxes, known.boxes) and made.origin == ("human",)
        assert len(cogenerate(found, Target.unknown())) == 0
    strong = detections(((30, 0, 40, 10), 1, 0.9), ((30, 0, 30, 10), 1, 0.99))  # one without area
    assert cogenerate(strong, Target.unknown()).boxes.tolist() == [[30, 0, 40, 10]]
    assert cogenerate_many([], []) == []
    empty = cogenerate(strong, Target(boxes(), labels()))  # complete, and yet more was found
    assert len(empty) == 1 and not empty.complete


def test_what_is_known_beside_boxes_stays() -> None:
    known = Target(
        boxes((0, 0, 10, 10), (50, 50, 90, 90)),
        labels(1, 2),
        ignore=torch.tensor([False, True]),
        origin=("mined:old:1", "human"),
        scores=torch.tensor([0.7, math.nan]),
        tags={1, 2},
        negatives=boxes((5, 5, 9, 9)),
        complete=False,
    )
    found = detections(
        ((20, 0, 30, 10), 1, 0.7), ((52, 50, 90, 90), 2, 0.9), ((70, 0, 80, 9), 3, 1)
    )
    made = cogenerate(found, known)
    assert made.labels.tolist() == [1, 2, 1]  # one is the ignored one, one of a class not there
    assert made.ignore.tolist() == [False, True, False]
    assert made.origin == ("mined:old:1", "human", "mined")
    assert made.tags == {1, 2} and torch.equal(made.negatives, known.negatives)
    assert float(made.scores[0]) == pytest.approx(0.7)
    absent = Target(boxes(), labels(), absent={1}, complete=False)
    assert cogenerate(found, absent).labels.tolist() == [3, 2]


def test_no_gradient_goes_through() -> None:
    place = boxes((30, 0, 40, 10)).requires_grad_()
    found = Detections(place * 1, labels(1), torch.tensor([0.9], requires_grad=True) * 1)
    made = cogenerate(found, Target.unknown())
    assert len(made) == 1 and not made.boxes.requires_grad and not made.scores.requires_grad


@pytest.mark.parametrize("name", list(LIMITS))
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_thresholds_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} = {value}: a number from 0 to 1"):
        cogenerate(detections(), Target.unknown(), **{name: value})


def test_one_target_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"detections of 1 images but 2 targets"):
        cogenerate_many([detections()], [Target.unknown()] * 2)
    with pytest.raises(ValueError, match=r"scores\[0\] = nan: scores must be finite"):
        detections(((0, 0, 9, 9), 1, math.nan))
