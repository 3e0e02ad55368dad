import pytest
import torch

from almining import ranks
from almining.records import Detections
from almining.shards import Shards
from tests.fakes import boxes, labels

FOUND = Detections(boxes((0, 0, 2, 3)), labels(1), torch.tensor([0.1]), probs=torch.rand(1, 3))


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.safetensors"))


def test_what_is_written_is_read_bit_for_bit_and_goes_in_the_end(tmp_path) -> None:
    results = [("a", FOUND), ("b", 0.1 + 0.2), ("c", torch.arange(6).reshape(2, 3).t())]
    with ranks.joined(tmp_path), ranks.stage("query"):
        shards = Shards({"batch": 2})
        assert shards.missing(3) == [0, 1, 2]
        shards.write(1, results, [("d", ("d", "d.jpg", "truncated"))])
        shards.write(2, [], [])
        again, broken = shards.read(1)
        assert broken == [("d", ("d", "d.jpg", "truncated"))] and again[1] == results[1]
        assert again[0][0] == "a" and torch.equal(again[0][1].probs, FOUND.probs)
        assert torch.equal(again[2][1], results[2][1]) and shards.read(2) == ([], [])
        shards.done()  # the stage goes on
        assert [name.split("/")[:2] for name in files(tmp_path)] == [[ranks.SHARDS, "query"]] * 2
    assert files(tmp_path) == [] and not (tmp_path / ranks.SHARDS).exists()


def test_what_is_there_is_not_missing_after_a_crash_unless_it_depends_on_something_else(
    tmp_path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        with ranks.joined(tmp_path), ranks.stage("query"):
            Shards({"batch": 2}).write(1, [], [])
            raise KeyboardInterrupt
    assert len(files(tmp_path)) == 1
    with ranks.joined(tmp_path):
        with ranks.stage("query"):
            assert Shards({"batch": 2}).missing(3) == [0, 2]
            assert Shards({"batch": 2}).missing(3) == [0, 1, 2]  # the second call
        assert files(tmp_path) == []
    for stage, key in (("query", {"batch": 3}), ("test", {"batch": 2})):
        with ranks.joined(tmp_path), ranks.stage(stage):
            assert Shards(key).missing(3) == [0, 1, 2]


def test_outside_a_stage_a_call_goes_when_it_is_done(tmp_path) -> None:
    with ranks.joined(tmp_path):
        shards = Shards("key")
        shards.write(0, [1], [])
        assert files(tmp_path)[0].startswith(f"{ranks.SHARDS}/unstaged/")
        shards.done()
        assert files(tmp_path) == []


def test_no_folder_and_a_result_that_cannot_be_kept_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"there is one process; shards are for `ranks\.joined`"):
        Shards("key")
    with ranks.joined(tmp_path):
        with pytest.raises(ValueError, match=r"results.*object, which cannot be kept exactly"):
            Shards("key").write(0, [object()], [])
        assert files(tmp_path) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path) -> None:
    (tmp_path / "shards").mkdir()
    with ranks.joined(tmp_path), ranks.stage("query"):
        Shards("key").write(0, [1], [])
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
