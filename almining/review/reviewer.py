"""`Reviewer`: a person who answers what a run asks, in a notebook.

It holds no answer itself: all there is lies in the run directory, as events. So another kernel, or
another notebook, goes on where this one stopped. It needs no browser; `widget` is one way in. What
a page says may be heard in a thread of its own, while a cell runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from almining import draw
from almining.data.pool import Finding, Pool
from almining.data.writers import write_coco, write_label_studio
from almining.label.desk import hand_in
from almining.label.merging import merge
from almining.ledger import LedgerError
from almining.records import Answer, Detections, Request
from almining.review import store
from almining.review.events import check_event
from almining.review.scripted import scripted
from almining.review.state import Item, Review, answer_of, fold
from almining.review.store import Batch
from almining.review.views import shown, start

SHOWN = 5  # requests that a message names
SILENT = ("start", "look")  # events that change no answer
NONE = "review:None"  # the name of an answer that others gave


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of events that were sent.

    Args:
        ids: of those that are on the disk now.
        refused: why, by id, of those that do not fit.
    """

    ids: list[str]
    refused: dict[str, str]


class Reviewer:
    """An oracle that is a person: shows what a run asks, and hands in what the person says.

    `cycle.run(..., oracle=review, run_dir=folder)` returns with `History.pending`; show `review` as
    the value of a cell, answer, `review.commit()`, and make the same call again, in this kernel or
    in another. Each answer is on disk before the page is told so.

    Args:
        pool: what is known; a run that asks brings its own, which knows more.
        run_dir: the run directory given to `cycle.run`; there need not be a run yet.
        detector: predicts the boxes a person starts from, such as `history.detector`; without one
            only mined boxes are shown.
        by: who the answers say they are from.
        min_score: predicted boxes with a lower score are not shown.
        most: at most so many predicted boxes for an image, those of the highest score.

    Raises:
        ValueError: naming the argument and what is needed.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        run_dir: str | Path,
        detector: Any = None,
        by: str = "reviewer",
        min_score: float = 0.3,
        most: int = 100,
    ) -> None:
        """Keep the arguments; nothing is read."""
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score = {min_score!r}: a number from 0 to 1 is needed")
        if not isinstance(most, int) or most < 0:
            raise ValueError(f"most = {most!r}: a whole number >= 0 is needed")
        if not isinstance(by, str) or not by:
            raise ValueError(f"by = {by!r}: the name of who answers is needed")
        self.run_dir, self.detector, self.by = Path(run_dir), detector, by
        self._pool, self._min_score, self._most = pool, min_score, most
        self._batch: Batch | None = None
        self._guard = threading.RLock()  # of `_batch`, which grows
        self._widget: Any = None

    def __repr__(self) -> str:
        """Say in one line how far it is."""
        try:
            batch = self.refresh()
        except FileNotFoundError:
            return f"Reviewer({str(self.run_dir)!r}: no run yet)"
        except (LedgerError, ValueError) as error:
            return f"Reviewer({str(self.run_dir)!r}: {error})"
        done = sum(self.state.item(name).status != "open" for name in batch.requests)
        return f"Reviewer({len(batch.requests)} requests, {done} reviewed, cycle {batch.cycle})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: Any = self.widget._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**(data or {}), "text/plain": repr(self)}

    @property
    def widget(self) -> Any:
        """The page, an anywidget; the same one each time."""
        if self._widget is None:
            from almining.review.widget import ReviewWidget

            self._widget = ReviewWidget(self)
        return self._widget

    @property
    def state(self) -> Review:
        """What the review of the run's open cycle has come to."""
        batch = self.batch
        return fold(event for event in batch.events if event["request"] in batch.requests)

    @property
    def batch(self) -> Batch:
        """The requests under review and all events, as they were read or written last."""
        return self._batch or self.refresh()

    def refresh(self) -> Batch:
        """Read what others wrote to the run directory; return the batch under review.

        Raises:
            FileNotFoundError: when there is no run in it.
            LockedError: while another process has it open.
            ValueError: when the run has other classes than the pool.
        """
        with self._guard:
            self._batch = batch = store.read(self.run_dir, self._batch)
        if batch.classes != self._pool.classes:
            raise ValueError(
                f"the run in {self.run_dir} has the classes {', '.join(batch.classes)}, the pool "
                f"{', '.join(self._pool.classes)}; give the pool of that run"
            )
        return batch

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield the answers handed in; the others are still waiting.

        Raises:
            ValueError: when the requests are not those of this run directory.
        """
        self._pool = pool
        batch = None if not self._there() else self.refresh()
        strange = [one.id for one in requests if batch is None or one.id not in batch.requests]
        if strange:
            raise ValueError(
                f"request {strange[0]!r} is not in {self.run_dir}, where this reviewer looks; call "
                "cycle.run with the same run_dir"
            )
        if self._widget is not None:
            self._widget.show()
        return iter(())

    def _there(self) -> bool:
        return (self.run_dir / "manifest.json").is_file()

    def open(self, request_id: str) -> tuple[dict[str, Any], list[bytes]]:
        """Return what a page shows of a request; what it begins with is written down first.

        Args:
            request_id: one of the batch.

        Returns:
            JSON values and pictures, as `views.shown` has them.

        Raises:
            ValueError: when there is no such request, or its image cannot be loaded.
        """
        batch = self.batch
        request = batch.requests.get(request_id)
        if request is None:
            raise ValueError(f"request {request_id!r} is not under review; reload the page")
        image = None
        if not any(e["do"] == "start" and e["request"] == request_id for e in batch.events):
            image = self._pool.image(request.image_id)
            event = start(request, self._pool, image, self._detected(request, image))
            self._write([event])
        return shown(request, self._pool, image)

    def _detected(self, request: Request, image: Tensor) -> Detections | None:
        if self.detector is None or request.kind != "complete":
            return None
        with torch.no_grad():
            device = next(self.detector.parameters()).device
            found: Detections = self.detector.detect([image.to(device)])[0].to("cpu")
        sure = found.select(found.scores >= self._min_score)
        return sure.select(sure.scores.argsort(descending=True, stable=True)[: self._most])

    def take(self, events: Iterable[Mapping[str, Any]]) -> Saved:
        """Write down what a person did; see `state` for what events there are.

        One that was written before is not written again. One that does not fit is refused, and the
        others are written all the same.

        Args:
            events: in the order they were made.

        Raises:
            LockedError: while another process has the run directory open; nothing is written.
        """
        batch = self.batch
        written = {event["id"]: event for event in batch.events}
        sizes = {e["request"]: e["size"] for e in batch.events if e["do"] == "start"}
        good: dict[str, dict[str, Any]] = {}
        refused: dict[str, str] = {}
        for event in events:
            try:
                check_event(event, batch.requests, batch.classes, sizes)
                old = good.get(event["id"]) or written.get(event["id"])
                if old is not None and {**event, "number": 0} != {**old, "number": 0}:
                    raise ValueError(f"another event has the id {event['id']!r}; reload the page")
                good[event["id"]] = dict(event)
            except ValueError as error:
                name = event.get("id") if isinstance(event, Mapping) else None
                refused[str(name)] = str(error)
        self._write(list(good.values()))
        if self._widget is not None:
            self._widget.tell()
        return Saved(list(good), refused)

    def _write(self, events: Sequence[Mapping[str, Any]]) -> None:
        with self._guard:
            self._batch = store.write(self.run_dir, events, self._batch)

    def commit(self, *, partial: bool = False) -> int:
        """Hand in what was reviewed, so that the run goes on; a second time changes nothing.

        An answer that was changed since is handed in again, with the seconds spent since.

        Args:
            partial: hand in what is finished or skipped, though something is still open.

        Returns:
            How many answers were new.

        Raises:
            ValueError: when something is still open, naming it, unless `partial`.
            LockedError: while another process has the run directory open.
        """
        batch, state = self.refresh(), self.state
        waiting = [
            request
            for request in batch.requests.values()
            if state.item(request.id).status == "open"
            and not (request.id in batch.handed_in and self._last(request.id) is None)
        ]
        if waiting and not partial:
            some = ", ".join(repr(request.image_id) for request in waiting[:SHOWN])
            more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
            raise ValueError(
                f"{len(waiting)} of {len(batch.requests)} requests are not reviewed yet, about "
                f"{some}{more}; finish or skip them, or hand in the others by commit(partial=True)"
            )
        new = {
            name: answer for name, answer in self._answers(batch, state) if name not in batch.names
        }
        count = hand_in(self.run_dir, new.values(), ids=list(new)) if new else 0
        self.refresh()
        if self._widget is not None:
            self._widget.show()
        return count

    @property
    def handed_in(self) -> list[str]:
        """The requests whose answer is handed in, and was not changed since."""
        batch = self.batch
        last = {name: self._last(name) for name in batch.handed_in}
        return [name for name, event in last.items() if f"review:{event}" in {*batch.names, NONE}]

    def _answers(self, batch: Batch, state: Review) -> Iterator[tuple[str, Answer]]:
        """Yield the answers there are, each under the name that its last event gives it."""
        for name, request in batch.requests.items():
            item = state.item(name)
            if item.status != "open":
                rest = max(item.seconds - batch.handed_in.get(name, 0.0), 0.0)
                yield (
                    f"review:{self._last(name)}",
                    answer_of(request, item, by=self.by, seconds=rest),
                )

    def _last(self, request_id: str) -> str | None:
        events = self.batch.events
        mine = (e for e in reversed(events) if e["request"] == request_id)
        return next((str(e["id"]) for e in mine if e["do"] not in SILENT), None)

    def play(self, hidden: Pool, *, most: int | None = None) -> int:
        """Answer what is open as a person who knows the truth would, by the same events.

        Args:
            hidden: the truth; images that are asked for are complete in it.
            most: how many requests; all of them by default.

        Returns:
            How many requests were answered.
        """
        batch = self.refresh()
        names = [name for name in batch.requests if self.state.item(name).status == "open"][:most]
        for name in names:
            self.open(name)
            request, item = batch.requests[name], self.state.item(name)
            truth = hidden.target(request.image_id)
            saved = self.take(scripted(request, item, truth, classes=len(hidden.classes)))
            if saved.refused:
                raise ValueError(f"{name}: {next(iter(saved.refused.values()))}")
        return len(names)

    def reviewed(self) -> Pool:
        """Return the images of the batch, with what is known of them after what was reviewed."""
        batch, state = self.refresh(), self.state
        known = {one.image_id: self._pool.target(one.image_id) for one in batch.requests.values()}
        for name, request in batch.requests.items():
            item = state.item(name)
            if item.status != "open":
                before = known[request.image_id]
                known[request.image_id] = merge(
                    before, request, answer_of(request, item, by=self.by)
                )
        pool = self._pool.subset(known)
        return pool.updated(known, cycle=max(pool.cycle, batch.cycle))

    def write_coco(self, json: str | Path, **options: Any) -> tuple[Finding, ...]:
        """Write the batch, as far as it is reviewed, as COCO; see `data.write_coco`.

        It is the batch the run waits for: when the run has gone on, `History.pool` has the answers.
        """
        return write_coco(self.reviewed(), json, **options)

    def write_label_studio(self, json: str | Path, **options: Any) -> tuple[Finding, ...]:
        """Write the batch as tasks of Label Studio, for people who label there.

        What is finished is an annotation, what is predicted a prediction. What they export answers
        the run by `label.FromFile.from_label_studio`. For options see `data.write_label_studio`.
        """
        batch = self.refresh()
        found: dict[str, Detections] = {}
        for name, request in batch.requests.items():
            self.open(name)
            if (item := self.state.item(name)).undecided:
                found[request.image_id] = _predicted(item)
        return write_label_studio(self.reviewed(), json, predictions=found, **options)

    def figure(self, request_id: str | None = None) -> Figure:
        """Return a figure of why a request was made, by default the first; see `draw.evidence`."""
        requests = self.refresh().requests
        if not requests:
            return draw.blank("nothing waits for a review")
        request = requests[next(iter(requests)) if request_id is None else request_id]
        image = self._pool.image(request.image_id)
        return draw.evidence(image, request, classes=self._pool.classes, pool=self._pool)


def _predicted(item: Item) -> Detections:
    """Return the boxes of a request that are undecided."""
    boxes = [box for box in item.boxes.values() if box.status == "proposed"]
    return Detections(
        torch.tensor([box.box for box in boxes], dtype=torch.float32),
        torch.tensor([box.label for box in boxes]),
        torch.tensor([box.score or 0.0 for box in boxes], dtype=torch.float32),
    )
