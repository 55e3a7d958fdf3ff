"""Noise schedules and samplers."""

import pytest
import torch
from torch import Tensor

from llia_core.sampling.consistency import boundary_scalings, consistency_function, sample_consistency
from llia_core.sampling.ddim import ddim_step, guide, sample_ddim
from llia_core.sampling.schedule import (
    add_noise,
    make_schedule,
    to_noise,
    to_sample,
    trailing_timesteps,
    velocity,
)

SCHEDULE = make_schedule("scaled_linear")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_last_timestep_is_pure_noise(kind: str) -> None:
    plain, rescaled = make_schedule(kind, zero_terminal_snr=False), make_schedule(kind)
    assert plain.alphas_cumprod[-1] > 1e-3
    assert rescaled.alphas_cumprod[-1] == 0
    assert torch.allclose(plain.alphas_cumprod[0], rescaled.alphas_cumprod[0])
    assert (rescaled.alphas_cumprod.diff() < 0).all()
    with pytest.raises(ValueError, match="cosine"):
        make_schedule("cosine")


def test_trailing_timesteps() -> None:
    assert trailing_timesteps(1) == [999]
    assert trailing_timesteps(4) == [999, 749, 499, 249]
    with pytest.raises(ValueError, match="got 0"):
        trailing_timesteps(0)


def test_conversions_invert_the_forward_process() -> None:
    x0, eps = randn(2, 3, 4, 5, 5), randn(2, 3, 4, 5, 5, seed=1)
    for timesteps in (torch.tensor([10, 700]), torch.tensor([[10, 20, 30], [700, 800, 900]]), 500):
        noisy = add_noise(x0, eps, timesteps, SCHEDULE)
        v = velocity(x0, eps, timesteps, SCHEDULE)
        for output, kind in ((v, "v_prediction"), (eps, "epsilon"), (x0, "sample")):
            assert torch.allclose(to_sample(output, noisy, timesteps, SCHEDULE, kind), x0, atol=1e-4)
        assert torch.allclose(to_noise(x0, noisy, timesteps, SCHEDULE), eps, atol=1e-4)
    assert torch.equal(add_noise(x0, eps, 999, SCHEDULE), eps)
    with pytest.raises(ValueError, match="zero SNR"):
        to_sample(eps, eps, 999, SCHEDULE, "epsilon")
    with pytest.raises(ValueError, match="flow"):
        to_sample(eps, eps, 500, SCHEDULE, "flow")


def test_boundary_condition() -> None:
    c_skip, c_out = boundary_scalings(torch.tensor([0, 999]))
    assert c_skip[0] == 1 and c_out[0] == 0
    assert c_skip[1] < 1e-6 and c_out[1] > 0.999999
    noisy, x0 = randn(2, 4), randn(2, 4, seed=1)
    mixed = consistency_function(x0, noisy, torch.tensor([0, 999]))
    assert torch.equal(mixed[0], noisy[0])
    assert torch.allclose(mixed[1], x0[1], atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_consistency_reaches_what_a_perfect_model_sees(steps: int) -> None:
    x0, seen = randn(1, 4, 16, 8, 8), []

    def predict(latents: Tensor, timestep: int) -> Tensor:
        seen.append((timestep, latents))
        return x0

    noise = [randn(1, 1, 16, 8, 8, seed=2 + i).expand_as(x0) for i in range(steps)]
    timesteps = trailing_timesteps(steps)
    out = sample_consistency(predict, noise[0], timesteps, SCHEDULE, noise[1:])
    assert torch.allclose(out, x0, atol=1e-2)
    assert [t for t, _ in seen] == timesteps
    for index, (timestep, latents) in enumerate(seen):
        assert torch.allclose(latents, add_noise(x0, noise[index], timestep, SCHEDULE), atol=1e-2)
    called = sample_consistency(predict, noise[0], timesteps, SCHEDULE, lambda index: noise[index + 1])
    assert torch.equal(called, out)


def test_consistency_errors() -> None:
    noise = randn(1, 4)
    for timesteps, step_noise, message in (
        ([], (), "got 0 timesteps"),
        (list(range(900, 0, -100)), (), "got 9 timesteps"),
        ([499, 999], [noise], "must fall"),
        ([999, 499], (), "got 0 step_noise tensors, expected 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_consistency(lambda x, t: x, noise, timesteps, SCHEDULE, step_noise)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_ddim_with_a_perfect_model_returns_the_sample(kind: str) -> None:
    x0, noise = randn(1, 2, 4, 8, 8), randn(1, 2, 4, 8, 8, seed=1)

    def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        eps = to_noise(x0, latents, timestep, SCHEDULE)
        return x0 if kind == "sample" else velocity(x0, eps, timestep, SCHEDULE)

    out = sample_ddim(predict, noise, trailing_timesteps(10), SCHEDULE, kind)
    assert torch.allclose(out, x0, atol=1e-3)


def test_guidance() -> None:
    calls = []

    def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        calls.append(conditional)
        return latents * (2.0 if conditional else 1.0)

    noise = randn(1, 4)
    assert torch.allclose(guide(torch.tensor(1.0), torch.tensor(2.0), 3.5), torch.tensor(4.5))
    guided = sample_ddim(predict, noise, [999], SCHEDULE, "sample", 3.5)
    assert torch.allclose(guided, noise * 4.5)
    assert calls == [True, False]
    calls.clear()
    assert torch.allclose(sample_ddim(predict, noise, [999], SCHEDULE, "sample", 1.0), noise * 2)
    assert calls == [True]


def test_ddim_stops_when_told() -> None:
    taken = []

    def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        taken.append(timestep)
        return latents

    sample_ddim(predict, randn(1, 4), [999, 749, 499, 249], SCHEDULE, "sample", 1.0, lambda: len(taken) == 2)
    assert taken == [999, 749]


def test_ddim_step_with_epsilon() -> None:
    x0, eps = randn(1, 4), randn(1, 4, seed=1)
    noisy = add_noise(x0, eps, 500, SCHEDULE)
    moved, seen = ddim_step(eps, noisy, 500, 250, SCHEDULE, "epsilon")
    assert torch.allclose(seen, x0, atol=1e-4)
    assert torch.allclose(moved, add_noise(x0, eps, 250, SCHEDULE), atol=1e-4)
