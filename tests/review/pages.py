"""A review in a browser: what a person sees of it and does to it, and what is on the disk then."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.labs import PATIENCE, Lab, run_cell

START = (
    "from tests.review.asked import reviewer\nreview = reviewer('{run}', hostile={hostile})\nreview"
)
HERE = ".almining-review:not([data-old])"  # a page that was there before the cell ran again is old
BUSY = "import time\nfor _ in range(600):\n    time.sleep(0.1)"


def write(lab: Lab, name: str, *, run: str | None = None, hostile: bool = False) -> None:
    """Write a notebook of two cells: one shows a review, one keeps the kernel busy for a minute.

    Args:
        lab: where.
        name: of the notebook.
        run: the run directory; by default it is called like the notebook.
        hostile: whether names would be code if they were not escaped.
    """
    lab.write(f"{name}.ipynb", START.format(run=run or name, hostile=hostile), BUSY)


class Review:
    """A review that is shown in a page of the browser.

    Args:
        page: Playwright's, with the notebook.
        run_dir: of the run under review.
    """

    def __init__(self, page: Any, run_dir: Path) -> None:
        self.page, self.run_dir = page, run_dir
        self.root = page.locator(HERE).last

    def show(self) -> Review:
        """Run the first cell and wait for an image of the page it makes."""
        self.page.locator(HERE).evaluate_all("all => all.forEach(one => { one.dataset.old = 1 })")
        run_cell(self.page, 0)
        return self.shown()

    def busy(self) -> Review:
        """Run the second cell, which keeps the kernel busy from now on."""
        run_cell(self.page, 1)
        self.still_busy()
        self.root.focus()
        return self

    def shown(self) -> Review:
        """Wait for an image, and take the focus."""
        self.root.locator(".ar-main").wait_for()
        self.root.locator(".ar-waiting").wait_for(state="hidden")
        self.root.focus()
        return self

    def data(self, name: str) -> str:
        """Return one of the marks the page leaves for tests."""
        return str(self.root.get_attribute(f"data-{name}"))

    def keys(self, *keys: str) -> Review:
        """Press keys where the focus is."""
        for key in keys:
            self.page.keyboard.press(key)
        return self

    def still_busy(self) -> None:
        """Wait until the second cell is under way; fails when it has ended."""
        self.page.locator(".jp-InputPrompt").nth(1).get_by_text("[*]:").wait_for()

    def until(self, **marks: object) -> Review:
        """Wait until the page's marks say so."""
        wanted = "".join(f"[data-{name}='{value}']" for name, value in marks.items())
        self.page.locator(f"{HERE}{wanted}").last.wait_for(timeout=PATIENCE * 1000)
        return self

    def saved(self) -> Review:
        """Wait until everything is said to be on the disk."""
        return self.until(unsaved=0)

    def log(self) -> list[dict[str, Any]]:
        """Return what is on the disk."""
        path = self.run_dir / "ledger.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute("SELECT content FROM reviewed ORDER BY number").fetchall()
        return [json.loads(text) for (text,) in rows]

    def events(self) -> list[dict[str, Any]]:
        """Return what a person did, of what is on the disk."""
        return [event for event in self.log() if event["do"] != "start"]

    def does(self) -> list[str]:
        """Return what was done, in order."""
        return [event["do"] for event in self.events()]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where on the screen a point of a scene of 128 pixels is shown."""
        box = self.root.locator("canvas").last.bounding_box()
        scale = min(box["width"] - 8, box["height"] - 8) / 128
        left = box["x"] + (box["width"] - 128 * scale) / 2
        top = box["y"] + (box["height"] - 128 * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> Review:
        """Drag with the mouse from one point of the scene to another."""
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end), steps=5)
        self.page.mouse.up()
        return self

    @property
    def cells(self) -> int:
        """How many cells the notebook has."""
        return int(self.page.locator(".jp-Notebook .jp-Cell").count())
