"""What is installed, found and missing, and what to do about it: `python -m llia_core doctor`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# Import name: package name, what needs it.
PACKAGES = {
    "torch": ("torch", "everything"),
    "torchaudio": ("torchaudio", "resampling"),
    "transformers": ("transformers", "speech features"),
    "mediapipe": ("mediapipe", "face landmarks"),
    "av": ("av", "reading and writing video and sound"),
    "PIL": ("Pillow", "reading images"),
    "safetensors": ("safetensors", "checkpoints"),
    "numpy": ("numpy", "everything"),
}
CODECS = {"libx264": "w", "aac": "w", "mjpeg": "w", "h264": "r", "mp3": "r"}
ASSETS = Path(__file__).parent / "assets"


def report(models: str | Path = "models/llia") -> list[str]:
    """The findings as lines; "ok" or "MISSING" first where something is checked. Never raises for what is missing."""
    return [
        f"python {platform.python_version()} on {platform.system()} {platform.machine()}",
        *_packages(),
        *_devices(),
        *_codecs(),
        *_assets(),
        *_models(Path(models)),
    ]


def _packages() -> Iterator[str]:
    for module, (package, purpose) in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            yield f"MISSING {package} ({purpose}): pip install {package}"
            continue
        try:
            importlib.import_module(module)
            yield f"ok      {package} {metadata.version(package)}"
        except Exception as error:  # a broken package can raise anything; this is the place to tell
            advice = "run make setup again" if module == "torchaudio" else f"pip install --force-reinstall {package}"
            yield f"MISSING {package} ({purpose}) is installed but broken: {_first_line(error)}: {advice}"


def _devices() -> Iterator[str]:
    try:
        import torch
    except Exception:
        return  # said above
    threads = f"{torch.get_num_threads()} torch threads of {os.cpu_count()} cores"
    yield f"ok      CPU, {threads}, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield f"ok      cuda:{index} {device.name}, {device.total_memory / 2**30:.0f} GiB"
    elif torch.backends.mps.is_available():
        yield "ok      mps"
    else:
        yield f"        no GPU seen (torch is built for {torch.version.cuda or torch.version.hip or 'CPU only'})"


def _codecs() -> Iterator[str]:
    try:
        import av
    except Exception:
        return  # said above
    for name, mode in CODECS.items():
        use = "encoder" if mode == "w" else "decoder"
        try:
            av.Codec(name, mode)
            yield f"ok      {use} {name}"
        except Exception as error:
            yield f"MISSING {use} {name} ({_first_line(error)}): pip install --force-reinstall av"


def _assets() -> Iterator[str]:
    yield _file_line(ASSETS / "face_landmarker.task", "face landmarker", "run scripts/make_face_landmarker.py")
    checkpoints = sorted(ASSETS.glob("*.safetensors"))
    for path in checkpoints:
        yield _file_line(path, "bundled checkpoint", "")
    if not checkpoints:
        yield f"MISSING bundled checkpoint in {ASSETS}: take it from the repository (*.safetensors)"


def _models(folder: Path) -> Iterator[str]:
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".task"))
    if folder.is_dir():
        yield f"ok      {folder}: {len(found)} model files"
        for path in found:
            yield f"          {path.relative_to(folder)} {path.stat().st_size / 2**20:.1f} MiB"
    else:
        yield f"        no folder {folder} (only needed for weights of your own)"
    yield from _photoreal(found)


def _photoreal(files: list[Path]) -> Iterator[str]:
    """Which photoreal models among model files are complete, and how to get one."""
    try:
        from .photoreal.model import PARTS, how_to_get, missing_parts
    except ImportError:
        return  # said above
    complete = False
    for folder in sorted({path.parent for path in files if path.name == PARTS["model"]}):
        missing = missing_parts(folder)
        complete |= not missing
        yield f"MISSING {', '.join(missing)} in {folder}" if missing else f"ok      photoreal model {folder}"
    if not complete:
        yield "        no photoreal model (optional). " + how_to_get()


def _file_line(path: Path, name: str, advice: str) -> str:
    if not path.is_file():
        return f"MISSING {name} {path}: {advice}"
    return f"ok      {name} {path.name} {path.stat().st_size / 2**20:.1f} MiB"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
