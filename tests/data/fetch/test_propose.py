import sys
from pathlib import Path

import pytest

from almining.data.fetch.propose import Proposed, propose
from almining.data.pool import Pool
from almining.data.proposals import Grid, cached
from almining.data.readers import read_coco
from almining.data.scenes import make_scenes
from almining.data.writers import write_coco
from data_scripts import proposals

GRID = Grid(sizes=(0.5,), ratios=(1.0,))


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    write_coco(make_scenes(5, seed=0), tmp_path / "made.json", copy=True)
    return read_coco(tmp_path / "made.json", tmp_path / "images")


def test_every_image_is_searched_once(pool: Pool, tmp_path: Path) -> None:
    each = len(GRID(pool.image(pool.ids[0])))
    assert propose(pool, GRID, tmp_path / "kept") == Proposed(5, 5 * each, 5, ())
    assert propose(pool, GRID, tmp_path / "kept") == Proposed(5, 5 * each, 0, ())
    known = cached(GRID, tmp_path / "kept")
    assert all(known.path(pool.image(image_id)).exists() for image_id in pool.ids)


def test_several_processes_find_the_same(pool: Pool, tmp_path: Path) -> None:
    one = propose(pool, GRID, tmp_path / "one")
    assert propose(pool, GRID, tmp_path / "two", processes=2) == one
    names = [sorted(path.name for path in (tmp_path / k).iterdir()) for k in ("one", "two")]
    assert names[0] == names[1]


def test_it_goes_on_where_it_was_stopped(pool: Pool, tmp_path: Path) -> None:
    propose(pool.subset(pool.ids[:2]), GRID, tmp_path / "kept")
    assert propose(pool, GRID, tmp_path / "kept").searched == 3


def test_a_broken_image_is_left_out_and_named(pool: Pool, tmp_path: Path) -> None:
    path = pool.info(pool.ids[1]).path
    assert path is not None
    path.write_bytes(b"no image")
    made = propose(pool, GRID, tmp_path / "kept")
    assert made.images == 4 and len(made.broken) == 1 and path.name in made.broken[0]


def test_some_process_is_needed(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="processes = 0: at least one is needed"):
        propose(pool, GRID, tmp_path, processes=0)


def test_the_script_says_how_fast_it_was(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["x", str(tmp_path / "made.json"), "--folder", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", [*asked, "--processes", "1"])
    proposals.main(GRID)
    said = capsys.readouterr().out
    assert said.startswith("5 images, ") and "5 searched in" in said and "and process" in said
