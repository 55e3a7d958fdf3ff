"""A picture of the states over time, with the sound that decided them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .audio import FPS, SAMPLES_PER_FRAME
from .states import STATE_NAMES

WIDTH, MARGIN = 1024, 12  # pixels
TRACK, BAND, AXIS = 56, 30, 22  # heights of a voice, of the states, of the seconds
BACKGROUND, INK, FAINT = (24, 26, 32), (226, 228, 232), (74, 78, 88)
COLOURS = ((98, 106, 122), (84, 160, 214), (244, 164, 84), (140, 140, 140))  # idle, listening, speaking, none
TICKS_S = (0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600)


def draw_states(labels: Sequence[int], samples: Tensor, other: Tensor | None = None) -> Tensor:
    """Labels a frame, (n,) samples of the own voice and of the other's at 16 kHz -> uint8 (height, WIDTH, 3)."""
    from PIL import Image, ImageDraw

    voices = [("voice", samples)] + ([("other", other)] if other is not None else [])
    height = 2 * MARGIN + len(voices) * TRACK + BAND + AXIS
    image = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    y = MARGIN
    for index, (name, sound) in enumerate(voices):
        _draw_sound(draw, y, sound, len(labels), COLOURS[2 - index])
        draw.text((MARGIN + 4, y), name, fill=INK)
        y += TRACK
    _draw_labels(draw, y, labels)
    _draw_seconds(draw, y + BAND, len(labels))
    return torch.from_numpy(np.array(image))


def _draw_sound(draw, top: int, samples: Tensor, frames: int, colour: tuple[int, int, int]) -> None:
    """Peaks of the sound, one bar a pixel, scaled so that the loudest fills the track."""
    columns = WIDTH - 2 * MARGIN
    levels = torch.zeros(frames * SAMPLES_PER_FRAME)
    count = min(len(samples), len(levels))
    levels[:count] = samples[:count].abs()
    peaks = torch.nn.functional.adaptive_max_pool1d(levels[None], columns)[0]
    peaks = (peaks / peaks.max().clamp_min(1e-3)).tolist()
    middle, half = top + TRACK // 2, TRACK // 2 - 4
    draw.line((MARGIN, middle, WIDTH - MARGIN, middle), fill=FAINT)
    for x, peak in enumerate(peaks, MARGIN):
        if peak * half >= 0.5:
            draw.line((x, middle - peak * half, x, middle + peak * half), fill=colour)


def _draw_labels(draw, top: int, labels: Sequence[int]) -> None:
    """Runs of a state as coloured bars, with the state's name where there is room."""
    start = 0
    for frame in range(1, len(labels) + 1):
        if frame < len(labels) and labels[frame] == labels[start]:
            continue
        left, right = _place(start, len(labels)), _place(frame, len(labels))
        draw.rectangle((left, top + 2, right - 1, top + BAND - 3), fill=COLOURS[labels[start]])
        name = STATE_NAMES[labels[start]]
        if draw.textlength(name) < right - left - 8:
            draw.text((left + 4, top + BAND // 2 - 6), name, fill=BACKGROUND)
        start = frame


def _draw_seconds(draw, top: int, frames: int) -> None:
    seconds = frames / FPS
    step = next((tick for tick in TICKS_S if seconds / tick <= 12), TICKS_S[-1])
    for index in range(int(seconds / step) + 1):
        x = _place(index * step * FPS, frames)
        draw.line((x, top, x, top + 4), fill=INK)
        draw.text((min(x + 3, WIDTH - 36), top + 4), f"{index * step:g} s", fill=INK)


def _place(frame: float, frames: int) -> float:
    return MARGIN + frame / max(frames, 1) * (WIDTH - 2 * MARGIN)
