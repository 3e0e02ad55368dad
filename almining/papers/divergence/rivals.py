"""What divergence is compared with: other scores, and itself with a part left out.

All have the temporal rules and the training of the paper's method, so that only the score, or the
part left out, differs.

Source: Divergence (Aghdam et al., ICCV 2019) §4, "Our method vs. random", "Other pixel-level score
functions", "Ablation study". Notebook: 05_pixel_divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from almining.checks import check_whole
from almining.cycle import Recipe
from almining.data.pool import Pool
from almining.papers.divergence.config import Config
from almining.papers.divergence.pixels import binary_entropy, disagreement
from almining.papers.divergence.recipes import (
    by_pixels,
    make_recipe,
    ranked,
    recipe,
    take,
)
from almining.recipe import ask_all, unfinished
from almining.records import Evidence, Request
from almining.score import entropy as entropy_of_boxes


def guided_random(config: Config | None = None) -> Recipe:
    """Return random frames, kept apart by the same rules.

    Source: Divergence §4, *guided random*.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        ids = unfinished(pool)
        draws = torch.rand(len(ids), generator=generator, dtype=torch.float64)
        why = Evidence("random", {}, "drawn at random among frames that are apart")
        return [ask_all(ids[i], why) for i in take(pool, ids, draws, budget, config)]

    return make_recipe("guided_random", config, query)


def entropy(config: Config | None = None) -> Recipe:
    """Return the binary entropy of each pixel in place of its divergence.

    Source: Divergence §4, Fig. 5 and 6: s = H(p).
    """

    def maps(detector: Any, images: list[Tensor], draws: torch.Generator) -> Iterable[Tensor]:
        return (binary_entropy(one).sum(dim=0) for one in detector.dense(images))

    return by_pixels("entropy", maps, Config.toy() if config is None else config)


def mc_dropout(config: Config | None = None, *, dropout: float = 0.5, passes: int = 30) -> Recipe:
    """Return the divergence among passes with dropout in place of that among neighbours.

    Args:
        config: as everywhere.
        dropout: the share that is dropped; the paper has 0.5 and 0.1.
        passes: T, which the paper also prints as P; at least 2.

    Needs a detector with `passes(images, count, *, dropout, generator)`, which yields `count` times
    what `dense` returns.

    Source: Divergence §4, Fig. 5 and 6.
    """
    if not 0 < dropout < 1:
        raise ValueError(f"dropout = {dropout!r}: a share above 0 and below 1 is needed")
    check_whole(passes, "passes", 2)

    def maps(detector: Any, images: list[Tensor], draws: torch.Generator) -> Iterable[Tensor]:
        return disagreement(detector.passes(images, passes, dropout=dropout, generator=draws))

    config = Config.toy() if config is None else config
    return by_pixels(f"mc_dropout_{dropout:g}_{passes}", maps, config, needs=("passes",))


def mean_pooled(config: Config | None = None) -> Recipe:
    """Return divergence averaged over all pixels in place of regions' maxima.

    Source: Divergence §4, Fig. 9 left.
    """
    return _without("mean_pooled", config, aggregate="mean")


def unsmoothed(config: Config | None = None) -> Recipe:
    """Return divergence without Eq. 6.

    Source: Divergence §4, Fig. 9 middle.
    """
    return _without("unsmoothed", config, half_window=0)


def unruled(config: Config | None = None) -> Recipe:
    """Return divergence without the temporal rules.

    Source: Divergence §4, Fig. 9 right.
    """
    return _without("unruled", config, blocked_now=0, blocked_later=0)


def box_entropy(config: Config | None = None) -> Recipe:
    """Return the entropy of the most uncertain detection, with smoothing and rules.

    A score of the library that knows nothing of pixels or videos.
    """

    def score(detector: Any, images: list[Tensor]) -> Iterable[float]:
        return map(entropy_of_boxes, detector.detect(images))

    return ranked("box_entropy", score, config, needs=("probs",))


def _without(name: str, config: Config | None, **changes: Any) -> Recipe:
    made = recipe(replace(Config.toy() if config is None else config, **changes))
    return replace(made, name=name)


ALL: tuple[Callable[[Config | None], Recipe], ...] = (
    guided_random,
    entropy,
    mc_dropout,
    partial(mc_dropout, dropout=0.1),
    mean_pooled,
    unsmoothed,
    unruled,
    box_entropy,
)
