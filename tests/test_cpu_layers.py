"""The CPU's own layers give what nn's give, in every case that they treat apart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from llia_core.cpu_layers import CpuLayers, winograd_conv
from llia_core.model.layers import FeedForward, ResBlock


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Worst error relative to the largest value."""
    return float((got - want).abs().max() / want.abs().max())


def pair(make: Callable[[Any], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """What `make` makes of our layers, and of nn's, with the same weights."""
    ours, plain = make(CpuLayers), make(nn)
    plain.load_state_dict(ours.state_dict())
    return ours.eval(), plain.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (7, 40), (2, 3, 5, 40)])
@torch.no_grad()
def test_linear(shape, bias):
    ours, plain = pair(lambda layers: layers.Linear(40, 24, bias=bias))
    x = torch.randn(shape)
    assert ours(x).shape == plain(x).shape and error(ours(x), plain(x)) < 1e-5
    rows = torch.randn(2, 40, 9).transpose(1, 2)  # not contiguous
    assert error(ours(rows), plain(rows)) < 1e-5


@torch.no_grad()
def test_gated_gelu_in_one_pass():
    torch.manual_seed(0)
    ours, plain = pair(lambda layers: FeedForward(48, 4, layers))
    x = torch.randn(2, 9, 48)
    assert error(ours(x), plain(x)) < 1e-5


@pytest.mark.parametrize(
    "frames, channels, out, height, width", [(1, 3, 5, 4, 4), (3, 7, 2, 8, 12), (2, 16, 16, 64, 32)]
)
@torch.no_grad()
def test_winograd(frames, channels, out, height, width, monkeypatch):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(frames, channels, height, width), torch.randn(out, channels, 3, 3), torch.randn(out)
    want = nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    got = winograd_conv(x.to(memory_format=torch.channels_last), weight, bias)
    assert got.shape == want.shape and got.is_contiguous(memory_format=torch.channels_last)
    assert error(got, want) < 5e-5 and error(winograd_conv(x, weight, None) + bias[:, None, None], want) < 5e-5
    monkeypatch.setattr("llia_core.cpu_layers.TRANSFORMED_BYTES", 1)  # a frame at a time
    assert torch.allclose(winograd_conv(x, weight, bias), got, atol=1e-4)


@pytest.mark.parametrize(
    "side, stride, winograd", [(32, 1, True), (16, 1, False), (34, 1, False), (32, 2, False), (8, 1, False)]
)
@torch.no_grad()
def test_convolutions_of_every_kind(side, stride, winograd, monkeypatch):
    """Four frames of 32x32 are 256 tiles: Winograd; fewer, odd sides and strides are not."""
    torch.manual_seed(0)
    used = []
    monkeypatch.setattr("llia_core.cpu_layers.winograd_conv", lambda *given: used.append(1) or winograd_conv(*given))
    ours, plain = pair(lambda layers: layers.Conv2d(128, 130, 3, stride, 1))
    x = torch.randn(4, 128, side, side).to(memory_format=torch.channels_last)
    assert error(ours(x), plain(x)) < 2e-5
    assert bool(used) == winograd


@torch.no_grad()
def test_a_block_of_the_real_kind():
    torch.manual_seed(0)
    ours, plain = pair(lambda layers: ResBlock(128, 160, 64, 32, False, layers))
    x, time = torch.randn(4, 128, 32, 32).to(memory_format=torch.channels_last), torch.randn(4, 64)
    got, want = ours(x.clone(memory_format=torch.preserve_format), time), plain(x, time)
    assert error(got, want) < 1e-4


def test_gradients_take_the_plain_way():
    ours, plain = pair(lambda layers: FeedForward(16, 4, layers))
    x = torch.randn(3, 16)
    for layer in (ours, plain):
        layer(x).sum().backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert a.grad is not None and torch.allclose(a.grad, b.grad)


@torch.no_grad()
def test_half_precision_takes_the_plain_way():
    ours, plain = pair(lambda layers: layers.Linear(16, 8).bfloat16())
    x = torch.randn(4, 16).bfloat16()
    assert ours(x).dtype == torch.bfloat16 and torch.equal(ours(x), plain(x))
