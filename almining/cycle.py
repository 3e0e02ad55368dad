"""The active-learning cycle: ask, merge, mine, train, measure.

It calls a recipe's slots and never names a paper. A broken image is set aside whenever one comes to
light, and the run goes on without it, until more than one in a hundred is broken. With a run
directory, a run that was stopped anywhere goes on to the same end.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from almining import evaluate, ranks
from almining.checkpoints import restore
from almining.checks import HUMAN
from almining.data.pool import Finding, Pool
from almining.data.quarantine import Quarantine
from almining.fingerprints import describe, digest_training
from almining.history import History as History
from almining.history import Row as Row
from almining.interrupts import Interrupted, check, held
from almining.journal import Closed, Journal, first, opened
from almining.label import Oracle, merge
from almining.label.desk import check_classes
from almining.predict import detect
from almining.progress import quiet
from almining.recipe import Mine as Mine
from almining.recipe import Query as Query
from almining.recipe import Recipe as Recipe
from almining.recipe import Unit as Unit
from almining.recipe import acquired as acquired
from almining.recipe import boxed as boxed
from almining.recipe import check_run, price
from almining.recipe import everything as everything
from almining.recipe import labelled as labelled
from almining.records import Answer, Detections, Request, Target
from almining.rng import derive, generator
from almining.train import TrainConfig, fit

Metrics = Callable[[Mapping[str, Detections], Pool], dict[str, float]]
Pair = tuple[Request, Answer]


def run(
    recipe: Recipe,
    detector: Any,
    pool: Pool,
    *,
    oracle: Oracle | None,
    budget: int | float,
    cycles: int,
    seed: int,
    unit: Unit = "images",
    test: Pool | None = None,
    metrics: Metrics = evaluate.voc,
    run_dir: str | Path | None = None,
    accept: str | Sequence[str] = (),
    every_s: float = 60.0,
    workers: int = 0,
    progress: bool = True,
) -> History:
    """Run cycles of a recipe; the detector and the pool given are not changed.

    The images a recipe asks for are loaded before a person sees them. A broken one is set aside and
    the recipe asks anew; a test image that is broken counts neither as truth nor as detections.
    Where a recipe's own slot or a training loads a broken one, all images are looked at once and
    the slot is called again without the broken ones. In the end a warning says how many there were.

    With a run directory every answer is on disk before the next is asked for, and the same call
    goes on where the last one stopped, whether it was killed, interrupted or waits for a person: to
    the same picks, metrics and weights, bit for bit on a CPU. Another config, seed, detector or
    data set is refused, with the differences; more `cycles` are not, and fewer take nothing back.
    Ctrl-C finishes the step or the batch, saves, and returns what is there.

    Args:
        recipe: what to ask, mine and minimise.
        detector: the start, M⁰.
        pool: what is known at the start.
        oracle: answers the requests; while it leaves some unanswered the run returns with
            `History.pending`. None answers nothing: people hand answers in, see `label.hand_in`.
        budget: per cycle, in `unit`. In boxes or seconds the requests are asked in order until it
            is spent: the answer that crosses it still counts.
        cycles: how many at most; fewer when nothing is left to ask.
        seed: of everything random.
        unit: `"images"`, `"boxes"` or `"seconds"`.
        test: complete images to measure on after every cycle.
        metrics: `metrics(detections, test)`; VOC AP50 by default.
        run_dir: where to keep requests, answers, rows and weights; nothing is kept by default.
        accept: what may differ from what the run directory began with, such as `"config"`; a
            refusal names what there is.
        every_s: seconds between two savings of the weights in training; 0 saves after every step.
        workers: processes that load images; what comes out does not depend on it.
        progress: whether to show progress bars.

    Raises:
        ValueError: before any training, when detector, pool and recipe do not fit together.
        LedgerError: when the run directory is in use, damaged, or holds another run.
        DataError: when more than 1% of the pool, or of the test pool, is broken.
    """
    ranks.check_joined()
    check_run(recipe, detector, pool, test, budget, cycles, unit)
    pools = {"pool": pool} if test is None else {"pool": pool, "test": test}
    about = partial(describe, recipe, detector, pool, budget, unit, seed, metrics)
    some = (accept,) if isinstance(accept, str) else accept
    kept = opened(run_dir, about, pools, every_s, some, recipe.looks_back)
    with quiet(not progress), kept as journal:
        given = (recipe, detector, pool, oracle, budget, seed, unit, test, metrics)
        return _Run(*given, workers, progress, journal).through(cycles)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of asking.

    Args:
        pairs: answers to learn from, as they came: this cycle's, and late ones of earlier cycles.
        used: the ids of all of them.
        picked: the images of this cycle's.
        pending: the requests that wait.
    """

    pairs: Sequence[Pair] = ()
    used: Sequence[str] = ()
    picked: tuple[str, ...] = ()
    pending: tuple[Request, ...] = ()


@dataclass(slots=True)
class _Run:
    """A run under way: the arguments of `run`, and how far it is."""

    recipe: Recipe
    start: Any
    pool: Pool
    oracle: Oracle | None
    budget: float
    seed: int
    unit: Unit
    test: Pool | None
    metrics: Metrics
    workers: int
    progress: bool
    journal: Journal
    rows: list[Row] = field(default_factory=list)
    asked: dict[str, Request] = field(default_factory=dict)  # what was learned from, by id
    current: Any = field(init=False)
    before: int = field(init=False)
    aside: Quarantine = field(init=False)
    untested: Quarantine = field(init=False)

    def __post_init__(self) -> None:
        self.current = copy.deepcopy(self.start)
        self.before = self.pool.cycle  # a pool that has been through a run goes on counting
        self.aside = Quarantine(of=len(self.pool))
        self.untested = Quarantine(of=0 if self.test is None else len(self.test))

    def through(self, cycles: int) -> History:
        """Go through the cycles; those that are in the journal are not gone through again."""
        try:
            with held():
                return self._history(self._went(cycles))
        except Interrupted as stop:
            at = f"in cycle {len(self.rows)}" if self.rows else "at the start"
            return self._history(interrupted=f"{at}: {stop}")

    def _went(self, cycles: int) -> tuple[Request, ...]:
        """Go as far as one can; return the requests that wait then."""
        closed = self.journal.closed()
        whole = self._restored(closed)
        for cycle, done in enumerate(closed):
            self._take_up(done, train=cycle > whole)
        if not closed:
            self._close(_Asked(), {})
        for cycle in range(len(self.rows), cycles + 1):
            asked = self._asked(cycle)
            if not asked.pairs and (asked.pending or self.recipe.over(cycle)):
                return asked.pending
            self._learn(asked.pairs, cycle)
            if asked.pending:
                return asked.pending
            mined = self._mined(cycle)
            self.pool = self._knowing(mined, cycle)
            self.current = self._trained(cycle)
            self.pool = self.aside.without(self.pool)
            self._close(asked, mined)
        return ()

    def _restored(self, closed: Sequence[Closed]) -> int:
        """Load the weights of the last cycle that has them; return which that is."""
        lost: list[str] = []
        for cycle in range(len(closed) - 1, 0, -1):
            if state := self.journal.weights(cycle):
                restore(self.current, state)
                break
            lost.insert(0, str(cycle))
        if lost:
            text = f"no weights left of cycle {', '.join(lost)}: trained again, from the answers"
            if accepted := self.journal.accepted():
                text += f", but with what was accepted since: {'; '.join(accepted)}"
            self._tell("weights lost", text)
        return len(closed) - 1 - len(lost)

    def _take_up(self, done: Closed, *, train: bool) -> None:
        """Know again what was known after a cycle that is through."""
        cycle = done.row.cycle
        self._learn(done.pairs, cycle)
        mined = {i: target for i, target in done.mined.items() if i in self.pool}
        self.pool = self._knowing(mined, cycle)
        self.aside.admit(done.set_aside)
        self.untested.admit(done.untested)
        self.pool = self.aside.without(self.pool)
        if train:
            self.current = self._trained(cycle)
        self.rows.append(done.row)

    def _learn(self, pairs: Sequence[Pair], cycle: int) -> None:
        self.pool = self._knowing(self._merged(pairs), cycle)
        self.asked |= {request.id: request for request, _ in pairs if self.recipe.looks_back}

    def _merged(self, pairs: Sequence[Pair]) -> dict[str, Target]:
        known: dict[str, Target] = {}
        for request, answer in pairs:
            self._merge(known, request, answer)
        return known

    def _merge(self, known: dict[str, Target], request: Request, answer: Answer) -> None:
        if answer.verdict != "skip" and request.image_id in self.pool:
            before = known.get(request.image_id, self.pool.target(request.image_id))
            known[request.image_id] = merge(before, request, answer)

    def _knowing(self, targets: Mapping[str, Target], cycle: int) -> Pool:
        return self.pool.updated(targets, cycle=self.before + cycle) if targets else self.pool

    def _asked(self, cycle: int) -> _Asked:
        if self.recipe.query is None:
            return _Asked()

        def make() -> tuple[list[Request], list[Finding]]:
            before = len(self.aside)
            late = [(request, answer) for _, request, answer in first(self.journal.unused)]
            found = self._wanted(cycle, self._knowing(self._merged(late), cycle), late)
            named = [replace(request, id=f"{cycle:03d}/{request.id}") for request in found]
            return named, list(self.aside.findings[before:])

        requests, broken = self.journal.requests(cycle, make)
        self.aside.admit(broken)
        self.pool = self.aside.without(self.pool)
        return _Asked(*first(lambda: self._answered(cycle, requests)))

    def _wanted(self, cycle: int, known: Pool, late: Sequence[Pair]) -> list[Request]:
        """Return what the recipe asks for, all of it about images that can be loaded."""
        query, name = self.recipe.query, self.recipe.name
        asked = self.asked | {request.id: request for request, _ in late}
        back = {"asked": list(asked.values())} if self.recipe.looks_back else {}
        most = int(self.budget) if self.unit == "images" else len(self.pool)

        def wanted(pool: Pool) -> list[Request]:
            draws = generator(self.seed, "query", cycle)
            return query(self.current, pool, most, generator=draws, **back)  # type: ignore[misc]

        with ranks.stage(f"cycle-{cycle:03d}-query"):
            found = self.aside.survive(wanted, known)
            while self.aside.look(known, [request.image_id for request in found]):
                found = self.aside.survive(wanted, known)
        if len(found) > most:
            raise ValueError(
                f"{name} made {len(found)} requests for a budget of {most}; "
                "a query returns at most `budget`"
            )
        different = len({request.id for request in found})
        if different != len(found):
            raise ValueError(
                f"{name} made {len(found)} requests with {different} different ids; make ids unique"
            )
        return found

    def _answered(
        self, cycle: int, requests: Sequence[Request]
    ) -> tuple[list[Pair], list[str], tuple[str, ...], tuple[Request, ...]]:
        """Return the parts of `_Asked`."""
        waiting = {one.id: one for one in requests if one.image_id in self.pool}
        pairs: list[Pair] = []
        used: list[str] = []
        picked: dict[str, None] = {}
        spent = 0.0
        for ids, request, answer in self._answers(cycle, waiting):
            used += ids
            pairs.append((request, answer))
            if waiting.pop(request.id, None) is not None:
                picked[request.image_id] = None
                spent += price(answer, self.unit)
            if self.unit != "images" and spent >= self.budget:
                waiting.clear()
                break
        return pairs, used, tuple(picked), tuple(waiting.values())

    def _answers(
        self, cycle: int, waiting: Mapping[str, Request]
    ) -> Iterator[tuple[list[str], Request, Answer]]:
        """Yield what no cycle has learned from yet, then what the oracle says to the rest."""
        known: dict[str, Target] = {}
        for ids, late, answer in self.journal.unused():
            self._merge(known, late, answer)
            yield ids, late, answer
        asking = list(waiting.values())
        for answer in self.oracle.ask(asking, self.pool) if asking and self.oracle else ():
            request = waiting.get(answer.request_id)
            if request is None:
                raise ValueError(
                    f"the oracle answered {answer.request_id!r}, which is not waiting in cycle "
                    f"{cycle}"
                )
            check_classes(answer, self.pool.classes)
            self._merge(known, request, answer)  # raises if it does not fit
            yield [self.journal.keep(answer)], request, answer
            check()

    def _mined(self, cycle: int) -> dict[str, Target]:
        mine = self.recipe.mine
        if mine is None:
            return {}

        def mined(pool: Pool) -> dict[str, Target]:
            return mine(self.current, pool, generator=generator(self.seed, "mine", cycle))

        with ranks.stage(f"cycle-{cycle:03d}-mine"):
            found = self.aside.survive(mined, self.pool)
        self.pool = self.aside.without(self.pool)
        return found

    def _trained(self, cycle: int) -> Any:
        """Return a trained copy; where a broken image stops it, training begins anew without it."""
        start = self.start if self.recipe.restart == "start" else self.current
        seed = derive(self.seed, "train", cycle)
        title = f"{self.recipe.name} {cycle}: train" if self.progress else False

        def train(pool: Pool) -> Any:
            schedule = self.recipe.train
            schedule = schedule if isinstance(schedule, TrainConfig) else schedule(pool)
            chosen = list(self.recipe.trains_on(pool))
            keeper = None
            if self.journal.kept:
                tag = digest_training(start, pool, chosen, schedule, seed, self.recipe.config)
                keeper = self.journal.keeper(cycle, tag)
            ask: dict[str, Any] = {"step": self.recipe.step, "seed": seed, "progress": title}
            ask |= {"workers": self.workers, "keeper": keeper}
            for again in (False, True):
                detector = copy.deepcopy(start)
                try:
                    fit(detector, pool, schedule, ids=chosen, **ask)
                    return detector
                except FloatingPointError as error:
                    if again or keeper is None:
                        raise
                    self._tell("not finite", f"{error}; gone back, once, to the weights kept last")

        return self.aside.survive(train, self.pool, progress=title)

    def _close(self, asked: _Asked, mined: Mapping[str, Target]) -> None:
        """Measure, and end a cycle."""
        cycle = len(self.rows)
        targets = [self.pool.target(image_id) for image_id in self.pool.ids]
        images = sum(target.complete for target in targets)
        boxes = sum(sum(origin == HUMAN for origin in target.origin) for target in targets)
        seconds = self.rows[-1].seconds if self.rows else 0.0
        seconds += sum(answer.seconds for _, answer in asked.pairs)
        row = Row(cycle, asked.picked, images, boxes, seconds, self._measured(cycle))
        broken = self.aside.findings, self.untested.findings
        self.journal.close(Closed(row, asked.pairs, mined, *broken), asked.used)
        self.rows.append(row)

    def _measured(self, cycle: int) -> dict[str, float]:
        if self.test is None:
            return {}
        title, aside = "test" if self.progress else False, self.untested
        with ranks.stage(f"cycle-{cycle:03d}-test"):
            scored = detect(
                self.current, self.test, progress=title, set_aside=aside, workers=self.workers
            )
            found = {image_id: one.to("cpu") for image_id, one in scored}
        return self.metrics(found, aside.without(self.test))

    def _tell(self, what: str, text: str) -> None:
        """Warn, and keep what happened."""
        self.journal.note(what, text)
        warnings.warn(f"{self.recipe.name}: {text}", stacklevel=6)

    def _history(
        self, pending: tuple[Request, ...] = (), *, interrupted: str | None = None
    ) -> History:
        name = self.recipe.name
        self.aside.warn(f"{name} ran", stacklevel=4)
        self.untested.warn(f"{name} was measured", stacklevel=4)
        found = (*self.aside.findings, *self.untested.findings)
        return History(name, tuple(self.rows), self.current, self.pool, pending, found, interrupted)
