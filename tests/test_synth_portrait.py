"""The procedural portraits: shapes, determinism, articulation that shows, and closed lips that are closed."""

import pytest
import torch

from llia_core.training.synth.articulation import ARTICULATION
from llia_core.training.synth.portrait import (
    ANIMATION,
    HAIR_STYLES,
    LANDMARKS,
    Identities,
    landmarks,
    mouth_opening,
    portrait_from_sliders,
    render,
    sample_identities,
)  # fmt: skip

MOUTH = torch.tensor([[[0.15, 0.0, 0.5], [0.0, 0.15, 0.71]]])


def people(n: int, seed: int = 0) -> Identities:
    return sample_identities(n, torch.Generator().manual_seed(seed))


def frames(*rows: dict) -> torch.Tensor:
    animation = torch.zeros(len(rows), len(ANIMATION))
    for i, row in enumerate(rows):
        for name, value in row.items():
            animation[i, ANIMATION.index(name)] = value
    return animation


def test_articulation_comes_first_in_the_order_of_the_tracks():
    assert ANIMATION[: len(ARTICULATION)] == ARTICULATION


def test_render_has_range_and_is_reproducible():
    pictures = render(people(3), frames({}, {"jaw": 1}, {"yaw": 0.3, "pitch": -0.3, "roll": 0.3}), size=48)
    assert pictures.shape == (3, 3, 48, 48) and pictures.dtype == torch.float32
    assert pictures.isfinite().all() and pictures.min() >= -1 and pictures.max() <= 1
    assert pictures.std() > 0.2
    assert torch.equal(pictures[:1], render(people(3)[0], frames({}), size=48))


def test_identities_index_expand_and_join():
    ids = people(4)
    assert len(ids[1]) == 1 and len(ids[1:3]) == 2 and len(ids[1].expand(5)) == 5
    assert torch.equal(Identities.cat([ids[:2], ids[2:]]).values, ids.values)
    assert ids.skin_rgb.shape == (4, 3) and ids.mouth_w.shape == (4, 1)
    with pytest.raises(ValueError, match="got 4"):
        ids.expand(2)
    with pytest.raises(AttributeError, match="known"):
        _ = ids.nothing


def test_a_window_shows_what_the_whole_picture_shows():
    ids, still = people(1), frames({"jaw": 0.6})
    whole = render(ids, still, size=128)[:, :, 64:, 32:96]
    window = torch.tensor([[[0.25, 0.0, 0.5], [0.0, 0.25, 0.75]]])
    assert (render(ids, still, window, size=64) - whole).abs().max() < 1e-3


def test_finer_sampling_agrees_with_the_average():
    ids, still = people(2, 3), frames({"jaw": 0.4, "upper": 0.3}, {})
    fine = torch.nn.functional.avg_pool2d(render(ids, still, size=192), 2)
    assert (fine - render(ids, still, size=96)).abs().mean() < 0.02


def test_a_clip_equals_its_frames():
    ids = people(1, 5)[0].expand(4)
    animation = frames({}, {"jaw": 0.8}, {"round": 1}, {"wide": 1, "upper": 0.5})
    args = (animation, MOUTH.expand(4, 2, 3), 40)
    assert (render(ids, *args, clip=True) - render(ids, *args)).abs().max() < 1e-5


def test_every_articulation_changes_the_mouth_and_the_whole_frame_otherwise_stays():
    ids = people(1, 2)
    for name in ARTICULATION:
        base = {"jaw": 0.4} if name in ("press", "tongue") else {}
        pair = render(ids.expand(2), frames(base, base | {name: 1}), size=128)
        change = (pair[1] - pair[0]).abs().amax(0)
        assert change[80:120, 40:88].mean() > 0.005, name
        assert change[:44].max() < 1e-4, name


def test_jaw_opens_press_shuts():
    ids = people(16)
    opening = {v: mouth_opening(ids, frames(*[{"jaw": v}] * 16)) for v in (0.0, 0.5, 1.0)}
    assert opening[0.0].max() < 1e-6
    assert (opening[1.0] > 1.6 * opening[0.5]).all() and (opening[0.5] > 0).all()
    assert mouth_opening(ids, frames(*[{"jaw": 1, "press": 1}] * 16)).max() < 1e-6
    points = landmarks(ids, frames(*[{"jaw": 1}] * 16))
    name = LANDMARKS.index
    width = (points[:, name("mouth_left")] - points[:, name("mouth_right")]).norm(dim=1)
    gap = (points[:, name("lip_lower_inner")] - points[:, name("lip_upper_inner")]).norm(dim=1)
    assert ((gap / width > 0.33) & (gap / width < 0.45)).all()
    assert points[:, name("chin"), 1].max() < 0.98


def test_landmarks_follow_the_pose():
    ids = people(2)
    still, turned = (landmarks(ids, frames(*[row] * 2)) for row in ({}, {"yaw": 0.3}))
    nose, corner = LANDMARKS.index("nose_tip"), LANDMARKS.index("eye_left_outer")
    assert (turned[:, nose, 0] - still[:, nose, 0] > turned[:, corner, 0] - still[:, corner, 0]).all()
    assert landmarks(ids, frames({}, {})).shape == (2, len(LANDMARKS), 2)


def test_the_lip_line_is_darker_than_the_lips_at_its_landmark():
    ids = people(1, 8)
    centre = landmarks(ids, frames({}))[0, LANDMARKS.index("lip_upper_inner")]
    window = torch.tensor([[[0.03, 0.0, centre[0]], [0.0, 0.03, centre[1]]]])
    column = render(ids, frames({}), window, size=33)[0].mean(0)[:, 16]
    assert abs(int(column.argmin()) - 16) <= 2


def test_sliders():
    person = portrait_from_sliders(3, hair_style="bald", glasses=1.0, skin=0.0)
    assert person.hair_alpha.item() == 0 and person.glasses.item() == 0
    assert torch.equal(portrait_from_sliders(3).values, portrait_from_sliders(3).values)
    dark = portrait_from_sliders(3, skin=1.0, fantasy=1.0).skin_rgb.mean()
    assert dark < portrait_from_sliders(3, skin=0.0, fantasy=1.0).skin_rgb.mean() - 0.3
    with pytest.raises(ValueError, match="unknown slider"):
        portrait_from_sliders(3, wings=1.0)
    with pytest.raises(ValueError, match="unknown hair style"):
        portrait_from_sliders(3, hair_style="mohican")
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        portrait_from_sliders(3, age=2.0)
    assert len(HAIR_STYLES) >= 8


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="animation must be"):
        render(people(2), frames({}))
    with pytest.raises(ValueError, match="window must be"):
        render(people(1), frames({}), torch.zeros(2, 3))
