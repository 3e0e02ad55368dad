"""What a data set is made of, where that is from, and under which terms; `obtain` has it here.

Sets that need an account, or terms to be accepted, are fetched by hand: `obtain` says exactly what
and where to put it, and goes on from there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from almining.data.fetch.download import FetchError, Rules, check_file, download, forget
from almining.data.fetch.extract import Limits, RefusedError, extract

PACKED = (".tar.gz", ".tgz", ".tar", ".zip")
IMAGES = "images"  # the folder of what is extracted, which file names are relative to


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a data set.

    Args:
        name: what it is called on the disk.
        url: where it is from; None where an account is needed, or several places offer it.
        size: in bytes, where it is known.
        sha256: where one is published.
        what: in words, for who fetches it by hand.
        needed: False for what is used where it is there, and done without otherwise.
    """

    name: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    what: str = ""
    needed: bool = True

    @property
    def stem(self) -> str:
        """The name of the folder it becomes, or of the file itself where it is no archive.

        >>> Archive("a.tar.gz").stem, Archive("b.csv").stem
        ('a', 'b.csv')
        """
        ends = (end for end in PACKED if self.name.lower().endswith(end))
        return self.name[: -len(next(ends, "")) or None]

    def target(self, root: Path) -> Path:
        """Return what it becomes under a root: a folder in `images`, or the file itself."""
        return root / self.name if self.stem == self.name else root / IMAGES / self.stem


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set as its makers offer it.

    Args:
        name: a word.
        archives: its files.
        page: where it is published.
        licence: its terms, in a few words.
        hosts: the servers its files may come from.
        account: what to do on the page before anything can be fetched by hand.
    """

    name: str
    archives: tuple[Archive, ...]
    page: str
    licence: str
    hosts: tuple[str, ...] = ()
    account: str = ""


def obtain(
    data_set: DataSet,
    root: str | os.PathLike[str],
    *,
    rules: Rules | None = None,
    limits: Limits | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Return where each archive of a set is, by stem; fetch and extract what is not there.

    An archive that is extracted may be removed: it is not fetched again while its folder is there.

    Args:
        data_set: what to have.
        root: the folder for all of it.
        rules: where files may come from. Default: the set's hosts, over https.
        limits: of extraction.
        progress: whether to show bars.

    Raises:
        FetchError: saying what to do; naming all files to be fetched by hand at once.
    """
    root = Path(root)
    rules = Rules(data_set.hosts) if rules is None else rules
    by_hand = [one for one in data_set.archives if one.url is None and one.needed]
    missing = [one for one in by_hand if not _there(root, one)]
    if missing:
        raise FetchError(_instructions(data_set, root, missing))
    found = {}
    for one in data_set.archives:
        path, target = root / one.name, one.target(root)
        if one.url is None and not one.needed and not _there(root, one):
            continue
        if target == path or not target.is_dir():
            if one.url is None:
                check_file(path, sha256=one.sha256, size=one.size)
            else:
                download(
                    one.url, path, rules=rules, sha256=one.sha256, size=one.size, progress=progress
                )
            if target != path:
                try:
                    extract(path, target, limits=limits, progress=progress)
                except RefusedError:
                    forget(path)  # another file may take its place
                    raise
        found[one.stem] = target
    return found


def _there(root: Path, one: Archive) -> bool:
    return (root / one.name).is_file() or one.target(root).is_dir()


def _instructions(data_set: DataSet, root: Path, missing: list[Archive]) -> str:
    lines = [f"{data_set.name} cannot be fetched without you. {data_set.account}".rstrip()]
    lines += [f"Page: {data_set.page}", f"Terms: {data_set.licence}"]
    lines += [f"Put into {root.absolute()}:"]
    for one in missing:
        size = f", {one.size:,} bytes" if one.size else ""
        lines.append(f"  {one.name}{size}{': ' if one.what else ''}{one.what}")
    return "\n".join([*lines, "Then run the same command again; it goes on from there."])
