"""Motion modules: attention along time at every position of a feature map.

Two kinds with one interface. Bidirectional (AnimateDiff, arXiv 2307.04725, as Hallo v1 uses it): all frames of a clip
see each other, and maps of past frames are put before them and cut off afterwards. Causal: a frame sees itself and
`window` past frames, which are carried from clip to clip, so that the result does not depend on how a stream is cut.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ATTENTION_NORM_EPS, Attention, Context, FeedForward, to_maps, to_tokens, zero_

NARROW = 8  # width of a head up to which `sliding` beats `masked`


class PositionalEncoding(nn.Module):
    """Table of sinusoids, sine and cosine interleaved; a buffer, because Hallo's checkpoints hold it."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        angles = torch.arange(length)[:, None] * torch.exp(
            torch.arange(0, channels, 2) * (-math.log(10000.0) / channels)
        )
        self.register_buffer("pe", torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None])

    def forward(self, x: Tensor) -> Tensor:
        """x (n, frames, c). Raises ValueError if there are more frames than positions."""
        if x.shape[1] > self.pe.shape[1]:
            raise ValueError(
                f"motion module: got {x.shape[1]} frames (clip and motion frames), expected at most "
                f"{self.pe.shape[1]}: make clips shorter"
            )
        return x + self.pe[:, : x.shape[1]].to(x)


class TemporalAttention(Attention):
    """Self-attention over all frames, positions added to queries, keys and values."""

    def __init__(self, dim: int, heads: int, positions: int, operations: Any) -> None:
        super().__init__(dim, heads, operations)
        self.pos_encoder = PositionalEncoding(dim, positions)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (n, frames, dim) -> (n, frames - first, dim): the frames from `first` on, which see all."""
        x = self.pos_encoder(x)
        return super().forward(x[:, first:], x)


class CausalAttention(Attention):
    """Self-attention over the present frame and `window` past ones, with a learned bias per head and distance."""

    def __init__(self, dim: int, heads: int, window: int, operations: Any) -> None:
        super().__init__(dim, heads, operations)
        self.window = window
        self.relative_bias = nn.Parameter(torch.zeros(heads, window + 1))

    def mask(self, frames: int, past: int) -> Tensor:
        """Bias (heads, frames, past + frames), -inf outside the window."""
        device = self.relative_bias.device
        now = torch.arange(past, past + frames, device=device)
        distance = now[:, None] - torch.arange(past + frames, device=device)
        outside = (distance < 0) | (distance > self.window)
        return self.relative_bias[:, distance.clamp(0, self.window)].masked_fill(outside, -math.inf)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (b, frames, positions, dim), context (b, past + frames, positions, dim) that ends with x."""
        query, key, value = self.to_q(x), self.to_k(context), self.to_v(context)
        narrow = query.shape[-1] // self.heads <= NARROW and context.shape[1] - x.shape[1] >= self.window
        attend = self.sliding if narrow and x.device.type == "cpu" else self.masked
        return self.to_out[0](attend(query, key, value))

    def masked(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All frames of the context, those outside the window masked; shapes as in `forward`."""
        batch, frames, past = query.shape[0], query.shape[1], key.shape[1] - query.shape[1]
        query, key, value = (  # (b * positions, heads, frames, d)
            t.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1) for t in (query, key, value)
        )
        mask = self.mask(frames, past).to(query.dtype)[None]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return out.unflatten(0, (batch, -1)).permute(0, 3, 1, 2, 4).flatten(3)

    def sliding(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The same, distance by distance, once a whole window is past: no masked work, twice as fast for narrow heads
        on a CPU."""
        frames, past, width = query.shape[1], key.shape[1] - query.shape[1], query.shape[-1] // self.heads
        head = torch.arange(self.heads, device=query.device).repeat_interleave(width)
        gather = torch.nn.functional.one_hot(head, self.heads).to(query.dtype)  # (dim, heads): sums within a head
        places = [slice(past - distance, past - distance + frames) for distance in range(self.window + 1)]
        scores = torch.stack([(query * key[:, place]) @ (gather * width**-0.5) for place in places])
        weights = (scores + self.relative_bias.T[:, None, None, None]).softmax(0)
        return sum((weight @ gather.T) * value[:, place] for weight, place in zip(weights, places, strict=True))


class TemporalBlock(nn.Module):
    """Bidirectional: two self-attentions and a feed-forward."""

    def __init__(self, dim: int, heads: int, positions: int, mult: int, operations: Any) -> None:
        super().__init__()
        attention = [TemporalAttention(dim, heads, positions, operations) for _ in range(2)]
        self.attention_blocks = nn.ModuleList(attention)
        self.norms = nn.ModuleList([operations.LayerNorm(dim) for _ in attention])
        self.ff = FeedForward(dim, mult, operations)
        self.ff_norm = operations.LayerNorm(dim)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (n, frames, dim) -> (n, frames - first, dim): nothing is computed that only earlier frames would need."""
        *before, last = zip(self.attention_blocks, self.norms, strict=True)
        for attention, norm in before:
            x = x + attention(norm(x))
        attention, norm = last
        x = x[:, first:] + attention(norm(x), first)
        return x + self.ff(self.ff_norm(x))


class CausalBlock(nn.Module):
    """Causal: one self-attention and a feed-forward."""

    def __init__(self, dim: int, heads: int, window: int, mult: int, operations: Any) -> None:
        super().__init__()
        self.window = window
        self.attention_blocks = nn.ModuleList([CausalAttention(dim, heads, window, operations)])
        self.norms = nn.ModuleList([operations.LayerNorm(dim)])
        self.ff = FeedForward(dim, mult, operations)
        self.ff_norm = operations.LayerNorm(dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (b, frames, positions, dim), past (b, up to window, positions, dim) -> (x, what to carry on)."""
        normed = self.norms[0](x)
        context = normed if past is None else torch.cat([past.to(normed.dtype), normed], dim=1)
        x = x + self.attention_blocks[0](normed, context)
        return x + self.ff(self.ff_norm(x)), context[:, -self.window :]


class TemporalTransformer(nn.Module):
    """A temporal block between linear layers; the output layer starts at zero. `index` is given by the UNet."""

    def __init__(
        self, channels: int, inner: int, heads: int, causal: bool, length: int, mult: int, groups: int,
        operations: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        block = CausalBlock if causal else TemporalBlock
        self.causal = causal
        self.norm = operations.GroupNorm(groups, channels, eps=ATTENTION_NORM_EPS)
        self.proj_in = operations.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList([block(inner, heads, length, mult, operations)])
        self.proj_out = zero_(operations.Linear(inner, channels))

    def causal_forward(self, x: Tensor, batch: int, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (b * frames, c, h, w) -> (x, what to carry on)."""
        hidden = self.proj_in(to_tokens(self.norm(x))).unflatten(0, (batch, -1))
        hidden, carry = self.transformer_blocks[0](hidden, past)
        return x + to_maps(self.proj_out(hidden.flatten(0, 1)), *x.shape[-2:]), carry

    def bidirectional_forward(self, x: Tensor, batch: int, first: int = 0) -> Tensor:
        """x (b * frames, c, h, w), motion frames included -> the frames from `first` on of each clip."""
        hidden = self.proj_in(to_tokens(self.norm(x))).unflatten(0, (batch, -1)).transpose(1, 2)  # b, hw, frames, c
        positions = hidden.shape[1]
        hidden = self.transformer_blocks[0](hidden.flatten(0, 1), first)
        hidden = hidden.unflatten(0, (batch, positions)).transpose(1, 2).flatten(0, 1)
        x = x.unflatten(0, (batch, -1))[:, first:].flatten(0, 1)
        return x + to_maps(self.proj_out(hidden), *x.shape[-2:])


class MotionModule(nn.Module):
    """Wrapper with the checkpoint's name for its one child."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.index = -1
        self.temporal_transformer = TemporalTransformer(*args, **kwargs)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x (b * frames, c, h, w); reads context.motion, appends to context.new_motion when causal."""
        past = context.motion[self.index] if context.motion else None
        transformer = self.temporal_transformer
        if transformer.causal:
            x, carry = transformer.causal_forward(x, context.batch, past)
            context.new_motion.append(carry)
            return x
        if past is None:
            return transformer.bidirectional_forward(x, context.batch)
        frames = torch.cat([past.to(x.dtype), x.unflatten(0, (context.batch, -1))], dim=1)
        return transformer.bidirectional_forward(frames.flatten(0, 1), context.batch, past.shape[1])
