"""Faults that hit the work: memory, numbers, images, workers, and runs that go on elsewhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from almining.checkpoints import read
from almining.data.pool import DataError, Pool
from almining.data.readers import read_folder
from almining.digests import digest_tensors
from almining.label import Simulated
from almining.ledger import open_ledger
from almining.papers import baselines
from almining.records import Target
from almining.rng import generator
from almining.train import Batch, TrainConfig, fit, plain_step
from tests import resumable
from tests.fakes import FlatImages, target
from tests.faults import NotRun, ended, fault, kill_this, killed, quoted, refusal, told
from tests.keepers import MoodyDetector
from tests.ledger import children
from tests.test_cycle import HIDDEN, START, go, recipe, weights
from tests.test_run_dir import same

Step = Callable[..., dict[str, Tensor]]


def short(most: int, cut_at: int | None = None) -> Step:
    """Return a step that has memory for so many images, and may kill its process."""

    def step(detector: Any, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        if len(batch.images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if batch.step == cut_at:
            kill_this()
        return plain_step(detector, batch, generator=generator)

    return step


@fault(
    7,
    "out of memory",
    "A step raises `torch.OutOfMemoryError` for more than 1 of its 4 images, in a run, in one that "
    "is killed, and in one that goes on with memory for all.",
)
def out_of_memory(folder: Path) -> str:
    with told() as said:
        found = weights(go(recipe(step=short(1)), cycles=1).detector)
    assert len(said) == 1 and "out of memory in step 0" in said[0], said
    assert "each batch of 4 goes through in 4 parts" in said[0], said
    apart = float((found - weights(go(cycles=1).detector)).abs().max())
    assert apart < 1e-5, apart  # the same gradient, but for the order of the sums

    ask = {"cycles": 1, "detector": MoodyDetector(), "test": None, "every_s": 0}
    with told():
        whole = go(recipe(step=short(2)), **ask)
    for most in (2, 4):
        run_dir = folder / str(most)
        killed(lambda say, to=run_dir: cut_short(ask | {"run_dir": to}))
        assert same(go(recipe(step=short(most)), **ask, run_dir=run_dir), whole), most
    return (
        f"{quoted(said[0], folder)} The weights are those of a run with memory for all, to within "
        "1e-5. A killed run goes on in as many parts, to the same weights bit for bit."
    )


def cut_short(ask: Mapping[str, Any]) -> None:
    with told():
        go(recipe(step=short(2, cut_at=3)), **ask)


def planted(times: int, loss: Callable[[Any], Tensor]) -> Step:
    """Return a step that adds a loss to step 3, so many times."""
    left = [times]

    def step(detector: Any, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        losses = plain_step(detector, batch, generator=generator)
        if batch.step == 3 and left[0]:
            left[0] -= 1
            losses["planted"] = loss(detector)
        return losses

    return step


@fault(
    8,
    "NaN loss",
    "A NaN is planted in the loss of step 3, once and for ever; then a loss of 0 whose gradient is "
    "NaN.",
)
def nan_loss(folder: Path) -> str:
    ways: Mapping[str, Callable[[Any], Tensor]] = {
        "loss": lambda detector: detector.linear.weight.sum() * torch.nan,
        "gradient": lambda detector: (detector.linear.weight * 0).sqrt().sum(),
    }
    for name, loss in ways.items():
        with told() as said:
            once = go(recipe(step=planted(1, loss)), run_dir=folder / name, every_s=0)
        (text,) = said
        assert same(once, go()) and "not finite in step 3" in text, text
        assert "gone back, once, to the weights kept last" in text, text
        says = stops_for_ever(folder / f"{name} for ever", loss)
        assert "not finite in step 3" in says and says.count("flat-") == 4, says
    return (
        f"For ever: {quoted(says, folder)} What is saved is finite, and the run goes on from there "
        "once the cause is gone. Once: a warning, `gone back, once, to the weights kept last`, and "
        "the end of a run without it."
    )


def stops_for_ever(run_dir: Path, loss: Callable[[Any], Tensor]) -> str:
    """Return what a run says that meets such a loss again and again; it goes on without it."""
    ask = {"run_dir": run_dir, "every_s": 0}
    with told() as said:
        says = refusal(FloatingPointError, lambda: go(recipe(step=planted(99, loss)), **ask))
    assert len(said) == 1, said  # gone back once
    with open_ledger(run_dir) as ledger:
        kept = list(ledger.weights(1))
    assert [one.step for one in kept] == [3, 2]
    for one in kept:
        assert all(tensor.isfinite().all() for tensor in read(one.path).tensors.values())
    assert same(go(recipe(step=planted(0, loss)), **ask), go())
    return says


def photographs(folder: Path, *broken: int) -> Pool:
    """Return 200 images of files, some of which are truncated, every one labelled."""
    folder.mkdir()
    for number in range(200):
        path = folder / f"{number:03d}.png"
        Image.new("RGB", (24, 16), (number, 0, 255 - number)).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:50])
    files = read_folder(folder)
    return files.relabelled(
        ("dark", "light"), {i: target((2, 2, 10, 12), label=1 + i.endswith("1")) for i in files.ids}
    )


@fault(
    9,
    "broken images",
    "1 of 200 image files is truncated, then 3 of them; the detector looks at all in every cycle.",
)
def broken_images(folder: Path) -> str:
    def run(pool: Pool, **more: Any) -> Any:
        start = pool.updated({i: Target.unknown() for i in pool.ids[6:]}, cycle=0)
        chosen = recipe(query=baselines.entropy_max().query)
        return go(chosen, start, oracle=Simulated(pool), test=None, **more)

    one = photographs(folder / "one", 100)
    with told() as said:
        history = run(one, run_dir=folder / "run")
    (text,) = said
    assert text.startswith("1 broken image was set aside") and "100.png" in text, text
    assert [finding.image_id for finding in history.set_aside] == ["100"]
    sound = run(one.subset(i for i in one.ids if i != "100"))
    assert history.rows == sound.rows
    assert torch.equal(weights(history.detector), weights(sound.detector))
    three = photographs(folder / "three", 50, 100, 150)
    says = refusal(DataError, lambda: run(three, run_dir=folder / "other"))
    assert all(f"{name}.png" in says for name in ("050", "100", "150")), says
    return (
        f"1: {quoted(text, folder)}; picks and weights are those of a run without that image. 3, "
        "more than 1%: the run stops with an error that names all three."
    )


class Moody(FlatImages):
    """Images that kill their worker at one image, or hang there, once or always."""

    def __init__(self, folder: Path, what: Callable[[], None], *, once: bool = True) -> None:
        self.marker, self.what, self.once, self.main = folder, what, once, os.getpid()

    def load(self, image_id: str) -> Tensor:
        due = not (self.once and self.marker.exists())
        if image_id == START.ids[0] and os.getpid() != self.main and due:
            self.marker.touch()
            self.what()
        return super().load(image_id)


@fault(
    10,
    "loader worker killed, or hanging",
    "One of two workers is killed at an image, once and at every attempt; one sleeps at it.",
)
def lost_worker(folder: Path) -> str:
    def pool(name: str, **more: Any) -> Pool:
        images = Moody(folder / name, **more)
        return Pool(START.classes, {i: START.target(i) for i in START.ids}, images)

    with told() as once:
        history = go(pool=pool("once", what=kill_this), workers=2)
    assert same(history, go()) and len(once) == 1, once
    assert "died with exit code -9" in once[0] and "2 new workers load" in once[0], once
    with told() as always:
        history = go(pool=pool("always", what=kill_this, once=False), workers=2, cycles=1)
    assert same(history, go(cycles=1)) and len(always) == 2, always
    assert "this process loads from there on" in always[1], always

    config, found = TrainConfig(steps=5, batch=4, lr=0.1), []
    with told() as hung:
        for workers in (0, 2):
            detector = MoodyDetector()
            data = pool(f"hung-{workers}", what=lambda: time.sleep(600))
            ask = {"workers": workers, "timeout_s": 1.0, "progress": False}
            fit(detector, data, config, seed=0, **ask)
            found.append(weights(detector))
    assert torch.equal(*found) and len(hung) == 1 and "gave no result for 1 s" in hung[0], hung
    return (
        f"Once: {quoted(once[0], folder)} Again: `... this process loads from there on`. Hanging: "
        f"`{hung[0].split(' while ')[0].split(' ', 3)[-1]}`. Always the same end, bit for bit."
    )


CALL = """
import json, sys
from tests import resumable
print(json.dumps([resumable.main(spec) for spec in json.loads(sys.argv[1])]))
"""


@fault(
    11,
    "resume that is not identical",
    "A run of the small Faster R-CNN is killed in a step, and with 2 workers in a checkpoint write;"
    " both go on in a new process.",
)
def another_process(folder: Path) -> str:
    def spec(name: str, **more: Any) -> dict[str, Any]:
        return {"run_dir": str(folder / name), "detector": "faster_rcnn", **more}

    _, (whole,) = ended(lambda say: say(resumable.main(spec("whole"))))
    cuts = [
        (spec("in a step"), ["step", 5]),
        (spec("in a checkpoint", workers=2), ["save", 6]),
    ]
    for run, cut in cuts:
        killed(lambda say, run=run, cut=cut: resumable.main(run | {"cut": cut}))
    printed = children.run(CALL, json.dumps([run for run, _ in cuts]))
    assert json.loads(printed.splitlines()[-1]) == [whole] * 2
    return (
        "2 of 2 end with the same hashes of weights, picks, metrics and labels. All places, "
        "detectors and numbers of workers: `resume.md`."
    )


@fault(
    12,
    "results of a GPU that are not reproducible",
    "On a GPU, a run is cut in step 3 of its second training and goes on.",
    needs="gpu",
)
def on_a_gpu(folder: Path) -> str:
    if not torch.cuda.is_available():
        raise NotRun("Not run here: no GPU.")

    class CutError(Exception):
        pass

    def run(run_dir: Path, cut: bool = False) -> Any:
        passed = []

        def step(detector: Any, batch: Batch, *, generator: torch.Generator) -> Any:
            passed.append(batch.step)
            if cut and passed.count(3) == 2:
                raise CutError
            return plain_step(detector, batch, generator=generator)

        hidden, test = resumable.worlds("faster_rcnn")
        start = hidden.updated({i: Target.unknown() for i in hidden.ids[4:]}, cycle=0)
        detector = resumable.detector_of("faster_rcnn", hidden.classes).to("cuda")
        chosen = recipe(step=step, query=baselines.entropy_max().query)
        ask = {"test": test, "run_dir": run_dir, "every_s": 0, "detector": detector}
        return go(chosen, start, oracle=Simulated(hidden), **ask)

    whole = run(folder / "whole")
    refusal(CutError, lambda: run(folder / "cut", cut=True))
    found = run(folder / "cut")
    assert [row.picked for row in found.rows] == [row.picked for row in whole.rows]
    apart = float((weights(found.detector) - weights(whole.detector)).abs().max())
    return f"The same images are picked; the weights differ by {apart:.1e} at most."


class Drawn(FlatImages):
    """Images of noise, each a function of its id."""

    def load(self, image_id: str) -> Tensor:
        return torch.rand(3, 16, 24, generator=generator(7, image_id))


@fault(
    13,
    "the same random numbers in every worker",
    "A detector with dropout is trained on mirrored images that are drawn in 0, 2 and 3 workers.",
)
def random_workers(folder: Path) -> str:
    config = TrainConfig(steps=6, batch=5, lr=0.1, flip=True)
    pool = Pool(HIDDEN.classes, {i: HIDDEN.target(i) for i in HIDDEN.ids}, Drawn())
    seen: list[tuple[str, Tensor]] = []
    masks: list[tuple[str, Tensor]] = []

    def step(detector: Any, batch: Batch, *, generator: torch.Generator) -> Any:
        drawn = torch.nn.functional.dropout(torch.ones(len(batch.ids), 64))
        seen.extend(zip(batch.ids, batch.images, strict=True))
        masks.extend(zip(batch.ids, drawn, strict=True))
        return plain_step(detector, batch, generator=generator)

    found = set()
    for workers in (0, 2, 3):
        seen.clear(), masks.clear()
        detector = MoodyDetector()
        fit(detector, pool, config, step=step, seed=3, workers=workers, progress=False)
        found.add(digest_tensors([*seen, *masks, *detector.state_dict().items()]))
    assert len(found) == 1, "it depends on the number of workers"
    mirrored = [torch.equal(image, pool.image(image_id).flip(2)) for image_id, image in seen]
    mixed = [0 < sum(mirrored[at : at + 5]) < 5 for at in range(0, 30, 5)]
    assert sum(mixed) >= 3, mirrored  # images of one batch are not all mirrored alike
    both = {(image_id, how) for (image_id, _), how in zip(seen, mirrored, strict=True)}
    assert len(both) > 20, mirrored  # nor is an image in every epoch
    contents = {digest_tensors([("", pool.image(image_id))]) for image_id in HIDDEN.ids}
    assert len(contents) == 20 and len({digest_tensors([("", one)]) for _, one in masks}) == 30
    return (
        f"Images, masks and weights are the same for 0, 2 and 3 workers. The 20 images "
        f"differ from one another, and so do the 30 masks; {sum(mirrored)} of 30 are mirrored."
    )
