"""What is behind the face: background, neck, ears and clothes."""

import torch
from torch import Tensor

from .geometry import Rig
from .hair import paint_back_hair, paint_front_locks
from .paint import bump, cover, decay, mix, noise, ridge, smooth
from .skin import shade_skin


def paint_behind(rig: Rig, x: Tensor, y: Tensor, fx: Tensor, fy: Tensor, px: Tensor) -> Tensor:
    """Everything but the head's front. x, y are the picture's coordinates, fx, fy the face's."""
    rgb = _background(rig, x, y)
    rgb = paint_back_hair(rig, rgb, fx, fy, px)
    rgb = _ears(rig, rgb, fx, fy, px)
    rgb = _neck(rig, rgb, x, y, px)
    rgb = _clothes(rig, rgb, x, y, px)
    return paint_front_locks(rig, rgb, fx, fy, px)


def _background(rig: Rig, x: Tensor, y: Tensor) -> Tensor:
    slope = (0.5 + 0.32 * y + 0.25 * x * rig.light_x).clamp(0, 1)
    rgb = mix(rig.back1_rgb, rig.back2_rgb, smooth(slope, 0.0, 1.0))
    glow = bump(x - 0.3 * rig.light_x, y + 0.25, 0.75, 0.75)
    rgb = rgb + glow * rig.glow * 0.22 * (1 - 0.5 * rgb)
    return rgb * (1 - 0.10 * (x * x + y * y))


def _ears(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    dx, dy = x.abs() - rig.face_w - 0.018, y - rig.ear_y
    size = rig.ear_size
    lean = dx - 0.28 * dy * -0.5
    shape = ((lean / (0.60 * size)) ** 2 + (dy / (1.22 * size * (1 + 0.15 * (dy < 0)))) ** 2).sqrt()
    d = (shape - 1) * size * 0.6
    rgb_ear = shade_skin(rig, x * 0.82, y, 0.0, 0.0) * 0.94
    fold = ridge((shape - 0.66) / 0.13) * smooth(dx, -0.4 * size, 0.1 * size)
    hollow = bump(dx + 0.1 * size, dy + 0.05 * size, 0.32 * size, 0.55 * size)
    rgb_ear = rgb_ear * (1 - (0.20 * fold + 0.30 * hollow) * rgb.new_tensor([0.75, 1.0, 1.0]).view(1, 3, 1))
    rgb = mix(rgb, rgb_ear, cover(d, px * 1.3))
    drop = ((dx + 0.02) ** 2 + (dy - 1.38 * size) ** 2).sqrt()
    gleam = 0.75 + 0.5 * bump(dx + 0.03, dy - 1.36 * size, 0.012, 0.012)
    gold = rgb.new_tensor([0.96, 0.80, 0.42]).view(1, 3, 1) * gleam
    return mix(rgb, gold, cover(drop - 0.026, px * 1.3) * rig.earring)


def _neck(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    lean = x - 0.7 * rig.head_x - 0.15 * rig.roll * -(0.9 - y)
    width = rig.neck_w + 0.30 * (y - 0.78).clamp_min(0) ** 1.5
    d = torch.maximum(lean.abs() - width, 0.2 - y)
    skin = shade_skin(rig, lean * 1.5, y * 0.4, 0.0, 0.0)
    muscle = ridge((lean.abs() - 0.16 + 0.35 * (y - 0.75)) / 0.03)
    pit = bump(lean, y - 0.985, 0.05, 0.05)
    skin = skin * (0.90 - (0.07 * muscle + 0.12 * pit) * rig.shade)
    return mix(rgb, skin, cover(d, px * 1.3))


def _clothes(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    ax = x.abs()
    neck = rig.neck_w + 0.02
    slope = rig.shoulder + 0.05 + 0.42 * (ax - neck).clamp_min(0) ** 1.25
    at = (ax / (neck + 0.03)).clamp(0, 1)
    dip = (0.07 + rig.collar_v) * (1 - at ** (2 - 3 * rig.collar_v)) * (1 - rig.turtle) + 0.03 * (1 - at * at)
    edge = torch.where(at < 1, rig.shoulder + 0.05 - 0.05 * rig.turtle + dip, slope)
    d = (edge - y) * 0.85
    light = 0.94 + 0.12 * (x * rig.light_x) - 0.16 * smooth(ax, 0.45, 1.05) * rig.shade
    folds = noise(x * 5 + y * 3, y * 5, rig.seed + 6) * 0.035 * rig.texture
    rgb_cloth = rig.cloth_rgb * (light + folds)
    hem = ridge((d + 0.028) / 0.010) * smooth(-ax, -neck - 0.02, -neck + 0.06)
    rgb_cloth = mix(rgb_cloth, rig.cloth_rgb * 0.72, hem * 0.7)
    rgb = rgb * (1 - 0.22 * decay(d / 0.03) * smooth(-ax, -neck, -neck + 0.06))
    rgb = mix(rgb, rgb_cloth, cover(d, px * 1.3))
    down = y - rig.shoulder
    flap = torch.maximum(0.02 - down + 0.25 * (ax - neck), down - 0.20 + 0.55 * (ax - 0.20).abs())
    flap = torch.maximum(flap, 0.07 - 0.27 * (down - 0.04).clamp(-0.1, 0.3) - ax)
    flap_rgb = rig.cloth2_rgb * (light + 0.04)
    shade = cover(flap - 0.02, 0.05) * 0.25 * rig.collar_flaps * (y > slope)
    rgb = mix(rgb * (1 - shade), flap_rgb, cover(flap, px * 1.3) * rig.collar_flaps)
    return rgb
