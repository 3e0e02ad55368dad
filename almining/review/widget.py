"""The page of a review in a notebook: carries messages between the browser and a `Reviewer`.

Nothing is kept in the widget's state: an answer is a message with an id, and it is gone from the
browser only when the kernel has said that it is on the disk. Messages go to every view of the
widget, so that two tabs know of each other.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget

from almining.ledger import LedgerError, LockedError

if TYPE_CHECKING:
    from almining.review.reviewer import Reviewer

FOLDER = Path(__file__).parent


class ReviewWidget(anywidget.AnyWidget):
    """The page.

    Args:
        reviewer: what it shows, and where what is done there goes.
    """

    _esm = FOLDER / "page.mjs"
    _css = FOLDER / "page.css"

    def __init__(self, reviewer: Reviewer) -> None:
        """Listen."""
        super().__init__()
        self._reviewer = reviewer
        self._told = 0  # the number of the last event every page knows
        self._turn = threading.RLock()  # what is read last is said last
        self.on_msg(self._heard)

    def __repr__(self) -> str:
        """Say the same each time."""
        return f"ReviewWidget({self._reviewer!r})"

    def _heard(self, _: Any, content: object, buffers: list[memoryview]) -> None:
        """Do what a page asks; an error is told there, for a callback's is seen nowhere else."""
        try:
            match content:
                case {"type": "hello"}:
                    self.show()
                case {"type": "events", "events": [*events]}:
                    self._save(events)
                case {"type": "want", "request": str(request_id)}:
                    self._open(request_id)
                case {"type": "commit", "partial": bool(partial)}:
                    self._commit(partial)
                case _:
                    raise ValueError(f"the page says {content!r:.99}; reload it, it may be old")
        except LockedError as error:
            self.send({"type": "busy", "text": str(error)})
        except Exception as error:
            known = isinstance(error, ValueError | OSError | LedgerError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            self.send({"type": "error", "text": text})

    def show(self) -> None:
        """Tell every page what is under review, and all that was done."""
        with self._turn:
            self._show()

    def _show(self) -> None:
        page: dict[str, Any] = {"type": "batch", "run": self._reviewer.run_dir.name}
        try:
            batch = self._reviewer.refresh()
        except FileNotFoundError as error:
            empty = {"session": "", "classes": [], "requests": [], "events": [], "committed": []}
            self.send({**page, **empty, "text": str(error)})
            return
        events = [event for event in batch.events if event["request"] in batch.requests]
        self._told = batch.number
        requests = [
            {
                "id": one.id,
                "image_id": one.image_id,
                "kind": one.kind,
                "label": one.label,
                "score": one.score,
                "box": None if one.box is None else one.box.tolist(),
                "why": one.evidence.text if one.evidence else None,
            }
            for one in batch.requests.values()
        ]
        known = {"session": batch.session, "classes": list(batch.classes), "requests": requests}
        self.send({**page, **known, "events": events, "committed": self._reviewer.handed_in})

    def _save(self, events: list[dict[str, Any]]) -> None:
        saved = self._reviewer.take(events)
        refused = [{"id": name, "text": text} for name, text in saved.refused.items()]
        self.send({"type": "saved", "ids": saved.ids, "refused": refused, "events": []})

    def _open(self, request_id: str) -> None:
        reviewer = self._reviewer
        known = request_id in reviewer.batch.requests or request_id in reviewer.refresh().requests
        if not known:
            self.show()  # a page that does not know yet that the cycle is over
            return
        page, pictures = reviewer.open(request_id)
        self.tell()
        self.send({"type": "image", **page}, pictures)

    def _commit(self, partial: bool) -> None:
        count = self._reviewer.commit(partial=partial)
        done = self._reviewer.handed_in
        said = f"{count} new, {len(done)} in all; call cycle.run again to go on"
        self.send({"type": "committed", "requests": done, "text": f"handed in: {said}"})

    def tell(self) -> None:
        """Tell every page what was done since it was told the last time."""
        with self._turn:
            batch = self._reviewer.batch
            new = [event for event in batch.events if event["number"] > self._told]
            self._told = batch.number
            if mine := [event for event in new if event["request"] in batch.requests]:
                self.send({"type": "saved", "ids": [], "refused": [], "events": mine})
