"""Idle, listening, speaking: one label a frame, heard from the sound while it streams in.

LLIA (arXiv 2506.05806) conditions its model on these three classes, inferred from acoustics or set from outside. How it
infers them is not public; the detector here is our own: speech is what is louder than an adaptive noise floor, voiced
(periodic at 70 to 400 Hz; autocorrelation after Boersma 1993) and changing in level from frame to frame. The last two
tell speech from steady noise and from hum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from .audio import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count

IDLE, LISTENING, SPEAKING, NONE = 0, 1, 2, 3
STATE_NAMES = ("idle", "listening", "speaking", "none")  # none: unlabelled; in a timeline "decide by the sound"

LOOKAHEAD = 2  # frames of sound after a frame that its label may depend on
HOLD = 8  # frames (0.32 s) that speaking goes on after the last sign of speech: short pauses stay speaking
LISTENING_HOLD = 25  # frames (1 s) that attention stays after the other person's last word
FLOOR_START_DB, FLOOR_RISE_DB = -60.0, 4.0 / 25  # noise floor: where it starts, how fast it may rise a frame
ABOVE_FLOOR_DB, QUIETEST_DB = 8.0, -62.0
VOICED = 0.55  # normalised autocorrelation, 0 noise to 1 perfectly periodic
ENTER_CHANGE_DB, STAY_CHANGE_DB = 1.5, 0.5  # level change between frames, to start and to go on speaking
ENTER_FRAMES = 3  # how many such frames among the LOOKAHEAD before and after start speaking
BLOCK_FRAMES = 2048  # frames analysed at once


@dataclass
class VoiceState:
    """What a VoiceDetector carries from push to push."""

    tail: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # samples that do not fill a frame yet
    samples: int = 0  # samples pushed so far
    floor_db: float = FLOOR_START_DB
    previous_db: float = -100.0
    strong: list[bool] = field(default_factory=list)  # frames whose label is open or that newer labels look back at
    weak: list[bool] = field(default_factory=list)
    decided: int = 0  # labels given so far
    since_speech: int = HOLD + 1  # frames since the last sign of speech


def frame_features(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level in dB of full scale and voicing (0 to 1) of whole frames: (n * 640,) -> (n,), (n,).

    Both of the band from 80 to 2,000 Hz, where voices are periodic; its low end, where hum lives, counts less.
    """
    frames = samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64)
    window = np.hanning(SAMPLES_PER_FRAME)
    size = 2 * SAMPLES_PER_FRAME
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    weight = np.minimum(frequency / 400, 1) ** 2 * ((frequency >= 80) & (frequency <= 2000))
    spectrum = np.abs(np.fft.rfft(frames * window, size)) ** 2 * weight
    power = spectrum.sum(axis=1) * 2 / size / np.square(window).sum()
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
    fade = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2, size)
    periodic = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-12) / (fade[lags] / fade[0])
    # Rounded, so that the last bit, which depends on how many frames are transformed at once, decides nothing.
    level = np.round(10 * np.log10(np.maximum(power, 1e-10)), 4)
    return level, np.round(periodic.max(axis=1).clip(0, 1), 4)


class VoiceDetector:
    """Is there speech in each frame? Streaming; the answer does not depend on how the samples are pushed."""

    def __init__(self) -> None:
        self.state = VoiceState()

    def push(self, samples: torch.Tensor) -> list[bool]:
        """(n,) samples at 16 kHz -> speech or not, for each frame that became decidable (LOOKAHEAD frames late)."""
        state = self.state
        state.samples += samples.shape[0]
        whole = np.concatenate([state.tail, samples.detach().float().cpu().numpy()])
        used = whole.shape[0] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
        state.tail = whole[used:]
        for start in range(0, used, BLOCK_FRAMES * SAMPLES_PER_FRAME):
            self._hear(whole[start : min(used, start + BLOCK_FRAMES * SAMPLES_PER_FRAME)])
        return self._decide(lookahead=LOOKAHEAD)

    def finish(self) -> list[bool]:
        """The remaining frames, so that there are frame_count(samples) in all. Nothing may be pushed afterwards."""
        state = self.state
        if state.decided + len(state.strong) - self._behind() < frame_count(state.samples):
            self._hear(np.pad(state.tail, (0, SAMPLES_PER_FRAME - state.tail.shape[0])))
        state.tail = np.zeros(0, np.float32)
        return self._decide(lookahead=0)

    def _behind(self) -> int:
        """How many frames in `strong` have their label already and are kept to look back at."""
        return min(self.state.decided, LOOKAHEAD)

    def _hear(self, samples: np.ndarray) -> None:
        """Mark frames as signs of speech: strong ones may start it, weak ones keep it going."""
        state = self.state
        for level, voicing in zip(*(values.tolist() for values in frame_features(samples)), strict=True):
            state.floor_db = min(state.floor_db + FLOOR_RISE_DB, level)
            loud = level > max(state.floor_db + ABOVE_FLOOR_DB, QUIETEST_DB) and voicing > VOICED
            change = abs(level - state.previous_db)
            state.strong.append(loud and change > ENTER_CHANGE_DB)
            state.weak.append(loud and change > STAY_CHANGE_DB)
            state.previous_db = level

    def _decide(self, lookahead: int) -> list[bool]:
        state = self.state
        answers, index = [], self._behind()
        while index + lookahead < len(state.strong):
            near = state.strong[max(0, index - LOOKAHEAD) : index + LOOKAHEAD + 1]
            speaking = state.since_speech <= HOLD
            if sum(near) >= ENTER_FRAMES or (speaking and state.weak[index]):
                state.since_speech = 0
            else:
                state.since_speech = min(state.since_speech + 1, HOLD + 1)
            answers.append(state.since_speech <= HOLD)
            index += 1
        state.decided += len(answers)
        kept = max(0, index - LOOKAHEAD)
        state.strong, state.weak = state.strong[kept:], state.weak[kept:]
        return answers


class StateLabeller:
    """Labels from our own sound, and from the other person's if there is a second track.

    We speak: SPEAKING. We are silent while the other speaks, or did less than a second ago: LISTENING. Else IDLE.
    """

    def __init__(self) -> None:
        self.own, self.other = VoiceDetector(), VoiceDetector()
        self._since_other = LISTENING_HOLD + 1

    def push(self, samples: torch.Tensor, other: torch.Tensor | None = None) -> list[int]:
        """(n,) samples at 16 kHz, and optionally as many of the other track -> the labels that became decidable.

        Labels come LOOKAHEAD frames after their sound. Raises ValueError if the two differ in length.
        """
        if other is None:
            other = torch.zeros_like(samples)
        if other.shape != samples.shape:
            raise ValueError(f"the other track has {tuple(other.shape)} samples, expected {tuple(samples.shape)}")
        return self._label(self.own.push(samples), self.other.push(other))

    def finish(self) -> list[int]:
        """The labels still open: frame_count(samples pushed) in all."""
        return self._label(self.own.finish(), self.other.finish())

    def _label(self, own: list[bool], other: list[bool]) -> list[int]:
        labels = []
        for we_speak, they_speak in zip(own, other, strict=True):
            self._since_other = 0 if they_speak else min(self._since_other + 1, LISTENING_HOLD + 1)
            listening = self._since_other <= LISTENING_HOLD
            labels.append(SPEAKING if we_speak else LISTENING if listening else IDLE)
        return labels

    def state_dict(self) -> dict:
        return {"own": asdict(self.own.state), "other": asdict(self.other.state), "since_other": self._since_other}

    def load_state_dict(self, state: dict) -> None:
        self.own.state, self.other.state = VoiceState(**_copy(state["own"])), VoiceState(**_copy(state["other"]))
        self._since_other = int(state["since_other"])


class KnownLabels:
    """Labels that were found out before, handed out where a StateLabeller would hear them: as the sound arrives."""

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels, self.samples, self.given = labels, 0, 0

    def push(self, samples: torch.Tensor, other: torch.Tensor | None = None) -> list[int]:
        """Labels of the frames that (n,) samples complete."""
        self.samples += len(samples)
        return self._take(self.samples // SAMPLES_PER_FRAME)

    def finish(self) -> list[int]:
        return self._take(frame_count(self.samples))

    def _take(self, until: int) -> list[int]:
        if until > len(self.labels):
            raise ValueError(f"there is sound for {until} frames, but labels for {len(self.labels)} only")
        start, self.given = self.given, max(self.given, until)
        return list(self.labels[start : self.given])

    def state_dict(self) -> dict:
        return {"samples": self.samples, "given": self.given}

    def load_state_dict(self, state: dict) -> None:
        self.samples, self.given = int(state["samples"]), int(state["given"])


def _copy(state: dict) -> dict:
    return {name: value.copy() if isinstance(value, (list, np.ndarray)) else value for name, value in state.items()}


def label_audio(samples: torch.Tensor, other: torch.Tensor | None = None) -> list[int]:
    """Labels of a whole recording: (N,) at 16 kHz -> frame_count(N) of them."""
    labeller = StateLabeller()
    return labeller.push(samples, other) + labeller.finish()
