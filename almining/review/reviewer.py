"""`Reviewer`: a person who answers what a run asks, in a notebook.

It holds no answer itself: all there is lies in the run directory, as events. So another kernel, or
another notebook, goes on where this one stopped. It needs no browser; `widget` is one way in. What
a page says may be heard in a thread of its own, while a cell runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from almining import draw
from almining.data.pool import Finding, Pool
from almining.data.writers import write_coco, write_label_studio
from almining.label.desk import hand_in, opened
from almining.label.merging import merge
from almining.ledger import LedgerError
from almining.records import Answer, Request, Target
from almining.review import store
from almining.review.events import check_event
from almining.review.scripted import scripted
from almining.review.state import Box, Review, answer_of
from almining.review.store import Batch
from almining.review.views import as_detections, predicted, shown, start

SHOWN = 5  # requests that a message names
NO_WIDGETS = "the page of a review needs anywidget; install it: pip install 'almining[lab]'"


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
        done = sum(batch.state.item(name).status != "open" for name in batch.requests)
        return f"Reviewer({len(batch.requests)} requests, {done} reviewed, cycle {batch.cycle})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: Any = self.widget._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**(data or {}), "text/plain": repr(self)}

    @property
    def widget(self) -> Any:
        """The page, an anywidget; the same one each time.

        Raises:
            ImportError: when anywidget is not there.
        """
        if self._widget is None:
            try:
                from almining.review.widget import ReviewWidget
            except ImportError as error:
                raise ImportError(NO_WIDGETS, name="anywidget") from error
            self._widget = ReviewWidget(self)
        return self._widget

    @property
    def state(self) -> Review:
        """What the review of the run's open cycle has come to."""
        return self.batch.state

    @property
    def batch(self) -> Batch:
        """The requests under review and all events, as they were read or written last."""
        return self._batch or self.refresh()

    def refresh(self) -> Batch:
        """Read what others wrote to the run directory; return the batch under review.

        Raises:
            FileNotFoundError: when there is no run in it.
            LockedError: while another process has it open.
            ValueError: when the run has other classes than the pool, or other images.
        """
        with self._guard:
            self._batch = batch = store.read(self.run_dir, self._batch)
        if batch.classes != self._pool.classes:
            raise ValueError(
                f"the run in {self.run_dir} has the classes {', '.join(batch.classes)}, the pool "
                f"{', '.join(self._pool.classes)}; give the pool of that run"
            )
        asked = [request.image_id for request in batch.requests.values()]
        if asked and not any(image_id in self._pool for image_id in asked):
            raise ValueError(
                f"the run in {self.run_dir} asks about image {asked[0]!r}, which is not in this "
                "pool, nor are the others; give the pool of that run"
            )
        return batch

    @contextmanager
    def _held(self) -> Iterator[Batch]:
        """Hold the run directory open: from what is read to what is written nobody else writes."""
        with self._guard, opened(self.run_dir):
            yield self.refresh()

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield nothing: all of it waits for a person; `commit` hands in what the run reads itself.

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
        request, image = self._begin(request_id)
        return shown(request, self._pool, image)

    def _request(self, request_id: str) -> Request:
        request = self.batch.requests.get(request_id) or self.refresh().requests.get(request_id)
        if request is None:
            raise ValueError(f"request {request_id!r} is not under review; reload the page")
        return request

    def _begin(self, request_id: str) -> tuple[Request, Tensor | None]:
        """Write down what a request begins with, once; return the image where that needed it."""
        request = self._request(request_id)
        if request_id in self.batch.sizes:
            return request, None
        image = self._pool.image(request.image_id)
        found = None
        if self.detector is not None and request.kind == "complete":
            found = predicted(self.detector, image, self._pool, self._min_score, self._most)
        event = start(request, self._pool, image, found)
        with self._held() as batch:
            if request_id not in batch.sizes:  # another kernel may have been faster
                self._batch = store.write(self.run_dir, [event], batch)
        return request, image

    def take(self, events: Iterable[Mapping[str, Any]]) -> Saved:
        """Write down what a person did; see `state` for what events there are.

        One that was written before is not written again. One that does not fit is refused, and the
        others are written all the same.

        Args:
            events: in the order they were made.

        Raises:
            LockedError: while another process has the run directory open; nothing is written.
        """
        new: dict[str, Mapping[str, Any]] = {}
        ids: dict[str, None] = {}
        refused: dict[str, str] = {}
        with self._held() as batch:
            log: dict[str, Mapping[str, Any]] = {event["id"]: event for event in batch.events}
            for event in events:
                try:
                    check_event(event, batch.requests, batch.classes, batch.sizes, log)
                except ValueError as error:
                    name = event.get("id") if isinstance(event, Mapping) else None
                    refused[str(name)] = str(error)
                    continue
                ids[event["id"]] = None
                if event["id"] not in log:
                    log[event["id"]] = new[event["id"]] = dict(event)
            if new:
                self._batch = store.write(self.run_dir, list(new.values()), batch)
        if self._widget is not None:
            self._widget.tell()
        return Saved(list(ids), refused)

    def commit(self, *, partial: bool = False) -> int:
        """Hand in what was reviewed, so that the run goes on; a second time changes nothing.

        An answer that was changed since is handed in again, with the seconds spent since. One to a
        request of a cycle that is over, where none had been handed in, counts in the next.

        Args:
            partial: hand in what is finished or skipped, though something is still open.

        Returns:
            How many answers were new.

        Raises:
            ValueError: when something is still open, naming it, unless `partial`.
            LockedError: while another process has the run directory open.
        """
        with self._held() as batch:
            waiting = [
                request
                for request in self._open_ones(batch)
                if request.id in batch.answers or request.id not in batch.handed_in
            ]
            if waiting and not partial:
                some = ", ".join(repr(request.image_id) for request in waiting[:SHOWN])
                more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
                raise ValueError(
                    f"{len(waiting)} of {len(batch.requests)} requests are not reviewed yet, about "
                    f"{some}{more}; finish or skip them, or hand in the others by "
                    "commit(partial=True)"
                )
            late = store.read_late(self.run_dir, batch)
            first = {name: r for name, r in late.requests.items() if name not in late.handed_in}
            new = self._answers(replace(late, requests=first)) | self._answers(batch)
            count = hand_in(self.run_dir, new.values(), ids=list(new)) if new else 0
            self.refresh()
        if self._widget is not None:
            self._widget.show()
        return count

    @property
    def handed_in(self) -> list[str]:
        """The requests whose answer is handed in, and was not changed since."""
        batch = self.batch
        return [
            name
            for name in batch.handed_in
            if name not in batch.answers or batch.answers[name] in batch.names
        ]

    def _answers(self, batch: Batch) -> dict[str, Answer]:
        """Return the answers that are not handed in yet, by name."""
        found = {}
        for request_id, request in batch.requests.items():
            item, name = batch.state.item(request_id), batch.answers.get(request_id, "")
            if item.status != "open" and name not in batch.names:
                rest = max(item.seconds - batch.handed_in.get(request_id, 0.0), 0.0)
                found[name] = answer_of(request, item, by=self.by, seconds=rest)
        return found

    def _open_ones(self, batch: Batch) -> list[Request]:
        """Return the requests that are not answered; not those whose image the run set aside."""
        return [
            request
            for request in batch.requests.values()
            if batch.state.item(request.id).status == "open" and request.image_id in self._pool
        ]

    def play(self, hidden: Pool, *, most: int | None = None) -> int:
        """Answer what is open as a person who knows the truth would, by the same events.

        Args:
            hidden: the truth; images that are asked for are complete in it.
            most: how many requests; all of them by default.

        Returns:
            How many requests were answered.
        """
        with opened(self.run_dir):  # once for all
            requests = self._open_ones(self.refresh())[:most]
            for request in requests:
                self._begin(request.id)
                item, truth = self.state.item(request.id), hidden.target(request.image_id)
                saved = self.take(scripted(request, item, truth, classes=len(hidden.classes)))
                if saved.refused:
                    raise ValueError(f"{request.id}: {next(iter(saved.refused.values()))}")
        return len(requests)

    def reviewed(self) -> Pool:
        """Return the images of the batch, with what is known of them after what was reviewed."""
        batch = self.refresh()
        known: dict[str, Target] = {}
        for request in batch.requests.values():
            image_id, item = request.image_id, batch.state.item(request.id)
            if image_id not in self._pool:
                continue  # the run set it aside
            before = known.setdefault(image_id, self._pool.target(image_id))
            if item.status != "open":
                known[image_id] = merge(before, request, answer_of(request, item, by=self.by))
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
        with opened(self.run_dir):  # once for all
            requests = [r for r in self.refresh().requests.values() if r.image_id in self._pool]
            for request in requests:
                self._begin(request.id)
            left: dict[str, list[Box]] = {}
            for request in requests:
                boxes = self.state.item(request.id).boxes.values()
                mine = [box for box in boxes if box.status == "proposed"]
                left[request.image_id] = left.get(request.image_id, []) + mine
            found = {image_id: as_detections(boxes) for image_id, boxes in left.items() if boxes}
            return write_label_studio(self.reviewed(), json, predictions=found, **options)

    def figure(self, request_id: str | None = None) -> Figure:
        """Return a figure of why a request was made, by default the first; see `draw.evidence`."""
        requests = self.refresh().requests
        if not requests:
            return draw.blank("nothing waits for a review")
        request = self._request(next(iter(requests)) if request_id is None else request_id)
        image = self._pool.image(request.image_id)
        return draw.evidence(image, request, classes=self._pool.classes, pool=self._pool)
