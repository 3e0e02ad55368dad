"""NOTE-RCNN on the reader's own images: what the script counts, writes and draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import almining as al
from almining.data.formats.write_voc import write_voc
from almining.data.scenes import make_scenes
from almining.papers.note_rcnn import Config
from data_scripts import note_rcnn_real


def test_a_table_has_a_line_for_each_iteration() -> None:
    first = {"iteration": 0, "AP50": 0.25}
    second = first | {"iteration": 1, "mined": 7, "precision": 0.5, "inaccurate": 2}
    content = {"rows": [first, second], "curve": [{"above": 0.3, "boxes": 9, "precision": None}]}
    lines = note_rcnn_real.table(content).splitlines()
    assert len(lines) == 8 and lines[2] == "| 0 | 0.250 |  |  |  |  |  |  |"
    assert lines[3] == "| 1 | 0.250 | 7 | 0.500 |  |  | 2 |  |" and lines[-1] == "| 0.3 | 9 |  |"


@pytest.mark.filterwarnings("ignore:no seed image holds:UserWarning")
def test_it_runs_on_a_folder_in_vocs_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        made = make_scenes(6, seed=3)
        write_voc(made, tmp_path / "voc", split, overwrite=True, progress=False)
    few = {"epochs": 0.1, "first_epochs": 0.1, "batch": 2, "min_score": 0.0, "iterations": 1}
    monkeypatch.setattr(Config, "toy", lambda: Config(**few))
    monkeypatch.setattr(al.lab, "START_STEPS", {"cpu": 1})
    file, picture = tmp_path / "real.json", tmp_path / "real.png"
    command = ["note_rcnn_real", str(tmp_path / "voc"), "--seeds", "1", "--iterations", "1"]
    more = ["--min-score", "0", "--test", "1"]
    monkeypatch.setattr(
        sys, "argv", [*command, *more, "--file", str(file), "--picture", str(picture)]
    )
    note_rcnn_real.main()
    found = json.loads(file.read_text())
    assert (found["images"], found["test"]) == (6, 1) and 0 < found["seeds"] < 6
    assert [row["iteration"] for row in found["rows"]] == [0, 1]
    assert found["rows"][1]["mined"] > 0 and "mined" not in found["rows"][0]
    assert found["curve"][0]["boxes"] == found["rows"][1]["mined"]  # both at θ_b = 0
    assert file.with_suffix(".md").read_text().rstrip().splitlines()[-1] in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
