"""Files in and out: sound (PyAV) and pictures (Pillow) of any common kind to tensors, pictures to files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .video import VideoWriter, partial_file

__all__ = ["VideoWriter", "contact_sheet", "existing_file", "read_audio", "read_image", "write_image"]

MAX_SIDE = 2048  # px, larger pictures are reduced: more detail than any output shows
TRANSPARENT_GREY = 128  # what is seen through transparent pixels


def existing_file(path: str | Path, kind: str) -> Path:
    """The path, if it is a file with something in it; FileNotFoundError or ValueError naming it otherwise."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected {kind} file")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected {kind} file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), expected {kind} file")
    return path


def read_audio(path: str | Path) -> tuple[torch.Tensor, int]:
    """The first sound track of an audio or video file, at its own rate and with its own channels.

    Returns ((C, N) float32, nominally in [-1, 1], Hz). Raises FileNotFoundError for a missing file, ValueError for an
    empty or broken one, or one without sound.
    """
    import av

    path = existing_file(path, "an audio or video")
    pieces: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound track")
            stream = container.streams.audio[0]
            rate, resampler = stream.rate, None
            for frame in container.decode(stream):
                # Fixed to the first frame's layout and rate: some streams change them on the way.
                resampler = resampler or av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                pieces += [converted.to_ndarray() for converted in resampler.resample(frame)]
            if resampler is not None:
                pieces += [converted.to_ndarray() for converted in resampler.resample(None)]
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as sound ({error.strerror}); convert it to WAV, FLAC or MP3"
        ) from error
    length = sum(piece.shape[1] for piece in pieces)
    if length == 0:
        raise ValueError(f"{path} has a sound track of zero length")
    waveform = np.empty((pieces[0].shape[0], length), dtype=np.float32)
    pieces.reverse()
    start = 0
    while pieces:  # each piece is freed once copied: an hour of sound is held once, not twice
        piece = pieces.pop()
        waveform[:, start : start + piece.shape[1]] = piece
        start += piece.shape[1]
    return torch.from_numpy(waveform), rate


def read_image(path: str | Path, max_side: int = MAX_SIDE) -> torch.Tensor:
    """A picture as (3, H, W) float32 RGB in [-1, 1], upright (EXIF), at most `max_side` pixels long.

    Grey, 16-bit, palette, CMYK and transparent pictures are converted; transparent parts turn neutral grey. Raises
    FileNotFoundError for a missing file, ValueError for an empty or broken one or one that is not a picture.
    """
    from PIL import Image, ImageOps

    path = existing_file(path, "an image")
    try:
        with Image.open(path) as image:
            image.draft(None, (max_side, max_side))  # JPEG only: decodes a huge picture at a fraction of its size
            rgb = _to_rgb(ImageOps.exif_transpose(image), max_side)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} has too many pixels ({error}); reduce it to {max_side} px first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); convert it to PNG or JPEG") from error
    return rgb.permute(2, 0, 1).float().div_(127.5).sub_(1).contiguous()


def _to_rgb(image, max_side: int) -> torch.Tensor:
    """A Pillow image of any mode, reduced with antialiasing -> uint8 (H, W, 3)."""
    from PIL import Image

    if image.mode[0] in "IF":  # 16-bit, 32-bit and float grey
        image = _eight_bit(image)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    # Palettes cannot be averaged, and transparent pixels must be weighted by their alpha: hence first the mode.
    image = image.convert("RGBA" if transparent else "RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if transparent:
        backdrop = Image.new("RGBA", image.size, (TRANSPARENT_GREY,) * 3 + (255,))
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    return torch.from_numpy(np.array(image))


def _eight_bit(image):
    """Grey of more than 8 bits -> 8 bits; integers are taken as 16-bit unless they all fit in 8, floats as [0, 1]."""
    from PIL import Image

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("pixels are NaN or infinite")
    top = float(values.max(initial=0))
    if image.mode.startswith("I;16"):
        scale = 65535.0
    else:
        scale = next((limit for limit in ((1.0,) if image.mode == "F" else ()) + (255.0, 65535.0) if top <= limit), top)
    return Image.fromarray((values / np.float32(scale) * 255 + 0.5).clip(0, 255).astype(np.uint8))


def write_image(path: str | Path, image: torch.Tensor) -> None:
    """Write (3, H, W) floating point in [-1, 1], or uint8 (H, W, 3), as what the suffix names: PNG, JPEG, WebP."""
    from PIL import Image

    path = Path(path)
    if image.is_floating_point():
        image = image.detach().cpu().float().permute(1, 2, 0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    partial = partial_file(path)
    try:
        Image.fromarray(image.cpu().numpy()).save(partial, quality=95)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def contact_sheet(frames: torch.Tensor, columns: int = 8, gap: int = 4) -> torch.Tensor:
    """Frames row by row on white: uint8 (n, H, W, 3) -> uint8 (rows * (H + gap), columns * (W + gap), 3)."""
    count, height, width, _ = frames.shape
    if count == 0:
        raise ValueError("contact sheet of no frames asked for")
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = torch.full((rows * (height + gap), columns * (width + gap), 3), 255, dtype=torch.uint8)
    for index, frame in enumerate(frames.cpu()):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet
