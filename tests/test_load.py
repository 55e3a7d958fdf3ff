"""Checkpoints: round trip, and clear errors for every wrong file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from llia_core.model.avatar import Avatar
from llia_core.model.config import NAMED
from llia_core.model.load import BUNDLED, CheckpointError, load_model, save_model
from llia_core.speech import tiny_speech_config


@pytest.fixture(scope="module")
def model() -> Avatar:
    torch.manual_seed(0)
    return Avatar(NAMED["llia-tiny"], tiny_speech_config())


def test_round_trip_in_half_precision(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path, {"by": "test"})
    loaded = load_model(path)
    assert loaded.config == model.config
    assert json.dumps(loaded.speech.to_metadata()) == json.dumps(model.speech.to_metadata())
    for key, value in model.state_dict().items():
        assert torch.allclose(loaded.state_dict()[key].float(), value.float(), rtol=1e-3, atol=1e-4), key
    assert list(tmp_path.iterdir()) == [path]


def test_the_bundled_checkpoint_loads_and_is_small():
    model = load_model()
    assert model.config.name == "llia-tiny"
    assert BUNDLED.stat().st_size < 40 * 2**20


def test_wrong_files_are_told_apart(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_model(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("not weights at all, not at all, not at all")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(text)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match="not an LLIA checkpoint"):
        load_model(foreign)
    good = tmp_path / "good.safetensors"
    save_model(model, good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match="cut short"):
        load_model(cut)


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(model, tmp_path):
    from safetensors import safe_open

    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_model(model, good)
    with safe_open(good, "pt") as file:
        metadata, weights = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    weights.pop("denoising_unet.conv_in.weight")
    weights["extra"] = torch.zeros(1)
    save_file(weights, bad, metadata)
    with pytest.raises(CheckpointError, match=r"denoising_unet\.conv_in\.weight.*extra"):
        load_model(bad)
