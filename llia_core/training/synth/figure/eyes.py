"""Eyes, brows and glasses, painted on the layer in front of the face."""

import torch
from torch import Tensor

from .geometry import Rig
from .paint import Layer, bump, cover, decay, mix, ridge, smooth, strip


def paint_eyes(rig: Rig, layer: Layer, x: Tensor, y: Tensor, px: Tensor) -> None:
    """Both eyes at once in mirrored coordinates; x > 0 is the person's left eye."""
    sign = torch.where(x > 0, 1.0, -1.0)
    blink = torch.where(x > 0, rig.blink_left, rig.blink_right).clamp(0, 1)
    dx, dy = x.abs() - rig.eye_x, y - rig.eye_y
    reach = (dx / rig.eye_w).clamp(-1, 1)
    top, bottom = rig.lids(reach, blink)
    near = strip(dx, -rig.eye_w, rig.eye_w, px * 1.5)
    inside = strip(dy, top, bottom, px * 1.2) * near
    layer.add(_ball(rig, dx, dy, sign, top, bottom, px), inside)
    _lid_lines(rig, layer, dx, dy, reach, top, bottom, near, blink, px)


def _ball(rig: Rig, dx: Tensor, dy: Tensor, sign: Tensor, top: Tensor, bottom: Tensor, px: Tensor) -> Tensor:
    white = rig.skin_rgb.new_tensor([0.97, 0.955, 0.945]).view(1, 3, 1)
    r = rig.iris_size
    ix, iy = dx - sign * rig.gaze_x * 0.036, dy - rig.gaze_y * 0.024 + 0.008
    radius = (ix * ix + iy * iy).sqrt()
    rgb = white * (1 - 0.30 * (dx / rig.eye_w) ** 2) - 0.10 * bump(dx + rig.eye_w, dy, 0.03, 0.03)
    rgb = mix(rgb, rig.skin_rgb * 0.85, 0.8 * bump(dx + rig.eye_w * 0.97, dy - 0.006, 0.016, 0.022))
    spokes = 0.06 * torch.sin(14 * torch.atan2(iy, ix + 1e-5) + rig.seed) * smooth(radius, 0.3 * r, 0.7 * r)
    glow = 0.72 + 0.55 * bump(ix, iy - 0.55 * r, r, 0.7 * r) + spokes
    glow = glow * (1 - 0.62 * smooth(radius, 0.74 * r, 1.0 * r))
    rgb = mix(rgb, rig.iris_rgb * glow, cover(radius - r, px * 1.2 + 0.003))
    rgb = mix(rgb, 0.12 * rig.iris_rgb, cover(radius - 0.46 * r, px * 1.2 + 0.003))
    shadow = decay((dy - top) / (0.28 * rig.eye_h + 1e-3))
    rgb = rgb * (1 - 0.50 * shadow)
    hx = dx + sign * (-0.35 * r * rig.light_x.sign()) - sign * rig.gaze_x * 0.024
    spot = cover(((hx**2 + (iy + 0.40 * r) ** 2).sqrt() - 0.24 * r), px * 1.2 + 0.003)
    hx2 = hx + sign * 0.75 * r * rig.light_x.sign()
    second = cover((hx2**2 + (iy - 0.45 * r) ** 2).sqrt() - 0.11 * r, px + 0.004)
    return mix(rgb, torch.ones_like(rgb), (0.92 * spot + 0.45 * second).clamp(max=1))


def _lid_lines(
    rig: Rig, layer: Layer, dx: Tensor, dy: Tensor, u: Tensor, top: Tensor, bottom: Tensor, near: Tensor,
    blink: Tensor, px: Tensor,
) -> None:  # fmt: skip
    """Upper lash line, lower lid's rim, crease above the lid; lashes as a wing at the outer corner."""
    lash = (0.008 + 0.007 * rig.lash) * (0.55 + 0.45 * u) * (1 - u * u).clamp_min(0.02) ** 0.25
    dark = rig.brow_rgb * 0.30
    wide = strip(dx, -rig.eye_w - 0.002, rig.eye_w + 0.006, px * 1.5)
    layer.add(dark, strip(dy, top - lash, top + 0.002, px * 1.2) * wide)
    wing_x = dx - rig.eye_w
    wing = bump(wing_x - 0.006, dy - top + 0.016 + 1.0 * wing_x, 0.018, 0.007) * (rig.lash - 0.4).clamp_min(0)
    layer.add(dark, (wing * 1.3).clamp(0, 1) * (1 - 0.7 * blink))
    layer.add(rig.skin_rgb * 0.55, 0.50 * ridge((dy - bottom - 0.003) / 0.005) * near)
    crease = top - (0.020 + 0.010 * (1 - u * u)) * (1 - 0.55 * blink)
    line = ridge((dy - crease) / 0.006) * smooth(1 - (u * 0.97) ** 2, 0.0, 0.25) * (u.abs() < 1)
    layer.shade(0.38 * line * rig.lid_fold * (1 - 0.5 * blink))
    lid = strip(dy, crease, top, px * 2) * near
    layer.light(0.045 * lid * rig.shade * rig.skin_rgb)


def paint_brows(rig: Rig, layer: Layer, x: Tensor, y: Tensor, px: Tensor) -> None:
    dx = x.abs() - rig.eye_x
    inner, outer = -rig.eye_w * 1.08 + 0.016 * (1 - rig.brow_furrow), rig.eye_w * 1.35
    t = ((dx - inner) / (outer - inner)).clamp(0, 1)  # 0 at the nose, 1 at the temple
    lift = -0.050 * rig.brow_raise * (0.8 + 0.4 * t) + 0.034 * rig.brow_furrow * (1 - t) ** 1.5
    arch = -rig.brow_arch * 4 * t * (1 - t) * (0.6 + 0.8 * t) + 0.020 * t * t
    middle = rig.brow_y + lift + arch + rig.brow_tilt * (0.5 - t) * 0.20
    half = rig.brow_thick * 0.62 * (1 - t**1.6) ** 0.6 * (0.50 + 0.50 * smooth(t, 0.0, 0.30))
    hairs = torch.sin((dx * 1.0 + (y - middle) * (0.9 - 1.7 * t)) * 420 + 3 * torch.sin(dx * 60))
    soft = px * 1.5 + 0.006
    body = strip(y, middle - half, middle + half, soft) * smooth(dx, inner - 0.012, inner + 0.040)
    body = body * smooth(-dx, -outer, -outer + 0.02)
    layer.add(rig.brow_rgb * (0.88 + 0.14 * hairs), body * (0.86 + 0.08 * hairs))


def paint_glasses(rig: Rig, layer: Layer, x: Tensor, y: Tensor, px: Tensor) -> None:
    if rig.glasses.max() <= 0:
        return
    dx, dy = x.abs() - rig.eye_x * 1.06, y - rig.eye_y - 0.022
    width, height = rig.glass_size, rig.glass_size * 0.84
    power = rig.glass_power
    radius = ((dx.abs() / width).clamp_min(1e-3) ** power + (dy.abs() / height).clamp_min(1e-3) ** power) ** (1 / power)
    d = (radius - 1) * height
    ring = cover(d.abs() - rig.glass_thick, px * 1.3)
    bridge_y = dy + 0.030 - 3.0 * x * x
    bridge = cover(bridge_y.abs() - rig.glass_thick * 0.9, px * 1.3) * (dx < -width * 0.93)
    temple = cover((dy + 0.045).abs() - rig.glass_thick, px * 1.3) * (dx > width * 0.9) * (x.abs() < rig.face_w - 0.005)
    lens = cover(d, px)
    layer.shade(0.16 * ridge((d - 0.022) / 0.020) * smooth(dy, -0.05, 0.1) * rig.glasses)
    layer.add(rig.frame_rgb * 0.8, lens * rig.tint * rig.glasses)
    streak = smooth(torch.sin((x * 0.9 + dy * 0.7) * 11 + 0.7), 0.72, 0.85) * lens
    layer.add(torch.ones_like(rig.skin_rgb), 0.10 * streak * rig.glasses)
    gleam = 1 + 0.9 * ridge((dy + height * 0.8) / 0.05) * rig.shade
    frame = torch.maximum(ring, torch.maximum(bridge, temple)) * rig.glasses
    layer.add((rig.frame_rgb * gleam).clamp(max=1), frame)
