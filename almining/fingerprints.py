"""What a run is made of: digests of weights, targets and images, and a description to compare.

Two runs with equal descriptions make the same picks, metrics and weights, bit for bit on a CPU. A
run directory keeps the description; `cycle.run` compares before it goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from almining import ranks
from almining.checkpoints import check_detector
from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.digests import digest_tensors, digest_texts
from almining.records import Target
from almining.train import TrainConfig

SAMPLED = 8  # how many images that no file holds are looked at
LIBRARIES = (
    "almining",
    "torch",
    "torchvision",
)  # numpy and Pillow draw and decode, but train nothing
# what may differ when a run goes on, if its user says so, and what comes of it
OPTIONAL = {
    "config": "the cycles to come use the new values",
    "train": "the cycles to come use the new schedule",
    "budget": "the cycles to come spend the new budget",
    "metrics": "the rows to come hold the new metrics",
    "data": "answers stay; the cycles to come use what is there now",
    "versions": "results may differ in the last digits",
    "machine": "results may differ: in the last digits, or more where ranks cut batches in parts",
}


def digest_weights(detector: Any) -> str:
    """Return the sha256 of a detector's state."""
    return digest_tensors(check_detector(detector).items())


def digest_target(target: Target) -> str:
    """Return the sha256 of everything that is known of an image."""
    sets = [None if value is None else sorted(value) for value in (target.tags, target.absent)]
    fields = ("boxes", "labels", "ignore", "scores", "negatives")
    values = [getattr(target, name).tolist() for name in fields]  # repr tells every bit but a NaN's
    return digest_texts([repr((values, target.origin, sets, target.complete))])


def digest_images(
    pool: Pool, digests: Callable[[Iterable[tuple[str, Path]]], Mapping[str, str]]
) -> dict[str, str]:
    """Return a sha256 for each image of a pool: what is known of it since when, and its file.

    Of images that no file holds, the pixels of a few, drawn by their ids, stand for all.

    Args:
        pool: the images.
        digests: the sha256 of files, by name; the ledger's remembers them.

    Raises:
        ValueError: for an image id that is no text, as that of a file of another encoding.
    """
    paths = {image_id: pool.info(image_id).path for image_id in pool.ids}
    files = {str(path): path for path in paths.values() if path is not None and path.is_file()}
    known = digests(files.items())
    drawn = [image_id for image_id, path in paths.items() if path is None]
    sampled = set(nsmallest(SAMPLED, drawn, key=lambda image_id: digest_texts([ascii(image_id)])))
    found = {}
    for image_id, path in paths.items():
        content = _pixels(pool, image_id) if image_id in sampled else known.get(str(path), "none")
        told = [image_id, digest_target(pool.target(image_id)), str(pool.since(image_id)), content]
        try:
            found[image_id] = digest_texts(told)
        except UnicodeEncodeError as error:
            raise ValueError(f"image id {image_id!r}: {error}; rename the image") from error
    return found


def _pixels(pool: Pool, image_id: str) -> str:
    try:
        return digest_tensors([("image", pool.image(image_id))])
    except BrokenImageError as error:
        return error.reason


def describe(
    recipe: Any,
    detector: Any,
    pool: Pool,
    budget: float,
    unit: str,
    seed: int,
    metrics: Callable[..., Any],
    data: Mapping[str, str],
) -> dict[str, Any]:
    """Return all that decides what comes of a run, as JSON values by group.

    Functions go by their names: that a body has changed is not seen.

    Args:
        recipe: the `Recipe`.
        detector: the start, M⁰.
        pool: what is known at the start.
        budget: per cycle.
        unit: of the budget.
        seed: of the run.
        metrics: what measures.
        data: a digest of each pool.
    """
    slots = ("trains_on", "query", "mine", "step")
    return {
        "recipe": {"name": recipe.name, "restart": recipe.restart}
        | {slot: _value(getattr(recipe, slot)) for slot in slots},
        "seed": int(seed),
        "classes": list(pool.classes),
        "start": {"detector": type(detector).__qualname__, "sha256": digest_weights(detector)},
        "config": _value(recipe.config),
        "train": _value(recipe.train),
        "budget": {"per_cycle": int(budget) if budget == int(budget) else budget, "unit": unit},
        "metrics": _value(metrics),
        "data": dict(data),
        "versions": {name: _version(name) for name in LIBRARIES},
        "machine": {
            "device": device_of(detector).type,
            "threads": torch.get_num_threads(),
            "ranks": ranks.current().world,
        },
    }


def digest_training(
    start: Any, pool: Pool, ids: Sequence[str], schedule: TrainConfig, seed: int, config: Any
) -> str:
    """Return a sha256 of what a training depends on.

    Args:
        start: the detector it begins with.
        pool: all images; a step may look at any of them.
        ids: of those trained on.
        schedule: how long and how.
        seed: of its draws.
        config: the recipe's.
    """
    said = [digest_weights(start), repr(schedule), str(seed), json.dumps(_value(config))]
    targets = (digest_target(pool.target(image_id)) for image_id in pool.ids)
    return digest_texts([*said, digest_texts(ids), *pool.ids, *targets])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _value(value: Any) -> Any:
    """Return a setting as JSON: a dataclass by its fields, a function by its name.

    Whatever else goes by what it shows, or by its type where that is its place in memory.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _value(getattr(value, field.name)) for field in fields}
    if isinstance(value, functools.partial):
        given = {str(place): _value(one) for place, one in enumerate(value.args)}
        return {"of": _value(value.func), **given, **_value(value.keywords)}
    if isinstance(value, Mapping):
        return {str(key): _value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((_value(one) for one in value), key=json.dumps)
    if isinstance(value, Tensor):
        return digest_tensors([("value", value)])
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not hasattr(value, "__qualname__") and " at 0x" not in (shown := repr(value)):
        return shown
    named = value if hasattr(value, "__qualname__") else type(value)
    module = named.__module__
    if module == "__main__":  # a script is the same one when it is imported
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
    return f"{module}.{named.__qualname__}"
