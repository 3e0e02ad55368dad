"""The script that scores real street frames, run on drawn ones in the same layout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from torchvision.utils import save_image

from almining.data.street import make_street
from data_scripts import divergence_real


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    street = make_street(2, 3, seed=0, busy=1.0)
    images, boxes = [], []
    for number, image_id in enumerate(street.ids, start=1):
        info = street.info(image_id)
        save_image(street.image(image_id), tmp_path / "images" / f"{number}.png")
        size = {"width": 192, "height": 128, "file_name": f"{number}.png"}
        images.append({"id": number, "sequence": info.video, "frame": info.frame} | size)
        for x1, y1, x2, y2 in street.target(image_id).boxes.tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            boxes.append({"id": len(boxes) + 1, "image_id": number, "category_id": 1} | box)
    content = {"images": images, "annotations": [one | {"iscrowd": 0} for one in boxes]}
    content["categories"] = [{"id": 1, "name": "pedestrian"}]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["divergence_real.py", *map(str, arguments)])
    divergence_real.main()


def test_frames_are_scored_and_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pictures = root / "out" / "r.json", root / "pictures"
    file.parent.mkdir()
    small = ("--height", 64, "--steps", 1, "--file", file, "--pictures", pictures)
    run(monkeypatch, root, "--learn", "street-0-0", "--look", "street-0-1", *small)
    content = json.loads(file.read_text())
    assert content["learned from"] == "3 frames of street-0-0, 1 of street-0-1"
    assert len(content["divergence"]) == len(content["persons"]) == 2
    assert len(content["picked of 4"]) == 1  # two frames side by side: the rules leave one
    assert (content["radius"], content["region"]) == (1, 4)
    assert "| frames per second | " in file.with_suffix(".md").read_text()
    assert len([*pictures.glob("*.png")]) == 4
    with pytest.raises(SystemExit, match="no frame of 'elsewhere'"):
        run(monkeypatch, root, "--look", "elsewhere", "--learn", "street-0-0", *small)
