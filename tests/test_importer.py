"""The importer: files of the public names and layouts in, one model folder out; wrong files refused by name."""

import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llia_core.__main__ import main
from llia_core.importer import ImportFileError, convert_hallo, find_sources
from llia_core.importer.autoencoders import read_tiny, read_vae
from llia_core.importer.files import check_keys
from llia_core.model import build_autoencoder
from llia_core.photoreal import load_photoreal
from tests.open_weights import make_net, make_page, make_speech, make_tiny, make_vae, narrow_config

diffusers = pytest.importorskip("diffusers")
CONFIG = narrow_config()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("page"))


def convert(page: Path, output: Path, **given: Path) -> Path:
    return convert_hallo(find_sources(page, **given), output, torch.float32, config=CONFIG)


def test_every_number_arrives(page: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = convert_hallo(find_sources(page), tmp_path / "hallo", torch.float32, said.append, CONFIG)
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.safetensors", "speech.safetensors", "taesd.safetensors", "vae.safetensors"
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [folder]
    model = load_photoreal(folder)
    original = torch.load(page / "hallo" / "net.pth", weights_only=True)
    ours = {k: v for k, v in model.state_dict().items() if k.split(".")[0].endswith(("unet", "locator", "proj"))}
    left_out = set(original) - set(ours)
    assert left_out and all(re.search(r"(down_blocks\.3|up_blocks\.0)\.motion_modules", key) for key in left_out)
    assert set(ours) - set(original) == {"denoising_unet.class_embedding.weight"}
    assert not ours["denoising_unet.class_embedding.weight"].any()
    assert all(torch.equal(original[key], ours[key]) for key in set(ours) & set(original))
    assert f"all tensors known, {len(left_out)} of modules" in said[0]


def test_the_converted_model_computes_what_the_sources_compute(page: Path, tmp_path: Path) -> None:
    model = load_photoreal(convert(page, tmp_path / "m"))
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    vae = diffusers.AutoencoderKL.from_pretrained(page / "sd-vae-ft-mse")
    with torch.inference_mode():
        assert torch.allclose(model.encode(images), vae.encode(images).latent_dist.mean * 0.18215, atol=1e-5)
        tiny = diffusers.AutoencoderTiny.from_pretrained(page / "taesd")
        latents = torch.randn(2, 4, 8, 8)
        assert torch.allclose(model.decode(latents), tiny.decode(latents).sample.clamp(-1, 1), atol=1e-5)
        plain = load_photoreal(tmp_path / "m", fast=False)
        assert torch.allclose(plain.decode(latents), vae.decode(latents / 0.18215).sample.clamp(-1, 1), atol=1e-4)
    from transformers import Wav2Vec2ForCTC

    theirs = Wav2Vec2ForCTC.from_pretrained(page / "wav2vec" / "wav2vec2-base-960h").eval()
    samples = torch.randn(1, 16_000)
    with torch.inference_mode():
        normal = (samples - samples.mean()) / samples.var().add(1e-7).sqrt()
        extracted = theirs.wav2vec2.feature_extractor(normal)
        ours = model.speech.wav2vec.feature_extractor(normal)
        assert torch.allclose(ours, extracted, atol=1e-5)
        model.speech.config = replace(model.speech.config, context=0, lookahead=0)  # the whole second is one window
        got = model.speech(samples)
        assert got.shape == (1, 25, 2, 16)
        resampled = torch.nn.functional.interpolate(extracted, size=25, mode="linear", align_corners=True)
        hidden, _ = theirs.wav2vec2.feature_projection(resampled.transpose(1, 2))
        want: list[torch.Tensor] = []
        for layer in theirs.wav2vec2.encoder.layers:
            layer.register_forward_hook(lambda m, a, out: want.append(out[0] if isinstance(out, tuple) else out))
        theirs.wav2vec2.encoder(hidden)
        assert torch.allclose(got, torch.stack(want, 2), atol=1e-4)


def test_the_command_converts_at_real_config_only_and_says_what_is_wrong(page, tmp_path, capsys) -> None:
    assert main(["convert", "hallo", str(page), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "2 layers of 16 channels" in error and "12 of 768" in error and not (tmp_path / "out").exists()
    assert main(["convert", "hallo", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    for part in ("hallo/net.pth (or --net", "sd-vae-ft-mse (or --vae", "wav2vec2-base-960h (or --speech"):
        assert part in error


# Autoencoders under other names


def old_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers before 0.18."""
    pairs = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    renamed = {}
    for key, value in weights.items():
        for new, old in pairs:
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[key] = value
    return renamed


def original_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The original Stable Diffusion checkpoint's names, written out from its module tree."""
    renamed = {}
    for key, value in weights.items():
        key = re.sub(r"encoder\.down_blocks\.(\d)\.", r"encoder.down.\1.", key)
        key = re.sub(r"decoder\.up_blocks\.(\d)\.", lambda m: f"decoder.up.{3 - int(m[1])}.", key)
        key = key.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        key = key.replace(".resnets.", ".block.").replace("conv_shortcut", "nin_shortcut")
        key = key.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        key = key.replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in key:
            value = value[:, :, None, None] if value.ndim == 2 else value
            for new, old in (
                ("group_norm", "norm"),
                ("to_q", "q"),
                ("to_k", "k"),
                ("to_v", "v"),
                ("to_out.0", "proj_out"),
            ):
                key = key.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
        renamed["first_stage_model." + key] = value
    return renamed


@pytest.mark.parametrize("rename", [dict, old_names, original_names])
def test_autoencoder_names(tmp_path: Path, rename) -> None:
    weights = make_vae(tmp_path / "theirs", CONFIG).state_dict()
    renamed = {k: v.contiguous() for k, v in rename(weights).items()}
    if rename is original_names:
        renamed |= {"model_ema.decay": torch.zeros(1)}
        assert "first_stage_model.decoder.up.3.block.0.nin_shortcut.weight" not in renamed
        assert "first_stage_model.encoder.down.0.downsample.conv.weight" in renamed
    save_file(renamed, tmp_path / "vae.safetensors")
    got = read_vae(tmp_path / "vae.safetensors", CONFIG.autoencoder)
    assert set(got) == set(weights) and all(torch.equal(got[key], weights[key]) for key in weights)


def test_original_names_are_those_of_the_public_conversion() -> None:
    """The converter that diffusers ships turns the original's names into the same ones."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CONFIG.autoencoder.block_out_channels, layers_per_block=2, norm_num_groups=4,
    )  # fmt: skip
    weights = vae.state_dict()
    theirs = convert_ldm_vae_checkpoint(original_names(weights), dict(vae.config))
    assert set(theirs) == set(weights)
    assert all(torch.equal(theirs[key].reshape(weights[key].shape), weights[key]) for key in weights)


def test_taesd_of_its_own_repository(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "theirs", CONFIG).state_dict()
    for part in ("encoder", "decoder"):
        own = {}
        for key, value in tiny.items():
            if key.startswith(part):
                index, rest = key.removeprefix(f"{part}.layers.").split(".", 1)
                own[f"{int(index) + (part == 'decoder')}.{rest}"] = value
        torch.save(own, tmp_path / f"taesd_{part}.pth")
    for path in (tmp_path, tmp_path / "taesd_decoder.pth"):
        got = read_tiny(path)
        assert set(got) == set(tiny) and all(torch.equal(got[key], tiny[key]) for key in tiny)
    (tmp_path / "taesd_encoder.pth").unlink()
    with pytest.raises(FileNotFoundError, match="taesd_encoder"):
        read_tiny(tmp_path)


# Wrong files


class Danger:
    """Unpickling it would write a file."""

    def __reduce__(self):
        return os.system, ("touch pickled-code-was-run",)


def breaks(page: Path, tmp_path: Path, message: str, **given: Path) -> str:
    """The conversion fails with the message and leaves nothing; returns its text."""
    with pytest.raises((ImportFileError, FileNotFoundError), match=message) as error:
        convert(page, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*part*"))
    return str(error.value)


def test_pickled_code_is_refused_and_not_run(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "danger": Danger()}, "net.pth")
    breaks(page, tmp_path, "refused; nothing of it was run", net=tmp_path / "net.pth")
    torch.save({"danger": Danger()}, "old.pth", _use_new_zipfile_serialization=False)
    breaks(page, tmp_path, "refused; nothing of it was run", net=tmp_path / "old.pth")
    assert not (tmp_path / "pickled-code-was-run").exists()


def test_truncated_files(page: Path, tmp_path: Path) -> None:
    whole = (page / "hallo" / "net.pth").read_bytes()
    for name, share in (("half", 0.5), ("nearly", 0.999), ("start", 0.001)):
        (tmp_path / f"{name}.pth").write_bytes(whole[: int(len(whole) * share)])
        breaks(page, tmp_path, "cut short or broken|broken", net=tmp_path / f"{name}.pth")
    vae = (page / "sd-vae-ft-mse" / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "vae.safetensors").write_bytes(vae[:-1000])
    breaks(page, tmp_path, "cut short", vae=tmp_path / "vae.safetensors")
    (tmp_path / "empty.pth").write_bytes(b"")
    breaks(page, tmp_path, "broken", net=tmp_path / "empty.pth")


def test_what_is_no_weight_file(page: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    breaks(page, tmp_path, "git lfs pull", net=tmp_path / "net.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html></html>")
    breaks(page, tmp_path, "web page", net=tmp_path / "page.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    breaks(page, tmp_path, "no dictionary of tensors", net=tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:
        file.writestr("readme.txt", "nothing")
    breaks(page, tmp_path, "broken", net=tmp_path / "zip.pth")


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (("conditioner.embedders.0.transformer.x", "model.diffusion_model.input_blocks.0.0.weight"), "Diffusion XL"),
        (("add_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight"), "Diffusion XL"),
        (("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",), "UNet alone"),
        (("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",), "AnimateDiff"),
    ],
)
def test_files_of_other_models_are_named(page: Path, tmp_path: Path, keys: tuple[str, ...], kind: str) -> None:
    save_file({key: torch.zeros(1) for key in keys}, tmp_path / "other.safetensors")
    breaks(page, tmp_path, kind, net=tmp_path / "other.safetensors")


def test_the_autoencoder_of_stable_diffusion_xl_is_refused(page: Path, tmp_path: Path) -> None:
    make_vae(tmp_path / "xl", CONFIG)
    config = tmp_path / "xl" / "config.json"
    config.write_text(config.read_text().replace("0.18215", "0.13025"))
    breaks(page, tmp_path, "0.13025, expected 0.18215", vae=tmp_path / "xl")
    save_file({"conditioner.embedders.0.x": torch.zeros(1)}, tmp_path / "xl.safetensors")
    breaks(page, tmp_path, "Diffusion XL", vae=tmp_path / "xl.safetensors")


def test_missing_foreign_and_misshapen_tensors_are_all_listed(page: Path, tmp_path: Path) -> None:
    weights = make_net(tmp_path / "net.pth", CONFIG)
    gone = [key for key in weights if key.startswith("audioproj.proj")]
    for key in gone:
        del weights[key]
    weights |= {"extra.one": torch.zeros(1), "extra.two": torch.zeros(1)}
    weights["imageproj.norm.weight"] = torch.zeros(7)
    torch.save(weights, tmp_path / "net.pth")
    text = breaks(page, tmp_path, "is not Hallo v1's net.pth", net=tmp_path / "net.pth")
    for name in [*gone, "extra.one", "extra.two", "imageproj.norm.weight: [7], expected [24]"]:
        assert f"  {name}" in text.splitlines()
    assert f"{len(gone)} missing:" in text and "2 foreign:" in text and "1 of another shape:" in text


def test_half_a_folder(page: Path, tmp_path: Path) -> None:
    folder = convert(page, tmp_path / "m")
    (folder / "speech.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)speech\.safetensors missing.*convert hallo"):
        load_photoreal(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="sd-vae-ft-mse"):
        find_sources(tmp_path / "empty")
    make_speech(tmp_path / "speech")
    (tmp_path / "speech" / "model.safetensors").unlink()
    breaks(page, tmp_path, r"model\.safetensors", speech=tmp_path / "speech")


def test_a_speech_model_without_some_layer_is_refused(page: Path, tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    weights = load_file(tmp_path / "speech" / "model.safetensors")
    weights.pop("wav2vec2.encoder.layers.1.attention.k_proj.weight")
    save_file(weights, tmp_path / "speech" / "model.safetensors")
    text = breaks(page, tmp_path, "1 missing", speech=tmp_path / "speech")
    assert "  wav2vec.encoder.layers.1.attention.k_proj.weight" in text


def test_nothing_is_overwritten(page: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        convert(page, tmp_path / "out")


def test_checks_pass_what_is_right() -> None:
    with torch.device("meta"):
        wanted = build_autoencoder(CONFIG.autoencoder).state_dict()
    check_keys(wanted, wanted, Path("x"), "x")
