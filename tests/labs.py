"""A JupyterLab of this interpreter and a browser that looks at it, for tests and measurements.

The server, its settings and its notebooks are in a temporary folder, so nothing of the reader's own
Jupyter is read or written. Tests look at the page's elements, never at screenshots.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60  # seconds for the server or a kernel on a busy machine
REPO = Path(__file__).resolve().parents[1]


def need_chromium() -> None:
    """Skip without a browser, except in CI, where it is required."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing: the notebooks are NOT tested in a browser"
        if os.environ.get("CI"):
            pytest.fail(message + "; CI needs it (see .ci/run)")
        pytest.skip(message)


@contextmanager
def serving(root: Path) -> Iterator[Lab]:
    """Start a JupyterLab that keeps all it has in a folder; yields it, and stops it."""
    folder = root / "notebooks"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(root / name.lower()) for name in homes}
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(root / "settings")
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(root / "workspaces")
    path = [str(REPO), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly"]
    log = root / "lab.log"
    with log.open("w") as written:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            lab = Lab(f"http://127.0.0.1:{port}", folder)
            _wait_for(f"{lab.address}/api/status", server, log)
            lab.set("notification", fetchNews="false", checkForUpdates=False)
            yield lab
        finally:
            server.terminate()  # ends its kernels too
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; fail with its log when it ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer; its log ends\n{log.read_text()[-3000:]}")


class Lab:
    """A JupyterLab that runs.

    Args:
        address: of the server.
        folder: the notebooks it shows.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder

    def write(self, name: str, *sources: str) -> None:
        """Write a notebook of code cells that has not been run."""
        code = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel})
        nbformat.write(notebook, self.folder / name)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the server; return what it says."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as said:
            return json.loads(said.read() or b"null")

    def set(self, plugin: str, **values: Any) -> None:
        """Set settings of JupyterLab, for pages that are opened from then on."""
        path = f"/lab/api/settings/@jupyterlab/apputils-extension:{plugin}"
        self.call("PUT", path, {"raw": json.dumps(values)})

    def kernel(self, name: str) -> str:
        """Return the id of the kernel a notebook runs in."""
        sessions = self.call("GET", "/api/sessions")
        return next(one["kernel"]["id"] for one in sessions if one["path"] == name)

    def restart(self, name: str) -> None:
        """Restart the kernel of a notebook."""
        self.call("POST", f"/api/kernels/{self.kernel(name)}/restart", {})


@contextmanager
def browsing() -> Iterator[Any]:
    """Start Chromium; yields a Playwright browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=PATIENCE * 1000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def open_notebook(context: Any, lab: Lab, name: str) -> Any:
    """Return a page with a notebook whose kernel is idle.

    Args:
        context: a browser or one of its contexts.
        lab: the server.
        name: of the notebook.
    """
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{lab.address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    idle(page)
    return page


def idle(page: Any) -> None:
    """Wait until the kernel says that it is idle; the notebook's own mark says so without one."""
    page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def run_all(page: Any) -> None:
    """Run all cells of the notebook that is shown, by the menu."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_cell(page: Any, number: int) -> None:
    """Run one cell of the notebook that is shown."""
    page.locator(".jp-CodeCell .jp-InputArea-editor").nth(number).click()
    page.keyboard.press("Control+Enter")
