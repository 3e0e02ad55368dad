"""The script that trains on photographs, run on drawn ones in the same layout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from almining.data.formats.write_voc import write_voc
from almining.data.pool import Pool
from almining.data.regimes import sparse
from almining.data.scenes import make_scenes
from almining.papers.comining import Config
from almining.records import Detections
from data_scripts import comining_real as script
from tests.fakes import FlatDetector, FlatImages, boxes, labels, target


def test_it_runs_on_a_folder_in_vocs_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_scenes(4, seed=3)
    for split in ("trainval", "test"):
        write_voc(made, tmp_path / "voc", split, overwrite=True, progress=False)
    picture = tmp_path / "real.png"
    command = ["comining_real", str(tmp_path / "voc"), "--steps", "1", "--images", "3"]
    command += ["--results", str(tmp_path), "--picture", str(picture), "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "comining_real.json").read_text())
    assert [(run["arm"], run["seed"]) for run in found["runs"]] == [
        (arm, seed) for arm in ("comining", "comining, 0.6", "original") for seed in (0, 1)
    ]
    learned = made.subset(sorted(made.ids)[:3])
    left = sparse(learned, "hard", seed=0)
    erased = sum(len(learned.target(i)) - len(left.target(i)) for i in left.ids)
    assert found["runs"][0]["erased"] == erased > 0
    assert found["options"] == {
        "level": "hard", "steps": 1, "size": 160, "images": 3, "data": "voc", "device": "cpu"
    }  # fmt: skip
    assert [row["seeds"] for row in found["claims"]] == [[0, 1]] * 2
    assert (tmp_path / "comining_real.md").read_text().rstrip().splitlines()[-1] in said
    assert picture.read_bytes().startswith(b"\x89PNG")


class Detector(FlatDetector):
    """Sees the same everywhere."""

    def detect(self, images):
        rows = boxes((0, 0, 9, 9), (12, 1, 20, 9), (0, 10, 9, 15))
        return [Detections(rows, labels(1, 2, 1), torch.tensor([0.9, 0.8, 0.1])) for _ in images]


def test_what_is_found_beside_known_boxes() -> None:
    pool = Pool(("dark", "light"), {"a-1": target((0, 0, 9, 9))}, FlatImages())
    config = Config.toy()
    found = script.mined(Detector(), pool, config).target("a-1")
    assert found.origin == ("human", "mined") and found.labels.tolist() == [1, 2]


def test_means_over_seeds_and_none_where_nothing_was_found() -> None:
    one = {"AP50": 0.5, "erased": 4, "mined": 0, "precision": None, "recall": 0.0, "nobody": 3}
    runs = [
        {"arm": "original", "seed": 0, **one},
        {"arm": "original", "seed": 1, **one, "AP50": 0.7},
    ]
    row = {"seeds": [0], "arms": ["a", "b"], "mean": 0.25, "low": None, "verdict": "unresolved"}
    content = {"runs": runs, "claims": [{"seeds": []}, row]}
    none, _, original, *ends = script.table(content).splitlines()[2:]
    assert none == "| comining, 0.6" + " | none" * 6 + " |"
    assert original == "| original | 0.600 | 4 | 0 | none | 0.000 | 3 |"
    assert ends == ["", "AP50, a less b: +0.250, unresolved"]
