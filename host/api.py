"""Prompts, queue, history, nodes and settings over HTTP, in ComfyUI's forms."""

import json
import logging
import sys
import time

from aiohttp import web

from .files import user_folder
from .jobs import Job, describe_all
from .pack import Pack
from .server import FEATURES, PromptServer
from .validation import PromptError, validate_prompt

log = logging.getLogger(__name__)
COMFYUI_VERSION = "0.8.0"  # whose addresses these are


def routes(server: PromptServer, pack: Pack) -> list[web.RouteDef]:
    return [*_prompt_routes(server, pack), *_queue_routes(server), *_info_routes(pack), *_settings_routes()]


async def _json(request: web.Request) -> dict:
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise web.HTTPBadRequest(text=f"The body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The body must be a JSON object")
    return body


def _prompt_routes(server: PromptServer, pack: Pack) -> list[web.RouteDef]:
    queue = server.prompt_queue

    async def get_prompt(request: web.Request) -> web.Response:
        return web.json_response(server.get_queue_info())

    async def post_prompt(request: web.Request) -> web.Response:
        body = await _json(request)
        try:
            if not isinstance(prompt := body.get("prompt"), dict):
                error = {"type": "no_prompt", "message": "No prompt provided", "details": "", "extra_info": {}}
                raise PromptError(error)
            targets, node_errors = validate_prompt(prompt, pack.nodes, body.get("partial_execution_targets"))
        except PromptError as error:
            log.warning("Invalid prompt: %s", error)
            return web.json_response({"error": error.error, "node_errors": error.node_errors}, status=400)
        extra = {**(body.get("extra_data") or {}), "create_time": int(time.time() * 1000)}
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        number = float(body["number"]) if "number" in body else queue.number(front=bool(body.get("front")))
        job = Job(number, prompt, extra, targets)
        if "prompt_id" in body:
            job.id = str(body["prompt_id"])
        queue.put(job)
        return web.json_response({"prompt_id": job.id, "number": number, "node_errors": node_errors})

    async def object_info(request: web.Request) -> web.Response:
        name = request.match_info.get("node")
        names = pack.nodes if name is None else {name} & pack.nodes.keys()
        return web.json_response({n: pack.info(n) for n in names})

    return [
        web.get("/prompt", get_prompt),
        web.post("/prompt", post_prompt),
        web.get("/object_info", object_info),
        web.get("/object_info/{node}", object_info),
    ]


def _queue_routes(server: PromptServer) -> list[web.RouteDef]:
    queue = server.prompt_queue

    async def get_queue(request: web.Request) -> web.Response:
        running, waiting, _ = queue.snapshot()
        running_items = [running.as_queue_item()] if running else []
        return web.json_response(
            {"queue_running": running_items, "queue_pending": [j.as_queue_item() for j in waiting]}
        )

    async def post_queue(request: web.Request) -> web.Response:
        body = await _json(request)
        queue.remove_waiting(None if body.get("clear") else body.get("delete", []))
        return web.Response()

    async def get_history(request: web.Request) -> web.Response:
        wanted, most = request.match_info.get("id"), int(request.query.get("max_items", 200))
        done = queue.snapshot()[2][-most:]
        return web.json_response({j.id: j.as_history() for j in done if wanted in (None, j.id)})

    async def post_history(request: web.Request) -> web.Response:
        body = await _json(request)
        queue.remove_done(None if body.get("clear") else body.get("delete", []))
        return web.Response()

    async def interrupt(request: web.Request) -> web.Response:
        body = await _json(request) if request.can_read_body else {}
        queue.interrupt(body.get("prompt_id"))
        return web.Response()

    async def free(request: web.Request) -> web.Response:
        if (await _json(request)).get("free_memory"):
            queue.forget_results()
        return web.Response()

    return [
        web.get("/queue", get_queue),
        web.post("/queue", post_queue),
        web.get("/history", get_history),
        web.get("/history/{id}", get_history),
        web.post("/history", post_history),
        web.post("/interrupt", interrupt),
        web.post("/free", free),
        *_job_routes(queue),
    ]


def _job_routes(queue) -> list[web.RouteDef]:
    async def get_jobs(request: web.Request) -> web.Response:
        states = request.query.get("status", "pending,in_progress,completed,failed").split(",")
        entries = [e for e in describe_all(queue) if e["status"] in states]
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 200))
        page = entries[offset : offset + limit]
        more = offset + len(page) < len(entries)
        pagination = {"offset": offset, "limit": limit, "total": len(entries), "has_more": more}
        return web.json_response({"jobs": page, "pagination": pagination})

    async def get_job(request: web.Request) -> web.Response:
        for entry in describe_all(queue, full=True):
            if entry["id"] == request.match_info["id"]:
                return web.json_response(entry)
        return web.json_response({"error": "Job not found"}, status=404)

    return [web.get("/jobs", get_jobs), web.get("/jobs/{id}", get_job)]


def _info_routes(pack: Pack) -> list[web.RouteDef]:
    def answer(value):
        async def handler(request: web.Request) -> web.Response:
            return web.json_response(value() if callable(value) else value)

        return handler

    return [
        web.get("/system_stats", answer(_system_stats)),
        web.get("/features", answer(FEATURES)),
        web.get("/users", answer({"storage": "server", "migrated": True})),
        # What the web page asks for and our workflows do not need.
        web.get("/embeddings", answer([])),
        web.get("/experiment/models", answer([])),
        web.get("/global_subgraphs", answer({})),
    ]


def _system_stats() -> dict:
    import torch

    memory = dict.fromkeys(("vram_total", "vram_free", "torch_vram_total", "torch_vram_free"), 0)
    device = {"name": "cpu", "type": "cpu", "index": None, **memory}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        device |= {"name": torch.cuda.get_device_name(), "type": "cuda", "index": 0}
        device |= {"vram_total": total, "vram_free": free}
    system = {
        "os": sys.platform,
        "ram_total": 0,
        "ram_free": 0,
        "comfyui_version": COMFYUI_VERSION,
        "python_version": sys.version,
        "pytorch_version": torch.__version__,
        "embedded_python": False,
        "argv": sys.argv,
    }
    return {"system": system, "devices": [device]}


def _settings_routes() -> list[web.RouteDef]:
    def read() -> dict:
        file = user_folder() / "comfy.settings.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def write(changes: dict) -> web.Response:
        file = user_folder() / "comfy.settings.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(read() | changes, indent=4))
        part.replace(file)
        return web.Response()

    async def get_settings(request: web.Request) -> web.Response:
        return web.json_response(read())

    async def get_setting(request: web.Request) -> web.Response:
        return web.json_response(read().get(request.match_info["id"]))

    async def post_settings(request: web.Request) -> web.Response:
        return write(await _json(request))

    async def post_setting(request: web.Request) -> web.Response:
        return write({request.match_info["id"]: await request.json()})

    return [
        web.get("/settings", get_settings),
        web.get("/settings/{id}", get_setting),
        web.post("/settings", post_settings),
        web.post("/settings/{id}", post_setting),
    ]
