from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from almining.cycle import run
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.detectors.onestage import fcos, retinanet
from almining.detectors.rcnn import FasterRCNN, faster_rcnn
from almining.papers import comining
from almining.papers.comining import Config, recipe, step
from almining.records import Detections, Target
from almining.rng import generator
from almining.train import Batch, TrainConfig, fit
from tests.fakes import boxes, flat_pool, labels

OWN, OTHER = (4.0, 4.0, 9.0, 9.0), (14.0, 3.0, 22.0, 12.0)  # what each branch finds


class Told(nn.Module):
    """Finds what it is told to, and keeps what it is taught."""

    classes = ("dark", "light")

    def __init__(self, *found: list[tuple[tuple[float, float, float, float], int, float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.found = found
        self.calls: list[dict] = []

    def losses_from(self, images, teach, *, generator, **how) -> dict[str, Tensor]:
        found = [
            Detections(
                boxes(*(row[0] for row in rows)) * self.weight,
                labels(*(row[1] for row in rows)),
                torch.tensor([row[2] for row in rows]),
            )
            for rows in self.found
        ]
        taught = teach(found)
        self.calls.append({"images": images, "taught": taught, **how})
        return {"cls": self.weight * len(images)}


def known(*rows, **more) -> Target:
    return Target(boxes(*rows), labels(*[1] * len(rows)), **{"complete": False, **more})


def batch(*targets: Target) -> Batch:
    pool = flat_pool(len(targets))
    draws = generator(0, "images")
    images = [torch.rand(3, 16, 24, generator=draws) for _ in targets]
    return Batch(list(pool.ids), images, list(targets), pool, 0, 0.0)


def stepped(detector: Told, given: Batch, **more) -> dict:
    config = replace(Config(), **more)
    losses = step(detector, given, generator=generator(0), config=config)
    assert list(losses) == ["cls"]
    return detector.calls[-1]


def mined(target: Target) -> list[list[float]]:
    return [
        row
        for row, origin in zip(target.boxes.tolist(), target.origin, strict=True)
        if origin == "mined"
    ]


def test_each_branch_is_taught_by_the_other_in_one_forward() -> None:
    detector = Told([(OWN, 1, 0.9)], [(OTHER, 2, 0.8)])
    given = batch(known((0, 0, 3, 3)))
    call = stepped(detector, given)
    c_o, c_a = call["taught"]  # Eq. 1
    assert mined(c_o) == [list(OTHER)] and mined(c_a) == [list(OWN)]
    assert c_o.boxes[0].tolist() == c_a.boxes[0].tolist() == [0, 0, 3, 3]
    assert c_o.labels.tolist() == [1, 2] and c_a.labels.tolist() == [1, 1]
    assert len(detector.calls) == 1 and len(call["images"]) == 2
    assert call["views"] == 2 and call["frozen_norm"] and call["min_score"] == 0.6
    assert torch.equal(call["images"][0], given.images[0])
    assert not torch.equal(call["images"][1], given.images[0])
    assert not c_o.boxes.requires_grad and not c_a.scores.requires_grad


def test_two_images_keep_their_places() -> None:
    nothing: list = []
    detector = Told([(OWN, 1, 0.9)], nothing, nothing, [(OTHER, 2, 0.8)])
    first, second = known((0, 0, 3, 3)), known((1, 1, 4, 4))
    o1, o2, a1, a2 = stepped(detector, batch(first, second))["taught"]
    assert [mined(one) for one in (o1, o2, a1, a2)] == [[], [list(OTHER)], [list(OWN)], []]
    assert o1 is first and [one.boxes[0, 0] for one in (o2, a1, a2)] == [1, 0, 1]


def test_a_geometric_view_maps_boxes_there_and_back() -> None:
    detector = Told([(OWN, 1, 0.9)], [(OTHER, 2, 0.8)])
    given = batch(known((0, 0, 3, 3)))
    call = stepped(detector, given, view=v2.RandomHorizontalFlip(1.0))
    c_o, c_a = call["taught"]
    assert torch.equal(call["images"][1], given.images[0].flip(2))
    assert torch.allclose(c_o.boxes, boxes((0, 0, 3, 3), (2, 3, 10, 12)), atol=1e-4)
    assert torch.allclose(c_a.boxes, boxes((21, 0, 24, 3), (15, 4, 20, 9)), atol=1e-4)


def test_thresholds_come_from_the_config() -> None:
    weak = Told([(OWN, 1, 0.55), ((4, 4, 9, 8), 2, 0.56)], [((0, 0, 3, 2), 1, 0.9)])
    given = batch(known((0, 0, 3, 3)))
    for more, counts in (
        ({}, [1, 1]),
        ({"min_score": 0.5}, [1, 3]),
        ({"min_score": 0.5, "class_aware": False}, [1, 2]),
        ({"min_score": 0.5, "class_aware": False, "nms_iou": 0.9}, [1, 3]),
        ({"match_iou": 0.7}, [2, 1]),
    ):
        assert [len(one) for one in stepped(weak, given, **more)["taught"]] == counts


def test_where_nothing_is_mined_what_was_known_stays() -> None:
    whole, empty, unknown = known(OWN, complete=True), Target(boxes(), labels()), Target.unknown()
    detector = Told(*[[]] * 6)
    taught = stepped(detector, batch(whole, empty, unknown))["taught"]
    assert [one.state for one in taught] == ["complete", "complete", "unlabelled"] * 2
    finds = Told(*[[(OTHER, 2, 0.9)]] * 6)
    taught = stepped(finds, batch(whole, empty, unknown))["taught"]
    assert [one.state for one in taught] == ["sparse"] * 6
    assert [len(one) for one in taught] == [2, 1, 1] * 2


def test_watching_sees_what_taught() -> None:
    kept: list = []
    detector = Told([(OWN, 1, 0.9)], [(OTHER, 2, 0.8)])
    given = batch(known((0, 0, 3, 3)))
    made = recipe(Config(), watch=lambda *seen: kept.append(seen))
    made.step(detector, given, generator=generator(0))
    ((seen, images, c_o, c_a),) = kept
    assert seen is given and torch.equal(images[0], detector.calls[0]["images"][1])
    assert mined(c_o[0]) == [list(OTHER)] and mined(c_a[0]) == [list(OWN)]


@pytest.fixture(scope="module")
def scenes():
    return sparse(make_scenes(4, seed=0), "extreme", seed=0)


def losses_of(detector, given: Batch, config: Config) -> dict[str, float]:
    found = step(detector, given, generator=generator(0), config=config)
    return {name: float(value.detach()) for name, value in found.items()}


@pytest.mark.parametrize("make", [retinanet, fcos])
def test_with_a_detector_the_loss_is_that_of_both_views(make, scenes) -> None:
    detector = make(scenes.classes, seed=1)
    ids = list(scenes.ids[:2])
    images = [scenes.image(i) for i in ids]
    given = Batch(ids, images, [scenes.target(i) for i in ids], scenes, 0, 0.0)
    kept: list = []
    config = replace(Config(), min_score=0.02, view="none")  # a beginner's scores
    with torch.no_grad():
        detector.model.head.classification_head.cls_logits.weight *= 12
    found = step(
        detector, given, generator=generator(0), config=config, watch=lambda *s: kept.append(s)
    )
    _, _, c_o, c_a = kept[0]
    assert sum(len(one) for one in c_o) > 2
    assert [a.boxes.tolist() for a in c_o] == [a.boxes.tolist() for a in c_a]  # no view, no swap
    with_what_was_mined = detector.losses_from(
        images, lambda _: c_o, generator=generator(0), frozen_norm=True
    )
    for name, value in found.items():  # Eq. 2: L_o + L_a
        assert float(value.detach()) == pytest.approx(
            2 * float(with_what_was_mined[name].detach()), rel=1e-4
        )
    gradient = torch.autograd.grad(sum(found.values()), detector.parameters())
    again = torch.autograd.grad(2 * sum(with_what_was_mined.values()), detector.parameters())
    for one, other in zip(gradient, again, strict=True):  # none goes through pseudo-labels
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


def test_draws_depend_on_the_generator_alone(scenes) -> None:
    detector = retinanet(scenes.classes, seed=1)
    given = Batch(
        [scenes.ids[0]], [scenes.image(scenes.ids[0])], [scenes.target(scenes.ids[0])], scenes, 0, 0
    )
    torch.manual_seed(0)
    first = losses_of(detector, given, Config())
    torch.manual_seed(1)
    assert losses_of(detector, given, Config()) == first
    assert losses_of(detector, given, replace(Config(), view="none")) != first


@pytest.mark.parametrize("make", [retinanet, fcos])
def test_a_run_of_one_cycle(make, scenes) -> None:
    start = make(scenes.classes, seed=1)
    config = replace(Config.toy(), steps=2, batch=2)
    history = run(
        recipe(config), start, scenes, oracle=None, budget=1, cycles=1, seed=0, progress=False
    )
    assert len(history.rows) == 2 and not history.rows[1].picked
    before = start.state_dict()
    assert any(not torch.equal(before[k], v) for k, v in history.detector.state_dict().items())
    calls: list[int] = []
    counted = history.detector.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    assert type(history.detector) is type(start)
    assert len(history.detector.detect([scenes.image(scenes.ids[0])])) >= 0 and calls == [1]
    counted.remove()  # detecting is one branch's work
    again = run(
        recipe(config), start, scenes, oracle=None, budget=1, cycles=1, seed=0, progress=False
    )
    same = again.detector.state_dict()
    assert all(torch.equal(same[k], v) for k, v in history.detector.state_dict().items())


@pytest.mark.parametrize("make", [retinanet, fcos, faster_rcnn])
def test_an_exploding_loss_stops_and_names_the_batch(make, scenes) -> None:
    broken = make(scenes.classes, seed=1)
    heads = {FasterRCNN: lambda model: model.roi_heads.box_predictor.cls_score}
    last = heads.get(type(broken), lambda model: model.head.classification_head.cls_logits)
    with torch.no_grad():
        last(broken.model).bias += torch.inf
    made = recipe(replace(Config.toy(), steps=1, batch=2))
    with pytest.raises(FloatingPointError, match=rf"class logits are not finite.*{scenes.ids[0]}"):
        fit(broken, scenes, TrainConfig(steps=1, batch=4), step=made.step, seed=0, progress=False)


@pytest.mark.parametrize("make", [retinanet, fcos, faster_rcnn])
def test_a_batch_of_empty_images_and_a_class_never_annotated(make) -> None:
    pool = make_scenes(2, seed=0)
    detector = make(pool.classes, seed=1)
    images = [pool.image(i) for i in pool.ids]
    for target in (Target(boxes(), labels()), Target.unknown()):
        given = Batch(list(pool.ids), images, [target] * 2, pool, 0, 0.0)
        found = losses_of(detector, given, Config())
        assert (found["cls"] > 0) == target.complete and found["reg"] == 0
    one = Batch(list(pool.ids), images, [known((5, 5, 40, 40))] * 2, pool, 0, 0.0)
    assert all(0 <= value < 1e3 for value in losses_of(detector, one, Config()).values())
    outside = Batch(list(pool.ids), images, [known((200, 5, 260, 40))] * 2, pool, 0, 0.0)
    assert losses_of(detector, outside, Config())["reg"] == 0


def test_config_and_refusals(scenes) -> None:
    paper = Config()
    assert (paper.min_score, paper.nms_iou, paper.match_iou) == (0.6, 0.5, 0.4)
    assert (paper.steps, paper.batch, paper.lr, paper.view) == (90_000, 16, 0.01, "colour")
    assert paper.training().optimizer == "sgd" and paper.training().warmup == 1000 / 90_000
    rates = [paper.training().rate(step) for step in (59_999, 60_000, 80_000)]
    assert rates == pytest.approx([1, 0.1, 0.01])
    assert Config.toy().training().steps < 1000
    assert recipe().config == Config.toy() and recipe().query is None and recipe().mine is None
    mixed = scenes.updated({scenes.ids[0]: Target.unknown()}, cycle=1)
    assert list(recipe().trains_on(mixed)) == list(scenes.ids[1:])
    for wrong, message in (
        ({"min_score": -1}, r"min_score = -1: a number from 0 to 1"),
        ({"match_iou": 2}, r"match_iou = 2: a number"),
        ({"view": "sepia"}, r"view = 'sepia': use one of colour, blur, none"),
        ({"steps": -1}, r"steps = -1"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(Config(), **wrong)
    with pytest.raises(ValueError, match=r"comining needs a detector with losses_from"):
        run(
            comining.recipe(),
            Plain(scenes.classes),
            scenes,
            oracle=None,
            budget=1,
            cycles=1,
            seed=0,
        )


class Plain(nn.Module):
    """No `losses_from`."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.ones(()))

    def losses(self, images, targets, *, generator): ...

    def detect(self, images): ...
