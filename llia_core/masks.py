"""Soft masks of face and lips, drawn from landmark polygons."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .mesh import CHIN, FACE_OVAL, FOREHEAD, LIPS_OUTER

MAX_RASTER = 256  # polygons are drawn at most this large, then scaled up: their edges are soft anyway


def face_mask(landmarks: Tensor, height: int, width: int) -> Tensor:
    """(height, width) in [0, 1]: 1 inside the face oval, falling softly over 6 % of the face's height."""
    return polygon_mask(landmarks[list(FACE_OVAL), :2], height, width, softness=0.06 * face_height(landmarks))


def lip_mask(landmarks: Tensor, height: int, width: int) -> Tensor:
    """(height, width) in [0, 1]: lips and what is between them, a little wider than the lips' edge."""
    unit = face_height(landmarks)
    return polygon_mask(landmarks[list(LIPS_OUTER), :2], height, width, softness=0.04 * unit, grow=0.02 * unit)


def region_masks(landmarks: Tensor, transform: Tensor, size: int) -> Tensor:
    """(2, size, size): lip and face mask in the mouth region `transform` (2, 3) of face.mouth_region."""
    inverse = torch.linalg.inv(transform[:, :2].double()).float()
    local = (landmarks[:, :2] - transform[:, 2]) @ inverse.T
    local = (local + 1) * (size / 2)
    return torch.stack([lip_mask(local, size, size), face_mask(local, size, size)])


def face_height(landmarks: Tensor) -> float:
    return float((landmarks[CHIN, :2] - landmarks[FOREHEAD, :2]).norm())


def polygon_mask(polygon: Tensor, height: int, width: int, softness: float, grow: float = 0.0) -> Tensor:
    """(height, width): 1 inside `polygon` (n, 2) in pixels, 0 outside, a ramp `softness` pixels wide across its edge.

    grow: pixels by which the edge is moved outwards.
    """
    scale = min(1.0, MAX_RASTER / max(height, width))
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    y = (torch.arange(rows, dtype=torch.float32) + 0.5) * (height / rows)
    x = (torch.arange(columns, dtype=torch.float32) + 0.5) * (width / columns)
    y, x = torch.meshgrid(y, x, indexing="ij")
    distance = signed_distance(torch.stack([x, y], -1).reshape(-1, 2), polygon.float()).view(rows, columns)
    mask = ((distance + grow) / max(softness, 1e-3 / scale) + 0.5).clamp(0, 1)
    mask = mask * mask * (3 - 2 * mask)
    if (rows, columns) != (height, width):
        mask = F.interpolate(mask[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    return mask


def signed_distance(points: Tensor, polygon: Tensor) -> Tensor:
    """(m,) distance of `points` (m, 2) to the edge of `polygon` (n, 2): positive inside (even-odd rule)."""
    nearest = torch.full((len(points),), float("inf"))
    inside = torch.zeros(len(points), dtype=torch.bool)
    for start, end in zip(polygon, polygon.roll(-1, 0), strict=True):
        edge, offset = end - start, points - start
        along = (offset @ edge / edge.square().sum().clamp(min=1e-12)).clamp(0, 1)
        nearest = torch.minimum(nearest, (offset - along[:, None] * edge).square().sum(1))
        crosses = (start[1] > points[:, 1]) != (end[1] > points[:, 1])
        level = torch.where(edge[1] == 0, torch.ones(()), edge[1])
        inside ^= crosses & (points[:, 0] < start[0] + (points[:, 1] - start[1]) / level * edge[0])
    return torch.where(inside, nearest.sqrt(), -nearest.sqrt())
