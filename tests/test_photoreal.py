"""The session of llia-sd15 at small width: streaming, any length, states, continuity, guidance, the original's
quirks."""

import shutil
import wave
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llia_core.__main__ import main
from llia_core.audio import SAMPLE_RATE, frame_count
from llia_core.benchmark import demo_samples
from llia_core.importer import convert_hallo, find_sources
from llia_core.media import read_image
from llia_core.model.guidance import AS_SHIPPED
from llia_core.model.load import BUNDLED, load_model
from llia_core.photoreal import PARITY, Photoreal, PhotorealSession, Settings, load_photoreal
from llia_core.portrait import Portrait, prepare_portrait
from llia_core.quantization import integer_layers
from llia_core.stream import Stream, encode_speech, label_states
from llia_core.timeline import parse_timeline
from tests.open_weights import make_page, narrow_config

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photoreal")
    return convert_hallo(find_sources(make_page(root / "page")), root / "m", torch.float32, config=narrow_config())


@pytest.fixture(scope="module")
def model(folder: Path) -> Photoreal:
    return load_photoreal(folder)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), SIZE)


def session(model: Photoreal, portrait: Portrait, **changes: object) -> PhotorealSession:
    return PhotorealSession(model, portrait, **({"steps": 2, "first": 4, "largest": 4} | changes))


def whole(model: Photoreal, portrait: Portrait, samples: Tensor, **changes: object) -> Tensor:
    return torch.cat(list(session(model, portrait, **changes).chunks([samples])))


SPEECH = demo_samples(0.4)  # 10 frames: two clips of four and a cut one


def test_every_length_is_exact_and_the_last_clip_is_cut(model, portrait) -> None:
    whole_clips = whole(model, portrait, SPEECH)
    assert whole_clips.shape == (10, SIZE, SIZE, 3) and whole_clips.dtype == torch.uint8
    for samples in (320, 641, 1920):
        frames = whole(model, portrait, SPEECH[:samples])
        assert len(frames) == frame_count(samples)
    assert len({frame.numpy().tobytes() for frame in whole_clips}) == 10
    assert float(whole_clips.float().std()) > 5


def test_streamed_equals_offline(model, portrait) -> None:
    offline = whole(model, portrait, SPEECH)
    for step in (640, 3000):
        live = session(model, portrait)
        frames = [live.push(SPEECH[i : i + step]) for i in range(0, len(SPEECH), step)] + [live.finish()]
        assert torch.equal(torch.cat(frames), offline)
        live.reset()
        assert torch.equal(torch.cat(list(live.chunks([SPEECH]))), offline)


def test_stream_recipe_opens_a_photoreal_session(model, portrait) -> None:
    speech = encode_speech(model, SPEECH[None], SAMPLE_RATE)
    stream = Stream(model, portrait, speech, label_states(SPEECH), steps=2, first=4, largest=4)
    assert isinstance(stream.open(), PhotorealSession)
    assert torch.equal(torch.cat([chunk.frames for chunk in stream.chunks()]), whole(model, portrait, SPEECH))


def test_a_saved_session_goes_on(model, portrait) -> None:
    offline = whole(model, portrait, SPEECH, settings=PARITY)
    before, after = (session(model, portrait, settings=PARITY) for _ in range(2))
    head = before.push(demo_samples(2.0)[:0])  # nothing yet
    head = torch.cat([head, *(f for f in before.chunks([SPEECH[:3000]], finish=False))])
    after.load_state_dict(before.state_dict())
    assert torch.equal(torch.cat([head, *after.chunks([SPEECH[3000:]])]), offline)


def test_clips_continue_the_frames_before(model, portrait) -> None:
    """The motion frames reach the next clip, and nothing of them remains where they are not carried."""
    carried, fresh = (whole(model, portrait, SPEECH, carry=carry) for carry in (True, False))
    assert torch.equal(carried[:4], fresh[:4])
    assert not torch.equal(carried[4:8], fresh[4:8])
    made = session(model, portrait)
    clips = list(made.clips([SPEECH]))
    assert torch.equal(made.motion()[0, 0], made.conditions.latents[0])  # at first the portrait itself
    for clip in clips[:2]:
        latents = made.denoise(clip)
        assert torch.equal(made.motion(), latents[:, -2:])


def test_a_clip_shorter_than_the_motion_frames_keeps_older_ones(model, portrait) -> None:
    made = session(model, portrait, first=1, largest=1)
    first, second = [made.denoise(clip) for clip in list(made.clips([SPEECH[:1280]]))]
    assert torch.equal(made.motion(), torch.cat([first, second], dim=1))


def test_states_reach_every_frame_without_cutting_clips(folder, portrait) -> None:
    model = load_photoreal(folder)
    plain = session(model, portrait)
    timeline = parse_timeline("0-0.2 speaking; 0.2-0.4 listening; 0.4- idle")
    told = session(model, portrait, timeline=timeline)
    assert [len(clip.labels) for clip in told.clips([SPEECH])] == [len(clip.labels) for clip in plain.clips([SPEECH])]
    open_weights = whole(model, portrait, SPEECH, timeline=timeline)
    model.denoising_unet.class_embedding.weight.normal_(0, 2, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(whole(model, portrait, SPEECH, timeline=timeline), open_weights)


def test_who_listens_hears_silence(model, portrait) -> None:
    timeline = parse_timeline("0- listening")
    spoken, silent = (whole(model, portrait, s, timeline=timeline) for s in (SPEECH, torch.zeros_like(SPEECH)))
    assert torch.equal(spoken, silent)
    assert not torch.equal(whole(model, portrait, SPEECH), whole(model, portrait, torch.zeros_like(SPEECH)))


def test_the_portrait_is_looked_at_once(model, portrait, monkeypatch) -> None:
    """Per clip the ReferenceNet sees the motion frames only."""
    seen: list[int] = []
    original = model.reference_unet.forward

    def watched(latents: Tensor, *given: object) -> tuple:
        seen.append(len(latents))
        return original(latents, *given)

    monkeypatch.setattr(model.reference_unet, "forward", watched)
    whole(model, portrait, SPEECH)
    assert seen == [1, 2, 2, 2]
    seen.clear()
    whole(model, portrait, SPEECH, identity=torch.ones(10))
    assert seen == [1, *[2, 2] * 3]


def test_face_embedding_and_guidance_matter(model, portrait) -> None:
    plain = whole(model, portrait, SPEECH)
    assert not torch.equal(whole(model, portrait, SPEECH, identity=torch.ones(10)), plain)
    assert not torch.equal(whole(model, portrait, SPEECH, settings=Settings(guidance=1.0)), plain)
    assert not torch.equal(whole(model, portrait, SPEECH, settings=Settings(audio_scale=(1.0, 1.0, 2.0))), plain)
    with pytest.raises(ValueError, match=r"shape \(512,\), expected \(10,\)"):
        session(model, portrait, identity=torch.ones(512))


def test_quirks_change_the_result_and_are_off_by_default(model, portrait) -> None:
    identity = torch.ones(10)
    short = SPEECH[:2560]
    corrected = whole(model, portrait, short, identity=identity)
    mixed = whole(model, portrait, short, identity=identity, settings=Settings(quirks=AS_SHIPPED))
    rounded = replace(AS_SHIPPED, mixed_tokens=False, mixed_rows=False)
    near = whole(model, portrait, short, identity=identity, settings=Settings(quirks=rounded))
    far = float((mixed.float() - corrected.float()).abs().mean())
    assert 0 < float((near.float() - corrected.float()).abs().mean()) < far / 3  # float16 features only


def test_noise_is_one_for_all_clips_or_fresh(model, portrait) -> None:
    corrected, shipped = session(model, portrait), session(model, portrait, settings=PARITY, seed=42)
    assert torch.equal(corrected._noise(4), corrected._noise(4))
    assert torch.equal(corrected._noise(6)[:, :4], corrected._noise(4))
    generator = torch.Generator().manual_seed(42)
    for _ in range(2):
        want = torch.randn(1, 4, 4, SIZE // 8, SIZE // 8, generator=generator).transpose(1, 2)
        assert torch.equal(shipped._noise(4), want)


@pytest.mark.parametrize("sampling", ["consistency", "tcd"])
def test_few_step_checkpoints_sample_without_guidance(folder, portrait, sampling, monkeypatch) -> None:
    model = load_photoreal(folder)
    model.config = replace(model.config, sampling=sampling)
    calls: list[int] = []
    original = model.denoising_unet.forward
    monkeypatch.setattr(
        model.denoising_unet, "forward", lambda x, t, *a, **k: (calls.append(int(t[0])), original(x, t, *a, **k))[1]
    )
    frames = whole(model, portrait, SPEECH[:2560], steps=2)
    assert calls == [999, 499] and len(frames) == 4
    assert not torch.equal(frames, whole(model, portrait, SPEECH[:2560], steps=1))


def test_stopping_is_obeyed_within_a_clip(model, portrait) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) > 4  # once per clip and once per step: in the second clip

    assert len(whole(model, portrait, SPEECH, should_stop=stop)) == 4


def test_memory_stays_flat(model, portrait) -> None:
    made = session(model, portrait, steps=1, first=16, largest=16, settings=Settings(guidance=1.0))
    kept = []
    for _ in made.chunks(demo_samples(0.64) for _ in range(14)):
        state = made.state
        kept.append(len(state.ring.samples) + len(state.labels) + sum(t.numel() for m in state.motion for t in m))
    assert len(kept) == 14 and max(kept) < 140 * 640  # 224 frames came; the speech encoder hears 85


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(folder, portrait, dtype) -> None:
    full = whole(load_photoreal(folder), portrait, SPEECH[:2560])
    half = whole(load_photoreal(folder, dtype=dtype), portrait, SPEECH[:2560])
    error = (full.float() - half.float()).abs().mean()
    assert error < (2 if dtype == torch.float16 else 8), error


def test_what_the_model_cannot_make_is_said(model, portrait) -> None:
    with pytest.raises(ValueError, match="makes 30 at most"):
        session(model, portrait, largest=31)
    odd = prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), 72)
    with pytest.raises(ValueError, match="multiple of 64"):
        session(model, odd)


def test_load_model_takes_the_folder(folder) -> None:
    assert isinstance(load_model(folder), Photoreal)


def test_int8_form_of_a_folder(folder, portrait, tmp_path, capsys, monkeypatch) -> None:
    """Made by the command, loaded as a folder and by precision; the frames are those of float, nearly. Every layer is
    probed, at one noise level of two and in shorter clips: at any width that is some hundred calls of the denoiser."""
    monkeypatch.setattr("llia_core.photoreal.quantize.PROBED", (499,))
    monkeypatch.setattr("llia_core.photoreal.quantize.FRAMES", 2)
    source = tmp_path / "m"
    shutil.copytree(folder, source)
    with pytest.raises(FileNotFoundError, match="llia_core quantize"):
        load_model(source, precision="int8")
    assert main(["quantize", str(source), "--target-db", "20"]) == 0
    assert "layers integer" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "m-int8").iterdir()) == sorted(p.name for p in source.iterdir())
    model = load_model(source, precision="int8")
    names = integer_layers(model)
    assert len(names) > 100 and {name.split(".")[0] for name in names} >= {"denoising_unet", "reference_unet"}
    assert (tmp_path / "m-int8" / "model.safetensors").stat().st_size < 0.5 * (
        source / "model.safetensors"
    ).stat().st_size
    assert torch.equal(*(whole(m, portrait, SPEECH[:2560]) for m in (model, load_model(tmp_path / "m-int8"))))
    exact, rounded = (whole(m, portrait, SPEECH[:2560]).float() for m in (load_photoreal(source), model))
    assert not torch.equal(exact, rounded)
    assert 10 * float(torch.log10(exact.var() / (exact - rounded).square().mean())) > 15
    assert main(["quantize", str(tmp_path / "m-int8"), "-o", str(tmp_path / "again")]) == 1
    assert "INT8 already" in capsys.readouterr().err


def test_the_command_line_animates_with_it(folder, tmp_path, capsys) -> None:
    source = BUNDLED.parent
    command = ["animate", "--portrait", str(source / "demo_portrait.png"), "--audio", str(source / "demo_speech.wav")]
    settings = ["--size", "64", "--steps", "1", "--guidance", "1", "--precision", "bfloat16", "--pipeline"]
    short = tmp_path / "short.wav"
    write_wav(short, SPEECH)
    command[4] = str(short)
    assert main([*command, "--model", str(folder), *settings, "-o", str(tmp_path / "out.mp4")]) == 0
    assert "10 frames of 64x64" in capsys.readouterr().out


def write_wav(path: Path, samples: Tensor) -> None:
    with wave.open(str(path), "w") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).to(torch.int16).numpy().tobytes())
