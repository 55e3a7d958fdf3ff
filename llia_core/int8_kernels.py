"""Integer matrix products and convolutions: uint8 activations (scale and zero point per layer), int8 weights (scale per
output channel), sums in int32, result in float.

CPU: oneDNN's operators inside torch, which use VNNI where the processor has it. CUDA: torch._int_mm (cuBLASLt), with
convolutions as one matrix product over gathered windows (im2col). The second way also runs on a CPU, slowly: tests
compare the two.
"""

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

MIDDLE = 128  # uint8 activations less this are int8, which _int_mm wants
GATHER_BYTES = 2**28  # windows of a convolution gathered at a time


def has_onednn() -> bool:
    """Whether this torch has oneDNN's integer operators for the CPU."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv_pointwise")


def has_kernel(device: torch.device, inputs: int, outputs: int) -> bool:
    """Whether a layer of `inputs` (times kernel area) by `outputs` runs in integers on `device`."""
    if device.type == "cpu":
        return has_onednn()
    return device.type == "cuda" and inputs % 8 == 0 and outputs % 8 == 0


@functools.cache
def _has_fast_rounding() -> bool:
    """torch 2.13 announces the end of quantized tensors, once; where they are gone, plain operators do the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8).dtype == torch.quint8
        except (AttributeError, RuntimeError):
            return False


def quantize_uint8(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """round(x / scale) + zero_point in 0..255, strides kept."""
    if x.device.type == "cpu" and _has_fast_rounding():
        quantized = torch.quantize_per_tensor(x.float(), scale, zero_point, torch.quint8)
        # The same memory read as uint8: int_repr() would copy it, five times slower.
        raw = torch.empty(0, dtype=torch.uint8)
        return raw.set_(quantized.untyped_storage(), 0, quantized.size(), quantized.stride())
    return x.mul(1 / scale).round_().add_(zero_point).clamp_(0, 255).to(torch.uint8)


class OneDnnConv:
    """A convolution's weights packed for oneDNN; called with float (n, c, h, w)."""

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, scale: float, zero_point: int, conv):
        self.scale, self.zero_point, self.weight_scale, self.bias = scale, zero_point, weight_scale, bias
        self.place = ([*conv.stride], [*conv.padding], [*conv.dilation], conv.groups)
        self.packed = torch.ops.onednn.qconv_prepack(weight.contiguous(), weight_scale, scale, zero_point, *self.place)
        self.weight_zero = torch.zeros(len(weight), dtype=torch.int32)

    def __call__(self, x: Tensor) -> Tensor:
        q = quantize_uint8(x.contiguous(memory_format=torch.channels_last), self.scale, self.zero_point)
        return torch.ops.onednn.qconv_pointwise(
            q, self.scale, self.zero_point, self.packed, self.weight_scale, self.weight_zero, self.bias, *self.place,
            1.0, 0, x.dtype, "none", [], "",
        )  # fmt: skip


class OneDnnLinear:
    """A linear layer's weights packed for oneDNN; called with float (..., c)."""

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, scale: float, zero_point: int):
        self.scale, self.zero_point, self.weight_scale, self.bias = scale, zero_point, weight_scale, bias
        self.packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
        self.weight_zero = torch.zeros(len(weight), dtype=torch.int32)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(quantize_uint8(x.contiguous(), self.scale, self.zero_point), x.dtype)

    def product(self, q: Tensor, dtype: torch.dtype, then: str = "none") -> Tensor:
        """Of inputs that are integers already; then: "gelu", in the same pass."""
        return torch.ops.onednn.qlinear_pointwise(
            q, self.scale, self.zero_point, self.packed, self.weight_scale, self.weight_zero, self.bias,
            1.0, 0, dtype, then, [], "none",
        )  # fmt: skip


class OneDnnGatedGelu:
    """A linear layer whose first half of outputs is multiplied by GELU of the second."""

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor, scale: float, zero_point: int):
        halves = zip(weight.chunk(2), weight_scale.chunk(2), bias.chunk(2), strict=True)
        self.hidden, self.gate = (OneDnnLinear(*half, scale, zero_point) for half in halves)

    def __call__(self, x: Tensor) -> Tensor:
        q = quantize_uint8(x.contiguous(), self.hidden.scale, self.hidden.zero_point)
        return self.hidden.product(q, x.dtype).mul_(self.gate.product(q, x.dtype, "gelu"))


class MatrixLayer:
    """A linear layer, or a convolution given as `conv`, on torch._int_mm. The zero point's share joins the bias."""

    def __init__(
        self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, scale: float, zero_point: int, conv=None
    ):
        self.scale, self.zero_point, self.conv = scale, zero_point, conv
        # Columns in the order of gathered windows: row, column, channel.
        matrix = weight.permute(0, 2, 3, 1).flatten(1) if conv is not None else weight
        self.matrix = matrix.contiguous().t()  # (inputs, outputs), column-major as cuBLASLt wants it
        self.factor = weight_scale * scale
        shift = (zero_point - MIDDLE) * matrix.sum(1, dtype=torch.int32) * self.factor
        self.offset = (bias.float() if bias is not None else 0) - shift

    def __call__(self, x: Tensor) -> Tensor:
        """Float (..., c), or (n, c, h, w) of a convolution -> the layer's output in x's dtype."""
        q = x.mul(1 / self.scale).round_().add_(self.zero_point - MIDDLE).clamp_(-MIDDLE, MIDDLE - 1).to(torch.int8)
        if self.conv is None:
            return self._product(q.flatten(0, -2), x.dtype).unflatten(0, x.shape[:-1])
        maps = q.permute(0, 2, 3, 1)
        kernel, stride, padding = self.conv.kernel_size, self.conv.stride, self.conv.padding
        if kernel != (1, 1) or padding != (0, 0):
            value = self.zero_point - MIDDLE  # what zero is called
            maps = F.pad(maps, (0, 0, padding[1], padding[1], padding[0], padding[0]), value=value)
        size = [(n - k) // s + 1 for n, k, s in zip(maps.shape[1:3], kernel, stride, strict=True)]
        each = max(1, GATHER_BYTES // (size[0] * size[1] * len(self.matrix)))
        out = torch.cat([self._product(_windows(part, kernel, stride, size), x.dtype) for part in maps.split(each)])
        return out.unflatten(0, (len(maps), *size)).permute(0, 3, 1, 2)

    def _product(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        missing = 17 - len(rows)  # cuBLASLt refuses fewer rows
        padded = F.pad(rows, (0, 0, 0, missing)) if missing > 0 else rows
        total = torch._int_mm(padded.contiguous(), self.matrix)[: len(rows)]
        return torch.addcmul(self.offset, total, self.factor).to(dtype)


def _windows(maps: Tensor, kernel: tuple[int, int], stride: tuple[int, int], size: list[int]) -> Tensor:
    """(n, h, w, c) -> (n * rows * columns, kernel area * c), one row for each place of the output."""
    maps = maps.contiguous()
    n, row, column, channel = maps.stride()
    shape = (len(maps), *size, *kernel, maps.shape[3])
    return (
        maps.as_strided(shape, (n, row * stride[0], column * stride[1], row, column, channel)).flatten(3).flatten(0, 2)
    )
