"""Miss rate against false positives per image: by hand, by a loop, and Caltech's conventions."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining import evaluate
from almining.data.pool import ImageInfo, Pool
from almining.evaluate import miss_curve, miss_rate
from almining.ledger import RunMismatchError
from almining.records import Detections, Target
from tests.evaluate.made import CLASSES, drawn, found, pool_of, target
from tests.oracles import miss_points
from tests.test_cycle import go

ANY = {"min_height": 0, "aspect": None}  # no box is filtered
A, B, C = (1, 0, 0, 20, 60), (1, 100, 0, 120, 60), (1, 200, 0, 220, 60)
WIDE = (1, 300, 0, 400, 100)  # ignored
# scores of hits, of a second hit, of one inside the ignored box, and of nothing
POOL = pool_of(
    {"a": target(A, B), "b": target(C, WIDE, ignore=[False, True]), "c": target()}, ["walker"]
)
HAND = {
    "a": found((0.9, *A), (0.6, 1, 0, 1, 20, 60), (0.5, *B)),
    "b": found((0.8, 1, 0, 200, 20, 260), (0.7, 1, 310, 10, 340, 90)),
    "c": found((0.4, *A)),
}


def points(curve):
    return list(
        zip(curve.fppi.tolist(), curve.miss.tolist(), curve.thresholds.tolist(), strict=True)
    )


def by_loop(pool, detections, labels, **options):
    """The loop's points, classes kept apart by moving their boxes far from each other."""

    def rows(record, extra):
        chosen = [i for i, kind in enumerate(record.labels.tolist()) if kind in labels]
        shift = [10_000 * record.labels[i].item() for i in chosen]
        moved = [
            tuple(value + far for value in record.boxes[i].tolist())
            for i, far in zip(chosen, shift, strict=True)
        ]
        return moved, [extra[i].item() for i in chosen]

    images = []
    for image_id in pool.ids:
        seen, truth = detections[image_id], pool.target(image_id)
        boxes, scores = rows(seen, seen.scores)
        kept = list(zip(scores, boxes, strict=True))
        images.append((kept, list(zip(*rows(truth, truth.ignore), strict=True))))
    return miss_points(images, **options)


def by_formula(curve):
    """Log-average and miss rate at 1, by the words of the definition."""
    rows = list(zip(curve.fppi, curve.miss, strict=True))
    low = [min(m for f, m in rows if f <= 10 ** (-2 + i / 4)) for i in range(9)]
    return math.exp(sum(math.log(max(m, 1e-10)) for m in low) / 9), low[-1]


def same(a, b):
    assert a == pytest.approx(b, abs=1e-9, nan_ok=True)


def test_curve_by_hand():
    curve = miss_curve(HAND, POOL)
    scores = [round(float(s), 1) for s in curve.thresholds]
    assert scores == [math.inf, 0.9, 0.8, 0.6, 0.5, 0.4]  # 0.7 meets the ignored box
    same(curve.fppi, [0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    same(curve.miss, [1, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert (curve.images, curve.boxes) == (3, 3)
    assert curve.at(0) == curve.at(0.6) == 2 / 3 and curve.at(1) == curve.at(50) == 1 / 3
    assert repr(curve) == "MissCurve(3 boxes in 3 images, LAMR 0.617, MR@1 0.333)"
    # eight of the nine points lie at FPPI below 2/3
    average = math.exp((8 * math.log(2 / 3) + math.log(1 / 3)) / 9)
    rates = miss_rate(HAND, POOL)
    same(rates, {"MR@1": 1 / 3, "LAMR": average, "MR@1/walker": 1 / 3, "LAMR/walker": average})


def test_detections_take_the_best_box_that_is_left():
    # both overlap the first box most; the second one still finds the other, unlike in VOC
    pool = pool_of({"a": target((1, 0, 0, 10, 10), (1, 0, 4, 10, 14))}, ["ant"])
    rows = found((0.9, 1, 0, 0, 10, 10), (0.8, 1, 0, 1, 10, 11))
    assert miss_rate({"a": rows}, pool, min_iou=0.4, **ANY)["MR@1"] == 0
    # the higher score picks first, though the other fits better
    turned = found((0.8, 1, 0, 0, 10, 10), (0.9, 1, 0, 1, 10, 11))
    curve = miss_curve({"a": turned}, pool, min_iou=0.7, **ANY)
    assert curve.fppi.tolist() == [0, 0, 1] and curve.miss.tolist() == [1, 0.5, 0.5]


@pytest.mark.parametrize("first", [(0, 2, 10, 12), (0, 4, 10, 14)])
def test_detections_take_the_box_they_overlap_most_and_of_equal_ones_the_first(first):
    # the first overlaps both boxes, the second only what the first is to leave
    low, high = (0, 0, 10, 10), (0, 4, 10, 14)
    pool = pool_of({"a": target((1, *low), (1, *high))}, ["ant"])
    second = (0, 7, 10, 14) if first != high else (0, 0, 10, 7)
    rows = {"a": found((0.9, 1, *first), (0.8, 1, *second))}
    curve = miss_curve(rows, pool, min_iou=0.4, **ANY)
    assert curve.fppi.tolist() == [0, 0, 0] and curve.miss.tolist() == [1, 0.5, 0]


def test_overlap_of_exactly_the_threshold_is_a_hit():
    pool = pool_of({"a": target((1, 0, 0, 10, 10), (1, 50, 0, 60, 10), ignore=[False, True])})
    rows = {"a": found((0.9, 1, 0, 0, 10, 5), (0.8, 1, 45, 0, 55, 10))}
    curve = miss_curve(rows, pool, **ANY)
    assert (curve.at(0), curve.fppi.max()) == (0, 0)
    curve = miss_curve(rows, pool, min_iou=0.51, **ANY)
    assert (curve.at(9), curve.fppi.max()) == (1, 2)


def test_ignored_boxes_are_met_by_share_of_the_detection_and_any_number_of_times():
    pool = pool_of({"a": target(WIDE, A, ignore=[True, False])})
    small = (1, 310, 10, 330, 70)  # IoU with the ignored box is 0.12
    rows = {"a": found((0.9, *small), (0.8, *small), (0.7, *small), (0.6, *A))}
    assert points(miss_curve(rows, pool)) == [(0, 1, math.inf), (0, 0, pytest.approx(0.6))]
    other = {"a": found((0.9, 2, *small[1:]))}  # of another class
    assert miss_curve(other, pool).fppi.tolist() == [0, 1]


def test_a_box_to_be_found_comes_before_an_ignored_one():
    around = (1, 0, 0, 100, 100)
    pool = pool_of({"a": target(around, A, ignore=[True, False])})
    curve = miss_curve({"a": found((0.9, 1, 0, 0, 20, 50), (0.8, *A))}, pool)
    # the second fits the taken box, and lies in the ignored one: neither
    assert curve.fppi.tolist() == [0, 0] and curve.miss.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("box", "counts"),
    [
        ((0, 0, 20, 50), True),
        ((0, 0, 20, 49), False),
        ((0, 0, 10, 50), True),  # width/height 0.2
        ((0, 0, 9, 50), False),
        ((0, 0, 65, 100), True),
        ((0, 0, 66, 100), False),
        ((0, 0, 0, 50), False),
        ((0, 0, 20, 0), False),
    ],
)
def test_filter_ignores_or_discards(box, counts):
    pool = pool_of({"a": target((1, *box), B)}, ["walker"])
    on_it = {"a": found((0.9, 1, *box), (0.5, *B))}
    assert miss_curve(on_it, pool).boxes == 1 + counts
    assert miss_curve(on_it, pool, **ANY).boxes == 2
    slender = box[3] > 0 and 0.2 <= box[2] / box[3] <= 0.65
    assert miss_curve(on_it, pool, min_height=0).boxes == 1 + slender
    seen = box[3] >= 40  # a detection lower than 50 / 1.25 is left out
    has_area = box[2] * box[3] > 0  # a box without area is met by nothing
    ignoring = miss_curve(on_it, pool).fppi.max()
    discarding = miss_curve(on_it, pool, filtered="discard")
    assert ignoring == (seen and not has_area)
    assert discarding.fppi.max() == (seen and not counts)
    assert discarding.boxes == 1 + counts


def test_discarding_keeps_what_the_data_ignore():
    pool = pool_of({"a": target(WIDE, A, ignore=[True, False])})
    rows = {"a": found((0.9, 1, 310, 10, 330, 70))}
    assert miss_curve(rows, pool, filtered="discard").fppi.tolist() == [0]


@pytest.mark.parametrize(
    ("height", "expand", "seen"),
    [(40, 1.25, True), (39.9, 1.25, False), (49, 1, False), (25, 2, True)],
)
def test_low_detections_are_left_out_beyond_the_expanded_filter(height, expand, seen):
    rows = {"a": found((0.9, 1, 200, 0, 220, height))}
    pool = pool_of({"a": target(A)}, ["walker"])
    assert miss_curve(rows, pool, expand=expand).fppi.max() == seen
    # a low detection still finds a box that is high enough
    near = {"a": found((0.9, 1, 0, 0, 20, height))}
    pool = pool_of({"a": target((1, 0, 0, 20, 50))}, ["walker"])
    assert miss_curve(near, pool, expand=expand).at(1) == 1 - seen


def test_least_height_follows_the_image():
    low, high = target((1, 0, 0, 5, 13)), target((1, 0, 0, 5, 14))
    sizes = {"a": ImageInfo(size=(128, 192)), "b": ImageInfo(size=(128, 192))}
    pool = Pool(["walker"], {"a": low, "b": high}, images=None, infos=sizes)
    rows = dict.fromkeys(pool.ids, found())
    assert miss_curve(rows, pool, frame_height=480).boxes == 1  # 50 * 128 / 480 = 13.3
    assert miss_curve(rows, pool).boxes == 0
    unknown = Pool(["walker"], {"a": low}, images=None)
    with pytest.raises(ValueError, match=r"size of image 'a' is not known.*frame_height = 480"):
        miss_curve({"a": found()}, unknown, frame_height=480)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), iou=st.sampled_from([0.3, 0.5, 0.75]), ties=st.booleans())
def test_curve_agrees_with_the_loop(seed, iou, ties):
    pool, detections = drawn(seed, images=8, ties=ties)
    rates = miss_rate(detections, pool, min_iou=iou, **ANY)
    for label in (None, 1, 2, 3):
        curve = miss_curve(detections, pool, label=label, min_iou=iou, **ANY)
        labels = (1, 2, 3) if label is None else (label,)
        same(np.array(points(curve)), np.array(by_loop(pool, detections, labels, min_iou=iou)))
        suffix = "" if label is None else f"/{CLASSES[label - 1]}"
        average, at_one = by_formula(curve)
        same([rates[f"LAMR{suffix}"], rates[f"MR@1{suffix}"]], [average, at_one])
    assert list(rates)[:4] == ["MR@1", "LAMR", "MR@1/ant", "LAMR/ant"] and len(rates) == 8


@pytest.mark.parametrize("filtered", ["ignore", "discard"])
@pytest.mark.parametrize("seed", range(4))
def test_filter_agrees_with_filtering_first(seed, filtered):
    pool, detections = drawn(seed)
    kept, seen = {}, {}
    for image_id in pool.ids:
        known, record = pool.target(image_id), detections[image_id]
        sides = [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in known.boxes.double().tolist()]
        bad = torch.tensor([h < 30 or not 0.3 <= w / h <= 1.5 for w, h in sides], dtype=torch.bool)
        if filtered == "ignore":
            kept[image_id] = Target(known.boxes, known.labels, ignore=known.ignore | bad)
        else:
            rest = ~bad | known.ignore
            kept[image_id] = Target(
                known.boxes[rest], known.labels[rest], ignore=known.ignore[rest]
            )
        heights = record.boxes[:, 3] - record.boxes[:, 1]
        seen[image_id] = record.select(heights >= 30 / 1.5)
    options = {"min_height": 30, "aspect": (0.3, 1.5), "expand": 1.5, "filtered": filtered}
    curve = miss_curve(detections, pool, **options)
    assert points(curve) == points(miss_curve(seen, pool_of(kept), **ANY))
    assert points(curve) != points(miss_curve(detections, pool, **ANY))


@pytest.mark.parametrize("seed", range(4))
def test_order_does_not_matter(seed):
    pool, detections = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    mixed = {
        i: detections[i].select(torch.randperm(len(detections[i]), generator=generator))
        for i in reversed(pool.ids)
    }
    turned = pool.subset(reversed(pool.ids))
    assert points(miss_curve(mixed, turned, **ANY)) == points(miss_curve(detections, pool, **ANY))
    # equal scores across images are one point, whichever comes first
    tied = drawn(seed, ties=True)[1]
    backward = dict(reversed(tied.items()))
    assert points(miss_curve(tied, pool, **ANY)) == points(miss_curve(backward, turned, **ANY))


@pytest.mark.parametrize("seed", range(3))
def test_only_the_order_of_scores_counts(seed):
    pool, detections = drawn(seed)
    squared = {
        i: Detections(rows.boxes, rows.labels, 3 * rows.scores - 7)
        for i, rows in detections.items()
    }
    a, b = (miss_curve(rows, pool, **ANY) for rows in (detections, squared))
    assert (a.fppi.tolist(), a.miss.tolist()) == (b.fppi.tolist(), b.miss.tolist())
    assert (np.diff(a.fppi) >= 0).all() and (np.diff(a.miss) <= 0).all()
    assert (np.diff(a.thresholds) < 0).all()


def test_empties():
    pool, detections = drawn(0)
    nothing = dict.fromkeys(pool.ids, found())
    assert points(miss_curve(nothing, pool, **ANY)) == [(0, 1, math.inf)]
    assert miss_rate(nothing, pool, **ANY) == dict.fromkeys(miss_rate(detections, pool), 1)
    bare = pool_of(dict.fromkeys(pool.ids, target()))
    for rows in (nothing, detections):
        assert np.isnan(miss_curve(rows, bare, **ANY).miss).all()
        assert all(map(math.isnan, miss_rate(rows, bare, **ANY).values()))
    assert miss_curve(detections, bare, **ANY).fppi[-1] > 0
    for classes in (CLASSES, ()):
        empty = pool_of({}, classes)
        assert len(points(miss_curve({}, empty))) == 1
        rates = miss_rate({}, empty)
        assert all(map(math.isnan, rates.values())) and len(rates) == 2 + 2 * len(classes)


def test_a_class_without_boxes_adds_its_false_positives():
    pool = pool_of({"a": target(A)})
    rates = miss_rate({"a": found((0.9, 2, *B[1:]), (0.8, 2, *C[1:]), (0.7, *A))}, pool)
    assert rates["MR@1/ant"] == 0 and math.isnan(rates["MR@1/bee"])
    assert rates["MR@1"] == 1  # two false positives before the hit


def test_perfect_detections():
    rows = {"a": found((0.9, *A), (0.8, *B)), "b": found((0.7, *C)), "c": found()}
    rates = miss_rate(rows, POOL)
    assert rates["MR@1"] == 0
    assert rates["LAMR"] == pytest.approx(1e-10)  # as in Caltech's code: 0 has no logarithm


def test_a_short_curve_ends_where_it_ends():
    pool = pool_of({str(i): target(A) for i in range(4)}, ["walker"])
    rows = {i: found() for i in pool.ids} | {"0": found((0.9, *B), (0.8, *A))}
    curve = miss_curve(rows, pool)
    assert curve.fppi.tolist() == [0, 0.25, 0.25]
    assert curve.at(0.2) == 1 and curve.at(1) == 0.75
    assert miss_rate(rows, pool)["MR@1"] == 0.75


@pytest.mark.parametrize("function", [miss_curve, miss_rate])
def test_what_does_not_fit_is_refused(function):
    pool = pool_of({"a": target(A), "b": target()})
    with pytest.raises(ValueError, match="detections of image 'b' are missing"):
        function({"a": found()}, pool)
    with pytest.raises(ValueError, match="image 'a' name class 4, but the pool has 3"):
        function({"a": found((0.5, 4, *A[1:])), "b": found()}, pool)
    unknown = pool_of({"a": Target.unknown()})
    with pytest.raises(ValueError, match="target of image 'a' is unlabelled, not complete"):
        function({"a": found()}, unknown)


@pytest.mark.parametrize("function", [miss_curve, miss_rate])
@pytest.mark.parametrize(
    "option",
    [
        {"min_iou": 0},
        {"min_iou": math.nan},
        {"min_height": -1},
        {"min_height": math.nan},
        {"aspect": (0.6, 0.2)},
        {"aspect": (math.nan, 1)},
        {"frame_height": 0},
        {"filtered": "drop"},
        {"expand": 0.8},
    ],
)
def test_bad_options_are_refused(function, option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError) as error:
        function(HAND, POOL, **option)
    assert str(error.value).startswith(f"{name} = {value!r}: ")


def test_bad_labels_and_places_are_refused():
    for label in (0, 2):
        with pytest.raises(ValueError, match=f"label = {label}: the pool has classes 1 to 1"):
            miss_curve(HAND, POOL, label=label)
    for fppi in (-0.1, math.nan):
        with pytest.raises(ValueError, match="fppi = "):
            miss_curve(HAND, POOL).at(fppi)


def test_a_run_measures_it(tmp_path):
    ask = {"metrics": partial(evaluate.miss_rate, min_height=5, aspect=(0.2, 0.9)), "cycles": 1}
    history = go(**ask, run_dir=tmp_path)
    assert list(history.rows[0].metrics)[:3] == ["MR@1", "LAMR", "MR@1/dark"]
    assert history.rows[0].metrics["MR@1"] == 0.5  # of two classes, untrained heads name one
    again = go(**ask, run_dir=tmp_path)  # from the ledger
    assert [row.metrics for row in again.rows] == [row.metrics for row in history.rows]
    with pytest.raises(RunMismatchError, match="metrics"):
        go(metrics=evaluate.miss_rate, cycles=1, run_dir=tmp_path)
    assert math.isnan(go(metrics=evaluate.miss_rate, cycles=1).rows[0].metrics["MR@1"])
