"""Procedural portraits: shaded 2.5D people drawn pixel by pixel from smooth shapes, crisp at any size.

They are the training data of the lip-sync model and its avatars. Who is drawn is an `Identities` row, what they do is
an (n, len(ANIMATION)) tensor; any window of the picture renders at its own resolution. The first seven columns are
the articulation of ..articulation; all zeros is a relaxed, closed mouth, open eyes, frontal.

| column | range | at the far end |
|---|---|---|
| jaw | 0..1 | wide open "ah": lip gap 38-40 % of the mouth's width |
| wide | -1..1 | narrowed, spread "ee" |
| round | 0..1 | puckered "oo" |
| press | 0..1 | lips pressed and thinned "m"; whatever the jaw does they stay shut |
| upper | 0..1 | upper lip raised over the teeth |
| tuck | 0..1 | lower lip under the upper teeth "f" |
| tongue | 0..1 | tip up against the upper teeth (seen when the mouth is a little open) |
| smile | -1..1 | |
| blink_left, blink_right | 0..1 | closed; the person's left is the picture's right |
| gaze_x, gaze_y | -1..1 | toward the picture's right, down |
| brow_raise | -1..1 | up |
| brow_furrow | 0..1 | |
| yaw, pitch, roll | radians, +-0.3 | nose toward the picture's right, down; head turned clockwise |
"""

import torch
from torch import Tensor

from .figure.eyes import paint_brows, paint_eyes, paint_glasses
from .figure.geometry import ANIMATION, Rig
from .figure.hair import paint_front_hair
from .figure.identity import RAW, Identities, build_identities, sample_identities
from .figure.mouth import paint_mouth
from .figure.paint import Layer, cover, decay, mix, smooth
from .figure.palette import HAIR_STYLES
from .figure.scene import paint_behind
from .figure.skin import paint_beard, paint_face

__all__ = ["ANIMATION", "HAIR_STYLES", "LANDMARKS", "RAW", "Identities", "landmarks", "lip_points", "mouth_opening",
           "portrait_from_sliders", "render", "sample_identities"]  # fmt: skip

_BLOCK = 65536  # pixels painted at once: temporaries stay in the cache
LANDMARKS = (
    "mouth_left", "mouth_right", "lip_upper_outer", "lip_upper_inner", "lip_lower_inner", "lip_lower_outer", "chin",
    "eye_left_outer", "eye_left_inner", "eye_right_inner", "eye_right_outer",
    "lid_left_upper", "lid_left_lower", "lid_right_upper", "lid_right_lower", "nose_tip",
)  # fmt: skip


def portrait_from_sliders(seed: int, **sliders: float) -> Identities:
    """One person: everything drawn by `seed`, then RAW parameters set by hand in [0, 1]; `hair_style` may also be a
    name of HAIR_STYLES. Raises ValueError for an unknown slider, style or a value outside [0, 1]."""
    raw = torch.rand(1, len(RAW), generator=torch.Generator().manual_seed(seed))
    style = sliders.pop("hair_style", None)
    for name, value in sliders.items():
        if name not in RAW:
            raise ValueError(f"unknown slider {name!r}; there are: {', '.join(RAW)}")
        if not 0 <= value <= 1:
            raise ValueError(f"slider {name} must be in [0, 1], got {value}")
        raw[0, RAW.index(name)] = value
    if style is not None:
        raw[0, RAW.index("hair_style")] = _style_slider(style, feminine=bool(raw[0, RAW.index("feminine")] > 0.5))
    return build_identities(raw)


def _style_slider(style: str | float, feminine: bool) -> float:
    """The middle of a style's share of the hair_style slider."""
    if not isinstance(style, str):
        return float(style)
    if style not in HAIR_STYLES:
        raise ValueError(f"unknown hair style {style!r}; there are: {', '.join(HAIR_STYLES)}")
    weights = [HAIR_STYLES[name]["who"][feminine] for name in HAIR_STYLES]
    index = list(HAIR_STYLES).index(style)
    return (sum(weights[:index]) + 0.5 * weights[index]) / sum(weights)


@torch.no_grad()
def render(
    identities: Identities, animation: Tensor, window: Tensor | None = None, size: int = 256, clip: bool = False
) -> Tensor:
    """Paint n frames.

    identities: n people (`identities[i].expand(n)` for one person in n frames). animation: (n, len(ANIMATION)).
    window: (n, 2, 3) affine from output coordinates (u, v, 1) in [-1, 1] (pixel centres, v down) to picture coordinates
    in [0, 1]; None is the whole picture. size: height and width in pixels.
    clip: one person and one window, only the seven articulation columns and smile change: what does not move with the
    mouth is painted once, from the first frame. Returns (n, 3, size, size) float32 in [-1, 1]. Raises ValueError for
    shapes that do not fit.
    """
    n = _checked(identities, animation, window)
    if window is None:
        window = animation.new_tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]).expand(n, 2, 3)
    centres = (torch.arange(size, device=animation.device) + 0.5) * (2 / size) - 1
    v, u = (axis.reshape(1, 1, -1) for axis in torch.meshgrid(centres, centres, indexing="ij"))
    out = animation.new_empty(n, 3, size * size)
    pixels = min(size * size, _BLOCK)
    frames = max(1, _BLOCK // pixels)
    for start in range(0, size * size, pixels):
        block = slice(start, start + pixels)
        still = None
        for first in range(0, n, frames):
            part = slice(first, first + frames)
            points = _picture_points(window[:1] if clip else window[part], u[..., block], v[..., block], size)
            if clip and still is None:
                still = _still_layers(Rig(identities[0], animation[:1]), *points)
            rig = Rig(identities[part], animation[part])
            out[part, :, block] = _paint(rig, *points, *(still or _still_layers(rig, *points)))
    return out.view(n, 3, size, size)


def _checked(identities: Identities, animation: Tensor, window: Tensor | None) -> int:
    n = len(identities)
    if animation.shape != (n, len(ANIMATION)):
        raise ValueError(f"animation must be ({n}, {len(ANIMATION)}) for {n} identities, got {tuple(animation.shape)}")
    if window is not None and window.shape != (n, 2, 3):
        raise ValueError(f"window must be ({n}, 2, 3), got {tuple(window.shape)}")
    return n


def _picture_points(window: Tensor, u: Tensor, v: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centred picture coordinates in [-1, 1] of output pixels, and the footprint of a pixel there."""
    a = window[:, :, :, None]
    x = 2 * (a[:, 0, 0:1] * u[0] + a[:, 0, 1:2] * v[0] + a[:, 0, 2:3]) - 1
    y = 2 * (a[:, 1, 0:1] * u[0] + a[:, 1, 1:2] * v[0] + a[:, 1, 2:3]) - 1
    area = (window[:, 0, 0] * window[:, 1, 1] - window[:, 0, 1] * window[:, 1, 0]).abs()
    return x.view(len(window), 1, -1), y.view(len(window), 1, -1), (area.sqrt() * 4 / size).view(-1, 1, 1)


def _still_layers(rig: Rig, x: Tensor, y: Tensor, px: Tensor) -> tuple[Tensor, Layer]:
    """What does not move with the mouth: all behind the face, and eyes, brows, glasses and hair before it."""
    fx, fy = rig.to_face(x, y)
    behind = paint_behind(rig, x, y, fx, fy, px)
    front = Layer(fx)
    paint_eyes(rig, front, fx, fy, px)
    paint_brows(rig, front, fx, fy, px)
    paint_glasses(rig, front, fx, fy, px)
    paint_front_hair(rig, front, fx, fy, px)
    return behind, front


def _paint(rig: Rig, x: Tensor, y: Tensor, px: Tensor, behind: Tensor, front: Layer) -> Tensor:
    x, y = rig.to_face(x, y)
    edge = rig.outline(x, y)
    face = paint_face(rig, x, y, px)
    face, bearded = paint_beard(rig, face, x, y, edge, px)
    face = paint_mouth(rig, face, x, y, px)
    neck = smooth(-x.abs(), -rig.neck_w - 0.05, -rig.neck_w + 0.05) * (y > 0.2)
    cast = 0.40 * decay((edge - 0.02) / 0.10) * neck * (0.5 + 0.5 * rig.shade)
    behind = behind * (1 - cast * rig.skin_rgb.new_tensor([0.85, 1.0, 1.0]).view(1, 3, 1))
    rgb = mix(behind, face, cover(edge - bearded * rig.beard_len, px * 1.3))
    return front.over(rgb).clamp(0, 1) * 2 - 1


@torch.no_grad()
def landmarks(identities: Identities, animation: Tensor) -> Tensor:
    """True points of n frames, (n, len(LANDMARKS), 2) in picture coordinates [0, 1]; left is the person's."""
    _checked(identities, animation, None)
    rig = Rig(identities, animation)
    half, corner, lips = rig.half, rig.mouth_y + rig.corner, rig.lips(torch.zeros_like(rig.half))
    middle = torch.zeros_like(half)
    points = [(half, corner), (-half, corner)] + [(middle, y) for y in lips[1:]] + [(middle, rig.chin)]
    tilt = -rig.eye_tilt * rig.eye_w * 0.5
    for side, u in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
        points.append((side * (rig.eye_x + u * rig.eye_w), rig.eye_y + u * tilt))
    for side, blink in ((1, rig.blink_left), (-1, rig.blink_right)):
        points += [(side * rig.eye_x, rig.eye_y + lid) for lid in rig.lids(middle, blink)]
    points.append((rig.nose_dx, rig.nose_y - 0.05 + rig.nose_dy))
    x = torch.cat([(p[0] + middle) for p in points], 2)
    y = torch.cat([(p[1] + middle) for p in points], 2)
    return torch.cat(rig.to_picture(x, y), 1).transpose(1, 2) * 0.5 + 0.5


LIP_STATIONS = 9  # places along each lip edge, as lips.STATIONS


@torch.no_grad()
def lip_points(identities: Identities, animation: Tensor) -> Tensor:
    """True points that move with speech, (n, 4 * LIP_STATIONS + 1, 2) in picture coordinates [0, 1].

    The four lip edges from corner to corner (upper outer, upper inner, lower inner, lower outer), then the chin.
    """
    _checked(identities, animation, None)
    rig = Rig(identities, animation)
    stations = torch.linspace(-1, 1, LIP_STATIONS) * rig.half
    edges = [edge + torch.zeros_like(stations) for edge in rig.lips(stations)[1:]]
    middle = torch.zeros_like(rig.half)
    x = torch.cat([stations] * 4 + [middle], 2)
    y = torch.cat([*edges, rig.chin + middle], 2)
    return torch.cat(rig.to_picture(x, y), 1).transpose(1, 2) * 0.5 + 0.5


def mouth_opening(identities: Identities, animation: Tensor) -> Tensor:
    """True gap between the inner lips divided by the distance of the outer eye corners, (n,)."""
    points = dict(zip(LANDMARKS, landmarks(identities, animation).unbind(1), strict=True))
    gap = (points["lip_lower_inner"] - points["lip_upper_inner"]).norm(dim=-1)
    return gap / (points["eye_left_outer"] - points["eye_right_outer"]).norm(dim=-1)
