"""Where the lids lie in the picture itself, and what is in their way.

The mesh knows human eyes: the lids of big drawn eyes it puts up to a tenth of their width beside the drawn ones, and of
glasses it knows nothing. Both are read from the colours along lines across the lid: outward from the opening come
lashes, then skin, then perhaps the rim of glasses or the brow, which a closing lid must not drag along.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .slit import Slit, fit_curve

COLUMNS = 25  # lines across the lid
STEP = 0.0125  # between samples on a line; this and all below in widths of the eye
INNER, OUTER = 0.14, 0.62  # a line's reach into the opening and away from it
SKIN_RUN = 0.035  # so much skin at a stretch ends the lashes
LASH = 0.045  # lashes that stay on the lid's side of its rim
OFF = 0.16  # farther from the mesh's lid is a mistake
SKIN_NEAR, SKIN_FAR = 0.16, 0.25  # distance of colours in [0, 1]^3 still skin: on smooth and on mottled faces
OBSTACLE = 0.3  # distance that is something else
MARGIN, LEAST = 0.03, 0.06  # of skin: left alone below an obstacle, at least stretched


def fit_lids(image: Tensor, slit: Slit, amount: float) -> None:
    """Moves the rims of `slit` by `amount` (0 to 1) onto the lids of `image` (3, H, W) and bounds how far up skin is
    stretched by what is above the upper lid; in place. What cannot be read stays as it was."""
    x = torch.linspace(0, 1, COLUMNS)
    away = torch.arange(-INNER, OUTER, STEP)
    rims = torch.stack(slit.rims(x))
    lines = torch.stack([_colours(image, slit, x, rims[0] - away[:, None]),
                         _colours(image, slit, x, rims[1] + away[:, None])])  # fmt: skip
    near = lines[:, :, (away > 0.06) & (away < 0.34)]  # (2, 3, rows, columns): mostly skin
    skin = near.transpose(0, 1).flatten(1).median(1).values
    distance = (lines - skin[:, None, None]).norm(dim=1)
    spread = float((near - skin[:, None, None]).norm(dim=1).median())
    is_skin = distance < min(max(2.5 * spread, SKIN_NEAR), SKIN_FAR)
    run = round(SKIN_RUN / STEP)
    skin_begins = is_skin.unfold(1, run, 1).all(-1)  # (2, rows, columns)
    first = skin_begins.float().argmax(1)
    found = first > 0  # 0: nothing is skin, or the line's inner end is
    for side, (curve, sign) in enumerate(((slit.upper, -1.0), (slit.lower, 1.0))):
        shift = _trusted(away[first[side]] - LASH * (side == 0), found[side], x)
        if shift is not None and amount > 0:
            curve.copy_(fit_curve(x, rims[side] + sign * amount * shift))
    middle = slice(3, -3)  # at the corners of the eye lines run along lids and lashes
    height = _free_height(distance[0, :, middle], first[0, middle], found[0, middle], away, slit.above)
    if height is not None:
        top = F.pad((rims[0, middle] - height)[None], (3, 3), mode="replicate")[0]
        slit.limit_above((slit.rims(x)[0] - top - MARGIN).clamp(min=LEAST))


def _colours(image: Tensor, slit: Slit, x: Tensor, y: Tensor) -> Tensor:
    """(3, rows, columns) in [0, 1] at (x, y) of the slit's frame; y: (rows, columns)."""
    height, width = image.shape[-2:]
    grid = slit.pixels(torch.stack([x.expand_as(y), y], -1)) * torch.tensor([2 / width, 2 / height]) - 1
    return (F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0] + 1) / 2


def _trusted(shift: Tensor, found: Tensor, x: Tensor) -> Tensor | None:
    """The straight line (columns,) through most shifts of a rim; None if they do not agree on one."""
    good = found & (shift.abs() < OFF) & (x > 0.12) & (x < 0.88)
    line = torch.zeros_like(x)
    for near in (0.07, 0.035):
        if int(good.sum()) < COLUMNS // 2:
            return None
        line = line + (shift - line)[good].median()
        good &= (shift - line).abs() < near
        basis = torch.stack([torch.ones_like(x), x], 1)
        line = basis @ torch.linalg.lstsq(basis[good], shift[good]).solution if bool(good.any()) else line
    agreed = int(good.sum()) >= COLUMNS // 2 and float(line.abs().max()) < OFF
    return line if agreed else None


def _free_height(distance: Tensor, first: Tensor, found: Tensor, away: Tensor, reach: float) -> Tensor | None:
    """Height above the rim (columns,) at which something begins that is no skin; None where most columns are free up
    to `reach`."""
    rows = torch.arange(len(away))[:, None]
    other = (distance > OBSTACLE) & (rows > first) & found
    other = other[:-2] & other[1:-1] & other[2:]
    height = torch.where(other.any(0), away[other.float().argmax(0)], OUTER)
    smooth = F.pad(height[None], (2, 2), mode="replicate")[0].unfold(0, 5, 1).median(1).values
    if float((smooth < reach).float().mean()) < 0.25:
        return None
    return F.pad(smooth[None], (1, 1), mode="replicate")[0].unfold(0, 3, 1).amin(1)
