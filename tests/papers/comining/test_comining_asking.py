"""Which images are asked about: those in which two views find different things."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from almining.cycle import run
from almining.data.pool import Pool
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.demo import load_demo
from almining.label import Simulated
from almining.papers.comining import Config, doubts, recipe
from almining.papers.comining.asking import compare
from almining.plain import from_plain, to_plain
from almining.reasons import shown
from almining.records import Detections, Request, Target
from almining.rng import generator
from tests.fakes import boxes, flat_pool, labels

OWN, NEAR, FAR = (4.0, 4.0, 9.0, 9.0), (4.0, 4.0, 9.0, 8.0), (14.0, 3.0, 22.0, 12.0)
Rows = list[tuple[tuple[float, ...], int, float]]


def found(rows: Rows) -> Detections:
    scores = torch.tensor([row[2] for row in rows])
    return Detections(boxes(*(row[0] for row in rows)), labels(*(row[1] for row in rows)), scores)


class Told(nn.Module):
    """Finds what it is told to in the images, and then in their views."""

    classes = ("dark", "light")

    def __init__(self, own: list[Rows], other: list[Rows]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.rows, self.seen = [*own, *other], []

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.seen += images
        return list(map(found, self.rows))


def unknown(n: int) -> Pool:
    pool = flat_pool(n)
    return pool.updated({i: Target.unknown() for i in pool.ids}, cycle=0)


def ask(pool: Pool, own: list[Rows], other: list[Rows], budget: int = 99, **more: Any) -> Any:
    config = replace(Config(), **more)
    return doubts(config)(Told(own, other), pool, budget, generator=generator(0))


def told(request: Request) -> list[tuple[tuple[float, ...], int, int, bool]]:
    data: Any = request.evidence.data if request.evidence else {}
    columns = (data[name].tolist() for name in ("boxes", "labels", "view", "agreed"))
    return [(tuple(box), *rest) for box, *rest in zip(*columns, strict=True)]


# two sets


def test_two_sets_by_hand() -> None:
    own = found([(OWN, 1, 0.9), (NEAR, 1, 0.8), (FAR, 2, 0.7)])
    other = found([(NEAR, 1, 0.6), (FAR, 1, 0.5)])
    both = compare(own, other)
    assert both["agreed"].tolist() == [True, False, False, True, False]  # one box takes one
    assert both["view"].tolist() == [0, 0, 0, 1, 1]
    assert both["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    swapped = compare(other, own)
    assert swapped["agreed"].tolist() == [True, False, False, True, False]
    for one, two in ((own, found([])), (found([]), own)):
        assert compare(one, two)["agreed"].tolist() == [False] * 3
    assert len(compare(found([]), found([]))["boxes"]) == 0


# what is asked


def test_the_image_of_most_disagreement_comes_first() -> None:
    own: list[Rows] = [[(OWN, 1, 0.9)], [(OWN, 1, 0.9), (FAR, 2, 0.7)], [(OWN, 1, 0.8)]]
    other: list[Rows] = [[(FAR, 2, 0.75)], [(NEAR, 1, 0.9)], [(OWN, 1, 0.8)]]
    made = ask(unknown(3), own, other)
    assert [one.id for one in made] == ["complete:flat-0", "complete:flat-1"]  # not flat-2
    assert [one.score for one in made] == pytest.approx([1.65, 0.7])
    assert told(made[0]) == [(OWN, 1, 0, False), (FAR, 2, 1, False)]
    assert told(made[1]) == [(OWN, 1, 0, True), (FAR, 2, 0, False), (NEAR, 1, 1, True)]
    assert made[1].evidence.text == (
        "view a alone finds 1 light, view b alone nothing; both: 1 dark"
    )
    assert [(one.role, one.text) for one in shown(made[1], unknown(3)).marks] == [
        ("view a", "light 0.70"),
        ("both views", "dark 0.90"),
    ]
    again = from_plain(to_plain(made[1]))
    assert told(again) == told(made[1])
    assert [one.id for one in ask(unknown(3), own, other, 1)] == ["complete:flat-0"]


def test_of_equal_images_the_first_and_none_of_none() -> None:
    same: list[Rows] = [[(OWN, 1, 0.9)]] * 3
    nothing: list[Rows] = [[]] * 3
    made = ask(unknown(3), same, nothing, 2)
    assert [one.image_id for one in made] == ["flat-0", "flat-1"]
    assert ask(unknown(3), same, same) == [] and ask(unknown(3), nothing, nothing) == []
    assert ask(unknown(0), [], []) == [] and ask(flat_pool(3), [], []) == []
    assert len(ask(unknown(1), same[:1], nothing[:1])) == 1


def test_pseudo_labels_are_those_of_training() -> None:
    rows: list[Rows] = [[(OWN, 1, 0.9), (FAR, 2, 0.55)]]
    known = unknown(1).updated({"flat-0": Target(boxes(NEAR), labels(1), complete=False)}, cycle=0)
    assert ask(known, rows, [[]]) == []  # one is drawn already, one below τ
    assert told(ask(known, rows, [[]], min_score=0.5)[0]) == [(FAR, 2, 0, False)]
    assert len(told(ask(known, rows, [[]], match_iou=0.9)[0])) == 1
    whole = unknown(2).updated({"flat-0": Target(boxes(OWN), labels(1))}, cycle=0)
    assert [one.image_id for one in ask(whole, rows, [[]])] == ["flat-1"]


def test_what_a_mirrored_view_finds_is_mapped_back() -> None:
    there = (2.0, 3.0, 10.0, 12.0)  # FAR, in an image 24 wide
    flip = v2.RandomHorizontalFlip(1.0)
    assert ask(unknown(1), [[(FAR, 1, 0.9)]], [[(there, 1, 0.9)]], view=flip) == []
    made = ask(unknown(1), [[]], [[(there, 1, 0.9)]], view=flip)
    assert torch.allclose(made[0].evidence.data["boxes"], boxes(FAR), atol=1e-3)


def test_views_are_drawn_by_the_generator_and_the_image() -> None:
    pool = make_scenes(2, seed=0, size=64)
    pool = pool.updated({i: Target.unknown() for i in pool.ids}, cycle=0)

    def views(some: Pool, seed: int) -> list[Tensor]:
        detector = Told([[]] * len(some), [[]] * len(some))
        doubts()(detector, some, 1, generator=generator(seed))
        return detector.seen[len(some) :]

    first, second = views(pool, 0)
    assert views(pool.subset(pool.ids[1:]), 0)[0].equal(second)
    assert not views(pool, 1)[0].equal(first)

    class Alike:
        def load(self, image_id: str) -> Tensor:
            return pool.image(pool.ids[0])

    twins = views(Pool(pool.classes, {i: pool.target(i) for i in pool.ids}, Alike()), 0)
    assert twins[0].equal(first) and not twins[1].equal(first)


def test_a_run_that_asks() -> None:
    hidden = make_scenes(4, seed=0)
    pool = sparse(hidden, "extreme", seed=0)
    config = replace(Config.toy(), steps=1, batch=2, min_score=0.2)
    made = recipe(config, query=doubts(config))
    assert (made.name, made.alone, recipe(config).alone) == ("comining_asking", True, False)
    asked: dict[str, Any] = {"oracle": Simulated(hidden), "budget": 1, "seed": 0, "progress": False}
    history = run(made, load_demo("retinanet"), pool, cycles=1, **asked)
    (picked,) = history.rows[1].picked
    assert history.pool.target(picked).complete and history.rows[1].images == 1
    calm = run(
        recipe(replace(config, min_score=1.0), query=doubts(replace(config, min_score=1.0))),
        load_demo("retinanet"),
        pool,
        cycles=1,
        **asked,
    )
    assert [row.picked for row in calm.rows] == [(), ()]  # it trains all the same
