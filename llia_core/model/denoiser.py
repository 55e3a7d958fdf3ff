"""The denoising UNet and the UNet skeleton that it shares with the ReferenceNet."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DenoiserConfig
from .layers import (
    AudioModule,
    Context,
    Downsample,
    ResBlock,
    SpatialBlock,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    timestep_features,
    zero_,
)
from .motion import MotionModule

if TYPE_CHECKING:
    from .prepared import Prepared
    from .reference import ReferenceCache


class UNetBlock(nn.Module):
    """One level of the down path, the middle, or one level of the up path.

    Layer i is resnets[i], then attentions[i], audio_modules[i], motion_modules[i] as far as the level has them. The
    middle has one resnet more, at its end.
    """

    def __init__(
        self, config: DenoiserConfig, level: int, widths: list[tuple[int, int]], conditioned: int,
        audio_widths: list[int], middle: bool, operations: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.level = level
        self.motion_idle = config.idle_motion_levels[level] and not middle
        groups, time_dim = config.norm_num_groups, config.block_out_channels[0] * 4
        self.resnets = nn.ModuleList(
            ResBlock(source, target, time_dim, groups, config.time_scale_shift, operations) for source, target in widths
        )
        self.attentions, self.audio_modules, self.motion_modules = (nn.ModuleList() for _ in range(3))
        for index in range(conditioned):
            self._add_modules(config, widths[-1][1], audio_widths[index], middle, operations)

    def _add_modules(self, config: DenoiserConfig, width: int, audio_width: int, middle: bool, operations: Any) -> None:
        """The modules of one layer, as far as this level has them."""
        inner, groups = width // config.inner_divisor, config.norm_num_groups
        heads, mult = config.attention_heads, config.feed_forward_mult
        if self.has(config.attention_levels, middle):
            image_dim = config.cross_attention_dim
            self.attentions.append(SpatialTransformer(width, inner, heads, image_dim, mult, groups, operations))
        if self.has(config.audio_levels, middle):
            masked, audio_dim = config.audio_masks, config.audio_attention_dim
            audio_inner = audio_width if masked else inner
            module = AudioModule(width, audio_inner, heads, audio_dim, mult, groups, masked, operations)
            self.audio_modules.append(module)
        if self.has(config.motion_levels, middle):
            causal, heads = config.causal_motion, config.motion_heads
            length = config.motion_window if causal else config.motion_positions
            self.motion_modules.append(MotionModule(width, inner, heads, causal, length, mult, groups, operations))

    def has(self, levels: tuple[bool, ...], middle: bool) -> bool:
        """The middle has a kind of module if any level has it."""
        return any(levels) if middle else levels[self.level]

    def layer(self, x: Tensor, index: int, context: Context) -> Tensor:
        """One resnet and the modules after it."""
        x = self.resnets[index](x, context.time)
        if index < len(self.attentions):
            x = self.attentions[index](x, context)
        if index < len(self.audio_modules):
            x = self.audio_modules[index](x, context, self.level)
        if index < len(self.motion_modules) and not self.motion_idle:
            x = self.motion_modules[index](x, context)
        return x


class DownBlock(UNetBlock):
    """A level of the down path."""

    def __init__(self, config: DenoiserConfig, level: int, operations: Any) -> None:
        widths, layers = config.block_out_channels, config.layers_per_block
        before, width = widths[max(level - 1, 0)], widths[level]
        super().__init__(
            config,
            level,
            widths=[(before if index == 0 else width, width) for index in range(layers)],
            conditioned=layers if config.down_conditioning[level] else 0,
            audio_widths=[before] + [width] * (layers - 1),
            middle=False,
            operations=operations,
        )
        if level < len(widths) - 1:
            self.downsamplers = nn.ModuleList([Downsample(width, operations)])

    def forward(self, x: Tensor, context: Context, skips: list[Tensor], light: bool) -> Tensor:
        """Appends to `skips` the output of every layer and, unless `light`, of the downsampler."""
        for index in range(len(self.resnets)):
            x = self.layer(x, index, context)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            if not light:
                skips.append(x)
        return x


class MidBlock(UNetBlock):
    """Two resnets with the modules between them, at the last level."""

    def __init__(self, config: DenoiserConfig, operations: Any) -> None:
        width = config.block_out_channels[-1]
        level = len(config.block_out_channels) - 1
        super().__init__(config, level, [(width, width)] * 2, 1, [width], True, operations)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.resnets[1](self.layer(x, 0, context), context.time)


class UpBlock(UNetBlock):
    """A level of the up path."""

    def __init__(self, config: DenoiserConfig, level: int, upsample: bool, operations: Any) -> None:
        widths, light = config.block_out_channels, config.light_up_path
        width, below = widths[level], widths[max(level - 1, 0)]
        layers = config.layers_per_block + (0 if light else 1)
        first = width if light else widths[min(level + 1, len(widths) - 1)]
        skips = [width] * layers if light else [width] * (layers - 1) + [below]
        super().__init__(
            config,
            level,
            widths=[((first if index == 0 else width) + skips[index], width) for index in range(layers)],
            conditioned=layers,
            audio_widths=[below] * layers,
            middle=False,
            operations=operations,
        )
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample(width, below if light else width, light, operations)])

    def forward(self, x: Tensor, context: Context, skips: list[Tensor]) -> Tensor:
        for index in range(len(self.resnets)):
            x = self.layer(torch.cat([x, skips.pop()], dim=1), index, context)
        if hasattr(self, "upsamplers"):
            x = self.upsamplers[0](x, skips[-1].shape[-2:])
        return x


class UNet(nn.Module):
    """Input convolution, time embedding, down path, middle and up path. `up_levels`: how many levels of the up path."""

    def __init__(self, config: DenoiserConfig, up_levels: int, operations: Any) -> None:
        super().__init__()
        self.config = config
        widths = config.block_out_channels
        self.time_dim = widths[0] * 4
        self.conv_in = operations.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], self.time_dim, operations)
        self.down_blocks = nn.ModuleList(DownBlock(config, level, operations) for level in range(len(widths)))
        if config.mid_block:
            self.mid_block = MidBlock(config, operations)
        ups = list(reversed(range(len(widths))))[:up_levels]
        self.up_blocks = nn.ModuleList(UpBlock(config, level, level != ups[-1], operations) for level in ups)
        self._number_modules()

    def _number_modules(self) -> None:
        """Give spatial and motion modules that run their index, in order of execution."""
        blocks = [*self.down_blocks, *([self.mid_block] if self.config.mid_block else []), *self.up_blocks]
        spatial = [attention for block in blocks for attention in block.attentions]
        motion = [module for block in blocks if not block.motion_idle for module in block.motion_modules]
        audio = [(module, block.level) for block in blocks for module in block.audio_modules]
        for modules in (spatial, motion, [module for module, _ in audio]):
            for index, module in enumerate(modules):
                module.index = index
        for module, level in audio:
            module.level = level
        self.spatial_count, self.motion_count = len(spatial), len(motion)

    def spatial_blocks(self) -> list[SpatialBlock]:
        """The blocks that read (denoiser) or fill (ReferenceNet) the reference cache, in its order."""
        found = [module for module in self.modules() if isinstance(module, SpatialTransformer)]
        return [module.transformer_blocks[0] for module in sorted(found, key=lambda module: module.index)]

    def embed_time(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """timesteps (n,) -> (n, time_dim), before its activation."""
        return self.time_embedding(timestep_features(timesteps, self.config.block_out_channels[0]).to(dtype))

    def run(self, x: Tensor, context: Context) -> Tensor:
        """x (n, c0, h, w) after the input convolution -> (n, c, h, w) of the last up block."""
        light, skips = self.config.light_up_path, []
        if not light:
            skips.append(x)
        for block in self.down_blocks:
            x = block(x, context, skips, light)
        if self.config.mid_block:
            x = self.mid_block(x, context)
        for block in self.up_blocks:
            x = block(x, context, skips)
        return x


class Denoiser(UNet):
    """The denoising UNet: reference attention, audio modules, motion modules, state labels.

    State labels enter as a class embedding that is zero at first and is added to the time embedding (as class labels do
    in ADM, arXiv 2105.05233; LLIA does not say how its labels enter). A checkpoint without them loads as zeros.
    """

    def __init__(self, config: DenoiserConfig, operations: Any = nn) -> None:
        super().__init__(config, len(config.block_out_channels), operations)
        width = config.block_out_channels[0]
        if config.num_labels:
            self.class_embedding = zero_(operations.Embedding(config.num_labels, self.time_dim))
        if config.audio_embedding_dim:
            self.audio_embedding = operations.Linear(config.audio_embedding_dim, self.time_dim)
        self.conv_norm_out = operations.GroupNorm(config.norm_num_groups, width, eps=1e-5)
        self.conv_out = operations.Conv2d(width, config.out_channels, 3, padding=1)
        self.register_load_state_dict_pre_hook(_add_absent_labels)

    def embed(
        self, timesteps: Tensor, labels: Tensor | None, audio_pooled: Tensor | None, batch: int, frames: int, dtype: Any
    ) -> Tensor:
        """Activated embedding (batch * frames, time_dim) of time, state and audio."""
        if timesteps.ndim == 1:
            timesteps = timesteps[:, None].expand(-1, frames)
        embedding = self.embed_time(timesteps.expand(batch, frames).flatten(), dtype)
        if self.config.num_labels and labels is not None:
            embedding = embedding + self.class_embedding(labels.expand(batch, frames).flatten()).to(dtype)
        if self.config.audio_embedding_dim:
            if audio_pooled is None:
                raise ValueError(f"audio_pooled: got None, expected (batch, frames, {self.config.audio_embedding_dim})")
            embedding = embedding + self.audio_embedding(audio_pooled.to(dtype)).flatten(0, 1)
        return F.silu(embedding)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        audio_tokens: Tensor | None = None,
        reference: "ReferenceCache | None" = None,
        labels: Tensor | None = None,
        audio_pooled: Tensor | None = None,
        face_feature: Tensor | None = None,
        image_tokens: Tensor | None = None,
        audio_masks: list[Tensor] | None = None,
        motion: list[Tensor] | None = None,
        audio_scale: tuple[float, ...] = (1.0, 1.0, 1.0),
        prepared: "Prepared | None" = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict one clip.

        latents (b, f, c, h, w); timesteps (b,) or (b, f) in 0..999; audio_tokens (b, f, t, d); labels (b, f) int64, see
        states.py; audio_pooled (b, f, e); face_feature (b, c0, h, w) from the face locator; image_tokens (b, t, d);
        audio_masks per level (b or 1, 3, positions) in 0..1 for full, face and lip, weighed by audio_scale.
        motion: causal models: what the last call returned, None at the start of a stream; others: maps of motion
        frames, by default those of `reference`. prepared: the cross-attentions of this clip, see prepared.py; tokens,
        masks and scale are then not read (batch 1).
        Returns the output (b, f, out, h, w) and the motion to carry on (empty unless causal).
        Raises ValueError on conditions that the config asks for and the call lacks, or on a wrong channel count.
        """
        batch, frames, channels, height, width = latents.shape
        self._check(channels, image_tokens, audio_masks, motion, prepared is not None)
        x = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if motion is None and reference is not None:
            motion = reference.motion_maps
        time = self.embed(timesteps, labels, audio_pooled, batch, frames, x.dtype)
        tokens = None if audio_tokens is None else audio_tokens.flatten(0, 1).to(x.dtype)
        context = Context(batch, frames, time, _per_frame(image_tokens, frames), tokens, prepared=prepared)
        context.audio_masks = audio_masks and [m if len(m) == 1 else _per_frame(m, frames) for m in audio_masks]
        context.audio_scale, context.reference, context.motion = audio_scale, reference, motion
        x = self.conv_in(x)
        if face_feature is not None:
            x = x + _per_frame(face_feature, frames).to(x.dtype)
        x = self.run(x, context)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return x.unflatten(0, (batch, frames)), context.new_motion

    def _check(
        self, channels: int, image_tokens: Tensor | None, audio_masks: list[Tensor] | None, motion: list[Tensor] | None,
        prepared: bool,
    ) -> None:  # fmt: skip
        config = self.config
        if channels != config.in_channels:
            raise ValueError(f"latents: got {channels} channels, expected {config.in_channels} (b, f, c, h, w)")
        if config.cross_attention_dim and image_tokens is None and not prepared:
            raise ValueError(f"image_tokens: got None, expected (batch, tokens, {config.cross_attention_dim})")
        levels = len(config.block_out_channels)
        if config.audio_masks and not prepared and (audio_masks is None or len(audio_masks) != levels):
            got = None if audio_masks is None else len(audio_masks)
            raise ValueError(f"audio_masks: got {got}, expected {levels} tensors (b or 1, 3, positions), one per level")
        if motion and len(motion) != self.motion_count:
            raise ValueError(f"motion: got {len(motion)} tensors, expected {self.motion_count}, one per motion module")


def _per_frame(tensor: Tensor | None, frames: int) -> Tensor | None:
    """Repeat (b, ...) for the frames of each clip: (b * frames, ...)."""
    return None if tensor is None else tensor.repeat_interleave(frames, dim=0)


def _add_absent_labels(module: Denoiser, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Checkpoints from before state labels (Hallo's) have no class embedding: zeros mean the same."""
    if module.config.num_labels and prefix + "conv_in.weight" in state:
        weight = state[prefix + "conv_in.weight"]
        state.setdefault(prefix + "class_embedding.weight", weight.new_zeros(module.config.num_labels, module.time_dim))
