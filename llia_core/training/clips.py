"""Training clips: one interface for procedural portraits and for folders of real videos; shards on disk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..lips import STATIONS
from ..session import FUTURE, PAST
from ..speech import SpeechConfig

SHARD = 32  # clips a file


@dataclass
class Clip:
    """One clip of the mouth region, at the head pose of its reference.

    reference: (3, R, R) uint8, the region of the portrait. masks: (2, R, R) uint8, lips and face in it.
    frames: (F, 3, R, R) uint8. articulation: (F + 4, 7) float16, two frames more on either side; NaN where the truth is
    unknown (real video). samples: float16, the sound from `audio_span` before the first frame to after the last.
    label: () int64, the state (states.py). points: (F + 1, K, 2) float16, true places of lip edges and chin in the
    reference and the frames, in region coordinates; NaN where unknown.
    """

    reference: Tensor
    masks: Tensor
    frames: Tensor
    articulation: Tensor
    samples: Tensor
    label: Tensor
    points: Tensor


def audio_span(config: SpeechConfig) -> tuple[int, int]:
    """Frames of sound a clip carries before its first and after its last frame."""
    return PAST + config.context, FUTURE + config.lookahead


def stack(clips: list[Clip]) -> Clip:
    return Clip(**{f.name: torch.stack([getattr(c, f.name) for c in clips]) for f in fields(Clip)})


def save_shard(clips: list[Clip], folder: Path, index: int) -> None:
    """Write clips as one safetensors file; readers never see half of it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    whole = stack(clips)
    temporary = folder / f"{index:06d}.part"
    save_file({f.name: getattr(whole, f.name).contiguous() for f in fields(Clip)}, temporary)
    temporary.replace(folder / f"{index:06d}.safetensors")


class ClipFolder:
    """All shards of a folder in memory. A producer may go on adding shards: they are taken in as they appear."""

    def __init__(self, folder: Path, most: int = 8192):
        self.folder, self.most = Path(folder), most
        self._seen: set[str] = set()
        self.shards: list[Clip] = []

    def refresh(self, wait_s: float = 0.0) -> int:
        """Take in new shards; waits up to `wait_s` for the first one. Returns the number of clips."""
        from safetensors.torch import load_file

        deadline = time.monotonic() + wait_s
        while True:
            for path in sorted(self.folder.glob("*.safetensors")):
                if path.name not in self._seen and len(self) < self.most:
                    self._seen.add(path.name)
                    self.shards.append(Clip(**load_file(path)))
            if self.shards or time.monotonic() >= deadline:
                break
            time.sleep(1)
        if not self.shards:
            raise FileNotFoundError(f"{self.folder} holds no clips; make them first: python -m llia_core train clips")
        return len(self)

    def __len__(self) -> int:
        return sum(len(shard.label) for shard in self.shards)

    def batches(self, size: int, seed: int) -> Iterator[Clip]:
        """Random clips without end, as one Clip with a batch dimension."""
        rng = np.random.default_rng(seed)
        step = 0
        while True:
            if step % 50 == 0:
                self.refresh(wait_s=600)
            step += 1
            picks = []
            for _ in range(size):
                shard = self.shards[rng.integers(len(self.shards))]
                row = int(rng.integers(len(shard.label)))
                picks.append(Clip(**{f.name: getattr(shard, f.name)[row] for f in fields(Clip)}))
            yield stack(picks)


def as_measured(lips: Tensor, generator: torch.Generator) -> Tensor:
    """True curves (b, 37, 2) as landmarks would have them: every edge a little off, corners drawn in, the chin more."""
    b = len(lips)

    def random(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(b, *shape, generator=generator)

    edges, chin = lips[:, :-1].unflatten(1, (4, STATIONS)), lips[:, -1:] + random(0.04, 1, 2)
    # Outer and inner edge of a lip err by much the same.
    edges = edges + random(0.010, 1, 1, 2) + random(0.006, 4, 1, 2)
    x, y = edges.unbind(-1)
    middle = x.mean(2, keepdim=True)
    x = middle + (x - middle) * (0.96 + random(0.05, 1, 1))
    return torch.cat((torch.stack((x, y), dim=-1).flatten(1, 2), chin), dim=1)


def mirrored(points: Tensor) -> Tensor:
    """Lip curves (..., 37, 2) of the mirrored picture: edges still run from left to right."""
    edges = points[..., :-1, :].unflatten(-2, (4, STATIONS)).flip(-2).flatten(-3, -2)
    return torch.cat((edges, points[..., -1:, :]), dim=-2) * torch.tensor([-1.0, 1.0])


def vary(clip: Clip, generator: torch.Generator) -> Clip:
    """Another light, camera and side: random colour matrix, contrast, mirror, the same for reference and frames."""
    n = clip.label.shape[0]

    def random(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    matrix = torch.eye(3) + random(-0.12, 0.12, 3, 3)
    matrix = matrix * random(0.65, 1.25, 1, 1) * random(0.9, 1.1, 3, 1)
    # Drawings, statues, old photographs: sometimes hardly any colour, or none.
    fade = torch.where(random(0, 1, 1, 1) < 0.2, random(0, 0.5, 1, 1), torch.ones(n, 1, 1))
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    matrix = matrix @ (fade * torch.eye(3) + (1 - fade) * grey)
    offset, gamma = random(-0.08, 0.12, 3, 1) * fade, random(0.75, 1.35, 1, 1)
    mirror = torch.rand(n, generator=generator) < 0.5

    def recolour(images: Tensor) -> Tensor:
        shape = images.shape  # (n, ..., 3, R, R)
        x = images.float().div(255).reshape(n, -1, 3, shape[-2] * shape[-1])
        x = (x.clamp_min(1e-3) ** gamma[:, None]).transpose(1, 2).reshape(n, 3, -1)
        x = (matrix @ x + offset).clamp(0, 1)
        x = x.reshape(n, 3, -1, shape[-2] * shape[-1]).transpose(1, 2).reshape(shape)
        return flip(x * 2 - 1)

    def flip(images: Tensor) -> Tensor:
        pick = mirror.view(n, *(1,) * (images.dim() - 1))
        return torch.where(pick, images.flip(-1), images)

    masks = flip(clip.masks.float() / 255)
    return replace(
        clip,
        reference=recolour(clip.reference),
        masks=masks,
        frames=recolour(clip.frames),
        points=torch.where(mirror[:, None, None, None], mirrored(clip.points.float()), clip.points.float()),
    )
