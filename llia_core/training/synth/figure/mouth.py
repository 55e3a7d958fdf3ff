"""Lips, teeth, tongue and the dark between them."""

import torch
from torch import Tensor

from .geometry import Rig
from .paint import bump, decay, mix, noise, ridge, smooth, strip


def paint_mouth(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    """Skin-coloured picture (n, 3, P) in face coordinates -> the same with a mouth. Works in place."""
    top = rig.mouth_y - rig.up - 1.3 * rig.thick_u - 0.06 + rig.corner.clamp(max=0)
    bottom = rig.mouth_y + rig.down + rig.thick_l + 0.11 + rig.corner.clamp_min(0)
    rows = ((y > top) & (y < bottom)).any(0)[0].nonzero()
    if len(rows):  # pixels lie row by row, so the mouth's are about one run
        run = slice(int(rows[0]), int(rows[-1]) + 1)
        rgb[..., run] = _paint_run(rig, rgb[..., run], x[..., run], y[..., run], px)
    return rgb


def _paint_run(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    u, upper_out, upper_in, lower_in, lower_out = rig.lips(x)
    near = strip(x.abs(), -rig.half, rig.half, px * 1.5)
    inside = strip(y, upper_in, lower_in, px) * near
    rgb = _surroundings(rig, rgb, x, y, u, upper_out, lower_out)
    rgb = mix(rgb, _lip(rig, x, y, u, upper_in, upper_out, 0.0), strip(y, upper_out, upper_in, px * 1.6) * near)
    rgb = mix(rgb, _lip(rig, x, y, u, lower_in, lower_out, 1.0), strip(y, lower_in, lower_out, px * 1.6) * near)
    rgb = mix(rgb, _cavity(rig, x, y, upper_in, lower_in, px), inside)
    return _parting(rig, rgb, x, y, u, upper_in, lower_in, px)


def _surroundings(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, u: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Soft shade under the lower lip, at the corners and a bright rim over the cupid's bow."""
    fade = (1 - u * u).clamp_min(0)
    under = ridge((y - bottom - 0.030) / 0.030) * smooth(1 - (x / (rig.half * 0.9)) ** 2, 0.0, 0.9)
    rim = ridge((y - top + 0.012) / 0.011) * fade * ridge(x / 0.11)
    corner_y = rig.mouth_y + rig.corner
    corner = bump(x.abs() - rig.half - 0.006, y - corner_y, 0.030, 0.030)
    shadow = (0.20 + 0.10 * rig.round + 0.12 * rig.tuck) * under
    shadow = shadow + (0.14 + 0.12 * rig.smile.abs() + 0.14 * rig.press) * corner
    return rgb * (1 - shadow * (0.45 + 0.55 * rig.shade)) + 0.05 * rim * rig.shade * rig.skin_rgb


def _lip(rig: Rig, x: Tensor, y: Tensor, u: Tensor, inner: Tensor, outer: Tensor, lower: float) -> Tensor:
    """Colour of one lip; t runs from its inner edge (0) to its outer edge (1)."""
    t = ((y - inner) / (outer - inner + (1e-4 if lower else -1e-4))).clamp(0, 1)
    side = 1 - 0.25 * u * u
    crease = noise(u * 16, t * 1.5, rig.seed) * 0.035 * rig.texture
    if lower:
        light = 0.80 + 0.34 * ridge((t - 0.38) / 0.34) - 0.20 * smooth(t, 0.65, 1.0)
        light = light - 0.22 * rig.tuck * (1 - t)
        spot = ridge((t - 0.36) / 0.17) * ridge((u - 0.25 * rig.light_x) / 0.42)  # leans toward the light
        spot = spot * (0.75 + 0.25 * noise(u * 13, t, rig.seed + 3))
    else:
        light = 0.66 + 0.22 * smooth(t, 0.1, 0.9) + 0.06 * ridge((t - 0.6) / 0.25)
        spot = 0.35 * ridge((t - 0.72) / 0.14) * ridge((u.abs() - 0.24) / 0.16)
    light = 1 + (light * side + crease - 1) * (0.35 + 0.65 * rig.shade)
    gloss = spot * rig.gloss * (0.25 + 0.20 * rig.round) * (0.3 + 0.7 * rig.shade)
    return rig.lip_rgb * light + gloss * rig.light_rgb


def _cavity(rig: Rig, x: Tensor, y: Tensor, top: Tensor, bottom: Tensor, px: Tensor) -> Tensor:
    """What is seen between the lips: dark red depth, tongue, both rows of teeth, shadow of the upper lip."""
    w0 = rig.mouth_w
    red = rig.skin_rgb.new_tensor([0.30, 0.07, 0.08]).view(1, 3, 1)
    deep = rig.skin_rgb.new_tensor([0.09, 0.02, 0.03]).view(1, 3, 1)
    depth = ((y - top) / (0.7 * w0)).clamp(0, 1)
    rgb = mix(deep + 0 * x, red, depth * depth * 0.8 + 0.1)
    # The upper row belongs to the skull, the lower one to the jaw.
    upper_edge = rig.mouth_y + w0 * (0.10 - 0.10 * rig.round)
    lower_edge = upper_edge + 0.62 * rig.jaw_drop - 0.014 + 0.25 * w0 * rig.round
    tongue = _tongue_mask(rig, x, y, upper_edge, px)
    lower_row, lower_mask = _teeth(rig, x, y, lower_edge, px, -1.0)
    rgb = mix(rgb, _tongue(rig, x, y, upper_edge), tongue)
    front = tongue * smooth(rig.tongue, 0.3, 0.7)  # a raised tongue hides the lower teeth
    rgb = mix(rgb, lower_row * 0.86, lower_mask * (1 - front))
    upper_row, upper_mask = _teeth(rig, x, y, upper_edge, px, 1.0)
    rgb = mix(rgb, upper_row * (1 - 0.35 * rig.round), upper_mask)
    tip = _tip_mask(rig, x, y, upper_edge, px)
    rgb = mix(rgb, _tongue(rig, x, y, upper_edge) * 1.08, tip)
    warm = rgb.new_tensor([0.82, 1.0, 1.06]).view(1, 3, 1)
    rgb = rgb * (1 - 0.55 * warm * decay((y - top) / (0.07 * w0 + 0.09 * rig.gap)))
    return rgb * (1 - 0.35 * decay((bottom - y) / (0.05 * w0)))


def _teeth(rig: Rig, x: Tensor, y: Tensor, edge: Tensor, px: Tensor, up: float) -> tuple[Tensor, Tensor]:
    """Colour and coverage of a row whose biting edge is at `edge`; up = 1 for the upper row. Teeth lie on an arch, so
    they narrow toward the sides; arcs round their edges and fine lines part them."""
    size = rig.teeth_size * (1.0 if up > 0 else 0.80)
    arch = rig.mouth_w * 0.98 * (1.0 if up > 0 else 0.86)
    angle = torch.asin((x / arch).clamp(-0.999, 0.999)) / (0.245 * size)  # one unit a tooth
    cell = angle - torch.floor(angle)
    tooth = 1 - (2 * cell - 1) ** 4
    order = torch.floor(angle) + 0.5  # -0.5, 0.5 are the central incisors
    step = torch.where(order.abs() < 1, 0.0, torch.where(order.abs() < 2, 0.010, 0.003)) if up > 0 else 0.0
    side = x / arch
    curve = edge - up * (rig.mouth_w * 0.10 * side * side + step * 0.6 + 0.005 * (1 - tooth))
    length = rig.mouth_w * 0.50 * (1.0 if up > 0 else 0.75)
    mask = strip(y, curve - length, curve, px * 1.3) if up > 0 else strip(y, curve, curve + length, px * 1.3)
    mask = mask * (x.abs() < arch * 0.97)
    line = (1 - tooth) ** 2 * rig.teeth_gap
    warm = rig.skin_rgb.new_tensor([0.93, 0.88, 0.78]).view(1, 3, 1)
    clean = rig.skin_rgb.new_tensor([0.98, 0.97, 0.95]).view(1, 3, 1)
    rgb = mix(warm, clean, rig.teeth_white) * (1 - (0.18 + 0.62 * side * side) * side * side - 0.33 * line)
    root = ((curve - y) * up / length).clamp(0, 1)
    gum = rig.skin_rgb.new_tensor([0.72, 0.36, 0.38]).view(1, 3, 1)
    return mix(rgb * (1 - 0.15 * root), gum, smooth(root + 0.10 * (1 - tooth), 0.72, 0.80)), mask


def _tongue_mask(rig: Rig, x: Tensor, y: Tensor, upper_edge: Tensor, px: Tensor) -> Tensor:
    w0 = rig.mouth_w
    floor = rig.mouth_y + rig.down
    top = floor - 0.30 * w0 * (rig.down / (0.3 * w0)).clamp(0.3, 1)
    top = top + (upper_edge + 0.01 - top).clamp(max=0) * rig.tongue  # raised: its tip meets the upper teeth
    width = w0 * (0.66 - 0.16 * rig.tongue) * (1 - 0.25 * rig.round)
    dome = (1 - (x / width) ** 2).clamp_min(1e-4) ** (0.5 + 0.35 * rig.tongue)
    curve = floor + 0.05 - (floor + 0.05 - top) * dome
    return strip(y, curve, floor + 0.3, px * 2) * (x.abs() < width)


def _tip_mask(rig: Rig, x: Tensor, y: Tensor, upper_edge: Tensor, px: Tensor) -> Tensor:
    """The tip that laps the edge of the upper teeth when the tongue is all the way up."""
    out = smooth(rig.tongue, 0.6, 1.0)
    width = rig.mouth_w * 0.44
    dome = (1 - (x / width) ** 2).clamp_min(0) ** 0.8
    return strip(y, upper_edge + 0.008 - 0.026 * dome * out, upper_edge + 0.06, px * 2) * (x.abs() < width) * out


def _tongue(rig: Rig, x: Tensor, y: Tensor, upper_edge: Tensor) -> Tensor:
    flesh = rig.skin_rgb.new_tensor([0.80, 0.38, 0.40]).view(1, 3, 1)
    groove = ridge(x / 0.012)
    side = (x / rig.mouth_w) ** 2
    lift = ridge((y - upper_edge - 0.03) / 0.03) * rig.tongue
    return flesh * (0.96 - 1.5 * side - 0.10 * groove + 0.14 * lift).clamp_min(0.3)


def _parting(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, u: Tensor, top: Tensor, bottom: Tensor, px: Tensor) -> Tensor:
    """The dark line where closed lips meet, a little beyond the corners; it thins where the lips open or press."""
    middle = (top + bottom) * 0.5
    open_here = smooth(bottom - top, 0.0, 0.02)
    width = (0.0075 * (1 - 0.35 * rig.press) * (1 - 0.45 * u * u)).clamp_min(0.0) + 0.6 * px
    reach = smooth(-x.abs(), -rig.half - 0.018, -rig.half + 0.02)
    line = ridge((y - middle) / width) * reach * (1 - open_here)
    dark = rig.lip_rgb * 0.32
    return mix(rgb, dark, line * 0.85)
