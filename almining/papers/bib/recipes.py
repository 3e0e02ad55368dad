"""BiB as a recipe: ask for images whose pairs are unlike all before, learn weak and strong 1:1.

The whole of Algorithm 1: pairs of every open image, their features, k-means++ over them
(Algorithm 2), then M⁰ trained anew on tags and boxes together (§3.4). Beside it stand the two
variants of Table 8. Other selections are trained alike when they are given its config, as in
`baselines.u_random(bib.Config.toy())`; those of the paper's other tables are in `rivals`.
Notebook: 02_bib_pairs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch

from almining.cycle import Query, Recipe
from almining.data.pool import Pool
from almining.papers.bib.config import Config
from almining.papers.bib.looking import KIND, Found, choose, described, find, kept_pairs
from almining.recipe import ask_all, unfinished
from almining.records import Evidence, Request
from almining.select import sample

UNLIKE = "unlike those chosen before"
RANDOM = "drawn at random"


def recipe(config: Config | None = None) -> Recipe:
    """Return BiB; `config` is `Config.toy()` by default, here and below.

    Where fewer images hold pairs than are asked for, the rest is drawn at random, and a warning
    and the requests say so.

    Source: BiB Algorithms 1 and 2.
    Differs: boxes of pairs are kept from the cycle an image was asked for in and described by the
    present detector, as in the reference code, which has no answer where there are too few images
    with pairs.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any,
        pool: Pool,
        budget: int,
        *,
        generator: torch.Generator,
        asked: Sequence[Request] = (),
    ) -> list[Request]:
        found = find(detector, pool, unfinished(pool), config=config, progress="bib: pairs")
        return unlike(detector, pool, found, asked, budget, config, generator)

    return make_recipe("bib", config, query)


def u_bib(config: Config | None = None) -> Recipe:
    """Return U(BiB): images that hold pairs, at random.

    Source: BiB appendix §2.4, Table 8.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        found = find(detector, pool, unfinished(pool), config=config, progress="u_bib: pairs")
        ids = list(found)
        picks = [ids[i] for i in sample(len(ids), budget, generator=generator)]
        made = [ask_all(i, _shown(found[i], pool.classes, RANDOM)) for i in picks]
        return filled(made, few(len(found), "pairs", config), pool, budget, generator)

    return make_recipe("u_bib", config, query, needs=())


def u_plus_bib(config: Config | None = None) -> Recipe:
    """Return U+BiB: half of the images as BiB chooses them, half uniformly at random, in turn.

    Source: BiB appendix §2.4, Table 8.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any,
        pool: Pool,
        budget: int,
        *,
        generator: torch.Generator,
        asked: Sequence[Request] = (),
    ) -> list[Request]:
        found = find(detector, pool, unfinished(pool), config=config, progress="u_plus_bib: pairs")
        half = unlike(detector, pool, found, asked, (budget + 1) // 2, config, generator)
        taken = {one.image_id for one in half}
        rest = at_random(pool, budget - len(half), taken, RANDOM, generator, found)
        both = zip_longest(half, rest)
        return [one for two in both for one in two if one is not None]

    return make_recipe("u_plus_bib", config, query)


def make_recipe(
    name: str, config: Config, query: Query, *, needs: tuple[str, ...] = ("regions",)
) -> Recipe:
    """Return a recipe that chooses by `query` and trains as BiB does."""
    return Recipe(
        name,
        config,
        train=config.schedule_for,
        needs=needs,
        restart="start",
        trains_on=config.trains_on,
        query=query,
    )


def unlike(
    detector: Any,
    pool: Pool,
    found: Mapping[str, Found],
    asked: Sequence[Request],
    budget: int,
    config: Config,
    generator: torch.Generator,
) -> list[Request]:
    """Return requests for images whose pairs are unlike those of the images before them.

    Args:
        detector: describes boxes.
        pool: the images.
        found: the pairs of those to choose from.
        asked: what was asked before.
        budget: how many to choose; at random where too few hold pairs.
        config: how to choose.
        generator: draws.

    Source: BiB Algorithm 2.
    """
    seen = kept_pairs(pool, asked) if config.keep_pairs and found else {}
    both = {**found, **seen}
    features = described(detector, pool, {i: one.detections.boxes for i, one in both.items()})
    pairs = {image_id: one.pairs for image_id, one in both.items()}
    picks = choose(features, budget, config, generator, seen=seen, pairs=pairs)
    made = [ask_all(i, _shown(found[i], pool.classes, UNLIKE)) for i in picks]
    return filled(made, few(len(found), "pairs", config), pool, budget, generator)


def few(images: int, what: str, config: Config) -> str:
    """Say how few images hold something, and above which score."""
    return f"only {images} images hold {what} above a score of {config.min_score:g}"


def filled(
    made: list[Request], why: str, pool: Pool, budget: int, generator: torch.Generator
) -> list[Request]:
    """Return requests and, where they are too few, some for images drawn at random.

    A warning says so, but not where all images are asked for, as by budgets in boxes or seconds.
    """
    left = len(unfinished(pool))
    short = min(budget, left) - len(made)
    if short <= 0:
        return made
    text = f"{why}: {RANDOM}"
    if budget < left:
        warnings.warn(f"{text}, {short} of {budget} images", stacklevel=2)
    return made + at_random(pool, short, {one.image_id for one in made}, text, generator, {})


def at_random(
    pool: Pool,
    budget: int,
    taken: set[str],
    text: str,
    generator: torch.Generator,
    found: Mapping[str, Found],
) -> list[Request]:
    """Return requests for open images that are not taken, drawn uniformly; pairs found go along."""
    left = [image_id for image_id in unfinished(pool) if image_id not in taken]
    made = []
    for i in sample(len(left), budget, generator=generator):
        pairs, plain = found.get(left[i]), Evidence("random", {}, text)
        made.append(ask_all(left[i], _shown(pairs, pool.classes, text) if pairs else plain))
    return made


def _shown(found: Found, classes: Sequence[str], how: str) -> Evidence:
    boxes = found.detections
    counts = Counter(boxes.labels[found.pairs[:, 1]].tolist())
    each = [f"{n} of {classes[label - 1]}" for label, n in counts.most_common()]
    data = {name: getattr(boxes, name) for name in ("boxes", "labels", "scores")}
    text = f"box in box, {how}: {', '.join(each)}"
    return Evidence(KIND, data | {"pairs": found.pairs}, text)
