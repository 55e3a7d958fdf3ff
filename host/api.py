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
from .shims import folder_paths
from .validation import PromptError, validate_prompt

log = logging.getLogger(__name__)
COMFYUI_VERSION = "0.8.0"  # whose addresses these are
LARGEST_PAGE = 200  # entries


def routes(server: PromptServer, pack: Pack) -> list[web.RouteDef]:
    return [*_Prompts(server, pack).routes(), *_Queue(server).routes(), *_info_routes(), *_settings_routes()]


async def _json(request: web.Request) -> dict:
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise web.HTTPBadRequest(text=f"The body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The body must be a JSON object")
    return body


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdigit():
        raise web.HTTPBadRequest(text=f"{name}={text!r}; expected a whole number")
    return int(text)


class _Prompts:
    """What can be queued, and queueing it."""

    def __init__(self, server: PromptServer, pack: Pack):
        self.server, self.pack = server, pack

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/prompt", self.get_prompt),
            web.post("/prompt", self.post_prompt),
            web.get("/object_info", self.object_info),
            web.get("/object_info/{node}", self.object_info),
        ]

    async def get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response(self.server.get_queue_info())

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await _json(request)
        prompt = body.get("prompt")
        try:
            if not isinstance(prompt, dict):
                error = {"type": "no_prompt", "message": "No prompt provided", "details": "", "extra_info": {}}
                raise PromptError(error)
            targets, node_errors = validate_prompt(prompt, self.pack.nodes, body.get("partial_execution_targets"))
        except PromptError as error:
            log.warning("Invalid prompt: %s", error)
            return web.json_response({"error": error.error, "node_errors": error.node_errors}, status=400)
        job = self._job(body, prompt, targets)
        self.server.prompt_queue.put(job)
        return web.json_response({"prompt_id": job.id, "number": job.number, "node_errors": node_errors})

    def _job(self, body: dict, prompt: dict, targets: list[str]) -> Job:
        extra = {**(body.get("extra_data") or {}), "create_time": int(time.time() * 1000)}
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        number = self.server.prompt_queue.number(front=bool(body.get("front")))
        job = Job(float(body.get("number", number)), prompt, extra, targets)
        if "prompt_id" in body:
            job.id = str(body["prompt_id"])
        return job

    async def object_info(self, request: web.Request) -> web.Response:
        name = request.match_info.get("node")
        names = self.pack.nodes if name is None else {name} & self.pack.nodes.keys()
        return web.json_response({n: self.pack.info(n) for n in names})


class _Queue:
    """What waits, runs and ran."""

    def __init__(self, server: PromptServer):
        self.queue = server.prompt_queue

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/queue", self.get_queue),
            web.post("/queue", self.post_queue),
            web.get("/history", self.get_history),
            web.get("/history/{id}", self.get_history),
            web.post("/history", self.post_history),
            web.post("/interrupt", self.interrupt),
            web.post("/free", self.free),
            web.get("/jobs", self.get_jobs),
            web.get("/jobs/{id}", self.get_job),
        ]

    async def get_queue(self, request: web.Request) -> web.Response:
        running, waiting, _ = self.queue.snapshot()
        return web.json_response(
            {
                "queue_running": [running.as_queue_item()] if running else [],
                "queue_pending": [job.as_queue_item() for job in waiting],
            }
        )

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self.queue.remove_waiting(None if body.get("clear") else body.get("delete", []))
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        wanted, most = request.match_info.get("id"), _number(request, "max_items", LARGEST_PAGE)
        done = self.queue.snapshot()[2][-most:]
        return web.json_response({job.id: job.as_history() for job in done if wanted in (None, job.id)})

    async def post_history(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self.queue.remove_done(None if body.get("clear") else body.get("delete", []))
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        body = await _json(request) if request.can_read_body else {}
        self.queue.interrupt(body.get("prompt_id"))
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        if (await _json(request)).get("free_memory"):
            self.queue.forget_results()
        return web.Response()

    async def get_jobs(self, request: web.Request) -> web.Response:
        states = request.query.get("status", "pending,in_progress,completed,failed").split(",")
        offset, limit = _number(request, "offset", 0), _number(request, "limit", LARGEST_PAGE)
        entries = [entry for entry in describe_all(self.queue) if entry["status"] in states]
        page = entries[offset : offset + limit]
        more = offset + len(page) < len(entries)
        pagination = {"offset": offset, "limit": limit, "total": len(entries), "has_more": more}
        return web.json_response({"jobs": page, "pagination": pagination})

    async def get_job(self, request: web.Request) -> web.Response:
        for entry in describe_all(self.queue, full=True):
            if entry["id"] == request.match_info["id"]:
                return web.json_response(entry)
        return web.json_response({"error": "Job not found"}, status=404)


def _info_routes() -> list[web.RouteDef]:
    def answer(value):
        async def handler(request: web.Request) -> web.Response:
            return web.json_response(value() if callable(value) else value)

        return handler

    return [
        web.get("/system_stats", answer(_system_stats)),
        web.get("/features", answer(FEATURES)),
        web.get("/users", answer({"storage": "server", "migrated": True})),
        web.get("/internal/folder_paths", answer(_model_folders)),  # where a missing model is to be put
        # What the web page asks for and our workflows do not need.
        web.get("/embeddings", answer([])),
        web.get("/experiment/models", answer([])),
        web.get("/global_subgraphs", answer({})),
    ]


def _model_folders() -> dict[str, list[str]]:
    return {kind: folder_paths.get_folder_paths(kind) for kind in folder_paths.folder_names_and_paths}


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


# The page opens with the templates as long as it is False; later with a workflow of nodes that this host does not have.
NOT_KEPT = "Comfy.TutorialCompleted"


def _settings_routes() -> list[web.RouteDef]:
    def read() -> dict:
        return json.loads((user_folder() / "comfy.settings.json").read_text(encoding="utf-8"))

    def write(changes: dict) -> web.Response:
        file = user_folder() / "comfy.settings.json"
        part = file.with_suffix(".part")
        changes.pop(NOT_KEPT, None)
        part.write_text(json.dumps(read() | changes, indent=4), encoding="utf-8")
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
