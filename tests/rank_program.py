"""What the ranks of tests/test_ranks.py run: `python rank_program.py <folder> <what> ...`.

Each writes what it found to `<folder>/<rank>.json`; the tests compare that with what they
find themselves, in one process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from almining import interrupts, ranks
from almining.cycle import History, run
from almining.data import regimes
from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Pool
from almining.data.quarantine import Quarantine
from almining.data.scenes import make_scenes
from almining.data.street import make_street
from almining.demo import load_demo
from almining.digests import digest_tensors
from almining.label import Simulated
from almining.papers import baselines, bib, divergence
from almining.plain import to_plain
from almining.predict import detect, embeddings, stream
from almining.rng import generator
from almining.train import Batch, TrainConfig, fit, plain_step
from tests.fakes import FlatDetector, faulty_pool, flat_pool
from tests.keepers import MemoryKeeper, MoodyDetector
from tests.papers.bib.told import small_mist

QUIET = {"progress": False}


def scored(workers: int = 0) -> dict[str, object]:
    """Everything a real detector says of a few scenes, bit for bit, and what is asked for."""
    pool = regimes.unlabelled(make_scenes(10, seed=7), keep=2, seed=0)
    detector = load_demo("faster_rcnn")
    found = {"detect": to_plain(list(detect(detector, pool, batch=3, workers=workers, **QUIET)))}
    found["embed"] = to_plain(list(embeddings(detector, pool, ids=pool.ids[:5], batch=2, **QUIET)))
    for make in (baselines.u_random, baselines.entropy_max, baselines.core_set):
        asked = make().query(detector, pool, 4, generator=generator(3))
        found[make.__name__] = [request.id for request in asked]
    films, pixels = (
        regimes.unlabelled(make_street(2, 6, seed=3), keep=0, seed=0),
        load_demo("dense"),
    )
    for recipe in (divergence.recipe(), divergence.rivals.mc_dropout(passes=3)):
        found[recipe.name] = to_plain(recipe.query(pixels, films, 4, generator=generator(3)))
    return json.loads(json.dumps(found))


def paired() -> dict[str, list[str]]:
    """What BiB and its rivals ask for: of two batches, and again when some of it is labelled."""
    hidden = make_scenes(20, seed=3, size=64)
    start, detector = regimes.tags_only(hidden), small_mist(hidden.classes)
    config, found = replace(bib.Config.toy(), min_score=0.0, tagged_only=False), {}
    for make in (bib.rivals.loss, bib.rivals.kmeans_regions, bib.recipe):
        asked = make(config).query(detector, start, 4, generator=generator(3))
        found[make.__name__] = [request.image_id for request in asked]
    known = start.updated({i: hidden.target(i) for i in found["recipe"]}, cycle=1)
    again = bib.recipe(config).query(detector, known, 4, generator=generator(4), asked=asked)
    return found | {"again": [request.image_id for request in again]}


def broken() -> dict[str, object]:
    """What is set aside of 600 images, by scoring and by looking; the limit, too."""
    pool, _ = faulty_pool(flat_pool(600), 3, 17, 36, 599)
    aside = Quarantine()
    ids = [image_id for image_id, _ in detect(FlatDetector(), pool, set_aside=aside, **QUIET)]
    looked = Quarantine(of=len(pool))
    looked.look(pool, pool.ids)
    with Quarantine() as around:
        around.ask(pool.ids)
        survived = around.survive(lambda sound: loads_its_share(sound), pool)
    found = {"scored": ids, "survived": survived, "findings": []}
    for one in (aside, looked, around):
        found["findings"].append([(finding.image_id, finding.value) for finding in one.findings])
    few, _ = faulty_pool(flat_pool(64), 5, 50)
    for name in ("limit", "limit in a slot"):
        try:
            if name == "limit":
                list(detect(FlatDetector(), few, **QUIET))
            else:
                Quarantine().survive(lambda sound: list(detect(FlatDetector(), sound)), few)
        except DataError as error:
            found[name] = [finding.image_id for finding in error.findings]
    found["slip"] = scored_with_a_slip()
    return json.loads(json.dumps(found))


def scored_with_a_slip() -> dict[str, object]:
    """A slot in which one rank finds an image broken while all go through the scores."""
    pool, aside, calls = flat_pool(300), Quarantine(of=300), []

    def slot(sound: Pool) -> list[str]:
        calls.append(len(sound))
        found = []
        for image_id, _ in stream(lambda batch: [0] * len(batch), sound, batch=2, **QUIET):
            if image_id == "flat-40" and ranks.current().rank == ranks.current().world - 1:
                raise BrokenImageError(image_id, "40.jpg", "gone")
            found.append(image_id)
        return found

    found = aside.survive(slot, pool)
    return {"found": found, "calls": calls, "aside": aside.ids, "looked": len(aside._sound)}


def loads_its_share(pool: Pool) -> int:
    """Load this rank's images only, as a slot of somebody's own may."""
    here = ranks.current()
    for image_id in pool.ids[here.rank :: here.world]:
        pool.image(image_id)
    return len(pool)


def caught(call) -> list[object]:
    """Return type, text and notes of what a call raises."""
    try:
        call()
    except BaseException as error:
        return [type(error).__name__, str(error), getattr(error, "__notes__", [])]
    return []


class Local(Exception):
    """An error with more to it than its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Picky(Exception):
    """An error that cannot be made from its own text."""

    def __init__(self, number: int) -> None:
        super().__init__({5: "no row"}[number])


def told() -> dict[str, object]:
    """What the ranks tell one another."""
    rank = ranks.current().rank
    parameters = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(4)]
    parameters[0].grad = torch.full((2, 2), 1.0 + rank)
    if rank:
        parameters[1].grad = torch.full((2, 2), 5.0)
    parameters[3].data = parameters[3].data.double()
    parameters[3].grad = torch.full((2, 2), 0.1, dtype=torch.float64) * (rank + 1)
    ranks.sum_gradients(parameters)
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean.fill_(7 + rank)
    norm.num_batches_tracked.fill_(3 + rank)
    norm.register_buffer("edge", torch.tensor([torch.inf, 0.1]))
    norm.register_buffer("mask", torch.tensor([rank == 0]))
    ranks.same_buffers(norm)
    errors = [
        FloatingPointError("loss is nan"),
        BrokenImageError("a", "a.jpg", "truncated"),
        interrupts.Interrupted("stopped"),
        Local(1, 2),
        Picky(5),
    ]
    errors[0].add_note("a note")
    return {
        "share": ranks.share({"rank": rank, "text": "ü" * rank}),
        "gather": ranks.gather([rank] * (1 + 1000 * rank)),
        "worst": ranks.worst(-rank),
        "gradients": [None if one.grad is None else one.grad.tolist() for one in parameters],
        "buffers": [buffer.tolist() for buffer in norm.buffers()],
        "errors": [caught(lambda e=e: ranks.agree(e if rank else None)) for e in errors],
        "both": caught(lambda: ranks.agree(ValueError(f"of {rank}"))),
        "across": caught(lambda: ranks.agree(KeyError("x")) if rank else ranks.share(0)),
        "same": caught(lambda: ranks.check_same(rank, "the picks")),
        "apart": caught(lambda: ranks.barrier() if rank else ranks.share(0)),
    }


def refused() -> dict[str, object]:
    """What scoring raises where one rank cannot go on, and what Ctrl-C on one of them does."""
    from almining.detectors.rcnn import faster_rcnn  # torchvision takes seconds to import

    rank, pool = ranks.current().rank, flat_pool(40)
    diverged = faster_rcnn(("dark", "light"), min_size=32, max_size=64)
    if rank:  # batch 1, 3, ... are its own
        bias = diverged.model.roi_heads.box_predictor.cls_score.bias
        torch.nn.init.constant_(bias, torch.nan)
    found = {
        "nan": caught(lambda: list(stream(diverged.detect, pool, batch=2, **QUIET))),
        "weights": caught(lambda: list(detect(diverged, pool, batch=2, **QUIET))),
        "kind": caught(
            lambda: list(stream(lambda batch: [object() for _ in batch], pool, **QUIET))
        ),
        "few": caught(lambda: list(stream(lambda batch: batch[rank:], pool, batch=8, **QUIET))),
    }

    def stopped() -> None:
        with interrupts.held():
            for number, _ in enumerate(stream(lambda batch: [0] * len(batch), pool, batch=1)):
                if rank and number == 9:
                    os.kill(os.getpid(), signal.SIGINT)

    def left() -> None:
        for number, _ in enumerate(stream(lambda batch: [0] * len(batch), pool, batch=1, **QUIET)):
            if rank and number == 20:
                break
        ranks.barrier()

    once = TrainConfig(steps=1)
    return found | {
        "ctrl-c": caught(stopped),
        "left": caught(left),
        "seeds": caught(lambda: fit(FlatDetector(), pool, once, seed=rank, **QUIET)),
    }


def trained(parts: int) -> dict[str, object]:
    """The weights and losses of a few steps of the small Faster R-CNN."""
    torch.set_num_threads(1)
    pool, detector = make_scenes(12, seed=7), load_demo("faster_rcnn")
    config = TrainConfig(steps=3, batch=4, lr=1e-3)
    losses = fit(detector, pool, config, seed=1, parts=parts, progress=False)
    state = detector.state_dict()
    parameters = dict(detector.named_parameters())
    return {
        "losses": losses,
        "parameters": digest_tensors(parameters.items()),
        "buffers": digest_tensors((n, v) for n, v in state.items() if n not in parameters),
        "some": {name: one.flatten()[:50].tolist() for name, one in parameters.items()},
    }


def ran(run_dir: Path) -> dict[str, object]:
    """Two cycles with a run directory, the second in another call; what the oracle may do wrong."""
    hidden = flat_pool(40)
    start = regimes.unlabelled(hidden, keep=4, seed=0, tags=True)
    recipe = replace(baselines.entropy_max(), train=TrainConfig(steps=6, batch=4, lr=0.1))
    ask = {"budget": 3, "seed": 0, "test": flat_pool(8, prefix="test"), **QUIET}

    class Away:
        def ask(self, requests, pool):
            raise ValueError("gone home")

    def call(folder: Path | None, oracle: object, cycles: int) -> History:
        more = {"run_dir": folder, "oracle": oracle, "cycles": cycles, "every_s": 0}
        return run(recipe, FlatDetector(), start, **ask | more)

    call(run_dir, Simulated(hidden), 1)
    away = caught(lambda: call(run_dir, Away(), 2))
    history = call(run_dir, Simulated(hidden), 2)
    waits = call(run_dir, None, 3).pending
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocked = caught(lambda: call(Path(__file__), None, 1))
    return {
        "picked": [row.picked for row in history.rows],
        "weights": digest_tensors(history.detector.state_dict().items()),
        "away": away,
        "blocked": blocked,
        "waits": [request.id for request in waits],
    }


class Killed:
    """Counts its batches in a file; on rank 1, the third ends the process, the first time only."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.detector = folder, FlatDetector()

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.detector.state_dict()

    def parameters(self):
        return self.detector.parameters()

    def detect(self, images):
        rank = ranks.current().rank
        with (self.folder / f"calls-{rank}").open("a") as file:
            file.write(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT')} {len(images)}\n")
        marker = self.folder / "killed"
        if rank == 1 and self.folder.joinpath("calls-1").read_text().count("\n") == 3:
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.detector.detect(images)


def killed(folder: Path) -> dict[str, object]:
    """Score while a rank is lost; what is there is not scored again."""
    pool, _ = faulty_pool(flat_pool(300), 5, 200)
    aside = Quarantine()
    with ranks.stage("cycle-001-query"):
        found = list(detect(Killed(folder), pool, batch=10, set_aside=aside, **QUIET))
    return {"found": to_plain(found), "aside": aside.ids}


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


def faulty_training(fault: str, **options: object) -> dict[str, object]:
    """What came of a training with a fault on rank 1."""

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        on_rank_1(batch, fault)
        losses = plain_step(detector, batch, generator=generator)
        if fault == "nan" and ranks.current().rank == 1 and batch.step == 2:
            losses["nan"] = detector.linear.weight.sum() * torch.nan
        return losses

    detector = MoodyDetector() if fault in ("nan", "norm") else FlatDetector()
    pool = flat_pool(7)
    if fault == "broken":
        pool, images = faulty_pool(pool)
        images.bad = {"flat-3"} if ranks.current().rank == 1 else set()
    config, keeper, said, raised = TrainConfig(steps=4, batch=6, lr=0.1), MemoryKeeper(), [], None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with interrupts.held():
                settings = {"seed": 0, "step": step, "keeper": keeper, "progress": False}
                said = fit(detector, pool, config, **settings, **options)
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


FAULTS = ("none", "norm", "memory", "error", "nan", "broken", "ctrl-c")


def main(folder: Path, *names: str) -> None:
    """Be one of the ranks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ways = {
        "killed": lambda: killed(folder),
        "told": told,
        "scored": lambda: scored(workers=1),
        "paired": paired,
        "left": lambda: [str(path) for path in (folder / "run").rglob("*.safetensors")],
        "broken": broken,
        "refused": refused,
        "trained": lambda: trained(parts=1),
        "ran": lambda: ran(folder / "cycles"),
        "faults": lambda: {
            one: faulty_training(one, workers=int(one == "broken")) for one in FAULTS
        },
    }
    with ranks.joined(folder / "run", timeout_s=60) as here:
        found = {name: ways[name]() for name in names or ways}
    (folder / f"{here.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
