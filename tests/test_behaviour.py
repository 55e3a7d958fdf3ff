import json

import numpy as np
import pytest
import torch

from llia_core.behaviour import CONTROLS, HEAD_LIMITS, Behaviour
from llia_core.states import IDLE, LISTENING, NONE, SPEAKING

COLUMN = {name: index for index, name in enumerate(CONTROLS)}


def syllables(frames, seed=0):
    random = np.random.default_rng(seed)
    return np.clip(0.5 + 0.5 * np.sin(np.arange(frames) * 2 * np.pi / 7), 0, 1) * random.uniform(0.3, 1, frames)


def minutes(label, count=5, seed=0):
    frames = count * 1500
    return Behaviour(seed).step([label] * frames, syllables(frames) if label == SPEAKING else [0.0] * frames)


def mixed(frames=600):
    labels = [(IDLE, LISTENING, SPEAKING, NONE)[index // 60 % 4] for index in range(frames)]
    return labels, syllables(frames)


def blink_starts(rows):
    shut = rows[:, COLUMN["blink_left"]] > 0.3
    return (shut[1:] & ~shut[:-1]).nonzero()[:, 0]


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_cuts_do_not_change_the_motion(frames):
    labels, energy = mixed()
    whole = Behaviour(4).step(labels, energy)
    behaviour = Behaviour(4)
    steps = range(0, 600, frames)
    parts = [behaviour.step(labels[i : i + frames], energy[i : i + frames]) for i in steps]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (600, len(CONTROLS)) and whole.dtype == torch.float32


def test_seeds_differ_and_repeat():
    labels, energy = mixed()
    assert torch.equal(Behaviour(1).step(labels, energy), Behaviour(1).step(labels, energy))
    assert not torch.equal(Behaviour(1).step(labels, energy), Behaviour(2).step(labels, energy))


def test_state_survives_json():
    labels, energy = mixed()
    first, second = Behaviour(5, 0.8), Behaviour()
    first.step(labels[:200], energy[:200])
    saved = json.loads(json.dumps(first.state_dict()))
    second.load_state_dict(saved)
    assert torch.equal(second.step(labels[200:], energy[200:]), first.step(labels[200:], energy[200:]))


@pytest.mark.parametrize("label", [IDLE, LISTENING, SPEAKING])
def test_blinks_are_natural_and_not_periodic(label):
    starts = blink_starts(minutes(label))
    seconds = starts.float().diff() / 25
    assert 2 < seconds.mean() < 6
    assert seconds.std() > 0.25 * seconds.mean()
    assert 0.01 < (seconds < 0.6).float().mean() < 0.3  # now and then a double one
    rows = minutes(label)[:, COLUMN["blink_left"]]
    assert rows.max() == 1 and (rows == 0).float().mean() > 0.8
    assert rows[:-1][rows.diff() > 0].shape[0] < (rows.diff() < 0).sum()  # closes faster than it opens


@pytest.mark.parametrize("label", [IDLE, LISTENING, SPEAKING])
def test_head_stays_small_and_smooth(label):
    head = minutes(label)[:, COLUMN["yaw"] :].double()
    assert (head.abs() <= torch.from_numpy(HEAD_LIMITS)).all()
    assert (head.std(dim=0) > 0.2).all()
    assert head.mean(dim=0).abs().max() < 0.8
    assert head.diff(dim=0).abs().max() < 0.9  # degrees a frame


def test_first_frame_is_the_portrait():
    row = Behaviour().step([IDLE], [0.0])[0]
    assert row.abs().max() < 0.1


def test_states_have_manners():
    idle, listening, speaking = minutes(IDLE), minutes(LISTENING), minutes(SPEAKING)
    away = [float((rows[:, 2:4].norm(dim=1) > 0.12).float().mean()) for rows in (idle, listening, speaking)]
    assert away[0] > away[2] > 0 and away[0] > 2 * away[1]
    assert max(away) < 0.5  # mostly to the viewer
    smile = [float(rows[:, COLUMN["smile"]].mean()) for rows in (idle, listening, speaking)]
    assert smile[1] > 0.15 > max(smile[0], smile[2])
    assert idle[:, COLUMN["brow_raise"]].max() == 0 < listening[:, COLUMN["brow_raise"]].max()
    activity = [float(rows[:, COLUMN["pitch"]].diff().std()) for rows in (idle, listening, speaking)]
    assert activity[1] > 1.5 * activity[0] and activity[2] > 1.5 * activity[0]


def test_beats_follow_the_loudness():
    flat, lively = Behaviour(3), Behaviour(3)
    energy = np.zeros(200)
    energy[100:104] = 0.9
    calm, beaten = flat.step([SPEAKING] * 200, np.zeros(200)), lively.step([SPEAKING] * 200, energy)
    assert torch.equal(calm[:100], beaten[:100])
    knock = (beaten - calm)[100:115, COLUMN["pitch"]]
    assert knock.max() > 0.2
    assert (beaten - calm)[190:, COLUMN["pitch"]].abs().max() < 0.02  # and back


def test_no_jump_when_the_state_changes():
    head, smile = slice(COLUMN["yaw"], None), COLUMN["smile"]
    for seed in range(20):
        rows = Behaviour(seed).step([IDLE] * 50 + [LISTENING] * 50 + [SPEAKING] * 50 + [IDLE] * 50, [0.0] * 200)
        steps = rows.diff(dim=0).abs()
        for change in (49, 99, 149):
            assert steps[change, head].max() < 0.6
            assert steps[change, smile] < 0.03


def test_amount_scales_to_stillness():
    labels, energy = mixed()
    full, half, none = (Behaviour(1, amount).step(labels, energy) for amount in (1.0, 0.5, 0.0))
    assert none.abs().max() == 0
    torch.testing.assert_close(half[:, 2:], full[:, 2:] / 2)
    assert half[:, 0].max() == 1
    with pytest.raises(ValueError, match="-1"):
        Behaviour(1, -1)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="2 labels and 1 energies"):
        Behaviour().step([0, 1], [0.0])
    with pytest.raises(ValueError, match="7"):
        Behaviour().step([7], [0.0])
    assert Behaviour().step([], []).shape == (0, len(CONTROLS))
