"""What a reader sees: JupyterLab in a real browser, run by Playwright and Debian's Chromium.

The server, its settings and its notebook are made in a temporary folder, so nothing of the reader's
own Jupyter is read or written. Tests look at the page's elements, never at screenshots.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60  # seconds for the server or a kernel on a busy machine

SLIDER = """
al.lab.knobs(lambda boxes: al.draw.blank(f"{boxes} boxes drawn"), boxes=(0, 9, 1, 2))
"""


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser; skips without one, except in CI, where it is required."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing: the notebooks are NOT tested in a browser"
        if os.environ.get("CI"):
            pytest.fail(message + "; CI needs it (see .ci/run)")
        pytest.skip(message)
    return CHROMIUM


@pytest.fixture
def lab(tmp_path: Path, repo: Path) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of this interpreter; yields its address and the folder it shows."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(tmp_path / name.lower()) for name in homes}
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(tmp_path / "workspaces")
    path = [str(repo), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command += [
        f"--ServerApp.root_dir={folder}",
        "--LabApp.extension_manager=readonly",
    ]
    log = tmp_path / "lab.log"
    with log.open("w") as written:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api/status", server, log)
            yield address, folder
        finally:
            server.terminate()  # ends its kernels too
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            shutil.rmtree(folder)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; fail with its log when it ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer; its log ends\n{log.read_text()[-3000:]}")


def write_notebook(path: Path, *sources: str) -> None:
    """Write a notebook of code cells that has not been run."""
    code = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), path)


def test_a_slider_moves_its_image(chromium: Path, lab: tuple[str, Path]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=PATIENCE * 1000)
    address, folder = lab
    write_notebook(folder / "made.ipynb", "import almining as al\nprint(al.__version__)", SLIDER)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{address}/lab/tree/made.ipynb?reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        idle = page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle")
        idle.wait_for()  # the notebook's own indicator says idle before there is a kernel
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        sync_api.expect(page.locator(".jp-OutputArea-output pre").first).to_have_text("0.1.0\n")
        number = page.locator(".jp-OutputArea .widget-readout")
        sync_api.expect(number).to_have_text("2")
        image = page.locator(".jp-OutputArea img.widget-image")
        before = shown(image)
        handle = page.locator(".jp-OutputArea .widget-slider .noUi-handle")
        handle.focus()
        for _ in range(3):
            handle.press("ArrowRight")
        sync_api.expect(number).to_have_text("5")
        sync_api.expect(image).not_to_have_attribute("src", before["src"])
        assert shown(image)["width"] > 0
        assert page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
        browser.close()


def shown(image: object) -> dict[str, object]:
    """Return address and width of an image once the browser has decoded it."""
    script = "async i => { await i.decode(); return {src: i.src, width: i.naturalWidth} }"
    found: dict[str, object] = image.evaluate(script)  # type: ignore[attr-defined]
    return found
