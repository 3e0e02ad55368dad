"""Pairs on the reader's own images: what the script counts, writes and draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import almining as al
from almining.data.formats.write_voc import write_voc
from almining.data.pool import Pool
from almining.data.proposals import Grid
from almining.data.scenes import make_scenes
from almining.records import Detections
from data_scripts import bib_real
from tests.fakes import FlatDetector, FlatImages, boxes, labels, target

SEEN = Detections(
    boxes((0, 0, 20, 12), (1, 1, 8, 8), (1, 1, 7, 7), (0, 0, 20, 12), (1, 1, 8, 8)),
    labels(1, 1, 1, 2, 2),
    torch.tensor([0.9, 0.8, 0.2, 0.9, 0.9]),
)


class Detector(FlatDetector):
    """Sees the same everywhere."""

    proposer = None

    def detect(self, images):
        return [SEEN for _ in images]


def test_only_the_surest_boxes_of_the_tags_are_counted() -> None:
    pool = Pool(("dark", "light"), {"a-1": target((0, 0, 20, 13))}, FlatImages())
    lab = SimpleNamespace(detector=Detector())
    row, pairs = bib_real.look(lab, pool, "grid", Grid(), 2)
    assert (row["boxes"], row["right"], row["pairs"], row["images"]) == (2, 0.5, 1, 1)
    assert (row["wrong"], row["small"], row["large"]) == (1.0, 1.0, 0.0)
    assert row["proposals"] == len(Grid()((16, 24))) and 0 <= row["tight"] <= row["recall"] <= 1
    assert pairs["a-1"][1].tolist() == [[1, 0]] and isinstance(lab.detector.proposer, Grid)
    none, nothing = bib_real.look(lab, pool, "grid", Grid(), 1)
    assert none["wrong"] is None and none["pairs"] == 0 and nothing == {}
    assert bib_real.draw(pool, nothing, 3).texts[0].get_text() == "no pairs"
    lines = bib_real.table({"rows": [row, none]}).splitlines()
    assert len(lines) == 4 and lines[2].endswith("| 1 | 1.000 | 1.000 | 0.000 |")
    assert lines[3].endswith("| 0 | none | none | none |")


def test_it_runs_on_a_folder_in_vocs_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        made = make_scenes(2, seed=3)
        write_voc(made, tmp_path / "voc", split, overwrite=True, progress=False)
    monkeypatch.chdir(tmp_path)  # proposals are kept below
    monkeypatch.setattr(al.lab, "START_STEPS", {"cpu": 1})
    monkeypatch.setattr(bib_real.importlib.util, "find_spec", lambda name: None)
    file, picture = tmp_path / "real.json", tmp_path / "real.png"
    command = ["bib_real", str(tmp_path / "voc"), "--look", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--file", str(file), "--picture", str(picture)])
    bib_real.main()
    said = capsys.readouterr().out
    assert "OpenCV is missing: no boxes of selective search" in said
    found = json.loads(file.read_text())
    assert (found["images"], found["looked"], found["test"], len(found["rows"])) == (2, 1, 2, 1)
    assert 0 < found["rows"][0]["boxes"] <= found["most"] == 20
    assert file.with_suffix(".md").read_text().rstrip().splitlines()[-1] in said
    assert picture.read_bytes().startswith(b"\x89PNG")
