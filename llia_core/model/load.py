"""Checkpoints: one safetensors file; its metadata holds the configs of model and speech encoder, and the origin."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from ..speech import SpeechConfig
from .avatar import Avatar
from .config import ModelConfig

BUNDLED = Path(__file__).parent.parent / "assets" / "llia-tiny.safetensors"
FORMAT = "llia-1"


class CheckpointError(RuntimeError):
    """The file is no checkpoint of ours, or a broken one. The text says what to do."""


def save_model(model: Avatar, path: str | Path, origin: dict | None = None, dtype: torch.dtype = torch.float16) -> None:
    """Write weights in `dtype` and configs; nothing half-written takes the name. origin: what the model card says."""
    from safetensors.torch import save_file

    path = Path(path)
    weights = {k: v.to(dtype).contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict()),
        "speech": json.dumps(model.speech.to_metadata()),
        "origin": json.dumps(origin or {}),
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(weights, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: str | Path | None = None, device: str = "cpu", operations=nn) -> Avatar:
    """The bundled llia-tiny, or the checkpoint at `path`, in float32, ready for inference.

    Raises FileNotFoundError or CheckpointError that say which file and what to do.
    """
    path = Path(path) if path is not None else BUNDLED
    metadata, weights = read_checkpoint(path)
    model = Avatar(
        ModelConfig.from_dict(json.loads(metadata["config"])),
        SpeechConfig(**json.loads(metadata["speech"])),
        operations,
    )
    wanted = model.state_dict()
    missing, foreign = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    wrong = [k for k in wanted if k in weights and wanted[k].shape != weights[k].shape]
    if missing or foreign or wrong:
        raise CheckpointError(
            f"{path} does not fit its own config: "
            f"missing {missing[:3]}, foreign {foreign[:3]}, other shapes {wrong[:3]}. "
            "It was damaged or written by another version: fetch it again, or run the conversion again."
        )
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in weights.items()})
    model = model.to(device).eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        hint = "the installation is incomplete: clone the repository again" if path == BUNDLED else "check the path"
        raise FileNotFoundError(f"no checkpoint at {path}: {hint}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a safetensors file, but not an LLIA checkpoint (its metadata lacks format {FORMAT!r}). "
                    "Give a file written by `python -m llia_core train` or `convert`."
                )
            return metadata, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or is cut short ({error}). Fetch it again."
        ) from error
