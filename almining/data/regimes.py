"""Hiding labels: from a pool of which everything is known to one of which less is, or worse.

Each function is pure, of the pool and a seed; only in `unlabelled` does the pool's order matter.
Ignored boxes (difficult, crowd) show that a class is present; none counts, is erased or made noisy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from almining.boxes import clip
from almining.data.pool import Pool
from almining.records import Target
from almining.rng import generator

Level = Literal["full", "easy", "hard", "extreme", "miss50"]
Unit = Literal["boxes", "images"]


def tags_only(pool: Pool) -> Pool:
    """Return the pool with every box hidden and the classes present kept as tags.

    Raises:
        ValueError: naming an image of which the classes are not known.

    Source: the weak labels BiB (§3.1) and NOTE-RCNN (§3.1) start from.
    """
    known = {image_id: _tagged(pool, image_id) for image_id in pool.ids}
    return pool.updated(known, cycle=pool.cycle)


def unlabelled(pool: Pool, *, keep: int, seed: int, tags: bool = False) -> Pool:
    """Return the pool with `keep` random images as they are and nothing known of the others.

    Args:
        pool: whose labels are hidden.
        keep: number of images left labelled; the pool's size leaves all of them.
        seed: decides which.
        tags: keep the classes present of the others as tags.

    Raises:
        ValueError: when `keep` is out of range, or classes to keep are not known.
    """
    if not 0 <= keep <= len(pool):
        raise ValueError(
            f"keep = {keep}: give a number of images between 0 and the pool's {len(pool)}"
        )
    shuffled = torch.randperm(len(pool), generator=generator(seed, "unlabelled")).tolist()
    hidden = [pool.ids[position] for position in shuffled[keep:]]
    known = {image_id: _tagged(pool, image_id) if tags else Target.unknown() for image_id in hidden}
    return pool.updated(known, cycle=pool.cycle)


def sparse(pool: Pool, level: Level, *, seed: int) -> Pool:
    """Return the pool with some boxes erased, and no one knowing where.

    Args:
        pool: of complete images.
        level: `"easy"` erases one box per image, `"hard"` floor(n / 2) of its n, `"extreme"` all
            but one, and none of these an image's last; `"miss50"` erases floor(n / 2) of the n
            boxes each class has in the whole pool, last ones too; `"full"` erases nothing.
        seed: decides which; easy's boxes are among hard's, and hard's among extreme's.

    Returns:
        The same images; under `"full"` as they are. Otherwise none is complete or tagged, not even
        one that lost nothing, as no one can tell; one without a box, now or before, is unlabelled.

    Raises:
        ValueError: for another level, or naming an image that is not complete.

    >>> four = Target(torch.tensor([[0.0, 0, 9, 9]] * 4), torch.tensor([1, 1, 2, 2]))
    >>> sparse(Pool(["cat", "dog"], {"a": four}, {}), "extreme", seed=0).target("a")
    Target(1 box, classes 1, sparse)

    Source: Co-mining (Wang et al., AAAI 2021) §4.1, after Zhang et al. 2020.
    Differs: the paper leaves odd halves, an image's only box and crowds open; here they stay.
    """
    if level not in get_args(Level):
        raise ValueError(f"level = {level!r}: give one of {', '.join(get_args(Level))}")
    _check_complete(pool)
    if level == "full":
        return pool
    erased = _erased(pool, level, seed)
    known: dict[str, Target] = {}
    for image_id in pool.ids:
        target = replace(pool.target(image_id), tags=None, absent=None, complete=False)
        keep = [row for row in range(len(target)) if (image_id, row) not in erased]
        known[image_id] = target.select(target.labels.new_tensor(keep))
    return pool.updated(known, cycle=pool.cycle)


def seeds_and_tags(pool: Pool, per_class: float, *, seed: int, unit: Unit = "images") -> Pool:
    """Return the pool with a few seed images left complete and only the tags of the others known.

    Images are drawn one by one for the class with fewest so far, passing over any that goes
    beyond the average; then the smallest one left if that comes closer, or if there is no seed yet.

    Args:
        pool: whose complete images can become seeds; of the others the classes must be known.
        per_class: the average over the pool's classes aimed at; `boxes_per_class` reports it.
        seed: decides which.
        unit: what is averaged, the seed `"images"` that hold a class, or its `"boxes"` in them.

    Raises:
        ValueError: when the pool cannot reach `per_class`, or classes of an image are not known.

    >>> one = Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]))
    >>> seeds_and_tags(Pool(["cat"], {"a": one, "b": one, "c": one}, {}), 2, seed=0)
    Pool(3: 2 complete, 1 tagged)

    Source: NOTE-RCNN (Gao et al., ICCV 2019) §4.2: annotated images per category, on average 12,
    33, 55, 76 and 96.
    """
    counts = _counts(pool, unit)
    most = sum(count.total() for count in counts.values()) / max(1, len(pool.classes))
    if not 0 < per_class <= most:
        most_said = f"at most {most:g} {unit} per class can be reached with this pool"
        raise ValueError(f"per_class = {per_class}: give a positive average; {most_said}")
    drawn = _draw_seeds(counts, round(per_class * len(pool.classes), 9), pool, seed)
    known = {image_id: _tagged(pool, image_id) for image_id in pool.ids if image_id not in drawn}
    return pool.updated(known, cycle=pool.cycle)


def boxes_per_class(pool: Pool, *, unit: Unit = "boxes") -> dict[str, int]:
    """Return how many boxes each class has in the complete images, ignored ones left out.

    The mean of the values is the average that `seeds_and_tags` reached; with `unit="images"`, how
    many complete images hold the class.

    >>> both = Target(torch.tensor([[0.0, 0, 9, 9]] * 3), torch.tensor([1, 1, 2]))
    >>> boxes_per_class(Pool(["cat", "dog", "cow"], {"a": both}, {}))
    {'cat': 2, 'dog': 1, 'cow': 0}
    """
    held = Counter(label for one in _counts(pool, unit).values() for label in one.elements())
    return {name: held[label] for label, name in enumerate(pool.classes, start=1)}


def source_target(pool: Pool, source_classes: Iterable[str]) -> tuple[Pool, Pool]:
    """Split the classes in two: a pool of the source classes and one of the others.

    Args:
        pool: of complete images.
        source_classes: names; some but not all of the pool's, in any order.

    Returns:
        (source, target), classes in the pool's order and numbered anew. An image is in a pool, with
        only that pool's boxes and complete for them, when it has at least one, be it ignored: in
        both perhaps, in neither when it is empty.

    Raises:
        ValueError: for unknown names, all or none, or naming an image that is not complete.

    >>> both = Target(torch.tensor([[0.0, 0, 9, 9]] * 3), torch.tensor([1, 1, 2]))
    >>> [p.target("a") for p in source_target(Pool(["cat", "dog"], {"a": both}, {}), ["dog"])]
    [Target(1 box, classes 1, complete), Target(2 boxes, classes 1, complete)]

    Source: NOTE-RCNN (Gao et al., ICCV 2019) §4.2, MSCOCO.
    """
    chosen = set(source_classes)
    if unknown := sorted(chosen - set(pool.classes)):
        raise ValueError(f"source_classes: {unknown} are not among {', '.join(pool.classes)}")
    if not 0 < len(chosen) < len(pool.classes):
        raise ValueError(f"source_classes: {sorted(chosen)}; name some classes and leave some out")
    _check_complete(pool)
    return _of_classes(pool, chosen), _of_classes(pool, set(pool.classes) - chosen)


def noisy(
    pool: Pool, *, jitter: float = 0.0, drop: float = 0.0, wrong_class: float = 0.0, seed: int
) -> Pool:
    """Return the pool as an annotator who errs would have labelled it.

    Args:
        pool: of complete images; hide labels afterwards.
        jitter: corners move by a normal of this standard deviation times the box's width and
            height, clipped where the image's size is known; a side that would vanish stays.
        drop: the probability that a box is left out.
        wrong_class: the probability that a box gets another class, each as probable.
        seed: decides; a higher rate keeps the errors of a lower one, and of the other two.

    Returns:
        The same images, all complete: so the annotator claims.

    Raises:
        ValueError: for a rate outside [0, 1], no other class, or an image that is not complete.

    >>> one = Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]))
    >>> noisy(Pool(["cat", "dog"], {"a": one}, {}), wrong_class=1.0, seed=0).target("a")
    Target(1 box, classes 2, complete)

    Source: ours, to ask what wrong labels cost; in none of the five papers.
    """
    for name, rate in (("jitter", jitter), ("drop", drop), ("wrong_class", wrong_class)):
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} = {rate}: give a rate between 0 and 1")
    if wrong_class and len(pool.classes) < 2:
        raise ValueError(f"wrong_class = {wrong_class}: with {pool.classes} no other can be given")
    _check_complete(pool)
    known: dict[str, Target] = {}
    for image_id in pool.ids:
        target, draws = pool.target(image_id), generator(seed, "noisy", image_id)
        n, device = len(target), target.boxes.device
        chance = torch.rand(2, n, generator=draws).to(device).where(~target.ignore, torch.inf)
        turn = torch.randint(1, max(2, len(pool.classes)), (n,), generator=draws).to(device)
        turned = (target.labels - 1 + turn) % len(pool.classes) + 1 if n else target.labels
        labels = turned.where(chance[1] < wrong_class, target.labels)
        noise = jitter * torch.randn(n, 4, generator=draws).to(device) * ~target.ignore[:, None]
        boxes = _moved(target.boxes, noise, pool.info(image_id).size) if jitter else target.boxes
        erring = replace(target, boxes=boxes, labels=labels, tags=None, absent=None)
        known[image_id] = replace(erring.select(chance[0] >= drop), complete=True)
    return pool.updated(known, cycle=pool.cycle)


def _moved(boxes: Tensor, noise: Tensor, size: tuple[int, int] | None) -> Tensor:
    moved = boxes + noise * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = moved if size is None else clip(moved, size)
    open_ = (moved[:, 2:] > moved[:, :2]) & (noise != 0).any(dim=1, keepdim=True)
    return moved.where(open_.repeat(1, 2), boxes)


def _erased(pool: Pool, level: Level, seed: int) -> set[tuple[str, int]]:
    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)  # of each image or each class
    for image_id in sorted(pool.ids):
        target = pool.target(image_id)
        for row in (~target.ignore).nonzero()[:, 0].tolist():
            name = pool.classes[int(target.labels[row]) - 1] if level == "miss50" else image_id
            groups[name].append((image_id, row))
    erased: set[tuple[str, int]] = set()
    for name, rows in groups.items():
        n = len(rows)
        count = {"easy": min(1, n - 1), "extreme": n - 1}.get(level, n // 2)
        order = torch.randperm(n, generator=generator(seed, "sparse", name)).tolist()
        erased |= {rows[position] for position in order[:count]}
    return erased


def _counts(pool: Pool, unit: Unit) -> dict[str, Counter[int]]:
    if unit not in get_args(Unit):
        raise ValueError(f"unit = {unit!r}: give 'boxes' or 'images'")
    targets = [(image_id, pool.target(image_id)) for image_id in pool.ids]
    found = {key: one.labels[~one.ignore].tolist() for key, one in targets if one.complete}
    return {key: Counter(rows if unit == "boxes" else set(rows)) for key, rows in found.items()}


def _draw_seeds(counts: dict[str, Counter[int]], goal: float, pool: Pool, seed: int) -> set[str]:
    left: dict[int, list[str]] = {}
    for label, name in enumerate(pool.classes, start=1):
        holding = sorted(image_id for image_id, count in counts.items() if count[label])
        order = torch.randperm(len(holding), generator=generator(seed, "seeds", name))
        left[label] = [holding[position] for position in order.tolist()]
    drawn: set[str] = set()
    have: Counter[int] = Counter()
    while any(left.values()) and have.total() + 1 <= goal:
        label = min((label for label in left if left[label]), key=lambda label: have[label])
        image_id = left[label].pop()
        if image_id not in drawn and counts[image_id].total() <= goal - have.total():
            drawn.add(image_id)
            have.update(counts[image_id])
    rest = sorted((count.total(), key) for key, count in counts.items() if key not in drawn)
    rest = [(n, key) for n, key in rest if n and (not drawn or n <= 2 * (goal - have.total()))]
    return drawn | {key for _, key in rest[:1]}  # the smallest, if beyond the goal is closer


def _of_classes(pool: Pool, names: set[str]) -> Pool:
    classes = [name for name in pool.classes if name in names]
    numbers = torch.tensor([0, *(classes.index(c) + 1 if c in names else 0 for c in pool.classes)])
    known: dict[str, Target] = {}
    for image_id in pool.ids:
        target = pool.target(image_id)
        labels = numbers.to(target.labels.device)[target.labels]
        if bool(labels.any()):
            part = replace(target, tags=None, absent=None).select(labels > 0)
            known[image_id] = replace(part, labels=labels[labels > 0], complete=True)
    return pool.relabelled(classes, known)


def _check_complete(pool: Pool) -> None:
    for image_id in pool.ids:
        target = pool.target(image_id)
        if not target.complete:
            raise ValueError(f"image {image_id!r} is {target.state}; give complete images")


def _tagged(pool: Pool, image_id: str) -> Target:
    target = pool.target(image_id)
    present = target.present
    if present is None:
        raise ValueError(
            f"the classes present in {image_id!r} are not known ({target.state}), "
            "so it cannot be tagged"
        )
    return Target.unknown(present)
