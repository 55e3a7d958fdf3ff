"""comfy_api.latest's video values: a file on disk that nodes pass on without decoding it."""

import json
from enum import Enum


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"


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

    def _video_stream(self, container):
        if not container.streams.video:
            raise ValueError(f"No video stream found in file '{self._file}'")
        return container.streams.video[0]

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
