import json
from functools import partial

import pytest

from almining import progress
from almining.progress import FILE, Mirror, bar, quiet


@pytest.fixture
def shown(monkeypatch):
    """Bars, though the environment hid them when tqdm was imported."""
    monkeypatch.delenv("RANK", raising=False)
    for name in ("tqdm", "_Written"):
        monkeypatch.setattr(progress, name, partial(getattr(progress, name), disable=False))


def test_a_bar_is_shown_once_by_the_first_rank_alone(shown, monkeypatch, capsys) -> None:
    assert list(bar([1, 2], progress="mine", name="work", unit="it")) == [1, 2]
    assert "mine: " in capsys.readouterr().err
    assert list(bar([1, 2], progress=False, name="work", unit="it")) == [1, 2]
    monkeypatch.setenv("RANK", "1")
    assert list(bar([1, 2], progress=True, name="work", unit="it")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_bars_below_are_hidden(shown, capsys) -> None:
    with quiet(), quiet(False):
        assert list(bar([1, 2], progress="mine", name="work", unit="it")) == [1, 2]
    assert capsys.readouterr().err == ""
    with quiet(False):
        assert list(bar([1, 2], progress="mine", name="work", unit="it")) == [1, 2]
    assert "mine: " in capsys.readouterr().err


def test_another_process_shows_the_bar(shown, monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "progress.json"
    with Mirror(path, progress="ranks") as mirror:
        mirror.update()  # nothing there yet
        for name, total in (("score", 40), ("train", 7)):
            monkeypatch.setenv(FILE, str(path))
            with bar(total=total, progress=True, name=name, unit="image") as one:
                one.update(3)
                one.set_postfix(loss="0.5")
                state = json.loads(path.read_text())
                assert state["n"] == 3 and state["total"] == total and state["desc"] == name
                assert f"{name}: " not in capsys.readouterr().err  # only through the file
                mirror.update()
                err = capsys.readouterr().err
                assert f"ranks: {name}: " in err and f"3/{total}" in err and "loss=0.5" in err


def test_nothing_is_mirrored_where_no_bar_is_wanted(shown, monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "progress.json"
    path.write_text("not looked at")
    with Mirror(path, progress=False) as mirror:
        mirror.update()
    assert capsys.readouterr().err == ""
