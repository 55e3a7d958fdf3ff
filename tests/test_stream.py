"""The recipe of a stream: same frames as the session that hears the sound itself, read twice, sound joined exactly."""

from dataclasses import replace

import pytest
import torch

from llia_core.audio import SAMPLE_RATE, frame_count, to_mono_16k
from llia_core.demo import RECORDINGS, read_recording
from llia_core.media import read_image
from llia_core.model.load import BUNDLED, load_model
from llia_core.portrait import prepare_portrait
from llia_core.session import Session
from llia_core.states import IDLE, LISTENING, SPEAKING
from llia_core.stream import Stream, encode_speech, label_states
from llia_core.strip import WIDTH, draw_states
from llia_core.timeline import parse_timeline

SIZE = 96


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def portrait():
    return prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), SIZE)


@pytest.fixture(scope="module")
def sound():
    """1.61 s at 16 kHz: 40.25 frames, 40 in all."""
    waveform, rate = read_recording("greeting")
    return waveform[:, : int(1.61 * rate)], rate


@pytest.fixture(scope="module")
def stream(model, portrait, sound):
    speech = encode_speech(model, *sound)
    return Stream(model, portrait, speech, label_states(speech.samples), steps=1)


def test_frames_equal_the_sessions(stream, sound):
    """Encoded and labelled before or heard on the way: the same frames, but for rounding.

    The encoder's batches have other sizes, so its features differ in the last bits of a float.
    """
    session = Session(stream.model, stream.portrait, steps=1)
    heard = torch.cat([session.push(to_mono_16k(*sound)), session.finish()])
    made = torch.cat([chunk.frames for chunk in stream.chunks()])
    assert len(made) == stream.frames == 40
    apart = (made.int() - heard.int()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-4
    assert (made[0].int() - made[20].int()).abs().max() > 20  # it moves


def test_reading_twice_gives_the_same_and_interleaved_too(stream):
    once = torch.cat([chunk.frames for chunk in stream.chunks()])
    a, b = stream.chunks(), stream.chunks()
    pairs = list(zip(a, b, strict=True))
    assert torch.equal(torch.cat([x.frames for x, _ in pairs]), once)
    assert torch.equal(torch.cat([y.frames for _, y in pairs]), once)


def test_nothing_is_encoded_when_it_is_read(stream, monkeypatch):
    def encode(*_, **__):
        raise AssertionError("the speech encoder ran")

    monkeypatch.setattr(stream.model.speech, "forward", encode)
    assert sum(len(chunk.frames) for chunk in stream.chunks()) == stream.frames


def test_chunks_tell_their_place_labels_and_length(stream):
    chunks = list(stream.chunks())
    assert [chunk.start for chunk in chunks] == [
        0,
        *torch.tensor([len(c.frames) for c in chunks]).cumsum(0)[:-1].tolist(),
    ]
    assert [label for chunk in chunks for label in chunk.labels] == list(stream.states.labels)
    assert len(chunks[0].frames) == 2 and max(len(c.frames) for c in chunks) <= 16
    assert chunks[0].frames.shape[1:] == (stream.size, stream.size, 3) and chunks[0].frames.dtype == torch.uint8


@pytest.mark.parametrize(
    "rate, samples, channels", [(16000, 25760, 1), (44100, 70001, 2), (22050, 35500, 1), (8000, 400, 2)]
)
def test_sound_joins_to_the_original(model, portrait, rate, samples, channels):
    waveform = torch.rand(channels, samples) * 0.1
    speech = encode_speech(model, waveform, rate)
    stream = Stream(model, portrait, speech, label_states(speech.samples), steps=1)
    chunks = list(stream.chunks())
    joined = torch.cat([chunk.sound for chunk in chunks], dim=1)
    assert stream.channels == channels and stream.sample_rate == rate
    assert torch.equal(joined[:, :samples], waveform)
    assert joined[:, samples:].abs().sum() == 0
    assert joined.shape[1] >= (2 * stream.frames * rate + 25) // 50  # sound for every frame
    starts = torch.tensor([0] + [chunk.sound.shape[1] for chunk in chunks]).cumsum(0).tolist()
    assert starts[:-1] == [int(chunk.start * rate / 25 + 0.5) for chunk in chunks]


def test_many_channels_become_one(model):
    waveform = torch.rand(6, 8000)
    speech = encode_speech(model, waveform, 16000)
    assert torch.allclose(speech.waveform, waveform.mean(0, keepdim=True))


def test_stop_ends_within_a_chunk(stream):
    made, stopped = [], []
    for chunk in stream.chunks(lambda: bool(stopped)):
        made.append(chunk)
        if len(made) == 3:
            stopped.append(True)
    assert len(made) == 3 < stream.frames


def test_without_carrying_every_chunk_begins_anew(stream):
    """Chunk sizes change nothing when the state is carried, and something when it is not."""

    def frames(**settings):
        return torch.cat([chunk.frames for chunk in replace(stream, **settings).chunks()]).int()

    sizes = {"first": 1, "largest": 1}
    assert (frames(**sizes) - frames()).abs().max() <= 1
    assert (frames(**sizes, carry=False) - frames(carry=False)).abs().max() > 2
    assert not torch.equal(frames(seed=1), frames())


def test_encoding_reports_and_can_be_stopped(model, sound):
    seen = []
    encode_speech(model, *sound, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 40

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_speech(model, *sound, on_progress=stop)


def test_states_are_heard_and_told():
    avatar = to_mono_16k(*read_recording("conversation: avatar"))
    visitor = to_mono_16k(*read_recording("conversation: visitor"))
    heard = label_states(avatar, visitor)
    assert set(heard.labels) == {IDLE, LISTENING, SPEAKING} and len(heard.labels) == frame_count(len(avatar))
    told = label_states(avatar, visitor, parse_timeline("0-2 speaking; 5- idle"))
    assert set(told.labels[:50]) == {SPEAKING} and set(told.labels[125:]) == {IDLE}
    assert told.labels[50:125] == heard.labels[50:125]
    assert len(label_states(avatar, visitor[:SAMPLE_RATE]).labels) == len(heard.labels)  # a shorter one is padded


def test_the_other_person_is_heard_if_wanted(stream):
    other = 0.05 * torch.sin(2 * torch.pi * 300 * torch.arange(48000) / 48000)[None].expand(2, -1)  # 1 of 1.6 s
    both = replace(stream, states=replace(stream.states, heard=(other, 48000)))
    alone = torch.cat([chunk.sound for chunk in stream.chunks()], dim=1)
    mixed = torch.cat([chunk.sound for chunk in both.chunks()], dim=1)
    assert mixed.shape == alone.shape
    added, rate = (mixed - alone)[0], stream.sample_rate
    expected = 0.05 * torch.sin(2 * torch.pi * 300 * torch.arange(rate) / rate)
    assert (added[200 : rate - 200] - expected[200:-200]).abs().max() < 2e-3
    assert added[rate + 200 :].abs().max() < 1e-6


def test_parts_that_do_not_fit_are_refused(stream, model, portrait):
    short = label_states(torch.zeros(SAMPLE_RATE))
    with pytest.raises(ValueError, match="25 frames, but the speech has 40"):
        replace(stream, states=short)
    with pytest.raises(ValueError, match="raise the largest"):
        replace(stream, first=8, largest=4)
    with pytest.raises(ValueError, match="longer recording"):
        encode_speech(model, torch.zeros(1, 300), 16000)


def test_recordings():
    for name in RECORDINGS:
        waveform, rate = read_recording(name)
        assert waveform.shape[0] == 1 and 5 < waveform.shape[1] / rate < 40 and 0.1 < waveform.abs().max() <= 1
    assert read_recording("conversation: avatar")[0].shape == read_recording("conversation: visitor")[0].shape
    with pytest.raises(ValueError, match="greeting"):
        read_recording("aria")


def test_the_strip_shows_states_and_voices():
    labels = [IDLE] * 25 + [SPEAKING] * 50 + [LISTENING] * 25
    one = draw_states(labels, torch.rand(4 * SAMPLE_RATE))
    two = draw_states(labels, torch.rand(4 * SAMPLE_RATE), torch.rand(SAMPLE_RATE))
    assert one.shape[1:] == (WIDTH, 3) and two.shape[0] > one.shape[0]
    band = one[68 + 4]
    assert len({tuple(pixel.tolist()) for pixel in band[12:-12]}) >= 3
    assert len({tuple(band[x].tolist()) for x in (100, 500, 900)}) == 3
    assert draw_states([IDLE], torch.zeros(640)).shape[1] == WIDTH


def test_more_steps_than_the_weights_take_are_refused(stream):
    with pytest.raises(ValueError, match="9 steps asked for, but llia-tiny makes 1 to 8"):
        replace(stream, steps=9)
