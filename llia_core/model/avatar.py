"""The whole model as one module: speech encoder, audio projection, ReferenceNet, denoiser, autoencoder.

llia-tiny's denoiser does not paint the frame. Mouth shapes move the portrait's lip curves, the curves warp the mouth
region (lips.py), and the denoiser gives a correction of that flow and a latent residual: the clean latents are those of
the warped region, plus the residual. What the flow moves keeps the portrait's own pixels at any resolution, what the
residual adds (teeth, tongue, shading) is decoded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..lips import LipMaps, LipRig, cavity_colour, lip_maps
from ..speech import SpeechConfig, SpeechEncoder
from .audio_projection import AudioProjection, FaceLocator, ImageProjection
from .autoencoder import build_autoencoder
from .config import ModelConfig
from .denoiser import Denoiser
from .reference import ReferenceCache, ReferenceUNet, build_reference_cache

FLOW_SCALE = 0.1  # one unit of the flow channels, in region coordinates (the region spans 2)


@dataclass(frozen=True)
class Conditioning:
    """What all frames of a portrait share, computed once.

    image: (b, 3, R, R) the reference region in [-1, 1]. latents: (b, c, h, w). cache: attention keys and values of the
    ReferenceNet. face_feature: (b, c0, h, w) of the face locator. lips: (b, 37, 2) curves (lips.py). cavity: (b, 3),
    the dark between parted lips before anything is painted there.
    """

    image: Tensor
    latents: Tensor
    cache: ReferenceCache
    face_feature: Tensor
    lips: Tensor
    cavity: Tensor


@dataclass(frozen=True)
class Prediction:
    """Clean latents of f frames and their two parts: x0 (b, f, c, h, w) = E(warped) + residual.

    flow: (b, f, 2, R, R) in region coordinates, from a frame's place to where the reference is sampled. inside:
    (b, f, 1, R, R), share of what lies between the lips. warped: (b, f, 3, R, R), moved by the flow and dark inside.
    motion: what the temporal layers carry to the next clip.
    """

    x0: Tensor
    flow: Tensor
    inside: Tensor
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
        self.rig = LipRig(operations=operations)
        self.autoencoder = build_autoencoder(config.autoencoder, operations)
        self.register_buffer("flow_window", flow_window(config.latent_size), persistent=False)

    def reference(self, image: Tensor, masks: Tensor, lips: Tensor) -> Conditioning:
        """For `predict`: image (b, 3, R, R) in [-1, 1], masks (b, 2, R, R) of lips and face, curves (b, 37, 2)."""
        latents = self.autoencoder.encode(image)
        cache = build_reference_cache(self.reference_unet, self.denoising_unet, latents)
        return Conditioning(image, latents, cache, self.face_locator(masks), lips, cavity_colour(image, masks))

    def project_audio(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Speech features (b, f, window, 1, 7) -> tokens (b, f, t, d), pooled vectors (b, f, e), shapes (b, f, 7)."""
        return *self.audioproj(windows), windows[:, :, windows.shape[2] // 2, 0]

    def move_lips(self, condition: Conditioning, shapes: Tensor) -> LipMaps:
        """Maps of b * f frames by mouth shapes (b, f, 7)."""
        curves = self.rig(condition.lips, shapes).flatten(0, 1).float()
        return lip_maps(condition.lips.repeat_interleave(shapes.shape[1], 0).float(), curves, self.config.resolution)

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        audio: tuple[Tensor, Tensor, Tensor],
        labels: Tensor,
        condition: Conditioning,
        motion: list[Tensor] | None = None,
    ) -> Prediction:
        """Clean frames from noisy latents (b, f, c, h, w) at `timesteps` (b,), labels (b, f)."""
        b, f = noisy.shape[:2]
        maps = self.move_lips(condition, audio[2])
        moved = self.autoencoder.encode(warp_region(condition, maps.flow, maps.inside))
        shown = F.adaptive_avg_pool2d(maps.coordinates, noisy.shape[-2:])
        output, motion = self.denoising_unet(
            torch.cat((noisy, *(t.unflatten(0, (b, f)).to(noisy) for t in (moved, shown))), dim=2),
            timesteps,
            audio[0],
            condition.cache,
            labels=labels,
            audio_pooled=audio[1],
            face_feature=condition.face_feature,
            motion=motion,
        )
        channels = self.config.autoencoder.latent_channels
        residual = output[:, :, :channels] * opened(maps.inside, noisy.shape[-2:]).unflatten(0, (b, f)).to(output)
        correction = (output[:, :, channels:] * self.flow_window * FLOW_SCALE).flatten(0, 1).float()
        flow = maps.flow + F.interpolate(correction, size=maps.flow.shape[-2:], mode="bilinear", align_corners=False)
        warped = warp_region(condition, flow, maps.inside)
        latents = self.autoencoder.encode(warped).unflatten(0, (b, f))
        flow, inside, warped = (t.unflatten(0, (b, f)) for t in (flow, maps.inside, warped))
        return Prediction(latents + residual, flow, inside, warped, latents, motion)

    def difference(self, prediction: Prediction) -> Tensor:
        """(b, f, 3, R, R) to add to the warped picture: what decoding the residual changes, nothing elsewhere."""
        b, f = prediction.x0.shape[:2]
        both = torch.cat((prediction.x0.flatten(0, 1), prediction.warped_latents.flatten(0, 1)))
        painted, plain = self.autoencoder.decode(both).chunk(2)
        return (painted - plain).unflatten(0, (b, f))


def warp_region(condition: Conditioning, flow: Tensor, inside: Tensor) -> Tensor:
    """(b * f, 3, R, R): the reference sampled along flow (b * f, 2, R, R), dark as far as inside (b * f, 1, R, R)."""
    n, size = len(flow), flow.shape[-1]
    each = n // len(condition.image)
    axis = (torch.arange(size, device=flow.device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack((x, y), dim=-1) + flow.permute(0, 2, 3, 1)
    source, cavity = (part.repeat_interleave(each, 0).to(grid) for part in (condition.image, condition.cavity))
    warped = F.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return torch.lerp(warped, cavity[:, :, None, None], inside).to(condition.image.dtype)


def opened(inside: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 1, h, w) in [0, 1]: latent cells in or next to the opening of the mouth, where the residual may paint.

    Lips and skin stay the portrait's own pixels, and a closed mouth is painted nowhere.
    """
    cells = F.max_pool2d(F.adaptive_max_pool2d(inside, size), 3, 1, 1)
    return (1.5 * F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)).clamp(max=1)


def flow_window(size: int) -> Tensor:
    """(size, size) in [0, 1]: the flow fades out before the region's border."""
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return _fade(torch.maximum(x.abs(), y.abs()), 0.72, 0.97)


def _fade(value: Tensor, full: float, none: float) -> Tensor:
    t = ((none - value) / (none - full)).clamp(0, 1)
    return t * t * (3 - 2 * t)
