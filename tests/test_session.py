"""The stream: streamed == offline, causality, exact length, flat memory, save and restore, stop."""

from dataclasses import replace

import pytest
import torch

from llia_core.audio import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from llia_core.face import landmarks_from_box, mouth_region, sample_region
from llia_core.lips import lips_of
from llia_core.masks import region_masks
from llia_core.model.avatar import Avatar
from llia_core.model.config import NAMED
from llia_core.portrait import Portrait
from llia_core.session import FUTURE, PAST, Session
from llia_core.speech import tiny_speech_config
from llia_core.states import IDLE, SPEAKING, label_audio
from llia_core.timeline import parse_timeline

SIZE, REGION = 64, 64  # pixels of the frames and of the mouth region: half of llia-tiny's, for speed


@pytest.fixture(scope="module")
def model() -> Avatar:
    """Random weights: what a stream may not change does not depend on training."""
    torch.manual_seed(0)
    model = Avatar(replace(NAMED["llia-tiny"], resolution=REGION), tiny_speech_config()).eval()
    for parameter in model.denoising_unet.parameters():  # wake the zero-initialised layers
        if float(parameter.detach().abs().max()) == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    torch.manual_seed(1)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8) * 2 - 1, size=SIZE, mode="bicubic")[0].clamp(-1, 1)
    landmarks = landmarks_from_box((14, 8, 50, 58))
    transform = mouth_region(landmarks)
    region = sample_region(image, transform, REGION)
    masks, lips = region_masks(landmarks, transform, REGION), lips_of(landmarks, transform)
    return Portrait(image, landmarks, transform, region, masks, lips, (0, 0, SIZE))


def speech(seconds: float, seed: int = 0) -> torch.Tensor:
    """Bursts of a voiced sound after 0.1 s of silence, with a pause from 0.45 to 0.9 s: both states, and turns."""
    torch.manual_seed(seed)
    t = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(torch.sin(2 * torch.pi * 140 * k * t + k) / k for k in range(1, 20))
    syllables = (torch.sin(2 * torch.pi * 2.3 * t) > -0.3).float() * (0.5 + 0.5 * torch.sin(2 * torch.pi * 5.1 * t))
    silent = (t < 0.1) | ((t > 0.45) & (t < 0.9))
    return 0.1 * buzz * syllables * ~silent + 1e-4 * torch.randn(len(t))


def run(session: Session, samples: torch.Tensor, block: int) -> torch.Tensor:
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    return torch.cat([torch.zeros(0, SIZE, SIZE, 3, dtype=torch.uint8), *session.chunks(blocks)])


@pytest.mark.parametrize("frames, steps, seconds", [(1, 1, 1.0), (7, 1, 2.2), (3, 3, 1.0)])
def test_streamed_equals_offline(model, portrait, frames, steps, seconds):
    samples = speech(seconds)
    labels = label_audio(samples)
    assert set(labels[15:]) == {IDLE, SPEAKING} and labels[0] == IDLE  # chunks are cut where the state turns
    whole = run(Session(model, portrait, steps), samples, len(samples))
    streamed = run(Session(model, portrait, steps), samples, frames * SAMPLES_PER_FRAME)
    assert streamed.shape == whole.shape
    assert (streamed.int() - whole.int()).abs().max() == 0
    assert whole.float().std(0).max() > 0.5  # something moves, or equality says nothing


def test_clip_lengths_do_not_change_the_frames(model, portrait):
    samples = speech(2.2)
    one = run(Session(model, portrait, first=2, largest=16), samples, len(samples))
    other = run(Session(model, portrait, first=5, largest=7), samples, len(samples))
    assert (one.int() - other.int()).abs().max() <= 1  # rounding of float sums to 8 bits


def test_sound_beyond_the_lookahead_changes_no_earlier_frame(model, portrait):
    samples = speech(1.0)
    session = Session(model, portrait)
    frame = 10
    changed = samples.clone()
    changed[(frame + 1 + session.lookahead) * SAMPLES_PER_FRAME :] = 0.3 * torch.randn(1)
    a = run(session, samples, len(samples))
    session.reset()
    b = run(session, changed, len(samples))
    assert (a[: frame + 1].int() - b[: frame + 1].int()).abs().max() <= 1
    assert not torch.equal(a[frame + 1 :], b[frame + 1 :])


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.019, 0.02, 0.05, 0.5, 0.634])
def test_length_is_exact(model, portrait, seconds):
    samples = speech(seconds)
    frames = run(Session(model, portrait), samples, 1000)
    assert len(frames) == frame_count(len(samples)) == int(len(samples) / SAMPLE_RATE * 25 + 0.5)


def test_frames_leave_before_the_end(model, portrait):
    session = Session(model, portrait, first=2)
    needed = (2 + session.lookahead) * SAMPLES_PER_FRAME
    assert len(session.push(speech(1.0)[: needed - SAMPLES_PER_FRAME])) == 0
    assert len(session.push(speech(1.0)[needed - SAMPLES_PER_FRAME : needed])) == 2


def test_memory_is_flat(model, portrait):
    session = Session(model, portrait)
    sizes = []
    for _ in range(4):
        session.push(speech(1.0))
        sizes.append(len(session.state.ring.samples))
    # What one frame hears, with its neighbours: the longest that must be kept.
    assert max(sizes) <= (PAST + model.speech.config.window + FUTURE) * SAMPLES_PER_FRAME
    assert len(session.state.labels) < 25
    assert all(len(t.shape) and t.shape[1] <= 4 for step in session.state.motion for t in step)


def test_a_saved_session_goes_on_where_it_was(model, portrait):
    samples = speech(0.9)
    half = 9_000
    session = Session(model, portrait, steps=2, seed=5)
    first = session.push(samples[:half])
    saved = session.state_dict()
    rest = torch.cat([session.push(samples[half:]), session.finish()])
    again = Session(model, portrait, steps=2, seed=5)
    again.load_state_dict(saved)
    assert torch.equal(torch.cat([again.push(samples[half:]), again.finish()]), rest)
    assert len(first) > 0 and len(first) + len(rest) == frame_count(len(samples))
    with pytest.raises(ValueError, match="seed"):
        Session(model, portrait, steps=2, seed=6).load_state_dict(saved)


def test_stop_restart_and_misuse(model, portrait):
    stopped = Session(model, portrait, should_stop=lambda: True)
    assert len(stopped.push(speech(1.0))) == 0
    session = Session(model, portrait)
    a = torch.cat([session.push(speech(0.4)), session.finish()])
    with pytest.raises(RuntimeError, match="ended"):
        session.push(speech(0.4))
    session.reset()
    assert torch.equal(torch.cat([session.push(speech(0.4)), session.finish()]), a)
    with pytest.raises(ValueError, match="steps"):
        Session(model, portrait, steps=0)


def test_the_timeline_overrules_what_is_heard(model, portrait):
    samples = speech(0.6)
    heard = run(Session(model, portrait, behaviour=0.0), samples, len(samples))
    told = run(Session(model, portrait, behaviour=0.0, timeline=parse_timeline("0- idle")), samples, len(samples))
    assert heard.shape == told.shape and not torch.equal(heard, told)
