"""LLIA Load Model with photoreal models: which are listed, ComfyUI's VAE, precision, and what broken folders say."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from host.studio import open_host
from llia_core.benchmark import demo_samples
from llia_core.importer import convert_hallo, find_sources
from llia_core.media import read_image
from llia_core.model.load import BUNDLED
from llia_core.photoreal import load_photoreal
from llia_core.portrait import prepare_portrait
from tests.open_weights import make_page, narrow_config


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The pack in the embedded host, with a narrow model in models/llia/people/hallo."""
    base = tmp_path_factory.mktemp("host")
    opened = open_host(base)
    page = make_page(tmp_path_factory.mktemp("page"), tiny=False)
    folder = base / "models" / "llia" / "people"
    folder.mkdir(parents=True)
    convert_hallo(find_sources(page), folder / "hallo", torch.float32, config=narrow_config())
    return opened


def loader(host):
    return host[1].nodes["LLIA_LoadModel"]


def models(host) -> Path:
    return Path(sys.modules["folder_paths"].models_dir) / "llia"


def load(host, name="people/hallo/model.safetensors", precision="float32", vae=None):
    return loader(host).execute(name, precision, "default", vae).args[0]


def frames(model):
    portrait = prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), 64)
    photoreal = sys.modules[type(model).__module__.rpartition(".")[0]]  # of the pack's own copy of the code, or ours
    return torch.cat(
        list(photoreal.open_session(model, portrait, steps=1, first=4, largest=4).chunks([demo_samples(0.16)]))
    )


def test_a_photoreal_model_is_one_entry_of_the_list(host):
    options = host[1].info("LLIA_LoadModel")["input"]["required"]["model"]
    choices = options[0] if isinstance(options[0], list) else options[1]["options"]
    # Other tests' models may be listed as well: the folders that ComfyUI searches are one list a process.
    assert choices[0] == "llia-tiny (bundled)"
    assert [name for name in choices if name.startswith("people")] == ["people/hallo/model.safetensors"]


def test_it_computes_what_the_command_line_computes(host):
    plain = load_photoreal(models(host) / "people" / "hallo")
    assert torch.equal(frames(load(host)), frames(plain))
    half = load(host, precision="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


class OwnVae:
    """A folder's own autoencoder as ComfyUI's VAE has it: pictures last in channels, latents not scaled."""

    def __init__(self, autoencoder, scale: float):
        self.autoencoder, self.scale, self.calls = autoencoder, scale, 0

    def encode(self, pixels):
        return self.autoencoder.encode(pixels.movedim(-1, 1) * 2 - 1) / self.scale

    def decode(self, latents):
        self.calls += 1
        return (self.autoencoder.decode(latents * self.scale) / 2 + 0.5).movedim(1, -1)


def test_comfyuis_vae_takes_the_place_of_the_models_own(host, tmp_path):
    folder = models(host) / "people" / "hallo"
    plain = load_photoreal(folder)
    vae = OwnVae(plain.autoencoder, narrow_config().autoencoder.scaling_factor)
    (folder / "vae.safetensors").rename(tmp_path / "vae.safetensors")  # not needed then
    try:
        model = load(host, vae=vae)
    finally:
        shutil.move(tmp_path / "vae.safetensors", folder)
    difference = frames(model).int() - frames(plain).int()
    assert vae.calls and difference.abs().max() <= 1


def test_another_models_vae_is_refused(host):
    class Wide:
        def encode(self, pixels):
            return torch.zeros(len(pixels), 16, pixels.shape[1] // 8, pixels.shape[2] // 8)

    with pytest.raises(ValueError, match="connect Stable Diffusion 1.5's VAE"):
        frames(load(host, vae=Wide()))


def test_half_a_folder_says_what_is_missing_and_where_it_comes_from(host):
    half = models(host) / "half"
    half.mkdir()
    shutil.copy(models(host) / "people" / "hallo" / "model.safetensors", half)
    with pytest.raises(FileNotFoundError) as error:
        load(host, "half/model.safetensors")
    text = str(error.value)
    shutil.rmtree(half)
    assert "vae.safetensors, speech.safetensors missing" in text and "convert hallo" in text
    for page in ("fudan-generative-ai/hallo", "stabilityai/sd-vae-ft-mse", "facebook/wav2vec2-base-960h"):
        assert page in text
