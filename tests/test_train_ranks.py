"""What one rank meets in training, all ranks act on: two real ranks under torchrun."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from almining import ranks
from almining.interrupts import held
from almining.train import Batch, TrainConfig, fit, plain_step
from tests.fakes import FlatDetector, faulty_pool, flat_pool
from tests.keepers import MemoryKeeper, MoodyDetector

CONFIG = TrainConfig(steps=4, batch=6, lr=0.1)
REPO = Path(__file__).resolve().parents[1]


def on_rank_1(batch: Batch, fault: str) -> None:
    """Plant a fault in step 2 of the second rank."""
    if ranks.current().rank != 1 or batch.step != 2:
        return
    if fault == "memory" and len(batch.ids) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    if fault == "error":
        raise KeyError("label")
    if fault == "ctrl-c":
        os.kill(os.getpid(), signal.SIGINT)


def trained(fault: str, **options) -> dict[str, object]:
    """What came of a training with a fault on rank 1."""

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        on_rank_1(batch, fault)
        losses = plain_step(detector, batch, generator=generator)
        if fault == "nan" and ranks.current().rank == 1 and batch.step == 2:
            losses["nan"] = detector.linear.weight.sum() * torch.nan
        return losses

    detector = MoodyDetector() if fault == "nan" else FlatDetector()
    pool = flat_pool(7)
    if fault == "broken":
        pool, images = faulty_pool(pool)
        images.bad = {"flat-3"} if ranks.current().rank == 1 else set()
    keeper, said, raised = MemoryKeeper(), [], None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with held():
                settings = {"seed": 0, "step": step, "keeper": keeper, "progress": False}
                said = fit(detector, pool, CONFIG, **settings, **options)
        except BaseException as error:
            raised = [type(error).__name__, str(error)]
    return {
        "raised": raised,
        "warned": [str(one.message) for one in seen],
        "losses": said,
        "weights": {name: value.tolist() for name, value in detector.state_dict().items()},
        "kept": [(state.step, state.parts) for state in keeper.states],
        "children": len(torch.multiprocessing.active_children()),
    }


FAULTS = ("none", "memory", "error", "nan", "broken", "ctrl-c")


def main(folder: Path) -> None:
    """Be one of the ranks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ranks.joined(folder, timeout_s=60) as here:
        found = {fault: trained(fault, workers=int(fault == "broken")) for fault in FAULTS}
    (folder / f"{here.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, __file__, str(folder)],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_both_end_with_the_weights_of_one_process_in_two_parts(both) -> None:
    alone = trained("none", parts=2)
    for rank, one in enumerate(both):
        assert (one["none"]["raised"], one["none"]["warned"]) == (None, [])
        assert one["none"]["weights"] == alone["weights"]
        assert one["none"]["losses"] == alone["losses"]
        assert one["none"]["kept"] == ([[n, 1] for n in (1, 2, 3, 4)] if rank == 0 else [])


def test_out_of_memory_on_one(both) -> None:
    for one in both:
        (warned,) = one["memory"]["warned"]
        assert "out of memory in step 2: from there on, each batch of 6 goes through in 6" in warned
        assert one["memory"]["weights"] == both[0]["memory"]["weights"]
        for a, b in zip(one["memory"]["losses"], one["none"]["losses"], strict=True):
            assert a == pytest.approx(b, rel=1e-5)
    assert both[0]["memory"]["kept"] == [[1, 1], [2, 1], [3, 3], [4, 3]]


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("error", "KeyError", "label"),
        ("nan", "FloatingPointError", "loss is not finite in step 2"),
        ("broken", "BrokenImageError", "flat-3.jpg: image file is truncated"),
        ("ctrl-c", "Interrupted", "stopped by Ctrl-C after 3 of 4 steps"),
    ],
)
def test_what_stops_one_stops_both(fault: str, kind: str, says: str, both) -> None:
    for one in both:
        assert one[fault]["raised"][0] == kind and says in one[fault]["raised"][1]
        assert one[fault]["weights"] == both[0][fault]["weights"]  # running statistics, too
        assert one[fault]["children"] == 0
    assert both[1][fault]["kept"] == []
    assert len(both[0][fault]["kept"]) == {"ctrl-c": 3, "broken": 1}.get(fault, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
