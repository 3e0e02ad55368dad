from dataclasses import replace

import pytest
import torch

from almining.cycle import run
from almining.data.regimes import seeds_and_tags, source_target
from almining.data.scenes import make_scenes
from almining.detectors.note import note_rcnn
from almining.detectors.rcnn import faster_rcnn
from almining.papers.note_rcnn import Config, initialise
from almining.papers.note_rcnn.rivals import (
    ALL,
    ORIGIN,
    RIDGE,
    _fitted,
    frcn_semi_mil,
    frcn_semi_mil_seed,
    note_semi_mil_seed,
    objects,
    semi_mil,
)
from almining.records import Detections, Target
from almining.rng import generator
from tests.fakes import boxes, labels

QUICK = replace(Config.toy(), iterations=2, epochs=0.05, first_epochs=0.02, batch=4)
LOOKS = {
    "distractor": (-1.0, -1.0),
    "one": (3.0, 0.0),
    "two": (0.0, 3.0),
    "odd": (0.0, -9.0),
    "strong": (9.0, 0.0),
}


def seen(*names: str, objectness: tuple[float, ...] | None = None) -> Detections:
    """Regions in a row, each of a look; distractors are the likelier objects."""
    given = objectness or tuple(0.6 if name == "distractor" else 0.5 for name in names)
    return Detections(
        boxes(*[(10.0 * k, 0.0, 10.0 * k + 9, 9.0) for k in range(len(names))]),
        labels(*[1] * len(names)),
        torch.tensor(given),
        features=torch.tensor([LOOKS[name] for name in names]).reshape(-1, 2),
    )


def tagged(*tags: int) -> Target:
    return Target(boxes(), labels(), tags=frozenset(tags), complete=False)


FOUND = {
    "a": seen("distractor", "one"),
    "b": seen("one", "distractor", objectness=(0.7, 0.6)),
    "c": seen("distractor", "two"),
    "d": seen("distractor", "distractor", "two", "one", objectness=(0.6, 0.6, 0.5, 0.7)),
    "g": seen("distractor", "two", objectness=(0.6, 0.7)),
    "h": seen("two", "distractor", objectness=(0.7, 0.6)),
    "e": seen("distractor"),
    "f": seen(),
}
KNOWN = {
    "a": tagged(1),
    "b": tagged(1),
    "c": tagged(2),
    "d": tagged(1, 2),
    "g": tagged(2),
    "h": tagged(2),
    "e": tagged(),
    "f": tagged(2),
}


def lefts(mined: dict[str, Target]) -> dict[str, list[tuple[int, float]]]:
    return {
        i: list(zip(one.labels.tolist(), one.boxes[:, 0].tolist(), strict=True))
        for i, one in mined.items()
    }


def test_without_a_round_the_likeliest_object_is_picked():
    mined = lefts(semi_mil(FOUND, KNOWN, generator=generator(0), rounds=0))
    assert mined == {
        "a": [(1, 0.0)],
        "b": [(1, 0.0)],
        "c": [(2, 0.0)],
        "d": [(1, 30.0), (2, 30.0)],
        "g": [(2, 10.0)],
        "h": [(2, 0.0)],
        "e": [],
        "f": [],
    }


def test_what_images_without_the_class_hold_too_is_no_object_of_it():
    mined = semi_mil(FOUND, KNOWN, generator=generator(0), folds=1)
    assert lefts(mined) == {
        "a": [(1, 10.0)],
        "b": [(1, 0.0)],
        "c": [(2, 10.0)],
        "d": [(1, 30.0), (2, 20.0)],
        "g": [(2, 10.0)],
        "h": [(2, 0.0)],
        "e": [],
        "f": [],
    }
    assert {origin for one in mined.values() for origin in one.origin} == {ORIGIN}
    assert all(not one.complete and one.tags == KNOWN[i].tags for i, one in mined.items())


def test_the_score_is_half_objectness_half_the_classifier():
    found = {"a": seen("one"), "b": seen("two")}
    mined = semi_mil(found, {"a": tagged(1), "b": tagged(2)}, generator=generator(0), rounds=1)
    # standardised, the two looks are (1, -1) and (-1, 1), and 1: G = [[2, -2, 0], [-2, 2, 0],
    # [0, 0, 2]] + 0.1; w = (1, -1) / 4.1 + 1 / 2.1, hence 2 / 4.1 + 1 / 2.1 of the first
    said = 2 / (4 + RIDGE) + 1 / (2 + RIDGE)
    assert float(mined["a"].scores) == pytest.approx((said + 0.5) / 2, abs=1e-6)


def test_the_weights_are_those_of_least_squares():
    draws = generator(1)
    inside, outside = (torch.randn(n, 4, generator=draws).double() for n in (3, 7))
    rows = torch.cat([inside / 3**0.5, outside / 7**0.5, RIDGE**0.5 * torch.eye(4).double()])
    goals = torch.cat([torch.ones(3) / 3**0.5, torch.zeros(11)]).double()
    expected = torch.linalg.lstsq(rows, goals[:, None]).solution[:, 0]
    assert torch.allclose(_fitted(inside, outside), expected)


def test_a_class_that_may_be_anywhere_is_picked_by_objectness():
    known = {i: replace(one, absent=frozenset()) for i, one in KNOWN.items()}
    assert lefts(semi_mil(FOUND, known, generator=generator(0))) == lefts(
        semi_mil(FOUND, KNOWN, generator=generator(0), rounds=0)
    )


def test_an_image_is_not_judged_by_what_it_taught_itself():
    found = {i: seen("one") for i in "ab"} | {"c": seen("one", "odd", objectness=(0.6, 0.65))}
    found |= {i: seen("distractor", "two") for i in "no"}
    known = {i: tagged(1) for i in "abc"} | {i: tagged() for i in "no"}
    picked = [
        lefts(semi_mil(found, known, generator=generator(0), folds=folds))["c"] for folds in (1, 3)
    ]
    assert picked == [[(1, 10.0)], [(1, 0.0)]]


def test_picks_do_not_depend_on_the_order_of_features():
    turned = {i: replace(one, features=one.features.flip(1) * 7 - 2) for i, one in FOUND.items()}
    both = (semi_mil(some, KNOWN, generator=generator(0)) for some in (FOUND, turned))
    one, other = map(lefts, both)
    assert one == other


def test_regions_without_features_are_refused():
    with pytest.raises(ValueError, match="have no features"):
        semi_mil({"a": replace(FOUND["a"], features=None)}, KNOWN, generator=generator(0))


def test_what_else_is_known_of_an_image_stays():
    known = tagged(1)
    known = replace(known, absent=frozenset({2}), negatives=boxes((1.0, 1.0, 5.0, 5.0)))
    mined = semi_mil({"a": seen("one")}, {"a": known}, generator=generator(0))["a"]
    assert (len(mined), mined.absent, len(mined.negatives)) == (1, frozenset({2}), 1)


def test_scores_are_at_most_1():
    found = {i: seen("one") for i in "abcdef"} | {"g": seen("strong")}
    found |= {i: seen("two") for i in "hijklm"}
    known = {i: tagged(1) for i in "abcdefg"} | {i: tagged() for i in "hijklm"}
    mined = semi_mil(found, known, generator=generator(0), folds=1)["g"]
    assert float(mined.scores) == pytest.approx(0.75)  # the classifier says more than 1


def test_nothing_to_look_at():
    assert semi_mil({}, {}, generator=generator(0)) == {}


SOURCE = ("car", "taxi", "boat", "plane")


@pytest.fixture(scope="module")
def world():
    _, full = source_target(make_scenes(24, seed=3), SOURCE)
    return seeds_and_tags(full, 2, seed=0), faster_rcnn(SOURCE, seed=0)


def test_a_source_proposes_inside_the_image(world):
    pool = world[0]
    source = faster_rcnn(SOURCE, seed=0, min_size=256)
    images = [pool.image(i) for i in pool.ids[:2]]
    for image, one in zip(images, objects(source, images), strict=True):
        assert 0 < len(one) <= 60 and one.features is not None
        assert torch.allclose(one.scores, 1 - one.probs[:, 0])
        assert float(one.boxes.max()) <= max(image.shape) and float(one.boxes.min()) >= 0


@pytest.mark.parametrize("make", ALL)
def test_the_rivals_train_one_cycle(world, make):
    pool, source = world
    plain = make is not note_semi_mil_seed
    config = replace(QUICK, variant="naive", distill="never") if plain else QUICK
    if make is frcn_semi_mil:
        start = note_rcnn(pool.classes, source=source, variant="naive")
    else:
        start = initialise(pool, source, config, seed=0, progress=False)
    history = run(make(QUICK), start, pool, oracle=None, budget=1, cycles=1, seed=0, progress=False)
    mined = [i for i in pool.ids if ORIGIN in history.pool.target(i).origin]
    assert len(history.rows) == 2 and mined
    assert not set(mined) & {i for i in pool.ids if pool.target(i).complete}
    for image_id in mined:
        assert set(history.pool.target(image_id).labels.tolist()) == pool.target(image_id).tags


def test_only_one_of_them_leaves_the_seeds_out(world):
    pool, source = world
    start = note_rcnn(pool.classes, source=source, variant="naive")
    after = run(
        frcn_semi_mil(QUICK), start, pool, oracle=None, budget=1, cycles=1, seed=0, progress=False
    ).pool
    seeds = {i for i in after.ids if after.target(i).complete}
    assert seeds and not seeds & set(frcn_semi_mil(QUICK).trains_on(after))
    assert seeds < set(frcn_semi_mil_seed(QUICK).trains_on(after))
    long = replace(QUICK, epochs=6)
    steps = [make(long).train(after).steps for make in (frcn_semi_mil, frcn_semi_mil_seed)]
    boxed = len([i for i in after.ids if len(after.target(i)) and i not in seeds])
    assert steps == [boxed * 6 * 2 // 4, (boxed + len(seeds)) * 6 * 2 // 4]


def test_a_detector_without_a_source_is_told(world):
    pool, _ = world
    start = note_rcnn(pool.classes, variant="naive")
    with pytest.raises(ValueError, match="mines with the detector's source"):
        run(
            frcn_semi_mil(QUICK),
            start,
            pool,
            oracle=None,
            budget=1,
            cycles=1,
            seed=0,
            progress=False,
        )
