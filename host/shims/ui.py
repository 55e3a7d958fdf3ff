"""comfy_api.latest.ui: what an executed node shows on the canvas."""

import json
import uuid
from pathlib import Path
from typing import Any

from . import folder_paths
from .io import ComfyNode, FolderType


class SavedResult(dict):
    """A file that /view serves."""

    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)


def _temp_path(suffix: str) -> Path:
    return Path(folder_paths.get_temp_directory()) / f"preview_{uuid.uuid4().hex}{suffix}"


class PreviewImage:
    """Pictures on the node, saved as PNG files in the temp folder with the workflow inside.

    Args:
        image: float (n, H, W, 3) in [0, 1].
        cls: the node, for its hidden prompt and extra_pnginfo.
    """

    def __init__(self, image: Any, animated: bool = False, cls: type[ComfyNode] | None = None):
        self.animated = animated
        self.values = [self._save(each, cls) for each in image]

    @staticmethod
    def _save(image: Any, cls: type[ComfyNode] | None) -> SavedResult:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        if cls is not None and cls.hidden.prompt is not None:
            for key, value in {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}.items():
                text.add_text(key, json.dumps(value))
        path = _temp_path(".png")
        pixels = (image * 255).clamp(0, 255).byte().cpu().numpy()
        Image.fromarray(pixels).save(path, pnginfo=text, compress_level=1)
        return SavedResult(path.name, "", FolderType.temp)

    def as_dict(self) -> dict:
        return {"images": self.values, "animated": (self.animated,)}


class PreviewAudio:
    """A sound player on the node.

    Args:
        audio: {"waveform": float (1, channels, samples), "sample_rate": Hz}.
    """

    def __init__(self, audio: dict, cls: type[ComfyNode] | None = None):
        import av

        waveform, rate = audio["waveform"][0], audio["sample_rate"]
        path = _temp_path(".flac")
        layout = "mono" if waveform.shape[0] == 1 else "stereo"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("flac", rate=rate, layout=layout)
            samples = waveform[:2].T.reshape(1, -1).float().cpu().numpy()
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        self.values = [SavedResult(path.name, "", FolderType.temp)]

    def as_dict(self) -> dict:
        return {"audio": self.values}


class PreviewVideo:
    """A video player on the node, for files that are saved already."""

    def __init__(self, values: list[SavedResult]):
        self.values = values

    def as_dict(self) -> dict:
        return {"images": self.values, "animated": (True,)}


class PreviewText:
    def __init__(self, value: str):
        self.value = value

    def as_dict(self) -> dict:
        return {"text": (self.value,)}
