"""INT8: weights and activations of convolutions and linear layers, as one more `operations` namespace.

Post-training static quantisation after Jacob et al. (arXiv 1712.05877): activations uint8 with a scale and a zero
point per layer, found by watching a session on given inputs; weights int8 with a scale per output channel. Layers whose
rounding harms the output most, and those too small to gain, stay float (`calibration.py` chooses). Tensors are named as
in ComfyUI's quantised checkpoints, and `_quantization_metadata` lists the layers that are integers.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .int8_kernels import MatrixLayer, OneDnnConv, OneDnnGatedGelu, OneDnnLinear, has_kernel, has_onednn

METADATA_KEY = "_quantization_metadata"
FORMAT = "int8_channelwise"  # weight_scale (out,), input_scale and input_zero_point ()
SCALES = ("weight_scale", "input_scale", "input_zero_point")


class Int8Layer:
    """Mixed into nn.Conv2d and nn.Linear: float until `quantize` or `declare` makes its weight an integer buffer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SCALES:
            self.register_buffer(name, None)
        self._kernels: dict[str, Callable[[Tensor], Tensor]] = {}  # packed when first used

    @property
    def is_integer(self) -> bool:
        return self.weight_scale is not None

    def declare(self) -> None:
        """Become integer with empty values, for a checkpoint to fill."""
        self._become(
            torch.zeros(self.weight.shape, dtype=torch.int8),
            torch.ones(len(self.weight)),
            torch.ones(()),
            torch.zeros((), dtype=torch.uint8),
        )

    def quantize(self, low: float, high: float) -> None:
        """Become integer: the weight's own range for each output, inputs from `low` to `high`."""
        weight = self.weight.detach().float()
        scale = (weight.abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
        rounded = (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / 255, 1e-12)
        zero = torch.tensor(round(-low / step), dtype=torch.uint8)
        self._become(rounded, scale, torch.tensor(step), zero)

    def dequantize(self, weight: nn.Parameter) -> None:
        """Back to the float `weight`."""
        for name in SCALES:
            setattr(self, name, None)
        del self._buffers["weight"]
        self.weight = weight
        self._kernels.clear()

    def _become(self, weight: Tensor, weight_scale: Tensor, input_scale: Tensor, input_zero_point: Tensor) -> None:
        device = self.weight.device
        del self._parameters["weight"]
        self.register_buffer("weight", weight.to(device))
        for name, value in zip(SCALES, (weight_scale.float(), input_scale.float(), input_zero_point), strict=True):
            setattr(self, name, value.to(device))
        self._kernels.clear()

    def _apply(self, fn: Callable, recurse: bool = True):
        """Scales stay float32 whatever the model is converted to; kernels are made anew for the new place."""
        scales = {name: getattr(self, name) for name in SCALES[:2]} if self.is_integer else {}
        super()._apply(fn, recurse)
        for name, value in scales.items():
            setattr(self, name, value.to(self.weight.device))
        self._kernels.clear()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._kernels.clear()

    def _settings(self) -> tuple:
        bias = None if self.bias is None else self.bias.detach().float()
        return self.weight, self.weight_scale, bias, float(self.input_scale), int(self.input_zero_point)

    def _dequantized(self) -> Callable[[Tensor], Tensor]:
        """Where no integer kernel exists: the rounded weight in float. `describe` says so to whoever asks."""
        weight, scale, bias, *_ = self._settings()
        weight = weight.float() * scale.view(-1, *[1] * (weight.ndim - 1))
        return lambda x: self._float_forward(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_integer:
            return super().forward(x)
        if "plain" not in self._kernels:
            inputs = self.weight[0].numel()
            exists = has_kernel(x.device, inputs, len(self.weight)) and self._plain
            self._kernels["plain"] = self._make_kernel(x.device) if exists else self._dequantized()
        return self._kernels["plain"](x)


class Conv2d(Int8Layer, nn.Conv2d):
    """nn.Conv2d that can be integer."""

    @property
    def _plain(self) -> bool:
        return self.padding_mode == "zeros" and self.groups == 1 and self.dilation == (1, 1)

    def _make_kernel(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        return (OneDnnConv if device.type == "cpu" else MatrixLayer)(*self._settings(), self)

    def _float_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)


class Linear(Int8Layer, nn.Linear):
    """nn.Linear that can be integer."""

    _plain = True

    def _make_kernel(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        return (OneDnnLinear if device.type == "cpu" else MatrixLayer)(*self._settings())

    def gated_gelu(self, x: Tensor) -> Tensor:
        """The first half of the outputs times GELU of the second: (..., in) -> (..., out / 2)."""
        if not (self.is_integer and x.device.type == "cpu" and has_onednn()):
            hidden, gate = self(x).chunk(2, dim=-1)
            return hidden * nn.functional.gelu(gate)
        if "gated" not in self._kernels:
            self._kernels["gated"] = OneDnnGatedGelu(*self._settings())
        return self._kernels["gated"](x)

    def _float_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias)


class Int8:
    """The `operations` namespace: hand it to `load_model` or a model's constructor."""

    Conv2d, Linear = Conv2d, Linear
    GroupNorm, LayerNorm, Embedding = nn.GroupNorm, nn.LayerNorm, nn.Embedding


def integer_layers(model: nn.Module) -> list[str]:
    """Names of the layers that are integers."""
    return [name for name, module in model.named_modules() if getattr(module, "is_integer", False)]


def quantization_metadata(model: nn.Module) -> dict[str, str]:
    """What a checkpoint's metadata says of them; empty for a float model."""
    layers = {name: {"format": FORMAT} for name in integer_layers(model)}
    return {METADATA_KEY: json.dumps({"format_version": "1.0", "layers": layers})} if layers else {}


def declared_layers(metadata: Mapping[str, str]) -> list[str]:
    """Names of the integer layers of a checkpoint with this metadata. Raises ValueError for a format of others."""
    layers = json.loads(metadata.get(METADATA_KEY, "{}")).get("layers", {})
    foreign = {str(layer.get("format")) for layer in layers.values()} - {FORMAT}
    if foreign:
        raise ValueError(f"the checkpoint is quantised as {', '.join(sorted(foreign))}; expected {FORMAT}")
    return list(layers)


def describe(model: nn.Module, device: str | torch.device = "cpu") -> str:
    """How many layers run in integers on `device`, and why others do not."""
    names = integer_layers(model)
    device = torch.device(device)
    running = 0
    for name in names:
        layer = model.get_submodule(name)
        running += has_kernel(device, layer.weight[0].numel(), len(layer.weight)) and layer._plain
    text = f"{running} of {len(names)} integer layers have an integer kernel on {device.type}"
    if device.type == "cpu" and not has_onednn():
        text += " (this torch lacks oneDNN's integer operators: they run in float)"
    return text
