"""A recipe for a stream: portrait, encoded speech, labels and settings; frames are sampled when it is read.

What takes long and changes seldom (encoding the speech, labelling it, preparing the portrait) is done once and kept;
reading the recipe costs only what depends on its settings. Reading it twice gives the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .audio import FPS, SAMPLE_RATE, frame_count, to_mono, to_mono_16k
from .model.avatar import Avatar
from .photoreal import GUIDANCE, Photoreal, open_session
from .portrait import Portrait
from .sampling.consistency import MAX_STEPS
from .session import FUTURE, PAST, Session
from .speech import EncodedSpeech
from .states import label_audio
from .timeline import Timeline

BLOCK = SAMPLE_RATE  # samples handed to the session at once


@dataclass(frozen=True)
class Speech:
    """A recording, as it came and as the model hears it.

    waveform: (C, N) float32 in [-1, 1], C 1 or 2, at sample_rate. samples: (n,) float32 mono at 16 kHz.
    """

    waveform: Tensor
    sample_rate: int
    samples: Tensor
    encoded: EncodedSpeech

    @cached_property
    def frames(self) -> int:
        return frame_count(len(self.samples))

    def sound(self, start: int, stop: int) -> Tensor:
        """(C, m): the original sound of frames [start, stop). Frame k's begins at sample round(k * sample_rate / 25).

        The last frame takes all that is left, with silence after it where the recording ends within the frame.
        """
        first, end = (_floor_half_up(k * self.sample_rate, FPS) for k in (start, stop))
        if stop < self.frames:
            return self.waveform[:, first:end]
        rest = self.waveform[:, first:]
        return torch.nn.functional.pad(rest, (0, max(0, end - first - rest.shape[1])))


@dataclass(frozen=True)
class States:
    """What the person does in each frame. labels: IDLE, LISTENING, SPEAKING a frame; timeline: those that were told.

    heard: the other person's voice, (C, N) and Hz, if it shall be heard in the video too.
    """

    labels: tuple[int, ...]
    timeline: Timeline = field(default_factory=Timeline)
    heard: tuple[Tensor, int] | None = None


@dataclass(frozen=True)
class Chunk:
    """Frames [start, start + n). frames: uint8 (n, S, S, 3). sound: (C, m) float32 at the stream's sample rate."""

    start: int
    frames: Tensor
    labels: list[int]
    sound: Tensor


@dataclass(frozen=True)
class Stream:
    """What to sample. steps: 1 to 8 (photoreal: to 50). first, largest: frames of the first and of the longest chunk.
    behaviour: 0 still, 1 natural. carry: the temporal layers remember the chunk before. guidance: of photoreal models
    that use it, 1: none. Raises ValueError where the parts do not fit."""

    model: Avatar | Photoreal
    portrait: Portrait
    speech: Speech
    states: States
    steps: int = 1
    seed: int = 0
    first: int = 2
    largest: int = 16
    behaviour: float = 1.0
    carry: bool = True
    guidance: float = GUIDANCE

    def __post_init__(self) -> None:
        if len(self.states.labels) != self.speech.frames:
            raise ValueError(
                f"the states have {len(self.states.labels)} frames, but the speech has {self.speech.frames}: label the "
                "same recording that was encoded"
            )
        shape, wanted = tuple(self.speech.encoded.features.shape[1:]), self.model.speech.config.shape
        if shape != wanted:
            raise ValueError(
                f"the speech was encoded as {shape} features a frame, but this model expects {wanted}: encode it with "
                "the model that samples"
            )
        if self.model.config.sampling != "ddim" and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"{self.steps} steps asked for, but {self.model.config.name} makes 1 to {MAX_STEPS}")
        if not 1 <= self.first <= self.largest:
            raise ValueError(
                f"the first chunk is {self.first} frames and the largest {self.largest}: raise the largest or lower "
                "the first, so that 1 <= first <= largest"
            )

    @property
    def frames(self) -> int:
        """Frames in all."""
        return self.speech.frames

    @property
    def fps(self) -> int:
        return FPS

    @property
    def size(self) -> int:
        """Width and height of a frame, pixels."""
        return self.portrait.size

    @property
    def sample_rate(self) -> int:
        return self.speech.sample_rate

    @property
    def channels(self) -> int:
        return self.speech.waveform.shape[0]

    def chunks(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Chunk]:
        """Sample now: chunks in their order, each as soon as it is made. should_stop() is asked before every chunk."""
        start, samples = 0, self.speech.samples
        blocks = (samples[i : i + BLOCK] for i in range(0, len(samples), BLOCK))
        for frames in self.open(should_stop).chunks(blocks):
            stop = start + len(frames)
            yield Chunk(start, frames, list(self.states.labels[start:stop]), self.sound(start, stop))
            start = stop

    def sound(self, start: int, stop: int) -> Tensor:
        """(C, m): what is heard in frames [start, stop): the speech, and the other person if the states carry that."""
        own = self.speech.sound(start, stop)
        if self._other is None:
            return own
        first = _floor_half_up(start * self.sample_rate, FPS)
        other = self._other[first : first + own.shape[1]]
        return (own + torch.nn.functional.pad(other, (0, own.shape[1] - len(other)))).clamp(-1, 1)

    @cached_property
    def _other(self) -> Tensor | None:
        """The other person's voice, (n,) at the stream's rate."""
        return None if self.states.heard is None else to_mono(*self.states.heard, self.sample_rate)

    def open(self, should_stop: Callable[[], bool] = lambda: False) -> Session:
        """A session set up for this recipe, at its beginning."""
        return open_session(
            self.model,
            self.portrait,
            guidance=self.guidance,
            steps=self.steps,
            seed=self.seed,
            behaviour=self.behaviour,
            timeline=self.states.timeline,
            first=self.first,
            largest=self.largest,
            should_stop=should_stop,
            carry=self.carry,
            encoder=self.speech.encoded,
            labels=self.states.labels,
        )


def encode_speech(
    model: Avatar | Photoreal, waveform: Tensor, sample_rate: int, on_progress: Callable[[int, int], None] | None = None
) -> Speech:
    """(C, N) floating point at sample_rate -> Speech, with all features the model will ask for.

    More than two channels are averaged to one. on_progress(done, total) counts frames; what it raises ends the work.
    Raises ValueError for sound that cannot be used or is shorter than half a frame (20 ms).
    """
    samples = to_mono_16k(waveform, sample_rate)
    if frame_count(len(samples)) == 0:
        raise ValueError(
            f"the sound lasts {waveform.shape[-1] / sample_rate * 1000:.0f} ms, shorter than half a frame (20 ms): "
            "give a longer recording"
        )
    if isinstance(model, Photoreal):
        model.before_listening()
    margin = max(PAST, FUTURE)
    features = model.speech.encode_all(samples, margin, margin, on_progress)
    encoded = EncodedSpeech(features, margin, model.speech.silence(), model.speech.config)
    waveform = waveform if waveform.shape[0] <= 2 else waveform.mean(0, keepdim=True)
    return Speech(waveform.detach().cpu().float(), int(sample_rate), samples, encoded)


def label_states(samples: Tensor, other: Tensor | None = None, timeline: Timeline | None = None) -> States:
    """(n,) samples at 16 kHz, the other person's (any length), what was told -> States of frame_count(n) frames."""
    if other is not None:
        other = torch.nn.functional.pad(other[: len(samples)], (0, max(0, len(samples) - len(other))))
    timeline = timeline or Timeline()
    return States(tuple(timeline.apply(0, label_audio(samples, other))), timeline)


def _floor_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
