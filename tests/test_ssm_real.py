"""Pasting real objects: what the script chooses, writes and draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import almining as al
from almining.boxes import iou
from almining.data.formats.write_voc import write_voc
from almining.data.scenes import make_scenes
from data_scripts import ssm_real


def test_regions_are_an_object_beside_it_and_nothing() -> None:
    pool = make_scenes(8, seed=3)
    found = ssm_real.regions(pool, 4, seed=0)
    assert [len(some) for some in found.values()] == [4, 4, 4]
    for right, loose, wrong in zip(*found.values(), strict=True):
        target = pool.target(right.image_id)
        assert right.image_id == loose.image_id == wrong.image_id
        assert right.label == loose.label == wrong.label
        assert bool((target.boxes == right.box).all(dim=1).any())
        assert 0.2 <= float(iou(right.box[None], loose.box[None])) < 0.5
        assert float(iou(target.boxes, wrong.box[None]).max()) == 0
    assert found["wrong"][0].box.equal(ssm_real.regions(pool, 4, seed=0)["wrong"][0].box)


def test_a_row_without_a_region_is_empty() -> None:
    made = ssm_real.row("not seen", "hard", {"right": [0.5], "loose": [], "wrong": [0.25]})
    assert (made["regions"], made["right"], made["loose"], made["AUC"]) == (1, 0.5, None, 1.0)
    lines = ssm_real.table({"rows": [made]}).splitlines()
    assert lines[-1] == "| not seen | hard | 1 | 0.500 | None | 0.250 | 1.000 |"


def test_it_runs_on_a_folder_in_vocs_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        write_voc(make_scenes(4, seed=3), tmp_path / "voc", split, overwrite=True, progress=False)
    monkeypatch.chdir(tmp_path)  # proposals are kept below
    monkeypatch.setattr(al.lab, "START_STEPS", {"cpu": 1})
    file, picture = tmp_path / "real.json", tmp_path / "real.png"
    command = [
        "ssm_real",
        str(tmp_path / "voc"),
        "--objects",
        "1",
        "--test",
        "1",
        "--contexts",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--file", str(file), "--picture", str(picture)])
    ssm_real.main()
    found = json.loads(file.read_text())
    assert (found["images"], found["test"], len(found["rows"])) == (4, 1, 6)
    assert [row["edge"] for row in found["rows"]] == ["hard", "feather", "poisson"] * 2
    assert file.with_suffix(".md").read_text().rstrip().endswith(capsys.readouterr().out.strip())
    assert picture.read_bytes().startswith(b"\x89PNG")
