"""A closing lid covers the eye and leaves glasses and brows where they are, on faces that are drawn."""

import pytest
import torch

from llia_core.expression import Expression, edit_expression
from llia_core.mesh import LEFT_IRIS, RIGHT_IRIS
from llia_core.training.synth.portrait import ANIMATION, portrait_from_sliders, render
from llia_core.warp import FaceWarp

SIZE = 384
SEEDS = (6, 9, 12, 20)  # rims close above the eye
SHUT = Expression(blink_left=1.0, blink_right=1.0)


def drawn(seed, **sliders):
    return render(portrait_from_sliders(seed, **sliders), torch.zeros(1, len(ANIMATION)), size=SIZE)[0]


@pytest.fixture(scope="module")
def landmarker():
    pytest.importorskip("mediapipe")
    from llia_core.face import FaceLandmarker

    with FaceLandmarker() as one:
        yield one


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blink_leaves_the_glasses_where_they_are(landmarker, seed):
    glasses, bare = drawn(seed, glasses=0.0, glasses_size=0.5), drawn(seed, glasses=1.0, glasses_size=0.5)
    landmarks = landmarker.detect(glasses)[0]
    above = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for outer, inner, lid in ((33, 133, 159), (362, 263, 386)):
        x0, x1, y = int(landmarks[outer, 0]), int(landmarks[inner, 0]), int(landmarks[lid, 1])
        above[y - (x1 - x0) // 2 : y, x0:x1] = True
    frame = ((glasses - bare).norm(dim=0) > 0.6) & above
    change = (edit_expression(glasses, landmarks, SHUT)[0] - glasses).norm(dim=0)[frame]
    assert int(frame.sum()) > 200
    assert (
        float(change.mean()) < 0.08 and float((change > 0.3).float().mean()) < 0.02
    )  # unread: 0.16 to 0.39, 0.2 to 0.5
    _eyes_are_covered(glasses, landmarks)


@pytest.mark.parametrize("seed", (0, 3, 16))
def test_a_blink_covers_big_round_eyes(landmarker, seed):
    image = drawn(seed, glasses=1.0, eye_open=1.0)
    _eyes_are_covered(image, landmarker.detect(image)[0])


def _eyes_are_covered(image, landmarks):
    """Where the iris was is now a lid: skin, one fairly even colour but for the line of the lashes."""
    shut = edit_expression(image, landmarks, SHUT)[0]
    for iris in (LEFT_IRIS, RIGHT_IRIS):
        centre = landmarks[iris[0], :2]
        radius = float((landmarks[list(iris[1:]), :2] - centre).norm(dim=1).mean())
        x, y = (int(v) for v in centre)
        r = max(int(0.5 * radius), 2)
        patch = (slice(None), slice(y - 2 * r, y + r), slice(x - r, x + r + 1))
        assert float(shut[patch].mean(0).median()) > float(image[patch].mean(0).median()) + 0.25
        assert float(shut[patch].mean(0).std()) < 0.6 * float(image[patch].mean(0).std())


def test_what_cannot_be_read_changes_nothing(landmarker):
    image = drawn(0)
    landmarks = landmarker.detect(image)[0]
    plain = FaceWarp(landmarks, SIZE, SIZE)
    grey = FaceWarp(landmarks, SIZE, SIZE, image=torch.zeros_like(image))
    assert torch.equal(plain.grid(SHUT.params()), grey.grid(SHUT.params()))
