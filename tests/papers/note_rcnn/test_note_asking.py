"""Which mined boxes are asked about: those on which the two heads agree least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from almining.cycle import run
from almining.data.pool import Pool
from almining.data.regimes import seeds_and_tags, source_target
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import faster_rcnn
from almining.label import Simulated
from almining.papers.note_rcnn import Config, doubts, initialise, recipe
from almining.reasons import shown
from almining.records import Request, Target
from almining.rng import generator
from tests.fakes import boxes, flat_pool, labels

LEFT, RIGHT, OTHER = (0.0, 0, 8, 8), (12.0, 0, 20, 8), (4.0, 8, 12, 14)
SURE = ((0.1, 0.9, 0.0), (0.1, 0.9, 0.0))  # of seed head and mixed head; score 0
TORN = ((0.1, 0.9, 0.0), (0.5, 0.3, 0.2))  # (0.4 + 0.6 + 0.2) / 2 = 0.6
SOME = ((0.5, 0.5, 0.0), (0.5, 0.3, 0.2))  # 0.2


class Heads(nn.Module):
    """Says what it is told of a box, by the left side of the box."""

    classes = ("dark", "light")
    variant = "det-az-rpn-a"

    def __init__(self, said: dict[float, Any]) -> None:
        super().__init__()
        self.weight, self.said = nn.Parameter(torch.ones(())), said

    def heads(self, images: Any, given: Any) -> list[Tensor]:
        return [
            torch.tensor([self.said[left] for left in some[:, 0].tolist()]).reshape(-1, 2, 3)
            for some in given
        ]


def mined(*rows: tuple[float, ...], origin: Any = None, label: int = 1, **more: Any) -> Target:
    names = ["mined:note_rcnn:1"] * len(rows) if origin is None else origin
    found = boxes(*rows), labels(*[label] * len(rows))
    return Target(*found, origin=names, tags={1, 2}, complete=False, **more)


def pool_of(*targets: Target) -> Pool:
    pool = flat_pool(len(targets))
    return pool.updated(dict(zip(pool.ids, targets, strict=True)), cycle=1)


def ask(pool: Pool, said: dict[float, Any], budget: int = 99, **more: Any) -> list[Request]:
    return doubts()(Heads(said), pool, budget, generator=generator(0), **more)


SAID = {0.0: SOME, 12.0: TORN, 4.0: SURE}


def test_the_least_agreed_on_come_first() -> None:
    pool = pool_of(mined(LEFT), mined(OTHER, RIGHT))
    made = ask(pool, SAID)
    assert [one.id for one in made] == ["verify:flat-1:1", "verify:flat-0:0", "verify:flat-1:0"]
    assert [one.score for one in made] == pytest.approx([0.6, 0.2, 0.0])
    first = made[0]
    assert first.kind == "verify" and first.label == 1 and first.image_id == "flat-1"
    assert first.box is not None and tuple(first.box.tolist()) == RIGHT
    assert first.evidence is not None and first.evidence.text == (
        "mined as dark; the seed head says dark 0.90, the mixed head background 0.50"
    )
    assert [(one.role, one.text) for one in shown(first, pool).marks] == [
        ("seed head", "dark 0.90"),
        ("mixed head", "background 0.50, dark 0.30"),
    ]
    assert [one.id for one in ask(pool, SAID, 1)] == ["verify:flat-1:1"]
    assert ask(pool, SAID, 0) == []


def test_of_equal_ones_the_first() -> None:
    made = ask(pool_of(mined(RIGHT, LEFT), mined(LEFT)), {12.0: TORN, 0.0: TORN}, 2)
    assert [one.id for one in made] == ["verify:flat-0:0", "verify:flat-0:1"]


def test_which_boxes_are_asked_about() -> None:
    whole = Target(boxes(LEFT), labels(1))
    ignored = mined(LEFT, RIGHT, ignore=torch.tensor([True, False]))
    both = mined(LEFT, RIGHT, origin=["human", "mined"])
    pool = pool_of(whole, Target.unknown({1}), ignored, both)
    assert [one.id for one in ask(pool, SAID)] == ["verify:flat-2:1", "verify:flat-3:1"]
    assert ask(pool_of(whole, Target.unknown()), SAID) == []
    assert ask(flat_pool(1).subset([]), SAID) == []
    assert [one.id for one in ask(pool_of(mined(LEFT)), SAID)] == ["verify:flat-0:0"]


def test_no_box_is_asked_about_twice() -> None:
    pool = pool_of(mined(LEFT, RIGHT), mined(LEFT))
    asked = ask(pool, SAID)[:1]
    assert asked[0].id == "verify:flat-0:1"
    moved = (12.0, 1.0, 20.0, 9.0)  # mined again, a little lower
    again = pool_of(mined(LEFT, moved), mined(RIGHT))
    left = ask(again, SAID, asked=asked)
    assert [one.id for one in left] == ["verify:flat-1:0", "verify:flat-0:0"]
    other = pool_of(mined(LEFT, moved, label=2), mined(RIGHT))  # of another class
    assert len(ask(other, SAID, asked=asked)) == 3


def test_what_has_one_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variant = 'naive' has one head only.*use det-a, det-az"):
        doubts(replace(Config.toy(), variant="naive"))
    with pytest.raises(ValueError, match="'det-az-rpn-a', the config wants 'det-az'"):
        query = doubts(replace(Config.toy(), variant="det-az"))
        query(Heads(SAID), pool_of(mined(LEFT)), 1, generator=generator(0))

    class Bare(nn.Module):
        variant = "det-az-rpn-a"

    with pytest.raises(ValueError, match=r"Bare has no heads\(images, boxes\)"):
        doubts()(Bare(), pool_of(mined(LEFT)), 1, generator=generator(0))


def test_a_run_that_asks() -> None:
    scenes = make_scenes(12, seed=0, size=64)
    _, hidden = source_target(scenes, [n for n in scenes.classes if n not in ("cat", "person")])
    source = faster_rcnn(("car", "cat"), min_size=64)
    config = replace(Config.toy(), min_score=0.0, epochs=0.5, first_epochs=1, distill="never")
    few = seeds_and_tags(hidden, 1, seed=0)
    first = initialise(few, source, config, seed=0, progress=False)
    first.plain.model.roi_heads.score_thresh = 0.0
    made = recipe(config, query=doubts(config))
    assert (made.name, made.alone, recipe(config).alone) == ("note_rcnn_asking", True, False)
    ask = {"oracle": Simulated(hidden), "budget": 3, "cycles": 2, "seed": 0, "progress": False}
    history = run(made, first, few, **ask)
    assert [len(row.picked) > 0 for row in history.rows] == [False, False, True]  # mined, asked
    assert history.rows[2].seconds > 0 and history.pending == ()
    assert any("mined" in o for i in few.ids for o in history.pool.target(i).origin)
