"""DDIM (arXiv 2010.02502, eta 0) with classifier-free guidance (arXiv 2207.12598), for teacher weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .schedule import NoiseSchedule, to_noise, to_sample


def ddim_step(
    output: Tensor, latents: Tensor, timestep: int, previous: int, schedule: NoiseSchedule, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """One deterministic step from `timestep` to `previous` (below 0: to the clean sample).

    output, latents (b, ...). Returns the latents at `previous` and the predicted x_0.
    """
    x0 = to_sample(output, latents, timestep, schedule, prediction_type)
    if previous < 0:
        return x0, x0
    eps = output if prediction_type == "epsilon" else to_noise(x0, latents, timestep, schedule)
    signal_scale, noise_scale = schedule.scales(previous, latents)
    return signal_scale * x0 + noise_scale * eps, x0


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: scale 1 is the conditional prediction."""
    return torch.lerp(unconditional, conditional, scale)


def sample_ddim(
    predict: Callable[[Tensor, int, bool], Tensor],
    noise: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    prediction_type: str = "v_prediction",
    guidance_scale: float = 3.5,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Denoise `noise` (b, ...) along `timesteps` (see schedule.trailing_timesteps).

    predict(latents, timestep, conditional) -> model output. The unconditional call must read no reference, zero audio
    tokens, a zero face feature and the image tokens of a zero embedding; motion frames stay. It is left out at scale 1.
    The stride to the previous timestep is train_steps // steps, as in diffusers. Stops early, after the running step,
    when should_stop() says so.
    """
    stride = schedule.train_steps // len(timesteps)
    latents = noise
    for timestep in timesteps:
        output = predict(latents, timestep, True)
        if guidance_scale != 1.0:
            output = guide(predict(latents, timestep, False), output, guidance_scale)
        latents, _ = ddim_step(output, latents, timestep, timestep - stride, schedule, prediction_type)
        if should_stop():
            break
    return latents
