"""What BiB is compared with in its own tables, beside the strategies of `baselines`.

k-means++ on image features and on confident regions (the control of Tables 1 and 7), and the
strategies that ask where the detector's loss is largest (Tables 4, 5 and 6).

Source: BiB (Vo et al., ECCV 2022) §4.2, appendix §2.2, §3.2. Notebook: 02_bib_pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from almining import predict
from almining.cycle import Recipe
from almining.data.pool import Pool
from almining.detectors.base import check_finite, device_of
from almining.papers.bib.config import Config
from almining.papers.bib.looking import choose, described, kept
from almining.papers.bib.recipes import few, filled, make_recipe
from almining.recipe import ask_all, unfinished
from almining.records import Evidence, Request, Target
from almining.select import top_k

KIND = "regions"  # of evidence
TERMS = {
    "mil": ("mil",),
    "1": ("cls1", "reg1"),
    "2": ("cls2", "reg2"),
    "3": ("cls3", "reg3"),
    "sum": ("cls1", "reg1", "cls2", "reg2", "cls3", "reg3"),
}


def kmeans_images(config: Config | None = None) -> Recipe:
    """Return k-means++ on image features: Algorithm 2 with one row per image, no pairs.

    Source: BiB §4.2, Table 1, column *im.*
    Differs: the features are the detector's `embed`; the paper does not say which it takes.
    """
    config = Config.toy() if config is None else config

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        vectors = predict.embeddings(detector, pool, progress="kmeans_images: features")
        rows = ((image_id, vector[None]) for image_id, vector in vectors)
        done = [image_id for image_id in pool.ids if pool.target(image_id).complete]
        picks = choose(rows, budget, config, generator, seen=done)
        why = Evidence("kmeans_images", {}, "unlike every image chosen before")
        return [ask_all(image_id, why) for image_id in picks]

    return make_recipe("kmeans_images", config, query, needs=("embed",))


def kmeans_regions(config: Config | None = None) -> Recipe:
    """Return k-means++ on confident regions: Algorithm 2 with one row per detection, no pairs.

    Source: BiB §4.2, Table 1, column *reg.*
    Differs: confident means above `config.min_score`, as for pairs; the paper names no score.
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
        boxes: dict[str, Tensor] = {}
        open_ids = unfinished(pool)
        for image_id, one in predict.detect(detector, pool, open_ids, progress="regions"):
            confident = one.scores > config.min_score
            present = pool.target(image_id).present
            if config.tagged_only and present is not None:
                confident &= torch.isin(one.labels, one.labels.new_tensor(sorted(present)))
            if confident.any():
                boxes[image_id] = one.boxes[confident].cpu()
        asked = asked if config.keep_pairs and boxes else ()
        seen = {image_id: data["boxes"] for image_id, data in kept(pool, asked, KIND).items()}
        features = described(detector, pool, {**boxes, **seen})
        picks = choose(features, budget, config, generator, seen=seen)
        why = "regions unlike those chosen before"
        made = [ask_all(i, Evidence(KIND, {"boxes": boxes[i]}, why)) for i in picks]
        return filled(made, few(len(boxes), "regions", config), pool, budget, generator)

    return make_recipe("kmeans_regions", config, query)


def loss(
    config: Config | None = None, *, term: Literal["mil", "1", "2", "3", "sum"] = "3"
) -> Recipe:
    """Return the images on which the detector's loss is largest, given their tags.

    Args:
        config: as everywhere.
        term: L_MIL, L¹, L², L³ (each L_cls + L_reg of a refinement head) or L¹ + L² + L³.

    Raises:
        ValueError: for an unknown term; from the query, for a detector that cannot tell its loss as
            in evaluation, or has not these heads.
        FloatingPointError: from the query, for a loss that is not finite.

    Source: BiB appendix §2.2, Table 6, and Eq. 2; L³ is the one of Tables 4 and 5.
    """
    config = Config.toy() if config is None else config
    if term not in TERMS:
        raise ValueError(f"term = {term!r}: use one of {', '.join(TERMS)}")
    name = "loss" if term == "3" else f"loss_{term}"

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        if "training" not in signature(detector.losses).parameters:
            raise ValueError(
                f"{name} asks {type(detector).__name__}.losses for its loss as in evaluation, with "
                "training=False, and it takes no such argument; use almining.detectors.mist"
            )
        open_ids = unfinished(pool)
        call = _Losses(detector, TERMS[term])
        device = device_of(detector)
        told = {image_id: pool.target(image_id).to(device) for image_id in open_ids}
        scored = dict(
            predict.stream(
                call,
                pool,
                open_ids,
                beside=told,
                device=device,
                progress=f"{name}: score",
                detector=detector,
            )
        )
        ids, values = list(scored), list(scored.values())
        return [
            ask_all(
                ids[i],
                Evidence("loss", {"loss": values[i]}, f"the loss is {values[i]:.3f}"),
                values[i],
            )
            for i in top_k(values, budget)
        ]

    return make_recipe(name, config, query, needs=())


class _Losses:
    """The loss of each image alone, given what is known of it."""

    def __init__(self, detector: Any, terms: Sequence[str]) -> None:
        self.detector, self.terms = detector, terms
        self.__qualname__ = f"losses {' '.join(terms)}"

    @torch.no_grad()
    def __call__(self, images: Sequence[Tensor], targets: Sequence[Target]) -> list[float]:
        found = []
        for image, target in zip(images, targets, strict=True):
            draws = torch.Generator()  # in evaluation nothing is drawn
            losses = self.detector.losses([image], [target], generator=draws, training=False)
            missing = [name for name in self.terms if name not in losses]
            if missing:
                raise ValueError(
                    f"the detector's losses are {', '.join(losses)}; {missing[0]} is none of them"
                )
            total = sum(losses[name] for name in self.terms)
            check_finite(total, "losses")
            found.append(float(total))
        return found
