"""llia-tiny: shapes, streaming, reference cache, conditions; configs and autoencoders."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from llia_core.model import NAMED, AvatarModel, ModelConfig, build_autoencoder, build_reference_cache
from llia_core.model.config import TAESD

TINY = NAMED["llia-tiny"]
FRAMES = 16


@pytest.fixture(scope="module")
def model() -> AvatarModel:
    """Random weights everywhere, also where training starts from zero."""
    torch.manual_seed(0)
    model = AvatarModel(TINY).requires_grad_(False).to(memory_format=torch.channels_last)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def conditions(model: AvatarModel) -> dict[str, Tensor]:
    """A clip of two portraits at reduced latent size."""
    torch.manual_seed(1)
    tokens, pooled = model.audioproj(torch.randn(2, FRAMES, 5, 1, TINY.audio_projection.channels))
    return {
        "latents": torch.randn(2, FRAMES, 36, 16, 16),
        "audio_tokens": tokens,
        "audio_pooled": pooled,
        "labels": torch.arange(FRAMES).expand(2, -1) % 4,
        "face_feature": model.face_locator(torch.rand(2, 2, 64, 64)),
        "reference": build_reference_cache(
            model.reference_unet, model.denoising_unet, reference_latents(), project=True
        ),
    }


def reference_latents() -> Tensor:
    return torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(2))


def run(model: AvatarModel, conditions: dict, cut: slice = slice(None), motion: list | None = None, **changes: object):
    """One clip: frames `cut` of every condition that has frames."""
    per_frame = ("latents", "audio_tokens", "audio_pooled", "labels")
    given = conditions | changes
    given = {name: value[:, cut] if name in per_frame else value for name, value in given.items()}
    return model.denoising_unet(timesteps=torch.tensor([999, 499]), motion=motion, **given)


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("name", sorted(NAMED))
def test_config_round_trip(name: str) -> None:
    config = NAMED[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.name == name


def test_config_errors() -> None:
    data = TINY.to_dict()
    with pytest.raises(ValueError, match=r"config.denoiser.*unknown keys \['headz'\]"):
        ModelConfig.from_dict(data | {"denoiser": data["denoiser"] | {"headz": 3}})
    data.pop("resolution")
    with pytest.raises(ValueError, match=r"missing keys \['resolution'\]"):
        ModelConfig.from_dict(data)
    with pytest.raises(TypeError, match="got list"):
        ModelConfig.from_dict([])
    with pytest.raises(ValueError, match="motion_levels"):
        replace(TINY.denoiser, motion_levels=(True,))
    with pytest.raises(ValueError, match="block_out_channels"):
        replace(TINY.denoiser, block_out_channels=(48, 96, 100))
    with pytest.raises(ValueError, match="prediction_type"):
        replace(TINY, prediction_type="x")


def test_tiny_is_tiny(model: AvatarModel) -> None:
    assert sum(p.numel() for p in model.denoising_unet.parameters()) < 4e6
    assert TINY.latent_size == 32


def test_shapes(model: AvatarModel, conditions: dict) -> None:
    out, motion = run(model, conditions)
    assert out.shape == (2, FRAMES, 18, 16, 16)
    assert len(motion) == model.denoising_unet.motion_count == 4
    assert all(m.shape[:2] == (2, 4) for m in motion)


def test_clips_of_any_length_give_the_same_frames(model: AvatarModel, conditions: dict) -> None:
    whole, _ = run(model, conditions)
    parts, motion, start = [], None, 0
    for length in (1, 3, 7, 5):
        out, motion = run(model, conditions, slice(start, start + length), motion)
        parts.append(out)
        start += length
    assert start == FRAMES
    assert relative(torch.cat(parts, dim=1), whole) < 1e-4
    forgot, _ = run(model, conditions, slice(8, 16))
    assert relative(forgot, whole[:, 8:]) > 1e-3  # the carry matters


def test_later_frames_never_change_earlier_ones(model: AvatarModel, conditions: dict) -> None:
    whole, _ = run(model, conditions)
    latents = conditions["latents"].clone()
    latents[:, 9:] += 1
    changed, _ = run(model, conditions, latents=latents)
    assert relative(changed[:, :9], whole[:, :9]) < 1e-5
    assert relative(changed[:, 9:], whole[:, 9:]) > 1e-2


def test_window_reaches_back_no_further_than_its_length(model: AvatarModel) -> None:
    attention = model.denoising_unet.up_blocks[-1].motion_modules[0].temporal_transformer
    mask = attention.transformer_blocks[0].attention_blocks[0].mask(frames=3, past=4)
    assert torch.isfinite(mask[0]).tolist() == [
        [True] * 5 + [False] * 2,
        [False] + [True] * 5 + [False],
        [False] * 2 + [True] * 5,
    ]


def test_cached_reference_equals_features_projected_in_every_call(model: AvatarModel, conditions: dict) -> None:
    cached, _ = run(model, conditions)
    raw = build_reference_cache(model.reference_unet, model.denoising_unet, reference_latents(), project=False)
    assert raw.keys is None
    assert len(raw.features) == len(conditions["reference"].keys) == model.denoising_unet.spatial_count
    assert relative(run(model, conditions, reference=raw)[0], cached) < 1e-5
    absent = conditions["reference"].without_reference()
    assert relative(run(model, conditions, reference=absent)[0], cached) > 1e-3


@pytest.mark.parametrize("name", ["labels", "audio_tokens", "audio_pooled", "face_feature"])
def test_every_condition_changes_the_output(model: AvatarModel, conditions: dict, name: str) -> None:
    before, _ = run(model, conditions)
    value = conditions[name]
    other = (value + 1) % 4 if name == "labels" else torch.zeros_like(value)
    assert relative(run(model, conditions, **{name: other})[0], before) > 1e-3


def test_portraits_of_a_batch_are_independent(model: AvatarModel, conditions: dict) -> None:
    both, _ = run(model, conditions)
    swapped = build_reference_cache(model.reference_unet, model.denoising_unet, reference_latents().flip(0))
    mixed, _ = run(model, conditions, reference=replace(swapped, keys=[k.flip(0) for k in swapped.keys],
                                                        values=[v.flip(0) for v in swapped.values]))  # fmt: skip
    assert relative(mixed, both) < 1e-5
    assert relative(run(model, conditions, reference=swapped)[0], both) > 1e-3


def test_new_modules_start_as_identity() -> None:
    torch.manual_seed(0)
    fresh = AvatarModel(TINY).denoising_unet
    block = fresh.up_blocks[-1].motion_modules[0].temporal_transformer
    assert not block.proj_out.weight.any()
    assert not fresh.up_blocks[0].audio_modules[0].proj_out.weight.any()
    assert not fresh.class_embedding.weight.any()


def test_checkpoint_without_labels_loads_as_zeros(model: AvatarModel) -> None:
    state = {k: v for k, v in model.state_dict().items() if "class_embedding" not in k}
    other = AvatarModel(TINY)
    nn.init.ones_(other.denoising_unet.class_embedding.weight)
    other.load_state_dict(state, strict=True)
    assert not other.denoising_unet.class_embedding.weight.any()
    state.pop("denoising_unet.conv_out.weight")
    with pytest.raises(RuntimeError, match="conv_out"):
        other.load_state_dict(state, strict=True)


def test_layers_come_from_the_injected_namespace() -> None:
    class Counting:
        made = 0

        def __getattr__(self, name: str):
            def build(*args: object, **kwargs: object) -> nn.Module:
                Counting.made += 1
                return getattr(nn, name)(*args, **kwargs)

            return build

    model = AvatarModel(TINY, Counting())
    leaves = [
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.Embedding))
    ]
    assert Counting.made == len(leaves) > 100


def test_errors_name_what_was_expected(model: AvatarModel, conditions: dict) -> None:
    with pytest.raises(ValueError, match="got 5 channels, expected 36"):
        run(model, conditions, latents=torch.zeros(2, FRAMES, 5, 16, 16))
    with pytest.raises(ValueError, match="motion: got 1 tensors, expected 4"):
        run(model, conditions, motion=[torch.zeros(1)])
    with pytest.raises(ValueError, match="audio_pooled"):
        run(model, {k: v for k, v in conditions.items() if k != "audio_pooled"})
    with pytest.raises(ValueError, match="audio windows"):
        model.audioproj(torch.zeros(1, 1, 5, 1, 3))
    with pytest.raises(ValueError, match="reference latents"):
        model.reference_unet(torch.zeros(1, 3, 16, 16))


def test_gradients_reach_every_parameter_in_use(conditions: dict) -> None:
    torch.manual_seed(0)
    model = AvatarModel(TINY)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    tokens, pooled = model.audioproj(torch.randn(1, 5, 5, 1, TINY.audio_projection.channels))
    cache = build_reference_cache(model.reference_unet, model.denoising_unet, torch.randn(1, 16, 16, 16))
    out, _ = model.denoising_unet(
        torch.randn(1, 5, 36, 16, 16), torch.tensor([999]), tokens, cache, torch.tensor([[0, 1, 2, 3, 0]]), pooled,
        model.face_locator(torch.rand(1, 2, 64, 64)),
    )  # fmt: skip
    out.square().mean().backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # After the last banked features nothing of the ReferenceNet is computed.
    assert all(name.startswith("reference_unet.up_blocks.1.attentions.0.") for name in idle), sorted(idle)


def test_patch_autoencoder_starts_as_the_best_linear_reconstruction() -> None:
    torch.manual_seed(0)
    ae = build_autoencoder(TINY.autoencoder).requires_grad_(False)
    ramps = torch.linspace(-1, 1, 32).expand(8, 3, 32, 32) * torch.rand(8, 3, 1, 1) + torch.rand(8, 3, 1, 1) * 0.2
    ae.fit(ramps)
    latents = ae.encode(ramps)
    assert latents.shape == (8, 16, 8, 8)
    assert float((ae.decode(latents) - ramps).abs().max()) < 1e-3
    pixels = torch.randn(4, 3, 32, 32)
    ae.fit(pixels)
    latents = ae.encode(pixels)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-2
    with pytest.raises(ValueError, match="divisible by 4"):
        ae.encode(torch.zeros(1, 3, 30, 32))


def test_tiny_vae_shapes() -> None:
    ae = build_autoencoder(TAESD)
    with torch.no_grad():
        latents = ae.encode(torch.zeros(1, 3, 32, 32))
        assert latents.shape == (1, 4, 4, 4)
        assert ae.decode(latents).shape == (1, 3, 32, 32)


def test_sd15_is_the_papers_geometry() -> None:
    with torch.device("meta"):
        model = AvatarModel(NAMED["llia-sd15"])
    counts = {name: sum(p.numel() for p in child.parameters()) / 1e6 for name, child in model.named_children()}
    assert counts["reference_unet"] == pytest.approx(859.5, abs=0.1)
    assert counts["denoising_unet"] == pytest.approx(1525, abs=1)
    assert counts["audioproj"] == pytest.approx(36.5, abs=0.5)
