import math
import sys

import pytest
import torch

from llia_core.audio import (
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    SampleRing,
    frame_count,
    frame_energy,
    frame_levels_db,
    resampled_length,
    to_mono_16k,
)


def tone(sample_rate, seconds=1.0, hz=440.0):
    return torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * sample_rate)).double() / sample_rate).float()


def test_frame_count_is_exact_from_a_hundredth_of_a_second_to_two_hours():
    assert SAMPLES_PER_FRAME == 640
    assert [frame_count(samples) for samples in (0, 160, 319, 320, 639, 640, 959, 960)] == [0, 0, 0, 1, 1, 1, 1, 2]
    for samples in [1, 16_000, 123_457, 57_600_319, 57_600_320, 2 * 3600 * SAMPLE_RATE]:
        assert frame_count(samples) == math.floor(samples / SAMPLE_RATE * 25 + 0.5)
    assert frame_count(2 * 3600 * SAMPLE_RATE) == 180_000
    with pytest.raises(ValueError, match="-1"):
        frame_count(-1)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 22255, 44100, 44101, 48000, 96000, 192000])
def test_resampling_keeps_length_pitch_and_level(sample_rate):
    samples = tone(sample_rate, 0.7)
    mono = to_mono_16k(samples.repeat(6, 1), sample_rate)
    assert mono.shape == (resampled_length(samples.shape[0], sample_rate),)
    assert mono.shape[0] == math.floor(samples.shape[0] * SAMPLE_RATE / sample_rate + 0.5)
    assert (mono - tone(SAMPLE_RATE, 1.0)[: mono.shape[0]])[50:-50].abs().max() < 0.05


def test_resampling_in_blocks_has_no_seams():
    from torchaudio.functional import resample

    samples = torch.randn(44_100 * 60, generator=torch.Generator().manual_seed(0))  # more than two blocks
    whole = resample(samples, 44_100, SAMPLE_RATE)
    torch.testing.assert_close(to_mono_16k(samples, 44_100), whole[: 60 * SAMPLE_RATE], atol=1e-5, rtol=0)


def test_downmix_is_the_mean():
    samples = torch.randn(2, 1000)
    torch.testing.assert_close(to_mono_16k(samples, SAMPLE_RATE), samples.mean(dim=0))
    assert to_mono_16k(samples.double(), SAMPLE_RATE).dtype == torch.float32


@pytest.mark.parametrize(
    ("waveform", "rate", "error", "words"),
    [
        (torch.zeros(1, 10, dtype=torch.int16), 16000, TypeError, "int16"),
        ([0.0, 1.0], 16000, TypeError, "list"),
        (torch.zeros(2, 0), 16000, ValueError, "empty"),
        (torch.tensor([[0.0, math.nan, math.inf]]), 16000, ValueError, "2 samples"),
        (torch.zeros(1, 1, 10), 16000, ValueError, r"\(1, 1, 10\)"),
        (torch.zeros(1000, 2), 16000, ValueError, "transposed"),
        (torch.zeros(1, 10), 0, ValueError, "sample rate is 0"),
        (torch.zeros(1, 10), 44100.5, ValueError, "44100.5"),
    ],
)
def test_bad_audio_is_named(waveform, rate, error, words):
    with pytest.raises(error, match=words):
        to_mono_16k(waveform, rate)


def test_levels_and_energy():
    samples = torch.cat([torch.zeros(640), tone(SAMPLE_RATE, 0.04, 400), tone(SAMPLE_RATE, 0.04, 400) / 100])
    levels = frame_levels_db(torch.cat([samples, torch.zeros(100)]))  # a part of a frame is left out
    torch.testing.assert_close(levels, torch.tensor([-100.0, -3.01, -43.01]), atol=0.01, rtol=0)
    assert frame_energy(samples)[0] == 0 and frame_energy(samples)[1] == 1
    assert frame_energy(samples)[2] == pytest.approx(7 / 40, abs=1e-3)


def test_ring_gives_what_was_pushed_and_silence_around_it():
    ring, samples = SampleRing(), torch.arange(1.0, 101.0)
    for start in range(0, 100, 7):
        ring.push(samples[start : start + 7])
    assert ring.total == 100
    assert ring.window(-3, 2).tolist() == [0, 0, 0, 1, 2]
    with pytest.raises(IndexError, match="101"):
        ring.window(90, 101)
    ring.discard_before(40)
    ring.discard_before(20)  # earlier than what is kept: nothing to do
    assert ring.window(40, 43).tolist() == [41, 42, 43]
    with pytest.raises(IndexError, match="discarded"):
        ring.window(39, 43)
    with pytest.raises(IndexError, match="discarded"):
        ring.window(-5, 2)
    assert ring.window(-5, 0).tolist() == [0] * 5
    with pytest.raises(ValueError, match="backwards"):
        ring.window(50, 49)
    with pytest.raises(IndexError, match="only 100"):
        ring.discard_before(101)
    ring.end()
    assert ring.window(99, 103).tolist() == [100, 0, 0, 0]
    assert ring.window(200, 202).tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="ended"):
        ring.push(torch.zeros(1))


def test_ring_refuses_other_shapes():
    for wrong in (torch.zeros(1, 10), torch.zeros(10, dtype=torch.int16)):
        with pytest.raises(ValueError, match="expected floating-point"):
            SampleRing().push(wrong)


def test_ring_forgets_memory_and_restores():
    ring = SampleRing()
    ring.push(torch.randn(100_000))
    ring.discard_before(99_000)
    assert ring.samples.untyped_storage().nbytes() == 1000 * 4
    restored = SampleRing()
    restored.load_state_dict(ring.state_dict())
    ring.push(torch.ones(5))
    restored.push(torch.ones(5))
    torch.testing.assert_close(restored.window(99_000, 100_005), ring.window(99_000, 100_005))


def test_a_torchaudio_that_does_not_load_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)  # import then raises ImportError
    with pytest.raises(RuntimeError, match=r"torchaudio does not load beside torch .*pip install"):
        to_mono_16k(torch.zeros(1, 100), 44_100)
