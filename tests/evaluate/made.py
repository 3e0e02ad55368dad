"""Small pools and detections for the tests of figures."""

import numpy as np
import torch

from almining.data.pool import Pool
from almining.records import Detections, Target

CLASSES = ("ant", "bee", "cow")


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def target(*rows, ignore=None):
    """A complete target from rows (label, x1, y1, x2, y2)."""
    flags = None if ignore is None else torch.tensor(ignore)
    labels = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    return Target(boxes(*(row[1:] for row in rows)), labels, ignore=flags)


def found(*rows):
    """Detections from rows (score, label, x1, y1, x2, y2)."""
    labels = torch.tensor([row[1] for row in rows], dtype=torch.int64)
    scores = torch.tensor([row[0] for row in rows], dtype=torch.float32)
    return Detections(boxes(*(row[2:] for row in rows)), labels, scores)


def pool_of(targets, classes=CLASSES):
    return Pool(classes, targets, images=None)


def drawn(seed, images=12, ties=False):
    """A pool and detections that hit, miss, repeat and meet ignored boxes."""
    rng = np.random.default_rng(seed)
    targets, detections = {}, {}
    for number in range(images):
        n, extra = int(rng.integers(0, 6)), int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 80, (n, 2)), rng.uniform(4, 120, (n, 2))
        truth = torch.tensor(np.hstack([corner, corner + size]), dtype=torch.float32)
        labels = torch.tensor(rng.integers(1, 4, n), dtype=torch.int64)
        ignore = torch.tensor(rng.random(n) < 0.2)
        targets[f"image {number}"] = Target(truth, labels, ignore=ignore)
        corner, size = rng.uniform(0, 80, (extra, 2)), rng.uniform(4, 120, (extra, 2))
        wrong = torch.tensor(np.hstack([corner, corner + size]), dtype=torch.float32)
        repeat = torch.arange(n).repeat(2)
        moved = truth[repeat] + torch.tensor(rng.normal(0, 5, (2 * n, 4)), dtype=torch.float32)
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2])
        other = torch.tensor(rng.integers(1, 4, extra), dtype=torch.int64)
        scores = rng.random(2 * n + extra)
        scores = np.round(scores * 4) / 4 if ties else scores
        detections[f"image {number}"] = Detections(
            torch.cat([moved, wrong]),
            torch.cat([labels[repeat], other]),
            torch.tensor(scores, dtype=torch.float32),
        )
    return pool_of(targets), detections
