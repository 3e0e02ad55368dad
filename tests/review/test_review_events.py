from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from almining.records import Request
from almining.review.events import check_event, event

BOX = torch.tensor([0.0, 0, 9, 9])
ASKED = {
    "c": Request("c", "a", "complete"),
    "r": Request("r", "a", "region", box=BOX),
    "v": Request("v", "a", "verify", box=BOX, label=1),
    "t": Request("t", "a", "tag"),
}
SIZES = {"c": [50, 100], "r": [50, 100]}
LOG = {one["id"]: one for one in (event("c", "skip", id="1"), event("over", "skip", id="2"))}


def check(given: object) -> None:
    check_event(given, ASKED, ["car", "boat"], SIZES, LOG)


@pytest.mark.parametrize(
    "good",
    [
        event("c", "add", key="d", box=[0, 0, 100, 50], label=2),
        event("c", "add", key="d", box=[0.5, 0, 100.005, 50], label=2, ignore=True, at="now"),
        event("r", "change", key="r", label=1),
        event("r", "finish", seconds=1.5),
        event("v", "verdict", verdict="reject"),
        event("t", "tag", label=2, present=False),
        *(event(name, do) for name in ASKED for do in ("skip", "reopen", "look")),
        event("v", "undo", of="unknown"),
        event("c", "undo", of="1"),
        LOG["2"],  # written before its cycle was over
    ],
)
def test_what_fits(good: dict[str, Any]) -> None:
    check(good)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (7, "an event is an object, got int"),
        ({}, "id = 'None': 1 to 200 characters"),
        (event("c", "skip", id=""), "id = ''"),
        (event("c", "skip", id="x" * 201), "1 to 200 characters are needed"),
        (event("other", "skip"), "'other' is not under review: this run never asked it"),
        (event("c", "start", size=[1, 1]), "do = 'start' does not answer a complete request"),
        (event("c", "verdict", verdict="accept"), "does not answer a complete request; it takes"),
        (event("v", "finish"), "does not answer a verify request"),
        (event("t", "add", key="d", box=[0, 0, 1, 1], label=1), "does not answer a tag request"),
        (event("c", "add", key="d", label=1), "add has no 'box'; it needs key, box, label"),
        (event("c", "accept", key="p", box=[0, 0, 1, 1]), "accept has 'box', which is unknown"),
        (event("c", "skip", number=3), "skip has 'number', which is unknown"),
        (event("c", "skip", seconds=-1), "seconds = -1: a finite number >= 0"),
        (event("c", "skip", seconds=float("nan")), "seconds = nan"),
        (event("c", "skip", seconds=True), "seconds = True"),
        (event("c", "change", key="k", label=0), "label = 0: the number of a class"),
        (event("c", "change", key="k", label=1.0), "label = 1.0"),
        (event("c", "change", key="k", label=3), "label = 3, but the run has 2 classes"),
        (event("c", "change", key="k", ignore=1), "ignore = 1: true or false"),
        (event("t", "tag", label=1, present="yes"), "present = 'yes'"),
        (event("v", "verdict", verdict="skip"), "verdict = 'skip': use accept or reject"),
        (event("c", "change", key="k", box=[0, 0, 1]), "four finite numbers"),
        (event("c", "change", key="k", box=[0, 0, 1, "1"]), "four finite numbers"),
        (event("c", "change", key="k", box=[0, 0, float("inf"), 1]), "four finite numbers"),
        (event("c", "change", key="k", box=[5, 0, 5, 1]), "it has no area"),
        (event("c", "change", key="k", box=[-1, 0, 5, 1]), "leaves the image of 100 x 50 pixels"),
        (event("c", "change", key="k", box=[0, 0, 5, 50.5]), "leaves the image of 100 x 50"),
        (event("c", "undo", of=3), "of = '3': 1 to 200 characters"),
        (event("v", "redo", of="1"), "redo of an event about request 'c': it is about that"),
        (event("c", "finish", id="1"), "another event has the id '1'; reload the page"),
        (event("c", "skip", id="start:c"), "id = 'start:c': 'start:' is how others begin"),
        (event("c", "skip", id="\ud800"), "1 to 200 characters are needed, ones to be read"),
        ({"id": "3", "request": "c", "do": "skip"}, "seconds = None: a finite number >= 0"),
        (event("c", "skip", seconds=10**400), "a finite number >= 0"),
        (event(["c"], "skip"), "request ['c'] is not under review"),  # type: ignore[arg-type]
        (event("c", "change", key="k", box=[0, 0, 10**400, 1]), "four finite numbers"),
        (event("c", "change", key="k", box=[5, 0, 5.001, 1]), "are needed, by 0.01 pixels"),
        (event("c", "change", key="k", box=[5, 1, 9, 1.001]), "are needed, by 0.01 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(bad: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check(bad)


@pytest.mark.parametrize("name", ["c", "r"])
@pytest.mark.parametrize("do", ["add", "finish"])
def test_boxes_need_an_image_that_was_shown(name: str, do: str) -> None:
    fields = {"key": "d", "box": [0, 0, 1, 1], "label": 1} if do == "add" else {}
    with pytest.raises(ValueError, match=f"{do} comes before the image was shown"):
        check_event(event(name, do, **fields), ASKED, ["car"], {})
