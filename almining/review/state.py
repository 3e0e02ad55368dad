"""What a review has come to: a fold over what a person did, without a browser.

An event is a JSON object. The log of them is the only truth: nothing in it changes, to undo is one
more event, and whoever folds the same log gets the same state. The page folds it, too, by the same
rules (`page.mjs`); a test compares the two.

| `do` | beside `id`, `request` and `seconds` | what it does |
|---|---|---|
| start | size, known, proposed | what the page begins with: boxes known, boxes predicted |
| add | key, box, label, ignore | draws a box |
| accept, reject | key | of a predicted box |
| change | key, and box, label or ignore | of any box; a predicted one is accepted by that |
| remove | key | a box drawn or known is gone, a predicted one is rejected |
| verdict | verdict | says yes or no to the box asked about, and finishes |
| tag | label, present | says that a class is there, or is not |
| finish, skip, reopen | | |
| look | | time spent, and nothing else |
| undo, redo | of | takes an event back, or takes that back |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from almining.records import Answer, Request, Target

BoxStatus = Literal["known", "proposed", "accepted", "rejected", "drawn"]
ItemStatus = Literal["open", "finished", "skipped"]
Event = Mapping[str, Any]
BESIDE = ("start", "look", "undo", "redo")  # what undo does not reach
EDITS = ("add", "accept", "reject", "change", "remove", "tag")  # what opens a request again
OWN = ("known", "drawn")  # boxes that nobody predicted
GIVEN = ("known", "accepted", "drawn")  # boxes that are in the answer


@dataclass(slots=True)
class Box:
    """A box of a request under review.

    Args:
        key: tells it from the others of its request.
        box: x1, y1, x2, y2 in pixels of the original image.
        label: its class, 1...C.
        ignore: whether it is neither positive nor negative.
        score: what it was predicted with; None for a person's.
        status: what the person thinks of it.
    """

    key: str
    box: list[float]
    label: int
    ignore: bool
    score: float | None
    status: BoxStatus


@dataclass(slots=True)
class Item:
    """A request under review.

    Args:
        boxes: by key, in the order they came.
        tags: the classes said to be there.
        verdict: on the box asked about.
        status: whether it is done.
        seconds: of a person's time, whatever came of it.
        size: (height, width) of the image; None before it was looked at.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    tags: set[int] = field(default_factory=set)
    verdict: Literal["accept", "reject"] | None = None
    status: ItemStatus = "open"
    seconds: float = 0.0
    size: list[int] | None = None

    @property
    def undecided(self) -> int:
        """How many predicted boxes are neither accepted nor rejected."""
        return sum(box.status == "proposed" for box in self.boxes.values())

    @property
    def given(self) -> list[Box]:
        """The boxes that are in the answer."""
        return [box for box in self.boxes.values() if box.status in GIVEN]


@dataclass(frozen=True, slots=True)
class Review:
    """What a review has come to.

    Args:
        items: by request id; one that nothing was done to is not there.
        undo: the id of the event that undo takes back; None when there is none.
        redo: the id of the event that redo brings back.
    """

    items: dict[str, Item]
    undo: str | None = None
    redo: str | None = None

    def item(self, request_id: str) -> Item:
        """Return the state of a request, untouched when nothing was done to it."""
        return self.items.get(request_id) or Item()

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values, as the page has it."""
        items = {
            name: asdict(item)
            | {"boxes": [asdict(box) for box in item.boxes.values()], "tags": sorted(item.tags)}
            for name, item in self.items.items()
        }
        return {"requests": items, "undo": self.undo, "redo": self.redo}


def fold(events: Iterable[Event]) -> Review:
    """Return what a log of events comes to.

    An event whose id was there before counts once. One that has nothing to act on, such as a change
    of a box that another tab removed, does nothing.

    Args:
        events: in the order they were written.

    >>> add = {"do": "add", "key": "a", "box": [0, 0, 9, 9], "label": 1}
    >>> log = [
    ...     {"id": "1", "request": "q", "seconds": 2.0, **add},
    ...     {"id": "2", "request": "q", "seconds": 1.0, "do": "undo", "of": "1"},
    ... ]
    >>> review = fold(log)
    >>> len(review.item("q").boxes), review.item("q").seconds, review.redo
    (0, 3.0, '1')
    """
    log: dict[str, Event] = {}
    for event in events:
        log.setdefault(event["id"], event)
    done, undone = _standing(log.values())
    items: dict[str, Item] = {}
    for event in log.values():
        item = items.setdefault(event["request"], Item())
        item.seconds += float(event["seconds"])
        if event["do"] == "start":
            _start(item, event)
        elif event["id"] in done:
            ACTIONS[event["do"]](item, event)
            if event["do"] in EDITS:
                item.status = "open"
    return Review(items, _last(done), _last(undone))


def _standing(log: Iterable[Event]) -> tuple[dict[str, None], dict[str, None]]:
    """Return the ids of the actions that count, and of those that were undone, in order."""
    done: dict[str, None] = {}
    undone: dict[str, None] = {}
    for event in log:
        if event["do"] in ("undo", "redo"):
            source, goal = (done, undone) if event["do"] == "undo" else (undone, done)
            if event["of"] in source:
                del source[event["of"]]
                goal[event["of"]] = None
        elif event["do"] not in BESIDE:
            done[event["id"]] = None
            undone.clear()
    return done, undone


def _last(ids: dict[str, None]) -> str | None:
    return next(reversed(ids), None)


def _start(item: Item, event: Event) -> None:
    item.size = item.size or list(event["size"])
    for status in ("known", "proposed"):
        for one in event[status]:
            item.boxes.setdefault(one["key"], Box(**one, status=status))


def _add(item: Item, event: Event) -> None:
    ignore = bool(event.get("ignore", False))
    box = Box(event["key"], list(event["box"]), event["label"], ignore, None, "drawn")
    item.boxes.setdefault(event["key"], box)


def _judge(item: Item, event: Event) -> None:
    box = item.boxes.get(event["key"])
    if box is not None and box.status not in OWN:
        box.status = "accepted" if event["do"] == "accept" else "rejected"


def _change(item: Item, event: Event) -> None:
    box = item.boxes.get(event["key"])
    if box is None:
        return
    box.box = list(event.get("box", box.box))
    box.label = event.get("label", box.label)
    box.ignore = event.get("ignore", box.ignore)
    if box.status not in OWN:
        box.status = "accepted"


def _remove(item: Item, event: Event) -> None:
    box = item.boxes.get(event["key"])
    if box is not None and box.status in OWN:
        del item.boxes[box.key]
    elif box is not None:
        box.status = "rejected"


def _verdict(item: Item, event: Event) -> None:
    item.verdict, item.status = event["verdict"], "finished"


def _tag(item: Item, event: Event) -> None:
    (item.tags.add if event["present"] else item.tags.discard)(event["label"])


def _finish(item: Item, event: Event) -> None:
    item.status = "finished"


def _skip(item: Item, event: Event) -> None:
    item.status = "skipped"


def _reopen(item: Item, event: Event) -> None:
    item.verdict, item.status = None, "open"


ACTIONS: dict[str, Callable[[Item, Event], None]] = {
    "add": _add,
    "accept": _judge,
    "reject": _judge,
    "change": _change,
    "remove": _remove,
    "verdict": _verdict,
    "tag": _tag,
    "finish": _finish,
    "skip": _skip,
    "reopen": _reopen,
}


def answer_of(request: Request, item: Item, *, by: str, seconds: float | None = None) -> Answer:
    """Return the answer a finished or skipped request comes to.

    A predicted box that is undecided is not in it.

    Args:
        request: what was asked.
        item: what came of it.
        by: who answered.
        seconds: in place of all the time spent.

    Raises:
        ValueError: while it is open.
    """
    spent = item.seconds if seconds is None else seconds
    if item.status == "open":
        raise ValueError(
            f"request {request.id!r} about image {request.image_id!r} is still open; finish it or "
            "skip it"
        )
    if item.status == "skipped":
        return Answer(request.id, verdict="skip", by=by, seconds=spent)
    if request.kind == "verify":
        return Answer(request.id, verdict=item.verdict, by=by, seconds=spent)
    if request.kind == "tag":
        return Answer(request.id, target=Target.unknown(item.tags), by=by, seconds=spent)
    given = item.given
    target = Target(
        torch.tensor([box.box for box in given], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([box.label for box in given], dtype=torch.int64),
        ignore=torch.tensor([box.ignore for box in given], dtype=torch.bool),
        complete=request.kind == "complete",
    )
    return Answer(request.id, target=target, by=by, seconds=spent)
