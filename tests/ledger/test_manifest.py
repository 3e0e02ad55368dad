from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from almining.ledger import Ledger, LedgerError, RunMismatchError, open_ledger
from almining.ledger.manifest import ABSENT, Difference, differences

RUN = {
    "recipe": {"name": "bib", "config": {"pace": 0.9, "levels": [1, 2]}},
    "classes": ["car", "dog"],
    "threads": 1,
    "data": {"sha256": "aa"},
}


@pytest.fixture
def begun(tmp_path: Path) -> Ledger:
    with open_ledger(tmp_path) as ledger:
        ledger.begin(RUN)
        yield ledger


@pytest.mark.parametrize(
    ("then", "now", "found"),
    [
        ({}, {}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)]),
        ({"a": 1}, {"b": 1}, [("a", 1, ABSENT), ("b", ABSENT, 1)]),
        ({"a": None}, {}, [("a", None, ABSENT)]),
        ([1, 2], [1, 3, 4], [("1", 2, 3), ("2", ABSENT, 4)]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("a.0.b", 1, 2)]),
        ({"a": {}}, {"a": []}, [("a", {}, [])]),
        ({"a": True}, {"a": 1}, [("a", True, 1)]),
        ({"a": 0.0}, {"a": -0.0}, [("a", 0.0, -0.0)]),
        ({"a": math.nan, "b": math.inf}, {"b": math.inf, "a": math.nan}, []),
        ({".a": 1}, {".a": 2}, [(".a", 1, 2)]),
    ],
)
def test_every_difference_is_found(then: object, now: object, found: list[tuple]) -> None:
    assert list(differences(then, now)) == [Difference(*one) for one in found]


def test_the_same_run_agrees(begun: Ledger) -> None:
    before = (begun.folder / "manifest.json").read_bytes()
    begun.agree(RUN)
    begun.agree(dict(reversed(RUN.items())) | {"classes": ("car", "dog")}, accept=["threads"])
    assert (begun.folder / "manifest.json").read_bytes() == before
    assert begun.events() == []


def test_another_run_is_refused_with_every_difference(begun: Ledger) -> None:
    other = {
        "recipe": {"name": "bib", "config": {"pace": 0.8, "levels": [1, 2, 3]}},
        "classes": ["dog", "car"],
        "threads": 2,
        "seed": 3,
    }
    optional = {"threads": "sums may round differently", "data": "it is another data set"}
    with pytest.raises(RunMismatchError) as caught:
        begun.agree(other, optional=optional)
    assert str(caught.value).splitlines() == [
        f"{begun.folder} was begun with something else:",
        "  recipe.config.pace: 0.9 then, 0.8 now",
        "  recipe.config.levels.2: absent then, 3 now",
        '  classes.0: "car" then, "dog" now',
        '  classes.1: "dog" then, "car" now',
        "  threads: 1 then, 2 now (accept=('threads',) goes on nevertheless: sums may round "
        "differently)",
        '  data: {"sha256": "aa"} then, absent now (accept=(\'data\',) goes on nevertheless: it is '
        "another data set)",
        "  seed: absent then, 3 now",
        "Call again as it was then, or start in a new run directory.",
    ]
    assert len(caught.value.differences) == 7
    assert caught.value.differences[0] == ("recipe.config.pace", 0.9, 0.8)
    assert begun.manifest["run"] == RUN
    assert begun.events() == []


def test_what_is_accepted_is_written_down(begun: Ledger) -> None:
    begun.save_weights(Path.touch, cycle=1, step=1, done=True, tag="")
    weights = begun.manifest["weights"]
    other = RUN | {"threads": 4}
    with pytest.raises(RunMismatchError, match=r"accept=\('threads',\) goes on nevertheless\)"):
        begun.agree(other, optional=["threads"])
    begun.agree(other, accept=("threads",), optional=["threads"])
    assert begun.manifest == {"format": 1, "run": other, "weights": weights}
    (event,) = begun.events()
    assert (event["what"], event["text"]) == ("accepted", "threads: 1 then, 4 now")
    begun.agree(other)
    with pytest.raises(RunMismatchError, match="threads: 4 then, 1 now"):
        begun.agree(RUN)


def test_what_is_not_safe_cannot_be_accepted(begun: Ledger) -> None:
    other = RUN | {"classes": ["car", "cow"], "threads": 2}
    with pytest.raises(RunMismatchError) as caught:
        begun.agree(other, accept=("classes", "threads"), optional=("threads",))
    assert '  classes.1: "dog" then, "cow" now\n' in str(caught.value)
    assert "threads" not in str(caught.value)
    assert begun.manifest["run"] == RUN
    with pytest.raises(ValueError, match=r"accept = \['speed'\]: use some of recipe, classes, thr"):
        begun.agree(RUN, accept=("speed",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"format": 2, "run": {}, "weights": {}}), "has format 2, this version knows 1"),
        ('{"format": 1, "run": {', "cannot be read: .*; put a copy back"),
        ("1", "is no manifest of a run; choose another run directory"),
        ('{"name": "an app"}', "is no manifest of a run"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_manifest_that_is_none_is_refused(begun: Ledger, text: str, message: str) -> None:
    path = begun.folder / "manifest.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LedgerError, match=f"manifest.json {message}"):
        begun.agree(RUN)
    begun.close()
    with pytest.raises(LedgerError, match=f"manifest.json {message}"):
        open_ledger(begun.folder)
