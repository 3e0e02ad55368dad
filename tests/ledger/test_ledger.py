from __future__ import annotations

import math
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import children
import pytest

from almining.ledger import Ledger, LedgerError, open_ledger, rows

ANSWER = {"request_id": "001/a", "by": "Ada", "seconds": 7.25, "verdict": "accept"}
CLOSED = {"row": {"metrics": {"ap": 0.1 + 0.2}}, "used": [], "mined": {}, "set_aside": []}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    digest = rows.digest_file
    monkeypatch.setattr(rows, "digest_file", lambda path: (read.append(path), digest(path))[1])
    return read


def test_requests_come_back_whole_and_in_order(ledger: Ledger) -> None:
    first, second = ledger.requests(1)
    assert (first["id"], first["evidence"]) == ("001/a", {"why": [0.5]})
    bare = {key: value for key, value in first.items() if key != "evidence"}
    assert ledger.requests(1, evidence=False) == [bare, second]
    assert second == {
        "id": "001/b",
        "image_id": "b",
        "kind": "verify",
        "box": [1.0, 2.0, 3.5, 4.0],
    }
    many = [{"id": f"002/{n}", "image_id": f"{n}", "kind": "tag"} for n in reversed(range(20))]
    ledger.add_requests(2, many)
    assert ledger.requests(2) == many
    assert ledger.requests() == [first, second, *many]
    assert ledger.requests(3) == []


def test_requests_are_added_once(ledger: Ledger) -> None:
    again = ledger.requests(1)
    again[1]["box"] = tuple(again[1]["box"])  # JSON knows no tuples
    ledger.add_requests(1, iter(again))
    assert len(ledger.requests()) == 2
    again[0]["image_id"] = "c"
    with pytest.raises(LedgerError, match=r'requests of cycle 1 .*0.image_id: "a" then, "c" now'):
        ledger.add_requests(1, again)
    with pytest.raises(LedgerError, match=r"1: \{.*\} then, absent now"):
        ledger.add_requests(1, ledger.requests(1)[:1])
    with pytest.raises(LedgerError, match="Nothing was written"):  # the second id is taken
        ledger.add_requests(2, [{"id": "002/a", "image_id": "a", "kind": "tag"}, again[1]])
    assert ledger.requests(2) == []


def test_an_answer_keeps_what_it_was_about(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    target = {"$": "target", "boxes": [[0.1, 1e-30, -0.0, 5e300]], "scores": [None]}
    assert ledger.add_answer(
        {"request_id": "001/b", "by": "Ada", "seconds": 0.1 + 0.2, "target": target}, id="x"
    )
    (row,) = ledger.answers()
    at = datetime.fromisoformat(row.pop("at"))
    assert abs(at - before).total_seconds() < 60
    assert row == {
        "id": "x",
        "request_id": "001/b",
        "cycle": 1,
        "image_id": "b",
        "kind": "verify",
        "box": [1.0, 2.0, 3.5, 4.0],
        "by": "Ada",
        "seconds": 0.1 + 0.2,
        "verdict": None,
        "target": target,
        "used": None,
    }
    assert math.copysign(1, row["target"]["boxes"][0][2]) == -1


def test_an_answer_under_its_id_again_changes_nothing(ledger: Ledger) -> None:
    assert ledger.add_answer(ANSWER, id="x") is True
    assert ledger.add_answer(ANSWER, id="x") is False
    with pytest.raises(LedgerError, match=r"answer x .*seconds: 7.25 then, 8.0 now; it stays"):
        ledger.add_answer(ANSWER | {"seconds": 8.0}, id="x")
    assert [row["seconds"] for row in ledger.answers()] == [7.25]
    assert [ledger.add_answer(ANSWER | {"seconds": 3}, id="y") for _ in range(2)] == [True, False]


def test_corrections_are_kept_in_the_order_they_came(ledger: Ledger) -> None:
    for name, seconds in (("z", 3.0), (None, 1.0), (None, 2.0), ("a", 0.0)):
        ledger.add_answer(ANSWER | {"seconds": seconds}, id=name)
    assert [row["seconds"] for row in ledger.answers(1)] == [3.0, 1.0, 2.0, 0.0]
    assert len({row["id"] for row in ledger.answers()}) == 4
    assert ledger.answers(2) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_id": "001/c"}, "to '001/c', which was never asked in .*ledger.sqlite"),
        ({"secs": 1.0}, "has no secs; it has request_id, by, seconds, verdict, target"),
        ({"seconds": math.nan}, "NOT NULL constraint failed: answers.seconds"),
        ({"by": None}, "NOT NULL constraint failed: answers.by"),
    ],
)
def test_what_is_no_answer_is_refused(ledger: Ledger, change: dict, message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        ledger.add_answer(ANSWER | change)
    assert ledger.answers() == []


def test_a_name_that_is_no_text_is_refused(ledger: Ledger) -> None:
    broken = os.fsdecode(b"\xff")
    with pytest.raises(LedgerError, match="surrogates not allowed; rename that"):
        ledger.add_requests(2, [{"id": "002/x", "image_id": broken, "kind": "tag"}])
    assert ledger.requests(2) == []


def test_a_cycle_says_which_answers_it_used(ledger: Ledger) -> None:
    for name in "xyz":
        ledger.add_answer(ANSWER, id=name)
    mined = {"b": {"$": "target", "boxes": [[0.1, 0.2, 0.3, 0.4]]}}
    closed = CLOSED | {"used": ["z", "x"], "mined": mined, "set_aside": [{"file": "c.jpg"}]}
    ledger.close_cycle(1, **closed)
    ledger.close_cycle(0, **CLOSED)
    assert ledger.cycles() == [{"cycle": 0, **CLOSED}, {"cycle": 1, **closed}]
    assert [row["used"] for row in ledger.answers()] == [1, None, 1]


def test_a_cycle_closed_again_is_the_same(ledger: Ledger) -> None:
    ledger.close_cycle(1, **CLOSED | {"row": {"ap": math.nan, "picked": ("a", "b")}})
    ledger.close_cycle(1, **CLOSED | {"row": {"picked": ["a", "b"], "ap": math.nan}})
    with pytest.raises(LedgerError, match=r"cycle 1 .*row.ap: NaN then, 0.5 now; it stays"):
        ledger.close_cycle(1, **CLOSED | {"row": {"ap": 0.5, "picked": ["a", "b"]}})
    many = {str(number): 0 for number in range(9)}
    with pytest.raises(LedgerError, match=r"mined.3: absent then, 0 now; mined.4.* and 4 more"):
        ledger.close_cycle(
            1, **CLOSED | {"row": {"ap": math.nan, "picked": ["a", "b"]}, "mined": many}
        )
    assert len(ledger.cycles()) == 1


@pytest.mark.parametrize(
    ("used", "message"), [(["y", "?"], "FOREIGN KEY"), (["y", "x"], "used are only added")]
)
def test_a_cycle_is_closed_whole_or_not_at_all(
    ledger: Ledger, used: list[str], message: str
) -> None:
    ledger.add_answer(ANSWER, id="x")
    ledger.add_answer(ANSWER, id="y")
    ledger.close_cycle(1, **CLOSED | {"used": ["x"]})
    with pytest.raises(LedgerError, match=message):
        ledger.close_cycle(2, **CLOSED | {"used": used})
    assert [row["cycle"] for row in ledger.cycles()] == [1]
    assert [row["used"] for row in ledger.answers()] == [1, None]


def test_events_are_kept_in_order(ledger: Ledger) -> None:
    assert ledger.events() == []
    ledger.note("memory", "2 parts now")
    ledger.note("worker", "died")
    assert [(event["what"], event["text"]) for event in ledger.events()] == [
        ("memory", "2 parts now"),
        ("worker", "died"),
    ]
    assert datetime.fromisoformat(ledger.events()[0]["at"]).tzinfo == UTC


def test_everything_is_there_when_it_is_opened_again(ledger: Ledger) -> None:
    ledger.add_answer(ANSWER)
    ledger.close_cycle(1, **CLOSED)
    ledger.note("a", "b")

    def known(ledger: Ledger) -> list[object]:
        return [
            ledger.manifest,
            ledger.requests(),
            ledger.answers(),
            ledger.cycles(),
            ledger.events(),
        ]

    before = known(ledger)
    ledger.close()
    with open_ledger(ledger.folder) as again:
        assert again is not ledger
        assert known(again) == before


def test_files_are_read_again_only_when_they_changed(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 2)
    paths = {name: tmp_path / name for name in "abcde"}
    for name, path in paths.items():
        path.write_text(name)
    read = counted(monkeypatch)
    first = ledger.files(paths.items())
    assert list(first) == list(paths)
    assert first["a"].startswith("ca978112ca1bbdca")  # sha256 of "a"
    assert read == list(paths.values())
    ledger.close()
    with open_ledger(ledger.folder) as again:
        read.clear()
        assert again.files(paths.items(), progress=False) == first
        assert read == []
        paths["b"].write_text("B")
        os.utime(paths["c"], ns=(0, 1))
        when = paths["d"].stat().st_mtime_ns
        paths["d"].write_text("longer")
        os.utime(paths["d"], ns=(when, when))
        second = again.files(iter(paths.items()))
    assert read == [paths["b"], paths["c"], paths["d"]]
    assert {name for name in paths if first[name] != second[name]} == {"b", "d"}


def test_files_hashed_before_a_missing_one_are_remembered(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 2)
    read = counted(monkeypatch)
    paths = [(name, tmp_path / name) for name in "abc"]
    for _, path in paths[:2]:
        path.write_text("x")
    with pytest.raises(LedgerError, match=r"c: .*No such file.*; put the file back"):
        ledger.files(paths)
    paths[2][1].write_text("x")
    read.clear()
    assert len(ledger.files(paths)) == 3
    assert read == [paths[2][1]]
    assert ledger.files([]) == {}


def test_one_handle_is_shared_and_counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    link = ledger.folder.parent / "link"
    link.symlink_to(ledger.folder)
    monkeypatch.chdir(ledger.folder)
    others = [open_ledger(path) for path in (link, Path(), str(ledger.folder))]
    assert all(other is ledger for other in others)
    for other in others:
        assert other.requests(1)
        other.close()
    assert ledger.requests(1)
    assert repr(ledger) == f"Ledger('{ledger.folder}')"
    ledger.close()
    ledger.close()
    for use in (ledger.answers, lambda: ledger.manifest, lambda: ledger.add_answer(ANSWER)):
        with pytest.raises(LedgerError, match=r"run cannot be used: it was closed; open it again"):
            use()
    assert repr(ledger).endswith(", closed)")


def test_it_is_closed_when_a_with_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_ledger(tmp_path):
        raise ZeroDivisionError
    assert children.run(
        "import sys; from almining.ledger import open_ledger; print(open_ledger(sys.argv[1]))",
        tmp_path,
    ).startswith("Ledger(")


def test_threads_may_all_write(ledger: Ledger) -> None:
    def write(number: int) -> None:
        for step in range(10):
            ledger.add_answer(ANSWER, id=f"{number}/{step}")
            assert ledger.answers()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row["id"] for row in ledger.answers()}) == len(ledger.answers()) == 80


FORKS = """
import gc, os, signal, sys, threading
from almining.ledger import LedgerError, open_ledger

ledger = open_ledger(sys.argv[1])
ledger.begin({})
ledger.add_requests(1, [{"id": "r", "image_id": "i", "kind": "tag"}])
stop = threading.Event()

def busy():  # so that many forks fall into a transaction
    while not stop.is_set():
        ledger.add_answer({"request_id": "r", "by": "x", "seconds": 1})

thread = threading.Thread(target=busy, daemon=True)
thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # rather than wait for a lock that nobody holds here
        failed = 1
        try:
            ledger.answers()
        except LedgerError as error:
            failed = "forked child of the process that opened it" not in str(error)
        try:
            open_ledger(sys.argv[1])
            failed = 1
        except LedgerError as error:
            failed |= f"process {os.getppid()}" not in str(error)
        ledger.close()
        del ledger
        gc.collect()
        os._exit(int(failed))
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
count = len(ledger.answers())
ledger.close()
with open_ledger(sys.argv[1]) as ledger:
    assert len(ledger.answers()) == count > 0
print("well")
"""


def test_a_forked_child_cannot_touch_it(tmp_path: Path) -> None:
    assert children.run(FORKS, tmp_path).endswith("well\n")


def test_it_brings_no_torch() -> None:
    code = "import sys; from almining import ledger; [getattr(ledger, n) for n in dir(ledger)]; "
    code += "print([m for m in ('torch', 'numpy', 'torchvision', 'PIL') if m in sys.modules])"
    assert children.run(code) == "[]\n"


def test_a_run_is_begun_once(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        assert ledger.manifest is None
        with pytest.raises(LedgerError, match="has no run yet; call begin first"):
            ledger.agree({})
        with pytest.raises(LedgerError, match="has no run yet; call begin first"):
            ledger.save_weights(Path.touch, cycle=1, step=1, done=True, tag="")
        assert list(ledger.weights(1)) == []
        ledger.begin({"seed": 1, "classes": ("a", "b")})
        run = {"seed": 1, "classes": ["a", "b"]}
        assert ledger.manifest == {"format": 1, "run": run, "weights": {}}
        with pytest.raises(LedgerError, match="has a run already; call agree"):
            ledger.begin({"seed": 1})


def test_a_run_whose_manifest_is_gone_is_not_begun_anew(ledger: Ledger) -> None:
    (ledger.folder / "manifest.json").unlink()
    with pytest.raises(LedgerError, match=r"holds a run, but its manifest.json is gone; put it"):
        ledger.begin({"seed": 0})


def test_what_a_kill_left_half_written_goes_when_it_is_opened(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    left = [tmp_path / "manifest.json.part", tmp_path / "weights" / "cycle-1.safetensors.part"]
    other = tmp_path / "notes.txt"
    for path in (*left, other):
        path.touch()
    with open_ledger(tmp_path):
        assert [path.exists() for path in (*left, other)] == [False, False, True]
    left[0].mkdir()
    with pytest.raises(LedgerError, match=r"manifest.json.part"):
        open_ledger(tmp_path)
