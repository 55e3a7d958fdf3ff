"""Face and lip masks as the open checkpoint was trained with: boxes round landmarks, blurred, one size a UNet level.

Hallo v1 (arXiv 2406.08801) makes them with 8-bit image operations, whose rounding is part of the numbers: the resize
and the blur here follow OpenCV's fixed-point arithmetic exactly, without needing that package.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..mesh import FACE_OVAL, LIPS_OUTER

FACE_EXPAND, LIP_EXPAND = 1.2, 2.0
SOFT_SIZE = 64  # masks are blurred at this size whatever the picture's
FACE_BLUR, LIP_BLUR = 51, 31  # kernel lengths in pixels of that size
LEVELS = 4


@dataclass(frozen=True)
class FaceMasks:
    """region: (3, S, S) in 0..1, the face box, for the face locator. levels: per UNet level (1, 3, positions) in 0..1:
    full (outside the face), face (without the lips), lip, for the audio modules."""

    region: Tensor
    levels: list[Tensor]


def face_masks(landmarks: Tensor, height: int, width: int, size: int) -> FaceMasks:
    """Masks for landmarks (478, 2 or 3) in pixels of a picture (height, width) that is resized to size x size."""
    points = landmarks[:, :2].double().cpu().numpy()
    return masks_from_points(points[list(FACE_OVAL)], points[list(LIPS_OUTER)], height, width, size)


def masks_from_points(
    outline: np.ndarray, lips: np.ndarray, height: int, width: int, size: int, expand: float = FACE_EXPAND
) -> FaceMasks:
    """The same from face outline points and lip points (n, 2) in pixels. Raises ValueError on a size not halving
    evenly.

    expand: how much larger than the outline's box the face box is.
    """
    if size % 8 or size < 64:
        raise ValueError(f"photoreal output size is {size}, expected a multiple of 8, 64 or more")
    face_box = box_mask(outline, height, width, expand)
    lip_box = box_mask(lips, height, width, LIP_EXPAND)
    face, lip = soften(face_box, FACE_BLUR), soften(lip_box, LIP_BLUR)
    full = ((1.0 - face / 255.0) * 255).astype(np.uint8)
    kinds = (full, np.maximum(face.astype(np.int16) - lip, 0).astype(np.uint8), lip)
    levels = [
        torch.stack([_resized(kind, max(size // 8 >> level, 1)).flatten() for kind in kinds])[None]
        for level in range(LEVELS)
    ]
    return FaceMasks(_resized(face_box, size).expand(3, -1, -1).clone(), levels)


def box_mask(points: np.ndarray, height: int, width: int, expand: float) -> np.ndarray:
    """uint8 (height, width): 255 in the box of `points` (n, 2), grown by `expand` and pushed back into the picture."""
    low, high = np.round(points.min(0)), np.round(points.max(0))
    (left, right), (top, bottom) = (
        _expand(float(low[axis]), float(high[axis]), limit, expand) for axis, limit in ((0, width), (1, height))
    )
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def _expand(low: float, high: float, limit: int, factor: float) -> tuple[int, int]:
    middle, length = (high + low) // 2, (high - low) * factor
    low, high = middle - length // 2, middle + length // 2
    if low < 0:
        low, high = 0, high - low
    if high > limit:
        low, high = low - (high - limit), limit
    return max(round(low), 0), round(high)  # a box larger than the picture would wrap round its edge otherwise


def soften(mask: np.ndarray, kernel: int) -> np.ndarray:
    """uint8 (h, w) -> uint8 (64, 64): resized, blurred, stretched to 0..255."""
    blurred = gaussian_blur(resize_linear(mask, SOFT_SIZE), kernel)
    low, high = float(blurred.min()), float(blurred.max())
    if high == low:
        return np.zeros_like(blurred)
    scale = 255.0 * (1.0 / (high - low))
    # A fused multiply-add in single precision: exact product, one rounding.
    stretched = blurred * np.float64(np.float32(scale)) + np.float64(np.float32(-low * scale))
    return np.rint(stretched.astype(np.float32)).clip(0, 255).astype(np.uint8)


def resize_linear(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 (h, w) -> uint8 (size, size), bilinear without antialiasing, in OpenCV's 11-bit fixed point."""
    (top, upper, lower), (left, a, b) = (_taps(length, size) for length in image.shape)
    wide = image.astype(np.int64)
    right, bottom = np.minimum(left + 1, image.shape[1] - 1), np.minimum(top + 1, image.shape[0] - 1)
    rows = wide[:, left] * a + wide[:, right] * b
    mixed = ((upper[:, None] * (rows[top] >> 4)) >> 16) + ((lower[:, None] * (rows[bottom] >> 4)) >> 16)
    return ((mixed + 2) >> 2).clip(0, 255).astype(np.uint8)


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First pixel and the two weights (of 2048) of every output pixel."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = place - first
    share[first < 0], share[first >= source - 1] = 0, 0
    first = first.clip(0, source - 1)
    return first, np.rint((1 - share) * 2048).astype(np.int64), np.rint(share * 2048).astype(np.int64)


def gaussian_blur(image: np.ndarray, kernel: int) -> np.ndarray:
    """uint8 (h, w) blurred, edges mirrored without repeating them; deviation as OpenCV takes it from the kernel.

    The kernel has 8 fractional bits that sum to one, rounding errors being passed on from the edge inwards.
    """
    deviation = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    offsets = np.arange(kernel) - kernel // 2
    exact = np.exp(-(offsets**2) / (2 * deviation**2))
    exact /= exact.sum()
    weights, error, half = np.zeros(kernel, np.int64), 0.0, kernel // 2
    for index in range(half):
        wanted = exact[index] * 256 + error
        weights[index] = weights[-1 - index] = np.rint(wanted)
        error = wanted - weights[index]
    weights[half] = 256 - 2 * weights[:half].sum()
    padded = np.pad(image.astype(np.int64), half, mode="reflect")
    rows = sum(weight * padded[:, k : k + image.shape[1]] for k, weight in enumerate(weights.tolist()))
    both = sum(weight * rows[k : k + image.shape[0]] for k, weight in enumerate(weights.tolist()))
    return ((both + (1 << 15)) >> 16).clip(0, 255).astype(np.uint8)


def _resized(mask: np.ndarray, size: int) -> Tensor:
    """uint8 (h, w) -> (size, size) in 0..1, bilinear with antialiasing, in 8 bits."""
    from PIL import Image

    small = Image.fromarray(mask).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)).float() / 255
