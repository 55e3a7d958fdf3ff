import time
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from llia_core.expression import (
    RANGES,
    TEMPLATES,
    Expression,
    ExpressionError,
    edit_expression,
    neutralise,
    parse_expression,
)
from llia_core.face import landmarks_from_box
from llia_core.mesh import LEFT_LID_LOWER, LEFT_LID_UPPER, RIGHT_LID_LOWER, RIGHT_LID_UPPER, RIGID
from llia_core.warp import SLIDERS, FaceWarp

FACE = [name for name in SLIDERS if name not in ("yaw", "pitch", "roll")]


def params(*rows):
    table = torch.zeros(len(rows), len(SLIDERS))
    for row, values in enumerate(rows):
        for name, value in values.items():
            table[row, SLIDERS.index(name)] = value
    return table


@pytest.fixture(scope="module")
def portrait():
    """A drawn face of 256 x 256 pixels: (image, landmarks)."""
    synth = pytest.importorskip("llia_core.training.synth.portrait")
    image = synth.render(synth.portrait_from_sliders(10), torch.zeros(1, len(synth.ANIMATION)), size=256)[0]
    pytest.importorskip("mediapipe")
    from llia_core.face import crop_portrait, require_face

    crop, landmarks, _ = crop_portrait(image, require_face(image), 256)
    return crop, landmarks


@pytest.fixture(scope="module")
def warp():
    return FaceWarp(landmarks_from_box((48, 30, 208, 206)), 256, 256)


def textured(height, width):
    """A picture in which every move shows."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([(40 * x).sin() * 0.5, (33 * y).cos() * 0.5, (25 * (x + y)).sin() * 0.5])


def test_sliders_of_warp_and_text_are_the_same():
    assert tuple(SLIDERS) == tuple(RANGES) == tuple(field.name for field in fields(Expression))
    assert Expression(jaw=0.25, yaw=-3).params().tolist() == params({"jaw": 0.25, "yaw": -3}).tolist()


def test_parse():
    assert parse_expression("") == Expression()
    assert parse_expression(" smile=0.4, Jaw = 0.2;\nyaw=-5 ") == Expression(smile=0.4, jaw=0.2, yaw=-5)
    assert parse_expression("smile") == parse_expression("template=smile") == TEMPLATES["smile"]
    assert parse_expression("wink, blink_left=0.5").smile == TEMPLATES["wink"].smile
    assert parse_expression("wink, blink_left=0.5").blink_left == 0.5
    assert {"neutral", "smile", "serious", "surprised", "sad", "angry", "wink"} <= set(TEMPLATES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smile=0.4, smlie=0.2", r"character 12.*'smlie'.*did you mean 'smile'"),
        ("jaw=1.5", r"character 1, 'jaw=1.5'.*0 to 1"),
        ("smile=wide", "'wide' is not a number"),
        ("jaw=nan", "range"),
        ("happy", "unknown template 'happy'.*surprised"),
        ("template=smiel", "did you mean 'smile'"),
    ],
)
def test_parse_errors_name_place_and_remedy(text, said):
    with pytest.raises(ExpressionError, match=said):
        parse_expression(text)


def test_zero_is_bit_for_bit(warp):
    images = torch.rand(3, 3, 256, 256) * 2 - 1
    assert torch.equal(warp.apply(images, torch.zeros(3, 13)), images)
    mixed = warp.apply(images, params({}, {"smile": 1.0}, {}))
    assert torch.equal(mixed[[0, 2]], images[[0, 2]]) and not torch.equal(mixed[1], images[1])
    edited, landmarks = edit_expression(images[0], warp.landmarks, Expression())
    assert torch.equal(edited, images[0]) and torch.equal(landmarks, warp.landmarks)
    assert torch.equal(warp.displaced(torch.zeros(1, 13))[0], warp.landmarks)


def test_frames_do_not_depend_on_their_batch(warp):
    rows = params({"yaw": 6, "smile": 0.5}, {"blink_left": 1.0, "gaze_x": -0.5}, {"roll": -4, "jaw": 0.3})
    together = warp.apply(textured(256, 256), rows)
    for index in range(3):
        alone = warp.apply(textured(256, 256), rows[index : index + 1])[0]
        assert torch.allclose(alone, together[index], atol=2e-4)


def test_grid_carries_the_picture_along_with_the_landmarks(warp):
    """A dot drawn at a landmark is found at the displaced landmark."""
    rows = params({"smile": 1}, {"jaw": 0.7}, {"brow_raise": 1}, {"yaw": 8}, {"pitch": -8}, {"roll": 6}, {"pucker": 1})
    watched = [1, 61, 291, 17, 152, 105, 334, 33, 263, 205, 425]
    moved = warp.displaced(rows)[:, watched, :2]
    grid = warp.grid(rows)
    at_landmarks = F.grid_sample(grid.permute(0, 3, 1, 2), moved[:, :, None] / 128 - 1, align_corners=False)[..., 0]
    source = (at_landmarks.transpose(1, 2) + 1) * 128
    assert float((source - warp.landmarks[watched, :2]).norm(dim=-1).max()) < 1.0  # pixels
    assert float((moved - warp.landmarks[watched, :2]).norm(dim=-1).amax(1).min()) > 4  # something moves in every row


def test_lids_meet_and_cover_the_iris(warp):
    closed = warp.displaced(params({"blink_left": 1.0, "blink_right": 1.0}))[0]
    for upper, lower in ((LEFT_LID_UPPER, LEFT_LID_LOWER), (RIGHT_LID_UPPER, RIGHT_LID_LOWER)):
        gaps = (closed[list(upper), 1] - closed[list(lower), 1])[2:7].abs()
        assert float(gaps.max()) < 1.0
    wink = warp.displaced(params({"blink_left": 1.0}))[0]  # the person's left: the picture's right
    assert torch.equal(wink[list(LEFT_LID_UPPER)], warp.landmarks[list(LEFT_LID_UPPER)])
    assert float((wink[386] - warp.landmarks[386])[1]) > 3
    eyes = -torch.ones(3, 256, 256)
    for centre in (468, 473):
        x, y = warp.landmarks[centre, :2].round().int().tolist()
        eyes[:, y - 3 : y + 4, x - 3 : x + 4] = 1
    assert float(warp.apply(eyes, params({"blink_left": 1.0, "blink_right": 1.0})).max()) < -0.9


def test_gaze_moves_the_iris_only(warp):
    before = warp.landmarks
    after = warp.displaced(params({"gaze_x": 1.0}))[0]
    assert float(after[468, 0] - before[468, 0]) > 2 and float(after[473, 0] - before[473, 0]) > 2
    assert torch.equal(after[:468], before[:468])
    change = (warp.apply(textured(256, 256), params({"gaze_x": 1.0}))[0] - textured(256, 256)).abs().amax(0)
    change[int(before[159, 1]) - 12 : int(before[145, 1]) + 12] = 0
    assert float(change.max()) < 0.05


def test_face_sliders_keep_the_pose_and_the_surroundings(warp):
    rigid = [index for index in RIGID if index not in (98, 327, 129, 358)]  # nostrils follow a smile
    for name in FACE:
        moved = warp.displaced(params({name: RANGES[name][1]}))[0]
        assert float((moved - warp.landmarks)[rigid, :2].norm(dim=1).max()) < 3, name
    rows = params({"yaw": 8, "pitch": 8, "roll": 6, "smile": 1, "jaw": 0.5})
    grid = warp.grid(rows)[0]
    still = FaceWarp(warp.landmarks, 256, 256).grid(params({}))[0]
    edge = torch.ones(256, 256, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    assert float((grid - still)[edge].abs().max()) * 128 < 0.1


@pytest.mark.parametrize("row", [{"yaw": 10}, {"yaw": -10}, {"pitch": 10}, {"pitch": -10}, {"roll": 8}, {"smile": 1}])
def test_nothing_folds(warp, row):
    grid = warp.grid(params(row))[0]
    across, down = grid[:, 1:] - grid[:, :-1], grid[1:] - grid[:-1]
    area = across[:-1, :, 0] * down[:, :-1, 1] - across[:-1, :, 1] * down[:, :-1, 0]
    assert float(area.min()) > 0


def test_signs_of_the_pose(warp):
    moved = warp.displaced(params({"yaw": 8}, {"pitch": 8}, {"roll": 8})) - warp.landmarks
    assert moved[0, 1, 0] > 3 and moved[1, 1, 1] > 3  # nose to the right, down
    assert moved[2, 10, 0] > 3  # clockwise: the top goes right


@pytest.mark.parametrize("size", [(40, 48), (333, 211), (900, 1200)])
def test_any_size(size):
    height, width = size
    landmarks = landmarks_from_box((0.3 * width, 0.15 * height, 0.7 * width, 0.8 * height))
    image = textured(height, width)
    edited, moved = edit_expression(image, landmarks, TEMPLATES["surprised"])
    assert edited.shape == image.shape and bool(edited.isfinite().all()) and edited.abs().max() <= 1
    scale = float((landmarks[263] - landmarks[33]).norm())
    assert 0.1 < float((moved[14] - moved[13]).norm()) / scale < 0.3
    grid = FaceWarp(landmarks, height, width).grid(params({"smile": 1.0}), (height // 2, width // 2))
    assert grid.shape == (1, height // 2, width // 2, 2)


def test_flat_and_outside_landmarks_are_normal_input():
    flat = landmarks_from_box((-40, -30, 90, 120)) * torch.tensor([1.0, 1.0, 0.0])
    edited, _ = edit_expression(textured(100, 90), flat, Expression(jaw=1, blink_left=1, yaw=10))
    assert bool(edited.isfinite().all())
    with pytest.raises(ValueError, match=r"\(468, 3\)"):
        FaceWarp(torch.zeros(468, 3), 64, 64)


def test_opened_jaw_shows_a_dark_mouth_with_teeth(portrait):
    image, landmarks = portrait
    edited, moved = edit_expression(image, landmarks, Expression(jaw=0.8))
    upper, lower = moved[13, :2], moved[14, :2]
    x = int(moved[[13, 14], 0].mean())
    column = edited[:, int(upper[1]) : int(lower[1]) + 1, x].mean(0)
    skin = float(image[:, int(landmarks[205, 1]), int(landmarks[205, 0])].mean())
    assert float(column.min()) < skin - 0.4  # the cavity
    assert float(column[: len(column) // 2].max()) > float(column.min()) + 0.4  # teeth above it
    outside = (edited - image).abs().amax(0)
    outside[int(landmarks[1, 1]) :] = 0
    assert float(outside.max()) < 0.25  # nothing happens above the nose


def test_neutralise_closes_an_open_mouth(portrait):
    image, landmarks = portrait
    opened, moved = edit_expression(image, landmarks, Expression(jaw=0.6, smile=0.5))
    closed, lips = neutralise(opened, moved)
    unit = float((landmarks[263] - landmarks[33]).norm())
    assert float((moved[14] - moved[13])[:2].norm()) > 0.08 * unit
    assert float((lips[14] - lips[13])[:2].norm()) < 0.02 * unit
    x, y = lips[13, :2].int().tolist()
    before = opened[:, int(moved[13, 1]) : int(moved[14, 1]), x].mean(0)
    after = closed[:, y - 4 : y + 5, x].mean(0)
    assert float(after.min()) > float(before.min()) + 0.05  # the dark cavity is gone


def test_cost_of_a_frame(warp):
    image = textured(256, 256)
    rows = params({"yaw": 3, "smile": 0.2, "blink_left": 0.5, "blink_right": 0.5, "gaze_x": 0.2}).expand(8, -1)
    warp.apply(image, rows)
    best = min(_seconds(lambda: warp.apply(image, rows)) for _ in range(5)) / 8
    assert best < 0.012  # about 2.5 ms on an idle core; a busy machine must not fail this


def _seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
