"""INT8 form of a photoreal model folder: UNets and projections; autoencoder and speech encoder are copied as they are.

Cross-attentions to fixed tokens are folded (model/prepared.py): their query and output weights are never multiplied
with activations, so they stay float.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..audio import SAMPLE_RATE
from ..calibration import Report, quantize
from ..model.load import file_digest, read_checkpoint, save_weights
from ..portrait import Portrait
from ..quantization import SCALES, Int8, integer_layers, quantization_metadata
from .model import PARTS, Photoreal, load_photoreal
from .session import PhotorealSession

LAYERS = ("denoising_unet.", "reference_unet.", "audioproj.", "face_locator.")
FRAMES = 4  # of a clip that is watched
PROBED = (999, 499)  # timesteps at which the output is compared


def quantize_photoreal(
    source: Path, output: Path, portraits: Sequence[Portrait], samples: Tensor, target_db: float,
    progress: Callable[[int, int], None] = lambda done, total: None, device: str = "cpu",
) -> Report:  # fmt: skip
    """Write the INT8 form of the folder `source` to the folder `output`.

    portraits, samples: what is watched, one clip each; samples (n,) at 16 kHz. At real width every layer costs a call
    of the denoiser: seconds in all on a GPU, about an hour on a CPU. Raises FileExistsError, ValueError for a model
    that is INT8 already.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists already: give another name, or delete it first")
    model = load_photoreal(source, device, torch.float32, Int8)
    if integer_layers(model):
        raise ValueError(f"{source} is INT8 already; give the float model that it was made of")
    report = quantize(
        model, lambda: _watched(model, portraits, samples), _probe(model, portraits[0], samples), target_db, progress,
        LAYERS,
    )  # fmt: skip
    metadata, weights = read_checkpoint(source / PARTS["model"])
    floats = next(value.dtype for value in weights.values() if value.is_floating_point())
    metadata["quantization"] = json.dumps(
        {"digest": file_digest(source / PARTS["model"]), "sqnr_db": round(report.sqnr_db, 1),
         "kept_float": [*report.kept], "too_small": report.small}
    )  # fmt: skip
    made = {key: value.cpu() for key, value in model.state_dict().items() if key in weights or key.endswith(SCALES)}
    made = {k: v.to(floats) if v.is_floating_point() and not k.endswith(SCALES) else v for k, v in made.items()}
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(PARTS["model"]))
        save_weights(made, metadata | quantization_metadata(model), partial / PARTS["model"])
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _watched(model: Photoreal, portraits: Sequence[Portrait], samples: Tensor) -> None:
    for portrait in portraits:
        session = _session(model, portrait)
        session.denoise(next(session.clips([samples[: 2 * SAMPLE_RATE]])))


def _session(model: Photoreal, portrait: Portrait) -> PhotorealSession:
    """Few steps: the noise levels that matter are the same ones."""
    return PhotorealSession(model, portrait, steps=4, first=FRAMES, largest=FRAMES)


def _probe(model: nn.Module, portrait: Portrait, samples: Tensor) -> Callable[[], Sequence[Tensor]]:
    """The denoiser's output on one clip that starts from the portrait, at several noise levels."""
    made = _session(model, portrait)
    clip = next(made.clips([samples[: 2 * SAMPLE_RATE]]))
    labels = torch.tensor([clip.labels], device=made.device)
    windows, noise, motion = clip.windows.to(made.device, made.dtype), made._noise(FRAMES), made.motion()

    def probe() -> Sequence[Tensor]:
        session = _session(model, portrait)  # the portrait's features are the ReferenceNet's too
        given = session.conditions.of_clip(model, windows, labels, motion, (1.0, 1.0, 1.0))
        return [given.predict(model, noise, timestep, True) for timestep in PROBED]

    return probe
