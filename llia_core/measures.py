"""Sharpness at the mouth, and signs of life (blinks, gaze, head), read from finished frames."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .audio import FPS, SAMPLE_RATE
from .face import FaceLandmarker, sample_region
from .model.avatar import Avatar
from .portrait import Portrait
from .session import FUTURE, PAST, Session
from .speech import EncodedSpeech
from .timeline import parse_timeline

BLINK = 0.5  # share of the median eye opening below which an eye is shut
LEFT_EYE = (33, 133, 159, 145, 468)  # outer and inner corner, upper and lower lid, iris
NOSE = 1


def mouth_regions(frames: Tensor, portrait: Portrait, uncropped: bool = False) -> Tensor:
    """uint8 (n, S, S, 3) -> the mouth region of each, (n, 3, R, R) in [-1, 1]; `uncropped`: of the source picture."""
    transform = portrait.transform.clone()
    if uncropped:
        x, y, side = portrait.box
        transform = transform * (side / portrait.size)
        transform[:, 2] += torch.tensor([x, y])
    images = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.stack([sample_region(i, transform, portrait.region.shape[-1]) for i in images])


def mouth_area(portrait: Portrait) -> Tensor:
    """(1, R, R): 1 where the lips, closed or open, and the chin's edge can be."""
    return F.max_pool2d(portrait.masks[None, :1], 17, 1, 8).roll(8, dims=2)[0]


def squared_error(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """Mean squared error of pictures (n, 3, R, R) where `weight` (1, R, R) is."""
    return float(((a - b).square() * weight).sum() / (weight.sum() * 3 * len(a)))


def told(shapes: Tensor, model: Avatar) -> EncodedSpeech:
    """The true mouth shapes (n, 7) in place of what the encoder would hear."""
    margin, config = PAST + FUTURE, model.speech.config
    padded = F.pad(shapes[:, None], (0, 0, 0, 0, margin, margin))
    return EncodedSpeech(padded, margin, torch.zeros(1, shapes.shape[1]), config)


@torch.inference_mode()
def sharpness(model: Avatar, cases: list, made: list[Tensor], steps: int) -> dict[str, float]:
    """PSNR in dB at the mouth against the rendered truth (`case.frames`), of what is between it and the viewer.

    Of the autoencoder alone, of the model told the true mouth shapes, of the model as it hears (`made`), of a still
    portrait.
    """
    errors: dict[str, list[float]] = {"vae": [], "true_motion": [], "heard": [], "still": []}
    for case, heard in zip(cases, made, strict=True):
        shapes = torch.from_numpy(case.utterance.articulation).float()
        samples = torch.from_numpy(case.utterance.samples)
        session = Session(model, case.portrait, steps, behaviour=0.0, encoder=told(shapes, model))
        moved = torch.cat(list(session.chunks([samples])))
        n = min(len(moved), len(case.frames), len(heard))
        true, area = mouth_regions(case.frames[:n], case.portrait, uncropped=True), mouth_area(case.portrait)
        coded = torch.cat([model.autoencoder.decode(model.autoencoder.encode(t)) for t in true.split(32)])
        errors["vae"].append(squared_error(coded, true, area))
        errors["true_motion"].append(squared_error(mouth_regions(moved[:n], case.portrait), true, area))
        errors["heard"].append(squared_error(mouth_regions(heard[:n], case.portrait), true, area))
        errors["still"].append(squared_error(case.portrait.region[None].expand_as(true), true, area))
    return {f"{name}_mouth_psnr_db": float(10 * np.log10(4 / np.mean(e))) for name, e in errors.items()}


def liveliness(model: Avatar, portrait: Portrait, landmarker: FaceLandmarker, seconds: float = 60.0) -> dict:
    """Blinks, gaze and head motion of an idle and of a listening avatar, with natural behaviour.

    blink_interval_variation is the standard deviation of the intervals over their mean: 0 is a clock, 1 pure chance.
    Gaze is in eye widths, head in distances between the eye's corners, both standard deviations.
    """
    figures = {}
    for state in ("idle", "listening"):
        session = Session(model, portrait, behaviour=1.0, seed=11, timeline=parse_timeline(f"0- {state}"))
        silence = torch.zeros(SAMPLE_RATE)
        points = []
        for frames in session.chunks(silence for _ in range(round(seconds))):
            for frame in frames:
                found = landmarker.detect(frame.permute(2, 0, 1).float() / 127.5 - 1)
                points.append(found[0] if found else points[-1])
        figures |= {f"{state}_{name}": value for name, value in signs_of_life(torch.stack(points)).items()}
    return figures


def signs_of_life(points: Tensor) -> dict[str, float]:
    """Landmarks of consecutive frames (n, 478, 3) -> blinks a minute, their irregularity, gaze and head movement."""
    outer, inner, upper, lower, iris = (points[:, i, :2] for i in LEFT_EYE)
    width = (outer - inner).norm(dim=1)
    opening = ((upper - lower).norm(dim=1) / width).numpy()
    shut = opening < BLINK * np.median(opening)
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) + 1
    intervals = np.diff(starts) / FPS
    look = ((iris - (outer + inner) / 2) / width[:, None])[~torch.from_numpy(shut)]
    head = points[:, NOSE, :2] / width.mean()
    return {
        "blinks_per_minute": len(starts) / len(points) * FPS * 60,
        "blink_interval_variation": float(intervals.std() / intervals.mean()) if len(intervals) > 1 else 0.0,
        "gaze_movement": float(look.std(0).norm()),
        "head_movement": float(head.std(0).norm()),
    }
