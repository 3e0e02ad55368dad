"""Power cuts, replayed: what was not synced may be on the disk or not, in any order.

The calls are recorded as they reach the system, and every state the disk may be in is looked at:
after each call, each name that was set or removed since its folder was synced holds or not, and of
each file not yet synced, all of it, the first half, or zeros are there.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from almining.ledger import files, open_ledger
from almining.ledger.files import make_folder, write_atomically

Disk = dict[str, bytes]


class Recorder:
    """The calls that reached the system, in order, with names under `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.calls = root, []
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def recorded_fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self.calls.append(("sync", self.name(path)))
            fsync(descriptor)

        def recorded_replace(old: Path, new: Path) -> None:
            self.calls.append(("name", self.name(old), self.name(new), Path(old).read_bytes()))
            replace(old, new)

        def recorded_unlink(path: Path) -> None:
            unlink(path)  # raises where there is none
            self.calls.append(("remove", self.name(path)))

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "replace", recorded_replace)
        monkeypatch.setattr(os, "unlink", recorded_unlink)

    def name(self, path: str | Path) -> str:
        return str(Path(path).relative_to(self.root))


def crashes(before: Disk, calls: list[tuple[Any, ...]]) -> Iterator[tuple[int, Disk]]:
    """Yield every (calls made, disk) that a power cut may leave."""
    for made in range(len(calls) + 1):
        yield from ((made, disk) for disk in left_by(before, calls[:made]))


def left_by(before: Disk, calls: list[tuple[Any, ...]]) -> Iterator[Disk]:
    # what a name may hold: one content where the file was synced, three where it was not
    durable = {name: [content] for name, content in before.items()}
    pending: list[tuple[str, list[bytes] | None]] = []
    synced: set[str] = set()
    for kind, name, *rest in calls:
        if kind == "name":
            new, content = rest
            states = [content] if name in synced else [content, content[: len(content) // 2]]
            states += [] if name in synced else [bytes(len(content))]
            synced.discard(name)
            pending.append((new, states))
        elif kind == "remove":
            pending.append((name, None))
        else:
            synced.add(name)
            here = [change for change in pending if str(Path(change[0]).parent) == name]
            pending = [change for change in pending if change not in here]
            durable = changed(durable, here)
    for kept in itertools.product((False, True), repeat=len(pending)):
        found = changed(durable, itertools.compress(pending, kept))
        for contents in itertools.product(*found.values()):
            yield dict(zip(found, contents, strict=True))


def changed(
    names: dict[str, list[bytes]], changes: Iterable[tuple[str, list[bytes] | None]]
) -> dict[str, list[bytes]]:
    found = dict(names)
    for name, states in changes:
        found.pop(name, None)
        if states is not None:
            found[name] = states
    return found


def write_twice(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"new " * 10)
        file.flush()
        file.write(b"and more")


NEW = b"new " * 10 + b"and more"


def without(call: str, kind: Callable[[Path], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out a sync, of files or of folders."""
    real = files.sync
    monkeypatch.setattr(files, call, lambda path: None if kind(path) else real(path))


def faults_of_one_file(
    root: Path, content: bytes | Callable, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    path = root / "file"
    path.write_bytes(b"old" * 9)
    record = Recorder(root, monkeypatch)
    digest = write_atomically(path, content)
    monkeypatch.undo()
    assert path.read_bytes() == NEW
    assert digest == sha256(NEW).hexdigest()
    assert [entry.name for entry in root.iterdir()] == ["file"]
    seen = list(crashes({"file": b"old" * 9}, record.calls))
    found = [
        f"mixed after {made} calls"
        for made, disk in seen
        if disk.get("file") not in (b"old" * 9, NEW)
    ]
    found += [
        "lost after it returned"
        for made, disk in seen
        if made == len(record.calls) and disk["file"] != NEW
    ]
    assert {disk.get("file") for _, disk in seen} >= {b"old" * 9, NEW}
    return found


@pytest.mark.parametrize("content", [NEW, write_twice], ids=["bytes", "function"])
def test_a_reader_sees_the_old_file_or_the_new_one(
    tmp_path: Path, content: bytes | Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults_of_one_file(tmp_path, content, monkeypatch) == []


def test_without_syncing_the_file_it_would_be_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("sync", Path.is_file, monkeypatch)
    assert "mixed" in faults_of_one_file(tmp_path, NEW, monkeypatch)[0]


def test_without_syncing_the_folder_it_would_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("sync", Path.is_dir, monkeypatch)
    assert faults_of_one_file(tmp_path, NEW, monkeypatch) == ["lost after it returned"]


def faults_of_weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is wrong with the weights that a manifest lists, at any power cut."""
    with open_ledger(root) as ledger:
        ledger.begin({})
        for step in (1, 2):
            ledger.save_weights(write_twice, cycle=1, step=step, done=False, tag="")
        names = list(ledger.manifest["weights"])
        paths = [root / "manifest.json", *(root / "weights" / name for name in names)]
        before = {str(path.relative_to(root)): path.read_bytes() for path in paths}
        record = Recorder(root, monkeypatch)
        marks = []
        for step in (3, 4):
            path = ledger.save_weights(write_twice, cycle=1, step=step, done=step == 4, tag="")
            marks.append((len(record.calls), path.name))
        monkeypatch.undo()
    found = []
    for made, disk in crashes(before, record.calls):
        try:
            listed = json.loads(disk["manifest.json"])["weights"]
        except (KeyError, ValueError):
            found.append(f"no manifest after {made} calls")
            continue
        for name, entry in listed.items():
            content = disk.get(f"weights/{name}")
            if content is None or sha256(content).hexdigest() != entry["sha256"]:
                found.append(f"{name} is wrong after {made} calls")
        saved = sum(made >= mark for mark, _ in marks)  # told of so far
        due = [name for _, name in marks[saved - 1 :]] if saved else names
        if not set(due) & set(listed):
            found.append(f"what was saved is lost after {made} calls")
    return found


def test_a_manifest_lists_only_weights_that_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults_of_weights(tmp_path, monkeypatch) == []


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (lambda path: path.name == "weights", "is wrong after"),
        (lambda path: path.name.startswith("cycle"), "is wrong after"),
        (lambda path: path.name.startswith("manifest"), "no manifest after"),
        (lambda path: path.is_dir() and path.name != "weights", "is wrong after"),
    ],
    ids=["folder of weights", "weights", "manifest", "folder of the manifest"],
)
def test_every_sync_is_needed(
    tmp_path: Path,
    kind: Callable[[Path], bool],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without("sync", kind, monkeypatch)
    assert fault in "\n".join(faults_of_weights(tmp_path, monkeypatch))


def test_new_folders_are_named_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Recorder(tmp_path, monkeypatch)
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert record.calls == [("sync", "."), ("sync", "a"), ("sync", "a/b")]
    assert (tmp_path / "a" / "b" / "c").is_dir()
