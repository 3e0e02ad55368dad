"""Logs of a review made at random, and what they say, for tests."""

from __future__ import annotations

import random
from typing import Any

DOES = (
    *("add", "accept", "reject", "change", "remove", "tag", "verdict"),
    *("finish", "skip", "reopen", "look", "undo", "undo", "redo", "start"),
)


def log(seed: int, count: int = 40) -> list[dict[str, Any]]:
    """Return so many events about two requests: sensible ones, and ones with nothing to act on."""
    draw = random.Random(seed)
    return [event(draw, number) for number in range(count)]


def event(draw: random.Random, number: int) -> dict[str, Any]:
    """Return an event; ids come again now and then, as when a page sends twice."""
    fields = {
        "key": draw.choice(["p0", "p1", "k0", "d0", "d1", "gone"]),
        "box": box(draw),
        "label": draw.randint(1, 3),
        "ignore": draw.random() < 0.3,
        "present": draw.random() < 0.7,
        "verdict": draw.choice(["accept", "reject"]),
        "of": str(draw.randrange(max(number, 1))),
    }
    do = draw.choice(DOES)
    names = {
        "add": ["key", "box", "label", "ignore"],
        "change": ["key", *draw.sample(["box", "label", "ignore"], draw.randint(0, 3))],
        "tag": ["label", "present"],
        "verdict": ["verdict"],
        "undo": ["of"],
        "redo": ["of"],
        **{one: ["key"] for one in ("accept", "reject", "remove")},
    }
    made = {name: fields[name] for name in names.get(do, [])}
    if do == "start":
        made = {"size": [100, 100], "known": [whole("k0", draw)], "proposed": []}
        made["proposed"] = [whole("p0", draw, 0.5), whole("p1", draw, 0.25)]
    name = str(draw.randrange(number) if number and draw.random() < 0.05 else number)
    about = {"id": name, "request": draw.choice("qr"), "do": do, "seconds": draw.choice([0, 0.5])}
    return {**about, **made}


def box(draw: random.Random) -> list[float]:
    x1, y1 = draw.randrange(50), draw.randrange(50)
    return [x1, y1, x1 + draw.randint(1, 50), y1 + draw.randint(1, 50) + 0.25]


def whole(key: str, draw: random.Random, score: float | None = None) -> dict[str, Any]:
    about = {"label": draw.randint(1, 3), "ignore": False, "score": score}
    return {"key": key, "box": box(draw), **about}
