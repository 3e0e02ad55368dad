"""What may come from a page: events are looked at before they are written down.

A page is a program somewhere else, perhaps an old one: what it sends is not trusted. An event that
does not fit is refused in words, and the page keeps it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from almining.records import VERDICTS, Request

BOXES = ("add", "accept", "reject", "change", "remove", "finish")
DOES = {  # what can be done, by the kind of request
    "complete": BOXES,
    "region": BOXES,
    "verify": ("verdict",),
    "tag": ("tag", "finish"),
}
ALWAYS = ("skip", "reopen", "look", "undo", "redo")
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # those that must be, those that may
    "add": (("key", "box", "label"), ("ignore",)),
    "accept": (("key",), ()),
    "reject": (("key",), ()),
    "change": (("key",), ("box", "label", "ignore")),
    "remove": (("key",), ()),
    "verdict": (("verdict",), ()),
    "tag": (("label", "present"), ()),
    "undo": (("of",), ()),
    "redo": (("of",), ()),
}
COMMON = ("id", "request", "do", "seconds", "at")
LONGEST = 200  # characters of an id or a key
MOST = 1e9  # a number
SLACK = 0.01  # pixels that a page's rounding may pass the edge by; a side is no shorter
START = "start:"  # what the ids of events `start` begin with, and no others


def event(request_id: str, do: str, *, id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return an event as a page makes it.

    Args:
        request_id: what it is about.
        do: see `state`.
        id: tells it from any other; a new one by default.
        fields: what belongs to it; "seconds" is 0 by default.

    >>> event("q", "skip", id="1")
    {'id': '1', 'request': 'q', 'do': 'skip', 'seconds': 0.0}
    """
    name = str(uuid.uuid4()) if id is None else id
    return {"id": name, "request": request_id, "do": do, "seconds": 0.0, **fields}


def check_event(
    event: object,
    requests: Mapping[str, Request],
    classes: Sequence[str],
    sizes: Mapping[str, Sequence[int]],
    log: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Raise a `ValueError` unless an event can be written down, or is written already.

    Args:
        event: what came.
        requests: those of the run, by id.
        classes: the names of classes 1...C.
        sizes: (height, width) of the images looked at, by request id; boxes lie within.
        log: what is written, by event id.
    """
    if not isinstance(event, Mapping):
        raise ValueError(f"an event is an object, got {type(event).__name__}")
    _check_text(event, "id")
    if old := log.get(event["id"]):
        if {**event, "number": 0} != {**old, "number": 0}:
            raise ValueError(f"another event has the id {event['id']!r}; reload the page")
        return
    _check_text(event, "do")
    if event["id"].startswith(START):
        raise ValueError(f"id = {event['id']!r}: {START!r} is how others begin; use a new uuid")
    asked, do = event.get("request"), event["do"]
    request = requests.get(asked) if isinstance(asked, str) else None
    if request is None:
        raise ValueError(
            f"request {asked!r:.{LONGEST}} is not under review: this run never asked it, or its "
            "cycle is over"
        )
    if do not in (*ALWAYS, *DOES[request.kind]):
        can = ", ".join((*DOES[request.kind], *ALWAYS))
        raise ValueError(f"do = {do!r} does not answer a {request.kind} request; it takes {can}")
    must, may = FIELDS.get(do, ((), ()))
    for name in must:
        if name not in event:
            raise ValueError(f"{do} has no {name!r}; it needs {', '.join(must)}")
    if strange := sorted(set(event) - {*COMMON, *must, *may}):
        raise ValueError(f"{do} has {strange[0]!r}, which is unknown; leave it out")
    for name in ("seconds", *event):
        if name in CHECKS:
            CHECKS[name](event, name)
    if "label" in event and event["label"] > len(classes):
        raise ValueError(f"label = {event['label']}, but the run has {len(classes)} classes")
    if DOES[request.kind] == BOXES and do in BOXES:
        if request.id not in sizes:
            raise ValueError(f"{do} comes before the image was shown; open the image first")
        if "box" in event:
            _check_box(event["box"], sizes[request.id])
    about = log.get(event.get("of", ""), event)["request"]
    if about != request.id:
        raise ValueError(
            f"{do} of an event about request {about!r}: it is about that request, too, not "
            f"{request.id!r}"
        )


def _check_text(event: Mapping[str, Any], name: str) -> None:
    value = event.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or not value.isprintable():
        raise ValueError(
            f"{name} = {str(value)[:50]!a}: 1 to {LONGEST} characters are needed, ones to be read"
        )


def _check_seconds(event: Mapping[str, Any], name: str) -> None:
    value: Any = event.get(name)
    if not _is_number(value) or value < 0:
        raise ValueError(f"{name} = {value!r}: a finite number >= 0 is needed")


def _check_label(event: Mapping[str, Any], name: str) -> None:
    value = event[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} = {value!r}: the number of a class, 1...C, is needed")


def _check_truth(event: Mapping[str, Any], name: str) -> None:
    if not isinstance(event[name], bool):
        raise ValueError(f"{name} = {event[name]!r}: true or false is needed")


def _check_verdict(event: Mapping[str, Any], name: str) -> None:
    if event[name] not in VERDICTS[:2]:
        raise ValueError(f"{name} = {event[name]!r}: use accept or reject")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _check_box(box: object, size: Sequence[int]) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"box = {box!r}: four finite numbers x1, y1, x2, y2 are needed")
    x1, y1, x2, y2 = box
    if min(x2 - x1, y2 - y1) < SLACK:
        raise ValueError(
            f"box = {box}: x1 < x2 and y1 < y2 are needed, by {SLACK} pixels; it has no area"
        )
    height, width = size
    if min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        raise ValueError(
            f"box = {box} leaves the image of {width} x {height} pixels; draw it inside"
        )


CHECKS = {
    "seconds": _check_seconds,
    "at": _check_text,
    "key": _check_text,
    "of": _check_text,
    "label": _check_label,
    "ignore": _check_truth,
    "present": _check_truth,
    "verdict": _check_verdict,
}
