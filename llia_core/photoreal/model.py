"""llia-sd15 as one module, and the folder that it is kept in.

A folder holds model.safetensors (UNets, projections, face locator), vae.safetensors, speech.safetensors, and where
wanted taesd.safetensors, a small decoder. `python -m llia_core convert hallo` writes it from the open weights.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..cpu_layers import CpuLayers
from ..model.autoencoder import build_autoencoder
from ..model.avatar import AvatarModel
from ..model.config import AutoencoderConfig, ModelConfig
from ..model.load import CheckpointError, check_weights, read_checkpoint
from ..quantization import SCALES, Int8, declared_layers
from ..speech import SpeechConfig, SpeechEncoder

PARTS = {"model": "model.safetensors", "vae": "vae.safetensors", "speech": "speech.safetensors"}
FAST_DECODER = "taesd.safetensors"
# Where the open weights are: public page, what of it, and its place in the folder that is converted.
SOURCES = (
    ("huggingface.co/fudan-generative-ai/hallo", "hallo/net.pth", "hallo/net.pth"),
    (
        "huggingface.co/stabilityai/sd-vae-ft-mse",
        "config.json, diffusion_pytorch_model.safetensors",
        "sd-vae-ft-mse/",
    ),
    (
        "huggingface.co/facebook/wav2vec2-base-960h",
        "config.json, model.safetensors, preprocessor_config.json",
        "wav2vec/wav2vec2-base-960h/",
    ),
)
CONVERT = "python -m llia_core convert hallo FOLDER -o models/llia/hallo"


def how_to_get() -> str:
    """Which files of which pages go where, and the command then."""
    lines = [f"  {files} of {page} to FOLDER/{place}" for page, files, place in SOURCES]
    return "\n".join(["Download, then convert (docs/photoreal.md):", *lines, f"  {CONVERT}"])


class Photoreal(AvatarModel):
    """All networks of llia-sd15. `fast` decodes instead of the autoencoder where it is there: TAESD.

    autoencoder may be any object with `encode` and `decode` as in model/autoencoder.py. A host that keeps weights
    elsewhere until they are used sets `run_on`, the device that computes, and what is called before they are:
    `before_use(size, frames)` with pixels and frames of the longest clip, and `before_listening()`.
    """

    def __init__(self, config: ModelConfig, operations: Any = nn) -> None:
        super().__init__(config, operations)
        self.speech: SpeechEncoder | None = None
        self.autoencoder: Any = None
        self.fast: nn.Module | None = None
        self.run_on: torch.device | None = None
        self.before_use: Callable[[int, int], None] = lambda size, frames: None
        self.before_listening: Callable[[], None] = lambda: None

    @property
    def compute_device(self) -> torch.device:
        """Where inputs are to be."""
        return self.run_on or next(self.denoising_unet.parameters()).device

    @property
    def compute_dtype(self) -> torch.dtype:
        """What inputs are to be."""
        return next(self.denoising_unet.parameters()).dtype

    def image_tokens(self, identity: Tensor | None = None) -> Tensor:
        """Image tokens (2, t, d), unconditional then conditional, of a face embedding (512,); none: zeros, as the
        original does where it finds no face."""
        width = self.config.image_projection.embed_dim
        embeddings = torch.zeros(2, width, device=self.compute_device, dtype=self.compute_dtype)
        if identity is not None:
            if identity.numel() != width:
                raise ValueError(f"the face embedding has shape {tuple(identity.shape)}, expected ({width},)")
            embeddings[1] = identity.flatten().to(embeddings)
        return self.imageproj(embeddings)

    def encode(self, images: Tensor) -> Tensor:
        """images (n, 3, S, S) in [-1, 1] -> latents (n, 4, S / 8, S / 8)."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """latents (n, 4, h, w) -> images (n, 3, 8h, 8w) in [-1, 1], one after another: memory stays small."""
        decoder = self.fast if self.fast is not None else self.autoencoder
        return torch.cat([decoder.decode(one).clamp(-1, 1) for one in latents.split(1)])


def load_photoreal(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    operations: Any = nn,
    fast: bool = True,
    vae: Any = None,
) -> Photoreal:
    """The model in `folder`, ready for inference.

    fast: decode with TAESD if the folder has it. vae: encodes and decodes instead of the folder's own, which may then
    be absent. dtype: of what is not integer. operations: nn's own stand for CpuLayers, which are nn's elsewhere.

    Raises FileNotFoundError that names missing files and where they come from, CheckpointError for broken ones.
    """
    folder = Path(folder)
    missing = missing_parts(folder, own_vae=vae is None)
    if missing:
        raise FileNotFoundError(
            f"{folder} is not a complete photoreal model: {', '.join(missing)} missing. {how_to_get()}"
        )
    metadata, weights = read_checkpoint(folder / PARTS["model"])
    integer = declared_layers(metadata)
    operations = CpuLayers if operations is nn else operations
    with torch.device("meta"):
        model = Photoreal(ModelConfig.from_dict(json.loads(metadata["config"])), Int8 if integer else operations)
    for name in integer:
        model.get_submodule(name).declare()
    check_weights(model, weights, folder / PARTS["model"])
    for key, value in weights.items():  # one by one: never two copies of all
        weights[key] = value.to(device, _kept_type(key, value, dtype))
    model.load_state_dict(weights, assign=True)
    del weights, value
    model.speech = _load_speech(folder / PARTS["speech"]).to(device, dtype)
    model.autoencoder = vae or _load_autoencoder(folder / PARTS["vae"], operations).to(device, dtype)
    if fast and vae is None and (folder / FAST_DECODER).is_file():
        model.fast = _load_autoencoder(folder / FAST_DECODER, operations).to(device, dtype)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _kept_type(key: str, value: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Integers and their scales stay as they are."""
    return dtype if value.is_floating_point() and not key.endswith(SCALES) else value.dtype


def missing_parts(folder: Path, own_vae: bool = True) -> list[str]:
    """Names of the files that `folder` lacks."""
    return [name for part, name in PARTS.items() if not (folder / name).is_file() and (own_vae or part != "vae")]


def _load_speech(path: Path) -> SpeechEncoder:
    metadata, weights = read_checkpoint(path)
    encoder = SpeechEncoder(SpeechConfig(**json.loads(metadata["speech"])))
    check_weights(encoder, weights, path)
    encoder.load_state_dict(weights)
    return encoder


def _load_autoencoder(path: Path, operations: Any) -> nn.Module:
    metadata, weights = read_checkpoint(path)
    if "config" not in metadata:
        raise CheckpointError(f"{path} lacks the autoencoder's config: convert it again")
    autoencoder = build_autoencoder(AutoencoderConfig.from_dict(json.loads(metadata["config"])), operations)
    check_weights(autoencoder, weights, path)
    autoencoder.load_state_dict(weights)
    return autoencoder
