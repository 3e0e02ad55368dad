"""Every row of the catalogue of bad inputs comes to the verdict wanted, and clean sets to none."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from almining.data.formats.report import Report, check_repairs
from almining.data.pool import DataError
from almining.data.readers import read_voc
from data_scripts import defect_table
from tests.data.defects import Outcome, Row, coco, judge, voc, xml
from tests.data.defects_rows import CLEAN, ROWS

Measure = Callable[[Row], Outcome]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Judge a row, once."""
    known: dict[str, Outcome] = {}

    def measure(row: Row) -> Outcome:
        if row.needs and importlib.util.find_spec(row.needs) is None:
            pytest.skip(f"needs {row.needs}")
        if str(row) not in known:
            known[str(row)] = judge(row, tmp_path_factory.mktemp("row"))
        return known[str(row)]

    return measure


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_defect(row: Row, measured: Measure) -> None:
    outcome = measured(row)
    assert (outcome.given, outcome.problems) == (row.wanted, ()), outcome.message


@pytest.mark.parametrize("row", CLEAN, ids=str)
def test_clean(row: Row, measured: Measure) -> None:
    outcome = measured(row)
    assert (outcome.given, outcome.problems) == ("N", ()), outcome.message


def test_the_rows_cover_the_catalogue() -> None:
    assert {row.number for row in ROWS} == set(range(1, 61))
    assert len(ROWS) >= 75 and len(CLEAN) >= 12
    names = [str(row) for row in (*ROWS, *CLEAN)]
    assert len(set(names)) == len(names)
    assert {row.wanted for row in CLEAN} == {"N"}
    assert all(row.words for row in ROWS if row.wanted in "EQ")
    assert all(row.holds for row in ROWS if row.wanted in "NR")


def test_the_committed_table_is_what_is_measured(measured: Measure) -> None:
    page = defect_table.table(
        [(row, measured(row)) for row in ROWS], [(row, measured(row)) for row in CLEAN]
    )
    assert verdicts(defect_table.FILE.read_text(encoding="utf-8")) == verdicts(page)


def verdicts(page: str) -> list[str]:
    """Return a page without the messages, which depend on versions."""
    return [re.sub(r"^((?:\|[^|]*){5}\|).*", r"\1", line) for line in page.splitlines()]


def test_the_table_says_what_is_not_as_wanted() -> None:
    row = ROWS[0]
    good, bad = Outcome(row.wanted, "a | b"), Outcome("N", problems=("the content is not right",))
    page = defect_table.table([(row, good), (row, bad)], [(CLEAN[0], bad)])
    lines = page.splitlines()
    assert "1 of 2 data sets" in lines[0] and "0 of 1 clean" in lines[0]
    start = f"| {row.number} | {row.name} | {row.format} | {row.wanted} |"
    assert f"{start} {row.wanted} | `a \\| b` |" in lines
    assert f"{start} N, but the content is not right |  |" in lines
    assert lines[-1].endswith("| N, but the content is not right |")


def test_the_script_measures_rows() -> None:
    ((row, outcome),) = defect_table.measure(ROWS[:1])
    assert row is ROWS[0] and outcome.given == row.wanted and not outcome.problems


# the judge itself


GOOD_COCO = coco(0, "x", "N")


@pytest.mark.parametrize(
    ("row", "given", "problem"),
    [
        (GOOD_COCO, "N", None),
        (replace(GOOD_COCO, holds=lambda pool: False), "N", "the content is not right"),
        (replace(GOOD_COCO, wanted="R"), "N", "0 findings instead of 1: []"),
        (replace(GOOD_COCO, words=("bbox",)), "N", "does not say 'bbox'"),
        (replace(GOOD_COCO, fatal=True), "N", "strict=False reads what is wrong as a whole"),
        (
            replace(GOOD_COCO, lenient=lambda pool: True),
            "N",
            "strict=False: nothing is said to be set aside",
        ),
        (voc(0, "x", "E", "", lenient=lambda pool: False), "E", "strict=False: wrong content"),
        (voc(0, "x", "E", "", findings=2), "E", "1 errors instead of 2"),
    ],
)
def test_the_judge(row: Row, given: str, problem: str | None, tmp_path: Path) -> None:
    outcome = judge(row, tmp_path)
    assert outcome.given == given and outcome.problems == (() if problem is None else (problem,))


# what the table cannot hold


def test_repairs_are_known_by_name(tmp_path: Path) -> None:
    assert check_repairs((), known=("swap",)) == frozenset()
    assert Report(True, check_repairs(["swap"], known=("swap", "orphans"))).repairs == {"swap"}
    with pytest.raises(ValueError, match=r"'swab'.*use 'swap' or 'orphans'"):
        check_repairs(["swab"], known=("swap", "orphans"))
    with pytest.raises(ValueError, match=r"repair = 'swap': a sequence of names is needed"):
        check_repairs("swap", known=("swap",))
    with pytest.raises(ValueError, match=r"'renumber'.*use 'swap'"):
        read_voc(tmp_path, "train", repair=["renumber"])


def test_annotations_that_are_all_behind_a_broken_link(tmp_path: Path) -> None:
    def files(root: Path) -> None:
        (root / "Annotations").rename(root / "elsewhere")
        (root / "Annotations").symlink_to("gone")

    row = voc(24, "x", "Q", xml(), files=files)
    row.make(tmp_path)
    with pytest.raises(DataError, match="no image is left") as error:
        row.read(tmp_path)
    aside = [finding for finding in error.value.findings if finding.action == "quarantined"]
    assert len(aside) == 2 and "link Annotations is broken" in aside[0].remedy


def test_only_sets_that_look_like_percent_are_refused(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.name == "percent")
    row.make(tmp_path)
    path = tmp_path / "instances.json"
    whole = path.read_text()
    assert '"bbox": [4.25' in whole
    path.write_text(whole.replace('"width": 500', '"width": 150'))  # 100 is no limit there
    assert len(row.read(tmp_path)) == 6


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: error; there is no such folder; correct the path"):
        read_voc(tmp_path / "gone", "train")
