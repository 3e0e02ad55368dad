"""The gradient of one batch: in parts where memory is short, summed over the ranks, or not at all.

A loss that is a mean over images has the same gradient in any number of parts, but for the order in
which floats are added. Running statistics move once per batch, by the mean over its parts, so that
parts on one rank and on several come to the same. What one rank meets, all ranks act on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from almining import ranks

Item = TypeVar("Item")
Backward = Callable[[Any, int, int], dict[str, float]]
OUT_OF_MEMORY = (  # what errors say that are no torch.OutOfMemoryError
    "out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Unable to find a valid cuDNN algorithm",
    "unable to find an engine",
)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or off it.

    >>> out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def cut(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """Return `items` in consecutive parts whose lengths differ by one at most.

    >>> cut("abcde", 2)
    ['ab', 'cde']
    """
    return [
        items[len(items) * part // parts : len(items) * (part + 1) // parts]
        for part in range(parts)
    ]


def accumulate(
    backward: Backward,
    items: Sequence[Item],
    detector: Any,
    *,
    parts: int,
    most: int,
    clip: float,
    name: str,
) -> tuple[dict[str, float], int]:
    """Leave in a detector's parameters the gradient of a batch, no longer than `clip`.

    Where memory runs out, all of it is done again in twice as many parts, as far as `most`.

    Args:
        backward: `backward(some, part, parts)` adds the gradients of some of the items, which are
            part 0, 1, ... of as many, and returns their losses; both have the weight of these items
            in the batch.
        items: what this rank takes of the batch.
        detector: its buffers are put back when this raises. In several ranks those of rank 0 count,
            but for the running statistics of batch norms.
        parts: in how many parts the items go through.
        most: how many parts make sense: as many as the largest share of a rank has items.
        clip: the longest gradient.
        name: how the message calls the batch.

    Returns:
        The losses of the batch, by name, and the number of parts it took.

    Raises:
        FloatingPointError: when the gradient is not finite.
    """
    parameters = [one for one in detector.parameters() if one.requires_grad]
    while True:
        buffers = _Buffers(detector, parts * ranks.current().world)
        try:
            values = _attempt(backward, items, parameters, buffers, parts, final=parts >= most)
            if values is not None:
                ranks.sum_gradients(parameters)
                norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
                if bool(norm.isfinite()):
                    return values, parts
                raise FloatingPointError(
                    f"the gradient is not finite in {name}, though the losses are: {values}. "
                    "Look at their boxes, or lower the learning rate"
                )
        except BaseException:
            buffers.put_back()
            raise
        buffers.put_back()
        _clear(parameters)
        parts = min(2 * parts, most)


def _attempt(
    backward: Backward,
    items: Sequence[Item],
    parameters: Sequence[torch.nn.Parameter],
    buffers: _Buffers,
    parts: int,
    *,
    final: bool,
) -> dict[str, float] | None:
    """Return the losses summed over parts and ranks; None where memory ran out."""
    for one in parameters:
        one.grad = None
    found: list[dict[str, float]] = []
    short, error = False, None
    try:
        for part, some in enumerate(cut(items, parts)):
            if len(some):
                found.append(backward(some, part, parts))
                buffers.note(len(some))
    except Exception as raised:
        short = out_of_memory(raised) and not final
        if not short:  # otherwise the error, and the memory its traceback holds, goes here
            error = raised
            if out_of_memory(raised):
                raised.add_note(
                    "a single image at a time is too much: use smaller images or a smaller detector"
                )
    said = ranks.gather([short, found, len(items)], error, place="gradients")
    if any(one[0] for one in said):
        return None
    buffers.settle(sum(one[2] for one in said))
    values: dict[str, float] = {}
    for losses in (losses for one in said for losses in one[1]):
        for name, value in losses.items():
            values[name] = values.get(name, 0.0) + value
    return values


def _clear(parameters: Sequence[torch.nn.Parameter]) -> None:
    for one in parameters:
        one.grad = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Buffers:
    """A detector's buffers while a batch goes through in parts, over all ranks.

    The running statistics of batch norms start each part from where they were before the batch.
    """

    def __init__(self, detector: Any, parts: int) -> None:
        self.detector = detector
        self.named = getattr(detector, "named_buffers", dict)
        self.before = {name: buffer.clone() for name, buffer in dict(self.named()).items()}
        modules = getattr(detector, "modules", list[Any])
        norms = [one for one in modules() if parts > 1 and isinstance(one, _BatchNorm)]
        self.running = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self.start = [buffer.clone() for buffer in self.running]
        self.moved = [torch.zeros_like(buffer) for buffer in self.running]

    @torch.no_grad()
    def note(self, n: int) -> None:
        """Note how far a part of n items moved the statistics."""
        for running, start, moved in zip(self.running, self.start, self.moved, strict=True):
            moved += n * (running - start)
            running.copy_(start)

    @torch.no_grad()
    def settle(self, n: int) -> None:
        """Move them by the mean over all n items, those of other ranks included."""
        ranks.add_up(self.moved)
        for running, start, moved in zip(self.running, self.start, self.moved, strict=True):
            whole = "floor" if not moved.is_floating_point() else None
            running.copy_(start + torch.div(moved, n, rounding_mode=whole))
        ranks.same_buffers(self.detector)

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo all of it."""
        for name, buffer in dict(self.named()).items():
            if name in self.before:
                buffer.copy_(self.before[name])
