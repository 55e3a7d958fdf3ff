"""A loaded parity set, and the conditions of its whole-network runs made with our modules from its inputs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from llia_core.model import AvatarModel, ReferenceCache, build_reference_cache
from llia_core.model.layers import Context
from llia_core.photoreal.masks import FaceMasks
from llia_core.sampling.schedule import NoiseSchedule, make_schedule

KINDS = ("full", "face", "lip")


def swap(x: Tensor) -> Tensor:
    """(b, c, f, h, w) to (b, f, c, h, w), and back."""
    return x.transpose(1, 2)


def flat(x: Tensor) -> Tensor:
    """(1, c, f, h, w) -> (f, c, h, w)."""
    return swap(x).flatten(0, 1)


class Setting:
    """The conditions of the whole-network runs, computed with our modules from the inputs with a prefix."""

    def __init__(self, model: AvatarModel, io: dict[str, Tensor], prefix: str = "") -> None:
        self.model, self.io, self.prefix = model, io, prefix

    def given(self, name: str) -> Tensor:
        return self.io[f"in:{self.prefix}{name}"]

    @cached_property
    def tokens(self) -> Tensor:
        return self.model.imageproj(self.given("imageproj.in"))

    @cached_property
    def zero_tokens(self) -> Tensor:
        return self.model.imageproj(torch.zeros_like(self.given("imageproj.in")))

    @cached_property
    def audio(self) -> Tensor:
        return self.model.audioproj(self.given("audioproj.in"))[0]

    @cached_property
    def face(self) -> Tensor:
        return self.model.face_locator(self.given("face_region"))

    @cached_property
    def masks(self) -> list[Tensor]:
        levels = len(self.model.config.denoiser.block_out_channels)
        return [torch.stack([self.given(f"mask.{k}.{level}") for k in KINDS], 1) for level in range(levels)]

    @cached_property
    def scale(self) -> tuple[float, ...]:
        return tuple(self.given("motion_scale").tolist())

    @cached_property
    def latents(self) -> tuple[Tensor, Tensor]:
        """Of the portrait (1, c, h, w), of the motion frames (1, m, c, h, w)."""
        rows = self.given("ref.latents")
        return rows[:1], rows[None, 1:]

    @cached_property
    def cache(self) -> ReferenceCache:
        portrait, motion = self.latents
        net = self.model
        return build_reference_cache(net.reference_unet, net.denoising_unet, portrait, self.tokens, motion)

    def denoise(self, latents: Tensor, timestep: int, **changes: object) -> Tensor:
        """(1, c, f, h, w) -> the output, in the same layout."""
        conditions = dict(
            audio_tokens=self.audio, face_feature=self.face, image_tokens=self.tokens, audio_masks=self.masks,
            audio_scale=self.scale, reference=None,
        ) | changes  # fmt: skip
        if conditions["reference"] is None:
            conditions["reference"] = self.cache
        out, _ = self.model.denoising_unet(swap(latents), torch.tensor([timestep]), **conditions)
        return swap(out)


@dataclass
class Vectors:
    """A loaded set: config_*.json, the model with its weights, inputs and outputs."""

    config: dict
    model: AvatarModel
    io: dict[str, Tensor]

    @cached_property
    def plain(self) -> Setting:
        return Setting(self.model, self.io)

    @cached_property
    def wide(self) -> Setting:
        return Setting(self.model, self.io, "nonsq.")

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return make_schedule("linear")

    @cached_property
    def runs(self) -> dict[tuple[str, int], tuple[Tensor, list[Tensor]]]:
        """Guided runs made so far: by variant and steps, the first prediction and the latents after each step."""
        return {}

    @cached_property
    def masks_made(self) -> dict[str, FaceMasks]:
        return {}

    def given(self, name: str) -> Tensor:
        return self.io[f"in:{name}"]

    def context(self, frames: int, **changes: object) -> Context:
        return Context(batch=1, frames=frames, time=torch.zeros(1), audio_scale=self.plain.scale, **changes)

    def layer(self, kind: str) -> torch.nn.Module:
        return getattr(self.model.denoising_unet.down_blocks[1], kind)[0]
