"""A tiny run of every training stage, its resume, and what the stages are made of."""

import csv

import numpy as np
import pytest
import torch

from llia_core.__main__ import main
from llia_core.model.load import load_model
from llia_core.training import clips as clips_module
from llia_core.training.audio_encoder import SpeechPool, augment, cut
from llia_core.training.clips import Clip, ClipFolder, vary
from llia_core.training.synth.articulation import ARTICULATION, Phoneme, articulation_track
from llia_core.training.synth.speech import speak
from llia_core.video import VideoWriter


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages at 1/700 of the recipe: a few steps each, on a few clips."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", "all", "--runs", str(folder), "--scale", "0.0015"]) == 0
    return folder


def test_every_stage_leaves_weights_and_metrics(runs):
    for stage in ("audio", "vae", "video", "consistency", "rollout"):
        rows = list(csv.DictReader((runs / stage / "metrics.csv").open()))
        assert rows, stage
        for row in rows:
            assert all(np.isfinite(float(value)) for name, value in row.items() if name.startswith(("psnr", "latent")))
    assert list((runs / "video").glob("sheet_*.png"))


def test_the_result_exports_to_a_checkpoint_that_animates(runs, tmp_path, capsys):
    path = tmp_path / "tiny.safetensors"
    assert main(["convert", "--runs", str(runs), "-o", str(path)]) == 0
    assert "rollout" in capsys.readouterr().out
    assert load_model(path).config.name == "llia-tiny"


def test_a_stage_resumes_where_it_stopped(runs, capsys):
    before = torch.load(runs / "video" / "state.pt", weights_only=True)["step"]
    assert main(["train", "video", "--runs", str(runs), "--scale", "0.0025"]) == 0
    after = torch.load(runs / "video" / "state.pt", weights_only=True)["step"]
    assert after > before
    steps = [int(row["step"]) for row in csv.DictReader((runs / "video" / "metrics.csv").open())]
    assert steps == sorted(steps) and steps[-1] == after


def test_real_videos_are_cut_with_the_same_interface(runs, tmp_path):
    from llia_core.media import read_image
    from llia_core.model.load import BUNDLED
    from llia_core.training.video_folder import cut_clips

    image = read_image(BUNDLED.parent / "demo_portrait.png")
    frame = ((torch.nn.functional.avg_pool2d(image, 2) + 1) * 127.5).to(torch.uint8).permute(1, 2, 0)
    (tmp_path / "videos" / "a").mkdir(parents=True)
    with VideoWriter(tmp_path / "videos" / "a" / "x.mp4", 256, 256, 16_000) as writer:
        writer.write(frame[None].expand(20, -1, -1, -1))
        writer.write_audio(0.05 * torch.randn(1, 20 * 640))
    assert cut_clips(tmp_path / "videos", tmp_path / "clips") == 2
    folder = ClipFolder(tmp_path / "clips")
    folder.refresh()
    real = next(folder.batches(2, 0))
    rendered = ClipFolder(runs / "clips")
    rendered.refresh()
    made = next(rendered.batches(2, 0))
    assert [getattr(real, f).shape[1:] for f in Clip.__dataclass_fields__] == [
        getattr(made, f).shape[1:] for f in Clip.__dataclass_fields__
    ]
    assert real.articulation.isnan().all() and not made.articulation.isnan().any()
    with pytest.raises(FileNotFoundError, match="holds no video"):
        cut_clips(tmp_path / "clips", tmp_path / "none")


def test_variation_changes_pictures_alike_and_keeps_the_sound(runs):
    folder = ClipFolder(runs / "clips")
    folder.refresh()
    clip = next(folder.batches(4, 0))
    clip.frames[:, 0] = clip.reference
    varied = vary(clip, torch.Generator().manual_seed(1))
    assert torch.allclose(varied.frames[:, 0], varied.reference)
    assert varied.frames.min() >= -1 and varied.frames.max() <= 1
    assert not torch.allclose(varied.reference, clip.reference.float() / 127.5 - 1, atol=0.05)
    assert varied.samples is clip.samples


def test_closures_are_shut_and_vowels_open():
    track = articulation_track([Phoneme("aa", 0.0, 0.4), Phoneme("m", 0.4, 0.5), Phoneme("aa", 0.5, 0.9)], 23)
    jaw, press = track[:, ARTICULATION.index("jaw")], track[:, ARTICULATION.index("press")]
    assert press[10:12].max() > 0.95 and press[:6].max() < 0.2 and press[17:].max() < 0.2
    assert jaw[4] > 0.6


def test_synthetic_speech_has_sound_where_its_phonemes_are():
    utterance = speak("Papa may go home now.")
    assert len(utterance.articulation) == int(len(utterance.samples) / 640 + 0.5)
    assert {"m", "aa", "ow"} & {p.viseme for p in utterance.phonemes}
    loud = [p for p in utterance.phonemes if p.viseme == "aa"][0]
    a, b = int(loud.start_s * 16_000), int(loud.stop_s * 16_000)
    assert np.abs(utterance.samples[a:b]).mean() > np.abs(utterance.samples).mean()


def test_windows_reach_over_the_ends_in_silence():
    pool = SpeechPool(2, 0)
    utterance = pool.utterances[0]
    samples, track = cut(utterance, -5, 10)
    assert np.all(samples[: 5 * 640] == 0) and np.array_equal(track[5:], utterance.articulation[:5])
    noisy = augment(torch.from_numpy(np.stack([samples, samples])), torch.Generator().manual_seed(0))
    assert noisy.shape == (2, 6400) and torch.isfinite(noisy).all() and not torch.equal(noisy[0], noisy[1])


def test_an_empty_clip_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="train clips"):
        clips_module.ClipFolder(tmp_path).refresh()
    assert main(["convert", "--runs", str(tmp_path), "-o", str(tmp_path / "x")]) == 1
