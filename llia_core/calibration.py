"""Making an INT8 checkpoint: watch a session, choose ranges, keep what is sensitive in float, measure, write.

    python -m llia_core quantize [MODEL] [--portrait P] [--audio A] [-o OUT]

Every layer is first made integer alone and the noise that this brings to the output is measured; then those with the
most noise for the work that they save stay float, until all others together keep the signal TARGET_DB above the noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .audio import SAMPLE_RATE
from .quantization import Int8, Int8Layer, integer_layers

PARTS = ("denoising_unet.", "reference_unet.", "autoencoder.decoder.", "audioproj.", "face_locator.")
SMALLEST_SHARE = 1 / 2000  # of all multiplications, and of all weights: a layer with less of both stays float
TARGET_DB = 24.0  # signal over rounding noise, in each part of the output by itself
KEPT_SAMPLES = 4096  # activation values kept of each call, from which the range is chosen
SECONDS = 2.0  # of sound for each portrait
PROBE_FRAMES = 6
PHOTOREAL_SIZE = 128  # pixels at which a photoreal model is watched and compared


@dataclass
class Watched:
    """What calibration saw of one layer's inputs."""

    low: float = 0.0
    high: float = 0.0
    multiplications: int = 0
    samples: list[Tensor] = field(default_factory=list)

    def range(self) -> tuple[float, float]:
        """The range whose rounding and clipping of the seen values has the least squared error."""
        values = torch.cat(self.samples)
        best, found = float("inf"), (self.low, self.high)
        for low in (self.low, 0.7 * self.low, 0.4 * self.low):
            for high in (share * self.high for share in (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)):
                step = max((high - low) / 255, 1e-12)
                error = float((((values - low) / step).round().clamp(0, 255) * step + low - values).square().mean())
                if error < best:
                    best, found = error, (low, high)
        return found


@torch.inference_mode()
def watch(model: nn.Module, run: Callable[[], Any], parts: tuple[str, ...] = PARTS) -> dict[str, Watched]:
    """Run `run()` and see what reaches every convolution and linear layer whose name begins as one of `parts`."""
    seen: dict[str, Watched] = {}
    hooks = []

    def see(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            x, one = inputs[0].detach().float(), seen.setdefault(name, Watched())
            low, high = x.aminmax()
            one.low, one.high = min(one.low, float(low)), max(one.high, float(high))
            flat = x.flatten()
            one.samples.append(flat[:: max(1, len(flat) // KEPT_SAMPLES)].cpu().clone())
            one.multiplications += output.numel() * module.weight[0].numel()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, Int8Layer) and name.startswith(parts):
            hooks.append(module.register_forward_hook(see(name)))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def noise(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Worst share of noise power among parts of an output; sqnr_db = -10 log10 of it."""
    parts = zip(outputs, reference, strict=True)
    return max(float((a.double() - b.double()).square().sum() / b.double().square().sum()) for a, b in parts)


def decibels(share: float) -> float:
    """Signal to noise ratio of a noise share."""
    return -10 * math.log10(max(share, 1e-12))


@dataclass
class Report:
    """What `quantize` did. kept: layers left float and their noise share; small: those with too little work."""

    integer: list[str]
    kept: dict[str, float]
    small: list[str]
    sqnr_db: float

    def __str__(self) -> str:
        kept = "\n".join(f"  {name}  {decibels(share):.1f} dB alone" for name, share in self.kept.items())
        return (
            f"{len(self.integer)} layers integer, {len(self.kept)} float because rounding harms the output, "
            f"{len(self.small)} float because they do too little; {self.sqnr_db:.1f} dB on the probe"
        ) + (f"\n{kept}" if kept else "")


@torch.inference_mode()
def quantize(
    model: nn.Module,
    run: Callable[[], Any],
    probe: Callable[[], Sequence[Tensor]],
    target_db: float = TARGET_DB,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parts: tuple[str, ...] = PARTS,
) -> Report:
    """Make layers of `model` (built with Int8 operations, float so far) integer, in place.

    run(): shows the model typical inputs. probe(): runs it on one fixed input and returns the parts of its output.
    target_db: layers are kept float until each part's signal is so far above the rounding noise. parts: beginnings of
    the names of layers that may become integer.
    """
    seen = watch(model, run, parts)
    total = sum(one.multiplications for one in seen.values())
    weights = {name: model.get_submodule(name).weight for name in seen}
    size = sum(weight.numel() for weight in weights.values())
    small = [
        name
        for name, one in seen.items()
        if one.multiplications < SMALLEST_SHARE * total and weights[name].numel() < SMALLEST_SHARE * size
    ]
    candidates = [name for name in seen if name not in small]
    ranges = {name: seen[name].range() for name in candidates}
    reference, alone = [part.clone() for part in probe()], {}
    for index, name in enumerate(candidates):
        layer = model.get_submodule(name)
        layer.quantize(*ranges[name])
        alone[name] = noise(probe(), reference)
        layer.dequantize(weights[name])
        progress(index + 1, len(candidates))
    # Most harm for the work it saves first.
    order = sorted(candidates, key=lambda name: alone[name] / seen[name].multiplications, reverse=True)
    for name in candidates:
        model.get_submodule(name).quantize(*ranges[name])
    kept: list[str] = []
    measured = noise(probe(), reference)
    while decibels(measured) < target_db and len(kept) < len(order):
        kept.append(order[len(kept)])
        model.get_submodule(kept[-1]).dequantize(weights[kept[-1]])
        measured = noise(probe(), reference)
    return Report(integer_layers(model), {name: alone[name] for name in kept}, small, decibels(measured))


def quantize_checkpoint(
    path: str | Path | None, output: str | Path | None, portrait: str | None = None, audio: str | None = None,
    target_db: float = TARGET_DB, progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> tuple[Path, Report]:  # fmt: skip
    """Checkpoint in, INT8 checkpoint out (default: beside it, `NAME-int8.safetensors`), calibrated on given inputs. A
    photoreal model is a folder, in and out (photoreal/quantize.py); device: where that one is measured.

    Without portrait or audio: faces that this repository draws, and the bundled speech. Raises as load_model does, and
    ValueError for a checkpoint that is quantised already.
    """
    from .model.load import BUNDLED, file_digest, int8_name, load_model, read_checkpoint, save_model

    source = Path(path) if path is not None else BUNDLED
    output = Path(output) if output is not None else int8_name(source)
    samples = _samples(audio)
    if source.is_dir():
        from .photoreal.quantize import quantize_photoreal

        portraits = _portraits(portrait, 128, PHOTOREAL_SIZE)
        return output, quantize_photoreal(source, output, portraits, samples, target_db, progress, device)
    model = load_model(source, operations=Int8)
    if integer_layers(model):
        raise ValueError(f"{source} is INT8 already; give the float checkpoint that it was made of")
    portraits = _portraits(portrait, model.config.resolution)
    report = quantize(
        model, lambda: _sessions(model, portraits, samples), _probe(model, portraits[0], samples), target_db, progress
    )
    origin = {"quantized_from": source.name, "digest": file_digest(source), "sqnr_db": round(report.sqnr_db, 1)}
    origin |= {"kept_float": [*report.kept], "too_small": report.small}
    save_model(model, output, json.loads(read_checkpoint(source)[0].get("origin", "{}")), quantization=origin)
    return output, report


def _samples(audio: str | None) -> Tensor:
    from .audio import to_mono_16k
    from .media import read_audio

    return to_mono_16k(*read_audio(audio or Path(__file__).parent / "assets" / "demo_speech.wav"))


def _portraits(path: str | None, region: int, size: int = 256) -> list:
    """The given portrait, or the demo's and three drawn ones."""
    from .media import read_image
    from .portrait import prepare_portrait
    from .training.synth.portrait import ANIMATION, render, sample_identities

    if path:
        return [prepare_portrait(read_image(path), size, region)]
    images = [read_image(Path(__file__).parent / "assets" / "demo_portrait.png")]
    identities = sample_identities(3, torch.Generator().manual_seed(90_000))
    images += [*render(identities, torch.zeros(3, len(ANIMATION)), size=256, clip=True)]
    return [prepare_portrait(image, size, region) for image in images]


def _sessions(model: nn.Module, portraits: list, samples: Tensor) -> None:
    """Two steps, so that both timesteps' inputs are seen; another piece of the sound for each portrait."""
    from .session import Session

    length = round(SECONDS * SAMPLE_RATE)
    for index, portrait in enumerate(portraits):
        start = index * length % max(1, len(samples) - length)
        for _ in Session(model, portrait, steps=2).chunks([samples[start : start + length]]):
            pass


def _probe(model: nn.Module, portrait, samples: Tensor) -> Callable[[], Sequence[Tensor]]:
    """One clip of speech from the reference on: flow, latent residual, and what decoding it paints."""
    from .session import Session

    session = Session(model, portrait)
    clips = session.clips([samples[: round(SECONDS * SAMPLE_RATE)]])
    clip = next(clip for clip in clips if len(clip.labels) >= PROBE_FRAMES and clip.start > 0)
    seen = [part[None] for part in (portrait.region, portrait.masks, portrait.lips)]
    noisy = session.noise[0].expand(1, PROBE_FRAMES, -1, -1, -1)
    windows, labels = clip.windows[:, :PROBE_FRAMES], torch.tensor([clip.labels[:PROBE_FRAMES]])
    timestep = torch.full((1,), session.timesteps[0])

    def probe() -> Sequence[Tensor]:
        out = model.predict(noisy, timestep, model.project_audio(windows), labels, model.reference(*seen))
        return out.flow, out.x0 - out.warped_latents, model.difference(out)

    return probe
