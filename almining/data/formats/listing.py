"""Which plain files lie in a folder, listed once, so that thousands of look-ups cost no call each.

Only what certainly lies inside the root is answered here. A link, a name with an unusual part, a
file that is not listed: all that is judged one by one by `data.files.inside`.
"""

from __future__ import annotations

import os
from pathlib import Path

from almining.data.formats.files import inside


class Listing:
    """The plain files under a folder.

    Args:
        root: a resolved folder.
    """

    def __init__(self, root: Path) -> None:
        """List nothing yet."""
        self._root = root
        self._folders: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        """Tell whether a relative path certainly names a plain file inside the root."""
        if ":" in name or "\0" in name:
            return False
        folder, _, last = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder, name)
        return last in self._folders[folder]

    def _list(self, folder: str, name: str) -> frozenset[str]:
        path = None if name.startswith("/") else inside(self._root, folder or ".")
        if path is None:
            return frozenset()
        try:
            with os.scandir(path) as entries:
                return frozenset(e.name for e in entries if e.is_file(follow_symlinks=False))
        except OSError:
            return frozenset()
