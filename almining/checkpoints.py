"""The state of a training between two steps: packed, kept in a file, restored bit for bit.

Order, augmentation and dropout are functions of the step's number, so weights, buffers and what the
optimizer remembers are all there is to keep. Files are safetensors; where they lie, which of them
are kept and that they are written safely is the keeper's affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

WEIGHTS, OPTIMIZER, LOSSES = "weights/", "optimizer/", "losses"
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A training after some of its steps.

    Args:
        step: how many were done.
        tensors: weights, buffers and the optimizer's memory by name, on the CPU.
        parts: how many pieces a batch goes through in.
        losses: the losses of every step so far.
    """

    step: int
    tensors: dict[str, Tensor]
    parts: int
    losses: list[dict[str, float]]


class Keeper(Protocol):
    """Where the states of one training are kept.

    `every_s` is the time from one saving to the next; at 0 every step is saved.
    """

    every_s: float

    def load(self) -> State | None:
        """Return the latest state, or None at the start."""

    def save(self, state: State, *, done: bool) -> None:
        """Keep a state; `done` says that it is the last."""


def pack(
    detector: Any,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    parts: int,
    losses: list[dict[str, float]],
) -> State:
    """Return a copy of all that changes from step to step.

    Raises:
        ValueError: when the detector does not say what its weights are; see `check_detector`.
        FloatingPointError: naming the tensor, when one is NaN, or infinite and no mere buffer.
    """
    weights = check_detector(detector)
    buffers = dict(detector.named_buffers()) if hasattr(detector, "named_buffers") else {}
    found = {WEIGHTS + name: tensor for name, tensor in weights.items()}
    for number, memory in optimizer.state_dict()["state"].items():
        for name, value in memory.items():
            if value is not None:
                found[f"{OPTIMIZER}{number}/{name}"] = value
    for name, tensor in found.items():
        fixed = name.removeprefix(WEIGHTS) in buffers and not bool(tensor.isnan().any())
        if not fixed and not bool(tensor.isfinite().all()):
            raise FloatingPointError(
                f"{name} is not finite after step {step}; it is not saved. Go back to what was "
                "saved before, and lower the learning rate"
            )
    # copied one by one: tied weights would otherwise share memory, which no file can hold
    tensors = {name: _copied(tensor) for name, tensor in found.items()}
    return State(step, tensors, parts, list(losses))


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def check_detector(detector: Any) -> dict[str, Tensor]:
    """Return the weights and buffers of a detector, by name.

    Raises:
        ValueError: when it lacks `state_dict` or `load_state_dict`, or `state_dict` holds anything
            but tensors.
    """
    kind = type(detector).__name__
    for method in ("state_dict", "load_state_dict"):
        if not callable(getattr(detector, method, None)):
            raise ValueError(
                f"{kind} has no {method}, so its weights cannot be kept; add state_dict() and "
                "load_state_dict(weights), as torch.nn.Module has them, or train without a keeper"
            )
    weights = dict(detector.state_dict())
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{kind}.state_dict()[{name!r}] is of type {type(value).__name__}; only tensors "
                "can be kept, so make it a buffer or leave it out"
            )
    return weights


def restore(detector: Any, state: State, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put a state back; nothing of it is shared with what it is put into.

    Args:
        detector: gets weights and buffers.
        state: what `pack` returned, or `read`.
        optimizer: gets its memory back, where one is given.

    Raises:
        ValueError: naming the first tensor that the detector does not have, or has of another shape
            or type, or of which the optimizer has no parameter of that shape.
    """
    own = check_detector(detector)
    kept = {
        name.removeprefix(WEIGHTS): tensor
        for name, tensor in state.tensors.items()
        if name.startswith(WEIGHTS)
    }
    for name in sorted({*own, *kept}):
        here, there = _kind(own.get(name)), _kind(kept.get(name))
        if here != there:
            raise ValueError(
                f"the saved weights do not fit this {type(detector).__name__}: {name} is {there} "
                f"there and {here} here; build the detector as it was when they were saved"
            )
    memory = {} if optimizer is None else _memory(state.tensors, optimizer)
    detector.load_state_dict(kept)
    if optimizer is not None:
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": memory, "param_groups": groups})


def _kind(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"


def _memory(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    trained = [one for group in optimizer.param_groups for one in group["params"]]
    memory: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            number, _, key = name.removeprefix(OPTIMIZER).partition("/")
            shape = trained[int(number)].shape if int(number) < len(trained) else None
            if shape is None or (tensor.ndim and tensor.shape != shape):
                raise ValueError(
                    f"the saved optimizer does not fit this one: {name} has shape "
                    f"{tuple(tensor.shape)}, and parameter {number} of the {len(trained)} that are "
                    f"trained is {'missing' if shape is None else tuple(shape)}; freeze the same "
                    "parameters as when it was saved"
                )
            memory.setdefault(int(number), {})[key] = tensor.clone()
    return memory


def write(state: State, path: Path) -> None:
    """Write a state; the same state gives the same bytes.

    Raises:
        OSError: when the disk is full or `path` cannot be written.
    """
    text = json.dumps(state.losses, separators=(",", ":")).encode()
    losses = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    # a single entry: safetensors keeps several in no particular order
    header = json.dumps({"format": FORMAT, "step": state.step, "parts": state.parts})
    path.write_bytes(save({**state.tensors, LOSSES: losses}, {"almining": header}))


def read(path: Path) -> State:
    """Return a state that `write` wrote.

    Raises:
        ValueError: when the file is damaged, of another kind, or of a later version.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("almining", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}; take the state saved before it") from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format = {header.get('format')!r}: this version of almining reads states of "
            f"format {FORMAT}; use the version that wrote it"
        )
    losses = json.loads(bytes(tensors.pop(LOSSES).tolist()))
    return State(header["step"], tensors, header["parts"], losses)
