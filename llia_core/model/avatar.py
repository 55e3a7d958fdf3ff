"""The whole model as one module: speech encoder, audio projection, ReferenceNet, denoiser, autoencoder.

llia-tiny's denoiser does not paint the frame. It gives a flow and a latent residual for the mouth region: the clean
latents are those of the reference region warped by the flow, plus the residual. What the flow moves keeps the
portrait's own pixels at any resolution, what the residual adds (teeth, tongue, the inside of lips) is decoded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..speech import SpeechConfig, SpeechEncoder
from .audio_projection import AudioProjection, FaceLocator, ImageProjection
from .autoencoder import build_autoencoder
from .config import ModelConfig
from .denoiser import Denoiser
from .reference import ReferenceCache, ReferenceUNet, build_reference_cache

FLOW_SCALE = 0.25  # one unit of the flow channels, in region coordinates (the region spans 2)


@dataclass(frozen=True)
class Conditioning:
    """What all frames of a portrait share, computed once.

    image: (b, 3, R, R) the reference region in [-1, 1]. latents: (b, c, h, w). cache: attention keys and values of the
    ReferenceNet. face_feature: (b, c0, h, w) of the face locator.
    """

    image: Tensor
    latents: Tensor
    cache: ReferenceCache
    face_feature: Tensor


@dataclass(frozen=True)
class Prediction:
    """Clean latents of f frames and their two parts: x0 (b, f, c, h, w) = E(warped) + residual.

    flow: (b, f, 2, h, w) in region coordinates, from a frame's place to where the reference is sampled. warped:
    (b, f, 3, R, R). motion: what the temporal layers carry to the next clip.
    """

    x0: Tensor
    flow: Tensor
    warped: Tensor
    warped_latents: Tensor
    motion: list[Tensor]


class AvatarModel(nn.Module):
    """All networks of a config but the autoencoder. Children are named as in Hallo v1's net.pth: it loads as it is."""

    def __init__(self, config: ModelConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.reference_unet = ReferenceUNet(config.reference, operations)
        self.denoising_unet = Denoiser(config.denoiser, operations)
        self.face_locator = FaceLocator(config.face_locator, config.denoiser.block_out_channels[0], operations)
        self.audioproj = AudioProjection(config.audio_projection, operations)
        self.imageproj = ImageProjection(config.image_projection, operations) if config.image_projection else None


class Avatar(AvatarModel):
    """llia-tiny: `reference` once per portrait, `project_audio` and `predict` per clip, `difference` to decode."""

    def __init__(self, config: ModelConfig, speech: SpeechConfig, operations: Any = nn) -> None:
        super().__init__(config, operations)
        self.speech = SpeechEncoder(speech)
        self.autoencoder = build_autoencoder(config.autoencoder, operations)
        residual, flow = output_windows(config.latent_size)
        self.register_buffer("residual_window", residual, persistent=False)
        self.register_buffer("flow_window", flow, persistent=False)

    def reference(self, image: Tensor, masks: Tensor) -> Conditioning:
        """image (b, 3, R, R) in [-1, 1], masks (b, 2, R, R) of lips and face -> conditioning for `predict`."""
        latents = self.autoencoder.encode(image)
        cache = build_reference_cache(self.reference_unet, self.denoising_unet, latents)
        return Conditioning(image, latents, cache, self.face_locator(masks))

    def project_audio(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Speech features (b, f, window, layers, channels) -> tokens (b, f, t, d) and pooled vectors (b, f, e)."""
        return self.audioproj(windows)

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        audio: tuple[Tensor, Tensor],
        labels: Tensor,
        condition: Conditioning,
        motion: list[Tensor] | None = None,
    ) -> Prediction:
        """Clean frames from noisy latents (b, f, c, h, w) at `timesteps` (b,), labels (b, f)."""
        b, f = noisy.shape[:2]
        reference = condition.latents[:, None].expand(-1, f, -1, -1, -1)
        output, motion = self.denoising_unet(
            torch.cat((noisy, reference.to(noisy)), dim=2),
            timesteps,
            audio[0],
            condition.cache,
            labels=labels,
            audio_pooled=audio[1],
            face_feature=condition.face_feature,
            motion=motion,
        )
        channels = self.config.autoencoder.latent_channels
        residual = output[:, :, :channels] * self.residual_window
        flow = output[:, :, channels:] * self.flow_window * FLOW_SCALE
        warped = warp_region(condition.image, flow)
        warped_latents = self.autoencoder.encode(warped.flatten(0, 1)).unflatten(0, (b, f))
        return Prediction(warped_latents + residual, flow, warped, warped_latents, motion)

    def difference(self, prediction: Prediction) -> Tensor:
        """(b, f, 3, R, R) to add to the warped picture: what decoding the residual changes, nothing elsewhere."""
        b, f = prediction.x0.shape[:2]
        both = torch.cat((prediction.x0.flatten(0, 1), prediction.warped_latents.flatten(0, 1)))
        painted, plain = self.autoencoder.decode(both).chunk(2)
        return (painted - plain).unflatten(0, (b, f))


def warp_region(image: Tensor, flow: Tensor) -> Tensor:
    """Reference (b, 3, R, R) sampled along flow (b, f, 2, h, w) -> (b, f, 3, R, R)."""
    b, f = flow.shape[:2]
    size = image.shape[-1]
    fine = F.interpolate(flow.flatten(0, 1).float(), size=(size, size), mode="bilinear", align_corners=False)
    axis = (torch.arange(size, device=image.device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack((x, y), dim=-1) + fine.permute(0, 2, 3, 1)
    source = image[:, None].expand(-1, f, -1, -1, -1).flatten(0, 1).float()
    warped = F.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return warped.unflatten(0, (b, f)).to(image.dtype)


def output_windows(size: int) -> tuple[Tensor, Tensor]:
    """Where the residual (mouth, chin) and the flow (all but the border) may act: two (size, size) maps in [0, 1]."""
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = torch.sqrt((x / 0.62).square() + ((y + 0.02) / 0.66).square())
    residual = _fade(radius, 0.8, 1.15)
    edge = torch.maximum(x.abs(), y.abs())
    return residual, _fade(edge, 0.72, 0.97)


def _fade(value: Tensor, full: float, none: float) -> Tensor:
    t = ((none - value) / (none - full)).clamp(0, 1)
    return t * t * (3 - 2 * t)
