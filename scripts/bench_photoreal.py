"""Seconds per clip of llia-sd15 at the real width with random weights, ours or a plain transcription of the original.

    python scripts/bench_photoreal.py --side original     # about 11 GiB of memory in float32, one side at a time
    python scripts/bench_photoreal.py --side ours
    python scripts/bench_photoreal.py --check DIR         # the transcription against the original's parity vectors
    python scripts/bench_photoreal.py --memory            # peak for 512x512 in float16, by count

Seconds are the process's own (all threads together), so that other work on the machine counts less.
"""

import argparse
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

from llia_core.model import NAMED, AvatarModel, ModelConfig, build_autoencoder  # noqa: E402
from llia_core.photoreal.masks import LEVELS, FaceMasks  # noqa: E402
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


def inputs(size: int) -> SimpleNamespace:
    """Portrait, motion pictures, speech windows and masks of a clip; the masks are a centred face's."""
    from llia_core.face import landmarks_from_box
    from llia_core.photoreal.masks import face_masks

    generator = torch.Generator().manual_seed(0)
    box = tuple(size * share for share in (0.25, 0.17, 0.75, 0.83))
    return SimpleNamespace(
        images=torch.rand(3, 3, size, size, generator=generator) * 2 - 1,
        windows=torch.randn(1, FRAMES, 5, 12, 768, generator=generator),
        identity=torch.randn(1, 512, generator=generator),
        noise=torch.randn(1, 4, FRAMES, size // 8, size // 8, generator=generator),
        masks=face_masks(landmarks_from_box(box), size, size, size),
    )


class Clock:
    """Process seconds of named parts."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def __call__(self, name: str, work, *given):
        started = time.process_time()
        out = work(*given)
        self.parts[name] = self.parts.get(name, 0.0) + time.process_time() - started
        print(f"{name:>10} {self.parts[name]:8.1f} s", file=sys.stderr, flush=True)
        return out


def original_masks(masks: FaceMasks) -> list[list[Tensor]]:
    """Per level three (2 * frames, positions), repeated as the original does."""
    return [[masks.levels[k][:, kind].repeat(2 * FRAMES, 1) for kind in range(3)] for k in range(LEVELS)]


def run_original(size: int, steps: int, decoded: int, clock: Clock) -> None:
    from scripts.original_loop import UNet

    config, given = lean_config(), inputs(size)
    with torch.device("meta"):
        parts = AvatarModel(config)
        parts.reference_unet, parts.denoising_unet = UNet(config.denoiser, True), UNet(config.denoiser, False)
        vae = build_autoencoder(config.autoencoder)
    net, vae = fill(parts), fill(vae)
    latents = clock("encode", vae.encode, given.images)
    tokens = torch.cat([net.imageproj(torch.zeros_like(given.identity)), net.imageproj(given.identity)])
    face = net.face_locator(given.masks.region[None].expand(FRAMES, -1, -1, -1)).transpose(0, 1)[None]
    audio = net.audioproj(given.windows)[0][0]
    run = SimpleNamespace(
        tokens=tokens.repeat(3, 1, 1), audio=torch.cat([torch.zeros_like(audio), audio]), scale=[1.0] * 3,
        masks=original_masks(given.masks),
    )  # fmt: skip
    clock("reference", net.reference_unet, latents.repeat(2, 1, 1, 1), 0, run)
    banks, run.tokens = [block.bank.half() for block in net.reference_unet.spatial()], tokens
    schedule, x = make_schedule(), given.noise
    for t in trailing_timesteps(STEPS)[:steps]:
        run.banks = iter(banks)
        both = torch.cat([x, x])
        out = clock("denoise", net.denoising_unet, both, t, run, torch.cat([torch.zeros_like(face), face]))
        x, _ = ddim_step(guide(*out.chunk(2), GUIDANCE), x, t, t - 1000 // STEPS, schedule, "v_prediction")
    frames = x[0].transpose(0, 1)[:decoded]
    clock("decode", lambda: torch.cat([vae.decode(frame[None]) for frame in frames]))


def run_ours(size: int, steps: int, decoded: int, clock: Clock, tiny: bool) -> None:
    from llia_core.model.config import TAESD
    from llia_core.model.guidance import CORRECTED
    from llia_core.photoreal.conditions import PortraitConditions
    from llia_core.photoreal.model import Photoreal

    config, given = lean_config(), inputs(size)
    with torch.device("meta"):
        model, vae = Photoreal(config), build_autoencoder(config.autoencoder)
        fast = build_autoencoder(TAESD) if tiny else None
    model = fill(model).to(memory_format=torch.channels_last)
    model.autoencoder = fill(vae).to(memory_format=torch.channels_last)
    model.fast = fill(fast).to(memory_format=torch.channels_last) if tiny else None
    portrait = clock(
        "portrait", PortraitConditions.of, model, given.images[:1], given.masks, given.identity[0], True, CORRECTED
    )
    labels, motion = torch.full((1, FRAMES), 2), torch.randn(1, 2, 4, size // 8, size // 8)
    clip = clock("clip", portrait.of_clip, model, given.windows, labels, motion, (1.0,) * 3)
    schedule, x = make_schedule(), given.noise.transpose(1, 2)
    for t in trailing_timesteps(STEPS)[:steps]:
        halves = [clock("denoise", clip.predict, model, x, t, told) for told in (False, True)]
        x, _ = ddim_step(guide(*halves, GUIDANCE), x, t, t - 1000 // STEPS, schedule, "v_prediction")
    clock("decode", model.decode, x[0, :decoded])


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
    parser.add_argument("--side", choices=("original", "ours"))
    parser.add_argument("--check", type=Path, metavar="DIR")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1, help="denoising steps to run of the 40 (default 1)")
    parser.add_argument("--decode", type=int, default=FRAMES, help="frames to decode; the seconds are scaled up to 16")
    parser.add_argument("--taesd", action="store_true", help="ours: decode with TAESD")
    arguments = parser.parse_args()
    if arguments.memory:
        from scripts.photoreal_memory import report

        return report(512)
    with torch.inference_mode():
        if arguments.check:
            return check(arguments.check)
        clock = Clock()
        work = run_original if arguments.side == "original" else run_ours
        more = () if arguments.side == "original" else (arguments.taesd,)
        work(arguments.size, arguments.steps, arguments.decode, clock, *more)
    clock.parts["decode"] *= FRAMES / arguments.decode
    once = sum(seconds for name, seconds in clock.parts.items() if name not in ("denoise", "portrait"))
    step = clock.parts["denoise"] / arguments.steps
    row = clock.parts | {"a_step": step, f"clip_of_{STEPS}_steps": once + STEPS * step}
    row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({name: round(value, 2) for name, value in row.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
