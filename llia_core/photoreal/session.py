"""A session for llia-sd15: the same stream as session.py, with the whole picture painted by the diffusion model.

Hallo v1's loop (arXiv 2406.08801): clips of 16 frames, each continuing two motion frames. What the original lacks:
clips of any length, streaming with flat memory, states, the portrait's features computed once. Continuity: motion
frames stay latents, which spares a decode and encode per clip and its losses; the noise of all clips is one, as
FreeNoise (arXiv 2310.15169) reuses it, so that still parts keep their texture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..model.avatar import Avatar
from ..model.guidance import AS_SHIPPED, CORRECTED, Quirks
from ..portrait import Portrait
from ..sampling.chunks import ChunkPlanner
from ..sampling.consistency import sample_consistency, sample_tcd
from ..sampling.ddim import sample_ddim
from ..sampling.schedule import make_schedule, to_sample, trailing_timesteps
from ..session import Clip, Session, SessionState
from ..speech import EncodedSpeech, SpeechEncoder
from ..states import KnownLabels, StateLabeller
from ..timeline import Timeline
from .conditions import Conditions, PortraitConditions
from .masks import face_masks
from .model import Photoreal

DEFAULT_STEPS = {"ddim": 10, "consistency": 2, "tcd": 4}
GUIDANCE = 3.5  # Hallo v1's
SIZE_STEP = 64  # the UNet halves the latents three times


class ClipPlanner(ChunkPlanner):
    """Plans clips by length alone: a label is told for every frame, so a change of state needs no clip of its own."""

    def next(self, available: int, labels: Sequence[int], ended: bool) -> int:
        return super().next(available, [0] * available, ended)


@dataclass(frozen=True)
class Settings:
    """guidance: scale of classifier-free guidance, 1: none; only for "ddim" weights. audio_scale: weight of the voice
    on the background and pose, on the face, on the lips. quirks: faults of the original to repeat. as_shipped: motion
    frames are decoded and encoded again and every clip has fresh noise, as in the original."""

    guidance: float = GUIDANCE
    audio_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    quirks: Quirks = CORRECTED
    as_shipped: bool = False


PARITY = Settings(quirks=AS_SHIPPED, as_shipped=True)  # with seed 42: the official inference


class PhotorealSession(Session):
    """Streams frames of one portrait speaking; the methods are Session's.

    steps: denoising steps, None: as many as the weights want. seed: of the noise. first, largest: frames of the first
    and of the longest clip; the last one is made `first` frames long and cut. identity: face embedding (512,), if there
    is one. behaviour does nothing here: head and eyes move as the weights learned. The others are Session's.
    Raises ValueError on a size or length that the model cannot make.
    """

    def __init__(
        self,
        model: Photoreal,
        portrait: Portrait,
        steps: int | None = None,
        seed: int = 0,
        behaviour: float = 1.0,
        timeline: Timeline | None = None,
        first: int = 16,
        largest: int = 16,
        should_stop: Callable[[], bool] = lambda: False,
        carry: bool = True,
        encoder: SpeechEncoder | EncodedSpeech | None = None,
        labels: Sequence[int] | None = None,
        identity: Tensor | None = None,
        settings: Settings = Settings(),  # noqa: B008 (frozen)
    ):
        longest = model.config.denoiser.motion_positions - model.config.motion_frames
        if largest > longest:
            raise ValueError(f"clips of {largest} frames asked for, but this model makes {longest} at most")
        if portrait.size % SIZE_STEP:
            raise ValueError(
                f"the portrait is {portrait.size} pixels, expected a multiple of {SIZE_STEP} for a photoreal model, "
                "such as 256, 384 or 512"
            )
        self.model, self.portrait, self.encoder, self.carry = model, portrait, encoder or model.speech, carry
        self.seed, self.timeline, self.should_stop = seed, timeline or Timeline(), should_stop
        self.settings, self.first = settings, first
        self.timesteps = trailing_timesteps(steps or DEFAULT_STEPS[model.config.sampling])
        model.before_use(portrait.size, largest)
        self.device, self.dtype = model.compute_device, model.compute_dtype
        self.schedule = make_schedule().to(self.device)
        guided = model.config.sampling == "ddim" and settings.guidance != 1.0
        with torch.inference_mode():
            self.conditions = PortraitConditions.of(
                model,
                portrait.image[None].to(self.device, self.dtype),
                face_masks(portrait.landmarks, portrait.size, portrait.size, portrait.size),
                identity,
                guided,
                settings.quirks,
            )
            self.silence = self.encoder.silence()
        self._fresh = lambda: SessionState(
            labeller=StateLabeller() if labels is None else KnownLabels(labels),
            planner=ClipPlanner(first, largest),
            motion=[[] for _ in self.timesteps],  # [0]: latents of the motion frames
        )
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.generator = torch.Generator().manual_seed(self.seed)

    def chunks(
        self, blocks: Iterable[Tensor], others: Iterable[Tensor] | None = None, finish: bool = True
    ) -> Iterator[Tensor]:
        """As Session's; should_stop() is also asked after every denoising step."""
        for clip in self.clips(blocks, others, finish):
            latents = self.denoise(clip)
            if latents is None:
                return
            yield self.decode(clip, latents)

    @torch.inference_mode()
    def denoise(self, clip: Clip) -> Tensor | None:
        """Latents (1, n, c, h, w) of the clip, None if stopped on the way; clips must come in order, each once."""
        count, model = len(clip.labels), self.model
        length = max(count, self.first)
        silent = self.silence.expand(1, length - count, clip.windows.shape[2], -1, -1)
        windows = torch.cat([clip.windows, silent.to(clip.windows)], dim=1).to(self.device, self.dtype)
        states = torch.tensor([clip.labels + clip.labels[-1:] * (length - count)], device=self.device)
        given = self.conditions.of_clip(model, windows, states, self.motion(), self.settings.audio_scale)
        latents = self._sample(given, self._noise(length))
        if latents is None:
            return None
        latents = latents[:, :count]
        self._remember(latents)
        return latents

    def _sample(self, given: Conditions, noise: Tensor) -> Tensor | None:
        config, stopped = self.model.config, False

        def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
            return given.predict(self.model, latents, timestep, conditional)

        def predict_x0(latents: Tensor, timestep: int) -> Tensor:
            out = predict(latents, timestep, True)
            return to_sample(out, latents, timestep, self.schedule, config.prediction_type)

        def stop() -> bool:
            nonlocal stopped
            stopped = self.should_stop()
            return stopped

        if config.sampling == "ddim":
            scale = self.settings.guidance
            made = sample_ddim(
                predict, noise, self.timesteps, self.schedule, config.prediction_type, scale, should_stop=stop
            )
            return None if stopped else made
        sampler = sample_tcd if config.sampling == "tcd" else sample_consistency
        return sampler(
            predict_x0, noise, self.timesteps, self.schedule, lambda step: self._noise(noise.shape[1], step + 1)
        )

    def motion(self) -> Tensor:
        """Latents (1, m, c, h, w) that the next clip continues; at first the portrait's own."""
        if self.carry and self.state.motion[0]:
            return self.state.motion[0][0]
        return self.conditions.latents[:, None].expand(-1, self.model.config.motion_frames, -1, -1, -1)

    def _remember(self, latents: Tensor) -> None:
        frames = torch.cat([self.motion(), latents], dim=1)[:, -self.model.config.motion_frames :]
        if self.settings.as_shipped:
            images = self.model.decode(frames[0])
            frames = self.model.encode(images)[None]
        self.state.motion[0] = [frames.clone()]

    def _noise(self, frames: int, step: int = 0) -> Tensor:
        """(1, frames, c, h, w): the same in every clip, or fresh ones in a row as the original draws them."""
        config, side = self.model.config, self.portrait.size // 8
        shape = (1, config.denoiser.in_channels, frames, side, side)
        if self.settings.as_shipped:
            noise = torch.randn(shape, generator=self.generator)
        else:
            generator = torch.Generator().manual_seed(self.seed + (step << 32))
            most = (
                1,
                config.denoiser.motion_positions,
                shape[1],
                side,
                side,
            )  # a frame's does not depend on the length
            return torch.randn(most, generator=generator)[:, :frames].to(self.device, self.dtype)
        return noise.transpose(1, 2).to(self.device, self.dtype)

    @torch.inference_mode()
    def decode(self, clip: Clip, latents: Tensor) -> Tensor:
        """Latents -> frames, uint8 (n, S, S, 3)."""
        images = self.model.decode(latents[0]).float()
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()

    def state_dict(self) -> dict:
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, saved: dict) -> None:
        super().load_state_dict(saved)
        self.generator.set_state(saved["generator"])


def open_session(
    model: Avatar | Photoreal,
    portrait: Portrait,
    guidance: float = GUIDANCE,
    steps: int | None = None,
    **settings: Any,
) -> Session:
    """The session that goes with the model. steps: None: as many as its weights want. settings: parameters that both
    kinds have."""
    if isinstance(model, Photoreal):
        return PhotorealSession(model, portrait, steps, settings=Settings(guidance=guidance), **settings)
    return Session(model, portrait, steps or 1, **settings)
