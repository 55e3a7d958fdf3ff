"""What a viewer would notice, measured on the frames: lip sync, closures, stillness, drift, seams.

Nothing is read from inside the model: the mouth's opening is what MediaPipe's landmarks say of a finished frame. The
same measures on the rendered truth and on a frozen face stand beside the model's.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .audio import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frame_energy, to_mono_16k
from .face import FaceLandmarker
from .measures import liveliness, sharpness
from .media import contact_sheet, read_audio, read_image, write_image
from .model.avatar import Avatar
from .model.load import load_model
from .portrait import Portrait, mouth_opening, prepare_portrait
from .session import Session
from .timeline import Timeline, parse_timeline

SIZE = 256
CLOSED = 0.018  # opening over eye distance below which lips look shut, above that of the resting portrait
FIRST_IDENTITY = 50_000  # seeds that training never draws


@dataclass
class Case:
    """An unseen identity and sentence: the portrait, the utterance, the rendered truth and the opening read from it."""

    portrait: Portrait
    utterance: object
    truth: np.ndarray
    rest: float
    frames: Tensor  # the rendered truth, uint8 (n, S, S, 3)


def portrait_case(samples: Tensor) -> Case:
    """The bundled portrait with any sound, for measures that need no truth."""
    from .model.load import BUNDLED
    from .training.synth.speech import Utterance

    portrait = prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), SIZE)
    utterance = Utterance(samples.numpy(), (), np.zeros((0, 7)), "", "")
    return Case(portrait, utterance, np.zeros(0), 0.0, torch.zeros(0, SIZE, SIZE, 3, dtype=torch.uint8))


class Reader:
    """Reads mouth openings off frames."""

    def __init__(self, landmarker: FaceLandmarker):
        self.landmarker = landmarker

    def __call__(self, frames: Tensor) -> np.ndarray:
        """uint8 (n, H, W, 3) -> openings (n,); a frame without a found face takes its neighbour's."""
        values: list[float] = []
        for frame in frames:
            found = self.landmarker.detect(frame.permute(2, 0, 1).float() / 127.5 - 1)
            values.append(mouth_opening(found[0]) if found else (values[-1] if values else 0.0))
        return np.array(values)


def evaluate_checkpoint(
    path: str | None, identities: int, steps: int, minutes: float, speech: list[str], sheet: str | None
) -> dict:
    """All figures under stable keys. Raises as load_model does."""
    model = load_model(path)
    with FaceLandmarker(max_faces=1) as landmarker:
        read = Reader(landmarker)
        cases = [make_case(read, seed) for seed in range(identities)]
        made = [run_session(model, c.portrait, torch.from_numpy(c.utterance.samples), steps) for c in cases]
        opened = [read(frames) for frames in made]
        still = stillness(model, cases, steps, read)
        figures = {
            "resolution": SIZE,
            "steps": steps,
            **sync_figures(cases, opened),
            **closure_figures(cases, opened),
            **sharpness(model, cases, made, steps),
            "idle_mouth_ratio": still[0] / float(np.mean([o.std() for o in opened])),
            "listening_mouth_ratio": still[1] / float(np.mean([o.std() for o in opened])),
            **drift_and_seams(model, cases[0], steps, minutes),
            **real_voices(model, cases[0], steps, speech, read),
            **liveliness(model, cases[0].portrait, landmarker),
        }
    if sheet:
        rows = [frames[:: max(1, len(frames) // 10)][:10] for frames in made]
        write_image(sheet, contact_sheet(torch.cat(rows), columns=10))
    return figures


def make_case(read: Reader, index: int) -> Case:
    """Identity, voice and sentence that training never saw, with the rendered truth's opening."""
    from .training.synth.portrait import ANIMATION, render, sample_identities
    from .training.synth.speech import random_utterance

    identity = sample_identities(1, torch.Generator().manual_seed(FIRST_IDENTITY + index))
    utterance = random_utterance(np.random.default_rng(FIRST_IDENTITY + index), held_out=True)
    animation = torch.zeros(1 + len(utterance.articulation), len(ANIMATION))
    animation[1:, :7] = torch.from_numpy(utterance.articulation)
    images = torch.cat([render(identity.expand(len(a)), a, size=SIZE, clip=True) for a in animation.split(32)])
    frames = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    opened = read(frames)
    return Case(prepare_portrait(images[0], SIZE), utterance, opened[1:], float(opened[0]), frames[1:])


def run_session(
    model: Avatar, portrait: Portrait, samples: Tensor, steps: int, timeline: Timeline | None = None
) -> Tensor:
    """uint8 (n, S, S, 3) with the head held still, so that only the mouth moves."""
    return torch.cat(list(Session(model, portrait, steps, behaviour=0.0, timeline=timeline).chunks([samples])))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; 0 if one of them does not move."""
    n = min(len(x), len(y))
    x, y = x[:n] - x[:n].mean(), y[:n] - y[:n].mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / scale) if scale > 1e-9 else 0.0


def sync_figures(cases: list[Case], opened: list[np.ndarray]) -> dict:
    """Opening against the truth, with the right and with another sentence's audio; the truth's own two for scale."""
    others = cases[1:] + cases[:1]
    return {
        "mouth_correlation": float(np.mean([correlation(o, c.truth) for o, c in zip(opened, cases, strict=True)])),
        "mouth_correlation_wrong_audio": float(
            np.mean([correlation(o, c.truth) for o, c in zip(opened, others, strict=True)])
        ),
        "mouth_correlation_truth_wrong_audio": float(
            np.mean([correlation(o.truth, c.truth) for o, c in zip(cases, others, strict=True)])
        ),
        "mouth_amplitude": float(np.mean([o.std() / c.truth.std() for o, c in zip(opened, cases, strict=True)])),
    }


def closure_figures(cases: list[Case], opened: list[np.ndarray]) -> dict:
    """Share of p, b, m in which the lips are seen shut: model, truth, and by chance (the same places, shifted)."""

    def share(values: list[np.ndarray], shift: int) -> float:
        shut = []
        for case, value in zip(cases, values, strict=True):
            for phoneme in case.utterance.phonemes:
                if phoneme.viseme == "m":
                    first = int(phoneme.start_s * FPS) + shift
                    last = max(first + 1, int(np.ceil(phoneme.stop_s * FPS)) + shift)
                    places = np.arange(first, last) % len(value)
                    shut.append(value[places].min() < case.rest + CLOSED)
        return float(np.mean(shut)) if shut else float("nan")

    truth = [case.truth for case in cases]
    return {
        "lip_closure": share(opened, 0),
        "lip_closure_truth": share(truth, 0),
        "lip_closure_chance": share(opened, 7),
    }


def stillness(model: Avatar, cases: list[Case], steps: int, read: Reader) -> tuple[float, float]:
    """Standard deviation of the opening while idle (silence), and while listening to another's speech."""
    idle, listening = [], []
    for case in cases[:3]:
        idle.append(read(run_session(model, case.portrait, torch.zeros(3 * SAMPLE_RATE), steps)).std())
        speech = torch.from_numpy(case.utterance.samples)[: 3 * SAMPLE_RATE]
        timeline = parse_timeline("0- listening")
        listening.append(read(run_session(model, case.portrait, speech, steps, timeline)).std())
    return float(np.mean(idle)), float(np.mean(listening))


def drift_and_seams(model: Avatar, case: Case, steps: int, minutes: float, kind: type[Session] = Session) -> dict:
    """A long session in which one sentence is repeated.

    PSNR against the portrait at its second saying and at its last but one (the same mouth shapes, so only drift
    differs), and the change of the mouth at clip joins over that elsewhere.
    """
    frames_each = len(case.utterance.samples) // SAMPLES_PER_FRAME
    speech = torch.from_numpy(case.utterance.samples[: frames_each * SAMPLES_PER_FRAME])
    session = kind(model, case.portrait, steps, behaviour=0.0)
    times = max(3, round(minutes * 60 * FPS / frames_each))
    x, y = case.portrait.landmarks[[61, 291, 13, 152], :2].mean(0).round().int().tolist()
    mouth = (slice(max(0, y - 60), y + 60), slice(max(0, x - 60), x + 60))
    errors, joins, inside, last = [], [], [], None
    for frames in session.chunks(speech for _ in range(times)):
        images = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        errors += (images - case.portrait.image).square().mean((1, 2, 3)).tolist()
        crop = images[:, :, mouth[0], mouth[1]]
        if last is not None:
            joins.append(float((crop[0] - last).abs().mean()))
        inside += (crop[1:] - crop[:-1]).abs().mean((1, 2, 3)).tolist()
        last = crop[-1]
    # The first saying starts cold and the last ends in silence: the second and the last but one are compared.
    said = [errors[k * frames_each : (k + 1) * frames_each] for k in (1, times - 2)]
    decibel = [10 * np.log10(4 / max(np.mean(e), 1e-9)) for e in said]
    return {
        "identity_drift_db": float(decibel[0] - decibel[1]),
        "identity_minutes": len(errors) / FPS / 60,
        "seam_ratio": float(np.mean(joins) / np.mean(inside)),
    }


def real_voices(model: Avatar, case: Case, steps: int, paths: list[str], read: Reader) -> dict:
    """Opening against the energy envelope of recorded voices, and how far the mouth moves in their pauses."""
    if not paths:
        return {}
    follows, pauses = [], []
    for path in paths:
        samples = to_mono_16k(*read_audio(path))
        opened = read(run_session(model, case.portrait, samples, steps))
        energy = frame_energy(samples[: len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]).numpy()
        smooth = np.convolve(energy, np.ones(3) / 3, mode="same")
        follows.append(correlation(opened, smooth))
        silent = smooth[: len(opened)] < 0.1
        if silent.any():
            pauses.append(float((opened[: len(silent)][silent] - case.rest).clip(0).mean() / opened.std()))
    figures = {"real_voice_correlation": float(np.mean(follows))}
    return figures | ({"real_voice_pause_opening": float(np.mean(pauses))} if pauses else {})
