"""One eye: lids that close over the eyeball, an iris that moves between them."""

import torch
from torch import Tensor

from .lids import fit_lids
from .slit import Slit

ROUND_CORNER, ROUND_TILT, ROUND_UPPER, ROUND_LOWER = 0.1, 0.055, 0.07, 0.045  # for round eyes, in eye widths
LASHES = 0.06  # height of the upper lashes, in eye widths
GAZE_X, GAZE_Y = 0.17, 0.2  # travel of the iris at slider 1: in eye widths, in heights of the opening


class Eye:
    """One eye of `landmarks` (478, 3). upper, lower: its lid lines; iris, brow: mesh indices.

    image: (3, H, W), where it is known, tells where drawn lids lie and keeps glasses still.
    """

    def __init__(
        self, landmarks: Tensor, upper: tuple, lower: tuple, iris: tuple, brow: tuple, image: Tensor | None = None
    ):
        width = (landmarks[upper[-1], :2] - landmarks[upper[0], :2]).norm().clamp(min=1e-3)
        lid = landmarks[list(upper[3:6]), :2].mean(0)
        fold = 0.62 * float((landmarks[list(brow), :2].mean(0) - lid).norm() / width)
        roundness = round_amount(landmarks, upper, lower)
        rounder = round_eye(landmarks, upper, lower, roundness)
        self.slit = Slit(rounder, upper, lower, reach=(0.3, 0.4), share=0.88)
        self.slit.edge = LASHES
        rims = self.slit.rims(torch.tensor(0.5))
        self.slit.above = max(0.22, min(fold, max(0.26, 0.48 * float(rims[1] - rims[0]))))
        if image is not None:
            fit_lids(image, self.slit, roundness)
        self.width, self.corners = float(self.slit.width), self.slit.corners()
        self.upper, self.lower, self.iris = list(upper[1:-1]), list(lower[1:-1]), list(iris)
        self.depth = landmarks[[upper[0], upper[-1]], 2].mean()
        ring = self.slit.local(landmarks[list(iris), :2])
        self.iris_x = float(ring[0, 0].clamp(0.25, 0.75))
        self.iris_radius = float((ring[1:] - ring[0]).norm(dim=1).mean().clamp(0.1, 0.24))
        self.sign = 1.0 if self.slit.along[0] >= 0 else -1.0

    def move_landmarks(self, points: Tensor, blink: Tensor, gaze: Tensor) -> None:
        """Lids and iris of `points` (n, 478, 3), in place."""
        slit = self.slit
        for indices in (self.upper, self.lower):
            x, y = slit.local(points[:, indices, :2]).unbind(-1)
            upper, lower = slit.rims(x)
            seam = upper + slit.share * (lower - upper)
            points[:, indices, :2] += (self.width * blink[:, None] * (seam - y))[..., None] * slit.across
        points[:, self.iris, :2] += self._travel(gaze)[:, None]

    def _travel(self, gaze: Tensor) -> Tensor:
        """(n, 2) motion of the iris in pixels."""
        upper, lower = self.slit.rims(torch.tensor(self.iris_x))
        x, y = gaze[:, :1] * (self.sign * GAZE_X), gaze[:, 1:] * (GAZE_Y * (lower - upper))
        return self.slit.width * (x * self.slit.along + y * self.slit.across)

    def shift(self, box: Tensor, blink: Tensor, gaze: Tensor, pixel: float) -> None:
        """Adds this eye's motion to source positions `box` (n, 2, h, w) in pixels, in place."""
        slit = self.slit
        (ax, ay), (cx, cy) = (self.width * slit.along).tolist(), (self.width * slit.across).tolist()
        x, y = slit.split(box[:, 0], box[:, 1])
        source_y, inside, upper, lower = slit.source(x, y, blink[:, None, None], 1.2 * pixel / self.width)
        if float(gaze.abs().max()) > 1e-4:
            height = (lower - upper).clamp(min=1e-3)
            level = ((source_y - upper) / height).clamp(0, 1)
            bump = 4 * level * (1 - level)
            slid = self._slide(x, self.sign * GAZE_X * gaze[:, :1, None]) - x
            dx = inside * slid * (2 * bump).clamp(max=1)
            beside = (1 - ((x - self.iris_x).abs() / 0.5).clamp(max=1).square()) * inside
            source_y = source_y - beside * bump * height * (GAZE_Y * gaze[:, 1:, None])
            box[:, 0] += ax * dx
            box[:, 1] += ay * dx
        dy = source_y - y
        box[:, 0] += cx * dy
        box[:, 1] += cy * dy

    def _slide(self, x: Tensor, travel: Tensor) -> Tensor:
        """Source X of an iris moved by `travel`: the iris keeps its shape, the white beside it stretches."""
        left, right = self.iris_x - self.iris_radius, self.iris_x + self.iris_radius
        travel = travel.clamp(-0.85 * left, 0.85 * (1 - right))
        before = x * left / (left + travel)
        after = 1 - (1 - x) * (1 - right) / (1 - right - travel)
        moved = torch.where(x < left + travel, before, torch.where(x > right + travel, after, x - travel))
        return torch.where((x > 0) & (x < 1), moved, x)


def round_amount(landmarks: Tensor, upper: tuple, lower: tuple) -> float:
    """0 for human eyes to 1 for big round ones, by the height of their opening."""
    rims = Slit(landmarks, upper, lower, reach=(0.3, 0.3), share=0.5).rims(torch.tensor(0.5))
    return float(((rims[1] - rims[0] - 0.35) / 0.06).clamp(0, 1))


def round_eye(landmarks: Tensor, upper: tuple, lower: tuple, amount: float) -> Tensor:
    """Landmarks whose lids enclose a drawn eye: the mesh knows human eyes and finds big round ones too small.

    Measured on procedural portraits: corners about 8 % of the width farther out, the outer one lower, rims 3 to 5 %.
    """
    slit = Slit(landmarks, upper, lower, reach=(0.3, 0.3), share=0.5)
    rounder = landmarks.clone()
    for indices, shift in ((upper, -ROUND_UPPER), (lower, ROUND_LOWER)):
        local = slit.local(landmarks[list(indices), :2])
        along = local[:, 0].clamp(0, 1)
        local[:, 0] += amount * ROUND_CORNER * (2 * along - 1)
        local[:, 1] += amount * (ROUND_TILT * (1 - 2 * along) + 4 * along * (1 - along) * shift)
        rounder[list(indices), :2] = slit.pixels(local)
    return rounder
