"""Weight files of others, read without executing anything in them, and told apart when they are the wrong ones."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
POINTER = b"version https://git-lfs"
# What the keys of files say that are taken for ours by mistake. The first that fits is told.
FOREIGN = (
    ("conditioner.embedders.", "a Stable Diffusion XL checkpoint"),
    ("add_embedding.", "a Stable Diffusion XL UNet"),
    ("cond_stage_model.model.", "a Stable Diffusion 2 checkpoint"),
    ("model.diffusion_model.", "a whole Stable Diffusion checkpoint"),
    ("double_blocks.", "a Flux model"),
    ("down_blocks.0.motion_modules.", "an AnimateDiff motion module"),
    ("lora_", "a LoRA"),
)


class ImportFileError(ValueError):
    """The file is not what is needed. The text says what it is, what was expected, and what to do."""


def read_tensors(path: Path, expected: str) -> dict[str, Tensor]:
    """All tensors of a .safetensors or a PyTorch file, not yet read from disk where the format allows it.

    expected: what the file should be, for the message. Raises FileNotFoundError, ImportFileError. Files with pickled
    code are refused: nothing in them is run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected {expected}")
    with open(path, "rb") as file:
        start = file.read(32)
    if start.startswith(POINTER):
        raise ImportFileError(f"{path} is a Git LFS pointer, not {expected}: run `git lfs pull`, or download the file")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ImportFileError(f"{path} is a web page, not {expected}: download the file itself, not the page about it")
    if path.suffix not in SUFFIXES:
        raise ImportFileError(f"{path} is no weight file ({', '.join(SUFFIXES)}), expected {expected}")
    return _read_safetensors(path, expected) if path.suffix == ".safetensors" else _read_pickle(path, expected)


def _read_safetensors(path: Path, expected: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ImportFileError(f"{path} is cut short or no safetensors file ({error}): download it again") from error


def _read_pickle(path: Path, expected: str) -> dict[str, Tensor]:
    """A file of torch.save: tensors only, by torch's own restricted unpickler."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise ImportFileError(
                f"{path} holds pickled code or objects beside tensors, and was refused; nothing of it was run. "
                f"Expected {expected}, as a plain dictionary of tensors: take it from its official page"
            ) from error
        raise ImportFileError(f"{path} is broken ({error}): download it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportFileError(f"{path} is cut short or broken ({reason}): download it again") from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise ImportFileError(f"{path} holds no dictionary of tensors, expected {expected}")
    return dict(data)


def check_keys(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, expected: str) -> None:
    """Raise ImportFileError that lists every missing, foreign and differently shaped tensor by name, if there is
    one."""
    missing, foreign = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    wrong = [
        f"{key}: {list(weights[key].shape)}, expected {list(wanted[key].shape)}"
        for key in sorted(set(wanted) & set(weights))
        if weights[key].shape != wanted[key].shape
    ]
    if not (missing or foreign or wrong):
        return
    kind = describe(weights)
    lines = [f"{path} is not {expected}" + (f": it looks like {kind}." if kind else ".")]
    if len(missing) == len(wanted):
        lines.append(f"It has none of the {len(wanted)} tensors; its first are {', '.join(foreign[:5])}.")
    else:
        for title, names in (("missing", missing), ("foreign", foreign), ("of another shape", wrong)):
            if names:
                lines.append(f"{len(names)} {title}:")
                lines += [f"  {name}" for name in names]
    lines.append("Nothing was converted.")
    raise ImportFileError("\n".join(lines))


def describe(weights: Mapping[str, Tensor]) -> str:
    """What a file seems to be, for messages; empty where there is no clue."""
    for prefix, kind in FOREIGN:
        if any(key.startswith(prefix) for key in weights):
            return kind
    if any(key.startswith("down_blocks.") and ".attn2.to_k." in key for key in weights):
        return "a UNet alone, in diffusers' names"
    if any(key.startswith("wav2vec2.") for key in weights):
        return "a wav2vec 2.0 model"
    if any(key.startswith(("decoder.up.", "decoder.up_blocks.", "first_stage_model.")) for key in weights):
        return "an autoencoder"
    return ""


def read_json(path: Path) -> dict:
    """A JSON object. Raises ImportFileError if it is not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFileError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(data, dict):
        raise ImportFileError(f"{path} holds {type(data).__name__}, expected a JSON object: download it again")
    return data
