"""Where everything is: head pose, face outline, lips and lids as curves, shared by the painter and the landmarks.

Coordinates: half picture sizes, origin at the picture's centre, x right, y down. "Face coordinates" are those of the
frontal head; `Rig.to_face` takes picture points there.
"""

import torch
from torch import Tensor

from .identity import Identities
from .paint import ridge, soft_abs

ANIMATION = (
    "jaw", "wide", "round", "press", "upper", "tuck", "tongue",
    "smile", "blink_left", "blink_right", "gaze_x", "gaze_y", "brow_raise", "brow_furrow", "yaw", "pitch", "roll",
)  # fmt: skip
_PIVOT_Y = 0.62  # the head rolls about this point of the neck
_DEPTH = 0.30  # how far the foremost point of the head moves for a turn of one radian
_NOSE_DEPTH = 0.10  # the nose tip moves this much more


class Rig:
    """Identity and animation of n frames as tensors that broadcast over pixels: scalars (n, 1, 1), colours (n, 3, 1).

    Attributes are the identity's and the animation's names, and the mouth's measures.
    """

    def __init__(self, identities: Identities, animation: Tensor):
        self._identities = identities
        for i, name in enumerate(ANIMATION):
            setattr(self, name, animation[:, i, None, None])
        self._set_mouth()
        self.jaw_drop = 0.155 * self.jaw * (1 - 0.75 * self.press) + 0.012 * self.round - 0.012 * self.tuck
        self.chin = self.chin_y + self.jaw_drop
        self.nose_dx, self.nose_dy = _NOSE_DEPTH * self.yaw, _NOSE_DEPTH * self.pitch

    def __getattr__(self, name: str) -> Tensor:
        value = getattr(self._identities, name).unsqueeze(-1)
        setattr(self, name, value)
        return value

    def _set_mouth(self) -> None:
        w0, jaw, rnd, upper, tuck = self.mouth_w, self.jaw, self.round, self.upper, self.tuck
        spread, narrow, smile = self.wide.clamp_min(0), (-self.wide).clamp_min(0), self.smile
        shut = 1 - self.press
        self.shut = self.press
        width = (1 + 0.24 * spread + 0.12 * smile.clamp_min(0)) * (1 - 0.20 * narrow) * (1 - 0.40 * rnd)
        self.half = w0 * width * (1 - 0.05 * jaw * shut)
        # The upper lip rises by `up` and the lower one falls by `down` from the closed line.
        self.up = w0 * (0.14 * jaw + 0.07 * rnd + 0.17 * upper + 0.10 * tuck) * shut
        fall = 0.62 * jaw * (1 - 0.25 * rnd) + 0.15 * rnd + 0.04 * upper
        self.down = w0 * (fall * (1 - 0.9 * tuck) - 0.02 * tuck) * shut
        self.gap = self.up + self.down
        self.corner = 0.36 * self.down - 0.13 * w0 - 0.17 * w0 * smile - 0.05 * w0 * spread + 0.02 * w0 * narrow
        self.oval = 1 - 0.42 * rnd - 0.22 * jaw  # exponent of the opening's profile: 1 a lens, 0.5 an ellipse
        stretch = 1 - 0.18 * spread - 0.12 * smile.clamp_min(0)
        pucker_u, pucker_l = (1 + 0.30 * rnd) * (1 - 0.25 * upper * (1 - rnd)), 1 + 0.22 * rnd - 0.15 * jaw
        self.thick_u = self.lip_u * stretch * pucker_u * (1 - 0.55 * self.press)
        self.thick_l = self.lip_l * stretch * pucker_l * (1 - 0.45 * self.press) * (1 - 0.60 * tuck)

    # Head pose

    def to_face(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Picture points (n, 1, P) -> face coordinates: undo place, scale, roll, then the parallax of yaw and pitch."""
        x, y = (x - self.head_x) / self.head_scale, (y - self.head_y) / self.head_scale - _PIVOT_Y
        cos, sin = self.roll.cos(), self.roll.sin()
        x, y = cos * x + sin * y, cos * y - sin * x + _PIVOT_Y
        depth = self._depth(x, y)
        return x - self.yaw.sin() * depth, y - self.pitch.sin() * depth

    def to_picture(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `to_face` (fixed point, the parallax is a contraction)."""
        px, py = x, y
        for _ in range(12):
            depth = self._depth(px, py)
            px, py = x + self.yaw.sin() * depth, y + self.pitch.sin() * depth
        cos, sin = self.roll.cos(), self.roll.sin()
        py = py - _PIVOT_Y
        px, py = cos * px - sin * py, sin * px + cos * py + _PIVOT_Y
        return px * self.head_scale + self.head_x, py * self.head_scale + self.head_y

    def _depth(self, x: Tensor, y: Tensor) -> Tensor:
        # A paraboloid that is nothing at the silhouette and negative for what is behind it (ears, back hair).
        return _DEPTH * (1 - (x / 0.54) ** 2 - (y / 0.88) ** 2).clamp(-0.5, 1)

    # Curves

    def outline(self, x: Tensor, y: Tensor, grow: Tensor | float = 0.0, top: Tensor | float = 0.0) -> Tensor:
        """Signed distance (about) to the face's outline, grown by `grow` all round and `top` more on the skull."""
        middle = -0.10
        below = y > middle
        fall = ((y - middle) / (self.chin - middle)).clamp(0, 1.3)
        hollow = self.jaw_taper + 0.02 * self.jaw * (1 - self.press) - 0.03 * self.smile.clamp_min(0)
        width = (self.face_w + grow) * (1 - hollow * fall * fall)
        height = torch.where(below, self.chin + grow - middle, middle - self.top_y + grow + top)
        power = torch.where(below, self.jaw_power, 2.3)
        a, b = (x.abs() / width).clamp_min(1e-4), ((y - middle).abs() / height).clamp_min(1e-4)
        ap, bp = a**power, b**power
        radius = ((ap + bp) ** (1 / power)).clamp_min(0.5)
        slope = (ap / a / width) ** 2 + (bp / b / height) ** 2
        return (radius - 1) * radius ** (power - 1) / slope.sqrt().clamp_min(1.0)

    def lips(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """u (-1 at one corner, 1 at the other) and the y of upper outer, upper inner, lower inner, lower outer edge."""
        u = (x / self.half).clamp(-1, 1)
        u2 = u * u
        lens = (1 - u2).clamp_min(1e-6)
        arch = lens**self.oval
        flat = ridge((soft_abs(u) - 0.42) / 0.22)
        rest = (1 - self.gap / (0.35 * self.mouth_w)).clamp(0, 1)
        # The closed line: a small tubercle in the middle between two shallow waves.
        line = self.mouth_y + self.corner * u2 + rest * self.lip_u * (0.13 * ridge(u / 0.22) - 0.10 * flat)
        upper_in, lower_in = line - self.up * arch, line + self.down * arch
        middle = ridge(u / 0.17)
        peak = ridge((soft_abs(u) - 0.30) / 0.20)
        bow = self.bow * (1 - 0.6 * self.round) * (1 - 0.5 * self.press)
        full = lens ** (0.75 - 0.2 * self.round)
        upper_out = upper_in - self.thick_u * full * (1 + bow * (0.16 * peak - 0.24 * middle))
        lower_out = lower_in + self.thick_l * lens ** (0.78 - 0.2 * self.round)
        return u, upper_out, upper_in, lower_in, lower_out

    def lids(self, u: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        """y of the upper and lower lid relative to the eye's centre, u from -1 (inner) to 1 (outer corner)."""
        lens = (1 - u * u).clamp_min(0)
        tilt = -self.eye_tilt * self.eye_w * u * 0.5
        squint = 1 - 0.22 * self.smile.clamp_min(0) - 0.10 * self.brow_furrow + 0.10 * self.brow_raise.clamp_min(0)
        high = self.eye_h * squint * (1 + 0.12 * self.gaze_y * -1)
        low = self.eye_h * (0.62 - 0.25 * self.smile.clamp_min(0))
        profile = lens**0.75 * (1 - 0.10 * u)
        lower = tilt + low * lens * (1 - 0.35 * blink) * (1 + 0.12 * u)
        upper = tilt - high * profile
        return upper + (lower + 0.004 - upper) * blink, lower
