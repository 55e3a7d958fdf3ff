"""From the model's flow and difference, and the behaviour's sliders, to whole frames in one sampling of the portrait.

A frame's pixel is first taken back by the face warp (head pose, lids, gaze), then by the mouth's flow; only then is the
portrait sampled, once, so that nothing is blurred twice. What the model painted is added at the same place.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .portrait import Portrait
from .warp import FaceWarp

COLOURED = 0.2  # mean difference of a face's strongest and weakest channel, in [-1, 1], from which it is in full colour


class Composer:
    """Composes frames of one portrait. Rows of `sliders` are FaceWarp's parameters; cavity (3,): see lips.py."""

    def __init__(self, portrait: Portrait, cavity: Tensor):
        self.portrait, self.cavity = portrait, cavity[:, None, None]
        # A pencil drawing's or a statue's mouth is as grey inside as the face is, whatever the model paints there.
        chroma = (portrait.region.amax(0) - portrait.region.amin(0)) * portrait.masks[1]
        self.colour = float((chroma.sum() / portrait.masks[1].sum().clamp_min(1) / COLOURED).clamp(max=1))
        size = portrait.size
        self.warp = FaceWarp(portrait.landmarks, size, size, image=portrait.image)
        # From sampling coordinates of the picture ([-1, 1]) to region coordinates, and back for displacements.
        linear = portrait.transform[:, :2] * (2 / size)
        offset = portrait.transform[:, 2] * (2 / size) - 1
        self.to_region = torch.linalg.inv(linear.double()).float()
        self.to_picture, self.offset = linear, offset

    @torch.inference_mode()
    def __call__(self, flow: Tensor, inside: Tensor, difference: Tensor, sliders: Tensor) -> Tensor:
        """Parts of a Prediction without its batch dimension, sliders (n, 13) -> uint8 (n, S, S, 3)."""
        size, n = self.portrait.size, len(flow)
        places = self.warp.grid(sliders, (size, size))
        # Beyond the region both are zero: the flow fades out before its border, and so does the difference.
        y0, y1, x0, x1 = self._region_box(places)
        box = places[:, y0:y1, x0:x1]
        region = (box - self.offset) @ self.to_region.T
        parts = torch.cat((flow, inside, difference), dim=1)
        parts = F.grid_sample(parts, region, padding_mode="zeros", align_corners=False)
        moved, inside, painted = parts.split((2, 1, 3), dim=1)
        box += moved.permute(0, 2, 3, 1) @ self.to_picture.T
        source = self.portrait.image[None].expand(n, -1, -1, -1)
        frames = F.grid_sample(source, places, padding_mode="border", align_corners=False)
        painted = torch.lerp(painted.mean(1, keepdim=True), painted, self.colour)
        mouth = frames[:, :, y0:y1, x0:x1]
        mouth += (self.cavity - mouth) * inside + painted
        return frames.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _region_box(self, places: Tensor) -> tuple[int, int, int, int]:
        """(y0, y1, x0, x1): pixels that the mouth region can reach in any of these frames; seen on every eighth."""
        size = self.portrait.size
        coarse = (places[:, ::8, ::8] - self.offset) @ self.to_region.T
        near = (coarse.abs() < 1.25).all(-1).any(0)
        rows, columns = near.any(1).nonzero(), near.any(0).nonzero()
        if not len(rows):
            return 0, 0, 0, 0
        y0, y1, x0, x1 = (int(t) * 8 for t in (rows[0], rows[-1], columns[0], columns[-1]))
        return max(0, y0 - 8), min(size, y1 + 16), max(0, x0 - 8), min(size, x1 + 16)
