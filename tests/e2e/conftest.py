"""A running server, and its canvas in a headless Chromium, for the tests in this folder.

LLIA_E2E_SERVER=http://127.0.0.1:8188/ runs them against that server (ComfyUI with this pack in custom_nodes, or this
host); otherwise an embedded host is started in temporary folders. LLIA_CHROMIUM names another browser. Pictures:
output/e2e.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from .canvas import Canvas, wait_for_line

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> str:
    """The server's address, ending in /."""
    if address := os.environ.get("LLIA_E2E_SERVER"):
        yield address.rstrip("/") + "/"
        return
    base = tmp_path_factory.mktemp("studio")
    command = [sys.executable, "-m", "host", "--base", str(base), "serve", "--port", "0"]
    log = base / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        line = wait_for_line(process, log, "The canvas is at ", seconds=120)
        yield line.split()[-1]
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    names = [os.environ.get("LLIA_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        # Without a system browser Playwright's own is used; it says how to get it where that is missing too.
        arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        # As in everybody's browser, and unlike a headless one: no sound before a click.
        arguments.append("--autoplay-policy=document-user-activation-required")
        chromium = playwright.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(params=["canvas", "vue"])
def renderer(request) -> str:
    """Each test that asks for a canvas runs in both: the classic canvas, and Vue nodes (Nodes 2.0)."""
    return request.param


@pytest.fixture
def canvas(server, browser, renderer) -> Canvas:
    """The opened web page. A test fails if the page reports an error that is not in canvas.expected_errors."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    canvas = Canvas(context.new_page(), server, renderer)
    canvas.open()
    if renderer == "vue" and (version := canvas.frontend_version()) < (1, 28):
        context.close()
        pytest.skip(f"Vue nodes of frontend {version} show nobody's DOM widgets yet, not even the core's notes")
    yield canvas
    canvas.stop_all()
    context.close()
    assert canvas.unexpected_errors() == []


@pytest.fixture
def page(canvas):
    """Playwright's page of the canvas."""
    return canvas.page
