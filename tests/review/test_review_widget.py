"""The widget without a browser: what a page sends, and what it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from almining.data.regimes import unlabelled
from almining.ledger import LockedError
from almining.review import Reviewer
from almining.review.events import event
from tests.fakes import FlatDetector
from tests.review.test_reviewer import HIDDEN, run

pytest.importorskip("anywidget")


class Page:
    """What a browser would hear."""

    def __init__(self, review: Reviewer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget, self.heard = review.widget, []
        monkeypatch.setattr(self.widget, "send", self._hear)

    def _hear(self, content: dict[str, Any], buffers: Any = None) -> None:
        self.heard.append(content | {"buffers": buffers})

    def say(self, **content: Any) -> list[dict[str, Any]]:
        return self.hears(content)

    def hears(self, content: Any) -> list[dict[str, Any]]:
        self.heard.clear()
        self.widget._handle_custom_msg(content, [])
        return list(self.heard)


@pytest.fixture
def review(tmp_path: Path) -> Reviewer:
    pool = unlabelled(HIDDEN, keep=2, seed=0)
    reviewer = Reviewer(pool, run_dir=tmp_path / "run", detector=FlatDetector())
    run(pool, tmp_path / "run", reviewer)
    return reviewer


@pytest.fixture
def page(review: Reviewer, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(review, monkeypatch)


def test_a_page_that_says_hello_hears_everything(page: Page, review: Reviewer) -> None:
    (batch,) = page.say(type="hello")
    assert (batch["type"], batch["run"], batch["classes"]) == ("batch", "run", ["dark", "light"])
    assert [one["id"] for one in batch["requests"]] == list(review.batch.requests)
    assert {one["kind"] for one in batch["requests"]} == {"complete"}
    assert all("entropy" in one["why"] for one in batch["requests"])
    assert (batch["events"], batch["committed"]) == ([], [])
    again = page.say(type="hello")[0]
    assert again["session"] == batch["session"] != ""


def test_an_image_comes_with_what_it_starts_from(page: Page, review: Reviewer) -> None:
    name = next(iter(review.batch.requests))
    saved, image = page.say(type="want", request=name)
    assert [one["do"] for one in saved["events"]] == ["start"]
    assert (image["type"], image["request"], image["size"]) == ("image", name, [16, 24])
    assert image["buffers"][0].startswith(b"\xff\xd8")
    assert [one["type"] for one in page.say(type="want", request=name)] == ["image"]


def test_what_is_done_is_on_disk_before_it_is_acknowledged(page: Page, review: Reviewer) -> None:
    page.say(type="hello")
    name = next(iter(review.batch.requests))
    mine, bad = event(name, "skip", seconds=2.0), event(name, "accept")
    told, saved = page.say(type="events", events=[mine, bad])
    assert saved["ids"] == [mine["id"]]
    assert saved["refused"] == [{"id": bad["id"], "text": "accept has no 'key'; it needs key"}]
    assert [one["id"] for one in told["events"]] == [mine["id"]]
    other = Reviewer(HIDDEN, run_dir=review.run_dir)
    assert other.state.item(name).status == "skipped"
    (again,) = page.say(type="events", events=[mine])
    assert (again["ids"], again["events"]) == ([mine["id"]], [])


def test_a_page_hears_of_what_others_did(page: Page, review: Reviewer) -> None:
    page.say(type="hello")
    first, second, _ = review.batch.requests
    other = Reviewer(HIDDEN, run_dir=review.run_dir)
    other.refresh()
    other.take([event(first, "skip", id="theirs")])
    told, _ = page.say(type="events", events=[event(second, "skip", id="mine")])
    assert [one["id"] for one in told["events"]] == ["theirs", "mine"]


def test_a_run_directory_in_use_is_said_and_not_an_error(
    page: Page, review: Reviewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.say(type="hello")

    def locked(*_: Any) -> None:
        raise LockedError("run is in use by process 7")

    name = next(iter(review.batch.requests))
    with monkeypatch.context() as patch:
        patch.setattr("almining.review.store.opened", locked)
        for said in ({"type": "hello"}, {"type": "events", "events": [event(name, "skip")]}):
            assert page.say(**said) == [
                {"type": "busy", "text": "run is in use by process 7", "buffers": None}
            ]
    assert review.state.items == {}


def test_a_page_that_asks_for_what_is_over_is_told_what_is_asked_now(page: Page) -> None:
    (batch,) = page.say(type="want", request="000/over")
    assert (batch["type"], len(batch["requests"])) == ("batch", 3)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"type": "commit", "partial": False}, "3 of 3 requests are not reviewed"),
        ({"type": "dance"}, "the page says {'type': 'dance'}; reload it"),
        ({"type": "events", "events": 3}, "the page says {'type': 'events', 'events': 3}"),
        ({}, "the page says {}; reload it"),
        (["events"], "the page says ['events']; reload it"),
    ],
)
def test_an_error_is_told_where_it_can_be_seen(page: Page, said: Any, text: str) -> None:
    (error,) = page.say(**said) if isinstance(said, dict) else page.hears(said)
    assert error["type"] == "error"
    assert error["text"].startswith(text)


def test_handing_in(page: Page, review: Reviewer) -> None:
    review.play(HIDDEN, most=2)
    batch, done = page.say(type="commit", partial=True)
    assert (done["type"], len(done["requests"])) == ("committed", 2)
    assert batch["committed"] == done["requests"]
    assert done["text"] == "handed in: 2 new, 2 in all; call cycle.run again to go on"


def test_what_cells_do_is_told_to_the_page(page: Page, review: Reviewer) -> None:
    page.say(type="hello")
    page.heard.clear()
    name = next(iter(review.batch.requests))
    review.play(HIDDEN)
    assert "finish" in [one["do"] for message in page.heard for one in message["events"]]
    review.commit()
    assert page.heard[-1]["committed"] == list(review.batch.requests)
    review.take([event(name, "skip", id="mine")])
    assert [one["id"] for one in page.heard[-1]["events"]] == ["mine"]
    (batch,) = page.say(type="hello")
    assert name not in batch["committed"]  # changed since
    assert len(batch["committed"]) == 2


def test_a_run_that_goes_on_tells_the_page(page: Page, review: Reviewer) -> None:
    review.play(HIDDEN)
    review.commit()
    page.heard.clear()
    run(unlabelled(HIDDEN, keep=2, seed=0), review.run_dir, review, cycles=2)
    (batch,) = page.heard
    assert all(one["id"].startswith("002/") for one in batch["requests"])


def test_a_page_hears_of_an_event_once_and_of_its_cycle_only(
    review: Reviewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    review.play(HIDDEN)
    review.commit()
    run(unlabelled(HIDDEN, keep=2, seed=0), review.run_dir, review, cycles=2)
    first, second, _ = review.refresh().requests
    page = Page(review, monkeypatch)
    told, _ = page.say(type="events", events=[event(first, "skip", id="1")])
    assert [one["id"] for one in told["events"]] == ["1"]
    other = Reviewer(review._pool, run_dir=review.run_dir)
    other.take([event(first, "look", id="2")])
    assert [one["id"] for one in page.say(type="hello")[0]["events"]] == ["1", "2"]
    told, _ = page.say(type="events", events=[event(second, "skip", id="3")])
    assert [one["id"] for one in told["events"]] == ["3"]


def test_a_page_without_a_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(Reviewer(HIDDEN, run_dir=tmp_path / "none"), monkeypatch)
    (batch,) = page.say(type="hello")
    assert (batch["type"], batch["requests"]) == ("batch", [])
    assert "holds no run" in batch["text"]


def test_without_anywidget_it_says_what_to_install(
    review: Reviewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "almining.review.widget", None)
    with pytest.raises(ImportError, match=r"pip install 'almining\[lab\]'"):
        _ = review.widget


def test_it_shows_itself_the_same_each_time(review: Reviewer) -> None:
    bundle = review._repr_mimebundle_()
    assert bundle["text/plain"] == "Reviewer(3 requests, 0 reviewed, cycle 1)"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert repr(review.widget) == f"ReviewWidget({review!r})"
    assert review.widget is review.widget
