"""The same numbers as diffusers' reference implementations, from the same random weights at small width."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from llia_core.model import NAMED, Denoiser, ReferenceUNet, build_autoencoder
from llia_core.model.config import SD_VAE, TAESD
from llia_core.sampling.consistency import sample_consistency
from llia_core.sampling.ddim import sample_ddim
from llia_core.sampling.schedule import make_schedule, trailing_timesteps

diffusers = pytest.importorskip("diffusers")

WIDTHS = (16, 24, 32, 32)
SMALL = replace(
    NAMED["llia-sd15"].denoiser,
    block_out_channels=WIDTHS,
    attention_heads=4,
    norm_num_groups=8,
    cross_attention_dim=48,
    audio_attention_dim=40,
)


def close(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Largest error relative to the largest value."""
    assert got.shape == want.shape
    error = float((got - want).abs().max() / want.abs().max())
    assert error < tolerance, f"relative error {error:.2e}, expected below {tolerance}"


def reference_implementation(scale_shift: bool) -> nn.Module:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        block_out_channels=WIDTHS,
        attention_head_dim=4,  # a head count, see the library's own note
        norm_num_groups=8,
        cross_attention_dim=48,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    ).requires_grad_(False)


@pytest.mark.parametrize("scale_shift", [False, True])
def test_denoiser_without_motion_and_audio(scale_shift: bool) -> None:
    theirs = reference_implementation(scale_shift)
    ours = Denoiser(replace(SMALL, time_scale_shift=scale_shift)).requires_grad_(False)
    absent, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert all("audio_modules" in name or "motion_modules" in name for name in absent)
    for name, parameter in ours.named_parameters():
        if "audio_modules" in name and ".proj_out." in name:
            nn.init.zeros_(parameter)
    latents, tokens = torch.randn(2, 3, 4, 16, 24), torch.randn(2, 4, 48)
    timesteps = torch.tensor([[999, 500, 0], [1, 2, 3]])
    masks = [torch.ones(1, 3, (16 >> level) * (24 >> level)) for level in range(4)]
    got, _ = ours(latents, timesteps, torch.zeros(2, 3, 5, 40), image_tokens=tokens, audio_masks=masks)
    want = theirs(latents.flatten(0, 1), timesteps.flatten(), tokens.repeat_interleave(3, dim=0)).sample
    close(got.flatten(0, 1), want)


def test_denoiser_at_a_size_that_does_not_halve_evenly() -> None:
    theirs, ours = reference_implementation(False), Denoiser(SMALL).requires_grad_(False)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    for name, parameter in ours.named_parameters():
        if "audio_modules" in name and ".proj_out." in name:
            nn.init.zeros_(parameter)
    latents, tokens = torch.randn(1, 1, 4, 10, 13), torch.randn(1, 4, 48)
    masks = [torch.ones(1, 3, h * w) for h, w in ((10, 13), (5, 7), (3, 4), (2, 2))]
    got, _ = ours(latents, torch.tensor([7]), torch.zeros(1, 1, 5, 40), image_tokens=tokens, audio_masks=masks)
    close(got[0], theirs(latents[0], 7, tokens).sample)


def test_reference_unet() -> None:
    theirs = reference_implementation(False)
    ours = ReferenceUNet(SMALL.reference(4)).requires_grad_(False)
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith(("conv_norm_out", "conv_out"))}
    ours.load_state_dict(state, strict=True)
    seen = []
    theirs.conv_norm_out.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    latents, tokens = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 48)
    theirs(latents, 0, tokens)
    close(ours(latents, tokens, complete=True)[1], seen[0])


def test_autoencoder_kl() -> None:
    torch.manual_seed(0)
    widths = (8, 16, 16, 24)
    theirs = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=2,
        norm_num_groups=4,
    ).requires_grad_(False)
    ours = build_autoencoder(replace(SD_VAE, block_out_channels=widths, norm_num_groups=4)).requires_grad_(False)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    posterior = theirs.encode(images).latent_dist
    mean, deviation = ours.encode_distribution(images)
    close(mean / 0.18215, posterior.mean)
    close(deviation / 0.18215, posterior.std)
    close(ours.encode(images), mean, 1e-6)
    close(ours.decode(mean), theirs.decode(posterior.mean).sample)


def test_autoencoder_tiny() -> None:
    torch.manual_seed(0)
    widths = (8, 8, 8, 8)
    theirs = diffusers.AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)
    ours = build_autoencoder(replace(TAESD, block_out_channels=widths)).requires_grad_(False)
    theirs.requires_grad_(False)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    close(ours.encode(images), theirs.encode(images).latents)
    latents = torch.randn(2, 4, 4, 6)
    close(ours.decode(latents), theirs.decode(latents).sample)


SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", rescale_betas_zero_snr=True)


def fake_model(latents: Tensor, timestep: int) -> Tensor:
    return torch.sin(latents * 2 + timestep / 300)


# The last two: timesteps so low that the boundary scalings matter.
@pytest.mark.parametrize("timesteps", [*map(trailing_timesteps, (1, 2, 4, 8)), [999, 19, 1], [999, 3, 0]])
def test_consistency_sampling(timesteps: list[int]) -> None:
    scheduler = diffusers.LCMScheduler(**SCHEDULER, prediction_type="sample")
    steps = len(timesteps)
    # Any timesteps may be asked for; the library only warns of those its own training grid lacks.
    scheduler.set_timesteps(timesteps=timesteps)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    step_noise = [torch.randn(noise.shape, generator=generator) for _ in range(steps - 1)]
    got = sample_consistency(fake_model, noise, timesteps, make_schedule("linear"), step_noise)
    latents, generator = noise, torch.Generator().manual_seed(2)
    for timestep in scheduler.timesteps:
        output = fake_model(latents, int(timestep))
        step = scheduler.step(output, timestep, latents, generator=generator)
        latents = step.prev_sample
    close(got, step.denoised)


@pytest.mark.parametrize("steps", [4, 30])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_ddim_sampling(steps: int, prediction_type: str) -> None:
    scheduler = diffusers.DDIMScheduler(
        **SCHEDULER, prediction_type=prediction_type, timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(steps)
    timesteps = trailing_timesteps(steps)
    assert timesteps == scheduler.timesteps.tolist()
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        return fake_model(latents, timestep)

    got = sample_ddim(predict, noise, timesteps, make_schedule("linear"), prediction_type, guidance_scale=1.0)
    latents = noise
    for timestep in scheduler.timesteps:
        latents = scheduler.step(fake_model(latents, int(timestep)), timestep, latents).prev_sample
    close(got, latents)
