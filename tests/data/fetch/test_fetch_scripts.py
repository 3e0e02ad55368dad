import sys
import webbrowser
from pathlib import Path

import pytest
from PIL import Image

from almining.data.fetch.prepare import pool_of
from data_scripts import fetch_table, voc
from tests.data.fetch_cases import CASES, SCRIPTS, Script, judge, place


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{script.name}-{script.key}")
def test_every_script_in_every_case(
    script: Script, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(script, case, tmp_path)


def test_a_script_cuts_to_a_protocol_and_opens_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with place(SCRIPTS[0], tmp_path) as here:
        assert here.run("--split", "voc2007_test", "--protocol", "tags", "--sheet") == ""
        picture = here.root / "voc2007_test_tags_seed0.png"
        with Image.open(picture) as image:
            assert image.width > 300 and opened == [picture.as_uri()]
        assert repr(pool_of(here.root, picture.stem)) == "Pool(3: 3 tagged)"
        assert here.run("--split", "voc2007_train", "--protocol", "tags").startswith(
            f"{here.root / 'voc2007_train.json'} is not there; there are: voc2007_test, "
        )
        assert "source_classes" in here.run("--protocol", "voc-classes")
    said = capsys.readouterr().out
    assert "# voc2007_trainval" in said and "contact sheet: " in said
    assert "| images | 3 | 5,011 | 5,008 fewer |" in said


def test_a_script_says_what_it_offers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["voc.py", "--help"])
    with pytest.raises(SystemExit):
        voc.main()
    said = capsys.readouterr().out
    assert "{2007,2012}" in said and "labelled-5%" in said and "Co-mining §4.1, the hard" in said


def test_the_table_of_cases(tmp_path: Path) -> None:
    page = fetch_table.table(SCRIPTS[1:2], {"fresh": lambda script, case, folder: "well"})
    assert page.splitlines()[-1] == "| `voc.py 2012` | as wanted: well |"

    def wrong(script: Script, case: str, folder: Path) -> str:
        raise AssertionError("left | something")

    page = fetch_table.table(SCRIPTS[1:2], {"fresh": wrong})
    assert page.splitlines()[-1] == "| `voc.py 2012` | WRONG: left \\| something |"
    assert "of 1 cases 0 end as they should, 1 do not" in page
