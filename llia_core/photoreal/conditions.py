"""What the denoiser is told: once per portrait, and once per clip."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..model.guidance import Quirks, guided_references
from ..model.reference import ReferenceCache, build_reference_cache, motion_features
from .masks import FaceMasks
from .model import Photoreal


@dataclass(frozen=True)
class Conditions:
    """Keyword arguments of the denoiser for one clip: told everything, and for guidance told nothing (or None)."""

    full: dict[str, Any]
    absent: dict[str, Any] | None

    def predict(self, model: Photoreal, latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        """The denoiser's output for latents (1, f, c, h, w)."""
        at = torch.tensor([timestep], device=latents.device)
        return model.denoising_unet(latents, at, **(self.full if conditional else self.absent))[0]


@dataclass(frozen=True)
class PortraitConditions:
    """latents: (1, c, h, w). tokens: (2, t, d), see Photoreal.image_tokens. cache: the portrait's keys and values.
    same_tokens: there is no face embedding, so that both halves of guidance are told the same."""

    latents: Tensor
    tokens: Tensor
    same_tokens: bool
    cache: ReferenceCache
    face: Tensor
    masks: list[Tensor]
    guided: bool
    quirks: Quirks

    @classmethod
    def of(
        cls, model: Photoreal, image: Tensor, masks: FaceMasks, identity: Tensor | None, guided: bool, quirks: Quirks
    ) -> "PortraitConditions":
        """image (1, 3, S, S) in [-1, 1] on the model's device."""
        latents, tokens = model.encode(image).to(image), model.image_tokens(identity)
        cache = build_reference_cache(model.reference_unet, model.denoising_unet, latents, tokens[1:])
        face = model.face_locator(masks.region[None].to(image))
        levels = [level.to(image) for level in masks.levels]
        return cls(latents, tokens, identity is None, cache, face, levels, guided, quirks)

    def of_clip(
        self, model: Photoreal, windows: Tensor, labels: Tensor, motion: Tensor, audio_scale: tuple[float, ...]
    ) -> Conditions:
        """windows (1, f, 5, layers, channels), labels (1, f), motion (1, m, c, h, w) latents of the frames before."""
        absent, full = self._references(model, motion, windows.shape[1])
        shared = {"labels": labels, "audio_masks": self.masks, "audio_scale": audio_scale}
        tokens, _ = model.audioproj(windows)
        told = shared | {
            "audio_tokens": tokens, "face_feature": self.face, "image_tokens": self.tokens[1:], "reference": full
        }  # fmt: skip
        if not self.guided:
            return Conditions(told, None)
        untold = shared | {
            "audio_tokens": torch.zeros_like(tokens), "image_tokens": self.tokens[:1], "reference": absent
        }  # fmt: skip
        return Conditions(told, untold)

    def _references(self, model: Photoreal, motion: Tensor, frames: int) -> tuple[ReferenceCache, ReferenceCache]:
        """Caches of the unconditional and the conditional half."""
        if self.guided and self.quirks != Quirks():
            return guided_references(
                model.reference_unet, model.denoising_unet, self.latents, motion, self.tokens, frames, self.quirks
            )
        maps = motion_features(model.reference_unet, motion, self.tokens[1:])
        full = ReferenceCache(self.cache.keys, self.cache.values, None, maps)
        if not self.guided:
            return full, full
        if not self.same_tokens:
            maps = motion_features(model.reference_unet, motion, self.tokens[:1])
        return ReferenceCache(motion_maps=maps), full
