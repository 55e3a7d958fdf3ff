"""Small projections of conditions: speech windows, face identity, face masks. Parameter names are Hallo v1's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AudioProjectionConfig, FaceLocatorConfig, ImageProjectionConfig
from .layers import zero_


def audio_windows(features: Tensor, window: int = 5) -> Tensor:
    """Features (frames, ...) -> (frames, window, ...): each frame with its neighbours, clamped at both ends."""
    frames, radius = features.shape[0], window // 2
    index = torch.arange(frames, device=features.device)[:, None] + torch.arange(-radius, window - radius).to(
        features.device
    )
    return features[index.clamp(0, frames - 1)]


class AudioProjection(nn.Module):
    """Window of speech features to audio tokens; the second hidden layer doubles as one vector per frame."""

    def __init__(self, config: AudioProjectionConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        width = config.window * config.layers * config.channels
        self.proj1 = operations.Linear(width, config.intermediate_dim)
        self.proj2 = operations.Linear(config.intermediate_dim, config.intermediate_dim)
        self.proj3 = operations.Linear(config.intermediate_dim, config.tokens * config.token_channels)
        self.norm = operations.LayerNorm(config.token_channels)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """windows (b, f, window, layers, channels) -> tokens (b, f, t, d), pooled (b, f, intermediate_dim).

        Raises ValueError on other window, layer or channel counts.
        """
        expected = (self.config.window, self.config.layers, self.config.channels)
        if tuple(windows.shape[2:]) != expected:
            raise ValueError(f"audio windows: got shape {tuple(windows.shape)}, expected (batch, frames, *{expected})")
        pooled = F.relu(self.proj2(F.relu(self.proj1(windows.flatten(2)))))
        tokens = self.proj3(pooled).unflatten(-1, (self.config.tokens, self.config.token_channels))
        return self.norm(tokens), pooled


class ImageProjection(nn.Module):
    """Face identity embedding to image tokens (IP-Adapter, arXiv 2308.06721)."""

    def __init__(self, config: ImageProjectionConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.proj = operations.Linear(config.embed_dim, config.tokens * config.token_channels)
        self.norm = operations.LayerNorm(config.token_channels)

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding (b, embed_dim), zeros for "no face" -> (b, tokens, token_channels)."""
        return self.norm(self.proj(embedding).unflatten(-1, (self.config.tokens, self.config.token_channels)))


class FaceLocator(nn.Module):
    """Face masks at image size to a feature map that is added after the denoiser's first convolution."""

    def __init__(self, config: FaceLocatorConfig, out_channels: int, operations: Any = nn) -> None:
        super().__init__()
        widths = config.channels
        self.conv_in = operations.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            self.blocks.append(operations.Conv2d(before, before, 3, padding=1))
            self.blocks.append(operations.Conv2d(before, after, 3, padding=1, stride=2))
        self.conv_out = zero_(operations.Conv2d(widths[-1], out_channels, 3, padding=1))

    def forward(self, masks: Tensor) -> Tensor:
        """masks (b, in_channels, H, W) in 0..1 -> (b, out_channels, H / 2^k, W / 2^k), k = len(channels) - 1."""
        hidden = F.silu(self.conv_in(masks))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        return self.conv_out(hidden)
