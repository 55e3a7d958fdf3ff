"""The face's skin: shading from fake normals, blush, nose, folds, freckles, stubble and beard."""

import torch
from torch import Tensor

from .geometry import Rig
from .paint import bump, cover, grain, mix, noise, ridge, smooth


def paint_face(rig: Rig, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    """Opaque skin (n, 3, P) in face coordinates; the caller cuts it out by the outline."""
    gx, gy = _relief(rig, x, y)
    rgb = shade_skin(rig, x, y, gx, gy)
    rgb = _tints(rig, rgb, x, y)
    rgb = _nose(rig, rgb, x, y, px)
    rgb = _folds(rig, rgb, x, y)
    return _freckles(rig, rgb, x, y, px)


def shade_skin(rig: Rig, x: Tensor, y: Tensor, gx: Tensor | float, gy: Tensor | float) -> Tensor:
    """Skin lit by one soft light: ellipsoid normal tilted by the relief's slope, half-Lambert, warm terminator, sheen,
    and a rim of light on the far side."""
    nx, ny = x / 0.62, (y + 0.02) / 1.0
    nz = (1 - nx * nx - ny * ny).clamp_min(0.09).sqrt()
    nx, ny = nx - gx, ny - gy
    norm = (nx * nx + ny * ny + nz * nz).rsqrt()
    if rig.paint.max() > 0:  # brush strokes: the light is uneven and falls in steps
        stroke = noise(x * 14 + y * 9, y * 30 - x * 12, rig.seed) + 0.6 * noise(x * 40, y * 34, rig.seed + 9)
        nx = nx + 0.10 * rig.paint * stroke
    lx, ly, lz = rig.light_x, rig.light_y, 0.85
    length = (lx * lx + ly * ly + lz * lz).rsqrt()
    facing = (nx * lx + ny * ly + nz * lz) * norm * length
    tone = 0.5 + 0.5 * facing
    tone = tone * tone
    dark = rig.skin_rgb * (0.36 + 0.34 * rig.skin_rgb.new_tensor([1.15, 0.80, 0.76]).view(1, 3, 1))
    bright = rig.skin_rgb * rig.light_rgb * 1.04
    level = 1 + (smooth(tone, 0.05, 0.88) - 1) * rig.shade
    rgb = mix(dark, bright, level)
    warm = level * (1 - level) * 4
    rgb = rgb * (1 + rig.skin_rgb.new_tensor([0.10, -0.02, -0.04]).view(1, 3, 1) * warm)
    sheen = facing.clamp_min(0) ** 10
    glint = rig.skin_rgb * 0.8 + 0.2
    rgb = rgb + 0.11 * rig.shade * sheen * rig.light_rgb * glint
    rim = smooth(-nz * norm, -0.55, -0.28) * smooth(-nx * lx.sign(), 0.2, 0.7)
    rgb = rgb + 0.16 * rig.shade * rim * (0.5 * rig.back1_rgb + 0.5) * glint
    return rgb * (1 + 0.018 * rig.texture * noise(x * 38, y * 36, rig.seed))


def _relief(rig: Rig, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope of the face's relief: a sum of hills (cx, cy, sx, sy, height), each also mirrored where cx is not None."""
    smile, jaw = rig.smile, rig.jaw * (1 - rig.press)
    ax, sign = x.abs(), x.sign()
    nx, ny = x - rig.nose_dx, y - rig.nose_dy
    gx = gy = torch.zeros_like(x)
    below = rig.mouth_y + rig.down + rig.thick_l
    hills = (
        (nx, y - (rig.nose_y - 0.17), 0.050, 0.17, 0.040),  # bridge
        (nx, ny - (rig.nose_y - 0.035), rig.nose_tip, 0.052, 0.045),  # tip
        (x, y - (rig.chin - 0.095), 0.115, 0.070, 0.034 * (1 + 0.4 * rig.press)),  # chin
        (x, y + 0.42, 0.30, 0.17, 0.030),  # forehead
        (x, y - 0.5 * (below + rig.chin - 0.08) + 0.020, 0.13, 0.030, -0.012),  # groove over the chin
        (x, y - (rig.mouth_y + 0.5 * rig.down), 0.21, 0.16, 0.030 + 0.020 * rig.round),  # the teeth behind the lips
    )
    for dx, dy, sx, sy, height in hills:
        hill = height * bump(dx, dy, sx, sy)
        gx, gy = gx - 2 * dx / sx**2 * hill, gy - 2 * dy / sy**2 * hill
    cheek_y = 0.17 - 0.035 * smile + 0.02 * jaw
    swell = rig.cheek * (0.038 + 0.030 * smile.clamp_min(0) + 0.010 * rig.wide.clamp_min(0) - 0.012 * jaw)
    pairs = (
        (0.27, cheek_y, 0.125, 0.115, swell),
        (rig.eye_x, rig.eye_y - 0.015, 0.125, 0.070, -0.028),  # eye sockets
        (0.18, rig.brow_y - 0.02, 0.17, 0.05, 0.018),
        (rig.nose_w * 0.95, rig.nose_y - 0.030, 0.036, 0.040, 0.018),  # wings of the nose
    )
    for cx, cy, sx, sy, height in pairs:
        dx, dy = ax - cx, y - cy
        hill = height * bump(dx, dy, sx, sy)
        gx, gy = gx - 2 * dx / sx**2 * hill * sign, gy - 2 * dy / sy**2 * hill
    return gx, gy


def _tints(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Blush, darker eye sockets, shade under brow ridge and chin."""
    ax = x.abs()
    cheek = bump(ax - 0.29, y - 0.19 + 0.03 * rig.smile, 0.12, 0.085) * (1 + 0.3 * rig.smile.clamp_min(0))
    nose = 0.5 * bump(x - rig.nose_dx, y - rig.nose_y + 0.05, 0.07, 0.06)
    red = rig.skin_rgb * rig.skin_rgb.new_tensor([1.05, 0.66, 0.66]).view(1, 3, 1)
    rgb = mix(rgb, red, (rig.blush * 0.75 * (cheek + nose)).clamp(0, 1))
    socket = bump(ax - rig.eye_x, y - rig.eye_y + 0.015, 0.135, 0.085)
    inner = bump(ax - 0.085, y - rig.eye_y + 0.03, 0.045, 0.075)
    rgb = rgb * (1 - rig.shade * (0.13 * socket + 0.12 * inner) * rgb.new_tensor([0.8, 1.0, 1.0]).view(1, 3, 1))
    lid = bump(ax - rig.eye_x, y - rig.eye_y + 0.045, 0.12, 0.055)
    return mix(rgb, rig.eyelid_rgb, lid * rig.shadow)


def _nose(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    """Nostrils, wings, tip highlight and the shadow that the nose casts on the upper lip."""
    dx, dy = x - rig.nose_dx, y - rig.nose_dy - rig.nose_y
    ax = dx.abs()
    wing_x, warm = rig.nose_w, rgb.new_tensor([0.75, 1.0, 1.0]).view(1, 3, 1)
    cast = bump(dx - 0.02 * -rig.light_x, dy - 0.022, rig.nose_w * 0.95, 0.026)
    side = bump(ax - wing_x * 1.12, dy + 0.022, 0.022, 0.036) * smooth(ax, wing_x * 0.8, wing_x * 1.1)
    base = bump(ax - wing_x * 0.62, dy + 0.002 + 0.010 * (ax / wing_x), 0.042, 0.013)
    lee = bump((dx + rig.light_x.sign() * rig.nose_tip * 1.1), dy + 0.10, 0.028, 0.13)
    dark = 0.20 * cast + 0.17 * side + 0.20 * base + 0.12 * lee * rig.shade
    rgb = rgb * (1 - (dark * (0.5 + 0.5 * rig.shade)).clamp(0, 0.8) * warm)
    hole_x = rig.nose_w * 0.52
    hx, hy = (ax - hole_x) / (0.026 * rig.nostril), (dy + 0.004 + 0.25 * (ax - hole_x)) / (0.0115 * rig.nostril)
    hole = cover(((hx * hx + hy * hy).sqrt() - 1) * 0.012, px * 2 + 0.004)
    rgb = mix(rgb, rig.skin_rgb * rgb.new_tensor([0.34, 0.22, 0.22]).view(1, 3, 1), hole * 0.85)
    spot = bump(dx - 0.3 * rig.nose_tip * rig.light_x, dy + 0.062, 0.022, 0.017)
    ridge = bump(dx - 0.012 * rig.light_x, dy + 0.17, 0.014, 0.085)
    return rgb + (0.17 * spot + 0.06 * ridge) * rig.shade * rig.light_rgb * (rig.skin_rgb * 0.7 + 0.3)


def _folds(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Nasolabial folds (age, smile, spread), philtrum, forehead and eye lines of age, furrow between the brows."""
    ax = x.abs()
    warm = rgb.new_tensor([0.72, 1.0, 1.0]).view(1, 3, 1)
    top_x, top_y = rig.nose_w + 0.022, rig.nose_y - 0.035
    end_y = rig.mouth_y + rig.corner * 0.5 + 0.02
    t = ((y - top_y) / (end_y - top_y)).clamp(-0.2, 1.25)
    out = rig.half + 0.050 - top_x
    at = top_x + out * t * (1.55 - 0.55 * t)
    force = 0.012 + 0.14 * rig.age + 0.26 * rig.smile.clamp_min(0) + 0.12 * rig.wide.clamp_min(0) + 0.10 * rig.upper
    force = force * (1 - 0.4 * rig.round)
    fold = ridge((ax - at) / (0.020 + 0.020 * t.clamp_min(0))) * smooth(t, -0.1, 0.25) * smooth(-t, -1.2, -0.6)
    plump = ridge((ax - at - 0.032) / 0.028) * smooth(t, 0.0, 0.3) * smooth(-t, -1.0, -0.5)
    lip_top = rig.mouth_y - rig.up - rig.thick_u
    philtrum = ridge(x / 0.014) - 0.6 * ridge((ax - 0.026) / 0.012)
    philtrum = philtrum * smooth(y, rig.nose_y + 0.01, rig.nose_y + 0.05) * smooth(-y, -lip_top, -lip_top + 0.02)
    furrow = bump(ax - 0.030, y - rig.brow_y - 0.005, 0.010, 0.045) * (rig.brow_furrow + 0.15 * rig.age)
    rows = ridge((torch.sin(y * 62 + 0.8 * torch.cos(x * 5)) - 1) / 0.16) * bump(x, y + 0.375, 0.24, 0.065)
    rows = rows * (0.35 * rig.age + 0.4 * rig.brow_raise.clamp_min(0))
    crow = bump(ax - rig.eye_x - rig.eye_w - 0.045, y - rig.eye_y - 0.015, 0.028, 0.035)
    crow = crow * (0.5 + 0.5 * torch.sin((y - rig.eye_y) * 220 + ax * 40)) * rig.age
    bag = ridge(((y - rig.eye_y - 0.078) + 1.6 * (ax - rig.eye_x) ** 2 * 2) / 0.012)
    bag = bag * ridge((ax - rig.eye_x) / 0.075) * (0.25 + 0.75 * rig.age + 0.3 * rig.smile.clamp_min(0))
    dark = force * fold + 0.08 * philtrum + 0.22 * furrow + 0.16 * rows + 0.14 * crow + 0.13 * bag
    return rgb * (1 - dark.clamp(-0.1, 0.7) * warm) + 0.22 * force * plump * rig.skin_rgb * rig.shade


def _freckles(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    if rig.freckles.max() <= 0:
        return rgb
    fx, fy = x * 34, y * 34
    ox, oy = grain(fx, fy, rig.seed), grain(fx, fy, rig.seed + 5)
    cx, cy = fx - fx.floor() - 0.25 - 0.5 * ox, fy - fy.floor() - 0.25 - 0.5 * oy
    dot = cover((cx * cx + cy * cy).sqrt() - 0.06 - 0.14 * grain(fx, fy, rig.seed + 8), 34 * px + 0.12)
    where = bump(x, y - 0.12, 0.36, 0.11) * smooth(grain(fx, fy, rig.seed + 2), 0.25, 0.5)
    return mix(rgb, rig.skin_rgb * rgb.new_tensor([0.74, 0.56, 0.46]).view(1, 3, 1), dot * where * rig.freckles * 0.7)


def paint_beard(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, edge: Tensor, px: Tensor) -> tuple[Tensor, Tensor]:
    """Stubble and beard over the skin. Also returns how far the beard stands off the outline (n, 1, P)."""
    if (rig.stubble + rig.beard + rig.goatee + rig.moustache).max() <= 0:
        return rgb, torch.zeros_like(x)
    ax = x.abs()
    upper_out = rig.lips(x)[1]
    ragged = 0.010 * noise(x * 60, y * 40, rig.seed)
    # The line of a full beard: from the sideburns down the cheek and up to the moustache.
    line = 0.47 - 1.3 * (ax - 0.10).clamp_min(0) ** 1.4 + 0.10 * ridge(ax / 0.16) + ragged
    line = line + 0.4 * rig.jaw_drop
    # Bare round the lips, by an ellipse about the mouth.
    above, under = rig.up + rig.thick_u, rig.down + rig.thick_l
    middle, tall = rig.mouth_y + 0.5 * (under - above), 0.5 * (above + under) + 0.022
    lips = (x / (rig.half + 0.024)) ** 2 + ((y - middle) / tall) ** 2
    clear = smooth(lips, 0.85, 1.35)
    jaw = smooth(y - line, -0.02, 0.05) * clear
    jaw = torch.maximum(jaw, smooth(ax, rig.face_w - 0.055, rig.face_w - 0.02) * smooth(y, -0.05, 0.05))
    tash_top = rig.nose_y + 0.032 + 0.30 * ax
    reach = smooth(-ax, -rig.half - 0.06, -rig.half - 0.01)
    tash = smooth(y - tash_top + ragged, -0.010, 0.012) * smooth(upper_out - y, -0.006, 0.008) * reach
    # Beside the mouth; where the lips pucker, the bearded skin follows them in.
    outer = torch.maximum(rig.half, 0.97 * rig.mouth_w)
    droop = clear * smooth(ax, 0.4 * rig.half, 0.9 * rig.half) * smooth(-ax, -outer - 0.075, -outer - 0.035)
    droop = droop * smooth(y - tash_top, 0.0, 0.03) * smooth(-y, -rig.mouth_y - 0.20, -rig.mouth_y - 0.08)
    ring = (ax / (outer + 0.065)) ** 2 + ((y - rig.mouth_y) / (rig.chin - rig.mouth_y - 0.01)) ** 2
    goatee = smooth(1.0 - ring + 4 * ragged, 0.0, 0.25) * smooth(y, rig.mouth_y - 0.03, rig.mouth_y + 0.02) * clear
    goatee = torch.maximum(goatee, droop)
    full = torch.maximum(jaw, torch.maximum(tash, droop))
    hairs = noise(x * 110 + 5 * noise(x * 9, y * 9, rig.seed), y * 26, rig.seed + 4)
    tone = rig.hair_rgb * (0.80 + 0.22 * hairs + 0.25 * (1 - smooth(edge, -0.22, 0.0)))
    tone = mix(rgb * 0.35, tone, torch.full_like(x, 0.8))
    dots = 0.5 + 0.5 * smooth(grain(x * 130, y * 130, rig.seed), 0.2, 0.8)
    rgb = mix(rgb, rig.hair_rgb * 0.8 + 0.1 * rig.skin_rgb, full * rig.stubble * 0.42 * dots)
    dense = torch.maximum(jaw * rig.beard, torch.maximum(tash * rig.moustache, goatee * rig.goatee))
    dense = torch.maximum(dense, droop * rig.beard)
    return mix(rgb, tone, (dense * 0.96).clamp(0, 1)), jaw * rig.beard
