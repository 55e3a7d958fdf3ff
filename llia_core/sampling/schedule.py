"""Noise schedules: betas, zero-terminal-SNR rescaling, timesteps, and conversions between predictions.

The forward process is x_t = signal(t) * x_0 + noise(t) * eps, signal^2 + noise^2 = 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PREDICTION_TYPES = ("v_prediction", "sample", "epsilon")


@dataclass(frozen=True)
class NoiseSchedule:
    """Tables over the training timesteps, float32 (train_steps,)."""

    betas: Tensor
    alphas_cumprod: Tensor

    @property
    def train_steps(self) -> int:
        """Number of timesteps that the model was trained on."""
        return len(self.betas)

    def to(self, device: torch.device | str) -> "NoiseSchedule":
        """Move the tables."""
        return NoiseSchedule(self.betas.to(device), self.alphas_cumprod.to(device))

    def scales(self, timesteps: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise scale at `timesteps` (an int, (b,) or (b, f)), shaped to broadcast over `like` (b, ...)."""
        index = torch.as_tensor(timesteps, device=self.alphas_cumprod.device)
        alpha = self.alphas_cumprod[index].to(like.device)
        alpha = alpha.reshape(*alpha.shape, *(1,) * (like.ndim - alpha.ndim))
        return alpha.sqrt().to(like.dtype), (1 - alpha).sqrt().to(like.dtype)


def make_schedule(
    kind: str = "linear",
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    train_steps: int = 1000,
    zero_terminal_snr: bool = True,
) -> NoiseSchedule:
    """Betas that grow linearly ("linear"), or whose square roots do ("scaled_linear", Stable Diffusion's).

    Raises ValueError on another kind.
    """
    if kind == "linear":
        betas = torch.linspace(beta_start, beta_end, train_steps)
    elif kind == "scaled_linear":
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, train_steps) ** 2
    else:
        raise ValueError(f"schedule kind: got {kind!r}, expected 'linear' or 'scaled_linear'")
    if zero_terminal_snr:
        betas = rescale_zero_terminal_snr(betas)
    return NoiseSchedule(betas, torch.cumprod(1 - betas, dim=0))


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale the schedule so that the last timestep is pure noise (arXiv 2305.08891, algorithm 1)."""
    signal = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = signal[0].clone(), signal[-1].clone()
    alphas_cumprod = ((signal - last) * (first / (first - last))) ** 2
    alphas = torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    return 1 - alphas


def trailing_timesteps(steps: int, train_steps: int = 1000) -> list[int]:
    """`steps` timesteps from the last one downwards, evenly spaced (arXiv 2305.08891, table 2)."""
    if not 1 <= steps <= train_steps:
        raise ValueError(f"sampling steps: got {steps}, expected 1 to {train_steps}")
    # Half-way values round to even, as numpy and so diffusers do.
    return [round(train_steps - index * train_steps / steps) - 1 for index in range(steps)]


def add_noise(sample: Tensor, noise: Tensor, timesteps: Tensor | int, schedule: NoiseSchedule) -> Tensor:
    """x_t from x_0 `sample` (b, ...) and `noise` of its shape."""
    signal_scale, noise_scale = schedule.scales(timesteps, sample)
    return signal_scale * sample + noise_scale * noise


def velocity(sample: Tensor, noise: Tensor, timesteps: Tensor | int, schedule: NoiseSchedule) -> Tensor:
    """Training target of v-prediction (arXiv 2202.00512): signal * eps - noise * x_0."""
    signal_scale, noise_scale = schedule.scales(timesteps, sample)
    return signal_scale * noise - noise_scale * sample


def to_sample(
    output: Tensor, noisy: Tensor, timesteps: Tensor | int, schedule: NoiseSchedule, prediction_type: str
) -> Tensor:
    """Model `output` at `noisy` (b, ...) to x_0. Raises ValueError on an unknown type, or epsilon where SNR is zero."""
    signal_scale, noise_scale = schedule.scales(timesteps, noisy)
    if prediction_type == "sample":
        return output
    if prediction_type == "v_prediction":
        return signal_scale * noisy - noise_scale * output
    if prediction_type != "epsilon":
        raise ValueError(f"prediction type: got {prediction_type!r}, expected one of {PREDICTION_TYPES}")
    if bool((signal_scale == 0).any()):
        raise ValueError("epsilon prediction says nothing of the sample at a timestep of zero SNR: use v_prediction")
    return (noisy - noise_scale * output) / signal_scale


def to_noise(sample: Tensor, noisy: Tensor, timesteps: Tensor | int, schedule: NoiseSchedule) -> Tensor:
    """eps from x_0 `sample` and x_t `noisy`."""
    signal_scale, noise_scale = schedule.scales(timesteps, noisy)
    return (noisy - signal_scale * sample) / noise_scale
