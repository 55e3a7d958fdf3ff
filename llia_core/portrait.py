"""A portrait made ready: cropped square round the face, its landmarks, and the mouth region the model works in."""

from dataclasses import dataclass, replace

from torch import Tensor

from .expression import Expression, edit_expression, neutralise
from .face import crop_portrait, landmarks_from_box, mouth_region, require_face, sample_region
from .lips import lips_of
from .masks import region_masks
from .mesh import LOWER_LIP, UPPER_LIP

OPEN_MOUTH = 0.06  # inner lip gap over eye distance beyond which a reference is closed first
MIN_SIZE, MAX_SIZE = 64, 1024


@dataclass(frozen=True)
class Portrait:
    """image: (3, S, S) in [-1, 1]. landmarks: (478, 3) in its pixels. transform: (2, 3), region coordinates to pixels.

    region: (3, R, R), the mouth region of the image. masks: (2, R, R), lips and face in it. lips: (37, 2), its curves.
    box: (x0, y0, side), where in the source picture the image was cut out.
    """

    image: Tensor
    landmarks: Tensor
    transform: Tensor
    region: Tensor
    masks: Tensor
    lips: Tensor
    box: tuple[int, int, int]

    @property
    def size(self) -> int:
        return self.image.shape[-1]


def prepare_portrait(
    image: Tensor,
    size: int = 256,
    region_size: int = 128,
    face_box: tuple[float, float, float, float] | None = None,
    expression: Expression | None = None,
    close_mouth: bool = True,
) -> Portrait:
    """Find the face (or take `face_box`: x0, y0, x1, y1 in pixels), crop, edit expression, cut out the mouth region.

    image: (3, H, W) in [-1, 1]. size: pixels of the square output, 64 to 1024, a multiple of 2 as video wants it.
    close_mouth: an open mouth is closed first, and the expression's jaw is left out, since the voice shall move it.
    Raises FaceNotFoundError, ValueError.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"portrait has shape {tuple(image.shape)}, expected (3, height, width)")
    if not MIN_SIZE <= size <= MAX_SIZE or size % 2:
        raise ValueError(f"output size is {size}, expected an even number from {MIN_SIZE} to {MAX_SIZE}")
    landmarks = landmarks_from_box(face_box) if face_box is not None else require_face(image)
    cropped, landmarks, box = crop_portrait(image, landmarks, size)
    if close_mouth and face_box is None and mouth_opening(landmarks) > OPEN_MOUTH:
        cropped, landmarks = neutralise(cropped, landmarks)
    if expression is not None:
        # The voice opens the mouth: an opened one in the reference would show between the lips when they close.
        expression = replace(expression, jaw=0.0) if close_mouth else expression
        cropped, landmarks = edit_expression(cropped, landmarks, expression)
    transform = mouth_region(landmarks)
    region = sample_region(cropped, transform, region_size)
    masks, lips = region_masks(landmarks, transform, region_size), lips_of(landmarks, transform)
    return Portrait(cropped, landmarks, transform, region, masks, lips, box)


def mouth_opening(landmarks: Tensor) -> float:
    """Gap between the inner lips over the distance between the outer eye corners: 0 shut, about 0.25 wide open."""
    gap = (landmarks[LOWER_LIP] - landmarks[UPPER_LIP])[:2].norm()
    return float(gap / (landmarks[263] - landmarks[33])[:2].norm().clamp_min(1e-6))
