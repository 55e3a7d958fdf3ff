from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from llia_core import face
from llia_core.masks import polygon_mask
from llia_core.mesh import CHIN, FACE_OVAL, FOREHEAD, RIGID, mean_face

PORTRAITS = sorted((Path(__file__).resolve().parents[2] / "shared" / "data" / "portraits").glob("*.jpg"))


def read(path):
    from PIL import Image

    return as_tensor(Image.open(path).convert("RGB"))


def as_tensor(picture):
    import numpy as np

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data", reason="scikit-image has the test photograph")
    return as_tensor(data.astronaut())


@pytest.fixture(scope="module")
def landmarker():
    pytest.importorskip("mediapipe")
    with face.FaceLandmarker() as opened:
        yield opened


def resized(image, height, width):
    return F.interpolate(image[None], size=(height, width), mode="bilinear", antialias=True)[0]


def moved(landmarks, degrees=0.0, scale=1.0, shift=(0.0, 0.0)):
    """Landmarks after a similarity in the picture plane."""
    angle = torch.tensor(degrees).deg2rad()
    turn = scale * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return torch.cat([landmarks[:, :2] @ turn.T + torch.tensor(shift), landmarks[:, 2:] * scale], 1), turn


def test_astronaut(landmarker, astronaut):
    faces = landmarker.detect(astronaut)
    assert len(faces) == 1 and faces[0].shape == (478, 3) and faces[0].dtype == torch.float32
    expected = {1: (223, 130), 33: (195, 101), 263: (256, 104), 61: (203, 139), 291: (245, 140)}  # read off the picture
    for index, point in expected.items():
        assert (faces[0][index, :2] - torch.tensor(point)).norm() < 4, index


@pytest.mark.skipif(not PORTRAITS, reason="the sample portraits are not here")
@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_sample_portraits(landmarker, path):
    image = read(path)
    landmarks = landmarker.detect(image)[0]
    crop, local, _ = face.crop_portrait(image, landmarks, 256)
    assert crop.shape == (3, 256, 256)
    assert 0.62 <= float((local[CHIN] - local[FOREHEAD])[:2].norm()) / 256 <= 0.7
    redetected = landmarker.detect(crop)[0]
    assert float((redetected - local)[:, :2].norm(dim=1).mean()) < 4


def test_procedural_portraits(landmarker):
    portrait = pytest.importorskip("llia_core.training.synth.portrait")
    still = torch.zeros(1, len(portrait.ANIMATION))
    for seed in (1, 2, 3):
        identity = portrait.portrait_from_sliders(seed)
        image = portrait.render(identity, still, size=192)[0]
        landmarks = landmarker.detect(image)[0]
        names = dict(zip(portrait.LANDMARKS, portrait.landmarks(identity, still)[0] * 192, strict=True))
        eyes = float((landmarks[263] - landmarks[33]).norm())
        lips = (names["lip_upper_inner"] + names["lip_lower_inner"]) / 2
        assert float((landmarks[[13, 14], :2].mean(0) - lips).norm()) < 0.08 * eyes


def test_largest_face_comes_first_and_each_once(landmarker, astronaut):
    small, large = resized(astronaut, 256, 256), astronaut
    picture = -torch.ones(3, 512, 768)
    picture[:, :256, :256], picture[:, :, 256:] = small, large
    heights = [float((points[CHIN] - points[FOREHEAD])[:2].norm()) for points in landmarker.detect(picture)]
    assert heights[0] == pytest.approx(107, rel=0.1)
    assert len(heights) <= 2 and heights == sorted(heights, reverse=True)


def test_face_that_fills_the_frame_and_small_face(landmarker, astronaut):
    assert landmarker.detect(astronaut[:, 60:170, 175:275])
    tiny = landmarker.detect(resized(astronaut[:, 20:220, 120:320], 48, 48))
    assert tiny and 0 < float(tiny[0][1, 0]) < 48
    corner = torch.zeros(3, 800, 800)
    corner[:, 500:700, 100:300] = astronaut[:, 20:220, 120:320]
    assert (landmarker.detect(corner)[0][1, :2] - torch.tensor([100 + 102.0, 500 + 110.0])).norm() < 12


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (16, 300), (8000, 40)])
def test_no_size_crashes_and_no_face_is_an_empty_list(landmarker, size):
    assert landmarker.detect(torch.zeros(3, *size)) == []


def test_errors_say_what_to_do(landmarker, tmp_path):
    with pytest.raises(ValueError, match=r"\(4, 8, 8\)"):
        landmarker.detect(torch.zeros(4, 8, 8))
    with pytest.raises(FileNotFoundError, match="make_face_landmarker"):
        face.FaceLandmarker(tmp_path / "none.task")
    with pytest.raises(face.FaceNotFoundError, match="face box"):
        face.require_face(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="empty"):
        face.landmarks_from_box((10, 10, 10, 50))


def test_box_landmarks_fill_the_box():
    landmarks = face.landmarks_from_box((100, 50, 300, 350))
    assert landmarks.shape == (478, 3)
    assert float(landmarks[FOREHEAD, 1]) == pytest.approx(50, abs=1)
    assert float(landmarks[CHIN, 1]) == pytest.approx(350, abs=1)
    assert float(landmarks[234, 0]) == pytest.approx(100, abs=1)
    assert float(landmarks[454, 0]) == pytest.approx(300, abs=1)


def test_mean_face_is_symmetric_and_at_its_place_in_the_region():
    layout = mean_face()
    assert torch.allclose(layout[33] * torch.tensor([-1.0, 1, 1]), layout[263], atol=0.02)
    assert torch.allclose(layout[[13, 14], :2].mean(0), torch.tensor(face.MOUTH_CENTRE), atol=0.05)
    assert layout[CHIN, 1] < 0.75 and -1.05 < layout[197, 1] < -0.75  # open jaw has room; top edge at mid nose


def test_crop_repeats_edges_and_maps_landmarks():
    image = torch.rand(3, 120, 100) * 2 - 1
    landmarks = face.landmarks_from_box((20, 10, 80, 110))
    crop, local, (x0, y0, side) = face.crop_portrait(image, landmarks, 64)
    assert crop.shape == (3, 64, 64) and side > 120  # beyond the picture
    assert torch.allclose(local[:, :2] * side / 64 + torch.tensor([x0, y0]), landmarks[:, :2], atol=1e-3)
    whole, _, (x0, y0, side) = face.crop_portrait(image, landmarks, side)
    assert torch.equal(whole[:, -y0 : -y0 + 120, -x0 : -x0 + 100], image)
    assert torch.equal(whole[:, :-y0, -x0], image[:, :1, 0].expand(3, -y0))


def test_mouth_region_follows_a_similarity_and_nothing_else():
    landmarks = face.landmarks_from_box((100, 50, 300, 350))
    region = face.mouth_region(landmarks)
    turned, turn = moved(landmarks, 23.0, 1.7, (40.0, -10.0))
    expected = turn @ region + torch.tensor([[0, 0, 40.0], [0, 0, -10.0]])
    assert torch.allclose(face.mouth_region(turned), expected, atol=0.3)
    talking = landmarks.clone()
    free = [index for index in range(478) if index not in RIGID]
    talking[free] += 20 * torch.rand(len(free), 3)
    assert torch.equal(face.mouth_region(talking), region)
    outlier = landmarks.clone()
    outlier[98] += 60
    assert (face.mouth_region(outlier) - region).abs().max() < 3
    flat = landmarks * torch.tensor([1.0, 1.0, 0.0])
    assert torch.allclose(face.mouth_region(flat), region, atol=6)


def test_region_survives_a_turned_head():
    landmarks = face.landmarks_from_box((100, 50, 300, 285))
    region = face.mouth_region(landmarks)
    angle = torch.tensor(0.35)
    turn = torch.tensor([[angle.cos(), 0, -angle.sin()], [0, 1, 0], [angle.sin(), 0, angle.cos()]])
    yawed = (landmarks - landmarks.mean(0)) @ turn.T + landmarks.mean(0)
    other = face.mouth_region(yawed)
    assert float(other[:, 0].norm() / region[:, 0].norm()) == pytest.approx(1, abs=0.03)
    mouth = torch.linalg.solve(other[:, :2], yawed[[13, 14], :2].mean(0) - other[:, 2])
    assert torch.allclose(mouth, torch.tensor(face.MOUTH_CENTRE), atol=0.06)


def test_sample_and_paste_are_inverse():
    y, x = torch.meshgrid(torch.linspace(0, 1, 200), torch.linspace(0, 1, 160), indexing="ij")
    image = torch.stack([x, y, (6 * x).sin() * (5 * y).cos()])
    transform = torch.tensor([[40.0, -9.0, 80.0], [9.0, 40.0, 110.0]])
    region = face.sample_region(image, transform, 128)
    grid = face.region_grid(transform, (200, 160))
    back = F.grid_sample(region[None], grid[None], align_corners=False)[0]
    inside = grid.abs().amax(-1) < 0.95
    assert inside.sum() > 5000 and float((back - image)[:, inside].abs().max()) < 0.02
    x0, y0, x1, y1 = box = face.region_bounds(transform, (200, 160))
    assert torch.allclose(face.region_grid(transform, (200, 160), box), grid[y0:y1, x0:x1], atol=1e-5)
    outside = torch.ones(200, 160, dtype=torch.bool)
    outside[y0:y1, x0:x1] = False
    assert (grid[outside].abs().amax(-1) >= 1).all()


def test_small_regions_are_antialiased():
    stripes = (torch.arange(400) % 2 * 2.0 - 1).expand(3, 400, 400)
    region = face.sample_region(stripes, torch.tensor([[160.0, 0, 200], [0, 160.0, 200]]), 32)
    assert float(region.abs().max()) < 0.25


def test_masks():
    landmarks = face.landmarks_from_box((40, 30, 160, 190))
    whole, lips = face.face_mask(landmarks, 220, 200), face.lip_mask(landmarks, 220, 200)
    assert whole.shape == lips.shape == (220, 200) and whole.min() == 0 and whole.max() == 1
    mouth, nose = landmarks[[13, 14]].mean(0).long(), landmarks[1].long()
    assert lips[mouth[1], mouth[0]] == 1 and lips[nose[1], nose[0]] == 0 and whole[nose[1], nose[0]] == 1
    assert whole[5, 5] == 0 and 0.2 < float(lips.sum() / whole.sum()) * 10 < 1.5
    oval = landmarks[list(FACE_OVAL), :2]
    x, y = oval.T
    area = 0.5 * float((x * y.roll(-1) - x.roll(-1) * y).sum().abs())
    assert float(polygon_mask(oval, 220, 200, softness=2).sum()) == pytest.approx(area, rel=0.02)
    big = face.face_mask(landmarks * 4, 880, 800)
    assert float((F.avg_pool2d(big[None], 4)[0] - whole).abs().max()) < 0.1
    local = face.region_masks(landmarks, face.mouth_region(landmarks), 64)
    assert local.shape == (2, 64, 64) and float(local[0, 26, 32]) == 1 and float(local[0, 60, 32]) == 0
