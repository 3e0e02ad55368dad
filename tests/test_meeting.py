import threading

import pytest
import torch.distributed as dist

from almining.meeting import start_name


def names(store: dist.Store, world: int) -> list[str]:
    """What each rank calls this start, all of them at once."""
    found: list[str] = [""] * world

    def run(rank: int) -> None:
        found[rank] = start_name(store, rank, world, 20)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_all_agree_on_a_name_that_no_earlier_start_had() -> None:
    store = dist.HashStore()  # keeps what the lost ranks wrote, as torchrun's does
    seen = []
    for _ in range(4):
        one, *others = names(store, 3)
        assert one and others == [one, one] and one not in seen
        seen.append(one)


def test_ranks_that_died_while_they_met_do_not_count() -> None:
    store = dist.HashStore()
    for key, value in {
        "hello/1": "dead",
        "welcome/1": "dead gone",
        "heard/1": "gone",
        "hello/2": "dead",
        "welcome/2": " ",
    }.items():
        store.set(key, value)
    one, *others = names(store, 3)
    assert len(one) == 32 and others == [one, one]


@pytest.mark.parametrize(("rank", "missing"), [(0, r"ranks \[1, 2\]"), (2, "rank 0")])
def test_a_rank_that_waits_in_vain_says_for_whom(rank: int, missing: str) -> None:
    with pytest.raises(TimeoutError, match=rf"rank {rank} of 3 waited 0.1 s for {missing}; see"):
        start_name(dist.HashStore(), rank, 3, 0.1)
