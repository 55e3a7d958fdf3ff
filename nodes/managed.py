"""Photoreal models under ComfyUI's memory management, and ComfyUI's VAE in the place of theirs."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch

from ..llia_core.model.config import SD_VAE
from ..llia_core.model.load import float_type, load_model
from ..llia_core.photoreal.model import Photoreal

# Activations of a clip beside the weights, bytes a pixel and frame in 16 bits: by scripts/bench_photoreal.py --memory.
ACTIVATION_BYTES = 800


def load_managed(path: str, target: torch.device, precision: str, vae=None) -> Photoreal:
    """The photoreal model in the folder `path`, computing on `target`.

    Its weights wait where ComfyUI keeps models. Before a video they are moved as far as memory allows, and other models
    make room; comfy.ops brings the rest over layer by layer. On a CPU nothing has to be brought: there the layers are
    the command line's. vae: ComfyUI's, None: the model's own.
    """
    management = comfy.model_management
    waiting = target if target.type == "cpu" else management.unet_offload_device()
    own = None if vae is None else ComfyVae(vae)
    operations = torch.nn if target.type == "cpu" else comfy.ops.manual_cast
    model = load_model(path, waiting, operations, precision, vae=own).to(float_type(precision, target))
    drawing = torch.nn.ModuleList(part for name, part in model.named_children() if name != "speech")
    patcher, listening = (
        comfy.model_patcher.ModelPatcher(part, load_device=target, offload_device=waiting)
        for part in (drawing, model.speech)
    )

    def before_use(size: int, frames: int) -> None:
        management.load_models_gpu([patcher], memory_required=ACTIVATION_BYTES * size * size * frames)

    model.run_on, model.before_use = target, before_use
    # Its layers are transformers' own, which cannot be brought over one by one.
    model.before_listening = lambda: management.load_models_gpu([listening], force_full_load=True)
    return model


class ComfyVae:
    """A VAE of ComfyUI with the methods of model/autoencoder.py; ComfyUI moves and tiles it as it likes."""

    def __init__(self, vae) -> None:
        self.vae = vae

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) in [-1, 1] -> latents as Stable Diffusion 1.5 scales them. Raises ValueError for those of
        others."""
        latents = self.vae.encode((images.float() / 2 + 0.5).movedim(1, -1))
        if latents.shape[1:] != (SD_VAE.latent_channels, *(side // SD_VAE.downscale for side in images.shape[2:])):
            raise ValueError(
                f"This VAE makes latents of shape {tuple(latents.shape[1:])} of pictures {tuple(images.shape[1:])}: "
                "connect Stable Diffusion 1.5's VAE, such as vae-ft-mse-840000-ema-pruned.safetensors."
            )
        return (latents * SD_VAE.scaling_factor).to(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> (n, 3, H, W) in [-1, 1]."""
        pixels = self.vae.decode(latents.float() / SD_VAE.scaling_factor)
        return (pixels.movedim(-1, 1) * 2 - 1).to(latents)
