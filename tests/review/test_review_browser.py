"""A person at work in JupyterLab: nothing lost, nothing doubled, no key that goes astray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from almining.label import waiting
from almining.review.state import fold
from tests.labs import Lab, browsing, idle, need_chromium, open_notebook, serving
from tests.review import asked
from tests.review.pages import Review, write

LETTERS = "abcdefghijklmnopqrtvwxyz"  # in JupyterLab a and b add a cell, d d takes one away; no s


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need_chromium()
    with serving(tmp_path_factory.mktemp("lab")) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    need_chromium()
    with browsing() as one:
        yield one


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    one = browser.new_context()
    yield one
    one.close()


@pytest.fixture
def deaf(lab: Lab) -> Iterator[None]:
    """Kernels that hear nothing while a cell runs, as older ones; newer ones hear in a thread."""
    lab.set("kernels-settings", commsOverSubshells="disabled")
    yield
    lab.set("kernels-settings")


def start(context: Any, lab: Lab, name: str, **options: Any) -> Review:
    write(lab, name, **options)
    page = open_notebook(context, lab, f"{name}.ipynb")
    return Review(page, lab.folder / name).show()


def test_a_box_is_drawn_edited_and_undone(context: Any, lab: Lab) -> None:
    review = start(context, lab, "draw")
    before = int(review.data("boxes"))
    review.keys("2").drag((80, 10), (110, 30)).until(boxes=before + 1)
    review.keys("3", "Shift+ArrowRight", "Shift+Control+ArrowDown", "Alt+ArrowDown", "i")
    review.drag((96, 30), (90, 40)).saved()  # from the inside: it moves
    drawn, *others = review.events()
    assert (drawn["do"], drawn["label"]) == ("add", 2)
    assert drawn["box"] == pytest.approx([80, 10, 110, 30], abs=1.0)
    x1, y1, x2, y2 = drawn["box"]
    (box,) = fold(review.events()).item(drawn["request"]).boxes.values()
    assert (box.label, box.ignore) == (3, True)
    assert box.box == pytest.approx([x1 - 5, y1 + 20, x2 - 5, y2 + 21], abs=1.0)
    for _ in (drawn, *others):
        review.keys("u")
    review.until(boxes=before, undo="no").saved()
    review.keys("r").until(boxes=before + 1, undo="yes").saved()
    field = review.root.get_by_label("width")
    field.fill("12.5")
    field.press("Enter")
    review.saved()
    (box,) = fold(review.events()).item(drawn["request"]).boxes.values()
    assert box.box[2] - box.box[0] == 12.5
    review.page.keyboard.down("Shift")  # draws, though a box is selected there
    review.drag((83, 14), (90, 26)).until(boxes=before + 2).page.keyboard.up("Shift")
    place = review.page.mouse
    place.move(*review.place(86.5, 20))
    place.down()
    place.move(*review.place(90, 60), steps=3)
    review.keys("u").until(boxes=before + 1)  # the box that is being dragged is gone
    place.up()
    review.root.get_by_role("button", name="Zoom in").click()
    assert review.root.evaluate("e => e === document.activeElement")  # keys are for the page
    review.saved()
    assert review.does()[-2:] == ["add", "undo"]


def test_keys_stay_in_the_widget_and_tab_leaves_it(context: Any, lab: Lab) -> None:
    review = start(context, lab, "keys")
    cells = review.cells
    review.keys(*LETTERS, "d", "d", "Shift+Enter", "0", "0", "Shift+M", *["Escape"] * 4)
    assert review.page.evaluate("document.activeElement.matches('.jp-Cell')")
    assert review.cells == cells
    assert review.page.locator(".jp-mod-editMode").count() == 0
    review.root.focus()
    for _ in range(200):
        if not review.root.evaluate("e => e.contains(document.activeElement)"):
            break
        review.keys("Tab")
    assert not review.root.evaluate("e => e.contains(document.activeElement)")
    assert review.cells == cells


def test_every_kind_is_answered_without_a_mouse(context: Any, lab: Lab) -> None:
    review = start(context, lab, "kinds")
    said = review.root.locator("[aria-live]")
    evidence = review.root.get_by_label("Boxes of the evidence").locator("li")
    assert evidence.first.inner_text() == "A most uncertain: entropy 0.70"
    review.keys("Enter")  # with boxes undecided
    assert review.data("status") == "open"
    assert "undecided" in said.inner_text()
    review.keys("Shift+A", "Enter").until(request="001/scene-0-1")
    review.shown().keys("ArrowRight", "a", "x")
    assert said.inner_text().startswith("2 undecided. Box 3 of 4: ")
    review.keys("Shift+X", "Enter").until(request="001/scene-0-2")
    assert said.inner_text() == "Finished 2 of 6. Now 3 of 6: scene-0-2"
    review.shown().keys("s").until(kind="verify")
    review.shown().keys("y").until(kind="region")
    review.shown().keys("2", "Enter").until(kind="tag")
    review.shown().keys("1", "3", "Enter").until(status="finished").saved()
    assert len(waiting(review.run_dir)) == 6
    review.root.get_by_role("button", name="Hand in", exact=True).press("Enter")
    review.page.get_by_text("handed in: 6 new").first.wait_for()
    state = fold(asked.reviewer(review.run_dir).batch.events)
    assert [item.status for item in state.items.values()].count("skipped") == 1
    assert state.item("001/tag").tags == {1, 3}
    assert state.item("001/verify").verdict == "accept"
    (box,) = state.item("001/region").given
    assert box.label == 2
    assert not waiting(review.run_dir)
    assert review.root.get_by_text("Nothing to review").count() == 1
    review.root.focus()
    review.keys("3")
    review.root.get_by_text("Changed after it was handed in").wait_for()
    assert all(item.seconds > 0 for item in state.items.values())


def test_a_kernel_that_is_busy_saves_all_the_same(context: Any, lab: Lab) -> None:
    review = start(context, lab, "busy").busy()
    review.keys("a", "a", "Shift+X", "Enter").until(request="001/scene-0-1").saved()
    assert review.does()[-1] == "finish"
    review.still_busy()


@pytest.mark.usefixtures("deaf")
def test_a_kernel_that_restarts_loses_nothing(context: Any, lab: Lab) -> None:
    review = start(context, lab, "restart").busy()
    review.keys("ArrowRight", "a", "a", "a", "x", "u", "u", "a").until(unsaved=7)
    assert review.does() == []
    lab.restart("restart.ipynb")
    review.root.focus()
    review.keys("a").until(unsaved=8)
    idle(review.page)
    review.show().saved()
    assert review.does() == ["accept"] * 3 + ["reject", "undo", "undo", "accept", "accept"]
    ids = [event["id"] for event in review.events()]
    assert len(set(ids)) == len(ids) == 8


@pytest.mark.usefixtures("deaf")
def test_a_page_that_is_reloaded_loses_nothing(context: Any, lab: Lab) -> None:
    review = start(context, lab, "reload").busy()
    count = int(review.data("boxes"))
    review.keys("Shift+A").until(unsaved=count)
    review.page.keyboard.press("Control+s")
    review.page.reload()
    lab.call("POST", f"/api/kernels/{lab.kernel('reload.ipynb')}/interrupt", {})
    review.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    idle(review.page)
    review.show().saved()
    assert review.does() == ["accept"] * count
    assert review.until(request="001/scene-0-0").data("boxes") == str(count)


def test_two_tabs_lose_and_double_nothing(context: Any, lab: Lab) -> None:
    write(lab, "one", run="both")
    write(lab, "two", run="both")
    pages = [open_notebook(context, lab, f"{name}.ipynb") for name in ("one", "two")]
    first, second = (Review(page, lab.folder / "both").show() for page in pages)
    first.keys("a", "a").saved()
    second.keys("PageDown").until(request="001/scene-0-1")
    second.shown().keys("s").saved()
    first.keys("x").saved()
    second.shown().keys("u").saved()  # takes back what was done last, in the other tab
    first.keys("Shift+A").saved()
    second.keys("r").saved()
    events = first.events()
    assert len({event["id"] for event in events}) == len(events)
    state = fold(asked.reviewer(first.run_dir).refresh().events)
    assert state.item("001/scene-0-0").undecided == 0
    first.page.reload()
    first.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    idle(first.page)
    again = Review(first.page, first.run_dir).show().saved()
    assert first.events()[: len(events)] == events
    assert int(again.data("boxes")) >= 1


def test_names_are_text_wherever_they_stand(context: Any, lab: Lab) -> None:
    review = start(context, lab, "hostile", hostile=True)
    review.keys("a", "PageDown").until(request=f"001/{asked.truth(True).ids[1]}".replace("'", ""))
    for kind in ("verify", "region", "tag"):
        review.keys("g")
        review.root.locator("select").first.select_option(f"001/{kind}")
        review.until(kind=kind).shown()
    assert review.page.evaluate("window.hacked") is None
    assert review.page.locator(".almining-review img[src='x']").count() == 0
    assert review.root.get_by_role("button", name=asked.HOSTILE).count() == 1
    assert review.root.get_by_text(asked.SCRIPT).count() >= 1
    assert asked.HOSTILE in review.root.locator("option").first.inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_and_named_in_both_themes(context: Any, lab: Lab, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    lab.set("themes", theme=f"JupyterLab {theme.capitalize()}")
    review = start(context, lab, theme)
    for keys in (["a", "ArrowRight"], ["?"], ["?", "Enter"]):
        review.keys(*keys)
        found = axe.run(review.page, context=".almining-review").response["violations"]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    review.root.focus()
    review.keys("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert review.page.evaluate(outline) not in ("none", "")
