"""A plain transcription of Hallo v1's inference with diffusers' layers, to measure ours against.

Own code, after the facts of the published model: five-dimensional tensors (batch, channels, frames, height, width),
both halves of guidance in one batch, the ReferenceNet's features projected for every frame in every step, all features
computed anew for every clip. Parameter names are the checkpoint's. `python scripts/bench_photoreal.py --check DIR`
shows that it gives the original's numbers.
"""

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn


def per_frame(layer: nn.Module, x: Tensor, *given: Any) -> Tensor:
    """A two-dimensional layer on every frame of (b, c, f, h, w)."""
    b, c, f, h, w = x.shape
    out = layer(x.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w), *given)
    return out.reshape(b, f, *out.shape[1:]).permute(0, 2, 1, 3, 4).contiguous()


class Spatial(nn.Module):
    """Self-attention with the bank, cross-attention to image tokens, feed-forward."""

    def __init__(self, c: Any, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(c.norm_num_groups, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        heads = c.attention_heads
        block = BasicTransformerBlock(width, heads, width // heads, cross_attention_dim=c.cross_attention_dim)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(width, width, 1)
        self.bank: Tensor | None = None

    def tokens(self, x: Tensor) -> Tensor:
        return self.proj_in(self.norm(x)).permute(0, 2, 3, 1).flatten(1, 2)

    def write(self, x: Tensor, image_tokens: Tensor) -> Tensor:
        hidden, block = self.tokens(x), self.transformer_blocks[0]
        self.bank = block.norm1(hidden).clone()
        hidden = block(hidden, encoder_hidden_states=image_tokens)
        return x + self.proj_out(hidden.transpose(1, 2).reshape(x.shape))

    def read(self, x: Tensor, image_tokens: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """x (2, c, f, h, w), bank (2 * (1 + m), positions, c) -> x, motion features (2, c, m, h, w)."""
        b, c, f, h, w = x.shape
        block, flat = self.transformer_blocks[0], x.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w)
        hidden = self.tokens(flat)
        banks = bank.unflatten(0, (b, -1))
        normed = block.norm1(hidden)
        rows = banks[:, 0].repeat(f, 1, 1)  # tiled, as shipped
        informed = block.attn1(normed, encoder_hidden_states=torch.cat([normed, rows.to(normed.dtype)], 1)) + hidden
        plain = torch.arange(b * f) < b * f // 2
        informed = informed.clone()
        informed[plain] = block.attn1(normed[plain], encoder_hidden_states=normed[plain]) + hidden[plain]
        tokens = image_tokens.repeat_interleave(f, 0)
        hidden = block.attn2(block.norm2(informed), encoder_hidden_states=tokens) + informed
        hidden = block.ff(block.norm3(hidden)) + hidden
        out = flat + self.proj_out(hidden.transpose(1, 2).reshape(flat.shape))
        motion = banks[:, 1:].reshape(b, -1, h, w, c).permute(0, 4, 1, 2, 3).to(x.dtype)
        return out.reshape(b, f, c, h, w).permute(0, 2, 1, 3, 4).contiguous(), motion


class AudioBlock(nn.Module):
    def __init__(self, c: Any, width: int) -> None:
        super().__init__()
        heads, audio = c.attention_heads, c.audio_attention_dim
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, heads=heads, dim_head=width // heads)
        for index in range(3):
            attention = Attention(width, cross_attention_dim=audio, heads=heads, dim_head=width // heads)
            setattr(self, f"attn2_{index}", attention)
        self.zero_conv_full, self.zero_conv_face, self.zero_conv_lip = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, audio: Tensor, masks: list[Tensor], scale: list[float]) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        normed, parts = self.norm2(x), []
        for index, kind in enumerate(("full", "face", "lip")):
            part = getattr(self, f"attn2_{index}")(normed, encoder_hidden_states=audio) * masks[index][:, :, None]
            maps = part.transpose(1, 2)[..., None]
            parts.append(getattr(self, f"zero_conv_{kind}")(maps)[..., 0].transpose(1, 2))
        x = x + sum(s * part for s, part in zip(scale, parts, strict=True))
        return x + self.ff(self.norm3(x))


class Audio(nn.Module):
    def __init__(self, c: Any, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(c.norm_num_groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)
        self.transformer_blocks = nn.ModuleList([AudioBlock(c, inner)])

    def forward(self, x: Tensor, audio: Tensor, masks: list[Tensor], scale: list[float]) -> Tensor:
        hidden = self.proj_in(self.norm(x))
        tokens = hidden.permute(0, 2, 3, 1).flatten(1, 2)
        tokens = self.transformer_blocks[0](tokens, audio, masks, scale)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(hidden.shape))


class Positions(nn.Module):
    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, length, width))


class TemporalAttention(Attention):
    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__(width, heads=heads, dim_head=width // heads)
        self.pos_encoder = Positions(width, length)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.pos_encoder.pe[:, : x.shape[1]])


class TemporalBlock(nn.Module):
    def __init__(self, c: Any, width: int) -> None:
        super().__init__()
        attention = [TemporalAttention(width, c.motion_heads, c.motion_positions) for _ in range(2)]
        self.attention_blocks = nn.ModuleList(attention)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ff, self.ff_norm = FeedForward(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = attention(norm(x)) + x
        return self.ff(self.ff_norm(x)) + x


class TemporalTransformer(nn.Module):
    def __init__(self, c: Any, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(c.norm_num_groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(c, width)])

    def forward(self, x: Tensor) -> Tensor:
        b, c, f, h, w = x.shape
        normed = per_frame(self.norm, x)
        tokens = normed.permute(0, 2, 3, 4, 1).reshape(b * f, h * w, c)
        hidden = self.proj_in(tokens).reshape(b, f, h * w, c).transpose(1, 2).reshape(b * h * w, f, c)
        hidden = self.transformer_blocks[0](hidden).reshape(b, h * w, f, c).transpose(1, 2).reshape(b, f, h, w, c)
        return self.proj_out(hidden).permute(0, 4, 1, 2, 3) + x


class Motion(nn.Module):
    def __init__(self, c: Any, width: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(c, width)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.temporal_transformer(torch.cat([before, x], 2))[:, :, before.shape[2] :]


class Block(nn.Module):
    """A level, or the middle: resnets and their modules. conditioned: how many layers have them; flat: the 2D UNet."""

    def __init__(self, c: Any, level: int, widths: list[tuple[int, int]], conditioned: list[int], flat: bool) -> None:
        super().__init__()
        groups, time = c.norm_num_groups, c.block_out_channels[0] * 4
        self.level, width = level, widths[-1][1]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(in_channels=a, out_channels=b, temb_channels=time, groups=groups, eps=1e-5) for a, b in widths
        )
        self.attentions = nn.ModuleList(Spatial(c, width) for _ in conditioned)
        self.audio_modules = nn.ModuleList(Audio(c, width, inner) for inner in ([] if flat else conditioned))
        self.motion_modules = nn.ModuleList(Motion(c, width) for _ in ([] if flat else conditioned))

    def layer(self, x: Tensor, index: int, run: Any) -> Tensor:
        if run.flat:
            x = self.resnets[index](x, run.time)
            return self.attentions[index].write(x, run.tokens) if index < len(self.attentions) else x
        x = per_frame(self.resnets[index], x, run.time.repeat_interleave(x.shape[2], 0))
        if index < len(self.attentions):
            x, before = self.attentions[index].read(x, run.tokens, next(run.banks))
            x = per_frame(self.audio_modules[index], x, run.audio, run.masks[self.level], run.scale)
            x = self.motion_modules[index](x, before)
        return x


class UNet(nn.Module):
    """flat: the ReferenceNet. config: llia_core's DenoiserConfig; its idle modules are left out."""

    def __init__(self, c: Any, flat: bool) -> None:
        super().__init__()
        widths, self.flat = c.block_out_channels, flat
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(4, widths[0], 3, padding=1)
        self.sinusoids = Timesteps(widths[0], True, 0)
        self.time_embedding = TimestepEmbedding(widths[0], widths[0] * 4)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[max(level - 1, 0)]
            inner = [before, width] if level < last else []
            block = Block(c, level, [(before, width), (width, width)], inner, flat)
            if level < last:
                block.downsamplers = nn.ModuleList([Downsample2D(width, use_conv=True, out_channels=width, name="op")])
            self.down_blocks.append(block)
        self.mid_block = Block(c, last, [(widths[-1],) * 2] * 2, [widths[-1]], flat)
        for level in reversed(range(last + 1)):
            width, below, above = widths[level], widths[max(level - 1, 0)], widths[min(level + 1, last)]
            sources = [above + width, width * 2, width + below]
            inner = [below] * 3 if level < last else []
            block = Block(c, level, [(source, width) for source in sources], inner, flat)
            if level:
                block.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True, out_channels=width)])
            self.up_blocks.append(block)
        if not flat:
            self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, widths[0], eps=1e-5)
            self.conv_out = nn.Conv2d(widths[0], 4, 3, padding=1)

    def two(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x) if self.flat else per_frame(layer, x)

    def forward(self, x: Tensor, t: int, run: Any, face: Tensor | None = None) -> Tensor:
        run.flat = self.flat
        run.time = self.time_embedding(self.sinusoids(torch.full((len(x),), t)).to(x.dtype))
        x = self.two(self.conv_in, x)
        x = x if face is None else x + face
        skips = [x]
        for block in self.down_blocks:
            for index in range(2):
                x = block.layer(x, index, run)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = self.two(block.downsamplers[0], x)
                skips.append(x)
        x = self.mid_block.layer(x, 0, run)
        time = run.time if self.flat else run.time.repeat_interleave(x.shape[2], 0)
        x = self.mid_block.resnets[1](x, time) if self.flat else per_frame(self.mid_block.resnets[1], x, time)
        for block in self.up_blocks:
            for index in range(3):
                x = block.layer(torch.cat([x, skips.pop()], 1), index, run)
            if hasattr(block, "upsamplers"):
                x = self.two(block.upsamplers[0], x)
        if self.flat:
            return x
        return per_frame(self.conv_out, torch.nn.functional.silu(per_frame(self.conv_norm_out, x)))

    def spatial(self) -> list[Spatial]:
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [attention for block in blocks for attention in block.attentions]
