"""Stage 4 and 5: few steps and the model's own past.

Latent consistency training (2310.04378) without a frozen teacher: the prediction at one noise level must agree with the
EMA model's at the next lower one. A discriminator on mouth pictures (hinge loss, as adversarial consistency models have
it, 2412.13479) asks for teeth and lips rather than their mean. Roll-outs start clips from the temporal state that the
model itself left behind, as in a stream (compare Self Forcing, 2506.08009).
"""

import copy
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.avatar import Avatar, Prediction
from ..sampling.schedule import NoiseSchedule, add_noise, make_schedule, trailing_timesteps
from .clips import Clip, ClipFolder
from .loop import Run, average_gradients, join_processes, rank, share, train
from .video import (
    TRUE_SHAPES,
    Example,
    frames_of,
    load_video_weights,
    new_avatar,
    prepare,
    reconstruction,
    reporter,
    shared_noise,
)

LEVELS = 8  # noise levels whose neighbours must agree: those that 8 sampling steps visit
EMA_DECAY = 0.97  # of the consistency target
ADVERSARIAL, START = 0.25, 50  # weight of the discriminator's term; steps that it learns before it counts


class MouthDiscriminator(nn.Module):
    """PatchGAN on 64x64 mouth pictures, told the reference mouth: (n, 6, 64, 64) -> (n, 1, 8, 8)."""

    def __init__(self, operations: Any = nn) -> None:
        super().__init__()
        widths = (6, 32, 64, 96)
        norm, conv = nn.utils.parametrizations.spectral_norm, operations.Conv2d
        self.convs = nn.ModuleList(norm(conv(a, b, 4, 2, 1)) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.out = norm(conv(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor, references: Tensor) -> Tensor:
        x = torch.cat((pictures, references), dim=1)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return self.out(x)


class Adversary:
    """The discriminator and its optimiser; it is not kept between runs."""

    def __init__(self, device: str) -> None:
        self.net = MouthDiscriminator().to(device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 4e-4, (0.5, 0.99))

    def step(self, made: Tensor, true: Tensor, reference: Tensor) -> Tensor:
        """Train it on mouth crops (n, 3, 64, 64), then return the generator's hinge term."""
        real, fake = self.net(true, reference), self.net(made.detach(), reference)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.net)
        self.optimizer.step()
        self.net.requires_grad_(False)
        term = -self.net(made, reference).mean()
        self.net.requires_grad_(True)
        return term


def mouth_crop(images: Tensor) -> Tensor:
    """The 64x64 middle of (n, 3, 128, 128) region pictures, round the mouth and upper chin."""
    return images[..., 24:88, 32:96]


def fine_tune(
    run: Run, start: Path, build: Callable[[Avatar], Callable], clips: Path, held_out: Path, *, batch: int, seed: int
) -> Path:
    """Train the model of the run folder `start` further, by the loss that `build(model)` returns."""
    model = new_avatar(run.folder.parent)
    if not (run.folder / "state.pt").is_file():
        load_video_weights(model, start / "avatar.pt")
    batches = ClipFolder(clips).batches(share(batch), seed + 1000 * rank())
    train(run, model, batches, build(model), reporter(run, held_out, make_schedule()))
    return run.folder / "avatar.pt"


def _begin(seed: int) -> torch.Generator:
    """Join other processes of this run; a generator of this process's own."""
    join_processes()
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed + 1000 * rank())


def run_consistency(run: Run, start: Path, clips: Path, held_out: Path, batch: int = 8, seed: int = 4) -> Path:
    """Stage 4, from the weights in `start`."""
    generator, schedule = _begin(seed), make_schedule()
    levels = [*trailing_timesteps(LEVELS), 0]

    def build(model: Avatar) -> Callable:
        target = copy.deepcopy(model).requires_grad_(False)
        adversary = Adversary(run.device)

        def loss_of(step: int, clip: Clip) -> dict[str, Tensor]:
            _follow(target, model)
            length = Random(step).randint(2, clip.frames.shape[1])
            example = prepare(model, clip, generator, length, run.device)
            index = torch.randint(LEVELS, (1,), generator=generator).item() if step % 2 else 0
            high, low = levels[index], levels[index + 1]
            noise = shared_noise(example.latents, generator)
            out = _predict(model, example, noise, high, schedule)
            terms = reconstruction(model, example, out, generator)
            goal = example.latents
            if low:
                with torch.no_grad():
                    goal = _predict(target, _seen_by(target, example), noise, low, schedule).x0
            # Huber, as in improved consistency training (2310.14189): robust to the few cells that cannot agree.
            terms["agree"] = (((out.x0 - goal).square() + 1e-4).sqrt() - 1e-2).mean() * 0.5
            pick = int(torch.randint(length, (1,), generator=generator))
            terms["adversary"] = _weight(step) * adversary.step(*_mouths(model, example, out, pick))
            return terms

        return loss_of

    return fine_tune(run, start, build, clips, held_out, batch=batch, seed=seed)


def _weight(step: int) -> float:
    """Of the discriminator's term: it counts only once it has learned a little."""
    return ADVERSARIAL if step > START else 0.0


def _predict(
    model: Avatar,
    example: Example,
    noise: Tensor,
    timestep: int,
    schedule: NoiseSchedule,
    motion: list[Tensor] | None = None,
) -> Prediction:
    noisy = add_noise(example.latents, noise, timestep, schedule)
    at = torch.full((len(noisy),), timestep, device=noisy.device)
    audio = model.project_audio(example.windows)
    return model.predict(noisy, at, audio, example.labels, example.condition, motion)


def _seen_by(target: Avatar, example: Example) -> Example:
    """The same example seen by the target's own ReferenceNet."""
    masks = example.masks
    return Example(
        target.reference(example.condition.image, masks, example.condition.lips), example.windows, example.labels,
        example.frames, example.latents, example.mouth, masks, example.points,
    )  # fmt: skip


def _mouths(model: Avatar, example: Example, out: Prediction, pick: int) -> tuple[Tensor, Tensor, Tensor]:
    one = frames_of(out, slice(pick, pick + 1))
    made = (one.warped + model.difference(one))[:, 0]
    return tuple(mouth_crop(t) for t in (made, example.frames[:, pick], example.condition.image))


@torch.no_grad()
def _follow(target: Avatar, model: Avatar) -> None:
    for slow, fast in zip(target.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - EMA_DECAY)


def run_rollout(run: Run, start: Path, clips: Path, held_out: Path, batch: int = 8, seed: int = 5) -> Path:
    """Stage 5: the rest of every clip is learned from the temporal state that the model left after the first part.

    That part is made at the noise level where sampling starts, and with what the model is told in use: half of the
    clips are heard.
    """
    generator, schedule = _begin(seed), make_schedule()

    def build(model: Avatar) -> Callable:
        adversary = Adversary(run.device)

        def loss_of(step: int, clip: Clip) -> dict[str, Tensor]:
            whole = clip.frames.shape[1]
            example = prepare(model, clip, generator, whole, run.device, TRUE_SHAPES / 2)
            cut = Random(step).randint(1, whole - 1)
            noise = shared_noise(example.latents, generator)
            with torch.no_grad():
                past = _predict(model, _frames_of(example, slice(0, cut)), noise[:, :cut], 999, schedule)
            rest = _frames_of(example, slice(cut, whole))
            out = _predict(model, rest, noise[:, cut:], 999, schedule, past.motion)
            terms = reconstruction(model, rest, out, generator)
            made = out.x0[:, 0] - past.x0[:, -1]
            true = example.latents[:, cut] - example.latents[:, cut - 1]
            terms["seam"] = (made - true).abs().mean() * 0.3
            pick = int(torch.randint(whole - cut, (1,), generator=generator))
            terms["adversary"] = _weight(step) * adversary.step(*_mouths(model, rest, out, pick))
            return terms

        return loss_of

    return fine_tune(run, start, build, clips, held_out, batch=batch, seed=seed)


def _frames_of(example: Example, part: slice) -> Example:
    return Example(
        example.condition, example.windows[:, part], example.labels[:, part], example.frames[:, part],
        example.latents[:, part], example.mouth, example.masks,
        torch.cat((example.points[:, :1], example.points[:, 1:][:, part]), dim=1),
    )  # fmt: skip
