"""Drives the real web page of ComfyUI: what a user does, in words."""

import contextlib
import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, TimeoutError

PICTURES = Path(__file__).parents[2] / "output" / "e2e"
# What ComfyUI's own page reports on ComfyUI's own server: files that only exist after the first use, and its news site.
ALWAYS = (
    r"/userdata",
    r"user\.css",
    r"api\.comfy\.org|ERR_NAME_NOT_RESOLVED|ERR_INTERNET_DISCONNECTED",
    r"templates/index|Error loading core workflow templates",  # a package of its own
    r"reading 'id'[\s\S]*addSetting",  # frontend 1.27, while it starts
)


class Canvas:
    """One open page.

    Attributes:
        errors: what the page has reported: console errors, exceptions, answers of 400 and above.
        expected_errors: patterns of those that a test provokes.
    """

    def __init__(self, page: Page, server: str, renderer: str):
        self.page, self.server, self.renderer = page, server, renderer
        self.errors: list[str] = []
        self.expected_errors: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error.stack or error}"))
        page.on("response", self._on_response)

    def _on_console(self, message) -> None:
        # A failed request is reported here without its address and again by _on_response with it.
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_response(self, response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status}: {response.request.method} {response.url}")

    def unexpected_errors(self) -> list[str]:
        patterns = [*ALWAYS, *self.expected_errors]
        return [e for e in self.errors if not any(re.search(p, e) for p in patterns)]

    # The server, asked directly

    def request(self, path: str, body: Any = None) -> Any:
        """The JSON answer to GET, or to POST if there is a body; None if the answer is empty."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop_all(self) -> None:
        """Clears the queue and stops what runs, so that the next test finds an idle server."""
        self.request("queue", {"clear": True})
        self.request("interrupt", {})
        deadline = time.monotonic() + 60
        while self.request("prompt")["exec_info"]["queue_remaining"]:
            assert time.monotonic() < deadline, "the server still runs a prompt a minute after it was told to stop"
            time.sleep(0.1)

    # The page

    def open(self) -> None:
        """Opens the page in this renderer as on a first start, and puts the template browser away."""
        settings = {
            "Comfy.VueNodes.Enabled": self.renderer == "vue",
            "Comfy.VueNodes.AutoScaleLayout": False,
            "Comfy.TutorialCompleted": False,
            "Comfy.Notification.ShowVersionUpdates": False,
        }
        self.request("settings", settings)
        self.page.goto(self.server)
        self.wait_until_ready()
        self.page.get_by_role("dialog").first.wait_for()
        self.close_dialog()

    def frontend_version(self) -> tuple[int, int]:
        """Major and minor version of the web page."""
        major, minor, *_ = self.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").split(".")
        return int(major), int(minor)

    def close_dialog(self) -> None:
        dialog = self.page.get_by_role("dialog").first
        cross = dialog.locator(".p-dialog-close-button, button:has(.pi-times)").first
        deadline = time.monotonic() + 60
        while dialog.is_visible():  # deaf while it opens
            assert time.monotonic() < deadline, "a dialog stays open"
            with contextlib.suppress(TimeoutError):  # it moves, or is gone at last
                if cross.is_visible():
                    cross.click(timeout=3000)
                else:  # since version 1.5x
                    dialog.press("Escape", timeout=3000)
            self.page.wait_for_timeout(300)

    def wait_until_ready(self) -> None:
        self.page.wait_for_function("window.app?.vueAppReady === true", timeout=60_000)
        self.page.locator(".templates-tab-button").wait_for()

    def load_template(self, name: str) -> None:
        """Opens one of our workflows as a user does: template browser, our extension, the card."""
        with self.page.expect_response(lambda r: r.url.endswith(f"/{name}.json")):
            self.page.locator(".templates-tab-button").click()
            self.page.get_by_role("dialog").get_by_text(self.extension(), exact=True).click()
            self.page.get_by_test_id(f"template-workflow-{name}").click()
        self.page.get_by_test_id(f"template-workflow-{name}").wait_for(state="detached")
        self.page.wait_for_function("app.graph.nodes.length > 0")

    def load_workflow(self, workflow: dict) -> None:
        """Opens a workflow given in the canvas's form."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)

    def extension(self) -> str:
        """The name of our folder in custom_nodes."""
        return self.request("object_info/LLIA_LoadModel")["LLIA_LoadModel"]["python_module"].split(".")[1]

    def missing_nodes(self) -> list[str]:
        """Types of nodes on the canvas, subgraphs included, that the server does not know."""
        return self.page.evaluate(
            """() => {
                const graphs = [app.graph, ...(app.graph.subgraphs?.values() ?? [])]
                const nodes = graphs.flatMap(graph => graph.nodes)
                return nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => node.type)
            }"""
        )

    def set_widget(self, node_type: str, widget: str, value: Any) -> None:
        """Sets a widget of the first node of this type, as typing into it does."""
        self.page.evaluate(
            """([type, name, value]) => {
                const node = app.graph.nodes.find(node => node.type === type)
                const widget = node.widgets.find(widget => widget.name === name)
                widget.value = value
                widget.callback?.(value, app.canvas, node)
            }""",
            [node_type, widget, value],
        )

    def prompt(self) -> dict:
        """What Run would send: {id: {"class_type", "inputs"}}, subgraphs flattened."""
        prompt = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return {i: {"class_type": n["class_type"], "inputs": n["inputs"]} for i, n in prompt.items()}

    def type_of(self, node_id: str) -> str:
        return self.prompt()[node_id]["class_type"]

    def queue(self) -> str:
        """Presses Run; the prompt's id."""
        with self.page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
            self.page.get_by_test_id("queue-button").click()
        body = answer.value.json()
        assert "prompt_id" in body, f"the prompt was refused: {json.dumps(body)[:2000]}"
        return body["prompt_id"]

    def wait_for_end(self, prompt_id: str, seconds: float = 120) -> dict:
        """The prompt's entry in the history once it has ended, however it ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if entry := self.request(f"history/{prompt_id}").get(prompt_id):
                return entry
            self.page.wait_for_timeout(100)  # lets the page's events be seen meanwhile
        raise AssertionError(f"prompt {prompt_id} has not ended after {seconds} s")

    def run(self, seconds: float = 120) -> dict:
        """Presses Run and waits for success; the outputs by node id."""
        entry = self.wait_for_end(self.queue(), seconds)
        assert entry["status"]["status_str"] == "success", json.dumps(entry["status"]["messages"][-1])[:3000]
        return entry["outputs"]

    def data(self, element: Locator) -> dict[str, str]:
        """The element's data attributes: data-frames-shown as "framesShown"."""
        return element.evaluate("element => ({...element.dataset})")

    def file(self, result: dict) -> bytes:
        """A file that a node has shown: {"filename", "subfolder", "type"}."""
        with urllib.request.urlopen(f"{self.server}view?{urllib.parse.urlencode(result)}", timeout=60) as answer:
            return answer.read()

    def screenshot(self, name: str) -> Path:
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}-{self.renderer}.png"
        self.page.screenshot(path=path)
        return path


def wait_for_line(process: subprocess.Popen, log: Path, start: str, seconds: float) -> str:
    """The line of a process's log that starts like this."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        text = log.read_text()
        if found := next((line for line in text.splitlines(keepends=True) if line.startswith(start)), None):
            if found.endswith("\n"):
                return found.strip()
        elif process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"no line {start!r} from {process.args}:\n{log.read_text()[-3000:]}")
