"""Stage 1: a small encoder learns to hear mouth shapes, then it is frozen.

Supervision is the synthetic speakers' articulation at every frame. The network pads nothing, so long pieces in training
and the stream's short windows in use give the same numbers.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from ..speech import SpeechEncoder, tiny_speech_config
from .loop import Run, train
from .synth.speech import Utterance, random_utterance, silence

REST = (0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0)  # the mouth when nobody speaks: VISEMES['sil']
JAW_WEIGHT = (4.0, 2.0, 2.0, 3.0, 1.0, 3.0, 1.0)  # by articulation parameter: what a viewer notices first
FRAMES = 64  # of output that one training example has
_EDGE = 30  # silent frames put before and after every utterance, so that windows reach over its ends


class SpeechPool:
    """Utterances in memory, drawn from as augmented windows."""

    def __init__(self, count: int, seed: int, held_out: bool = False):
        rng = np.random.default_rng(seed)
        self.utterances = [
            silence(float(rng.uniform(1, 3)), rng) if rng.random() < 0.06 else random_utterance(rng, held_out)
            for _ in range(count)
        ]

    def window(self, rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """(frames * 640,) samples and (frames, 7) articulation from a random place of a random utterance."""
        utterance = self.utterances[rng.integers(len(self.utterances))]
        start = int(rng.integers(-_EDGE, max(1, len(utterance.articulation) + _EDGE - frames)))
        return cut(utterance, start, frames)


def cut(utterance: Utterance, start: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames [start, start + frames) of an utterance in endless silence: samples and articulation."""
    samples = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    track = np.zeros((frames, utterance.articulation.shape[1]), np.float32)
    track[:] = REST
    low, high = max(start, 0), min(start + frames, len(utterance.articulation))
    if low < high:
        piece = utterance.samples[low * SAMPLES_PER_FRAME : high * SAMPLES_PER_FRAME]
        samples[(low - start) * SAMPLES_PER_FRAME :][: len(piece)] = piece
        track[low - start : high - start] = utterance.articulation[low:high]
    return samples, track


def augment(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Another microphone, room and loudness: (n, samples) with random gain, spectrum, echo and noise."""
    n, length = samples.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *(shape or (1,)), generator=generator) * (high - low) + low

    curve = torch.nn.functional.interpolate(
        uniform(-9, 9, 1, 8), size=length // 2 + 1, mode="linear", align_corners=True
    )[:, 0]
    decay = torch.exp(-torch.arange(4000) / (uniform(0.005, 0.06) * SAMPLE_RATE))
    room = torch.randn(n, 4000, generator=generator) * decay * uniform(0, 0.12)
    room[:, 0] = 1.0
    spectrum = torch.fft.rfft(samples, n=2 * length) * torch.fft.rfft(room, n=2 * length)
    wet = torch.fft.irfft(spectrum, n=2 * length)[:, :length]
    colored = torch.fft.irfft(torch.fft.rfft(wet) * 10 ** (curve / 20), n=length)
    loud = colored.square().mean(1, keepdim=True).sqrt().clamp_min(0.01)
    noise = torch.randn(n, length, generator=generator)
    # Half of the noise is low-pass: rooms rumble rather than hiss.
    noise = torch.where(uniform(0, 1) < 0.5, noise, torch.nn.functional.avg_pool1d(noise[:, None], 15, 1, 7)[:, 0] * 3)
    noisy = colored + noise * loud * 10 ** (-uniform(12, 55) / 20)
    return noisy * 10 ** (uniform(-20, 8) / 20)


def batches(pool: SpeechPool, encoder: SpeechEncoder, size: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Sound (n, samples), mel banks of other throats, a mask of missing bands, and articulation (n, FRAMES, 7)."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    config, banks = encoder.config, other_throats(encoder.mouth.bank.cpu())
    while True:
        pairs = [pool.window(rng, FRAMES + config.window - 1) for _ in range(size)]
        samples = augment(torch.from_numpy(np.stack([p[0] for p in pairs])), generator)
        target = torch.from_numpy(np.stack([p[1] for p in pairs]))[:, config.context : config.context + FRAMES]
        bank = banks[torch.randint(len(banks), (size,), generator=generator)]
        mask = torch.ones(size, banks.shape[-1], 1)
        for row in mask:  # SpecAugment (1904.08779), along frequency only: lips move on in a gap
            first = rng.integers(0, len(row))
            row[first : first + rng.integers(0, 9)] = 0
        yield samples, bank, mask, target


def other_throats(bank: Tensor, count: int = 17) -> Tensor:
    """(count, 257, bands): mel banks as of longer and shorter vocal tracts (Jaitly & Hinton 2013)."""
    out = []
    for factor in torch.linspace(0.86, 1.16, count).tolist():
        place = (torch.arange(len(bank)) / factor).clamp(max=len(bank) - 1)
        low = place.floor().long()
        share = (place - low)[:, None]
        out.append((bank[low] * (1 - share) + bank[(low + 1).clamp(max=len(bank) - 1)] * share) / factor)
    return torch.stack(out)


def articulation_loss(shapes: Tensor, target: Tensor) -> Tensor:
    """Weighted L1 + L2 over (n, frames, 7)."""
    weight = torch.tensor(JAW_WEIGHT, device=target.device)
    error = (shapes - target).float()
    # Mostly the square: the best absolute guess for something rare, as f and v are, is that it never happens.
    return ((0.2 * error.abs() + 4 * error.square()) * weight).mean()


def tracks(encoder: SpeechEncoder, pool: SpeechPool, count: int) -> tuple[Tensor, Tensor]:
    """Heard and true articulation of the pool's first `count` utterances, (frames, 7) each."""
    some = pool.utterances[:count]
    heard = [encoder.encode_all(torch.from_numpy(u.samples))[:, 0] for u in some]
    return torch.cat(heard), torch.cat([torch.from_numpy(u.articulation) for u in some])


def correlations(encoder: SpeechEncoder, pool: SpeechPool, count: int = 60) -> dict[str, float]:
    """Pearson r per parameter of the streamed features against the truth over whole held-out utterances."""
    x, y = tracks(encoder, pool, count)
    x, y = x - x.mean(0), y - y.mean(0)
    r = (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt().clamp_min(1e-9)
    return {
        f"r_{name}": r[i].item() for i, name in enumerate(("jaw", "wide", "round", "press", "upper", "tuck", "tongue"))
    }


@torch.no_grad()
def calibrate(encoder: SpeechEncoder, pool: SpeechPool, count: int = 80) -> list[float]:
    """Give the head's outputs the spread of the truth, by parameter; returns the factors (1 to 1.6).

    A regression that is unsure stays near the middle, so mouths would mumble. Scaling is about the mouth at rest:
    silence stays still. The correlation with the truth does not change.
    """
    got, want = tracks(encoder, pool, count)
    factors = (want.std(0) / got.std(0).clamp_min(1e-6)).clamp(1.0, 1.6)
    rest = torch.tensor(REST)
    encoder.mouth.head.weight.mul_(factors[:, None])
    encoder.mouth.head.bias.copy_(rest + factors * (encoder.mouth.head.bias - rest))
    return factors.tolist()


def run_stage(run: Run, utterances: int = 4000, batch: int = 32, seed: int = 1) -> Path:
    """Train, and write `speech.pt` (EMA weights) into the run's folder."""
    torch.manual_seed(seed)
    config = tiny_speech_config()
    encoder = SpeechEncoder(config)
    pool, unseen = SpeechPool(utterances, seed), SpeechPool(60, seed + 1, held_out=True)

    def loss_of(step: int, example: tuple[Tensor, ...]) -> dict[str, Tensor]:
        samples, bank, mask, target = (t.to(run.device) for t in example)
        return {"articulation": articulation_loss(encoder.mouth(samples, bank, mask), target)}

    def on_save(step: int, ema: dict[str, Tensor]) -> dict[str, float]:
        copy = SpeechEncoder(config).eval()
        copy.load_state_dict(ema)
        figures = correlations(copy, unseen)
        calibrate(copy, pool)
        torch.save(copy.state_dict(), run.folder / "speech.pt")
        return figures

    train(run, encoder, batches(pool, encoder, batch, seed), loss_of, on_save)
    return run.folder / "speech.pt"
