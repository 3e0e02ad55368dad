"""Precision and recall of mined boxes: by hand, against a loop, and what does not fit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from almining.data.pool import Pool
from almining.data.regimes import sparse
from almining.evaluate import mined
from almining.records import Target
from tests.evaluate.made import CLASSES, boxes, drawn, pool_of, target
from tests.oracles import box_iou, box_share

NAN = math.nan
A, B, C, D = (1, 0, 0, 10, 10), (1, 20, 0, 30, 10), (2, 40, 0, 50, 10), (1, 60, 0, 70, 10)


def known(*rows):
    """A sparse target from rows (score or None for a person's, label, x1, y1, x2, y2)."""
    return Target(
        boxes(*(row[2:] for row in rows)),
        torch.tensor([row[1] for row in rows], dtype=torch.int64),
        origin=["human" if row[0] is None else "mined:mist:1" for row in rows],
        scores=torch.tensor([NAN if row[0] is None else row[0] for row in rows]),
        complete=False,
    )


def same(a, b):
    assert a == pytest.approx(b, abs=1e-9, nan_ok=True)


def test_by_hand():
    # A is drawn by a person; B is mined twice, C right, and one box is of the wrong class
    here = known((None, *A), (0.9, *B), (0.8, 1, 21, 0, 30, 10), (0.7, *C), (0.6, 2, *D[1:]))
    pool = pool_of({"a": here, "b": known((0.5, *A))})
    truth = pool_of({"a": target(A, B, C, D), "b": target()})
    same(
        mined(pool, truth),
        {
            "mined": 5, "precision": 2 / 5, "recall": 2 / 3,
            "mined/ant": 3, "precision/ant": 1 / 3, "recall/ant": 1 / 2,
            "mined/bee": 2, "precision/bee": 1 / 2, "recall/bee": 1,
            "mined/cow": 0, "precision/cow": NAN, "recall/cow": NAN,
        },
    )  # fmt: skip


def test_a_mined_box_on_what_a_person_drew_is_wrong():
    here = known((0.99, *A), (None, 1, 0, 0, 10, 8))
    figures = mined(here, target(A, B))
    same(figures, {"mined": 1, "precision": 0, "recall": 0} | {
        "mined/1": 1, "precision/1": 0, "recall/1": 0
    })  # fmt: skip
    # a person's box that matches nothing leaves its object to be found
    assert mined(known((0.9, *A), (None, 1, 0, 0, 10, 4)), target(A))["recall"] == 1


def test_the_best_scored_claims_first_and_one_without_a_score_last():
    loose, tight = (1, 0, 0, 10, 12), (1, 0, 0, 10, 10)
    two = target(A, (1, 0, 3, 10, 13))
    # IoU of the loose one: 0.83 and 0.69; whoever is first takes A
    for scores, wrong in [((0.9, 0.8), 1), ((0.8, 0.9), 0), ((NAN, 0.1), 0)]:
        here = known((scores[0], *loose), (scores[1], *tight))
        assert mined(here, two, min_iou=0.6)["precision"] == 1 - wrong / 2


def test_ignored_boxes_are_neither_found_nor_missed():
    truth = target(A, (1, 100, 0, 200, 100), ignore=[False, True])
    here = known((0.9, *A), (0.8, 1, 110, 10, 120, 20), (0.7, 1, 95, 0, 104, 10))
    same([mined(here, truth)[name] for name in ("mined", "precision", "recall")], [3, 1 / 2, 1])
    only = mined(known((0.8, 1, 110, 10, 120, 20)), truth)
    assert only["mined"] == 1 and math.isnan(only["precision"]) and only["recall"] == 0


def by_loop(pool, truth, min_iou):
    """Counts (mined, right, neither, left) of all classes together."""
    counts = np.zeros(4, int)
    for image_id in pool.ids:
        here, true = pool.target(image_id), truth.target(image_id)
        rows = zip(here.boxes.tolist(), here.labels.tolist(), here.origin, here.scores.tolist(),
                   strict=True)  # fmt: skip
        others = list(
            zip(true.boxes.tolist(), true.labels.tolist(), true.ignore.tolist(), strict=True)
        )
        left = {n for n, (_, _, ignored) in enumerate(others) if not ignored}
        for box, label, origin, _ in sorted(rows, key=lambda r: (r[2] != "human", -r[3])):
            fits = {n: box_iou(box, others[n][0]) for n in left if others[n][1] == label}
            best = max(fits, key=fits.get, default=None)
            right = best is not None and fits[best] >= min_iou
            left -= {best} if right and origin == "human" else set()
            if origin == "human":
                continue
            counts += (1, right, 0, right)
            left -= {best} if right else set()
            counts[2] += not right and any(
                ignored and kind == label and box_share(box, other) >= min_iou
                for other, kind, ignored in others
            )
        counts[3] += len(left)
    return counts.tolist()


@pytest.mark.parametrize("min_iou", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_loop(seed, min_iou):
    truth, detections = drawn(seed)
    rng = np.random.default_rng(seed)
    targets = {}
    for image_id in truth.ids:
        found = detections[image_id]
        human = torch.tensor(rng.random(len(found)) < 0.2)
        targets[image_id] = Target(
            found.boxes,
            found.labels,
            origin=["human" if by else "mined" for by in human.tolist()],
            scores=found.scores.masked_fill(human, NAN),
            complete=False,
        )
    pool = pool_of(targets)
    boxes, right, neither, left = by_loop(pool, truth, min_iou)
    assert 0 < right < boxes - neither and neither > 0
    figures = mined(pool, truth, min_iou=min_iou)
    same(
        [figures["mined"], figures["precision"], figures["recall"]],
        [boxes, right / (boxes - neither), right / left],
    )
    assert figures["mined"] == sum(figures[f"mined/{name}"] for name in CLASSES)
    turned = pool.subset(reversed(pool.ids))
    same(mined(turned, truth, min_iou=min_iou), figures)


def test_what_a_regime_erased_is_what_is_left_to_mine():
    whole, _ = drawn(4, images=20)
    truth = pool_of({i: Target(whole.target(i).boxes, whole.target(i).labels) for i in whole.ids})
    kept = sparse(truth, "hard", seed=0)
    full = {}
    for image_id in kept.ids:
        here, true = kept.target(image_id), truth.target(image_id)
        rest = [row for row in true.boxes.tolist() if row not in here.boxes.tolist()]
        labels = [
            kind
            for row, kind in zip(true.boxes.tolist(), true.labels.tolist(), strict=True)
            if row in rest
        ]
        full[image_id] = replace(
            here,
            boxes=torch.cat([here.boxes, boxes(*rest)]),
            labels=torch.cat([here.labels, torch.tensor(labels, dtype=torch.int64)]),
            ignore=None,
            scores=None,
            origin=[*here.origin, *["mined"] * len(rest)],
        )
    erased = sum(len(truth.target(i)) - len(kept.target(i)) for i in kept.ids)
    assert erased > 0
    figures = mined(pool_of(full), truth)
    assert (figures["mined"], figures["precision"], figures["recall"]) == (erased, 1, 1)
    nothing = mined(kept, truth)
    assert (nothing["mined"], nothing["recall"]) == (0, 0) and math.isnan(nothing["precision"])


def test_empties():
    nothing = {"mined": 0, "precision": NAN, "recall": NAN}
    same(mined(Target.unknown(), target()), nothing)
    same(mined(pool_of({}, ()), pool_of({}, ())), nothing)
    same(mined(target(A), target(A)), nothing | {f"{name}/1": v for name, v in nothing.items()})


def test_a_truth_of_more_images_will_do():
    truth = pool_of({"a": target(A), "b": target(B), "c": target(C)})
    assert mined(pool_of({"b": known((0.9, *B))}), truth)["recall"] == 1


def test_what_does_not_fit_is_refused():
    pool, truth = pool_of({"a": known((0.9, *A))}), pool_of({"a": target(A)})
    with pytest.raises(ValueError, match="min_iou = 0: an overlap"):
        mined(pool, truth, min_iou=0)
    with pytest.raises(ValueError, match="'a'"):
        mined(pool, pool_of({"b": target(A)}))
    with pytest.raises(ValueError, match="target of image 'a' is sparse, not complete"):
        mined(pool, pool)
    with pytest.raises(ValueError, match="truth is sparse, not complete"):
        mined(known((0.9, *A)), known((0.9, *A)))
    with pytest.raises(ValueError, match=r"classes \('ant', 'bee', 'cow'\) and the truth \('ant'"):
        mined(pool, Pool(["ant"], {"a": target(A)}, images=None))
    with pytest.raises(ValueError, match="two pools or two targets"):
        mined(pool, target(A))
