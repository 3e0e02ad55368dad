"""Disturb reviews in a real browser, count what is lost, and time what a person waits for.

    python data_scripts/review_table.py
    python data_scripts/review_table.py --rounds 1 --file _runs/review.json

It uses `tests/labs.py` and `tests/review`, so it runs in a clone, with Chromium, on Linux. Each
round presses random keys and hears of each event the page makes. What of that the run directory
does not have yet is counted when the review is disturbed, for only that can be lost; afterwards the
run directory is looked at again. A claim that had nothing to lose in some round was not tried.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from almining.ledger import LockedError, open_ledger
while True:
    try:
        with open_ledger(sys.argv[1]):
            print("open", flush=True)
            sys.stdin.read()
            break
    except LockedError:  # the kernel has it open just now
        time.sleep(0.01)
"""
COUNTED = ("made", "unsaved", "lost", "doubled", "other")
RESULT = (
    "{made} events, {unsaved} unsaved when it happened, {lost} lost, {doubled} doubled; "
    "page and disk differ: {other}"
)
WAITS = {  # what is promised of the median: what is timed, the limit in ms, what is done
    "A key is acknowledged, on disk, within 100 ms": (
        "acknowledged",
        100,
        f"The key that accepts a box is pressed 50 times, {BOXES} boxes shown; the first is left "
        "out.",
    ),
    "The next image of 12 megapixels is there within 100 ms": (
        "turned",
        100,
        "The next photograph of 12 megapixels, which was fetched ahead, is asked for.",
    ),
    "12 megapixels and 300 boxes stay fluid: 30 frames a second": (
        "frames",
        33,
        f"A box is drawn by the mouse over a photograph with {BOXES} boxes.",
    ),
}


class Round:
    """A person at one review, disturbed.

    Args:
        lab: the server.
        number: of the disturbance.
        turn: how often it came before; every other time a busy kernel is only interrupted.
    """

    def __init__(self, lab: Lab, number: int, turn: int) -> None:
        """Write the notebook."""
        self.lab, self.name = lab, f"r{number}-{turn}"
        self.draws = random.Random(1000 * number + turn)
        self.freed = ("restart", "interrupt")[turn % 2]
        self.made: dict[str, dict[str, Any]] = {}
        self.unsaved = 0
        write(lab, self.name)

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

    def happens(self, *reviews: Review) -> None:
        """Count what would be lost now if the browser did not keep it."""
        for review in reviews:
            review.data("unsaved")  # what the page told until now is heard meanwhile
        self.unsaved = len(set(self.made) - {event["id"] for event in reviews[0].log()})

    def free(self, name: str | None = None) -> None:
        """Make a busy kernel listen; one that is restarted has forgotten what was sent to it."""
        kernel = self.lab.kernel(f"{name or self.name}.ipynb")
        self.lab.call("POST", f"/api/kernels/{kernel}/{self.freed}", {})

    def reload(self, review: Review) -> Review:
        """Return the review in the page loaded anew, whose kernel is listening."""
        review.page.reload()
        self.free()
        review.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        idle(review.page)
        return review.show()

    def counts(self, review: Review) -> dict[str, int]:
        """Return what became of the events, once the page says that all are saved."""
        review.saved()
        page = {name: review.data(name) for name in ("request", "boxes", "status", "undo")}
        return {"unsaved": self.unsaved, **tally(self.made, review.log(), page)}


def tally(
    made: Mapping[str, Mapping[str, Any]],
    written: Sequence[Mapping[str, Any]],
    page: Mapping[str, str],
) -> dict[str, int]:
    """Return how many events were made, lost and doubled, and whether the page shows another state.

    Args:
        made: what the pages made, by id.
        written: what is on the disk.
        page: the marks of the page: of its request, and whether there is anything to undo.
    """
    events = [event for event in written if event["do"] != "start"]
    state = fold(written)
    item = state.item(page["request"])
    disk = {
        "request": page["request"],
        "boxes": str(sum(box.status != "rejected" for box in item.boxes.values())),
        "status": item.status,
        "undo": "yes" if state.undo else "no",
    }
    kept = {event["id"] for event in events if made.get(event["id"]) == event}
    starts = [event["request"] for event in written if event["do"] == "start"]
    return {
        "made": len(made),
        "lost": len(made) - len(kept),
        "doubled": len(events) - len(kept) + len(starts) - len(set(starts)),
        "other": int(page != disk),
    }


def restarted(one: Round, browser: Any) -> dict[str, int]:
    """The busy kernel is restarted between the keys; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    one.happens(review)
    one.lab.restart(f"{one.name}.ipynb")
    one.press(review)
    idle(review.page)
    return one.counts(review.show())


def killed(one: Round, browser: Any) -> dict[str, int]:
    """The busy kernel is killed between the keys; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    one.happens(review)
    _kill(one.lab.kernel(f"{one.name}.ipynb"))
    one.press(review)
    review.page.get_by_role("button", name="Ok", exact=True).click()  # "the kernel died"
    idle(review.page)
    return one.counts(review.show())


def reloaded(one: Round, browser: Any) -> dict[str, int]:
    """The page is reloaded, the busy kernel restarted or interrupted; the cell is run again."""
    review = one.opened(one.watched(browser.new_context())).busy()
    one.press(review)
    one.happens(review)
    again = one.reload(review)
    one.press(again)
    return one.counts(again)


def browser_killed(one: Round, browser: Any) -> dict[str, int]:
    """The browser is killed 1 s after the last key, the busy kernel interrupted."""
    one.freed = "interrupt"
    return _without_browser(one, browser)


def both_killed(one: Round, browser: Any) -> dict[str, int]:
    """The browser is killed 1 s after the last key, and the busy kernel restarted."""
    one.freed = "restart"
    return _without_browser(one, browser)


def _without_browser(one: Round, browser: Any) -> dict[str, int]:
    """Kill the browser a second after the last key; another one goes on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options: dict[str, Any] = {"executable_path": str(CHROMIUM)}
        options["args"] = ["--no-sandbox", "--disable-dev-shm-usage"]
        launch = browser.browser_type.launch_persistent_context
        review = one.opened(one.watched(launch(profile, **options))).busy()
        one.press(review)
        time.sleep(1)
        one.happens(review)
        _kill(profile)
        time.sleep(1)
        for left in Path(profile).glob("Singleton*"):
            left.unlink()
        one.free()
        context = one.watched(launch(profile, **options))
        try:
            return one.counts(one.opened(context))
        finally:
            context.close()


def two_tabs(one: Round, browser: Any) -> dict[str, int]:
    """Two tabs, each with a kernel of its own, busy and then not, work on one image by turns."""
    context = one.watched(browser.new_context())
    write(one.lab, f"{one.name}-too", run=one.name)
    names = (one.name, f"{one.name}-too")
    reviews = [one.opened(context, name) for name in names]
    for review in reviews:
        review.busy()
    one.press(*reviews)
    one.happens(*reviews)
    for name in names:
        one.free(name)
    for review in reviews:
        idle(review.page)
        review.show()  # each tab sends what the other one has not saved, too
    one.press(*reviews)
    for review in reversed(reviews):
        review.saved()
    return one.counts(one.reload(reviews[0]))


def occupied(one: Round, browser: Any) -> dict[str, int]:
    """Another process has the run directory open while keys are pressed, and 3 s more."""
    review = one.opened(one.watched(browser.new_context()))
    command = [sys.executable, "-c", HOLD, str(review.run_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, cwd=ROOT, stdin=pipe, stdout=pipe) as other:
        assert other.stdin is not None and other.stdout is not None
        if other.stdout.readline() != "open\n":
            raise RuntimeError(f"{review.run_dir} could not be opened; see above")
        one.press(review)
        review.page.wait_for_timeout(3000)
        one.happens(review)
        other.stdin.close()
    return one.counts(review)


def _kill(text: str) -> None:
    """Kill the processes whose command names what only they have."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if text.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


DISTURBED: dict[str, tuple[Callable[[Round, Any], dict[str, int]], bool]] = {
    # what is promised: how it is disturbed, whether the kernel hears nothing while a cell runs
    "A kernel restart loses and doubles nothing": (restarted, True),
    "A killed kernel loses and doubles nothing": (killed, True),
    "A reload of the page loses and doubles nothing": (reloaded, True),
    "A killed browser loses and doubles nothing": (browser_killed, True),
    "A browser killed with its kernel loses and doubles nothing": (both_killed, True),
    "Two tabs lose and double nothing": (two_tabs, True),
    "A run directory in use loses and doubles nothing": (occupied, False),
}


def disturbed(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of what was lost."""
    with _at_work() as (lab, browser):
        for number, (claim, (call, deaf)) in enumerate(DISTURBED.items()):
            lab.set("kernels-settings", **({"commsOverSubshells": "disabled"} if deaf else {}))
            found = []
            for turn in bar(range(rounds), progress=True, name=claim, unit="round"):
                found.append(call(Round(lab, number, turn), browser))
                for context in browser.contexts:
                    context.close()
            total = {name: sum(counts[name] for counts in found) for name in COUNTED}
            wrong = total["lost"] + total["doubled"] + total["other"]
            tried = bool(found) and all(counts["unsaved"] for counts in found)
            done = f"{call.__doc__} {rounds} round{'s' * (rounds != 1)}."
            verdict = "fails" if wrong else "holds" if tried else "not tried"
            yield _row(claim, done, RESULT.format(**total), verdict)


def timed() -> Iterator[dict[str, Any]]:
    """Yield the rows of what a person waits for."""
    with _at_work() as (lab, browser):
        found = measure(browser.new_context(), lab)
    for claim, (name, limit, done) in WAITS.items():
        middle, most = median(found[name]), max(found[name])
        result = f"median {middle:.0f} ms, at most {most:.0f} ms of {len(found[name])}"
        yield _row(claim, done, result, "holds" if middle <= limit else "fails")


@contextmanager
def _at_work() -> Iterator[tuple[Lab, Any]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        yield stack.enter_context(serving(Path(folder))), stack.enter_context(browsing())


def _row(claim: str, done: str, result: str, verdict: str) -> dict[str, Any]:
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
