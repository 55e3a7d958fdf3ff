"""The ReferenceNet and the reference cache: the portrait is looked at once, its attention keys and values are kept."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .config import DenoiserConfig
from .denoiser import Denoiser, UNet
from .layers import Context, to_maps


@dataclass
class ReferenceCache:
    """What the denoiser reads of the reference; lists are in the order of the UNet's spatial attention blocks.

    keys, values: (b, positions, inner), projected once for each block; or (b * frames, positions, inner), if every
    frame reads others. Without them, `features` (b, positions, inner) are projected in every call, for every frame:
    same result, slower.
    motion_maps: (b, m, inner, h, w), ReferenceNet features of motion frames for bidirectional motion modules.
    """

    keys: list[Tensor] | None = None
    values: list[Tensor] | None = None
    features: list[Tensor] | None = None
    motion_maps: list[Tensor] | None = None

    @property
    def readable(self) -> bool:
        """Whether there is a portrait to attend to."""
        return self.keys is not None or self.features is not None

    def without_reference(self) -> "ReferenceCache":
        """The unconditional half of guidance: no portrait, motion frames stay."""
        return ReferenceCache(motion_maps=self.motion_maps)

    def to(self, *args: Any, **kwargs: Any) -> "ReferenceCache":
        """Move or convert every tensor, as Tensor.to."""
        moved = {name: value and [t.to(*args, **kwargs) for t in value] for name, value in vars(self).items()}
        return replace(self, **moved)


class ReferenceUNet(UNet):
    """ReferenceNet (arXiv 2311.17117): a UNet whose LayerNorm-ed features before each self-attention are read.

    The up path ends at its last level with attention. Of the very last attention block only the first norm has a use;
    the rest of it exists because checkpoints have it.
    """

    def __init__(self, config: DenoiserConfig, operations: Any = nn) -> None:
        levels = list(reversed(config.attention_levels))
        up_levels = max((index + 1 for index, attends in enumerate(levels) if attends), default=0)
        super().__init__(config, up_levels, operations)

    def forward(
        self, latents: Tensor, image_tokens: Tensor | None = None, complete: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """latents (n, c, h, w) of images (timestep 0), image_tokens (n, t, d).

        Returns the features (n, positions, inner) of each spatial block and the last hidden state (n, c0, h, w), which
        means something only with `complete`; otherwise nothing is computed after the last features.
        Raises ValueError on a wrong channel count or lacking image tokens.
        """
        if latents.ndim != 4 or latents.shape[1] != self.config.in_channels:
            raise ValueError(
                f"reference latents: got shape {tuple(latents.shape)}, expected (n, {self.config.in_channels}, h, w)"
            )
        if self.config.cross_attention_dim and image_tokens is None:
            raise ValueError(f"image_tokens: got None, expected (n, tokens, {self.config.cross_attention_dim})")
        x = latents.contiguous(memory_format=torch.channels_last)
        time = self.embed_time(torch.zeros(len(x), device=x.device), x.dtype)
        context = Context(
            batch=len(x),
            frames=1,
            time=nn.functional.silu(time),
            image_tokens=image_tokens,
            bank=[],
            bank_size=-1 if complete else self.spatial_count,
        )
        hidden = self.run(self.conv_in(x), context)
        return context.bank, hidden


def cache_features(
    denoiser: Denoiser, features: list[Tensor], sizes: list[tuple[int, int]] | None = None, rows: int = 1,
    project: bool = True,
) -> ReferenceCache:  # fmt: skip
    """Build the cache from ReferenceNet features (b * rows, positions, inner), batch-major.

    Row 0 of each batch entry is the portrait, the others are motion frames; `sizes` (h, w) of each feature are then
    needed. project: keep keys and values (inference), else the raw features (training).
    """
    banks = [feature.unflatten(0, (-1, rows)) for feature in features]
    portrait = [bank[:, 0] for bank in banks]
    motion = None
    if rows > 1:
        motion = [
            to_maps(bank[:, 1:].flatten(0, 1), *size).unflatten(0, (-1, rows - 1))
            for bank, size in zip(banks, sizes, strict=True)
        ]
    if not project:
        return ReferenceCache(features=portrait, motion_maps=motion)
    pairs = [
        block.project_reference(feature) for block, feature in zip(denoiser.spatial_blocks(), portrait, strict=True)
    ]
    return ReferenceCache(keys=[k for k, _ in pairs], values=[v for _, v in pairs], motion_maps=motion)


def build_reference_cache(
    reference_unet: ReferenceUNet, denoiser: Denoiser, latents: Tensor, image_tokens: Tensor | None = None,
    motion_latents: Tensor | None = None, project: bool = True,
) -> ReferenceCache:  # fmt: skip
    """Run the ReferenceNet once and keep what the denoiser reads of it.

    latents (b, c, h, w) of the portrait, image_tokens (b, t, d), motion_latents (b, m, c, h, w) of motion frames for
    models with bidirectional motion modules. project=False keeps raw features, see ReferenceCache.
    """
    rows = 1 if motion_latents is None else 1 + motion_latents.shape[1]
    if motion_latents is not None:
        latents = torch.cat([latents[:, None], motion_latents], dim=1).flatten(0, 1)
    if image_tokens is not None:
        image_tokens = image_tokens.repeat_interleave(rows, dim=0)
    features, _ = reference_unet(latents, image_tokens)
    return cache_features(denoiser, features, map_sizes(features, latents.shape[-2:]), rows, project)


def motion_features(reference_unet: ReferenceUNet, latents: Tensor, image_tokens: Tensor) -> list[Tensor]:
    """Maps (1, m, inner, h, w) of motion frames for each spatial block: what ReferenceCache.motion_maps holds.

    latents (1, m, c, h, w), image_tokens (1, t, d).
    """
    features, _ = reference_unet(latents[0], image_tokens.expand(latents.shape[1], -1, -1))
    sizes = map_sizes(features, latents.shape[-2:])
    return [to_maps(feature, *size)[None] for feature, size in zip(features, sizes, strict=True)]


def map_sizes(features: list[Tensor], size: tuple[int, int]) -> list[tuple[int, int]]:
    """(h, w) of each feature (n, positions, inner) of latents of `size` (h, w)."""
    return [_map_size(feature.shape[1], *size) for feature in features]


def _map_size(positions: int, height: int, width: int) -> tuple[int, int]:
    """Size of the map that has so many positions: the latent size halved (rounded up) as often as needed."""
    while height * width > positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
