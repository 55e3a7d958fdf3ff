"""Where the face is: landmarks, portrait crop and mouth region.

Pixel coordinates are continuous: the centre of pixel (row i, column j) lies at x = j + 0.5, y = i + 0.5, the picture
spans 0 to its width and height, so x / width * 2 - 1 is what `F.grid_sample(align_corners=False)` expects. z has the
scale of x, smaller is nearer.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import face_mask, lip_mask, region_masks
from .mesh import ASSETS, CHIN, FOREHEAD, LEFT_EAR, POINTS, RIGHT_EAR, RIGID, mean_face

__all__ = [
    "FaceError",
    "FaceLandmarker",
    "FaceNotFoundError",
    "crop_box",
    "crop_portrait",
    "detect_landmarks",
    "face_mask",
    "landmarks_from_box",
    "lip_mask",
    "mouth_region",
    "region_bounds",
    "region_grid",
    "region_masks",
    "require_face",
    "sample_region",
    "similarity",
]

MIN_SIDE, MAX_SIDE = 256, 1280  # pictures are brought into this range (longer side) before detection
DETECTION_CONFIDENCE, PRESENCE_CONFIDENCE = 0.6, 0.8
FACE_SHARE = 0.66  # of the portrait crop's height, from forehead to chin
MOUTH_CENTRE = (0.0, -0.19)  # of the closed mouth of the mean face, in region coordinates


class FaceError(RuntimeError):
    """The face detector cannot be used, or found nothing useful."""


class FaceNotFoundError(FaceError):
    """No face in the picture. The text says what to do."""


class FaceLandmarker:
    """MediaPipe's face landmarker for many pictures. Use with `with`: it holds native threads.

        with FaceLandmarker() as landmarker:
            faces = landmarker.detect(image)

    task_path: a `face_landmarker.task` file; None takes the bundled one. max_faces: more faces than that are ignored.
    Raises FaceError if mediapipe is missing, FileNotFoundError if the task file is.
    """

    def __init__(self, task_path: str | Path | None = None, max_faces: int = 4):
        path = Path(task_path) if task_path else ASSETS / "face_landmarker.task"
        if not path.is_file():
            raise FileNotFoundError(
                f"Face landmark model {path} not found. Leave task_path empty for the bundled model, or make that "
                "again with `python -m scripts.make_face_landmarker`."
            )
        try:
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise FaceError(
                f"Face detection needs the mediapipe package ({error}). Install it with `pip install mediapipe`, or "
                "give the face as a box (landmarks_from_box)."
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)),
            num_faces=max_faces,
            min_face_detection_confidence=DETECTION_CONFIDENCE,
            min_face_presence_confidence=PRESENCE_CONFIDENCE,
        )
        self.max_faces = max_faces
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def __enter__(self) -> "FaceLandmarker":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def detect(self, image: Tensor) -> list[Tensor]:
        """Landmarks of all faces in `image` (3, H, W) in [-1, 1]: list of (478, 3) float32, largest face first.

        Where the plain picture shows no face, it is tried with a border (a face that fills the picture), then by
        overlapping quarters (a small face). Raises ValueError for another shape.
        """
        if image.ndim != 3 or image.shape[0] != 3 or min(image.shape) < 1:
            raise ValueError(f"Expected one RGB image (3, height, width), got shape {tuple(image.shape)}.")
        picture, scale = _working_size(image.detach().float().cpu().nan_to_num(0.0).clamp(-1, 1))
        faces = self._run(picture)
        for share in (0.5, 1.0):
            faces = faces or self._run_padded(picture, share)
        faces = _distinct(faces or self._run_tiles(picture))[: self.max_faces]
        return [face / scale for face in faces]

    def _run(self, picture: Tensor) -> list[Tensor]:
        import mediapipe as mp

        height, width = picture.shape[-2:]
        data = ((picture + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        found = self._landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=data)).face_landmarks
        size = torch.tensor([width, height, width], dtype=torch.float32)
        return [torch.tensor([(p.x, p.y, p.z) for p in face], dtype=torch.float32)[:POINTS] * size for face in found]

    def _run_padded(self, picture: Tensor, share: float) -> list[Tensor]:
        border = round(max(picture.shape[-2:]) * share)
        padded = F.pad(picture, (border,) * 4, value=float(picture.mean()))
        smaller, scale = _working_size(padded)
        return [face / scale - torch.tensor([border, border, 0.0]) for face in self._run(smaller)]

    def _run_tiles(self, picture: Tensor) -> list[Tensor]:
        height, width = picture.shape[-2:]
        side = max(min(height, width) // 2, 16)
        faces = []
        for y in sorted({*range(0, max(height - side, 1), max(side // 2, 1)), max(height - side, 0)}):
            for x in sorted({*range(0, max(width - side, 1), max(side // 2, 1)), max(width - side, 0)}):
                tile, scale = _working_size(picture[:, y : y + side, x : x + side])
                faces += [face / scale + torch.tensor([x, y, 0.0]) for face in self._run(tile)]
        return faces


def detect_landmarks(image: Tensor, task_path: str | Path | None = None, max_faces: int = 4) -> list[Tensor]:
    """Landmarks of `image` (3, H, W) in [-1, 1]: list of (478, 3) float32 in pixels, largest face first, [] if none."""
    with FaceLandmarker(task_path, max_faces) as landmarker:
        return landmarker.detect(image)


def require_face(image: Tensor, task_path: str | Path | None = None) -> Tensor:
    """(478, 3) landmarks of the largest face. Raises FaceNotFoundError."""
    faces = detect_landmarks(image, task_path)
    if not faces:
        height, width = image.shape[-2:]
        raise FaceNotFoundError(
            f"No face found in the picture of {width} x {height} pixels. Use a picture with one upright face that "
            "looks at the viewer and is at least 64 pixels high, or give a face box: x0, y0, x1, y1 in pixels, from "
            "forehead to chin and from ear to ear."
        )
    return faces[0]


def landmarks_from_box(box: tuple[float, float, float, float]) -> Tensor:
    """(478, 3) landmarks of the mean face fitted into `box` (x0, y0, x1, y1) in pixels: forehead to chin, ear to ear.

    For pictures in which no face is found. Raises ValueError for an empty box.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x1 - x0 > 1 and y1 - y0 > 1):
        raise ValueError(f"Face box {tuple(box)} is empty. Expected (x0, y0, x1, y1) in pixels, x0 < x1 and y0 < y1.")
    face = mean_face()
    left, top, right, bottom = face[LEFT_EAR, 0], face[FOREHEAD, 1], face[RIGHT_EAR, 0], face[CHIN, 1]
    scale = torch.stack([(x1 - x0) / (right - left), (y1 - y0) / (bottom - top), (x1 - x0) / (right - left)])
    return (face - torch.stack([left, top, torch.zeros(())])) * scale + torch.tensor([x0, y0, 0.0])


def crop_box(landmarks: Tensor, image_size: tuple[int, int] | None = None) -> tuple[int, int, int]:
    """(x0, y0, side) in whole pixels of the square portrait crop: the face takes FACE_SHARE of its height.

    It may reach beyond the picture. image_size (height, width) only bounds the side, against absurd landmarks.
    """
    forehead, chin = landmarks[FOREHEAD, :2], landmarks[CHIN, :2]
    across = landmarks[[LEFT_EAR, RIGHT_EAR], :2].mean(0)
    side = max(float((chin - forehead).norm()) / FACE_SHARE, 2.0)
    if image_size is not None:
        side = min(side, 4.0 * max(image_size))
    side = round(side)
    middle = (forehead + chin) / 2
    x = 0.5 * float(middle[0]) + 0.5 * float(across[0])  # a turned head: between the face and the skull
    return round(x - side / 2), round(float(middle[1]) - side * 0.5), side


def crop_portrait(image: Tensor, landmarks: Tensor, size: int) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    """Square portrait crop, antialiased, edge pixels repeated beyond the picture.

    image (3, H, W), landmarks (478, 3) -> image (3, size, size), landmarks in it, box (x0, y0, side) it was cut from.
    """
    height, width = image.shape[-2:]
    x0, y0, side = box = crop_box(landmarks, (height, width))
    rows = torch.arange(y0, y0 + side).clamp(0, height - 1)
    columns = torch.arange(x0, x0 + side).clamp(0, width - 1)
    square = image[:, rows][:, :, columns]
    if side != size:
        square = F.interpolate(square[None], size=(size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)
    moved = (landmarks - torch.tensor([x0, y0, 0.0])) * (size / side)
    return square, moved, box


def mouth_region(landmarks: Tensor) -> Tensor:
    """(2, 3) similarity from the mouth region's coordinates u in [-1, 1]^2 to pixels: pixel = m[:, :2] @ u + m[:, 2].

    The mean face is fitted to the rigid landmarks in three dimensions (Umeyama 1991, reweighted against outliers), so a
    turned head does not shrink the region and mouth, jaw, lids and brows do not move it. Landmarks without depth (all z
    equal) are fitted in the plane.
    """
    points = landmarks[list(RIGID)].double()
    layout = mean_face()[list(RIGID)].double()
    mouth = torch.tensor([*MOUTH_CENTRE, float(mean_face()[[13, 14], 2].mean())], dtype=torch.float64)
    if points[:, 2].std() < 0.1 * points[:, 0].std():
        points, layout, mouth = points[:, :2], layout[:, :2], mouth[:2]
    scale, turn, shift = similarity(layout, points)
    angle = torch.atan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    linear = scale * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    centre = (scale * turn @ mouth + shift)[:2]
    return torch.cat([linear, (centre - linear @ mouth[:2])[:, None]], 1).float()


def sample_region(image: Tensor, transform: Tensor, size: int) -> Tensor:
    """(C, size, size): the region of `image` (C, H, W) under `transform` (2, 3); antialiased, edge pixels repeated."""
    height, width = image.shape[-2:]
    step = 2 * float(transform[:, 0].norm()) / size  # pixels of the picture per pixel of the region
    fine = size * max(1, round(step))
    axis = (torch.arange(fine, dtype=torch.float32) + 0.5) * (2 / fine) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y], -1) @ transform[:, :2].T + transform[:, 2]
    grid = pixels * torch.tensor([2 / width, 2 / height]) - 1
    region = F.grid_sample(image[None].float(), grid[None], padding_mode="border", align_corners=False)
    return F.avg_pool2d(region, fine // size)[0]


def region_bounds(transform: Tensor, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the smallest box of whole pixels in the picture (height, width) that holds the region."""
    height, width = image_size
    reach = transform[:, :2].abs().sum(1)
    low, high = (transform[:, 2] - reach).floor(), (transform[:, 2] + reach).ceil()
    x0, y0 = min(max(int(low[0]), 0), width), min(max(int(low[1]), 0), height)
    return x0, y0, max(min(int(high[0]), width), x0), max(min(int(high[1]), height), y0)


def region_grid(transform: Tensor, image_size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> Tensor:
    """(h, w, 2): region coordinates of every pixel of the picture (height, width), or of a box (x0, y0, x1, y1) in it.

    It is the sampling grid that pastes a region picture back: F.grid_sample(region, grid, align_corners=False).
    Coordinates beyond [-1, 1] are outside the region.
    """
    x0, y0, x1, y1 = box or (0, 0, image_size[1], image_size[0])
    x = torch.arange(x0, x1, dtype=torch.float32) + 0.5
    y = torch.arange(y0, y1, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(y, x, indexing="ij")
    inverse = torch.linalg.inv(transform[:, :2].double()).float()
    return (torch.stack([x, y], -1) - transform[:, 2]) @ inverse.T


def _working_size(picture: Tensor) -> tuple[Tensor, float]:
    """The picture with its longer side within MIN_SIDE to MAX_SIDE, and the factor."""
    height, width = picture.shape[-2:]
    longer = max(height, width)
    scale = min(max(longer, MIN_SIDE), MAX_SIDE) / longer
    if scale == 1:
        return picture, 1.0
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0].clamp(-1, 1), scale


def _distinct(faces: list[Tensor]) -> list[Tensor]:
    """Largest first, without faces that were found twice (overlapping tiles)."""
    boxes = [torch.cat([face[:, :2].amin(0), face[:, :2].amax(0)]) for face in faces]
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in boxes]
    kept = []
    for index in sorted(range(len(faces)), key=lambda k: -areas[k]):
        overlaps = []
        for other in kept:
            low = torch.maximum(boxes[index][:2], boxes[other][:2])
            high = torch.minimum(boxes[index][2:], boxes[other][2:])
            overlaps.append(float((high - low).clamp(min=0).prod()) / max(areas[index], 1e-6))
        if max(overlaps, default=0.0) < 0.5:
            kept.append(index)
    return [faces[index] for index in kept]


def similarity(source: Tensor, target: Tensor, rounds: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """(scale, rotation, shift) with target ~ scale * rotation @ source + shift; Cauchy weights against outliers."""
    weights = torch.ones(len(source), 1, dtype=source.dtype)
    for _ in range(rounds):
        share = weights / weights.sum()
        source_mean, target_mean = (share * source).sum(0), (share * target).sum(0)
        a, b = source - source_mean, target - target_mean
        left, values, right = torch.linalg.svd((share * b).T @ a)
        sign = torch.ones_like(values)
        sign[-1] = torch.sign(torch.linalg.det(left @ right))
        turn = (left * sign) @ right
        scale = (values * sign).sum() / (share * a**2).sum()
        shift = target_mean - scale * turn @ source_mean
        residual = (scale * source @ turn.T + shift - target).norm(dim=1, keepdim=True)
        weights = 1 / (1 + (residual / (2 * residual.median() + 1e-9)) ** 2)
    return scale, turn, shift
