"""Procedural clips without end: a new face every time, a random sentence, its mouth region rendered frame by frame."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...audio import SAMPLES_PER_FRAME
from ...face import FaceLandmarker, mouth_region
from ...masks import region_masks
from ...speech import SpeechConfig, tiny_speech_config
from ...states import IDLE, LISTENING, SPEAKING
from ..audio_encoder import REST, SpeechPool, cut
from ..clips import FUTURE, PAST, SHARD, Clip, audio_span, save_shard
from .portrait import ANIMATION, Identities, lip_points, render, sample_identities
from .speech import silence

PORTRAIT = 256  # pixels at which a portrait is rendered for its landmarks
_MOUTH = 7  # the first animation parameters are the articulation


def make_clips(folder: Path, count: int, seed: int, frames: int = 8, size: int = 128, utterances: int = 700) -> None:
    """Render `count` clips into shards of `folder`; shards that are there already are kept.

    Every shard has its own seed, so that the same faces come whichever were there. Sounds may differ in the last bits:
    espeak-ng keeps a little state between sentences.
    """
    from tqdm import tqdm

    names = {index: seed * 10_000 + index for index in range(-(-count // SHARD))}
    missing = [index for index, name in names.items() if not (folder / f"{name:06d}.safetensors").is_file()]
    if not missing:
        return
    pool, config = SpeechPool(utterances, seed + 100), tiny_speech_config()
    with FaceLandmarker() as landmarker:
        for index in tqdm(missing, desc="clips", unit="shard"):
            rng, generator = np.random.default_rng(names[index]), torch.Generator().manual_seed(names[index])
            clips: list[Clip] = []
            while len(clips) < min(SHARD, count - index * SHARD):
                clip = _one(landmarker, pool, config, rng, generator, frames=frames, size=size)
                if clip is not None:
                    clips.append(clip)
            save_shard(clips, folder, names[index])


def _one(
    landmarker: FaceLandmarker,
    pool: SpeechPool,
    config: SpeechConfig,
    rng: np.random.Generator,
    generator: torch.Generator,
    *,
    frames: int,
    size: int,
) -> Clip | None:
    """A clip of a new face, or None where no face is found in its picture."""
    identity = sample_identities(1, generator)
    still = resting_animation(rng)
    found = landmarker.detect(render(identity, still[None], size=PORTRAIT)[0])
    if not found:
        return None
    transform = _jitter(mouth_region(found[0]), rng)
    samples, track, label = _speech(pool, config, rng, frames)
    moving = still.repeat(frames + 1, 1)
    moving[1:, :_MOUTH] = torch.from_numpy(track[PAST : PAST + frames])
    images = render_region(identity, moving, transform, size)
    return Clip(
        reference=images[0],
        masks=_bytes(region_masks(found[0], transform, size)),
        frames=images[1:],
        articulation=torch.from_numpy(track).half(),
        samples=torch.from_numpy(samples).half(),
        label=torch.tensor(label),
        points=to_region(lip_points(identity.expand(frames + 1), moving) * PORTRAIT, transform).half(),
    )


def resting_animation(rng: np.random.Generator) -> Tensor:
    """(A,) a reference's own expression: mostly a closed mouth, often a slight smile, sometimes an open mouth."""
    still = torch.zeros(len(ANIMATION))
    place = {name: i for i, name in enumerate(ANIMATION)}
    still[place["press"]] = 0.1
    if rng.random() < 0.25:
        still[:_MOUTH] = torch.tensor(
            [rng.beta(1, 2.5), rng.uniform(-0.5, 0.8), rng.beta(1, 4), 0, rng.beta(1, 2), 0, 0], dtype=torch.float32
        )
    still[place["smile"]] = float(np.clip(rng.normal(0.15, 0.25), -0.5, 1))
    still[place["yaw"]], still[place["pitch"]] = float(rng.normal(0, 0.08)), float(rng.normal(0, 0.06))
    still[place["roll"]] = float(rng.normal(0, 0.05))
    return still


def _speech(pool: SpeechPool, config: SpeechConfig, rng, frames: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Samples, articulation (frames + 4, 7) and state label of one clip."""
    before, after = audio_span(config)
    label = int(rng.choice((SPEAKING, LISTENING, IDLE), p=(0.86, 0.08, 0.06)))
    total = before + frames + after
    if label == IDLE:
        samples, track = cut(silence(total / 25, rng), 0, total)
    else:
        # The wider open of two places: open mouths are rare in speech and the hardest to draw.
        samples, track = max((pool.window(rng, total) for _ in range(2)), key=lambda window: window[1][:, 0].max())
    if label == LISTENING:  # somebody else is heard
        track = np.tile(np.array(REST, np.float32), (len(track), 1))
    return samples[: total * SAMPLES_PER_FRAME], track[before - PAST : before + frames + FUTURE], label


def _jitter(transform: Tensor, rng) -> Tensor:
    """Landmarks are never exact: shift, turn and scale the region a little."""
    angle, scale = rng.normal(0, 0.03), 1 + rng.normal(0, 0.03)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32) * scale
    shift = transform[:, :2] @ torch.tensor(rng.normal(0, 0.03, 2), dtype=torch.float32)
    return torch.cat([transform[:, :2] @ turn, (transform[:, 2] + shift)[:, None]], 1)


def render_region(identity: Identities, animation: Tensor, transform: Tensor, size: int) -> Tensor:
    """(n, 3, size, size) uint8: the mouth region of one identity, rendered at its own resolution."""
    window = (transform / PORTRAIT)[None].expand(len(animation), -1, -1)
    images = render(identity.expand(len(animation)), animation, window, size, clip=True)
    return _bytes(images * 0.5 + 0.5)


def to_region(points: Tensor, transform: Tensor) -> Tensor:
    """Pixels (..., 2) of the portrait -> region coordinates."""
    return (points - transform[:, 2]) @ torch.linalg.inv(transform[:, :2]).T


def _bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
