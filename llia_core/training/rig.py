"""Stage 3: the lip rig learns how mouth shapes move the lip curves of a face. It sees points only, no pictures."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..lips import LipRig
from .clips import FUTURE, PAST, Clip, ClipFolder, as_measured, mirrored
from .loop import Run, train

Pairs = tuple[Tensor, Tensor, Tensor]


def pairs(clips: Clip) -> Pairs:
    """Curves of references (n, 37, 2), mouth shapes (n, f, 7) and curves of frames (n, f, 37, 2) with known truth."""
    points, shapes = clips.points.float(), clips.articulation[:, PAST:-FUTURE].float()
    known = torch.isfinite(points).flatten(1).all(1) & torch.isfinite(shapes).flatten(1).all(1)
    return points[known, 0], shapes[known], points[known, 1:]


def all_pairs(folder: Path) -> Pairs:
    data = ClipFolder(folder)
    data.refresh()
    return tuple(torch.cat(parts) for parts in zip(*map(pairs, data.shards), strict=True))


def batches(folder: Path, size: int, seed: int) -> Iterator[Pairs]:
    generator = torch.Generator().manual_seed(seed)
    everything = all_pairs(folder)
    while True:
        pick = torch.randint(len(everything[0]), (size,), generator=generator)
        reference, shapes, target = (part[pick] for part in everything)
        flip = torch.rand(len(reference), generator=generator) < 0.5
        reference = torch.where(flip[:, None, None], mirrored(reference), reference)
        target = torch.where(flip[:, None, None, None], mirrored(target), target)
        measured = as_measured(reference, generator)
        # Where the landmarks err, the movement stays the true one.
        yield measured, shapes, target + (measured - reference)[:, None]


def run_stage(run: Run, clips: Path, held_out: Path, batch: int = 128, seed: int = 6) -> Path:
    """Train, and write `rig.pt` (EMA weights) into the run's folder. Errors are in pixels of the 128-pixel region."""
    torch.manual_seed(seed)
    rig = LipRig()
    reference, shapes, target = all_pairs(held_out)

    def loss_of(step: int, example: Pairs) -> dict[str, Tensor]:
        known, heard, want = (t.to(run.device) for t in example)
        return {"points": 64 * (rig(known, heard) - want).abs().mean()}

    def on_save(step: int, ema: dict[str, Tensor]) -> dict[str, float]:
        copy = LipRig()
        copy.load_state_dict(ema)
        torch.save(ema, run.folder / "rig.pt")
        with torch.no_grad():
            return {
                "unseen": 64 * (copy(reference, shapes) - target).abs().mean().item(),
                "still": 64 * (reference[:, None] - target).abs().mean().item(),
            }

    train(run, rig, batches(clips, batch, seed), loss_of, on_save)
    return run.folder / "rig.pt"
