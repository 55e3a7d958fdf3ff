"""The `bench` table: models x resolutions x steps x precisions x engines, one row each.

llia-tiny is measured as bundled. llia-sd15 is measured with random weights of the real geometry, since none are
bundled: how fast a network runs does not depend on its weights' values. What cannot run here is named with its reason.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .benchmark import ENGINES, demo_samples, machine_name, measure, session_work, start_up_s
from .model.config import NAMED, TAESD, ModelConfig
from .model.load import CheckpointError, load_model
from .roofline import Rates, measure_rates, synchronize
from .sampling.consistency import MAX_STEPS

SIZES = {"llia-tiny": (128, 192, 256), "llia-sd15": (384, 512)}
LIVE_CLIP = {"llia-tiny": (2, 16), "llia-sd15": (4, 16)}  # frames of the first and of the longest clip


@dataclass(frozen=True)
class Grid:
    """What is measured. model: a checkpoint file, None: the bundled one; "sd15": random weights."""

    model: str | None = None
    device: str = "cpu"
    sizes: tuple[int, ...] = ()
    steps: tuple[int, ...] = (1, 2)
    precisions: tuple[str, ...] = ("float32", "int8")
    engines: tuple[str, ...] = ("serial", "pipeline")
    seconds: float = 2.5


def rows(grid: Grid, say: Callable[[str], None] = print) -> Iterator[dict]:
    """Measure the grid; `say` gets the table's lines, and the reason of what was left out. Yields rows as they come."""
    unknown = set(grid.engines) - set(ENGINES)
    if unknown:
        raise ValueError(f"engines are {', '.join(ENGINES)}, got {', '.join(sorted(unknown))}")
    if grid.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {grid.device} was asked for, but this torch finds no CUDA GPU")
    rates = measure_rates(grid.device)
    say(machine_name())
    say(describe_rates(rates))
    say(HEADER)
    samples = demo_samples(grid.seconds)
    counts: dict[tuple[int, int], Any] = {}  # work by size and steps
    for precision in grid.precisions:
        try:
            model = _load(grid, precision)
        except (FileNotFoundError, ValueError, CheckpointError) as error:
            say(f"left out {precision}: {error}")
            continue
        name = model.config.name
        for size in grid.sizes or SIZES[name]:
            portrait = _portrait(size)
            for steps in grid.steps:
                for engine in grid.engines:
                    yield from _row(grid, model, portrait, precision, steps, engine, samples, rates, counts, say)


def _row(grid, model, portrait, precision, steps, engine, samples, rates: Rates, counts: dict, say) -> Iterator[dict]:
    """One row, or the reason why there is none."""
    from .photoreal.session import open_session

    first, largest = LIVE_CLIP[model.config.name]
    try:
        if model.config.name == "llia-sd15":  # more steps than distilled weights take stand for undistilled ones
            model.config = replace(model.config, sampling="ddim" if steps > MAX_STEPS else "consistency")
        session = open_session(model, portrait, steps=steps, first=first, largest=largest)
        key = (portrait.size, steps)
        if key not in counts:  # of the float model: torch does not count integer kernels
            counted = model if precision != "int8" else _load(grid, "float32")
            counts[key] = session_work(
                open_session(counted, portrait, steps=steps, first=first, largest=largest), samples
            )
        row = measure(session, engine, precision, samples, rates, counts[key])
    except (ValueError, RuntimeError, torch.cuda.OutOfMemoryError) as error:
        say(f"left out {portrait.size} px, {steps} steps, {precision}, {engine}: {str(error).splitlines()[0]}")
        return
    row["machine"] = machine_name()
    say(line(row))
    yield row


def live(model: str | None, device: str, size: list[int], precision: str, minutes: float, say=print) -> dict:
    """A run in real time (longrun.py), printed."""
    from .longrun import LARGEST, live_run
    from .photoreal.session import open_session

    loaded = _load(Grid(model, device), precision)
    portrait = _portrait(size[0] if size else max(SIZES[loaded.config.name][:3]))
    session = open_session(loaded, portrait, steps=1, first=2, largest=LARGEST)
    found = live_run(session, demo_samples(60.0), 60 * minutes, report=say)
    named = {"machine": machine_name(), "model": loaded.config.name, "precision": precision}
    found = named | {"resolution": portrait.size} | found
    for name, value in found.items():
        say(f"{name:>18}  {value:.3f}" if isinstance(value, float) else f"{name:>18}  {value}")
    return found


def unet_gain(grid: Grid, size: int = 256, runs: int = 6, say: Callable[[str], None] = print) -> dict[str, float]:
    """Milliseconds of the denoising UNet alone for its longest clip in float32 and INT8: best of `runs` times five in
    turn, five on end since a session too finds its weights in the cache."""
    from .photoreal.session import open_session

    calls = {precision: _unet_call(_load(grid, precision), size, open_session) for precision in ("float32", "int8")}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(runs):
        for precision, call in calls.items():
            for _ in range(5):
                started = time.perf_counter()
                with torch.inference_mode():
                    call()
                synchronize(torch.device(grid.device))
                best[precision] = min(best[precision], 1000 * (time.perf_counter() - started))
    ratio = best["float32"] / best["int8"]
    say(
        f"denoising UNet alone, {size} px: float32 {best['float32']:.0f} ms, INT8 {best['int8']:.0f} ms: "
        f"{ratio:.2f} times faster"
    )
    return best


def _unet_call(model: Any, size: int, open_session: Callable) -> Callable[[], Any]:
    """The call that a session makes of the UNet for its longest clip."""
    first, largest = LIVE_CLIP[model.config.name]
    session = open_session(model, _portrait(size), steps=1, first=first, largest=largest)
    seen: list[tuple] = []
    hook = model.denoising_unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    session.push(demo_samples(2.0))
    hook.remove()
    args, kwargs = max(seen, key=lambda call: call[0][0].numel())
    return lambda: model.denoising_unet(*args, **kwargs)


def start_up(precisions: tuple[str, ...], say: Callable[[str], None] = print) -> None:
    """Seconds from command to first frames, in a process of its own, files in the system's cache."""
    for precision in precisions:
        start_up_s(precision)
        say(f"start-up, {precision}: first frames {start_up_s(precision):.1f} s after the command")


HEADER = (
    f"{'model':>10} {'px':>4} {'steps':>5} {'precision':>9} {'engine':>8} {'fps':>6} "
    f"{'first frames ms: sound + computing + viewer':>43} {'ms a frame: speech denoiser decoder viewer':>42} "
    f"{'MB':>6} {'of limit':>8}"
)


def line(row: dict) -> str:
    """A row of the table."""
    waits = f"{row['algorithmic_ms']:.0f} + {row['compute_ms']:.0f} + {row['presentation_ms']:.1f}"
    stages = " ".join(f"{value:.1f}" for value in row["stage_ms"].values())
    return (
        f"{row['model']:>10} {row['resolution']:>4} {row['steps']:>5} {row['precision']:>9} {row['engine']:>8} "
        f"{row['fps']:>6.1f} {waits:>43} {stages:>42} {row['peak_memory_mb']:>6.0f} {row['roofline_share']:>8.0%}"
    )


def describe_rates(rates: Rates) -> str:
    """The machine's measured limits in words."""
    matrix = ", ".join(f"{name} {rate / 1e9:.0f} GOP/s" for name, rate in rates.matrix.items())
    return f"measured limits: matrix products {matrix}; copy {rates.copy / 1e9:.1f} GB/s"


def write_json(path: str, found: list[dict]) -> None:
    """The rows as a JSON list."""
    Path(path).write_text(json.dumps(found, indent=1) + "\n")


def _portrait(size: int) -> Any:
    from .media import read_image
    from .portrait import prepare_portrait

    return prepare_portrait(read_image(Path(__file__).parent / "assets" / "demo_portrait.png"), size)


def _load(grid: Grid, precision: str) -> nn.Module:
    if grid.model == "sd15":
        return random_photoreal(NAMED["llia-sd15"], grid.device, precision)
    if precision == "bfloat16":
        raise ValueError("llia-tiny runs in float32 and int8")
    return load_model(grid.model, grid.device, precision=precision)


def random_photoreal(config: ModelConfig, device: str, precision: str) -> nn.Module:
    """llia-sd15 of any width with random weights, decoded by TAESD. On CUDA floats are bfloat16, and int8 has its float
    layers in bfloat16; INT8 ranges come from one clip, with no layer kept float for its sensitivity."""
    from .model.autoencoder import build_autoencoder
    from .photoreal.model import Photoreal
    from .quantization import Int8
    from .speech import SpeechEncoder

    torch.manual_seed(0)
    operations = Int8 if precision == "int8" else nn
    with torch.device(device):
        model = Photoreal(replace(config, sampling="consistency"), operations)
        model.speech = SpeechEncoder(_live_speech(config))
        model.autoencoder = build_autoencoder(config.autoencoder, operations)
        model.fast = build_autoencoder(TAESD, operations)
    half = torch.device(device).type == "cuda" and precision != "float32"
    model = model.to(torch.bfloat16 if half else torch.float32).eval().requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)
    if precision == "int8":
        _quantize_all(model, config)
    return model


def _live_speech(config: ModelConfig) -> Any:
    """wav2vec 2.0 (base, at full width) in blocks of four frames with a second before them and 80 ms after."""
    from .speech import SpeechConfig

    width = config.audio_projection.channels
    wav2vec = {
        "hidden_size": width,
        "num_hidden_layers": config.audio_projection.layers,
        "intermediate_size": 4 * width,
    }
    wav2vec["num_attention_heads"] = max(4, width // 64)
    wav2vec["conv_dim"] = [min(512, width)] * 7
    return SpeechConfig(wav2vec, block=4, context=25, lookahead=2, layers=config.audio_projection.layers)


def _quantize_all(model: nn.Module, config: ModelConfig) -> None:
    from .calibration import watch
    from .photoreal.session import open_session

    def run() -> None:
        session = open_session(model, _portrait(min(config.resolution, 256)), steps=1, first=4, largest=4)
        session.push(demo_samples(1.0))

    for name, seen in watch(model, run).items():
        model.get_submodule(name).quantize(*seen.range())
