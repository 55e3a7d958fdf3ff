"""comfy_api.latest's video values: a file on disk that nodes pass on without decoding it."""

import json
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"


@dataclass
class VideoComponents:
    """A decoded video.

    Attributes:
        images: float32 (frames, H, W, 3) in [0, 1].
        audio: {"waveform": float32 (1, channels, samples), "sample_rate": Hz}, None without sound.
    """

    images: Any
    frame_rate: Fraction
    audio: dict | None = None
    metadata: dict | None = None


class VideoInput:
    """What a VIDEO socket carries."""


class VideoFromFile(VideoInput):
    """A video file.

    Args:
        file: its path.
    """

    def __init__(self, file: str):
        self._file = str(file)

    def get_stream_source(self) -> str:
        return self._file

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        import av

        with av.open(self._file) as container:
            stream = self._video_stream(container)
            return stream.width, stream.height

    def get_duration(self) -> float:
        """Seconds."""
        import av

        with av.open(self._file) as container:
            return container.duration / av.time_base

    def get_frame_rate(self) -> Fraction:
        import av

        with av.open(self._file) as container:
            return Fraction(self._video_stream(container).average_rate)

    def _video_stream(self, container):
        if not container.streams.video:
            raise ValueError(f"No video stream found in file '{self._file}'")
        return container.streams.video[0]

    def get_components(self) -> VideoComponents:
        """Decodes the whole file into memory."""
        import av
        import torch

        with av.open(self._file) as container:
            rate = Fraction(self._video_stream(container).average_rate)
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
            audio = None
            if container.streams.audio:
                container.seek(0)
                blocks = [torch.from_numpy(f.to_ndarray()) for f in container.decode(audio=0)]
                sample_rate = container.streams.audio[0].rate
                audio = {"waveform": torch.cat(blocks, dim=1)[None], "sample_rate": sample_rate}
            return VideoComponents(torch.stack(frames) / 255.0, rate, audio, dict(container.metadata))

    def save_to(
        self,
        path: str,
        format: VideoContainer = VideoContainer.AUTO,
        codec: VideoCodec = VideoCodec.AUTO,
        metadata: dict | None = None,
    ) -> None:
        """Copies the encoded streams into a new mp4 with metadata (the workflow, as JSON).

        Raises:
            ValueError: another codec than the file's was asked for.
        """
        import av

        with av.open(self._file) as source:
            have = self._video_stream(source).codec_context.name
            if codec not in ("auto", VideoCodec.AUTO, have):
                raise ValueError(
                    f"This host does not encode anew: the video is {have}, {codec} was asked for; choose auto"
                )
            with av.open(path, "w", options={"movflags": "use_metadata_tags"}) as target:
                for key, value in {**source.metadata, **(metadata or {})}.items():
                    target.metadata[key] = value if isinstance(value, str) else json.dumps(value)
                streams = {
                    s.index: target.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio")
                }
                for packet in source.demux(*(source.streams[i] for i in streams)):
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        target.mux(packet)
