"""Autoencoders: SD1.5's VAE, TAESD, and llia-tiny's linear patches with a small decoder.

All have encode(images (n, 3, H, W) in [-1, 1]) -> latents scaled for the denoiser, and decode(latents) -> images (not
clamped). Parameter names of the first two are those of diffusers' AutoencoderKL and AutoencoderTiny.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AutoencoderConfig
from .layers import to_maps, to_tokens, zero_

VAE_NORM_EPS = 1e-6


def build_autoencoder(config: AutoencoderConfig, operations: Any = nn) -> nn.Module:
    """Autoencoder of the config's kind."""
    return {"kl": AutoencoderKL, "tiny": AutoencoderTiny, "patch": PatchAutoencoder}[config.kind](config, operations)


def _check_images(images: Tensor, downscale: int) -> Tensor:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % downscale or images.shape[3] % downscale:
        raise ValueError(
            f"images: got shape {tuple(images.shape)}, expected (n, 3, H, W) with H and W divisible by {downscale}"
        )
    return images.contiguous(memory_format=torch.channels_last)


# llia-tiny


class PatchResBlock(nn.Module):
    """Residual block without normalisation: fast, and nothing of one frame's statistics leaks into its colours."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(self.conv1(x))).add_(x)


class PatchDecoder(nn.Module):
    """Latents to images: residual blocks at 1/4 and 1/2 of the image size, pixel shuffles between."""

    def __init__(self, config: AutoencoderConfig, operations: Any) -> None:
        super().__init__()
        wide, narrow = config.block_out_channels
        self.conv_in = operations.Conv2d(config.latent_channels, wide, 3, padding=1)
        self.blocks = nn.ModuleList(PatchResBlock(wide, operations) for _ in range(config.layers_per_block))
        self.conv_up = operations.Conv2d(wide, narrow * 4, 1)
        self.block_up = PatchResBlock(narrow, operations)
        self.conv_out = zero_(operations.Conv2d(narrow, 12, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.conv_in(latents)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.block_up(F.pixel_shuffle(self.conv_up(F.relu_(hidden)), 2))
        return F.pixel_shuffle(self.conv_out(F.relu_(hidden)), 2)


class PatchAutoencoder(nn.Module):
    """A linear map of 4x4 pixel patches to 16 channels, normalised to mean 0 and deviation 1, and a small decoder.

    The decoder adds to the linear inverse of the encoder (`skip`), so it starts as the best linear reconstruction.
    """

    def __init__(self, config: AutoencoderConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        patch, channels = config.downscale, config.latent_channels
        self.encoder = operations.Conv2d(3, channels, patch, stride=patch, bias=False)
        self.decoder = PatchDecoder(config, operations)
        self.skip = operations.Conv2d(channels, 3 * patch * patch, 1, bias=False)
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_scale", torch.ones(channels))
        nn.init.orthogonal_(self.encoder.weight)
        self.invert_encoder()

    @torch.no_grad()
    def invert_encoder(self) -> None:
        """Set the linear skip path to the pseudo-inverse of the encoder."""
        inverse = torch.linalg.pinv(self.encoder.weight.detach().flatten(1).float())  # (48, channels)
        self.skip.weight.copy_(inverse[:, :, None, None])

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the encoder to the principal components of the patches of `images` (n, 3, H, W) in [-1, 1], the linear
        inverse to match, and the latents' statistics to mean 0, deviation 1. Uncentred, as there is no bias."""
        patches = F.unfold(images.float(), self.config.downscale, stride=self.config.downscale)
        patches = patches.transpose(1, 2).flatten(0, 1)  # (patches, 48), order: channel, row, column
        _, vectors = torch.linalg.eigh((patches.T @ patches).double() / len(patches))
        weight = vectors.flip(1)[:, : self.config.latent_channels].T.float()
        self.encoder.weight.copy_(weight.reshape(self.encoder.weight.shape))
        raw = patches @ weight.T
        self.latent_mean.copy_(raw.mean(0))
        self.latent_scale.copy_(raw.std(0).clamp_min(1e-4))
        self.invert_encoder()

    def encode(self, images: Tensor) -> Tensor:
        """images (n, 3, H, W) in [-1, 1] -> latents (n, 16, H / 4, W / 4). Raises ValueError on other shapes."""
        raw = self.encoder(_check_images(images, self.config.downscale))
        mean, scale = (t[:, None, None].to(raw.dtype) for t in (self.latent_mean, self.latent_scale))
        return (raw - mean) / scale

    def decode(self, latents: Tensor) -> Tensor:
        """latents (n, 16, h, w) -> images (n, 3, 4h, 4w), about [-1, 1]."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        mean, scale = (t[:, None, None].to(latents.dtype) for t in (self.latent_mean, self.latent_scale))
        linear = F.pixel_shuffle(self.skip(latents * scale + mean), self.config.downscale)
        return linear + self.decoder(latents)


# SD1.5


class VaeResBlock(nn.Module):
    """Residual block without time embedding."""

    def __init__(self, in_channels: int, channels: int, groups: int, operations: Any) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(groups, in_channels, eps=VAE_NORM_EPS)
        self.conv1 = operations.Conv2d(in_channels, channels, 3, padding=1)
        self.norm2 = operations.GroupNorm(groups, channels, eps=VAE_NORM_EPS)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1)
        if in_channels != channels:
            self.conv_shortcut = operations.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class VaeAttention(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int, groups: int, operations: Any) -> None:
        super().__init__()
        self.group_norm = operations.GroupNorm(groups, channels, eps=VAE_NORM_EPS)
        self.to_q, self.to_k, self.to_v = (operations.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        hidden = to_tokens(self.group_norm(x))
        query, key, value = (layer(hidden)[:, None] for layer in (self.to_q, self.to_k, self.to_v))
        hidden = F.scaled_dot_product_attention(query, key, value)[:, 0]
        return x + to_maps(self.to_out[0](hidden), *x.shape[-2:])


class VaeLevel(nn.Module):
    """Residual blocks of one size, then a change of size (`resample`: "down", "up" or None)."""

    def __init__(
        self, in_channels: int, channels: int, layers: int, groups: int, resample: str | None, operations: Any
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            VaeResBlock(in_channels if index == 0 else channels, channels, groups, operations)
            for index in range(layers)
        )
        if resample:
            holder = nn.Module()
            stride, padding = (2, 0) if resample == "down" else (1, 1)
            holder.conv = operations.Conv2d(channels, channels, 3, stride=stride, padding=padding)
            setattr(self, f"{resample}samplers", nn.ModuleList([holder]))

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0].conv(F.pad(x, (0, 1, 0, 1)))
        if hasattr(self, "upsamplers"):
            x = self.upsamplers[0].conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return x


class VaeMiddle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int, operations: Any) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(VaeResBlock(channels, channels, groups, operations) for _ in range(2))
        self.attentions = nn.ModuleList([VaeAttention(channels, groups, operations)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class VaeEncoder(nn.Module):
    """Images (n, 3, H, W) to moments (n, 2 * latent_channels, H / 8, W / 8)."""

    def __init__(self, config: AutoencoderConfig, operations: Any) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            VaeLevel(
                widths[max(level - 1, 0)], width, config.layers_per_block, groups,
                "down" if level < len(widths) - 1 else None, operations,
            )
            for level, width in enumerate(widths)
        )  # fmt: skip
        self.mid_block = VaeMiddle(widths[-1], groups, operations)
        self.conv_norm_out = operations.GroupNorm(groups, widths[-1], eps=VAE_NORM_EPS)
        self.conv_out = operations.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class VaeDecoder(nn.Module):
    """Latents (n, latent_channels, h, w) to images (n, 3, 8h, 8w)."""

    def __init__(self, config: AutoencoderConfig, operations: Any) -> None:
        super().__init__()
        widths, groups = tuple(reversed(config.block_out_channels)), config.norm_num_groups
        self.conv_in = operations.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = VaeMiddle(widths[0], groups, operations)
        self.up_blocks = nn.ModuleList(
            VaeLevel(
                widths[max(level - 1, 0)], width, config.layers_per_block + 1, groups,
                "up" if level < len(widths) - 1 else None, operations,
            )
            for level, width in enumerate(widths)
        )  # fmt: skip
        self.conv_norm_out = operations.GroupNorm(groups, widths[-1], eps=VAE_NORM_EPS)
        self.conv_out = operations.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    """SD1.5's variational autoencoder (arXiv 2112.10752). `encode` gives the posterior's mean."""

    def __init__(self, config: AutoencoderConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = VaeEncoder(config, operations)
        self.decoder = VaeDecoder(config, operations)
        self.quant_conv = operations.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = operations.Conv2d(channels, channels, 1)

    def encode_distribution(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images -> mean and standard deviation of the scaled latents, each (n, c, H / 8, W / 8)."""
        moments = self.quant_conv(self.encoder(_check_images(images, self.config.downscale)))
        mean, log_variance = moments.chunk(2, dim=1)
        deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return mean * self.config.scaling_factor, deviation * self.config.scaling_factor

    def encode(self, images: Tensor) -> Tensor:
        """images (n, 3, H, W) in [-1, 1] -> scaled latents. Raises ValueError on other shapes."""
        return self.encode_distribution(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) -> images (n, 3, 8h, 8w), about [-1, 1]."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(self.post_quant_conv(latents / self.config.scaling_factor))


# TAESD


class TinyBlock(nn.Module):
    """Three convolutions and a skip path."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        convolutions = [operations.Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class TinyLayers(nn.Module):
    """Holder with the checkpoint's name for its one child."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class AutoencoderTiny(nn.Module):
    """TAESD (github.com/madebyollin/taesd): a small decoder, and encoder, for SD1.5's latents."""

    def __init__(self, config: AutoencoderConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        widths, depth = config.block_out_channels, config.layers_per_block
        last = len(widths) - 1
        conv = operations.Conv2d
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = [conv(config.latent_channels, widths[0], 3, padding=1), nn.ReLU()]
        for level, width in enumerate(widths):
            first = level == 0
            encoder.append(conv(3, width, 3, padding=1) if first else conv(width, width, 3, 2, 1, bias=False))
            encoder += [TinyBlock(width, operations) for _ in range(1 if first else depth)]
            decoder += [TinyBlock(width, operations) for _ in range(1 if level == last else depth)]
            if level < last:
                decoder += [nn.Upsample(scale_factor=2), conv(width, width, 3, padding=1, bias=False)]
        encoder.append(conv(widths[-1], config.latent_channels, 3, padding=1))
        decoder.append(conv(widths[-1], 3, 3, padding=1))
        self.encoder, self.decoder = TinyLayers(encoder), TinyLayers(decoder)

    def encode(self, images: Tensor) -> Tensor:
        """images (n, 3, H, W) in [-1, 1] -> scaled latents. Raises ValueError on other shapes."""
        return self.encoder((_check_images(images, self.config.downscale) + 1) / 2) * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) -> images (n, 3, 8h, 8w), about [-1, 1]."""
        latents = latents.contiguous(memory_format=torch.channels_last) / self.config.scaling_factor
        return self.decoder(torch.tanh(latents / 3) * 3) * 2 - 1
