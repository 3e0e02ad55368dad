"""One training loop.

What is minimised comes from a `step`; the loop brings batches, schedule and a progress bar.

Order, augmentation and dropout are functions of (seed, epoch, step, item), so nothing depends on
what was drawn before, and a training that was killed goes on bit for bit. torch's global
generators, which torchvision's samplers and dropout use, are seeded around each step and put back.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from almining import ranks
from almining.boxes import flip
from almining.checkpoints import Keeper, check_detector, pack, restore
from almining.checks import check_whole
from almining.data.pool import Pool
from almining.detectors.base import device_of
from almining.digests import digest_tensors, digest_texts
from almining.gradients import accumulate, cut
from almining.interrupts import Interrupted, asked
from almining.loader import ahead
from almining.progress import bar
from almining.records import Target
from almining.rng import derive, forked, generator
from almining.schedule import TrainConfig as TrainConfig
from almining.schedule import order as order


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
_Loaded = Sequence[tuple[tuple[int, str], Tensor]]


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


def fit(
    detector: Any,
    pool: Pool,
    config: TrainConfig,
    *,
    seed: int,
    ids: Sequence[str] | None = None,
    step: Step | None = None,
    progress: bool | str = True,
    workers: int = 0,
    timeout_s: float = 120.0,
    parts: int = 1,
    keeper: Keeper | None = None,
) -> list[dict[str, float]]:
    """Train a detector in place.

    In several ranks each takes its share of every batch, and all end with the same weights. Where
    memory runs out, a step is done again in twice as many parts, and a warning says so. Ctrl-C
    inside `interrupts.held()` stops between two steps.

    Args:
        detector: anything with `losses` and `parameters`; with a `keeper`, `state_dict` and
            `load_state_dict`, too.
        pool: where images and targets come from.
        config: how long and how.
        seed: of order, augmentation and whatever the step draws.
        ids: the images to train on; all of the pool by default.
        step: `step(detector, batch, *, generator)` returns named losses, means over the images; the
            detector's own by default. One with `begin(detector, pool, *, ids, generator)`, called
            with the detector as it is given, whatever was kept, returns the step of this training.
        progress: whether to show a progress bar, or what to call it.
        workers: processes that load images, each at most two batches ahead; the result does not
            depend on it.
        timeout_s: how long to wait for a worker until it counts as hanging.
        parts: pieces in which a batch goes through, one after the other, to need less memory. To
            the step each is a batch of its own, and it weighs as much as it holds of the whole; the
            shares of several ranks alike. So batch norms in training mode normalise each by itself,
            and their running statistics move once per step, by the mean of the pieces.
        keeper: keeps the training's state, from which it goes on where it stopped.

    Returns:
        The losses of every step, by name, `"loss"` being their sum.

    Raises:
        ValueError: when there is no image to train on or nothing to train, or what was kept is of
            another detector.
        FloatingPointError: naming the images, when a loss or a gradient is not finite; the weights
            are those before that step.
        Interrupted: after Ctrl-C; the step under way is finished and kept.
    """
    chosen = list(pool.ids if ids is None else ids)
    if config.steps and not chosen:
        raise ValueError(
            f"there is no image to train on: {pool!r} has none that the recipe trains on"
        )
    call = step or plain_step
    if config.steps and hasattr(call, "begin"):
        call = call.begin(detector, pool, ids=chosen, generator=generator(seed, "begin"))
    training = _Training(detector, pool, chosen, config, seed, call, parts)
    todo = range(ranks.together(training.resume, keeper), config.steps)
    training.check_ranks()
    with (
        closing(ahead(training.load, todo, workers=workers, timeout_s=timeout_s)) as loaded,
        bar(total=config.steps, progress=progress, name="train", unit="step") as shown,
    ):
        shown.n = shown.initial = todo.start
        for number in todo:
            training.step(number, loaded)
            shown.set_postfix(loss=f"{training.losses[-1]['loss']:.3f}", refresh=False)
            shown.update()
            training.keep(keeper)
    return training.losses


class _Training:
    """A training under way: what `fit` was given, and what changes from step to step."""

    def __init__(
        self,
        detector: Any,
        pool: Pool,
        ids: list[str],
        config: TrainConfig,
        seed: int,
        call: Step,
        parts: int,
    ) -> None:
        """Begin with no step done."""
        self.detector, self.pool, self.ids, self.config = detector, pool, ids, config
        self.seed, self.call, self.parts = seed, call, check_whole(parts, "parts", 1)
        self.device = device_of(detector)
        self.optimizer = _optimizer(detector, config)
        self.losses: list[dict[str, float]] = []
        self.saved_at = time.monotonic()

    def resume(self, keeper: Keeper | None) -> int:
        """Take up what was kept; return how many steps are done."""
        if keeper is None:
            return 0
        check_detector(self.detector)
        state = keeper.load()
        if state is not None:
            if state.step > self.config.steps:
                raise ValueError(
                    f"the state kept is that after step {state.step}, but TrainConfig.steps = "
                    f"{self.config.steps}; train as many steps as before, or begin anew"
                )
            restore(self.detector, state, self.optimizer)
            self.parts, self.losses = state.parts, list(state.losses)
        elif not self.config.steps:
            self.keep(keeper)
        return len(self.losses)

    def check_ranks(self) -> None:
        """Raise unless every rank is about to do the same."""
        if ranks.current().world > 1:
            named = ((str(n), one) for n, one in enumerate(self.detector.parameters()))
            about = [len(self.losses), self.parts, self.seed, repr(self.config)]
            about += [digest_texts(self.ids), digest_tensors(named)]
            ranks.check_same(about, "what is trained")

    def keep(self, keeper: Keeper | None) -> None:
        """Keep the state where it is time to; stop here when Ctrl-C was pressed."""
        step = len(self.losses)
        done, stop = step == self.config.steps, ranks.worst(int(asked()))

        def save() -> None:
            if keeper is None or ranks.current().rank > 0:
                return
            if done or stop or time.monotonic() - self.saved_at >= keeper.every_s:
                where: dict[str, Any] = {"step": step, "parts": self.parts, "losses": self.losses}
                keeper.save(pack(self.detector, self.optimizer, **where), done=done)
                self.saved_at = time.monotonic()

        ranks.together(save)
        if stop:
            raise Interrupted(f"stopped by Ctrl-C after {step} of {self.config.steps} steps")

    def _share(self, number: int) -> Sequence[tuple[int, str]]:
        """Return the (epoch, image id) pairs of a step that this rank takes."""
        pairs = order(self.ids, seed=self.seed, batch=self.config.batch, step=number)
        return cut(pairs, ranks.current().world)[ranks.current().rank]

    def load(self, number: int) -> list[Tensor]:
        """Return the images of a step that this rank takes, as the pool has them."""
        return [self.pool.image(image_id) for _, image_id in self._share(number)]

    def step(self, number: int, loaded: Iterator[list[Tensor]]) -> None:
        """Do one step, in more parts than before where memory runs out."""
        images = ranks.together(next, loaded)  # of a broken one all ranks have to know
        values, parts = self._gradients(number, images)
        if parts != self.parts:
            self.parts = parts
            warnings.warn(
                f"out of memory in step {number}: from there on, each batch of "
                f"{self.config.batch} goes through in {parts * ranks.current().world} parts, whose "
                "gradients are summed",
                stacklevel=3,
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * self.config.rate(number)
        self.optimizer.step()
        self.losses.append(values)

    def _gradients(self, number: int, images: list[Tensor]) -> tuple[dict[str, float], int]:
        here = ranks.current()
        pairs = order(self.ids, seed=self.seed, batch=self.config.batch, step=number)

        def backward(some: _Loaded, part: int, parts: int) -> dict[str, float]:
            whole = parts * here.world == 1
            names = (number,) if whole else (number, here.rank * parts + part)
            with forked(derive(self.seed, "step", *names), self.device):
                batch = self._batch(some, number)
                draws = generator(self.seed, "draw", *names)
                losses = _losses(self.call, self.detector, batch, draws)
                total = torch.stack(list(losses.values())).sum()
                values = {key: float(value.detach()) for key, value in losses.items()}
                values["loss"] = float(total.detach())
                if not math.isfinite(values["loss"]):
                    raise FloatingPointError(
                        f"loss is not finite in step {number}: {values}; the images were "
                        f"{', '.join(batch.ids)}. Look at their boxes, or lower the learning rate"
                    )
                weight = len(some) / len(pairs)
                (total * weight).backward()
            return {key: value * weight for key, value in values.items()}

        return accumulate(
            backward,
            list(zip(self._share(number), images, strict=True)),
            self.detector,
            parts=self.parts,
            most=math.ceil(self.config.batch / here.world),
            clip=self.config.clip,
            name=f"step {number}, images {', '.join(image_id for _, image_id in pairs)}",
        )

    def _batch(self, some: _Loaded, number: int) -> Batch:
        """Return images of a step, augmented, with what is known of them."""
        ids, images, targets = [], [], []
        for (epoch, image_id), loaded in some:
            image, target = loaded.to(self.device), self.pool.target(image_id).to(self.device)
            draw = generator(self.seed, "augment", epoch, image_id)
            if self.config.flip and bool(torch.rand((), generator=draw) < 0.5):
                image, target = mirrored(image, target)
            ids.append(image_id)
            images.append(image)
            targets.append(target)
        progress = number / max(1, self.config.steps)
        return Batch(ids, images, targets, self.pool, number, progress)


def _losses(step: Step, detector: Any, batch: Batch, draws: torch.Generator) -> dict[str, Tensor]:
    try:
        losses = step(detector, batch, generator=draws)
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} (images {', '.join(batch.ids)})") from error
    if not any(loss.requires_grad for loss in losses.values()):
        raise ValueError(
            f"the step returned no loss for images {', '.join(batch.ids)} that carries a gradient; "
            "give one by name, a zero if need be"
        )
    return losses


def _optimizer(detector: Any, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [one for one in detector.parameters() if one.requires_grad]
    if config.steps and not parameters:
        raise ValueError(
            f"{type(detector).__name__} has no parameter that requires a gradient, so there is "
            "nothing to train; call requires_grad_() on some, or train with TrainConfig(steps=0)"
        )
    groups = [{"params": parameters}]  # torch takes no empty list
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=0.9, weight_decay=config.weight_decay)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, config.lr, 0.9, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)
