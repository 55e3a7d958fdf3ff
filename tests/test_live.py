"""Streams kept and dropped, and the routes on a real server."""

import asyncio
import gc
import io
import json
import os
import threading
import time
import tracemalloc

import aiohttp
import numpy as np
import pytest
from live_server import LiveServer, info, load, make_chunk, packets
from PIL import Image

live = load("live")


@pytest.fixture
def server():
    with LiveServer() as server:
        yield server


# Streams kept and dropped


@pytest.fixture
def streams(tmp_path):
    registry = live.LiveStreams()
    yield lambda client="me", **more: registry.open(info(10, **more), client, str(tmp_path)), registry
    for stream in list(registry._streams.values()):
        registry.remove(stream)


def test_a_new_run_of_a_node_replaces_its_last_stream_only(streams):
    start, registry = streams
    first, other_node, other_tab = start(node="1:2"), start(node="3"), start(client="you", node="1:2")
    other_workflow = start(node="1:2", workflow="w")
    second = start(node="1:2")
    assert first.removed and registry.get(first.id) is None
    assert {s.id for s in registry.of_client("me")} == {other_node.id, other_workflow.id, second.id}
    assert registry.of_client("you") == [other_tab] and registry.of_client("nobody") == []


def test_what_other_pages_make_forgets_none_of_ours(streams):
    start, registry = streams
    for client in ("me", *(str(i) for i in range(live.KEPT_STREAMS + 3))):
        start(client=client, node="1").end("done")
    assert len(registry.of_client("me")) == 1 and registry.forgotten() == 0


def test_ended_streams_are_kept_a_while_and_running_ones_always(streams, monkeypatch):
    start, registry = streams
    running = start(node="running")
    ended = [start(node=str(i)) for i in range(live.KEPT_STREAMS + 3)]
    for stream in ended:
        stream.end("done")
    assert {s.id for s in registry.of_client("me")} == {running.id, *(s.id for s in ended[3:])}
    now = time.monotonic()
    monkeypatch.setattr(live.time, "monotonic", lambda: now + live.KEPT_S + 1)
    assert registry.of_client("me") == [running]
    assert all(stream.spool._file.closed for stream in ended) and not running.spool._file.closed


def test_long_streams_need_memory_only_for_their_index(streams):
    start, _ = streams
    stream = start()
    chunk = make_chunk(0, 16)
    stream.add(chunk)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, 126):  # 2,000 frames: 80 s
        stream.add(type(chunk)(16 * number, chunk.frames, chunk.labels, chunk.sound))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert stream.made == 2016 and grown < 100_000, f"{grown} bytes for 2,000 frames: an hour would take {grown * 45}"


# The routes


def run(server, coroutine):
    async def with_session():
        async with aiohttp.ClientSession() as session:
            return await coroutine(session)

    return asyncio.run(with_session())


async def connect(session, server, stream_id, frame: int | None = 0, **more):
    socket = await session.ws_connect(f"{server.address}/llia/stream/{stream_id}", **more)
    if frame is not None:
        await socket.send_json({"type": "seek", "frame": frame, "turn": 0})
    return socket


async def read_until(socket, wanted) -> tuple[dict[int, list], list[dict]]:
    """Packets by frame and JSON messages until `wanted(frames, messages)`."""
    frames, messages = {}, []
    while not wanted(frames, messages):
        message = await socket.receive(timeout=10)
        if message.type == aiohttp.WSMsgType.BINARY:
            found = packets(message.data)
            frames[found[0][3]] = found
        else:
            assert message.type == aiohttp.WSMsgType.TEXT, message
            messages.append(json.loads(message.data))
    return frames, messages


def test_frames_arrive_while_they_are_made_and_the_end_is_told(server, tmp_path):
    stream = server.open(40, tmp_path)

    def make():
        for start in range(0, 40, 8):
            stream.add(make_chunk(start, 8))
            time.sleep(0.05)
        stream.end("done")

    async def watch(session):
        socket = await connect(session, server, stream.id)
        thread = threading.Thread(target=make)
        thread.start()
        result = await read_until(socket, lambda frames, messages: messages and messages[-1]["state"] == "done")
        thread.join()
        return result

    frames, messages = run(server, watch)
    assert sorted(frames) == list(range(40)) and all(len(found) == 2 for found in frames.values())
    hello = messages[0]
    assert hello["type"] == "hello" and hello["frames"] == 40 and hello["labels"][2] == "speaking"
    assert messages[-1]["made"] == 40 and 50 < messages[-1]["made_fps"] < 1000


def test_a_late_viewer_scrubs_what_was_made(server, tmp_path):
    stream = server.open(200, tmp_path)
    for start in range(0, 200, 20):
        stream.add(make_chunk(start, 20))
    stream.end("done")

    async def scrub(session):
        socket = await connect(session, server, stream.id, frame=None)
        for turn, frame in enumerate((150, 3, 77), start=1):
            await socket.send_json({"type": "seek", "frame": frame, "turn": turn, "ahead": 1})
            frames, _ = await read_until(socket, lambda frames, _, wanted=frame: wanted in frames)
            assert frames[frame][1][1] == turn
            picture = np.asarray(Image.open(io.BytesIO(frames[frame][1][5])))
            assert abs(float(picture.mean()) - (255 if frame % 25 == 0 else frame % 64)) < 2
        await socket.send_json({"type": "ping", "sent": 5.0})
        _, messages = await read_until(socket, lambda _, messages: messages and messages[-1]["type"] == "pong")
        assert messages[-1]["sent"] == 5.0 and abs(messages[-1]["now"] - time.time()) < 5

    run(server, scrub)


def test_a_viewer_that_does_not_read_does_not_hold_up_the_sampler(server, tmp_path):
    stream = server.open(3000, tmp_path, size=256)

    async def ignore(session):
        await connect(session, server, stream.id)  # and never read
        began = time.monotonic()
        chunk = make_chunk(0, 16, size=256)
        await asyncio.to_thread(lambda: [stream.add(chunk) for _ in range(40)])
        return time.monotonic() - began

    seconds = run(server, ignore)
    assert seconds < 10, f"640 frames took {seconds:.1f} s to hand over"


def test_unknown_streams_and_foreign_pages_are_refused(server, tmp_path):
    stream = server.open(10, tmp_path)

    async def status(session, path, origin):
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} | ({"Origin": origin} if origin else {})
        async with session.get(server.address + path, headers=headers) as answer:
            return answer.status

    async def ask(session):
        path, own = f"/llia/stream/{stream.id}", server.address
        assert await status(session, "/llia/stream/" + "0" * 32, own) == 404
        assert await status(session, "/llia/stream/..%2f..%2fetc%2fpasswd", own) == 404
        for foreign in ("https://example.org", "http://127.0.0.1:1", "null", f"https://{own[7:]}.example.org"):
            assert await status(session, path, foreign) == 403, foreign
            assert await status(session, "/llia/streams?client_id=me", foreign) == 403, foreign
        assert await status(session, path, own) == 101
        assert await status(session, path, None) == 101

    run(server, ask)


def test_the_list_has_only_the_asking_browsers_streams(server, tmp_path):
    mine = server.open(10, tmp_path, client="me", node="1:2:3")
    server.open(10, tmp_path, client="you")
    mine.add(make_chunk(0, 4))

    async def ask(session):
        async with session.get(f"{server.address}/llia/streams?client_id=me") as answer:
            return await answer.json()

    listed = run(server, ask)
    assert [(s["stream"], s["node"], s["made"], s["state"]) for s in listed] == [(mine.id, "1:2:3", 4, "running")]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"type": "at"}',
        '{"type":"seek","frame":"x","turn":0}',
        '{"type":"seek","frame":1e999,"turn":0}',
    ],
)
def test_nonsense_ends_the_connection_and_nothing_else(server, tmp_path, text):
    stream = server.open(10, tmp_path)
    stream.add(make_chunk(0, 10))

    async def talk(session):
        bad, good = await connect(session, server, stream.id, None), await connect(session, server, stream.id)
        await bad.send_str(text)
        while (await bad.receive(timeout=10)).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
        frames, _ = await read_until(good, lambda frames, _: len(frames) == 10)
        return frames

    assert len(run(server, talk)) == 10


def test_an_oversized_message_ends_the_connection(server, tmp_path):
    stream = server.open(10, tmp_path)

    async def talk(session):
        socket = await connect(session, server, stream.id, None)
        await socket.send_str("[" + " " * live.LARGEST_MESSAGE + "]")
        while (message := await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        return message.data

    assert run(server, talk) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


def test_viewers_are_told_when_a_stream_is_no_longer_kept(server, tmp_path):
    stream = server.open(10, tmp_path)
    stream.add(make_chunk(0, 10))

    async def watch(session):
        socket = await connect(session, server, stream.id)
        await read_until(socket, lambda frames, _: len(frames) == 10)
        await asyncio.to_thread(server.live.STREAMS.remove, stream)
        while (message := await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        return message.data

    assert run(server, watch) == server.live.REMOVED


def test_fifty_connections_opened_and_dropped_leave_nothing(server, tmp_path):
    stream = server.open(200, tmp_path)
    stream.add(make_chunk(0, 100))
    tasks, files = server.tasks(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    async def storm(session):
        sockets = await asyncio.gather(*(connect(session, server, stream.id) for _ in range(50)))
        while len(stream._watchers) < 50:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(read_until(socket, lambda frames, _: len(frames) > 5) for socket in sockets[:25]))
        for socket in sockets:
            socket._response.connection.transport.abort()  # as when a laptop is shut: no goodbye

    run(server, storm)
    deadline = time.monotonic() + 10
    while (stream._watchers or server.tasks() > tasks) and time.monotonic() < deadline:
        stream.add(make_chunk(stream.made, 1))
        time.sleep(0.05)
    assert not stream._watchers and server.tasks() <= tasks
    if files:
        assert len(os.listdir("/proc/self/fd")) <= files + 1
