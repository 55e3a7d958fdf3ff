"""LLIA Save Stream: a stream to an mp4 file in the output folder, chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy.model_management import InterruptProcessingException
from comfy_api.latest import io, ui

from ..llia_core.video import VideoWriter
from .read_stream import read_stream
from .types import LliaStream, llia_schema


class SaveStream(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return llia_schema(
            node_id="LLIA_SaveStream",
            display_name="LLIA Save Stream",
            description="Samples a stream into an mp4 file in the output folder. Each chunk is written as soon as it "
            "is made, so hours of video need no more memory than a second. Cancel keeps what was made until then.",
            search_aliases=["save video", "export", "mp4", "record", "long video"],
            inputs=[
                LliaStream.Input("stream", tooltip="From LLIA Sample."),
                io.String.Input(
                    "filename_prefix",
                    default="video/LLIA",
                    tooltip="Folder and beginning of the file name, inside ComfyUI's output folder. A counter follows; "
                    "%year%, %month%, %day%, %width% and %height% are filled in.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, stream, filename_prefix) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), stream.size, stream.size
        )
        file = f"{name}_{counter:05}_.mp4"
        path = Path(folder) / file
        with VideoWriter(path, stream.size, stream.size, stream.sample_rate, stream.channels) as writer:
            try:
                for chunk in read_stream(stream):
                    writer.write_audio(chunk.sound)
                    writer.write(chunk.frames)
            except InterruptProcessingException:
                writer.close()  # hours may have gone into what is there
                raise
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))
