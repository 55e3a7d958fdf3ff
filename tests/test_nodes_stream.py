"""LLIA Streaming Preview and LLIA Save Stream in the embedded host, reading a stream that is made up."""

import json
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from live_server import FPS, RATE, SIZE, make_chunk

from host.executor import Run
from host.runtime import interrupt
from host.studio import open_host
from host.validation import validate_prompt


class MarkedStream:
    """The interface of llia_core.stream.Stream; `at` is called before each chunk with its number."""

    fps, size, sample_rate, channels = FPS, SIZE, RATE, 1

    def __init__(self, frames: int = 50, at=lambda number: None) -> None:
        self.frames, self.at = frames, at
        self.alive, self.most_alive = weakref.WeakSet(), 0
        self.speech = SimpleNamespace(sound=lambda start, stop: make_chunk(start, stop - start).sound)

    def chunks(self, should_stop=lambda: False):
        for number, start in enumerate(range(0, self.frames, 8)):
            self.at(number)
            chunk = make_chunk(start, min(8, self.frames - start))
            self.alive.add(chunk.frames)
            self.most_alive = max(self.most_alive, len(self.alive))
            yield chunk


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    server, pack = open_host(tmp_path_factory.mktemp("host"))
    io = sys.modules["comfy_api.latest"].io

    class Source(io.ComfyNode):
        stream = None

        @classmethod
        def define_schema(cls):
            return io.Schema(node_id="TestSource", category="", outputs=[io.Custom("LLIA_STREAM").Output()])

        @classmethod
        def execute(cls):
            return io.NodeOutput(Source.stream)

    class Sink(io.ComfyNode):
        """Keeps what the preview gave out."""

        got = None

        @classmethod
        def define_schema(cls):
            inputs = [io.Video.Input("video"), io.Image.Input("images"), io.Audio.Input("audio")]
            return io.Schema(node_id="TestSink", category="", inputs=inputs, is_output_node=True)

        @classmethod
        def execute(cls, video, images, audio):
            Sink.got = (video, images, audio)
            return io.NodeOutput()

    pack.nodes.update({"TestSource": Source, "TestSink": Sink})
    return SimpleNamespace(
        server=server, nodes=pack.nodes, source=Source, sink=Sink, name=pack.module.__name__, events=[]
    )


def run(host, stream, node: str, client: str | None = None, anew: bool = True, **inputs) -> Run:
    """The stream through one node; of the preview all outputs are taken. anew: nothing is kept of the run before."""
    host.source.stream = stream
    if anew:
        host.server.executor.forget()
    prompt = {
        "source": {"class_type": "TestSource", "inputs": {}},
        "node": {"class_type": node, "inputs": {"stream": ["source", 0], **inputs}},
    }
    if node == "LLIA_StreamingPreview":
        taken = {name: ["node", i] for i, name in enumerate(("video", "images", "audio"))}
        prompt["sink"] = {"class_type": "TestSink", "inputs": taken}
    targets, errors = validate_prompt(prompt, host.nodes)
    assert not errors, errors
    extra = {"extra_pnginfo": {"workflow": {"id": "the workflow"}}}
    record = Run("p", prompt, extra, lambda event, data: host.events.append((event, data)))
    host.server.client_id = client
    host.server.executor.execute(record, targets)
    return record


def last_event(record: Run) -> str:
    return record.messages[-1][0]


def folder(kind: str) -> Path:
    return Path(getattr(sys.modules["folder_paths"], f"get_{kind}_directory")())


def videos(kind: str) -> set[Path]:
    return set(folder(kind).rglob("*.mp4"))


def lengths(path: Path) -> tuple[int, float]:
    """Pictures, and seconds of sound."""
    with av.open(str(path)) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return pictures, samples / RATE


@pytest.fixture
def streams(host):
    registry = sys.modules[f"{host.name}.nodes.live"].STREAMS
    yield registry
    for stream in registry.of_client("me"):
        registry.remove(stream)


@pytest.mark.parametrize("collect", [False, True])
def test_preview_gives_video_images_and_sound(host, collect):
    stream = MarkedStream(50)
    record = run(host, stream, "LLIA_StreamingPreview", collect_images=collect)
    assert record.success
    video, images, audio = host.sink.got
    pictures, seconds = lengths(Path(video.get_stream_source()))
    assert pictures == 50 and abs(seconds - 2) < 0.1
    wanted = make_chunk(0, 50)
    expected = wanted.frames.float() / 255
    assert torch.equal(images, expected if collect else expected[-1:])
    assert audio["sample_rate"] == RATE and torch.equal(audio["waveform"], wanted.sound[None])


def test_preview_tells_the_browser_that_queued_it(host, streams, monkeypatch):
    told = []
    monkeypatch.setattr(host.server, "send_sync", lambda *message: told.append(message))
    seen = []
    stream = MarkedStream(50, at=lambda _: seen.append([(s.made, s.state) for s in streams.of_client("me")]))
    assert run(host, stream, "LLIA_StreamingPreview", client="me", collect_images=False).success
    (live,) = streams.of_client("me")
    assert seen[0] == [(0, "running")] and seen[3] == [(24, "running")], "frames must leave before the end"
    assert (live.made, live.state) == (50, "done") and len(live.spool.read(0, 50)) == 50
    event, data, client = next(message for message in told if message[0] == "llia.stream")
    assert client == "me" and data["stream"] == live.id and json.dumps(data)
    assert (data["node"], data["workflow"], data["frames"], data["width"]) == ("node", "the workflow", 50, SIZE)


def test_a_second_page_is_told_of_a_kept_result_until_its_stream_is_forgotten(host, streams):
    def shown(client):
        host.events.clear()
        assert run(host, MarkedStream(8), "LLIA_StreamingPreview", client, anew=False, collect_images=False).success
        done = [data for event, data in host.events if event == "executed" and data["node"] == "node"]
        return done[-1]["output"]["llia_stream"][0]["stream"]

    host.server.executor.forget()
    first = shown("me")
    assert shown("another page") == first and streams.get(first).made == 8
    streams.get(first).ended_at -= sys.modules[f"{host.name}.nodes.live"].KEPT_S + 1
    again = shown("another page")
    assert again != first and streams.get(again).made == 8 and streams.get(first) is None
    streams.remove(streams.get(again))


def test_without_a_browser_nothing_is_encoded_for_one(host, streams):
    assert run(host, MarkedStream(), "LLIA_StreamingPreview", collect_images=False).success
    assert not streams._streams


def test_progress_counts_frames(host):
    host.events.clear()
    assert run(host, MarkedStream(20), "LLIA_SaveStream", filename_prefix="LLIA").success
    states = [data["nodes"].get("node") for event, data in host.events if event == "progress_state"]
    assert [s["value"] for s in states if s and s["max"] == 20 and s["state"] == "running"] == [8, 16, 20]


def cancel_at(wanted: int):
    return lambda number: interrupt() if number == wanted else None


def test_cancel_ends_the_preview_within_a_chunk(host, streams):
    before, chunks = videos("temp"), []
    stream = MarkedStream(400, at=lambda number: (chunks.append(number), cancel_at(2)(number)))
    record = run(host, stream, "LLIA_StreamingPreview", client="me", collect_images=False)
    assert last_event(record) == "execution_interrupted" and chunks == [0, 1, 2]
    assert [(s.state, s.made) for s in streams.of_client("me")] == [("cancelled", 16)]
    assert videos("temp") == before


def test_a_failing_stream_is_told_to_the_viewer(host, streams):
    def fail(number):
        if number == 2:
            raise ValueError("the model melted: cool it")

    record = run(host, MarkedStream(at=fail), "LLIA_StreamingPreview", client="me", collect_images=False)
    assert last_event(record) == "execution_error"
    assert [(s.state, s.message) for s in streams.of_client("me")] == [("error", "the model melted: cool it")]


def test_save_writes_a_video_and_holds_one_chunk_at_a_time(host):
    stream = MarkedStream(400)
    record = run(host, stream, "LLIA_SaveStream", filename_prefix="talks/%width%px")
    (shown,) = record.outputs["node"]["images"]
    assert shown == {"filename": f"{SIZE}px_00001_.mp4", "subfolder": "talks", "type": "output"}
    pictures, seconds = lengths(folder("output") / "talks" / shown["filename"])
    assert pictures == 400 and abs(seconds - 16) < 0.1
    assert stream.most_alive <= 2, "the chunk being written and the one being made"
    again = run(host, MarkedStream(8), "LLIA_SaveStream", filename_prefix="talks/%width%px")
    assert again.outputs["node"]["images"][0]["filename"] == f"{SIZE}px_00002_.mp4"


def test_cancelled_saving_keeps_what_was_made(host):
    before = videos("output")
    record = run(host, MarkedStream(400, at=cancel_at(3)), "LLIA_SaveStream", filename_prefix="cut")
    assert last_event(record) == "execution_interrupted"
    (kept,) = videos("output") - before
    assert lengths(kept)[0] == 24


def test_saving_stays_in_the_output_folder(host):
    before = videos("output")
    for prefix in ("../out", "/tmp/out", "a/../../out"):
        record = run(host, MarkedStream(8), "LLIA_SaveStream", filename_prefix=prefix)
        assert last_event(record) == "execution_error", prefix
    assert videos("output") == before and not list(folder("output").parent.glob("out*.mp4"))
