"""Training clips for photoreal models, cut from folders of real talking-head videos and kept as latents.

Every file is read at 25 fps and cropped once, round the face of its first frame, so that the head moves in the picture
as in use. What a frozen part of the model would compute again in every step (latents, speech features) is kept instead
of pixels and sound.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ..audio import frame_count, to_mono_16k
from ..face import FaceLandmarker, crop_portrait
from ..media import read_audio
from ..photoreal.model import Photoreal
from ..session import FUTURE, PAST
from ..states import label_audio
from .video_folder import find_videos, frames_at_25_fps

FRAMES = 16  # of a clip
MOTION = 2  # frames before it


@dataclass
class PortraitClip:
    """One clip. reference: (c, h, w) latents of another frame of the same video. motion: (2, c, h, w), the frames
    before. latents: (f, c, h, w). features: (f + 4, layers, channels) of speech, two frames more on either side.
    landmarks: (478, 3) of the reference, pixels of the picture. labels: (f,) int64 states."""

    reference: Tensor
    motion: Tensor
    latents: Tensor
    features: Tensor
    landmarks: Tensor
    labels: Tensor


@torch.inference_mode()
def cut_portrait_clips(videos: Path, output: Path, model: Photoreal, size: int, frames: int = FRAMES) -> int:
    """Cut all videos below `videos` into clips of `frames` frames of size x size pixels, a file each, in `output`.

    Returns the number of clips. A video whose first frame has not exactly one face is left out, as is one shorter than
    a clip. Raises FileNotFoundError where no video is found, ValueError where none gave a clip.
    """
    from safetensors.torch import save_file
    from tqdm import tqdm

    output.mkdir(parents=True, exist_ok=True)
    made = 0
    with FaceLandmarker(max_faces=2) as landmarker:
        for path in tqdm(find_videos(videos), unit="video"):
            for clip in _clips_of(path, landmarker, model, size, frames):
                temporary = output / f"{made:06d}.part"
                save_file({f.name: getattr(clip, f.name).contiguous() for f in fields(clip)}, temporary)
                temporary.replace(output / f"{made:06d}.safetensors")
                made += 1
    if not made:
        raise ValueError(
            f"no video in {videos} gave a clip: each needs one face in its first frame and more than "
            f"{frames + MOTION} frames ({(frames + MOTION) / 25:.1f} s)"
        )
    return made


def _clips_of(
    path: Path, landmarker: FaceLandmarker, model: Photoreal, size: int, frames: int
) -> Iterator[PortraitClip]:
    samples = to_mono_16k(*read_audio(path))
    labels, features = label_audio(samples), model.speech.encode_all(samples, PAST, FUTURE)
    device, dtype = model.compute_device, model.compute_dtype
    first, run, box = None, [], None
    for index, image in enumerate(frames_at_25_fps(path)):
        if index == 0:
            found = landmarker.detect(image)
            if len(found) != 1 or frame_count(len(samples)) <= frames + MOTION:
                return
            first, landmarks, _ = crop_portrait(image, found[0], size)
            box = found[0]
            reference = model.encode(first[None].to(device, dtype))[0]
            continue
        if index >= len(labels):
            return
        run.append(model.encode(crop_portrait(image, box, size)[0][None].to(device, dtype))[0])
        if len(run) == frames + MOTION:
            begin = index - frames + 1
            latents = torch.stack(run).half().cpu()
            heard = features[begin : begin + frames + PAST + FUTURE].half()
            yield PortraitClip(
                reference.half().cpu(), latents[:MOTION], latents[MOTION:], heard, landmarks.float(),
                torch.tensor(labels[begin : begin + frames]),
            )  # fmt: skip
            run = run[frames:]  # its last frames are the motion frames of the next


class PortraitClips:
    """All clips of a folder, read when they are drawn. Raises FileNotFoundError where there is none."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(Path(folder).glob("*.safetensors"))
        if not self.files:
            raise FileNotFoundError(f"{folder} holds no clips: give a folder of videos with --videos")

    def random(self, seed: int) -> Iterator[PortraitClip]:
        """Clips in random order, without end."""
        from safetensors.torch import load_file

        generator = torch.Generator().manual_seed(seed)
        while True:
            for index in torch.randperm(len(self.files), generator=generator).tolist():
                yield PortraitClip(**load_file(self.files[index]))
