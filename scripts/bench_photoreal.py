"""Seconds per clip of llia-sd15 at the real width with random weights, ours or a plain transcription of the original.

    python scripts/bench_photoreal.py --side both         # in turn; about 14 GiB of memory in float32
    python scripts/bench_photoreal.py --side ours         # or original: about 11 GiB
    python scripts/bench_photoreal.py --check DIR         # the transcription against the original's parity vectors
    python scripts/bench_photoreal.py --memory            # peak for 512x512 in float16, by count

Seconds are the process's own (all threads together), so that other work on the machine counts less.
"""

import argparse
import copy
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from llia_core.cpu_layers import CpuLayers, keep_freed_memory  # noqa: E402
from llia_core.model import NAMED, AvatarModel, ModelConfig, build_autoencoder  # noqa: E402
from llia_core.photoreal.masks import LEVELS, FaceMasks  # noqa: E402
from llia_core.photoreal.model import Photoreal  # noqa: E402
from llia_core.quantization import Int8  # noqa: E402
from llia_core.sampling.ddim import ddim_step, guide  # noqa: E402
from llia_core.sampling.schedule import make_schedule, trailing_timesteps  # noqa: E402

GUIDANCE, FRAMES, STEPS = 3.5, 16, 40


def lean_config() -> ModelConfig:
    """llia-sd15 without the modules that never run, as the importer writes it."""
    base = NAMED["llia-sd15"]
    lean = replace(base.denoiser, motion_levels=(True, True, True, False), idle_motion_levels=(False,) * 4)
    return replace(base, denoiser=lean)


def fill(module: nn.Module) -> nn.Module:
    """Random values that depend on a parameter's name and shape alone: both sides get the same."""
    module = module.to_empty(device="cpu").requires_grad_(False).eval()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        generator = torch.Generator().manual_seed(sum(name.encode()) + tensor.numel())
        tensor.uniform_(-1, 1, generator=generator)
        if tensor.ndim > 1 and "pos_encoder" not in name:
            tensor.mul_(1.5 / tensor[0].numel() ** 0.5)
        elif tensor.ndim == 1:
            tensor.mul_(0.05).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return module


def inputs(size: int, dtype: torch.dtype = torch.float32) -> SimpleNamespace:
    """Portrait, motion pictures, speech windows and masks of a clip; the masks are a centred face's."""
    from llia_core.face import landmarks_from_box
    from llia_core.photoreal.masks import face_masks

    generator = torch.Generator().manual_seed(0)
    box = tuple(size * share for share in (0.25, 0.17, 0.75, 0.83))
    made = {
        "images": torch.rand(3, 3, size, size, generator=generator) * 2 - 1,
        "windows": torch.randn(1, FRAMES, 5, 12, 768, generator=generator),
        "identity": torch.randn(1, 512, generator=generator),
        "noise": torch.randn(1, 4, FRAMES, size // 8, size // 8, generator=generator),
    }
    masks = face_masks(landmarks_from_box(box), size, size, size)
    return SimpleNamespace(**{name: value.to(dtype) for name, value in made.items()}, masks=masks)


class Clock:
    """Process seconds of named parts of one side."""

    def __init__(self, side: str) -> None:
        self.side, self.parts = side, {}

    def __call__(self, name: str, work, *given):
        started = time.process_time()
        out = work(*given)
        seconds = time.process_time() - started
        self.parts[name] = self.parts.get(name, 0.0) + seconds
        print(f"{self.side:>8} {name:>9} {seconds:8.1f} s", file=sys.stderr, flush=True)
        return out

    def row(self, steps: int, decoded: int) -> dict[str, float]:
        """Seconds of the parts, of a step, and of a clip with all steps and frames."""
        parts = self.parts | {"decode": self.parts["decode"] * FRAMES / decoded}
        once = sum(seconds for name, seconds in parts.items() if name not in ("denoise", "portrait"))
        step = parts["denoise"] / steps
        return {k: round(v, 2) for k, v in (parts | {"a_step": step, "clip": once + STEPS * step}).items()}


class Original:
    """The transcription's clip. parts: its two UNets, and our small projections, which are the same."""

    def __init__(self, given: SimpleNamespace, vae: nn.Module, parts: AvatarModel, clock: Clock) -> None:
        self.given, self.vae, self.net, self.clock = given, vae, parts, clock

    def begin(self) -> None:
        net, given, clock = self.net, self.given, self.clock
        latents = clock("encode", self.vae.encode, given.images)
        tokens = torch.cat([net.imageproj(torch.zeros_like(given.identity)), net.imageproj(given.identity)])
        face = net.face_locator(given.masks.region[None].expand(FRAMES, -1, -1, -1)).transpose(0, 1)[None]
        audio = net.audioproj(given.windows)[0][0]
        self.run = SimpleNamespace(
            tokens=tokens.repeat(3, 1, 1), audio=torch.cat([torch.zeros_like(audio), audio]), scale=[1.0] * 3,
            masks=original_masks(given.masks),
        )  # fmt: skip
        clock("reference", net.reference_unet, latents.repeat(2, 1, 1, 1), 0, self.run)
        self.banks, self.run.tokens = [block.bank.half() for block in net.reference_unet.spatial()], tokens
        self.face, self.latents, self.schedule = torch.cat([torch.zeros_like(face), face]), given.noise, make_schedule()

    def step(self, t: int) -> None:
        self.run.banks = iter(self.banks)
        both = torch.cat([self.latents, self.latents])
        out = self.clock("denoise", self.net.denoising_unet, both, t, self.run, self.face)
        v = guide(*out.chunk(2), GUIDANCE)
        self.latents, _ = ddim_step(v, self.latents, t, t - 1000 // STEPS, self.schedule, "v_prediction")

    def end(self, decoded: int) -> None:
        frames = self.latents[0].transpose(0, 1)[:decoded]
        self.clock("decode", lambda: torch.cat([self.vae.decode(frame[None]) for frame in frames]))


class Ours:
    """Our clip, with the session's own parts."""

    def __init__(self, given: SimpleNamespace, model: Photoreal, clock: Clock) -> None:
        self.given, self.model, self.clock = given, model, clock

    def begin(self) -> None:
        from llia_core.model.guidance import CORRECTED
        from llia_core.photoreal.conditions import PortraitConditions

        given, model = self.given, self.model
        portrait = self.clock(
            "portrait", PortraitConditions.of, model, given.images[:1], given.masks, given.identity[0], True, CORRECTED
        )
        side = given.images.shape[-1] // 8
        labels, motion = torch.full((1, FRAMES), 2), torch.randn(1, 2, 4, side, side).to(given.noise.dtype)
        self.told = self.clock("conditions", portrait.of_clip, model, given.windows, labels, motion, (1.0,) * 3)
        self.latents, self.schedule = given.noise.transpose(1, 2), make_schedule()

    def step(self, t: int) -> None:
        halves = self.clock(
            "denoise", lambda: [self.told.predict(self.model, self.latents, t, told) for told in (False, True)]
        )
        v = guide(*halves, GUIDANCE)
        self.latents, _ = ddim_step(v, self.latents, t, t - 1000 // STEPS, self.schedule, "v_prediction")

    def end(self, decoded: int) -> None:
        self.clock("decode", self.model.decode, self.latents[0, :decoded])


def original_masks(masks: FaceMasks) -> list[list[Tensor]]:
    """Per level three (2 * frames, positions), repeated as the original does."""
    return [[masks.levels[k][:, kind].repeat(2 * FRAMES, 1) for kind in range(3)] for k in range(LEVELS)]


def to_int8(model: Photoreal) -> None:
    """Integer layers, their ranges from one small clip, none kept float for its sensitivity: for speed alone."""
    from llia_core.calibration import watch
    from llia_core.photoreal.quantize import LAYERS

    def run() -> None:
        small = Ours(inputs(64), model, Clock("range"))
        model.autoencoder = SimpleNamespace(encode=lambda images: torch.randn(len(images), 4, 8, 8))
        small.begin()
        small.step(trailing_timesteps(STEPS)[0])

    for name, seen in watch(model, run, LAYERS).items():
        model.get_submodule(name).quantize(*seen.range())


def build(side: str, size: int, tiny: bool, int8: bool, dtype: torch.dtype) -> list[Original | Ours]:
    """The sides to measure, with the same weights; "both" share what has the same layout in memory."""
    from llia_core.model.config import TAESD
    from scripts.original_loop import UNet

    config, given = lean_config(), inputs(size)
    with torch.device("meta"):
        model, vae = Photoreal(config, Int8 if int8 else CpuLayers), build_autoencoder(config.autoencoder)
        fast = build_autoencoder(TAESD) if tiny else None
        unets = UNet(config.denoiser, True), UNet(config.denoiser, False)
    fill(model)
    vae = fill(vae)
    sides: list[Original | Ours] = []
    if side != "ours":
        parts = AvatarModel.__new__(AvatarModel)
        nn.Module.__init__(parts)
        for name in ("face_locator", "audioproj", "imageproj"):
            setattr(parts, name, copy.deepcopy(getattr(model, name)))
        for name, unet in zip(("reference_unet", "denoising_unet"), unets, strict=True):
            weights = {k: v.clone() if v.ndim == 4 else v for k, v in getattr(model, name).state_dict().items()}
            absent, _ = unet.load_state_dict(weights, strict=False, assign=True)
            assert not absent, absent
            setattr(parts, name, unet.eval().requires_grad_(False))
        sides.append(Original(given, copy.deepcopy(vae), parts, Clock("original")))
    if side != "original":
        if int8:
            to_int8(model)
        model = model.to(memory_format=torch.channels_last)
        model.autoencoder = vae.to(memory_format=torch.channels_last)
        model.fast = fill(fast).to(memory_format=torch.channels_last) if tiny else None
        if dtype != torch.float32:
            model, given = model.to(dtype), inputs(size, dtype)
        sides.append(Ours(given, model, Clock("ours")))
    return sides


def check(folder: Path) -> int:
    """The transcription at the widths of a parity set against `pipe.asis`: worst relative error."""
    from scripts.original_loop import UNet
    from scripts.parity import load_vectors

    v = load_vectors(folder)
    setting, config, frames = v.plain, v.model.config, v.config["frames"]
    nets = []
    for name, flat in (("reference_unet", True), ("denoising_unet", False)):
        net = UNet(config.denoiser, flat).eval().requires_grad_(False)
        weights = getattr(v.model, name).state_dict()
        absent, _ = net.load_state_dict(weights, strict=False)
        assert not absent, absent
        nets.append(net)
    rows = torch.cat(setting.latents[0:1] + (setting.latents[1][0],))
    tokens = torch.cat([setting.zero_tokens, setting.tokens])
    masks = [[m[:, k].repeat(2 * frames, 1) for k in range(3)] for m in setting.masks]
    audio = setting.audio[0]
    run = SimpleNamespace(
        tokens=tokens.repeat(len(rows), 1, 1), audio=torch.cat([torch.zeros_like(audio), audio]), masks=masks,
        scale=list(setting.scale),
    )  # fmt: skip
    nets[0](rows.repeat(2, 1, 1, 1), 0, run)
    run.banks, run.tokens = iter([block.bank.half().float() for block in nets[0].spatial()]), tokens
    face = setting.face[:, :, None].expand(-1, -1, frames, -1, -1)
    noise = v.io["out:pipe.noise"]
    got = nets[1](noise.repeat(2, 1, 1, 1, 1), 999, run, torch.cat([torch.zeros_like(face), face]))
    want = v.io["out:pipe.asis.step0.pred"]
    error = float((got - want).abs().max() / want.abs().max())
    print(f"transcription against the original as shipped, first guided step: relative error {error:.1e}")
    return 0 if error < 5e-4 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=("original", "ours", "both"), default="both")
    parser.add_argument("--check", type=Path, metavar="DIR")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1, help="denoising steps to run of the 40 (default 1)")
    parser.add_argument("--decode", type=int, default=FRAMES, help="frames to decode; the seconds are scaled up to 16")
    parser.add_argument("--int8", action="store_true", help="ours: INT8 instead of float32")
    parser.add_argument("--bf16", action="store_true", help="ours: bfloat16 instead of float32")
    parser.add_argument("--keep", action="store_true", help="keep freed memory, as the command line does; Linux")
    parser.add_argument("--taesd", action="store_true", help="ours: decode with TAESD")
    arguments = parser.parse_args()
    if arguments.memory:
        from scripts.photoreal_memory import report

        return report(512)
    if arguments.keep:
        print("freed memory is kept" if keep_freed_memory() else "no glibc: freed memory is not kept", file=sys.stderr)
    with torch.inference_mode():
        if arguments.check:
            return check(arguments.check)
        return measure(arguments)


def measure(arguments: argparse.Namespace) -> int:
    """Run the sides step by step in turn, and print seconds of each, and their ratio."""
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    sides = build(arguments.side, arguments.size, arguments.taesd, arguments.int8, dtype)
    for one in sides:
        one.begin()
    for t in trailing_timesteps(STEPS)[: arguments.steps]:
        for one in sides:
            one.step(t)
    rows = {}
    for one in sides:
        one.end(arguments.decode)
        rows[one.clock.side] = one.clock.row(arguments.steps, arguments.decode)
    if len(rows) == 2:
        rows["ratio"] = {part: round(rows["original"][part] / rows["ours"][part], 2) for part in ("a_step", "clip")}
    rows["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
