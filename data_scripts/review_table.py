"""Disturb reviews in a real browser, count what is lost, and time what a person waits for.

    python data_scripts/review_table.py
    python data_scripts/review_table.py --rounds 1 --file _runs/review.json

It uses `tests/labs.py` and `tests/review`, so it runs in a clone, with Chromium. Each round presses
random keys and hears of each event the page makes; afterwards the run directory is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from almining.progress import bar
from almining.review.state import fold

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.labs import CHROMIUM, Lab, browsing, idle, open_notebook, serving  # noqa: E402
from tests.review.pages import Review, write  # noqa: E402
from tests.review.timing import BOXES, measure, median  # noqa: E402

FILE = ROOT / "notebooks" / "results" / "review.json"
COMMAND = "python data_scripts/review_table.py"
KEYS = ("a", "x", "u", "r", "i", "n", "ArrowRight", "ArrowLeft", "Shift+ArrowDown", "1", "2", "3")
PRESSED = 15  # keys before, and as many after
TOLD = """
const put = Storage.prototype.setItem;
Storage.prototype.setItem = function (key, value) {
  if (this === window.localStorage && key.startsWith("almining:")) window.made(value);
  return put.call(this, key, value);
};
"""
HOLD = """
import sys, time
from almining.ledger import open_ledger
with open_ledger(sys.argv[1]):
    print("open", flush=True)
    time.sleep(6)
"""
WAITS = {  # what is timed, the limit in milliseconds, what is done
    "acknowledged": (100, f"The key that accepts a box is pressed 50 times, {BOXES} boxes shown."),
    "turned": (100, "The next photograph of 12 megapixels, which was fetched ahead, is asked for."),
    "frames": (33, f"A box is drawn by the mouse over a photograph with {BOXES} boxes."),
}
SAID = {
    "acknowledged": "A key is acknowledged, on disk, within 100 ms",
    "turned": "The next image of 12 megapixels is there within 100 ms",
    "frames": "12 megapixels and 300 boxes stay fluid: 30 frames a second",
}


class Round:
    """A person at one review, disturbed.

    Args:
        lab: the server.
        name: of notebook and run directory.
        draws: the keys.
    """

    def __init__(self, lab: Lab, name: str, draws: random.Random) -> None:
        """Write the notebook."""
        self.lab, self.name, self.draws = lab, name, draws
        self.made: dict[str, dict[str, Any]] = {}
        write(lab, name)

    def watched(self, context: Any) -> Any:
        """Return a context whose pages tell of each event they make."""
        context.expose_binding("made", lambda _, text: self._hear(text))
        context.add_init_script(TOLD)
        return context

    def _hear(self, text: str) -> None:
        event = json.loads(text)
        self.made[event["id"]] = event

    def opened(self, context: Any, name: str | None = None) -> Review:
        """Return the review, shown."""
        page = open_notebook(context, self.lab, f"{name or self.name}.ipynb")
        return Review(page, self.lab.folder / self.name).show()

    def press(self, *reviews: Review) -> None:
        """Press keys at random, in one page or in several by turns."""
        for number in range(PRESSED * len(reviews)):
            review = reviews[number % len(reviews)]
            review.root.focus()
            review.keys(self.draws.choice(KEYS))

    def counts(self, review: Review) -> dict[str, int]:
        """Return what became of the events, once the page says that all are saved."""
        review.saved()
        written = review.log()
        ids = [event["id"] for event in written]
        item = fold(written).item(review.data("request"))
        shown = int(review.data("boxes"))
        return {
            "made": len(self.made),
            "lost": len(set(self.made) - set(ids)),
            "doubled": len(ids) - len(set(ids)),
            "other": int(sum(box.status != "rejected" for box in item.boxes.values()) != shown),
        }


def restarted(one: Round, browser: Any) -> dict[str, int]:
    """The kernel is restarted while it is busy and keys are pressed; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    one.lab.restart(f"{one.name}.ipynb")
    one.press(review)
    idle(review.page)
    return one.counts(review.show())


def killed(one: Round, browser: Any) -> dict[str, int]:
    """The kernel is killed while it is busy and keys are pressed; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if one.lab.kernel(f"{one.name}.ipynb").encode() in command:
            os.kill(int(process.name), signal.SIGKILL)
    one.press(review)
    review.page.get_by_role("button", name="Ok", exact=True).click()  # "the kernel died"
    idle(review.page)
    return one.counts(review.show())


def reloaded(one: Round, browser: Any) -> dict[str, int]:
    """The page is reloaded with answers the busy kernel has not heard of; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    review.page.reload()
    one.lab.call("POST", f"/api/kernels/{one.lab.kernel(f'{one.name}.ipynb')}/interrupt", {})
    review.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    idle(review.page)
    again = review.show()
    one.press(again)
    return one.counts(again)


def browser_killed(one: Round, browser: Any) -> dict[str, int]:
    """The browser is killed 5 s after the last key, the kernel busy; another one goes on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options: dict[str, Any] = {"executable_path": str(CHROMIUM)}
        options["args"] = ["--no-sandbox", "--disable-dev-shm-usage"]
        launch = browser.browser_type.launch_persistent_context
        context = one.watched(launch(profile, **options))
        review = one.opened(context).busy()
        one.press(review)
        time.sleep(5)
        subprocess.run(["pkill", "-9", "-f", profile], check=False)
        time.sleep(1)
        for left in Path(profile).glob("Singleton*"):
            left.unlink()
        one.lab.call("POST", f"/api/kernels/{one.lab.kernel(f'{one.name}.ipynb')}/interrupt", {})
        context = one.watched(launch(profile, **options))
        try:
            return one.counts(one.opened(context))
        finally:
            context.close()


def two_tabs(one: Round, browser: Any) -> dict[str, int]:
    """Two tabs, each with a kernel of its own, work on the same image by turns."""
    context = one.watched(browser.new_context())
    write(one.lab, f"{one.name}-too", run=one.name)
    reviews = [one.opened(context), one.opened(context, f"{one.name}-too")]
    one.press(*reviews)
    for review in reversed(reviews):
        review.saved()
    reviews[0].page.reload()
    reviews[0].page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    idle(reviews[0].page)
    return one.counts(reviews[0].show())


def occupied(one: Round, browser: Any) -> dict[str, int]:
    """Another process has the run directory open for 6 s while keys are pressed."""
    review = one.opened(one.watched(browser.new_context()))
    command = [sys.executable, "-c", HOLD, str(review.run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        while other.stdout is not None and other.stdout.readline() != "open\n":
            if other.poll() is not None:  # the kernel had it open just then
                raise RuntimeError("the run directory was in use; run it again")
        one.press(review)
    return one.counts(review)


DISTURBED: dict[str, tuple[Callable[[Round, Any], dict[str, int]], bool]] = {
    # what is promised, how it is disturbed, whether the kernel hears nothing while a cell runs
    "A kernel restart loses and doubles nothing": (restarted, True),
    "A killed kernel loses and doubles nothing": (killed, True),
    "A reload of the page loses and doubles nothing": (reloaded, True),
    "A killed browser loses and doubles nothing": (browser_killed, True),
    "Two tabs lose and double nothing": (two_tabs, False),
    "A run directory in use loses and doubles nothing": (occupied, False),
}


def disturbed(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of what was lost."""
    with _at_work() as (lab, browser):
        for number, (claim, (call, deaf)) in enumerate(DISTURBED.items()):
            lab.set("kernels-settings", **({"commsOverSubshells": "disabled"} if deaf else {}))
            total = dict.fromkeys(("made", "lost", "doubled", "other"), 0)
            for turn in bar(range(rounds), progress=True, name=claim, unit="round"):
                one = Round(lab, f"r{number}-{turn}", random.Random(1000 * number + turn))
                for name, count in call(one, browser).items():
                    total[name] += count
                for context in browser.contexts:
                    context.close()
            wrong = total["lost"] + total["doubled"] + total["other"]
            result = "{made} events, {lost} lost, {doubled} doubled; page and disk differ: {other}"
            yield _row(claim, f"{call.__doc__} {rounds} rounds.", result.format(**total), not wrong)


def timed() -> Iterator[dict[str, Any]]:
    """Yield the rows of what a person waits for."""
    with _at_work() as (lab, browser):
        found = measure(browser.new_context(), lab)
    for name, (limit, done) in WAITS.items():
        middle, most = median(found[name]), max(found[name])
        result = f"median {middle:.0f} ms, at most {most:.0f} ms of {len(found[name])}"
        yield _row(SAID[name], done, result, middle <= limit)


@contextmanager
def _at_work() -> Iterator[tuple[Lab, Any]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        yield stack.enter_context(serving(Path(folder))), stack.enter_context(browsing())


def _row(claim: str, done: str, result: str, holds: bool) -> dict[str, Any]:
    verdict = "holds" if holds else "fails"
    return {"claim": claim, "done": done, "result": result, "verdict": verdict}


def main() -> None:
    """Measure all and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", type=Path, default=FILE)
    asked = parser.parse_args()
    names = ("jupyterlab", "ipykernel", "anywidget", "playwright")
    rows = [*disturbed(asked.rounds), *timed()]
    made = {
        "rows": rows,
        "command": COMMAND,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, headless Chromium",
        "versions": {name: version(name) for name in names},
    }
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    asked.file.write_text(text, encoding="utf-8")
    for row in rows:
        print(f"{row['verdict']}: {row['claim']}: {row['result']}")


if __name__ == "__main__":
    main()
