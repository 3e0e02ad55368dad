"""SHA-256 of files, texts and tensors: to see whether something is still what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file in hexadecimal, read in pieces.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     digest_file(empty.name)[:16]
    'e3b0c44298fc1c14'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_texts(texts: Iterable[str]) -> str:
    """Return the sha256 of texts, in this order.

    >>> digest_texts(["a", "b"]) == digest_texts(["ab"])
    False
    """
    hashed = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        hashed.update(b"%d:" % len(encoded))
        hashed.update(encoded)
    return hashed.hexdigest()


def digest_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the sha256 of named tensors: names, types, shapes and every bit of them.

    Args:
        tensors: names and tensors, in an order that does not change.
    """
    import torch

    hashed = hashlib.sha256()
    for name, tensor in tensors:
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        hashed.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        hashed.update(flat.view(torch.uint8).numpy().data)
    return hashed.hexdigest()
