"""NOTE-RCNN on the reader's own images: what the script counts, writes and draws."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import almining as al
from almining.data.formats.write_voc import write_voc
from almining.data.pool import Pool
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


def test_what_json_does_not_have_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    row = SimpleNamespace(cycle=1, metrics={"AP50": math.nan})
    rows = note_rcnn_real.rows_of(
        SimpleNamespace(rows=[row]), {1: {"mined": 2, "recall": math.nan}}
    )
    assert rows == [{"iteration": 1, "AP50": None, "mined": 2, "recall": None}]
    scores, counts, share = np.array([0.8, 0.4]), np.array([1, 2]), np.array([math.nan, 1.0])
    monkeypatch.setattr(note_rcnn_real, "precision_curve", lambda *_: (scores, counts, share))
    monkeypatch.setattr(note_rcnn_real, "mine_pool", lambda *_: {})
    found = note_rcnn_real.curve(None, make_scenes(1, seed=0), Pool((), {}, {}), Config())
    assert found[0] == {"above": 0.0, "boxes": 2, "precision": 1.0}
    assert found[-1] == {"above": 0.7, "boxes": 1, "precision": None}  # of ignored ones only


def test_a_run_that_was_stopped_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["note_rcnn_real", "voc", "--file", str(tmp_path / "a.json")])
    lab = SimpleNamespace(detector=None, pool=None, test=None)
    monkeypatch.setattr(al.lab, "setup", lambda *_, **__: lab)
    stopped = SimpleNamespace(interrupted="in cycle 1")
    monkeypatch.setattr(al.cycle, "run", lambda *_, **__: stopped)
    with pytest.raises(KeyboardInterrupt, match="in cycle 1"):
        note_rcnn_real.main()
    assert not list(tmp_path.iterdir())


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
