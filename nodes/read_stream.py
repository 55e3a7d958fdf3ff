"""Reading a stream inside ComfyUI: its progress bar moves, and its Cancel button stops within one chunk."""

from __future__ import annotations

from collections.abc import Iterator


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
