"""Divergence and its rivals as recipes, on films whose scores are known beforehand."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from almining import cycle
from almining.cycle import acquired
from almining.data.formats.files import BrokenImageError
from almining.data.pool import ImageInfo, Pool
from almining.data.regimes import unlabelled
from almining.data.street import make_street
from almining.demo import load_demo
from almining.detectors.dense import dense
from almining.label import Simulated
from almining.papers import baselines, divergence
from almining.papers.divergence import (
    Config,
    disagreement,
    image_score,
    ranked,
    rivals,
    score_map,
)
from almining.papers.divergence.recipes import BATCH
from almining.plain import from_plain, to_plain
from almining.reasons import shown
from almining.recipe import check_methods
from almining.records import Target
from almining.rng import generator
from almining.score import entropy
from almining.select import pick_frames, smooth
from tests.fakes import FlatDetector, target

CONFIG = replace(Config.toy(), radius=1, region=4, blocked_now=3, blocked_later=1, half_window=0)


class Films:
    """Frames black at the left and of some red at the right: the more red, the more divergence.

    Blue is 0.5 all over where the frame is flat.
    """

    def __init__(self, red: dict[str, float], flat=(), bad=()) -> None:
        self.red, self.flat, self.bad = red, flat, bad

    def load(self, image_id: str) -> Tensor:
        if image_id in self.bad:
            raise BrokenImageError(image_id, f"{image_id}.jpg", "image file is truncated")
        image = torch.zeros(3, 8, 12)
        image[0, :, 6:] = self.red[image_id]
        image[2] = 0.5 * (image_id in self.flat)
        return image


def films(scores: dict[str, list[float]], *, known=(), order=None, infos=None, **images) -> Pool:
    """One video per name, a frame per score; `known` ids are labelled from the start."""
    red = {f"{video}/{i}": one for video, many in scores.items() for i, one in enumerate(many)}
    ids = list(red) if order is None else [list(red)[i] for i in order]
    targets = {i: target((2, 2, 6, 6)) if i in known else Target.unknown() for i in ids}
    places = {i: ImageInfo(video=i.split("/")[0], frame=int(i.split("/")[1])) for i in ids}
    infos = places if infos is None else infos
    return Pool(("dark", "light"), targets, Films(red, **images), infos=infos)


class DenseDetector(FlatDetector):
    """Red, green and blue are the probabilities; passes differ in the red at the right."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple] = []

    def dense(self, images) -> list[Tensor]:
        return [image.clone() for image in images]

    def passes(self, images, count, *, dropout, generator):
        self.asked.append((count, dropout, len(images)))
        for _ in range(count):
            kept = torch.rand((), generator=generator) >= dropout
            yield [image * kept for image in images]


def ask(recipe, pool, budget, *, detector=None, seed=0) -> list:
    detector = DenseDetector() if detector is None else detector
    return recipe.query(detector, pool, budget, generator=generator(seed, "query"))


def ids_of(requests) -> list[str]:
    return [request.image_id for request in requests]


def answered(pool: Pool, ids, *, at: int) -> Pool:
    return pool.updated({i: target((2, 2, 6, 6)) for i in ids}, cycle=at)


FILM = {"a": [0.1, 0.9, 0.8, 0.2, 0.7, 0.6, 0.1, 0.05], "b": [0.3, 0.85, 0.4]}


def test_the_best_frames_apart_are_asked_for() -> None:
    pool = films(FILM)
    found = ask(divergence.recipe(CONFIG), pool, 9)
    assert ids_of(found) == ["a/1", "b/1", "a/5"]  # a/2 and a/4 are within 3 of a/1
    scores = [image_score(score_map(pool.image(i), radius=1), region=4) for i in ids_of(found)]
    assert [request.score for request in found] == pytest.approx(scores)
    assert {(request.kind, request.id) for request in found} == {
        ("complete", f"complete:{i}") for i in ids_of(found)
    }
    assert ids_of(ask(divergence.recipe(CONFIG), pool, 2)) == ["a/1", "b/1"]


def test_eq_1_to_6_in_order() -> None:
    config = replace(CONFIG, half_window=2, sigma=1.0, blocked_now=2)
    pool = films(FILM)
    raw = [image_score(score_map(pool.image(i), radius=1), region=4) for i in pool.ids]
    video, frame = zip(*[i.split("/") for i in pool.ids], strict=True)
    frame = list(map(int, frame))
    best = smooth(raw, video=video, frame=frame, half_window=2, sigma=1.0)
    wanted = pick_frames(best, 4, video=video, frame=frame, blocked_now=2)
    found = ask(divergence.recipe(config), pool, 4)
    assert ids_of(found) == [pool.ids[i] for i in wanted]
    for request, i in zip(found, wanted, strict=True):
        data = request.evidence.data
        assert (data["score"], data["smoothed"]) == pytest.approx((raw[i], float(best[i])))
        assert request.score == data["smoothed"]


def test_the_evidence_says_why() -> None:
    request = ask(divergence.recipe(replace(CONFIG, half_window=1)), films(FILM), 1)[0]
    why = request.evidence
    assert why.kind == "divergence" and why.data["region"] == 4
    assert why.data["blocks"].shape == (2, 3) and why.data["blocks"].argmax() == 1
    assert float(why.data["blocks"].mean()) == pytest.approx(why.data["score"])
    assert why.text == (
        f"divergence {why.data['score']:.3g}, {request.score:.3g} among its neighbours in time; "
        "highest near x = 6, y = 2"
    )
    again = from_plain(to_plain(request))
    assert torch.equal(again.evidence.data["blocks"], why.data["blocks"])
    plain = ask(divergence.recipe(CONFIG), films(FILM), 1)[0].evidence.text
    assert "neighbours" not in plain


def test_the_evidence_has_the_scores_of_the_frames_around() -> None:
    config = replace(CONFIG, half_window=2)
    pool = films(FILM, known=["a/3"])
    raw = {i: image_score(score_map(pool.image(i), radius=1), region=4) for i in pool.ids}
    made = ask(divergence.recipe(config), pool, 9)
    assert ids_of(made) == ["a/2", "b/2", "a/6"]
    for one, offsets in zip(made, ([-2, -1, 2], [-2, -1], [-2, -1, 1]), strict=True):
        video, frame = one.image_id.split("/")  # a/3 has no score
        assert one.evidence.data["offsets"].tolist() == offsets
        wanted = [raw[f"{video}/{int(frame) + step}"] for step in offsets]
        assert one.evidence.data["neighbours"].tolist() == pytest.approx(wanted)
    said = [caption for _, caption in shown(made[0], pool).strip]
    scores = [f"frame {i}: {raw[f'a/{i}']:.3g}" for i in (0, 1, 4)]
    assert said == [*scores[:2], "frame 3", scores[2], "frame 5"]
    for alone in (films(FILM, infos={}), films(FILM)):
        data = ask(divergence.recipe(CONFIG), alone, 1)[0].evidence.data  # a window of 0
        assert not len(data.get("offsets", ()))


def test_frames_of_earlier_cycles_block_their_neighbours() -> None:
    pool = answered(films(FILM), ["a/1", "b/1"], at=1)
    # a/0, a/2, b/0 and b/2 are next to them
    assert ids_of(ask(divergence.recipe(CONFIG), pool, 9)) == ["a/4"]
    wider = divergence.recipe(replace(CONFIG, blocked_later=3))
    assert ids_of(ask(wider, pool, 9)) == ["a/5"]
    none = divergence.recipe(replace(CONFIG, blocked_later=0))
    assert ids_of(ask(none, pool, 9)) == ["a/2", "b/2", "a/6"]
    # what was known at the start blocks nothing
    known = films(FILM, known=["a/1"])
    assert ids_of(ask(divergence.recipe(CONFIG), known, 1)) == ["b/1"]
    assert "a/2" in ids_of(ask(divergence.recipe(CONFIG), known, 2))


def test_frames_in_any_order_give_the_same_picks() -> None:
    recipe = divergence.recipe(replace(CONFIG, half_window=1))
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1)).tolist()
    found = ids_of(ask(recipe, films(FILM), 4))
    assert found == ids_of(ask(recipe, films(FILM, order=order), 4)) and len(found) > 2


def test_stills_have_no_neighbours() -> None:
    stills = films(FILM, infos={})
    config = replace(CONFIG, half_window=3)
    found = ask(divergence.recipe(config), stills, 4)
    assert ids_of(found) == ["a/1", "b/1", "a/2", "a/4"]
    assert found[0].evidence.data["score"] == found[0].score
    assert "neighbours" not in found[0].evidence.text
    later = answered(stills, ["a/1"], at=1)
    assert ids_of(ask(divergence.recipe(config), later, 2)) == ["b/1", "a/2"]


def test_nothing_left_and_nothing_there() -> None:
    pool = films({"a": [0.5, 0.6, 0.7]})
    recipe = divergence.recipe(CONFIG)
    assert len(ask(recipe, pool, 50)) == 1
    assert ask(recipe, answered(pool, ["a/1"], at=1), 5) == []  # the rules leave nothing
    assert ask(recipe, answered(pool, pool.ids, at=1), 5) == []
    assert ask(recipe, films({}), 5) == []
    assert ids_of(ask(recipe, films({"a": [0.5]}), 5)) == ["a/0"]


def test_a_frame_without_a_number_is_named() -> None:
    pool = films({"a": [0.5, 0.6]}, infos={"a/1": ImageInfo(video="a")})
    for recipe in (divergence.recipe(CONFIG), rivals.guided_random(CONFIG)):
        with pytest.raises(ValueError, match="image 'a/1' is of video 'a', but its frame"):
            ask(recipe, pool, 1)


def test_a_run_learns_from_what_was_asked_for_only() -> None:
    hidden = films(FILM, known=[f"{v}/{i}" for v in FILM for i in range(len(FILM[v]))])
    pool = films(FILM, known=["a/0"])
    config = replace(CONFIG, epochs=2, batch=2, optimizer="sgd", schedule="constant")
    recipe = divergence.recipe(config)
    asked = {"oracle": Simulated(hidden), "budget": 2, "seed": 0, "progress": False}
    done = cycle.run(recipe, DenseDetector(), pool, cycles=3, **asked)
    assert [row.picked for row in done.rows] == [(), ("a/1", "b/1"), ("a/4",), ("a/6",)]
    assert recipe.restart == "start"
    picked = [i for row in done.rows for i in row.picked]
    assert sorted(recipe.trains_on(done.pool)) == sorted(picked) == sorted(acquired(done.pool))
    assert recipe.train(done.pool).steps == 2 * math.ceil(len(picked) / 2)
    # the same picks from the pool alone: nothing is hidden in the recipe
    first = cycle.run(recipe, DenseDetector(), pool, cycles=1, **asked)
    again = ask(divergence.recipe(config), first.pool, 2)
    assert ids_of(again) == list(done.rows[2].picked)


def test_a_detector_without_dense_is_refused_before_training() -> None:
    pool = films(FILM)
    for recipe, method in (
        (divergence.recipe(CONFIG), "dense"),
        (rivals.mc_dropout(CONFIG), "passes"),
    ):
        with pytest.raises(ValueError, match=rf"needs a detector with {method}\(\.\.\.\)"):
            cycle.run(recipe, FlatDetector(), pool, oracle=None, budget=1, cycles=1, seed=0)


def test_bad_probabilities_are_told_with_the_images() -> None:
    class Wrong(DenseDetector):
        def dense(self, images):
            return [image * self.factor for image in images]

    detector = Wrong()
    detector.factor = math.nan
    with pytest.raises(FloatingPointError, match=r"not finite.*\(images a/0, a/1"):
        ask(divergence.recipe(CONFIG), films(FILM), 1, detector=detector)
    detector.factor = 9
    with pytest.raises(ValueError, match="not logits") as caught:
        ask(rivals.entropy(CONFIG), films(FILM), 1, detector=detector)
    assert "a/0, a/1" in caught.value.__notes__[0]


def test_broken_frames_are_passed_over() -> None:
    pool = films({"a": [0.5] * 150 + [0.9] + [0.5] * 50}, bad=["a/150"])
    with pytest.warns(UserWarning, match="a/150"):
        found = ids_of(ask(divergence.recipe(CONFIG), pool, 300))
    assert len(found) == 51 and "a/150" not in found


def test_maps_are_not_kept() -> None:
    alive: list[weakref.ref] = []

    class Watched(DenseDetector):
        most = 0

        def dense(self, images):
            Watched.most = max(Watched.most, sum(one() is not None for one in alive))
            maps = super().dense(images)
            alive.extend(map(weakref.ref, maps))
            return maps

    ask(divergence.recipe(CONFIG), films({"a": [0.5] * (4 * BATCH)}), 3, detector=Watched())
    assert Watched.most <= BATCH


def test_maps_that_carry_gradients_are_scored_without() -> None:
    class Careless(DenseDetector):
        def dense(self, images):
            assert not torch.is_grad_enabled()
            return [image * self.linear.weight.sum().exp() for image in images]

    pool = films(FILM)
    found = ask(divergence.recipe(CONFIG), pool, 2, detector=Careless())
    assert [one.score for one in found] == [
        one.score for one in ask(divergence.recipe(CONFIG), pool, 2)
    ]
    maps = pool.image("a/1").requires_grad_()
    assert image_score(score_map(maps, radius=1), region=4) == found[0].score
    assert not disagreement([[maps], [maps]])[0].requires_grad


@pytest.mark.parametrize(
    "make",
    [divergence.recipe, rivals.guided_random, rivals.mc_dropout],
    ids=lambda one: one.__name__,
)
def test_a_run_that_is_stopped_goes_on_to_the_same_picks(make, tmp_path) -> None:
    class Leaves(Simulated):
        def ask(self, requests, pool):
            for number, answer in enumerate(super().ask(requests, pool)):
                if requests[0].id.startswith("002") and number == 1:
                    raise KeyboardInterrupt
                yield answer

    hidden = films(
        {video: [0.1 * (i + 1) for i in range(9)] for video in "abc"},
        known=[f"{video}/{i}" for video in "abc" for i in range(9)],
    )
    config = replace(CONFIG, epochs=1, optimizer="sgd", half_window=2, blocked_now=2)
    given = {"budget": 3, "cycles": 3, "seed": 4, "progress": False}

    def run(oracle, **kept):
        pool = unlabelled(hidden, keep=0, seed=0)
        done = cycle.run(make(config), DenseDetector(), pool, oracle=oracle, **given, **kept)
        return [row.picked for row in done.rows]

    wanted = run(Simulated(hidden))
    assert [len(picked) for picked in wanted] == [0, 3, 3, 3]
    with pytest.raises(KeyboardInterrupt):
        run(Leaves(hidden), run_dir=tmp_path / "run")
    assert run(Simulated(hidden), run_dir=tmp_path / "run") == wanted


def test_guided_random_keeps_the_rules_and_asks_no_detector() -> None:
    pool = films({v: [0.5] * 20 for v in "abc"})
    recipe = rivals.guided_random(CONFIG)
    found = ids_of(ask(recipe, pool, 60, detector=object()))
    assert len(found) >= 9  # of 20 frames, at least 3 fit
    for video in "abc":
        frames = sorted(int(i.split("/")[1]) for i in found if i[0] == video)
        assert min(b - a for a, b in pairwise(frames)) > 3
    assert found == ids_of(ask(recipe, pool, 60)) != ids_of(ask(recipe, pool, 60, seed=1))
    later = ids_of(ask(recipe, answered(pool, ["a/10"], at=1), 60))
    assert not {"a/9", "a/10", "a/11"} & set(later)


def test_guided_random_is_uniform() -> None:
    pool = films({"a": [0.5] * 4})
    counts = dict.fromkeys(pool.ids, 0)
    for seed in range(400):
        counts[ids_of(ask(rivals.guided_random(CONFIG), pool, 1, seed=seed))[0]] += 1
    assert min(counts.values()) > 65  # 100 each, four standard deviations


def test_entropy_falls_for_a_flat_map() -> None:
    pool = films({"a": [0.9, 0.1], "b": [0.0]}, flat=["b/0"])
    assert ids_of(ask(rivals.entropy(CONFIG), pool, 1)) == ["b/0"]
    assert ids_of(ask(divergence.recipe(CONFIG), pool, 1)) == ["a/0"]
    why = ask(rivals.entropy(CONFIG), pool, 1)[0].evidence
    assert why.kind == "divergence" and why.data["score"] == pytest.approx(math.log(2))


def test_mc_dropout_scores_by_passes() -> None:
    pool = films(FILM)
    detector = DenseDetector()
    recipe = rivals.mc_dropout(CONFIG, dropout=0.1, passes=7)
    found = ask(recipe, pool, 3, detector=detector)
    assert [(7, 0.1, n) for n in (4, 4, 3)] == detector.asked and recipe.name == "mc_dropout_0.1_7"
    again = ask(recipe, pool, 3)
    assert ids_of(found) == ids_of(again) == ["a/1", "b/1", "a/5"]
    assert [one.score for one in found] == [one.score for one in again]
    assert rivals.mc_dropout().name == "mc_dropout_0.5_30"
    for bad in (0, 1, math.nan):
        with pytest.raises(ValueError, match="dropout = "):
            rivals.mc_dropout(CONFIG, dropout=bad)
    with pytest.raises(ValueError, match="passes = 1 must be"):
        rivals.mc_dropout(CONFIG, passes=1)


def test_each_part_can_be_left_out() -> None:
    config = replace(CONFIG, half_window=2, sigma=1.0)
    pool = films(FILM)
    unruled = ask(rivals.unruled(config), pool, 4)
    assert len({i.split("/")[0] for i in ids_of(unruled)}) <= 2
    assert [one.score for one in unruled] == sorted((one.score for one in unruled), reverse=True)
    assert len(ask(rivals.unruled(config), pool, 99)) == len(pool)
    later = answered(pool, ["a/1"], at=1)
    assert len(ask(rivals.unruled(config), later, 99)) == len(pool) - 1
    assert len(ask(divergence.recipe(config), pool, 99)) == 3
    rough = ask(rivals.unsmoothed(config), pool, 9)
    assert ids_of(rough) == ids_of(ask(divergence.recipe(CONFIG), pool, 9))
    assert all(one.score == one.evidence.data["score"] for one in rough)
    mean = ask(rivals.mean_pooled(CONFIG), pool, 1)[0]
    score = score_map(pool.image(mean.image_id), radius=1)
    assert mean.score == pytest.approx(float(score.mean()))
    names = [make(config).name for make in rivals.ALL]
    assert len(set(names)) == len(names) and "unsmoothed" in names


def test_rules_go_with_any_score() -> None:
    pool = films(FILM)
    recipe = ranked("boxes", lambda detector, images: map(entropy, detector.detect(images)), CONFIG)
    found = ask(recipe, pool, 9)
    assert ids_of(found) == ids_of(ask(rivals.box_entropy(CONFIG), pool, 9))
    assert ids_of(found) == ["a/0", "a/4", "b/0"]  # all alike: the first ones apart
    why = found[0].evidence
    assert why.kind == "score" and why.text == f"boxes {math.log(3):.3g}"
    assert rivals.box_entropy().needs == ("probs",)


def test_a_baseline_trains_like_the_paper() -> None:
    pool = answered(films(FILM), ["a/1", "a/5", "b/1"], at=1)
    made = baselines.u_random(CONFIG)
    assert list(made.trains_on(pool)) == ["a/1", "a/5", "b/1"]
    assert made.train(pool) == divergence.recipe(CONFIG).train(pool)


def test_the_papers_numbers() -> None:
    config = Config()
    assert (config.radius, config.region, config.blocked_now, config.blocked_later) == (
        9,
        30,
        15,
        2,
    )
    assert (config.per_cycle, config.cycles, config.epochs) == (500, 14, 50)
    assert (config.half_window, config.sigma, config.aggregate) == (5, 3.0, "max")
    pool = answered(films({"a": [0.5] * 20}), [f"a/{i}" for i in range(20)], at=1)
    schedule = config.schedule_for(pool)
    assert schedule.steps == 50 * 3 and schedule.optimizer == "rmsprop"
    rates = [schedule.lr * schedule.rate(step) for step in (0, 149)]
    assert rates == pytest.approx([1e-3, 1e-4], rel=0.05) and schedule.weight_decay == 2e-6
    assert config.schedule_for(films(FILM)).steps == 0
    for change, message in (
        ({"aggregate": "sum"}, "aggregate = 'sum': use one of max, mean"),
        ({"epochs": 0}, "epochs = 0 must be"),
        ({"batch": 0}, "batch = 0 must be"),
        ({"radius": -1}, "radius = -1 must be"),
        ({"region": 0}, "region = 0 must be"),
        ({"half_window": 1.5}, r"half_window = 1\.5 must be"),
        ({"sigma": 0}, "sigma = 0 frames"),
        ({"blocked_now": -1}, "blocked_now = -1 must be"),
        ({"blocked_later": None}, "blocked_later = None must be"),
        ({"per_cycle": 0}, "per_cycle = 0 must be"),
        ({"cycles": -1}, "cycles = -1 must be"),
        ({"lr": 0}, "lr = 0"),
        ({"optimizer": "rms"}, "optimizer = 'rms'"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**change)


@pytest.mark.gpu
def test_a_gpu_scores_as_a_processor_does() -> None:
    pool = unlabelled(make_street(1, 4, seed=3, size=(64, 64), busy=0.6), keep=0, seed=0)
    for make in (divergence.recipe, *rivals.ALL[1:]):  # random ones have no score
        here, there = (
            ask(make(), pool, 1, detector=load_demo("dense", device=device))[0]
            for device in ("cpu", "cuda")
        )
        assert there.score == pytest.approx(here.score, rel=0.02)
        assert there.evidence.data.get("blocks", torch.zeros(1)).is_cpu
    maps = torch.rand(5, 40, 60, generator=torch.Generator().manual_seed(0))
    found = score_map(maps.cuda(), radius=3)
    assert found.is_cuda and torch.allclose(found.cpu(), score_map(maps, radius=3), atol=1e-5)
    assert not score_map(torch.full((5, 53, 71), 1 / 3).cuda()).any()


def test_all_of_them_run_on_a_street() -> None:
    hidden = make_street(2, 5, seed=3, size=(64, 64), busy=0.6)
    pool = unlabelled(hidden, keep=0, seed=0)
    config = replace(Config.toy(), epochs=1, blocked_now=2)
    start = dense(hidden.classes)
    asked = {"oracle": Simulated(hidden), "budget": 3, "cycles": 1, "seed": 0, "progress": False}
    done = cycle.run(divergence.recipe(config), start, pool, **asked)
    assert len(done.rows[1].picked) == 3 and done.rows[1].images == 3
    for make in rivals.ALL:
        recipe = make(config)
        check_methods(recipe, start)
        assert len(ask(recipe, pool, 3, detector=start)) == 3
