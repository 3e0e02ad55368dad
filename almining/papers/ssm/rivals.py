"""What SSM is compared with: Figures 3 and 4 and Tables 1 and 2 of the paper.

Those that choose regions by one number each and pseudo-label nothing; CEAL, which does both, from
confidence; and those that mine as SSM does, but validate in another way, or not at all. All train
as SSM does. A weak start, as in Table 2, is a pool: `regimes.unlabelled(..., keep=...)`. K-EM is
left out: its authors published no code, and SSM's quote its figures from its paper.

Source: SSM (Wang et al., CVPR 2018) §4. Notebook: 01_ssm_paste_validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from almining.checks import check_whole
from almining.cycle import Query, Recipe
from almining.data.pool import Pool
from almining.papers.ssm.config import Config, Validation
from almining.papers.ssm.finding import foreground
from almining.papers.ssm.looking import find
from almining.papers.ssm.recipes import described, make_recipe, request
from almining.records import Detections, Evidence, Request, Target
from almining.score import box_entropies
from almining.select import sample, top_k

CEAL = "mined:ceal"
RATE, AMONG = 4.0, 500
MAX_ENTROPY = 0.3
Score = Callable[[Sequence[Detections], torch.Generator], Tensor]


def random_regions(config: Config | None = None) -> Recipe:
    """Return regions at random; `config` is `Config.toy()` by default, here and below.

    Source: SSM Table 1, *RAND*; Fig. 3.
    """

    def score(found: Sequence[Detections], generator: torch.Generator) -> Tensor:
        return torch.rand(sum(map(len, found)), generator=generator, dtype=torch.float64)

    return _asking("random_regions", config, score)


def entropy(config: Config | None = None) -> Recipe:
    """Return the regions whose class is most uncertain.

    Source: SSM Fig. 3, *Entropy*, after Settles' survey (2010).
    """
    return _asking("entropy", config, lambda found, _: _entropies(found))


def model_change(config: Config | None = None) -> Recipe:
    """Return the regions that would change the classifiers most, whatever a person says.

    The length of the gradient of the last layer, its mean over what a person may say: one class,
    or none, as likely as the probabilities have it. Needs `features`.

    Source: SSM Fig. 3, *EMC*.
    Differs: EMC after Freytag et al. (ECCV 2014) is the change of the outputs of a Gaussian
    process; this is the expected length of the gradient of Settles' survey, in closed form.
    """

    def score(found: Sequence[Detections], _: torch.Generator) -> Tensor:
        phi, likely, features = _beliefs(found)
        return (likely * _errors(phi).norm(dim=2)).sum(dim=1) * _length(features).sqrt()

    return _asking("model_change", config, score, needs=("features",))


def labelling_change(
    config: Config | None = None, *, rate: float = RATE, among: int = AMONG
) -> Recipe:
    """Return the regions after which most other regions would be called something else.

    The number of classifiers' verdicts on other regions that flip when the last layer takes one
    step towards what a person may say, its mean as in `model_change`. Needs `features`.

    Args:
        config: as everywhere.
        rate: how far the step moves the logits of the region itself, per unit of error; 4 is
            Newton's at a probability of 0.5.
        among: how many regions are looked at, drawn at random.

    Source: SSM Fig. 3, *ELC*.
    Differs: the paper names it and says no more.
    """

    def score(found: Sequence[Detections], generator: torch.Generator) -> Tensor:
        phi, likely, features = _beliefs(found)
        seen = torch.tensor(sample(len(phi), among, generator=generator), dtype=torch.int64)
        logits = phi[seen].logit()  # (m, C)
        near = (features @ features[seen].T + 1) / _length(features)[:, None]  # (n, m)
        near[seen, torch.arange(len(seen))] = 0  # its own verdict is the person's
        moves = -rate * _errors(phi)  # (n, C + 1, C)
        values = [
            float(
                ((logits + move[:, None] * one[:, None] > 0) != (logits > 0)).sum((1, 2)).double()
                @ p
            )
            for move, one, p in zip(moves, near, likely, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float64)

    check_whole(among, "among", 1)
    if not 0 < rate < math.inf:
        raise ValueError(f"rate = {rate!r}: a finite number above 0 is needed")
    name = "labelling_change"  # by which, and the config, a run directory knows a recipe
    name += "" if (rate, among) == (RATE, AMONG) else f"_{rate:g}_{among}"
    return _asking(name, config, score, needs=("features",))


def density(config: Config | None = None) -> Recipe:
    """Return regions that are uncertain and like many others: entropy times mean similarity.

    The similarity is the cosine of their `features`, where it is above 0 in the mean.

    Source: SSM Fig. 3, *Density*: information density of Settles' survey (2010), β = 1.
    """

    def score(found: Sequence[Detections], _: torch.Generator) -> Tensor:
        features = torch.nn.functional.normalize(_beliefs(found)[2], dim=1)
        return _entropies(found) * (features @ features.mean(dim=0)).clamp(min=0)

    return _asking("density", config, score, needs=("features",))


def ceal(config: Config | None = None, *, max_entropy: float = MAX_ENTROPY) -> Recipe:
    """Return CEAL: ask about the most uncertain regions, believe in the least uncertain ones.

    Pseudo-labels are made between trainings, and anew each time.

    Args:
        config: as everywhere.
        max_entropy: δ; a region below it is taken for what it looks like.

    Source: SSM Fig. 3, *CEAL* (Wang et al., IEEE TCSVT 2017), extended to regions by alternating
    selection and fine-tuning.
    Differs: δ does not fall from cycle to cycle.
    """
    if not max_entropy > 0:
        raise ValueError(f"max_entropy = {max_entropy!r}: a number above 0 is needed")
    name = "ceal" if max_entropy == MAX_ENTROPY else f"ceal_{max_entropy:g}"
    made = _asking(name, config, lambda found, _: _entropies(found))

    def mine(detector: Any, pool: Pool, *, generator: torch.Generator) -> dict[str, Target]:
        known = {i: _unmined(pool.target(i)) for i in pool.ids}
        new = {i: target for i, target in known.items() if target is not pool.target(i)}
        for image_id, found in find(detector, pool, made.config, progress=f"{name}: mine").items():
            sure = found.select(box_entropies(found) < max_entropy)
            if len(sure):
                new[image_id] = _with_mined(known[image_id], sure)
        return new

    return replace(made, mine=mine, alone=True)


def spl(config: Config | None = None) -> Recipe:
    """Return self-paced learning: as SSM alone, but by confidence; nothing is pasted.

    Source: SSM Table 1 c and d, *SPL*.
    Differs: the paper's follows CEAL's code; here the region's own probability stands where SSM has
    its consistency, in the ranking and in Eq. 4.
    """
    return _validated("spl", config, "confidence")


def by_flip(config: Config | None = None) -> Recipe:
    """Return SSM alone with validation in the mirrored image.

    Source: SSM Fig. 4, *Flip*.
    """
    return _validated("flip", config, "flip")


def by_rescale(config: Config | None = None) -> Recipe:
    """Return SSM alone with validation in the image at other scales, 50% to 200%.

    Source: SSM Fig. 4, *Rescale*.
    """
    return _validated("rescale", config, "rescale")


def by_flip_and_rescale(config: Config | None = None) -> Recipe:
    """Return SSM alone with validation in the image mirrored and at other scales.

    Source: SSM Fig. 4, *Flip&Rescale*.
    """
    return _validated("flip_rescale", config, "flip_rescale")


def _validated(name: str, config: Config | None, validation: Validation) -> Recipe:
    config = Config.toy() if config is None else config
    return make_recipe(name, replace(config, only="ssm", validation=validation), None)


def _asking(name: str, config: Config | None, score: Score, needs: Sequence[str] = ()) -> Recipe:
    """Return a recipe that asks about the regions of highest score and pseudo-labels nothing."""
    config = replace(Config.toy() if config is None else config, only="al")
    return make_recipe(name, config, _best(name, config, score), needs=needs)


def _best(name: str, config: Config, score: Score) -> Query:
    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        looked = find(detector, pool, config, progress=f"{name}: score")
        some = {image_id: found for image_id, found in looked.items() if len(found)}
        if not some:
            return []
        values = score(list(some.values()), generator)
        rows = [(i, row) for i, found in some.items() for row in range(len(found))]
        made = []
        for at in top_k(values, min(budget, config.per_cycle)):
            (image_id, row), value = rows[at], float(values[at])
            found = some[image_id].select(torch.tensor([row]))
            text = f"{described(found, 0, pool.classes, config)}; {name} {value:.3g}"
            data: dict[str, Any] = {"boxes": found.boxes, "labels": found.labels, "score": value}
            why = Evidence("score", data, text)
            made.append(request(image_id, row, found.boxes[0], why, value))
        return made

    return query


def _entropies(found: Sequence[Detections]) -> Tensor:
    return torch.cat([box_entropies(one) for one in found]).double()


def _beliefs(found: Sequence[Detections]) -> tuple[Tensor, Tensor, Tensor]:
    """Return φ (n, C), how likely a person says each, none first (n, C + 1), and features."""
    phi = torch.cat([foreground(one) for one in found]).double().clamp(1e-6, 1 - 1e-6)
    odds = torch.cat([torch.ones_like(phi[:, :1]), phi / (1 - phi)], dim=1)
    features = torch.cat([one.features for one in found if one.features is not None])
    return phi, odds / odds.sum(dim=1, keepdim=True), features.double()


def _errors(phi: Tensor) -> Tensor:
    """Return φ - y, (n, C + 1, C), for each y: none, class 1...C."""
    none = torch.zeros(1, phi.shape[1], dtype=phi.dtype)
    return phi[:, None] - torch.cat([none, torch.eye(phi.shape[1], dtype=phi.dtype)])


def _length(features: Tensor) -> Tensor:
    """Return the squared length of each row of features and a bias."""
    return features.square().sum(dim=1) + 1


def _unmined(target: Target) -> Target:
    """Return the target without what CEAL mined; the same object when there is nothing."""
    kept = torch.tensor([name != CEAL for name in target.origin], dtype=torch.bool)
    return target if bool(kept.all()) else target.select(kept)


def _with_mined(target: Target, found: Detections) -> Target:
    return replace(
        target,
        boxes=torch.cat([target.boxes, found.boxes]),
        labels=torch.cat([target.labels, found.labels]),
        ignore=torch.cat([target.ignore, torch.zeros(len(found), dtype=torch.bool)]),
        origin=(*target.origin, *[CEAL] * len(found)),
        scores=torch.cat([target.scores, found.scores]),
    )


ALL: tuple[Callable[[Config | None], Recipe], ...] = (
    random_regions,
    entropy,
    model_change,
    labelling_change,
    density,
    ceal,
    spl,
    by_flip,
    by_rescale,
    by_flip_and_rescale,
)
