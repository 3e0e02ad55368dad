"""What a simulated person gets wrong."""

import pytest
import torch

from almining.data.pool import ImageInfo, Pool
from almining.label import Noise, Prices, Simulated
from almining.plain import to_plain
from almining.records import Answer, Target
from tests.fakes import FlatImages, boxes, labels
from tests.label.asking import BOX, CLASSES, FAR, request

COUNT = 2000
ROW = (40.0, 40, 60, 50)  # 20 wide, 10 high


def crowd() -> Pool:
    """One image of many equal boxes, and an empty one, 100 high and 130 wide."""
    many = Target(boxes(*[ROW] * COUNT), labels(*[2] * COUNT), tags={2}, absent={1, 3})
    infos = {name: ImageInfo(size=(100, 130)) for name in ("im-0", "im-1")}
    return Pool(
        CLASSES, {"im-0": many, "im-1": Target(boxes(), labels())}, FlatImages(), infos=infos
    )


def few() -> Pool:
    target = Target(boxes(BOX, FAR), labels(1, 2))
    return Pool(CLASSES, {f"im-{i}": target for i in range(400)}, FlatImages())


def asked(questions, hidden, seed=0, **noise) -> list[Answer]:
    return list(Simulated(hidden, noise=Noise(**noise), seed=seed).ask(questions, hidden))


def mixed(pool: Pool) -> list:
    kinds = (("complete", None), ("tag", None), ("verify", BOX), ("region", BOX))
    return [
        request(kind, box, 1, image, f"{kind}-{image}") for image in pool.ids for kind, box in kinds
    ]


def test_missed_boxes_leave_the_image_complete() -> None:
    (answer,) = asked([request("complete")], crowd(), miss=0.3)
    assert answer.target.complete and answer.target.tags is None
    assert len(answer.target) / COUNT == pytest.approx(0.7, abs=0.04)  # 4 sd
    assert answer.seconds == Prices().box * len(answer.target)
    (empty,) = asked([request("complete", image="im-1")], crowd(), miss=0.3)
    assert empty.target.complete and len(empty.target) == 0


def test_jitter_is_a_share_of_the_side() -> None:
    (answer,) = asked([request("complete")], crowd(), jitter=0.1)
    off = answer.target.boxes - torch.tensor(ROW)
    assert off.mean(0).tolist() == pytest.approx([0, 0, 0, 0], abs=0.2)
    assert off.std(0).tolist() == pytest.approx([2, 1, 2, 1], rel=0.08)
    assert abs(float(torch.corrcoef(off.T)[0, 2])) < 0.1


def test_jitter_stays_in_the_image_and_leaves_boxes_with_an_area() -> None:
    hidden = crowd()
    edge = Target(boxes(*[(127.0, 0, 130, 100)] * COUNT), labels(*[1] * COUNT))
    (answer,) = asked([request("complete")], hidden.updated({"im-0": edge}, cycle=1), jitter=1.0)
    found = answer.target.boxes
    assert float(found.min()) >= 0
    assert float(found[:, 0::2].max()) == 130 and float(found[:, 1::2].max()) == 100
    assert bool((found[:, 2:] > found[:, :2]).all())
    assert float((found != edge.boxes).any(1).float().mean()) > 0.3


def test_a_confused_class_is_any_other() -> None:
    (answer,) = asked([request("complete")], crowd(), confuse=0.5)
    shares = [(answer.target.labels == label).float().mean().item() for label in (1, 2, 3)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.045)
    alone = Pool(("cup",), {"im-0": Target(boxes(BOX), labels(1))}, FlatImages())
    (only,) = asked([request("complete")], alone, confuse=1.0)
    assert only.target.labels.tolist() == [1]


def test_verdicts_and_tags_flip() -> None:
    hidden = few()
    verdicts = asked(
        [request("verify", BOX, 1, image, image) for image in hidden.ids], hidden, flip=0.25
    )
    wrong = sum(answer.verdict == "reject" for answer in verdicts) / 400
    assert wrong == pytest.approx(0.25, abs=0.087)
    assert {answer.seconds for answer in verdicts} == {1.6}
    tags = asked([request("tag", image=i, id=i) for i in hidden.ids], hidden, flip=0.25)
    for label, known in ((1, True), (2, True), (3, False)):
        share = sum((label in answer.target.tags) != known for answer in tags) / 400
        assert share == pytest.approx(0.25, abs=0.087)
    assert all(answer.target.state == "tagged" for answer in tags)


def test_a_region_is_drawn_off_but_never_missed() -> None:
    hidden = few()
    questions = [request("region", BOX, image=image, id=image) for image in hidden.ids]
    found = asked(questions, hidden, miss=1.0, jitter=0.05, confuse=0.5)
    assert all(len(a.target) == 1 and not a.target.complete for a in found)
    assert {a.target.labels.item() for a in found} == {1, 2, 3}
    assert len({tuple(a.target.boxes[0].tolist()) for a in found}) == 400


def test_noise_depends_on_seed_and_request_and_nothing_else() -> None:
    hidden = few().subset(few().ids[:6])
    noise = {"miss": 0.5, "jitter": 0.1, "confuse": 0.5, "flip": 0.5}
    questions = mixed(hidden)
    said = {a.request_id: to_plain(a) for a in asked(questions, hidden, **noise)}
    back = {a.request_id: to_plain(a) for a in asked(questions[::-1], hidden, **noise)}
    assert said == back
    for question in questions:
        (alone,) = asked([question], hidden, **noise)
        assert to_plain(alone) == said[question.id]
    other = {a.request_id: to_plain(a) for a in asked(questions, hidden, seed=1, **noise)}
    assert sum(other[name] != said[name] for name in said) > len(said) / 2
    first, second = (said[f"complete-{image}"]["target"] for image in hidden.ids[:2])
    assert first["boxes"] != second["boxes"]


def test_one_mistake_does_not_move_another() -> None:
    (few_missed,) = asked([request("complete")], crowd(), miss=0.1, jitter=0.1)
    (more_missed,) = asked([request("complete")], crowd(), miss=0.4, jitter=0.1, confuse=0.5)
    rows = {tuple(row) for row in few_missed.target.boxes.tolist()}
    assert all(tuple(row) in rows for row in more_missed.target.boxes.tolist())


def test_without_noise_every_bit_is_the_truths() -> None:
    hidden = crowd()
    exact = [to_plain(a) for a in Simulated(hidden).ask(mixed(hidden), hidden)]
    assert [to_plain(a) for a in asked(mixed(hidden), hidden, seed=3)] == exact
    assert exact[0]["target"]["tags"] == [2]


def test_a_box_that_is_not_jittered_is_not_touched() -> None:
    beyond = Target(boxes((-0.0, -3, 200, 40)), labels(1))
    hidden = crowd().updated({"im-0": beyond}, cycle=1)
    (answer,) = asked([request("complete")], hidden, miss=1e-9)
    assert to_plain(answer.target) == to_plain(beyond)


@pytest.mark.parametrize(
    "wrong", [{"miss": 1.5}, {"jitter": -0.1}, {"flip": float("nan")}, {"confuse": "often"}]
)
def test_noise_is_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=rf"Noise\.{next(iter(wrong))} = .*from 0 to 1"):
        Noise(**wrong)
