"""Stage 2: the patch autoencoder of llia-tiny. Its encoder is fitted (principal components), its decoder is trained."""

from pathlib import Path

import torch
from torch import Tensor

from ..model.autoencoder import build_autoencoder
from ..model.config import NAMED
from .clips import Clip, ClipFolder, vary
from .loop import Run, train


def psnr(error: Tensor, weight: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1], over all pixels or by `weight`."""
    square = (
        error.square() if weight is None else (error.square() * weight).sum() / (weight.expand_as(error).sum() + 1e-9)
    )
    return float(10 * torch.log10(4 / square.mean().clamp_min(1e-12)))


def run_stage(run: Run, clips: Path, held_out: Path, batch: int = 24, seed: int = 2) -> Path:
    """Train, and write `autoencoder.pt` (EMA weights) into the run's folder."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(NAMED["llia-tiny"].autoencoder).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    data, unseen = ClipFolder(clips), ClipFolder(held_out)
    test = vary(next(unseen.batches(24, seed)), torch.Generator().manual_seed(0))
    autoencoder.fit(vary(next(data.batches(96, seed)), generator).frames[:, 0])
    # The latents stay the linear ones: statistics and the warp's gradient are exact, only the decoder learns.
    autoencoder.encoder.requires_grad_(False)

    def loss_of(step: int, clip: Clip) -> dict[str, Tensor]:
        clip = vary(clip, generator)
        images = torch.cat((clip.frames[:, 0], clip.frames[:, 4])).to(run.device)
        weight = 1 + 5 * clip.masks[:, :1].repeat(2, 1, 1, 1).to(run.device)
        out = autoencoder.decode(autoencoder.encode(images))
        error = (out - images) * weight.sqrt()
        edges = (out.diff(dim=-1) - images.diff(dim=-1)).abs().mean() + (
            out.diff(dim=-2) - images.diff(dim=-2)
        ).abs().mean()
        return {"square": error.square().mean() * 10, "absolute": error.abs().mean() * 0.5, "edges": edges * 0.5}

    def on_save(step: int, ema: dict[str, Tensor]) -> dict[str, float]:
        copy = build_autoencoder(NAMED["llia-tiny"].autoencoder).eval()
        copy.load_state_dict(ema)
        torch.save(ema, run.folder / "autoencoder.pt")
        with torch.no_grad():
            images = test.frames[:, 3]
            error = copy.decode(copy.encode(images)) - images
        return {"psnr": psnr(error), "psnr_mouth": psnr(error, test.masks[:, :1])}

    train(run, autoencoder, data.batches(batch, seed), loss_of, on_save)
    return run.folder / "autoencoder.pt"
