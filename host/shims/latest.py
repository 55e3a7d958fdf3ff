"""comfy_api.latest: the V3 node API."""

from abc import ABC, abstractmethod

from . import io, ui
from .video import VideoCodec, VideoContainer, VideoFromFile, VideoInput

IO = io
UI = ui


class ComfyExtension(ABC):
    """A pack of nodes: the entry point returns one."""

    # Newer versions of ComfyUI also call on_load; those up to 0.8 never do, so neither does this host.

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...


class Input:
    Video = VideoInput


class InputImpl:
    VideoFromFile = VideoFromFile


class Types:
    VideoCodec = VideoCodec
    VideoContainer = VideoContainer


__all__ = ["IO", "UI", "ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]
