"""Few-step sampling with a consistency model: latent consistency models (arXiv 2310.04378), no guidance."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .schedule import NoiseSchedule, add_noise, to_noise

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
MAX_STEPS = 8


def boundary_scalings(timesteps: Tensor | int) -> tuple[Tensor, Tensor]:
    """c_skip and c_out, float32, shaped as `timesteps`: the consistency function is the identity at timestep 0."""
    scaled = torch.as_tensor(timesteps).float() * TIMESTEP_SCALING
    total = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, scaled / total.sqrt()


def consistency_function(x0: Tensor, noisy: Tensor, timesteps: Tensor | int) -> Tensor:
    """c_skip(t) * x_t + c_out(t) * x_0 for x0, noisy (b, ...) and timesteps an int, (b,) or (b, f)."""
    c_skip, c_out = (c.to(noisy).reshape(*c.shape, *(1,) * (noisy.ndim - c.ndim)) for c in boundary_scalings(timesteps))
    return c_skip * noisy + c_out * x0


def sample_consistency(
    predict_x0: Callable[[Tensor, int], Tensor],
    noise: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    step_noise: Sequence[Tensor] | Callable[[int], Tensor] = (),
) -> Tensor:
    """Denoise `noise` (b, ...) in len(timesteps) steps, 1 to 8: predict x_0, add noise for the next timestep, repeat.

    predict_x0(latents, timestep) -> x_0 of the same shape. timesteps: strictly falling. step_noise: what is added after
    step i, as a sequence or a function of i; the caller shares one pattern among all frames of a session, since fresh
    noise at every clip flickers. It is unused with one step.
    Raises ValueError on a step count out of range, timesteps that do not fall, or too little noise.
    """
    steps = len(timesteps)
    _check(timesteps, step_noise)
    latents = noise
    for index, timestep in enumerate(timesteps):
        denoised = consistency_function(predict_x0(latents, timestep), latents, timestep)
        if index + 1 < steps:
            fresh = step_noise(index) if callable(step_noise) else step_noise[index]
            latents = add_noise(denoised, fresh.to(denoised), timesteps[index + 1], schedule)
    return denoised


def sample_tcd(
    predict_x0: Callable[[Tensor, int], Tensor],
    noise: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    step_noise: Sequence[Tensor] | Callable[[int], Tensor] = (),
    gamma: float = 0.3,
) -> Tensor:
    """Strategic stochastic sampling of trajectory consistency distillation (arXiv 2402.19159), 1 to 8 steps.

    gamma 0: deterministic; 1: as consistency sampling without boundary scalings. The other parameters and errors are
    those of sample_consistency.
    """
    _check(timesteps, step_noise)
    latents = noise
    for index, timestep in enumerate(timesteps):
        x0 = predict_x0(latents, timestep)
        if index + 1 == len(timesteps):
            return x0
        following = timesteps[index + 1]
        signal, deviation = schedule.scales(int((1 - gamma) * following), latents)
        latents = signal * x0 + deviation * to_noise(x0, latents, timestep, schedule)
        if gamma:
            ratio = schedule.scales(following, latents)[0] / signal
            fresh = step_noise(index) if callable(step_noise) else step_noise[index]
            latents = ratio * latents + (1 - ratio**2).sqrt() * fresh.to(latents)
    return latents


def _check(timesteps: Sequence[int], step_noise: Sequence[Tensor] | Callable[[int], Tensor]) -> None:
    steps = len(timesteps)
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"consistency sampling: got {steps} timesteps, expected 1 to {MAX_STEPS}")
    if any(after >= before for before, after in zip(timesteps[:-1], timesteps[1:], strict=True)):
        raise ValueError(f"consistency sampling: timesteps must fall, got {list(timesteps)}")
    if not callable(step_noise) and len(step_noise) < steps - 1:
        raise ValueError(f"consistency sampling: got {len(step_noise)} step_noise tensors, expected {steps - 1}")
