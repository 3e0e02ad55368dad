from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch import Tensor

from almining.papers import bib
from almining.papers.bib.looking import Rows, choose, described
from almining.rng import generator
from tests.fakes import faulty_pool, flat_pool, target
from tests.papers.bib.told import PAIR, Told, pool_of


def random(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=generator(seed))


def test_rows_come_back_as_float16_in_order_and_outlive_the_file() -> None:
    some = [random(n, 7, n) for n in (1, 3, 2)]
    with Rows() as rows:
        assert [rows.add("im", one) for one in some] == [0, 1, 4]
        kept = rows.all()
    assert kept.dtype == torch.float16 and torch.equal(kept, torch.cat(some).half())


def test_rows_are_not_held_in_memory() -> None:
    tracemalloc.start()
    try:
        with Rows() as rows:
            for number in range(64):
                rows.add(f"im-{number}", torch.ones(64, 1024))  # 128 KiB each, 8 MiB in all
            assert len(rows.all()) == 4096
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**20


@pytest.mark.parametrize("make", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_any_type_choose_alike(make: torch.dtype) -> None:
    features = random(12, 6).half()
    named = [(f"im-{i}", features[2 * i : 2 * i + 2]) for i in range(6)]
    if make == torch.bfloat16:  # has fewer digits
        named = [(name, one.bfloat16().half()) for name, one in named]
    config, pairs = bib.Config(), {name: torch.tensor([[0, 1]]) for name, _ in named}

    def picks(rows) -> list[str]:
        return choose(rows, 4, config, generator(1), seen=["im-2"], pairs=pairs)

    assert picks((name, one.to(make)) for name, one in named) == picks(iter(named))
    assert "im-2" not in picks(iter(named))


def test_a_broken_image_is_left_out_of_what_is_found_and_described() -> None:
    detector, whole = Told(lambda number, stage: PAIR), flat_pool(120)
    pool, images = faulty_pool(whole, 7)
    every = bib.Config(tagged_only=False)
    with pytest.warns(UserWarning, match="flat-7"):
        found = bib.find(detector, pool, config=every)
    assert list(found) == [image_id for image_id in pool.ids if image_id != "flat-7"]
    images.bad = {"flat-9"}
    boxes = {image_id: one.detections.boxes for image_id, one in found.items()}
    with pytest.warns(UserWarning, match="flat-9"):
        left = [image_id for image_id, _ in described(detector, pool, boxes)]
    assert left == [image_id for image_id in boxes if image_id != "flat-9"]


def test_what_is_found_stays_on_no_device_and_holds_only_boxes_in_pairs() -> None:
    alone = ((14.0, 14, 15, 15), 1, 0.9)
    detector = Told({1: [alone, *PAIR, alone]})
    found = bib.find(detector, pool_of(3))
    assert list(found) == ["im-1"]
    one = found["im-1"]
    assert len(one.detections) == 2 and one.pairs.tolist() == [[1, 0]]
    assert one.detections.probs is None and one.detections.features is None


def test_no_image_is_described_where_there_is_nothing_to_choose() -> None:
    class Busy(Told):
        def regions(self, images, boxes):
            raise RuntimeError("described")

    asked = bib.recipe().query(
        Told(dict.fromkeys(range(4), PAIR)), pool_of(4), 2, generator=generator(0)
    )
    known = pool_of(4).updated({one.image_id: target((1, 1, 5, 5)) for one in asked}, cycle=1)
    with pytest.warns(UserWarning, match="only 0 images"):
        bib.recipe().query(Busy({}), known, 1, generator=generator(0), asked=asked)
