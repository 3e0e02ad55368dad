"""What a reader finds wrong.

Every defect is an error, a repair, something set aside or a warning; nothing is dropped in silence.
The boxes of an image while they are read are in `data.formats.drawn`.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from almining.data.pool import DataError, Finding

ABSENT = "null or absent"  # what a file says where a reader finds None


def check_repairs(repair: Collection[str], known: Collection[str]) -> frozenset[str]:
    """Return the repairs asked for.

    Args:
        repair: the names asked for.
        known: the names the reader knows.

    Raises:
        ValueError: for one string, or a name that is not known, with the names that are.

    >>> sorted(check_repairs(["swap"], known=("swap", "orphans")))
    ['swap']
    """
    names = " or ".join(repr(name) for name in known)
    if isinstance(repair, str):
        raise ValueError(f"repair = {repair!r}: a sequence of names is needed, of {names}")
    for name in repair:
        if name not in known:
            raise ValueError(f"repair names {name!r}, which is no repair here; use {names}")
    return frozenset(repair)


def check_classes(classes: Sequence[str] | None) -> None:
    """Raise a `ValueError` for one string where the names of classes are to be given."""
    if isinstance(classes, str):
        raise ValueError(f"classes = {classes!r}: a sequence of names is needed, got one string")


class Report:
    """Everything a reader finds wrong, in order, and whether bad records stop it.

    Args:
        strict: errors raise in the end; otherwise the bad records are set aside.
        repair: the repairs asked for by name, as `check_repairs` returns them.
    """

    def __init__(self, strict: bool, repair: Collection[str] = ()) -> None:
        """Start without findings."""
        self.strict = strict
        self.repairs = frozenset(repair)
        self.findings: list[Finding] = []
        self._tallies: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}

    def error(
        self,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        *,
        image_id: str | None = None,
    ) -> None:
        """Note a bad record: an error, or one set aside when the report is not strict."""
        action = "error" if self.strict else "quarantined"
        self._note(action, file, record, field, value, remedy, image_id)

    def fatal(self, file: object, record: str, field: str, value: object, remedy: str) -> None:
        """Note an error of the data set as a whole, which nothing can be set aside for."""
        self._note("error", file, record, field, value, remedy)

    def repaired(
        self,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        *,
        image_id: str | None = None,
    ) -> None:
        """Note what was repaired."""
        self._note("repaired", file, record, field, value, remedy, image_id)

    def quarantined(
        self, file: object, record: str, field: str, value: object, remedy: str
    ) -> None:
        """Note what was set aside."""
        self._note("quarantined", file, record, field, value, remedy)

    def need_folder(self, path: Path) -> None:
        """Raise everything found so far when a folder is not there."""
        if not path.is_dir():
            remedy = "there is no such folder; correct the path"
            self.fatal(path, "folder", "path", str(path), remedy)
            self.check()

    def lost(self, file: object, record: str, field: str, path: Path) -> None:
        """Note a file that is not there, which sets its image aside; a broken link is named."""
        broken = broken_link(path)
        why = "the file is absent; add it"
        if broken is not None:
            why = f"the link {broken.name} is broken, it points to {broken.readlink()}; mend it"
            try:
                broken.stat()
            except OSError as error:
                if error.errno == errno.ELOOP:
                    why = f"the link {broken.name} leads back to itself; make it lead to a file"
        self.quarantined(file, record, field, str(path), f"the image is left out: {why}")

    def warning(self, file: object, record: str, field: str, value: object, remedy: str) -> None:
        """Note what is odd but was read as it stands."""
        self._note("warning", file, record, field, value, remedy)

    def _note(
        self,
        action: str,
        file: object,
        record: str,
        field: str,
        value: object,
        remedy: str,
        image_id: str | None = None,
    ) -> None:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
        text = ABSENT if value is None else text
        shown = text if len(text) <= 120 else f"{text[:117]}..."
        self.findings.append(Finding(str(file), record, field, shown, action, remedy, image_id))

    def tally(
        self, action: str, file: object, field: str, remedy: str, *, record: str, value: object
    ) -> None:
        """Note what may be wrong with many records; it becomes one finding that counts them."""
        if action == "error" and not self.strict:
            action = "quarantined"
        key = (action, str(file), field, remedy)
        self._tallies.setdefault(key, []).append((record, str(value)))

    def check(self) -> None:
        """Raise a `DataError` with everything found so far when any of it is an error."""
        for (action, file, field, remedy), rows in self._tallies.items():
            some = ", ".join(record for record, _ in rows[:3])
            named = some if len(rows) <= 3 else f"{some}, ... ({len(rows)} in all)"
            self._note(action, file, named, field, rows[0][1], remedy)
        self._tallies.clear()
        if any(finding.action == "error" for finding in self.findings):
            # only the first twenty are shown, so what has to be mended comes before what was told
            raise DataError(sorted(self.findings, key=lambda finding: finding.action != "error"))


def broken_link(path: Path) -> Path | None:
    """Return the path, or the first of its folders, that is a link leading nowhere; else None."""
    links = (step for step in (path, *path.parents) if step.is_symlink() and not step.exists())
    return next(links, None)


def bad_byte(error: UnicodeDecodeError, before: int = 0) -> str:
    r"""Return which byte is no text, of a piece that `before` bytes precede.

    >>> try:
    ...     b"caf\xe9".decode()
    ... except UnicodeDecodeError as error:
    ...     bad_byte(error)
    'byte 3 = 0xe9'
    """
    return f"byte {before + error.start} = 0x{error.object[error.start]:02x}"


def spelled_twice(names: Iterable[str], report: Report, file: object, field: str) -> None:
    """Note an error for names that differ in case only."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            remedy = "two classes differ in case only; give them one spelling"
            report.fatal(file, "classes", field, f"{other!r} and {name!r}", remedy)
