"""Linear layers and convolutions for a CPU, as an `operations` namespace: the same numbers with less work and copying.

Linear layers run in oneDNN with bias, GELU and gate in the same pass. 3x3 convolutions of large maps use Winograd's
minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308): 2.25 multiplications an output instead of 9. Anywhere
else, and wherever gradients are wanted, these are nn's own layers.
"""

import ctypes
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_TILES, FEWEST_CHANNELS = 256, 128  # below, transforming costs more than it saves
FEW_POSITIONS = 64  # of a map: oneDNN is faster on so few when channels come first
TRANSFORMED_BYTES = 2**26  # tiles transformed at a time

# Rows of the transforms of input tiles (6), filters (3 to 6) and products (6 to 4), interpolated at 0, 1, -1, 2, -2.
_TILE = torch.tensor(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], dtype=torch.float32,
)  # fmt: skip
_FILTER = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_PRODUCT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float32
)
# In two dimensions at once, so that each transform is one matrix product.
TILE, FILTER, PRODUCT = (torch.kron(m, m) for m in (_TILE, _FILTER, _PRODUCT))


def _runs_here(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_grad_enabled()


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """nn.Linear."""

    def forward(self, x: Tensor) -> Tensor:
        if not (_has_onednn() and _runs_here(x, self.weight)):
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def gated_gelu(self, x: Tensor) -> Tensor:
        """The first half of the outputs times GELU of the second: (..., in) -> (..., out / 2)."""
        if not (_has_onednn() and _runs_here(x, self.weight)):
            hidden, gate = super().forward(x).chunk(2, dim=-1)
            return hidden * F.gelu(gate)
        (hidden, gate), (hidden_bias, gate_bias) = self.weight.chunk(2), self.bias.chunk(2)
        opened = torch.ops.mkldnn._linear_pointwise(x, gate, gate_bias, "gelu", [], "none")
        return torch.ops.mkldnn._linear_pointwise.binary(x, opened, hidden, hidden_bias, "mul")


class Conv2d(nn.Conv2d):
    """nn.Conv2d."""

    def forward(self, x: Tensor) -> Tensor:
        if not _runs_here(x, self.weight) or self.kernel_size == (1, 1) or self.padding_mode != "zeros":
            return super().forward(x)
        if self._winograd_pays(x):
            return winograd_conv(x, self.weight, self.bias)
        if x.shape[-2] * x.shape[-1] <= FEW_POSITIONS:
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)

    def _winograd_pays(self, x: Tensor) -> bool:
        place = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        if place != ((3, 3), (1, 1), (1, 1), (1, 1), 1) or x.shape[-2] % 4 or x.shape[-1] % 4:
            return False
        tiles = x.shape[0] * x.shape[-2] * x.shape[-1] // 16
        return tiles >= FEWEST_TILES and min(self.weight.shape[:2]) >= FEWEST_CHANNELS


class CpuLayers:
    """The `operations` namespace: hand it to a model's constructor."""

    Linear, Conv2d, Conv1d = Linear, Conv2d, nn.Conv1d
    GroupNorm, LayerNorm, Embedding = nn.GroupNorm, nn.LayerNorm, nn.Embedding


def winograd_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution, stride 1, padding 1: x (n, c, h, w), sides multiples of 4 -> (n, k, h, w) channels_last."""
    n, c, h, w = x.shape
    k = len(weight)
    filters = (FILTER @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, c, k)
    out = x.new_empty(n, h // 4, 4, w // 4, 4, k)
    each = max(1, TRANSFORMED_BYTES // (36 * 4 * max(c, k) * (h * w // 16)))
    for maps, place in zip(x.split(each), out.split(each), strict=True):
        padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
        image, row, column, channel = padded.stride()
        tiles = padded.as_strided(  # six rows, six columns, of every place that a tile starts at
            (6, 6, len(maps), h // 4, w // 4, c), (row, column, image, 4 * row, 4 * column, channel)
        ).reshape(36, -1)
        products = torch.bmm((TILE @ tiles).view(36, -1, c), filters).view(36, -1)
        place.copy_((PRODUCT @ products).view(4, 4, len(maps), h // 4, w // 4, k).permute(2, 3, 0, 4, 1, 5))
    maps = out.view(n, h, w, k)
    if bias is not None:
        maps += bias
    return maps.permute(0, 3, 1, 2)


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed for the next layer, instead of handing each large tensor back to the
    system and getting zeroed pages again. For a process of our own: it changes every allocation in it. False where
    there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, 2**31 - 1))
