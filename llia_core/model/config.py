"""Model configs: frozen dataclasses that travel as JSON in a checkpoint's metadata, and the table of named models."""

from collections.abc import Mapping
from dataclasses import MISSING as _MISSING
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T", bound="Config")


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Turn a JSON value back into what the field's annotation says: nested config, tuple, or the value itself."""
    nested = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
    if nested and value is not None:
        return nested[0].from_dict(value, where)
    return tuple(value) if isinstance(value, list) else value


class Config:
    """JSON round trip for the dataclasses below."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, tuples and scalars (`json.dumps` accepts them)."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "config") -> T:
        """Rebuild a config. Raises TypeError if `data` is no mapping, ValueError on unknown or missing keys."""
        if not isinstance(data, Mapping):
            raise TypeError(f"{where}: expected a mapping with the fields of {cls.__name__}, got {type(data).__name__}")
        known = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is _MISSING}
        unknown, missing = sorted(set(data) - known), sorted(required - set(data))
        if unknown or missing:
            raise ValueError(
                f"{where}: not a {cls.__name__}: unknown keys {unknown}, missing keys {missing}. "
                "The checkpoint was written by another version: convert it again, or update llia_core."
            )
        hints = get_type_hints(cls)
        return cls(**{name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()})


@dataclass(frozen=True)
class DenoiserConfig(Config):
    """The denoising UNet. Level 0 is full latent size, each further level halves it. 0 or False: without that part."""

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    mid_block: bool
    # True: up blocks have `layers_per_block` resnets that read the skips of the down layers only, and narrow the
    # channels before upsampling. False: diffusers' layout (one resnet more, all skips, 3x3 convolution afterwards).
    light_up_path: bool
    attention_levels: tuple[bool, ...]  # spatial attention that reads the reference
    audio_levels: tuple[bool, ...]
    motion_levels: tuple[bool, ...]
    # Modules that Hallo's checkpoint holds but never runs, in training or inference. Built for their keys only.
    idle_motion_levels: tuple[bool, ...]
    down_conditioning: tuple[bool, ...]  # whether the down block of a level has attention, audio and motion modules too
    attention_heads: int
    motion_heads: int
    inner_divisor: int  # attention, audio and motion modules work at width / inner_divisor
    feed_forward_mult: int
    norm_num_groups: int
    cross_attention_dim: int  # width of image tokens
    audio_attention_dim: int  # width of audio tokens
    audio_masks: bool  # True: Hallo's three masked branches (full, face, lip); False: one plain cross-attention
    audio_embedding_dim: int  # width of the pooled audio vector added to the time embedding
    causal_motion: bool  # True: sliding window of past frames; False: all frames of the clip, sinusoidal positions
    motion_window: int  # causal: past frames that a frame attends to
    motion_positions: int  # bidirectional: length of the table of sinusoids
    num_labels: int  # state labels; see states.py
    time_scale_shift: bool  # True: the time embedding scales and shifts the second GroupNorm; False: it is added

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        names = ("attention_levels", "audio_levels", "motion_levels", "idle_motion_levels", "down_conditioning")
        for name in names:
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name}: expected {levels} values (one per level), got {getattr(self, name)}")
        for width in self.block_out_channels:
            if width % self.norm_num_groups or width % (self.inner_divisor * self.attention_heads):
                raise ValueError(
                    f"block_out_channels: {width} must be divisible by norm_num_groups {self.norm_num_groups} and by "
                    f"inner_divisor * attention_heads = {self.inner_divisor * self.attention_heads}"
                )

    def reference(self, in_channels: int) -> "DenoiserConfig":
        """Config of the ReferenceNet that goes with this denoiser: same widths, no audio, motion or labels."""
        none = (False,) * len(self.block_out_channels)
        return replace(
            self,
            in_channels=in_channels,
            out_channels=0,
            audio_levels=none,
            motion_levels=none,
            idle_motion_levels=none,
            num_labels=0,
            audio_embedding_dim=0,
        )


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """`kind` is "kl" (SD1.5's VAE), "tiny" (TAESD) or "patch" (llia-tiny's linear patches with a small decoder)."""

    kind: str
    latent_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    scaling_factor: float
    downscale: int  # image pixels per latent cell, each way

    def __post_init__(self) -> None:
        if self.kind not in ("kl", "tiny", "patch"):
            raise ValueError(f"autoencoder kind: got {self.kind!r}, expected 'kl', 'tiny' or 'patch'")


@dataclass(frozen=True)
class AudioProjectionConfig(Config):
    """Window of speech features (window, layers, channels) to `tokens` tokens of width `token_channels`."""

    window: int
    layers: int
    channels: int
    intermediate_dim: int  # also the width of the pooled vector
    tokens: int
    token_channels: int


@dataclass(frozen=True)
class FaceLocatorConfig(Config):
    """Masks of `in_channels` at image size to features at latent size: a stride of 2 between any two `channels`."""

    in_channels: int
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ImageProjectionConfig(Config):
    """Face identity embedding to image tokens."""

    embed_dim: int
    tokens: int
    token_channels: int


@dataclass(frozen=True)
class ModelConfig(Config):
    """One named model. `resolution` is the generated square in pixels."""

    name: str
    denoiser: DenoiserConfig
    reference_in_channels: int
    audio_projection: AudioProjectionConfig
    face_locator: FaceLocatorConfig
    image_projection: ImageProjectionConfig | None
    autoencoder: AutoencoderConfig
    prediction_type: str  # "v_prediction" or "sample"
    motion_frames: int
    resolution: int
    sampling: str = "consistency"  # what the weights were trained for: "consistency" or "tcd" (few steps), or "ddim"

    def __post_init__(self) -> None:
        if self.sampling not in ("consistency", "tcd", "ddim"):
            raise ValueError(f"sampling: got {self.sampling!r}, expected 'consistency', 'tcd' or 'ddim'")
        if self.prediction_type not in ("v_prediction", "sample"):
            raise ValueError(f"prediction_type: got {self.prediction_type!r}, expected 'v_prediction' or 'sample'")

    @property
    def reference(self) -> DenoiserConfig:
        """Config of the ReferenceNet."""
        return self.denoiser.reference(self.reference_in_channels)

    @property
    def latent_size(self) -> int:
        """Side of the latent square."""
        return self.resolution // self.autoencoder.downscale


SD_VAE = AutoencoderConfig(
    kind="kl",
    latent_channels=4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    norm_num_groups=32,
    scaling_factor=0.18215,
    downscale=8,
)
TAESD = AutoencoderConfig(
    kind="tiny",
    latent_channels=4,
    block_out_channels=(64, 64, 64, 64),
    layers_per_block=3,
    norm_num_groups=0,
    scaling_factor=1.0,
    downscale=8,
)
_TINY = ModelConfig(
    name="llia-tiny",
    denoiser=DenoiserConfig(
        in_channels=36,  # 16 noisy latents, 16 latents of the region moved by the lip curves, 4 maps of the curves
        out_channels=18,  # 16 residual, 2 flow
        block_out_channels=(48, 96, 144),
        layers_per_block=1,
        mid_block=False,
        light_up_path=True,
        attention_levels=(False, True, True),
        audio_levels=(False, True, True),
        motion_levels=(True, True, True),
        idle_motion_levels=(False, False, False),
        down_conditioning=(False, False, True),
        attention_heads=4,
        motion_heads=4,
        inner_divisor=2,
        feed_forward_mult=2,
        norm_num_groups=8,
        cross_attention_dim=0,
        audio_attention_dim=96,
        audio_masks=False,
        audio_embedding_dim=128,
        causal_motion=True,
        motion_window=4,
        motion_positions=0,
        num_labels=4,
        time_scale_shift=True,
    ),
    reference_in_channels=16,
    audio_projection=AudioProjectionConfig(  # channels: see speech.tiny_speech_config
        window=5, layers=1, channels=7, intermediate_dim=128, tokens=4, token_channels=96
    ),
    face_locator=FaceLocatorConfig(in_channels=2, channels=(8, 16, 24)),
    image_projection=None,
    autoencoder=AutoencoderConfig(
        kind="patch",
        latent_channels=16,
        block_out_channels=(48, 24),
        layers_per_block=2,
        norm_num_groups=0,
        scaling_factor=1.0,
        downscale=4,
    ),
    prediction_type="sample",
    motion_frames=4,
    resolution=128,
)


_SD15 = ModelConfig(
    name="llia-sd15",
    denoiser=DenoiserConfig(
        in_channels=4,
        out_channels=4,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        mid_block=True,
        light_up_path=False,
        attention_levels=(True, True, True, False),
        audio_levels=(True, True, True, False),
        motion_levels=(True, True, True, True),
        idle_motion_levels=(False, False, False, True),
        down_conditioning=(True, True, True, True),
        attention_heads=8,
        motion_heads=8,
        inner_divisor=1,
        feed_forward_mult=4,
        norm_num_groups=32,
        cross_attention_dim=768,
        audio_attention_dim=768,
        audio_masks=True,
        audio_embedding_dim=0,
        causal_motion=False,
        motion_window=0,
        motion_positions=32,
        num_labels=4,
        time_scale_shift=False,
    ),
    reference_in_channels=4,
    audio_projection=AudioProjectionConfig(
        window=5, layers=12, channels=768, intermediate_dim=512, tokens=32, token_channels=768
    ),
    face_locator=FaceLocatorConfig(in_channels=3, channels=(16, 32, 64, 128)),
    image_projection=ImageProjectionConfig(embed_dim=512, tokens=4, token_channels=768),
    autoencoder=SD_VAE,
    prediction_type="v_prediction",
    motion_frames=2,
    resolution=512,
    sampling="ddim",
)
NAMED: dict[str, ModelConfig] = {config.name: config for config in (_TINY, _SD15)}
