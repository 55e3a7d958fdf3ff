"""Stage 3: video diffusion. The denoiser predicts clean latents from any noise level (x0 prediction).

The noisiest level is drawn most often, since that is where few-step sampling starts. Clips have a fixed length first,
then a random one, as LLIA does; labels and audio are dropped at times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.avatar import Avatar, Conditioning, Prediction, opened
from ..model.config import NAMED
from ..sampling.schedule import NoiseSchedule, add_noise, make_schedule
from ..speech import tiny_speech_config
from ..states import LISTENING, NONE, SPEAKING
from .audio_encoder import augment
from .clips import FUTURE, PAST, Clip, ClipFolder, as_measured, vary
from .loop import Run, join_processes, rank, share, train

LABEL_DROPOUT, AUDIO_DROPOUT = 0.1, 0.03
TRUE_SHAPES = 0.85  # share of clips that are given the true mouth shapes instead of the heard: pictures stay sharp
FIXED_LENGTH = 4
NOISIEST = 0.75  # share of clips at pure noise


@dataclass
class Example:
    """A prepared batch: conditioning, audio windows, target pictures and latents, the mouth's weight."""

    condition: Conditioning
    windows: Tensor
    labels: Tensor
    frames: Tensor
    latents: Tensor
    mouth: Tensor
    masks: Tensor
    points: Tensor


def new_avatar(parts: Path | None = None) -> Avatar:
    """llia-tiny; speech encoder, autoencoder and lip rig from the runs, trained and frozen; the rest fresh."""
    model = Avatar(NAMED["llia-tiny"], tiny_speech_config())
    if parts is not None:
        model.speech.load_state_dict(torch.load(parts / "audio" / "speech.pt", weights_only=True))
        model.autoencoder.load_state_dict(torch.load(parts / "vae" / "autoencoder.pt", weights_only=True))
        model.rig.load_state_dict(torch.load(parts / "rig" / "rig.pt", weights_only=True))
    # At first nothing moves and nothing is painted: the reference itself is the best guess.
    torch.nn.init.zeros_(model.denoising_unet.conv_out.weight)
    torch.nn.init.zeros_(model.denoising_unet.conv_out.bias)
    model.speech.requires_grad_(False)
    model.autoencoder.requires_grad_(False)
    model.rig.requires_grad_(False)
    return model


def load_video_weights(model: Avatar, path: Path) -> None:
    """Weights of a video stage; speech encoder, autoencoder and rig stay those of `model`, which may be newer."""
    trained = torch.load(path, weights_only=True)
    own = {k: v for k, v in trained.items() if not k.startswith(("speech.", "autoencoder.", "rig."))}
    model.load_state_dict(model.state_dict() | own)


def prepare(
    model: Avatar, clip: Clip, generator, length: int, device: str, true_shapes: float = TRUE_SHAPES
) -> Example:
    """Vary a batch of clips, hear its sound, encode its pictures; the first `length` frames of each."""
    windows, labels = hear(model, clip, generator, true_shapes)
    start = int(torch.randint(clip.frames.shape[1] - length + 1, (1,), generator=generator))
    clip = vary(clip, generator)
    frames = clip.frames[:, start : start + length].to(device)
    masks = clip.masks.to(device)
    with torch.no_grad():
        latents = model.autoencoder.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    return Example(
        model.reference(clip.reference.to(device), masks, as_measured(clip.points[:, 0], generator).to(device)),
        windows[:, start : start + length].to(device),
        labels[:, start : start + length].to(device),
        frames,
        latents,
        mouth_weight(masks),
        masks,
        torch.cat((clip.points[:, :1], clip.points[:, 1 + start : 1 + start + length]), dim=1).to(device),
    )


@torch.no_grad()
def hear(
    model: Avatar, clip: Clip, generator: torch.Generator, true_shapes: float = TRUE_SHAPES, dropout: bool = True
) -> tuple[Tensor, Tensor]:
    """Audio windows (b, F, 5, layers, channels) and labels (b, F), some of both left out with `dropout`.

    In `true_shapes` of the clips that have them the windows are the true mouth shapes with a little noise; in the
    others what the speech encoder hears in freshly augmented sound.
    """
    b, frames = clip.frames.shape[:2]
    device = next(model.parameters()).device
    heard = clip.articulation.float()[:, :, None]
    heard = heard + 0.04 * torch.randn(heard.shape, generator=generator)
    listen = (torch.rand(b, generator=generator) >= true_shapes) | ~torch.isfinite(heard).flatten(1).all(1)
    listen |= clip.label == LISTENING  # the truth there is a mouth at rest; what is heard is another's speech
    if listen.any():
        sound = augment(clip.samples[listen].float(), generator).to(device)
        heard[listen] = model.speech(sound).float().cpu()
    drop = torch.rand(b, generator=generator) < AUDIO_DROPOUT * dropout
    heard = heard * ~drop[:, None, None, None]
    unlabelled = (torch.rand(b, generator=generator) < LABEL_DROPOUT * dropout) & (clip.label == SPEAKING) | drop
    labels = torch.where(unlabelled, torch.full_like(clip.label, NONE), clip.label)
    windows = heard.unfold(1, PAST + 1 + FUTURE, 1).permute(0, 1, 4, 2, 3)
    return windows.to(device), labels[:, None].expand(-1, frames).to(device)


def mouth_weight(masks: Tensor) -> Tensor:
    """(b, 1, R, R): 1 elsewhere, 8 at the lips, 4 where an open mouth and the chin go."""
    lips = masks[:, :1]
    below = F.max_pool2d(lips, (25, 13), 1, (12, 6)).roll(8, dims=2)
    return 1 + 3 * below + 4 * lips


def shared_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One noise pattern a clip for all its frames (b, f, c, h, w): fresh noise a frame flickers."""
    one = torch.randn(like.shape[0], 1, *like.shape[2:], generator=generator).to(like.device)
    return one.expand_as(like)


def random_timesteps(n: int, generator: torch.Generator) -> Tensor:
    uniform = torch.randint(0, 1000, (n,), generator=generator)
    noisiest = torch.rand(n, generator=generator) < NOISIEST
    return torch.where(noisiest, torch.full_like(uniform, 999), uniform)


def reconstruction(model: Avatar, example: Example, out: Prediction, generator: torch.Generator) -> dict[str, Tensor]:
    """Loss terms: latents, the warp alone at several scales, known points, movement, and one decoded frame.

    The open mouth counts by itself, however small it is: teeth and tongue are all that is left to paint.
    """
    small = F.avg_pool2d(example.mouth, 128 // out.x0.shape[-1])[:, None]
    cells = opened(out.inside.flatten(0, 1), out.x0.shape[-2:]).unflatten(0, out.x0.shape[:2])
    error = out.x0 - example.latents
    velocity = out.x0.diff(dim=1) - example.latents.diff(dim=1)
    pick = torch.randint(out.x0.shape[1], (1,), generator=generator)
    one = frames_of(out, pick)
    picture = one.warped + model.difference(one)
    missed = (picture - example.frames[:, pick]).abs()
    terms = {
        "latent": (small * (error.abs() + 0.5 * error.square())).mean() * 0.15,
        "inside": _mean_where(cells, error.abs()) * 0.3 + _mean_where(one.inside, missed) * 2,
        "warp": warp_error(out.warped, example.frames, example.mouth),
        "points": point_error(out.flow, example.points) * 4,
        "picture": (example.mouth[:, None] * missed).mean() * 2,
        "smooth": out.flow.diff(dim=-1).square().mean() + out.flow.diff(dim=-2).square().mean(),
    }
    if velocity.numel():
        terms["velocity"] = (small * velocity.abs()).mean() * 0.1
    return terms


def _mean_where(weight: Tensor, values: Tensor) -> Tensor:
    """Mean of values (b, f, c, h, w) by weight (b, f, 1, h, w); 0 where all weights are."""
    return (weight * values).sum() / (weight.sum() * values.shape[2] + 1)


def frames_of(out: Prediction, part: Tensor | slice) -> Prediction:
    """Some frames of a prediction."""
    parts = (out.x0, out.flow, out.inside, out.warped, out.warped_latents)
    return Prediction(*(t[:, part] for t in parts), [])


def warp_error(warped: Tensor, frames: Tensor, weight: Tensor) -> Tensor:
    """L1 of (b, f, 3, R, R) at three scales: on coarse pictures the flow finds its way from further off."""
    total = 0.0
    for scale in (1, 3, 6):
        a, b = (F.avg_pool2d(t.flatten(0, 1), scale).unflatten(0, t.shape[:2]) for t in (warped, frames))
        total = total + (F.avg_pool2d(weight, scale)[:, None] * (a - b).abs()).mean()
    return total


def point_error(flow: Tensor, points: Tensor) -> Tensor:
    """Mean distance from where the flow takes known points to where they are in the reference, in region units.

    flow (b, f, 2, h, w), points (b, 1 + f, K, 2), the reference's first, NaN where unknown.
    """
    b, f = flow.shape[:2]
    there, here = points[:, :1], points[:, 1:]
    at = here.nan_to_num().flatten(0, 1)[:, :, None]
    moved = F.grid_sample(flow.flatten(0, 1).float(), at, padding_mode="border", align_corners=False)
    distance = moved[..., 0].transpose(1, 2).unflatten(0, (b, f)) - (there - here)
    known = torch.isfinite(distance) & (here.abs() < 1)
    return torch.where(known, distance, 0.0).abs().sum() / known.sum().clamp_min(1)


def run_video(
    run: Run,
    parts: Path,
    clips: Path,
    held_out: Path,
    *,
    batch: int = 10,
    fixed: float = 0.5,
    seed: int = 3,
    true_shapes: float = 1.0,
) -> Path:
    """Stage 3. In the first `fixed` share of the steps clips have FIXED_LENGTH frames, then 1 to all at random."""
    join_processes()
    torch.manual_seed(seed)
    model, schedule = new_avatar(parts), make_schedule()
    generator = torch.Generator().manual_seed(seed + 1000 * rank())
    data = ClipFolder(clips)

    def loss_of(step: int, clip: Clip) -> dict[str, Tensor]:
        # By the step alone, so that processes that share the work have clips of one length.
        length = FIXED_LENGTH if step < fixed * run.steps else Random(step).randint(1, clip.frames.shape[1])
        example = prepare(model, clip, generator, length, run.device, true_shapes)
        timesteps = random_timesteps(len(clip.label), generator).to(run.device)
        noisy = add_noise(example.latents, shared_noise(example.latents, generator), timesteps, schedule)
        out = model.predict(noisy, timesteps, model.project_audio(example.windows), example.labels, example.condition)
        return reconstruction(model, example, out, generator)

    train(run, model, data.batches(share(batch), seed + 1000 * rank()), loss_of, reporter(run, held_out, schedule))
    return run.folder / "avatar.pt"


def reporter(run: Run, held_out: Path, schedule: NoiseSchedule) -> Callable[[int, dict[str, Tensor]], dict[str, float]]:
    """What every save does: weights, figures on unseen clips at one step, and a sheet of them."""
    unseen = ClipFolder(held_out)
    sample = next(unseen.batches(12, 7))

    def on_save(step: int, ema: dict[str, Tensor]) -> dict[str, float]:
        torch.save(ema, run.folder / "avatar.pt")
        model = new_avatar()
        model.load_state_dict(ema)
        return validate(model.eval().to(run.device), sample, run.folder / f"sheet_{step:06d}.png", schedule)

    return on_save


@torch.inference_mode()
def validate(model: Avatar, clip: Clip, sheet: Path, schedule: NoiseSchedule) -> dict[str, float]:
    """One-step pictures of unseen clips, heard by the encoder alone: PSNR at the mouth, a still face's for scale."""
    from ..media import contact_sheet, write_image
    from .autoencoder import psnr

    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    windows, labels = hear(model, clip, generator, true_shapes=0.0, dropout=False)
    images = [t.float().to(device) / 127.5 - 1 for t in (clip.reference, clip.frames)]
    lips = clip.points[:, 0].float().to(device)
    condition = model.reference(images[0], clip.masks.float().to(device) / 255, lips)
    shape = (*clip.frames.shape[:2], model.config.autoencoder.latent_channels, *(model.config.latent_size,) * 2)
    noise = shared_noise(torch.empty(shape, device=device), generator)
    t = torch.full((len(labels),), 999, device=device)
    out = model.predict(noise, t, model.project_audio(windows), labels, condition)
    made = out.warped + model.difference(out)
    weight = F.max_pool2d(clip.masks[:, :1].float() / 255, 17, 1, 8).roll(8, dims=2)[:, None].to(device)
    rows = [torch.cat((images[0][:, None], images[1][:, 1::2], made[:, 1::2]), dim=1)[i] for i in range(len(labels))]
    pictures = ((torch.cat(rows).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
    write_image(sheet, contact_sheet(pictures, columns=len(rows[0])))
    return {
        "psnr_mouth": psnr(made - images[1], weight),
        "psnr_still": psnr(images[0][:, None] - images[1], weight),
        "psnr_warp": psnr(out.warped - images[1], weight),
    }
