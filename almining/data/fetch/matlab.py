"""MATLAB's .mat files, which Caltech and ILSVRC come with; SciPy reads them, the extra `matlab`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from almining.data.fetch.download import FetchError

NO_SCIPY = "needs SciPy to be read: pip install almining[matlab]"
Made = TypeVar("Made")


def read_matlab(path: Path, make: Callable[[dict[str, Any]], Made]) -> Made:
    """Return what `make` makes of the variables in a file, by name.

    Args:
        path: the file, whatever it is called.
        make: what it raises when the variables are others says that the file is damaged.

    Raises:
        FetchError: for a file that is none, or no SciPy.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise FetchError(f"{path} {NO_SCIPY}") from error
    try:
        return make(loadmat(path, appendmat=False))
    except (
        MatReadError,
        ValueError,
        TypeError,
        LookupError,
        OSError,
        NotImplementedError,
    ) as error:
        raise FetchError(f"{path} is not what it should be ({error}); fetch it again") from error
