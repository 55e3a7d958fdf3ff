"""Distillation of a photoreal model at small width, from videos on disk to a few-step model that makes frames."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llia_core.__main__ import main
from llia_core.benchmark import demo_samples
from llia_core.importer import convert_hallo, find_sources
from llia_core.media import read_image
from llia_core.model.guidance import CORRECTED
from llia_core.model.load import BUNDLED, load_model
from llia_core.model.reference import build_reference_cache
from llia_core.photoreal import open_session
from llia_core.photoreal.conditions import PortraitConditions
from llia_core.photoreal.masks import face_masks
from llia_core.portrait import prepare_portrait
from llia_core.sampling.ddim import ddim_step, guide
from llia_core.sampling.schedule import make_schedule, trailing_timesteps
from llia_core.training.distill import LEVELS, Told, call, distillation_loss, teacher_step, tell
from llia_core.training.portrait_clips import PortraitClips
from llia_core.video import VideoWriter
from tests.open_weights import make_page, narrow_config

SIZE, FRAMES = 64, 44


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teacher")
    return convert_hallo(find_sources(make_page(root / "page")), root / "m", torch.float32, config=narrow_config())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo portrait, growing brighter, with the demo speech: two clips of 16 frames after the first two."""
    folder = tmp_path_factory.mktemp("videos")
    image = torch.nn.functional.avg_pool2d(read_image(BUNDLED.parent / "demo_portrait.png"), 2)
    frame = (image + 1).mul(100).permute(1, 2, 0)
    with VideoWriter(folder / "a.mp4", 256, 256, 16_000) as writer:
        writer.write_audio(demo_samples(FRAMES / 25)[None])
        writer.write(torch.stack([(frame * (1 + 0.005 * k)).clamp(0, 255).to(torch.uint8) for k in range(FRAMES)]))
    return folder


@pytest.fixture(scope="module")
def distilled(teacher_folder: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    command = ["train", "consistency", "--teacher", str(teacher_folder), "--videos", str(videos), "--size", str(SIZE)]
    assert main([*command, "--runs", str(runs), "--scale", "0.002"]) == 0
    return runs


def test_videos_become_clips_of_latents(distilled: Path, teacher_folder: Path) -> None:
    clips = PortraitClips(distilled / "portrait_clips")
    assert len(clips.files) == 2
    clip = next(clips.random(0))
    assert clip.reference.shape == (4, 8, 8) and clip.motion.shape == (2, 4, 8, 8)
    assert clip.latents.shape == (16, 4, 8, 8) and clip.features.shape == (20, 2, 16) and clip.labels.shape == (16,)
    assert clip.landmarks[:, :2].min() > 0 and clip.landmarks[:, :2].max() < SIZE
    first, second = (PortraitClips.__new__(PortraitClips) for _ in range(2))
    first.files, second.files = clips.files[:1], clips.files[1:]
    one, two = next(first.random(0)), next(second.random(0))
    assert torch.equal(one.latents[-2:], two.motion) and torch.equal(one.reference, two.reference)


def test_the_student_samples_in_few_steps_and_only_its_denoiser_changed(distilled, teacher_folder) -> None:
    teacher, student = load_model(teacher_folder), load_model(distilled / "distilled")
    assert (teacher.config.sampling, student.config.sampling) == ("ddim", "consistency")
    ours, theirs = student.state_dict(), teacher.state_dict()
    changed = {key.split(".")[0] for key in theirs if not torch.equal(ours[key], theirs[key])}
    assert changed == {"denoising_unet"}
    portrait = prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), SIZE)
    frames = list(open_session(student, portrait, steps=2, first=4, largest=4).chunks([demo_samples(0.4)]))
    assert len(torch.cat(frames)) == 10 and torch.cat(frames).float().std() > 5


def told_of(teacher, folder: Path) -> Told:
    return tell(teacher, next(PortraitClips(folder / "portrait_clips").random(0)), 6, SIZE)


def test_distillation_makes_the_student_agree(distilled: Path, teacher_folder: Path) -> None:
    """On one clip and one noise, over the whole schedule: what a few updates are for."""
    teacher = load_model(teacher_folder)
    told, schedule = told_of(teacher, distilled), make_schedule()
    torch.manual_seed(0)
    student, noise = copy.deepcopy(teacher.denoising_unet).requires_grad_(True), torch.randn_like(told.latents)
    target = copy.deepcopy(teacher.denoising_unet)
    optimizer = torch.optim.Adam(student.parameters(), 5e-5)

    def loss() -> torch.Tensor:
        return sum(
            distillation_loss(student, target, teacher, told, index, noise, schedule) for index in (0, LEVELS // 2)
        )

    with torch.no_grad():
        before = float(loss())
    for _ in range(8):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    with torch.no_grad():
        assert float(loss()) < 0.7 * before
    assert student.class_embedding.weight.grad.abs().sum() > 0  # labels are learned


@torch.inference_mode()
def test_the_teacher_s_step_is_that_of_its_own_session(distilled: Path, teacher_folder: Path) -> None:
    """The training's way through the network (no folding, no cached keys) gives the sampler's numbers."""
    teacher, schedule = load_model(teacher_folder), make_schedule()
    clip = next(PortraitClips(distilled / "portrait_clips").random(0))
    told = tell(teacher, clip, 6, SIZE)
    noise = torch.randn(told.latents.shape, generator=torch.Generator().manual_seed(0))
    masks = face_masks(clip.landmarks, SIZE, SIZE, SIZE)
    portrait = PortraitConditions.of(teacher, torch.zeros(1, 3, SIZE, SIZE), masks, None, True, CORRECTED)
    reference = clip.reference[None].float()
    cache = build_reference_cache(teacher.reference_unet, teacher.denoising_unet, reference, teacher.image_tokens()[1:])
    portrait = replace(portrait, latents=reference, cache=cache)
    windows = clip.features[: 6 + 4].float().unfold(0, 5, 1).permute(0, 3, 1, 2)[None]
    given = portrait.of_clip(teacher, windows, told.full["labels"], clip.motion[None].float(), (1.0,) * 3)
    t = trailing_timesteps(LEVELS)[3]
    halves = [given.predict(teacher, noise, t, conditional) for conditional in (False, True)]
    want, _ = ddim_step(guide(*halves, 3.5), noise, t, t - 25, schedule, "v_prediction")
    got = teacher_step(teacher, noise, t, t - 25, told, schedule, 3.5)
    assert torch.allclose(got, want, atol=1e-3 * float(want.abs().max()))
    assert call(teacher.denoising_unet, noise, t, told.full).shape == noise.shape


def test_wrong_teachers_are_refused(distilled: Path, teacher_folder: Path, capsys) -> None:
    again = ["train", "consistency", "--runs", str(distilled), "--teacher"]
    assert main([*again, str(distilled / "distilled")]) == 1
    assert "samples by 'consistency' already" in capsys.readouterr().err
    assert main(["train", "video", "--teacher", str(teacher_folder)]) == 1
    assert "train consistency" in capsys.readouterr().err
