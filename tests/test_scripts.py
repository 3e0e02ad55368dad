import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from almining.data.proposals import Grid
from almining.data.toy.worlds import PLAIN, Dials
from almining.papers import baselines
from data_scripts import draw_pictures, first_cycle, proposal_recall


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    short = baselines.Config(steps_per_image=0.5, batch=2, lr=1e-3, optimizer="adamw")
    monkeypatch.setattr(baselines.Config, "toy", classmethod(lambda cls: short))
    monkeypatch.setattr(first_cycle.al.lab, "SCALES", {"small": {"images": 8, "test": 2}})

    def run(*arguments: str) -> str:
        asked = ["first_cycle", "--name", "x", "--results", str(tmp_path), "--labelled", "2"]
        small = ["--budget", "2", "--cycles", "1", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [*asked, *small, *arguments])
        first_cycle.main()
        return capsys.readouterr().out

    return run


def test_first_cycle_writes_each_run_once(call, tmp_path: Path) -> None:
    said = call("--seeds", "0")
    assert "random 0 [" in said and "entropy 0 [" in said
    assert "| entropy is above random with 4 images labelled | +0.005 on VOC07 |" in said
    before = json.loads((tmp_path / "first_cycle_x.json").read_text())
    assert [(run["arm"], run["seed"]) for run in before["runs"]] == [("random", 0), ("entropy", 0)]
    assert before["labelled"] == 2
    assert before["claims"][0]["verdict"] == "unresolved"  # one seed
    assert "random 0 [" not in call("--seeds", "0")  # done before: shown, not run
    call("--seeds", "0", "1")
    after = json.loads((tmp_path / "first_cycle_x.json").read_text())
    assert after["runs"][:2] == before["runs"] and len(after["runs"]) == 4
    assert (tmp_path / "first_cycle_x.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match=r"holds other runs: \{'budget': \(2, 3\)\}"):
        call("--budget", "3")


def test_claims_pair_the_seeds() -> None:
    def made(arm: str, seed: int, value: float) -> dict:
        rows = [{"images": 5}, {"images": 7, "metrics": {"AP50": value}}]
        return {"arm": arm, "seed": seed, "rows": rows, "minutes": 1.5}

    ups = [made("random", 0, 0.1), made("random", 1, 0.5), made("entropy", 1, 0.6)]
    (row,) = first_cycle.claims([*ups, made("entropy", 0, 0.2)], "x")
    assert row["claim"].endswith("7 images labelled") and row["minutes"] == 6
    assert row["mean"] == pytest.approx(0.1) and row["verdict"] == "holds"


def test_spread_gives_mean_and_interval_of_each_cycle() -> None:
    def made(arm: str, seed: int) -> dict:
        value = 0.1 + 0.2 * seed
        return {"arm": arm, "seed": seed, "rows": [{"images": 5, "metrics": {"AP50": value}}]}

    lines = first_cycle.spread([made(arm, seed) for arm in first_cycle.ARMS for seed in (0, 1)])
    # two values, 0.1 and 0.3: 0.2 -+ 12.706 * 0.1414 / sqrt(2)
    assert lines.splitlines()[-1] == "| 5 | 0.200 [-1.071, 1.471] | 0.200 [-1.071, 1.471] |"


def test_pictures() -> None:
    assert draw_pictures.toy_world(0, 2).startswith(b"\x89PNG")
    dial = draw_pictures.Dial("parts", "wheels", 0, [("True", {"parts": True, "rows": 1.0})])
    films = [("by day", 7, 108, 0.9, "day")]  # some of its boxes are to be ignored
    for made in (
        draw_pictures.toy_failures(7, [[dial]]),
        draw_pictures.toy_street(7, films),
    ):
        assert Image.open(io.BytesIO(made)).width == draw_pictures.WIDTH


def test_the_dials_shown_are_those_of_the_toy_world() -> None:
    shown = {dial.name: dial for row in draw_pictures.DIALS for dial in row}
    assert set(shown) | {"row_length"} == set(Dials.__annotations__)
    for dial in shown.values():
        for text, settings in dial.settings:
            usual = getattr(PLAIN, dial.name)
            assert settings.get(dial.name, usual) == usual or "default" not in text


def test_proposal_recall_writes_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proposal_recall, "METHODS", {"grid": Grid()})
    monkeypatch.setattr(proposal_recall, "ENLARGED", {})
    file = tmp_path / "proposals.md"
    monkeypatch.setattr(sys, "argv", ["proposal_recall", "--images", "3", "--file", str(file)])
    proposal_recall.main()
    line = file.read_text().splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["toy scenes: 3 images", "grid", "1198"]
    assert 0 <= float(cells[4]) <= float(cells[3]) <= 1
    assert float(cells[5]) <= float(cells[3]) and line in capsys.readouterr().out
