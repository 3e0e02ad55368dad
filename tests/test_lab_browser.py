"""What a reader sees: JupyterLab in a real browser, run by Playwright and Debian's Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labs import browsing, need_chromium, open_notebook, run_all, serving

SLIDER = """
al.lab.knobs(lambda boxes: al.draw.blank(f"{boxes} boxes drawn"), boxes=(0, 9, 1, 2))
"""


def test_a_slider_moves_its_image(tmp_path: Path) -> None:
    need_chromium()
    expect = pytest.importorskip("playwright.sync_api").expect
    with serving(tmp_path) as lab, browsing() as browser:
        lab.write("made.ipynb", "import almining as al\nprint(al.__version__)", SLIDER)
        page = open_notebook(browser, lab, "made.ipynb")
        run_all(page)
        expect(page.locator(".jp-OutputArea-output pre").first).to_have_text("0.1.0\n")
        number = page.locator(".jp-OutputArea .widget-readout")
        expect(number).to_have_text("2")
        image = page.locator(".jp-OutputArea img.widget-image")
        before = shown(image)
        handle = page.locator(".jp-OutputArea .widget-slider .noUi-handle")
        handle.focus()
        for _ in range(3):
            handle.press("ArrowRight")
        expect(number).to_have_text("5")
        expect(image).not_to_have_attribute("src", before["src"])
        assert shown(image)["width"] > 0
        assert page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0


def shown(image: object) -> dict[str, object]:
    """Return address and width of an image once the browser has decoded it."""
    script = "async i => { await i.decode(); return {src: i.src, width: i.naturalWidth} }"
    found: dict[str, object] = image.evaluate(script)  # type: ignore[attr-defined]
    return found
