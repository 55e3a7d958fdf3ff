"""Checkpoints: one safetensors file; its metadata holds the configs of model and speech encoder, and the origin."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..quantization import SCALES, Int8, declared_layers, quantization_metadata
from ..speech import SpeechConfig
from .avatar import Avatar
from .config import ModelConfig

BUNDLED = Path(__file__).parent.parent / "assets" / "llia-tiny.safetensors"
FORMAT = "llia-1"
FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PRECISIONS = (*FLOATS, "int8")


class CheckpointError(RuntimeError):
    """The file is no checkpoint of ours, or a broken one. The text says what to do."""


def save_model(
    model: Avatar, path: str | Path, origin: dict | None = None, dtype: torch.dtype = torch.float16,
    quantization: dict | None = None,
) -> None:  # fmt: skip
    """Write weights in `dtype` and configs; nothing half-written takes the name. origin: what the model card says.

    Integer layers keep their type, and their scales float32; quantization: how they were made.
    """
    metadata = {"config": model.config.to_dict(), "speech": model.speech.to_metadata(), "origin": origin or {}}
    if quantization is not None:
        metadata["quantization"] = quantization
    weights = {
        key: value.to(dtype) if value.is_floating_point() and not key.endswith(SCALES) else value
        for key, value in model.state_dict().items()
    }
    text = {key: json.dumps(value) for key, value in metadata.items()}
    save_weights(weights, text | quantization_metadata(model), Path(path))


def load_model(
    path: str | Path | None = None, device: str = "cpu", operations=nn, precision: str = "float32", **photoreal: Any
) -> Avatar:
    """The bundled llia-tiny, or the checkpoint at `path`, ready for inference; a folder is a photoreal model.

    precision: "float32", "float16", "bfloat16", or "int8": the form that `quantize` made of it and put beside it. A
    path that names an INT8 checkpoint loads as it is. photoreal: what load_photoreal takes beside these (fast, vae).
    Raises FileNotFoundError or CheckpointError that say which file and what to do, ValueError for another precision.
    """
    path = Path(path) if path is not None else BUNDLED
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if path.is_dir():
        from ..photoreal.model import load_photoreal

        if precision == "int8":
            path = int8_folder(path)
        return load_photoreal(path, device, float_type(precision, device), operations, **photoreal)
    metadata, weights = read_checkpoint(path)
    if precision == "int8" and not declared_layers(metadata):
        path = _int8_file(path)
        metadata, weights = read_checkpoint(path)
    integer = declared_layers(metadata)
    operations = Int8 if integer else operations
    model = Avatar(
        ModelConfig.from_dict(json.loads(metadata["config"])),
        SpeechConfig(**json.loads(metadata["speech"])),
        operations,
    )
    for name in integer:
        model.get_submodule(name).declare()
    wanted = model.state_dict()
    check_weights(model, weights, path)
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in weights.items()})
    model = model.to(device, float_type(precision, "cpu")).eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def float_type(precision: str, device: str | torch.device) -> torch.dtype:
    """What tensors that are not integers are: for "int8" the type in which the device is fast."""
    return FLOATS.get(precision, torch.float32 if torch.device(device).type == "cpu" else torch.float16)


def int8_name(path: str | Path) -> Path:
    """Where `quantize` puts the INT8 form of the checkpoint at `path`."""
    path = Path(path)
    return path.with_name(f"{path.stem}-int8{path.suffix}")


def _int8_file(path: Path) -> Path:
    found = int8_name(path)
    command = "python -m llia_core quantize" + ("" if path == BUNDLED else f" {path}")
    if not found.is_file():
        raise FileNotFoundError(f"no INT8 checkpoint at {found}: make it with `{command}`")
    if _digest_of(found) != file_digest(path):
        raise CheckpointError(f"{found} was made of another {path.name}: make it anew with `{command}`")
    return found


def int8_folder(folder: Path) -> Path:
    """The INT8 form of a photoreal model, beside it; the folder itself if it is INT8. Raises FileNotFoundError,
    CheckpointError as for files."""
    model = folder / "model.safetensors"
    if model.is_file() and declared_layers(read_header(model)):
        return folder
    found, command = int8_name(folder), f"python -m llia_core quantize {folder}"
    if not (found / "model.safetensors").is_file():
        raise FileNotFoundError(f"no INT8 model at {found}: make it with `{command}`")
    if _digest_of(found / "model.safetensors") != file_digest(model):
        raise CheckpointError(f"{found} was made of another {folder.name}: make it anew with `{command}`")
    return found


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; its tensors are not read."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return header.get("__metadata__", {})


def _digest_of(path: Path) -> str | None:
    """Of the file that an INT8 checkpoint was made of."""
    return json.loads(read_header(path).get("quantization", "{}")).get("digest")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Raises CheckpointError that names keys which `weights`, read from `path`, lack or have too many."""
    wanted = module.state_dict()
    missing, foreign = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    wrong = [k for k in wanted if k in weights and wanted[k].shape != weights[k].shape]
    if missing or foreign or wrong:
        raise CheckpointError(
            f"{path} does not fit its own config: "
            f"missing {missing[:3]}, foreign {foreign[:3]}, other shapes {wrong[:3]}. "
            "It was damaged or written by another version: fetch it again, or run the conversion again."
        )


def save_weights(weights: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write tensors as they are, with metadata and our format; nothing half-written takes the name."""
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file({k: v.contiguous() for k, v in weights.items()}, temporary, {"format": FORMAT} | metadata)
        temporary.chmod(0o644)  # safetensors leaves its files to their owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
