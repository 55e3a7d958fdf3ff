"""Hair behind the head and on it. One parametric shape; styles are rows of its parameters (palette.py)."""

import torch
from torch import Tensor

from .geometry import Rig
from .paint import Layer, cover, decay, mix, noise, ridge, smooth


def _strands(rig: Rig, x: Tensor, y: Tensor) -> Tensor:
    """Brightness of hair: strands that run from the part over the skull and hang straight below the temples."""
    dx = x - 0.5 * rig.part
    dx = dx + rig.curl * 1.3 * torch.sin(y * 13 + x * 3 + rig.seed) * (rig.curl_size < 12)
    across = torch.where(y < 0.0, dx / (0.75 + (y + 0.1).clamp(-1, 0) * 0.75 + 0.1).clamp_min(0.2), dx / 0.85)
    fine = torch.sin(across * 120 + 3 * torch.sin(across * 23 + rig.seed))
    wide = torch.sin(across * 31 + rig.seed + 1.5 * torch.sin(across * 9 + y * 3))
    size = rig.curl_size
    warp = noise(x * size * 0.9, y * size * 0.9, rig.seed)
    curls = noise(x * size * 1.2 + 1.4 * warp, y * size * 1.2 - 1.2 * warp, rig.seed + 3)
    curly = smooth(rig.curl, 0.004, 0.014) * smooth(size, 10.0, 14.0)
    return torch.lerp(0.30 * fine + 0.50 * wide, 0.9 * curls, curly * 0.75)


def _colour(rig: Rig, x: Tensor, y: Tensor, distance: Tensor) -> Tensor:
    """Base, strands, an anisotropic highlight round the crown and shade at the edge away from the light."""
    strand = _strands(rig, x, y)
    crown = ((x / 0.60) ** 2 + ((y + 0.05) / 0.82) ** 2).sqrt()
    band = ridge((crown - 0.86 - 0.03 * strand) / 0.085) * smooth(-y, 0.0, 0.5)
    band = band * ridge((x - 0.35 * rig.light_x) / 0.40)
    rgb = rig.hair_rgb * (0.92 + 0.20 * strand * (0.4 + 0.6 * rig.shade))
    rgb = mix(rgb, rig.hair_light_rgb, (band * (0.55 + 0.35 * strand) * rig.shade).clamp(0, 0.85))
    far = (x * rig.light_x.sign() * -1 / 0.6).clamp(0, 1)
    rgb = rgb * (1 - 0.30 * rig.shade * far * far)
    rim = ridge((distance + 0.012) / 0.016) * smooth(-y, -0.3, 0.4)
    return rgb + 0.10 * rim * rig.shade * (0.5 + 0.5 * rig.light_rgb) * (0.3 + rig.hair_light_rgb)


def _curl(rig: Rig, x: Tensor, y: Tensor) -> Tensor:
    return rig.curl * noise(x * rig.curl_size * 0.8, y * rig.curl_size * 0.8, rig.seed + 2) * 1.2


def back_hair(rig: Rig, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance of the mass behind head and neck (and of the bun)."""
    rough = _curl(rig, x, y)
    # Short hair tapers to the skin behind the ears.
    skull = rig.outline(x, y, rig.cap, rig.cap_top) + 0.9 * (y + 0.48).clamp_min(0) ** 2
    top, bottom = -0.30, rig.back_y
    middle, half = (top + bottom) * 0.5, (bottom - top) * 0.5
    corner = 0.22
    width = rig.back_w + 0.02 * torch.sin(y * 5 + rig.seed)
    qx, qy = x.abs() - width + corner, (y - middle).abs() - half + corner
    box = (qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2).sqrt() + torch.maximum(qx, qy).clamp(max=0) - corner
    lobe = ((x / rig.back_w) ** 2 + ((y + 0.12) / (0.66 + rig.cap + rig.cap_top)) ** 2).sqrt()
    mass = torch.minimum(box, (lobe - 1) * 0.6) + 2 * (1 - rig.back)
    bun = ((x / 1.1) ** 2 + (y - rig.top_y + 0.06) ** 2).sqrt() - rig.bun + 2 * (rig.bun < 0.01)
    present = 4 * (rig.hair_alpha < 0.9)
    return torch.minimum(torch.minimum(mass, skull), bun) + rough + present


def paint_back_hair(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    distance = back_hair(rig, x, y)
    tone = _colour(rig, x, y, distance) * (0.86 - 0.36 * smooth(y, -0.1, 0.45) * ridge(x / 0.45))
    return mix(rgb, tone, cover(distance, px * 1.4 + 0.002))


def paint_front_locks(rig: Rig, rgb: Tensor, x: Tensor, y: Tensor, px: Tensor) -> Tensor:
    """Long hair that falls in front of the shoulders."""
    inner = 0.36 + 0.03 * torch.sin(y * 7 + rig.seed) - 0.05 * smooth(y, 0.6, 1.0)
    distance = torch.maximum(back_hair(rig, x, y), torch.maximum(inner - x.abs(), 0.3 - y))
    tone = _colour(rig, x, y, distance) * (0.70 + 0.25 * smooth(x.abs() - inner, 0.0, 0.12))
    return mix(rgb, tone, cover(distance, px * 1.4 + 0.002) * smooth(y, 0.3, 0.5) * rig.back * (rig.back_y > 0.7))


def paint_front_hair(rig: Rig, layer: Layer, x: Tensor, y: Tensor, px: Tensor) -> None:
    """Hair over the forehead and temples, with the shade it casts on the skin."""
    ax = x.abs()
    fade = 0.9 * (y + 0.48).clamp_min(0) ** 2 * (1 - rig.back)  # short hair thins toward the ears
    shell = rig.outline(x, y, rig.cap, rig.cap_top) + _curl(rig, x, y) + torch.minimum(fade, rig.cap)
    across = (x - rig.part) * rig.part.sign()  # grows away from the part over the forehead
    long, short = across.clamp(max=0).abs(), across.clamp_min(0)
    temple = smooth(ax / rig.face_w, 0.52, 1.0)
    line = rig.hair_line + rig.fringe * smooth(-ax, -0.44, -0.22) - 0.14 * rig.sweep + 0.9 * ax**3
    line = line + rig.sweep * (1.1 * long**1.5 + 2.0 * short**1.6)
    line = line + rig.side * temple**1.6 - 0.16 * rig.recede * ridge((ax - 0.24) / 0.10)
    locks = 0.012 + 0.35 * rig.fringe.clamp_min(0) * 0.12
    line = line + locks * torch.sin(x * 34 + rig.seed + 2 * torch.sin(x * 13)) * (1 - temple)
    line = line + _curl(rig, x * 1.3, y) * 1.5
    steep = 1 / (1 + 3.0 * (rig.sweep + 1.0 * temple * (1 - temple) * 4 * rig.side))
    distance = torch.maximum(shell, (y - line) * steep)
    soft = px * 1.5 + 0.006 + 0.03 * (rig.hair_alpha < 0.9)
    alpha = cover(distance, soft) * rig.hair_alpha
    cast = decay((y - line) * steep / 0.035) * (rig.hair_alpha > 0.9)
    layer.shade(0.30 * cast * cover(rig.outline(x, y), px * 2) * (0.4 + 0.6 * rig.shade))
    root = 1 - 0.25 * decay((line - y) / 0.05)
    layer.add(_colour(rig, x, y, shell) * root, alpha)
