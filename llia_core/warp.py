"""Moving a face in its picture: head pose, face sliders, lids and gaze as one backward sampling grid, per video frame.

The picture is deformed by a thin-plate spline (Bookstein 1989) through displaced landmarks; rings of points round the
head let hair and neck follow with falloff, the border of the picture stays. Eyes (eye.py) move inside that warp, so
that lids cover the eyeball. Precomputed once: head frame, slider basis, rings, eye curves. Positive values: yaw turns
the nose to the picture's right, pitch down, roll clockwise (degrees); gaze_x right, gaze_y down; blink_left is the
person's left eye, the picture's right, as in ARKit.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .eye import Eye
from .face import similarity
from .mesh import (
    FACE_OVAL,
    LEFT_IRIS,
    LEFT_LID_LOWER,
    LEFT_LID_UPPER,
    RIGHT_IRIS,
    RIGHT_LID_LOWER,
    RIGHT_LID_UPPER,
    RIGID,
    mean_face,
)
from .shapes import FACE_SLIDERS, slider_basis, slider_weights

SLIDERS = (*FACE_SLIDERS, "blink_left", "blink_right", "gaze_x", "gaze_y", "yaw", "pitch", "roll")
CONTROL = (
    *FACE_OVAL[::2],
    *(70, 105, 107, 52, 55, 300, 334, 336, 282, 285),  # brows
    *(33, 133, 159, 145, 263, 362, 386, 374),  # eyes
    *(168, 197, 1, 2, 98, 327, 129, 358),  # nose
    *(61, 91, 84, 17, 314, 321, 291, 270, 267, 0, 37, 40),  # outer edge of the lips
    *(78, 178, 87, 14, 317, 402, 308, 311, 312, 13, 82, 81),  # inner edge
    *(50, 280, 205, 425, 187, 411, 117, 346, 36, 266, 214, 434),  # cheeks
    *(199, 175, 200, 204, 424, 151, 9, 69, 299),  # chin and forehead
)
CELLS = 40  # nodes of the coarse grid along each side
FINE = 3  # samples a pixel and direction for the lids of stills
STIFFNESS = 2e-5  # ridge of the spline: lets coinciding points disagree a little


class FaceWarp:
    """Warps one picture of height x width pixels whose face has `landmarks` (478, 3).

    params everywhere: (n, 13) float32, columns SLIDERS, all zero = the picture as it is. cells: nodes of the spline's
    grid along each side; more is finer and slower. image: the picture (3, height, width), from which the lids are read
    more exactly than from the landmarks, and what they must not drag along. Raises ValueError for landmarks of another
    shape.
    """

    def __init__(self, landmarks: Tensor, height: int, width: int, cells: int = CELLS, image: Tensor | None = None):
        if landmarks.shape != (478, 3):
            raise ValueError(f"Expected landmarks of shape (478, 3), got {tuple(landmarks.shape)}.")
        self.height, self.width = height, width
        self.landmarks, self.turn = _with_depth(landmarks.detach().float().cpu())
        eyes = self.landmarks[[33, 263]]
        self.unit = float((eyes[1] - eyes[0]).norm().clamp(min=1e-3))
        middle = self.landmarks[[13, 14]].mean(0)
        self.basis = slider_basis((self.landmarks - middle) @ self.turn / self.unit) @ self.turn.T * self.unit
        ears = self.landmarks[[234, 454]].mean(0)
        self.pivot = ears + self.unit * (self.turn @ torch.tensor([0.0, 0.45, -0.1]))
        self.relief = self._relief()
        self.rings, self.follow = self._rings()
        self.eyes = (
            Eye(self.landmarks, LEFT_LID_UPPER, LEFT_LID_LOWER, LEFT_IRIS, (52, 53, 65), image),
            Eye(self.landmarks, RIGHT_LID_UPPER, RIGHT_LID_LOWER, RIGHT_IRIS, (282, 283, 295), image),
        )
        depth = self.relief[[33, 133, 362, 263]].mean()
        self.eye_corners = torch.cat([F.pad(eye.corners, (0, 1), value=float(eye.depth + depth)) for eye in self.eyes])
        self.nodes, self.window = self._nodes(cells)

    def displaced(self, params: Tensor) -> Tensor:
        """(n, 478, 3): the landmarks in the warped picture."""
        return self._turned(self._expressed(params, lids=True), params)

    def grid(self, params: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(n, h, w, 2) sampling grid for F.grid_sample(align_corners=False); size (h, w), default the picture's."""
        return self._grid(self._flow(params), params, size or (self.height, self.width))

    def _grid(self, flow: Tensor, params: Tensor, size: tuple[int, int], box: tuple | None = None) -> Tensor:
        """The grid from the coarse `flow`; box: x0, y0, x1, y1 in pixels, the part of the new picture that is meant."""
        height, width = size
        x0, y0, x1, y1 = box or (0, 0, self.width, self.height)
        x = x0 + (torch.arange(width, dtype=torch.float32) + 0.5) * ((x1 - x0) / width)
        y = y0 + (torch.arange(height, dtype=torch.float32) + 0.5) * ((y1 - y0) / height)
        if box is not None:
            at = [(one - 0.5) * (2 / (side - 1)) - 1 for one, side in ((x, self.width), (y, self.height))]
            nodes = torch.stack(torch.meshgrid(*at, indexing="xy"), -1).expand(len(flow), -1, -1, -1)
            flow = F.grid_sample(flow, nodes, padding_mode="border", align_corners=True)
        elif flow.shape[-2:] != (height, width):
            flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=True)
        flow[:, 0] += x
        flow[:, 1] += y[:, None]
        self._move_eyes(flow, params, (x0, y0), (y1 - y0) / height)
        flow[:, 0].mul_(2 / self.width).sub_(1)
        flow[:, 1].mul_(2 / self.height).sub_(1)
        return flow.permute(0, 2, 3, 1)

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        """Warp `images` (3, H, W) or (n, 3, H, W) by `params` (n, 13): (n, 3, H, W). All-zero rows: the same bits."""
        images = images.expand(len(params), *images.shape[-3:])
        moving = params.abs().amax(1) > 0
        if not bool(moving.any()):
            return images.clone()
        if bool(moving.all()):
            return F.grid_sample(images, self.grid(params), padding_mode="border", align_corners=False)
        result = images.clone()
        grid = self.grid(params[moving])
        result[moving] = F.grid_sample(images[moving], grid, padding_mode="border", align_corners=False)
        return result

    def apply_fine(self, image: Tensor, params: Tensor) -> Tensor:
        """(3, H, W): `image` warped by one row of `params`, with smooth edges where lids cover the eyes; for stills."""
        flow = self._flow(params)
        grid = self._grid(flow.clone(), params, (self.height, self.width))
        result = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
        if self._eyes_move(params):
            for low, high in self._eye_extents(params):
                x0, y0 = low.floor().long().clamp(min=0).tolist()
                x1, y1 = torch.minimum(high.ceil().long(), torch.tensor([self.width, self.height])).tolist()
                if x1 > x0 and y1 > y0:
                    size = ((y1 - y0) * FINE, (x1 - x0) * FINE)
                    grid = self._grid(flow, params, size, (x0, y0, x1, y1))
                    eye = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
                    result[:, :, y0:y1, x0:x1] = F.avg_pool2d(eye, FINE)
        return result[0]

    def _expressed(self, params: Tensor, lids: bool) -> Tensor:
        count = len(FACE_SLIDERS)
        points = self.landmarks + torch.einsum("ns,skd->nkd", slider_weights(params[:, :count]), self.basis)
        if lids:
            for eye, blink in zip(self.eyes, _lid_amounts(params), strict=True):
                eye.move_landmarks(points, blink, params[:, 8:10])
        return points

    def _relief(self) -> Tensor:
        """(478,) to add to z before a rotation: a true face, steep at its outline, would fold the picture."""
        oval = self.landmarks[list(FACE_OVAL), :2]
        offset = self.landmarks[:, :2] - oval.mean(0)
        angle = torch.atan2(offset[:, 1], offset[:, 0])
        rim = oval - oval.mean(0)
        near = (angle[:, None] - torch.atan2(rim[:, 1], rim[:, 0])).cos().mul(60).softmax(1)
        radius = (offset.norm(dim=1) / (near @ rim.norm(dim=1))).clamp(max=1)
        dome = self.pivot[2] - self.unit * (0.08 + 0.66 * (1 - radius.square()) ** 1.5)
        return 0.8 * (dome - self.landmarks[:, 2])

    def _turned(self, points: Tensor, params: Tensor) -> Tensor:
        """(n, 478, 3) after the head's rotation."""
        raised = points + F.pad(self.relief[:, None], (2, 0))
        return points + (_rotate(raised, self.pivot, params) - raised)

    def _rings(self) -> tuple[Tensor, Tensor]:
        """Points round the head (m, 3) and how much of the head's rotation each follows (m,)."""
        oval = self.landmarks[list(FACE_OVAL[::3])]
        centre = oval.mean(0)
        offset = oval - centre
        down = (offset @ self.turn)[:, 1] / self.unit  # head frame: positive below the face's centre
        neck = ((down - 0.25) / 0.4).clamp(0, 1)[:, None]
        near = centre + offset * (1.32 + 0.13 * neck)
        near[:, 2] = self.pivot[2]
        far = centre + offset * 2.4
        border = centre + offset * 3.2
        follow = torch.cat([1 - 0.72 * neck[:, 0], torch.zeros(2 * len(oval))])
        return torch.cat([near, far, border]), follow

    def _nodes(self, cells: int) -> tuple[Tensor, Tensor]:
        """Nodes of the coarse grid (cells^2, 4) and the factor (1, 1, cells, cells) that stills the border."""
        x = torch.linspace(0.5, self.width - 0.5, cells)
        y = torch.linspace(0.5, self.height - 0.5, cells)
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        nodes = torch.stack([xx, yy], -1).reshape(-1, 2) / self.unit
        nodes = torch.cat([nodes, nodes.square().sum(1, keepdim=True), torch.ones(len(nodes), 1)], 1)
        margin = 0.14 * min(self.height, self.width)
        inset = torch.minimum(torch.minimum(xx, self.width - xx), torch.minimum(yy, self.height - yy)) - 0.5
        centre = self.landmarks[list(FACE_OVAL), :2].mean(0)
        away = (torch.stack([xx, yy], -1) - centre).norm(dim=-1) / self.unit
        window = (inset / margin).clamp(0, 1) * ((2.6 - away) / 0.8).clamp(0, 1)
        return nodes, (window * window * (3 - 2 * window))[None, None]

    def _flow(self, params: Tensor) -> Tensor:
        """(n, 2, cells, cells): source minus target position, in pixels, without the eyes' own motion."""
        control = list(CONTROL)
        rings = self.rings.expand(len(params), -1, -1)
        turned = self._turned(self._expressed(params, lids=False), params)[:, control]
        moved_rings = rings + self.follow[:, None] * (_rotate(rings, self.pivot, params) - rings)
        target = torch.cat([turned, moved_rings], 1)[..., :2] / self.unit
        source = torch.cat([self.landmarks[control], self.rings])[:, :2] / self.unit
        weights, affine = _fit_spline(target, source - target)
        cells = self.window.shape[-1]
        flows = [_evaluate_spline(self.nodes, *one) for one in zip(target, weights, affine, strict=True)]
        return torch.stack(flows).view(-1, 2, cells, cells) * (self.window * self.unit)

    def _move_eyes(self, flow: Tensor, params: Tensor, origin: tuple[float, float], pixel: float) -> None:
        """Adds blink and gaze to absolute source positions `flow` (n, 2, h, w), in place, in boxes round the eyes."""
        if not self._eyes_move(params):
            return
        start = torch.tensor(origin)
        extents = self._eye_extents(params)
        for eye, blink, (low, high) in zip(self.eyes, _lid_amounts(params), extents, strict=True):
            x0, y0 = ((low - start) / pixel).floor().long().clamp(min=0).tolist()
            x1, y1 = ((high - start) / pixel).ceil().long().clamp(min=0).tolist()
            box = flow[:, :, y0:y1, x0:x1]
            if box.numel():
                eye.shift(box, blink, params[:, 8:10], pixel)

    def _eyes_move(self, params: Tensor) -> bool:
        return max(float(value.abs().max()) for value in (*_lid_amounts(params), params[:, 8:10])) >= 1e-4

    def _eye_extents(self, params: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each eye the corners (2,) and (2,), in pixels, of the box that holds it in all the new pictures."""
        moved = _rotate(self.eye_corners.expand(len(params), -1, -1), self.pivot, params)[..., :2]
        return [
            (corners.amin((0, 1)) - 0.12 * eye.width, corners.amax((0, 1)) + 0.12 * eye.width)
            for eye, corners in zip(self.eyes, moved.split(4, 1), strict=True)
        ]


def _lid_amounts(params: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) closing of the picture's left and right eye; lids follow the gaze down and up a little."""
    follow = 0.25 * params[:, 9].clamp(min=0) - 0.12 * (-params[:, 9]).clamp(min=0)
    return tuple((blink + (1 - blink).clamp(0, 1) * follow).clamp(-0.4, 1) for blink in (params[:, 7], params[:, 6]))


def _with_depth(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Landmarks with a plausible z, and the head's rotation (3, 3) against the mean face."""
    rigid = list(RIGID)
    face = mean_face()
    if landmarks[rigid, 2].std() < 0.1 * landmarks[rigid, 0].std():
        scale, _, _ = similarity(face[rigid, :2].double(), landmarks[rigid, :2].double())
        landmarks = torch.cat([landmarks[:, :2], face[:, 2:] * float(scale)], 1)
    _, turn, _ = similarity(face[rigid].double(), landmarks[rigid].double())
    return landmarks, turn.float()


def _rotate(points: Tensor, pivot: Tensor, params: Tensor) -> Tensor:
    """(n, k, 3) points turned about the pivot by yaw, pitch, roll (columns 10 to 12, degrees); no perspective."""
    yaw, pitch, roll = (params[:, 10:13] * (math.pi / 180)).unbind(1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    about_y = _matrix(yaw.cos(), zero, -yaw.sin(), zero, one, zero, yaw.sin(), zero, yaw.cos())
    about_x = _matrix(one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos())
    about_z = _matrix(roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    turn = about_z @ about_x @ about_y
    arm = points - pivot
    return points + (arm @ turn.transpose(1, 2) - arm)  # without rotation exactly the points


def _matrix(*entries: Tensor) -> Tensor:
    return torch.stack(entries, -1).view(-1, 3, 3)


def _fit_spline(centres: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Thin-plate spline through (n, k, 2) values at (n, k, 2) centres: weights (n, k, 2), affine part (n, 3, 2)."""
    n, k = centres.shape[:2]
    points = centres.double()
    x, y = points.unbind(-1)
    squared = (x[:, :, None] - x[:, None]).square_() + (y[:, :, None] - y[:, None]).square_()
    system = torch.zeros(n, k + 3, k + 3, dtype=torch.float64)
    system[:, :k, :k] = squared * squared.clamp(min=1e-12).log() + STIFFNESS * torch.eye(k, dtype=torch.float64)
    system[:, :k, k] = 1
    system[:, :k, k + 1 :] = points
    system[:, k:, :k] = system[:, :k, k:].transpose(1, 2)
    solution = torch.linalg.solve(system, F.pad(values.double(), (0, 0, 0, 3))).float()
    return solution[:, :k], solution[:, k:]


def _evaluate_spline(nodes: Tensor, centres: Tensor, weights: Tensor, affine: Tensor) -> Tensor:
    """(2, m) values at nodes (m, 4), whose columns are x, y, x^2 + y^2, 1."""
    lifted = torch.cat([-2 * centres.T, torch.ones(1, len(centres)), centres.square().sum(1)[None]])
    kernel = (nodes @ lifted).clamp_(min=1e-9)  # squared distances
    kernel.mul_(kernel.log())
    return weights.T @ kernel.T + affine[1:].T @ nodes[:, :2].T + affine[0, :, None]
