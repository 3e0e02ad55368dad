import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from almining.data.formats.files import BrokenImageError
from almining.loader import AHEAD, ahead
from almining.rng import generator

HERE = os.getpid()


def made(number: int) -> dict[str, object]:
    """Tensors of many kinds, as a function of the item alone."""
    image = torch.rand(3, 5 + number, 4, generator=generator(0, number))
    return {
        "image": image,
        "turned": image.permute(2, 0, 1),
        "half": image.half(),
        "none": torch.zeros(0, 4),
        "count": torch.tensor(number),
        "array": np.arange(number),
        "words": (number, f"item {number}"),
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("workers", [1, 2, 3, 20])
def test_results_come_in_order_and_do_not_depend_on_workers(workers: int) -> None:
    alone, found = list(ahead(made, range(9))), list(ahead(made, range(9), workers=workers))
    assert len(found) == 9
    for one, other in zip(alone, found, strict=True):
        assert all(same(one[key], other[key]) for key in one)
    assert active_children() == []


def test_work_is_done_elsewhere_by_all() -> None:
    pids = list(ahead(lambda _: os.getpid(), iter("abcdef"), workers=2))  # any iterable
    assert len(set(pids)) == 2 and HERE not in pids and pids[0::2] == pids[:1] * 3
    assert list(ahead(lambda _: os.getpid(), "abc")) == [HERE] * 3


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_to_do(workers: int) -> None:
    assert list(ahead(made, [], workers=workers)) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers": -1}, "workers = -1"),
        ({"workers": 1.5}, "workers = 1.5"),
        ({"timeout_s": 0}, "timeout_s = 0: a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s = nan"),
    ],
)
def test_rejected(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ahead(made, [1], **options)


def test_a_worker_is_only_so_far_ahead() -> None:
    count = get_context("fork").Value("i", 0)

    def call(item: int) -> int:
        with count.get_lock():
            count.value += 1
        return item

    results = ahead(call, range(100), workers=2)
    for taken in range(1, 20):
        next(results)
        assert count.value <= taken + AHEAD * 2
    results.close()
    results = ahead(call, range(100, 200))
    before = count.value
    next(results)
    assert count.value == before + 1
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_keep_their_type_and_come_when_they_are_due(workers: int) -> None:
    def call(item: int) -> int:
        if item == 3:
            raise BrokenImageError("a-3", "a-3.jpg", "truncated", "mend it")
        return item

    seen = []
    with pytest.raises(BrokenImageError, match=r"a-3.jpg: truncated; mend it") as caught:
        for one in ahead(call, range(9), workers=workers):
            seen.append(one)
    assert seen == [0, 1, 2] and caught.value.image_id == "a-3"
    assert active_children() == []


def test_what_cannot_be_sent_or_fails_only_in_a_worker_is_computed_here() -> None:
    def call(item: int) -> object:
        if item == 1:
            return lambda: item  # cannot be pickled
        if item == 2 and os.getpid() != HERE:
            raise OSError("too many open files")
        return item

    zero, one, two, three = ahead(call, range(4), workers=2)
    assert (zero, one(), two, three) == (0, 1, 2, 3)


def test_an_end_before_the_end_leaves_no_process() -> None:
    results = ahead(made, range(100), workers=2)
    next(results)
    assert len(active_children()) == 2
    results.close()
    assert active_children() == []


def test_one_that_ends_does_not_wait_for_workers_of_another(monkeypatch) -> None:
    monkeypatch.setattr("almining.loader.PATIENCE_S", 600.0)  # would hang
    first, second = ahead(made, range(100), workers=2), ahead(made, range(100), workers=2)
    next(first), next(second)  # the workers of the second hold copies of the first one's pipes
    first.close()
    assert len(active_children()) == 2
    second.close()
    assert active_children() == []


def test_workers_that_cannot_be_started_are_done_without(monkeypatch) -> None:
    def fork(self: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("multiprocessing.context.ForkProcess.start", fork)
    with pytest.warns(UserWarning, match="cannot be started.*Cannot allocate memory") as seen:
        assert list(ahead(str, range(3), workers=2)) == ["0", "1", "2"]
    assert len(seen) == 2


def test_a_killed_worker_is_replaced_and_nothing_is_lost() -> None:
    results = ahead(lambda item: (item, os.getpid()), range(30), workers=2)
    found = [next(results) for _ in range(4)]
    os.kill(found[1][1], signal.SIGKILL)
    with pytest.warns(UserWarning, match="loader worker") as seen:
        found += results
    assert [item for item, _ in found] == list(range(30))
    assert len({pid for _, pid in found} - {HERE}) == 4  # two, and two new ones
    (warning,) = seen
    text = str(warning.message)
    assert text.startswith(f"loader worker {found[1][1]} died with exit code -9 while item ")
    assert text.endswith("2 new workers load from there on, nothing is lost")
    assert active_children() == []


def test_after_the_second_loss_the_rest_is_done_here() -> None:
    def call(item: int) -> tuple[int, int]:
        if item in (5, 11) and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return item, os.getpid()

    with pytest.warns(UserWarning, match="died with exit code -9") as seen:
        found = list(ahead(call, range(16), workers=2))
    assert [item for item, _ in found] == list(range(16))
    first, second = (str(one.message) for one in seen)
    assert "item 5 was due; 2 new workers load" in first
    assert "item 5 was due; this process loads from there on" in second
    assert {pid for item, pid in found if item >= 5} == {HERE}


def test_a_hanging_worker_is_replaced(tmp_path: Path) -> None:
    def call(item: int) -> int:
        if item == 5 and not (tmp_path / "hung").exists():
            (tmp_path / "hung").touch()
            time.sleep(600)
        return item

    with pytest.warns(UserWarning, match=r"gave no result for 2 s while item 5 was due; 2 new"):
        assert list(ahead(call, range(12), workers=2, timeout_s=2)) == list(range(12))
    assert active_children() == []


def test_the_work_between_two_results_is_not_counted_as_hanging() -> None:
    results = ahead(made, range(6), workers=2, timeout_s=1.5)
    next(results)
    time.sleep(1.6)
    assert len(list(results)) == 5


def test_ctrl_c_is_for_the_main_process() -> None:
    # a test run in the background starts with it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    results = ahead(lambda item: (item, os.getpid()), range(12), workers=2)
    found = [next(results) for _ in range(2)]
    signal.signal(signal.SIGINT, before)
    for _, pid in found:
        os.kill(pid, signal.SIGINT)
    found += results
    assert [item for item, _ in found] == list(range(12)) and len({pid for _, pid in found}) == 2


def test_the_global_generators_stay_untouched() -> None:
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(ahead(made, range(5), workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


def test_workers_end_when_their_process_is_killed() -> None:
    code = """
import os, signal
from almining.loader import ahead
results = ahead(lambda item: os.getpid(), range(1000), workers=3)
print(*(next(results) for _ in range(3)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert done.returncode == -9 and len(set(pids)) == 3
    assert until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def until(claim: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    end = time.monotonic() + 60
    while not claim() and time.monotonic() < end:
        time.sleep(0.05)
    return claim()
