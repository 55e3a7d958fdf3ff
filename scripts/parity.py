"""Compare llia-sd15 with outputs of Hallo v1's original code: python scripts/parity.py --set DIR

DIR holds config_*.json, weights_*.safetensors and io_*.safetensors (several sets: --name A). Every size is read from
the config; every tensor `out:*` is computed from the tensors `in:*` and compared. Prints the worst relative error of
each and exits with status 1 if one is beyond its tolerance, cannot be computed, or is not known here.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from llia_core.cpu_layers import CpuLayers  # noqa: E402
from llia_core.model import NAMED, AvatarModel, ModelConfig  # noqa: E402
from scripts.parity_checks import CHECKS  # noqa: E402
from scripts.parity_vectors import Vectors  # noqa: E402

COMPONENT, ROUNDED = 1e-4, 5e-4  # the second for latents after several steps and for features rounded to float16
LOOSE = re.compile(r"\.bank16$|^pipe\.asis\.|\.latents\d+$")


@dataclass(frozen=True)
class Result:
    """One output: worst error relative to its largest value, and what is allowed. error is nan where it failed."""

    name: str
    error: float
    tolerance: float
    problem: str = ""

    @property
    def good(self) -> bool:
        return self.error <= self.tolerance  # nan is not


def config_from(data: dict) -> ModelConfig:
    """llia-sd15 at the sizes of config_*.json."""
    base, audio = NAMED["llia-sd15"], data["audio"]
    levels = len(data["block_out_channels"])
    denoiser = replace(
        base.denoiser,
        block_out_channels=tuple(data["block_out_channels"]),
        attention_levels=(True,) * (levels - 1) + (False,),
        audio_levels=(True,) * (levels - 1) + (False,),
        motion_levels=(True,) * levels,
        idle_motion_levels=(False,) * (levels - 1) + (True,),
        down_conditioning=(True,) * levels,
        attention_heads=data["heads"],
        motion_heads=data["motion_heads"],
        norm_num_groups=data["norm_num_groups"],
        cross_attention_dim=data["cross_attention_dim"],
        audio_attention_dim=data["audio_attention_dim"],
        motion_positions=data["motion_max_len"],
    )
    projection = replace(
        base.audio_projection,
        window=audio["seq_len"],
        layers=audio["blocks"],
        channels=audio["channels"],
        intermediate_dim=audio["intermediate_dim"],
        tokens=audio["context_tokens"],
        token_channels=data["audio_attention_dim"],
    )
    image = replace(
        base.image_projection,
        embed_dim=data["image_embed_dim"],
        tokens=data["image_tokens"],
        token_channels=data["cross_attention_dim"],
    )
    locator = replace(base.face_locator, channels=tuple(data["face_locator_channels"]))
    return replace(
        base, denoiser=denoiser, audio_projection=projection, image_projection=image, face_locator=locator,
        motion_frames=data["motion_frames"],
    )  # fmt: skip


def find_set(folder: Path, name: str | None) -> dict[str, Path]:
    """The three files of a set. Raises FileNotFoundError or ValueError that say what is missing or ambiguous."""
    found = {}
    for kind, suffix in (("config", "json"), ("weights", "safetensors"), ("io", "safetensors")):
        paths = sorted(Path(folder).glob(f"{kind}_{name or '*'}.{suffix}"))
        if not paths:
            raise FileNotFoundError(f"{folder} holds no {kind}_{name or '*'}.{suffix}")
        if len(paths) > 1:
            raise ValueError(f"{folder} holds {', '.join(p.name for p in paths)}: choose one with --name")
        found[kind] = paths[0]
    return found


def load_vectors(folder: Path, name: str | None = None) -> Vectors:
    """Model, inputs and outputs of a set. A set may hold the weights of some modules only ("partial" in its config):
    the others become nan, so that nothing can pass that depends on them."""
    from safetensors.torch import load_file

    files = find_set(folder, name)
    data = json.loads(files["config"].read_text())
    model = AvatarModel(config_from(data), CpuLayers).eval().requires_grad_(False)
    weights = {key: value.float() for key, value in load_file(files["weights"]).items()}
    if data.get("partial"):
        lacking = {k: torch.full_like(v, torch.nan) for k, v in model.state_dict().items() if k not in weights}
        model.load_state_dict(weights | lacking)
    else:
        model.load_state_dict(weights)  # strict: names what is missing or foreign
    return Vectors(data, model, load_file(files["io"]))


def relative_error(got: Tensor, want: Tensor) -> float:
    """Largest difference over the largest wanted value; integers must be equal."""
    if got.shape != want.shape:
        raise ValueError(f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    got, want = got.double(), want.double()
    scale = float(want.abs().max()) if want.numel() else 0.0
    return float((got - want).abs().max()) / (scale or 1.0) if want.numel() else 0.0


def find_check(name: str) -> Callable[[Vectors], Tensor] | None:
    for pattern, function in CHECKS:
        match = re.fullmatch(pattern, name)
        if match:
            return lambda vectors: function(vectors, **match.groupdict())
    return None


@torch.inference_mode()
def compare(vectors: Vectors) -> Iterator[Result]:
    """Every output of the set."""
    for name in sorted(key.removeprefix("out:") for key in vectors.io if key.startswith("out:")):
        tolerance = ROUNDED if LOOSE.search(name) else COMPONENT
        check, want = find_check(name), vectors.io[f"out:{name}"]
        if check is None:
            yield Result(name, float("nan"), tolerance, "not known here")
            continue
        try:
            got = torch.as_tensor(check(vectors))
            exact = not want.is_floating_point()
            yield Result(name, relative_error(got, want), 0.0 if exact else tolerance)
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            yield Result(name, float("nan"), tolerance, f"{type(error).__name__}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder of the set")
    parser.add_argument("--name", help="which set, where the folder holds several")
    arguments = parser.parse_args()
    try:
        vectors = load_vectors(arguments.set, arguments.name)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        print(f"parity: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    results = list(compare(vectors))
    for r in results:
        print(f"{'ok  ' if r.good else 'FAIL'} {r.error:9.2e} of {r.tolerance:.0e}  {r.name}  {r.problem}".rstrip())
    bad = [r for r in results if not r.good]
    worst = max((r.error for r in results if r.good), default=float("nan"))
    print(f"{len(results) - len(bad)} of {len(results)} outputs within tolerance, worst of these {worst:.2e}")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
