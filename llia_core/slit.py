"""An eye or a mouth as a slit between two curves: closing it moves the rims and what lies behind stays where it is.

A smooth warp cannot do that: it would squeeze the eyeball. Here each column of the slit's own frame is remapped by
itself: skin between a fixed far line and the rim is stretched in its middle, so that the rim (lashes, lip) keeps its
thickness; what is inside the opening is covered, not squeezed.
"""

import torch
from torch import Tensor


class Slit:
    """Curves of one slit in its own frame: X from 0 to 1 between the corners, Y across, both in units of the width.

    landmarks: (478, 2 or 3) pixels. upper, lower: mesh indices from corner to corner, corners included. reach: (above,
    below), the heights of the stretched skin in widths. share: how much of the way the upper rim makes when closing.
    """

    def __init__(self, landmarks: Tensor, upper: tuple, lower: tuple, reach: tuple[float, float], share: float):
        points = landmarks[:, :2]
        self.start = points[upper[0]]
        axis = points[upper[-1]] - self.start
        self.width = axis.norm().clamp(min=1e-3)
        self.along = axis / self.width
        down = points[152] - points[10]
        across = torch.stack([-self.along[1], self.along[0]])
        self.across = across * torch.sign((across * down).sum())
        self.above, self.below = reach
        self.room = None  # where `above` is limited: heights at evenly spaced X, see limit_above
        self.edge = 0.0  # height above the upper rim that is never stretched: lashes
        self.share = share
        self.upper = fit_curve(*self.local(points[list(upper[1:-1])]).unbind(1))
        self.lower = fit_curve(*self.local(points[list(lower[1:-1])]).unbind(1))

    def local(self, points: Tensor) -> Tensor:
        """(..., 2) pixels to (X, Y)."""
        return torch.stack(self.split(points[..., 0], points[..., 1]), -1)

    def split(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same for separate coordinates, which is faster."""
        (ax, ay), (cx, cy) = (self.along / self.width).tolist(), (self.across / self.width).tolist()
        x, y = x - float(self.start[0]), y - float(self.start[1])
        return ax * x + ay * y, cx * x + cy * y

    def pixels(self, local: Tensor) -> Tensor:
        """(..., 2) (X, Y) to pixels."""
        return self.start + self.width * (local[..., :1] * self.along + local[..., 1:] * self.across)

    def rims(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Y of the upper and the lower rim at X; they meet at the corners and beyond."""
        upper, lower = _curve(self.upper, x), _curve(self.lower, x)
        return torch.minimum(upper, lower), torch.maximum(upper, lower)

    def limit_above(self, room: Tensor) -> None:
        """Stretches no skin higher above the upper rim than `room` (n,), at n evenly spaced X from 0 to 1."""
        self.room = room.clamp(max=self.above)

    def _above(self, x: Tensor) -> Tensor | float:
        if self.room is None:
            return self.above
        at = x.clamp(0, 1) * (len(self.room) - 1)
        left = at.long().clamp(max=len(self.room) - 2)
        return torch.lerp(self.room[left], self.room[left + 1], at - left)

    def corners(self) -> Tensor:
        """(4, 2) pixels: the corners of everything that closing may move."""
        low = -self.above + min(0.0, float(self.rims(torch.linspace(0, 1, 9))[0].min()))
        high = self.below + max(0.0, float(self.rims(torch.linspace(0, 1, 9))[1].max()))
        return self.pixels(torch.tensor([[-0.02, low], [1.02, low], [1.02, high], [-0.02, high]]))

    def source(self, x: Tensor, y: Tensor, amount: Tensor, soft: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where (X, Y) of the slit closed by `amount` comes from. amount: 1 the rims meet, below 0 opened further.

        Returns Y of the source, the weight in [0, 1] of being inside the opening, and the open slit's rims at X.
        soft: width of the rim's edge, in widths of the slit.
        """
        upper, lower = self.rims(x)
        height = lower - upper
        room = self._above(x)
        down = torch.maximum(amount * self.share * height, -0.5 * torch.as_tensor(room))
        up = amount * (self.share - 1) * height
        new_upper, new_lower = upper + down, lower + up
        length = room + down - torch.as_tensor(room).mul(0.4).clamp(max=self.edge)
        above = _stretch((y - upper + room) / length, down / length)
        below = _ease((lower + self.below - y) / (self.below - up))
        outside = y - torch.where(2 * y < new_upper + new_lower, down * above, up * below)
        inside = ((y - new_upper) / soft).clamp(0, 1) * ((new_lower - y) / soft).clamp(0, 1)
        behind = y
        if bool((amount < 0).any()):
            widened = upper + (y - new_upper) * height / (new_lower - new_upper).clamp(min=1e-4)
            behind = torch.where(amount >= 0, y, widened)
        return outside + inside * (behind - outside), inside, upper, lower

    def follow(self, x: Tensor, y: Tensor) -> Tensor:
        """How far points (X, Y) of the open slit move in Y when it closes fully; rims land on the seam."""
        upper, lower = self.rims(x)
        seam = upper + self.share * (lower - upper)
        room = self._above(x)
        above = (seam - upper) * _ease((y - upper + room) / room)
        below = (seam - lower) * _ease((lower + self.below - y) / self.below)
        return torch.where(y < seam, torch.where(y > upper, seam - y, above), torch.where(y < lower, seam - y, below))


def fit_curve(x: Tensor, y: Tensor) -> Tensor:
    """(3,) coefficients of Y = X (1 - X) (c0 + c1 X + c2 X^2) through points (n,) between the corners."""
    x, y = x.double(), y.double()
    basis = (x * (1 - x))[:, None] * torch.stack([torch.ones_like(x), x, x * x], 1)
    ridge = 1e-3 * torch.eye(3, dtype=torch.float64)
    return torch.linalg.solve(basis.T @ basis + ridge * basis.square().mean(), basis.T @ y).float()


def _curve(c: Tensor, x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * (1 - x) * (c[0] + x * (c[1] + x * c[2]))


def _ease(value: Tensor) -> Tensor:
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)


def _stretch(value: Tensor, steepness: Tensor) -> Tensor:
    """An ease over [0, 1] for skin of which little is stretched far: the less there is, the nearer to a straight line,
    so that nothing folds. steepness: its way over the length it covers afterwards."""
    value = value.clamp(0, 1)
    bent = (2 * (0.9 / steepness.clamp(min=1e-3) - 1)).clamp(0, 1)
    return value + bent * (_ease(value) - value)
