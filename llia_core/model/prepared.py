"""What stays the same in all denoising steps of a clip, computed before the first: same numbers, less work.

Cross-attention to few tokens is folded: softmax(x Wq k') v Wo needs only Wq k' (dim, heads * tokens) and v Wo, which
are made once; so queries and outputs cost heads * tokens instead of dim columns. In Hallo's masked audio attention the
convolution that follows each branch is folded in as well, and for guidance's uninformed half, whose audio tokens are
zeros, nothing but a constant map is left.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .layers import Attention, AudioModule, MaskedAudioBlock, SpatialBlock, SpatialTransformer


@dataclass(frozen=True)
class FoldedAttention:
    """Cross-attention to fixed tokens: scores (n, dim, g * t), values (n, g * t, dim), t tokens in each of g groups.

    weights: (1, l, g), of every position and group, None: one. rest: what is added, broadcast over (n, l, dim).
    """

    scores: Tensor | None
    values: Tensor | None
    tokens: int
    weights: Tensor | None
    rest: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x (n, l, dim) -> (n, l, dim). One token set (n 1) serves any number of rows."""
        if self.scores is None:
            return self.rest
        share = torch.matmul(x, self.scores).unflatten(-1, (-1, self.tokens)).softmax(-1)
        if self.weights is not None:
            share = share * self.weights[..., None]
        return torch.matmul(share.flatten(-2), self.values) + self.rest


@dataclass(frozen=True)
class Prepared:
    """image: by index of the spatial blocks. audio: by index of the audio modules."""

    image: list[FoldedAttention]
    audio: list[FoldedAttention]


def prepare(
    unet: torch.nn.Module, image: list[FoldedAttention], audio_tokens: Tensor | None, masks: list[Tensor],
    scale: tuple[float, ...],
) -> Prepared:  # fmt: skip
    """For one clip. audio_tokens (f, t, d), None: zeros. masks, scale: as Denoiser.forward takes them.

    image: from `fold_image`, once per portrait.
    """
    modules = [module for module in unet.modules() if isinstance(module, AudioModule)]
    modules.sort(key=lambda module: module.index)
    audio = [fold_audio(m.transformer_blocks[0], audio_tokens, masks[m.level], scale) for m in modules]
    return Prepared(image, audio)


def fold_image(unet: torch.nn.Module, tokens: Tensor) -> list[FoldedAttention]:
    """The image cross-attention of every spatial block for tokens (1, t, d)."""
    found = [module for module in unet.modules() if isinstance(module, SpatialTransformer)]
    found.sort(key=lambda module: module.index)
    return [_fold_block(module.transformer_blocks[0], tokens) for module in found]


def _fold_block(block: SpatialBlock, tokens: Tensor) -> FoldedAttention:
    out = block.attn2.to_out[0]
    scores, values = _fold(block.attn2, tokens, _weight(out, tokens))
    return FoldedAttention(scores, values, tokens.shape[1], None, _bias(out, tokens))


def fold_audio(
    block: MaskedAudioBlock, tokens: Tensor | None, masks: Tensor, scale: tuple[float, ...]
) -> FoldedAttention:
    """All three branches as one. tokens (f, t, d) or None, masks (1, 3, l)."""
    scores, values, weights, rest = [], [], [], 0.0
    for index, region in enumerate(block.REGIONS):
        attention, after = getattr(block, f"attn2_{index}"), getattr(block, f"zero_conv_{region}")
        out, mask = attention.to_out[0], masks[:, index, :, None] * scale[index]
        like = out.weight if tokens is None else tokens
        last = _weight(after, like)[:, :, 0, 0].to(masks.dtype)
        rest = rest + mask * (last @ _bias(out, like).to(masks.dtype)) + scale[index] * _bias(after, like)
        if tokens is not None:
            s, v = _fold(attention, tokens, last @ _weight(out, tokens))
            scores.append(s)
            values.append(v)
            weights.append(mask.expand(-1, -1, attention.heads))
    if tokens is None:
        return FoldedAttention(None, None, 0, None, rest)
    joined = torch.cat(scores, -1), torch.cat(values, 1), tokens.shape[1], torch.cat(weights, -1)
    return FoldedAttention(*joined, rest)


def _fold(attention: Attention, tokens: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """tokens (n, t, d), out (dim, inner) -> scores (n, dim, heads * t), values (n, heads * t, dim)."""
    heads = attention.heads
    projected = (attention.to_k(tokens), attention.to_v(tokens))
    keys, values = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in projected)
    query = _weight(attention.to_q, tokens).unflatten(0, (heads, -1))  # heads, inner / heads, dim
    scores = torch.matmul(keys, query) * keys.shape[-1] ** -0.5  # n, heads, t, dim
    mixed = torch.matmul(values, out.T.unflatten(0, (heads, -1)))
    return scores.flatten(1, 2).transpose(1, 2).contiguous(), mixed.flatten(1, 2).contiguous()


def _weight(layer: torch.nn.Module, like: Tensor) -> Tensor:
    """A layer's weight where its input is: a host may keep it elsewhere until it is used."""
    return layer.weight.to(like.device, like.dtype)


def _bias(layer: torch.nn.Module, like: Tensor) -> Tensor:
    return layer.bias.to(like.device, like.dtype)
