"""How each expression slider moves the face mesh: a linear basis in the frame of the head.

Head frame: origin between the lips, x to the picture's right, y down, z away from the viewer, one unit = the distance
of the outer eye corners. Amplitudes are those of an adult face (FACS-like poses, chosen by eye).
"""

import torch
from torch import Tensor

from .mesh import LEFT_BROW, LIPS_INNER, LIPS_OUTER, POINTS, RIGHT_BROW

FACE_SLIDERS = ("smile", "jaw", "press", "pucker", "brow_raise", "brow_furrow")
UPPER_LIP = (0, 11, 12, 13, 37, 72, 38, 82, 39, 73, 41, 81, 40, 74, 42, 80, 267, 302, 268, 312, 269, 303, 271, 311)
UPPER_LIP += (270, 304, 272, 310, 185, 184, 183, 191, 409, 408, 407, 415)
LOWER_LIP = (17, 16, 15, 14, 84, 85, 86, 87, 181, 180, 179, 178, 91, 90, 89, 88, 146, 77, 96, 95)
LOWER_LIP += (314, 315, 316, 317, 405, 404, 403, 402, 321, 320, 319, 318, 375, 307, 325, 324)
JAW_OPENING = 0.26  # radians of the lower jaw about its joint, at slider 1


def slider_basis(points: Tensor) -> Tensor:
    """(7, 478, 3): displacement of each mesh point at weight 1 (slider_weights). points (478, 3): head frame."""
    makers = (_smile, _jaw, _press, _pucker, _brow_raise, _brow_furrow, _frown)
    return torch.stack([make(points) for make in makers])


def slider_weights(values: Tensor) -> Tensor:
    """(n, 7) weights of the basis for (n, 6) values of FACE_SLIDERS; a frown is no negative smile, it has a row."""
    return torch.cat([values[:, :1].clamp(min=0), values[:, 1:], -values[:, :1].clamp(max=0)], 1)


def _bump(points: Tensor, centre: int | Tensor, sigma: float) -> Tensor:
    """(478, 1) Gaussian weight around a mesh point, measured in the plane of the face."""
    middle = points[centre] if isinstance(centre, int) else centre
    return torch.exp(-((points - middle)[:, :2].square().sum(1, keepdim=True)) / (2 * sigma**2))


def _smoothstep(value: Tensor) -> Tensor:
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)


def _is(indices: tuple[int, ...]) -> Tensor:
    weight = torch.zeros(POINTS, 1)
    weight[list(indices)] = 1.0
    return weight


def _half_width(points: Tensor) -> Tensor:
    return ((points[291] - points[61])[:2].norm() / 2).clamp(min=0.1)


def _smile(points: Tensor) -> Tensor:
    """Corners out, up and back; cheeks rise; the middle of the lips stays, and thins."""
    move = torch.zeros_like(points)
    for corner, cheek, side in ((61, 205, -1.0), (291, 425, 1.0)):
        move += _bump(points, corner, 0.15) * torch.tensor([side * 0.055, -0.075, 0.03])
        move += _bump(points, cheek, 0.17) * torch.tensor([side * 0.02, -0.03, -0.01])
    below_eyes = _smoothstep((points[:, 1:2] - points[[145, 374], 1].mean()) / 0.25)
    middle = (1 - points[:, :1].abs() / _half_width(points)).clamp(min=0)
    thinner = 0.18 * (points[[13, 14], 1].mean() - points[:, 1:2]) * _is(UPPER_LIP + LOWER_LIP)
    move[:, 1:2] += middle.sqrt() * (0.008 * _is(UPPER_LIP + LOWER_LIP) + thinner)
    return move * below_eyes


def _frown(points: Tensor) -> Tensor:
    """Corners down, the skin below them bulges; the middle of the lips rises a little."""
    move = torch.zeros_like(points)
    for corner, side in ((61, -1.0), (291, 1.0)):
        move += _bump(points, corner, 0.14) * torch.tensor([side * 0.01, 0.055, 0.0])
    lips = _is(UPPER_LIP + LOWER_LIP) * (1 - points[:, :1].abs() / _half_width(points)).clamp(min=0)
    return move + lips * torch.tensor([0.0, -0.008, 0.0])


def _jaw(points: Tensor) -> Tensor:
    """The lower jaw turns about its joint before the ears; the upper lip stays, the corners follow in part."""
    hinge = points[[234, 454]].mean(0) + torch.tensor([0.0, 0.05, -0.15])
    offset = points - hinge
    turned = torch.stack([torch.zeros(POINTS), -offset[:, 2], offset[:, 1]], 1)
    side = (points[:, :1].abs() / 0.62).clamp(max=1)
    weight = _smoothstep((points[:, 1:2] + 0.28 * side) / (0.07 + 0.55 * side))
    across = (points[:, :1] / _half_width(points)).clamp(-1, 1).square()
    weight = torch.where(_is(LOWER_LIP) > 0, 1 - 0.55 * across, weight)
    weight = torch.where(_is(UPPER_LIP) > 0, 0.3 * across.square(), weight)
    weight = torch.where(_is((61, 76, 62, 78, 291, 306, 292, 308)) > 0, torch.tensor(0.38), weight)
    inwards = _bump(points, 61, 0.12) * torch.tensor([0.03, 0.0, 0.0]) - _bump(points, 291, 0.12) * torch.tensor(
        [0.03, 0.0, 0.0]
    )
    return weight * turned * JAW_OPENING + inwards


def _press(points: Tensor) -> Tensor:
    """Lips pressed and rolled in: their outer edges come together, the line between them stays."""
    move = torch.zeros_like(points)
    middle = points[[13, 14], 1].mean()
    lips = _is(UPPER_LIP + LOWER_LIP)
    move[:, 1:2] = lips * 0.45 * (middle - points[:, 1:2])
    near = _bump(points, 13, 0.22) * (1 - lips)
    move[:, 1:2] += near * 0.25 * (middle - points[:, 1:2]).clamp(-0.08, 0.08)
    for corner, side in ((61, -1.0), (291, 1.0)):
        move += _bump(points, corner, 0.1) * torch.tensor([side * 0.015, 0.005, 0.0])
    return move


def _pucker(points: Tensor) -> Tensor:
    """Corners come together, lips come forward and swell."""
    half = _half_width(points)
    near = torch.exp(-((points[:, :1] / (1.6 * half)) ** 2) * 0.7 - (points[:, 1:2] / 0.24) ** 2)
    move = torch.zeros_like(points)
    move[:, :1] = -0.42 * near * points[:, :1].clamp(-half, half)
    move[:, 2:] = -0.07 * near
    swell = (_is(LIPS_OUTER) - _is(LIPS_INNER)).clamp(min=0) * (1 - (points[:, :1] / half).abs()).clamp(min=0)
    move[:, 1:2] = swell * (_is(UPPER_LIP) * -0.018 + _is(LOWER_LIP) * 0.022)
    return move


def _brow_raise(points: Tensor) -> Tensor:
    """Brows and the skin above rise, upper lids a little."""
    brow = points[[105, 334], 1].mean()
    lid = points[[159, 386], 1].mean()
    rise = _smoothstep((lid - 0.02 - points[:, 1:2]) / (lid - brow).clamp(min=0.05))
    fade = 1 - 0.75 * _smoothstep((brow - points[:, 1:2]) / 0.45)
    inner = 1 - _smoothstep((points[:, :1].abs() - 0.45) / 0.3)
    return rise * fade * inner * torch.tensor([0.0, -0.095, 0.0])


def _brow_furrow(points: Tensor) -> Tensor:
    """Inner ends of the brows come together and down."""
    move = torch.zeros_like(points)
    for brow, side in ((LEFT_BROW, -1.0), (RIGHT_BROW, 1.0)):
        inner = points[list(brow)][[4, 9]].mean(0)
        move += _bump(points, inner, 0.13) * torch.tensor([-side * 0.035, 0.055, 0.0])
    return move * _smoothstep((points[[159, 386], 1].mean() + 0.06 - points[:, 1:2]) / 0.1)
