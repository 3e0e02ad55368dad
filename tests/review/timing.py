"""How long a person waits for the page: for an acknowledgement, and for the next image."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from almining.data.pool import Pool
from almining.data.readers import read_folder
from almining.label.desk import row_of
from almining.ledger import open_ledger
from almining.records import Detections, Request
from almining.review import Reviewer
from tests.labs import Lab, open_notebook
from tests.review.pages import Review

SIDES = (4000, 3000)  # of a photograph of 12 megapixels
BOXES = 300
LARGE = "from tests.review.timing import large\nlarge('{folder}')"
WATCH = """
root => {
  window.times = [];
  root.addEventListener("keydown", () => { window.began = performance.now() }, true);
  const look = () => {
    const { unsaved, request } = root.dataset;
    const waits = root.querySelector(".ar-waiting:not([hidden])");
    const there = window.goal === "saved" ? unsaved === "0" : request === window.goal && !waits;
    if (!window.began || !there || (window.goal === "saved" && !window.sent)) {
      window.sent ||= unsaved !== "0";
      return;
    }
    window.times.push(performance.now() - window.began);
    window.began = window.sent = null;
  };
  const options = { attributes: true, subtree: true, childList: true };
  new MutationObserver(look).observe(root, options);
}
"""
FRAMES = """
async root => {
  const canvas = [...root.querySelectorAll("canvas")].pop();
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const times = [];
  const send = (type, i) => canvas.dispatchEvent(new PointerEvent(type, {
    bubbles: true, pointerId: 1, button: 0, buttons: 1,
    clientX: left + width / 2 + 2 * i, clientY: top + height / 2 + i,
  }));
  canvas.setPointerCapture = () => {};
  send("pointerdown", 0);
  for (let i = 1; i <= 60; i += 1) {
    const began = performance.now();
    send("pointermove", i);
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  send("pointercancel", 60);
  return times;
}
"""


class Many:
    """A detector that finds `BOXES` boxes in whatever it is shown."""

    def parameters(self) -> Any:
        yield torch.zeros(1)

    def detect(self, images: list[torch.Tensor]) -> list[Detections]:
        height, width = images[0].shape[1:]
        draws = torch.Generator().manual_seed(0)
        corner = torch.rand(BOXES, 2, generator=draws) * torch.tensor([width - 400, height - 400])
        side = 40 + 300 * torch.rand(BOXES, 2, generator=draws)
        labels = 1 + torch.arange(BOXES) % 5
        scores = torch.linspace(0.9, 0.4, BOXES)
        return [Detections(torch.cat([corner, corner + side], dim=1), labels, scores)]


def large(folder: str | Path) -> Reviewer:
    """Return a reviewer of photographs of 12 megapixels, which are made when there are none."""
    root = Path(folder)
    if not root.is_dir():
        root.mkdir()
        for number in range(4):
            noise = torch.randint(0, 256, (SIDES[1] // 8, SIDES[0] // 8, 3), dtype=torch.uint8)
            picture = Image.fromarray(noise.numpy()).resize(SIDES, Image.Resampling.BICUBIC)
            picture.save(root / f"{number}.jpg", quality=90)
    read = read_folder(root)
    classes = ("a", "b", "c", "d", "e")
    pool = Pool(classes, {i: read.target(i) for i in read.ids}, read._images, infos=read._infos)
    run_dir = root.with_name(f"{root.name}-run")
    if not run_dir.is_dir():
        with open_ledger(run_dir) as ledger:
            ledger.begin({"classes": list(classes)})
            ledger.close_cycle(0, {}, used=[], mined={}, set_aside=[])
            asked = [Request(f"001/{i}", i, "complete") for i in pool.ids]
            ledger.add_requests(1, [row_of(one) | {"set_aside": []} for one in asked])
    return Reviewer(pool, run_dir=run_dir, detector=Many(), most=BOXES)


def measure(context: Any, lab: Lab, *, keys: int = 50) -> dict[str, list[float]]:
    """Return milliseconds: to the acknowledgement of a key, to the next image, of a frame.

    Args:
        context: of a browser.
        lab: the server.
        keys: how many are timed.
    """
    lab.write("large.ipynb", LARGE.format(folder="large"))
    review = Review(open_notebook(context, lab, "large.ipynb"), lab.folder / "large-run").show()
    review.root.evaluate(WATCH)
    page = review.page
    review.keys("ArrowRight")
    page.wait_for_timeout(3000)  # for what is fetched ahead
    acknowledged = []
    for _ in range(keys):
        page.evaluate("window.goal = 'saved'; window.sent = null; window.times = []")
        review.keys("a").saved()
        page.wait_for_function("window.times.length")
        acknowledged += page.evaluate("window.times")[:1]
    frames = review.root.evaluate(FRAMES)
    turned = []
    for number in (1, 2, 3):
        goal = f"001/{number}"
        page.evaluate(f"window.goal = '{goal}'; window.times = []")
        review.keys("PageDown").until(request=goal)
        page.wait_for_function("window.times.length")
        turned += page.evaluate("window.times")[:1]
        page.wait_for_timeout(4000)  # a person looks, while the next one comes
    return {"acknowledged": acknowledged[1:], "turned": turned, "frames": frames}


def median(times: list[float]) -> float:
    return statistics.median(times)
