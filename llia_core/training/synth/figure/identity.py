"""Who is in the portrait: batched identity parameters and how they are drawn at random.

An identity is built from a row of independent uniforms (RAW), so that a slider is simply one of them set by hand.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .palette import CLOTHES, HAIR, HAIR_STYLES, IRIS, LIPSTICK, SCENES, SKIN, STYLE_FIELDS


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


RAW = _names(
    "skin skin_jitter fantasy feminine age head_size head_x head_y face_width jaw_width jaw_shape chin ears ear_height "
    "eye_height eye_spacing eye_size eye_open eye_tilt lid_fold iris_size iris iris_jitter lashes eye_shadow "
    "brow_height brow_arch brow_thickness brow_tilt nose_length nose_width nose_tip nostrils "
    "mouth_height mouth_width upper_lip lower_lip cupid_bow gloss lipstick lipstick_colour lip_tone teeth_white "
    "teeth_size teeth_gap hair_style hair_colour hair_jitter hair_dye hairline hair_volume part hair_side "
    "beard beard_kind beard_length glasses glasses_shape glasses_colour glasses_size earrings "
    "clothes clothes_second collar_kind neck scene scene_turn glow light_x light_y light_warmth freckles blush "
    "shading painterly texture seed"
)

SCALARS = _names(
    "head_scale head_x head_y face_w top_y chin_y jaw_taper jaw_power cheek ear_size ear_y "
    "eye_x eye_y eye_w eye_h eye_tilt lid_fold iris_size lash shadow brow_y brow_arch brow_thick brow_tilt "
    "nose_y nose_w nose_tip nostril mouth_y mouth_w lip_u lip_l bow gloss teeth_white teeth_size teeth_gap "
    "cap cap_top fringe sweep side hair_line back_w back_y back curl curl_size bun recede part hair_alpha "
    "stubble beard goatee moustache beard_len glasses glass_size glass_power glass_thick tint earring "
    "collar_v collar_flaps turtle neck_w shoulder glow light_x light_y freckles age blush shade paint texture seed"
)
COLOURS = _names("skin lip iris brow hair hair_light cloth cloth2 back1 back2 light frame eyelid")
_COLUMNS = {name: slice(i, i + 1) for i, name in enumerate(SCALARS)} | {
    name + "_rgb": slice(len(SCALARS) + 3 * i, len(SCALARS) + 3 * i + 3) for i, name in enumerate(COLOURS)
}
WIDTH = len(SCALARS) + 3 * len(COLOURS)


@dataclass
class Identities:
    """n identities; `values` is (n, WIDTH). A scalar reads as (n, 1) by its name, a colour as (n, 3) in [0, 1] by its
    name + "_rgb". Lengths are in half picture sizes, the face's centre at the origin, y down."""

    values: Tensor

    def __getattr__(self, name: str) -> Tensor:
        if name not in _COLUMNS:
            raise AttributeError(f"no identity parameter {name!r}; known: {', '.join(_COLUMNS)}")
        return self.values[:, _COLUMNS[name]]

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, index) -> "Identities":
        """`ids[3]`, `ids[2:5]`, `ids[tensor]`: always a batch."""
        return Identities(self.values[[index] if isinstance(index, int) else index])

    def expand(self, n: int) -> "Identities":
        """One identity seen n times, without a copy. Raises ValueError unless there is exactly one."""
        if len(self) != 1:
            raise ValueError(f"expand repeats one identity, got {len(self)}: index one first, e.g. ids[0].expand(n)")
        return Identities(self.values.expand(n, -1))

    def to(self, device: torch.device | str) -> "Identities":
        return Identities(self.values.to(device))

    @staticmethod
    def cat(parts: list["Identities"]) -> "Identities":
        return Identities(torch.cat([part.values for part in parts]))


def sample_identities(n: int, generator: torch.Generator | None = None) -> Identities:
    """n random identities; equal generators give equal people."""
    return build_identities(torch.rand(n, len(RAW), generator=generator))


def build_identities(raw: Tensor) -> Identities:
    """Uniforms (n, len(RAW)) in [0, 1] -> identities."""
    u = {name: raw[:, i : i + 1] for i, name in enumerate(RAW)}
    p = _head(u) | _face(u) | _mouth(u) | _extras(u)
    p |= _colours(u)
    hair = _hair(u, p)
    p |= hair
    scalars = [p[name].expand(len(raw), 1) for name in SCALARS]
    return Identities(torch.cat(scalars + [p[name + "_rgb"].clamp(0, 1) for name in COLOURS], 1))


def _span(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _rare(u: Tensor, chance: Tensor | float) -> Tensor:
    return (u < chance).float()


def _pick(table: list, u: Tensor) -> Tensor:
    """Rows of a table by a uniform, (n, columns)."""
    rows = torch.tensor(table, dtype=torch.float32)
    return rows[(u[:, 0] * len(rows)).long().clamp(0, len(rows) - 1)]


def _blend(table: list, u: Tensor) -> Tensor:
    """Piecewise linear colour ramp through the rows of a table."""
    rows = torch.tensor(table, dtype=torch.float32)
    at = u[:, 0] * (len(rows) - 1)
    low = at.long().clamp(0, len(rows) - 2)
    return torch.lerp(rows[low], rows[low + 1], (at - low)[:, None])


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def _head(u: dict) -> dict:
    fem = u["feminine"]
    return {
        "head_scale": _span(u["head_size"], 0.97, 1.03),
        "head_x": _span(u["head_x"], -0.02, 0.02),
        "head_y": _span(u["head_y"], -0.02, 0.02),
        "face_w": _span(u["face_width"], 0.480, 0.540) - 0.012 * fem,
        "top_y": -0.76 + 0 * fem,
        "chin_y": _span(u["chin"], 0.665, 0.725) - 0.015 * fem,
        "jaw_taper": _span(u["jaw_width"], -0.02, 0.10) + 0.05 * fem,
        "jaw_power": _span(u["jaw_shape"], 2.05, 2.55) - 0.12 * fem,
        "cheek": _span(u["jaw_shape"], 0.6, 1.0),
        "ear_size": _span(u["ears"], 0.085, 0.12),
        "ear_y": _span(u["ear_height"], 0.02, 0.08),
        "neck_w": _span(u["neck"], 0.20, 0.25) + 0.035 * (1 - fem),
        "shoulder": _span(u["neck"], 0.80, 0.75),
        "age": ((u["age"] - 0.5) / 0.5).clamp(0, 1) ** 1.3,
    }


def _face(u: dict) -> dict:
    fem = u["feminine"]
    eye_y = _span(u["eye_height"], -0.085, -0.045)
    return {
        "eye_x": _span(u["eye_spacing"], 0.205, 0.232),
        "eye_y": eye_y,
        "eye_w": _span(u["eye_size"], 0.104, 0.124) + 0.006 * fem,
        "eye_h": _span(u["eye_open"], 0.056, 0.078) + 0.008 * fem,
        "eye_tilt": _span(u["eye_tilt"], -0.10, 0.20) + 0.04 * fem,
        "lid_fold": _span(u["lid_fold"], 0.1, 1.0),
        "iris_size": _span(u["iris_size"], 0.061, 0.072),
        "lash": 0.25 + 0.75 * fem * _span(u["lashes"], 0.4, 1.0),
        "shadow": _rare(u["eye_shadow"], 0.45 * fem) * 0.7,
        "brow_y": eye_y - _span(u["brow_height"], 0.138, 0.172),
        "brow_arch": _span(u["brow_arch"], 0.010, 0.040),
        "brow_thick": _span(u["brow_thickness"], 0.026, 0.048) - 0.008 * fem,
        "brow_tilt": _span(u["brow_tilt"], -0.10, 0.08),
        "nose_y": _span(u["nose_length"], 0.180, 0.235),
        "nose_w": _span(u["nose_width"], 0.066, 0.102),
        "nose_tip": _span(u["nose_tip"], 0.045, 0.062),
        "nostril": _span(u["nostrils"], 0.6, 1.0),
    }


def _mouth(u: dict) -> dict:
    fem = u["feminine"]
    return {
        "mouth_y": _span(u["mouth_height"], 0.385, 0.425),
        "mouth_w": _span(u["mouth_width"], 0.195, 0.238),
        "lip_u": _span(u["upper_lip"], 0.034, 0.062) + 0.006 * fem,
        "lip_l": _span(u["lower_lip"], 0.048, 0.076) + 0.006 * fem,
        "bow": _span(u["cupid_bow"], 0.2, 1.0),
        "gloss": _span(u["gloss"], 0.1, 0.55) + 0.2 * fem,
        "teeth_white": _span(u["teeth_white"], 0.0, 1.0),
        "teeth_size": _span(u["teeth_size"], 0.9, 1.15),
        "teeth_gap": _span(u["teeth_gap"], 0.3, 1.0),
        "freckles": ((u["freckles"] - 0.75) * 4).clamp_min(0),
        "blush": _span(u["blush"], 0.10, 0.40) + 0.15 * fem,
    }


def _extras(u: dict) -> dict:
    fem, collar = u["feminine"], u["collar_kind"]
    bearded = _rare(u["beard"], 0.62) * _rare(fem, 0.42)
    kind = u["beard_kind"]
    glasses = _rare(u["glasses"], 0.24)
    return {
        "stubble": bearded * _rare(kind, 0.35) * _span(u["beard_length"], 0.35, 0.85),
        "beard": bearded * _rare(1 - kind, 0.35),
        "goatee": bearded * _rare((kind - 0.44).abs(), 0.09),
        "moustache": bearded * _rare(1 - kind, 0.65),
        "beard_len": _span(u["beard_length"], 0.01, 0.06),
        "glasses": glasses,
        "glass_size": _span(u["glasses_size"], 0.145, 0.175),
        "glass_power": _span(u["glasses_shape"], 2.0, 5.0),
        "glass_thick": _span(u["glasses_colour"], 0.007, 0.016),
        "tint": _rare(u["glasses_size"], 0.15) * 0.35,
        "earring": _rare(u["earrings"], 0.55 * fem),
        "collar_v": _span(collar, 0.02, 0.16) * _rare(1 - collar, 0.75),
        "collar_flaps": _rare((collar - 0.62).abs(), 0.16),
        "turtle": _rare(collar, 0.14),
        "glow": _span(u["glow"], 0.1, 0.6),
        "light_x": _span(u["light_x"], -0.75, 0.75),
        "light_y": _span(u["light_y"], -0.75, -0.35),
        "shade": 0.55 + 0.45 * (u["shading"] * 2.2).clamp(0, 1) - 0.25 * _rare(u["shading"], 0.12),
        "paint": _rare(u["painterly"], 0.22) * _span(u["texture"], 0.5, 1.0),
        "texture": _span(u["texture"], 0.2, 1.0),
        "seed": _span(u["seed"], 0.0, 50.0),
    }


def _colours(u: dict) -> dict:
    jitter = u["skin_jitter"] - 0.5
    skin = _blend(SKIN, u["skin"]) + jitter * torch.tensor([0.03, -0.02, -0.05])
    odd = _pick([[0.56, 0.74, 0.86], [0.62, 0.80, 0.62], [0.78, 0.66, 0.88], [0.93, 0.66, 0.60]], u["skin_jitter"])
    skin = torch.where(u["fantasy"] < 0.02, odd, skin)
    # Lips: the skin's own colour, redder and darker; the darker the skin the less darker and the more plum.
    dark = 1 - skin.mean(1, keepdim=True)
    natural = skin * torch.lerp(torch.tensor([0.90, 0.62, 0.62]), torch.tensor([0.86, 0.62, 0.68]), dark)
    natural = natural + _span(u["lip_tone"], -0.02, 0.06) * torch.tensor([1.0, 0.2, 0.4])
    painted = torch.lerp(_pick(LIPSTICK, u["lipstick_colour"]), natural, 0.3)
    lip = torch.where(u["lipstick"] < 0.6 * (u["feminine"] > 0.5), painted, natural)
    hair = _blend(HAIR, u["hair_colour"] * (1 - 0.7 * _ramp(u["skin"], 0.4, 0.75))) * _span(u["hair_jitter"], 0.9, 1.1)
    dye = _pick([[0.85, 0.45, 0.60], [0.35, 0.50, 0.80], [0.45, 0.70, 0.62], [0.60, 0.42, 0.75]], u["hair_jitter"])
    natural_hair = torch.lerp(hair, torch.tensor([0.78, 0.78, 0.80]), ((u["age"] - 0.86) * 7).clamp(0, 0.9))
    hair = torch.where(u["hair_dye"] < 0.06, dye, natural_hair)
    scene = _pick(SCENES, u["scene"])
    turn = u["scene_turn"] < 0.5
    cloth = _pick(CLOTHES, u["clothes"])
    # Dark skin mostly goes with brown eyes and dark hair.
    iris = _blend(IRIS, u["iris"] * (1 - 0.75 * _ramp(u["skin"], 0.35, 0.7))) * _span(u["iris_jitter"], 0.85, 1.15)
    warm = u["light_warmth"]
    frame = [[0.10, 0.10, 0.12], [0.30, 0.17, 0.10], [0.62, 0.48, 0.28], [0.20, 0.25, 0.40], [0.60, 0.18, 0.22]]
    return {
        "skin_rgb": skin, "lip_rgb": lip, "iris_rgb": iris, "hair_rgb": hair,
        "brow_rgb": torch.lerp(natural_hair * 0.75, skin * 0.35, 0.30), "cloth_rgb": cloth,
        "hair_light_rgb": hair + (1 - hair) * torch.lerp(torch.tensor([0.22, 0.20, 0.18]), hair, 0.3),
        "cloth2_rgb": _pick(CLOTHES, u["clothes_second"]),
        "back1_rgb": torch.where(turn, scene[:, :3], scene[:, 3:]),
        "back2_rgb": torch.where(turn, scene[:, 3:], scene[:, :3]),
        "light_rgb": torch.lerp(torch.tensor([0.93, 0.97, 1.05]), torch.tensor([1.06, 0.98, 0.90]), warm),
        "frame_rgb": _pick(frame, u["glasses_colour"]),
        "eyelid_rgb": _pick([[0.45, 0.25, 0.35], [0.35, 0.30, 0.45], [0.50, 0.35, 0.22]], u["eye_shadow"] * 3 % 1),
    }  # fmt: skip


def _hair(u: dict, p: dict) -> dict:
    """A style is a row of shape parameters; the row is drawn among those that suit the sampled person."""
    names = list(HAIR_STYLES)
    weight = torch.tensor([HAIR_STYLES[name]["who"] for name in names])  # (styles, 2): masculine, feminine
    fem = (u["feminine"] > 0.5).long()[:, 0]
    edges = (weight / weight.sum(0)).cumsum(0).T[fem]  # (n, styles)
    which = (u["hair_style"] > edges).sum(1).clamp(max=len(names) - 1)
    rows = torch.tensor([[float(HAIR_STYLES[name].get(f, 0)) for f in STYLE_FIELDS] for name in names])[which]
    style = {field: rows[:, i : i + 1] for i, field in enumerate(STYLE_FIELDS)}
    volume = _span(u["hair_volume"], 0.8, 1.25)
    for name in ("cap", "cap_top"):
        style[name] = style[name] * volume
    style["back_w"] = style["back_w"] * _span(u["hair_volume"], 0.95, 1.06)
    style["hair_line"] = _span(u["hairline"], -0.545, -0.475) + 0.03 * p["age"] * -1
    flip = torch.where(u["part"] < 0.5, -1.0, 1.0)
    style["part"] = flip * (0.08 + 0.16 * ((u["part"] * 2) % 1))
    style["side"] = style["side"] * _span(u["hair_side"], 0.85, 1.15)
    return style
