"""Speed and latency, measured on the session that everybody uses."""

import platform
import time
from pathlib import Path

import torch

from .audio import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME


def machine_name() -> str:
    """Processor, cores and threads that the figures belong to."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    import os

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else name
    return f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def measure(path: str | None, device: str, size: int, steps: int, seconds: float) -> dict:
    """One row: frames a second of a warm session, and the first frames' latency in its parts.

    algorithmic_ms: sound that must have arrived before the first chunk can be made. compute_ms: from the last needed
    sample to the first decoded frames. Presentation (to a viewer's screen) is not part of it.
    """
    from .media import read_image
    from .model.load import load_model
    from .portrait import prepare_portrait
    from .session import Session

    assets = Path(__file__).parent / "assets"
    samples = demo_samples(seconds)
    portrait = prepare_portrait(read_image(assets / "demo_portrait.png"), size)
    session = Session(load_model(path, device), portrait, steps)
    for _ in session.chunks(_blocks(samples[: 2 * SAMPLE_RATE])):
        pass  # warm-up: kernels are chosen, memory is allocated
    session.reset()
    started = time.perf_counter()
    made = sum(len(frames) for frames in session.chunks(_blocks(samples)))
    fps = made / (time.perf_counter() - started)
    waits = sorted(_first_frames(session, samples) for _ in range(5))
    return {
        "size": size,
        "steps": steps,
        "fps": fps,
        "algorithmic_ms": waits[2][0],
        "compute_ms": waits[2][1],
        "first_frame_ms": sum(waits[2]),
        "device": device,
    }


def _first_frames(session, samples: torch.Tensor) -> tuple[float, float]:
    """Sound is given a frame at a time until frames come out: (ms of sound that took, ms of computing then)."""
    session.reset()
    for k in range(1, len(samples) // SAMPLES_PER_FRAME):
        piece = samples[(k - 1) * SAMPLES_PER_FRAME : k * SAMPLES_PER_FRAME]
        started = time.perf_counter()
        if len(session.push(piece)):
            return 1000 * k / FPS, 1000 * (time.perf_counter() - started)
    raise ValueError(f"no frame came out of {len(samples) / SAMPLE_RATE:.1f} s of sound; give more seconds")


def demo_samples(seconds: float) -> torch.Tensor:
    """The bundled speech, repeated to `seconds`, at 16 kHz."""
    from .audio import to_mono_16k
    from .media import read_audio

    speech = to_mono_16k(*read_audio(Path(__file__).parent / "assets" / "demo_speech.wav"))
    count = max(1, round(seconds * SAMPLE_RATE))
    return speech.repeat(-(-count // len(speech)))[:count]


def _blocks(samples: torch.Tensor):
    return (samples[i : i + SAMPLE_RATE] for i in range(0, len(samples), SAMPLE_RATE))
