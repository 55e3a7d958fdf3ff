"""Landmark indices of MediaPipe's 478-point face mesh, and the mean face. Sides are the picture's: left = smaller x.

Contours go round once: closed polygons, except where a name says line.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ASSETS = Path(__file__).parent / "assets"
POINTS = 478

FOREHEAD, CHIN, NOSE_TIP, LEFT_EAR, RIGHT_EAR = 10, 152, 1, 234, 454
UPPER_LIP, LOWER_LIP = 13, 14  # inner edges of the lips, in the middle
LEFT_CORNER, RIGHT_CORNER = 61, 291  # of the mouth
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
# Lines from the outer to the inner eye corner, both included; upper[k] lies above lower[k].
LEFT_LID_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LEFT_LID_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_LID_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
RIGHT_LID_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
LEFT_IRIS, RIGHT_IRIS = (468, 469, 470, 471, 472), (473, 474, 475, 476, 477)  # the centre first
LEFT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)  # upper edge outer to inner, then lower edge
RIGHT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
# Points that no expression moves: eye corners, nose, temples, ears.
RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 127, 356, 162, 389, 234, 454)


@cache
def mean_face() -> Tensor:
    """(478, 3) float32 symmetric neutral face in units of the mouth region: x, y in [-1, 1] are inside the region, the
    closed mouth lies at (0, -0.19), z grows away from the viewer. Made by scripts/make_face_landmarker.py --layout."""
    return torch.from_numpy(np.load(ASSETS / "face_layout.npy"))
