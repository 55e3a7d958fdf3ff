"""comfy.ops: layers whose weights may wait elsewhere. Here every weight is where it is used: torch's own layers."""

from torch import nn


class manual_cast:  # noqa: N801 (ComfyUI's name)
    Linear, Conv2d, GroupNorm, LayerNorm, Embedding = nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding
