"""The clock of the project (16 kHz, 25 frames a second), resampling, and the tail of a stream of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import torch

SAMPLE_RATE = 16_000  # Hz, what wav2vec 2.0 and every other part of the core hears
FPS = 25  # video frames a second
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640 samples, 40 ms

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz; outside, a sample rate is a mistake
SILENCE_DB = -100.0  # what digital silence is called


def frame_count(num_samples: int) -> int:
    """How many video frames `num_samples` at 16 kHz make: floor(seconds * 25 + 0.5).

    The one rounding rule of the project: an exact half goes up (320 samples are one frame, 319 none), in integers,
    so it is exact for any length. Raises ValueError for a negative count.
    """
    if num_samples < 0:
        raise ValueError(f"number of samples is {num_samples}, expected 0 or more")
    return (num_samples + SAMPLES_PER_FRAME // 2) // SAMPLES_PER_FRAME


def resampled_length(num_samples: int, sample_rate: int) -> int:
    """Samples at 16 kHz that `num_samples` at `sample_rate` become: floor(N * 16000 / sample_rate + 0.5)."""
    return (2 * num_samples * SAMPLE_RATE + sample_rate) // (2 * sample_rate)


def to_mono_16k(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Mean of the channels, at 16 kHz.

    waveform: (C, N) or (N,) floating point, C from 1 to 64, nominally in [-1, 1]; sample_rate: 4 to 384 kHz.
    Returns float32 (round(N * 16000 / sample_rate),), halves go up. Raises TypeError for integer samples and ValueError
    for an empty waveform, NaN, infinity or an impossible rate.
    """
    _check_waveform(waveform, sample_rate)
    # The mean is taken first: the resampler then works on one channel, whatever came in.
    mono = waveform.reshape(-1, waveform.shape[-1]).mean(dim=0, dtype=torch.float32)
    if not torch.isfinite(mono).all():
        bad = int((~torch.isfinite(waveform)).sum())
        raise ValueError(f"audio has {bad} samples that are NaN or infinite; repair or re-export the recording")
    length = resampled_length(mono.shape[0], int(sample_rate))
    if sample_rate != SAMPLE_RATE:
        mono = _resample(mono, int(sample_rate))
    return torch.nn.functional.pad(mono[:length], (0, max(0, length - mono.shape[0])))


def _check_waveform(waveform: torch.Tensor, sample_rate: int) -> None:
    if not isinstance(waveform, torch.Tensor):
        raise TypeError(f"audio is a {type(waveform).__name__}, expected a torch.Tensor (channels, samples)")
    if not waveform.is_floating_point():
        raise TypeError(
            f"audio samples are {waveform.dtype}, expected floating point in [-1, 1]; divide int16 by 32768"
        )
    if waveform.dim() not in (1, 2):
        raise ValueError(f"audio has shape {tuple(waveform.shape)}, expected (channels, samples) or (samples,)")
    if waveform.numel() == 0:
        raise ValueError(f"audio is empty: shape {tuple(waveform.shape)}; expected at least one sample")
    if waveform.dim() == 2 and waveform.shape[0] > 64:
        raise ValueError(f"audio has shape {tuple(waveform.shape)}, expected (channels, samples): is it transposed?")
    if int(sample_rate) != sample_rate or not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ValueError(f"sample rate is {sample_rate}, expected whole Hz from {LOWEST_RATE} to {HIGHEST_RATE}")


def to_mono(waveform: torch.Tensor, sample_rate: int, target_rate: int) -> torch.Tensor:
    """(C, N) floating point at sample_rate -> mean of the channels at target_rate, (n,) float32."""
    _check_waveform(waveform, sample_rate)
    mono = waveform.reshape(-1, waveform.shape[-1]).mean(dim=0, dtype=torch.float32)
    return mono if sample_rate == target_rate else _resample(mono, int(sample_rate), target_rate)


def _resample(mono: torch.Tensor, sample_rate: int, target_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Windowed-sinc resampling (torchaudio), in blocks so that hours of sound need little memory.

    torchaudio's filter bank has as many rows as the reduced ratio has steps: for 44,101 Hz that would be gigabytes. So
    the ratio is the nearest fraction with a denominator up to 1,000: off by less than 6 ms in two hours at odd rates,
    and exact at every rate in use.
    """
    resample = torchaudio_functional().resample
    ratio = Fraction(sample_rate, target_rate).limit_denominator(1000)
    source, target = ratio.numerator, ratio.denominator
    block = max(1, 2**20 // source) * source  # a whole number of periods, so blocks meet without a phase step
    margin = max(1, 1024 // source + 1) * source  # more than the filter reaches on either side
    parts = []
    for start in range(0, mono.shape[0], block):
        left, right = min(margin, start), min(mono.shape[0], start + block + margin)
        part = resample(mono[start - left : right], source, target)
        skip = left // source * target
        last = right == mono.shape[0] and start + block >= mono.shape[0]
        parts.append(part[skip:] if last else part[skip : skip + block // source * target])
    return torch.cat(parts)


def torchaudio_functional():
    """torchaudio.functional. Raises RuntimeError that says what to do where it does not load: it is built for one
    version of torch, and with another its library fails in words that name neither."""
    try:
        from torchaudio import functional
    except (ImportError, OSError) as error:
        raise RuntimeError(
            f"torchaudio does not load beside torch {torch.__version__} ({str(error).splitlines()[0]}). Get the one "
            "built for it, from where this torch came: pip install --upgrade --no-deps torchaudio"
        ) from error
    return functional


def frame_levels_db(samples: torch.Tensor) -> torch.Tensor:
    """RMS of each whole frame in dB of full scale: (n * 640,) -> (n,), from -100 (digital silence) up."""
    frames = samples[: samples.shape[0] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].view(-1, SAMPLES_PER_FRAME)
    power = frames.double().square().mean(dim=1)
    return (10 * torch.log10(power.clamp_min(10 ** (SILENCE_DB / 10)))).float()


def frame_energy(samples: torch.Tensor) -> torch.Tensor:
    """Loudness of each whole frame from 0 (-50 dB and below) to 1 (-10 dB and above): (n * 640,) -> (n,)."""
    return ((frame_levels_db(samples) + 50) / 40).clamp(0, 1)


@dataclass
class SampleRing:
    """The part of a stream of 16 kHz mono samples that is still needed, addressed by absolute sample index.

    Before the stream's first sample, and after its last once `end` was called, there is silence. Asking for what has
    not arrived or was discarded raises.
    """

    first: int = 0  # absolute index of samples[0]
    ended: bool = False
    samples: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # (kept,) float32

    @property
    def total(self) -> int:
        """Samples that arrived since the start."""
        return self.first + self.samples.shape[0]

    def push(self, samples: torch.Tensor) -> None:
        """Append (n,) floating-point samples. Raises ValueError for another shape and RuntimeError after `end`."""
        if self.ended:
            raise RuntimeError(f"samples pushed after the stream was ended at {self.total} samples")
        if samples.dim() != 1 or not samples.is_floating_point():
            raise ValueError(f"got {samples.dtype} {tuple(samples.shape)}, expected floating-point samples (n,)")
        self.samples = torch.cat([self.samples, samples.to(self.samples)])

    def end(self) -> None:
        """No more samples will come: silence follows."""
        self.ended = True

    def window(self, start: int, stop: int) -> torch.Tensor:
        """Samples start to stop (exclusive) as a new (stop - start,) tensor.

        Raises ValueError if stop < start, IndexError if samples are asked for that have not arrived or were discarded.
        """
        if stop < start:
            raise ValueError(f"window from {start} to {stop} is backwards")
        if stop > self.total and not self.ended:
            raise IndexError(f"window to sample {stop} asked for, but only {self.total} have arrived")
        if start < stop and stop > 0 and max(start, 0) < self.first:
            raise IndexError(f"window from sample {start} asked for, but samples before {self.first} were discarded")
        window = torch.zeros(stop - start)
        low, high = max(start, self.first), min(stop, self.total)
        if low < high:
            window[low - start : high - start] = self.samples[low - self.first : high - self.first]
        return window

    def discard_before(self, index: int) -> None:
        """Forget samples before the absolute `index`; earlier than what is kept is no error, later than arrived is."""
        if index > self.total:
            raise IndexError(f"cannot discard before sample {index}: only {self.total} have arrived")
        if index <= self.first:
            return
        kept = self.samples[index - self.first :]
        # A slice keeps its whole storage alive: copy once most of it is dead, so that memory and time stay bounded.
        if kept.untyped_storage().nbytes() > 2 * kept.numel() * kept.element_size():
            kept = kept.clone()
        self.samples, self.first = kept, index

    def state_dict(self) -> dict:
        return {"first": self.first, "ended": self.ended, "samples": self.samples.clone()}

    def load_state_dict(self, state: dict) -> None:
        self.first, self.ended = int(state["first"]), bool(state["ended"])
        self.samples = state["samples"].clone()
