"""Speed and latency, measured on the session that everybody uses. docs/performance.md explains every figure."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .audio import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from .roofline import Rates, Work, count_work, synchronize

ENGINES = ("serial", "pipeline", "compiled")
STAGES = ("speech", "denoiser", "decoder", "viewer")
WARM_UP_SECONDS = 2.0  # of sound: every length of clip has then been made once
FIRST_FRAME_RUNS = 5
THROUGHPUT_RUNS = 3  # medians: neighbours on a shared machine come and go


def machine_name() -> str:
    """Processor, cores and threads that the figures belong to."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else name
    return f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def measure(session: Any, engine: str, precision: str, samples: Tensor, rates: Rates, work: dict[str, Work]) -> dict:
    """One row of the table under stable keys; see docs/performance.md.

    session: fresh or reset. work: of a frame, by stage, as `session_work` counts it.
    """
    threads, device = torch.get_num_threads(), str(session.device)
    if engine == "compiled":
        compile_session(session)
    try:
        if engine == "pipeline":
            torch.set_num_threads(1)  # as the pipeline's workers run
        _drain(session.chunks(_blocks(samples[: round(WARM_UP_SECONDS * SAMPLE_RATE)])))
        reset_peak_memory(device)
        # Stages and whole in turn, so that what slows one pass slows both.
        passes = [(stage_times(session, samples), throughput(session, samples, engine)) for _ in range(THROUGHPUT_RUNS)]
        stage_ms = {name: statistics.median(stages[name] for stages, _ in passes) for name in STAGES}
        fps = statistics.median(rate for _, rate in passes)
        waits = sorted((first_frames(session, samples) for _ in range(FIRST_FRAME_RUNS)), key=sum)
    finally:
        torch.set_num_threads(threads)
    algorithmic, compute = waits[FIRST_FRAME_RUNS // 2]
    floor_ms = {name: 1000 * one.floor_s(rates, precision) for name, one in work.items()}
    shares = [rate * max(stages[name] for name in STAGES[:3]) / 1000 for stages, rate in passes]
    return {
        "model": session.model.config.name,
        "resolution": session.portrait.size,
        "steps": len(session.timesteps),
        "precision": precision,
        "engine": engine,
        "device": device,
        "fps": fps,
        "first_frame_ms": algorithmic + compute + stage_ms["viewer"],
        "algorithmic_ms": algorithmic,
        "compute_ms": compute,
        "presentation_ms": stage_ms["viewer"],
        "stage_ms": stage_ms,
        "share_of_slowest_stage": statistics.median(shares),
        "peak_memory_mb": peak_memory_mb(device),
        "roofline_share": sum(floor_ms.values()) / sum(stage_ms[name] for name in floor_ms),
        "roofline_floor_ms": floor_ms,
    }


def throughput(session: Any, samples: Tensor, engine: str) -> float:
    """Frames a second, sound in to frames out, warm."""
    from .pipeline import Pipeline

    session.reset()
    started = time.perf_counter()
    source = Pipeline(session) if engine == "pipeline" else session
    made = sum(len(frames) for frames in source.chunks(_blocks(samples)))
    return made / (time.perf_counter() - started)


def stage_times(session: Any, samples: Tensor) -> dict[str, float]:
    """Milliseconds a frame that each stage takes by itself; viewer: JPEG, as the live preview sends it."""
    session.reset()
    spent, frames_made = dict.fromkeys(STAGES, 0.0), 0
    clips = session.clips(_blocks(samples))

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        synchronize(session.device)
        spent[stage] += time.perf_counter() - started
        return result

    while (clip := timed("speech", lambda: next(clips, None))) is not None:
        prediction = timed("denoiser", lambda clip=clip: session.denoise(clip))
        frames = timed("decoder", lambda clip=clip, made=prediction: session.decode(clip, made))
        timed("viewer", lambda frames=frames: encode_jpeg(frames))
        frames_made += len(frames)
    return {name: 1000 * seconds / frames_made for name, seconds in spent.items()}


def encode_jpeg(frames: Tensor) -> list[bytes]:
    """uint8 (n, H, W, 3) -> JPEG files of quality 85."""
    from PIL import Image

    files = []
    for frame in frames.numpy():
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def session_work(session: Any, samples: Tensor) -> dict[str, Work]:
    """Work of a frame in denoiser and decoder, counted on a float session and one of its longest clips."""
    session.reset()
    clips = [clip for clip in session.clips(_blocks(samples[: round(WARM_UP_SECONDS * SAMPLE_RATE)]))]
    clip = max(clips, key=lambda clip: len(clip.labels))
    model, count = session.model, len(clip.labels)
    session.denoise(clips[0])  # so that a past is there
    made: list[Any] = []
    works = {
        "denoiser": count_work(lambda: made.append(session.denoise(clip)), [model.denoising_unet]),
        "decoder": count_work(lambda: session.decode(clip, made[0]), [decoder_of(model)]),
    }
    session.reset()
    return {name: Work(one.operations / count, one.bytes / count) for name, one in works.items()}


def first_frames(session: Any, samples: Tensor) -> tuple[float, float]:
    """Sound is given a frame at a time until frames come out: (ms of sound that took, ms of computing then)."""
    session.reset()
    for k in range(1, len(samples) // SAMPLES_PER_FRAME):
        piece = samples[(k - 1) * SAMPLES_PER_FRAME : k * SAMPLES_PER_FRAME]
        started = time.perf_counter()
        if len(session.push(piece)):
            return 1000 * k / FPS, 1000 * (time.perf_counter() - started)
    raise ValueError(f"no frame came out of {len(samples) / SAMPLE_RATE:.1f} s of sound; give more seconds")


def compile_session(session: Any) -> None:
    """torch.compile of denoiser and decoder, in place: on CUDA with graphs, on a CPU by its C++ compiler (minutes when
    first used; torch keeps the result in its cache folder). Raises ValueError for integer layers on a CPU."""
    from .quantization import integer_layers

    cuda = session.device.type == "cuda"
    if not cuda and integer_layers(session.model):
        raise ValueError("INT8 on a CPU runs oneDNN's operators, which are not compiled; use another engine or float32")
    for module in (session.model.denoising_unet, decoder_of(session.model).decoder):
        compiled = torch.compile(module.forward, dynamic=False, **({"mode": "reduce-overhead"} if cuda else {}))
        # A graph writes its next results over its last ones: they are copied out.
        module.forward = _copying(compiled) if cuda else compiled


def _copying(compiled: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        out = compiled(*args, **kwargs)
        return out.clone() if isinstance(out, Tensor) else (out[0].clone(), [part.clone() for part in out[1]])

    return call


def decoder_of(model: Any) -> Any:
    """The autoencoder that decodes: a photoreal model may have a fast one for that."""
    return model.fast if getattr(model, "fast", None) is not None else model.autoencoder


def reset_peak_memory(device: str) -> None:
    """Begin to measure anew, where the system can (Linux, CUDA)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: str) -> float:
    """Most memory in use since `reset_peak_memory`: of the GPU's, or resident of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("VmHWM")) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start_up_s(precision: str = "float32") -> float:
    """Seconds from starting a Python process to its first frames of the bundled portrait."""
    code = (
        "from llia_core import *; from llia_core.benchmark import *; from llia_core.model.load import BUNDLED\n"
        f"session = Session(load_model(precision={precision!r}), prepare_portrait(read_image(BUNDLED.parent / "
        "'demo_portrait.png')))\nprint(first_frames(session, demo_samples(1.0)), flush=True)"
    )
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def demo_samples(seconds: float) -> Tensor:
    """The bundled speech, repeated to `seconds`, at 16 kHz."""
    from .audio import to_mono_16k
    from .media import read_audio

    speech = to_mono_16k(*read_audio(Path(__file__).parent / "assets" / "demo_speech.wav"))
    count = max(1, round(seconds * SAMPLE_RATE))
    return speech.repeat(-(-count // len(speech)))[:count]


def _blocks(samples: Tensor) -> Iterator[Tensor]:
    return (samples[i : i + SAMPLE_RATE] for i in range(0, len(samples), SAMPLE_RATE))


def _drain(chunks: Iterator[Tensor]) -> None:
    for _ in chunks:
        pass
