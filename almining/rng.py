"""Seeds derived by name, so that every random draw is a function of what it is for.

`generator(seed, "order", epoch)` is the same in any process, at any time and in any loader worker,
and independent of every other draw: a run that was killed continues exactly where it was. Nothing
here touches a global generator except `forked`, which puts it back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every name, and on nothing else.

    Args:
        seed: the seed the user gave.
        names: what the draw is for, such as `"order", epoch`.

    >>> derive(0, "order", 1) == derive(0, "order", 1)
    True
    >>> derive(0, "order", 1) == derive(0, "order", 2)
    False
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator seeded with `derive(seed, *names)`."""
    made = torch.Generator()
    made.manual_seed(derive(seed, *names))
    return made


def draw_seed(source: torch.Generator) -> int:
    """Draw the seed of a new, independent stream from `source`."""
    return int(torch.randint(2**62, (), generator=source))


@contextmanager
def forked(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    torchvision's samplers and `torch.nn.functional.dropout` take no generator; this is the only
    place where the library lets them draw.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:  # only the device that is put back
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
