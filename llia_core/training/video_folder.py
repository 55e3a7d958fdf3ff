"""Clips from folders of real talking-head videos (MEAD and the like), with the interface of the procedural ones.

Every file is read at 25 fps; the mouth region is taken at the head pose of its own frame, which undoes head motion. The
true articulation is unknown there (NaN): training then listens with the speech encoder.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio import FPS, SAMPLES_PER_FRAME, to_mono_16k
from ..face import FaceLandmarker, mouth_region, sample_region
from ..masks import region_masks
from ..media import read_audio
from ..speech import tiny_speech_config
from ..states import label_audio
from .clips import FUTURE, PAST, SHARD, Clip, audio_span, save_shard
from .synth.clips import to_region

# The face mesh's lip edges from the picture's left corner to its right one, then the chin, as synth's lip_points.
EDGES = (
    *(61, 40, 39, 37, 0, 267, 269, 270, 291),
    *(78, 80, 81, 82, 13, 312, 311, 310, 308),
    *(78, 88, 178, 87, 14, 317, 402, 318, 308),
    *(61, 91, 181, 84, 17, 314, 405, 321, 291),
    152,
)
SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")


def cut_clips(folder: Path, output: Path, frames: int = 8, size: int = 128, stride: int = 8) -> int:
    """Cut all videos below `folder` into shards in `output`; returns the number of clips.

    Frames without exactly one found face break a clip. Raises FileNotFoundError where no video is found.
    """
    from tqdm import tqdm

    videos = find_videos(folder)
    clips: list[Clip] = []
    shards = made = 0
    with FaceLandmarker(max_faces=2) as landmarker:
        for path in tqdm(videos, unit="video"):
            for clip in _clips_of(path, landmarker, frames, size, stride):
                clips.append(clip)
                made += 1
                if len(clips) == SHARD:
                    save_shard(clips, output, shards)
                    clips, shards = [], shards + 1
    if clips:
        save_shard(clips, output, shards)
    return made


def find_videos(folder: str | Path) -> list[Path]:
    """All videos below `folder`. Raises FileNotFoundError if there is none."""
    videos = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not videos:
        raise FileNotFoundError(
            f"{folder} holds no video ({', '.join(SUFFIXES)}); expected files with a face and sound"
        )
    return videos


def _clips_of(path: Path, landmarker: FaceLandmarker, frames: int, size: int, stride: int) -> Iterator[Clip]:
    samples = to_mono_16k(*read_audio(path))
    labels = label_audio(samples)
    before, after = audio_span(tiny_speech_config())
    sound = torch.nn.functional.pad(samples, (before * SAMPLES_PER_FRAME, (after + 1) * SAMPLES_PER_FRAME))
    run: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, image in enumerate(frames_at_25_fps(path)):
        found = landmarker.detect(image)
        if len(found) != 1 or index >= len(labels):
            run = []
            continue
        transform = mouth_region(found[0])
        points = to_region(found[0][list(EDGES), :2], transform)
        run.append((sample_region(image, transform, size), region_masks(found[0], transform, size), points))
        if len(run) == frames + 1:  # the first is the reference
            start = index - frames + 1
            first = start * SAMPLES_PER_FRAME  # `sound` begins `before` frames early
            heard = sound[first : first + (before + frames + after) * SAMPLES_PER_FRAME]
            yield _clip(run, heard, labels[start : start + frames])
            run = run[stride:]


def _clip(run: list[tuple[Tensor, Tensor, Tensor]], sound: Tensor, labels: list[int]) -> Clip:
    """Region, masks and points of the reference and the frames, their sound and labels -> a clip."""
    images = ((torch.stack([image for image, *_ in run]) + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return Clip(
        reference=images[0],
        masks=(run[0][1] * 255).round().to(torch.uint8),
        frames=images[1:],
        articulation=torch.full((len(labels) + PAST + FUTURE, 7), float("nan")).half(),
        samples=sound.half(),
        label=torch.tensor(int(np.bincount(labels).argmax())),
        points=torch.stack([points for *_, points in run]).half(),
    )


def frames_at_25_fps(path: Path) -> Iterator[Tensor]:
    """Frames at 25 fps: the nearest earlier one of the file, (3, H, W) in [-1, 1]."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        count = 0
        for frame in container.decode(stream):
            seconds = float(frame.pts * stream.time_base) if frame.pts is not None else count / FPS
            while count / FPS <= seconds + 1e-6:
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                yield picture.float() / 127.5 - 1
                count += 1
