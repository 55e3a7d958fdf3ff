"""The pack's sockets, and the way between ComfyUI's tensors and the core's."""

from __future__ import annotations

from dataclasses import fields

import torch
from comfy_api.latest import io

LliaModel = io.Custom("LLIA_MODEL")  # llia_core.model.avatar.Avatar
LliaPortrait = io.Custom("LLIA_PORTRAIT")  # llia_core.portrait.Portrait
LliaSpeech = io.Custom("LLIA_SPEECH")  # llia_core.stream.Speech
LliaStates = io.Custom("LLIA_STATES")  # llia_core.stream.States
LliaStream = io.Custom("LLIA_STREAM")  # llia_core.stream.Stream


def llia_schema(**parts) -> io.Schema:
    """io.Schema in our category. Parts that an older ComfyUI does not know (search_aliases) are left out there."""
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(category="LLIA", **{name: value for name, value in parts.items() if name in known})


def picture_from_image(image: torch.Tensor) -> torch.Tensor:
    """IMAGE (1, H, W, 3 or 4) in [0, 1] -> (3, H, W) in [-1, 1]. Raises ValueError for several pictures."""
    if image.shape[0] != 1:
        raise ValueError(f"Got {image.shape[0]} pictures, expected one: choose it with the node ImageFromBatch.")
    return (image[0, :, :, :3].permute(2, 0, 1).float().cpu() * 2 - 1).clamp(-1, 1).contiguous()


def image_from_picture(picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W) in [-1, 1] -> IMAGE (1, H, W, 3) in [0, 1]."""
    return ((picture.float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 0)[None].contiguous()


def image_from_frames(frames: torch.Tensor) -> torch.Tensor:
    """uint8 (n, H, W, 3) -> IMAGE (n, H, W, 3) in [0, 1]."""
    return frames.float().div_(255)


def sound_from_audio(audio: dict | None) -> tuple[torch.Tensor, int]:
    """AUDIO -> (waveform (C, N), sample rate in Hz). Raises ValueError for none or several sounds."""
    if audio is None or "waveform" not in audio:
        raise ValueError(
            "There is no sound: the node before gave none, as Load Video does for a silent video. Connect one with "
            "sound, or LLIA Demo Speech."
        )
    waveform = audio["waveform"]
    if waveform.dim() != 3 or waveform.shape[0] != 1:
        raise ValueError(
            f"Got sound of shape {tuple(waveform.shape)}, expected one recording (1, channels, samples): take one out "
            "of the batch first."
        )
    return waveform[0], int(audio["sample_rate"])


def audio_from_sound(waveform: torch.Tensor, sample_rate: int) -> dict:
    """(C, N) and Hz -> AUDIO."""
    return {"waveform": waveform[None], "sample_rate": sample_rate}


def progress():
    """on_progress(done, total) that moves ComfyUI's progress bar and raises when the user cancels."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar = ProgressBar(1)

    def report(done: int, total: int) -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return report
