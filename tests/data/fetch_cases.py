"""Every script that fetches a set, in every case: fresh, interrupted, repeated, corrupted, ..."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from almining.data.fetch.prepare import pool_of
from data_scripts import bdd100k, caltech, citypersons, coco, ilsvrc2013, openimages_v4, voc
from data_scripts.fetching import Sets
from tests.data import sets_made
from tests.data.serving import RULES, Server, serving


@dataclass(frozen=True)
class Script:
    """A script, one of its sets, small archives of it, and what comes out of them.

    Args:
        name: of the file.
        main: what it calls.
        sets: its sets.
        key: which set.
        made: makes the archives.
        pools: what each split is in the end.
    """

    name: str
    main: Callable[..., None]
    sets: Sets
    key: str
    made: sets_made.Maker
    pools: dict[str, str]


def _script(module: Any, key: str, made: sets_made.Maker, **pools: str) -> Script:
    name = module.__name__.rpartition(".")[2]
    return Script(name, module.main, module.SETS, key, made, pools)


def _voc2007() -> dict[str, sets_made.Files]:
    train = sets_made.voc(2007, "trainval", "VOCtrainval_06-Nov-2007")
    return train | sets_made.voc(2007, "test", "VOCtest_06-Nov-2007")


VOC, COCO = "Pool(3: 3 complete)", "Pool(3: 3 complete (1 empty), 1 finding)"
ALL = "Pool(4: 3 complete (1 empty), 1 unlabelled, 1 finding)"
SCRIPTS = (
    _script(voc, "2007", _voc2007, voc2007_trainval=VOC, voc2007_test=VOC),
    _script(
        *(voc, "2012"),
        lambda: sets_made.voc(2012, "trainval", "VOCtrainval_11-May-2012"),
        voc2012_trainval=VOC,
    ),
    _script(*(coco, "2014", lambda: sets_made.coco(2014)), coco_train2014=COCO, coco_val2014=COCO),
    _script(*(coco, "2017", lambda: sets_made.coco(2017)), coco_train2017=COCO, coco_val2017=COCO),
    _script(
        *(citypersons, "citypersons", sets_made.citypersons),
        citypersons_train="Pool(3: 3 complete (1 empty))",
        citypersons_val="Pool(3: 3 complete (1 empty))",
        citypersons_divergence="Pool(1: 1 complete)",
    ),
    _script(
        *(caltech, "caltech", sets_made.caltech),
        caltech_train="Pool(8: 8 complete (2 empty), 2 findings)",
        caltech_test="Pool(4: 4 complete (1 empty), 1 finding)",
        caltech_divergence="Pool(4: 4 complete)",
    ),
    _script(
        *(bdd100k, "bdd100k", sets_made.bdd100k),
        bdd100k_train=ALL,
        bdd100k_val=ALL,
        bdd100k_divergence="Pool(3: 3 complete (2 empty), 1 finding)",
    ),
    _script(
        *(ilsvrc2013, "ilsvrc2013", sets_made.ilsvrc2013),
        ilsvrc2013_val="Pool(4: 4 complete (1 empty))",
    ),
    _script(
        *(openimages_v4, "validation", sets_made.openimages),
        openimages_v4_validation="Pool(3: 2 sparse, 1 unlabelled, 1 finding)",
    ),
)


class Place:
    """A folder and a server for one script."""

    def __init__(self, script: Script, root: Path, server: Server) -> None:
        self.script, self.root, self.server = script, root, server
        self.good = sets_made.archives(script.made())
        self.data_set, self.splits = script.sets[script.key]
        self.by_hand = [one.name for one in self.data_set.archives if one.url is None]
        self.offer(self.good)

    def offer(self, files: dict[str, bytes]) -> None:
        """Serve files, and put those there that are fetched by hand."""
        self.server.files = {f"/{name}": content for name, content in files.items()}
        self.root.mkdir(parents=True, exist_ok=True)
        for name in self.by_hand:
            if name in files:
                (self.root / name).write_bytes(files[name])

    def run(self, *arguments: str) -> str:
        """Run the script; return what it says when it gives up, "" when it does not."""
        archives = tuple(
            one
            if one.url is None
            else replace(
                one,
                url=self.server.url(f"/{one.name}"),
                size=None,
                sha256=hashlib.sha256(self.good[one.name]).hexdigest(),
            )
            for one in self.data_set.archives
        )
        sets = {self.script.key: (replace(self.data_set, archives=archives), self.splits)}
        if len(self.script.sets) > 1:
            sets |= {"other": sets[self.script.key]}
            arguments = (self.script.key, *arguments)
        with patch.object(sys, "argv", ["x", *arguments, "--root", str(self.root)]):
            try:
                self.script.main(sets, RULES)
            except SystemExit as error:
                return str(error)
        return ""

    def made(self) -> dict[str, bytes]:
        """Return what the script is for: COCO files and reports."""
        paths = [*self.root.glob("*.json"), *self.root.glob("*.md")]
        return {path.name: path.read_bytes() for path in paths if ".seen." not in path.name}

    def check(self) -> None:
        """Raise unless every split is what it should be."""
        for split, expected in self.script.pools.items():
            read = repr(pool_of(self.root, split))
            found = (self.root / f"{split}.md").read_text().splitlines()[4]
            assert found == expected, f"{split}: {found}"
            assert read.rstrip(")").startswith(expected.partition(", ")[0].rstrip(")"))
        left = list(self.root.rglob("*.part*"))
        assert left == [], left


@contextmanager
def place(script: Script, folder: Path) -> Iterator[Place]:
    with serving() as server:
        yield Place(script, folder / "root", server)


def plural(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def names(made: dict[str, bytes], root: Path) -> dict[str, bytes]:
    """Return what was made, whatever folder it was made in."""
    return {name: content.replace(str(root).encode(), b"") for name, content in made.items()}


def fresh(here: Place) -> str:
    """Nothing is there; what has to be fetched by hand is asked for first."""
    for name in here.by_hand:
        (here.root / name).unlink(missing_ok=True)
    asked = here.run() if here.by_hand else ""
    wanted = [one.name for one in here.data_set.archives if one.url is None and one.needed]
    for words in (*wanted, *([here.data_set.page, str(here.root), "run the same"] * bool(wanted))):
        assert words in asked, f"{words} is not in {asked}"
    here.offer(here.good)
    assert here.run() == ""
    here.check()
    said = f"asks for {plural(len(wanted), 'file')} by hand, then goes on; " if wanted else ""
    return f"{said}{plural(len(here.script.pools), 'COCO file')}, as they should be"


def interrupted(here: Place) -> str:
    """Stopped before a rename, one later each time, and taken up again, until it ends."""
    real, times = Path.replace, 0
    while True:
        left = [times]

        def dying(path: Path, target: Any, left: list[int] = left) -> Path:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(path, target)

        with ExitStack() as stack:
            stack.enter_context(patch.object(Path, "replace", dying))
            for name in here.good:
                here.server.cut[f"/{name}"] = max(1, len(here.good[name]) // 2)
            try:
                said = here.run()
            except KeyboardInterrupt:
                times += 1
                continue
        assert said == "", said
        break
    here.check()
    made = here.made()
    with place(here.script, here.root.parent / "again") as other:
        assert other.run() == ""
        assert names(other.made(), other.root) == names(made, here.root)
    return f"stopped {times} times, ends with the same files, byte for byte"


def repeated(here: Place) -> str:
    """Run twice, then without its archives."""
    assert here.run() == ""

    def state() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in here.root.rglob("*") if path.is_file()}
        return {path: (one.st_mtime_ns, one.st_ino) for path, one in found.items()}

    before, asked = state(), len(here.server.asked)
    assert here.run() == ""
    assert state() == before and len(here.server.asked) == asked
    for name in here.good:
        if (here.root / "images" / name.split(".")[0]).is_dir():
            (here.root / name).unlink()
    for split in here.script.pools:
        (here.root / f"{split}.md").unlink()
    assert here.run() == "" and len(here.server.asked) == asked
    here.check()
    return "does nothing; asks for nothing, even when the archives are gone"


def corrupted(here: Place) -> str:
    """Each file in turn is damaged."""
    said = []
    for name, content in here.good.items():
        bad = content[: len(content) * 6 // 10]
        if name not in here.by_hand:
            bad = content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :]
        here.offer({**here.good, name: bad})
        words = here.run()
        assert words and ("damaged" in words or "SHA-256" in words or "declared" in words), words
        assert name in words, words
        said.append(words)
        here.offer(here.good)
    assert here.run() == ""
    here.check()
    return f"{plural(len(said), 'file')} refused by name; with the right ones it goes on"


def hostile(here: Place) -> str:
    """Each archive in turn holds a file that leads out of the folder."""
    count = 0
    for name, files in here.script.made().items():
        if isinstance(files, bytes):
            continue
        bad = sets_made.packed(name, {**files, "../../evil": b"x"})
        good, here.good = here.good, {**here.good, name: bad}
        here.offer(here.good)
        words = here.run()
        assert "leads out of the folder; nothing is extracted" in words, words
        assert not list(here.root.parent.rglob("evil"))
        assert not (here.root / "images" / name.split(".")[0]).exists()
        count += 1
        here.good = good
        assert not (here.root / f"{name}.seen.json").exists()
        (here.root / name).unlink()
        here.offer(here.good)
    assert here.run() == ""
    here.check()
    return f"{plural(count, 'archive')} refused, nothing of what they hold on the disk"


def disk_full(here: Place) -> str:
    """No room, before anything is written and then while it is."""
    usage = shutil._ntuple_diskusage(9, 9, 1000)
    with patch.object(shutil, "disk_usage", lambda path: usage):
        words = here.run()
    assert "1,000 are free; free some, or choose another folder" in words, words
    real, calls = Path.open, [0]

    def full(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "x" in mode or "w" in mode:
            calls[0] += 1
            if calls[0] in (2, 5, 9):
                raise OSError(28, "No space left on device")
        return real(path, mode, *rest, **options)

    stops = 0
    with patch.object(Path, "open", full):
        while words := here.run():
            assert "No space left on device" in words and "run this again" in words, words
            stops += 1
    assert stops
    here.check()
    return f"says how much is needed; stopped {stops} times by a full disk, goes on each time"


CASES = {
    case.__name__.replace("_", " "): case
    for case in (fresh, interrupted, repeated, corrupted, hostile, disk_full)
}


def judge(script: Script, case: str, folder: Path) -> str:
    """Return what came out of a case; raise when it is not what should."""
    with place(script, folder) as here:
        return CASES[case](here)
