"""What the two halves of classifier-free guidance read of portrait and motion frames, corrected or as Hallo v1 ships
it.

The shipped inference has three faults in the guided case: the ReferenceNet is given the image tokens of the two halves
in alternation, the denoiser's frames read the portrait's features of the two halves in alternation, and all features
are rounded to float16. `AS_SHIPPED` repeats them to compare with the original; the default corrects them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser
from .reference import ReferenceCache, ReferenceUNet, cache_features, map_sizes


@dataclass(frozen=True)
class Quirks:
    """Faults of the original to repeat. mixed_tokens: image tokens of the two halves alternate over portrait and motion
    frames. mixed_rows: the conditional half's frames read the portrait's features of the two halves in turn.
    half_bank: features are rounded to float16."""

    mixed_tokens: bool = False
    mixed_rows: bool = False
    half_bank: bool = False


CORRECTED = Quirks()
AS_SHIPPED = Quirks(mixed_tokens=True, mixed_rows=True, half_bank=True)


def guided_references(
    reference_unet: ReferenceUNet,
    denoiser: Denoiser,
    latents: Tensor,
    motion_latents: Tensor,
    tokens: Tensor,
    frames: int,
    quirks: Quirks,
) -> tuple[ReferenceCache, ReferenceCache]:
    """Caches of the unconditional and the conditional half for one clip, as a joint batch of both would give them.

    latents (1, c, h, w) of the portrait, motion_latents (1, m, c, h, w), tokens (2, t, d): image tokens of the two
    halves, the unconditional first. frames: of the clip.
    """
    rows = 1 + motion_latents.shape[1]
    both = latents.new_empty(2, rows, *latents.shape[1:])
    both[:, 0], both[:, 1:] = latents, motion_latents
    per_row = tokens.repeat(rows, 1, 1) if quirks.mixed_tokens else tokens.repeat_interleave(rows, dim=0)
    features, _ = reference_unet(both.flatten(0, 1), per_row)
    if quirks.half_bank:
        features = [feature.half().to(feature.dtype) for feature in features]
    sizes = map_sizes(features, latents.shape[-2:])
    halves = [cache_features(denoiser, [f[k * rows : (k + 1) * rows] for f in features], sizes, rows) for k in (0, 1)]
    if quirks.mixed_rows:
        # Row j = frames + f of the joint batch reads the portrait of half j mod 2.
        picks = [(frames + frame) % 2 for frame in range(frames)]
        for name in ("keys", "values"):
            pairs = zip(*(getattr(half, name) for half in halves), strict=True)
            setattr(halves[1], name, [torch.cat([pair[pick] for pick in picks]) for pair in pairs])
    return halves[0].without_reference(), halves[1]
