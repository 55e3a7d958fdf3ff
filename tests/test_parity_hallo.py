"""The network against outputs of Hallo v1's original code with small random weights.

tests/data/parity holds a part of them. The whole set is a folder with config_*.json, weights_*.safetensors and
io_*.safetensors: environment variable LLIA_PARITY, or ../shared/parity beside the repository.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llia_core.model import NAMED, AvatarModel
from llia_core.model.prepared import fold_image, prepare
from llia_core.sampling.ddim import sample_ddim
from llia_core.sampling.schedule import trailing_timesteps
from scripts.parity import compare, config_from, load_vectors, relative_error
from scripts.parity_checks import GUIDANCE, STEPS, guided_run
from scripts.parity_vectors import Setting, Vectors, swap

ROOT = Path(__file__).resolve().parent.parent
PART = ROOT / "tests" / "data" / "parity"
FULL = Path(os.environ.get("LLIA_PARITY", ROOT.parent / "shared" / "parity"))
needs_full_set = pytest.mark.skipif(
    not any(FULL.glob("io_*.safetensors")), reason=f"no whole set of parity vectors in {FULL}: set LLIA_PARITY"
)


@pytest.fixture(scope="module")
def full() -> Vectors:
    return load_vectors(FULL)


def outputs(folder: Path) -> list[str]:
    from safetensors import safe_open

    paths = sorted(folder.glob("io_*.safetensors"))
    if not paths:
        return []
    with safe_open(paths[0], "pt") as file:
        return sorted(key.removeprefix("out:") for key in file.keys() if key.startswith("out:"))  # noqa: SIM118


def check(vectors: Vectors) -> None:
    results = list(compare(vectors))
    bad = [f"{r.name}: {r.error:.2e} of {r.tolerance:.0e} {r.problem}" for r in results if not r.good]
    assert not bad, "\n".join(bad)
    assert [r.name for r in results] == outputs_of(vectors)


def outputs_of(vectors: Vectors) -> list[str]:
    return sorted(key.removeprefix("out:") for key in vectors.io if key.startswith("out:"))


def test_the_committed_part() -> None:
    assert len(outputs(PART)) > 80
    assert sum(path.stat().st_size for path in PART.iterdir()) < 3_000_000
    check(load_vectors(PART))


@needs_full_set
def test_every_output_of_the_whole_set(full: Vectors) -> None:
    """Components, ReferenceNet, denoiser, guided steps, and the original's quirks one by one."""
    check(full)
    assert {"pipe.asis.latents2", "pipe.aligned.latents2", "unet.out.t249.evalpath"} <= set(outputs_of(full))


@needs_full_set
def test_prepared_conditions_give_the_same_numbers(full: Vectors) -> None:
    setting, unet = full.plain, full.model.denoising_unet
    latents = full.given("unet.latents")
    with torch.inference_mode():
        heard = prepare(unet, fold_image(unet, setting.tokens), setting.audio[0], setting.masks, setting.scale)
        nothing = dict(audio_tokens=None, image_tokens=None, audio_masks=None)
        got = setting.denoise(latents, 249, prepared=heard, **nothing)
        assert relative_error(got, full.io["out:unet.out.t249"]) < 1e-4
        untold = dict(face_feature=None, reference=setting.cache.without_reference())
        zeros = dict(audio_tokens=torch.zeros_like(setting.audio), image_tokens=setting.zero_tokens)
        want = setting.denoise(latents, 249, **untold, **zeros)
        deaf = prepare(unet, fold_image(unet, setting.zero_tokens), None, setting.masks, setting.scale)
        assert relative_error(setting.denoise(latents, 249, prepared=deaf, **untold, **nothing), want) < 1e-4


@needs_full_set
def test_the_sampler_is_the_loop_of_single_steps(full: Vectors) -> None:
    with torch.inference_mode():
        _, after = guided_run(full, "aligned", STEPS, 2)
        setting: Setting = full.plain
        absent = dict(
            audio_tokens=torch.zeros_like(setting.audio), face_feature=None, image_tokens=setting.zero_tokens,
            reference=setting.cache.without_reference(),
        )  # fmt: skip

        def predict(latents: torch.Tensor, timestep: int, conditional: bool) -> torch.Tensor:
            if conditional:
                return swap(setting.denoise(swap(latents), timestep))
            # The motion frames of the uninformed half are seen with its own image tokens.
            cache = uninformed(setting)
            return swap(setting.denoise(swap(latents), timestep, **(absent | {"reference": cache})))

        stops = iter([False, True])
        noise = swap(full.io["out:pipe.noise"])
        got = sample_ddim(
            predict, noise, trailing_timesteps(STEPS), full.schedule, guidance_scale=GUIDANCE,
            should_stop=lambda: next(stops),
        )  # fmt: skip
    assert relative_error(swap(got), after[1]) < 5e-4


def uninformed(setting: Setting):
    from llia_core.model import build_reference_cache

    net, (portrait, motion) = setting.model, setting.latents
    cache = build_reference_cache(net.reference_unet, net.denoising_unet, portrait, setting.zero_tokens, motion)
    return cache.without_reference()


@needs_full_set
def test_every_key_and_shape_at_real_width() -> None:
    with gzip.open(next(FULL.glob("keys_*.json.gz")), "rt") as file:
        keys = json.load(file)
    with torch.device("meta"):
        model = AvatarModel(NAMED["llia-sd15"])
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours.pop("denoising_unet.class_embedding.weight") == [4, 1280]
    assert ours == {name: shapes["real"] for name, shapes in keys.items()}


def run_script(folder: Path, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "parity.py"), "--set", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_script_tells_right_from_wrong(tmp_path: Path) -> None:
    """Exit 0 on the set as it is; 1 if one output or weight is off or unknown; 2 if it cannot be read."""
    for path in PART.glob("*_A.*"):
        (tmp_path / path.name.replace("_A", "_other")).write_bytes(path.read_bytes())
    done = run_script(tmp_path)
    assert done.returncode == 0 and "outputs within tolerance" in done.stdout, done.stdout + done.stderr
    io = load_file(tmp_path / "io_other.safetensors")
    save_file(io | {"out:audioproj.out": io["out:audioproj.out"] * 1.001}, tmp_path / "io_other.safetensors")
    done = run_script(tmp_path)
    assert done.returncode == 1 and "FAIL" in done.stdout and "audioproj.out" in done.stdout
    vectors = load_vectors(PART)
    vectors.io["out:of.another.world"] = torch.zeros(1)
    vectors.model.audioproj.proj1.weight.zero_()
    wrong = {r.name: r.problem for r in compare(vectors) if not r.good}
    assert "audioproj.out" in wrong and wrong["of.another.world"] == "not known here"
    (tmp_path / "weights_other.safetensors").unlink()
    assert run_script(tmp_path).returncode == 2


def test_lacking_weights_cannot_pass() -> None:
    vectors = load_vectors(PART)
    assert vectors.model.denoising_unet.conv_in.weight.isnan().all()


def test_sizes_come_from_the_config() -> None:
    """A set of other sizes throughout; the numbers are our own, so only the sizes are tested."""
    data = json.loads((PART / "config_A.json").read_text()) | {
        "block_out_channels": [12, 18, 24, 24], "heads": 3, "motion_heads": 6, "norm_num_groups": 6,
        "cross_attention_dim": 20, "audio_attention_dim": 28, "motion_max_len": 24, "image_embed_dim": 30,
        "image_tokens": 3, "face_locator_channels": [4, 6, 8, 10], "frames": 5, "motion_frames": 3,
        "audio": {"seq_len": 3, "blocks": 4, "channels": 6, "intermediate_dim": 10, "context_tokens": 7},
    }  # fmt: skip
    torch.manual_seed(0)
    model = AvatarModel(config_from(data)).eval().requires_grad_(False)
    side, io = 16, {}
    io["in:imageproj.in"], io["in:audioproj.in"] = torch.randn(1, 30), torch.randn(1, 5, 3, 4, 6)
    io["in:face_region"], io["in:motion_scale"] = torch.rand(1, 3, 8 * side, 8 * side), torch.ones(3)
    io["in:ref.latents"], io["in:unet.latents"] = torch.randn(4, 4, side, side), torch.randn(1, 4, 5, side, side)
    for level in range(4):
        io |= {f"in:mask.{kind}.{level}": torch.rand(1, (side >> level) ** 2) for kind in ("full", "face", "lip")}
    io["out:pipe.noise"] = torch.randn(1, 4, 5, side, side)
    names = ("unet.out.t77", "pipe.asis.step0.pred", "pipe.asis.latents1", "imageproj.out", "audioproj.out", "ref.out")
    vectors = Vectors(data, model, io | {f"out:{name}": torch.zeros(1) for name in names})
    shapes = {r.name: r.problem for r in compare(vectors)}
    expected = {
        "unet.out.t77": (1, 4, 5, 16, 16), "pipe.asis.step0.pred": (2, 4, 5, 16, 16), "pipe.asis.latents1":
        (1, 4, 5, 16, 16), "imageproj.out": (1, 3, 20), "audioproj.out": (1, 5, 7, 28), "ref.out": (4, 12, 16, 16),
    }  # fmt: skip
    for name, shape in expected.items():
        assert f"shape {shape}, expected (1,)" in shapes[name], shapes[name]
