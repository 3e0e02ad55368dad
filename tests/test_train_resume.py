"""A training that is killed goes on to the same weights, optimizer and losses, bit for bit."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from almining.checkpoints import State
from almining.detectors.base import Detector
from almining.rng import forked
from almining.train import TrainConfig, fit
from tests.fakes import flat_pool
from tests.keepers import FileKeeper, Killed, MemoryKeeper, MoodyDetector, same

STEPS = 5
CLASSES = ("dark", "light")


def made(name: str) -> Detector | MoodyDetector:
    """A detector as it is at the start; torchvision takes seconds to import."""
    if name == "faster_rcnn":
        from almining.detectors.rcnn import faster_rcnn

        return faster_rcnn(CLASSES, min_size=32, max_size=48)
    if name == "retinanet":
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.retinanet import RetinaNet

        from almining.detectors.backbones import make_backbone
        from almining.detectors.wrapped import wrap

        with forked(0, torch.device("cpu")):
            anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 4)
            model = RetinaNet(
                make_backbone("tiny"),
                *(3, 32, 48),
                anchor_generator=anchors,
            )
        return wrap(model, CLASSES)
    return MoodyDetector()


def train(name: str, keeper, *, optimizer: str = "adamw", **options) -> list[dict[str, float]]:
    config = TrainConfig(steps=STEPS, batch=4, lr=0.01, optimizer=optimizer)
    return fit(made(name), flat_pool(7), config, seed=3, keeper=keeper, progress=False, **options)


def uninterrupted(name: str, **options) -> State:
    keeper = MemoryKeeper()
    keeper.every_s = 1e9
    train(name, keeper, **options)
    (state,) = keeper.states
    return state


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
@pytest.mark.parametrize("parts", [1, 2])
def test_killed_at_any_step(optimizer: str, parts: int) -> None:
    whole = uninterrupted("moody", optimizer=optimizer, parts=parts)
    assert whole.step == STEPS and len(whole.losses) == STEPS
    for cut in range(1, STEPS + 1):
        for late in (False, True):
            keeper = MemoryKeeper(killed_at=cut, late=late)
            with pytest.raises(Killed):
                train("moody", keeper, optimizer=optimizer, parts=parts)
            assert len(keeper.states) == cut - late
            keeper.killed_at = None
            # what is kept says in how many parts, and workers are nobody's concern
            losses = train("moody", keeper, optimizer=optimizer, workers=2 * (cut == 2))
            last = keeper.states[-1]
            if cut > 1 or not late:
                assert same(last, whole), (cut, late)
                assert losses == whole.losses


def test_killed_after_every_step() -> None:
    keeper = MemoryKeeper()
    for cut in range(1, STEPS):
        keeper.killed_at = cut
        with pytest.raises(Killed):
            train("moody", keeper)
    train("moody", keeper)
    assert same(keeper.states[-1], uninterrupted("moody"))


def test_a_change_in_the_weights_would_be_seen() -> None:
    whole = uninterrupted("moody")
    assert not same(whole, uninterrupted("moody", optimizer="sgd"))
    assert not same(whole, uninterrupted("moody", parts=2))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Deadly(FileKeeper):
    """Kills its own process once a step is kept."""

    def __init__(self, path: Path, cut: int) -> None:
        super().__init__(path)
        self.cut = cut

    def save(self, state: State, *, done: bool) -> None:
        super().save(state, done=done)
        if state.step == self.cut:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(name: str, path: Path, cut: int, workers: int) -> int:
    """Train in a new process that is killed after step `cut`; return its exit status."""
    call = f"Deadly(Path({str(path)!r}), {cut}), workers={workers}"
    code = "from tests.test_train_resume import Deadly, Path, train; "
    command = [sys.executable, "-c", f"{code}train({name!r}, {call})"]
    return subprocess.run(command, check=False).returncode


FAST = [("faster_rcnn", 2, 2, 0)]
SLOW = [
    (name, cut, *workers)
    for name in ("moody", "faster_rcnn", "retinanet")
    for cut in range(1, STEPS)
    for workers in ((0, 0), (0, 2), (2, 0), (2, 2))
]


@pytest.mark.parametrize(
    ("name", "cut", "before", "after"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_kill_9_and_on_in_a_new_process(
    name: str, cut: int, before: int, after: int, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    assert in_a_process(name, path, cut, before) == -signal.SIGKILL
    assert FileKeeper(path).load().step == cut
    if (name, cut, before, after) in FAST:  # this process is a new one, too
        train(name, FileKeeper(path), workers=after)
    else:
        assert in_a_process(name, path, -1, after) == 0
    whole = FileKeeper(tmp_path / "whole.safetensors")
    whole.save(uninterrupted(name), done=True)
    assert digest(path) == digest(whole.path)


def test_ctrl_c_of_a_terminal_reaches_workers_too_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    code = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from almining.interrupts import Interrupted, held
from almining.train import plain_step
from tests.test_train_resume import FileKeeper, Path, train
def step(detector, batch, *, generator):
    print(batch.step, flush=True)
    time.sleep(0.3)
    return plain_step(detector, batch, generator=generator)
try:
    with held():
        train("moody", FileKeeper(Path({str(path)!r})), step=step, workers=2)
except Interrupted as error:
    print(error)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    ) as child:
        for line in child.stdout:
            if line.strip() == "1":
                os.killpg(child.pid, signal.SIGINT)
                break
        said, complaints = child.communicate()
    assert (said, complaints) == (f"stopped by Ctrl-C after 2 of {STEPS} steps\n", "")
    assert FileKeeper(path).load().step == 2
    keeper = FileKeeper(path)
    train("moody", keeper)
    assert same(keeper.load(), uninterrupted("moody"))
