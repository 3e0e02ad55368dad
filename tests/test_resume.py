"""Runs killed in one process go on in another to the same hashes, wherever they were cut."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from almining.ledger import open_ledger
from tests.resumable import finished

CUTS = [  # where, and how often that place was passed before
    *(("query", 0), ("query", 1), ("asked", 0), ("asked", 1)),
    *(("answer", 0), ("answer", 2), ("answer", 5), ("answered", 0), ("answered", 4)),
    *(("step", 0), ("step", 2), ("step", 5), ("step", 7)),
    *(("save", 0), ("save", 3), ("save", 6)),  # half a checkpoint is on disk
    *(("close", 0), ("close", 1), ("close", 2), ("closed", 1)),
]


@cache
def uncut(detector: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return finished({"run_dir": folder, "detector": detector})


def cut(place: str, number: int, workers: int, detector: str, folder: Path) -> bool:
    """Whether a run that was killed there, and went on, ends as one that was not."""
    spec = {"run_dir": str(folder), "detector": detector, "workers": workers}
    if finished(spec | {"cut": [place, number]}):
        raise RuntimeError(f"the run never passed {place} {number} times")
    return finished(spec) == uncut(detector)


@pytest.mark.parametrize(
    ("place", "number", "workers", "detector"),
    [("save", 6, 2, "faster_rcnn"), ("answer", 2, 0, "retinanet")],
)
def test_two_cuts(place, number, workers, detector, tmp_path: Path) -> None:
    assert cut(place, number, workers, detector, tmp_path)
    with open_ledger(tmp_path) as ledger:
        names = [answer["request_id"] for answer in ledger.answers()]
        assert len(names) == len(set(names)) == 6  # none lost, none doubled


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("place", "number"), CUTS)
def test_twenty_cuts(place, number, workers, detector, tmp_path: Path) -> None:
    assert cut(place, number, workers, detector, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "number"), [("query", 1), ("asked", 1), ("answer", 4), ("step", 6), ("save", 6)]
)
def test_pairs_are_kept_through_cuts(place, number, tmp_path: Path) -> None:
    assert cut(place, number, 0, "mist", tmp_path)
