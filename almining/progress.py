"""Progress bars.

A caller turns them off with `progress=False`, the environment with `TQDM_DISABLE=1`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def bar(
    items: Iterable[Any] | None = None,
    *,
    progress: bool | str,
    name: str,
    unit: str,
    total: int | None = None,
) -> Any:
    """Return a progress bar over `items`, or one to be updated by hand.

    Args:
        items: what to go through; None to call `update` instead.
        progress: whether to show it, or what to call it instead of `name`.
        name: what is going on.
        unit: what is counted.
        total: how many, where `items` does not say.
    """
    # where `disable` is given, it overrules the environment
    hidden = {} if progress else {"disable": True}
    title = progress if isinstance(progress, str) else name
    return tqdm(items, desc=title, unit=unit, total=total, leave=False, **hidden)
