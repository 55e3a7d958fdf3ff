"""Building blocks of both UNets. Parameter names are those of diffusers' SD1.5 UNet and of Hallo v1's audio and motion
modules (arXiv 2406.08801), so that their checkpoints load without renaming.

2D work is done on (batch * frames, channels, height, width), best in channels_last: then tokens are views of maps.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .prepared import FoldedAttention, Prepared
    from .reference import ReferenceCache

ATTENTION_NORM_EPS = 1e-6  # GroupNorms of attention, audio and motion modules; all other norms have 1e-5


@dataclass
class Context:
    """What a forward pass hands to every layer. n = batch * frames, batch-major."""

    batch: int
    frames: int
    time: Tensor  # (n, d) activated time embedding
    image_tokens: Tensor | None = None  # (n, t, d)
    audio_tokens: Tensor | None = None  # (n, t, d)
    audio_masks: list[Tensor] | None = None  # per level (n or 1, 3, positions): full, face, lip
    audio_scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    reference: "ReferenceCache | None" = None
    motion: list[Tensor] | None = None
    new_motion: list[Tensor] = field(default_factory=list)
    bank: list[Tensor] | None = None  # the ReferenceNet collects its features here
    prepared: "Prepared | None" = None
    bank_size: int = -1  # once the bank holds so many, nothing more is computed


def to_tokens(maps: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h * w, c); a view when `maps` is channels_last."""
    return maps.flatten(2).transpose(1, 2)


def to_maps(tokens: Tensor, height: int, width: int) -> Tensor:
    """(n, h * w, c) -> (n, c, h, w) as a channels_last view."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention over (n, length, heads * d) tensors."""
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def zero_(module: nn.Module) -> nn.Module:
    """Set all parameters of `module` to zero: a new branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_features(timesteps: Tensor, channels: int) -> Tensor:
    """Sinusoids of `timesteps` (n,), cosines first: (n, channels) float32."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Two linear layers over the sinusoids of the timestep."""

    def __init__(self, in_channels: int, channels: int, operations: Any) -> None:
        super().__init__()
        self.linear_1 = operations.Linear(in_channels, channels)
        self.linear_2 = operations.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(features)))


class ResBlock(nn.Module):
    """Residual block; the time embedding is added, or scales and shifts the second norm."""

    def __init__(
        self, in_channels: int, channels: int, time_dim: int, groups: int, scale_shift: bool, operations: Any
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = operations.GroupNorm(groups, in_channels, eps=1e-5)
        self.conv1 = operations.Conv2d(in_channels, channels, 3, padding=1)
        self.time_emb_proj = operations.Linear(time_dim, channels * (2 if scale_shift else 1))
        self.norm2 = operations.GroupNorm(groups, channels, eps=1e-5)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1)
        if in_channels != channels:
            self.conv_shortcut = operations.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (n, c, h, w), time (n, d) after its activation."""
        hidden = self.conv1(F.silu(self.norm1(x), inplace=True))
        time = self.time_emb_proj(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            hidden = torch.addcmul(shift, self.norm2(hidden), 1 + scale)
        else:
            hidden = self.norm2(hidden.add_(time))
        hidden = self.conv2(F.silu(hidden, inplace=True))
        return hidden.add_(self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Downsample(nn.Module):
    """Halve height and width with a strided convolution."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest upsampling. `light`: a 1x1 convolution narrows the channels first, at the smaller size."""

    def __init__(self, in_channels: int, channels: int, light: bool, operations: Any) -> None:
        super().__init__()
        self.light = light
        self.conv = operations.Conv2d(in_channels, channels, 1 if light else 3, padding=0 if light else 1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.light:
            return F.interpolate(self.conv(x), size=size, mode="nearest")
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class Attention(nn.Module):
    """Multi-head attention with separate projections; no bias but on the output."""

    def __init__(self, dim: int, heads: int, operations: Any, context_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(dim, dim, bias=False)
        self.to_k = operations.Linear(context_dim or dim, dim, bias=False)
        self.to_v = operations.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.ModuleList([operations.Linear(dim, dim)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, l, dim), context (n, t, context_dim), by default x itself."""
        context = x if context is None else context
        return self.to_out[0](attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))

    def with_reference(self, x: Tensor, keys: Tensor, values: Tensor, frames: int) -> Tensor:
        """Self-attention that also reads projected `keys` and `values` (b, r, dim), shared by the frames of a clip, or
        (b * frames, r, dim)."""
        key, value = (
            torch.cat(
                [own.unflatten(0, (-1, frames)), shared.to(own.dtype)[:, None].expand(-1, frames, -1, -1)], dim=2
            ).flatten(0, 1)
            if len(shared) * frames == len(own)
            else torch.cat([own, shared.to(own.dtype)], dim=1)
            for own, shared in ((self.to_k(x), keys), (self.to_v(x), values))
        )
        return self.to_out[0](attend(self.to_q(x), key, value, self.heads))


class GEGLU(nn.Module):
    """Gated GELU (arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int, operations: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(dim, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self.proj, "gated_gelu"):  # these operations have it in one pass
            return self.proj.gated_gelu(x)
        hidden, gate = self.proj(x).chunk(2, dim=-1)
        return hidden * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and a linear layer; index 1 (dropout in diffusers) is empty."""

    def __init__(self, dim: int, mult: int, operations: Any) -> None:
        super().__init__()
        inner = dim * mult
        self.net = nn.ModuleList([GEGLU(dim, inner, operations), nn.Identity(), operations.Linear(inner, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class SpatialBlock(nn.Module):
    """Self-attention with the reference, cross-attention to image tokens (if any), feed-forward."""

    def __init__(self, dim: int, heads: int, image_dim: int, mult: int, operations: Any) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(dim)
        self.attn1 = Attention(dim, heads, operations)
        if image_dim:
            self.norm2 = operations.LayerNorm(dim)
            self.attn2 = Attention(dim, heads, operations, image_dim)
        self.norm3 = operations.LayerNorm(dim)
        self.ff = FeedForward(dim, mult, operations)

    def project_reference(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (b, r, dim) of the ReferenceNet's `features` for this block."""
        return self.attn1.to_k(features), self.attn1.to_v(features)

    def self_attention(self, normed: Tensor, context: Context, index: int) -> Tensor:
        reference = context.reference
        if reference is None or not reference.readable:
            return self.attn1(normed)
        if reference.keys is not None:
            return self.attn1.with_reference(normed, reference.keys[index], reference.values[index], context.frames)
        rows = reference.features[index].to(normed.dtype).repeat_interleave(context.frames, dim=0)
        return self.attn1(normed, torch.cat([normed, rows], dim=1))

    def forward(self, x: Tensor, context: Context, index: int) -> Tensor:
        normed = self.norm1(x)
        if context.bank is not None:
            context.bank.append(normed)
            if len(context.bank) == context.bank_size:
                return x
        x = x + self.self_attention(normed, context, index)
        if context.prepared is not None:
            x = x + context.prepared.image[index](self.norm2(x))
        elif hasattr(self, "attn2"):
            x = x + self.attn2(self.norm2(x), context.image_tokens)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """One SpatialBlock between 1x1 convolutions. `index`: place in the reference cache, given by the UNet."""

    def __init__(
        self, channels: int, inner: int, heads: int, image_dim: int, mult: int, groups: int, operations: Any
    ) -> None:
        super().__init__()
        self.index = -1
        self.norm = operations.GroupNorm(groups, channels, eps=ATTENTION_NORM_EPS)
        self.proj_in = operations.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(inner, heads, image_dim, mult, operations)])
        self.proj_out = operations.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        hidden = to_tokens(self.proj_in(self.norm(x)))
        hidden = self.transformer_blocks[0](hidden, context, self.index)
        return x + self.proj_out(to_maps(hidden, *x.shape[-2:]))


class AudioBlock(nn.Module):
    """Plain cross-attention to audio tokens, feed-forward."""

    def __init__(self, dim: int, heads: int, audio_dim: int, mult: int, operations: Any) -> None:
        super().__init__()
        self.norm2 = operations.LayerNorm(dim)
        self.attn2 = Attention(dim, heads, operations, audio_dim)
        self.norm3 = operations.LayerNorm(dim)
        self.ff = FeedForward(dim, mult, operations)

    def forward(self, x: Tensor, context: Context, masks: Tensor | None) -> Tensor:
        x = x + self.attn2(self.norm2(x), context.audio_tokens)
        return x + self.ff(self.norm3(x))


class MaskedAudioBlock(nn.Module):
    """Hallo's hierarchical audio attention: three cross-attentions, each confined to a region of the face."""

    REGIONS = ("full", "face", "lip")

    def __init__(self, dim: int, heads: int, audio_dim: int, mult: int, operations: Any) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(dim)
        self.attn1 = Attention(dim, heads, operations)
        self.norm2 = operations.LayerNorm(dim)
        for index, region in enumerate(self.REGIONS):
            setattr(self, f"attn2_{index}", Attention(dim, heads, operations, audio_dim))
            setattr(self, f"zero_conv_{region}", zero_(operations.Conv2d(dim, dim, 1)))
        self.norm3 = operations.LayerNorm(dim)
        self.ff = FeedForward(dim, mult, operations)

    def forward(
        self, x: Tensor, context: Context, masks: Tensor | None, folded: "FoldedAttention | None" = None
    ) -> Tensor:
        """x (n, l, dim), masks (n or 1, 3, l) in 0..1; `folded` replaces the three cross-attentions."""
        x = x + self.attn1(self.norm1(x))
        normed = self.norm2(x)
        if folded is not None:
            x = x + folded(normed)
            return x + self.ff(self.norm3(x))
        for index, region in enumerate(self.REGIONS):
            part = getattr(self, f"attn2_{index}")(normed, context.audio_tokens) * masks[:, index, :, None].to(x.dtype)
            part = to_tokens(getattr(self, f"zero_conv_{region}")(to_maps(part, part.shape[1], 1)))
            x = x + context.audio_scale[index] * part
        return x + self.ff(self.norm3(x))


class AudioModule(nn.Module):
    """An audio block between 1x1 convolutions."""

    def __init__(
        self, channels: int, inner: int, heads: int, audio_dim: int, mult: int, groups: int, masked: bool,
        operations: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        block = MaskedAudioBlock if masked else AudioBlock
        self.index, self.level = -1, 0  # given by the UNet: order of execution, and which masks fit
        self.norm = operations.GroupNorm(groups, channels, eps=ATTENTION_NORM_EPS)
        self.proj_in = operations.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList([block(inner, heads, audio_dim, mult, operations)])
        self.proj_out = operations.Conv2d(inner, channels, 1)
        if not masked:
            zero_(self.proj_out)

    def forward(self, x: Tensor, context: Context, level: int) -> Tensor:
        masks = context.audio_masks[level] if context.audio_masks is not None else None
        hidden = to_tokens(self.proj_in(self.norm(x)))
        if context.prepared is not None:
            hidden = self.transformer_blocks[0](hidden, context, masks, context.prepared.audio[self.index])
        else:
            hidden = self.transformer_blocks[0](hidden, context, masks)
        return x + self.proj_out(to_maps(hidden, *x.shape[-2:]))
