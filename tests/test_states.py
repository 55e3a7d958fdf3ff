import json

import numpy as np
import pytest
import torch

from llia_core.audio import frame_count
from llia_core.states import IDLE, LISTENING, LOOKAHEAD, NONE, SPEAKING, StateLabeller, label_audio
from llia_core.timeline import Timeline, TimelineError, parse_timeline

RATE = 16_000


def noise(seconds, level=0.1, seed=0):
    return level * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def hum(seconds, hz=120.0, level=0.2):
    time = torch.arange(int(seconds * RATE)) / RATE
    return level * sum(torch.sin(2 * torch.pi * hz * k * time) / k for k in range(1, 6))


def voice(seconds, level=0.2, seed=0):
    """Syllables of 4 a second: gliding pitch with harmonics, loudness that rises and falls, a little hiss."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 130 + 25 * np.sin(2 * np.pi * 0.7 * time + random.uniform(0, 6)) + 10 * np.sin(2 * np.pi * 3.1 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 16))
    loud = np.sin(np.pi * 4 * time) ** 2 * (0.6 + 0.4 * np.sin(2 * np.pi * 0.9 * time))
    return torch.from_numpy(level * loud * tone).float() + noise(seconds, 0.0005, seed)


def share(labels, label, start=0.0, stop=None):
    part = labels[int(start * 25) : None if stop is None else int(stop * 25)]
    return sum(entry == label for entry in part) / len(part)


def test_speech_between_silences():
    labels = label_audio(torch.cat([noise(1, 0.0005), voice(3), noise(2, 0.0005)]))
    assert len(labels) == 150
    assert share(labels, IDLE, 0, 0.9) == 1
    assert share(labels, SPEAKING, 1.2, 3.9) == 1
    assert share(labels, IDLE, 4.6) == 1  # a hold of a third of a second, then rest
    first = labels.index(SPEAKING)
    assert 23 <= first <= 29  # entered fast


def test_speech_from_the_first_sample():
    assert share(label_audio(voice(2)), SPEAKING, 0.2) == 1


@pytest.mark.parametrize("level", [1.0, 0.05])
def test_level_does_not_matter(level):
    assert share(label_audio(level * torch.cat([voice(3), noise(2, 0.0005)])), SPEAKING, 0.2, 3) == 1


def test_short_pauses_stay_speaking_and_long_ones_do_not():
    pause, rest = noise(0.25, 0.0005), noise(1.5, 0.0005)
    labels = label_audio(torch.cat([voice(2), pause, voice(2), rest, voice(2)]))
    assert share(labels, SPEAKING, 0.3, 4.2) == 1
    assert share(labels, IDLE, 4.8, 5.6) == 1
    assert share(labels, SPEAKING, 6.1, 7.6) == 1


@pytest.mark.parametrize("level", [0.3, 0.03, 0.001])
@pytest.mark.parametrize("kind", ["silence", "white", "brown", "hum50", "hum60", "hum120", "hum220", "hum and hiss"])
def test_what_is_not_speech(kind, level):
    sounds = {
        "silence": torch.zeros(10 * RATE),
        "white": noise(10, level),
        "brown": torch.nn.functional.avg_pool1d(noise(10.1, level)[None], 200, 1)[0][: 10 * RATE] * 10,
        "hum and hiss": hum(10, 60, level) + noise(10, level / 3),
    }
    sound = sounds[kind] if kind in sounds else hum(10, float(kind[3:]), level)
    assert set(label_audio(sound)) == {IDLE}


@pytest.mark.parametrize("start", [noise, hum])
def test_a_fan_or_a_transformer_switched_on(start):
    assert set(label_audio(torch.cat([noise(3, 0.0005), start(5)]))) == {IDLE}


def test_speech_over_noise():
    labels = label_audio(torch.cat([noise(2, 0.01), voice(3) + noise(3, 0.01), noise(2, 0.01, 1)]))
    assert share(labels, IDLE, 0, 1.9) == 1 and share(labels, IDLE, 5.6) == 1
    assert share(labels, SPEAKING, 2.3, 4.9) > 0.95


def two_tracks():
    quiet = noise(12, 0.0003, 5)
    own, other = quiet.clone(), quiet.flip(0).clone()
    other[1 * RATE : 4 * RATE] += voice(3, seed=1)
    own[5 * RATE : 8 * RATE] += voice(3, seed=2)
    return own[: 12 * RATE - 100], other[: 12 * RATE - 100]  # not a whole number of frames


def test_listening_while_the_other_speaks():
    labels = label_audio(*two_tracks())
    assert share(labels, IDLE, 0, 0.9) == 1
    assert share(labels, LISTENING, 1.3, 4.9) == 1  # kept for a second after the other's last word
    assert share(labels, SPEAKING, 5.3, 7.9) == 1
    assert share(labels, IDLE, 8.6) == 1


@pytest.mark.parametrize("frames", [1, 3, 7, 0.3, 400])
def test_labels_do_not_depend_on_how_the_sound_is_pushed(frames):
    own, other = two_tracks()
    labeller, labels, step = StateLabeller(), [], int(frames * 640)
    for start in range(0, own.shape[0], step):
        labels += labeller.push(own[start : start + step], other[start : start + step])
        arrived = min(start + step, own.shape[0]) // 640
        assert len(labels) == max(0, arrived - LOOKAHEAD)
    labels += labeller.finish()
    assert labels == label_audio(own, other)
    assert len(labels) == frame_count(own.shape[0]) == 300


def test_sound_beyond_the_lookahead_changes_nothing():
    sound, cut = torch.cat([voice(2), noise(1, 0.0005), voice(1)]), 45 * 640
    changed = sound.clone()
    changed[cut:] = noise(4, 0.5)[: sound.shape[0] - cut]
    before, after = label_audio(sound), label_audio(changed)
    assert before[: 45 - LOOKAHEAD] == after[: 45 - LOOKAHEAD]
    assert before != after


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (160, 0), (319, 0), (320, 1), (640, 1), (960, 2), (5000, 8)])
def test_short_sounds(samples, frames):
    assert len(label_audio(voice(1)[:samples])) == frames


def test_state_is_saved_and_restored():
    own, other = two_tracks()
    first, second = StateLabeller(), StateLabeller()
    first.push(own[:60_000], other[:60_000])
    saved = first.state_dict()
    rest = first.push(own[60_000:], other[60_000:]) + first.finish()
    second.load_state_dict(saved)
    assert second.push(own[60_000:], other[60_000:]) + second.finish() == rest


def test_tracks_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(99,\).*\(100,\)"):
        StateLabeller().push(torch.zeros(100), torch.zeros(99))


# Timelines

SAME = (
    "0-1.5 listening; 1.5-6 speaking; 6- idle",
    "0 \u2013 1.5s: LISTENING\n1.5s to 6 sec -> talking  # the answer\n6+ rest\n",
    "start..1500ms hear, speaking from 1.5 until 6, 0:06 => end: silent",
    "listening 00:00-00:01.5 // first\n\nspeaking 00:01.5-0:06; [0:06-end] = Idle;",
    "0 listen; 1.5 speak; 6 idle",
    "6- idle; 1.5-6 speaking; 0-1.5 listening",
    "0-1.5 listening; 1.5-6 speaking; 6-6.01 talking; 6.01- idle",
)


@pytest.mark.parametrize("text", SAME)
def test_timelines_as_people_write_them(text):
    timeline = parse_timeline(text)
    labels = [timeline.label(frame) for frame in (0, 37, 38, 149, 150, 180_000)]
    assert labels == [LISTENING, LISTENING, SPEAKING, SPEAKING, IDLE, IDLE]


def test_gaps_are_decided_by_the_sound():
    timeline = parse_timeline("1-2 speaking; 3-4 auto; 5-6 idle")
    assert [timeline.label(frame) for frame in (0, 24, 25, 49, 50, 80, 125, 150)] == [3, 3, 2, 2, 3, 3, 0, 3]
    assert timeline.label(10) == NONE
    assert timeline.apply(23, [IDLE, LISTENING, LISTENING, LISTENING]) == [IDLE, LISTENING, SPEAKING, SPEAKING]
    assert parse_timeline("  # nothing\n") == Timeline()


@pytest.mark.parametrize(
    ("text", "marked", "words"),
    [
        ("0-1 dancing", "dancing", "expected idle, listening, speaking or auto"),
        ("0-1 idle\n5-2 idle", "5-2", "line 2: expected an end after the start 5 s"),
        ("1-1 idle", "1-1", "after the start"),
        ("0-3 idle; 2-4 speaking", "2-4", "overlap"),
        ("2-4 speaking; 0-3 idle", "0-3", "overlap"),
        ("-1 idle", "-1", "times begin at 0"),
        ("0-1", "", "expected a state after the time"),
        ("0 1 idle", "1 idle", "expected a dash"),
        ("0-1 idle speaking", "speaking", "add a ';'"),
        ("idle", "idle", "expected a start time"),
        ("0:75-2:00 idle", "0:75", "less than 60"),
        ("0-1 @ idle", "@", "got '@'"),
        ("0-1-2 idle", "2 idle", "expected a state"),
    ],
)
def test_errors_point_at_the_place(text, marked, words):
    with pytest.raises(TimelineError, match=words) as caught:
        parse_timeline(text)
    line, caret = str(caught.value).splitlines()[1:]
    assert line[caret.index("^") :].startswith(marked)
    assert line.strip() in text


def test_labels_are_plain_numbers():
    assert json.dumps(label_audio(voice(1))).startswith("[")
