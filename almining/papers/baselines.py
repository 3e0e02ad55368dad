"""The strategies every paper is compared with, as BiB's appendix defines them.

Random (uniform, balanced by class), entropy (max, sum), core-set, and core-set weighted by entropy.
They share one training, so that only the choice of images differs. Leaves out what belongs to one
paper alone: each paper's folder has its own rivals.

Source: BiB (Vo et al., ECCV 2022), appendix §3.2, Eq. 7-10. Notebook: 00_start_here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from almining.cycle import Query, Recipe, labelled
from almining.data.pool import Pool
from almining.predict import detect, embeddings
from almining.recipe import ask_all, unfinished
from almining.records import Detections, Evidence, Request
from almining.score import box_entropies, entropy
from almining.select import core_set as k_center
from almining.select import sample, top_k
from almining.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Config:
    """How the strategies' detectors are trained; the defaults are BiB's for VOC07 (§4.1).

    Args:
        steps_per_image: gradient steps per labelled image: 300 for every 50.
        batch: images per step.
        lr: learning rate.
        optimizer: `"sgd"` or `"adamw"`.
        schedule: `"constant"` or `"cosine"`.
        least_steps: never train for fewer steps than this.
        most_steps: never train for more, or None.
    """

    steps_per_image: float = 300 / 50
    batch: int = 8
    lr: float = 4e-4
    optimizer: str = "sgd"
    schedule: str = "constant"
    least_steps: int = 0
    most_steps: int | None = None

    @classmethod
    def toy(cls) -> Config:
        """Return values for 240 scenes of 128 pixels, measured on a CPU."""
        return cls(
            steps_per_image=2.0,
            batch=4,
            lr=1e-3,
            optimizer="adamw",
            schedule="cosine",
            least_steps=40,
            most_steps=400,
        )

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return the schedule once so many images are labelled."""
        steps = max(self.least_steps, round(self.steps_per_image * len(labelled(pool))))
        steps = steps if self.most_steps is None else min(self.most_steps, steps)
        return TrainConfig.of(self, steps=steps)

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the images to train on: those of which every box is known."""
        return labelled(pool)


class Training(Protocol):
    """How a detector is trained: this config, or a paper's, so that only the choice differs."""

    def schedule_for(self, pool: Pool) -> TrainConfig:
        """Return the schedule for what is known of the images."""
        ...

    def trains_on(self, pool: Pool) -> list[str]:
        """Return the ids to train on."""
        ...


def u_random(config: Training | None = None) -> Recipe:
    """Return uniform random sampling.

    Args:
        config: how to train, here and below: `Config.toy()` by default, or the config of a paper
            that it is compared with, such as `bib.Config.toy()`.

    Source: BiB appendix §3.2, *u-random*.
    """

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        waiting = unfinished(pool)
        chosen = [
            waiting[position] for position in sample(len(waiting), budget, generator=generator)
        ]
        return [ask_all(image_id, Evidence("random", {}, "drawn at random")) for image_id in chosen]

    return _recipe("u_random", config, query)


def b_random(config: Training | None = None) -> Recipe:
    """Return random sampling balanced over classes.

    Always asks for an image of the class with the fewest labelled images.

    Source: BiB appendix §3.2, *b-random*; ties between classes are broken at random.
    Differs: the paper reads an image's classes from its weak labels, and so does this: tags, never
    hidden boxes. A class is represented by the labelled images it is in, not by its boxes, as in
    the reference code.

    Raises:
        ValueError: from the query, naming an image of which the classes are not known.
    """

    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        waiting = {image_id: _present(pool, image_id) for image_id in unfinished(pool)}
        counts = Counter(label for image_id in labelled(pool) for label in _present(pool, image_id))
        requests: list[Request] = []
        while waiting and len(requests) < budget:
            left = sorted(set().union(*waiting.values()))
            if not left:  # only images without any class remain
                chosen = list(waiting)[_one(len(waiting), generator)]
                text = "no class is left to balance"
            else:
                fewest = min(counts[label] for label in left)
                rare = [label for label in left if counts[label] == fewest]
                label = rare[_one(len(rare), generator)]
                having = [image_id for image_id, present in waiting.items() if label in present]
                chosen = having[_one(len(having), generator)]
                text = f"{pool.classes[label - 1]} was in only {fewest} labelled images"
            counts.update(waiting.pop(chosen))
            requests.append(ask_all(chosen, Evidence("balance", {}, text)))
        return requests

    return _recipe("b_random", config, query)


def entropy_max(config: Training | None = None) -> Recipe:
    """Return the images whose most uncertain box is most uncertain.

    Source: BiB appendix §3.2, Eq. 8.
    """
    return _entropy("entropy_max", config, "max")


def entropy_sum(config: Training | None = None) -> Recipe:
    """Return the images whose boxes are most uncertain in sum.

    Source: BiB appendix §3.2, Eq. 9.
    """
    return _entropy("entropy_sum", config, "sum")


def core_set(config: Training | None = None) -> Recipe:
    """Return greedy core-set selection on image features.

    Source: BiB appendix §3.2, Eq. 7.
    """
    return _core_set("core_set", config, weighted=False)


def core_set_ent(config: Training | None = None) -> Recipe:
    """Return core-set selection with distances weighted by the image's largest box entropy.

    Source: BiB appendix §3.2, Eq. 10. Differs: the reference code weights only the distances to
    images labelled before the cycle; here, as printed, all of them.
    """
    return _core_set("core_set_ent", config, weighted=True)


def _entropy(name: str, config: Training | None, reduce: str) -> Recipe:
    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        waiting = unfinished(pool)
        ids, scores, evidence = [], [], []
        for image_id, found in detect(detector, pool, waiting, progress=f"{name}: score"):
            found = found.to("cpu")
            ids.append(image_id)
            scores.append(entropy(found, reduce=reduce))  # type: ignore[arg-type]
            evidence.append(_uncertain(found, pool))
        return [ask_all(ids[i], evidence[i], scores[i]) for i in top_k(scores, budget)]

    return _recipe(name, config, query, needs=("probs",))


def _core_set(name: str, config: Training | None, *, weighted: bool) -> Recipe:
    def query(
        detector: Any, pool: Pool, budget: int, *, generator: torch.Generator
    ) -> list[Request]:
        vectors = dict(embeddings(detector, pool, progress=f"{name}: features"))
        entropies = _entropies(detector, pool, list(vectors)) if weighted else None
        ids = list(vectors if entropies is None else entropies)  # broken images have neither
        if not ids:
            return []
        features = torch.stack([vectors[image_id] for image_id in ids])
        done = [i for i, image_id in enumerate(ids) if pool.target(image_id).complete]
        weights = None if entropies is None else torch.tensor(list(entropies.values()))
        chosen = k_center(features, budget, labelled=done, weights=weights, generator=generator)
        evidence = Evidence("core_set", {}, "farthest from every labelled image in feature space")
        return [ask_all(ids[position], evidence) for position in chosen]

    return _recipe(name, config, query, needs=("embed", "probs") if weighted else ("embed",))


def _entropies(detector: Any, pool: Pool, ids: list[str]) -> dict[str, float]:
    """Return the entropy of each image; 0 for the labelled ones, which cannot be picked."""
    scores = {image_id: 0.0 for image_id in ids if pool.target(image_id).complete}
    waiting = [image_id for image_id in ids if image_id not in scores]
    for image_id, found in detect(detector, pool, waiting, progress="entropy"):
        scores[image_id] = entropy(found, reduce="max")
    return {image_id: scores[image_id] for image_id in ids if image_id in scores}


def _uncertain(found: Detections, pool: Pool, *, most: int = 3) -> Evidence:
    values = box_entropies(found)
    order = values.argsort(descending=True, stable=True)[:most]
    text = "nothing was detected"
    if len(order):
        named = pool.classes[int(found.labels[order[0]]) - 1]
        score, value = float(found.scores[order[0]]), float(values[order[0]])
        text = f"most uncertain: {named} at {score:.2f}, entropy {value:.2f}"
    data = {"boxes": found.boxes[order], "labels": found.labels[order], "entropies": values[order]}
    return Evidence("entropy", data, text)


def _present(pool: Pool, image_id: str) -> frozenset[int]:
    present = pool.target(image_id).present
    if present is None:
        raise ValueError(
            f"b_random needs the classes of every image, and those of {image_id!r} are not known "
            f"({pool.target(image_id).state}); tag the images, or use u_random"
        )
    return present


def _one(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _recipe(
    name: str, config: Training | None, query: Query, *, needs: tuple[str, ...] = ()
) -> Recipe:
    config = Config.toy() if config is None else config
    return Recipe(
        name,
        config,
        train=config.schedule_for,
        needs=needs,
        restart="start",
        trains_on=config.trains_on,
        query=query,
    )


ALL: tuple[Callable[[Training | None], Recipe], ...] = (
    u_random,
    b_random,
    entropy_max,
    entropy_sum,
    core_set,
    core_set_ent,
)
