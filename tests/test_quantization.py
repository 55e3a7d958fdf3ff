"""INT8: kernels against plain arithmetic, layers, calibration, checkpoints, quality of the whole, real speed."""

import json
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llia_core import calibration, quantization
from llia_core.benchmark import demo_samples
from llia_core.calibration import decibels, noise, quantize, watch
from llia_core.int8_kernels import MatrixLayer, OneDnnConv, OneDnnLinear, has_kernel, has_onednn, quantize_uint8
from llia_core.media import read_image
from llia_core.model.layers import FeedForward
from llia_core.model.load import (
    BUNDLED,
    CheckpointError,
    file_digest,
    int8_name,
    load_model,
    read_checkpoint,
    save_model,
)  # fmt: skip
from llia_core.portrait import prepare_portrait
from llia_core.quantization import METADATA_KEY, Int8, describe, integer_layers
from llia_core.session import Session

needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN integer operators")
CONVS = [(3, 1, 1), (1, 1, 0), (3, 2, 1), (4, 4, 0)]  # kernel, stride, padding


def quantized_weight(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.randint(-127, 128, shape, dtype=torch.int8)
    return weight, torch.rand(shape[0]) * 0.01 + 0.001


@pytest.mark.parametrize(("kernel", "stride", "padding"), CONVS)
def test_both_integer_convolutions_are_exact(kernel, stride, padding):
    """The reference is computed in float64 from the rounded numbers: only the output's rounding may differ."""
    torch.manual_seed(kernel + stride)
    conv = Int8.Conv2d(16, 24, kernel, stride, padding).requires_grad_(False)
    weight, scale = quantized_weight(24, 16, kernel, kernel)
    x, step, zero = torch.randn(3, 16, 12, 20).contiguous(memory_format=torch.channels_last), 0.02, 90
    rounded = (quantize_uint8(x, step, zero).double() - zero) * step
    real = weight.double() * scale.double()[:, None, None, None]
    expected = F.conv2d(rounded, real, conv.bias.double(), stride, padding)
    args = (weight, scale, conv.bias.detach(), step, zero, conv)
    ways = [MatrixLayer(*args)] + ([OneDnnConv(*args)] if has_onednn() else [])
    for way in ways:
        out = way(x)
        assert out.shape == expected.shape and out.dtype == torch.float32
        assert float((out - expected).abs().max() / expected.abs().max()) < 1e-6, type(way).__name__


@needs_onednn
def test_gated_gelu_in_integers_is_that_of_the_plain_layers(monkeypatch):
    torch.manual_seed(0)
    forward = FeedForward(32, 4, Int8).eval().requires_grad_(False)
    forward.net[0].proj.quantize(-3, 3)
    x = torch.randn(4, 9, 32)
    one_pass = forward(x)
    monkeypatch.delattr(quantization.Linear, "gated_gelu")
    assert float((forward(x) - one_pass).abs().max() / one_pass.abs().max()) < 1e-5
    monkeypatch.undo()
    forward.net[0].proj.load_state_dict(
        {k: v * 0 for k, v in forward.net[0].proj.state_dict().items()}
        | {name: getattr(forward.net[0].proj, name) for name in quantization.SCALES}
    )
    assert not torch.allclose(forward(x), one_pass), "the packed weights of before are still used"


@pytest.mark.parametrize("rows", [(2, 30), (5,)])
def test_both_integer_linear_layers_are_exact(rows):
    torch.manual_seed(0)
    weight, scale = quantized_weight(24, 16)
    x, bias, step, zero = torch.randn(*rows, 16), torch.randn(24), 0.02, 128
    rounded = (quantize_uint8(x, step, zero).double() - zero) * step
    expected = F.linear(rounded, weight.double() * scale.double()[:, None], bias.double())
    ways = [MatrixLayer(weight, scale, bias, step, zero)]
    ways += [OneDnnLinear(weight, scale, bias, step, zero)] if has_onednn() else []
    for way in ways:
        assert float((way(x) - expected).abs().max() / expected.abs().max()) < 1e-6, type(way).__name__


def test_large_convolutions_are_gathered_in_parts(monkeypatch):
    torch.manual_seed(0)
    conv = Int8.Conv2d(8, 8, 3, padding=1)
    weight, scale = quantized_weight(8, 8, 3, 3)
    layer, x = MatrixLayer(weight, scale, None, 0.02, 100, conv), torch.randn(5, 8, 6, 6)
    whole = layer(x)
    monkeypatch.setattr("llia_core.int8_kernels.GATHER_BYTES", 6 * 6 * 8 * 9 * 2)
    assert torch.equal(layer(x), whole)


def test_activations_round_and_clip():
    x = torch.tensor([-9.0, -1.0, -0.26, 0.0, 0.24, 1.0, 999.0]).view(1, 1, 1, -1)
    assert quantize_uint8(x, 0.5, 4).flatten().tolist() == [0, 2, 3, 4, 4, 6, 255]


def test_a_layer_turns_integer_and_back_and_keeps_its_scales():
    torch.manual_seed(0)
    layer, x = Int8.Conv2d(16, 16, 3, bias=False).requires_grad_(False), torch.randn(2, 16, 8, 8)
    weight, expected = layer.weight, layer(x)
    assert not layer.is_integer and "weight_scale" not in layer.state_dict()
    layer.quantize(-4.0, 4.0)
    assert layer.is_integer and layer.state_dict()["weight"].dtype == torch.int8
    assert 30 < decibels(noise([layer(x)], [expected])) < 60
    scale = layer.weight_scale.clone()
    layer.to(torch.bfloat16)
    assert layer.weight_scale.dtype == torch.float32 and torch.equal(layer.weight_scale, scale)
    layer.to(torch.float32).dequantize(weight)
    assert torch.equal(layer(x), expected)


def test_without_a_kernel_the_rounded_weights_run_in_float():
    torch.manual_seed(0)
    layer, x = Int8.Conv2d(16, 16, 3, padding=1, groups=4).requires_grad_(False), torch.randn(2, 16, 8, 8)
    expected = layer(x)
    layer.quantize(-4.0, 4.0)
    assert decibels(noise([layer(x)], [expected])) > 35  # activations are not rounded
    assert describe(nn.Sequential(layer)).startswith("0 of 1")
    assert not has_kernel(torch.device("cuda"), 36, 16)  # cuBLASLt wants multiples of eight


class TinyNet(nn.Module):
    """Three layers whose names are among calibration.PARTS."""

    def __init__(self):
        super().__init__()
        self.denoising_unet = nn.Sequential(
            Int8.Conv2d(8, 16, 3, padding=1), nn.ReLU(), Int8.Conv2d(16, 16, 3, padding=1), Int8.Conv2d(16, 8, 1)
        )
        self.requires_grad_(False)

    def forward(self, x):
        return self.denoising_unet(x)


def test_calibration_keeps_what_is_sensitive_in_float():
    torch.manual_seed(0)
    net, x = TinyNet(), torch.randn(4, 8, 16, 16)
    net.denoising_unet[0].weight[:, 0] = 0
    x[:, 0] = 400.0  # a range that leaves the other channels no bits, and counts for nothing
    expected = net(x).clone()
    report = quantize(net, lambda: net(x), lambda: [net(x)], target_db=30.0)
    assert "denoising_unet.0" in report.kept and "denoising_unet.2" in report.integer
    assert report.sqnr_db >= 30.0 and decibels(noise([net(x)], [expected])) == pytest.approx(report.sqnr_db, abs=0.01)
    assert integer_layers(net) == report.integer


def test_ranges_are_clipped_only_where_that_helps():
    net = TinyNet()
    torch.manual_seed(0)
    even, tailed = torch.rand(1, 8, 64, 64) * 2 - 1, torch.randn(1, 8, 64, 64)
    tailed[0, 0, 0, 1] = 60.0  # one in 30,000
    assert watch(net, lambda: net(even))["denoising_unet.0"].range()[1] == pytest.approx(1.0, abs=0.01)
    seen = watch(net, lambda: net(tailed))["denoising_unet.0"]
    assert seen.high == 60.0 and seen.range()[1] < 60.0


# The real model


@pytest.fixture(scope="module")
def portrait():
    return prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), 64)


@pytest.fixture(scope="module")
def checkpoint(portrait, tmp_path_factory):
    """The bundled model with every layer integer, without the search for sensitive ones, which takes a minute."""
    model = load_model(operations=Int8)
    speech = demo_samples(1.0)
    seen = watch(model, lambda: list(Session(model, portrait).chunks([speech])))
    for name, one in seen.items():
        if name.startswith(calibration.PARTS):
            model.get_submodule(name).quantize(*one.range())
    path = tmp_path_factory.mktemp("int8") / "m-int8.safetensors"
    save_model(model, path, quantization={"digest": file_digest(BUNDLED)})
    return path


@needs_onednn
def test_an_int8_checkpoint_loads_as_it_was_and_is_smaller(checkpoint, portrait):
    from safetensors.torch import load_file

    metadata, weights = read_checkpoint(checkpoint)
    layers = json.loads(metadata[METADATA_KEY])["layers"]
    name = "denoising_unet.up_blocks.1.resnets.0.conv1"
    assert len(layers) > 100 and layers[name]["format"] == "int8_channelwise"
    assert weights[name + ".weight"].dtype == torch.int8 and weights[name + ".weight_scale"].dtype == torch.float32
    assert len(load_file(checkpoint)) == len(weights)
    floats = 4 * sum(tensor.numel() for tensor in read_checkpoint(BUNDLED)[1].values())
    assert checkpoint.stat().st_size < 0.34 * floats  # the speech encoder stays in half precision
    one, other = (list(Session(load_model(checkpoint), portrait).chunks([demo_samples(0.6)])) for _ in range(2))
    assert torch.equal(torch.cat(one), torch.cat(other))


@needs_onednn
def test_int8_frames_are_those_of_float_20_db_above_the_noise(checkpoint, portrait):
    """The signal is what moves: frames less the portrait at rest."""
    still = (portrait.image.permute(1, 2, 0) + 1) * 127.5
    exact, rounded = (
        torch.cat(list(Session(load_model(path), portrait, behaviour=0.0).chunks([demo_samples(1.5)]))).float()
        for path in (BUNDLED, checkpoint)
    )
    assert not torch.equal(exact, rounded)
    assert decibels(noise([rounded - still], [exact - still])) > 20


@needs_onednn
def test_int8_denoiser_takes_less_processor_time(checkpoint, portrait):
    """Process time of a clip on one thread, which waits for no other, interleaved, best of several: any gain counts
    here, `bench` measures how large it is."""
    sessions = [Session(load_model(path), portrait) for path in (BUNDLED, checkpoint)]
    clips = [list(session.clips([demo_samples(1.6)])) for session in sessions]
    best = [1e9, 1e9]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(6):
            for index, session in enumerate(sessions):
                started = time.process_time()
                session.denoise(clips[index][-2])
                best[index] = min(best[index], time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    assert best[0] / best[1] > 1.15


def test_precision_finds_the_file_beside_the_checkpoint_and_refuses_a_stale_one(tmp_path, checkpoint):
    source = tmp_path / "a.safetensors"
    source.write_bytes(BUNDLED.read_bytes())
    with pytest.raises(FileNotFoundError, match="llia_core quantize"):
        load_model(source, precision="int8")
    int8_name(source).write_bytes(checkpoint.read_bytes())
    assert integer_layers(load_model(source, precision="int8"))
    assert not integer_layers(load_model(source))
    save_model(load_model(), source, {"trained": "anew"})
    with pytest.raises(CheckpointError, match="made of another"):
        load_model(source, precision="int8")
    with pytest.raises(ValueError, match="int4"):
        load_model(precision="int4")


def test_the_bundled_int8_checkpoint_belongs_to_the_bundled_one():
    """After a new checkpoint: python -m llia_core quantize."""
    assert integer_layers(load_model(precision="int8"))
