"""What a run waits for, and answers that are handed in."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from almining.label import hand_in, waiting
from almining.label.desk import answer_of, request_of, row_of
from almining.ledger import Ledger, LockedError, open_ledger
from almining.plain import to_plain
from almining.records import Answer, Evidence, Request, Target
from tests.label.asking import BOX, CLASSES, target

WHY = Evidence("entropy", {"map": torch.tensor([0.1, -0.0])}, "unsure")


def questions(cycle: int) -> list[Request]:
    box = torch.tensor(BOX)
    return [
        Request(f"{cycle:03d}/a", "im-0", "complete", score=0.1, evidence=WHY),
        Request(f"{cycle:03d}/b", "im-1", "verify", box=box, label=2),
        Request(f"{cycle:03d}/c", "im-2", "tag"),
        Request(f"{cycle:03d}/d", "im-2", "region", box=box),
    ]


def said(name: str, **answer) -> Answer:
    return Answer(name, by="ann", seconds=2.5, **answer)


WHOLE = target(BOX, complete=True)


def close(ledger: Ledger, cycle: int, *used: str) -> None:
    ledger.close_cycle(cycle, {}, used=list(used), mined={}, set_aside=[])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    with open_ledger(tmp_path / "run") as ledger:
        ledger.begin({"classes": list(CLASSES)})
        close(ledger, 0)
        ledger.add_requests(1, [row_of(one) | {"set_aside": []} for one in questions(1)])
    return tmp_path / "run"


def ids(run_dir: Path) -> list[str]:
    return [one.id for one in waiting(run_dir)]


def rows(run_dir: Path) -> list[dict]:
    with open_ledger(run_dir) as ledger:
        return ledger.answers()


def test_requests_come_back_whole_and_in_order(run_dir: Path) -> None:
    assert [to_plain(one) for one in waiting(run_dir)] == [to_plain(one) for one in questions(1)]


def test_what_is_answered_waits_no_more(run_dir: Path) -> None:
    given = [said("001/c", verdict="skip"), said("001/a", target=WHOLE)]
    assert hand_in(run_dir, iter(given)) == 2
    assert ids(run_dir) == ["001/b", "001/d"]
    kept = rows(run_dir)
    assert [to_plain(answer_of(row)) for row in kept] == [to_plain(one) for one in given]
    assert hand_in(run_dir, [said("001/d", target=target())]) == 1  # a later sitting
    assert ids(run_dir) == ["001/b"]


def test_only_the_cycle_that_is_open_waits(run_dir: Path) -> None:
    hand_in(run_dir, [said("001/b", verdict="reject")])
    with open_ledger(run_dir) as ledger:
        close(ledger, 1, ledger.answers()[0]["id"])
    assert ids(run_dir) == []
    with open_ledger(run_dir) as ledger:
        ledger.add_requests(2, [row_of(one) for one in questions(2)])
    assert ids(run_dir) == [one.id for one in questions(2)]


def test_it_works_beside_whoever_holds_the_ledger(run_dir: Path) -> None:
    with open_ledger(run_dir) as ledger:
        assert hand_in(run_dir, [said("001/b", verdict="accept")]) == 1
        assert [row["request_id"] for row in ledger.answers()] == ["001/b"]
        assert len(waiting(run_dir)) == 3
        code = "import sys; from almining.label import waiting; waiting(sys.argv[1])"
        other = subprocess.run(
            [sys.executable, "-c", code, run_dir], capture_output=True, text=True
        )
        assert other.returncode and LockedError.__name__ in other.stderr
        assert len(ledger.requests()) == 4  # it is still open here


def test_handed_in_twice_counts_once(run_dir: Path) -> None:
    given = [said("001/a", target=WHOLE), said("001/b", verdict="accept")]
    names = ["u1", "u2"]
    assert hand_in(run_dir, given[:1], ids=names[:1]) == 1
    assert hand_in(run_dir, given, ids=names) == 1
    assert hand_in(run_dir, given, ids=names) == 0
    assert [row["id"] for row in rows(run_dir)] == names
    with open_ledger(run_dir) as ledger:
        close(ledger, 1, *names)
    assert hand_in(run_dir, given, ids=names) == 0  # whoever was not sure whether it got through
    assert hand_in(run_dir, given[1:]) == 1 and waiting(run_dir) == []  # a late correction
    assert [row["used"] for row in rows(run_dir)] == [1, 1, None]


def test_a_correction_is_a_new_answer(run_dir: Path) -> None:
    for verdict in ("accept", "reject", "accept"):
        assert hand_in(run_dir, [said("001/b", verdict=verdict)]) == 1
    assert [row["verdict"] for row in rows(run_dir)] == ["accept", "reject", "accept"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            said("001/z", verdict="skip"),
            "'001/z', which this run never asked; it waits for '001/a'",
        ),
        (said("001/b", target=WHOLE), "request '001/b': a verify request is answered by verdict"),
        (said("001/a", verdict="accept"), "complete request is answered by a target or by skip"),
        (said("001/a", target=target(BOX)), "needs a complete target, got a sparse one"),
        (said("001/c", target=target(BOX)), "tags = None"),
        (said("001/c", target=Target.unknown({1, 4})), r"class 4, but the run has 3 \(cup, dog"),
        (said("001/d", target=target(BOX, label=[9])), "class 9, but the run has 3"),
    ],
)
def test_one_that_does_not_fit_keeps_all_out(run_dir: Path, answer: Answer, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hand_in(run_dir, [said("001/b", verdict="accept"), answer])
    assert rows(run_dir) == [] and len(ids(run_dir)) == 4


def test_arguments_are_checked(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 answers with 2 ids"):
        hand_in(run_dir, [said("001/b", verdict="skip")], ids=["a", "b"])
    for call in (waiting, lambda folder: hand_in(folder, [])):
        with pytest.raises(FileNotFoundError, match="typo holds no run; name the folder"):
            call(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
    assert hand_in(run_dir, []) == 0


def test_rows_hold_more_than_the_record(run_dir: Path) -> None:
    request = request_of(row_of(questions(1)[0]) | {"cycle": 1, "set_aside": []})
    assert torch.equal(request.evidence.data["map"], WHY.data["map"])
    bare = request_of({"id": "x", "image_id": "im-0", "kind": "tag"})
    assert (bare.box, bare.label, bare.score, bare.evidence) == (None,) * 4
