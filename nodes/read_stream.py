"""Reading a stream inside ComfyUI: its progress bar moves, and its Cancel button stops within one chunk."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def read_stream(stream) -> Iterator:
    """The stream's chunks. Raises ComfyUI's InterruptProcessingException soon after the user cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar = ProgressBar(stream.frames)
    for chunk in stream.chunks():
        throw_exception_if_processing_interrupted()
        yield chunk
        bar.update_absolute(chunk.start + len(chunk.frames), stream.frames)
        throw_exception_if_processing_interrupted()


def playable_channels(stream) -> int:
    """1 or 2, which is what video files and the player take."""
    return min(2, stream.channels)


def playable_sound(sound: Tensor) -> Tensor:
    """(C, n) -> the same, or of more than two channels the mean on both of two."""
    return sound if sound.shape[0] <= 2 else sound.mean(0, keepdim=True).expand(2, -1)
