"""One training loop.

What is minimised comes from a `step`; the loop brings batches, schedule and a progress bar.

Order, augmentation and dropout are functions of (seed, epoch, step, item), so nothing depends on
what was drawn before. torch's global generators, which torchvision's samplers and dropout use, are
seeded around each step and put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from almining.boxes import flip
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.progress import bar
from almining.records import Target
from almining.rng import derive, forked, generator


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How long and how to train.

    Args:
        steps: gradient steps.
        batch: images per step.
        lr: peak learning rate.
        optimizer: `"sgd"` (momentum 0.9) or `"adamw"`.
        weight_decay: L2 of SGD, decoupled decay of AdamW.
        schedule: `"cosine"`: linear warm-up, then a half cosine down to zero; `"constant"`:
            warm-up, then flat.
        warmup: share of the steps in which the rate rises linearly.
        clip: largest gradient norm; larger ones are scaled down to it.
        flip: mirror an image left to right half of the time.
    """

    steps: int
    batch: int = 8
    lr: float = 1e-3
    optimizer: Literal["sgd", "adamw"] = "adamw"
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    clip: float = 10.0
    flip: bool = True

    def __post_init__(self) -> None:
        """Validate."""
        for name, low in (("steps", 0), ("batch", 1)):
            if getattr(self, name) < low:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)}: at least {low} is needed"
                )
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)}: a number above 0 is needed"
                )
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                f"TrainConfig.warmup = {self.warmup}: a share of the steps, 0 to 1, is needed"
            )
        for name, known in (("optimizer", ("sgd", "adamw")), ("schedule", ("cosine", "constant"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"TrainConfig.{name} = {getattr(self, name)!r}: use one of {', '.join(known)}"
                )

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ... as a share of `lr`.

        >>> [round(TrainConfig(steps=10).rate(step), 2) for step in (0, 1, 9)]
        [1.0, 0.97, 0.0]
        """
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        if self.schedule == "constant":
            return 1.0
        share = (step + 1 - rising) / max(1, self.steps - rising)
        return 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a step gets.

    Args:
        ids: the images' ids.
        images: (3, h, w) each, augmented, on the detector's device.
        targets: what is known of each, augmented alike.
        pool: the whole pool, for steps that look further than their batch.
        step: how many steps came before.
        progress: the share of training that is done, 0 to 1.
    """

    ids: list[str]
    images: list[Tensor]
    targets: list[Target]
    pool: Pool
    step: int
    progress: float


Step = Callable[..., dict[str, Tensor]]


def plain_step(detector: Any, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the detector's own losses: what is not boxed is background."""
    losses: dict[str, Tensor] = detector.losses(batch.images, batch.targets, generator=generator)
    return losses


def mirrored(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Return the image (3, h, w) and its target mirrored left to right."""
    width = image.shape[2]
    return image.flip(2), replace(
        target, boxes=flip(target.boxes, width), negatives=flip(target.negatives, width)
    )


def order(ids: Sequence[str], *, seed: int, batch: int, step: int) -> list[tuple[int, str]]:
    """Return the (epoch, image id) pairs of one step.

    Epochs are random permutations laid end to end. A function of its arguments alone, so
    any step can be repeated without those before it.

    >>> [image_id for _, image_id in order(["a"], seed=0, batch=2, step=5)]
    ['a', 'a']
    """
    places = range(step * batch, (step + 1) * batch)
    epochs = sorted({place // len(ids) for place in places})
    shuffled = {
        epoch: torch.randperm(len(ids), generator=generator(seed, "order", epoch)).tolist()
        for epoch in epochs
    }
    return [
        (place // len(ids), ids[shuffled[place // len(ids)][place % len(ids)]]) for place in places
    ]


def fit(
    detector: Any,
    pool: Pool,
    config: TrainConfig,
    *,
    seed: int,
    ids: Sequence[str] | None = None,
    step: Step | None = None,
    progress: bool | str = True,
) -> list[dict[str, float]]:
    """Train a detector in place.

    Args:
        detector: anything with `losses` and `parameters`.
        pool: where images and targets come from.
        config: how long and how.
        seed: of order, augmentation and whatever the step draws.
        ids: the images to train on; all of the pool by default.
        step: `step(detector, batch, *, generator)` returns named losses; the detector's own by
            default.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        The losses of every step, by name, `"loss"` being their sum.

    Raises:
        ValueError: when there is no image to train on.
        FloatingPointError: naming the images of the batch, when a loss is not finite; the weights
            are those before it.
    """
    chosen = list(pool.ids if ids is None else ids)
    if config.steps and not chosen:
        raise ValueError(
            f"there is no image to train on: {pool!r} has none that the recipe trains on"
        )
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    device = device_of(detector)
    optimizer = _optimizer(parameters, config)
    losses_by_step = []
    with bar(range(config.steps), progress=progress, name="train", unit="step") as shown:
        for number in shown:
            batch = _load(pool, chosen, config, seed=seed, step=number, device=device)
            with forked(derive(seed, "step", number), device):
                losses = _losses(
                    step or plain_step, detector, batch, generator(seed, "draw", number)
                )
                total = torch.stack(list(losses.values())).sum()
                values = {key: float(value.detach()) for key, value in losses.items()}
                if not math.isfinite(float(total.detach())):
                    raise FloatingPointError(
                        f"loss is not finite in step {number}: {values}; "
                        f"the images were {', '.join(batch.ids)}. "
                        "Look at their boxes, or lower the learning rate"
                    )
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * config.rate(number)
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                torch.nn.utils.clip_grad_norm_(parameters, config.clip)
                optimizer.step()
            losses_by_step.append(values | {"loss": float(total.detach())})
            shown.set_postfix(loss=f"{losses_by_step[-1]['loss']:.3f}", refresh=False)
    return losses_by_step


def _losses(step: Step, detector: Any, batch: Batch, draws: torch.Generator) -> dict[str, Tensor]:
    try:
        losses = step(detector, batch, generator=draws)
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} (images {', '.join(batch.ids)})") from error
    if not losses:
        raise ValueError(
            f"the step returned no loss for images {', '.join(batch.ids)}; give one by name, a "
            "zero that carries a gradient if need be"
        )
    return losses


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.lr, momentum=0.9, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)


def _load(
    pool: Pool, ids: list[str], config: TrainConfig, *, seed: int, step: int, device: torch.device
) -> Batch:
    images, targets, names = [], [], []
    for epoch, image_id in order(ids, seed=seed, batch=config.batch, step=step):
        image, target = pool.image(image_id), pool.target(image_id)
        draw = generator(seed, "augment", epoch, image_id)
        if config.flip and bool(torch.rand((), generator=draw) < 0.5):
            image, target = mirrored(image, target)
        images.append(image.to(device))
        targets.append(target.to(device))
        names.append(image_id)
    return Batch(names, images, targets, pool, step, step / max(1, config.steps))
