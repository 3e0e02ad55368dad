from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from almining.cycle import run
from almining.label import Simulated
from almining.papers import bib
from almining.papers.bib import rivals
from almining.plain import from_plain, to_plain
from almining.records import Evidence, Request, Target
from almining.rng import generator
from tests.fakes import target
from tests.oracles import kmeans_pp_loop
from tests.papers.bib.test_recipes import GREEDY, STEPS, ask, ids, numbers
from tests.papers.bib.told import ALONE, PAIR, WHOLE, Told, number_of, pool_of, truth_of

TAGS = [frozenset(), {1}, {2}, {1, 2}, None]


def mixed(n: int, done: int = 0):
    """Images of which different things are known; the first are complete."""
    return pool_of(n, lambda i: target((1, 1, 5, 5)) if i < done else Target.unknown(TAGS[i % 5]))


def loop(rows, groups, budget: int, chosen, seed: int) -> list[str]:
    source, first = generator(seed), 0
    if not chosen:
        sizes = Counter(groups).values()
        ties = sum(size == max(sizes) for size in sizes)
        first = int(torch.randint(ties, (), generator=source))

    def uniforms() -> list[float]:
        return torch.rand(GREEDY.local_trials, generator=source, dtype=torch.float64).tolist()

    more = {"chosen": chosen, "power": GREEDY.power, "first": first, "uniforms": uniforms}
    return kmeans_pp_loop(rows, groups, budget, **more)


# k-means++ on images and on regions


@pytest.mark.parametrize("done", [0, 4])
def test_images_by_their_own_features_agree_with_the_loop(done: int) -> None:
    pool = mixed(20, done)
    rows = [[float(i * i % 11), 1.0] for i in range(20)]
    asked = ask(rivals.kmeans_images(GREEDY), pool=pool, budget=5, seed=3)
    assert ids(asked) == loop(rows, list(pool.ids), 5, list(pool.ids[:done]), 3)
    assert asked[0].evidence.text == "unlike every image chosen before"


@pytest.mark.parametrize("tagged_only", [True, False])
def test_confident_regions_agree_with_the_loop(tagged_only: bool) -> None:
    config = replace(GREEDY, tagged_only=tagged_only, min_score=0.3)
    pool, detector = mixed(20), Told()
    rows, groups, boxes = [], [], {}
    for i, image_id in enumerate(pool.ids):
        tags = TAGS[i % 5] if tagged_only else None
        kept = [
            box
            for box, label, score in detector.said(i, 0)
            if score > 0.3 and (tags is None or label in tags)
        ]
        boxes[image_id] = torch.tensor(kept, dtype=torch.float32).reshape(-1, 4)
        rows += detector.looks(i, boxes[image_id]).tolist()
        groups += [image_id] * len(kept)
    asked = ask(rivals.kmeans_regions(config), detector, pool, 5, 4)
    assert ids(asked) == loop(rows, groups, 5, [], 4)
    for one in asked:
        assert torch.equal(one.evidence.data["boxes"], boxes[one.image_id])
        assert from_plain(to_plain(one)).evidence.text == "regions unlike those chosen before"


@pytest.mark.parametrize("keep", [True, False])
def test_regions_of_earlier_cycles_count_as_seen(keep: bool) -> None:
    class Far(Told):
        """All images look alike, but for the last."""

        def looks(self, number: int, boxes: Tensor) -> Tensor:
            return torch.full((len(boxes), 2), 100.0 if number == 11 else boxes[0, 0])

    detector = Far(dict.fromkeys(range(12), ALONE))
    made = rivals.kmeans_regions(replace(bib.Config(), keep_pairs=keep))
    start = pool_of(12)
    first = ask(made, detector, start, 12)
    known = start.updated({"im-1": target((1, 1, 3, 3))}, cycle=1)
    picks = {numbers(ask(made, detector, known, 1, seed, asked=first))[0] for seed in range(12)}
    assert picks == {11} if keep else len(picks) > 3 and 1 not in picks
    moved = [replace_boxes(one) for one in first]
    picks = {numbers(ask(made, detector, known, 1, seed, asked=moved))[0] for seed in range(12)}
    assert len(picks) > 3  # the boxes seen are those it was asked for with, far from all


def replace_boxes(one: Request) -> Request:
    boxes = {"boxes": torch.tensor([[50.0, 0, 60, 9]])}
    return replace(one, evidence=Evidence("regions", boxes, "why"))


@pytest.mark.parametrize("make", [rivals.kmeans_images, rivals.kmeans_regions])
def test_few_many_none(make) -> None:
    done = pool_of(3, lambda i: target((2, 2, 9, 9)))
    assert ask(make(), pool=done) == [] and ask(make(), pool=pool_of(0)) == []
    assert ids(ask(make(), Told({0: PAIR}), pool_of(1), 9)) == ["im-0"]
    assert ask(make(), budget=0) == []


def test_too_few_images_with_regions_are_filled_at_random_and_said_so() -> None:
    detector = Told({3: PAIR, 5: ALONE, 6: [(WHOLE, 1, 0.05)]})
    with pytest.warns(
        UserWarning, match="only 2 images hold regions above a score of 0.1: .*, 3 of 5"
    ):
        asked = ask(rivals.kmeans_regions(), detector, pool_of(9), 5)
    assert {*numbers(asked[:2])} == {3, 5} and len({*ids(asked)}) == 5
    assert asked[4].evidence.text.startswith("only 2 images hold regions above")


def test_features_of_images_that_are_not_finite_are_named() -> None:
    class Lost(Told):
        def embed(self, images):
            return torch.tensor([[torch.nan if number_of(i) == 4 else 1.0] for i in images])

    with pytest.raises(FloatingPointError, match="features of 'im-4' reach nan"):
        ask(rivals.kmeans_images(), Lost())


# the loss


class Losing(Told):
    """Loses a table's sums on each image, and keeps what it was told."""

    def __init__(self, table: dict[str, dict[int, float]]) -> None:
        super().__init__()
        self.table, self.told = table, []

    def losses(self, images, targets, *, generator, training=True):
        if training:
            return {"turn": -self.turn}
        (image,), (known,) = images, targets
        self.told.append((number_of(image), known.present, torch.is_grad_enabled()))
        number = number_of(image)
        return {name: torch.tensor(of[number]) for name, of in self.table.items()}


NAMES = ("mil", "cls1", "reg1", "cls2", "reg2", "cls3", "reg3")


def losing(n: int) -> Losing:
    draws = torch.Generator().manual_seed(1)
    return Losing(
        {name: dict(enumerate(torch.rand(n, generator=draws).tolist())) for name in NAMES}
    )


@pytest.mark.parametrize(
    ("term", "names"),
    [
        ("mil", ["mil"]),
        ("1", ["cls1", "reg1"]),
        ("2", ["cls2", "reg2"]),
        ("3", ["cls3", "reg3"]),
        ("sum", ["cls1", "reg1", "cls2", "reg2", "cls3", "reg3"]),
    ],
)
def test_the_images_on_which_most_is_lost_come_first(term: str, names: list[str]) -> None:
    detector, pool = losing(20), mixed(20, done=4)
    asked = ask(rivals.loss(term=term), detector, pool, 6)
    lost = {i: sum(detector.table[name][i] for name in names) for i in range(4, 20)}
    assert numbers(asked) == sorted(lost, key=lost.get, reverse=True)[:6]
    for one in asked:
        assert one.score == pytest.approx(lost[int(one.image_id[3:])])
        assert one.evidence.text == f"the loss is {one.score:.3f}"
        assert one.evidence.data == {"loss": one.score} and one.evidence.kind == "loss"
    told = [(i, pool.target(f"im-{i}").present, False) for i in range(4, 20)]
    assert detector.told == told  # each alone, its tags known, and no gradient
    assert rivals.loss(term=term).name == ("loss" if term == "3" else f"loss_{term}")


def test_the_loss_of_few_and_none_and_ties() -> None:
    detector = Losing({name: dict.fromkeys(range(5), 1.0) for name in NAMES})
    assert numbers(ask(rivals.loss(), detector, pool_of(5), 3)) == [0, 1, 2]
    assert len(ask(rivals.loss(), detector, pool_of(5), 99)) == 5
    assert ask(rivals.loss(), detector, pool_of(0)) == []


def test_losses_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="term = '4': use one of mil, 1, 2, 3, sum"):
        rivals.loss(term="4")
    with pytest.raises(ValueError, match=r"loss asks Told\.losses for its loss as in evaluation"):
        ask(rivals.loss())
    few = Losing({"mil": dict.fromkeys(range(20), 1.0)})
    with pytest.raises(ValueError, match="losses are mil; cls3 is none of them"):
        ask(rivals.loss(), few)
    detector = losing(20)
    detector.table["cls2"][7] = torch.nan
    with pytest.raises(FloatingPointError, match=r"losses are not finite.*im-7\b"):
        ask(rivals.loss(term="2"), detector)


def test_a_detector_that_cannot_tell_its_loss_is_refused_before_training() -> None:
    class Untrained(Told):
        def losses(self, images, targets, *, generator):
            raise RuntimeError("trained")

    with pytest.raises(ValueError, match="takes no such argument"):
        run(rivals.loss(), Untrained(), pool_of(4), oracle=None, budget=1, cycles=1, seed=0)


@pytest.mark.parametrize(
    "make", [rivals.kmeans_images, rivals.kmeans_regions, rivals.loss], ids=lambda m: m.__name__
)
def test_runs_go_on_and_end_alike(make, tmp_path: Path) -> None:
    def through(cycles: int, folder: Path | None):
        given = {"budget": 2, "seed": 5, "progress": False, "oracle": Simulated(truth_of(24))}
        return run(make(STEPS), losing(24), pool_of(24), cycles=cycles, run_dir=folder, **given)

    whole = through(3, None)
    assert [row.images for row in whole.rows] == [0, 2, 4, 6]
    assert len(through(1, tmp_path).rows) == 2
    assert through(3, tmp_path).to_json() == whole.to_json()
