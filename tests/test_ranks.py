"""Two real ranks under torchrun against one process; `rank_program` is what they run."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from almining import ranks
from almining.data.formats.files import BrokenImageError
from almining.plain import from_plain
from almining.predict import detect
from tests import rank_program
from tests.fakes import FlatDetector, faulty_pool, flat_pool

PROGRAM = Path(rank_program.__file__)


def start(folder: Path, *names: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program on two ranks; whatever hangs is ended."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [*command, f"--max-restarts={restarts}", str(PROGRAM), str(folder), *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
    )
    try:
        text, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends the ranks
        text, _ = process.communicate()
        pytest.fail(f"the ranks hang: {text}")
    return subprocess.CompletedProcess(command, process.returncode, text)


def found(folder: Path) -> list[dict]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two ranks ran everything; the second was lost at the start."""
    folder = tmp_path_factory.mktemp("ranks")
    ended = start(folder, restarts=1)
    assert ended.returncode == 0 and "exitcode: -9" in ended.stdout, ended.stdout
    assert not (folder / "run" / ranks.SHARDS).exists()  # nothing is left behind
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict]:
    return found(folder)


@pytest.fixture(scope="module")
def faults(both) -> list[dict]:
    """What came of trainings with a fault on the second rank."""
    return [one["faults"] for one in both]


def test_one_process_talks_to_nobody(tmp_path, monkeypatch) -> None:
    with ranks.joined(tmp_path) as here:
        assert here == ranks.current() == ranks.Ranks(0, 1, tmp_path)
        with ranks.joined(tmp_path / "inner") as inner:
            assert inner.folder == tmp_path / "inner"
    monkeypatch.setenv("WORLD_SIZE", "8")  # a scheduler's, without a rank
    with ranks.joined(tmp_path) as here:
        assert here.world == 1
    assert ranks.current() == ranks.Ranks()
    value = ("kept", "as it is")
    assert ranks.share(value) is value and ranks.gather(value)[0] is value
    assert ranks.worst(3) == 3 and ranks.together(max, 1, 2) == 2
    ranks.barrier(), ranks.agree(None), ranks.check_same(1, "x")
    error = BrokenImageError("a", "a.jpg", "truncated")
    with pytest.raises(BrokenImageError) as caught:
        ranks.agree(error)
    assert caught.value is error
    one = torch.nn.Parameter(torch.ones(2))
    ranks.sum_gradients([one]), ranks.same_buffers(torch.nn.BatchNorm1d(2))
    assert one.grad is None


def test_stages_count_calls() -> None:
    with ranks.stage("query"):
        assert [ranks.next_call(), ranks.next_call()] == [("query", 0), ("query", 1)]
        with ranks.stage("inner"):
            assert ranks.next_call() == ("inner", 0)
        assert ranks.next_call() == ("query", 2)
    with ranks.stage("query"):
        assert ranks.next_call() == ("query", 0)
    assert ranks.next_call()[0] == "unstaged"


def test_values_reach_all(both) -> None:
    for one in both:
        told = one["told"]
        assert told["share"] == {"rank": 0, "text": ""} and told["worst"] == 0
        assert told["gather"] == [[0], [1] * 1001]


def test_gradients_are_summed_and_buffers_are_those_of_rank_0(both) -> None:
    for one in both:
        first, on_one_rank_only, nowhere, double = one["told"]["gradients"]
        assert first == [[3.0, 3.0], [3.0, 3.0]] and on_one_rank_only == [[5.0, 5.0], [5.0, 5.0]]
        assert nowhere is None and double == [[0.1 + 0.2] * 2] * 2
        assert one["told"]["buffers"] == [
            [7.0, 7.0],
            [1.0, 1.0],
            3,
            [math.inf, torch.tensor(0.1).item()],
            [True],
        ]


def test_an_error_of_one_rank_is_raised_on_all_as_it_is(both) -> None:
    theirs, own = (one["told"]["errors"] for one in both)
    note = "on rank 1 of 2"
    text = "image 'a': a.jpg: truncated; replace the file or leave it out of the pool"
    assert own[:3] == [
        ["FloatingPointError", "loss is nan", ["a note"]],
        ["BrokenImageError", text, []],
        ["Interrupted", "stopped", []],
    ]
    assert theirs[:3] == [[kind, said, [*notes, note]] for kind, said, notes in own[:3]]
    assert own[3] == ["Local", "1 and 2", []]
    assert theirs[3] == ["RuntimeError", "Local: 1 and 2", [note]]
    assert own[4][0] == "Picky" and theirs[4] == ["RuntimeError", "Picky: no row", [note]]
    assert [one["told"]["both"][1] for one in both] == ["of 0", "of 0"]  # the lowest rank's
    # the other rank came to hear something else
    assert [one["told"]["across"][0] for one in both] == ["KeyError", "KeyError"]
    kind, said, _ = both[0]["told"]["same"]
    assert kind == "RuntimeError" and said.startswith("the picks: 1 on rank 1, 0 on rank 0; every")


def test_ranks_that_come_apart_are_told_so(both) -> None:
    for one in both:
        kind, said, _ = one["told"]["apart"]
        assert kind == "RuntimeError" and said.startswith(
            "the place in the program: 'barrier' on rank 1, 'share' on rank 0; every rank has to"
        )
        kind, said, _ = one["refused"]["left"]
        assert kind == "RuntimeError" and "'barrier' on rank 1, '_shared.<locals>.score'" in said
        kind, said, _ = one["refused"]["seeds"]
        assert kind == "RuntimeError" and said.startswith("what is trained: [0, 1, 1, ")


def test_scores_and_picks_are_those_of_one_process(both) -> None:
    alone = rank_program.scored()
    assert len(alone["detect"]) == 10 and len(alone["entropy_max"]) == 4
    assert both[0]["scored"] == both[1]["scored"] == alone
    assert both[0]["left"] == []  # by the rank that clears up


def test_pairs_and_losses_pick_what_one_process_picks(both) -> None:
    alone = rank_program.paired()
    assert both[0]["paired"] == both[1]["paired"] == alone
    assert len(set(alone["recipe"] + alone["again"])) == 8


def test_what_is_broken_on_one_rank_is_set_aside_on_all(both) -> None:
    alone = rank_program.broken()
    assert alone["limit"] == alone["limit in a slot"] == ["flat-5"] and alone["survived"] == 596
    assert alone["slip"]["aside"] == ["flat-40"] and alone["slip"]["calls"] == [300, 299]
    for one in both:
        scored, looked, survived = one["broken"].pop("findings")
        assert [scored, looked] == alone["findings"][:2]
        assert sorted(survived) == sorted(alone["findings"][2])  # met in another order
        assert one["broken"] == {key: alone[key] for key in alone if key != "findings"}


def test_what_stops_one_rank_stops_all(both) -> None:
    notes = ["on rank 1 of 2"], []
    for one, note in zip(both, notes, strict=True):
        refused = one["refused"]
        assert refused["nan"] == [
            "FloatingPointError",
            "class logits are not finite; the weights have diverged (images flat-2, flat-3)",
            note,
        ]
        kind, said, _ = refused["weights"]
        assert kind == "RuntimeError" and said.startswith("what is to be scored: [")
        kind, said, _ = refused["kind"]
        assert kind == "ValueError" and "cannot be kept exactly" in said
        kind, said, where = refused["few"]
        assert (kind, said) == ("ValueError", "7 results for 8 images; one each is needed")
        assert where[0].startswith("while scoring images flat-8, flat-9") and where[1:] == note
        assert refused["ctrl-c"][0] == "Interrupted"


def test_training_is_that_of_one_process_in_as_many_parts(both) -> None:
    one, other = (rank["trained"] for rank in both)
    assert one == other  # buffers, too
    alone = rank_program.trained(parts=2)
    assert one["parameters"] == alone["parameters"] and one["buffers"] == alone["buffers"]
    assert one["losses"] == alone["losses"]
    whole = rank_program.trained(parts=1)
    gap = max(
        abs(a - b)
        for name, values in whole["some"].items()
        for a, b in zip(values, one["some"][name], strict=True)
    )
    assert 0 < gap < 1e-2


def test_a_run_picks_what_one_process_picks_and_goes_on(both, tmp_path) -> None:
    one, other = (rank["ran"] for rank in both)
    alone = rank_program.ran(tmp_path)
    assert one["picked"] == other["picked"] == [list(row) for row in alone["picked"]]
    assert one["weights"] == other["weights"] and one["waits"] == other["waits"]
    assert one["waits"] == alone["waits"] and len(one["waits"]) == 3
    for rank in (one, other):  # what fails on the first rank is raised on both
        assert rank["away"][:2] == ["ValueError", "gone home"]
        assert rank["blocked"][0] == "LedgerError"


def check_killed(folder: Path) -> None:
    """The result is that of one process, and no batch was finished twice."""
    pool, _ = faulty_pool(flat_pool(300), 5, 200)
    with pytest.warns(UserWarning, match="2 broken images were set aside"):
        alone = dict(detect(FlatDetector(), pool, batch=10, progress=False))
    for one in found(folder):
        assert one["killed"]["aside"] == ["flat-5", "flat-200"]
        again = dict(from_plain(one["killed"]["found"]))
        assert list(again) == list(alone)
        assert all(torch.equal(again[i].probs, alone[i].probs) for i in alone)
    calls = [(folder / f"calls-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert [len(lines) for lines in calls] == [15, 15 + 1]  # the one that was under way
    assert not list((folder / "run").rglob("*.safetensors"))


def test_a_lost_rank_is_started_again_and_only_what_is_missing_is_scored(folder) -> None:
    assert {line[0] for line in (folder / "calls-1").read_text().splitlines()} == {"0", "1"}
    check_killed(folder)


@pytest.mark.slow
def test_a_second_start_takes_up_what_the_first_left(tmp_path) -> None:
    ended = start(tmp_path, "killed")
    assert ended.returncode != 0 and "rank 0 does not reach the others" in ended.stdout
    assert list((tmp_path / "run").rglob("*.safetensors"))
    assert start(tmp_path, "killed").returncode == 0
    check_killed(tmp_path)


def test_both_end_with_the_weights_of_one_process_in_two_parts(faults) -> None:
    for name in ("none", "norm"):  # running statistics, too
        alone = rank_program.faulty_training(name, parts=2)
        for rank, one in enumerate(faults):
            assert (one[name]["raised"], one[name]["warned"]) == (None, [])
            assert one[name]["weights"] == alone["weights"]
            assert one[name]["losses"] == alone["losses"]
            assert one[name]["kept"] == ([[n, 1] for n in (1, 2, 3, 4)] if rank == 0 else [])


def test_out_of_memory_on_one(faults) -> None:
    for one in faults:
        (warned,) = one["memory"]["warned"]
        assert "out of memory in step 2: from there on, each batch of 6 goes through in 6" in warned
        assert one["memory"]["weights"] == faults[0]["memory"]["weights"]
        for a, b in zip(one["memory"]["losses"], one["none"]["losses"], strict=True):
            assert a == pytest.approx(b, rel=1e-5)
    assert faults[0]["memory"]["kept"] == [[1, 1], [2, 1], [3, 3], [4, 3]]


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("error", "KeyError", "label"),
        ("nan", "FloatingPointError", "loss is not finite in step 2"),
        ("broken", "BrokenImageError", "flat-3.jpg: image file is truncated"),
        ("ctrl-c", "Interrupted", "stopped by Ctrl-C after 3 of 4 steps"),
    ],
)
def test_what_stops_one_stops_both(fault: str, kind: str, says: str, faults) -> None:
    for one in faults:
        assert one[fault]["raised"][0] == kind and says in one[fault]["raised"][1]
        assert one[fault]["weights"] == faults[0][fault]["weights"]  # running statistics, too
        assert one[fault]["children"] == 0
    assert faults[1][fault]["kept"] == []
    assert len(faults[0][fault]["kept"]) == {"ctrl-c": 3, "broken": 1}.get(fault, 2)
