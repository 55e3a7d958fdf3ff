"""nodes/live.py on a small web server of its own, fed by hand: for tests of wire and player without ComfyUI."""

import asyncio
import importlib
import math
import struct
import sys
import threading
import types
from pathlib import Path

import torch
from aiohttp import web

ROOT = Path(__file__).parents[1]
PACK = "llia_live_test"  # a package made of the repository's folder, without its entry point, which needs ComfyUI
SIZE, FPS, RATE = 64, 25, 16_000


def load(name: str):
    """A module of nodes/ whose relative imports work."""
    for package, folder in ((PACK, ROOT), (f"{PACK}.nodes", ROOT / "nodes")):
        if package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(folder)]
    return importlib.import_module(f"{PACK}.nodes.{name}")


def make_chunk(start: int, count: int, size: int = SIZE, rate: int = RATE, flash_every: int = 25):
    """A marked test signal: every `flash_every` frames one is white and beeps (1 kHz), the others are dark and silent.

    The grey of a dark frame is its number modulo 64.
    """
    from llia_core.stream import Chunk

    first, last = (round(k * rate / FPS) for k in (start, start + count))
    time = torch.arange(first, last, dtype=torch.float64) / rate
    flashing = (time * FPS + 1e-6).floor().long() % flash_every == 0
    sound = (0.5 * torch.sin(2 * math.pi * 1000 * time) * flashing).float()[None]
    grey = [255 if frame % flash_every == 0 else frame % 64 for frame in range(start, start + count)]
    frames = torch.tensor(grey, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, size, size, 3).contiguous()
    return Chunk(start, frames, [frame // 25 % 3 for frame in range(start, start + count)], sound)


def packets(message: bytes) -> list[tuple]:
    """(kind, turn, label, frame, made, data) of each packet in a message, read independently of the writing code."""
    found, at, header = [], 0, struct.Struct("<BBBxIdI")
    while at < len(message):
        *head, length = header.unpack_from(message, at)
        at += header.size
        found.append((*head, message[at : at + length]))
        at += length
    assert at == len(message)
    return found


def info(frames: int, size: int = SIZE, rate: int = RATE, node: str = "1", **more) -> dict:
    return {
        "node": node,
        "workflow": None,
        "fps": FPS,
        "frames": frames,
        "width": size,
        "height": size,
        "sample_rate": rate,
        "channels": 1,
        **more,
    }


class LiveServer:
    """The routes of nodes/live.py on a free port of this machine; with `page` (HTML) that too, and /web/ beside it."""

    def __init__(self, page: str | None = None) -> None:
        self.live = load("live")
        self.loop = asyncio.new_event_loop()
        self.app, self.page = web.Application(), page
        routes = web.RouteTableDef()
        self.live.register_routes(routes)
        self.app.add_routes(routes)
        if page is not None:
            self.app.router.add_static("/web", ROOT / "web")
            self.app.router.add_get("/", self._page)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    def __enter__(self) -> "LiveServer":
        self.thread.start()
        self.runner = web.AppRunner(self.app, shutdown_timeout=1)
        self.call(self.runner.setup())
        self.call(web.TCPSite(self.runner, "127.0.0.1", 0).start())
        self.port = self.runner.addresses[0][1]
        return self

    def __exit__(self, *_) -> None:
        for stream in list(self.live.STREAMS._streams.values()):
            self.live.STREAMS.remove(stream)
        self.call(self.runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def call(self, coroutine):
        """The result of a coroutine that runs on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=30)

    def tasks(self) -> int:
        """Tasks on the server's loop beside the one that counts them."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return self.call(count())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self, frames: int, folder: Path, client: str = "me", **more):
        return self.live.STREAMS.open(info(frames, **more), client, str(folder))
