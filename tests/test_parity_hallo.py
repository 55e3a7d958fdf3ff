"""The network against outputs of Hallo v1's original code with small random weights.

The vectors are a folder with config_A.json, weights_A.safetensors, io_A.safetensors: environment variable LLIA_PARITY,
or ../shared/parity beside the repository.
"""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from llia_core.model import NAMED, AvatarModel, ModelConfig, ReferenceCache, audio_windows, build_reference_cache
from llia_core.model.layers import Context, timestep_features
from llia_core.model.reference import cache_features
from llia_core.sampling.ddim import ddim_step, guide, sample_ddim
from llia_core.sampling.schedule import make_schedule, trailing_timesteps

FOLDER = Path(os.environ.get("LLIA_PARITY", Path(__file__).resolve().parents[2] / "shared" / "parity"))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "io_A.safetensors").is_file(),
    reason=f"no parity vectors in {FOLDER}: set LLIA_PARITY to their folder",
)


def parity_config(data: dict) -> ModelConfig:
    """llia-sd15 at the widths of the vectors."""
    base = NAMED["llia-sd15"]
    denoiser = replace(
        base.denoiser,
        block_out_channels=tuple(data["block_out_channels"]),
        attention_heads=data["heads"],
        motion_heads=data["motion_heads"],
        norm_num_groups=data["norm_num_groups"],
        cross_attention_dim=data["cross_attention_dim"],
        audio_attention_dim=data["audio_attention_dim"],
        motion_positions=data["motion_max_len"],
    )
    audio = data["audio"]
    return replace(
        base,
        denoiser=denoiser,
        audio_projection=replace(
            base.audio_projection,
            window=audio["seq_len"],
            layers=audio["blocks"],
            channels=audio["channels"],
            intermediate_dim=audio["intermediate_dim"],
            tokens=audio["context_tokens"],
            token_channels=data["audio_attention_dim"],
        ),
        face_locator=replace(base.face_locator, channels=tuple(data["face_locator_channels"])),
        image_projection=replace(
            base.image_projection,
            embed_dim=data["image_embed_dim"],
            tokens=data["image_tokens"],
            token_channels=data["cross_attention_dim"],
        ),
    )


@pytest.fixture(scope="module")
def model() -> AvatarModel:
    config = parity_config(json.loads((FOLDER / "config_A.json").read_text()))
    model = AvatarModel(config).eval().requires_grad_(False)
    model.load_state_dict(load_file(FOLDER / "weights_A.safetensors"), strict=True)
    return model


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(FOLDER / "io_A.safetensors")


@pytest.fixture(scope="module")
def setup(model: AvatarModel, io: dict[str, Tensor]) -> "Setup":
    return Setup(model, io, "")


def close(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Largest error relative to the largest value."""
    assert got.shape == want.shape
    error = float((got - want).abs().max() / want.abs().max())
    assert error < tolerance, f"relative error {error:.2e}, expected below {tolerance}"


def video(x: Tensor) -> Tensor:
    """The original's (b, c, f, h, w) to (b, f, c, h, w), and back."""
    return x.transpose(1, 2)


def flat(x: Tensor) -> Tensor:
    """(1, c, f, h, w) -> (f, c, h, w)."""
    return video(x).flatten(0, 1)


class Setup:
    """Conditions of the unet.* and pipe.* runs, with ours in every place."""

    def __init__(self, model: AvatarModel, io: dict[str, Tensor], prefix: str) -> None:
        self.model, self.io, self.prefix = model, io, prefix
        self.tokens = model.imageproj(self.given("imageproj.in"))
        self.audio, _ = model.audioproj(self.given("audioproj.in"))
        self.face = model.face_locator(self.given("face_region"))
        self.masks = [
            torch.stack([self.given(f"mask.{kind}.{level}") for kind in ("full", "face", "lip")], 1)
            for level in range(4)
        ]
        self.scale = tuple(self.given("motion_scale").tolist())
        self.cache = self.reference(self.tokens)

    def given(self, name: str) -> Tensor:
        return self.io[f"in:{self.prefix}{name}"]

    def reference(self, tokens: Tensor, project: bool = True) -> ReferenceCache:
        net, latents = self.model, self.given("ref.latents")
        return build_reference_cache(
            net.reference_unet, net.denoising_unet, latents[:1], tokens, latents[None, 1:], project
        )

    def denoise(self, latents: Tensor, timestep: int, **changes: object) -> Tensor:
        conditions = dict(
            audio_tokens=self.audio, reference=self.cache, face_feature=self.face, image_tokens=self.tokens,
            audio_masks=self.masks, audio_scale=self.scale,
        ) | changes  # fmt: skip
        out, carry = self.model.denoising_unet(latents, torch.tensor([timestep]), **conditions)
        assert carry == []
        return out

    def context(self, frames: int, **changes: object) -> Context:
        return Context(batch=1, frames=frames, time=torch.zeros(1), audio_scale=self.scale, **changes)


def test_every_key_and_shape_at_real_width() -> None:
    with gzip.open(FOLDER / "keys_A_and_real_width.json.gz", "rt") as file:
        keys = json.load(file)
    with torch.device("meta"):
        model = AvatarModel(NAMED["llia-sd15"])
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours.pop("denoising_unet.class_embedding.weight") == [4, 1280]
    assert ours == {name: shapes["real"] for name, shapes in keys.items()}


def test_projections(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    close(setup.tokens, io["out:imageproj.out"])
    close(model.imageproj(torch.zeros(1, 64)), io["out:imageproj.out_zero"])
    close(setup.audio, io["out:audioproj.out"])
    close(audio_windows(io["in:audio_window.in"]), io["out:audio_window.out"])
    close(model.face_locator(flat(io["in:face_locator.in"])), flat(io["out:face_locator.out"]))
    close(setup.face, io["out:face_region.out"][:, :, 0])


def test_time_embedding(io: dict[str, Tensor], model: AvatarModel) -> None:
    close(timestep_features(io["in:time.t"], 16), io["out:time.sinusoid"])
    close(model.denoising_unet.embed_time(io["in:time.t"], torch.float32), io["out:time.emb"])


@pytest.mark.parametrize("size", ["", "_small"])
def test_resnet(io: dict[str, Tensor], model: AvatarModel, size: str) -> None:
    resnet = model.denoising_unet.down_blocks[1].resnets[0]
    time = torch.nn.functional.silu(io["in:resnet.temb"])
    close(resnet(flat(io[f"in:resnet.in{size}"]), time), flat(io[f"out:resnet.out{size}"]))


@pytest.mark.parametrize("size", ["", "_small"])
def test_motion_module(io: dict[str, Tensor], model: AvatarModel, size: str) -> None:
    module = model.denoising_unet.down_blocks[1].motion_modules[0]
    frames, want = flat(io[f"in:motion.in{size}"]), flat(io[f"out:motion.out{size}"])
    close(module.temporal_transformer.bidirectional_forward(frames, batch=1), want)
    past = [torch.zeros(0)] * module.index + [frames[None, :2]]
    context = Context(batch=1, frames=4, time=torch.zeros(1), motion=past)
    close(module(frames[2:], context), want[2:])


@pytest.mark.parametrize("size", ["", "_small"])
def test_audio_module(setup: Setup, io: dict[str, Tensor], model: AvatarModel, size: str) -> None:
    module = model.denoising_unet.down_blocks[1].audio_modules[0]
    context = setup.context(4, audio_tokens=io["in:audio_module.audio"][0], audio_masks=setup.masks)
    close(module(flat(io[f"in:audio_module.in{size}"]), context, 1), flat(io[f"out:audio_module.out{size}"]))


def test_audio_block(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    block = model.denoising_unet.down_blocks[1].audio_modules[0].transformer_blocks[0]
    context = setup.context(4, audio_tokens=io["in:audio_module.audio"][0])
    close(block(io["in:audio_block.in"], context, setup.masks[1]), io["out:audio_block.out"])
    context.audio_scale = (1.0, 1.0, 1.0)
    close(block(io["in:audio_block.in"], context, setup.masks[1]), io["out:audio_block.out_noscale"])


def test_spatial_transformer(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    module = model.denoising_unet.down_blocks[1].attentions[0]
    bank, others = io["in:spatial.bank"], model.denoising_unet.spatial_count
    cache = ReferenceCache(features=[bank[:1]] * others)
    context = setup.context(4, image_tokens=setup.tokens.expand(4, -1, -1), reference=cache)
    close(module(flat(io["in:spatial.in"]), context), flat(io["out:spatial.out"]))
    keys, values = module.transformer_blocks[0].project_reference(bank[:1])
    context.reference = ReferenceCache(keys=[keys] * others, values=[values] * others)
    close(module(flat(io["in:spatial.in"]), context), flat(io["out:spatial.out"]))
    maps = cache_features(model.denoising_unet, [bank], [(8, 8)], rows=3, project=False).motion_maps[0]
    close(maps.flatten(3).transpose(2, 3), io["out:spatial.motion"])


def test_reference_unet(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    tokens = setup.tokens.expand(3, -1, -1)
    features, hidden = model.reference_unet(io["in:ref.latents"], tokens, complete=True)
    close(hidden, io["out:ref.out"])
    banked = [f"down_blocks.{level}.attentions.{index}" for level in range(3) for index in range(2)]
    banked += ["mid_block.attentions.0"]
    banked += [f"up_blocks.{level}.attentions.{index}" for level in (1, 2, 3) for index in range(3)]
    for name, feature in zip(banked, features, strict=True):
        close(feature, io[f"out:bank.{name}"])
    quick, _ = model.reference_unet(io["in:ref.latents"], tokens)
    close(quick[-1], features[-1])


@pytest.mark.parametrize("timestep", [999, 249])
def test_denoiser(setup: Setup, io: dict[str, Tensor], timestep: int) -> None:
    latents = video(io["in:unet.latents"])
    close(video(setup.denoise(latents, timestep)), io[f"out:unet.out.t{timestep}"])


def test_denoiser_variants(setup: Setup, io: dict[str, Tensor]) -> None:
    latents = video(io["in:unet.latents"])
    want = io["out:unet.out.t249"]
    close(video(setup.denoise(latents, 249, reference=setup.reference(setup.tokens, project=False))), want)
    close(video(setup.denoise(latents, 249, audio_scale=(1.0, 1.0, 1.0))), io["out:unet.out.t249.scale1"])
    cache = ReferenceCache(**vars(setup.reference(setup.tokens, project=False)))
    cache.features = [f.half().float() for f in cache.features]
    cache.motion_maps = [m.half().float() for m in cache.motion_maps]
    close(video(setup.denoise(latents, 249, reference=cache)), io["out:unet.out.t249.bank16"], 5e-4)


def test_denoiser_activations(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    prefix, seen, hooks = "out:unet.act.t249.", {}, []
    names = [name for name in io if name.startswith(prefix)]
    for name in names:
        module = model.denoising_unet.get_submodule(name.removeprefix(prefix))
        hooks.append(module.register_forward_hook(lambda _m, _a, out, name=name: seen.__setitem__(name, out)))
    setup.denoise(video(io["in:unet.latents"]), 249)
    for hook in hooks:
        hook.remove()
    assert len(names) == 10
    for name in names:
        close(video(seen[name][None]), io[name])


@pytest.mark.parametrize("timestep", [999, 249])
def test_denoiser_not_square(io: dict[str, Tensor], model: AvatarModel, timestep: int) -> None:
    wide = Setup(model, io, "nonsq.")
    close(video(wide.denoise(video(wide.given("unet.latents")), timestep)), io[f"out:nonsq.unet.out.t{timestep}"])


def test_schedule(io: dict[str, Tensor]) -> None:
    schedule = make_schedule("linear")
    close(schedule.betas, io["out:sched.betas"], 1e-5)
    close(schedule.alphas_cumprod, io["out:sched.alphas_cumprod"], 1e-6)
    close(make_schedule("scaled_linear").alphas_cumprod, io["out:sched_train.alphas_cumprod"], 1e-6)
    for steps in (4, 10, 15, 20, 25, 30, 40, 50):
        assert trailing_timesteps(steps) == io[f"out:sched.timesteps.{steps}"].tolist()
    for timestep in (999, 974, 499, 24):
        got, x0 = ddim_step(io["in:step.v"], io["in:step.sample"], timestep, timestep - 25, schedule, "v_prediction")
        close(got, io[f"out:step.out.t{timestep}"], 1e-5)
        close(x0, io[f"out:step.x0.t{timestep}"], 1e-5)
    timestep = int(io["out:step30.t"])
    got, _ = ddim_step(io["in:step.v"], io["in:step.sample"], timestep, timestep - 33, schedule, "v_prediction")
    close(got, io["out:step30.out"], 1e-5)


def test_guided_sampling(setup: Setup, io: dict[str, Tensor], model: AvatarModel) -> None:
    """The pipeline with its two guidance faults corrected: `pipe.aligned`."""
    zero_tokens = model.imageproj(torch.zeros(1, 64))
    absent = dict(
        reference=setup.reference(zero_tokens).without_reference(), image_tokens=zero_tokens,
        audio_tokens=torch.zeros_like(setup.audio), face_feature=torch.zeros_like(setup.face),
    )  # fmt: skip

    def predict(latents: Tensor, timestep: int, conditional: bool) -> Tensor:
        return setup.denoise(latents, timestep, **({} if conditional else absent))

    schedule, noise = make_schedule("linear"), video(io["out:pipe.noise"])
    first, second = trailing_timesteps(40)[:2]
    halves = torch.cat([predict(noise, first, False), predict(noise, first, True)])
    close(video(halves), io["out:pipe.aligned.step0.pred"])
    guided = guide(halves[:1], halves[1:], 3.5)
    latents, _ = ddim_step(guided, noise, first, first - 25, schedule, "v_prediction")
    close(video(latents), io["out:pipe.aligned.latents1"], 5e-4)
    guided = guide(predict(latents, second, False), predict(latents, second, True), 3.5)
    latents, _ = ddim_step(guided, latents, second, second - 25, schedule, "v_prediction")
    close(video(latents), io["out:pipe.aligned.latents2"], 5e-4)
    # sample_ddim is the same loop: cut after the second step.
    stops = iter([False, True])
    sampled = sample_ddim(predict, noise, trailing_timesteps(40), schedule, should_stop=lambda: next(stops))
    close(sampled, latents, 1e-5)
