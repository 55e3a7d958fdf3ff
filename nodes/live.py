"""Pictures and sound on their way to browsers while they are made: the streams, and the routes that serve them.

The node's thread encodes each frame once (JPEG) and writes it with its sound (PCM) to a spool file. Every viewer has a
websocket of its own and is sent what it is about to show: the queue of a viewer is a range of the spool, so memory
stays flat whatever the length, a late viewer can scrub all that was made, and a slow one loses pictures before sound.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from ..llia_core.states import STATE_NAMES
from ..llia_core.stream import Chunk
from .live_wire import Spool, Viewer, addressed, encode_chunk

STATUS_S = 0.25  # between two status messages, at least
KEPT_STREAMS, KEPT_S = 8, 3600.0  # ended streams kept for scrubbing, at most so many of a page and so long
HEARTBEAT_S = 20.0  # a viewer that answers no ping for this long is dropped
LARGEST_MESSAGE = 4096  # bytes, from a viewer
REMOVED = 4000  # websocket close code: the stream is no longer kept


class LiveStream:
    """One run's frames. `add` and `end` are called by the sampling thread, everything else by the event loop.

    info: node, workflow, fps, frames, width, height, sample_rate, channels; sent to viewers as it is.
    """

    def __init__(self, info: dict, client_id: str, folder: str) -> None:
        self.id, self.client_id = uuid.uuid4().hex, client_id
        self.info = {**info, "stream": self.id, "labels": list(STATE_NAMES)}
        self.spool = Spool(folder)
        self.made, self.state, self.message = 0, "running", ""
        self.started = time.monotonic()
        self.seconds = 0.0  # spent on the frames made so far
        self.ended_at = 0.0
        self._watchers: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    @property
    def removed(self) -> bool:
        return self.state == "removed"

    def add(self, chunk: Chunk) -> None:
        """Encode and spool a chunk, then tell the viewers."""
        for record in encode_chunk(chunk, self.info["sample_rate"], self.info["fps"], time.time()):
            self.spool.append(record)
        self.made = chunk.start + len(chunk.frames)
        self.seconds = time.monotonic() - self.started
        self._tell()

    def end(self, state: str, message: str = "") -> None:
        """No more frames. state: done, cancelled or error; message: what a viewer is told."""
        self.state, self.message, self.ended_at = state, message, time.monotonic()
        self._tell()

    def remove(self) -> None:
        """Forget all; viewers are disconnected."""
        self.state = "removed"
        self.spool.close()
        self._tell()

    def status(self) -> dict:
        fps = self.made / self.seconds if self.seconds else 0.0
        left = (self.info["frames"] - self.made) / fps if fps else None
        return {"state": self.state, "message": self.message, "made": self.made, "made_fps": fps, "left_s": left}

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after every change, by any thread. Returns a function that ends it."""
        with self._lock:
            self._watchers.add(callback)
        return lambda: self._unwatch(callback)

    def _unwatch(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.discard(callback)

    def _tell(self) -> None:
        with self._lock:
            watchers = tuple(self._watchers)
        for callback in watchers:
            with suppress(RuntimeError):  # its event loop has been closed
                callback()


class LiveStreams:
    """The running streams and a few ended ones."""

    def __init__(self) -> None:
        self._streams: dict[str, LiveStream] = {}
        self._lock = threading.Lock()
        self._forgotten = 0

    def open(self, info: dict, client_id: str, folder: str) -> LiveStream:
        """A new stream; the one that the same node of the same workflow and browser had before is removed."""
        stream = LiveStream(info, client_id, folder)
        with self._lock:
            owner = _owner(stream)
            replaced = [old for old in self._streams.values() if _owner(old) == owner]
            self._streams[stream.id] = stream
        for old in replaced:
            self.remove(old)
        self._forget()
        return stream

    def get(self, stream_id: str) -> LiveStream | None:
        return self._streams.get(stream_id)

    def of_client(self, client_id: str) -> list[LiveStream]:
        self._forget()
        with self._lock:
            return [stream for stream in self._streams.values() if stream.client_id == client_id]

    def remove(self, stream: LiveStream) -> None:
        with self._lock:
            self._streams.pop(stream.id, None)
        stream.remove()

    def forgotten(self) -> int:
        """How many streams have been removed because they were too old or too many."""
        self._forget()
        return self._forgotten

    def _forget(self) -> None:
        """Remove ended streams that are too old, or beyond the number kept of a page.

        Not of all pages together: what one page makes would have another's previews made anew, run after run.
        """
        with self._lock:
            ended = sorted((s for s in self._streams.values() if s.ended_at), key=lambda s: s.ended_at, reverse=True)
        newer, old, oldest = Counter(), [], time.monotonic() - KEPT_S
        for stream in ended:
            newer[stream.client_id] += 1
            if newer[stream.client_id] > KEPT_STREAMS or stream.ended_at < oldest:
                old.append(stream)
        for stream in old:
            self.remove(stream)
        self._forgotten += len(old)


def _owner(stream: LiveStream) -> tuple:
    return stream.client_id, stream.info.get("workflow"), stream.info["node"]


STREAMS = LiveStreams()  # the one place where the node that makes a stream and the routes that serve it meet


def register_routes(routes: web.RouteTableDef) -> None:
    """Add the two routes to ComfyUI's table (which also mounts them under /api)."""
    routes.get("/llia/streams")(list_streams)
    routes.get("/llia/stream/{id}")(serve_stream)


def require_same_origin(request: web.Request) -> None:
    """Raises 403 for a page of another site: browsers let any page open a websocket to this machine."""
    origin = request.headers.get("Origin")
    ours = {request.host.lower(), request.headers.get("X-Forwarded-Host", "").lower()}
    if origin is not None and (urlsplit(origin).netloc.lower() or origin) not in ours:
        raise web.HTTPForbidden(text=f"this server is {request.host}: pages of {origin} may not read its streams")


async def list_streams(request: web.Request) -> web.Response:
    """GET /llia/streams?client_id=...: that browser's running and kept streams, for one that was reloaded."""
    require_same_origin(request)
    streams = STREAMS.of_client(request.query.get("client_id", ""))
    return web.json_response([{**stream.info, **stream.status()} for stream in streams])


async def serve_stream(request: web.Request) -> web.WebSocketResponse:
    """GET /llia/stream/{id}: the websocket of one viewer."""
    require_same_origin(request)
    stream = STREAMS.get(request.match_info["id"])
    if stream is None:
        raise web.HTTPNotFound(text="no such stream: it was replaced by a newer run, or is too old")
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=LARGEST_MESSAGE, compress=False)
    await socket.prepare(request)
    viewer, news, loop = Viewer(), asyncio.Event(), asyncio.get_running_loop()
    unwatch = stream.watch(lambda: loop.call_soon_threadsafe(news.set))
    sender = asyncio.create_task(_send(socket, stream, viewer, news))
    try:
        async for message in socket:
            if message.type != WSMsgType.TEXT or not await _hear(socket, viewer, message.data):
                break
            news.set()
    finally:
        unwatch()
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        await socket.close()
    return socket


async def _hear(socket: web.WebSocketResponse, viewer: Viewer, text: str) -> bool:
    """Take in what the viewer says. False if it makes no sense."""
    try:
        message = json.loads(text)
        if message["type"] == "ping":
            await socket.send_json({"type": "pong", "sent": float(message["sent"]), "now": time.time()})
        else:
            viewer.hear(message)
    except (ValueError, KeyError, TypeError, OverflowError):
        return False
    except ConnectionError:
        return False
    return True


async def _send(socket: web.WebSocketResponse, stream: LiveStream, viewer: Viewer, news: asyncio.Event) -> None:
    """Send what is due until the stream is removed. Waiting for a full socket is what holds a slow viewer back."""
    try:
        await socket.send_json({"type": "hello", **stream.info, **stream.status()})
        told, told_at = {}, 0.0
        while not stream.removed:
            news.clear()
            status, now = stream.status(), time.monotonic()
            if status != told and (status["state"] != "running" or now - told_at > STATUS_S):
                await socket.send_json({"type": "status", **status})
                told, told_at = status, now
            if not await _send_due(socket, stream, viewer):
                await news.wait()
        await socket.close(code=REMOVED, message=b"no longer kept")
    except ConnectionError:
        pass  # it left
    except OSError as error:
        logging.error("LLIA: the preview's temporary file cannot be read: %s", error)
        await socket.close(code=WSCloseCode.INTERNAL_ERROR)


async def _send_due(socket: web.WebSocketResponse, stream: LiveStream, viewer: Viewer) -> bool:
    """Send the next few frames, one message each: its sound, then its picture. False if none is due."""
    due, turn = viewer.due(stream.made), viewer.turn
    if not due:
        return False
    try:
        records = await asyncio.to_thread(stream.spool.read, due.start, due.stop)
    except ValueError:  # closed meanwhile: removed
        return True
    for frame, record in zip(due, records, strict=True):
        if viewer.turn != turn:
            break  # it went elsewhere while this was read or sent
        await socket.send_bytes(addressed(record, turn, viewer.send(frame, time.monotonic())))
    return True
