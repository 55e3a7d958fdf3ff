"""A small causal network that hears mouth shapes: the bundled model's speech features.

The layout is wav2vec's (Schneider et al. 2019, 1904.05862): a convolutional feature encoder, then a convolutional
context network of dilated layers (van den Oord et al. 2016, 1609.03499). It starts from a log mel spectrogram instead
of the raw wave: with few hours of speech and one CPU core that learns in minutes what raw audio takes hours for.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .audio import SAMPLE_RATE, torchaudio_functional

FFT, HOP, WINDOW = 512, 160, 400  # samples: 32 ms transform, 10 ms hop, 25 ms window


@dataclass(frozen=True)
class MouthNetConfig:
    """dilations: of the context network's layers; `centred` of them look ahead as far as back, the others only back."""

    bands: int = 64
    widths: tuple[int, int, int] = (128, 160, 192)
    dilations: tuple[int, ...] = (1, 1, 2, 2, 3, 3)
    centred: int = 2
    shapes: int = 7

    @classmethod
    def from_dict(cls, values: dict) -> "MouthNetConfig":
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    @property
    def span(self) -> int:
        """Frames of sound (40 ms) that one frame of output hears; the feature encoder takes 3 of them."""
        return 1 + 3 + 2 * sum(self.dilations)


class _Context(nn.Module):
    """Residual dilated convolution over (n, c, t); the output is 2 * dilation frames shorter."""

    def __init__(self, width: int, dilation: int, centred: bool, operations: Any) -> None:
        super().__init__()
        self.dilation, self.centred = dilation, centred
        self.norm = operations.LayerNorm(width)
        self.conv = operations.Conv1d(width, width, 3, dilation=dilation)
        self.out = operations.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.out(F.gelu(self.conv(hidden)))
        d = self.dilation
        return (x[..., d:-d] if self.centred else x[..., 2 * d :]) + hidden


class MouthNet(nn.Module):
    """16 kHz samples (n, frames * 640) -> mouth shapes (n, frames - span + 1, shapes); nothing is padded."""

    def __init__(self, config: MouthNetConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        first, second, width = config.widths
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bank", mel_bank(config.bands), persistent=False)
        self.features = nn.ModuleList(
            (
                operations.Conv1d(config.bands, first, 3),
                operations.Conv1d(first, second, 4, 2),
                operations.Conv1d(second, width, 4, 2),
            )
        )
        self.context = nn.ModuleList(
            _Context(width, d, i < config.centred, operations) for i, d in enumerate(config.dilations)
        )
        self.norm = operations.LayerNorm(width)
        self.head = operations.Linear(width, config.shapes)

    def forward(self, samples: Tensor, bank: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """bank, mask: see `log_mel`; for augmentation in training."""
        x = self.log_mel(samples, bank)
        x = (x if mask is None else x * mask).to(self.head.weight.dtype)
        for i, layer in enumerate(self.features):
            x = layer(F.gelu(x) if i else x)
        for layer in self.context:
            x = layer(x)
        return self.head(self.norm(x.transpose(1, 2)))

    def log_mel(self, samples: Tensor, bank: Tensor | None = None) -> Tensor:
        """(n, samples) -> (n, bands, t) at 100 Hz, about -2.5 (silence) to 2. bank: (n, 257, bands) if not its own."""
        spectrum = torch.stft(samples.float(), FFT, HOP, WINDOW, self.window.float(), center=False, return_complex=True)
        power = spectrum.abs().square().transpose(1, 2)
        mel = power @ (self.bank.float() if bank is None else bank)
        return (torch.log(mel + 1e-6) * 0.25 + 1).transpose(1, 2)


def mel_bank(bands: int) -> Tensor:
    """(257, bands) triangular filters, mel-spaced from 60 to 7600 Hz."""
    return torchaudio_functional().melscale_fbanks(FFT // 2 + 1, 60, 7600, bands, SAMPLE_RATE)
