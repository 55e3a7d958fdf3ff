"""Autoencoders of others under our names, which are diffusers' present ones."""

import re
from pathlib import Path

from torch import Tensor

from ..model.config import AutoencoderConfig
from .files import ImportFileError, describe, read_json, read_tensors

VAE_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "vae-ft-mse-840000-ema-pruned.safetensors",
    "vae-ft-mse-840000-ema-pruned.ckpt",
)
VAE = "Stable Diffusion 1.5's autoencoder, such as diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-mse"
TINY = "TAESD, such as diffusion_pytorch_model.safetensors of madebyollin/taesd, or taesd_decoder.pth of its repository"
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers before 0.18
UNUSED = re.compile(r"^(loss\.|model_ema\.)|^(global_step|epoch)$")  # of training


def read_vae(path: Path, config: AutoencoderConfig) -> dict[str, Tensor]:
    """Tensors of a KL autoencoder from a file or a diffusers folder, in our names. Raises as read_tensors does."""
    file = find_file(path, VAE_FILES, VAE)
    described = file.parent / "config.json"
    if described.is_file():
        scaling = read_json(described).get("scaling_factor", config.scaling_factor)
        if abs(scaling - config.scaling_factor) > 1e-6:
            raise ImportFileError(
                f"{described} has scaling_factor {scaling}, expected {config.scaling_factor}: this is the autoencoder "
                f"of another model, such as Stable Diffusion XL. Expected {VAE}"
            )
    weights = read_tensors(file, VAE)
    if "conditioner.embedders." in "".join(weights) or any(key.startswith("conditioner.") for key in weights):
        raise ImportFileError(f"{file} is {describe(weights)}: its autoencoder is another. Expected {VAE}")
    weights = {key: value for key, value in weights.items() if not UNUSED.search(key)}
    inner = {k.removeprefix("first_stage_model."): v for k, v in weights.items() if k.startswith("first_stage_model.")}
    weights = inner or weights
    if any(key.startswith("encoder.down.") for key in weights):
        weights = {_from_original(key, len(config.block_out_channels)): value for key, value in weights.items()}
    return {_present_name(key): _as_linear(key, value) for key, value in weights.items()}


def _present_name(key: str) -> str:
    match = re.fullmatch(r"(.*\.attentions\.0)\.(query|key|value|proj_attn)\.(weight|bias)", key)
    return f"{match[1]}.{FORMER[match[2]]}.{match[3]}" if match else key


def _as_linear(key: str, value: Tensor) -> Tensor:
    """The original's attention is made of 1x1 convolutions."""
    is_attention = ".attentions.0." in key or ".attn_1." in key
    return value[:, :, 0, 0] if is_attention and value.ndim == 4 else value


def _from_original(key: str, levels: int) -> str:
    """Names of the original Stable Diffusion code to diffusers'."""

    def level(match: re.Match) -> str:
        up, number = match[1] == "up", int(match[2])
        number = levels - 1 - number if up else number
        return f"{match[1]}_blocks.{number}."

    key = re.sub(r"(?<=coder\.)(down|up)\.(\d)\.", level, key)
    for old, new in (
        (r"\.block\.(\d)\.", r".resnets.\1."),
        (r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
        (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
        (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
        (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"coder\.norm_out\.", "coder.conv_norm_out."),
    ):
        key = re.sub(old, new, key)
    return key


def read_tiny(path: Path) -> dict[str, Tensor]:
    """Tensors of TAESD in diffusers' names: from its file or folder, or from the two files of its own repository.

    For those give the folder, or one of them: the other is looked for beside it.
    """
    pair = find_pair(path)
    if pair is None:
        return read_tensors(find_file(path, VAE_FILES[:2], TINY), TINY)
    weights = {}
    for part, file in pair.items():
        for key, value in read_tensors(file, TINY).items():
            index, dot, rest = key.partition(".")
            if not index.isdigit():
                raise ImportFileError(f"{file} has the tensor {key}, expected numbered layers. Expected {TINY}")
            # In the original decoder a clamp comes first, which has no weights.
            weights[f"{part}.layers.{int(index) - (part == 'decoder')}{dot}{rest}"] = value
    return weights


def find_pair(path: Path) -> dict[str, Path] | None:
    """taesd_encoder and taesd_decoder in a folder, or beside one of them; None where neither is there."""
    folder = path if path.is_dir() else path.parent
    names = {part: sorted(folder.glob(f"taesd_{part}.*")) for part in ("encoder", "decoder")}
    if path.is_file() and not path.stem.startswith("taesd_"):
        return None
    if not any(names.values()):
        return None
    for part, files in names.items():
        if not files:
            raise FileNotFoundError(f"{folder} lacks taesd_{part}.pth: TAESD has two files, both are needed")
    return {part: files[0] for part, files in names.items()}


def find_file(path: Path, names: tuple[str, ...], expected: str) -> Path:
    """`path` itself, or the first of `names` in the folder `path`. Raises FileNotFoundError naming what was looked
    for."""
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    looked = f"none of {', '.join(names)} is in it" if path.is_dir() else "it does not exist"
    raise FileNotFoundError(f"{path}: {looked}. Expected {expected}")
