"""COCO's figures agree between two libraries, VOC's with a loop; both with cases worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almining.evaluate import COCO_STATS, coco, voc
from almining.records import Detections, Target
from tests.evaluate.made import CLASSES, boxes, drawn, found, pool_of, target
from tests.oracles import voc_ap


def by_oracle(pool, detections, **options):
    values = {}
    for label, name in enumerate(pool.classes, start=1):
        rows = [
            (image_id, score, box)
            for image_id in pool.ids
            for box, kind, score in zip(
                detections[image_id].boxes.tolist(),
                detections[image_id].labels.tolist(),
                detections[image_id].scores.tolist(),
                strict=True,
            )
            if kind == label
        ]
        truth = {}
        for image_id in pool.ids:
            known = pool.target(image_id)
            chosen = known.labels == label
            flags = known.ignore[chosen].tolist()
            truth[image_id] = list(zip(known.boxes[chosen].tolist(), flags, strict=True))
        values[name] = voc_ap(rows, truth, **options)
    return values


def same(a, b):
    assert a == pytest.approx(b, abs=1e-9, nan_ok=True)


# two boxes of one class; ranks: hit, miss, hit
POOL = pool_of({"a": target((1, 0, 0, 10, 10)), "b": target((1, 0, 0, 10, 10))}, ["ant"])
HAND = {
    "a": found((0.9, 1, 0, 0, 10, 10), (0.8, 1, 50, 50, 60, 60)),
    "b": found((0.7, 1, 0, 0, 10, 10)),
}


def test_voc_by_hand():
    # precision 1 at recall 1/2, then 2/3 at recall 1
    assert voc(HAND, POOL)["AP50"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert voc(HAND, POOL, method="11")["AP50"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_coco_by_hand():
    # 51 of 101 recall points at precision 1, the rest at 2/3; small boxes only
    for backend in ("pycocotools", "faster"):
        stats = coco(HAND, POOL, backend=backend)
        assert tuple(stats) == COCO_STATS
        assert stats["AP"] == stats["APs"] == pytest.approx((51 + 50 * 2 / 3) / 101)
        assert stats["AR1"] == stats["AR100"] == pytest.approx(1)
        assert math.isnan(stats["APm"]) and math.isnan(stats["ARl"])


def test_overlap_of_exactly_the_threshold_is_a_hit():
    # 10 x 5 of 10 x 10: IoU one half
    half = {"a": found((0.9, 1, 0, 0, 10, 5)), "b": found()}
    assert voc(half, POOL)["AP50"] == 0.5
    assert voc(half, POOL, iou=0.51) == {"AP51": 0, "AP51/ant": 0}
    # with the devkit's extra pixel, 11 x 6 of 11 x 11, IoU 0.545 would pass here too
    assert voc(half, POOL, iou=0.54)["AP54"] == 0


def test_second_hit_is_false_and_the_best_box_counts_though_taken():
    pool = pool_of({"a": target((1, 0, 0, 10, 10), (1, 0, 4, 10, 14))}, ["ant"])
    # the second detection overlaps the taken box more than the free one: false, as in the devkit
    rows = found((0.9, 1, 0, 0, 10, 10), (0.8, 1, 0, 1, 10, 11), (0.7, 1, 0, 4, 10, 14))
    assert voc({"a": rows}, pool, iou=0.4)["AP40"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_ignored_box_makes_a_detection_neither_right_nor_wrong():
    pool = pool_of({"a": target((1, 0, 0, 10, 10), (1, 50, 50, 60, 60), ignore=[False, True])})
    rows = found((0.9, 1, 50, 50, 60, 60), (0.8, 1, 50, 50, 60, 59), (0.7, 1, 0, 0, 10, 10))
    assert voc({"a": rows}, pool)["AP50/ant"] == 1
    assert coco({"a": rows}, pool)["AP"] == pytest.approx(1)


def test_eleven_points_compare_recall_in_whole_numbers():
    # 3 of 10 boxes: recall 0.3 reaches 0.3, though 3 * 0.1 > 0.3 in floating point
    row = [(1, 20 * i, 0, 20 * i + 10, 10) for i in range(10)]
    hits = found(*((0.9, *entry) for entry in row[:3]))
    assert voc({"a": hits}, pool_of({"a": target(*row)}), method="11")["AP50"] == 4 / 11


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans(), iou=st.sampled_from([0.3, 0.5, 0.75]))
def test_voc_agrees_with_the_loop(seed, ties, iou):
    pool, detections = drawn(seed, ties=ties)
    for method in ("all", "11"):
        values = voc(detections, pool, iou=iou, method=method)
        wanted = by_oracle(pool, detections, iou=iou, method=method)
        name = f"AP{round(100 * iou)}"
        same({title: values[f"{name}/{title}"] for title in CLASSES}, wanted)
        known = [value for value in wanted.values() if not math.isnan(value)]
        same(values[name], sum(known) / len(known) if known else math.nan)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_coco_backends_agree(seed, ties):
    pytest.importorskip("faster_coco_eval")
    pool, detections = drawn(seed, images=20, ties=ties)
    plain = coco(detections, pool, backend="pycocotools")
    assert 0 < plain["AP"] < 1
    same(coco(detections, pool, backend="faster"), plain)
    same(coco(detections, pool), plain)


def test_perfect_detections_are_perfect():
    """Annotation 0 would be taken for no match and cost a hit."""
    pool, _ = drawn(3)
    kept = {i: pool.target(i).select(~pool.target(i).ignore) for i in pool.ids}
    kept = {i: Target(known.boxes, known.labels) for i, known in kept.items()}
    perfect = {
        i: Detections(known.boxes, known.labels, torch.ones(len(known)))
        for i, known in kept.items()
    }
    for backend in ("pycocotools", "faster"):
        stats = coco(perfect, pool_of(kept), backend=backend)
        assert stats["AP"] == pytest.approx(1)
        assert stats["AR100"] == pytest.approx(1)
    assert voc(perfect, pool_of(kept))["AP50"] == pytest.approx(1)


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_empties(backend):
    pool, detections = drawn(0)
    nothing = dict.fromkeys(pool.ids, found())
    assert set(coco(nothing, pool, backend=backend).values()) <= {0.0}
    assert voc(nothing, pool)["AP50"] == 0
    bare = pool_of(dict.fromkeys(pool.ids, target()))
    for rows in (nothing, detections):
        assert all(map(math.isnan, coco(rows, bare, backend=backend).values()))
        assert all(map(math.isnan, voc(rows, bare).values()))
    for classes in (CLASSES, ()):
        empty = pool_of({}, classes)
        assert all(map(math.isnan, coco({}, empty, backend=backend).values()))
        assert list(voc({}, empty)) == ["AP50", *(f"AP50/{name}" for name in classes)]


def test_class_without_boxes_stays_out_of_the_mean():
    values = voc({"a": found((0.9, 2, 0, 0, 5, 5))}, pool_of({"a": target((1, 0, 0, 10, 10))}))
    assert values["AP50"] == 0
    assert math.isnan(values["AP50/bee"])


@pytest.mark.parametrize("seed", range(4))
def test_order_does_not_matter(seed):
    pool, detections = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    mixed = {
        i: detections[i].select(torch.randperm(len(detections[i]), generator=generator))
        for i in reversed(pool.ids)
    }
    turned = pool.subset(reversed(pool.ids))
    same(voc(mixed, turned), voc(detections, pool))
    same(coco(mixed, turned), coco(detections, pool))


def test_ignored_boxes_nothing_meets_do_not_matter():
    pool, detections = drawn(1)
    more = {}
    for image_id in pool.ids:
        known = pool.target(image_id)
        more[image_id] = Target(
            torch.cat([known.boxes, boxes((5000, 5000, 5100, 5100))]),
            torch.cat([known.labels, torch.tensor([2])]),
            ignore=torch.cat([known.ignore, torch.tensor([True])]),
        )
    same(voc(detections, pool_of(more)), voc(detections, pool))
    same(coco(detections, pool_of(more)), coco(detections, pool))


@pytest.mark.parametrize("evaluate", [coco, voc])
def test_what_does_not_fit_is_refused(evaluate):
    pool = pool_of({"a": target((1, 0, 0, 10, 10)), "b": target()})
    with pytest.raises(ValueError, match="detections of image 'b' are missing"):
        evaluate({"a": found()}, pool)
    with pytest.raises(ValueError, match="'c', which is not in the pool of 2"):
        evaluate({"a": found(), "b": found(), "c": found()}, pool)
    with pytest.raises(ValueError, match="image 'a' name class 4, but the pool has 3"):
        evaluate({"a": found((0.5, 4, 0, 0, 1, 1)), "b": found()}, pool)
    unknown = pool_of({"a": Target.unknown()})
    with pytest.raises(ValueError, match="target of image 'a' is unlabelled, not complete"):
        evaluate({"a": found()}, unknown)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="iou = 0"):
        voc(HAND, POOL, iou=0)
    with pytest.raises(ValueError, match="method = '12'"):
        voc(HAND, POOL, method="12")
    with pytest.raises(ValueError, match="backend = 'quick'"):
        coco(HAND, POOL, backend="quick")


def test_nothing_is_printed(capsys):
    for backend in ("pycocotools", "faster"):
        coco(HAND, POOL, backend=backend)
    assert capsys.readouterr() == ("", "")
