"""What shows between parted lips: the picture's own teeth where the mouth was open before, else a painted mouth.

Painted from the colours of the face itself, so a drawing stays grey and a blue face gets a blue mouth.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import polygon_mask
from .mesh import FACE_OVAL, LIPS_INNER, LIPS_OUTER
from .slit import Slit

UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # inner edges of the lips, left to right
LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
TEETH = 0.085  # height of the upper teeth at most, in distances of the outer eye corners


def paint_mouth(warped: Tensor, image: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """`warped` (3, H, W) with the inside of the mouth. image: the picture before the warp; before, after: landmarks.

    Nothing is painted where the lips part no further than they did before.
    """
    unit = float((before[263] - before[33]).norm())
    old_gap, new_gap = _gap(before), _gap(after)
    amount = float(((new_gap - old_gap) / (0.035 * unit)).clamp(0, 1))
    polygon = after[list(LIPS_INNER), :2]
    height, width = warped.shape[-2:]
    low, high = (polygon.amin(0) - 0.1 * unit).floor(), (polygon.amax(0) + 0.1 * unit).ceil()
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), width), min(int(high[1]), height)
    if amount == 0 or x1 <= x0 or y1 <= y0:
        return warped
    mask = polygon_mask(polygon - torch.tensor([x0, y0]), y1 - y0, x1 - x0, softness=max(0.022 * unit, 1.0)) * amount
    y, x = torch.meshgrid(torch.arange(y0, y1) + 0.5, torch.arange(x0, x1) + 0.5, indexing="ij")
    inside = _inside(image, before, after, torch.stack([x, y], -1), unit, float(old_gap) / unit)
    result = warped.clone()
    patch = result[:, y0:y1, x0:x1]
    patch += mask * (inside - patch)
    return result


def _gap(landmarks: Tensor) -> Tensor:
    return (landmarks[14, :2] - landmarks[13, :2]).norm()


def _inside(image: Tensor, before: Tensor, after: Tensor, position: Tensor, unit: float, old_gap: float) -> Tensor:
    """(3, h, w): cavity, tongue and teeth at pixel positions (h, w, 2)."""
    slit = Slit(after, UPPER, LOWER, reach=(0.1, 0.1), share=0.5)
    x, y = slit.local(position).unbind(-1)
    upper, lower = slit.rims(x)
    gap = (lower - upper).clamp(min=1e-3)
    scale = float(slit.width) / unit
    depth, level = (y - upper) * scale, ((y - upper) / gap).clamp(0, 1)  # below the upper lip: in units, and 0..1
    side = (2 * x - 1).abs().clamp(max=1)
    dark, tongue, teeth = _colours(image, before)
    soft = max(0.015, 0.8 / unit)

    colour = dark * (0.75 + 0.5 * level)
    rise = 0.62 + 0.35 * side.square()  # the tongue lies behind the lower lip
    tip = _step(level - rise, 0.16) * _step(0.8 - side, 0.2) * float(((gap.max() * scale - 0.06) / 0.1).clamp(0, 1))
    colour = colour + 0.85 * tip * (tongue * (0.75 + 0.4 * level) - colour)

    if old_gap > 0.03:  # teeth of the picture: they hang with the upper lip
        own, shown = _own_inside(image, before, slit, x, y - upper, soft)
        return colour + shown * (own - colour)
    length = TEETH * (1 - 0.35 * side.square()) * (gap * scale / 0.16).clamp(0, 1)
    cover = _step(length - depth, soft) * _step(0.88 - side, 0.12)
    arch = (x - 0.5) * scale / 0.07
    between = 1 - 0.13 * torch.exp(-((((arch - arch.round() + 0.5).remainder(1) - 0.5) / 0.1) ** 2))
    shade = (1 - 0.6 * side.square()) * (0.62 + 0.38 * (depth / 0.03).clamp(0, 1)) * between
    return colour + cover * (_darkened(teeth, shade) - colour)


def _own_inside(image: Tensor, before: Tensor, after: Slit, x: Tensor, below: Tensor, soft: float) -> tuple:
    """The picture's open mouth, hung under the new upper lip: colours (3, h, w) and where they reach (h, w)."""
    old = Slit(before, UPPER, LOWER, reach=(0.1, 0.1), share=0.5)
    upper, lower = old.rims(x)
    y = upper + below * float(after.width / old.width)
    height, width = image.shape[-2:]
    grid = old.pixels(torch.stack([x, torch.minimum(y, lower)], -1)) * torch.tensor([2 / width, 2 / height]) - 1
    own = F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0]
    end = upper + 0.86 * (lower - upper)  # the lower lip's shadow is left out
    return own, _step(end - y, 2 * soft) * ((lower - upper) / 0.05).clamp(0, 1)


def _colours(image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cavity, tongue and teeth, each (3, 1, 1) in [-1, 1], from the lips and the brightest skin."""
    lips = _samples(image, landmarks, LIPS_OUTER + LIPS_INNER).median(0).values
    skin = _samples(image, landmarks, (50, 280, 205, 425, 151, 9, 4, 199, 117, 346, *FACE_OVAL[::4]))
    light = (skin + 1).mean(1).quantile(0.85)
    flesh, face = (lips + 1) / 2, (skin.median(0).values + 1) / 2
    dark = flesh * 0.22
    tongue = 0.72 * flesh * (flesh / flesh.max().clamp(min=0.05)) ** 0.5  # more saturated than the lips
    teeth = (0.68 * torch.ones(3) + 0.32 * face / face.mean().clamp(min=0.05)) * (0.35 + 0.3 * light)
    return tuple((colour.clamp(0, 0.95) * 2 - 1)[:, None, None] for colour in (dark, tongue, teeth))


def _samples(image: Tensor, landmarks: Tensor, indices: tuple[int, ...]) -> Tensor:
    height, width = image.shape[-2:]
    x = landmarks[list(indices), 0].long().clamp(0, width - 1)
    y = landmarks[list(indices), 1].long().clamp(0, height - 1)
    return image[:, y, x].T


def _darkened(colour: Tensor, factor: Tensor) -> Tensor:
    return (colour + 1) * factor - 1


def _step(value: Tensor, width: float) -> Tensor:
    value = (value / width + 0.5).clamp(0, 1)
    return value * value * (3 - 2 * value)
