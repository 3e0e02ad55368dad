import pytest
import torch

from almining.papers.note_rcnn import mine_boxes
from almining.records import Detections
from almining.rng import generator
from tests import oracles
from tests.fakes import boxes, labels


def found(*rows: tuple[int, float]) -> Detections:
    """Detections of (label, score), each in a place of its own."""
    places = boxes(*((10.0 * i, 0, 10.0 * i + 9, 9) for i in range(len(rows))))
    return Detections(
        places, labels(*(label for label, _ in rows)), torch.tensor([score for _, score in rows])
    )


def rows(mined, detections: Detections) -> list[int]:
    places = detections.boxes.tolist()
    return [places.index(box) for box in mined.boxes.tolist()]


def test_the_best_box_of_each_tagged_class_that_scores_more_than_the_threshold() -> None:
    one = found((1, 0.992), (1, 0.999), (2, 0.99), (3, 1.0), (2, 0.9901), (4, 0.5))
    mined = mine_boxes(one, {1, 2, 4})
    assert rows(mined, one) == [1, 4] and mined.labels.tolist() == [1, 2]
    assert torch.equal(mined.scores, one.scores[[1, 4]])
    assert mined.origin == ("mined", "mined") and mined.tags == {1, 2, 4}
    assert mined.state == "sparse" and not mined.complete
    every = mine_boxes(one, {1, 2, 4}, every=True, origin="mined:note_rcnn:2")
    assert rows(every, one) == [1, 0, 4] and every.origin[0] == "mined:note_rcnn:2"
    assert len(mine_boxes(one, {2}, min_score=0.9901)) == 0  # more, not as much


def test_nothing_to_mine_is_a_tagged_image() -> None:
    nothing = found()
    for detections, tags in ((nothing, {1}), (found((2, 1.0)), {1}), (found((1, 0.9)), {1})):
        mined = mine_boxes(detections, tags)
        assert len(mined) == 0 and mined.state == "tagged" and mined.tags == tags
    assert mine_boxes(found((1, 1.0)), set()).tags == frozenset()


def test_everything_may_be_mined() -> None:
    one = found((2, 0.3), (1, 0.2))
    mined = mine_boxes(one, {1, 2}, min_score=0.0)
    assert rows(mined, one) == [1, 0]


def test_ties_boxes_without_area_and_gradients() -> None:
    one = found((1, 0.995), (1, 0.995))
    assert rows(mine_boxes(one, [1]), one) == [0]
    flat = Detections(boxes((3, 3, 3, 9), (0, 0, 9, 9)), labels(1, 1), torch.tensor([1.0, 0.995]))
    assert mine_boxes(flat, [1]).boxes.tolist() == [[0, 0, 9, 9]]
    scores = torch.tensor([0.995], requires_grad=True)
    box = boxes((0, 0, 9, 9)).requires_grad_()
    mined = mine_boxes(Detections(box, labels(1), scores), [1])
    assert not mined.scores.requires_grad and not mined.boxes.requires_grad


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("every", [False, True])
def test_as_loops_say_in_any_order(seed: int, every: bool) -> None:
    draws = generator(seed, "found")
    corners = torch.randint(0, 9, (30, 2), generator=draws).float()
    sides = torch.randint(0, 6, (30, 2), generator=draws).float()
    scores = torch.randint(0, 12, (30,), generator=draws) / 11
    classes = torch.randint(1, 5, (30,), generator=draws)
    one = Detections(torch.cat([corners, corners + sides], dim=1), classes, scores)
    told = list(zip(one.boxes.tolist(), classes.tolist(), scores.tolist(), strict=True))
    mined = mine_boxes(one, {1, 3, 7}, min_score=0.5, every=every)
    wanted = oracles.mined_rows(told, {1, 3, 7}, 0.5, every)
    assert torch.equal(mined.boxes, one.boxes[wanted]) and len(mined)
    assert torch.equal(mined.scores, scores[wanted]) and torch.equal(mined.labels, classes[wanted])


@pytest.mark.parametrize(
    ("tags", "min_score", "says"),
    [
        (None, 0.99, "tags = None: boxes are mined where"),
        ({0}, 0.99, "tags"),
        ({1}, 99, "min_score = 99: a number from 0 to 1"),
        ({1}, float("nan"), "min_score = nan"),
    ],
)
def test_what_cannot_be_is_refused(tags, min_score, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mine_boxes(found((1, 1.0)), tags, min_score=min_score)
