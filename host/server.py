"""The web server: ComfyUI's addresses, as far as its web page and our nodes use them.

security.py   who may ask           api.py      prompts, queue, history, settings
files.py      upload, view, userdata            canvas.py   the web page, templates, translations
"""

import asyncio
import json
import logging
import uuid
from typing import Any

from aiohttp import WSMsgType, web

from .executor import Executor
from .jobs import JobQueue
from .security import LARGEST_UPLOAD, guard

log = logging.getLogger(__name__)
FEATURES = {"supports_preview_metadata": True, "max_upload_size": LARGEST_UPLOAD}


class PromptServer:
    """What nodes reach as `server.PromptServer.instance`: routes, messages to the canvas, the current client.

    It exists before the nodes are loaded, so that they can add routes; `serve` opens the port afterwards. Without
    `serve` (a workflow run from the command line), messages go nowhere.
    """

    instance: "PromptServer"

    def __init__(self) -> None:
        PromptServer.instance = self
        self.app = web.Application(client_max_size=LARGEST_UPLOAD, middlewares=[guard])
        self.routes = web.RouteTableDef()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.sockets_metadata: dict[str, dict[str, Any]] = {}
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.executor = Executor({})
        self.prompt_queue = JobQueue(self.executor, self._send_from_job, self.queue_updated)
        self._messages: asyncio.Queue = asyncio.Queue()
        self.routes.get("/ws")(self._websocket)

    # Messages

    def send_sync(self, event: str, data: dict, sid: str | None = None) -> None:
        """Sends a message to one client, or to all if sid is None. From any thread; returns at once."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._messages.put_nowait, (event, data, sid))

    def _send_from_job(self, client_id: str | None, event: str, data: dict) -> None:
        self.client_id = client_id
        if event == "executing":
            self.last_node_id = data["node"]
        if client_id is not None:
            self.send_sync(event, data, client_id)

    def queue_updated(self) -> None:
        self.send_sync("status", {"status": self.get_queue_info()})

    def get_queue_info(self) -> dict:
        return {"exec_info": {"queue_remaining": self.prompt_queue.remaining}}

    async def _publish(self) -> None:
        while True:
            event, data, sid = await self._messages.get()
            for socket in list(self.sockets.values()) if sid is None else filter(None, [self.sockets.get(sid)]):
                try:
                    await socket.send_json({"type": event, "data": data})
                except (ConnectionError, RuntimeError) as error:
                    log.debug("A client has gone: %s", error)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets[sid] = socket
        self.sockets_metadata[sid] = {"feature_flags": {}}
        try:
            await socket.send_json({"type": "status", "data": {"status": self.get_queue_info(), "sid": sid}})
            if self.client_id == sid and self.last_node_id is not None:
                await socket.send_json({"type": "executing", "data": {"node": self.last_node_id}})
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._receive(sid, socket, message.data)
        finally:
            if self.sockets.get(sid) is socket:  # a reloaded page has the same id and may be here already
                del self.sockets[sid]
                self.sockets_metadata.pop(sid, None)
        return socket

    async def _receive(self, sid: str, socket: web.WebSocketResponse, text: str) -> None:
        try:
            message = json.loads(text)
        except json.JSONDecodeError:
            log.warning("Client %s sent something that is no JSON", sid)
            return
        if isinstance(message, dict) and message.get("type") == "feature_flags":
            self.sockets_metadata[sid] = {"feature_flags": message.get("data") or {}}
            await socket.send_json({"type": "feature_flags", "data": FEATURES})

    # Start and stop

    def add_routes(self) -> None:
        """Every route of this server and of the nodes, also below /api, as the web page asks for them."""
        both = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                both.route(route.method, "/api" + route.path, **route.kwargs)(route.handler)
        self.app.add_routes(both)
        self.app.add_routes(self.routes)

    async def serve(self, address: str, port: int) -> web.AppRunner:
        """Opens the port (0: any free one) and starts the queue. `await runner.cleanup()` ends both."""
        self.loop = asyncio.get_running_loop()
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=2)
        self.app.on_startup.append(self._start)
        self.app.on_shutdown.append(self._close)
        await runner.setup()
        await web.TCPSite(runner, address, port).start()
        return runner

    async def _start(self, app: web.Application) -> None:
        self._publisher = asyncio.create_task(self._publish())
        self.prompt_queue.start()

    async def _close(self, app: web.Application) -> None:
        for socket in list(self.sockets.values()):
            await socket.close()
        await asyncio.to_thread(self.prompt_queue.close)
        self._publisher.cancel()
