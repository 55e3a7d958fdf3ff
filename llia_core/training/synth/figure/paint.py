"""Per-pixel primitives: coverage, mixing, bumps and noise. Pixels are (n, 1, P), colours (n, 3, P) or (n, 3, 1)."""

import torch
from torch import Tensor


def cover(distance: Tensor, width: Tensor | float) -> Tensor:
    """Signed distance (negative inside) -> coverage in [0, 1], a ramp `width` wide centred on the edge."""
    return (0.5 - distance / width).clamp(0, 1)


def strip(y: Tensor, top: Tensor, bottom: Tensor, width: Tensor) -> Tensor:
    """Coverage of the strip top < y < bottom. The difference of two ramps, so that a strip thinner than a pixel
    gets the right fraction and a strip of no (or negative) height nothing."""
    return (cover(top - y, width) - cover(bottom - y, width)).clamp_min(0)


def mix(below: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    return below + (colour - below) * alpha


def smooth(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _bell(square: Tensor) -> Tensor:
    """exp(-square) but for its tail: nothing from 8 on. torch.exp took a third of the time, most of it on tails."""
    t = (1 - square * 0.125).clamp_min(0)
    t = t * t
    t = t * t
    return t * t


def ridge(z: Tensor) -> Tensor:
    """exp(-z^2), nearly."""
    return _bell(z * z)


def bump(x: Tensor, y: Tensor, sx: Tensor | float, sy: Tensor | float) -> Tensor:
    """Gaussian hill of height 1 at the origin."""
    x, y = x / sx, y / sy
    return _bell(x * x + y * y)


def decay(x: Tensor) -> Tensor:
    """exp(-x), nearly, for x > 0; 1 below."""
    t = (1 - x * 0.25).clamp(0, 1)
    t = t * t
    return t * t


def soft_abs(x: Tensor, eps: float = 0.05) -> Tensor:
    return (x * x + eps * eps).sqrt() - eps


def noise(x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
    """Cheap smooth noise in about [-1, 1]: three warped sinusoids, feature size about 1."""
    a = torch.sin(2.1 * x + 1.7 * y + seed)
    b = torch.sin(-2.6 * y + 1.9 * x + 1.3 * a + 2.0 * seed)
    return (a + b + torch.sin(3.1 * x + 0.9 * y + 1.7 * b)) / 3


def grain(x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
    """White noise in [0, 1) that is constant on the cells of the integer grid."""
    value = torch.sin(torch.floor(x) * 12.9898 + torch.floor(y) * 78.233 + seed) * 43758.547
    return value - torch.floor(value)


class Layer:
    """Premultiplied colour and coverage, painted back to front, to be laid over a picture later."""

    def __init__(self, like: Tensor):
        self.rgb = like.new_zeros(like.shape[0], 3, like.shape[2])
        self.alpha = like.new_zeros(like.shape[0], 1, like.shape[2])

    def add(self, colour: Tensor, alpha: Tensor) -> None:
        alpha = alpha.clamp(0, 1)
        self.rgb = self.rgb * (1 - alpha) + colour * alpha
        self.alpha = self.alpha * (1 - alpha) + alpha

    def shade(self, amount: Tensor) -> None:
        """Darken what is below by `amount` (and what is in the layer)."""
        amount = amount.clamp(0, 1)
        self.rgb = self.rgb * (1 - amount)
        self.alpha = self.alpha * (1 - amount) + amount

    def light(self, colour: Tensor) -> None:
        """Add light, where the layer covers or not."""
        self.rgb = self.rgb + colour

    def over(self, below: Tensor) -> Tensor:
        return self.rgb + below * (1 - self.alpha)
