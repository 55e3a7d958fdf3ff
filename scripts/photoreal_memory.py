"""Peak memory of llia-sd15 by count: parameters from the config, activations from tensors alive on the meta device."""

import sys
from pathlib import Path
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

GIB = 2**30


class AliveTensors(TorchDispatchMode):
    """Bytes of all storages made within, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: WeakSet = WeakSet()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.alive:
            return
        self.alive.add(storage)
        self.now = sum(one.nbytes() for one in self.alive)
        self.peak = max(self.peak, self.now)


def peak_of(work) -> int:
    """Most bytes alive at once in `work`, beyond what was there before."""
    with torch.inference_mode(), AliveTensors() as alive:
        work()
    return alive.peak


def parameter_bytes(module: torch.nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def report(size: int) -> int:
    """Print the count for 16 frames in float16, attention without its score matrix as a GPU computes it."""
    from llia_core.model import build_autoencoder
    from llia_core.model.guidance import CORRECTED
    from llia_core.photoreal.conditions import PortraitConditions
    from llia_core.photoreal.masks import FaceMasks
    from llia_core.photoreal.model import Photoreal
    from scripts.bench_photoreal import FRAMES, lean_config

    config, half = lean_config(), torch.float16
    with torch.device("meta"):
        model, vae = Photoreal(config).to(half).eval(), build_autoencoder(config.autoencoder).to(half).eval()
        model.autoencoder = vae
        side = size // 8
        masks = FaceMasks(torch.zeros(3, size, size), [torch.zeros(1, 3, (side >> level) ** 2) for level in range(4)])
        windows, motion = torch.zeros(1, FRAMES, 5, 12, 768, dtype=half), torch.zeros(1, 2, 4, side, side, dtype=half)
        noise, labels = torch.zeros(1, FRAMES, 4, side, side, dtype=half), torch.zeros(1, FRAMES, dtype=torch.long)
        image, identity = torch.zeros(1, 3, size, size, dtype=half), torch.zeros(512, dtype=half)
    kept: dict = {}
    vae_bytes = parameter_bytes(vae)
    rows = {"weights: UNets, projections": parameter_bytes(model) - vae_bytes, "weights: VAE": vae_bytes}
    rows["weights: wav2vec 2.0 base"] = 94_371_712 * 2
    stages = {
        "portrait": lambda: kept.update(p=PortraitConditions.of(model, image, masks, identity, True, CORRECTED)),
        "clip": lambda: kept.update(c=kept["p"].of_clip(model, windows, labels, motion, (1.0,) * 3)),
        "denoise": lambda: kept["c"].predict(model, noise, 999, True),
        "decode": lambda: model.decode(noise[0]),
    }
    peaks, carried = {}, 0
    for name, work in stages.items():
        peaks[name] = peak_of(work) + carried
        carried = kept_bytes(kept)
        rows[f"peak beside the weights: {name}"] = peaks[name]
    weights = sum(value for name, value in rows.items() if name.startswith("weights"))
    for name, value in rows.items():
        print(f"{name:<40} {value / GIB:6.2f} GiB")
    whole = (weights + max(peaks.values())) / GIB
    print(f"{'peak in all':<40} {whole:6.2f} GiB at {size}x{size}, {FRAMES} frames, float16")
    return 0


def kept_bytes(value: object, seen: set[int] | None = None) -> int:
    """Bytes of all distinct tensors in nested dictionaries, lists and dataclasses."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        known = storage._cdata in seen
        seen.add(storage._cdata)
        return 0 if known else storage.nbytes()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
    if inner is None:
        inner = vars(value).values() if hasattr(value, "__dataclass_fields__") else ()
    return sum(kept_bytes(one, seen) for one in inner)
