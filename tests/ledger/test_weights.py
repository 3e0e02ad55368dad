from __future__ import annotations

import random
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from almining.ledger import Ledger, LedgerError, Weights, open_ledger
from almining.ledger.weights import kept, latest

Usage = namedtuple("Usage", "total used free")


def save(ledger: Ledger, cycle: int, step: int, done: bool = False, content: bytes = b"w") -> Path:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return ledger.save_weights(write, cycle=cycle, step=step, done=done, tag=f"t{step}")


def names(ledger: Ledger) -> list[str]:
    on_disk = sorted(path.name for path in (ledger.folder / "weights").iterdir())
    assert on_disk == sorted(ledger.manifest["weights"])
    return on_disk


def test_saved_weights_are_listed_with_their_checksum(ledger: Ledger) -> None:
    path = save(ledger, 3, 150, content=b"abc")
    assert path == ledger.folder / "weights" / "cycle-003-step-000150.safetensors"
    assert path.read_bytes() == b"abc"
    assert ledger.manifest["weights"][path.name] == {
        "cycle": 3,
        "step": 150,
        "done": False,
        "tag": "t150",
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert list(ledger.weights(3)) == [Weights(path, 3, 150, False, "t150")]
    assert list(ledger.weights(2)) == []
    ledger.close()
    with open_ledger(ledger.folder) as again:
        assert [one.path for one in again.weights(3)] == [path]


def test_the_newest_step_comes_first(ledger: Ledger) -> None:
    for step, done in ((30, False), (10, False), (40, True), (20, True), (15, False), (50, False)):
        save(ledger, 1, step, done)
    assert [one.step for one in ledger.weights(1)] == [50, 20, 15]
    assert [one.step for one in ledger.weights(1, done=True)] == [20]
    assert [one.step for one in ledger.weights(1, done=False)] == [50, 15]


def test_two_finished_and_two_unfinished_ones_are_kept(ledger: Ledger) -> None:
    for cycle in (1, 2, 3):
        for step in (1, 2, 3):
            save(ledger, cycle, step)
        assert [one.step for one in ledger.weights(cycle)] == [3, 2]
        save(ledger, cycle, 4, done=True)
        assert [one.step for one in ledger.weights(cycle)] == [4]
    assert names(ledger) == [f"cycle-{cycle:03d}-step-000004.safetensors" for cycle in (2, 3)]
    save(ledger, 4, 1)
    assert [one.cycle for cycle in range(5) for one in ledger.weights(cycle)] == [2, 3, 4]


def test_weights_saved_again_do_not_write_over_the_old_ones(ledger: Ledger) -> None:
    old = save(ledger, 1, 5, content=b"old")

    def fails(path: Path) -> None:
        path.write_bytes(b"ne")
        assert old.read_bytes() == b"old"
        raise FloatingPointError("not a number")

    with pytest.raises(FloatingPointError, match="not a number"):
        ledger.save_weights(fails, cycle=1, step=5, done=False, tag="")
    assert names(ledger) == [old.name]
    new = save(ledger, 1, 5, content=b"new")
    assert names(ledger) == [new.name, old.name]
    assert new.name == "cycle-001-step-000005-2.safetensors"
    newer = save(ledger, 1, 5, content=b"newer")
    assert names(ledger) == [new.name, newer.name]
    assert [one.path for one in ledger.weights(1)] == [newer, new]
    finished = save(ledger, 1, 5, done=True)
    assert names(ledger) == [finished.name]


def test_weights_of_a_cycle_gone_through_again_stay(ledger: Ledger) -> None:
    save(ledger, 1, 9, done=True)
    save(ledger, 2, 9, done=True)
    assert [one.step for one in ledger.weights(2)] == [9]
    for step in (1, 2):  # what was saved last is never the one that goes
        save(ledger, 2, step)
        assert step in [one.step for one in ledger.weights(2, done=False)]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_never_lacks_the_last_one(seed: int) -> None:
    rng = random.Random(seed)
    listed: dict[str, dict] = {}
    for number in range(60):
        entry = {"cycle": rng.randint(1, 3), "step": rng.randint(1, 3), "done": rng.random() < 0.3}
        before = listed
        listed = kept(before | {str(number): entry})
        assert list(listed)[-1] == str(number)
        assert set(listed) <= {*before, str(number)}
        assert list(listed) == sorted(listed, key=int)
        places = [(one["cycle"], one["done"]) for one in listed.values()]
        for done in (True, False):
            assert sum(one["done"] is done for one in listed.values()) <= 2
        if entry["done"]:
            assert [place for place in places if place[0] == entry["cycle"]] == [places[-1]]
            lost = [before[name] for name in before.keys() - listed.keys()]
            assert all(one["done"] or one["cycle"] == entry["cycle"] for one in lost)
        assert kept(listed) == listed


def test_the_latest_of_equal_steps_comes_first() -> None:
    entries = [(1, 5, False), (1, 7, False), (1, 5, True), (2, 9, False)]
    listed = {
        name: {"cycle": cycle, "step": step, "done": done}
        for name, (cycle, step, done) in zip("abcd", entries, strict=True)
    }
    assert latest(listed, 1, None) == ["b", "c", "a"]
    assert latest(listed, 1, False) == ["b", "a"]
    assert latest(listed, 3, None) == latest({}, 1, None) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "grown", "gone"])
def test_damaged_weights_are_skipped_and_named(ledger: Ledger, damage: str) -> None:
    good = save(ledger, 1, 1, content=bytes(range(256)))
    bad = save(ledger, 1, 2, content=bytes(range(256)))
    content = bytearray(bad.read_bytes())
    if damage == "flipped":
        content[100] ^= 1
    elif damage == "cut":
        del content[-1]
    else:
        content.append(0)
    bad.unlink()
    if damage != "gone":
        bad.write_bytes(content)
    wrong = {
        "flipped": "its checksum is wrong",
        "cut": "it has 255 bytes instead of 256",
        "grown": "it has 257 bytes instead of 256",
        "gone": "No such file",
    }[damage]
    with pytest.warns(UserWarning, match=rf"{bad.name} is not used: .*{wrong}.*; put a copy"):
        assert [one.path for one in ledger.weights(1)] == [good]
    (event,) = ledger.events()
    assert event["what"] == "weights"
    assert wrong in event["text"]
    assert [one.path for one in ledger.weights(1)] == [good]  # without another warning
    save(ledger, 1, 2)
    assert [one.step for one in ledger.weights(1)] == [2, 1]


def test_there_must_be_room_before_anything_is_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save(ledger, 1, 1, content=b"w" * 1000)

    def never(path: Path) -> None:
        raise AssertionError("written without room")

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10_000, 9_001, 999))
    with pytest.raises(LedgerError, match=r"000002.safetensors was not written: it needs about 1,"):
        ledger.save_weights(never, cycle=1, step=2, done=True, tag="")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10_000, 5_000, 5_000))
    with pytest.raises(LedgerError, match=r"6,000 bytes, 5,000 are free; free some space and call"):
        ledger.save_weights(never, cycle=1, step=2, done=True, tag="", room=6000)
    assert names(ledger) == [old.name]
    save(ledger, 1, 2)


def test_files_that_were_never_listed_go_and_others_stay(ledger: Ledger) -> None:
    folder = ledger.folder / "weights"
    (folder / "cycle-009-step-000001.safetensors").touch()  # killed before it was listed
    (folder / "best.safetensors").touch()
    save(ledger, 1, 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "cycle-001-step-000001.safetensors",
    ]
