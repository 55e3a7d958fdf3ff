"""Where the lips go: a small network moves lip curves by mouth shapes, and the curves say how every pixel moves.

A warp that one network has to learn pixel by pixel smears lips, for they part along a line. Curves do not: each lip is
moved with its own thickness, skin between lips, nose and chin is stretched, and what lies between the lips is left to
the denoiser to paint. The layout of the curves is that of blendshape rigs; the curves of a portrait come from its
landmarks, so photographs and drawings move as crisply as rendered faces.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STATIONS = 9  # places along each lip edge, corner to corner
POINTS = 4 * STATIONS + 1  # upper outer, upper inner, lower inner, lower outer edge, then the chin
_OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_INNER_UPPER = (61, 78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 291)
_INNER_LOWER = (61, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 291)
_OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_CHIN = 152
# In region coordinates (the region spans 2; a face is about 1.2 wide there).
_REACH_UP, _REACH_SIDE, _REACH_NECK, _JAW_HALF = 0.20, 0.30, 0.25, 0.62
_EDGE = 0.022  # width of the lip's inner edge, about 1.4 pixels of 128


def lips_of(landmarks: Tensor, transform: Tensor) -> Tensor:
    """Lip curves (37, 2) in region coordinates of MediaPipe's landmarks (478, 3) in pixels."""
    points = (landmarks[:, :2] - transform[:, 2]) @ torch.linalg.inv(transform[:, :2].double()).float().T
    start, end = points[_OUTER_UPPER[0]], points[_OUTER_UPPER[-1]]
    axis = end - start
    places = torch.linspace(0, 1, STATIONS)
    edges = []
    for indices in (_OUTER_UPPER, _INNER_UPPER, _INNER_LOWER, _OUTER_LOWER):
        line = points[list(indices)]
        along = (line - start) @ axis / axis.square().sum()
        edges.append(_interpolate(places, along, line))
    return torch.cat([*edges, points[_CHIN][None]])


def _interpolate(places: Tensor, along: Tensor, line: Tensor) -> Tensor:
    """Points of a polyline (k, 2) whose vertices lie at `along` (k,), at `places` (s,)."""
    along, order = along.sort()
    line = line[order]
    right = torch.searchsorted(along, places).clamp(1, len(along) - 1)
    left = right - 1
    share = ((places - along[left]) / (along[right] - along[left]).clamp_min(1e-6)).clamp(0, 1)
    return line[left] + share[:, None] * (line[right] - line[left])


class LipRig(nn.Module):
    """Moves the curves of a reference by mouth shapes: a three-layer network on points and shapes."""

    def __init__(self, shapes: int = 7, hidden: int = 192, operations=nn) -> None:
        super().__init__()
        self.first = operations.Linear(2 * POINTS + 2 + shapes, hidden)
        self.second = operations.Linear(hidden, hidden)
        self.third = operations.Linear(hidden, hidden)
        self.out = operations.Linear(hidden, 2 * POINTS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, reference: Tensor, shapes: Tensor) -> Tensor:
        """Curves of the reference (b, 37, 2) and mouth shapes (b, f, 7) -> curves (b, f, 37, 2)."""
        middle = reference[:, [0, STATIONS - 1]].mean(1, keepdim=True)
        known = torch.cat(((reference - middle).flatten(1) * 4, middle.flatten(1) * 4), dim=1)
        x = torch.cat((known[:, None].expand(-1, shapes.shape[1], -1), shapes), dim=-1)
        x = F.silu(self.first(x))
        x = F.silu(self.second(x))
        x = F.silu(self.third(x))
        return reference[:, None] + 0.2 * self.out(x).unflatten(-1, (POINTS, 2))


@dataclass(frozen=True)
class LipMaps:
    """flow (n, 2, R, R): where a pixel of the frame comes from in the reference, as a displacement in region units.

    inside (n, 1, R, R): share of what lies between the lips. coordinates (n, 4, R, R): inside, depth below the upper
    lip, height above the lower lip, place between the corners, all about -1 to 1.
    """

    flow: Tensor
    inside: Tensor
    coordinates: Tensor


class _Curves:
    """Lip edges of n mouths as functions of s, -1 at the left corner and 1 at the right, in the mouth's own frame."""

    def __init__(self, points: Tensor) -> None:
        edges = points[:, : 4 * STATIONS].unflatten(1, (4, STATIONS))
        start, end = edges[:, :, 0].mean(1), edges[:, :, -1].mean(1)
        self.origin = (start + end) / 2
        half = (end - start) / 2
        self.half = half.norm(dim=-1).clamp_min(0.02)
        self.right = half / self.half[:, None]
        self.down = torch.stack((-self.right[:, 1], self.right[:, 0]), dim=-1)
        heights = ((edges - self.origin[:, None, None]) * self.down[:, None, None]).sum(-1)[:, :, 1:-1]
        self.coefficients = heights @ _fit_matrix().to(points).T  # (n, 4, bases)
        self.chin = ((points[:, -1] - self.origin) * self.down).sum(-1)

    def heights(self, bases: Tensor) -> Tensor:
        """Heights of the four edges where the bases (n, bases, ...) are taken, ordered downwards: (n, 4, ...)."""
        n, k = bases.shape[:2]
        upper_outer, upper_inner, lower_inner, lower_outer = (
            (self.coefficients @ bases.reshape(n, k, -1)).unflatten(2, bases.shape[2:]).unbind(1)
        )
        lower_inner = torch.maximum(lower_inner, upper_inner)
        return torch.stack(
            (
                torch.minimum(upper_outer, upper_inner),
                upper_inner,
                lower_inner,
                torch.maximum(lower_outer, lower_inner),
            ),
            dim=1,
        )


def lip_maps(source: Tensor, target: Tensor, size: int) -> LipMaps:
    """The maps that take a reference with curves `source` (n, 37, 2) to frames with curves `target`."""
    axis = (torch.arange(size, device=target.device, dtype=target.dtype) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    old, new = _Curves(source), _Curves(target)

    def along(direction: Tensor) -> Tensor:
        px, py = x - new.origin[:, 0, None, None], y - new.origin[:, 1, None, None]
        return px * direction[:, 0, None, None] + py * direction[:, 1, None, None]

    across, down = along(new.right), along(new.down)
    s = across / new.half[:, None, None]
    bases = _bases(s.clamp(-1, 1), dim=1)
    edges = new.heights(bases).unbind(1)
    height = _reference_height(down, edges, old.heights(bases).unbind(1))
    place = s.clamp(-1, 1) * old.half[:, None, None] + across - s.clamp(-1, 1) * new.half[:, None, None]

    def axes(vector: Tensor) -> Tensor:
        return vector[:, :, None, None]

    moved = axes(old.origin) + axes(old.right) * place[:, None] + axes(old.down) * height[:, None] - torch.stack((x, y))
    lips, jaw = _reach(across, down, edges, new)
    frame = _ease((1 - torch.maximum(x.abs(), y.abs())) / 0.15)
    flow = (moved * lips[:, None] + axes(source[:, -1] - target[:, -1]) * jaw[:, None]) * frame

    _, upper, lower, _ = edges
    gap = ((down - upper) / _EDGE).clamp(0, 1) * ((lower - down) / _EDGE).clamp(0, 1) * (s.abs() < 1)
    maps = (gap, 4 * (down - upper), 4 * (lower - down), 0.7 * s)
    return LipMaps(flow, gap[:, None], torch.stack([m.clamp(-1, 1) for m in maps], dim=1))


def _reference_height(down: Tensor, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> Tensor:
    """Where the height `down` (n, R, R) was in the reference, by the heights of the four edges in frame and reference.

    Each lip is taken along as a whole; beyond the lips the nearer edge's shift is taken.
    """
    (top, upper, lower, bottom), (top_0, upper_0, lower_0, bottom_0) = new, old
    up = upper_0 - (upper - down).clamp_min(0) * (upper_0 - top_0) / (upper - top).clamp_min(1e-3)
    up = torch.where(down < top, down + top_0 - top, up)
    low = lower_0 + (down - lower).clamp_min(0) * (bottom_0 - lower_0) / (bottom - lower).clamp_min(1e-3)
    low = torch.where(down > bottom, down + bottom_0 - bottom, low)
    return torch.where(down < (upper + lower) / 2, up, low)


def _reach(across: Tensor, down: Tensor, edges: tuple[Tensor, ...], curves: _Curves) -> tuple[Tensor, Tensor]:
    """How much a place (n, R, R) goes with the lips, and how much with the chin, each 0 to 1.

    The lips' pull fades towards the nose and the cheeks, and below them it goes over into the chin's own movement.
    """
    top, bottom = edges[0], edges[-1]
    half, chin = curves.half[:, None, None], curves.chin[:, None, None]
    side = _ease(1 - (across.abs() - half).clamp_min(0) / _REACH_SIDE)
    above = _ease(1 - (top - down).clamp_min(0) / _REACH_UP)
    depth = _ease(((down - bottom) / (chin - bottom).clamp_min(0.05)).clamp(0, 1))
    jaw = depth * _ease(1 - (down - chin).clamp_min(0) / _REACH_NECK) * _ease(1.25 - across.abs() / _JAW_HALF)
    return side * above * (1 - depth), jaw


def cavity_colour(image: Tensor, masks: Tensor) -> Tensor:
    """(b, 3) in [-1, 1]: a fifth of the lips' own colour. image (b, 3, R, R), masks (b, 2, R, R), lips first."""
    weight = masks[:, :1].to(image)
    lips = (image * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-3)
    return (lips + 1) * 0.2 - 1


def _bases(s: Tensor, dim: int) -> Tensor:
    """Functions that are zero at both corners: an ellipse's arc, a lens, and what skews and bends them."""
    lens = 1 - s * s
    return torch.stack((lens.clamp_min(1e-6) ** 0.55, lens, lens * s, lens * s * s, lens * s**4), dim=dim)


def _fit_matrix() -> Tensor:
    """(bases, STATIONS - 2): least-squares coefficients from heights at the inner stations."""
    bases = _bases(torch.linspace(-1, 1, STATIONS)[1:-1].double(), dim=1)
    ridge = 1e-4 * torch.eye(bases.shape[1], dtype=torch.float64)
    return torch.linalg.solve(bases.T @ bases + ridge, bases.T).float()


def _ease(value: Tensor) -> Tensor:
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)
