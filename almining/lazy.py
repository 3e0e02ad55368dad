"""Sub-packages and names that load on first use, so that `import almining` is instant.

An `__init__.py` that calls `attach` holds nothing else; its `TYPE_CHECKING` imports say the same to
type checkers and editors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(
    package: str, *, modules: Iterable[str] = (), names: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose parts load on first use.

    Args:
        package: the package's `__name__`.
        modules: its sub-modules.
        names: what it offers from elsewhere, as name to full name of the module that has it.

    >>> getattribute, listed = attach("almining", modules=["lazy"])
    >>> getattribute("lazy").__name__, "lazy" in listed()
    ('almining.lazy', True)
    """
    parts, borrowed = frozenset(modules), dict(names or {})

    def getattribute(name: str) -> Any:
        if name in parts:
            return importlib.import_module(f"{package}.{name}")
        if name in borrowed:
            return getattr(importlib.import_module(borrowed[name]), name)
        offered = ", ".join(sorted(parts | set(borrowed)))
        raise AttributeError(f"{package} has no {name!r}; it offers {offered}")

    def listed() -> list[str]:
        return sorted(parts | set(borrowed) | set(vars(importlib.import_module(package))))

    return getattribute, listed
