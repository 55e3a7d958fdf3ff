"""LLIA Streaming Preview: plays picture and sound in the node while they are made."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy.model_management import InterruptProcessingException
from comfy_api.latest import InputImpl, io
from server import PromptServer

from ..llia_core.video import VideoWriter
from .live import STREAMS, LiveStream
from .read_stream import read_stream
from .types import LliaStream, audio_from_sound, image_from_frames, llia_schema


class StreamingPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return llia_schema(
            node_id="LLIA_StreamingPreview",
            display_name="LLIA Streaming Preview",
            description="Samples a stream and plays it right here, picture and sound, while it is being made.",
            search_aliases=["preview video", "live", "player", "play", "watch", "talking head", "avatar"],
            inputs=[
                LliaStream.Input("stream", tooltip="From LLIA Sample."),
                io.Boolean.Input(
                    "collect_images",
                    default=False,
                    tooltip="On: IMAGE has every frame (a minute at 256 px takes 1.2 GB of memory). "
                    "Off: IMAGE is the last frame only, and hours need no memory.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The whole video with sound, a file in the temp folder."),
                io.Image.Output(display_name="images", tooltip="All frames, or the last one: see collect_images."),
                io.Audio.Output(display_name="audio", tooltip="The sound of the video."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        return STREAMS.forgotten()  # what is no longer kept cannot be played again: it is to be made anew

    @classmethod
    def execute(cls, stream, collect_images) -> io.NodeOutput:
        folder, name, counter, _, _ = folder_paths.get_save_image_path("LLIA", folder_paths.get_temp_directory())
        path = Path(folder) / f"{name}_{counter:05}_.mp4"
        live = _announce(stream, cls.hidden.unique_id, cls.hidden.extra_pnginfo)
        try:
            images = _play(stream, path, live, collect_images)
        except InterruptProcessingException:
            _end(live, "cancelled")
            raise
        except BaseException as error:
            _end(live, "error", str(error))
            raise
        _end(live, "done")
        audio = audio_from_sound(stream.speech.sound(0, stream.frames), stream.sample_rate)
        # When nothing has changed, ComfyUI shows this again: a page that is new can play what another one had made.
        shown = None if live is None else {"llia_stream": [live.info]}
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), images, audio, ui=shown)


def _announce(stream, node: str, pnginfo: dict | None) -> LiveStream | None:
    """Open a live stream and tell the browser that queued this run; None if there is none (a script queued it)."""
    server = PromptServer.instance
    if server.client_id is None:
        return None
    info = {
        "node": node,
        "workflow": ((pnginfo or {}).get("workflow") or {}).get("id"),  # node ids repeat in every workflow
        "fps": stream.fps,
        "frames": stream.frames,
        "width": stream.size,
        "height": stream.size,
        "sample_rate": stream.sample_rate,
        "channels": stream.channels,
    }
    live = STREAMS.open(info, server.client_id, folder_paths.get_temp_directory())
    server.send_sync("llia.stream", live.info, server.client_id)
    return live


def _play(stream, path: Path, live: LiveStream | None, collect: bool) -> torch.Tensor:
    """Sample all: to the browser first, then to the file. Returns images (n, S, S, 3) in [0, 1]."""
    images = []
    with VideoWriter(path, stream.size, stream.size, stream.sample_rate, stream.channels) as writer:
        for chunk in read_stream(stream):
            if live is not None:
                live.add(chunk)
            writer.write_audio(chunk.sound)
            writer.write(chunk.frames)
            if not collect:
                images.clear()
            images.append(chunk.frames if collect else chunk.frames[-1:])
    return image_from_frames(torch.cat(images))


def _end(live: LiveStream | None, state: str, message: str = "") -> None:
    if live is not None:
        live.end(state, message)
