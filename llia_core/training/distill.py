"""Few steps for open weights: latent consistency distillation (arXiv 2310.04378) of a guided photoreal model.

    python -m llia_core train consistency --teacher models/llia/hallo --videos FOLDER

The teacher, as it was trained for many steps with guidance, makes one guided DDIM step down its noise schedule; what
the student predicts before that step must agree with what its moving average predicts after it. So the student needs
one call where the teacher needs two a step, and few steps. Only the denoiser learns; ReferenceNet, projections and face
locator stay the teacher's. Where clips are labelled, it learns the state labels, which open weights lack.
"""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from ..model.load import read_checkpoint, save_weights
from ..model.reference import build_reference_cache
from ..photoreal.masks import face_masks
from ..photoreal.model import PARTS, Photoreal, load_photoreal
from ..photoreal.session import GUIDANCE
from ..sampling.consistency import consistency_function
from ..sampling.ddim import ddim_step, guide
from ..sampling.schedule import NoiseSchedule, add_noise, make_schedule, to_sample, trailing_timesteps
from ..session import FUTURE, PAST
from .loop import Run, join_processes, rank, train
from .portrait_clips import PortraitClip, PortraitClips, cut_portrait_clips

LEVELS = 40  # of the teacher's schedule: its own number of steps
EMA_DECAY = 0.95  # of the student that gives the goal
SHORTEST = 4  # frames; lengths are drawn at random, so that sessions may use any
HUBER = 1e-3


@dataclass(frozen=True)
class Told:
    """The denoiser's keyword arguments for a clip, and for guidance without portrait and voice; its clean latents."""

    full: dict[str, Any]
    absent: dict[str, Any]
    latents: Tensor


@torch.no_grad()
def tell(teacher: Photoreal, clip: PortraitClip, length: int, size: int) -> Told:
    """The first `length` frames of a clip of size x size pixels, seen and heard by the teacher's frozen parts."""
    device, dtype = teacher.compute_device, teacher.compute_dtype
    reference, motion, latents = (
        part[None].to(device, dtype) for part in (clip.reference, clip.motion, clip.latents[:length])
    )
    tokens = teacher.image_tokens()
    cache = build_reference_cache(
        teacher.reference_unet, teacher.denoising_unet, reference, tokens[1:], motion, project=False
    )
    masks = face_masks(clip.landmarks, size, size, size)
    heard = clip.features[: PAST + length + FUTURE].unfold(0, PAST + 1 + FUTURE, 1).permute(0, 3, 1, 2)
    audio = teacher.audioproj(heard[None].to(device, dtype))[0]
    shared = {
        "labels": clip.labels[None, :length].to(device),
        "audio_masks": [level.to(device, dtype) for level in masks.levels],
    }
    face = teacher.face_locator(masks.region[None].to(device, dtype))
    full = shared | {
        "audio_tokens": audio, "reference": cache, "image_tokens": tokens[1:], "face_feature": face,
    }  # fmt: skip
    absent = shared | {
        "audio_tokens": torch.zeros_like(audio), "reference": cache.without_reference(), "image_tokens": tokens[:1],
    }  # fmt: skip
    return Told(full, absent, latents)


def call(unet: nn.Module, latents: Tensor, timestep: int, given: dict[str, Any]) -> Tensor:
    """The output of a denoiser for latents (1, f, c, h, w)."""
    return unet(latents, torch.tensor([timestep], device=latents.device), **given)[0]


def consistent(unet: nn.Module, noisy: Tensor, timestep: int, told: Told, schedule: NoiseSchedule, kind: str) -> Tensor:
    """The clean latents by the consistency function of a student; kind: its prediction type."""
    x0 = to_sample(call(unet, noisy, timestep, told.full), noisy, timestep, schedule, kind)
    return consistency_function(x0, noisy, timestep)


@torch.no_grad()
def teacher_step(
    teacher: Photoreal, noisy: Tensor, timestep: int, previous: int, told: Told, schedule: NoiseSchedule, scale: float
) -> Tensor:
    """One guided DDIM step of the teacher from `timestep` to `previous` (below 0: to the clean latents)."""
    unet, kind = teacher.denoising_unet, teacher.config.prediction_type
    halves = [call(unet, noisy, timestep, given) for given in (told.absent, told.full)]
    return ddim_step(guide(*halves, scale), noisy, timestep, previous, schedule, kind)[0]


def distillation_loss(
    student: nn.Module, target: nn.Module, teacher: Photoreal, told: Told, index: int, noise: Tensor,
    schedule: NoiseSchedule, scale: float = GUIDANCE,
) -> Tensor:  # fmt: skip
    """Disagreement across level `index` of the teacher's schedule (0: pure noise)."""
    kind, levels = teacher.config.prediction_type, trailing_timesteps(LEVELS)
    high, low = levels[index], levels[index] - schedule.train_steps // LEVELS
    noisy = add_noise(told.latents, noise, high, schedule)
    nearer = teacher_step(teacher, noisy, high, low, told, schedule, scale)
    with torch.no_grad():
        goal = nearer if low < 0 else consistent(target, nearer, low, told, schedule, kind)
    difference = (consistent(student, noisy, high, told, schedule, kind) - goal).float()
    return ((difference.square() + HUBER**2).sqrt() - HUBER).mean()  # pseudo-Huber, 2310.14189


def run_distillation(
    run: Run, folder: Path, clips: Path, output: Path, size: int, videos: Path | None = None, seed: int = 6
) -> Path:
    """Distil the model in `folder` and write the few-step one to the folder `output`.

    clips: where latents of `videos` are kept; without videos those that are there are used. size: pixels.
    """
    join_processes()
    torch.manual_seed(seed)
    teacher = load_photoreal(folder, run.device, torch.float32)
    if teacher.config.sampling != "ddim":
        raise ValueError(f"{folder} samples by {teacher.config.sampling!r} already, expected weights for many steps")
    if videos is not None and rank() == 0:
        cut_portrait_clips(videos, clips, teacher, size)
    student = copy.deepcopy(teacher.denoising_unet).requires_grad_(True)
    target = copy.deepcopy(student).requires_grad_(False)
    schedule, generator = make_schedule().to(run.device), torch.Generator().manual_seed(seed + 1000 * rank())
    data = PortraitClips(clips)

    def loss_of(step: int, clip: PortraitClip) -> dict[str, Tensor]:
        _follow(target, student)
        length = Random(step).randint(min(SHORTEST, len(clip.latents)), len(clip.latents))
        told = tell(teacher, clip, length, size)
        index = int(torch.randint(LEVELS, (1,), generator=generator))
        noise = torch.randn(told.latents.shape, generator=generator).to(told.latents)
        return {"agree": distillation_loss(student, target, teacher, told, index, noise, schedule)}

    def on_save(step: int, ema: dict[str, Tensor]) -> dict[str, float]:
        if output.exists():
            shutil.rmtree(output)
        export_student(folder, output, ema)
        return {}

    train(run, student, data.random(seed + rank()), loss_of, on_save)
    return output


@torch.no_grad()
def _follow(target: nn.Module, student: nn.Module) -> None:
    for slow, fast in zip(target.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - EMA_DECAY)


def export_student(teacher: Path, output: Path, denoiser: dict[str, Tensor]) -> None:
    """A model folder like the teacher's with another denoiser, to be sampled in few steps without guidance."""
    metadata, weights = read_checkpoint(teacher / PARTS["model"])
    config = json.loads(metadata["config"]) | {"sampling": "consistency"}
    for name, value in denoiser.items():
        key = f"denoising_unet.{name}"
        weights[key] = value.cpu().to(weights[key].dtype)
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(teacher, partial, ignore=shutil.ignore_patterns(PARTS["model"]))
    save_weights(weights, metadata | {"config": json.dumps(config)}, partial / PARTS["model"])
    partial.rename(output)
