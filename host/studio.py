"""Puts the host together: folders, server, nodes; then serves the canvas or runs one workflow."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from . import api, canvas, files
from .executor import Run
from .pack import FOLDER, Pack, load_pack
from .server import PromptServer
from .shims import folder_paths, install
from .validation import validate_prompt
from .workflow import read_prompt


def open_host(base: Path, folder: Path = FOLDER) -> tuple[PromptServer, Pack]:
    """Folders below base, a server that is not yet listening, and the pack's nodes loaded into it."""
    install()
    folder_paths.configure(base)
    server = PromptServer()
    pack = load_pack(folder)
    server.executor.nodes = pack.nodes
    return server, pack


def run_file(base: Path, file: Path, changes: list[str] = (), folder: Path = FOLDER) -> dict:
    """Runs a workflow file.

    Args:
        changes: "node id.input=value", applied before it runs.

    Returns:
        node id -> what the canvas would show: files and texts.

    Raises:
        ValueError: the workflow is not valid, or a node failed; the text says which and why.
        KeyboardInterrupt: after Ctrl-C, with the running node stopped properly.
    """
    server, pack = open_host(base, folder)
    prompt = read_prompt(file, pack)
    for change in changes:
        _apply(prompt, change)
    targets, _ = validate_prompt(prompt, pack.nodes)
    last = {"step": -1}

    def show(event: str, data: dict) -> None:
        if event == "executing":
            print(f"{data['node']}: {prompt[data['node']]['class_type']}", flush=True)
        for node_id, state in data.get("nodes", {}).items() if event == "progress_state" else ():
            step = (node_id, int(10 * state["value"] / state["max"]) if state["max"] else 0)
            if state["state"] == "running" and step != last["step"] and step[1]:
                last["step"] = step
                print(f"{node_id}: {state['value']:g} of {state['max']:g}", flush=True)

    run = Run("run", prompt, {}, show)
    server.executor.execute(run, targets)
    if not run.success:
        event, data = run.messages[-1]
        reason = data.get("exception_message", event).strip()
        raise ValueError(f"Node {data['node_id']} ({data['node_type']}) failed: {reason}")
    return run.outputs


def _apply(prompt: dict, change: str) -> None:
    place, equals, value = change.partition("=")
    node_id, _, name = place.rpartition(".")
    if not equals or node_id not in prompt:
        raise ValueError(f"--input {change!r}: expected NODE.NAME=VALUE with NODE one of {sorted(prompt)}")
    prompt[node_id]["inputs"][name] = value


async def serve_canvas(
    base: Path,
    address: str,
    port: int,
    ready: Callable[[str], None],
    make_stop: Callable[[], asyncio.Event],
    folder: Path = FOLDER,
) -> None:
    """Serves the canvas until the event of make_stop is set.

    Args:
        ready: called with the address to open in a browser.

    Raises:
        RuntimeError: comfyui-frontend-package is not installed.
        OSError: the port is taken.
    """
    # In a thread: nodes are loaded as if no event loop ran, as in ComfyUI.
    server, pack = await asyncio.to_thread(open_host, base, folder)
    files.make_user_folder()
    for route in [*api.routes(server, pack), *files.ROUTES, *canvas.routes(pack)]:
        server.routes.route(route.method, route.path)(route.handler)
    server.add_routes()
    canvas.add_routes(server.app, pack)
    stop = make_stop()
    runner = await server.serve(address, port)
    try:
        host = f"[{address}]" if ":" in address else address
        ready(f"http://{host}:{runner.addresses[0][1]}/")
        await stop.wait()
    finally:
        await runner.cleanup()
        shutil.rmtree(folder_paths.get_temp_directory(), ignore_errors=True)
