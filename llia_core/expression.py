"""Expression editing of a portrait: sliders and templates as text, applied to a still picture by warping it.

LLIA edits the reference picture before it enters the model: portrait animation moves its face to a wanted template. How
it does so is not public. Here it is a landmark-driven warp (warp.py) plus what a warp cannot show: the inside of an
opened mouth (mouth_interior.py) and the lash line of a closed eye.
"""

import difflib
import math
import re
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .mesh import LEFT_LID_LOWER, LEFT_LID_UPPER, RIGHT_LID_LOWER, RIGHT_LID_UPPER
from .mouth_interior import LOWER, UPPER, paint_mouth
from .slit import Slit
from .warp import SLIDERS, FaceWarp

RANGES = {
    "smile": (-1.0, 1.0),
    "jaw": (0.0, 1.0),
    "press": (0.0, 1.0),
    "pucker": (0.0, 1.0),
    "brow_raise": (-1.0, 1.0),
    "brow_furrow": (0.0, 1.0),
    "blink_left": (-0.3, 1.0),
    "blink_right": (-0.3, 1.0),
    "gaze_x": (-1.0, 1.0),
    "gaze_y": (-1.0, 1.0),
    "yaw": (-20.0, 20.0),
    "pitch": (-20.0, 20.0),
    "roll": (-20.0, 20.0),
}
STILL_CELLS = 112  # nodes of the warp's grid for stills: finer than for video, since lips part


class ExpressionError(ValueError):
    """An expression text or value that cannot be used. The text names the place and what is possible."""


@dataclass(frozen=True)
class Expression:
    """Slider values, 0 = as in the picture. RANGES has the limits; yaw, pitch and roll are degrees.

    smile below 0: corners down. blink below 0: eyes wide. gaze_x, yaw: to the picture's right; gaze_y, pitch: down;
    roll: clockwise. blink_left is the person's left eye, on the picture's right. Raises ExpressionError out of range.
    """

    smile: float = 0.0
    jaw: float = 0.0
    press: float = 0.0
    pucker: float = 0.0
    brow_raise: float = 0.0
    brow_furrow: float = 0.0
    blink_left: float = 0.0
    blink_right: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ExpressionError(f"{name}={value:g} is out of range: expected {low:g} to {high:g}.")

    @property
    def is_zero(self) -> bool:
        return all(getattr(self, field.name) == 0 for field in fields(self))

    def params(self) -> Tensor:
        """(1, 13) float32 row for FaceWarp."""
        return torch.tensor([[getattr(self, name) for name in SLIDERS]], dtype=torch.float32)


TEMPLATES = {
    "neutral": Expression(),
    "smile": Expression(smile=0.65, blink_left=0.1, blink_right=0.1, brow_raise=0.1),
    "laugh": Expression(smile=0.9, jaw=0.35, blink_left=0.3, blink_right=0.3, brow_raise=0.25),
    "serious": Expression(smile=-0.25, press=0.25, brow_furrow=0.3),
    "surprised": Expression(jaw=0.5, brow_raise=0.9, blink_left=-0.25, blink_right=-0.25),
    "sad": Expression(smile=-0.8, brow_raise=0.15, brow_furrow=0.35, gaze_y=0.35, pitch=4),
    "angry": Expression(smile=-0.4, press=0.5, brow_raise=-0.5, brow_furrow=1.0),
    "kiss": Expression(pucker=0.9, blink_left=0.15, blink_right=0.15),
    "wink": Expression(smile=0.5, blink_left=1.0),
    "asleep": Expression(blink_left=1.0, blink_right=1.0, pitch=6),
}


def parse_expression(text: str) -> Expression:
    """An Expression from text like "smile=0.4, jaw=0.2", "wink" or "template=smile, yaw=5".

    Items are separated by commas, semicolons or line breaks. A template (its name alone, or template=name) sets all its
    sliders; what follows overrides. Empty text is neutral. Raises ExpressionError with the place of the mistake.
    """
    values: dict[str, float] = {}
    for match in re.finditer(r"[^,;\n]+", text):
        item = match.group().strip()
        if not item:
            continue
        place = f"at character {match.start() + 1 + len(match.group()) - len(match.group().lstrip())}, {item!r}: "
        name, equals, value = (part.strip().lower() for part in item.partition("="))
        if not equals or name == "template":
            values.update(_template(value if equals else name, place))
            continue
        if name not in RANGES:
            raise ExpressionError(f"{place}unknown slider {name!r}{_nearest(name, RANGES)}.")
        try:
            number = float(value)
        except ValueError:
            raise ExpressionError(f"{place}{value!r} is not a number, expected for example {name}=0.4.") from None
        try:
            replace(Expression(), **{name: number})
        except ExpressionError as error:
            raise ExpressionError(f"{place}{error}") from None
        values[name] = number
    return Expression(**values)


def _template(name: str, place: str) -> dict[str, float]:
    if name not in TEMPLATES:
        raise ExpressionError(
            f"{place}unknown template {name!r}{_nearest(name, TEMPLATES)}. A slider is written name=0.4."
        )
    return {field.name: getattr(TEMPLATES[name], field.name) for field in fields(Expression)}


def _nearest(name: str, known: dict) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return (f", did you mean {close[0]!r}" if close else "") + f"; there are: {', '.join(known)}"


def add_expressions(base: Expression, more: Expression) -> Expression:
    """The sum of two, slider by slider, kept within RANGES: a template and what is set by hand."""
    sums = {name: getattr(base, name) + getattr(more, name) for name in RANGES}
    return Expression(**{name: min(max(sums[name], low), high) for name, (low, high) in RANGES.items()})


def still_warp(image: Tensor, landmarks: Tensor) -> FaceWarp:
    """What edit_expression needs to know of a picture, to be kept where it is edited again and again."""
    return FaceWarp(landmarks, *image.shape[-2:], STILL_CELLS, image)


def edit_expression(
    image: Tensor, landmarks: Tensor, expression: Expression, warp: FaceWarp | None = None
) -> tuple[Tensor, Tensor]:
    """`image` (3, H, W) in [-1, 1] with `landmarks` (478, 3), moved to `expression`: (new image, new landmarks).

    Any size. A zero expression returns the very same values. warp: still_warp of this picture, made here without.
    """
    if expression.is_zero:
        return image, landmarks
    params = expression.params()
    warp = warp or still_warp(image, landmarks)
    moved = warp.displaced(params)[0]
    result = paint_mouth(warp.apply_fine(image, params), image, landmarks, moved)
    lids = ((LEFT_LID_UPPER, LEFT_LID_LOWER, "blink_right"), (RIGHT_LID_UPPER, RIGHT_LID_LOWER, "blink_left"))
    for upper, lower, slider in lids:
        closed = min(max((getattr(expression, slider) - 0.6) / 0.4, 0.0), 1.0)
        slit = Slit(moved, upper, lower, reach=(0.1, 0.1), share=0.5)
        result = _darken_seam(result, slit, thickness=0.03, amount=0.55 * closed)
    return result.clamp(-1, 1), moved


def neutralise(image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Closes an open mouth and takes back most of a smile: (new image, new landmarks). Shapes as in edit_expression."""
    image, landmarks = _close_mouth(image, landmarks)
    unit = (landmarks[263] - landmarks[33]).norm()
    down = F.normalize(landmarks[152, :2] - landmarks[10, :2], dim=0)
    lift = ((landmarks[[13, 14], :2].mean(0) - landmarks[[61, 291], :2].mean(0)) * down).sum() / unit
    smile = -min(max(float(lift) / 0.1, 0.0), 0.7)
    return edit_expression(image, landmarks, Expression(smile=smile) if smile < -0.05 else Expression())


def _close_mouth(image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Lips brought together, the lower one makes most of the way; the skin round them stretches."""
    unit = (landmarks[263] - landmarks[33]).norm()
    if (landmarks[14, :2] - landmarks[13, :2]).norm() < 0.012 * unit:
        return image, landmarks
    slit = Slit(landmarks, UPPER, LOWER, reach=(0.0, 0.0), share=0.3)
    slit.above, slit.below = (float(reach * unit / slit.width) for reach in (0.2, 0.36))
    slit.upper[0] -= 0.04  # the cut runs through the lips, so that no tooth stays
    slit.lower[0] += 0.04
    (x0, y0), (x1, y1) = _extent(slit.corners(), image)
    if x1 <= x0 or y1 <= y0:
        return image, landmarks
    x, y = slit.local(_pixel_centres(x0, y0, x1, y1)).unbind(-1)
    source_y = slit.source(x, y, torch.ones(()), float(1.2 / slit.width))[0]
    scale = torch.tensor([2 / image.shape[-1], 2 / image.shape[-2]])
    grid = slit.pixels(torch.stack([x, source_y], -1)) * scale - 1
    result = image.clone()
    result[:, y0:y1, x0:x1] = F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0]
    moved = landmarks.clone()
    local = slit.local(moved[:, :2])
    local[:, 1] += slit.follow(local[:, 0], local[:, 1])
    moved[:, :2] = slit.pixels(local)
    closed = Slit(moved, UPPER, LOWER, reach=(0.1, 0.1), share=0.5)
    return _darken_seam(result, closed, thickness=0.02, amount=0.35), moved


def _darken_seam(image: Tensor, slit: Slit, thickness: float, amount: float) -> Tensor:
    """A soft dark line along the upper rim, `thickness` widths of the slit at its middle: lashes, lips that meet."""
    (x0, y0), (x1, y1) = _extent(slit.corners(), image)
    if amount <= 0 or x1 <= x0 or y1 <= y0:
        return image
    x, y = slit.local(_pixel_centres(x0, y0, x1, y1)).unbind(-1)
    profile = (4 * x * (1 - x)).clamp(min=0)
    line = torch.exp(-(((y - slit.rims(x)[0]) / (thickness * profile.sqrt()).clamp(min=1e-3)) ** 2)) * (profile > 0)
    result = image.clone()
    result[:, y0:y1, x0:x1] = (result[:, y0:y1, x0:x1] + 1) * (1 - amount * line) - 1
    return result


def _extent(points: Tensor, image: Tensor) -> tuple[list[int], list[int]]:
    """Smallest box of whole pixels of `image` round `points` (k, 2): (x0, y0), (x1, y1)."""
    limit = torch.tensor([image.shape[-1], image.shape[-2]])
    low, high = points.amin(0).floor().long().clamp(min=0), points.amax(0).ceil().long()
    return torch.minimum(low, limit).tolist(), torch.minimum(high.clamp(min=0), limit).tolist()


def _pixel_centres(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(y0, y1) + 0.5, torch.arange(x0, x1) + 0.5, indexing="ij")
    return torch.stack([x, y], -1)
