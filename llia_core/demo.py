"""The recordings in assets/ (scripts/make_demo_assets.py makes them)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .media import read_audio

ASSETS = Path(__file__).parent / "assets"
# name: file and channel
RECORDINGS = {
    "greeting": ("demo_speech.wav", 0),
    "conversation: avatar": ("demo_conversation.flac", 0),
    "conversation: visitor": ("demo_conversation.flac", 1),
}


def read_recording(name: str) -> tuple[Tensor, int]:
    """One of RECORDINGS -> ((1, N) float32, Hz)."""
    if name not in RECORDINGS:
        raise ValueError(f"there is no recording {name!r}, only {', '.join(RECORDINGS)}")
    file, channel = RECORDINGS[name]
    waveform, rate = read_audio(ASSETS / file)
    return waveform[channel : channel + 1], rate
