"""Expression editing of whole pictures: the face is cut out, edited, and put back; and a small copy of it for previews.

The warp's grid has as many nodes whatever it covers, so a face that is small in its picture is edited in a crop. The
warp is still at the crop's border: no seam shows.
"""

import torch
from torch import Tensor

from .expression import Expression, edit_expression, still_warp
from .face import crop_box, crop_portrait

PREVIEW = 512  # pixels of a preview's side


def edit_face(image: Tensor, landmarks: Tensor, expression: Expression) -> Tensor:
    """`image` (3, H, W) in [-1, 1] with its face at `landmarks` (478, 3) moved to `expression`: the same size.

    A zero expression returns `image` itself.
    """
    if expression.is_zero:
        return image
    height, width = image.shape[-2:]
    x, y, side = crop_box(landmarks, (height, width))
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise ValueError(f"The face lies outside of the picture of {width} x {height} pixels.")
    result = image.clone()
    face = image[:, y0:y1, x0:x1]
    result[:, y0:y1, x0:x1] = edit_expression(face, landmarks - torch.tensor([x0, y0, 0.0]), expression)[0]
    return result


class FacePreview:
    """The face of a picture at `size` pixels, prepared to be edited many times.

    image (3, H, W) in [-1, 1], landmarks (478, 3) of its face. About 5 MB at 512 pixels.
    """

    def __init__(self, image: Tensor, landmarks: Tensor, size: int = PREVIEW):
        self.image, self.landmarks, _ = crop_portrait(image, landmarks, size)
        self.warp = still_warp(self.image, self.landmarks)

    @torch.inference_mode()
    def edit(self, expression: Expression) -> Tensor:
        """uint8 (size, size, 3)."""
        image = edit_expression(self.image, self.landmarks, expression, self.warp)[0]
        return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
